/** The REST API as pages use it, with the session cookie. */

import { backoff, sleep } from "./backoff.js";

const PATIENCE = 20_000; // an answer that takes longer counts as none

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.details = body?.error?.details ?? null;
    this.requestId = body?.request_id ?? null;
  }

  /** Whether the same request may succeed later. */
  get isPassing() {
    return this.status === 429 || this.status >= 500;
  }
}

/** GET one JSON answer; raise ApiError for an error answer and TypeError where none arrives. */
export async function get(path, query = {}, signal = null) {
  const address = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) if (value !== null) address.searchParams.set(name, value);
  return answerOf(await fetch(address, { headers: { Accept: "application/json" }, signal: patience(signal) }));
}

/**
 * Send a change, again if no answer comes: the key lets the server know that it is the same one.
 * @returns {Promise<object>} the answer; raises ApiError where the server refuses
 */
export async function change(method, path, body) {
  const headers = {
    Accept: "application/json",
    "Content-Type": "application/json",
    "X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "",
    "Idempotency-Key": Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16)).join("-"),
  };
  const attempt = async () =>
    answerOf(await fetch(path, { method, headers, body: JSON.stringify(body), signal: patience(null) }));
  const giveUp = Date.now() + PATIENCE;
  return persist(attempt, () => Date.now() < giveUp);
}

async function answerOf(response) {
  const body = await response.json().catch(() => null);
  if (!response.ok || body === null) throw new ApiError(response.ok ? 502 : response.status, body);
  return body;
}

function patience(signal) {
  const limit = AbortSignal.timeout(PATIENCE);
  return signal ? AbortSignal.any([signal, limit]) : limit;
}

/**
 * Try until it works: with growing pauses, as long as `wanted()` and only while waiting can help.
 * @param {() => Promise<T>} attempt
 * @param {() => boolean} wanted
 * @returns {Promise<T>}
 * @template T
 */
export async function persist(attempt, wanted = () => true) {
  for (let count = 0; ; count += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!wanted() || (error instanceof ApiError && !error.isPassing)) throw error;
      await sleep(backoff(count));
    }
  }
}
