"""The retention at work: how many tasks a second it deletes, and what creates take beside it.

    python3 bench/purge.py                    # 100,000 old tasks on SQLite and on MariaDB, about two minutes
    python3 bench/purge.py --tasks 1000000

Each database is filled with finished tasks of long ago. Then `qtm.py serve` starts with QTM_RETENTION_DAYS=1, and one client makes
ten creates a second until all old tasks are gone; "alone" are the same creates before, without the retention. The goals: 3,000 tasks a
second, and a p99 of the creates of 50 ms.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import fill
from load import call, quantile_of, table
from private_mariadb import PrivateMariaDB
from service import API, migrate, service

CREATES_A_SECOND = 10
LIMIT_SECONDS = 600.0
ALONE_SECONDS = 10.0  # of creates without the retention, to compare with


def purged(port: int) -> int:
    """The tasks that the service has deleted."""
    lines = call(port, "GET", "/metrics")[1].splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("qtm_purged_tasks_total ")))


def run(url: str, retention_days: int, total: int, seconds_limit: float) -> tuple[float, list[float]]:
    """Create until so many old tasks are gone, or the time is over: tasks deleted a second, and the creates'
    milliseconds."""
    body = json.dumps({"stock_code": "AAPL", "config": fill.CONFIG, "params": {}})
    latencies: list[float] = []
    environment = {"QTM_RETENTION_DAYS": str(retention_days)}
    with (
        tempfile.TemporaryDirectory(prefix="qtm-bench-") as folder,
        service(url, Path(folder), ["--no-scheduler"], environment) as server,
    ):
        started, before = time.monotonic(), purged(server.port)
        count = before
        while count < total and time.monotonic() - started < seconds_limit:
            due = started + (len(latencies) + 1) / CREATES_A_SECOND
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.perf_counter()
            status, text = call(server.port, "POST", f"{API}/createTask", body)
            latencies.append(1000 * (time.perf_counter() - began))
            if status != 201:
                raise RuntimeError(f"a create was answered with {status}: {text}")
            count = purged(server.port)
        return (count - before) / (time.monotonic() - started), latencies


def measure(name: str, url: str, tasks: int) -> list[str]:
    """One row of the table."""
    migrate(url)
    total = fill.fill(url, tasks) * fill.BATCH_TASKS
    _, alone = run(url, 0, total, ALONE_SECONDS)
    rate, beside = run(url, 1, total, LIMIT_SECONDS)
    figures = [
        f"{quantile_of(latencies, share):.1f}" for share in (0.5, 0.99) for latencies in (alone, beside)
    ]
    return [name, f"{total:,}", f"{rate:,.0f}", str(len(beside)), *figures]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--tasks", type=int, default=100_000, help="old tasks in each database (default 100,000)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qtm-bench-") as folder:
        rows = [measure("SQLite", f"sqlite:///{folder}/qtm.db", options.tasks)]
    with PrivateMariaDB(buffer_pool="1G") as server:
        rows.append(measure("MariaDB", server.create_database("qtm_bench"), options.tasks))
    header = ["database", "old tasks", "deleted/s", "creates", "p50 alone", "p50 ms", "p99 alone", "p99 ms"]
    sys.stdout.write(table(header, rows) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
