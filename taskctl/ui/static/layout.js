// From tasks to boxes and where they stand. Pure: no canvas, no document.
//
// Siblings of one function are one box with a square for each task; a chain (each task makes
// one more) is one box too. What does not fit into the budget stays folded in its parent.

import { RANK } from "./format.js";

export const CARD = { width: 196, head: 40, pad: 10, gapX: 46, gapY: 12 };
const ALONE = 6;          // so many siblings of one function are drawn one by one
const CHAIN = 4;          // so many in a row are a chain
const SHOWN = 100;        // members of a group that was opened, at most
const BUDGET = 90;        // boxes that open by themselves
const DEPTH = 200;        // levels that are drawn


// choices: key of a box to whether the user has opened (true) or closed (false) it.
export function layOut(store, rootUids, choices, budget = BUDGET) {
  const nodes = [];
  const tops = gather(store, rootUids, "", choices);
  const queue = tops.map((node) => ({ node, depth: 0 }));
  let used = tops.length;
  nodes.push(...tops);
  for (let at = 0; at < queue.length; at += 1) {
    const { node, depth } = queue[at];
    node.depth = depth;
    const below = childrenOfAll(store, node);
    node.foldable = below.length > 0;
    const choice = choices.get(node.key);
    if (!below.length) continue;
    const kids = gather(store, below, node.key, choices);
    const fits = used + kids.length <= budget && choice !== false;
    const asked = choice === true || kids.some((kid) => kid.memberOf || kid.chained);
    if (depth < DEPTH && (asked || fits)) {
      node.kids = kids;
      used += kids.length;
      for (const kid of kids) {
        kid.parent = node;
        nodes.push(kid);
        queue.push({ node: kid, depth: depth + 1 });
      }
    } else {
      node.folded = store.inOrder(store.below(node.uids));
    }
  }
  for (const node of nodes) measure(store, node);
  place(nodes, tops);
  return nodes;
}

function childrenOfAll(store, node) {
  const from = node.kind === "chain" ? [node.uids[node.uids.length - 1]] : node.uids;
  if (from.length === 1) return store.childrenOf(from[0]);
  return from.flatMap((uid) => [...(store.children.get(uid) ?? [])]);
}

function gather(store, uids, path, choices) {
  const byLabel = new Map();
  for (const uid of uids) {
    const { label } = store.tasks.get(uid);
    if (byLabel.has(label)) byLabel.get(label).push(uid);
    else byLabel.set(label, [uid]);
  }
  const nodes = [];
  for (const [label, members] of byLabel) {
    const key = `${path}/${label}`;
    if (members.length <= ALONE) nodes.push(...members.map((uid) => single(store, uid, choices)));
    else nodes.push(...grouped(store, key, label, members, choices));
  }
  return nodes;
}

function grouped(store, key, label, members, choices) {
  store.inOrder(members);
  if (!choices.get(`${key}#members`)) {
    return [box("group", key, label, members)];
  }
  // What failed and what runs comes first.
  const ranked = members.map((uid, order) => [RANK.get(store.tasks.get(uid).state), order, uid]);
  ranked.sort((left, right) => left[0] - right[0] || left[1] - right[1]);
  const shown = ranked.slice(0, SHOWN).map(([, , uid]) => single(store, uid, choices));
  for (const node of shown) node.memberOf = `${key}#members`;
  if (members.length <= SHOWN) return shown;
  const rest = box("group", `${key}#rest`, label, ranked.slice(SHOWN).map(([, , uid]) => uid));
  rest.memberOf = `${key}#members`;
  return [...shown, rest];
}

function single(store, uid, choices) {
  const run = [uid], seen = new Set(run);
  for (;;) {
    const next = store.children.get(run[run.length - 1]);
    if (!next || next.size !== 1) break;
    const [only] = next;
    if (seen.has(only) || !store.tasks.has(only)) break;
    seen.add(only);
    run.push(only);
  }
  const { label } = store.tasks.get(uid);
  if (run.length >= CHAIN && !choices.get(`${uid}#members`)) return box("chain", uid, label, run);
  const node = box("task", uid, label, [uid]);
  // A chain that was opened would run out of the picture: it is drawn downwards.
  if (run.length >= CHAIN) node.chained = true;
  return node;
}

function box(kind, key, label, uids) {
  return { kind, key, label, uids, kids: [], parent: null, folded: null, memberOf: null, foldable: false,
    chained: false, depth: 0, x: 0, y: 0, width: CARD.width, height: CARD.head, dots: null, counts: {} };
}

// --- sizes --------------------------------------------------------------------------

function measure(store, node) {
  let dots = null;
  if (node.kind !== "task") dots = node.uids;
  if (node.folded) dots = dots ? [...dots, ...node.folded] : node.folded;
  const all = node.folded ? [...node.uids, ...node.folded] : node.uids;
  node.counts = {};
  for (const uid of all) {
    const { state } = store.tasks.get(uid);
    node.counts[state] = (node.counts[state] ?? 0) + 1;
  }
  if (!dots) return;
  if (node.kind === "group") dots = byState(store, dots);
  const grain = grainOf(dots.length, node.kind === "chain" && !node.folded);
  node.width = grain.width;
  const columns = Math.max(1, Math.floor((node.width - 2 * CARD.pad + grain.gap) / grain.pitch));
  node.dots = { uids: dots, columns, ...grain };
  node.height = CARD.head + Math.ceil(dots.length / columns) * grain.pitch - grain.gap + CARD.pad;
}

function byState(store, uids) {
  const ranks = new Map(uids.map((uid, order) => [uid, RANK.get(store.tasks.get(uid).state) * 1e7 + order]));
  return [...uids].sort((left, right) => ranks.get(left) - ranks.get(right));
}

function grainOf(number, chain) {
  // A short chain is drawn as beads on a string.
  if (chain && number <= 120) return { size: 15, gap: 11, pitch: 26, width: Math.max(CARD.width, Math.min(16, number) * 26 + 9), beads: true };
  for (const [most, size, gap, width] of [[60, 11, 3, 196], [300, 8, 2, 196], [1200, 5, 1, 222], [4000, 4, 1, 322]]) {
    if (number <= most) return { size, gap, pitch: size + gap, width };
  }
  return { size: 2.5, gap: 0.75, pitch: 3.25, width: number <= 20000 ? 422 : 822 };
}

// Which square of a box is at a point of the picture; null: none.
export function dotAt(node, x, y) {
  if (!node.dots) return null;
  const { columns, pitch, uids } = node.dots;
  const column = Math.floor((x - node.x - CARD.pad) / pitch);
  const line = Math.floor((y - node.y - CARD.head) / pitch);
  if (column < 0 || column >= columns || line < 0) return null;
  return uids[line * columns + column] ?? null;
}

// --- places -------------------------------------------------------------------------

function place(nodes, tops) {
  // Columns are as wide as their widest box.
  const widths = [];
  for (const node of nodes) {
    node.column = node.parent ? node.parent.column + (node.parent.chained && node.chained ? 0 : 1) : 0;
    widths[node.column] = Math.max(widths[node.column] ?? 0, node.width);
  }
  const lefts = [0];
  for (let column = 0; column < widths.length; column += 1) {
    lefts[column + 1] = lefts[column] + (widths[column] ?? 0) + CARD.gapX;
  }
  // Children stand below one another, their parent beside their middle; no recursion, since
  // trees are deep.
  for (let at = nodes.length - 1; at >= 0; at -= 1) {
    const node = nodes[at];
    let below = 0;
    for (const kid of node.kids) below += kid.span + CARD.gapY;
    below = Math.max(0, below - CARD.gapY);
    node.down = node.kids.length === 1 && node.kids[0].column === node.column;
    node.span = node.down ? node.height + CARD.gapY + below : Math.max(node.height, below);
    node.belowSpan = below;
  }
  let top = 0;
  for (const node of tops) {
    node.top = top;
    top += node.span + CARD.gapY * 2;
  }
  for (const node of nodes) {
    node.x = lefts[node.column];
    if (node.down) {
      node.y = node.top;
      node.kids[0].top = node.top + node.height + CARD.gapY;
      continue;
    }
    let y = node.top + (node.span - node.belowSpan) / 2;
    for (const kid of node.kids) {
      kid.top = y;
      y += kid.span + CARD.gapY;
    }
    node.y = node.top + (node.span - node.height) / 2;
  }
}

export function extentOf(nodes) {
  let right = 0, bottom = 0;
  for (const node of nodes) {
    right = Math.max(right, node.x + node.width);
    bottom = Math.max(bottom, node.y + node.height);
  }
  return { width: right, height: bottom };
}
