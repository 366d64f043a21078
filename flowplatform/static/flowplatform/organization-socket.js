/**
 * The live connection to an organization. It says which flows changed, and when everything has to be asked for again;
 * what changed in them is for the page to ask over REST.
 */

import { addressOf, Connection } from "./socket.js";

/**
 * @typedef {object} OrganizationListener
 * @property {() => void} refetch anything may have changed: fetch all that is shown. Called after every connection
 * @property {(flowIds: string[]) => void} changed these flows have news, or are new
 * @property {import("./socket.js").StateListener} state
 */

/**
 * Where the socket of an organization is.
 * @param {string} organizationId
 * @param {string} [port] where the sockets are, if not where the page is
 */
export function organizationSocketAddress(organizationId, port = location.port) {
  return addressOf(`/ws/organizations/${organizationId}`, port);
}

export class OrganizationSocket {
  #listener;
  #connection;

  /**
   * @param {URL} address of the organization's socket
   * @param {OrganizationListener} listener
   * @param {{WebSocket: typeof WebSocket, random: () => number}} [browser] replaced in tests
   */
  constructor(address, listener, browser) {
    this.#listener = listener;
    this.#connection = new Connection({
      address: () => address,
      receive: (frame) => this.#receive(frame),
      state: (state, code) => listener.state(state, code),
    }, browser);
  }

  /** When the server was last heard of; null before the first time. */
  get lastFrame() {
    return this.#connection.lastFrame;
  }

  open() {
    this.#connection.open();
  }

  #receive(frame) {
    switch (frame.type) {
      case "hello": return this.#hello();
      case "changed": return this.#changed(frame.flows);
      case "heartbeat": return this.#connection.works();
    }
  }

  #hello() {
    this.#listener.refetch();
    this.#connection.greeted();
  }

  #changed(flows) {
    this.#connection.works();
    this.#listener.changed(flows.map((flow) => flow.flow_id));
  }
}
