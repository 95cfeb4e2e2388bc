"""What a ranking takes: the best 100 of a batch of 100,000 by any metric, one million tasks in the table.

    python3 bench/rank.py [--rows 1000000] [--batch 100000] [--small 1000] [--databases sqlite,mariadb] [--rounds 20]

Fills a SQLite file and a private MariaDB by SQL, and prints for each question the milliseconds of the first time (each round asks for
another page size, which no answer is kept for) and of a repeat; then the status requests of ten clients of a service, alone and while
another client ranks all the time.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import math
import os
import pathlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import fill
import private_mariadb
from service import service

import qtm

GOALS_MS = {"sqlite": (250, 350), "mariadb": (600, 750)}  # of a ranking of tasks, and of groups
REPEAT_MS, SMALL_MS, STATUS_MS = 50, 20, 20
API = "/api/v1/backtest"


class Stopwatch:
    """Wall time of calls, and CPU time of this process and of the server, which other work disturbs least."""

    def __init__(self, server_pid: int) -> None:
        self._server_pid = server_pid

    def _cpu(self) -> float:
        server = 0.0
        if self._server_pid:
            fields = pathlib.Path(f"/proc/{self._server_pid}/stat").read_text().rpartition(")")[2].split()
            server = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return time.process_time() + server

    def row(self, name: str, calls: Sequence[Callable[[], object]], goal: float) -> None:
        """Make the calls, and print one line of the table."""
        found, before = list[float](), self._cpu()
        for call in calls:
            started = time.perf_counter()
            call()
            found.append(1000 * (time.perf_counter() - started))
        row(name, found, goal, f"  CPU {1000 * (self._cpu() - before) / len(calls):6.1f}")


def row(name: str, values: Sequence[float], goal: float, more: str = "") -> None:
    """Print one line of the table."""
    middle, ends = statistics.median(values), f"min {min(values):7.1f}  max {max(values):7.1f}"
    verdict = "" if middle <= goal else "  OVER"
    print(f"{name:52} p50 {middle:7.1f}  {ends}{more}  goal {goal:g}{verdict}", flush=True)


def measure(kind: str, watch: Stopwatch, tasks: qtm.TaskManager, batch: str, small: str, rounds: int) -> None:
    """Ask each question ``rounds`` times."""
    by_task, by_group = GOALS_MS[kind]
    questions: dict[str, tuple[str, dict[str, Any], float]] = {
        "top 100 by sharpe": (batch, {}, by_task),
        "top 100 by kurtosis, the last metric": (batch, {"by": "kurtosis"}, by_task),
        "top 100 by max_drawdown where fast<20": (
            batch,
            {"by": "max_drawdown", "where": ("fast<20",)},
            by_task,
        ),
        "grouped by params": (batch, {"group": "params"}, by_group),
        "small batch": (small, {}, SMALL_MS),
        "small batch, grouped": (small, {"group": "params"}, SMALL_MS),
    }
    for name, (of, more, goal) in questions.items():
        asked = [qtm.RankQuery(of, limit=100 + i, **more) for i in range(rounds)]
        calls = [functools.partial(tasks.rank_text, query) for query in asked]
        watch.row(f"{kind}: {name}", calls, goal)
        watch.row(f"{kind}: {name}, again", calls[-1:] * rounds, REPEAT_MS)
    against = functools.partial(tasks.rank_text, qtm.RankQuery(batch, against=batch))
    watch.row(f"{kind}: against itself", [against], math.inf)


def ask(port: int, path: str, until: float, found: list[float]) -> None:
    """Ask one question again and again."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while time.monotonic() < until:
        started = time.perf_counter()
        connection.request("GET", f"{API}/{path.format(round(time.monotonic() * 1000) % 900 + 100)}")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        found.append(1000 * (time.perf_counter() - started))


def statuses(kind: str, url: str, folder: str, batch: str, seconds: float) -> None:
    """Ten clients ask for statuses, alone and beside one that ranks."""
    flags = ["--no-scheduler"] if kind != "sqlite" else []
    with service(url, pathlib.Path(folder), flags) as server:
        for words, rankers in (("alone", 0), ("beside a client that ranks", 1)):
            found, ranked, until = list[float](), list[float](), time.monotonic() + seconds
            path = f"rankTasks?batch_id={batch}&limit={{}}"
            threads = [
                threading.Thread(target=ask, args=(server.port, path, until, ranked)) for _ in range(rankers)
            ]
            path = f"getTaskStatus?task_id={fill.task_id(0, 0)}"
            threads += [
                threading.Thread(target=ask, args=(server.port, path, until, found)) for _ in range(10)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            p99 = statistics.quantiles(found, n=100)[98]
            row(f"{kind}: status of ten clients, {words}, p99", [p99], STATUS_MS)
            print(f"    {len(found)} statuses, {len(ranked)} rankings")


@contextlib.contextmanager
def database(kind: str, folder: str) -> Iterator[tuple[str, int]]:
    """The URL of a database without tasks, and the pid of its server or 0."""
    with contextlib.ExitStack() as stack:
        url, pid = f"sqlite:///{folder}/rank.db", 0
        if kind != "sqlite":
            server = stack.enter_context(private_mariadb.PrivateMariaDB(buffer_pool="2G"))
            url, pid = server.create_database("rank"), int((server.folder / "pid").read_text())
        with contextlib.closing(qtm.Database(url)) as opened:
            qtm.migrate(opened)
        yield url, pid


def main() -> None:
    """Measure both databases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=100_000)
    parser.add_argument("--small", type=int, default=1000)
    parser.add_argument("--databases", default="sqlite,mariadb")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()}")
    for kind in options.databases.split(","):
        with tempfile.TemporaryDirectory() as folder, database(kind, folder) as (url, pid):
            started = time.perf_counter()
            fill.fill(url, options.rows, first_rows=options.batch, with_metrics=True)
            print(f"{kind}: {options.rows} tasks filled in {time.perf_counter() - started:.0f} s")
            with qtm.start(qtm.Settings(database_url=url), scheduler=False) as tasks:
                columns = """task_id, stock_code, params, params_key, start_date, end_date, engine_version,
                    periods_per_year, period_sharpe, sharpe_error, metrics, data_version"""
                copy = f"""INSERT INTO backtest_metrics (batch_id, {columns}) SELECT 'small', {columns}
                    FROM backtest_metrics WHERE batch_id = :batch ORDER BY task_id LIMIT :many"""
                batch = "INSERT INTO backtest_batches VALUES ('small', NULL, UTC_TIMESTAMP(6))"
                tasks.dao.change(batch)
                tasks.dao.change(copy, batch=fill.batch_id(0), many=options.small)
                measure(kind, Stopwatch(pid), tasks, fill.batch_id(0), "small", options.rounds)
            statuses(kind, url, folder, fill.batch_id(0), options.seconds)


if __name__ == "__main__":
    main()
