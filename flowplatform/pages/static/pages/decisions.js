/**
 * What people decide about tasks: tags in one batch, which says what its author saw. If somebody else was faster the
 * server writes nothing and says who it was.
 */

import { change } from "../flowplatform/api.js";
import { instant, localTime } from "../flowplatform/format.js";

export const REVIEW = "review"; // the type of the verdicts
export const VERDICTS = ["approved", "rejected", "reviewed"]; // one of them stands at a time
export const ASKS = "requires_review"; // a tag that asks for a verdict, of any type
const OPERATIONS = 100; // in one batch

/**
 * @typedef {{executionId: string, name: string, tags: object[], asksAgain?: boolean}} ReviewedTask a task with its
 *   live tags as the API shows them; `asksAgain` where it waits although a verdict may stand: then that is given anew
 * @typedef {{tag: string, type: string, note?: string}} NewTag
 * @typedef {{operations: object[], expected: object[]}} Change of one task
 */

/**
 * What adding a tag to a task means: a verdict takes the place of another one, and answers what asked for it.
 * @param {ReviewedTask} task
 * @param {NewTag} added
 * @returns {Change}
 */
export function addition(task, { tag, type, note = "" }) {
  const isVerdict = type === REVIEW && VERDICTS.includes(tag);
  const metadata = note ? { note } : null;
  const isSame = (one) => one.tag === tag && one.tag_type === type && sameJson(one.tag_metadata, metadata);
  const overtaken = task.tags.filter(
    (one) => isVerdict && (one.tag === ASKS || (one.tag_type === REVIEW && VERDICTS.includes(one.tag))) && !(isSame(one) && !task.asksAgain),
  );
  const operations = [...overtaken.map((one) => removing(one)), operation("add", task, tag, type, metadata)];
  return { operations, expected: expectations(task, [type, ...overtaken.map((one) => one.tag_type)]) };
}

/**
 * @param {ReviewedTask} task
 * @param {object[]} tags live ones of the task
 * @returns {Change}
 */
export function removal(task, tags) {
  return { operations: tags.map(removing), expected: expectations(task, tags.map((one) => one.tag_type)) };
}

/**
 * Send changes of tasks, a hundred operations at a time; each batch takes effect as a whole or not at all.
 * @param {Change[]} changes
 * @returns {Promise<void>} raises ApiError where the server refuses; `overtakenBy` makes words of a 409. `written` of an
 *   error is how many of the changes were written before it
 */
export async function send(changes) {
  let written = 0;
  for (const batch of batches(changes)) {
    const tags = batch.flatMap(({ operations }) => operations);
    const expected = batch.flatMap((one) => one.expected);
    await change("PATCH", "/api/task-tags", { tags, expected }).catch((error) => {
      throw Object.assign(error, { written });
    });
    written += batch.length;
  }
}

/** Say who was faster, and with what: "bob rejected classify at 10:24:07." */
function overtakenBy(error) {
  const [{ task_name: name, last_change: last } = {}, ...others] = error.details ?? [];
  if (!name) return error.message;
  const more = others.length ? ` (and ${others.length} more)` : "";
  const fate = error.written ? `Only the first ${error.written} of yours were written` : "Nothing of yours was written";
  if (!last) return `The tags of ${name}${more} changed meanwhile. ${fate}; look again.`;
  const did = last.removed ? `removed “${last.tag}” from ${name}` : `tagged ${name} “${last.tag}”`;
  const when = localTime(instant(last.updated_at));
  return `${personOf(last.modified_by)} ${did}${more} at ${when}. ${fate}; look again.`;
}

/** Say what became of a batch that did not get through as a whole. */
export function refusalOf(error) {
  if (error.status === 409) return overtakenBy(error);
  const before = error.written ? `The first ${error.written} were written. ` : "";
  if (error.status) return `${before}Not written: ${error.message}`;
  return `${before}The server did not answer, so nobody knows whether this was written. Look again when the page is live, and repeat what is missing.`;
}

/** Write an author as people say it: "alice", "doc-3 (service)". */
export function personOf(author) {
  const [kind, ...name] = author.split(":");
  return kind === "service" ? `${name.join(":")} (service)` : name.join(":") || kind;
}

function* batches(changes) {
  let batch = [];
  let size = 0;
  for (const one of changes) {
    const weight = Math.max(one.operations.length, one.expected.length);
    if (batch.length && size + weight > OPERATIONS) {
      yield batch;
      [batch, size] = [[], 0];
    }
    batch.push(one);
    size += weight;
  }
  if (batch.length) yield batch;
}

function expectations(task, types) {
  return [...new Set(types)].map((type) => ({
    flow_execution_id: task.executionId,
    task_name: task.name,
    tag_type: type,
    tag_ids: task.tags.filter((one) => one.tag_type === type).map(({ id }) => id),
  }));
}

function removing(tag) {
  const task = { executionId: tag.flow_execution_id, name: tag.task_name };
  return operation("remove", task, tag.tag, tag.tag_type, tag.tag_metadata);
}

function operation(kind, task, tag, type, metadata) {
  return {
    operation: kind,
    flow_execution_id: task.executionId,
    task_name: task.name,
    tag,
    tag_type: type,
    tag_metadata: metadata,
  };
}

function sameJson(one, other) {
  return JSON.stringify(one ?? null) === JSON.stringify(other ?? null);
}
