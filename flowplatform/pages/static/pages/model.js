/**
 * What the page knows about a flow, put together from REST answers and events. It knows no document.
 *
 * Both sources may tell the same thing, in any order: per task the newer word wins, so applying one again changes
 * nothing. The state of a task has the time at which it was written; a snapshot never overwrites what is newer.
 */

import { Plan } from "./plan.js";
import { Run } from "./run.js";
import { instant } from "../flowplatform/format.js";

/** A run's place in the list: newest first. Ids of version 7 grow with time. */
function newestFirst(one, other) {
  return other.createdAt - one.createdAt || (one.id < other.id ? 1 : -1);
}

export class FlowModel {
  version = null;
  #runs = new Map();
  #plans = new Map();
  #epoch = 0; // grows with each refetch of everything
  #changes;

  constructor() {
    this.takeChanges();
  }

  /** Return what changed since the last call: the list itself, runs, and tasks. */
  takeChanges() {
    const changes = this.#changes;
    this.#changes = { list: false, runs: new Set(), tasks: new Set() };
    return changes;
  }

  get runs() {
    return [...this.#runs.values()].sort(newestFirst);
  }

  /** How many tasks the newest version has. */
  get taskCount() {
    return this.#plans.get(this.version).size;
  }

  run(id) {
    return this.#runs.get(id) ?? null;
  }

  // --- REST ---

  /** Take the flow with one of its versions and that version's tasks; the newest comes first. */
  takeFlow({ version, definition }) {
    this.version = Math.max(this.version ?? 0, version);
    this.#plans.set(version, new Plan(definition.tasks));
    for (const run of this.#runs.values()) this.#plan(run);
    this.#changes.list = true;
  }

  /** Start anew: runs that are not in `executions` are gone, and what is known of tasks only stands until reloaded. */
  restart(executions) {
    this.#epoch += 1;
    const ids = new Set(executions.map(({ id }) => id));
    for (const run of this.runs) {
      if (!ids.has(run.id)) this.#runs.delete(run.id);
      Object.assign(run, { isLoaded: false, updatedAt: -Infinity });
    }
    this.takeExecutions(executions);
    this.#changes.list = true;
  }

  takeExecutions(executions) {
    for (const execution of executions) this.#takeExecution(execution);
  }

  /** Take all task outputs of a run, fetched after the last restart. */
  takeTaskOutputs(run, outputs) {
    for (const output of outputs) this.#takeTaskOutput(run, output);
    run.forgetBefore(this.#epoch);
    run.isLoaded = true;
    this.#changes.runs.add(run);
    for (const task of run.tasks.values()) this.#changes.tasks.add(task);
  }

  /** Take the whole status history of a run. */
  takeHistory(run, history) {
    Object.assign(run, { history, nextHistory: null });
    this.#changes.runs.add(run);
    for (const task of run.tasks.values()) this.#changes.tasks.add(task);
  }

  #takeExecution(data) {
    if (data.status === "deleted") return;
    const run = this.run(data.id) ?? new Run(data.id);
    if (run.updatedAt > instant(data.updated_at)) return;
    run.update(data);
    this.#plan(run);
    this.#runs.set(run.id, run);
    this.#changes.runs.add(run);
    this.#changes.list = true;
  }

  #takeTaskOutput(run, { task_name: name, processing_status: status, created_at: createdAt, updated_at: updatedAt }) {
    this.#report(run, name, status, instant(updatedAt), instant(createdAt));
  }

  #plan(run) {
    run.plan = this.#plans.get(run.version) ?? null;
    this.#changes.runs.add(run);
  }

  #report(run, name, status, at, since) {
    const task = run.report(name, status, at, since, this.#epoch);
    if (!task) return;
    this.#changes.tasks.add(task);
    this.#changes.runs.add(run);
  }

  // --- Events ---

  /** Apply one event. Types that this page does not show are left alone. */
  apply({ type, flow_execution_id: id, data }) {
    const run = this.run(id);
    switch (type) {
      case "flow_execution.created":
        this.#takeExecution(data);
        if (!run) this.run(id).isLoaded = true; // watched from its beginning: there is nothing else to fetch
        return undefined;
      case "flow_execution.updated":
        return run ? this.#takeExecution(data) : undefined; // others are further down than the list reaches
      case "flow_execution.deleted":
        return this.#forget(id);
      case "task_status.added":
        if (run) for (const row of data.statuses) this.#takeStatus(run, row);
        return undefined;
      case "task_output.updated":
        if (run) this.#takeTaskOutput(run, data);
        return undefined;
    }
  }

  #takeStatus(run, row) {
    const at = instant(row.created_at);
    run.history?.note(row);
    run.nextHistory?.note(row);
    this.#report(run, row.task_name, row.status, at, at);
  }

  #forget(id) {
    this.#runs.delete(id);
    this.#changes.list = true;
  }
}
