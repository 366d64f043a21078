/** The worklist: what waits, live; selected tasks are decided in one batch. Its other side, what was decided, is live too. */

import { REVIEW, addition, refusalOf, send } from "./decisions.js";
import { Keyboard } from "../flowplatform/keyboard.js";
import { LiveIndicator } from "../flowplatform/live.js";
import { LiveList } from "../flowplatform/live-list.js";
import { OrganizationSockets } from "../flowplatform/organization-sockets.js";
import { Selection } from "./review-selection.js";
import { ServerClock } from "../flowplatform/clock.js";
import { TagDialog } from "./tag-dialog.js";
import { drawElapsed } from "../flowplatform/served.js";
import { instant } from "../flowplatform/format.js";
import { notify } from "../flowplatform/notices.js";
import { setAttribute, setText } from "../flowplatform/dom.js";

const SECOND = 1000;
const STATES = { approved: "completed", rejected: "failed", reviewed: "running" };
const VERBS = { approved: "Approved", rejected: "Rejected", reviewed: "Reviewed" };

const root = document.getElementById("review");
const listRoot = document.getElementById("review-list");

/** Decides about selected rows, and shows what was sent until the server's list tells it. */
class Decisions {
  #selection;
  #refresh;
  #dialog;
  #bar = document.getElementById("decide");
  #pending = new Map(); // key of a row -> {tags, confirmed: when the server did, or null}
  #gone = new Set(); // keys of rows that were selected at the last look

  constructor(refresh) {
    this.#refresh = refresh;
    this.#dialog = new TagDialog(document.getElementById("tag-dialog"), (tasks, changes) => this.#send(tasks, changes));
    this.#selection = new Selection(listRoot, {
      changed: () => this.#drawBar(),
      open: (row) => location.assign(row.dataset.address),
    });
    this.#on("approve", () => this.approve());
    this.#on("reject", () => this.reject());
    this.#on("tag", () => this.tag());
    this.#part("all").addEventListener("change", (event) => this.#selectAll(event.target.checked));
    this.#drawBar();
  }

  approve() {
    const tasks = this.#tasks();
    if (tasks.length) this.#send(tasks, tasks.map((task) => addition(task, { tag: "approved", type: REVIEW })));
  }

  reject() {
    const tasks = this.#tasks();
    if (tasks.length) this.#dialog.open(tasks, { tag: "rejected", type: REVIEW, focus: "note" });
  }

  tag() {
    const tasks = this.#tasks();
    if (tasks.length) this.#dialog.open(tasks);
  }

  clear() {
    this.#selection.clear();
  }

  focusList() {
    (this.#selection.current ?? listRoot).focus();
  }

  /** The list is as it was at `asked`: what was confirmed before that needs no mark any more. */
  drawn(asked) {
    for (const [key, { confirmed }] of this.#pending) if (confirmed && confirmed <= asked) this.#pending.delete(key);
    this.#drawPending();
    this.#tellOfOthers();
    this.#selection.update();
  }

  #tasks() {
    const rows = this.#selection.meant;
    if (rows.length === 0) notify("Select a task first: Space selects the one that has the focus.", "queued");
    return rows.map(taskOf);
  }

  async #send(tasks, changes) {
    if (changes.length === 0) return;
    const keys = tasks.map(({ key }) => key);
    const added = changes[0].operations.filter(({ operation }) => operation === "add");
    for (const key of keys) this.#pending.set(key, { tags: added, confirmed: null });
    this.#drawPending();
    this.#selection.update();
    try {
      await send(changes);
      for (const key of keys) this.#pending.set(key, { tags: added, confirmed: Date.now() });
      notify(doneWith(tasks, added));
    } catch (error) {
      const written = new Set(changes.slice(0, error.written).map(({ expected: [{ flow_execution_id: id, task_name: name }] }) => `${id} ${name}`));
      for (const key of keys) {
        if (written.has(key)) this.#pending.set(key, { tags: added, confirmed: Date.now() });
        else this.#pending.delete(key);
      }
      this.#drawPending();
      this.#selectAgain(keys, error);
      notify(refusalOf(error), "failed");
    }
    this.#refresh();
  }

  /** What was not written stays selected, but for what somebody else decided: that wants another look. */
  #selectAgain(keys, error) {
    const overtaken = new Set((error.details ?? []).map((one) => `${one.flow_execution_id} ${one.task_name}`));
    const wanted = new Set(keys.filter((key) => !overtaken.has(key)));
    const selected = new Set(this.#selection.selected);
    this.#selection.select(this.#selection.selectable.filter((row) => selected.has(row) || wanted.has(row.dataset.key)));
  }

  /** Rows that were selected and are gone without our doing were decided by somebody else, or wait no longer. */
  #tellOfOthers() {
    const there = new Set(this.#selection.rows.map((row) => row.dataset.key));
    const gone = [...this.#gone].filter((key) => !there.has(key) && !this.#pending.has(key));
    if (gone.length === 1) notify(`${nameOf(gone[0])} waits no longer: somebody decided, or it went on.`, "awaiting");
    if (gone.length > 1) notify(`${gone.length} of the selected tasks wait no longer: somebody decided, or they went on.`, "awaiting");
  }

  #drawPending() {
    for (const row of this.#selection.rows) {
      const pending = this.#pending.get(row.dataset.key);
      setAttribute(row, "aria-busy", pending ? "true" : null);
      const cell = row.querySelector("[data-part=tags]");
      for (const chip of cell.querySelectorAll(".pending")) chip.remove();
      for (const tag of pending?.tags ?? []) cell.append(pendingChip(tag));
    }
  }

  #drawBar() {
    if (!this.#bar || !this.#selection) return;
    const { selected, selectable, rows } = this.#selection;
    this.#gone = new Set(selected.map((row) => row.dataset.key));
    this.#bar.hidden = !rows.some((row) => row.hasAttribute("aria-selected"));
    setText(this.#part("count"), selected.length ? `${selected.length} selected` : "");
    this.#part("word").classList.toggle("visually-hidden", selected.length > 0);
    const all = this.#part("all");
    all.checked = selected.length > 0 && selected.length === selectable.length;
    all.indeterminate = selected.length > 0 && !all.checked;
    for (const name of ["approve", "reject", "tag"]) this.#part(name).disabled = selected.length === 0;
  }

  #selectAll(checked) {
    this.#selection.select(checked ? this.#selection.selectable : []);
  }

  #on(name, act) {
    this.#part(name).addEventListener("click", act);
  }

  #part(name) {
    return this.#bar.querySelector(`[data-part=${name}]`);
  }
}

/** Everything on this list asks for a verdict, so one that stands already is given anew. */
function taskOf(row) {
  const { key, execution, task, tags } = row.dataset;
  return { key, executionId: execution, name: task, tags: JSON.parse(tags), asksAgain: true };
}

function nameOf(key) {
  return key.slice(key.indexOf(" ") + 1);
}

function doneWith(tasks, added) {
  const what = tasks.length === 1 ? tasks[0].name : `${tasks.length} tasks`;
  return `${added.length === 1 && added[0].tag_type === REVIEW ? VERBS[added[0].tag] ?? "Tagged" : "Tagged"} ${what}.`;
}

function pendingChip({ tag, tag_type: type }) {
  const chip = Object.assign(document.createElement("span"), { className: "tag pending", dir: "auto", title: `${type}: ${tag}, not confirmed yet` });
  chip.dataset.state = (type === REVIEW && STATES[tag]) || "awaiting";
  const name = document.createElement("span");
  name.textContent = `${tag}…`;
  chip.append(name);
  return chip;
}

/** The page as a whole: its list, its connections, its keys. */
class ReviewPage {
  #notice = document.getElementById("notice");
  #clock = ServerClock.ofPage(instant(root.dataset.serverTime));
  #indicator = new LiveIndicator(document.getElementById("live"));
  #list = new LiveList(listRoot, { drawn: (_, asked) => this.#drawn(asked), failed: (error) => this.#failed(error) });
  #sockets;
  #decisions = document.getElementById("decide") && new Decisions(() => this.#list.refresh());

  constructor(organizationIds) {
    this.#sockets = new OrganizationSockets(organizationIds, root.dataset.socketsPort, this.#indicator, () => this.#list.refresh());
    this.#sockets.open();
    setInterval(() => drawElapsed(listRoot, this.#clock.now()), SECOND);
    this.#keys();
  }

  #keys() {
    const keyboard = new Keyboard();
    const decisions = this.#decisions;
    if (decisions) {
      keyboard
        .on("a", "Approve what is selected", () => decisions.approve())
        .on("r", "Reject it, with a note", () => decisions.reject())
        .on("t", "Tag it", () => decisions.tag())
        .on("Escape", "Clear the selection", () => decisions.clear())
        .on("ArrowDown", "Go to the list; there ↑ and ↓ move, with Shift they select", () => decisions.focusList())
        .on(" ", "Select the task, or take it out of the selection")
        .on("Enter", "Open the task in its run");
      document.querySelector("#decide [data-part=help]").addEventListener("click", () => keyboard.help());
    }
    keyboard
      .on("/", "Search", () => document.querySelector("[data-part=search]")?.focus())
      .on("f", "Filter", () => document.querySelector("[data-part=first]")?.focus());
  }

  #drawn(asked) {
    this.#sockets.drawn();
    this.#failed(null);
    this.#decisions?.drawn(asked);
    drawElapsed(listRoot, this.#clock.now());
    this.#drawCount(listRoot.dataset.waiting);
  }

  /** How many wait, beside the link to this page. */
  #drawCount(waiting) {
    if (waiting === undefined) return;
    const badge = document.getElementById("review-count") ?? newBadge();
    badge.hidden = waiting === "0";
    setText(badge, Number(waiting) > 99 ? "99+" : waiting);
  }

  #failed(error) {
    setText(this.#notice, error ? `The list could not be brought up to date: ${error.message}` : "");
    this.#notice.hidden = !error;
  }
}

function newBadge() {
  const badge = Object.assign(document.createElement("span"), { id: "review-count", className: "badge" });
  badge.dataset.state = "awaiting";
  document.querySelector(".bar nav [aria-current]").append(" ", badge);
  return badge;
}

const organizations = root.dataset.organizations.trim();
if (organizations) new ReviewPage(organizations.split(" "));
