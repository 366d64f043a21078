/** Brings what the REST API knows into the model: everything at first and after a reset, single runs when asked. */

import { get, pages, persist } from "../flowplatform/api.js";
import { History } from "./history.js";
import { instant } from "../flowplatform/format.js";

const RUNS = 20; // on a page of the list
const AT_ONCE = 3; // requests for the tasks of runs
const PART = 1000; // rows of tasks or of history in one request
const HISTORY = 20_000; // rows; of a longer history only the newest part is looked at

export class Loader {
  /** Whether there may be runs that are older than those in the model. */
  hasOlder = false;

  #flowId;
  #model;
  #loaded;
  #failed;
  #round = 0; // of fetching everything; answers to an earlier one are worth nothing
  #waiting = []; // runs whose tasks are still to be fetched
  #working = 0;
  #opened = new Set(); // runs whose history is known or on its way
  #reached = null; // when the oldest run of the list was created

  /**
   * @param {string} flowId
   * @param {FlowModel} model
   * @param {() => void} loaded called whenever something has come in
   * @param {(error: Error) => void} failed called when trying again cannot help
   */
  constructor(flowId, model, loaded, failed) {
    this.#flowId = flowId;
    this.#model = model;
    this.#loaded = loaded;
    this.#failed = failed;
  }

  /**
   * Fetch the flow and its newest runs, then their tasks in the background.
   * @returns {Promise<boolean>} false when a later call has overtaken this one
   */
  async restart() {
    const round = (this.#round += 1);
    this.#waiting = [];
    this.#opened.clear();
    const fetched = await this.#persist(() => Promise.all([this.#flow(), this.#executions()]), round);
    if (!fetched) return false;
    const [flow, executions] = fetched;
    this.#model.takeFlow(flow);
    this.#model.restart(executions);
    this.#reach(executions);
    this.#loadTasks(this.#model.runs);
    return true;
  }

  /** Fetch the newest runs again: a run's number, and the flow's newer version, are not in events. */
  async updateList() {
    const executions = await this.#persist(() => this.#executions());
    if (!executions) return;
    if (executions.some((execution) => execution.flow_version > this.#model.version)) {
      const flow = await this.#persist(() => this.#flow());
      if (flow) this.#model.takeFlow(flow);
    }
    this.#model.takeExecutions(executions);
    this.#loadTasks(this.#model.runs.filter((run) => !run.isLoaded));
    this.#loaded();
  }

  /** Fetch the next part of the list. */
  async loadOlder() {
    const executions = await this.#persist(() => this.#executions({ created_before: this.#reached }));
    if (!executions) return;
    this.#reach(executions);
    this.#model.takeExecutions(executions);
    this.#loadTasks(executions.map(({ id }) => this.#model.run(id)));
    this.#loaded();
  }

  /**
   * Fetch one run that is further down than the list reaches.
   * @returns {Promise<boolean>} whether the flow has it
   */
  async loadRun(id) {
    const round = this.#round;
    const wanted = () => round === this.#round;
    const execution = await persist(() => get(`/api/flow-executions/${encodeURIComponent(id)}`), wanted).catch(() => null);
    if (execution?.flow_id !== this.#flowId) return false;
    const created = instant(execution.created_at);
    const moment = { created_after: isoTime(created - 1), created_before: isoTime(created + 1) };
    const numbered = await persist(() => this.#executions(moment), wanted).catch(() => []); // only lists tell the number
    this.#model.takeExecutions(numbered.filter((one) => one.id === id));
    return this.#model.run(id) !== null;
  }

  /** Fetch what the panel of a run shows, before everything else. */
  async open(run) {
    if (!run.isLoaded) this.#loadTasks([run]);
    if (this.#opened.has(run)) return;
    this.#opened.add(run);
    await Promise.all([this.#loadPlan(run), this.#loadHistory(run)]);
  }

  // --- Tasks and their history ---

  #loadTasks(runs) {
    this.#waiting = [...new Set([...runs, ...this.#waiting])];
    while (this.#working < AT_ONCE && this.#waiting.length) this.#work();
  }

  async #work() {
    this.#working += 1;
    for (let run = this.#waiting.shift(); run; run = this.#waiting.shift()) {
      const round = this.#round;
      const outputs = await this.#persist(() => collect("/api/task-outputs", "task_outputs", { flow_execution_id: run.id }));
      if (outputs && round === this.#round) this.#model.takeTaskOutputs(run, outputs);
      this.#loaded();
    }
    this.#working -= 1;
  }

  /** A run that is pinned to an older version has other tasks than the flow has now. */
  async #loadPlan(run) {
    if (run.plan) return;
    const flow = await this.#persist(() => this.#flow({ version: run.version }));
    if (!flow) return;
    this.#model.takeFlow(flow);
    this.#loaded();
  }

  /** What is known of the history stands until the new one is complete; events go into both. */
  async #loadHistory(run) {
    const history = (run.nextHistory = new History());
    const address = `/api/flow-executions/${run.id}/task-status`;
    const rows = await this.#persist(() => collect(address, "statuses", {}, HISTORY));
    if (!rows || run.nextHistory !== history) return;
    for (const row of rows) history.note(row);
    this.#model.takeHistory(run, history);
    this.#loaded();
  }

  // --- Requests ---

  #reach(executions) {
    this.hasOlder = executions.length === RUNS;
    this.#reached = executions.at(-1)?.created_at ?? this.#reached;
  }

  #flow(query = {}) {
    return get(`/api/flows/${this.#flowId}`, query);
  }

  #executions(query = {}) {
    return get("/api/flow-executions", { flow_id: this.#flowId, page_size: RUNS, include_run_number: true, ...query });
  }

  /** Try until it works or nobody wants it any more; undefined then, and when trying again cannot help. */
  async #persist(attempt, round = this.#round) {
    const wanted = () => round === this.#round;
    try {
      const answer = await persist(attempt, wanted);
      return wanted() ? answer : undefined;
    } catch (error) {
      if (wanted() && error.status !== 404) this.#failed(error); // 404: deleted meanwhile, an event says so too
      return undefined;
    }
  }
}

function isoTime(milliseconds) {
  return new Date(milliseconds).toISOString();
}

async function collect(path, field, query, most = Infinity) {
  const rows = [];
  for await (const page of pages(path, field, { ...query, limit: PART })) {
    rows.push(...page);
    if (rows.length >= most) break;
  }
  return rows;
}
