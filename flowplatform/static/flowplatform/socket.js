/**
 * Live connections. `Connection` keeps one open; `FlowSocket` hands over every event of a flow once and in order, and
 * says when what the page knows is not enough to go on from. They touch neither the document nor the REST API.
 */

import { backoff } from "./backoff.js";

const SILENCE = 25_000; // the server says something every 15 s: a longer silence is a dead connection
const OFFLINE_AFTER = 4; // failed attempts in a row

/** Close codes after which another attempt cannot help. */
export const SIGNED_OUT = 4401;
export const GONE = 4404;
const CROWDED = 4429;

/**
 * @callback StateListener
 * @param {"connecting"|"live"|"reconnecting"|"offline"|"ended"} state
 * @param {number|null} code why the connection was lost
 * @returns {void}
 */

/**
 * The address of a path of the sockets: on the page's own host, whose cookie goes along whatever the port.
 * @param {string} path
 * @param {string} [port] where the sockets are, if not where the page is
 */
export function addressOf(path, port = location.port) {
  const address = new URL(path, location.origin);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.port = port;
  return address;
}

/**
 * Where the socket of a flow is.
 * @param {string} flowId
 * @param {string} [port] where the sockets are, if not where the page is
 */
export function socketAddress(flowId, port = location.port) {
  return addressOf(`/ws/flows/${flowId}`, port);
}

/** One WebSocket after the other, so that there is always one, or the next one is on its way. */
export class Connection {
  #address;
  #receive;
  #state;
  #browser;

  #socket = null;
  #failures = 0; // attempts since the connection last worked
  #retry = null;
  #watchdog = null;
  #lastFrame = null;
  #ended = false;

  /**
   * @param {object} parts
   * @param {() => URL} parts.address asked before every attempt
   * @param {(frame: object) => void} parts.receive
   * @param {StateListener} parts.state
   * @param {{WebSocket: typeof WebSocket, random: () => number}} browser replaced in tests
   */
  constructor({ address, receive, state }, browser = { WebSocket, random: Math.random }) {
    this.#address = address;
    this.#receive = receive;
    this.#state = state;
    this.#browser = browser;
  }

  /** When the server was last heard of; null before the first time. */
  get lastFrame() {
    return this.#lastFrame;
  }

  open() {
    addEventListener("online", () => this.#hurry());
    addEventListener("offline", () => this.lost());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#wake();
    });
    addEventListener("pagehide", () => this.#drop());
    addEventListener("pageshow", (event) => {
      if (event.persisted) this.#hurry(); // back from the browser's history, where timers stood still
    });
    this.#state("connecting", null);
    this.#connect();
  }

  /** The hello of this connection is here. */
  greeted() {
    this.#state("live", null);
  }

  /** The connection does what it is for: the next failure is the first one again. */
  works() {
    this.#failures = 0;
  }

  /** Give the connection up, and make another one after a pause if that can help. */
  lost(code = null) {
    this.#drop();
    if (this.#ended) return;
    if (code === SIGNED_OUT || code === GONE) {
      this.#ended = true;
      this.#state("ended", code);
      return;
    }
    const pause = backoff(code === CROWDED ? Infinity : this.#failures, this.#browser.random);
    this.#failures += 1;
    const offline = navigator.onLine === false || this.#failures > OFFLINE_AFTER;
    this.#state(offline ? "offline" : "reconnecting", code);
    this.#retry = setTimeout(() => this.#connect(), pause);
  }

  #connect() {
    this.#drop();
    const socket = new this.#browser.WebSocket(this.#address());
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = ({ code }) => this.lost(code);
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

  #take(frame) {
    this.#lastFrame = Date.now();
    this.#expectFrame();
    this.#receive(frame);
  }

  #expectFrame() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.lost(), SILENCE);
  }
}

/**
 * @typedef {object} Listener
 * @property {() => void} refetch what came before is unknown: fetch it over REST; the events that follow are newer
 * @property {(events: object[], replayed: boolean) => void} events the next events, oldest first, without a gap;
 *   `replayed` when they were written while the connection was away
 * @property {StateListener} state
 */

export class FlowSocket {
  #address;
  #listener;
  #connection;

  #position = null; // {epoch, offset} of the newest event that was handed over
  #caughtUp = 0; // events up to this offset were written before the connection was made

  /**
   * @param {URL} address of the flow's socket
   * @param {Listener} listener
   * @param {{WebSocket: typeof WebSocket, random: () => number}} [browser] replaced in tests
   */
  constructor(address, listener, browser) {
    this.#address = address;
    this.#listener = listener;
    this.#connection = new Connection({
      address: () => this.#addressNow(),
      receive: (frame) => this.#receive(frame),
      state: (state, code) => listener.state(state, code),
    }, browser);
  }

  /** When the server was last heard of; null before the first time. */
  get lastFrame() {
    return this.#connection.lastFrame;
  }

  /** Begin after what the page came with, instead of fetching it once more. To be called before `open`. */
  startAfter({ epoch, offset }) {
    this.#position = { epoch, offset };
  }

  open() {
    this.#connection.open();
  }

  #addressNow() {
    const address = new URL(this.#address);
    if (this.#position) {
      address.searchParams.set("since", this.#position.offset);
      address.searchParams.set("epoch", this.#position.epoch);
    }
    return address;
  }

  // --- Frames ---

  #receive(frame) {
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
    this.#connection.greeted();
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
    if (!next.every(isNext)) return this.#connection.lost(); // a gap: ask for what is missing
    this.#position.offset = next.at(-1).offset;
    this.#connection.works();
    this.#listener.events(next, this.#position.offset <= this.#caughtUp);
  }

  #heartbeat({ offset }) {
    if (offset > this.#position.offset) return this.#connection.lost();
    this.#connection.works();
  }
}
