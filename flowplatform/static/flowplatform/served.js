/** What scripts make of what the server rendered: local times, names cut in the middle, lengths of time that grow. */

import { drawName, drawTime } from "./widgets.js";
import { elapsed, instant } from "./format.js";
import { setText } from "./dom.js";

/** Draw everything below `root` that looks better with a script. Doing so twice changes nothing. */
export function dress(root) {
  for (const node of root.querySelectorAll("time[datetime]")) drawTime(node, instant(node.dateTime));
  for (const node of root.querySelectorAll(".name[title]")) drawName(node, node.title);
  // Only where the browser lets pages copy: over HTTPS or on this machine.
  for (const button of root.querySelectorAll(".command button")) button.hidden = !navigator.clipboard;
}

/** Write how long what has a `data-since` has been going on. */
export function drawElapsed(root, now) {
  for (const node of root.querySelectorAll("[data-since]")) setText(node, elapsed(now - instant(node.dataset.since)));
}
