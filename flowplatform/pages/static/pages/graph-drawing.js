/** A graph that has its places, as an SVG to scroll, zoom and walk through by keyboard. Only what is in view is there. */

import { letDrag } from "./graph-drag.js";
import { edgePath } from "./graph-edges.js";
import { SIZES } from "./graph-layers.js";
import { arrange, oncePerFrame, setAttribute, setText } from "../flowplatform/dom.js";
import { GLYPHS } from "../flowplatform/states.js";

const SVG = "http://www.w3.org/2000/svg";
const [SMALLEST, LARGEST, STEP] = [0.02, 2, 1.3]; // zoom
const [READABLE, USUAL, LEGIBLE] = [0.75, 0.9, 0.5]; // zoom: of what fits as a whole, of what does not, of names
const GLYPH_AT = 15;
const NAME_AT = [12, 28]; // without and with a glyph
const NAME_BEFORE_END = 8;
const AROUND = 300; // CSS pixels around the view that are drawn too, so that scrolling shows no gaps

export class GraphDrawing {
  #scroller;
  #svg = svg("svg", { class: "graph-drawing", role: "group" });
  #edges = svg("g", { class: "graph-edges" });
  #close = svg("path", { class: "graph-edges graph-close" }); // the edges of the current task
  #nodes = svg("g");
  #elements = new Map(); // by number of the task, of those that are drawn
  #graph = null;
  #placing = null;
  #size = null;
  #layers = new Map(); // by place along the direction: the tasks there, in their order across
  #zoom = 1;
  #current = 0;
  #selected = null;
  #stateOf;
  #open;
  #pen = document.createElement("canvas").getContext("2d"); // measures text

  /**
   * @param {HTMLElement} scroller shows a part of the drawing
   * @param {{open: (index: number) => void, stateOf: (index: number) => {state: string, word: string}|null}} page
   */
  constructor(scroller, { open, stateOf }) {
    this.#scroller = scroller;
    this.#open = open;
    this.#stateOf = stateOf;
    this.#edges.ariaHidden = this.#close.ariaHidden = "true";
    this.#svg.append(this.#edges, this.#close, this.#nodes);
    this.#svg.addEventListener("keydown", (event) => this.#onKey(event));
    this.#svg.addEventListener("click", (event) => this.#onClick(event));
    // Not on the SVG: Chromium takes one that listens to focus for a stop of the Tab key.
    scroller.addEventListener("focusin", (event) => this.#makeCurrent(numberOf(event)));
    scroller.addEventListener("scroll", oncePerFrame(() => this.refresh()), { passive: true });
    letDrag(scroller);
  }

  /**
   * @param {import("./graph-tasks.js").TaskGraph} graph
   * @param {import("./graph-placing.js").Placing} placing
   * @param {number|null} selected the marked task
   */
  show(graph, placing, selected) {
    const name = this.#graph?.names[this.#current];
    const hadFocus = this.#nodes.contains(document.activeElement);
    this.#graph = graph;
    this.#placing = placing;
    this.#size = SIZES[placing.direction];
    this.#layers = layersByPlace(placing);
    this.#current = selected ?? graph.numberOf(name) ?? this.#first();
    this.#selected = selected;
    for (const element of this.#elements.values()) element.remove();
    this.#elements.clear();
    this.#svg.setAttribute("viewBox", `0 0 ${placing.width} ${placing.height}`);
    this.#svg.setAttribute("aria-label", `Dependencies of ${graph.size} ${graph.size === 1 ? "task" : "tasks"}`);
    this.#pen.font = `550 13px ${getComputedStyle(this.#scroller).fontFamily}`;
    this.#drawEdges();
    this.#scroller.replaceChildren(this.#svg);
    this.#begin();
    if (hadFocus) this.#go(this.#current);
  }

  /** Draw what the states of these tasks have become. */
  change(indices) {
    for (const index of indices) if (this.#elements.has(index)) this.#paint(index);
  }

  /** Mark a task and bring it into view. */
  select(index) {
    const before = this.#selected;
    this.#selected = index;
    if (!this.#graph) return;
    if (index !== null) {
      this.#makeCurrent(index);
      this.#reveal(index);
    }
    for (const each of [before, index]) if (this.#elements.has(each)) this.#paint(each);
  }

  /** Draw what is in view now. */
  refresh() {
    if (!this.#graph) return;
    const wanted = this.#inView();
    for (const [index, element] of this.#elements) {
      if (wanted.has(index)) continue;
      element.remove();
      this.#elements.delete(index);
    }
    for (const index of wanted) if (!this.#elements.has(index)) this.#make(index);
    arrange(this.#nodes, [...wanted].sort((one, other) => one - other).map((index) => this.#elements.get(index)));
  }

  // --- Zoom ---

  zoomIn() {
    this.#zoomTo(this.#zoom * STEP);
  }

  zoomOut() {
    this.#zoomTo(this.#zoom / STEP);
  }

  fit() {
    this.#zoomTo(this.#fitting());
  }

  #fitting() {
    const { clientWidth, clientHeight } = this.#scroller;
    return Math.min(1, clientWidth / this.#placing.width, (clientHeight || Infinity) / this.#placing.height);
  }

  /** Show all of it if it can be read so, or else its beginning. */
  #begin() {
    const isRight = this.#placing.direction === "right";
    this.#zoom = 1;
    this.#resize(); // its height is up to the drawing
    this.#zoom = this.#fitting() < READABLE ? USUAL : this.#fitting();
    this.#resize();
    const { clientWidth, clientHeight } = this.#scroller;
    const [x, y] = this.#placing.nodes[this.#first()].map((place) => place * this.#zoom);
    this.#scroller.scrollLeft = isRight ? 0 : x - clientWidth / 2;
    this.#scroller.scrollTop = isRight ? y - clientHeight / 2 : 0;
    if (this.#selected !== null) this.#reveal(this.#selected);
    this.refresh();
    this.#drawClose();
  }

  /** The task where people begin to read: in the middle of those that wait for nobody. */
  #first() {
    const layer = this.#layers.values().next().value ?? this.#placing.loose;
    return layer[Math.floor((layer.length - 1) / 2)];
  }

  #zoomTo(zoom) {
    const next = Math.min(LARGEST, Math.max(SMALLEST, zoom));
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.#scroller;
    const middle = [(scrollLeft + clientWidth / 2) / this.#zoom, (scrollTop + clientHeight / 2) / this.#zoom];
    this.#zoom = next;
    this.#resize();
    this.#scroller.scrollLeft = middle[0] * next - clientWidth / 2;
    this.#scroller.scrollTop = middle[1] * next - clientHeight / 2;
    this.refresh();
  }

  #resize() {
    this.#svg.setAttribute("width", Math.ceil(this.#placing.width * this.#zoom));
    this.#svg.setAttribute("height", Math.ceil(this.#placing.height * this.#zoom));
    this.#svg.classList.toggle("graph-far", this.#isFar);
    for (const element of this.#elements.values()) this.#placeGlyph(element);
  }

  get #isFar() {
    return this.#zoom < LEGIBLE;
  }

  // --- Drawing ---

  #inView() {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.#scroller;
    const [width, height] = [this.#size.width / 2, this.#size.height / 2];
    const left = (scrollLeft - AROUND) / this.#zoom - width;
    const right = (scrollLeft + clientWidth + AROUND) / this.#zoom + width;
    const top = (scrollTop - AROUND) / this.#zoom - height;
    const bottom = (scrollTop + clientHeight + AROUND) / this.#zoom + height;
    const wanted = new Set([this.#current]); // it may have the focus
    this.#placing.nodes.forEach(([x, y], index) => {
      if (x > left && x < right && y > top && y < bottom) wanted.add(index);
    });
    return wanted;
  }

  #make(index) {
    const { width, height } = this.#size;
    const [x, y] = this.#placing.nodes[index];
    const element = svg("g", {
      class: "graph-node", role: "button", "data-index": index, transform: `translate(${x - width / 2} ${y - height / 2})`,
    });
    const title = svg("title");
    title.textContent = this.#graph.describe(index);
    const box = svg("rect", { width, height, rx: 7 });
    const glyph = svg("text", { class: "graph-glyph", y: height / 2 });
    const name = svg("text", { class: "graph-name", y: height / 2 });
    element.append(title, box, glyph, name);
    this.#elements.set(index, element);
    this.#paint(index);
  }

  /** Write a task's state and whether it is the one; what is right already is not touched. */
  #paint(index) {
    const element = this.#elements.get(index);
    const [, , glyph, name] = element.children;
    const meaning = this.#stateOf(index);
    setAttribute(element, "data-state", meaning?.state ?? null);
    setAttribute(element, "aria-label", this.#graph.say(index, meaning?.word));
    setAttribute(element, "aria-current", index === this.#selected ? "true" : null);
    setAttribute(element, "tabindex", index === this.#current ? "0" : "-1");
    setText(glyph, meaning ? GLYPHS[meaning.state] : "");
    const start = NAME_AT[meaning ? 1 : 0];
    if (name.getAttribute("x") === String(start)) return;
    name.setAttribute("x", start);
    name.textContent = this.#cut(this.#graph.labelOf(index), this.#size.width - start - NAME_BEFORE_END);
    this.#placeGlyph(element);
  }

  /** From far away only the glyph is there, in the middle. */
  #placeGlyph(element) {
    setAttribute(element.children[2], "x", String(this.#isFar ? this.#size.width / 2 : GLYPH_AT));
  }

  /** Cut a name in the middle until it fits. More of its end is kept, which tells it from the others. */
  #cut(name, room) {
    if (this.#pen.measureText(name).width <= room) return name;
    const characters = Array.from(new Intl.Segmenter().segment(name), ({ segment }) => segment); // never half an emoji
    const kept = (count) => {
      const start = Math.ceil(count / 3);
      return `${characters.slice(0, start).join("")}…${characters.slice(characters.length - count + start).join("")}`;
    };
    let [fits, tooMany] = [0, characters.length];
    while (tooMany - fits > 1) {
      const count = Math.floor((fits + tooMany) / 2);
      if (this.#pen.measureText(kept(count)).width <= room) fits = count;
      else tooMany = count;
    }
    return kept(fits);
  }

  /** Draw all edges, in one path per layer: thousands of elements would be slow, and one path is drawn anew as a whole. */
  #drawEdges() {
    this.#edges.replaceChildren(...[...this.#layers.values()].map((layer) => (
      svg("path", { d: layer.map((index) => this.#edgesInto(index)).join("") })
    )).filter((path) => path.getAttribute("d")));
  }

  #edgesInto(index) {
    return this.#graph.before[index].map((_, order) => this.#edge(index, order)).join("");
  }

  #edge(index, order) {
    const { nodes, bends, direction } = this.#placing;
    const from = nodes[this.#graph.before[index][order]];
    return edgePath([from, ...(bends[index][order] ?? []), nodes[index]], direction, this.#size);
  }

  /** Draw the edges of the current or selected task once more, to stand out. */
  #drawClose() {
    const index = this.#nodes.contains(document.activeElement) ? this.#current : this.#selected;
    if (index === null) return setAttribute(this.#close, "d", "");
    const out = this.#graph.after[index].map((other) => this.#edge(other, this.#graph.before[other].indexOf(index)));
    setAttribute(this.#close, "d", this.#edgesInto(index) + out.join(""));
  }

  // --- Pointer and keyboard ---

  #onClick(event) {
    const index = numberOf(event);
    if (index !== null) this.#open(index);
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    if (key === "Enter" || key === " ") this.#open(this.#current);
    else {
      const next = this.#nextFor(key);
      if (next === undefined) return;
      if (next !== null) this.#go(next);
    }
    event.preventDefault();
  }

  /** The task that a key leads to: null if there is none, undefined if the key means nothing here. */
  #nextFor(key) {
    if (key === "Home") return 0;
    if (key === "End") return this.#graph.size - 1;
    const keys = this.#placing.direction === "right"
      ? ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"] : ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"];
    const way = keys.indexOf(key);
    if (way < 0) return undefined;
    const order = this.#placing.loose.indexOf(this.#current);
    if (order >= 0) return this.#nextLoose(order, key);
    if (way < 2) return this.#nearest([this.#graph.before, this.#graph.after][way][this.#current]);
    const layer = this.#layers.get(placeAlong(this.#placing, this.#current));
    const next = layer[layer.indexOf(this.#current) + (way === 2 ? -1 : 1)];
    return next ?? (way === 3 ? this.#placing.loose[0] : null) ?? null;
  }

  /** Tasks without edges stand in rows, and the keys move through those. */
  #nextLoose(order, key) {
    const { loose, columns } = this.#placing;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    const isLeaving = order + step < 0 && loose.length < this.#graph.size;
    return loose[order + step] ?? (isLeaving ? this.#layers.values().next().value.at(-1) : null);
  }

  #nearest(indices) {
    const { nodes } = this.#placing;
    const [x, y] = nodes[this.#current];
    const distance = (index) => Math.hypot(nodes[index][0] - x, nodes[index][1] - y);
    return indices.reduce((best, index) => (best === null || distance(index) < distance(best) ? index : best), null);
  }

  #go(index) {
    this.#makeCurrent(index);
    this.#reveal(index);
    this.#elements.get(index).focus();
  }

  /** Make a task the one that Tab leads to. */
  #makeCurrent(index) {
    if (index === null) return;
    const before = this.#current;
    this.#current = index;
    if (!this.#elements.has(index)) this.refresh();
    for (const each of [before, index]) if (this.#elements.has(each)) this.#paint(each);
    this.#drawClose();
  }

  #reveal(index) {
    const [x, y] = this.#placing.nodes[index].map((place) => place * this.#zoom);
    const [width, height] = [this.#size.width * this.#zoom, this.#size.height * this.#zoom];
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.#scroller;
    if (Math.abs(x - scrollLeft - clientWidth / 2) > (clientWidth - width) / 2) this.#scroller.scrollLeft = x - clientWidth / 2;
    if (Math.abs(y - scrollTop - clientHeight / 2) > (clientHeight - height) / 2) this.#scroller.scrollTop = y - clientHeight / 2;
    this.refresh();
  }
}

function placeAlong({ nodes, direction }, index) {
  return Math.round(nodes[index][direction === "right" ? 0 : 1]);
}

function layersByPlace(placing) {
  const layers = new Map();
  const loose = new Set(placing.loose);
  const across = placing.direction === "right" ? 1 : 0;
  placing.nodes.forEach((_, index) => {
    if (loose.has(index)) return;
    const key = placeAlong(placing, index);
    if (!layers.has(key)) layers.set(key, []);
    layers.get(key).push(index);
  });
  for (const layer of layers.values()) layer.sort((one, other) => placing.nodes[one][across] - placing.nodes[other][across]);
  return new Map([...layers].sort(([one], [other]) => one - other));
}

function numberOf(event) {
  const index = event.target.closest("[data-index]")?.dataset.index;
  return index === undefined ? null : Number(index);
}

function svg(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
