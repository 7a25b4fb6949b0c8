// What ranking and writing have in common: the draft, saving, undoing, the lease, the next task.
import * as drafts from "./drafts.js";
import { post, postUntilAnswered } from "./server.js";
import { hush, say } from "./toast.js";

const LEASE_PART = 3; // renewed when a third of it has passed
const IDLE_MS = 600_000; // a page that nobody touches for so long lets its lease run out

export class Desk {
  // `work` draws tasks and knows what was said: fill(task), read() → state, write(state), focus(); `undoKey` is a name.
  constructor(form, work) {
    this.form = form;
    this.work = work;
    this.token = form.elements.token.value;
    this.queue = form.dataset.queue;
    this.busy = false;
    this.undoing = false; // asked for while something else was under way
    this.closed = false; // this page's login is over: what is to be sent waits for the next page
    form.noValidate = true;
    if (!form.hidden) this.#begin(form.elements.assignment.value, Number(form.dataset.lease));
    this.#watch();
    drafts.sweep();
    const saved = drafts.loadSaved(this.queue);
    if (saved && !this.busy) this.#offerUndo("The last one is saved.", (saved.until - Date.now()) / 1000);
  }

  // Keeps the draft; to be called after every change, and then only: another tab's draft may be newer.
  keep() {
    if (!this.busy && !this.form.hidden) drafts.store(this.#draft());
  }

  // Saves what `content` says: ranks, a text or a reason to skip.
  async save(content) {
    if (this.busy) return;
    const body = { id: this.id, assignment: this.assignment, ...content, seconds: this.#seconds() };
    drafts.store({ ...this.#draft(), pending: body });
    await this.#send(body);
  }

  // Takes back what was saved last to this queue, in whatever tab, if there is still time.
  async undo() {
    this.undoing = this.busy;
    if (this.busy) return;
    const saved = drafts.loadSaved(this.queue);
    if (!saved) return say("There is nothing to take back.");
    this.#setBusy(true);
    try {
      const { task, today, total } = await post("/api/undo", { name: saved.id }, this.token);
      drafts.forgetSaved(this.queue);
      hush();
      this.#count(today, total);
      drafts.store({ ...saved.draft, assignment: task.assignment, id: drafts.newId(), pending: null });
      this.#show(task);
    } catch (error) {
      const never = error.status === 404 || error.status === 409; // gone already, or too late
      if (never) drafts.forgetSaved(this.queue);
      this.#complain(error, never ? error.message : "It is still saved; undo did not work.");
    } finally {
      this.#setBusy(false);
    }
  }

  #begin(assignment, leaseSeconds) {
    this.assignment = assignment;
    this.started = performance.now();
    this.id = drafts.newId();
    this.before = 0; // time spent before this page was loaded
    const draft = drafts.load(assignment);
    if (draft) this.#take(draft);
    this.#keepLease(leaseSeconds);
    if (draft?.pending) this.#send(draft.pending);
  }

  #take(draft) {
    [this.id, this.before, this.started] = [draft.id, draft.seconds, performance.now()];
    this.work.write(draft.state);
  }

  #draft() {
    return { id: this.id, assignment: this.assignment, state: this.work.read(), seconds: this.#seconds(), pending: null };
  }

  #seconds() {
    return Math.round(10 * (this.before + (performance.now() - this.started) / 1000)) / 10;
  }

  async #send(body) {
    this.#setBusy(true);
    try {
      const onWait = () => say("Saving … trying again. Nothing is lost.", { seconds: 0 });
      const reply = await postUntilAnswered("/api/submit", body, this.token, onWait);
      const draft = { ...this.#draft(), pending: null };
      drafts.storeSaved(this.queue, { id: body.id, draft, until: Date.now() + 1000 * reply.undo_seconds });
      drafts.forget(this.assignment);
      this.#count(reply.today, reply.total);
      const text = body.reason === undefined ? "Saved" : "Skipped";
      if (reply.undo_seconds > 0) this.#offerUndo(text, reply.undo_seconds);
      else say(text);
      await this.#next();
    } catch (error) {
      await this.#refused(error);
    } finally {
      this.#setBusy(false);
    }
  }

  #offerUndo(text, seconds) {
    say(text, { act: () => this.undo(), label: `Undo (${this.work.undoKey})`, seconds: Math.min(seconds, 12) });
  }

  // The server has said no for good: to the text, to this login, or because the task is somebody else's by now.
  async #refused(error) {
    if (error.status === 409 || error.status === 404) {
      drafts.forget(this.assignment);
      say(error.message, { seconds: 12 });
      await this.#next().catch((again) => this.#complain(again, again.message));
      return;
    }
    if (error.status === 400) drafts.store(this.#draft()); // nothing was stored: it can be mended and sent again
    this.#complain(error, error.message);
  }

  #complain(error, text) {
    this.closed ||= error.status === 401 || error.status === 403;
    if (error.status === 401) say("You are logged out. Your draft is kept.", { href: `/login?next=${encodeURIComponent(location.pathname)}`, label: "Log in", seconds: 0 });
    else if (error.status === 403) say("This page has expired. Your draft is kept.", { href: location.pathname, label: "Reload", seconds: 0 });
    else say(text, { seconds: 12 });
  }

  async #next() {
    const onWait = () => say("Saved. Waiting for the server …", { seconds: 0 });
    const { task, nothing, today, total } = await postUntilAnswered("/api/next", { name: this.queue }, this.token, onWait);
    this.#count(today, total);
    if (task) this.#show(task);
    else this.#finish(nothing);
  }

  #show(task) {
    this.form.hidden = false;
    document.querySelector("#done").hidden = true;
    this.form.elements.assignment.value = task.assignment;
    this.work.fill(task);
    this.#begin(task.assignment, task.lease_seconds);
    scrollTo(0, 0);
    this.work.focus();
  }

  #finish(nothing) {
    clearTimeout(this.leaseTimer);
    this.form.hidden = true;
    const done = document.querySelector("#done");
    done.classList.toggle("all", nothing.done);
    done.querySelector("h1").textContent = nothing.title;
    document.querySelector("#nothing").textContent = nothing.text;
    done.hidden = false;
    done.querySelector("h1").focus();
  }

  #count(today, total) {
    document.querySelector("#today").textContent = today;
    document.querySelector("#total").textContent = total;
  }

  #setBusy(busy) {
    this.busy = busy || this.closed;
    this.form.setAttribute("aria-busy", String(this.busy));
    if (!this.busy && this.undoing) this.undo();
  }

  #keepLease(seconds) {
    clearTimeout(this.leaseTimer);
    this.leaseTimer = setTimeout(() => this.#renew(seconds), (1000 * Math.max(seconds, 3)) / LEASE_PART);
  }

  async #renew(seconds) {
    const idle = document.hidden || Date.now() - this.touched > IDLE_MS;
    if (idle || this.busy) return this.#keepLease(seconds);
    const assignment = this.assignment;
    try {
      const { lease_seconds: left } = await post("/api/renew", { name: assignment }, this.token);
      if (assignment === this.assignment) this.#keepLease(left);
    } catch (error) {
      if (assignment !== this.assignment) return;
      if (error.passes) this.#keepLease(seconds);
      else if (error.reason === "LEASE_LOST") say("This task went to somebody else while you were away.", { act: () => this.#refused(error), label: "Next task", seconds: 0 });
      else await this.#refused(error);
    }
  }

  #watch() {
    this.touched = Date.now();
    for (const name of ["keydown", "pointerdown", "pointermove", "scroll"]) {
      addEventListener(name, () => (this.touched = Date.now()), { passive: true });
    }
    drafts.follow((draft) => {
      if (draft.assignment === this.assignment && !this.busy && !this.form.hidden) this.#take(draft);
    });
  }
}
