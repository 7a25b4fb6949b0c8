// The page on which people write answers.
import { Desk } from "./desk.js";
import { fillTask, isEditing, isPlain, readComment, skipKey, taken, watchSkip, writeComment } from "./task.js";

const form = document.querySelector("#task");
const text = document.querySelector("#text");
const hint = document.querySelector("#hint");

const work = {
  fill(task) {
    fillTask(task);
    text.value = "";
  },
  read: () => ({ text: text.value, comment: readComment() }),
  write(state) {
    text.value = state.text;
    writeComment(state.comment);
  },
  focus: () => text.focus({ preventScroll: true }),
  undoKey: "Ctrl Z",
};

function save() {
  if (text.value.trim() !== "") return desk.save({ text: text.value, comment: readComment() });
  hint.textContent = "Write something first, or skip the task.";
  text.focus();
}

function onKey(event) {
  if (event.isComposing) return;
  const editing = isEditing(event.target);
  const command = event.ctrlKey || event.metaKey;
  if (takesBack(event, command, editing)) return taken(event, () => desk.undo());
  if (form.hidden) return;
  if (command && event.key === "Enter") return taken(event, save);
  if ((event.key === "Escape" || !editing) && !command && !event.altKey && skipKey(event)) event.preventDefault();
}

// In an empty text there is nothing else to undo than what was saved last.
function takesBack(event, command, editing) {
  if (isPlain(event, "u")) return !editing;
  const undo = command && !event.shiftKey && event.key.toLowerCase() === "z";
  return undo && (!editing || (event.target === text && text.value === ""));
}

const desk = new Desk(form, work);
if (!form.hidden) work.focus();
document.addEventListener("keydown", onKey);
form.addEventListener("input", () => desk.keep());
form.addEventListener("submit", (event) => taken(event, save));
watchSkip((reason) => desk.save({ reason, comment: readComment() }));
