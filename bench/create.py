"""What one create of 100,000 tasks takes, of stocks x params, of a sweep, and as a dry run of that: seconds, CPU of this
process and of the server, and how much memory it needs.

python3 bench/create.py                 # on SQLite and on a private MariaDB, durable, about a minute
python3 bench/create.py --tasks 10000
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fill
from private_mariadb import PrivateMariaDB

import qtm

STOCKS = 500
CONFIG = {**fill.CONFIG, "strategy": "sma_cross"}
ROUNDS = 3


def cpu_seconds(pid: int) -> float:
    """Of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss(forget: bool = False) -> float:
    """The greatest memory of this process in MB; ``forget`` begins anew with what it has now."""
    if forget:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def bodies(tasks: int) -> dict[str, dict[str, Any]]:
    """By name, the body of each create."""
    grid = {"fast": {"from": 1, "to": tasks // STOCKS}, "slow": {"from": 1001, "to": 1000 + STOCKS}}
    sweep: dict[str, Any] = {"stock_code": "S", "config": CONFIG, "sweep": {"grid": grid}}
    codes, params = (
        [f"S{i}" for i in range(STOCKS)],
        [{"fast": i, "slow": 999} for i in range(1, tasks // STOCKS + 1)],
    )
    stocks: dict[str, Any] = {"stock_codes": codes, "config": CONFIG, "params": params}
    return {"stocks x params": stocks, "sweep": sweep, "dry run": {**sweep, "dry_run": True}}


def measure(name: str, url: str, tasks: int, server_seconds: Callable[[], float]) -> None:
    """Create so many tasks from a body, as HTTP does, and print what each round took. The built-in engine
    validates them."""
    with qtm.start(qtm.Settings(database_url=url), scheduler=False) as manager:
        manager.create_task(qtm.TaskRequest("S", dict(CONFIG), {"fast": 1, "slow": 2}))
        for (kind, body), number in itertools.product(bodies(tasks).items(), range(ROUNDS)):
            text = qtm.dump_json(body).encode()
            before, rss = server_seconds(), peak_rss(forget=True)
            started, used = time.perf_counter(), time.process_time()
            batch = qtm.BatchRequest.from_body(qtm.parse_body(text))
            if kind == "dry run":
                count = manager.would_create(batch).count
            else:
                key = f"{name} {kind} {number}"
                (created,) = manager.create_tasks([(batch, key)])
                if not isinstance(created, qtm.CreatedBatch):
                    raise SystemExit(f"{name}: {created!r}")
                count = manager.get_batch(created.batch_id).counts["pending"]
            seconds, used = time.perf_counter() - started, time.process_time() - used
            if count != tasks:
                raise SystemExit(f"{name}, {kind}: {count} tasks")
            server, growth = server_seconds() - before, peak_rss() - rss
            cpu = f"CPU {used:.2f} s here and {server:.2f} s in the server"
            print(
                f"{name:8} {kind:16} {tasks} tasks: {seconds:.2f} s, {cpu}, peak RSS +{growth:.0f} MB",
                flush=True,
            )


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
