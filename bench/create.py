"""What one create of 100,000 tasks takes: seconds, CPU of this process and of the server, and how much memory it needs.

python3 bench/create.py                 # on SQLite and on a private MariaDB, durable, about a minute
python3 bench/create.py --tasks 10000
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fill
from private_mariadb import PrivateMariaDB

import qtm

STOCKS = 500
ROUNDS = 3


def cpu_seconds(pid: int) -> float:
    """Of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(name: str, url: str, tasks: int, server_seconds: Callable[[], float]) -> None:
    """Create so many tasks from a body, as HTTP does, and print what each round took."""
    body = {
        "stock_codes": [f"S{i}" for i in range(STOCKS)],
        "config": fill.CONFIG,
        "params": [{"n": i} for i in range(tasks // STOCKS)],
    }
    text = qtm.dump_json(body).encode()
    with qtm.start(qtm.Settings(database_url=url, engine="mine:run"), scheduler=False) as manager:
        manager.create_task(qtm.TaskRequest("S", dict(fill.CONFIG)))
        for number in range(ROUNDS):
            before, peak = server_seconds(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            started, used = time.perf_counter(), time.process_time()
            (created,) = manager.create_tasks(
                [(qtm.BatchRequest.from_body(qtm.parse_body(text)), f"{name} {number}")], are_checked=True
            )
            seconds, used = time.perf_counter() - started, time.process_time() - used
            if (
                not isinstance(created, qtm.CreatedBatch)
                or manager.get_batch(created.batch_id).counts["pending"] != tasks
            ):
                raise SystemExit(f"{name}: {created!r}")
            growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
            server = server_seconds() - before
            cpu = f"CPU {used:.2f} s here and {server:.2f} s in the server"
            print(f"{name:8} {tasks} tasks: {seconds:.2f} s, {cpu}, peak RSS +{growth:.0f} MB")


def main() -> None:
    """Measure both databases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=qtm.MAX_TASKS_PER_CREATE, help=f"a multiple of {STOCKS}")
    tasks = parser.parse_args().tasks
    with tempfile.TemporaryDirectory() as folder:
        measure("SQLite", f"sqlite:///{folder}/q.db", tasks, lambda: 0.0)
    with PrivateMariaDB((), is_durable=True) as server:
        pid = int((Path(server.folder) / "pid").read_text())
        measure("MariaDB", server.create_database("qtm_create"), tasks, lambda: cpu_seconds(pid))


if __name__ == "__main__":
    main()
