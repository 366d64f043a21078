/** The dependency graph of a flow, coloured by the state of its tasks where there is an execution to show. */

import { meaningOf } from "../flowplatform/states.js";
import { GraphDrawing } from "./graph-drawing.js";
import { layersOf } from "./graph-layers.js";
import { LevelList } from "./graph-levels.js";
import { place } from "./graph-placing.js";
import { TaskGraph } from "./graph-tasks.js";

const MOST_TASKS = 3000; // more tasks or edges than this are a carpet, not a picture
const MOST_EDGES = 12_000;
const NARROW = 560; // CSS pixels: below that time runs down instead of right,
const ABREAST = 4; // unless more tasks than this stand side by side: a long way down is easier than one to the side
const CALM = 12; // at most so many tasks may move at once

export class FlowGraph {
  #root;
  #scroller = document.createElement("div");
  #tools = document.createElement("div");
  #note = document.createElement("p");
  #list = document.createElement("div");
  #drawing;
  #levels;
  #graph = null;
  #shown = ""; // the tasks that the graph is made of, as JSON
  #states = null; // by name; null where there is no execution
  #selected = null;
  #isNarrow = false;
  #isLate = false; // something is to be placed as soon as there is room
  #resizes;
  #work = new AbortController();

  /**
   * @param {HTMLElement} root an empty element; while it is hidden nothing is placed
   * @param {{open: (name: string) => void}} page what to do with the task that somebody picks
   */
  constructor(root, { open }) {
    const page = {
      open: (index) => open(this.#graph.names[index]),
      stateOf: (index) => this.#states && (this.#states.get(this.#graph.names[index]) ?? meaningOf(null)),
    };
    this.#root = root;
    this.#scroller.className = "graph-scroll";
    this.#note.className = "quiet graph-note";
    this.#drawing = new GraphDrawing(this.#scroller, page);
    this.#levels = new LevelList(this.#list, page);
    this.#makeTools();
    root.classList.add("graph");
    root.append(this.#tools, this.#note, this.#scroller, this.#list);
    root.addEventListener("keydown", (event) => this.#onKey(event));
    this.#switchTo("note", "");
    this.#resizes = new ResizeObserver(([{ contentRect }]) => this.#onResize(contentRect.width));
    this.#resizes.observe(root);
  }

  /** @param {{name: string, title?: string, depends_on?: string[]}[]} tasks of a flow definition */
  show(tasks) {
    const shown = JSON.stringify(tasks.map(({ name, title, depends_on: before }) => [name, title, before]));
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#graph = new TaskGraph(tasks);
    this.#arrange();
  }

  /**
   * Show what each task does now; one that is not named has not started. Only what changed is drawn.
   * @param {Map<string, {state: string, word: string}>} states by name of the task
   */
  setStates(states) {
    const before = this.#states;
    this.#states = new Map(states);
    this.#root.toggleAttribute("data-calm", isCalm(states));
    if (!this.#graph) return;
    const changed = [];
    this.#graph.names.forEach((name, index) => {
      if (!before || !isSame(before.get(name), states.get(name))) changed.push(index);
    });
    if (changed.length) this.#view?.change(changed);
  }

  /** Mark a task, and bring it into view; null marks none. */
  select(name) {
    if (name === this.#selected) return;
    this.#selected = name;
    this.#view?.select(this.#number);
  }

  get #number() {
    return this.#graph?.numberOf(this.#selected) ?? null;
  }

  /** What shows the graph now: the drawing, the list of levels, or nothing yet. */
  get #view() {
    return { drawing: this.#drawing, levels: this.#levels }[this.#root.dataset.view];
  }

  async #arrange() {
    this.#work.abort();
    const work = this.#work = new AbortController();
    const graph = this.#graph;
    this.#isLate = !this.#root.clientWidth;
    if (this.#isLate) {
      this.#resizes.unobserve(this.#root); // or a root that shows again before the next frame would not be told of
      this.#resizes.observe(this.#root);
    }
    if (!graph || this.#isLate) return;
    this.#isNarrow = this.#root.clientWidth < NARROW;
    if (!graph.size) return this.#switchTo("note", "This flow has no tasks.");
    if (graph.size > MOST_TASKS || graph.edgeCount > MOST_EDGES) return this.#showLevels();
    if (!this.#view) this.#switchTo("note", `Arranging ${graph.size} tasks…`);
    const placing = await place(graph, this.#isNarrow && isSlim(graph) ? "down" : "right", work.signal);
    if (work.signal.aborted) return;
    this.#switchTo("drawing");
    this.#drawing.show(graph, placing, this.#number);
  }

  #showLevels() {
    this.#switchTo("levels");
    this.#levels.show(this.#graph, layersOf(this.#graph));
    this.#levels.select(this.#number);
  }

  #switchTo(view, note = "") {
    this.#root.dataset.view = view;
    this.#note.textContent = note;
    this.#note.hidden = view !== "note";
    this.#tools.hidden = this.#scroller.hidden = view !== "drawing";
    this.#list.hidden = view !== "levels";
  }

  #onResize(width) {
    if (!width) return; // hidden
    const isTurned = (width < NARROW) !== this.#isNarrow && this.#view !== this.#levels;
    if (this.#isLate || isTurned) this.#arrange();
    else this.#drawing.refresh();
  }

  #makeTools() {
    const hint = Object.assign(document.createElement("span"), {
      className: "quiet graph-hint", textContent: "Arrow keys follow the dependencies, Enter opens a task.",
    });
    this.#tools.className = "graph-tools";
    this.#tools.setAttribute("role", "group");
    this.#tools.setAttribute("aria-label", "Zoom");
    this.#tools.append(
      hint,
      makeButton("−", "Zoom out (-)", () => this.#drawing.zoomOut()),
      makeButton("+", "Zoom in (+)", () => this.#drawing.zoomIn()),
      makeButton("Fit", "Fit the whole graph (0)", () => this.#drawing.fit()),
    );
  }

  #onKey(event) {
    const act = { "+": "zoomIn", "=": "zoomIn", "-": "zoomOut", 0: "fit" }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey || this.#view !== this.#drawing) return;
    event.preventDefault();
    this.#drawing[act]();
  }
}

function isSlim(graph) {
  const abreast = [];
  layersOf(graph).forEach((layer, index) => {
    if (!graph.isLoose(index)) abreast[layer] = (abreast[layer] ?? 0) + 1;
  });
  return abreast.every((count) => count <= ABREAST);
}

function makeButton(text, title, act) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: text, title });
  button.ariaLabel = title;
  button.addEventListener("click", act);
  return button;
}

function isSame(one, other) {
  return one?.state === other?.state && one?.word === other?.word;
}

function isCalm(states) {
  let running = 0;
  for (const { state } of states.values()) running += state === "running";
  return running > 0 && running <= CALM;
}
