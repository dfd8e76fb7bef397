// The panel: everything about one task, or about a group of them.

import { CREATED, ENDED, STAGES, bytes, count, element, goneSince, isGone, isOver, moment, nameOf, progressOf, ranMs, shownState, took, verdict } from "./format.js";
import { countsText } from "./picture.js";

const MEMBERS = 200;

export class Detail {
  // app: store, source, now(), select(uid), close()
  constructor(panel, app) {
    this.panel = panel;
    this.app = app;
    this.shown = "";
    this.seen = null;
    this.extra = null;
    this.logText = null;
  }

  close() {
    this.shown = "";
    this.panel.hidden = true;
  }

  async show(uid) {
    const task = this.app.store.tasks.get(uid);
    if (!task) return;
    if (this.shown !== uid) Object.assign(this, { shown: uid, extra: null, logText: null, seen: null });
    this.panel.hidden = false;
    this.refresh();
    await Promise.allSettled([this.loadExtra(task), this.loadLog(task)]);
  }

  showGroup(node) {
    const { store } = this.app;
    this.shown = "";
    this.panel.hidden = false;
    const uids = node.dots ? node.dots.uids : node.uids;
    const tasks = uids.map((uid) => store.tasks.get(uid)).filter(Boolean);
    this.panel.replaceChildren(
      this.header(node.label || "Tasks", node.kind === "chain" ? `chain of ${count(tasks.length)}` : `${count(tasks.length)} tasks`),
      element("p", { class: "verdict" }, countsText(node.counts)),
      element("div", { class: "actions" },
        element("button", { type: "button", onclick: () => this.app.spread(node) }, "Draw one by one")),
      element("h3", {}, tasks.length > MEMBERS ? `The first ${MEMBERS}` : "Tasks"),
      members(tasks.slice(0, MEMBERS), this.app));
  }

  // Called when tasks change.
  refresh() {
    const task = this.app.store.tasks.get(this.shown);
    if (!this.shown || this.panel.hidden) return;
    if (!task) {
      this.panel.replaceChildren(this.header("This task was deleted", ""));
      return;
    }
    const ended = this.seen && this.seen !== task && ENDED.has(task.state) && !ENDED.has(this.seen.state);
    if (this.seen === task && this.drawnAt && task.state !== "Running") return;
    this.seen = task;
    this.draw(task);
    if (ended) { this.loadExtra(task); this.loadLog(task); }
  }

  async loadExtra(task) {
    try {
      this.extra = await this.app.source.detail(task);
    } catch (error) {
      this.extra = { problem: error.message };
    }
    this.redraw(task);
  }

  async loadLog(task, attempt) {
    if (task.times[2] === null && !task.attempt && this.app.source.live) {
      this.logText = { text: "", note: "It has not started, so there is no log yet." };
    } else {
      try {
        this.logText = await this.app.source.log(task, attempt);
      } catch (error) {
        this.logText = { text: "", note: error.message };
      }
    }
    this.redraw(task);
  }

  redraw(task) {
    if (this.shown === task.uid && this.app.store.tasks.has(task.uid)) this.draw(this.app.store.tasks.get(task.uid));
  }

  draw(task) {
    this.drawnAt = this.app.now();
    const log = this.panel.querySelector("pre.log");
    const [at, stick] = log ? [log.scrollTop, log.scrollTop + log.clientHeight >= log.scrollHeight - 4] : [0, true];
    const message = this.extra?.message || task.message;
    const many = message && message.includes("\n");
    this.panel.replaceChildren(...[
      this.header(task.label || nameOf(task), task.name),
      element("p", { class: "verdict" }, element("i", { class: "dot", "data-state": shownState(task) }), verdict(task)),
      isGone(task) ? element("p", { class: "gone" }, `This task is gone: ${goneSince(task, this.app.now())}. It is shown as it was last.`) : null,
      message && !many ? element("p", { class: task.state === "Failed" ? "" : "muted" }, message) : null,
      progressOf(task) ? element("p", {}, progressOf(task)) : null,
      this.actions(task),
      element("h3", {}, "Time"), this.waterfall(task),
      ...(many ? [element("h3", {}, task.state === "Failed" ? "Traceback, or the end of its output" : "Message"), element("pre", { class: "bad message" }, message)] : []),
      this.logHead(task),
      this.logBody(),
      this.facts(task),
      ...this.past(task),
    ].filter(Boolean));
    const now = this.panel.querySelector("pre.log");
    if (now) now.scrollTop = stick ? now.scrollHeight : at;
  }

  header(title, small) {
    return element("header", {}, element("h2", {}, title, element("small", {}, small)),
      element("button", { type: "button", class: "close", "aria-label": "Close", title: "Close (Esc)", onclick: () => this.app.select("") }, "✕"));
  }

  actions(task) {
    if (!this.app.source.write || isGone(task)) return null;
    const row = element("div", { class: "actions" });
    const button = (text, verb, kind) => row.append(element("button", { type: "button", class: kind, onclick: () => this.change(verb, task) }, text));
    if (!task.complete && !task.cancel) button("Cancel", "cancel", "bad");
    if (["Failed", "Cancelled"].includes(task.state) && !task.cancel) button("Retry", "retry", "");
    return row.childElementCount ? row : null;
  }

  async change(verb, task) {
    try {
      await this.app.source.change(verb, task);
      this.app.notice("");
    } catch (error) {
      this.app.notice(error.message);
    }
  }

  waterfall(task) {
    const now = this.app.now(), { times } = task;
    const box = element("div", { class: "fall" });
    const known = times.filter((time) => time !== null);
    const first = times[CREATED] ?? known[0];
    const last = isOver(task) ? known[known.length - 1] : now;
    const whole = Math.max(last - first, 0.001);
    for (let stage = 0; stage < STAGES.length; stage += 1) {
      const from = times[stage];
      let to = times[stage + 1];
      if (from === null) continue;
      const open = to === null;
      if (open) {
        if (isOver(task) || times.slice(stage + 1).some((time) => time !== null)) continue;
        to = now;
      }
      // Kubernetes notes creations in whole seconds, so a time may seem to run backwards.
      const share = Math.max(0, (to - from) / whole), bar = element("i", { "data-stage": String(stage) });
      bar.style.left = `${Math.min(99, Math.max(0, (100 * (from - first)) / whole))}%`;
      bar.style.width = `${Math.min(100, 100 * share)}%`;
      box.append(element("span", {}, STAGES[stage]), element("div", { class: "track" }, bar),
        element("span", { class: "took" }, `${took(to - from)}${open ? " …" : ""}`));
    }
    if (task.attempt > 1) box.append(element("span", {}, ""), element("span", { class: "muted" }, "The latest attempt; the wait counts from the creation."), element("span", {}, ""));
    return box;
  }

  logHead(task) {
    const again = this.app.source.live
      ? element("button", { type: "button", class: "link", onclick: () => this.loadLog(task) }, "Read again") : null;
    return element("h3", { class: "line-of" }, "Log", again);
  }

  logBody() {
    if (!this.logText) return element("p", { class: "muted" }, "Reading …");
    const { text, note, cut } = this.logText;
    const notes = [cut ? "Only the end is shown." : "", note, !text && !note ? "It wrote nothing." : ""].filter(Boolean).join(" ");
    const body = element("div", {});
    if (notes) body.append(element("p", { class: "muted" }, notes));
    if (text) body.append(element("pre", { class: "log", tabindex: "0" }, text));
    return body;
  }

  facts(task) {
    const extra = this.extra ?? {}, list = element("dl", {});
    const fact = (name, value, mono) => { if (value) list.append(element("dt", {}, name), element("dd", { class: mono ? "mono" : "" }, value)); };
    const parent = this.app.store.tasks.get(task.parent);
    if (parent) list.append(element("dt", {}, "Made by"), element("dd", {}, element("button", { type: "button", class: "link", onclick: () => this.app.select(parent.uid) }, `${parent.label} ${nameOf(parent)}`)));
    const below = this.app.store.below([task.uid]).length;
    fact("Below it", below ? `${count(below)} task${below === 1 ? "" : "s"}` : "");
    if (task.title !== task.name) fact("Key", task.title);
    fact("Began", moment(task.times[3] ?? task.times[2], this.app.now()));
    fact("Ran", took(ranMs(task, this.app.now())));
    fact("Cluster", task.cluster);
    fact("Worker", task.worker, true);
    fact("Command", extra.command?.map(quoted).join(" "), true);
    fact("Image", extra.image, true);
    const usage = extra.usage ?? {};
    if (usage.userSeconds !== undefined || usage.systemSeconds !== undefined) fact("CPU", took(((usage.userSeconds ?? 0) + (usage.systemSeconds ?? 0)) * 1000));
    if (usage.maxRssBytes) fact("Memory", bytes(usage.maxRssBytes));
    fact("Namespace", task.namespace);
    if (extra.problem) fact("Details", extra.problem);
    return list;
  }

  past(task) {
    const attempts = this.extra?.attempts ?? [];
    if (!attempts.length) return [];
    const list = element("ul", { class: "members" });
    for (const one of attempts) {
      const code = one.exitCode === null || one.exitCode === undefined ? "" : `, exit code ${one.exitCode}`;
      list.append(element("li", {}, element("button", { type: "button", title: "Read its log", onclick: () => this.loadLog(task, one.attempt) },
        element("span", {}, String(one.attempt)), element("span", {}, `${one.reason ?? ""}${code}`), element("span", { class: "muted" }, one.podName ?? ""))));
    }
    return [element("h3", {}, "Earlier attempts"), list];
  }
}

function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function members(tasks, app) {
  const list = element("ul", { class: "members" });
  for (const task of tasks) {
    list.append(element("li", {}, element("button", { type: "button", onclick: () => app.select(task.uid) },
      element("i", { class: "dot", "data-state": task.state }), element("span", {}, nameOf(task)),
      element("span", { class: "muted" }, took(ranMs(task, app.now()))))));
  }
  return list;
}
