/** The panel of one task: its state, its tags and their trail, its status history, and its attempts. */

import { get, persist } from "../flowplatform/api.js";
import { drawName, drawTime } from "../flowplatform/widgets.js";
import { duration, elapsed, instant, preciseTime } from "../flowplatform/format.js";
import { GLYPHS, meaningOf } from "../flowplatform/states.js";
import { arrange, setAttribute, setText } from "../flowplatform/dom.js";
import { personOf } from "./decisions.js";
import { chipOf, drawTags } from "./tag-chips.js";

const ROWS = 100; // of the history
const ATTEMPTS = 20;
const PAUSE = 250; // events of a busy task are looked after together
const LONGEST = 20_000; // characters of a document that are shown

export class TaskPanel {
  #root;
  #parts = {};
  #plan;
  #failed;
  #executionId;
  #model = null;
  #name = null;
  #round = 0; // of fetching; an answer to an earlier one is worth nothing
  #timer = null;

  /**
   * @param {HTMLElement} root
   * @param {Plan} plan
   * @param {(error: Error) => void} failed called when something could not be loaded
   */
  constructor(root, plan, failed) {
    this.#root = root;
    this.#plan = plan;
    this.#failed = failed;
    for (const node of root.querySelectorAll("[data-part]")) this.#parts[node.dataset.part] = node;
  }

  /** Name of the task that is shown; null if none is. */
  get name() {
    return this.#name;
  }

  /** Show a task of a model, or nothing. */
  show(name, model, now) {
    const isOther = name !== this.#name || model !== this.#model;
    [this.#name, this.#model, this.#executionId] = [name, model, model.execution.id];
    this.#root.hidden = name === null;
    if (name === null) return;
    drawName(this.#parts.name, this.#plan.labelOf(name), this.#plan.describe(name));
    this.draw(now);
    if (isOther) {
      for (const part of ["history", "trail", "attempts"]) this.#parts[part].replaceChildren();
      this.#parts.documents.hidden = true;
      this.#parts.documents.said = null;
      this.#fetch();
    }
  }

  /** Draw what the model knows. */
  draw(now) {
    if (this.#name === null) return;
    const task = this.#model.task(this.#name);
    const { state, word } = task.meaning;
    setAttribute(this.#parts.state, "data-state", state);
    setText(this.#parts.state.firstElementChild, GLYPHS[state]);
    setText(this.#parts.state.lastElementChild, word);
    drawTags(this.#parts.tags, task);
    this.#parts.noTags.hidden = task.tags.length + task.pending.length > 0;
    setText(this.#parts.facts, this.#facts(task, now));
  }

  /** Something about the task changed: read what only the server knows. */
  changed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fetch(), PAUSE);
  }

  #facts(task, now) {
    const { state } = task.meaning;
    const begin = task.startedAt;
    const isMoving = ["running", "awaiting"].includes(state);
    const took = begin === null || task.at === null ? "" : isMoving
      ? `for ${elapsed(this.#model.endAt(now) - begin)}`
      : `took ${duration(task.at - begin)}`;
    const attempt = task.attempts > 1 ? `attempt ${task.attempts}` : "";
    const notes = [task.isEdited ? "edited by hand" : "", task.isStale ? "stale: something before it was edited" : ""];
    return [took, attempt, ...notes].filter(Boolean).join(", ") || this.#plan.waitsFor(task.name);
  }

  // --- What only the server knows ---

  async #fetch() {
    const [round, name, at] = [(this.#round += 1), this.#name, this.#model.at];
    if (name === null) return;
    const wanted = () => round === this.#round;
    const query = { flow_execution_id: this.#executionId, task_name: name };
    try {
      const [history, trail, attempts, outputs] = await persist(() => Promise.all([
        get(`/api/flow-executions/${this.#executionId}/task-status`, { task_name: name, limit: ROWS }),
        get("/api/task-tags", { ...query, include_deleted: true }),
        get("/api/task-executions", { ...query, limit: ATTEMPTS }),
        get("/api/task-outputs", query),
      ]), wanted);
      if (!wanted()) return;
      this.#drawHistory(history, at);
      this.#drawTrail(trail, at);
      this.#drawAttempts(at === null ? attempts : { task_executions: [], next_cursor: null });
      this.#drawDocuments(at === null ? outputs.task_outputs[0] : null, attempts.task_executions.length > 0);
      this.#parts.thenNote.hidden = at === null;
    } catch (error) {
      if (wanted() && error.status !== 404) this.#failed(error);
    }
  }

  #drawHistory({ statuses, next_cursor: more }, at) {
    const rows = statuses.filter((row) => at === null || instant(row.created_at) <= at);
    const items = rows.map((row) => {
      const { state, word } = meaningOf(row.status);
      return entry({ state, glyph: GLYPHS[state], words: [text(word)], at: instant(row.created_at), precise: true });
    });
    if (more) items.push(note(`The newest ${ROWS}. The export has all.`));
    this.#parts.history.replaceChildren(...(items.length ? items : [note("It has reported nothing yet.")]));
  }

  #drawTrail(tags, at) {
    const deeds = tags.flatMap(deedsOf).filter((deed) => at === null || deed.at <= at);
    deeds.sort((one, other) => other.at - one.at || other.order - one.order);
    const items = deeds.map(({ tag, added, by, at: moment }) => {
      const words = [chipOf(tag), text(` ${added ? "by" : "removed by"} ${personOf(by)}`)];
      const remark = added ? noteOf(tag.tag_metadata) : null;
      return entry({ state: added ? "completed" : "failed", glyph: added ? "+" : "−", words, at: moment, remark });
    });
    this.#parts.trail.replaceChildren(...(items.length ? items : [note("Nobody has tagged it yet.")]));
  }

  #drawAttempts({ task_executions: attempts, next_cursor: more }) {
    this.#parts.attemptsSection.hidden = attempts.length === 0;
    const known = new Map([...this.#parts.attempts.querySelectorAll("details")].map((item) => [item.id, item]));
    const items = attempts.map((attempt, index) => {
      const before = known.get(idOf(attempt));
      const said = JSON.stringify(attempt);
      if (before?.said === said) return before; // whoever reads in it is not disturbed
      const item = Object.assign(attemptOf(attempt), { said });
      item.open = before ? before.open : index === 0;
      return item;
    });
    arrange(this.#parts.attempts, more ? [...items, note(`The newest ${ATTEMPTS}.`)] : items);
  }

  /** What a service set for the task as a whole; where attempts tell, their own documents are above. */
  #drawDocuments(output, hasAttempts) {
    const documents = output ? [["Summary", output.summary], ...(hasAttempts ? [] : [["Output", output.output], ["Error", output.error]])] : [];
    const shown = documents.filter(([, value]) => value !== null);
    this.#parts.documents.hidden = shown.length === 0;
    const said = JSON.stringify(shown);
    if (this.#parts.documents.said === said) return;
    this.#parts.documents.said = said;
    this.#parts.documents.replaceChildren(...shown.flatMap(([title, value]) => documentOf(title, value)));
  }
}

function deedsOf(tag, order) {
  const deeds = [{ tag, added: true, by: tag.created_by, at: instant(tag.created_at), order }];
  if (tag.status !== "active") deeds.push({ tag, added: false, by: tag.modified_by, at: instant(tag.updated_at), order });
  return deeds;
}

function noteOf(metadata) {
  if (metadata === null) return null;
  return typeof metadata?.note === "string" && Object.keys(metadata).length === 1 ? metadata.note : JSON.stringify(metadata);
}

function entry({ state, glyph, words, at, precise = false, remark = null }) {
  const item = document.createElement("li");
  item.dataset.state = state;
  const sign = Object.assign(document.createElement("span"), { className: "glyph", textContent: glyph });
  sign.ariaHidden = "true";
  const said = document.createElement("span");
  said.className = "said";
  said.append(...words);
  if (remark !== null) said.append(Object.assign(document.createElement("q"), { textContent: remark, dir: "auto" }));
  const time = document.createElement("time");
  drawTime(time, at);
  if (precise) time.textContent = preciseTime(at);
  item.append(sign, said, time);
  return item;
}

function idOf(attempt) {
  return `attempt-${attempt.task_execution_idx}`;
}

function attemptOf(attempt) {
  const details = document.createElement("details");
  details.id = idOf(attempt);
  const { state, word } = meaningOf(attempt.processing_status);
  details.dataset.state = state;
  const summary = document.createElement("summary");
  const [began, ended] = [instant(attempt.started_at), instant(attempt.completed_at)];
  const facts = [
    began !== null && ended !== null ? duration(ended - began) : "",
    attempt.edited_status === "not_edited" ? "" : "edited",
    attempt.stale_status === "stale" ? "stale" : "",
    `by ${personOf(attempt.modified_by)}`,
  ];
  const glyph = Object.assign(document.createElement("span"), { className: "glyph", textContent: GLYPHS[state] });
  glyph.ariaHidden = "true";
  summary.append(glyph, text(` Attempt ${attempt.task_execution_idx + 1}: ${word}, ${facts.filter(Boolean).join(", ")}`));
  const documents = [["Input", attempt.input], ["Output", attempt.output], ["Error", attempt.error]];
  const shown = documents.filter(([, value]) => value !== null);
  details.append(summary, ...(shown.length ? shown.flatMap(([title, value]) => documentOf(title, value)) : [note("No input, output or error.")]));
  return details;
}

function documentOf(title, value) {
  const heading = Object.assign(document.createElement("h4"), { textContent: title });
  const whole = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  const cut = whole.length > LONGEST ? `${whole.slice(0, LONGEST)}\n… (${whole.length - LONGEST} more characters: ask the API)` : whole;
  const block = Object.assign(document.createElement("pre"), { textContent: cut, tabIndex: 0, dir: "auto" });
  block.setAttribute("role", "region");
  block.setAttribute("aria-label", title);
  return [heading, block];
}

function note(words) {
  return Object.assign(document.createElement("li"), { className: "quiet", textContent: words });
}

function text(words) {
  return document.createTextNode(words);
}
