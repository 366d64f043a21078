/** Small steps on the document that keep updates cheap: nothing is written that is already there. */

/** Copy a <template> and name its parts (`data-part`). The markup stays in the HTML, where it can be read. */
export function stamp(templateId) {
  const root = document.getElementById(templateId).content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const node of root.querySelectorAll("[data-part]")) parts[node.dataset.part] = node;
  return { root, ...parts };
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Show `rows` in this order with as few moves as possible: a row keeps its focus and the page its place. */
export function arrange(parent, rows) {
  let place = parent.firstElementChild;
  for (const row of rows) {
    if (row === place) place = place.nextElementSibling;
    else parent.insertBefore(row, place);
  }
  while (place) {
    const next = place.nextElementSibling;
    place.remove();
    place = next;
  }
}

/**
 * Gather calls until the browser draws: hundreds of events a second cost one update per frame.
 * @returns {() => void} asks for `update` once in the next frame
 */
export function oncePerFrame(update) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      update();
    });
  };
}
