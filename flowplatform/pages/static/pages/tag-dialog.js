/** The dialog that tags tasks: what to add, with a note, and which of the tags that stand to take away. */

import { addition, personOf, removal } from "./decisions.js";

export class TagDialog {
  #root;
  #form;
  #tasks = [];
  #decided;

  /**
   * @param {HTMLDialogElement} root `pages/tag_dialog.html`
   * @param {(tasks: ReviewedTask[], changes: Change[]) => void} decided called when the form is sent
   */
  constructor(root, decided) {
    this.#root = root;
    this.#form = root.querySelector("form");
    this.#decided = decided;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    root.querySelector("[data-part=cancel]").addEventListener("click", () => root.close());
  }

  /**
   * @param {ReviewedTask[]} tasks
   * @param {{tag?: string, type?: string, focus?: "tag"|"note"}} begin what the form says at first
   */
  open(tasks, { tag = "", type = "review", focus = "tag" } = {}) {
    this.#tasks = tasks;
    const { elements } = this.#form;
    elements.tag.value = tag;
    elements.type.value = type;
    elements.note.value = "";
    const names = tasks.length === 1 ? (tasks[0].label ?? tasks[0].name) : `${tasks.length} tasks`;
    this.#part("title").textContent = tag ? `Tag ${names}: ${tag}` : `Tag ${names}`;
    this.#listStanding();
    this.#root.showModal();
    elements[focus].focus();
  }

  /** Tags that stand on several of the tasks are one line. */
  #listStanding() {
    const kinds = new Map();
    for (const { tags } of this.#tasks) {
      for (const one of tags) {
        const key = JSON.stringify([one.tag_type, one.tag, one.tag_metadata ?? null]);
        kinds.set(key, [...(kinds.get(key) ?? []), one]);
      }
    }
    this.#part("standing").hidden = kinds.size === 0;
    this.#part("standing-list").replaceChildren(...[...kinds].map(([key, tags]) => choice(key, tags)));
  }

  #submit() {
    const { elements } = this.#form;
    const tag = elements.tag.value.trim();
    const type = elements.type.value.trim() || "review";
    const taken = new Set([...this.#form.querySelectorAll("[name=remove]:checked")].map(({ value }) => value));
    if (!tag && taken.size === 0) {
      elements.tag.setCustomValidity("Name a tag to add, or mark one to take away.");
      elements.tag.reportValidity();
      elements.tag.addEventListener("input", () => elements.tag.setCustomValidity(""), { once: true });
      return;
    }
    const changes = this.#tasks.map((task) => changeOf(task, taken, tag && { tag, type, note: elements.note.value.trim() }));
    this.#root.close();
    this.#decided(this.#tasks, changes.filter(({ operations }) => operations.length));
  }

  #part(name) {
    return this.#root.querySelector(`[data-part=${name}]`);
  }
}

function changeOf(task, taken, added) {
  const isTaken = (one) => taken.has(JSON.stringify([one.tag_type, one.tag, one.tag_metadata ?? null]));
  const less = removal(task, task.tags.filter(isTaken));
  if (!added) return less;
  const more = addition({ ...task, tags: task.tags.filter((one) => !isTaken(one)) }, added);
  const expected = [...less.expected, ...addition(task, added).expected];
  const byType = new Map(expected.map((one) => [one.tag_type, one]));
  return { operations: [...less.operations, ...more.operations], expected: [...byType.values()] };
}

function choice(key, tags) {
  const item = document.createElement("li");
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", name: "remove", value: key });
  const [one] = tags;
  const words = document.createElement("span");
  words.dir = "auto";
  const count = tags.length > 1 ? ` on ${tags.length} tasks` : `, by ${personOf(one.created_by)}`;
  words.textContent = `${one.tag_type}: ${one.tag}${count}`;
  label.append(box, words);
  item.append(label);
  return item;
}
