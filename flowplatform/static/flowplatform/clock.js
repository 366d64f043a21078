/**
 * The server's clock as seen from here, to say how far behind the page is.
 *
 * A page is rendered between the moment its request leaves and the moment its first byte arrives, so the server's
 * time in it bounds the difference of the two clocks. Where they may agree they are taken to agree.
 */
export class ServerClock {
  #earliest; // bounds of (server's clock - ours), in milliseconds
  #latest;

  constructor(earliest = -Infinity, latest = Infinity) {
    this.#earliest = earliest;
    this.#latest = latest;
  }

  /** Read the bounds from the page itself. */
  static ofPage(serverTime, navigation = performance.getEntriesByType("navigation")[0]) {
    if (serverTime === null || !navigation?.responseStart) return new ServerClock();
    const { timeOrigin } = performance;
    return new ServerClock(
      serverTime - (timeOrigin + navigation.responseStart),
      serverTime - (timeOrigin + navigation.requestStart),
    );
  }

  now() {
    return Date.now() + Math.min(Math.max(0, this.#earliest), this.#latest);
  }

  /** Nothing arrives before it was written: learn from an event that just came in. */
  saw(createdAt) {
    this.#earliest = Math.max(this.#earliest, createdAt - Date.now());
    this.#latest = Math.max(this.#latest, this.#earliest);
  }
}
