// Takes the code out of the link, where it is in no request, into the form; and out of the address bar.
const code = document.querySelector("#code");

function take() {
  const given = location.hash.slice(1);
  if (!given) return;
  code.value = given;
  code.removeAttribute("aria-invalid");
  history.replaceState(null, "", location.pathname);
  document.querySelector("#code-field").hidden = true;
  document.querySelector("#error")?.remove();
  document.querySelector("[name=name]").focus();
}

take();
addEventListener("hashchange", take); // another link, pasted over this one
