"""The engine of bench/drain.py: what `BENCH_IMPORTS` names is imported; a task without params is a no-op."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import time
from collections.abc import Callable
from typing import Any

import qtm

MODULES = {
    name: importlib.import_module(name) for name in os.environ.get("BENCH_IMPORTS", "").split(",") if name
}
FIRST_LINE = os.environ["BENCH_FIRST_LINE"]  # the file that gets the time of the first task's first line


@functools.cache
def note_first() -> None:
    """Write the time of the first task's first line, once in each process."""
    at = time.monotonic()
    if not os.path.exists(FIRST_LINE):
        own = f"{FIRST_LINE}.{os.getpid()}"
        with open(own, "w") as file:
            file.write(str(at))
        with contextlib.suppress(FileExistsError):  # the other slot was first
            os.link(own, FIRST_LINE)


def run(task: qtm.TaskRequest, progress: Callable[[float, str], None]) -> dict[str, Any]:
    """A backtest, a rest of so many ``seconds``, or nothing; the result has the time of its first line."""
    at = time.monotonic()
    note_first()
    if "fast" in task.params:
        found: dict[str, Any] = MODULES["sma"].backtest(task.stock_code, **task.params)
        return found
    if "seconds" in task.params:  # to sleep for no time costs more than a no-op
        time.sleep(float(task.params["seconds"]))
    if "metrics" in task.params:
        return {"at": at, "metrics": {f"metric_{n}": at / (n + 1) for n in range(task.params["metrics"])}}
    return {"at": at}
