/** Makes one part of the page like another one with as few changes as possible: what is equal is not touched. */

/** What scripts and readers set on elements that the server drew. The server says these when it makes an element. */
const KEPT = new Set(["aria-selected", "open", "style", "tabindex"]);
const INTERACTIVE = "a[href], button, input, select, summary, [tabindex]";

const served = new WeakMap(); // element with a key -> the element it was last made like

/**
 * Make `live` like `next`. Elements with the same `data-key` are the same thing and are moved if they have to be;
 * others are told apart by their place. The focus stays where it is; if its row is gone, it goes to the one that took
 * its place.
 * @param {HTMLElement} live
 * @param {HTMLElement} next of another document
 */
export function merge(live, next) {
  const focus = new Focus(live);
  mergeElement(live, next);
  focus.restore();
}

function mergeElement(live, next) {
  if (next.dataset.key !== undefined) {
    if (served.get(live)?.isEqualNode(next)) return;
    served.set(live, next);
  }
  mergeAttributes(live, next);
  mergeChildren(live, next);
}

function mergeAttributes(live, next) {
  for (const { name } of [...live.attributes]) {
    if (!next.hasAttribute(name) && !KEPT.has(name)) live.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (!KEPT.has(name) && live.getAttribute(name) !== value) live.setAttribute(name, value);
  }
}

function mergeChildren(live, next) {
  const keyed = new Map([...live.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let place = live.firstChild;
  for (const wanted of next.childNodes) {
    const child = keyOf(wanted) ? keyed.get(keyOf(wanted)) : sameKind(place, wanted) ? place : null;
    if (!child) live.insertBefore(copy(wanted), place);
    else {
      if (child === place) place = place.nextSibling;
      else live.insertBefore(child, place);
      if (child.nodeType === Node.ELEMENT_NODE) mergeElement(child, wanted);
      else if (child.data !== wanted.data) child.data = wanted.data;
    }
  }
  while (place) {
    const rest = place;
    place = place.nextSibling;
    rest.remove();
  }
}

function keyOf(node) {
  return node.dataset?.key;
}

function sameKind(node, wanted) {
  return node !== null && !keyOf(node) && node.nodeName === wanted.nodeName;
}

function copy(wanted) {
  const made = document.importNode(wanted, true);
  if (keyOf(wanted)) served.set(made, wanted);
  return made;
}

/** Where the focus was before a change, and where it belongs after it. */
class Focus {
  #root;
  #element = null;
  #row = null;
  #parent = null;
  #place; // of the row among its siblings
  #index; // of the element among what can have the focus in the row

  constructor(root) {
    if (!root.contains(document.activeElement)) return;
    this.#root = root;
    this.#element = document.activeElement;
    this.#row = this.#element.closest("[data-key]");
    if (!this.#row) return;
    this.#parent = this.#row.parentElement;
    this.#place = [...this.#parent.children].indexOf(this.#row);
    this.#index = [...this.#row.querySelectorAll(INTERACTIVE)].indexOf(this.#element);
  }

  restore() {
    const element = this.#element;
    if (!element || document.activeElement === element) return;
    (element.isConnected ? element : this.#heir())?.focus({ preventScroll: true });
  }

  /** The same part of the row that is now where the other one was; the list itself when there is none. */
  #heir() {
    const rows = this.#parent?.isConnected ? [...this.#parent.children] : [];
    const row = this.#row?.isConnected ? this.#row : rows[Math.min(this.#place, rows.length - 1)];
    if (!row) return this.#root;
    const parts = row.querySelectorAll(INTERACTIVE);
    return row.matches(INTERACTIVE) && this.#index < 0 ? row : parts[Math.min(Math.max(this.#index, 0), parts.length - 1)];
  }
}
