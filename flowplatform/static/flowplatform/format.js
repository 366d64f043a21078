/** Times, durations and names as people read them. */

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayAndClock = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
});
const dayOnly = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const longAgo = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/**
 * Read an ISO 8601 time.
 *
 * Date knows milliseconds only, but the platform orders by microseconds: they are kept as a fraction.
 * @param {string|null|undefined} text
 * @returns {number|null} milliseconds since 1970
 */
export function instant(text) {
  const milliseconds = Date.parse(text ?? "");
  if (Number.isNaN(milliseconds)) return null;
  const digits = /\.\d{3}(\d{1,3})/.exec(text)?.[1] ?? "";
  return milliseconds + Number(digits.padEnd(3, "0")) / 1000;
}

/** Write a length of time: "40 ms", "1.4 s", "12 s", "2 m 14 s", "3 h 5 m", "2 d 4 h". */
export function duration(milliseconds) {
  if (milliseconds < SECOND) return `${Math.max(0, Math.round(milliseconds))} ms`;
  if (milliseconds < 9.95 * SECOND) return `${(milliseconds / SECOND).toFixed(1)} s`;
  return wholeSeconds(Math.round(milliseconds / SECOND) * SECOND);
}

/** Write how long something has been going on. No fractions: it is looked at while it counts. */
export function elapsed(milliseconds) {
  return wholeSeconds(Math.max(0, Math.floor(milliseconds / SECOND) * SECOND));
}

function wholeSeconds(milliseconds) {
  const parts = (big, large, small, little) => {
    const rest = Math.floor((milliseconds % large) / small);
    return `${Math.floor(milliseconds / large)} ${big}${rest ? ` ${rest} ${little}` : ""}`;
  };
  if (milliseconds < MINUTE) return `${milliseconds / SECOND} s`;
  if (milliseconds < HOUR) return parts("m", MINUTE, SECOND, "s");
  if (milliseconds < DAY) return parts("h", HOUR, MINUTE, "m");
  return parts("d", DAY, HOUR, "h");
}

/** Write a moment in the reader's time zone: the clock today, with its day otherwise. */
export function localTime(milliseconds, now = Date.now()) {
  const moment = new Date(milliseconds);
  const today = new Date(now);
  if (moment.toDateString() === today.toDateString()) return clock.format(moment);
  return (moment.getFullYear() === today.getFullYear() ? dayAndClock : longAgo).format(moment);
}

/** Write a moment to the millisecond, with its day unless that is today: "10:24:07.412", "4 Mar, 10:24:07.412". */
export function preciseTime(milliseconds, now = Date.now()) {
  const moment = new Date(milliseconds);
  const day = moment.toDateString() === new Date(now).toDateString() ? "" : `${dayOnly.format(moment)}, `;
  return `${day}${clock.format(moment)}.${String(moment.getMilliseconds()).padStart(3, "0")}`;
}

/** Write a moment in full, for a title: "2026-03-01 10:24:07.412 UTC". */
export function utcTime(milliseconds) {
  return new Date(milliseconds).toISOString().replace("T", " ").replace("Z", " UTC");
}

const SHORT = 16; // characters; such a name is never cut in the middle
const LONGEST_END = 14;
const graphemes = new Intl.Segmenter();

/**
 * Split a name for a cut in the middle: CSS shortens the first part, the second one stays whole.
 * @returns {[string, string]}
 */
export function nameParts(name) {
  if (name.length <= SHORT) return [name, ""];
  const characters = Array.from(graphemes.segment(name), ({ segment }) => segment); // never half an emoji
  const end = Math.min(LONGEST_END, Math.floor(characters.length / 2));
  return [characters.slice(0, -end).join(""), characters.slice(-end).join("")];
}
