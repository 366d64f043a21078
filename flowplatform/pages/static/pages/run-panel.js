/** The panel of one run: what it is, how far it is, and its tasks. */

import { drawBadge, drawCounts, drawProgress, drawTime } from "../flowplatform/widgets.js";
import { setText } from "../flowplatform/dom.js";
import { countOf, tookText } from "./run-list.js";
import { TaskTable } from "./task-table.js";

export class RunPanel {
  #root;
  #parts = {};
  #tasks;
  #run = null;

  constructor(root) {
    this.#root = root;
    for (const node of root.querySelectorAll("[data-part]")) this.#parts[node.dataset.part] = node;
    this.#tasks = new TaskTable(this.#parts.tasks);
  }

  get root() {
    return this.#root;
  }

  /** Show a run, or nothing. */
  show(run, now) {
    this.#run = run;
    this.#root.hidden = run === null;
    if (run) this.draw(now);
  }

  /** Draw the run as a whole; its tasks are drawn one by one, as they change. */
  draw(now) {
    const { title, badge, count, started, startedWord, updated, version, progress, counts, note } = this.#parts;
    const run = this.#run;
    setText(title, run.title);
    drawBadge(badge, run.meaning);
    setText(count, countOf(run));
    setText(startedWord, run.startedAt === null ? "Queued" : "Started");
    drawTime(started, run.startedAt ?? run.createdAt);
    drawTime(updated, run.changedAt);
    setText(version, String(run.version));
    drawProgress(progress, run.counts);
    drawCounts(counts, run.counts, (state) => this.#tasks.goTo(state));
    note.hidden = run.plan !== null;
    this.#tasks.show(run, now);
    this.tick(now);
  }

  drawTask(task, now) {
    if (task.run === this.#run) this.#tasks.draw(task.name, now);
  }

  tick(now) {
    setText(this.#parts.tookWord, this.#run.isActive ? "Running for" : "Took");
    setText(this.#parts.took, tookText(this.#run, now) || "–");
    if (this.#run.isActive) this.#tasks.tick(now);
    else this.#tasks.drawAxis(now);
  }
}
