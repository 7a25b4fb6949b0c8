// An order of answers as a value: `places`, best first, and whether each is as good as the one before it.
// Every function returns a new order.

export const EMPTY = Object.freeze({ places: [], ties: [] });

export function put(order, place, tied = false) {
  if (order.places.includes(place)) return remove(order, place);
  const first = order.places.length === 0;
  return { places: [...order.places, place], ties: [...order.ties, tied && !first] };
}

export function remove(order, place) {
  const at = order.places.indexOf(place);
  if (at < 0) return order;
  const ties = [...order.ties];
  // Where the best of a group goes, the next one stands for the group.
  if (!ties[at] && at + 1 < ties.length) ties[at + 1] = false;
  return { places: order.places.toSpliced(at, 1), ties: ties.toSpliced(at, 1) };
}

export function move(order, place, to) {
  const rest = remove(order, place);
  const at = Math.max(0, Math.min(to, rest.places.length));
  // Between two that are as good as each other, it is as good as they are.
  const tied = rest.ties[at] === true;
  return { places: rest.places.toSpliced(at, 0, place), ties: rest.ties.toSpliced(at, 0, tied) };
}

export function toggleTie(order, at) {
  if (at < 1 || at >= order.places.length) return order;
  return { ...order, ties: order.ties.with(at, !order.ties[at]) };
}

// Ranks of all answers, 1 is best, or null while more than one is missing: a single one comes last by itself.
export function ranks(order, count) {
  const missing = Array.from({ length: count }, (_, place) => place).filter((p) => !order.places.includes(p));
  if (missing.length > 1) return null;
  const found = partial(order, count);
  if (missing.length === 1) found[missing[0]] = Math.max(0, ...found.filter(Boolean)) + 1;
  return found;
}

// Ranks of the answers that have one; null for the others.
export function partial(order, count) {
  const found = Array(count).fill(null);
  let rank = 0;
  order.places.forEach((place, at) => {
    if (!order.ties[at]) rank += 1;
    found[place] = rank;
  });
  return found;
}
