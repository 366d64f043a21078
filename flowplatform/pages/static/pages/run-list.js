/** The list of runs, newest first: one link each, moved through with the arrow keys. */

import { arrange, setAttribute, setText, stamp } from "../flowplatform/dom.js";
import { drawBadge, drawProgress, drawTime } from "../flowplatform/widgets.js";
import { duration, elapsed } from "../flowplatform/format.js";

const STEPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

export class RunList {
  #root;
  #rows = new Map(); // run -> the parts of its row
  #address;

  /**
   * @param {HTMLElement} root
   * @param {(run: Run) => string} address of a run's link
   * @param {(run: Run) => void} choose called for a click or Enter on a run
   */
  constructor(root, address, choose) {
    this.#root = root;
    this.#address = address;
    root.addEventListener("keydown", (event) => this.#move(event));
    root.addEventListener("click", (event) => {
      const link = event.target.closest("a.run");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab or window: the browser's own
      event.preventDefault();
      choose([...this.#rows].find(([, row]) => row.link === link)[0]);
    });
  }

  /** Show these runs, in this order. */
  arrange(runs) {
    for (const run of this.#rows.keys()) if (!runs.includes(run)) this.#rows.delete(run);
    arrange(this.#root, runs.map((run) => this.#row(run).root));
  }

  /** The list item of a run, where the panel goes on a narrow screen. */
  item(run) {
    return this.#row(run).root;
  }

  mark(chosen) {
    for (const [run, { link }] of this.#rows) setAttribute(link, "aria-current", run === chosen ? "true" : null);
  }

  draw(run, now) {
    const row = this.#rows.get(run);
    if (!row) return;
    setText(row.title, run.title);
    drawBadge(row.badge, run.meaning);
    setText(row.count, countOf(run));
    drawProgress(row.progress, run.counts);
    drawTime(row.started, run.startedAt ?? run.createdAt);
    setText(row.startedWord, run.startedAt === null ? "Queued" : "Started");
    drawTime(row.updated, run.changedAt);
    this.drawTook(run, now);
  }

  /** Only what moves with the clock. */
  drawTook(run, now) {
    const row = this.#rows.get(run);
    if (row) setText(row.took, tookText(run, now));
  }

  #row(run) {
    if (!this.#rows.has(run)) {
      const row = stamp("run-row");
      row.link.href = this.#address(run);
      this.#rows.set(run, row);
    }
    return this.#rows.get(run);
  }

  #move(event) {
    const step = STEPS[event.key];
    if (step === undefined || !event.target.matches("a.run")) return;
    const links = [...this.#root.querySelectorAll("a.run")];
    const index = links.indexOf(event.target) + step;
    links[Math.min(Math.max(index, 0), links.length - 1)].focus();
    event.preventDefault();
  }
}

/** How many tasks are completed: "5 of 11", or "5 completed" where the whole is not known. */
export function countOf(run) {
  if (run.total !== null) return `${run.completed} of ${run.total}`;
  return run.tasks.size ? `${run.completed} completed` : "";
}

/** How long a run took or has taken so far; nothing before its first task. */
export function tookText(run, now) {
  const took = run.tookAt(now);
  if (took === null) return "";
  return run.isActive ? elapsed(took) : duration(took);
}
