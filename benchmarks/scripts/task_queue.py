"""python-task-queue on its queue of files: `fill COUNT` puts tasks, `work` runs them all."""

import functools
import subprocess
import sys

from taskqueue import TaskQueue, queueable


@queueable  # type: ignore[untyped-decorator]
def run_true(number: int) -> None:
    """What minionize would start for this param."""
    subprocess.run(["/bin/true", str(number)], check=True)


queue = TaskQueue("fq://task-queue", verbose=False)
if sys.argv[1] == "fill":
    count = int(sys.argv[2])
    queue.insert((functools.partial(run_true, number) for number in range(count)), total=count)
else:
    queue.poll(lease_seconds=60, stop_fn=queue.is_empty, max_backoff_window=1)
