"""The floor under qtm's latencies: the same statements in a bare loop of the driver, without HTTP, checks or threads.

It is what a script of one's own would pay that writes to the same tables: one insert and commit, one select by key, one
select of a batch. No service can be faster than its database; the ratio to this floor says what qtm adds.
"""

from __future__ import annotations

import itertools
import random
import re
import sqlite3
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pymysql
import pymysql.converters
from pymysql.constants import CLIENT

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fill
from load import quantile_of

import qtm

TASK_COLUMNS = """task_id, batch_id, stock_code, config, params, status, progress, message, attempt, max_attempts, timeout_seconds,
  priority_rank, created_at, run_at, started_at, finished_at, worker_id, error, engine_version"""
INSERT_TASKS = """INSERT INTO backtest_tasks (task_id, batch_id, stock_code, config, params, status, progress, message, attempt,
  max_attempts, attempt_limit, timeout_seconds, priority_rank, created_at, run_at, heartbeat)
SELECT r.task_id, ?, r.stock_code, ?, r.params, 'pending', 0.0, '', 0, 3, 3, 3600.0, 0, ?, ?, 0 FROM """
SQLITE_ROWS = """(SELECT json_extract(value, '$[0]') AS task_id, json_extract(value, '$[1]') AS stock_code,
  json_extract(value, '$[2]') AS params FROM json_each(?)) AS r"""
MYSQL_ROWS = """JSON_TABLE(?, '$[*]' COLUMNS (task_id LONGTEXT CHARACTER SET utf8mb4 PATH '$[0]',
  stock_code LONGTEXT CHARACTER SET utf8mb4 PATH '$[1]', params LONGTEXT CHARACTER SET utf8mb4 PATH '$[2]')) AS r"""
STAMP = "2026-01-01 00:00:00.000000"
MIN_ROUNDS = 5
UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
COMPLETED = [place for place in range(fill.BATCH_TASKS) if fill.is_completed(place)]


def bare_connection(url: str, **options: Any) -> Any:
    """PyMySQL as it comes, connected to the database of a qtm URL."""
    parts = urllib.parse.urlsplit(url)
    return pymysql.connect(
        host="127.0.0.1",
        port=parts.port or 3306,
        user="root",
        database=parts.path[1:],
        autocommit=True,
        **options,
    )


class Floor:
    """One bare connection to the database of a qtm URL, with commits as durable as qtm's. A context
    manager."""

    def __init__(self, url: str, batches: int) -> None:
        parts = urllib.parse.urlsplit(url)
        self._random = random.Random(1)
        self._batches = batches
        self._mark = "?" if parts.scheme == "sqlite" else "%s"
        self._insert = (INSERT_TASKS + (SQLITE_ROWS if parts.scheme == "sqlite" else MYSQL_ROWS)).replace(
            "?", self._mark
        )
        self._connection: Any
        if parts.scheme == "sqlite":
            self._connection = sqlite3.connect(parts.path[1:], isolation_level=None)
            self._connection.execute("PRAGMA synchronous=FULL")
        else:
            # times stay text
            texts = {
                kind: decode for kind, decode in pymysql.converters.conversions.items() if kind not in (7, 12)
            }
            self._connection = bare_connection(url, conv=texts)
        self._cursor = self._connection.cursor()

    def __enter__(self) -> Floor:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _select(self, tail: str, key: str) -> int:
        self._cursor.execute(
            f"SELECT {TASK_COLUMNS} FROM backtest_tasks WHERE {tail}".replace("?", self._mark), (key,)
        )
        return len(self._cursor.fetchall())

    def status(self) -> None:
        """One task by its key."""
        found = self._select(
            "task_id = ?",
            fill.task_id(self._random.randrange(self._batches), self._random.randrange(fill.BATCH_TASKS)),
        )
        if found != 1:
            raise RuntimeError(f"the floor found {found} rows of a task")

    def batch(self) -> None:
        """The tasks of one batch."""
        found = self._select(
            "batch_id = ? ORDER BY task_id LIMIT 10001", fill.batch_id(self._random.randrange(self._batches))
        )
        if found != fill.BATCH_TASKS:
            raise RuntimeError(f"the floor found {found} rows of a batch")

    def create(self, count: int) -> None:
        """A batch and its tasks in one transaction, all rows in one statement from one JSON text."""
        batch_id, *task_ids = qtm.new_task_ids(count + 1)
        rows = qtm.dump_json([(task_id, fill.stock_code(i), "{}") for i, task_id in enumerate(task_ids)])
        self._cursor.execute("BEGIN")
        self._cursor.execute(fill.INSERT_BATCH.replace("?", self._mark), (batch_id, None, STAMP))
        self._cursor.execute(self._insert, (batch_id, qtm.dump_json(fill.CONFIG), STAMP, STAMP, rows))
        self._cursor.execute("COMMIT")


class Replay:
    """The very texts that qtm sends to MySQL or MariaDB for an operation, recorded once and sent again, with
    other ids, by PyMySQL as it comes. Its methods record one, and give what sends it again and reads the
    whole answer. A context manager."""

    def __init__(self, url: str, batches: int) -> None:
        self._random = random.Random(1)
        self._batches = batches
        self._database = qtm.Database(url, pool_size=1)
        self._tasks = qtm.TaskManager(qtm.TaskDAO(self._database), qtm.Settings())
        session = f"SET SESSION tx_isolation='READ-COMMITTED', group_concat_max_len={2**32 - 1}"
        self._bare = bare_connection(url, client_flag=CLIENT.MULTI_STATEMENTS, init_command=session)

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        self._bare.close()
        self._database.close()

    def _recorded(self, call: Callable[[], object]) -> list[str]:
        """What it sends when its statements are prepared already; they are prepared for the bare connection,
        too."""
        sent: list[str] = []
        with self._database._writers.connection() as connection:  # the only one
            send = connection.query

        def record(text: str, unbuffered: bool = False) -> Any:
            sent.append(text)
            return send(text, unbuffered)

        connection.query = record
        try:
            call()
            self._send(text for text in sent if text.startswith("PREPARE "))
            sent.clear()
            call()
        finally:
            del connection.query
        return sent

    def _send(self, texts: Iterable[str]) -> int:
        """How many rows came back."""
        cursor, count = self._bare.cursor(), 0
        for text in texts:
            cursor.execute(text)
            count += len(cursor.fetchall())
            while cursor.nextset():
                count += len(cursor.fetchall())
        return count

    def _again(
        self, call: Callable[[str], object], recorded: str, choose: Callable[[], str]
    ) -> Callable[[], None]:
        """Send what ``call`` sends for the id ``recorded`` for another one that exists."""
        texts = self._recorded(lambda: call(recorded))

        def send() -> None:
            key = choose()
            if not self._send(text.replace(recorded, key) for text in texts):
                raise RuntimeError(f"nothing was found of {key}")

        return send

    def status(self) -> Callable[[], None]:
        """One task by its key."""
        return self._again(
            lambda key: self._tasks.get_status_texts([key]),
            fill.task_id(0, 0),
            lambda: fill.task_id(
                self._random.randrange(self._batches), self._random.randrange(fill.BATCH_TASKS)
            ),
        )

    def result(self) -> Callable[[], None]:
        """One task of the oldest batches and its result."""
        batches = min(self._batches, fill.RESULT_BATCHES)
        return self._again(
            lambda key: self._tasks.get_result_texts([key]),
            fill.task_id(0, COMPLETED[0]),
            lambda: fill.task_id(self._random.randrange(batches), self._random.choice(COMPLETED)),
        )

    def batch(self) -> Callable[[], None]:
        """A batch and its tasks."""
        call = lambda key: self._tasks.get_batch_page(qtm.TaskFilter(key, limit=qtm.MAX_PAGE))  # noqa: E731
        return self._again(
            call, fill.batch_id(0), lambda: fill.batch_id(self._random.randrange(self._batches))
        )

    def create(self, count: int) -> Callable[[], None]:
        """A batch and its tasks in one transaction."""
        request = qtm.BatchRequest([fill.stock_code(i) for i in range(count)], fill.CONFIG, [{}])
        texts = self._recorded(lambda: self._tasks.create_task(request))
        recorded = dict.fromkeys(found for text in texts for found in UUID.findall(text))

        def send() -> None:
            ids = dict(zip(recorded, qtm.new_task_ids(len(recorded)), strict=True))
            self._send(UUID.sub(lambda found: ids[found[0]], text) for text in texts)

        return send


def latencies_of(work: Callable[[], None], seconds: float) -> list[float]:
    """The seconds that ``work`` takes, run again and again for so long, and at least a few times."""
    latencies = []
    ends = time.perf_counter() + seconds
    for done in itertools.count():
        started = time.perf_counter()
        if done >= MIN_ROUNDS and started >= ends:
            break
        work()
        latencies.append(time.perf_counter() - started)
    return latencies


def p50_milliseconds(work: Callable[[], None], seconds: float) -> float:
    """Their median."""
    return quantile_of(latencies_of(work, seconds), 0.5) * 1000
