/** The lines between the tasks of a graph. */

/**
 * Draw an edge: level beside the tasks of a layer, bent between layers, with a tip at its end.
 * @param {number[][]} points the middles of its two tasks, and between them where it passes other layers
 * @param {"right"|"down"} direction in which time runs
 * @param {{width: number, height: number}} size of a task
 * @returns {string} the `d` of a path
 */
export function edgePath(points, direction, { width, height }) {
  const isRight = direction === "right";
  const half = (isRight ? width : height) / 2;
  const write = (along, across) => (isRight ? `${round(along)} ${round(across)}` : `${round(across)} ${round(along)}`);
  const [start, ...rest] = points.map(([x, y]) => (isRight ? [x, y] : [y, x]));
  let [along, across] = [start[0] + half, start[1]];
  let path = `M${write(along, across)}`;
  rest.forEach(([middle, side], order) => {
    const bend = (along + middle - half) / 2;
    path += `C${write(bend, across)} ${write(bend, side)} ${write(middle - half, side)}`;
    if (order < rest.length - 1) path += `L${write(middle + half, side)}`;
    [along, across] = [middle + half, side];
  });
  const end = along - 2 * half;
  return `${path}M${write(end - 5, across - 3.5)}L${write(end, across)}L${write(end - 5, across + 3.5)}`;
}

function round(number) {
  return Math.round(number * 10) / 10;
}
