// What is not saved yet, in this browser's storage: it survives a reload, a crash and a dead server.
const PREFIX = "draft:";
const KEPT_DAYS = 7;

export function load(assignment) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + assignment));
  } catch {
    return null;
  }
}

export function store(draft) {
  try {
    localStorage.setItem(PREFIX + draft.assignment, JSON.stringify({ ...draft, at: Date.now() }));
  } catch {
    // Storage is full or forbidden: the page works on, without a second copy.
  }
}

export function forget(assignment) {
  try {
    localStorage.removeItem(PREFIX + assignment);
  } catch {
    // As above.
  }
}

// Removes what nobody will come back to.
export function sweep() {
  try {
    for (const key of Object.keys(localStorage).filter((key) => key.startsWith(PREFIX))) {
      const age = Date.now() - (load(key.slice(PREFIX.length))?.at ?? 0);
      if (age > KEPT_DAYS * 86_400_000) localStorage.removeItem(key);
    }
  } catch {
    // As above.
  }
}

// An id that nobody else makes: 128 random bits. `crypto.randomUUID` is missing on unencrypted addresses.
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
