/** How long to wait before the next attempt: exponential with full jitter, so that browsers do not return in step. */

const FIRST = 500;
const LONGEST = 10_000;

/** @returns {number} milliseconds to wait before attempt `attempt`, counted from 0 */
export function backoff(attempt, random = Math.random) {
  return random() * Math.min(LONGEST, FIRST * 2 ** attempt);
}

export function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
