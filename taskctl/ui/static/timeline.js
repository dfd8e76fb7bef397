// What each slot of each worker did when.

import { Sheet, colourOf, cutText } from "./canvas.js";
import { EXITED, OBSERVED, PLACED, STARTED, USER_CODE, isGone, moment, nameOf, natural, took } from "./format.js";
import { describe } from "./picture.js";

const LANE = 18, GAP = 10, AXIS = 26;

// Workers with lanes, each lane a list of bars that do not overlap. Pure.
export function packLanes(tasks, now) {
  const workers = new Map();
  const bars = [];
  for (const task of tasks) {
    const from = task.times[PLACED] ?? task.times[STARTED];
    if (!task.worker || from === null) continue;
    const running = task.state === "Running" || task.state === "Scheduled";
    // One that was deleted while it ran may have run until then.
    const to = running ? (isGone(task) ? task.gone || from : now) : task.times[EXITED] ?? task.times[OBSERVED] ?? task.times[STARTED] ?? from;
    // When its code began is recorded at its end; of a task that runs, the start of the container is near.
    const begin = task.times[USER_CODE] ?? (task.state === "Running" ? task.times[STARTED] : null) ?? to;
    bars.push({ uid: task.uid, worker: task.worker, from, begin, to: Math.max(from, to), slots: task.slots, lane: 0 });
  }
  bars.sort((left, right) => left.from - right.from || left.to - right.to);
  for (const bar of bars) {
    let lanes = workers.get(bar.worker);
    if (!lanes) workers.set(bar.worker, (lanes = []));
    // The end of one and the placement of the next overlap by the time that recording takes.
    let lane = lanes.findIndex((one) => one.end <= bar.from + 1);
    if (lane < 0) { lane = lanes.length; lanes.push({ end: 0, bars: [] }); }
    bar.lane = lane;
    lanes[lane].end = bar.to;
    lanes[lane].bars.push(bar);
  }
  return [...workers].sort((left, right) => natural(left[0], right[0]))
    .map(([name, lanes]) => ({ name, lanes }));
}

export class Timeline {
  constructor(canvas, app) {
    this.app = app;
    this.canvas = canvas;
    this.workers = [];
    this.range = null;      // [from, to] in milliseconds; null: everything
    this.scroll = 0;
    this.sheet = new Sheet(canvas, {
      draw: (context, colours) => this.draw(context, colours),
      wheel: (x, y, factor) => this.zoom(factor, x),
      drag: (dx, dy) => this.drag(dx, dy),
      point: (x, y) => this.point(x, y),
      click: (x, y) => { const bar = this.at(x, y); this.canvas.focus({ preventScroll: true }); this.app.select(bar ? bar.uid : ""); },
      leave: () => this.app.tip(""),
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  update() {
    const tasks = this.app.inScope();
    this.workers = packLanes(tasks, this.app.now());
    let first = Infinity, last = 0;
    for (const { lanes } of this.workers) {
      for (const lane of lanes) {
        first = Math.min(first, lane.bars[0].from);
        last = Math.max(last, lane.end);
      }
    }
    this.whole = this.workers.length ? [first, Math.max(last, first + 100)] : null;
    this.sheet.request();
  }

  get gutter() { return this.sheet.width < 600 ? 74 : 168; }
  get shown() {
    if (this.range || !this.whole) return this.range ?? [0, 1];
    const margin = (this.whole[1] - this.whole[0]) * 0.02;
    return [this.whole[0] - margin, this.whole[1] + margin];
  }
  xOf(ms) {
    const [from, to] = this.shown;
    return this.gutter + ((ms - from) / (to - from)) * (this.sheet.width - this.gutter - 12);
  }
  msAt(x) {
    const [from, to] = this.shown;
    return from + ((x - this.gutter) / (this.sheet.width - this.gutter - 12)) * (to - from);
  }

  zoom(factor, x = (this.gutter + this.sheet.width) / 2) {
    const [from, to] = this.shown, at = this.msAt(x);
    if ((to - from) / factor < 1 || (this.whole && (to - from) / factor > 4 * (this.whole[1] - this.whole[0]) + 1000)) return;
    this.range = [at - (at - from) / factor, at + (to - at) / factor];
    this.sheet.request();
  }

  drag(dx, dy) {
    if (dx) {
      const [from, to] = this.shown;
      const by = (-dx / (this.sheet.width - this.gutter)) * (to - from);
      this.range = [from + by, to + by];
    }
    this.scroll = Math.min(0, Math.max(Math.min(0, this.sheet.height - AXIS - this.height() - 20), this.scroll + dy));
    this.app.tip("");
  }

  fitAll() {
    this.range = null;
    this.scroll = 0;
    this.sheet.request();
  }

  key(event) {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
    if (!step) return;
    event.preventDefault();
    this.drag(...step);
    this.sheet.request();
  }

  height() {
    return this.workers.reduce((sum, worker) => sum + worker.lanes.length * LANE + GAP, 0);
  }

  at(x, y) {
    let top = AXIS + 8 + this.scroll;
    for (const { lanes } of this.workers) {
      const lane = lanes[Math.floor((y - top) / LANE)];
      if (y >= top && lane) {
        // Of bars thinner than a pixel, the nearest.
        const near = lane.bars.filter((bar) => this.xOf(bar.to) >= x - 3 && this.xOf(bar.from) <= x + 3);
        return near.sort((left, right) => distance(this, left, x) - distance(this, right, x))[0];
      }
      top += lanes.length * LANE + GAP;
    }
    return null;
  }

  point(x, y) {
    const bar = this.at(x, y), task = bar && this.app.store.tasks.get(bar.uid);
    this.canvas.classList.toggle("pointing", Boolean(bar));
    this.app.tip(task ? describe(task, this.app.now()) : "", x, y);
  }

  draw(context, colours) {
    const { width, height } = this.sheet;
    if (!this.whole) return;
    this.ticks(context, colours);
    context.save();
    context.beginPath();
    context.rect(0, AXIS, width, height - AXIS);
    context.clip();
    let top = AXIS + 8 + this.scroll;
    for (const { name, lanes } of this.workers) {
      const bottom = top + lanes.length * LANE;
      if (bottom > AXIS && top < height) {
        context.font = `11px ${colours.sans}`;
        context.textAlign = "left";
        context.textBaseline = "middle";
        context.fillStyle = colours.muted;
        context.fillText(cutText(context, name, this.gutter - 34), 14, top + LANE / 2);
        lanes.forEach((lane, number) => this.lane(context, colours, lane, number, top + number * LANE));
      }
      top = bottom + GAP;
    }
    context.restore();
  }

  lane(context, colours, lane, number, top) {
    const { width } = this.sheet, { gutter } = this;
    context.textAlign = "right";
    context.fillStyle = colours.faint;
    context.fillText(String(number + 1), gutter - 8, top + LANE / 2);
    context.fillStyle = colours.sunk;
    context.fillRect(gutter, top + 2, width - gutter - 12, LANE - 4);
    context.save();
    context.beginPath();
    context.rect(gutter, top, width - gutter - 12, LANE);
    context.clip();
    let covered = -1;
    for (const bar of lane.bars) {
      const left = this.xOf(bar.from), right = Math.max(left + 1.5, this.xOf(bar.to) - 0.5);
      if (right < gutter || left > width || right <= covered + 0.4) continue;
      covered = right;
      const task = this.app.store.tasks.get(bar.uid);
      if (!task) continue;
      context.globalAlpha = this.app.matches(task) ? 1 : 0.18;
      const begin = Math.min(right, Math.max(left, this.xOf(bar.begin)));
      if (begin - left > 0.5) {
        context.fillStyle = colours.scheduled;
        context.fillRect(left, top + 7, begin - left, LANE - 14);
      }
      context.fillStyle = colourOf(colours, task.state);
      context.fillRect(begin, top + 3, Math.max(1, right - begin), LANE - 6);
      if (right - begin > 46) {
        context.textAlign = "left";
        context.fillStyle = colours.panel;
        context.fillText(cutText(context, barText(task, right - begin), right - begin - 10), begin + 5, top + LANE / 2 + 0.5);
      }
      if (task.uid === this.app.selected) {
        context.strokeStyle = colours.text;
        context.lineWidth = 1.5;
        context.strokeRect(left - 1, top + 2, right - left + 2, LANE - 4);
      }
    }
    context.restore();
  }

  ticks(context, colours) {
    const { width, height } = this.sheet, [from, to] = this.shown;
    const wanted = Math.max(2, Math.floor((width - this.gutter) / 110));
    const step = niceStep((to - from) / wanted), zero = this.whole[0];
    context.font = `11px ${colours.sans}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 1;
    for (let ms = zero + Math.ceil((from - zero) / step) * step; ms < to; ms += step) {
      const x = this.xOf(ms);
      if (x < this.gutter) continue;
      context.strokeStyle = colours.line;
      context.beginPath();
      context.moveTo(x, AXIS);
      context.lineTo(x, height);
      context.stroke();
      context.fillStyle = colours.faint;
      const offset = ms - zero;
      context.fillText(offset < step / 2 && offset > -step / 2 ? moment(zero, this.app.now()) : `${offset < 0 ? "−" : "+"}${took(Math.abs(offset))}`, x, AXIS / 2 + 2);
    }
  }
}

// The bars of a tree mostly run the same function: where there is little room, the name says more.
function barText(task, width) {
  const short = nameOf(task);
  return width > 7 * (task.label.length + short.length) + 20 ? `${task.label} ${short}` : short;
}

function distance(timeline, bar, x) {
  const left = timeline.xOf(bar.from), right = timeline.xOf(bar.to);
  return x < left ? left - x : x > right ? x - right : 0;
}

export function niceStep(ms) {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5, 72e5, 216e5, 864e5];
  return steps.find((step) => step >= ms) ?? Math.ceil(ms / 864e5) * 864e5;
}
