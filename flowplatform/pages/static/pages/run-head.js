/** The head of a run's page: what it does, how far it is, how many tasks are in which state. */

import { drawBadge, drawCounts, drawProgress, drawTime } from "../flowplatform/widgets.js";
import { duration, elapsed, instant } from "../flowplatform/format.js";
import { setAttribute, setText } from "../flowplatform/dom.js";

export class RunHead {
  #parts = {};
  #pick;

  /**
   * @param {HTMLElement} root
   * @param {{pick: (state: string) => void}} page called when somebody picks a state to filter by
   */
  constructor(root, { pick }) {
    this.#pick = pick;
    for (const node of root.querySelectorAll("[data-part]")) this.#parts[node.dataset.part] = node;
    this.#parts.counts = document.getElementById("counts");
  }

  draw(model, now) {
    const { badge, count, progress, counts, startedWord, started } = this.#parts;
    drawBadge(badge, model.meaning);
    setText(count, countOf(model));
    drawProgress(progress, model.counts);
    drawCounts(counts, model.counts, this.#pick);
    setText(startedWord, model.startedAt === null ? "Queued" : "Started");
    drawTime(started, model.startedAt ?? instant(model.execution.created_at));
    this.tick(model, now);
  }

  tick(model, now) {
    const { startedAt } = model;
    setText(this.#parts.tookWord, model.isActive ? "Running for" : "Took");
    const took = startedAt === null ? "–" : (model.isActive ? elapsed : duration)(model.endAt(now) - startedAt);
    setText(this.#parts.took, took);
  }

  /** Mark the state that is filtered by. */
  press(state) {
    for (const item of this.#parts.counts.children) {
      setAttribute(item.querySelector("button"), "aria-pressed", String(item.dataset.state === state));
    }
  }

  focus() {
    this.#parts.counts.querySelector("li:not([hidden]) button")?.focus();
  }
}

/** "5 of 11": how many tasks are done. */
function countOf(model) {
  return `${(model.counts.completed ?? 0) + (model.counts.skipped ?? 0)} of ${model.total}`;
}
