/** Everything that happened in a run, newest first: statuses and tags, by whom and when. */

import { get, persist } from "../flowplatform/api.js";
import { drawName, drawTime } from "../flowplatform/widgets.js";
import { instant, preciseTime } from "../flowplatform/format.js";
import { GLYPHS, meaningOf } from "../flowplatform/states.js";
import { stamp } from "../flowplatform/dom.js";
import { personOf } from "./decisions.js";
import { chipOf } from "./tag-chips.js";

const ROWS = 100;
const MOST = 1000; // that stay while new ones come; older ones are asked for again

export class HistoryList {
  #root;
  #older;
  #plan;
  #executionId;
  #failed;
  #known = new Set(); // keys of the rows that are there
  #cursor = null;
  #trail = []; // deeds of tags that are older than the oldest row
  #begun = false;
  #isForgotten = false; // rows went out at the end: going on means beginning again
  #until = null; // what came later is hidden; null for now

  /**
   * @param {HTMLElement} root with the list and the button for older rows
   * @param {Plan} plan
   * @param {string} executionId
   * @param {(error: Error) => void} failed
   */
  constructor(root, plan, executionId, failed) {
    this.#root = root.querySelector("[data-part=list]");
    this.#older = root.querySelector("[data-part=older]");
    this.#plan = plan;
    this.#executionId = executionId;
    this.#failed = failed;
    this.#older.addEventListener("click", () => (this.#isForgotten ? this.restart() : this.#load()));
  }

  /** Load the newest rows, the first time that the list is looked at. */
  async begin() {
    if (this.#begun) return;
    this.#begun = true;
    await this.restart();
  }

  /** What is known may have a gap: begin again. */
  async restart() {
    if (!this.#begun) return;
    this.#known.clear();
    this.#cursor = null;
    this.#isForgotten = false;
    this.#root.replaceChildren();
    try {
      const tags = await persist(() => get("/api/task-tags", { flow_execution_id: this.#executionId, include_deleted: true }));
      this.#trail = tags.flatMap(deedsOf).sort((one, other) => other.at - one.at);
      await this.#load();
      await this.until(this.#until);
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Show only what had happened by a moment; null for everything. */
  async until(at) {
    this.#until = at;
    for (const row of this.#root.children) row.hidden = this.#isLater(Number(row.dataset.at));
    while (this.#begun && at === this.#until && this.#isAllLater && this.#cursor) await this.#load();
  }

  get #isAllLater() {
    return this.#until !== null && this.#root.lastElementChild?.hidden === true;
  }

  /** Put what an event says on top. */
  apply({ type, flow_execution_id: id, data }) {
    if (!this.#begun) return;
    if (type === "task_status.added" && id === this.#executionId) this.#add(data.statuses.map(statusOf), true);
    if (type === "task_tags.changed") {
      const ours = data.tags.filter((tag) => tag.flow_execution_id === this.#executionId);
      this.#add(ours.map((tag) => deedsOf(tag).at(-1)), true);
    }
  }

  async #load() {
    this.#older.disabled = true;
    try {
      const { statuses, next_cursor: next } = await persist(() =>
        get(`/api/flow-executions/${this.#executionId}/task-status`, { limit: ROWS, cursor: this.#cursor }));
      const rows = statuses.map(statusOf);
      const end = next ? rows.at(-1).at : -Infinity;
      const tagged = this.#trail.filter(({ at }) => at >= end);
      this.#trail = this.#trail.filter(({ at }) => at < end);
      this.#add([...rows, ...tagged].sort((one, other) => other.at - one.at), false);
      this.#cursor = next;
      this.#older.hidden = !next;
    } catch (error) {
      this.#failed(error);
    }
    this.#older.disabled = false;
  }

  #add(rows, onTop) {
    for (const row of rows) {
      if (this.#known.has(row.key)) continue;
      this.#known.add(row.key);
      if (onTop) this.#root.prepend(this.#draw(row));
      else this.#root.append(this.#draw(row));
    }
    if (onTop) this.#forget();
  }

  /** A page that is left open for days does not grow for days. */
  #forget() {
    while (this.#root.childElementCount > MOST) {
      this.#known.delete(this.#root.lastElementChild.dataset.key);
      this.#root.lastElementChild.remove();
      this.#isForgotten = true;
    }
    this.#older.hidden &&= !this.#isForgotten;
  }

  #isLater(at) {
    return this.#until !== null && at > this.#until;
  }

  #draw({ key, state, glyph, words, name, at }) {
    const row = stamp("history-row");
    Object.assign(row.root.dataset, { key, state, at });
    row.root.hidden = this.#isLater(at);
    row.glyph.textContent = glyph;
    row.words.append(...words());
    row.link.href = `?task=${encodeURIComponent(name)}`;
    row.link.dataset.task = name;
    drawName(row.name, this.#plan.labelOf(name), this.#plan.describe(name));
    drawTime(row.time, at);
    row.time.textContent = preciseTime(at);
    return row.root;
  }
}

function statusOf(row) {
  const { state, word } = meaningOf(row.status);
  return { key: row.id, state, glyph: GLYPHS[state], words: () => [word], name: row.task_name, at: instant(row.created_at) };
}

function deedsOf(tag) {
  const made = (kind, state, glyph, verb, by, at) => ({
    key: `${kind} ${tag.id}`, state, glyph, words: () => [chipOf(tag), ` ${verb} ${personOf(by)}`], name: tag.task_name, at: instant(at),
  });
  const deeds = [made("add", "completed", "+", "by", tag.created_by, tag.created_at)];
  if (tag.status !== "active") deeds.push(made("remove", "failed", "−", "removed by", tag.modified_by, tag.updated_at));
  return deeds;
}
