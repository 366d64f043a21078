/** One execution of a flow and what its tasks say. */

import { instant } from "../flowplatform/format.js";
import { meaningOf, meaningOfRun } from "../flowplatform/states.js";

export class Task {
  status = null;
  at = null; // when the status was written, in milliseconds
  epoch = 0; // which refetch of everything it has survived

  constructor(run, name) {
    this.run = run;
    this.name = name;
  }

  get meaning() {
    return meaningOf(this.status);
  }
}

export class Run {
  number = null;
  tasks = new Map(); // those that have reported, by name
  reported = {}; // how many of them, by state
  isLoaded = false; // whether what they reported before the page was opened is known
  history = null; // of a run that was opened
  nextHistory = null; // while it is fetched, again or for the first time
  plan = null; // the tasks of its version; null if that version is not known
  #firstAt = null;
  #lastAt = null;

  constructor(id) {
    this.id = id;
  }

  /** Take an execution as the API shows it. Only lists know the run number. */
  update({ flow_version: version, status, created_at: createdAt, updated_at: updatedAt, run_number: number }) {
    this.version = version;
    this.status = status;
    this.createdAt = instant(createdAt);
    this.updatedAt = instant(updatedAt);
    this.number = number ?? this.number;
  }

  get title() {
    return this.number === null ? "Run" : `Run ${this.number}`;
  }

  // --- Its tasks ---

  get total() {
    return this.plan?.size ?? null;
  }

  /** How many tasks are in each state, those that said nothing included. */
  get counts() {
    const silent = Math.max(0, (this.total ?? 0) - this.tasks.size);
    return { ...this.reported, unreported: (this.reported.unreported ?? 0) + silent };
  }

  get completed() {
    return this.reported.completed ?? 0;
  }

  /** Names of all tasks in order; where the version is not known, of those that reported. */
  get taskNames() {
    return this.plan?.names ?? [...this.tasks.keys()];
  }

  /**
   * Set what a task says.
   * @returns {Task|null} the task if that changed anything
   */
  report(name, status, at, since, epoch) {
    const task = this.tasks.get(name) ?? new Task(this, name);
    if (task.at !== null && task.epoch === epoch && at < task.at) return null;
    this.#count(task, -1);
    Object.assign(task, { status, at, epoch });
    this.tasks.set(name, task);
    this.#count(task, 1);
    this.#firstAt = Math.min(this.#firstAt ?? since, since);
    this.#lastAt = Math.max(this.#lastAt ?? at, at);
    return task;
  }

  /** Forget tasks that only an older epoch knows: the platform was set back to a time before them. */
  forgetBefore(epoch) {
    for (const task of [...this.tasks.values()].filter((known) => known.epoch < epoch)) {
      this.#count(task, -1);
      this.tasks.delete(task.name);
    }
    const times = [...this.tasks.values()].map(({ at }) => at);
    this.#lastAt = times.length ? times.reduce((one, other) => Math.max(one, other)) : null;
  }

  #count(task, by) {
    if (task.at === null) return;
    const { state } = task.meaning;
    this.reported[state] = (this.reported[state] ?? 0) + by;
  }

  // --- The whole ---

  /** @returns {{state: string, word: string}} */
  get meaning() {
    return meaningOfRun(this.status, this.reported, this.total);
  }

  get isActive() {
    return ["queued", "running", "awaiting"].includes(this.meaning.state);
  }

  /** When the first task reported; null before that. */
  get startedAt() {
    return this.#firstAt;
  }

  /** When something last changed. */
  get changedAt() {
    return Math.max(this.updatedAt, this.#lastAt ?? 0);
  }

  /** How long it has run at the moment `now`, or ran; null before its first task. */
  tookAt(now) {
    if (this.#firstAt === null) return null;
    return (this.isActive ? now : this.#lastAt) - this.#firstAt;
  }
}
