// The page on which people write answers.
import { Desk } from "./desk.js";
import { fillTask, isEditing, readComment, skipKey, watchSkip, writeComment } from "./task.js";

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
};

function save() {
  if (text.value.trim() !== "") return desk.save({ text: text.value, comment: readComment() });
  hint.textContent = "Write something first, or skip the task.";
  text.focus();
}

function onKey(event) {
  if (event.isComposing) return;
  const editing = isEditing(event.target);
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && !form.hidden) {
    event.preventDefault();
    save();
  } else if (event.key === "Escape" || !editing) {
    if (!event.ctrlKey && !event.metaKey && !event.altKey && skipKey(event)) event.preventDefault();
    else if (event.key.toLowerCase() === "u" && !editing) desk.undo();
  }
}

const desk = form ? new Desk(form, work) : null;
if (desk) {
  document.addEventListener("keydown", onKey);
  form.addEventListener("input", () => desk.keep());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  watchSkip((reason) => desk.save({ reason, comment: readComment() }));
}
