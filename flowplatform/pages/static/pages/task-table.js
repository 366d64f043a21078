/**
 * The tasks of a run as a grid: a row per task, made once and updated in place. Rows are moved through with the arrow
 * keys, selected with Space, and opened with Enter.
 */

import { setAttribute, setText, stamp } from "../flowplatform/dom.js";
import { drawName } from "../flowplatform/widgets.js";
import { duration, elapsed } from "../flowplatform/format.js";
import { GLYPHS } from "../flowplatform/states.js";
import { segments } from "./segments.js";
import { drawTags } from "./tag-chips.js";

const CHUNK = 50; // rows that the browser lays out and paints together, or not at all while they are out of sight
const CALM = 12; // running bars that are animated; with more of them it would cost more than all the rest
const MOVING = new Set(["running", "awaiting"]);
const BEFORE = new Set(["queued", "unreported"]);
const TICKS = 3; // between which the axis is named

/**
 * @typedef {object} Listener
 * @property {(name: string) => void} open a row was opened
 * @property {(name: string) => void} moved the focus is on another row
 * @property {(names: Set<string>) => void} selected the selection changed
 */

export class TaskTable {
  /** Names of the selected tasks. */
  selected = new Set();
  /** Whether there is anything to measure time from. */
  hasAxis = false;

  #root;
  #plan;
  #listener;
  #rows = new Map(); // task name -> the parts of its row
  #order = []; // names of the rows that are shown
  #model = null;
  #origin = 0; // bars count seconds from here, so that their numbers stay small and never change
  #current = null; // name of the row that the Tab key reaches
  #anchor = null; // name of the row where a selection by Shift began

  /**
   * @param {HTMLTableElement} root
   * @param {Plan} plan
   * @param {Listener} listener
   */
  constructor(root, plan, listener) {
    this.#root = root;
    this.#plan = plan;
    this.#listener = listener;
    for (const name of plan.names) this.#rows.set(name, this.#makeRow(name));
    root.append(...chunks([...this.#rows.values()].map(({ root: row }) => row)).map(makeChunk));
    this.#order = plan.names;
    this.#setCurrent(this.#order[0] ?? null);
    root.addEventListener("keydown", (event) => this.#keyed(event));
    root.addEventListener("click", (event) => this.#clicked(event));
    root.addEventListener("focusin", (event) => this.#focused(event.target.closest("tr[data-name]")));
  }

  /** Draw all tasks of a model. */
  show(model, now) {
    this.#model = model;
    this.#origin = Date.parse(model.execution.created_at);
    for (const task of model.tasks.values()) this.draw(task, now);
    this.drawAxis(now);
  }

  /** Draw what is known of a task. */
  draw(task, now) {
    const row = this.#rows.get(task.name);
    if (!row) return;
    const { state, word } = task.meaning;
    setAttribute(row.root, "data-state", state);
    setText(row.glyph, GLYPHS[state]);
    setText(row.word, wordsOf(task, word));
    setAttribute(row.word, "title", state === "other" ? word : null);
    drawTags(row.tags, task);
    this.#drawBars(row, task);
    this.#drawTook(row, task, now);
  }

  /** Move what moves with the clock: the axis, open bars with it, and the time of running tasks. */
  tick(now) {
    this.drawAxis(now);
    for (const [name, row] of this.#rows) {
      const task = this.#model.tasks.get(name);
      if (task && MOVING.has(task.meaning.state)) this.#drawTook(row, task, now);
    }
  }

  /**
   * One length for all bars: from the first report to the last one, or to now. CSS scales each bar by it, which makes
   * the browser look at every row: once a second is enough while the run moves.
   */
  drawAxis(now) {
    const end = this.#model.endAt(now);
    const from = this.#model.startedAt ?? end;
    this.hasAxis = this.#model.startedAt !== null;
    const took = Math.max(end - from, 1);
    this.#root.toggleAttribute("data-calm", (this.#model.counts.running ?? 0) <= CALM && this.#model.at === null);
    const { style } = this.#root;
    style.setProperty("--from", this.#seconds(from));
    style.setProperty("--now", this.#seconds(from + took));
    style.setProperty("--span", took / 1000);
    this.#root.querySelectorAll("[data-part=axis] span").forEach((tick, index) => {
      setText(tick, this.#model.startedAt === null ? "" : index ? duration((took * index) / TICKS) : "0 s");
    });
  }

  /**
   * Show only some rows.
   * @param {(task: Task) => boolean} wanted
   * @returns {number} how many
   */
  filter(wanted) {
    const focused = this.current;
    const place = this.#order.indexOf(focused);
    this.#order = [];
    for (const [name, row] of this.#rows) {
      row.root.hidden = !wanted(this.#model.task(name));
      if (!row.root.hidden) this.#order.push(name);
    }
    for (const body of this.#root.tBodies) {
      body.style.setProperty("--rows", [...body.rows].filter((row) => !row.hidden).length);
    }
    this.#select([...this.selected].filter((name) => !this.#rows.get(name).root.hidden));
    if (!this.#order.includes(this.#anchor)) this.#anchor = null;
    if (!this.#order.includes(this.#current)) this.#setCurrent(this.#order[Math.min(Math.max(place, 0), this.#order.length - 1)] ?? null);
    if (focused !== null && focused !== this.#current) this.focus();
    return this.#order.length;
  }

  /** The task that keys are meant for: the one with the focus. */
  get current() {
    return this.#root.contains(document.activeElement) ? this.#current : null;
  }

  focus(name = this.#current) {
    const row = this.#rows.get(name);
    if (!row || row.root.hidden) return;
    row.root.focus({ preventScroll: true });
    row.root.scrollIntoView({ block: "nearest" });
  }

  /** Mark the task whose panel is open. */
  mark(open) {
    for (const [name, { root }] of this.#rows) root.toggleAttribute("data-open", name === open);
    if (open !== null && this.#order.includes(open)) this.#setCurrent(open);
  }

  /** Take tasks out of the selection, or all of them. */
  deselect(names = this.selected) {
    const gone = new Set(names);
    this.#select([...this.selected].filter((name) => !gone.has(name)));
  }

  // --- Keys and clicks ---

  #keyed(event) {
    const { key, shiftKey } = event;
    if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "a") this.#select(this.#order);
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (key === " ") this.#toggle(this.#current);
    else if (key === "Enter") this.#listener.open(this.#current);
    else if (!this.#step(key, shiftKey)) return;
    event.preventDefault();
  }

  #step(key, extends_) {
    const last = this.#order.length - 1;
    const index = this.#order.indexOf(this.#current);
    const page = Math.max(1, Math.floor(innerHeight / 60));
    const places = {
      ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: last, PageDown: index + page, PageUp: index - page,
    };
    if (!(key in places) || last < 0) return false;
    const place = Math.min(Math.max(places[key], 0), last);
    if (extends_) this.#extend(this.#order[place]);
    else this.#anchor = this.#order[place];
    this.focus(this.#order[place]);
    return true;
  }

  #extend(name) {
    const anchor = Math.max(0, this.#order.indexOf(this.#anchor ?? this.#current));
    const place = this.#order.indexOf(name);
    this.#select(this.#order.slice(Math.min(anchor, place), Math.max(anchor, place) + 1));
  }

  #clicked(event) {
    const row = event.target.closest("tr[data-name]");
    if (!row) return;
    const { name } = row.dataset;
    if (event.target.closest(".pick")) {
      if (event.shiftKey) this.#extend(name);
      else this.#toggle(name);
      this.focus(name);
    } else {
      this.focus(name);
      this.#listener.open(name);
    }
  }

  #focused(row) {
    if (!row || row.dataset.name === this.#current) return;
    this.#setCurrent(row.dataset.name);
    this.#listener.moved(row.dataset.name);
  }

  #setCurrent(name) {
    if (this.#current !== null) setAttribute(this.#rows.get(this.#current).root, "tabindex", "-1");
    this.#current = name;
    if (name !== null) setAttribute(this.#rows.get(name).root, "tabindex", "0");
  }

  #toggle(name) {
    this.#anchor = name;
    const names = new Set(this.selected);
    if (!names.delete(name)) names.add(name);
    this.#select(names);
  }

  #select(names) {
    const before = this.selected;
    this.selected = new Set(names);
    for (const name of new Set([...before, ...this.selected])) {
      const { root, pick } = this.#rows.get(name);
      setAttribute(root, "aria-selected", String(this.selected.has(name)));
      if (pick) pick.checked = this.selected.has(name);
    }
    this.#listener.selected(this.selected);
  }

  // --- A row ---

  #makeRow(name) {
    const row = stamp("task-row");
    row.root.dataset.name = name;
    drawName(row.name, this.#plan.labelOf(name), this.#plan.describe(name));
    row.pick?.setAttribute("aria-label", `Select ${this.#plan.labelOf(name)}`);
    return row;
  }

  #drawBars(row, task) {
    const bars = segments(task.steps);
    while (row.bars.childElementCount > bars.length) row.bars.lastElementChild.remove();
    while (row.bars.childElementCount < bars.length) {
      row.bars.append(Object.assign(document.createElement("span"), { className: "bar-of-task" }));
    }
    bars.forEach(({ state, from, to }, index) => {
      const bar = row.bars.children[index];
      setAttribute(bar, "data-state", state);
      bar.toggleAttribute("data-open", to === null);
      bar.style.setProperty("--start", this.#seconds(from));
      bar.style.setProperty("--end", to === null ? "var(--now)" : this.#seconds(to));
    });
  }

  #drawTook(row, task, now) {
    const { state } = task.meaning;
    const begin = task.startedAt;
    const isMoving = MOVING.has(state);
    const end = isMoving ? this.#model.endAt(now) : task.at;
    const took = begin === null || BEFORE.has(state) ? "" : isMoving ? elapsed(end - begin) : duration(end - begin);
    const attempt = task.attempts > 1 ? `attempt ${task.attempts}` : "";
    setText(row.took, [took, attempt].filter(Boolean).join(", "));
  }

  #seconds(milliseconds) {
    return ((milliseconds - this.#origin) / 1000).toFixed(3);
  }
}

function wordsOf(task, word) {
  return [word, task.isEdited ? "edited" : "", task.isStale ? "stale" : ""].filter(Boolean).join(", ");
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
