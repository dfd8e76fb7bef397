// The tasks of this page by UID, and who made whom. Does with the server's steps what
// taskctl/ui/feed.py apply_told does.

import { CREATED, EXITED, OBSERVED, isOver, natural } from "./format.js";

export class Store {
  constructor() {
    this.version = 0;
    this.clear();
  }

  clear() {
    this.tasks = new Map();
    this.children = new Map();
    this.clusters = new Map();
    this.version += 1;
  }

  put(rows) {
    for (const row of rows) {
      const old = this.tasks.get(row.uid);
      if (old && old.parent !== row.parent) this.unlink(old);
      this.tasks.set(row.uid, row);
      if (row.parent) {
        let siblings = this.children.get(row.parent);
        if (!siblings) this.children.set(row.parent, (siblings = new Set()));
        siblings.add(row.uid);
      }
    }
    this.version += 1;
  }

  remove(uids) {
    for (const uid of uids) {
      const row = this.tasks.get(uid);
      if (!row) continue;
      this.unlink(row);
      this.tasks.delete(uid);
    }
    this.version += 1;
  }

  unlink(row) {
    const siblings = this.children.get(row.parent);
    if (!siblings) return;
    siblings.delete(row.uid);
    if (!siblings.size) this.children.delete(row.parent);
  }

  childrenOf(uid) {
    const found = this.children.get(uid);
    return found ? this.inOrder([...found]) : [];
  }

  inOrder(uids) {
    const tasks = uids.map((uid) => this.tasks.get(uid)).sort(older);
    for (let at = 0; at < tasks.length; at += 1) uids[at] = tasks[at].uid;
    return uids;
  }

  // A task whose parent is not here stands where a root would, so that none is lost.
  roots() {
    const found = [];
    for (const row of this.tasks.values()) {
      if (!row.parent || !this.tasks.has(row.parent)) found.push(row.uid);
    }
    return this.inOrder(found);
  }

  // Everything below some tasks, they themselves not included; in no order.
  below(uids) {
    const found = [], stack = [...uids].reverse();
    const seen = new Set(uids);
    while (stack.length) {
      for (const child of this.children.get(stack.pop()) ?? []) {
        if (seen.has(child)) continue;
        seen.add(child);
        found.push(child);
        stack.push(child);
      }
    }
    return found;
  }

  // Tasks of one tree, or of all where root is empty.
  within(root) {
    return root ? [root, ...this.below([root])].filter((uid) => this.tasks.has(uid)) : [...this.tasks.keys()];
  }
}

export function older(left, right) {
  return (left.times[CREATED] ?? 0) - (right.times[CREATED] ?? 0) || natural(left.name, right.name);
}

const WINDOW_MS = 30000;

// How far it is and how fast it goes: counts by state, ends per second, milliseconds left.
export function progress(tasks, now) {
  const counts = {};
  let ended = 0, recent = 0, first = Infinity, last = 0;
  for (const task of tasks) {
    counts[task.state] = (counts[task.state] ?? 0) + 1;
    first = Math.min(first, task.times[CREATED] ?? Infinity);
    if (!isOver(task)) continue;
    ended += 1;
    const end = task.times[OBSERVED] ?? task.times[EXITED];
    if (end === null) continue;
    last = Math.max(last, end);
    if (end > now - WINDOW_MS) recent += 1;
  }
  const total = tasks.length, left = total - ended;
  const span = Math.min(WINDOW_MS, Math.max(1000, now - first));
  const rate = left ? (recent * 1000) / span : 0;
  const whole = last > first ? last - first : null;
  return { counts, total, ended, left, rate, etaMs: rate > 0 ? (left / rate) * 1000 : null,
    wallMs: left ? now - first : whole };
}
