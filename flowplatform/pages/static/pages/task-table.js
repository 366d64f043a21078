/** The tasks of one run: a dense table with a row per task, made once and updated in place. */

import { setAttribute, setText, stamp } from "../flowplatform/dom.js";
import { drawName, drawTime } from "../flowplatform/widgets.js";
import { tookText } from "./run-list.js";
import { duration, elapsed } from "../flowplatform/format.js";
import { GLYPHS, meaningOf } from "../flowplatform/states.js";

const CHUNK = 50; // rows that the browser lays out and paints together, or not at all while they are out of sight
const CALM = 12; // running bars that are animated; with more of them it would cost more than all the rest
const MOVING = new Set(["running", "awaiting"]);
const BEFORE = new Set(["queued", "unreported"]);

export class TaskTable {
  #root;
  #run = null;
  #plan = null;
  #rows = new Map(); // task name -> the parts of its row
  #origin = 0; // bars count seconds from here, so that their numbers stay small and never change

  constructor(root) {
    this.#root = root;
  }

  /** Show the tasks of a run. Rows are made anew only for another run or other tasks. */
  show(run, now) {
    const hasItsRows = run.plan ? run.plan === this.#plan : run.tasks.size === this.#rows.size;
    if (run === this.#run && hasItsRows) return;
    [this.#run, this.#plan, this.#origin] = [run, run.plan, run.createdAt];
    const names = run.taskNames;
    this.#rows = new Map(names.map((name) => [name, this.#makeRow(name)]));
    for (const body of [...this.#root.tBodies]) body.remove();
    this.#root.append(...chunks([...this.#rows.values()].map(({ root }) => root)).map(makeChunk));
    for (const name of names) this.draw(name, now);
    this.drawAxis(now);
  }

  /** Draw what is known of a task. */
  draw(name, now) {
    const row = this.#rows.get(name);
    if (!row) return;
    const task = this.#run.tasks.get(name) ?? null;
    const { state, word } = meaningOf(task?.status ?? null);
    setAttribute(row.root, "data-state", state);
    setText(row.glyph, GLYPHS[state]);
    setText(row.word, word);
    setAttribute(row.word, "title", state === "other" ? word : null);
    drawTime(row.changed, task?.at ?? null);
    this.#drawBar(row, task, state);
    this.#drawTook(row, task, state, now);
  }

  /** Go to the next task in a state, after the one that has the focus; from the last one on to the first. */
  goTo(state) {
    const rows = [...this.#rows.values()].map(({ root }) => root);
    const inState = rows.filter((root) => root.dataset.state === state);
    const from = rows.indexOf(document.activeElement);
    const next = inState.find((root) => rows.indexOf(root) > from) ?? inState[0];
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "center" });
  }

  /** Move what moves with the clock: the axis, open bars with it, and the time of running tasks. */
  tick(now) {
    this.drawAxis(now);
    for (const [name, row] of this.#rows) {
      if (MOVING.has(row.root.dataset.state)) this.#drawTook(row, this.#run.tasks.get(name), row.root.dataset.state, now);
    }
  }

  /** One length for all bars: from the first report to the last one, or to now. CSS scales each bar by it. */
  drawAxis(now) {
    const from = this.#run.startedAt ?? now;
    const took = Math.max(this.#run.tookAt(now) ?? 0, 1);
    this.#root.toggleAttribute("data-calm", (this.#run.reported.running ?? 0) <= CALM);
    const { style } = this.#root;
    style.setProperty("--from", this.#seconds(from));
    style.setProperty("--now", this.#seconds(from + took));
    style.setProperty("--span", took / 1000);
    setText(this.#root.querySelector("[data-part=axisEnd]"), tookText(this.#run, now));
  }

  #makeRow(name) {
    const row = stamp("task-row");
    drawName(row.name, this.#run.plan?.labelOf(name) ?? name, this.#run.plan?.describe(name));
    return row;
  }

  #drawBar(row, task, state) {
    const begin = this.#startOf(task);
    row.bar.hidden = begin === null || BEFORE.has(state);
    if (row.bar.hidden) return;
    row.bar.style.setProperty("--start", this.#seconds(begin));
    row.bar.style.setProperty("--end", MOVING.has(state) ? "var(--now)" : this.#seconds(task.at));
  }

  #drawTook(row, task, state, now) {
    const { attempts } = this.#run.history?.of(task?.name) ?? {};
    const begin = this.#startOf(task);
    const took = begin === null || BEFORE.has(state) ? "" : MOVING.has(state) ? elapsed(now - begin) : duration(task.at - begin);
    const attempt = attempts > 1 ? `attempt ${attempts}` : "";
    setText(row.took, [took, attempt].filter(Boolean).join(", "));
  }

  /** When a task first ran, as far as the history is known. */
  #startOf(task) {
    return task && (this.#run.history?.of(task.name).startedAt ?? null);
  }

  #seconds(milliseconds) {
    return ((milliseconds - this.#origin) / 1000).toFixed(3);
  }
}

function chunks(rows) {
  return Array.from({ length: Math.ceil(rows.length / CHUNK) }, (_, index) => rows.slice(index * CHUNK, (index + 1) * CHUNK));
}

function makeChunk(rows) {
  const body = document.createElement("tbody");
  body.setAttribute("role", "rowgroup");
  body.style.setProperty("--rows", rows.length);
  body.append(...rows);
  return body;
}
