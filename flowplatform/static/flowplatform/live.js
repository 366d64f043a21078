/** The live indicator: how old what is shown is, in words, always in sight. */

import { duration, localTime, utcTime } from "./format.js";
import { setText } from "./dom.js";

const REDRAW = 500; // faster than this a number cannot be read
const FRESH = 60_000; // after this the delay of the last change says nothing about now

/** What a screen reader hears, once per change of state. */
const SPOKEN = {
  live: "Live: changes show as they happen.",
  reconnecting: "Connection lost, reconnecting.",
  offline: "Offline. What is shown may be out of date.",
};

export class LiveIndicator {
  #root;
  #text;
  #spoken;
  #state = "connecting";
  #asOf = null;
  #reason = "";
  #change = null; // {at, delay} of the newest change
  #worst = 0; // delay since the last redraw

  /** @param {HTMLElement} root `.live`, with the parts `text` and `spoken` */
  constructor(root) {
    this.#root = root;
    this.#text = root.querySelector("[data-part=text]");
    this.#spoken = root.querySelector("[data-part=spoken]");
    setInterval(() => this.#draw(), REDRAW);
  }

  /**
   * @param {"connecting"|"live"|"reconnecting"|"offline"|"ended"} state
   * @param {number|null} asOf when the server was last heard of
   * @param {string} reason why it ended
   */
  show(state, asOf, reason = "") {
    const announce = state !== this.#state && !(this.#state === "connecting" && state === "live");
    Object.assign(this.#root.dataset, { live: state });
    [this.#state, this.#asOf, this.#reason] = [state, asOf, reason];
    if (announce) setText(this.#spoken, SPOKEN[state] ?? reason);
    this.#draw();
  }

  /** A change came `delay` milliseconds after it was written; null where that only tells how long we were away. */
  changed(at, delay) {
    this.#worst = Math.max(this.#worst, delay);
    this.#change = { at, delay: delay === null ? null : this.#worst };
  }

  #draw() {
    this.#worst = 0;
    const [text, title] = this.#words();
    setText(this.#text, text);
    this.#root.title = title;
  }

  #words() {
    const asOf = this.#asOf && `as of ${localTime(this.#asOf)}`;
    const title = this.#asOf ? `Last heard from the server at ${utcTime(this.#asOf)}` : "";
    switch (this.#state) {
      case "live": return this.#liveWords();
      case "reconnecting": return [["reconnecting", asOf].filter(Boolean).join(", "), title];
      case "offline": return [["offline", asOf, "retrying"].filter(Boolean).join(", "), title];
      case "ended": return [this.#reason, title];
      default: return ["connecting", ""];
    }
  }

  #liveWords() {
    if (this.#change === null) return ["live", "Connected. Nothing has changed since this page was opened."];
    const { at, delay } = this.#change;
    const arrival = delay === null ? "came with the connection" : `was here ${duration(delay)} after it was written`;
    const isMeasured = delay !== null && Date.now() - at < FRESH;
    const text = isMeasured ? `live, ${duration(delay)} behind` : `live, last change ${localTime(at)}`;
    return [text, `The last change, of ${utcTime(at)}, ${arrival}.`];
  }
}
