// The page: one store, three views of it, a panel, and what the keyboard does.

import { Detail } from "./detail.js";
import { List } from "./list.js";
import { Picture } from "./picture.js";
import { STATES, count, element, goneSince, isGone, nameOf, roughly, took } from "./format.js";
import { Store, progress } from "./store.js";
import { Timeline } from "./timeline.js";
import { openSource } from "./source.js";

const REFRESH_MS = 120, TICK_MS = 1000, ROOTS_OFFERED = 300;
const find = (id) => document.getElementById(id);

class App {
  constructor() {
    // What exists, and what is gone. The stream writes to the first only, whichever is looked at.
    this.boards = { live: new Store(), earlier: new Store() };
    this.board = "live";
    this.readGone = null;   // what the history answered
    this.scope = "";
    this.selected = "";
    this.query = "";
    this.onlyStates = new Set();
    this.ahead = 0;         // the server's clock less ours, milliseconds
    this.frozen = null;     // of a file: the moment it was made
    this.synced = false;
    this.refreshing = 0;
    this.source = openSource(this.handlers());
    this.detail = new Detail(find("detail"), this);
    this.views = { tree: new Picture(find("tree"), this), workers: new Timeline(find("workers"), this), list: new List(find("list"), this) };
    this.view = "tree";
    this.listen();
    this.show("tree");
    this.source.start();
    setInterval(() => { if (this.source.live && this.synced && !document.hidden) this.tick(); }, TICK_MS);
  }

  // --- what views ask -------------------------------------------------------------------

  get store() { return this.boards[this.board]; }

  now() { return this.frozen ?? Date.now() + this.ahead; }

  roots() { return this.scope && this.store.tasks.has(this.scope) ? [this.scope] : this.store.roots(); }

  inScope() {
    if (this.scopedIn !== this.board || this.scopedAt !== this.store.version || this.scopedTo !== this.scope) {
      this.scopedIn = this.board;
      this.scopedAt = this.store.version;
      this.scopedTo = this.scope;
      this.scoped = this.store.within(this.store.tasks.has(this.scope) ? this.scope : "").map((uid) => this.store.tasks.get(uid));
    }
    return this.scoped;
  }

  matches(task) {
    if (this.onlyStates.size && !this.onlyStates.has(task.state)) return false;
    if (!this.query) return true;
    return [task.name, task.label, task.title, task.message, task.worker].some((text) => text.toLowerCase().includes(this.query));
  }

  select(uid) {
    this.selected = uid;
    if (uid) this.detail.show(uid);
    else this.detail.close();
    this.views[this.view].update();
  }

  openGroup(node) { this.selected = ""; this.detail.showGroup(node); }
  spread(node) { this.views.tree.spread(node); this.detail.close(); }
  speak(text) { find("spoken").textContent = text; }

  notice(text) {
    find("notice").textContent = text;
    find("notice").hidden = !text;
  }

  tip(text, x = 0, y = 0) {
    const tip = find("tip");
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const stage = find("stage");
    tip.style.left = `${Math.max(4, Math.min(x + 14, stage.clientWidth - tip.offsetWidth - 6))}px`;
    tip.style.top = `${y + 18 + tip.offsetHeight > stage.clientHeight ? y - tip.offsetHeight - 10 : y + 18}px`;
  }

  // --- what comes in --------------------------------------------------------------------

  handlers() {
    const live = this.boards.live, changed = () => { if (this.board === "live") this.refreshSoon(); };
    return {
      session: ({ title, write, earlier }) => {
        this.source.write = write;
        find("earlier").hidden = !earlier;
        document.title = title ? `${title} · taskctl` : "taskctl";
      },
      state: (state, text) => { find("live").dataset.state = state; find("live").lastElementChild.textContent = text; },
      problem: (text) => this.notice(text),
      status: ({ now, problem }) => {
        if (this.source.live) this.ahead = now - Date.now();
        else this.frozen = now;
        this.trouble = problem ? `The API server does not answer; what is shown may be old. ${problem}` : "";
        changed();
      },
      reset: () => { live.clear(); this.synced = false; },
      rows: (rows) => { live.put(rows); changed(); },
      gone: (uids) => { live.remove(uids); changed(); },
      synced: () => { this.synced = true; changed(); },
      clustersReset: () => live.clusters.clear(),
      clusters: (rows) => { for (const row of rows) live.clusters.set(row.uid, row); changed(); },
      clustersGone: (uids) => { for (const uid of uids) live.clusters.delete(uid); changed(); },
    };
  }

  refreshSoon() {
    if (this.refreshing) return;
    // Not before everything is there: a picture that builds itself up twice only flickers.
    this.refreshing = setTimeout(() => { this.refreshing = 0; if (this.synced && this.board === "live") this.refresh(); }, REFRESH_MS);
  }

  refresh() {
    this.offerRoots();
    this.tick();
    this.views[this.view].update();
    const empty = find("empty");
    empty.hidden = this.store.tasks.size > 0;
    empty.firstElementChild.textContent = this.board === "earlier" ? this.noneGone() : "No tasks yet. Create one with taskctl submit, and watch it grow here.";
  }

  // --- what is gone ---------------------------------------------------------------------

  async switchBoard(board) {
    if (board === this.board || find("earlier").hidden) return;
    this.board = board;
    find("earlier").setAttribute("aria-pressed", String(board === "earlier"));
    find("gone").hidden = board === "live";
    this.scope = this.offered = "";
    this.onlyStates.clear();
    this.views.tree.follow = true;
    this.views.workers.range = null;
    this.select("");
    if (board === "earlier") await this.readEarlier();
    else this.refresh();
    this.speak(board === "earlier" ? "Tasks that are gone" : "Tasks that exist");
  }

  async readEarlier() {
    const say = (text) => { find("gone").firstElementChild.textContent = text; };
    this.readGone = null;
    say("Reading the history …");
    if (!this.store.tasks.size) this.refresh();
    const { earlier } = this.boards;
    let found;
    try {
      found = await this.source.earlier();
    } catch (error) {
      say(error.message);
      return;
    }
    earlier.clear();
    earlier.put(found.rows);
    this.readGone = found;
    if (this.board !== "earlier") return;
    say(this.goneText());
    this.refresh();
  }

  goneText() {
    const { rows, more, source, problems } = this.readGone;
    if (!rows.length) return `No task is gone, according to ${source}.`;
    const many = rows.length === 1 ? "1 task that is gone" : `${count(rows.length)} tasks that are gone`;
    return [`${many}, from ${source}; the last one was ${goneSince(rows[0], this.now())}.`,
      more ? "Older ones are not shown here: taskctl get --history lists them." : "",
      problems.length ? `Some lines cannot be read: ${problems[0]}` : ""].filter(Boolean).join(" ");
  }

  noneGone() {
    return this.readGone ? "Tasks appear here once they are deleted." : "";
  }

  tick() {
    const tasks = this.inScope(), at = progress(tasks, this.now());
    this.headline(at);
    this.standstill(tasks, at);
    this.detail.refresh();
    if (this.board === "earlier") return;
    if (at.counts.Running && this.view !== "tree") this.views[this.view].update();
    else if (at.counts.Running) this.views.tree.sheet.request();
  }

  headline(at) {
    const parts = [];
    if (at.left) {
      if (at.rate) parts.push(`${at.rate < 10 ? at.rate.toFixed(1) : Math.round(at.rate)} a second`);
      if (at.etaMs) parts.push(`about ${roughly(at.etaMs)} left for what is known`);
    }
    if (at.wallMs !== null && this.scope) parts.push(at.left ? `${took(at.wallMs)} so far` : `in ${took(at.wallMs)}`);
    const gone = this.board === "earlier" ? `${count(at.total)} task${at.total === 1 ? "" : "s"}, gone` : "";
    const done = element("b", {}, gone ? gone : at.left ? `${count(at.ended)} of ${count(at.total)} ended` : `${count(at.total)} task${at.total === 1 ? "" : "s"} ended`);
    find("headline").replaceChildren(...(at.total ? [done, parts.length ? ` · ${parts.join(" · ")}` : ""] : []));
    const present = STATES.filter((state) => at.counts[state]);
    find("bar").replaceChildren(...["Succeeded", "Skipped", "Cancelled", "Failed", "Running", "Scheduled", "Pending"].filter((state) => at.counts[state]).map((state) => {
      const part = element("i", { "data-state": state });
      part.style.width = `${(100 * at.counts[state]) / at.total}%`;
      return part;
    }));
    const chips = find("states"), focused = document.activeElement?.dataset?.chip;
    chips.replaceChildren(...present.map((state) => element("button",
      { type: "button", class: "chip", "data-chip": state, "aria-pressed": String(this.onlyStates.has(state)), onclick: () => this.toggle(state) },
      element("i", { class: "dot", "data-state": state }), element("b", {}, count(at.counts[state])), ` ${state.toLowerCase()}`)));
    if (focused) chips.querySelector(`[data-chip="${focused}"]`)?.focus();
  }

  // Why the tree makes no progress, if it makes none.
  standstill(tasks, at) {
    if (this.trouble) return this.notice(this.trouble);
    if (this.board === "earlier" || !at.left || at.counts.Running || at.counts.Scheduled) return this.notice("");
    const wanted = new Set(tasks.filter((task) => task.state === "Pending").map((task) => `${task.namespace}/${task.cluster}`));
    const lame = [...this.store.clusters.values()].find((one) => !one.ready && wanted.has(`${one.namespace}/${one.name}`));
    return this.notice(lame ? `TaskCluster ${lame.name} is not ready (${lame.workers} of ${lame.replicas} workers). ${lame.message}` : "");
  }

  toggle(state) {
    if (!this.onlyStates.delete(state)) this.onlyStates.add(state);
    this.refresh();
  }

  offerRoots() {
    const roots = this.store.roots().reverse().slice(0, ROOTS_OFFERED);
    const mark = roots.map((uid) => `${uid}${this.store.tasks.get(uid).state}`).join();
    if (mark === this.offered) return;
    this.offered = mark;
    const select = find("scope");
    const option = (value, text) => element("option", { value }, text);
    select.replaceChildren(option("", roots.length > 1 ? `All ${count(this.store.roots().length)} trees` : "All trees"),
      ...roots.map((uid) => option(uid, this.rootText(this.store.tasks.get(uid)))));
    if (this.scope && !this.store.tasks.has(this.scope)) this.scope = "";
    if (roots.length === 1) [this.scope] = roots;
    select.value = this.scope;
  }

  rootText(task) {
    return isGone(task) ? `${nameOf(task)} · ${goneSince(task, this.now())}` : nameOf(task);
  }

  // --- what people do -------------------------------------------------------------------

  listen() {
    for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => this.show(button.dataset.view));
    for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => this.zoom(button.dataset.zoom));
    find("scope").addEventListener("change", (event) => {
      this.scope = event.target.value;
      this.views.tree.follow = true;
      this.views.workers.range = null;
      this.select("");
      this.refresh();
    });
    find("search").addEventListener("input", (event) => { this.query = event.target.value.trim().toLowerCase(); this.refresh(); });
    find("earlier").addEventListener("click", () => this.switchBoard(this.board === "live" ? "earlier" : "live"));
    document.querySelector("[data-gone=again]").addEventListener("click", () => this.readEarlier());
    document.querySelector("[data-gone=back]").addEventListener("click", () => { find("earlier").focus(); this.switchBoard("live"); });
    find("theme").addEventListener("click", () => this.retheme());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.repaint());
    document.addEventListener("keydown", (event) => this.key(event));
  }

  show(view) {
    this.view = view;
    for (const [name, one] of Object.entries(this.views)) {
      const place = one.canvas ?? one.root;
      place.hidden = name !== view;
    }
    for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-selected", String(button.dataset.view === view));
    find("zoom").hidden = view === "list";
    this.tip("");
    this.views[view].sheet?.resize();
    this.views[view].update();
  }

  zoom(how) {
    const view = this.views[this.view];
    if (how === "fit") view.fitAll();
    else view.zoom(how === "in" ? 1.25 : 0.8);
  }

  retheme() {
    const dark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    this.repaint();
  }

  repaint() {
    this.views.tree.sheet.retheme();
    this.views.workers.sheet.retheme();
  }

  key(event) {
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (event.key === "Escape") {
      if (typing) event.target.blur();
      if (event.target.id === "search") { event.target.value = ""; this.query = ""; this.refresh(); }
      else if (!find("detail").hidden) this.select("");
      return;
    }
    if (typing) {
      if (event.key === "Enter" && event.target.id === "search") this.firstMatch();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      "/": () => find("search").focus(), "1": () => this.show("tree"), "2": () => this.show("workers"), "3": () => this.show("list"),
      e: () => this.switchBoard(this.board === "live" ? "earlier" : "live"),
      "+": () => this.zoom("in"), "-": () => this.zoom("out"), "0": () => this.zoom("fit"), t: () => this.retheme(),
    }[event.key];
    if (act) { event.preventDefault(); act(); return; }
    const view = this.views[this.view], place = view.canvas ?? view.root;
    if (event.key.startsWith("Arrow") && event.target === document.body) { place.focus(); view.key(event); }
  }

  firstMatch() {
    const found = this.query ? this.inScope().find((task) => this.matches(task)) : null;
    if (found) this.select(found.uid);
  }
}

// For tests, and for users of the browser's console.
globalThis.taskctlPage = new App();
