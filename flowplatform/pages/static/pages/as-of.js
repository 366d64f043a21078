/** The slider over a run's past: every place on it is a moment at which something changed, the last one is now. */

import { get } from "../flowplatform/api.js";
import { instant, preciseTime, utcTime } from "../flowplatform/format.js";
import { setText } from "../flowplatform/dom.js";

const PAUSE = 60; // milliseconds; a moment that the slider only passes is not asked for

export class AsOf {
  #root;
  #slider;
  #label;
  #back;
  #model;
  #look;
  #moments = [];
  #trail = []; // when tags came and went
  #timer = null;
  #asked = null; // aborts the request before the newest
  #wish = 0; // counts what people wanted: an older one is not fulfilled any more

  /**
   * @param {HTMLElement} root with the parts `slider`, `label` and `back`
   * @param {RunModel} model the live one
   * @param {(at: number|null, snapshot: object|null) => void} look called with how it was; with nulls for now
   */
  constructor(root, model, look) {
    this.#root = root;
    [this.#slider, this.#label, this.#back] = ["slider", "label", "back"].map((name) => root.querySelector(`[data-part=${name}]`));
    this.#model = model;
    this.#look = look;
    this.#slider.addEventListener("input", () => this.#moved());
    for (const kind of ["pointerdown", "focus"]) this.#slider.addEventListener(kind, () => this.#gather());
    this.#back.addEventListener("click", () => this.now());
    this.#gather(false);
  }

  /** Go to a moment, as the address names it. */
  async goTo(at) {
    const wish = (this.#wish += 1);
    this.#say(at);
    await this.#gather();
    if (wish === this.#wish) await this.#ask(at);
  }

  now() {
    this.#wish += 1;
    clearTimeout(this.#timer);
    this.#asked?.abort();
    this.#say(null);
    this.#gather(false);
    this.#look(null, null);
  }

  async #gather(withTags = true) {
    if (withTags) {
      const tags = await get("/api/task-tags", { flow_execution_id: this.#model.execution.id, include_deleted: true }).catch(() => []);
      this.#trail = tags.flatMap((tag) => [instant(tag.created_at), instant(tag.updated_at)]);
    }
    const steps = [...this.#model.tasks.values()].flatMap((task) => task.steps.map(([, at]) => at));
    this.#moments = [...new Set([instant(this.#model.execution.created_at), ...steps, ...this.#trail].map(Math.ceil))].sort((a, b) => a - b);
    this.#slider.max = this.#moments.length;
    const { at } = this.#root.dataset;
    this.#slider.value = at === undefined ? this.#moments.length : this.#placeOf(Number(at));
    if (at === undefined) this.#say(null);
  }

  /** Where a moment is on the slider: at the last change that it has seen. */
  #placeOf(at) {
    return Math.max(0, this.#moments.findLastIndex((moment) => moment <= at));
  }

  #moved() {
    const at = this.#moments[this.#slider.valueAsNumber] ?? null;
    this.#wish += 1;
    this.#say(at);
    clearTimeout(this.#timer);
    if (at === null) this.now();
    else this.#timer = setTimeout(() => this.#ask(at), PAUSE);
  }

  async #ask(at) {
    this.#asked?.abort();
    const asked = (this.#asked = new AbortController());
    this.#say(at);
    try {
      const found = await get(`/executions/${this.#model.execution.id}/snapshot`, { at: new Date(at).toISOString() }, asked.signal);
      if (asked === this.#asked) this.#look(at, found);
    } catch (error) {
      if (error.name !== "AbortError") setText(this.#label, `${preciseTime(at)} could not be loaded: ${error.message}`);
    }
  }

  #say(at) {
    if (at === null) delete this.#root.dataset.at;
    else this.#root.dataset.at = at;
    const words = at === null ? "now" : `${preciseTime(at)}, in the past`;
    setText(this.#label, words);
    this.#label.title = at === null ? "" : utcTime(at);
    this.#slider.setAttribute("aria-valuetext", words);
    this.#back.hidden = at === null;
  }
}
