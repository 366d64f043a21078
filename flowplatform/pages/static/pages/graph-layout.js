/** The worker that places the tasks of a graph by dagre, so that the page stays smooth meanwhile. */

import { Graph, layout } from "../vendor/dagre/dagre.esm.js";
import { SIZES } from "./graph-layers.js";

self.addEventListener("message", ({ data: { before, direction } }) => self.postMessage(place(before, direction)));

/**
 * @param {number[][]} before per task the indices of those it waits for
 * @param {"right"|"down"} direction in which time runs
 * @returns {{nodes: number[][], bends: number[][][][]}} the middle of each task, and per task and dependency the points
 *   where their edge passes the layers between them
 */
function place(before, direction) {
  const graph = new Graph();
  const { width, height, between, layers } = SIZES[direction];
  // The default ranker, network-simplex, takes ten times as long for a thousand tasks and looks the same.
  const distances = { nodesep: between, edgesep: between, ranksep: layers };
  graph.setGraph({ ...distances, rankdir: direction === "right" ? "LR" : "TB", ranker: "tight-tree" });
  graph.setDefaultEdgeLabel(() => ({}));
  // Numbers and not names: a task may be called __proto__.
  before.forEach((_, index) => graph.setNode(String(index), { width, height }));
  before.forEach((dependencies, index) => dependencies.forEach((other) => graph.setEdge(String(other), String(index))));
  layout(graph);
  const nodes = before.map((_, index) => [graph.node(String(index)).x, graph.node(String(index)).y]);
  const main = direction === "right" ? 0 : 1;
  const onLayer = new Set(nodes.map((middle) => Math.round(middle[main])));
  const bends = before.map((dependencies, index) => dependencies.map((other) => {
    const points = graph.edge(String(other), String(index)).points.map(({ x, y }) => [x, y]);
    return points.slice(1, -1).filter((point) => onLayer.has(Math.round(point[main])));
  }));
  return { nodes, bends };
}
