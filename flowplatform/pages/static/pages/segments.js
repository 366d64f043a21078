/** The bars of a task: one for each attempt, in the colour of how it ended, and one for each time it waited for people. */

import { meaningOf } from "../flowplatform/states.js";

const MOST = 12; // bars of one task; of more attempts the newest are drawn
const ENDS = new Set(["completed", "failed", "cancelled", "skipped"]);

/**
 * @param {[string, number][]} steps of a task, oldest first
 * @returns {{state: string, from: number, to: number|null}[]} `to` is null while it goes on
 */
export function segments(steps) {
  const bars = [];
  steps.forEach(([status, from], index) => {
    const { state } = meaningOf(status);
    const next = steps[index + 1];
    const to = next ? next[1] : null;
    if (state === "running") {
      const end = next && meaningOf(next[0]).state;
      bars.push({ state: ENDS.has(end) ? end : "running", from, to });
    } else if (state === "awaiting") {
      bars.push({ state, from, to });
    } else if (ENDS.has(state) && !ranBefore(steps, index)) {
      bars.push({ state, from, to: from }); // it never said that it ran: a mark where it ended
    }
  });
  return bars.slice(-MOST);
}

function ranBefore(steps, index) {
  return index > 0 && ["running", "awaiting"].includes(meaningOf(steps[index - 1][0]).state);
}
