/** A graph too large to draw, as a list of its levels: each waits only for those above it. */

import { GLYPHS } from "../flowplatform/states.js";
import { drawCounts, drawName } from "../flowplatform/widgets.js";
import { setAttribute, setText } from "../flowplatform/dom.js";

const LEVELS = 100; // levels, and tasks of one, that are listed at a time
const TASKS = 200;

export class LevelList {
  #root;
  #graph = null;
  #levels = []; // {tasks, list, counts}
  #levelOf = [];
  #buttons = new Map(); // by number of the task, of those that are listed
  #selected = null;
  #stateOf;
  #open;

  constructor(root, { open, stateOf }) {
    this.#root = root;
    this.#open = open;
    this.#stateOf = stateOf;
  }

  /** @param {import("./graph-tasks.js").TaskGraph} graph @param {number[]} layers of its tasks */
  show(graph, layers) {
    this.#graph = graph;
    this.#levelOf = layers;
    this.#levels = [];
    this.#buttons.clear();
    layers.forEach((layer, index) => {
      this.#levels[layer] ??= { tasks: [], counts: null };
      this.#levels[layer].tasks.push(index);
    });
    const size = `${counted(graph.size, "task")} with ${counted(graph.edgeCount, "dependency", "dependencies")}`;
    const note = make("p", "quiet graph-levels-note", `${size} are too many for a drawing that helps. `
      + "Here the tasks are by level: each waits only for levels above it.");
    const list = make("ol", "graph-levels");
    this.#root.replaceChildren(note, list);
    listMore(list, this.#levels, LEVELS, (level, number) => this.#makeLevel(level, number), "levels");
  }

  /** Draw what the states of these tasks have become. */
  change(indices) {
    for (const index of indices) if (this.#buttons.has(index)) this.#paint(index);
    for (const number of new Set([...indices].map((index) => this.#levelOf[index]))) this.#count(this.#levels[number]);
  }

  select(index) {
    const before = this.#selected;
    this.#selected = index;
    for (const each of [before, index]) if (this.#buttons.has(each)) this.#paint(each);
  }

  #makeLevel(level, number) {
    const item = make("li", "");
    const details = make("details", "");
    const summary = make("summary", "");
    level.counts = make("ul", "counts");
    summary.append(
      make("span", "graph-level-name", `Level ${number + 1}`),
      make("span", "quiet", counted(level.tasks.length, "task")),
      level.counts,
    );
    this.#count(level);
    const list = make("ul", "graph-level-tasks");
    details.addEventListener("toggle", () => {
      if (!list.firstChild) listMore(list, level.tasks, TASKS, (index) => this.#makeTask(index), "tasks");
    }, { once: true });
    details.append(summary, list);
    item.append(details);
    return item;
  }

  #makeTask(index) {
    const item = make("li", "");
    const button = make("button", "plain graph-level-task");
    const [glyph, name] = [make("span", "glyph"), make("span", "name")];
    button.type = "button";
    glyph.ariaHidden = "true";
    name.append(make("span", ""), make("span", ""));
    name.dir = "auto";
    button.append(glyph, name);
    button.addEventListener("click", () => this.#open(index));
    drawName(name, this.#graph.labelOf(index), this.#graph.describe(index));
    this.#buttons.set(index, button);
    this.#paint(index);
    item.append(button);
    return item;
  }

  #paint(index) {
    const button = this.#buttons.get(index);
    const meaning = this.#stateOf(index);
    setAttribute(button, "data-state", meaning?.state ?? null);
    setAttribute(button, "aria-label", this.#graph.say(index, meaning?.word));
    setAttribute(button, "aria-current", index === this.#selected ? "true" : null);
    setText(button.firstElementChild, meaning ? GLYPHS[meaning.state] : "");
  }

  #count({ tasks, counts }) {
    if (!counts || !this.#stateOf(tasks[0])) return; // not listed yet, or nobody knows states
    const byState = {};
    for (const index of tasks) {
      const { state } = this.#stateOf(index);
      byState[state] = (byState[state] ?? 0) + 1;
    }
    drawCounts(counts, byState);
  }
}

/** Fill a list with its first items, and let a button at its end add more. */
function listMore(list, items, count, draw, noun, from = 0) {
  const until = Math.min(items.length, from + count);
  list.append(...items.slice(from, until).map((item, order) => draw(item, from + order)));
  if (until === items.length) return;
  const more = make("li", "");
  const button = make("button", "", `Show more (${(items.length - until).toLocaleString("en")} ${noun})`);
  button.type = "button";
  button.addEventListener("click", () => {
    listMore(list, items, count, draw, noun, until);
    const next = more.nextElementSibling;
    more.remove();
    next.querySelector("summary, button").focus();
  });
  more.append(button);
  list.append(more);
}

function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

function make(tag, className, text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}
