// The ranking page: keys, taps and drags change one order; everything drawn follows from it.
import { cards, draw, fillAnswers } from "./cards.js";
import { Desk } from "./desk.js";
import { watchDrags } from "./drag.js";
import { EMPTY, move, put, ranks, remove, toggleTie } from "./order.js";
import { digit, fillTask, isEditing, isPlain, openComment, readComment, skipKey, taken, watchSkip, writeComment } from "./task.js";

const form = document.querySelector("#task");
const ask = document.querySelector("#ask");
const hint = document.querySelector("#hint");
const main = document.querySelector("#main");

const byTouch = matchMedia("(hover: none) and (pointer: coarse)").matches;

let order = EMPTY;
let unsafe = [];
let past = []; // earlier values of both, for undo in the page
let armed = ""; // what the next number means: "" ranks, "=" ties, "f" flags, "e" edits

const original = (card) => card.querySelector(".text").textContent;
const better = (card) => card.querySelector(".correction textarea");

const work = {
  fill(task) {
    [order, unsafe, past, armed] = [EMPTY, [], [], ""];
    fillTask(task);
    fillAnswers(task.answers);
    refresh();
  },
  read: () => ({ order, unsafe, corrections: corrections(), comment: readComment() }),
  write(state) {
    [order, unsafe, past, armed] = [state.order, state.unsafe, [], ""];
    writeComment(state.comment);
    for (const [place, card] of cards().entries()) {
      better(card).value = state.corrections.find((each) => each.place === place)?.text ?? "";
      card.querySelector(".correction").open = better(card).value !== "";
    }
    refresh();
  },
  focus: () => main.focus({ preventScroll: true }),
  undoKey: "U",
};

function corrections() {
  return cards()
    .map((card, place) => ({ place, text: better(card).value }))
    .filter(({ place, text }) => text.trim() !== "" && text !== original(cards()[place]));
}

function change(nextOrder, nextUnsafe = unsafe) {
  if (desk.busy) return;
  past.push({ order, unsafe });
  [order, unsafe, armed] = [nextOrder, nextUnsafe, ""];
  refresh();
  desk.keep();
}

// Takes back the last step; of an order that was restored, whose steps nobody knows, the last rank.
function stepBack() {
  if (desk.busy) return;
  if (armed) return arm("");
  const last = order.places.at(-1);
  const before = past.pop() ?? (last === undefined ? null : { order: remove(order, last), unsafe });
  if (!before) return desk.undo();
  ({ order, unsafe } = before);
  refresh();
  desk.keep();
}

function arm(what) {
  armed = what;
  refresh();
}

function refresh() {
  draw(order, unsafe);
  const count = cards().length;
  const complete = ranks(order, count) !== null;
  [ask.textContent, hint.textContent] = guide(count, complete);
  document.querySelector("#save").classList.toggle("ready", complete);
}

// What to do next: a question, and how to answer it.
function guide(count, complete) {
  const last = order.places.at(-1) + 1;
  if (armed === "=") return [`Which answer is as good as answer ${last}?`, "Press its number. Esc goes back."];
  if (armed === "f") return ["Which answer is unsafe?", "Press its number. Esc goes back."];
  if (armed === "e") return ["Which answer do you want to edit?", "Press its number. Esc goes back."];
  if (order.places.length === 0) return ["Which answer is best?", byTouch ? "Tap it. Then tap the next best." : "Press its number or tap it. Then the next best."];
  if (!complete) return ["Which is next best?", byTouch ? "Tap it. The sign between two numbers makes them equal." : "Is it just as good? Press = first."];
  const how = byTouch ? "Save it, or tap an answer to take it out." : "Press Enter to save. Backspace takes a step back.";
  if (order.places.length === count) return ["That is your order", how];
  const rest = cards().findIndex((_, place) => !order.places.includes(place)) + 1;
  return [`Answer ${rest} comes last`, how];
}

function chooseNumber(number, shifted) {
  const place = number - 1;
  const card = cards()[place];
  if (!card || desk.busy) return;
  if (armed === "f") change(order, unsafe.includes(place) ? unsafe.filter((p) => p !== place) : [...unsafe, place]);
  else if (armed === "e") edit(card);
  else change(put(order, place, armed === "=" || shifted));
}

function edit(card) {
  arm("");
  card.querySelector(".correction").open = true;
  if (better(card).value === "") better(card).value = original(card);
  better(card).focus();
}

function tie() {
  const chip = document.activeElement.closest(".chip");
  const at = chip ? order.places.indexOf(Number(chip.dataset.place)) : order.places.length - 1;
  if (chip || order.places.length === cards().length) change(toggleTie(order, at));
  else if (order.places.length > 0) arm(armed === "=" ? "" : "=");
}

function save() {
  const given = ranks(order, cards().length);
  if (given) return desk.save({ ranks: given, unsafe, corrections: corrections(), comment: readComment() });
  hint.textContent = "Not all are ranked yet: press the number of the next best, or tap it.";
}

const letters = { "=": tie, f: () => arm("f"), e: () => arm("e"), c: openComment, u: () => desk.undo() };

function onKey(event) {
  if (event.isComposing) return;
  if (form.hidden) return isPlain(event, "u") ? taken(event, letters.u) : undefined;
  const editing = isEditing(event.target);
  const command = event.ctrlKey || event.metaKey;
  if (command && event.key === "Enter") return taken(event, save);
  if (editing) return event.key === "Escape" ? taken(event, () => main.focus()) : undefined;
  if (command && event.key.toLowerCase() === "z" && !event.shiftKey) return taken(event, stepBack);
  if (command || event.altKey) return;
  if (event.key === "Escape" && armed) return arm("");
  if (skipKey(event)) return event.preventDefault();
  if (event.key === "Backspace") return taken(event, stepBack);
  if (digit(event)) return taken(event, () => chooseNumber(digit(event), event.shiftKey));
  if (event.key === "Enter" && !event.target.closest("button, a, summary, label")) return taken(event, save);
  const chip = event.target.closest("#order .chip");
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (chip && step) return taken(event, () => shift(Number(chip.dataset.place), step));
  const act = letters[event.key.toLowerCase()];
  if (act) taken(event, act);
}

function shift(place, step) {
  change(move(order, place, order.places.indexOf(place) + step));
}

function onClick(event) {
  const tieAt = event.target.closest(".tie")?.dataset.at;
  const chip = event.target.closest(".chip");
  const card = event.target.closest(".answer");
  if (tieAt) change(toggleTie(order, Number(tieAt)));
  else if (chip) change(put(order, Number(chip.dataset.place)));
  else if (card && !event.target.closest("label, summary, textarea") && getSelection().isCollapsed) {
    chooseNumber(Number(card.dataset.place) + 1, event.shiftKey);
  }
}

// A tap ranks and leaves the focus where it was: Enter saves, it does not take the answer out again.
function keepFocus(event) {
  if (event.target.closest(".pick, .chip, .tie")) event.preventDefault();
}

function onInput(event) {
  if (event.target.matches("[type=checkbox]")) {
    const place = Number(event.target.closest(".answer").dataset.place);
    change(order, event.target.checked ? [...unsafe, place] : unsafe.filter((other) => other !== place));
  }
  desk.keep();
}

function onToggle(event) {
  const card = event.target.closest?.(".answer");
  if (card && event.target.open && better(card).value === "") better(card).value = original(card);
}

const desk = new Desk(form, work);
refresh();
document.addEventListener("keydown", onKey);
form.addEventListener("click", onClick);
form.addEventListener("mousedown", keepFocus);
form.addEventListener("input", onInput);
form.addEventListener("toggle", onToggle, { capture: true });
form.addEventListener("submit", (event) => taken(event, save));
watchSkip((reason) => desk.save({ reason, comment: readComment() }));
watchDrags(document.querySelector(".strip"), document.querySelector("#order"), (place, at) => change(move(order, place, at)));
