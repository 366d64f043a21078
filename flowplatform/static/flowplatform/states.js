/** The states that have a colour, which texts mean them, and what they make of a run: the one place that knows. */

export const GLYPHS = {
  completed: "✓",
  failed: "✕",
  running: "●",
  awaiting: "◆",
  cancelled: "⊘",
  skipped: "↷",
  other: "■",
  queued: "○",
  unreported: "·",
};

/** In the order of bars and counts: what is done, what is wrong, what moves, what waits. */
export const STATES = Object.keys(GLYPHS);

const WORDS = { other: "other", unreported: "not started" };

/** What a status means; workers may send any text, and one that is not here is shown as it is. */
const MEANINGS = {
  queued: "queued",
  running: "running",
  completed: "completed",
  failed: "failed",
  awaiting_input: "awaiting",
  requires_review: "awaiting",
  cancel_requested: "cancelled",
  cancelled: "cancelled",
  skipped: "skipped",
};

/**
 * @param {string|null} status as a worker or the API says it; null for a task that has said nothing yet
 * @returns {{state: string, word: string}}
 */
export function meaningOf(status) {
  if (status === null) return { state: "unreported", word: WORDS.unreported };
  const state = Object.hasOwn(MEANINGS, status) ? MEANINGS[status] : "other";
  return { state, word: state === "other" ? status : status.replaceAll("_", " ") };
}

/** Name a state in a count: "3 running", "2 not started". */
export function wordOf(state) {
  return WORDS[state] ?? state;
}

/**
 * What a run does. Its own status counts once somebody has set it; before that ("queued") its tasks tell, because
 * reporting a task does not touch the status of its execution.
 * @param {string} status of the execution
 * @param {Record<string, number>} counts of its tasks by state
 * @param {number|null} total of its tasks, null if that is not known
 */
export function meaningOfRun(status, counts, total) {
  const own = meaningOf(status);
  const hasReports = STATES.some((state) => state !== "unreported" && counts[state]);
  if (own.state !== "queued" || !hasReports) return own;
  const state = stateOfTasks(counts, total);
  return { state, word: state };
}

function stateOfTasks(counts, total) {
  if (counts.running) return "running";
  if (counts.awaiting) return "awaiting";
  if ((counts.completed ?? 0) + (counts.skipped ?? 0) === total) return "completed";
  if (counts.queued) return "running";
  if (counts.failed) return "failed";
  return counts.cancelled ? "cancelled" : "running";
}
