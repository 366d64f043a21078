/** The list of flows, live: a socket per organization says that something changed, and the list is asked for again. */

import { LiveIndicator } from "../flowplatform/live.js";
import { LiveList } from "../flowplatform/live-list.js";
import { OrganizationSocket, organizationSocketAddress } from "../flowplatform/organization-socket.js";
import { setAttribute, setText } from "../flowplatform/dom.js";

const root = document.getElementById("flow-list");
const SEVERITY = ["live", "connecting", "reconnecting", "offline", "ended"];
const STEPS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

// --- A strip of runs is one stop of the Tab key; the arrow keys move inside of it ---

function marksOf(strip) {
  return [...strip.querySelectorAll(".mark")];
}

function placeStops() {
  for (const strip of root.querySelectorAll(".strip")) {
    const marks = marksOf(strip);
    const stop = marks.find((mark) => mark === document.activeElement) ?? marks.at(-1);
    for (const mark of marks) setAttribute(mark, "tabindex", mark === stop ? "0" : "-1");
  }
}

root.addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  if (step === undefined || !event.target.matches(".mark")) return;
  const marks = marksOf(event.target.closest(".strip"));
  const index = Math.min(Math.max(marks.indexOf(event.target) + step, 0), marks.length - 1);
  for (const mark of marks) setAttribute(mark, "tabindex", mark === marks[index] ? "0" : "-1");
  marks[index].focus();
  event.preventDefault();
});

// --- Live ---

class FlowList {
  #notice = document.getElementById("notice");
  #indicator = new LiveIndicator(document.getElementById("live"));
  #list = new LiveList(root, { drawn: () => this.#drawn(), failed: (error) => this.#notify(error.message) });
  #sockets = new Map(); // the state and the close code of each
  #drawnAt = null;

  start(organizationIds) {
    for (const id of organizationIds) {
      const socket = new OrganizationSocket(organizationSocketAddress(id, root.dataset.socketsPort), {
        refetch: () => this.#list.refresh(),
        changed: () => this.#list.refresh(),
        state: (state, code) => this.#connection(socket, state, code),
      });
      this.#sockets.set(socket, { state: "connecting", code: null });
    }
    for (const socket of this.#sockets.keys()) socket.open();
  }

  #drawn() {
    placeStops();
    this.#drawnAt = Date.now();
    this.#notify("");
  }

  /** The page is as live as the worst of its connections. */
  #connection(socket, state, code) {
    this.#sockets.set(socket, { state, code });
    const known = [...this.#sockets.values()];
    const worst = known.reduce((one, other) => (SEVERITY.indexOf(other.state) > SEVERITY.indexOf(one.state) ? other : one));
    const heard = [...this.#sockets.keys()].map(({ lastFrame }) => lastFrame ?? this.#drawnAt);
    const asOf = heard.includes(null) ? null : Math.min(...heard);
    this.#indicator.show(worst.state, asOf, worst.state === "ended" ? "no longer live: reload the page" : "");
    if (state === "reconnecting" || state === "ended") this.#list.refresh(); // no socket is no reason to show what is old
  }

  #notify(text) {
    setText(this.#notice, text && `The list could not be brought up to date: ${text}`);
    this.#notice.hidden = !text;
  }
}

placeStops();
if (root.dataset.organizations) new FlowList().start(root.dataset.organizations.trim().split(" "));
