// One short message at the foot of the page, with at most one thing to do about it.
const box = document.querySelector("#toast");
let timer = 0;

export function say(text, { act = null, href = null, seconds = 6, label = "" } = {}) {
  clearTimeout(timer);
  const message = document.createElement("span");
  message.textContent = text;
  box.replaceChildren(message);
  if (act) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", act);
    box.append(button);
  }
  if (href) {
    const link = document.createElement("a");
    link.href = href;
    link.textContent = label;
    box.append(link);
  }
  box.classList.add("shown");
  if (seconds) timer = setTimeout(hush, 1000 * seconds);
}

export function hush() {
  clearTimeout(timer);
  box.classList.remove("shown");
  box.replaceChildren();
}
