/** Short messages about what somebody just did: heard by screen readers, gone by themselves unless they are bad news. */

const SHOWN = 6000; // milliseconds

/**
 * Say something in the corner of the page.
 * @param {string} text
 * @param {"completed"|"failed"|"awaiting"} state failed and awaiting stay until they are dismissed
 */
export function notify(text, state = "completed") {
  const notice = document.createElement("div");
  notice.className = "toast";
  notice.dataset.state = state;
  const words = document.createElement("span");
  words.dir = "auto";
  words.textContent = text;
  const button = Object.assign(document.createElement("button"), { type: "button", className: "plain", textContent: "×" });
  button.setAttribute("aria-label", "Dismiss");
  button.addEventListener("click", () => notice.remove());
  notice.append(words, button);
  region().append(notice);
  if (state === "completed") setTimeout(() => notice.remove(), SHOWN);
}

function region() {
  const known = document.getElementById("toasts");
  if (known) return known;
  const made = Object.assign(document.createElement("div"), { id: "toasts" });
  made.setAttribute("role", "status");
  document.body.append(made);
  return made;
}
