// Drags chips of an order with mouse, finger or pen. The order itself changes where the chip is let go.
const START_PIXELS = 5;
const REACH_PIXELS = 96; // let go farther away, nothing changes

// `list` holds the ordered chips, `strip` all of them; `onDrop(place, index)` hears of every move.
export function watchDrags(strip, list, onDrop) {
  let drag = null;

  strip.addEventListener("pointerdown", (event) => {
    const chip = event.target.closest(".chip");
    if (chip && event.button === 0) drag = { chip, x: event.clientX, y: event.clientY, moving: false };
  });

  addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moving && Math.hypot(dx, dy) < START_PIXELS) return;
    if (!drag.moving) {
      drag.moving = true;
      drag.chip.setPointerCapture(event.pointerId);
      drag.chip.classList.add("dragged");
    }
    drag.chip.style.transform = `translate(${dx}px, ${dy}px)`;
    mark(list, drag.chip, event);
  });

  addEventListener("pointerup", (event) => {
    if (drag?.moving) {
      // The click that follows is part of the drag.
      addEventListener("click", swallow, { capture: true });
      setTimeout(() => removeEventListener("click", swallow, { capture: true }), 0);
      const index = near(strip, event) ? indexAt(list, drag.chip, event) : null;
      const place = Number(drag.chip.dataset.place);
      end();
      if (index !== null) onDrop(place, index);
    }
    drag = null;
  });

  addEventListener("pointercancel", () => {
    end();
    drag = null;
  });

  function end() {
    drag?.chip.classList.remove("dragged");
    if (drag) drag.chip.style.transform = "";
    mark(list, null, null);
  }
}

function swallow(click) {
  click.stopPropagation();
}

function others(list, chip) {
  return [...list.querySelectorAll(".chip")].filter((other) => other !== chip);
}

// How many of the other chips lie before the pointer; lines are read one after the other.
function indexAt(list, chip, { clientX, clientY }) {
  return others(list, chip).filter((other) => {
    const box = other.getBoundingClientRect();
    return clientY > box.bottom || (clientY >= box.top && clientX > box.left + box.width / 2);
  }).length;
}

function near(strip, { clientX, clientY }) {
  const box = strip.getBoundingClientRect();
  const outside = Math.max(box.left - clientX, clientX - box.right, box.top - clientY, clientY - box.bottom);
  return outside < REACH_PIXELS;
}

function mark(list, chip, event) {
  for (const other of list.querySelectorAll(".chip")) other.classList.remove("before", "after");
  if (!event) return;
  const rest = others(list, chip);
  const at = indexAt(list, chip, event);
  if (at < rest.length) rest[at].classList.add("before");
  else rest.at(-1)?.classList.add("after");
}
