/** The list of flows: draws the state of each last run from what the server counted. */

import { countStatuses, meaningOfRun } from "../flowplatform/states.js";
import { drawBadge, drawProgress } from "../flowplatform/widgets.js";
import { setText } from "../flowplatform/dom.js";

for (const link of document.querySelectorAll("[data-run]")) {
  const { status, total, statuses } = link.dataset;
  const counts = countStatuses(JSON.parse(statuses), Number(total));
  const part = (name) => link.querySelector(`[data-part=${name}]`);
  drawBadge(part("badge"), meaningOfRun(status, counts, Number(total)));
  drawProgress(part("progress"), counts);
  setText(part("count"), `${counts.completed} of ${total}`);
}
