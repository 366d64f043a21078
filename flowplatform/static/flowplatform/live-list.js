/**
 * A list that the server draws and that stays up to date: the page's own address is asked again for its list alone,
 * and what differs is put in its place. Nothing is asked for by the clock; whoever hears of a change calls `refresh()`.
 *
 * The server marks the list by an id and its rows by `data-key`. Asked with the header `X-Fragment: <id>` it answers
 * with that element and nothing else.
 */

import { ApiError, persist } from "./api.js";
import { dress } from "./served.js";
import { merge } from "./merge.js";
import { sleep } from "./backoff.js";

const PAUSE = 1000; // between two requests: hundreds of changes a second cost one of them
const PATIENCE = 20_000; // an answer that takes longer counts as none
const SIGNED_OUT = 401;

export class LiveList {
  #root;
  #drawn;
  #failed;
  #wanted = false; // whether something changed since the last request was sent
  #busy = false;

  /**
   * @param {HTMLElement} root the list as the page came with it; it has an id
   * @param {object} listener
   * @param {(root: HTMLElement, asked: number) => void} [listener.drawn] the list is up to date as of `asked`, the
   *   moment (by Date.now) at which the request was sent; what scripts add to rows is added here
   * @param {(error: ApiError) => void} [listener.failed] another attempt cannot help, and the list stays as it is
   */
  constructor(root, { drawn = () => {}, failed = () => {} } = {}) {
    this.#root = root;
    this.#drawn = drawn;
    this.#failed = failed;
    document.addEventListener("visibilitychange", () => this.#run());
  }

  /** Ask for the list: at once, or a moment after the last time, or when the tab is looked at again. */
  refresh() {
    this.#wanted = true;
    this.#run();
  }

  /** One request after the other, as long as something changes. */
  async #run() {
    if (this.#busy) return;
    this.#busy = true;
    while (this.#wanted && document.visibilityState === "visible") {
      await this.#update();
      await sleep(PAUSE);
    }
    this.#busy = false;
  }

  async #update() {
    try {
      const { asked, list } = await persist(() => this.#fetch());
      merge(this.#root, list);
      dress(this.#root);
      this.#drawn(this.#root, asked);
    } catch (error) {
      if (error.status === SIGNED_OUT) location.reload(); // the server sends the reader to the sign-in, and back
      else this.#failed(error);
    }
  }

  async #fetch() {
    this.#wanted = false;
    const asked = Date.now();
    const answer = await fetch(location.href, {
      headers: { "X-Fragment": this.#root.id },
      redirect: "manual",
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (answer.type === "opaqueredirect") throw new ApiError(SIGNED_OUT, null);
    if (!answer.ok) throw new ApiError(answer.status, null);
    const list = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(this.#root.id);
    if (!list) throw new ApiError(502, null);
    return { asked, list };
  }
}
