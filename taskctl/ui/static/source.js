// Where the tasks come from: the server's stream, or the file that holds this page.

export function openSource(handlers) {
  const embedded = document.getElementById("taskctl-data");
  return embedded ? new FileSource(JSON.parse(embedded.textContent), handlers) : new LiveSource(handlers);
}

class FileSource {
  constructor(data, handlers) {
    this.data = data;
    this.handlers = handlers;
    this.write = false;
    this.live = false;
  }

  async start() {
    this.handlers.session({ title: this.data.title, write: false });
    this.handlers.status({ now: this.data.now, problem: "" });
    this.handlers.reset();
    this.handlers.rows(this.data.tasks);
    this.handlers.clusters(this.data.clusters ?? []);
    this.handlers.state("file", `as of ${this.data.taken}`);
    this.handlers.synced();
  }

  async detail(task) {
    return this.data.details[task.uid] ?? null;
  }

  async log(task) {
    const found = this.data.logs[task.uid];
    return found ?? { text: "", note: "This file does not hold the log of this task.", cut: false };
  }
}

class LiveSource {
  constructor(handlers) {
    this.handlers = handlers;
    this.csrf = "";
    this.write = false;
    this.live = true;
  }

  async start() {
    const token = decodeURIComponent(location.hash.slice(1));
    // The token must not stay where a glance, a screenshot or the history shows it.
    if (token) history.replaceState(null, "", location.pathname);
    let session;
    try {
      session = await this.ask("/api/session", { token });
    } catch (error) {
      this.handlers.state("broken", "not connected");
      this.handlers.problem(error.message);
      return;
    }
    this.csrf = session.csrf;
    this.write = session.write;
    this.handlers.session(session);
    this.listen();
  }

  listen() {
    const stream = new EventSource("/api/events");
    const on = (name, use) => stream.addEventListener(name, (event) => use(JSON.parse(event.data)));
    on("reset", () => this.handlers.reset());
    on("rows", (rows) => this.handlers.rows(rows));
    on("gone", (uids) => this.handlers.gone(uids));
    on("synced", () => this.handlers.synced());
    on("cluster-reset", () => this.handlers.clustersReset());
    on("cluster-rows", (rows) => this.handlers.clusters(rows));
    on("cluster-gone", (uids) => this.handlers.clustersGone(uids));
    on("status", (status) => this.handlers.status(status));
    stream.onopen = () => this.handlers.state("live", "live");
    stream.onerror = () => {
      if (stream.readyState === EventSource.CLOSED) {
        this.handlers.state("broken", "not connected");
        this.handlers.problem("The server refuses the stream. Open the address that taskctl printed.");
      } else {
        this.handlers.state("waiting", "connecting again");
      }
    };
  }

  detail(task) {
    return this.ask(`/api/task?uid=${encodeURIComponent(task.uid)}`);
  }

  log(task, attempt) {
    const which = attempt ? `&attempt=${attempt}` : "";
    return this.ask(`/api/log?uid=${encodeURIComponent(task.uid)}${which}`);
  }

  change(verb, task) {
    return this.ask(`/api/${verb}`, { uid: task.uid });
  }

  earlier() {
    return this.ask("/api/earlier");
  }

  async ask(path, body) {
    const options = { signal: AbortSignal.timeout(40000), headers: {}, credentials: "same-origin" };
    if (body) {
      options.method = "POST";
      options.headers = { "Content-Type": "application/json", "X-Taskctl-Csrf": this.csrf };
      options.body = JSON.stringify(body);
    }
    const answer = await fetch(path, options);
    const value = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
    if (!answer.ok) throw new Error(value.error);
    return value;
  }
}
