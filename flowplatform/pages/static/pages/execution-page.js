/** The page of a run. Here the parts are put together: a live model, what is looked at, and what people decide. */

import { AsOf } from "./as-of.js";
import { addition, refusalOf, REVIEW, send } from "./decisions.js";
import { FlowGraph } from "./graph.js";
import { HistoryList } from "./history-list.js";
import { Plan } from "./plan.js";
import { RunHead } from "./run-head.js";
import { RunModel } from "./run-model.js";
import { TagDialog } from "./tag-dialog.js";
import { TaskPanel } from "./task-panel.js";
import { TaskTable } from "./task-table.js";
import { get, persist } from "../flowplatform/api.js";
import { instant } from "../flowplatform/format.js";
import { FlowSocket, GONE, SIGNED_OUT, socketAddress } from "../flowplatform/socket.js";
import { Keyboard } from "../flowplatform/keyboard.js";
import { LiveIndicator } from "../flowplatform/live.js";
import { notify } from "../flowplatform/notices.js";
import { oncePerFrame, setAttribute, setText } from "../flowplatform/dom.js";
import { ServerClock } from "../flowplatform/clock.js";

const SECOND = 1000;
const SETTLED = 150; // milliseconds; the panel follows a focus that rests
const CONFIRMED = 4000; // a change that was answered but not heard of by then is asked for
const TABS = ["timeline", "graph", "history"];
const LOST = "This run was deleted, or you are no longer a member of its organization. What you see is what was last known of it.";

const byId = (id) => document.getElementById(id);
const dataOf = (id) => JSON.parse(byId(id).textContent);

class ExecutionPage {
  #facts = byId("run").dataset;
  #plan = new Plan(dataOf("plan"));
  #begin = dataOf("snapshot");
  #live = new RunModel(this.#plan, this.#begin);
  #shown = this.#live; // the live model, or how the run was at a moment
  #address = new URLSearchParams(location.search);
  #clock = ServerClock.ofPage(instant(this.#facts.serverTime));
  #indicator = new LiveIndicator(byId("live"));
  #draw = oncePerFrame(() => this.#drawChanges());
  #early = null; // events that came while a snapshot is on its way
  #settle = null;
  #deciding = new Set(); // names of tasks whose change is on its way

  #head = new RunHead(byId("run-head"), { pick: (state) => this.#filterState(state) });
  #table = new TaskTable(byId("tasks"), this.#plan, {
    open: (name) => this.#open(name),
    moved: (name) => this.#followFocus(name),
    selected: () => this.#drawTools(),
  });
  #panel = new TaskPanel(byId("panel"), this.#plan, (error) => this.#failed(error));
  #history = new HistoryList(byId("history"), this.#plan, this.#live.execution.id, (error) => this.#failed(error));
  #graph = null; // made when it is first looked at
  #asOf = new AsOf(byId("as-of"), this.#live, (at, snapshot) => this.#look(at, snapshot));
  #dialog = byId("tag-dialog") && new TagDialog(byId("tag-dialog"), (tasks, changes) => this.#decide(tasks, changes));
  #socket = new FlowSocket(socketAddress(this.#facts.flow, this.#facts.socketsPort), {
    refetch: () => this.#refetch(),
    events: (events, replayed) => this.#take(events, replayed),
    state: (state, code) => this.#connection(state, code),
  });

  start() {
    this.#table.show(this.#live, this.#clock.now());
    this.#live.takeChanges();
    this.#head.draw(this.#live, this.#clock.now());
    this.#listen();
    this.#adopt();
    const at = instant(this.#address.get("at"));
    if (at !== null) this.#asOf.goTo(at);
    setInterval(() => this.#tick(), SECOND);
    if (this.#begin.epoch !== null) this.#socket.startAfter(this.#begin);
    this.#socket.open();
  }

  // --- Live: a snapshot, then every event after it ---

  async #refetch() {
    const early = (this.#early = []); // also of a refetch that is on its way: its snapshot is older than this one
    try {
      const snapshot = await persist(() => get(`/executions/${this.#live.execution.id}/snapshot`), () => early === this.#early);
      if (early !== this.#early) return;
      this.#early = null;
      this.#live.take(snapshot);
      for (const event of early) this.#live.apply(event);
      this.#history.restart();
      this.#panel.changed();
      this.#draw();
    } catch (error) {
      if (early !== this.#early) return;
      this.#early = null;
      this.#failed(error);
    }
  }

  #take(events, replayed) {
    if (this.#early) {
      this.#early.push(...events);
      return;
    }
    for (const event of events) {
      const names = this.#live.apply(event);
      this.#history.apply(event);
      if (this.#shown === this.#live && names.includes(this.#panel.name)) this.#panel.changed();
    }
    const newest = instant(events.at(-1).created_at);
    this.#clock.saw(newest);
    this.#indicator.changed(newest, replayed ? null : this.#clock.now() - instant(events[0].created_at));
    this.#draw();
  }

  #connection(state, code) {
    if (code === SIGNED_OUT) this.#refetch(); // its answer tells whether we are, or the socket refuses for another reason
    if (code === GONE) this.#gone(LOST);
    const reasons = { [GONE]: "not live any more", [SIGNED_OUT]: "not live: refused by the server" };
    this.#indicator.show(state, this.#socket.lastFrame, reasons[code]);
  }

  #failed(error) {
    if (error.status === 401) this.#signIn();
    else if (error.status === 404) this.#gone(LOST);
    else notify(`Some of this page could not be loaded: ${error.message}`, "failed");
  }

  #signIn() {
    location.assign(`${this.#facts.login}?next=${encodeURIComponent(location.pathname + location.search)}`);
  }

  /** Nothing can be done here any more. The notice says that the run was deleted, unless that is not known. */
  #gone(text = null) {
    const notice = byId("gone");
    if (notice.hidden && text) setText(notice, text);
    notice.hidden = false;
    this.#drawTools();
  }

  // --- What is looked at ---

  /** Show how the run was at a moment, or how it is. */
  #look(at, snapshot) {
    this.#shown = at === null ? this.#live : new RunModel(this.#plan, snapshot);
    this.#write({ at: at === null ? null : new Date(at).toISOString() });
    document.body.toggleAttribute("data-past", at !== null);
    this.#history.until(at);
    this.#drawWhole();
  }

  #drawWhole() {
    const now = this.#clock.now();
    this.#shown.takeChanges();
    this.#head.draw(this.#shown, now);
    this.#table.show(this.#shown, now);
    this.#filter();
    this.#panel.show(this.#panel.name, this.#shown, now);
    this.#graph?.setStates(this.#meanings());
    this.#drawTools();
  }

  #drawChanges() {
    const { run, tasks } = this.#live.takeChanges();
    if (this.#live.isGone) this.#gone();
    if (this.#shown !== this.#live || !run) return;
    const now = this.#clock.now();
    this.#head.draw(this.#live, now);
    for (const task of tasks) this.#table.draw(task, now);
    if (!this.#live.isActive || !this.#table.hasAxis) this.#table.drawAxis(now);
    if (this.#isFiltered) this.#filter();
    if (tasks.size && !byId("graph").hidden) this.#graph?.setStates(this.#meanings());
    if ([...tasks].some(({ name }) => name === this.#panel.name)) this.#panel.draw(now);
  }

  /** Once a second: what has been running for how long. */
  #tick() {
    if (!this.#shown.isActive) return;
    const now = this.#clock.now();
    this.#head.tick(this.#shown, now);
    this.#table.tick(now);
    this.#panel.draw(now);
  }

  #meanings() {
    return new Map([...this.#shown.tasks.values()].map((task) => [task.name, task.meaning]));
  }

  // --- The address is the state ---

  /** Do what the address says: after loading, and after the browser's back and forward. */
  #adopt() {
    byId("search").value = this.#address.get("q") ?? "";
    this.#filter();
    this.#showTab();
    const task = this.#address.get("task");
    this.#panel.show(this.#live.tasks.has(task) ? task : null, this.#shown, this.#clock.now());
    this.#markOpen();
    if (this.#panel.name !== null) this.#table.focus(this.#panel.name);
  }

  #write(changes, isStep = false) {
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === "") this.#address.delete(name);
      else this.#address.set(name, value);
    }
    const query = this.#address.toString();
    const address = query ? `?${query}` : location.pathname;
    if (address === (location.search || location.pathname)) return;
    history[isStep ? "pushState" : "replaceState"](null, "", address);
  }

  #open(name, isStep = true) {
    clearTimeout(this.#settle);
    this.#write({ task: name }, isStep);
    this.#panel.show(name, this.#shown, this.#clock.now());
    this.#markOpen();
  }

  #close() {
    const name = this.#panel.name;
    this.#open(null);
    this.#table.focus(name ?? undefined);
    if (this.#table.current === null) document.querySelector(".tabs [aria-current]").focus();
  }

  #markOpen() {
    const { name } = this.#panel;
    byId("run").toggleAttribute("data-panel", name !== null);
    this.#table.mark(name);
    this.#graph?.select(name);
  }

  #followFocus(name) {
    clearTimeout(this.#settle);
    if (this.#panel.name !== null) this.#settle = setTimeout(() => this.#open(name, false), SETTLED);
  }

  #showTab() {
    const wanted = this.#address.get("tab");
    const tab = TABS.includes(wanted) ? wanted : TABS[0];
    for (const name of TABS) {
      byId(name).hidden = name !== tab;
      setAttribute(byId(`tab-${name}`), "aria-current", name === tab ? "page" : null);
    }
    if (tab === "graph") this.#showGraph();
    if (tab === "history") this.#history.begin();
  }

  #showGraph() {
    if (!this.#graph) {
      this.#graph = new FlowGraph(byId("graph-root"), { open: (name) => this.#open(name) });
      this.#graph.show(this.#plan.definition);
    }
    this.#graph.setStates(this.#meanings());
    this.#graph.select(this.#panel.name);
  }

  #filterState(state) {
    this.#write({ state: this.#address.get("state") === state ? null : state });
    this.#filter();
  }

  get #isFiltered() {
    return this.#address.has("state") || byId("search").value.trim() !== "";
  }

  #filter() {
    const state = this.#address.get("state");
    const words = byId("search").value.trim().toLowerCase();
    const isFound = ({ name, meaning, tags }) =>
      (!state || meaning.state === state) && (!words || [name, this.#plan.labelOf(name), ...tags.map(({ tag }) => tag)].some((text) => text.toLowerCase().includes(words)));
    const count = this.#table.filter(isFound);
    this.#head.press(state);
    byId("none-match").hidden = count > 0;
    setText(byId("none-match-words"), state || words ? "No task matches the filters." : "This flow version has no tasks.");
  }

  // --- What people do ---

  #listen() {
    addEventListener("popstate", () => {
      const before = new URLSearchParams(this.#address);
      this.#address = new URLSearchParams(location.search);
      if (String(before) === String(this.#address)) return; // within the page, as the skip link goes
      const [was, is] = [before, this.#address].map((address) => instant(address.get("at")));
      if (was !== is) is === null ? this.#asOf.now() : this.#asOf.goTo(is);
      this.#adopt();
    });
    for (const name of TABS) {
      byId(`tab-${name}`).addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        this.#write({ tab: name === TABS[0] ? null : name }, true);
        this.#showTab();
      });
    }
    byId("history").addEventListener("click", (event) => {
      const link = event.target.closest("a[data-task]");
      if (!link) return;
      event.preventDefault();
      this.#open(link.dataset.task);
    });
    byId("search").addEventListener("input", () => {
      this.#write({ q: byId("search").value.trim() });
      this.#filter();
    });
    byId("search").addEventListener("keydown", ({ key }) => {
      if (key === "Escape" || key === "Enter" || key === "ArrowDown") this.#table.focus();
    });
    byId("clear-filters").addEventListener("click", () => this.#clearFilters());
    byId("panel-close").addEventListener("click", () => this.#close());
    for (const button of document.querySelectorAll("[data-act]")) {
      button.addEventListener("click", () => this.#act(button.dataset.act, Boolean(button.closest("#panel"))));
    }
    this.#listenToKeys();
  }

  #listenToKeys() {
    const keys = new Keyboard();
    const toTable = () => !byId("timeline").hidden && this.#table.focus();
    keys.on("ArrowDown", "Next task", toTable).on("ArrowUp", "Previous task", toTable);
    keys.on(" ", "Select the task").on("Enter", "Open the task");
    if (this.#dialog) {
      keys.on("a", "Approve what is selected", () => this.#act("approve"));
      keys.on("r", "Reject it, with a note", () => this.#act("reject"));
      keys.on("t", "Tag it, or take tags away", () => this.#act("tag"));
    }
    keys.on("f", "Filter by state", () => this.#onTimeline(() => this.#head.focus()));
    keys.on("/", "Search for a task", () => this.#onTimeline(() => byId("search").focus()));
    keys.on("g", "Timeline, graph, history", () => this.#nextTab());
    keys.on("Escape", "Close the task, clear the selection", () => this.#escape());
  }

  #onTimeline(act) {
    if (byId("timeline").hidden) byId("tab-timeline").click();
    act();
  }

  #nextTab() {
    const shown = TABS.findIndex((name) => !byId(name).hidden);
    byId(`tab-${TABS[(shown + 1) % TABS.length]}`).click();
  }

  #escape() {
    if (this.#table.selected.size && !byId("timeline").hidden) this.#table.deselect();
    else if (this.#panel.name !== null) this.#close();
  }

  #clearFilters() {
    byId("search").value = "";
    this.#write({ q: null, state: null });
    this.#filter();
    this.#table.focus();
  }

  /**
   * The tasks that an action is meant for: the one of the panel, what is selected, or where the focus is. What is
   * selected counts only where it can be seen, and nothing is decided twice at a time.
   */
  #targets(isPanel) {
    const { selected, current } = this.#table;
    const isSeen = !isPanel && !byId("timeline").hidden;
    const names = isSeen && selected.size ? [...selected] : [(isSeen ? current : null) ?? this.#panel.name];
    return names.filter((name) => name !== null && !this.#deciding.has(name)).map((name) => this.#live.task(name));
  }

  #act(action, isPanel = false) {
    if (this.#live.isGone) return notify("This run was deleted: nothing can be decided any more.", "queued");
    if (this.#shown !== this.#live) return notify("This is the past: go back to now to decide.", "queued");
    const tasks = this.#targets(isPanel).map((task) => ({ executionId: this.#live.execution.id, name: task.name, label: this.#plan.labelOf(task.name), tags: task.tags }));
    if (tasks.length === 0) return this.#deciding.size || notify("Select a task first: arrows move, Space selects.", "queued");
    if (action === "approve") this.#decide(tasks, tasks.map((task) => addition(task, { tag: "approved", type: REVIEW })));
    else if (action === "reject") this.#dialog.open(tasks, { tag: "rejected", type: REVIEW, focus: "note" });
    else this.#dialog.open(tasks);
  }

  /** Show what was decided at once, marked until the server confirms it; if somebody was faster, say who. */
  async #decide(tasks, changes) {
    const names = tasks.map(({ name }) => name);
    for (const name of names) this.#deciding.add(name);
    this.#mark(changes);
    try {
      await send(changes);
      notify(`Written: ${wordsOf(changes)} on ${names.length === 1 ? this.#plan.labelOf(names[0]) : `${names.length} tasks`}.`);
      this.#table.deselect(names);
      setTimeout(() => this.#confirm(names), CONFIRMED);
    } catch (error) {
      if (error.status === 401) this.#signIn();
      notify(refusalOf(error), "failed");
      this.#refetch(); // whatever was written of it, and by whom
    }
    for (const name of names) this.#deciding.delete(name);
  }

  #mark(changes) {
    for (const { operation, task_name: name, tag, tag_type: type } of changes.flatMap(({ operations }) => operations)) {
      const task = this.#live.task(name);
      if (operation === "add" && !task.tags.some((one) => one.tag === tag && one.tag_type === type)) {
        task.pending = [...task.pending, { tag, tag_type: type }];
        this.#live.touch(task);
      }
    }
    this.#draw();
  }

  /** The event of a change usually comes before its answer. Where it does not come at all everything is asked for. */
  #confirm(names) {
    if (names.some((name) => this.#live.task(name).pending.length)) this.#refetch();
  }

  #drawTools() {
    const count = this.#table.selected.size;
    const isPast = this.#shown !== this.#live || !byId("gone").hidden;
    setText(byId("selected"), count ? `${count} selected` : "None selected");
    for (const button of document.querySelectorAll("[data-act]")) button.disabled = isPast;
  }
}

function wordsOf(changes) {
  const operations = changes.flatMap((change) => change.operations);
  const added = [...new Set(operations.filter(({ operation }) => operation === "add").map(({ tag }) => tag))];
  const removed = [...new Set(operations.filter(({ operation }) => operation === "remove").map(({ tag }) => tag))];
  return [...added, ...removed.map((tag) => `no longer ${tag}`)].join(", ");
}

new ExecutionPage().start();
