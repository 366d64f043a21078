/** Tags beside a task: a few small labels, those that were sent and are not confirmed yet among them. */

const SHOWN = 3;

/**
 * Draw the tags of a task into an element, whatever was there.
 * @param {HTMLElement} root
 * @param {{tags: object[], pending: object[]}} task
 */
export function drawTags(root, { tags, pending }) {
  const all = [...tags, ...pending.map((one) => ({ ...one, isPending: true }))];
  const key = JSON.stringify(all.map(({ tag, tag_type: type, isPending }) => [type, tag, isPending]));
  if (root.dataset.drawn === key) return;
  root.dataset.drawn = key;
  const shown = all.slice(-SHOWN);
  const chips = shown.map(chipOf);
  if (all.length > SHOWN) chips.unshift(more(all.slice(0, -SHOWN)));
  root.replaceChildren(...chips);
}

/** One tag: its type in small, itself in bold. */
export function chipOf({ tag, tag_type: type, isPending = false }) {
  const chip = Object.assign(document.createElement("span"), { className: "tag", dir: "auto", title: `${type}: ${tag}` });
  const name = document.createElement("strong");
  name.textContent = tag;
  chip.append(`${type} `, name);
  if (isPending) {
    chip.classList.add("pending");
    chip.title += ", not confirmed yet";
  }
  return chip;
}

function more(tags) {
  const title = tags.map(({ tag, tag_type: type }) => `${type}: ${tag}`).join("\n");
  return Object.assign(document.createElement("span"), { className: "tag", textContent: `+${tags.length}`, title });
}
