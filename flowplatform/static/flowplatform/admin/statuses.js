/** Gives the statuses of lists and pages of the admin their colour and glyph, as the platform's own pages do. */

import { GLYPHS, meaningOf } from "../states.js";

for (const badge of document.querySelectorAll(".status[data-status]")) {
  const { state, word } = meaningOf(badge.dataset.status);
  const glyph = document.createElement("span");
  glyph.textContent = GLYPHS[state];
  glyph.setAttribute("aria-hidden", "true");
  badge.dataset.state = state;
  badge.replaceChildren(glyph, word);
}
