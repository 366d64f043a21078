/** The sockets of all organizations of a person as one: a page is as live as the worst of them. */

import { GONE } from "./socket.js";
import { notify } from "./notices.js";
import { OrganizationSocket, organizationSocketAddress } from "./organization-socket.js";

const REASONS = { [GONE]: "not live any more" };
const SEVERITY = ["live", "connecting", "reconnecting", "offline", "ended"];

export class OrganizationSockets {
  #sockets = new Map(); // the state of each
  #indicator;
  #refresh;
  #drawnAt = null;

  /**
   * @param {string[]} organizationIds
   * @param {string} [port] where the sockets are, if not where the page is
   * @param {LiveIndicator} indicator
   * @param {() => void} refresh called when something changed, and when it is not known whether anything did
   */
  constructor(organizationIds, port, indicator, refresh) {
    this.#indicator = indicator;
    this.#refresh = refresh;
    for (const id of organizationIds) {
      const socket = new OrganizationSocket(organizationSocketAddress(id, port), {
        refetch: refresh,
        changed: refresh,
        state: (state, code) => this.#connection(socket, state, code),
      });
      this.#sockets.set(socket, "connecting");
    }
  }

  open() {
    for (const socket of this.#sockets.keys()) socket.open();
  }

  /** What the page shows is as of now. */
  drawn() {
    this.#drawnAt = Date.now();
  }

  #connection(socket, state, code) {
    this.#sockets.set(socket, state);
    if (code === GONE) this.#left(socket);
    const worst = [...this.#sockets.values()].reduce((one, other) => (SEVERITY.indexOf(other) > SEVERITY.indexOf(one) ? other : one));
    const heard = [...this.#sockets.keys()].map(({ lastFrame }) => lastFrame ?? this.#drawnAt);
    this.#indicator.show(worst, heard.includes(null) ? null : Math.min(...heard), worst === "ended" ? REASONS[code] ?? "not live: refused by the server" : "");
    // No socket is no reason to show what is old. Whether the reader has to sign in again shows in the answer.
    if (state === "reconnecting" || state === "ended") this.#refresh();
  }

  /** Somebody is no longer a member: the list is as live as the other organizations, if there are any. */
  #left(socket) {
    notify("You are no longer a member of an organization that was shown here.", "awaiting");
    if (this.#sockets.size > 1) this.#sockets.delete(socket);
  }
}
