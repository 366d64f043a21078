/** The tasks of one flow version: in which order they can run, and what people call them. */

const NAMED = 5; // dependencies that a description names

export class Plan {
  #tasks;
  #titles = new Map(); // title -> how many tasks have it

  /** @param {{name: string, title?: string, depends_on?: string[]}[]} tasks of a flow definition */
  constructor(tasks) {
    this.#tasks = new Map(byDependency(tasks).map((task) => [task.name, task]));
    for (const { title } of tasks) this.#titles.set(title, (this.#titles.get(title) ?? 0) + 1);
  }

  get size() {
    return this.#tasks.size;
  }

  /** The names, each after everything it depends on. */
  get names() {
    return [...this.#tasks.keys()];
  }

  /** A task's title where that tells it from the others, or else its name. */
  labelOf(name) {
    const title = this.#tasks.get(name)?.title;
    return title && this.#titles.get(title) === 1 ? title : name;
  }

  /** A task's label and name in full, and what it waits for. */
  describe(name) {
    return [...new Set([this.labelOf(name), name]), this.waitsFor(name)].filter(Boolean).join("\n");
  }

  /** "after extract, classify and 3 more"; nothing for a task that waits for no other. */
  waitsFor(name) {
    const before = this.#tasks.get(name)?.depends_on ?? [];
    if (!before.length) return "";
    const named = before.slice(0, NAMED).map((other) => this.labelOf(other)).join(", ");
    return `after ${named}${before.length > NAMED ? ` and ${before.length - NAMED} more` : ""}`;
  }

  /** As the definition has them: what the graph draws. */
  get definition() {
    return [...this.#tasks.values()];
  }
}

/** Sort tasks so that each comes after its dependencies, in the order of the definition otherwise (Kahn). */
function byDependency(tasks) {
  const followers = new Map(tasks.map(({ name }) => [name, []]));
  const missing = new Map();
  for (const task of tasks) {
    const dependencies = task.depends_on ?? [];
    missing.set(task, dependencies.length);
    for (const name of dependencies) followers.get(name).push(task);
  }
  const ready = tasks.filter((task) => missing.get(task) === 0);
  for (const task of ready) { // grows while it is walked
    for (const follower of followers.get(task.name)) {
      missing.set(follower, missing.get(follower) - 1);
      if (missing.get(follower) === 0) ready.push(follower);
    }
  }
  return ready;
}
