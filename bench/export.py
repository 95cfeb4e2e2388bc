"""What an export takes: all 100,000 tasks of a batch as CSV and as JSON lines, by HTTP from a service.

    python3 bench/export.py [--batch 100000] [--databases sqlite,mariadb] [--rounds 3]

Fills a SQLite file and a private MariaDB by SQL, and prints for each export the rows a second and how much the memory of the
service has grown at its peak; beside it a plain script of a driver and the csv module, with the same columns.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import http.client
import io
import json
import os
import pathlib
import re
import sqlite3
import statistics
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import fill
import pymysql.cursors
import rank
from service import service

GOAL_ROWS, GOAL_MB = 20_000, 20
PIECE = 1 << 16
HEAD = ("task_id", "stock_code", "status", "attempt", "created_at", "started_at", "finished_at", "error")
COLUMNS = (*HEAD, "engine_version", "params")
QUERY = f"""SELECT {", ".join(f"t.{name}" for name in COLUMNS)}, m.metrics FROM backtest_tasks t
    LEFT JOIN backtest_metrics m ON m.batch_id = t.batch_id AND m.task_id = t.task_id
    WHERE t.batch_id = '{fill.batch_id(0)}' ORDER BY t.task_id"""


def memory_mb(pid: int, name: str) -> float:
    """VmRSS or VmHWM of a process."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"{name}:\s+(\d+)", text)
    assert found
    return int(found[1]) / 1024


def exported(port: int, query: str) -> int:
    """The lines of an export, which are read and dropped."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", f"{rank.API}/exportTasks?batch_id={fill.batch_id(0)}{query}")
    answer, lines = connection.getresponse(), 0
    assert answer.status == 200, answer.read()
    while data := answer.read1(PIECE):
        lines += data.count(b"\n")
    connection.close()
    return lines


@contextlib.contextmanager
def rows_of(url: str) -> Iterator[Iterator[Any]]:
    """The rows of the batch, by the driver alone and not all at once."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "sqlite":
        with contextlib.closing(sqlite3.connect(parts.path[1:])) as opened:
            yield iter(opened.execute(QUERY))
        return
    server = pymysql.connect(host="127.0.0.1", port=parts.port or 3306, user="root", database=parts.path[1:])
    with contextlib.closing(server), server.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute(QUERY)
        yield iter(cursor)


def by_script(url: str) -> int:
    """The lines of the same CSV as a plain script makes it: params and metrics from JSON, one pass for their
    names and one for the rows."""
    names: dict[str, dict[str, None]] = {"params": {}, "metrics": {}}
    with rows_of(url) as rows:
        for *_, params, metrics in rows:
            names["params"].update(dict.fromkeys(json.loads(params)))
            names["metrics"].update(dict.fromkeys(json.loads(metrics or "{}")))
    lines = 0
    with rows_of(url) as rows:
        for *head, params, metrics in rows:
            stream = io.StringIO()
            given, found = json.loads(params), json.loads(metrics or "{}")
            values = [*map(given.get, names["params"]), *map(found.get, names["metrics"])]
            csv.writer(stream).writerow([*head, *values])
            lines += stream.getvalue().count("\n")
    return lines


def measure(name: str, call: Callable[[], int], batch: int, rounds: int, goal: float = 0.0) -> None:
    """Make the calls, and print a line."""
    found = list[float]()
    for _ in range(rounds):
        started = time.perf_counter()
        lines = call()
        found.append(lines / (time.perf_counter() - started))
        assert batch <= lines <= batch + 1, lines
    verdict = f"  goal {goal:,.0f}{'' if statistics.median(found) >= goal else '  MISSED'}" if goal else ""
    print(f"{name:44} {statistics.median(found):9,.0f} rows/s{verdict}", flush=True)


def main() -> None:
    """Measure both databases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=100_000)
    parser.add_argument("--databases", default="sqlite,mariadb")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()}")
    for kind in options.databases.split(","):
        with tempfile.TemporaryDirectory() as folder, rank.database(kind, folder) as (url, _):
            fill.fill(url, options.batch, is_one_batch=True, with_metrics=True)
            flags = ["--no-scheduler"] if kind != "sqlite" else []
            with service(url, pathlib.Path(folder), flags) as server:
                exported(server.port, "&fields=task_id&where=nope>1")
                before = memory_mb(server.pid, "VmRSS")
                for words, query, goal in (
                    ("CSV", "", GOAL_ROWS),
                    ("CSV, three fields", "&fields=stock_code,params.fast,sharpe", 0),
                    ("JSON lines", "&format=ndjson", 0),
                ):
                    call = functools.partial(exported, server.port, query)
                    measure(f"{kind}: {words}", call, options.batch, options.rounds, goal)
                grown = max(0.0, memory_mb(server.pid, "VmHWM") - before)
                verdict = "" if grown <= GOAL_MB else "  MISSED"
                print(f"{kind}: memory of the service, peak: + {grown:.0f} MB  goal {GOAL_MB}{verdict}")
            script = functools.partial(by_script, url)
            measure(f"{kind}: a script of driver and csv", script, options.batch, options.rounds)


if __name__ == "__main__":
    main()
