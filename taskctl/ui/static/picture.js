// The tree as a picture.

import { CARD, dotAt, extentOf, layOut } from "./layout.js";
import { Sheet, colourOf, cutText } from "./canvas.js";
import { STATES, count, nameOf, progressOf, ranMs, shownState, took, verdict } from "./format.js";

const NEAREST = 1.3, FARTHEST = 0.08, READABLE = 0.62, EASE_MS = 220, MARGIN = 22;

export class Picture {
  // app: store, now(), roots(), matches(task), select(uid), openGroup(node), tip(text, x, y), speak(text)
  constructor(canvas, app) {
    this.app = app;
    this.canvas = canvas;
    this.nodes = [];
    this.byKey = new Map();
    this.choices = new Map();
    this.from = new Map();
    this.easeBegan = 0;
    this.view = { x: MARGIN, y: MARGIN, k: 1 };
    this.follow = true;
    this.focus = "";
    this.calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.sheet = new Sheet(canvas, {
      draw: (context, colours, time) => this.draw(context, colours, time),
      wheel: (x, y, factor) => this.zoom(factor, x, y),
      drag: (dx, dy) => { this.follow = false; this.view.x += dx; this.view.y += dy; this.app.tip(""); },
      point: (x, y) => this.point(x, y),
      click: (x, y) => this.click(x, y),
      leave: () => this.app.tip(""),
      resized: () => { if (this.follow) this.fit(); },
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  update() {
    const before = new Map(this.nodes.map((node) => [node.key, this.spot(node, performance.now())]));
    this.nodes = layOut(this.app.store, this.app.roots(), this.choices);
    this.byKey = new Map(this.nodes.map((node) => [node.key, node]));
    const moved = this.nodes.some((node) => {
      const old = before.get(node.key);
      return old && (Math.abs(old.x - node.x) > 1 || Math.abs(old.y - node.y) > 1);
    });
    this.from = moved && !this.calm ? before : new Map();
    this.easeBegan = performance.now();
    if (this.focus && !this.byKey.has(this.focus)) this.focus = "";
    if (this.follow) this.fit();
    this.sheet.request();
  }

  // Where a box is drawn at this moment, on its way to its place.
  spot(node, time) {
    const old = this.from.get(node.key) ?? (node.parent && this.from.size ? this.from.get(node.parent.key) : null);
    const share = Math.min(1, (time - this.easeBegan) / EASE_MS);
    if (!old || share >= 1) return { x: node.x, y: node.y };
    const eased = 1 - (1 - share) ** 3;
    return { x: old.x + (node.x - old.x) * eased, y: old.y + (node.y - old.y) * eased };
  }

  fit() {
    const { width, height } = extentOf(this.nodes);
    const { width: w, height: h } = this.sheet;
    if (!w || !width) return;
    const whole = Math.min((w - 2 * MARGIN) / width, (h - 2 * MARGIN) / height);
    // Rather a part that can be read than all that cannot; the rest is a drag away.
    const k = Math.min(NEAREST, Math.max(READABLE, whole));
    const x = width * k <= w - 2 * MARGIN ? MARGIN + Math.min(60, (w - 2 * MARGIN - width * k) / 2) : MARGIN;
    const top = this.nodes.length ? this.nodes[0].y * k : 0;
    const y = height * k <= h - 2 * MARGIN ? Math.min((h - height * k) / 2.6, 120) : Math.min(MARGIN, h / 2 - top);
    this.view = { x, y: Math.max(MARGIN - Math.max(0, top - h / 3), y), k };
  }

  fitAll() {
    const { width, height } = extentOf(this.nodes);
    const { width: w, height: h } = this.sheet;
    if (this.follow && width) {
      const k = Math.max(FARTHEST, Math.min(NEAREST, (w - 2 * MARGIN) / width, (h - 2 * MARGIN) / height));
      this.follow = false;
      this.view = { x: (w - width * k) / 2, y: (h - height * k) / 2, k };
    } else {
      this.follow = true;
      this.fit();
    }
    this.sheet.request();
  }

  zoom(factor, x = this.sheet.width / 2, y = this.sheet.height / 2) {
    this.follow = false;
    const k = Math.min(2, Math.max(FARTHEST, this.view.k * factor));
    this.view.x = x - ((x - this.view.x) * k) / this.view.k;
    this.view.y = y - ((y - this.view.y) * k) / this.view.k;
    this.view.k = k;
    this.sheet.request();
  }

  // --- pointing -----------------------------------------------------------------------

  at(x, y) {
    const px = (x - this.view.x) / this.view.k, py = (y - this.view.y) / this.view.k;
    const node = this.nodes.find((one) => px >= one.x && px <= one.x + one.width && py >= one.y && py <= one.y + one.height);
    return { node, uid: node ? dotAt(node, px, py) : null };
  }

  point(x, y) {
    const { node, uid } = this.at(x, y);
    this.canvas.classList.toggle("pointing", Boolean(node));
    const task = uid ? this.app.store.tasks.get(uid) : node?.kind === "task" ? this.app.store.tasks.get(node.key) : null;
    this.app.tip(task ? describe(task, this.app.now()) : "", x, y);
  }

  click(x, y) {
    this.canvas.focus({ preventScroll: true });
    const { node, uid } = this.at(x, y);
    if (!node) { this.focus = ""; this.app.select(""); this.sheet.request(); return; }
    this.focus = node.key;
    if (uid) this.app.select(uid);
    else this.open(node);
    this.sheet.request();
  }

  open(node) {
    if (node.folded) { this.choices.set(node.key, true); this.update(); }
    if (node.kind === "task") this.app.select(node.key);
    else this.app.openGroup(node);
  }

  // Draw the members of a group or chain one by one, or take that back.
  spread(node) {
    if (node.kind === "task") {
      if (node.memberOf) this.choices.delete(node.memberOf);
      else if (this.choices.get(`${node.key}#members`)) this.choices.delete(`${node.key}#members`);
      else if (node.foldable) this.choices.set(node.key, Boolean(node.folded));
    } else this.choices.set(`${node.key.replace(/#rest$/, "")}#members`, true);
    this.follow = false;
    this.update();
  }

  key(event) {
    const node = this.byKey.get(this.focus);
    const step = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" }[event.key];
    if (step) {
      event.preventDefault();
      this.move(node, step);
    } else if (event.key === "Enter" && node) {
      this.open(node);
    } else if (event.key === " " && node) {
      event.preventDefault();
      this.spread(node);
    }
  }

  move(node, step) {
    let next = node ? null : this.nodes[0];
    if (node && step === "left") next = node.parent;
    if (node && step === "right") {
      if (node.folded) { this.choices.set(node.key, true); this.update(); node = this.byKey.get(node.key); }
      next = node.kids[0];
    }
    if (node && (step === "up" || step === "down")) {
      const way = step === "up" ? -1 : 1;
      const beside = this.nodes.filter((one) => one.column === node.column && (one.y - node.y) * way > 0);
      next = beside.sort((left, right) => Math.abs(left.y - node.y) - Math.abs(right.y - node.y))[0];
    }
    if (!next) return;
    this.focus = next.key;
    this.show(next);
    this.app.speak(`${titleOf(next, this.app.store)}: ${countsText(next.counts)}`);
    this.sheet.request();
  }

  show(node) {
    const { k } = this.view, { width, height } = this.sheet;
    const left = node.x * k + this.view.x, top = node.y * k + this.view.y;
    const right = left + node.width * k, bottom = top + node.height * k;
    const dx = left < MARGIN ? MARGIN - left : Math.min(0, width - MARGIN - right);
    const dy = top < MARGIN ? MARGIN - top : Math.min(0, height - MARGIN - bottom);
    if (!dx && !dy) return;
    this.follow = false;
    this.view.x += dx;
    this.view.y += dy;
  }

  // --- drawing ------------------------------------------------------------------------

  draw(context, colours, time) {
    const { x, y, k } = this.view;
    const easing = this.from.size > 0 && time - this.easeBegan < EASE_MS;
    context.translate(x, y);
    context.scale(k, k);
    const spots = new Map(this.nodes.map((node) => [node, this.spot(node, time)]));
    context.lineWidth = 1.2 / Math.max(k, 0.5);
    context.strokeStyle = colours.edge;
    context.beginPath();
    for (const node of this.nodes) {
      if (node.parent) edge(context, spots.get(node.parent), node.parent, spots.get(node), node);
    }
    context.stroke();
    const seen = { left: -x / k, top: -y / k, right: (this.sheet.width - x) / k, bottom: (this.sheet.height - y) / k };
    for (const node of this.nodes) {
      const spot = spots.get(node);
      if (spot.x > seen.right || spot.y > seen.bottom || spot.x + node.width < seen.left || spot.y + node.height < seen.top) continue;
      this.card(context, colours, node, spot, k);
    }
    if (easing) this.sheet.request();
    else this.from.clear();
  }

  card(context, colours, node, spot, k) {
    const { store } = this.app;
    const task = node.kind === "task" ? store.tasks.get(node.key) : null;
    const dim = task && !node.dots && !this.app.matches(task);
    context.globalAlpha = dim ? 0.3 : 1;
    context.fillStyle = colours.panel;
    context.strokeStyle = node.key === this.focus || (task && task.uid === this.app.selected) ? colours.accent : colours.line;
    context.lineWidth = context.strokeStyle === colours.line ? 1 : 2;
    context.beginPath();
    context.roundRect(spot.x, spot.y, node.width, node.height, 7);
    context.fill();
    context.stroke();
    if (k > 0.3) this.head(context, colours, node, spot, task);
    context.globalAlpha = 1;
    if (node.dots) this.squares(context, colours, node, spot);
  }

  head(context, colours, node, spot, task) {
    const left = spot.x + CARD.pad, room = node.width - 2 * CARD.pad;
    const worst = STATES.find((state) => node.counts[state]) ?? "Pending";
    context.fillStyle = colourOf(colours, task ? shownState(task) : worst);
    context.beginPath();
    context.arc(left + 4, spot.y + 14, 4, 0, 7);
    context.fill();
    context.textBaseline = "middle";
    context.font = `600 12px ${colours.sans}`;
    context.fillStyle = colours.text;
    const much = sideText(node, task, this.app.now());
    context.font = `11px ${colours.sans}`;
    const side = context.measureText(much).width;
    context.textAlign = "right";
    context.fillStyle = colours.muted;
    context.fillText(much, spot.x + node.width - CARD.pad, spot.y + 14.5);
    context.textAlign = "left";
    context.font = `600 12px ${colours.sans}`;
    context.fillStyle = colours.text;
    context.fillText(cutText(context, node.label || "task", room - 14 - side - 8), left + 14, spot.y + 14.5);
    context.font = `11px ${colours.sans}`;
    const failed = task && task.state === "Failed" && task.message;
    context.fillStyle = failed ? colours.failed : colours.muted;
    const second = failed ? task.message : task ? progressOf(task) || nameOf(task) : countsText(node.counts).replace("succeeded", "done");
    context.fillText(cutText(context, second, room), left, spot.y + 29.5);
  }

  squares(context, colours, node, spot) {
    const { uids, columns, size, pitch, beads } = node.dots;
    const { store } = this.app;
    if (beads) string(context, colours, node, spot);
    const top = spot.y + CARD.head, left = spot.x + CARD.pad;
    const chosen = this.app.selected;
    let last = "", lastDim = false;
    context.globalAlpha = 1;
    for (let at = 0; at < uids.length; at += 1) {
      const task = store.tasks.get(uids[at]);
      if (!task) continue;
      const dim = !this.app.matches(task);
      if (task.state !== last) { context.fillStyle = colourOf(colours, task.state); last = task.state; }
      if (dim !== lastDim) { context.globalAlpha = dim ? 0.18 : 1; lastDim = dim; }
      const px = left + (at % columns) * pitch, py = top + Math.floor(at / columns) * pitch;
      if (size > 6) {
        context.beginPath();
        context.roundRect(px, py, size, size, beads ? size / 2 : 2);
        context.fill();
      } else context.fillRect(px, py, size, size);
      if (task.uid === chosen) {
        context.globalAlpha = 1;
        context.strokeStyle = colours.text;
        context.lineWidth = 1.5;
        context.strokeRect(px - 1.5, py - 1.5, size + 3, size + 3);
        lastDim = false;
      }
    }
    context.globalAlpha = 1;
  }
}

function sideText(node, task, now) {
  if (!task) return node.kind === "chain" ? `${count(node.uids.length)} in a chain` : `× ${count(node.uids.length)}`;
  return node.folded ? `+ ${count(node.folded.length)}` : took(ranMs(task, now));
}

export function titleOf(node, store) {
  if (node.kind !== "task") return `${node.label || "tasks"}, ${count(node.uids.length)}`;
  return `${node.label} ${nameOf(store.tasks.get(node.key))}`;
}

export function countsText(counts) {
  return STATES.filter((state) => counts[state]).map((state) => `${count(counts[state])} ${state.toLowerCase()}`).join(", ");
}

export function describe(task, now) {
  const lines = [`${task.label}  ${nameOf(task)}`, [verdict(task), took(ranMs(task, now))].filter(Boolean).join(", ")];
  if (task.progress) lines.push(progressOf(task));
  if (task.state === "Failed" && task.message) lines.push(task.message);
  return lines.join("\n");
}

// What the beads of a chain hang on: from left to right, then on in the next line.
function string(context, colours, node, spot) {
  const { uids, columns, size, pitch } = node.dots;
  const left = spot.x + CARD.pad + size / 2, top = spot.y + CARD.head + size / 2;
  const lines = Math.ceil(uids.length / columns);
  context.strokeStyle = colours.edge;
  context.lineWidth = 1.2;
  context.beginPath();
  for (let line = 0; line < lines; line += 1) {
    const last = line + 1 < lines ? columns - 1 : (uids.length - 1) % columns;
    const y = top + line * pitch;
    context.moveTo(left, y);
    context.lineTo(left + last * pitch, y);
    if (line + 1 < lines) {
      const x = left + last * pitch;
      context.bezierCurveTo(x + 14, y + 10, x, y + pitch / 2, x - 10, y + pitch / 2);
      context.lineTo(left + 10, y + pitch / 2);
      context.bezierCurveTo(left, y + pitch / 2, left - 14, y + pitch - 10, left, y + pitch);
    }
  }
  context.stroke();
}

function edge(context, from, parent, to, node) {
  if (node.column === parent.column) {
    context.moveTo(from.x + 24, from.y + parent.height);
    context.lineTo(to.x + 24, to.y);
    return;
  }
  const x1 = from.x + parent.width, y1 = from.y + Math.min(parent.height, CARD.head) / 2;
  const x2 = to.x, y2 = to.y + Math.min(node.height, CARD.head) / 2;
  const bend = Math.max(14, (x2 - x1) / 2);
  context.moveTo(x1, y1);
  context.bezierCurveTo(x1 + bend, y1, x2 - bend, y2, x2, y2);
}
