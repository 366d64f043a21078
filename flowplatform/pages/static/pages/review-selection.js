/** Rows of a grid that can be selected: by their checkboxes, and by the keys that lists have everywhere. */

import { setAttribute } from "../flowplatform/dom.js";

const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };

export class Selection {
  #root;
  #changed;
  #anchor = null; // key of the row from which Shift extends

  /**
   * @param {HTMLElement} root the list; its rows are `tr[data-key]`, those that can be selected have `aria-selected`
   * @param {object} listener
   * @param {() => void} listener.changed what is selected, or which row is current, differs
   * @param {(row: HTMLElement) => void} listener.open Enter was pressed on a row
   */
  constructor(root, { changed, open }) {
    this.#root = root;
    this.#changed = changed;
    root.addEventListener("click", (event) => this.#clicked(event));
    root.addEventListener("focusin", (event) => this.#focused(event));
    root.addEventListener("keydown", (event) => this.#pressed(event, open));
    this.update();
  }

  get rows() {
    return [...this.#root.querySelectorAll("tr[data-key]")];
  }

  get selectable() {
    return this.rows.filter((row) => row.hasAttribute("aria-selected") && !row.hasAttribute("aria-busy"));
  }

  get selected() {
    return this.selectable.filter(isSelected);
  }

  /** The row that has the focus, or had it last and is still there. */
  get current() {
    return this.#root.querySelector("tr[data-key][tabindex='0']");
  }

  /** What a key is meant for: what is selected, or the row that has the focus. */
  get meant() {
    const selected = this.selected;
    if (selected.length) return selected;
    const focused = document.activeElement?.closest("tr[data-key]");
    return this.selectable.filter((row) => row === focused);
  }

  /** Select exactly these. */
  select(rows) {
    for (const row of this.selectable) mark(row, rows.includes(row));
    this.#changed();
  }

  clear() {
    this.select([]);
    this.#anchor = null;
  }

  /** Put in order what a new list brought: one row is the stop of the Tab key, and what is decided is not selected. */
  update() {
    const rows = this.rows;
    const stop = rows.find((row) => row.contains(document.activeElement)) ?? rows.find((row) => row.tabIndex === 0) ?? rows[0];
    for (const row of rows) {
      setAttribute(row, "tabindex", row === stop ? "0" : "-1");
      if (row.hasAttribute("aria-selected")) mark(row, isSelected(row) && !row.hasAttribute("aria-busy"));
    }
    this.#changed();
  }

  #clicked(event) {
    const row = event.target.closest("tr[data-key]");
    if (!row || event.target.closest("a")) return;
    if (!event.target.matches(".pick, .pick input")) return row.focus({ preventScroll: true });
    if (!this.selectable.includes(row)) return mark(row, isSelected(row));
    if (event.shiftKey && this.#anchor) this.#extend(row);
    else this.#toggle(row);
    row.focus({ preventScroll: true });
  }

  #focused(event) {
    const row = event.target.closest("tr[data-key]");
    if (!row) return;
    for (const other of this.rows) setAttribute(other, "tabindex", other === row ? "0" : "-1");
  }

  #pressed(event, open) {
    const row = event.target.closest("tr[data-key]");
    if (!row || event.altKey) return;
    const isAll = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a";
    if (isAll) this.select(this.selectable);
    else if (event.ctrlKey || event.metaKey) return;
    else if (event.key in STEPS) this.#move(row, STEPS[event.key], event.shiftKey);
    else if (event.key === " ") event.shiftKey && this.#anchor ? this.#extend(row) : this.#toggle(row);
    else if (event.key === "Enter" && !event.target.matches("a")) open(row);
    else return;
    event.preventDefault();
  }

  #move(row, step, extends_) {
    const rows = this.rows;
    const next = rows[Math.min(Math.max(rows.indexOf(row) + step, 0), rows.length - 1)];
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
    if (!extends_) return;
    this.#anchor ??= row.dataset.key;
    this.#extend(next);
  }

  #toggle(row) {
    if (!this.selectable.includes(row)) return;
    mark(row, !isSelected(row));
    this.#anchor = row.dataset.key;
    this.#changed();
  }

  /** Select from the anchor to here, and nothing else. */
  #extend(row) {
    const rows = this.rows;
    const anchor = rows.findIndex((one) => one.dataset.key === this.#anchor);
    const [begin, end] = [anchor < 0 ? rows.indexOf(row) : anchor, rows.indexOf(row)].sort((one, other) => one - other);
    const between = new Set(rows.slice(begin, end + 1));
    this.select(this.selectable.filter((one) => between.has(one)));
  }
}

function isSelected(row) {
  return row.getAttribute("aria-selected") === "true";
}

function mark(row, selected) {
  setAttribute(row, "aria-selected", String(selected));
  const box = row.querySelector(".pick input");
  if (box) box.checked = selected;
}
