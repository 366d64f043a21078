/**
 * What is known of one run: its execution, and its tasks with their steps and tags. A snapshot makes it, the events of
 * the flow that come after it keep it; applying an event twice changes nothing.
 */

import { instant } from "../flowplatform/format.js";
import { meaningOf, meaningOfRun } from "../flowplatform/states.js";

const ACTIVE = new Set(["queued", "running", "awaiting"]);

export class Task {
  status = null; // as it was reported; null before that
  at = null; // since when, in milliseconds
  steps = []; // [status, milliseconds] of every change, oldest first
  tags = []; // live ones as the API shows them, oldest first
  isStale = false;
  isEdited = false;
  pending = []; // tags that were sent and are not confirmed yet: {tag, tag_type}

  constructor(name) {
    this.name = name;
  }

  get meaning() {
    return meaningOf(this.status);
  }

  get attempts() {
    return this.steps.filter(([status], index) => status === "running" && this.steps[index - 1]?.[0] !== "running").length;
  }

  /** When it first ran, or first said anything but that it waits. */
  get startedAt() {
    return this.steps.find(([status]) => status !== "queued")?.[1] ?? null;
  }

  /** Take a status; one that is known already, or older than the newest, changes nothing. */
  report(status, at) {
    const newest = this.steps.at(-1);
    if (newest && at < newest[1]) return false;
    if (this.steps.some(([known, since]) => since === at && known === status)) return false;
    if (newest?.[0] === status) return false; // says that it is still alive
    this.steps.push([status, at]);
    Object.assign(this, { status, at });
    return true;
  }
}

export class RunModel {
  tasks = new Map(); // by name, in the order of the plan
  isGone = false;
  #changed = new Set(); // tasks to draw
  #runChanged = true;
  #counts = null; // until a task changes
  #plan;

  /** @param {Plan} plan of the version that the run is pinned to */
  constructor(plan, snapshot) {
    this.#plan = plan;
    this.take(snapshot);
  }

  /** Begin again with what the server knows. What was sent and is not confirmed is there now, or never was. */
  take({ at, execution, tasks, tags }) {
    this.at = instant(at); // null for now
    this.execution = execution;
    this.tasks = new Map(this.#plan.names.map((name) => [name, new Task(name)]));
    for (const { name, status, at: since, steps, is_stale: isStale, is_edited: isEdited } of tasks) {
      Object.assign(this.task(name), {
        status,
        at: instant(since),
        steps: steps.map(([step, moment]) => [step, instant(moment)]),
        isStale,
        isEdited,
      });
    }
    for (const tag of tags) this.task(tag.task_name).tags.push(tag);
    this.#changed = new Set(this.tasks.values());
    this.#runChanged = true;
    this.#counts = null;
  }

  task(name) {
    if (!this.tasks.has(name)) this.tasks.set(name, new Task(name));
    return this.tasks.get(name);
  }

  /** @returns {{run: boolean, tasks: Set<Task>}} what changed since the last call */
  takeChanges() {
    const changes = { run: this.#runChanged || this.#changed.size > 0, tasks: this.#changed };
    this.#changed = new Set();
    this.#runChanged = false;
    return changes;
  }

  /** Have a task drawn again. */
  touch(task) {
    this.#changed.add(task);
    this.#counts = null;
  }

  // --- The whole ---

  get total() {
    return this.tasks.size;
  }

  /** How many tasks are in each state. */
  get counts() {
    return (this.#counts ??= countStates(this.tasks.values()));
  }

  get meaning() {
    return meaningOfRun(this.execution.status, this.counts, this.total);
  }

  get isActive() {
    return this.at === null && ACTIVE.has(this.meaning.state);
  }

  /** When the first task reported; null before that. */
  get startedAt() {
    return extreme(this.tasks.values(), Math.min, (task) => task.steps[0]?.[1]);
  }

  /** When a task last changed. */
  get changedAt() {
    return extreme(this.tasks.values(), Math.max, (task) => task.at);
  }

  /** The end of the time that is shown: now while it runs, the moment that is looked at, or the last change. */
  endAt(now) {
    if (this.at !== null) return this.at;
    return this.isActive ? now : this.changedAt ?? now;
  }

  // --- Events ---

  /** @returns {string[]} names of tasks of this run that the event is about */
  apply({ type, flow_execution_id: id, data }) {
    if (type === "task_tags.changed") return this.#takeTags(data.tags);
    if (id !== this.execution.id) return [];
    switch (type) {
      case "flow_execution.updated":
        if (instant(data.updated_at) >= instant(this.execution.updated_at)) Object.assign(this.execution, data);
        this.#runChanged = true;
        return [];
      case "flow_execution.deleted":
        this.isGone = this.#runChanged = true;
        return [];
      case "task_status.added":
        return data.statuses.map((row) => this.#report(row.task_name, row.status, instant(row.created_at)));
      case "task_output.updated":
        return [this.#takeOutput(data)];
      case "task_execution.updated":
        this.touch(this.task(data.task_name));
        return [data.task_name];
      default:
        return [];
    }
  }

  #report(name, status, at) {
    const task = this.task(name);
    if (task.report(status, at)) this.touch(task);
    return name;
  }

  #takeOutput({ task_name: name, processing_status: status, stale_status: stale, edited_status: edited, updated_at: at }) {
    const task = this.task(name);
    if (status !== null && status !== task.status) task.report(status, instant(at));
    Object.assign(task, { isStale: stale === "stale", isEdited: edited !== "not_edited" });
    this.touch(task);
    return name;
  }

  #takeTags(tags) {
    const ours = tags.filter((tag) => tag.flow_execution_id === this.execution.id);
    for (const tag of ours) {
      const task = this.task(tag.task_name);
      task.tags = task.tags.filter(({ id }) => id !== tag.id);
      if (tag.status === "active") task.tags.push(tag);
      task.pending = [];
      this.touch(task);
    }
    return ours.map(({ task_name: name }) => name);
  }
}

function countStates(tasks) {
  const counts = {};
  for (const { meaning } of tasks) counts[meaning.state] = (counts[meaning.state] ?? 0) + 1;
  return counts;
}

function extreme(tasks, choose, valueOf) {
  let found = null;
  for (const task of tasks) {
    const value = valueOf(task) ?? null;
    if (value !== null) found = found === null ? value : choose(found, value);
  }
  return found;
}
