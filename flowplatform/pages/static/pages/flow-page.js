/** The page of a flow: the list of its runs, live, or its graph. */

import { FlowGraph } from "./graph.js";
import { FlowSocket, GONE, SIGNED_OUT, socketAddress } from "../flowplatform/socket.js";
import { LiveIndicator } from "../flowplatform/live.js";
import { LiveList } from "../flowplatform/live-list.js";
import { ServerClock } from "../flowplatform/clock.js";
import { drawElapsed } from "../flowplatform/served.js";
import { instant } from "../flowplatform/format.js";
import { setText } from "../flowplatform/dom.js";

const SECOND = 1000;
const UNSEEN = 100; // changes whose delay is remembered while the list waits, in a hidden tab for hours
const REASONS = { [GONE]: "not live any more", [SIGNED_OUT]: "not live: refused by the server" };

class FlowPage {
  #flow = document.getElementById("flow").dataset;
  #notice = document.getElementById("notice");
  #clock = ServerClock.ofPage(instant(this.#flow.serverTime));
  #indicator = new LiveIndicator(document.getElementById("live"));
  #list = null; // none beside the graph
  #unseen = []; // changes that the list does not show yet: when they were written and when they came
  #drawnAt = null;
  #socket;

  constructor() {
    const root = document.getElementById("run-list");
    if (root) {
      this.#list = new LiveList(root, {
        drawn: (_, asked) => this.#drawn(asked),
        failed: (error) => this.#notify(`The list could not be brought up to date: ${error.message}`),
      });
      setInterval(() => drawElapsed(root, this.#clock.now()), SECOND);
    }
    this.#socket = new FlowSocket(socketAddress(this.#flow.id, this.#flow.socketsPort), {
      refetch: () => this.#list?.refresh(),
      events: (events, replayed) => this.#take(events, replayed),
      state: (state, code) => this.#connection(state, code),
    });
  }

  start() {
    this.#socket.open();
  }

  #take(events, replayed) {
    const [oldest, newest] = [events[0], events.at(-1)].map((event) => instant(event.created_at));
    this.#clock.saw(newest);
    if (!this.#list) return this.#indicator.changed(newest, replayed ? null : this.#clock.now() - oldest);
    if (this.#unseen.length === UNSEEN) this.#unseen.shift();
    this.#unseen.push({ oldest, newest, replayed, came: Date.now() });
    return this.#list.refresh();
  }

  /** How late the oldest of the changes is that can be seen now. What was missed while away says nothing about it. */
  #drawn(asked) {
    this.#drawnAt = asked;
    this.#notify("");
    const seen = this.#unseen.filter(({ came }) => came <= asked);
    this.#unseen = this.#unseen.filter(({ came }) => came > asked);
    if (seen.length === 0) return;
    const live = seen.filter(({ replayed }) => !replayed).map(({ oldest }) => oldest);
    this.#indicator.changed(seen.at(-1).newest, live.length ? this.#clock.now() - Math.min(...live) : null);
  }

  #connection(state, code) {
    if (code === SIGNED_OUT) this.#list?.refresh(); // whether the reader has to sign in again shows in its answer
    this.#indicator.show(state, this.#socket.lastFrame ?? this.#drawnAt, REASONS[code]);
    if (state === "reconnecting") this.#list?.refresh(); // no socket is no reason to show what is old
    if (code === GONE) this.#notify("This flow does not exist any more, or you are no longer a member of its organization.");
  }

  #notify(text) {
    setText(this.#notice, text);
    this.#notice.hidden = !text;
  }
}

function showGraph(root) {
  const graph = new FlowGraph(root, { open: (name) => graph.select(name) });
  graph.show(JSON.parse(document.getElementById("plan").textContent));
}

/** Dates in the address are days of the reader's time zone, which only the browser knows; what is empty stays out. */
function completeFilter(form) {
  form.addEventListener("formdata", ({ formData }) => {
    const hasDates = formData.get("from") || formData.get("to");
    formData.set("zone", hasDates ? new Intl.DateTimeFormat().resolvedOptions().timeZone : "");
    for (const name of ["tag", "from", "to", "zone"]) if (!formData.get(name)) formData.delete(name);
  });
}

const graph = document.getElementById("graph");
if (graph) showGraph(graph);
const filters = document.querySelector(".filters");
if (filters) completeFilter(filters);
new FlowPage().start();
