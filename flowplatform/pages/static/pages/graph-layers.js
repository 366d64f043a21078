/**
 * A dependency graph in layers, without a library: what the drawing falls back to, and what tells beforehand how much
 * work the library would have. A graph is `{before, after}`: per task the indices of those it waits for, and of those
 * that wait for it. Tasks are numbered in an order in which they can run.
 */

/** The measures of a drawing in units of its own; at a zoom of 1 they are CSS pixels. */
export const SIZES = {
  right: { width: 192, height: 36, between: 12, layers: 56, margin: 16 },
  down: { width: 128, height: 36, between: 8, layers: 40, margin: 8 }, // three beside each other on a phone,
};

/** Return the layer of each task: 0 for those that wait for nobody, otherwise one more than the last they wait for. */
export function layersOf({ before }) {
  const layers = [];
  for (const dependencies of before) {
    let layer = 0;
    for (const other of dependencies) layer = Math.max(layer, layers[other] + 1);
    layers.push(layer);
  }
  return layers;
}

/** How many places a layout by ranks has to order: a task has one, and an edge one in each half layer that it crosses. */
export function workOf({ before }, layers) {
  let work = before.length;
  before.forEach((dependencies, index) => {
    for (const other of dependencies) work += 2 * (layers[index] - layers[other]) - 1;
  });
  return work;
}

/**
 * Place tasks by layer and, within it, near the middle of what they wait for: one pass, no untangling of edges.
 * @param {"right"|"down"} direction in which time runs
 * @returns {{nodes: number[][], bends: number[][]}} the middle of each task; edges have no bends
 */
export function placeInLayers(graph, layers, direction) {
  const { width, height, between, layers: gap } = SIZES[direction];
  const [along, across] = direction === "right" ? [width + gap, height + between] : [height + gap, width + between];
  const rows = Array.from({ length: Math.max(0, ...new Set(layers)) + 1 }, () => []);
  layers.forEach((layer, index) => rows[layer].push(index));
  const places = [];
  for (const row of rows) placeRow(row, graph.before, places, across);
  const nodes = layers.map((layer, index) => (
    direction === "right" ? [layer * along, places[index]] : [places[index], layer * along]
  ));
  return { nodes, bends: [] };
}

/** Place one row: in the order of what its tasks wish for, as near to it as those before them allow. */
function placeRow(row, before, places, step) {
  const wishes = new Map(row.map((index, order) => [
    index, before[index].length ? mean(before[index].map((other) => places[other])) : (order - (row.length - 1) / 2) * step,
  ]));
  row.sort((one, other) => wishes.get(one) - wishes.get(other) || one - other);
  let free = -Infinity;
  for (const index of row) {
    places[index] = Math.max(wishes.get(index), free);
    free = places[index] + step;
  }
  const drift = mean(row.map((index) => places[index] - wishes.get(index)));
  for (const index of row) places[index] -= drift;
}

function mean(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}
