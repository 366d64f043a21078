/** Where the tasks of a graph are drawn: by dagre in a worker, or in plain layers where that would take too long. */

import { SIZES, layersOf, placeInLayers, workOf } from "./graph-layers.js";

const MOST_WORK = 3000; // places to order: dagre takes about two seconds for so many
const PATIENCE = 6000; // milliseconds: slow machines get plain layers in the end

/**
 * @typedef {object} Placing
 * @property {"right"|"down"} direction in which time runs
 * @property {number[][]} nodes the middle of each task
 * @property {number[][][][]} bends per task and dependency the points that their edge passes
 * @property {number[]} loose the tasks without edges, in rows
 * @property {number} columns how many of them are in a row
 * @property {number} width of the drawing
 * @property {number} height of the drawing
 */

/**
 * Place the tasks of a graph. Tasks without edges stand in rows below the others: a column of them says nothing.
 * @param {import("./graph-tasks.js").TaskGraph} graph
 * @param {"right"|"down"} direction
 * @param {AbortSignal} signal ends the work when nobody waits for it any more
 * @returns {Promise<Placing>}
 */
export async function place(graph, direction, signal) {
  const all = graph.names.map((_, index) => index);
  const tied = all.filter((index) => !graph.isLoose(index));
  const loose = all.filter((index) => graph.isLoose(index));
  const placed = await placeTied(graph.part(tied), direction, signal);
  const placing = { direction, nodes: [], bends: all.map(() => []), loose };
  keepOrder(placed, direction);
  moveToOrigin(placed, SIZES[direction]);
  tied.forEach((index, number) => {
    placing.nodes[index] = placed.nodes[number];
    placing.bends[index] = placed.bends[number] ?? [];
  });
  placeLoose(placing, placed.nodes);
  return measure(placing);
}

async function placeTied(part, direction, signal) {
  const layers = layersOf(part);
  if (workOf(part, layers) > MOST_WORK || !layers.length) return placeInLayers(part, layers, direction);
  try {
    return await askWorker({ before: part.before, direction }, signal);
  } catch {
    return placeInLayers(part, layers, direction); // too slow, too deep for the library's recursion, or no worker allowed
  }
}

function askWorker(question, signal) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./graph-layout.js", import.meta.url), { type: "module" });
    const end = (settle, value) => {
      clearTimeout(timer);
      worker.terminate();
      settle(value);
    };
    const timer = setTimeout(() => end(reject, new Error("The layout takes too long.")), PATIENCE);
    worker.addEventListener("message", ({ data }) => end(resolve, data));
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      end(reject, new Error("The layout failed."));
    });
    signal.addEventListener("abort", () => end(reject, signal.reason));
    worker.postMessage(question);
  });
}

/** Mirror a drawing in which most tasks of a layer stand in the opposite order to that of the definition. */
function keepOrder({ nodes, bends }, direction) {
  const [along, across] = direction === "right" ? [0, 1] : [1, 0];
  const last = new Map(); // by layer, the task before
  let order = 0;
  for (const node of nodes) {
    const layer = Math.round(node[along]);
    if (last.has(layer)) order += Math.sign(node[across] - last.get(layer)[across]);
    last.set(layer, node);
  }
  if (order < 0) for (const point of [...nodes, ...bends.flat(2)]) point[across] *= -1;
}

/** Move everything so that it begins at the margin. */
function moveToOrigin({ nodes, bends }, { width, height, margin }) {
  const left = least(nodes, 0) - width / 2 - margin;
  const top = least(nodes, 1) - height / 2 - margin;
  for (const point of [...nodes, ...bends.flat(2)]) {
    point[0] -= left;
    point[1] -= top;
  }
}

function placeLoose(placing, tied) {
  const { width, height, between, layers, margin } = SIZES[placing.direction];
  const [across, down] = [width + 2 * between, height + between];
  const wide = placing.direction === "right" ? Math.max(5, Math.ceil(Math.sqrt(placing.loose.length / 2))) : 2;
  placing.columns = tied.length ? Math.max(wide, Math.floor((most(tied, 0) + width / 2) / across)) : wide;
  const top = tied.length ? most(tied, 1) + layers : margin;
  placing.loose.forEach((index, order) => {
    const [column, row] = [order % placing.columns, Math.floor(order / placing.columns)];
    placing.nodes[index] = [margin + width / 2 + column * across, top + height / 2 + row * down];
  });
}

function measure(placing) {
  const { width, height, margin } = SIZES[placing.direction];
  const points = [...placing.nodes, ...placing.bends.flat(2)];
  placing.width = most(points, 0) + width / 2 + margin;
  placing.height = most(points, 1) + height / 2 + margin;
  return placing;
}

function least(points, axis) {
  return points.reduce((result, point) => Math.min(result, point[axis]), Infinity);
}

function most(points, axis) {
  return points.reduce((result, point) => Math.max(result, point[axis]), 0);
}
