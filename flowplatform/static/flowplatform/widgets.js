/** What several pages draw from a state or from counts by state. */

import { GLYPHS, STATES, wordOf } from "./states.js";
import { localTime, nameParts, utcTime } from "./format.js";
import { setAttribute, setText } from "./dom.js";

/** Draw a badge: `.badge` with the parts glyph and word as its two children. */
export function drawBadge(badge, { state, word }) {
  setAttribute(badge, "data-state", state);
  setText(badge.firstElementChild, GLYPHS[state]);
  setText(badge.lastElementChild, word);
}

/** Draw counts by state as a bar of segments, and say them to those who cannot see it. */
export function drawProgress(bar, counts) {
  if (!bar.firstChild) for (const state of STATES) bar.append(segment(state));
  STATES.forEach((state, index) => {
    const span = bar.children[index];
    span.hidden = !counts[state];
    span.style.flexGrow = counts[state] || 0;
  });
  setAttribute(bar, "aria-label", sentence(counts));
}

function segment(state) {
  const span = document.createElement("span");
  span.dataset.state = state;
  return span;
}

/** "5 completed, 1 failed, 2 not started": counts in the order of the bar. */
export function sentence(counts) {
  return STATES.filter((state) => counts[state]).map((state) => `${counts[state]} ${wordOf(state)}`).join(", ");
}

/**
 * Draw counts by state as a list: glyph, number, word.
 * @param {(state: string) => void} [pick] makes each count a button
 */
export function drawCounts(list, counts, pick) {
  if (!list.firstChild) for (const state of STATES) list.append(countItem(state, pick));
  STATES.forEach((state, index) => {
    const item = list.children[index];
    item.hidden = !counts[state] && item.querySelector("[aria-pressed=true]") === null; // what is filtered by stays
    setText(item.querySelector("strong"), String(counts[state] || 0));
  });
}

function countItem(state, pick) {
  const item = document.createElement("li");
  item.dataset.state = state;
  const content = pick ? document.createElement("button") : item;
  const glyph = Object.assign(document.createElement("span"), { className: "glyph", textContent: GLYPHS[state] });
  glyph.ariaHidden = "true";
  content.append(glyph, " ", document.createElement("strong"), ` ${wordOf(state)}`);
  if (!pick) return item;
  Object.assign(content, { type: "button", className: "plain", title: `Show only: ${wordOf(state)}` });
  content.addEventListener("click", () => pick(state));
  item.append(content);
  return item;
}

/** Write a moment into a <time>: local, with UTC in the title. */
export function drawTime(node, milliseconds, absent = "") {
  setText(node, milliseconds === null ? absent : localTime(milliseconds));
  setAttribute(node, "datetime", milliseconds === null ? null : new Date(milliseconds).toISOString());
  setAttribute(node, "title", milliseconds === null ? null : utcTime(milliseconds));
}

/** Write a name that is cut in the middle where it is too long, whole in the title: `.name` with two children. */
export function drawName(node, name, title = name) {
  const [start, end] = nameParts(name);
  setText(node.firstElementChild, start);
  setText(node.lastElementChild, end);
  setAttribute(node, "title", title);
}
