// Draws what every task has: instructions, the question, the comment, the menu of reasons to skip.
const question = document.querySelector("#question");
const instructions = document.querySelector("#instructions");
const comment = document.querySelector("#comment");
const commentText = document.querySelector("#comment-text");
const skip = document.querySelector("#skip");
const ROLES = { user: "User", assistant: "Assistant", system: "System" };

// Fills the page with another task, as texts: nothing a model or a person wrote becomes markup.
export function fillTask(task) {
  document.querySelector("#instructions-text").textContent = task.instructions;
  instructions.hidden = task.instructions === "";
  const pattern = question.querySelector(".turn");
  question.replaceChildren(
    ...task.turns.map(({ role, text }) => {
      const turn = pattern.cloneNode(true);
      turn.dataset.role = role;
      turn.querySelector(".role").textContent = ROLES[role] ?? "Prompt";
      turn.querySelector(".text").textContent = text;
      return turn;
    }),
  );
  question.scrollTop = 0;
  writeComment("");
  skip.open = false;
}

export const readComment = () => commentText.value;

export function writeComment(text) {
  commentText.value = text;
  comment.open = text !== "";
}

export function openComment() {
  comment.open = true;
  commentText.focus();
}

// Does what an event asks for, and not what the browser would.
export function taken(event, act) {
  event.preventDefault();
  act();
}

export const isEditing = (element) => element.matches("textarea, select, input:not([type=checkbox])");

// Whether a letter was pressed alone: with Ctrl and the like it is the browser's.
export function isPlain(event, letter) {
  return event.key.toLowerCase() === letter && !event.ctrlKey && !event.metaKey && !event.altKey;
}

// Keys of the menu of reasons: Esc opens and closes it, a number chooses. Returns whether it took the key.
export function skipKey(event) {
  if (event.key === "Escape") {
    skip.open = !skip.open;
    const focus = skip.open ? skip.querySelector(".menu button") : document.querySelector("#main");
    focus.focus({ preventScroll: true });
    return true;
  }
  const button = skip.open ? skip.querySelectorAll(".menu button")[digit(event) - 1] : null;
  button?.click();
  return Boolean(button);
}

// A number key, in the upper row of any layout or on the number pad; 0 for any other key.
export function digit(event) {
  const found = /^(?:Digit|Numpad)([1-9])$/.exec(event.code) ?? /^([1-9])$/.exec(event.key);
  return found ? Number(found[1]) : 0;
}

// Calls `onReason` when a reason to skip is chosen, and closes the menu when something else is.
export function watchSkip(onReason) {
  skip.addEventListener("click", (event) => {
    const button = event.target.closest(".menu button");
    if (!button) return;
    event.preventDefault();
    skip.open = false;
    onReason(button.value);
  });
  document.addEventListener("pointerdown", (event) => {
    if (!skip.contains(event.target)) skip.open = false;
  });
}
