// Calls of the page to its server.
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const REPLY_MS = 20_000;

export class Refused extends Error {
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }

  // Whether the same request may succeed later.
  get passes() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

export async function post(path, body, token) {
  let reply;
  try {
    reply = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-form-token": token },
      body: JSON.stringify(body),
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(REPLY_MS),
    });
  } catch {
    throw new Refused(0, "UNREACHABLE", "The server does not answer.");
  }
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Refused(reply.status, answer.reason ?? "HTTP", answer.message ?? "That did not work.");
  return answer;
}

// Posts until the server takes or refuses it; `onWait` hears of every try that has to be repeated.
export async function postUntilAnswered(path, body, token, onWait) {
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    try {
      return await post(path, body, token);
    } catch (error) {
      if (!error.passes) throw error;
      onWait();
    }
    await pause(wait * (0.75 + Math.random() / 2));
  }
}

// Waits, but no longer than until the network is back or the page is looked at again.
function pause(milliseconds) {
  return new Promise((resolve) => {
    const events = [[window, "online"], [document, "visibilitychange"]];
    const timer = setTimeout(end, milliseconds);
    function end() {
      clearTimeout(timer);
      for (const [target, name] of events) target.removeEventListener(name, end);
      resolve();
    }
    for (const [target, name] of events) target.addEventListener(name, end);
  });
}
