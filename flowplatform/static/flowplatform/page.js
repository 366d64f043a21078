/** What every page does with what the server rendered: local times, and commands that can be copied. */

import { drawTime } from "./widgets.js";
import { instant } from "./format.js";

for (const node of document.querySelectorAll("time[datetime]")) drawTime(node, instant(node.dateTime));

for (const command of document.querySelectorAll(".command")) {
  const button = command.querySelector("button");
  button.hidden = !navigator.clipboard; // only where the browser lets pages copy: over HTTPS or on this machine
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command.querySelector("pre").textContent.trim());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
