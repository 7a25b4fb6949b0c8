// Draws the answers and their order. Knows nothing of keys, drafts or the server.
import { partial, ranks } from "./order.js";

const list = document.querySelector("#answers");
const orderList = document.querySelector("#order");
const restList = document.querySelector("#rest");

export const ordinal = (rank) => `${rank}${["st", "nd", "rd"][rank - 1] ?? "th"}`;
export const cards = () => [...list.querySelectorAll(".answer")];

export function fillAnswers(texts) {
  const pattern = cards()[0];
  list.replaceChildren(...texts.map((text, place) => card(pattern, text, place)));
  document.querySelector(".keys .count").textContent = texts.length;
}

// Shows an order: ranks on the cards, numbered chips below.
export function draw(order, unsafe) {
  const count = cards().length;
  const given = partial(order, count);
  const final = ranks(order, count);
  for (const [place, item] of cards().entries()) {
    const rank = given[place] ?? final?.[place] ?? null;
    const name = `Answer ${place + 1}: ${rank ? ordinal(rank) : "not ranked"}`;
    item.classList.toggle("ranked", given[place] !== null);
    item.classList.toggle("implied", given[place] === null && rank !== null);
    item.classList.toggle("best", rank === 1);
    item.querySelector(".badge").textContent = rank ? ordinal(rank) : "";
    item.querySelector(".pick").setAttribute("aria-label", name);
    item.querySelector("[type=checkbox]").checked = unsafe.includes(place);
  }
  drawChips(order, given, count);
}

function drawChips(order, given, count) {
  const focused = document.activeElement?.closest?.(".chip, .tie")?.dataset;
  orderList.replaceChildren(...order.places.map((place, at) => {
    const item = document.createElement("li");
    item.append(chip(place, `Answer ${place + 1}, ${ordinal(given[place])}. Arrow keys move it, Enter takes it out.`));
    // The sign stays with the number before it: it may end a line, and begins none.
    if (at + 1 < order.places.length) item.append(tieButton(order, at + 1));
    return item;
  }));
  const rest = Array.from({ length: count }, (_, place) => place).filter((place) => given[place] === null);
  restList.replaceChildren(...rest.map((place) => {
    const item = document.createElement("li");
    item.append(chip(place, `Answer ${place + 1}, not ranked. Enter puts it next.`));
    return item;
  }));
  if (focused?.place) document.querySelector(`.chip[data-place="${focused.place}"]`)?.focus();
  else if (focused?.at) document.querySelector(`.tie[data-at="${focused.at}"]`)?.focus();
}

function card(pattern, text, place) {
  const item = pattern.cloneNode(true);
  const number = String(place + 1);
  item.dataset.place = place;
  item.classList.remove("ranked", "implied", "best");
  item.querySelector(".text").textContent = text;
  item.querySelector(".pick").textContent = number;
  item.querySelector(".number").textContent = number;
  item.querySelector("select").name = `rank-${place}`;
  item.querySelector("[type=checkbox]").name = `unsafe-${place}`;
  item.querySelector(".correction").open = false;
  const better = item.querySelector(".correction textarea");
  better.name = `correction-${place}`;
  better.value = "";
  better.setAttribute("aria-label", `A better version of answer ${number}`);
  return item;
}

function chip(place, label) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip key";
  button.dataset.place = place;
  button.textContent = place + 1;
  button.setAttribute("aria-label", label);
  return button;
}

function tieButton(order, at) {
  const button = document.createElement("button");
  const [better, worse] = [order.places[at - 1] + 1, order.places[at] + 1];
  button.type = "button";
  button.className = "tie";
  button.dataset.at = at;
  button.textContent = order.ties[at] ? "=" : "›";
  button.title = order.ties[at] ? "Equal; press to put them apart" : "Press to make them equal";
  button.setAttribute("aria-label", `Answers ${better} and ${worse} are equal`);
  button.setAttribute("aria-pressed", String(order.ties[at]));
  return button;
}
