/**
 * The live connection to one flow. It keeps itself open, hands over every event once and in order, and says when
 * what the page knows is not enough to go on from. It touches neither the document nor the REST API.
 */

import { backoff } from "./backoff.js";

const SILENCE = 25_000; // the server says something every 15 s: a longer silence is a dead connection
const OFFLINE_AFTER = 4; // failed attempts in a row

/** Close codes after which another attempt cannot help. */
export const SIGNED_OUT = 4401;
export const GONE = 4404;
const CROWDED = 4429;

/**
 * @typedef {object} Listener
 * @property {() => void} refetch what came before is unknown: fetch it over REST; the events that follow are newer
 * @property {(events: object[], replayed: boolean) => void} events the next events, oldest first, without a gap;
 *   `replayed` when they were written while the connection was away
 * @property {(state: "connecting"|"live"|"reconnecting"|"offline"|"ended", code: number|null) => void} state
 */

/**
 * Where the socket of a flow is: on the page's own host, whose cookie goes along whatever the port.
 * @param {string} flowId
 * @param {string} [port] where the sockets are, if not where the page is
 */
export function socketAddress(flowId, port = location.port) {
  const address = new URL(`/ws/flows/${flowId}`, location.origin);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.port = port;
  return address;
}

export class FlowSocket {
  #address;
  #listener;
  #browser;

  #socket = null;
  #position = null; // {epoch, offset} of the newest event that was handed over
  #caughtUp = 0; // events up to this offset were written before the connection was made
  #failures = 0; // attempts since the connection last worked
  #retry = null;
  #watchdog = null;
  #lastFrame = null;
  #ended = false;

  /**
   * @param {URL} address of the flow's socket
   * @param {Listener} listener
   * @param {{WebSocket: typeof WebSocket, random: () => number}} browser replaced in tests
   */
  constructor(address, listener, browser = { WebSocket, random: Math.random }) {
    this.#address = address;
    this.#listener = listener;
    this.#browser = browser;
  }

  /** When the server was last heard of; null before the first time. */
  get lastFrame() {
    return this.#lastFrame;
  }

  open() {
    addEventListener("online", () => this.#hurry());
    addEventListener("offline", () => this.#lost());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#wake();
    });
    addEventListener("pagehide", () => this.#drop());
    addEventListener("pageshow", (event) => {
      if (event.persisted) this.#hurry(); // back from the browser's history, where timers stood still
    });
    this.#listener.state("connecting", null);
    this.#connect();
  }

  // --- One connection after the other ---

  #connect() {
    this.#drop();
    const address = new URL(this.#address);
    if (this.#position) {
      address.searchParams.set("since", this.#position.offset);
      address.searchParams.set("epoch", this.#position.epoch);
    }
    const socket = new this.#browser.WebSocket(address);
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code }) => this.#lost(code);
    this.#socket = socket;
    this.#expectFrame();
  }

  /** Forget the connection without a word: it may be half dead and answer much later. */
  #drop() {
    clearTimeout(this.#retry);
    clearTimeout(this.#watchdog);
    if (!this.#socket) return;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #lost(code = null) {
    this.#drop();
    if (this.#ended) return;
    if (code === SIGNED_OUT || code === GONE) {
      this.#ended = true;
      this.#listener.state("ended", code);
      return;
    }
    const pause = backoff(code === CROWDED ? Infinity : this.#failures, this.#browser.random);
    this.#failures += 1;
    const offline = navigator.onLine === false || this.#failures > OFFLINE_AFTER;
    this.#listener.state(offline ? "offline" : "reconnecting", code);
    this.#retry = setTimeout(() => this.#connect(), pause);
  }

  /** Do not sit out a pause that was meant for another situation. */
  #hurry() {
    if (this.#ended) return;
    this.#failures = 0;
    this.#connect();
  }

  #wake() {
    const silent = Date.now() - (this.#lastFrame ?? 0) > SILENCE;
    if (this.#socket === null || silent) this.#hurry();
  }

  #expectFrame() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#lost(), SILENCE);
  }

  // --- Frames ---

  #receive(frame) {
    this.#lastFrame = Date.now();
    this.#expectFrame();
    switch (frame.type) {
      case "hello": return this.#hello(frame);
      case "events": return this.#events(frame.events);
      case "reset": return this.#startAt(frame);
      case "heartbeat": return this.#heartbeat(frame);
    }
  }

  #hello(frame) {
    this.#caughtUp = frame.offset;
    if (this.#position === null) this.#startAt(frame);
    this.#listener.state("live", null);
  }

  #startAt({ epoch, offset }) {
    this.#position = { epoch, offset };
    this.#caughtUp = offset;
    this.#listener.refetch();
  }

  #events(events) {
    const next = events.filter(({ offset }) => offset > this.#position.offset);
    if (next.length === 0) return;
    const isNext = ({ offset }, index) => offset === this.#position.offset + 1 + index;
    if (!next.every(isNext)) return this.#lost(); // a gap: ask for what is missing
    this.#position.offset = next.at(-1).offset;
    this.#failures = 0;
    this.#listener.events(next, this.#position.offset <= this.#caughtUp);
  }

  #heartbeat({ offset }) {
    if (offset > this.#position.offset) return this.#lost();
    this.#failures = 0;
  }
}
