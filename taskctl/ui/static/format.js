// Words and numbers for people.

export const STATES = ["Failed", "Running", "Scheduled", "Pending", "Cancelled", "Succeeded", "Skipped"];
// What people look for first stands first.
export const RANK = new Map(STATES.map((state, place) => [state, place]));
export const ENDED = new Set(["Succeeded", "Failed", "Cancelled", "Skipped"]);
export const STAGES = ["Waited", "Placed", "Started", "Ran", "Recorded"];
export const CREATED = 0, PLACED = 1, STARTED = 2, USER_CODE = 3, EXITED = 4, OBSERVED = 5;

// Numbers in names count as numbers: task-9 before task-10.
export const natural = new Intl.Collator("en", { numeric: true }).compare;

export function took(ms) {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return "";
  if (ms < 0) ms = 0;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 100) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 100) return `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// An estimate must not look more exact than it is.
export function roughly(ms) {
  const seconds = Math.max(1, ms / 1000);
  if (seconds < 20) return `${Math.round(seconds)} s`;
  if (seconds < 90) return `${Math.round(seconds / 5) * 5} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 360) / 10} h` : `${Math.round(seconds / 86400)} d`;
}

export function clock(ms) {
  if (!ms) return "";
  const at = new Date(ms);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

// The same with the day, where that is another one.
export function moment(ms, now) {
  if (!ms || new Date(ms).toDateString() === new Date(now).toDateString()) return clock(ms);
  const at = new Date(ms);
  const day = [at.getMonth() + 1, at.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
  return `${day} ${clock(ms).slice(0, 5)}`;
}

export function count(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (number >= 1024 && place < units.length - 1) { number /= 1024; place += 1; }
  return `${place && number < 10 ? number.toFixed(1) : Math.round(number)} ${units[place]}`;
}

export function nameOf(task) {
  return task.title;
}

// Whether nothing more will come of it: it has ended, or was deleted before that.
export function isOver(task) {
  return ENDED.has(task.state) || isGone(task);
}

export function isGone(task) {
  return typeof task.gone === "number";
}

export function goneSince(task, now) {
  return task.gone ? `deleted ${roughly(Math.max(0, now - task.gone))} ago` : "deleted";
}

export function ranMs(task, now) {
  const begin = task.times[USER_CODE] ?? task.times[STARTED];
  if (begin === null || begin === undefined) return null;
  if (isOver(task)) return task.times[EXITED] === null ? null : task.times[EXITED] - begin;
  return task.state === "Running" ? now - begin : null;
}

// The state whose colour a task gets: a root that did well has that of its tree.
export function shownState(task) {
  return { running: "Running", failed: "Failed" }[task.tree] ?? task.state;
}

export function verdict(task) {
  const parts = [task.state];
  if (task.tree) parts.push(task.tree === "running" ? "its tree runs" : "its tree failed");
  if (task.reason && !["Completed", "Started", "Queued", task.state].includes(task.reason)) {
    parts.push(task.reason === "NonZeroExit" ? `exit code ${task.exit_code}` : task.reason);
  }
  if (task.attempt > 1) parts.push(`attempt ${task.attempt}`);
  if (isGone(task)) parts.push("gone");
  return parts.join(" · ");
}

export function progressOf(task) {
  if (!task.progress) return "";
  const [done, total, message] = task.progress;
  const share = total > 0 ? `${count(done)} of ${count(total)} (${Math.floor((100 * done) / total)} %)` : count(done);
  return message ? `${share}: ${message}` : share;
}

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
