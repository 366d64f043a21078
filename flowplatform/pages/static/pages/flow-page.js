/** The page of a flow: its runs and the tasks of one of them, live. Here the parts are put together. */

import { FlowModel } from "./model.js";
import { Loader } from "./loader.js";
import { RunList } from "./run-list.js";
import { RunPanel } from "./run-panel.js";
import { drawCounts } from "../flowplatform/widgets.js";
import { FlowSocket, GONE, SIGNED_OUT, socketAddress } from "../flowplatform/socket.js";
import { instant } from "../flowplatform/format.js";
import { LiveIndicator } from "../flowplatform/live.js";
import { oncePerFrame, setText } from "../flowplatform/dom.js";
import { ServerClock } from "../flowplatform/clock.js";

const SECOND = 1000;
const LIST_PAUSE = 300; // many runs may be queued at once: their numbers are asked for together
const PARAMETER = "execution"; // in the address: the run that is open
const PARTS = ["counts", "detail", "empty", "flow", "flow-version", "flow-tasks", "loading", "notice", "older", "run-scroll", "runs"];

class FlowPage {
  #parts = Object.fromEntries(PARTS.map((id) => [id, document.getElementById(id)]));
  #flow = this.#parts.flow.dataset;
  #clock = ServerClock.ofPage(instant(this.#flow.serverTime));
  #model = new FlowModel();
  #draw = oncePerFrame(() => this.#drawChanges());
  #loader = new Loader(this.#flow.id, this.#model, this.#draw, (error) => this.#failed(error));
  #indicator = new LiveIndicator(document.getElementById("live"));
  #narrow = matchMedia("(max-width: 999px)");

  #early = []; // events that came before the snapshot they belong after; null once it is there
  #isFetched = false; // whether anything was asked of the REST API yet
  #fetchedAt = null;
  #chosen = null;
  #listTimer = null;
  #list;
  #panel;
  #socket;

  constructor() {
    this.#list = new RunList(this.#parts.runs, (run) => addressOf(run.id), (run) => this.#open(run));
    this.#panel = new RunPanel(document.getElementById("run"));
    this.#socket = new FlowSocket(socketAddress(this.#flow.id, this.#flow.socketsPort), {
      refetch: () => this.#refetch(),
      events: (events, replayed) => this.#take(events, replayed),
      state: (state, code) => this.#connection(state, code),
    });
  }

  start() {
    this.#parts.older.addEventListener("click", () => this.#showOlder());
    this.#narrow.addEventListener("change", () => this.#placePanel());
    addEventListener("popstate", () => this.#adoptLinkedRun().then(() => this.#choose()));
    setInterval(() => this.#tick(), SECOND);
    this.#socket.open();
  }

  // --- Live: a snapshot, then every event after it ---

  async #refetch() {
    this.#isFetched = true;
    const early = (this.#early = []);
    if (!(await this.#loader.restart())) return;
    await this.#adoptLinkedRun();
    if (early !== this.#early) return;
    this.#early = null;
    this.#fetchedAt = Date.now();
    this.#parts.older.hidden = !this.#loader.hasOlder;
    for (const event of early) this.#model.apply(event);
    this.#followList(early);
    if (this.#model.runs.includes(this.#chosen)) this.#loader.open(this.#chosen);
    this.#draw();
  }

  #take(events, replayed) {
    if (this.#early) {
      this.#early.push(...events);
      return;
    }
    for (const event of events) this.#model.apply(event);
    this.#followList(events);
    this.#measure(events, replayed);
    this.#draw();
  }

  /** How late the oldest of these events is. What was missed while away says nothing about the delay. */
  #measure(events, replayed) {
    const newest = instant(events.at(-1).created_at);
    this.#clock.saw(newest);
    this.#indicator.changed(newest, replayed ? null : this.#clock.now() - instant(events[0].created_at));
  }

  #followList(events) {
    if (!events.some(({ type }) => type === "flow_execution.created")) return;
    clearTimeout(this.#listTimer);
    this.#listTimer = setTimeout(() => this.#loader.updateList(), LIST_PAUSE);
  }

  #connection(state, code) {
    if (code === SIGNED_OUT) location.assign(this.#loginAddress());
    const reasons = { [GONE]: "this flow is gone", [SIGNED_OUT]: "signed out" };
    this.#indicator.show(state, this.#socket.lastFrame ?? this.#fetchedAt, reasons[code]);
    if (state === "reconnecting" && !this.#isFetched) this.#refetch(); // no socket is no reason to show nothing
    if (code === GONE) this.#notify("This flow does not exist any more, or you are no longer a member of its organization.");
  }

  #failed(error) {
    if (error.status === 401) location.assign(this.#loginAddress());
    else this.#notify(`Some of this page could not be loaded: ${error.message}`);
  }

  #loginAddress() {
    return `${this.#flow.login}?next=${encodeURIComponent(location.pathname + location.search)}`;
  }

  #notify(text) {
    setText(this.#parts.notice, text);
    this.#parts.notice.hidden = !text;
  }

  // --- Which run is open: the one in the address, or the newest that runs ---

  #linked() {
    return new URLSearchParams(location.search).get(PARAMETER);
  }

  async #adoptLinkedRun() {
    const id = this.#linked();
    if (id === null || this.#model.run(id) || (await this.#loader.loadRun(id))) return;
    history.replaceState(null, "", location.pathname);
    this.#notify("The run in the address does not exist, or not any more. The newest one is open instead.");
  }

  #open(run) {
    this.#notify("");
    if (this.#linked() !== run.id) history.pushState(null, "", addressOf(run.id));
    this.#choose();
    this.#list.item(run).scrollIntoView({ block: "nearest" });
  }

  #choose() {
    const run = this.#model.run(this.#linked()) ?? this.#newestRunning();
    if (run === this.#chosen) return;
    this.#chosen = run;
    this.#list.mark(run);
    this.#panel.show(run, this.#clock.now());
    this.#placePanel();
    if (run) this.#loader.open(run);
  }

  /** Stay with a run as long as it moves; then go on to the newest one that does, once that is certain. */
  #newestRunning() {
    const { runs } = this.#model;
    const current = runs.includes(this.#chosen) ? this.#chosen : null;
    if (current?.isActive) return current;
    const active = runs.find((run) => run.isActive);
    if (!active) return current ?? runs[0] ?? null;
    return active.isLoaded || active.tasks.size > 0 ? active : current; // its tasks may show that it is over
  }

  /** Beside the list where there is room, below its row where there is none. */
  #placePanel() {
    const place = this.#narrow.matches && this.#chosen ? this.#list.item(this.#chosen) : this.#parts.detail;
    if (this.#panel.root.parentElement !== place) place.append(this.#panel.root);
  }

  async #showOlder() {
    this.#parts.older.disabled = true;
    await this.#loader.loadOlder();
    this.#parts.older.hidden = !this.#loader.hasOlder;
    this.#parts.older.disabled = false;
  }

  // --- Drawing ---

  #drawChanges() {
    if (this.#early) return;
    const { list, runs, tasks } = this.#model.takeChanges();
    const now = this.#clock.now();
    if (list) this.#drawList();
    for (const run of runs) this.#list.draw(run, now);
    this.#choose();
    if (runs.size) drawCounts(this.#parts.counts, countStates(this.#model.runs));
    if (this.#chosen && runs.has(this.#chosen)) this.#panel.draw(now);
    for (const task of tasks) this.#panel.drawTask(task, now);
  }

  #drawList() {
    const { runs, version, taskCount } = this.#model;
    this.#list.arrange(runs);
    this.#list.mark(this.#chosen);
    setText(this.#parts["flow-version"], String(version));
    setText(this.#parts["flow-tasks"], String(taskCount));
    this.#parts.loading.hidden = true;
    this.#parts.empty.hidden = runs.length > 0;
    this.#parts["run-scroll"].hidden = this.#parts.flow.hidden = runs.length === 0;
    drawCounts(this.#parts.counts, countStates(runs));
    if (this.#linked() && !this.#model.run(this.#linked())) this.#adoptLinkedRun().then(this.#draw);
  }

  /** Once a second: what has been running for how long. */
  #tick() {
    const now = this.#clock.now();
    for (const run of this.#model.runs) if (run.isActive) this.#list.drawTook(run, now);
    if (this.#chosen?.isActive) this.#panel.tick(now);
  }
}

function addressOf(id) {
  return `?${PARAMETER}=${encodeURIComponent(id)}`;
}

function countStates(runs) {
  const counts = {};
  for (const { meaning } of runs) counts[meaning.state] = (counts[meaning.state] ?? 0) + 1;
  return counts;
}

new FlowPage().start();
