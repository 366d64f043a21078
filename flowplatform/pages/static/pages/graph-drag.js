/** Pulling a scrolled view about. */

const DRAG = 4; // pixels: less is a click

/** Let a mouse pull the view about; a finger scrolls by itself. */
export function letDrag(scroller) {
  let from = null;
  scroller.addEventListener("pointerdown", ({ pointerType, button, clientX, clientY, target }) => {
    if (pointerType !== "mouse" || button !== 0 || target === scroller) return; // that is a scrollbar
    from = { clientX, clientY, left: scroller.scrollLeft, top: scroller.scrollTop, isDrag: false };
  });
  scroller.addEventListener("pointermove", ({ clientX, clientY, buttons, pointerId }) => {
    if (!from || !(buttons & 1)) return;
    const [x, y] = [clientX - from.clientX, clientY - from.clientY];
    if (!from.isDrag && Math.hypot(x, y) < DRAG) return;
    if (!from.isDrag) scroller.setPointerCapture(pointerId);
    from.isDrag = true;
    scroller.scrollLeft = from.left - x;
    scroller.scrollTop = from.top - y;
  });
  scroller.addEventListener("click", (event) => { // the end of a drag is no click
    if (from?.isDrag) event.stopPropagation();
    from = null;
  }, { capture: true });
}
