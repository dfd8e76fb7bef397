// What both pictures share: a sharp canvas, colours of the theme, drag, wheel and pinch.

const NAMES = ["bg", "panel", "sunk", "line", "edge", "text", "muted", "faint", "accent", "mark",
  "pending", "scheduled", "running", "succeeded", "failed", "cancelled", "skipped"];

export class Sheet {
  // hooks: draw(context, colours), wheel(x, y, factor), drag(dx, dy), point(x, y), click(x, y), leave()
  constructor(canvas, hooks) {
    this.canvas = canvas;
    this.hooks = hooks;
    this.context = canvas.getContext("2d");
    this.width = 0;
    this.height = 0;
    this.colours = null;
    this.frame = 0;
    this.drawMs = 0;
    this.pointers = new Map();
    new ResizeObserver(() => this.resize()).observe(canvas);
    canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    canvas.addEventListener("pointermove", (event) => this.onMove(event));
    canvas.addEventListener("pointerup", (event) => this.onUp(event));
    canvas.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this.hooks.leave());
  }

  resize() {
    const ratio = Math.min(3, window.devicePixelRatio || 1);
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth) return;
    this.width = clientWidth;
    this.height = clientHeight;
    this.ratio = ratio;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.hooks.resized?.();
    this.request();
  }

  retheme() {
    this.colours = null;
    this.request();
  }

  request() {
    if (!this.frame) this.frame = requestAnimationFrame((time) => this.render(time));
  }

  render(time) {
    this.frame = 0;
    if (!this.width || this.canvas.hidden) return;
    if (!this.colours) {
      const style = getComputedStyle(document.documentElement);
      this.colours = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
      this.colours.sans = style.getPropertyValue("--sans").trim();
    }
    const began = performance.now();
    const { context } = this;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    this.hooks.draw(context, this.colours, time);
    this.drawMs = performance.now() - began;
  }

  onWheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1;
    if (event.ctrlKey || event.metaKey || this.hooks.wheelZooms) {
      this.hooks.wheel(event.offsetX, event.offsetY, Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.002)));
    } else {
      this.hooks.drag(-event.deltaX * unit, -event.deltaY * unit);
    }
    this.request();
  }

  onDown(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY, moved: 0 });
  }

  onMove(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) {
      this.hooks.point(event.offsetX, event.offsetY);
      return;
    }
    const dx = event.offsetX - pointer.x, dy = event.offsetY - pointer.y;
    const others = [...this.pointers.values()].filter((other) => other !== pointer);
    if (others.length) {
      const [other] = others;
      const before = Math.hypot(pointer.x - other.x, pointer.y - other.y);
      const after = Math.hypot(event.offsetX - other.x, event.offsetY - other.y);
      if (before > 10) this.hooks.wheel((event.offsetX + other.x) / 2, (event.offsetY + other.y) / 2, after / before);
    } else if (pointer.moved + Math.hypot(dx, dy) > 4) {
      this.hooks.drag(dx, dy);
      this.canvas.classList.add("dragging");
    } else {
      pointer.moved += Math.hypot(dx, dy);
      return;
    }
    Object.assign(pointer, { x: event.offsetX, y: event.offsetY, moved: 100 });
    this.request();
  }

  onUp(event) {
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    this.canvas.classList.remove("dragging");
    if (pointer && pointer.moved < 5) this.hooks.click(event.offsetX, event.offsetY);
  }
}

// Cuts a text to a width; remembers, since the same texts are drawn many times a second.
const cuts = new Map();

export function cutText(context, text, width) {
  const key = `${context.font}|${Math.round(width)}|${text}`;
  const known = cuts.get(key);
  if (known !== undefined) return known;
  if (cuts.size > 5000) cuts.clear();
  let shown = text;
  if (context.measureText(text).width > width) {
    let low = 0, high = text.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (context.measureText(`${text.slice(0, middle)}…`).width <= width) low = middle;
      else high = middle - 1;
    }
    shown = `${text.slice(0, low)}…`;
  }
  cuts.set(key, shown);
  return shown;
}

export function colourOf(colours, state) {
  return colours[state.toLowerCase()] ?? colours.pending;
}
