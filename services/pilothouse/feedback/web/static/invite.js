// Takes the code out of the link, where it is in no request, into the form; and out of the address bar.
const code = document.querySelector("#code");
const given = decodeURIComponent(location.hash.slice(1));

if (given) {
  code.value = given;
  history.replaceState(null, "", location.pathname);
}
document.querySelector("#code-field").hidden = code.value !== "";
document.querySelector("[name=name]").focus();
