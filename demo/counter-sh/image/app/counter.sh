#!/bin/sh
# One step of the counter: read the input, create the next task, say what was counted.
set -eu

count=$(taskctl-init input count)
limit=$(taskctl-init input limit)
echo "count is $count of $limit"

if [ "$count" -lt "$limit" ]; then
    next=$((count + 1))
    # The key makes the child the same one if this task has to run again.
    taskctl-init spawn --key next --name "sh-task-$next" --data "count=$next" "limit=$limit"
fi
taskctl-init output --data "count=$count" "limit=$limit"
