/** What every page does with what the server rendered: local times, and commands that can be copied. */

import { dress } from "./served.js";

dress(document);

document.addEventListener("click", async ({ target }) => {
  const button = target.closest(".command button");
  if (!button) return;
  const command = button.closest(".command").querySelector("pre").textContent.trim();
  const isCopied = await navigator.clipboard.writeText(command).then(() => true, () => false);
  button.textContent = isCopied ? "Copied" : "Not allowed";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});
