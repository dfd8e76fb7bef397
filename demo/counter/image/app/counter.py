"""One step of the counter: read the input, create the next task, say what was counted."""

from taskctl.sdk import current
from taskctl.sdk.sync import output, spawn


def main() -> None:
    given = current().input
    count, limit = int(given["count"]), int(given["limit"])
    print(f"count is {count} of {limit}")
    if count < limit:
        # No command: the child runs what this task runs. The key makes it the same child
        # if this task has to run again.
        following = {"count": count + 1, "limit": limit}
        spawn(None, key="next", name=f"task-{count + 1}", input=following)
    output({"count": count, "limit": limit})


if __name__ == "__main__":
    main()
