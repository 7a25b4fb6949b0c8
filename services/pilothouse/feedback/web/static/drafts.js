// What is not saved yet, and what was saved last: in this browser's storage, so that it survives a reload, a crash
// and a dead server. Every change is written by the page in which it was made, and other pages follow.
const DRAFT = "draft:";
const SAVED = "saved:";
const KEPT_DAYS = 7;
const kept = new Map(); // what storage did not take, full or forbidden: for as long as the page lives

export const load = (assignment) => read(DRAFT + assignment);
export const store = (draft) => write(DRAFT + draft.assignment, { ...draft, at: Date.now() });
export const forget = (assignment) => remove(DRAFT + assignment);

// Calls `onDraft` with every draft that another page of this browser writes.
export function follow(onDraft) {
  addEventListener("storage", ({ key, newValue }) => {
    if (key?.startsWith(DRAFT) && newValue) onDraft(JSON.parse(newValue));
  });
}

// The last submission to a queue, with `until`, the time up to which it may be taken back; null after that.
export function loadSaved(queue) {
  const saved = read(SAVED + queue);
  return saved && Date.now() <= saved.until ? saved : null;
}
export const storeSaved = (queue, saved) => write(SAVED + queue, saved);
export const forgetSaved = (queue) => remove(SAVED + queue);

// Removes what nobody will come back to.
export function sweep() {
  try {
    for (const key of Object.keys(localStorage)) {
      const end = key.startsWith(DRAFT) ? (read(key)?.at ?? 0) + KEPT_DAYS * 86_400_000 : (read(key)?.until ?? 0);
      if ((key.startsWith(DRAFT) || key.startsWith(SAVED)) && Date.now() > end) remove(key);
    }
  } catch {
    // Storage is forbidden: nothing is kept.
  }
}

// An id that nobody else makes: 128 random bits. `crypto.randomUUID` is missing on unencrypted addresses.
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? kept.get(key) ?? null;
  } catch {
    return kept.get(key) ?? null;
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    kept.delete(key);
  } catch {
    kept.set(key, value);
  }
}

function remove(key) {
  kept.delete(key);
  try {
    localStorage.removeItem(key);
  } catch {
    // It was never there.
  }
}
