/**
 * The keys of a page: one letter each, never while somebody types, and all of them shown by "?".
 *
 * Keys and what they do are shown in a dialog that the page's frame brings along (`flowplatform/shortcuts.html`).
 */

const CONTROLS = "a[href], button, input, summary"; // Enter and Space are theirs
const EDITABLE = "input:not([type=checkbox], [type=range]), select, textarea, [contenteditable]";
const SCROLLED = "input[type=range], pre, [role=region]"; // arrows and Space are theirs
const MOVES = new Set(["ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight", "Home", "End", " "]);
const OFF = "flowplatform-letters-off"; // in the browser's storage: whoever speaks to the computer may not want them

export class Keyboard {
  #actions = new Map(); // key -> {act, words}

  constructor() {
    document.addEventListener("keydown", (event) => this.#pressed(event));
    this.on("?", "Show these keys", () => this.help());
  }

  /**
   * @param {string} key as KeyboardEvent.key names it; letters stand for both cases
   * @param {string} words what it does; empty for keys that need no mention
   * @param {(event: KeyboardEvent) => (false|void)} [act] `false` leaves the key to the browser; without it the key is
   *   only mentioned, because something else on the page listens to it
   */
  on(key, words, act = () => false) {
    this.#actions.set(key, { words, act });
    return this;
  }

  #pressed(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest?.(EDITABLE) || document.querySelector("dialog[open]")) return;
    if ((event.key === "Enter" || event.key === " ") && event.target.closest?.(CONTROLS)) return;
    if (MOVES.has(event.key) && event.target.closest?.(SCROLLED)) return;
    if (isLetter(event.key) && (event.repeat || localStorage.getItem(OFF))) return;
    const action = this.#actions.get(event.key) ?? this.#actions.get(event.key.toLowerCase());
    if (action && action.act(event) !== false) event.preventDefault();
  }

  /** Show the keys. */
  help() {
    const dialog = document.getElementById("shortcuts");
    const rows = [...this.#actions].filter(([, { words }]) => words).map(([key, { words }]) => row(key, words));
    dialog.querySelector("dl").replaceChildren(...rows);
    const letters = dialog.querySelector("[name=letters]");
    letters.checked = !localStorage.getItem(OFF);
    letters.onchange = () => (letters.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "1"));
    dialog.showModal();
  }
}

/** Keys that somebody may press, or say, without meaning it. "?" always works. */
function isLetter(key) {
  return key.length === 1 && key !== "?" && key !== " ";
}

const NAMES = { " ": "Space", ArrowDown: "↓", ArrowUp: "↑", Escape: "Esc" };

function row(key, words) {
  const group = document.createElement("div");
  const term = document.createElement("dt");
  const cap = document.createElement("kbd");
  cap.textContent = NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key);
  term.append(cap);
  const meaning = document.createElement("dd");
  meaning.textContent = words;
  group.append(term, meaning);
  return group;
}
