/** Short messages about what somebody just did: heard by screen readers, gone by themselves unless they are bad news. */

const SHOWN = 6000; // milliseconds
const MOST = 4; // at a time

/**
 * Say something in the corner of the page.
 * @param {string} text
 * @param {"completed"|"failed"|"awaiting"|"queued"} state failed and awaiting stay until they are dismissed
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
  const region = document.getElementById("toasts"); // is there from the beginning, or the first one is not read out
  for (const older of [...region.children]) if (older.firstChild.textContent === text) older.remove();
  while (region.childElementCount >= MOST) region.firstElementChild.remove();
  region.append(notice);
  if (state === "completed" || state === "queued") setTimeout(() => notice.remove(), SHOWN);
}
