// All tasks as lines; only those in sight are in the document.

import { CREATED, RANK, STARTED, USER_CODE, count, element, goneSince, isGone, moment, nameOf, natural, ranMs, shownState, took } from "./format.js";

const COLUMNS = [
  ["state", "State"], ["name", "Task"], ["ran", "Ran"], ["began", "Began"], ["worker", "Worker"], ["message", "Says"],
];

export class List {
  constructor(root, app) {
    this.app = app;
    this.root = root;
    this.sort = ["state", 1];
    this.rows = [];
    this.cursor = "";
    this.head = element("div", { class: "head", role: "row" });
    for (const [key, title] of COLUMNS) {
      const wide = ["began", "worker", "message"].includes(key);
      this.head.append(element("button", { type: "button", class: wide ? "wide" : "", "data-sort": key, onclick: () => this.sortBy(key) }, title));
    }
    this.body = element("div", { class: "body" });
    root.append(this.head, this.body);
    root.addEventListener("scroll", () => this.draw());
    root.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(root);
  }

  get rowHeight() { return matchMedia("(max-width: 760px)").matches ? 36 : 28; }

  sortBy(key) {
    this.sort = this.sort[0] === key ? [key, -this.sort[1]] : [key, 1];
    this.update();
  }

  update() {
    const now = this.app.now(), [key, way] = this.sort;
    const value = {
      state: (task) => RANK.get(task.state), name: (task) => `${task.label} ${nameOf(task)}`,
      ran: (task) => -(ranMs(task, now) ?? -1), began: (task) => task.times[USER_CODE] ?? task.times[STARTED] ?? Infinity,
      worker: (task) => task.worker, message: (task) => task.message || "\uffff",
    }[key];
    const found = this.app.inScope().filter((task) => this.app.matches(task)).map((task) => [value(task), task]);
    const order = typeof (found[0]?.[0] ?? 0) === "string"
      ? (left, right) => natural(left[0], right[0]) : (left, right) => left[0] - right[0];
    found.sort((left, right) => way * order(left, right) || (left[1].times[CREATED] ?? 0) - (right[1].times[CREATED] ?? 0));
    this.rows = found.map(([, task]) => task);
    for (const button of this.head.children) {
      if (button.dataset.sort === key) button.dataset.on = way > 0 ? "down" : "up";
      else delete button.dataset.on;
    }
    this.draw();
  }

  draw() {
    if (this.root.hidden) return;
    const height = this.rowHeight, { scrollTop, clientHeight } = this.root;
    this.root.setAttribute("aria-rowcount", String(this.rows.length));
    this.body.style.height = `${this.rows.length * height}px`;
    const first = Math.max(0, Math.floor(scrollTop / height) - 4);
    const last = Math.min(this.rows.length, Math.ceil((scrollTop + clientHeight) / height) + 4);
    const now = this.app.now();
    this.body.replaceChildren(...this.rows.slice(first, last).map((task, at) => this.row(task, first + at, height, now)));
  }

  row(task, place, height, now) {
    const says = task.state === "Failed" || task.message ? task.message : "";
    const row = element("div",
      { class: "row", role: "row", "data-uid": task.uid, "aria-rowindex": String(place + 1),
        title: isGone(task) ? `Gone: ${goneSince(task, now)}` : null,
        "aria-selected": String(task.uid === this.app.selected || task.uid === this.cursor),
        onclick: () => { this.cursor = task.uid; this.app.select(task.uid); } },
      element("span", { class: "state" }, element("i", { class: "dot", "data-state": shownState(task) }), element("span", {}, task.state)),
      element("span", { class: "name" }, `${task.label} `, element("em", {}, nameOf(task))),
      element("span", { class: "num" }, took(ranMs(task, now))),
      element("span", { class: "wide muted" }, moment(task.times[USER_CODE] ?? task.times[STARTED], now)),
      element("span", { class: "wide muted" }, task.worker),
      element("span", { class: "wide muted" }, says));
    row.style.top = `${place * height}px`;
    return row;
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20 }[event.key];
    const at = this.rows.findIndex((task) => task.uid === this.cursor);
    if (step) {
      event.preventDefault();
      const next = this.rows[Math.max(0, Math.min(this.rows.length - 1, at < 0 ? 0 : at + step))];
      if (!next) return;
      this.cursor = next.uid;
      const top = this.rows.indexOf(next) * this.rowHeight;
      const { scrollTop, clientHeight } = this.root;
      if (top < scrollTop) this.root.scrollTop = top;
      else if (top + 2 * this.rowHeight + 10 > scrollTop + clientHeight) this.root.scrollTop = top - clientHeight + 3 * this.rowHeight;
      this.app.speak(`${next.label} ${nameOf(next)}: ${next.state}. ${count(this.rows.indexOf(next) + 1)} of ${count(this.rows.length)}`);
      this.draw();
    } else if (event.key === "Enter" && at >= 0) {
      this.app.select(this.cursor);
    }
  }

  fitAll() { this.root.scrollTop = 0; }
  zoom() { this.draw(); }
}
