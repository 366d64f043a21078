/** The tasks of a flow as a graph of numbers, and what people call them. */

import { Plan } from "./plan.js";

const NAMED = 5; // dependencies that a label names

export class TaskGraph {
  /** The names, each after everything it depends on: a task's place in here is its number. */
  names;
  /** Per task the numbers of those it waits for. */
  before;
  /** Per task the numbers of those that wait for it. */
  after;
  #numbers;
  #plan;

  /** @param {{name: string, title?: string, depends_on?: string[]}[]} tasks of a flow definition */
  constructor(tasks) {
    this.#plan = new Plan(tasks);
    this.names = this.#plan.names;
    this.#numbers = new Map(this.names.map((name, index) => [name, index]));
    this.after = this.names.map(() => []);
    this.before = this.names.map(() => []);
    for (const { name, depends_on: dependencies = [] } of tasks) {
      const index = this.numberOf(name);
      this.before[index] = [...new Set(dependencies)].map((other) => this.numberOf(other));
      for (const other of this.before[index]) this.after[other].push(index);
    }
  }

  get size() {
    return this.names.length;
  }

  get edgeCount() {
    return this.before.reduce((sum, dependencies) => sum + dependencies.length, 0);
  }

  numberOf(name) {
    return this.#numbers.get(name);
  }

  /** Whether a task waits for nobody, and nobody for it. */
  isLoose(index) {
    return !this.before[index].length && !this.after[index].length;
  }

  labelOf(index) {
    return this.#plan.labelOf(this.names[index]);
  }

  /** A task's label and name in full, and what it waits for: for a tooltip. */
  describe(index) {
    return this.#plan.describe(this.names[index]);
  }

  /** What a screen reader says of a task: "classify, completed, after extract_text". */
  say(index, word) {
    const dependencies = this.before[index];
    const named = dependencies.slice(0, NAMED).map((other) => this.labelOf(other)).join(", ");
    const more = dependencies.length > NAMED ? ` and ${dependencies.length - NAMED} more` : "";
    return [this.labelOf(index), word, named && `after ${named}${more}`].filter(Boolean).join(", ");
  }

  /** The graph of these tasks alone, numbered anew; they need all of their dependencies among them. */
  part(indices) {
    const numbers = new Map(indices.map((index, number) => [index, number]));
    return { before: indices.map((index) => this.before[index].map((other) => numbers.get(other))) };
  }
}
