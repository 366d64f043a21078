/** What every page does with what the server rendered: local times, and commands that can be copied. */

import { dress } from "./served.js";

dress(document);

document.addEventListener("click", async ({ target }) => {
  const button = target.closest(".command button");
  if (!button) return;
  await navigator.clipboard.writeText(button.closest(".command").querySelector("pre").textContent.trim());
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});
