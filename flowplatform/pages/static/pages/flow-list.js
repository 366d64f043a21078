/** The list of flows, live: a socket per organization says that something changed, and the list is asked for again. */

import { LiveIndicator } from "../flowplatform/live.js";
import { LiveList } from "../flowplatform/live-list.js";
import { OrganizationSockets } from "../flowplatform/organization-sockets.js";
import { setAttribute, setText } from "../flowplatform/dom.js";

const root = document.getElementById("flow-list");
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
  #list = new LiveList(root, { drawn: () => this.#drawn(), failed: (error) => this.#notify(error.message) });
  #sockets;

  constructor(organizationIds) {
    const indicator = new LiveIndicator(document.getElementById("live"));
    this.#sockets = new OrganizationSockets(organizationIds, root.dataset.socketsPort, indicator, () => this.#list.refresh());
    this.#sockets.open();
  }

  #drawn() {
    placeStops();
    this.#sockets.drawn();
    this.#notify("");
  }

  #notify(text) {
    setText(this.#notice, text && `The list could not be brought up to date: ${text}`);
    this.#notice.hidden = !text;
  }
}

placeStops();
if (root.dataset.organizations) new FlowList(root.dataset.organizations.trim().split(" "));
