/** The status history of one run, as far as it is known: when each task started, and how often. */

import { instant } from "../flowplatform/format.js";

const NEVER = { startedAt: null, attempts: 0 };

export class History {
  #rows = new Map(); // task name -> Map(status id -> {at, running}), in any order
  #summaries = new Map(); // task name -> what `of` found, until another row comes

  /** Take a row of the history or of an event; one that is known already changes nothing. */
  note({ id, task_name: name, status, created_at: createdAt }) {
    if (!this.#rows.has(name)) this.#rows.set(name, new Map());
    this.#rows.get(name).set(id, { at: instant(createdAt), running: status === "running" });
    this.#summaries.delete(name);
  }

  /**
   * @returns {{startedAt: number|null, attempts: number}} an attempt begins where "running" follows something else;
   *   a worker that repeats "running" to say it is alive begins none
   */
  of(name) {
    if (!this.#rows.has(name)) return NEVER;
    if (!this.#summaries.has(name)) this.#summaries.set(name, summarize([...this.#rows.get(name).values()]));
    return this.#summaries.get(name);
  }
}

function summarize(rows) {
  rows.sort((one, other) => one.at - other.at);
  const starts = rows.filter(({ running }, index) => running && !rows[index - 1]?.running);
  return { startedAt: starts[0]?.at ?? null, attempts: starts.length };
}
