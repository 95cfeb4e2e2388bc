"""A database as it looks after months of use: a million finished tasks in batches of 5,000, written by bulk SQL.

`qtm.py migrate` makes the tables first. Ids, codes and texts follow from the batch and the place in it, so that a
benchmark knows them without asking the database.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import random
import sqlite3
import urllib.parse
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

import pymysql

BATCH_TASKS = 5000
# the oldest batches, whose completed tasks have a result; four gigabytes of them would test the disk
RESULT_BATCHES = 10
FIRST_CREATED = datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)  # one batch an hour from then on
CONFIG = {
    "strategy": "buy_and_hold",
    "start_date": "2005-01-03",
    "end_date": "2012-12-31",
    "initial_cash": 100000,
    "commission": 0.001,
}

TEMPLATE_TABLE = """
CREATE TEMPORARY TABLE bench_rows (
  place INTEGER PRIMARY KEY, id_tail VARCHAR(24), stock_code VARCHAR(32), params VARCHAR(100), status VARCHAR(9),
  progress DOUBLE, message VARCHAR(100), started VARCHAR(12), finished VARCHAR(12), error VARCHAR(200), params_key BIGINT,
  period_sharpe DOUBLE, metrics TEXT, data_version VARCHAR(64)
)"""

INSERT_BATCH = "INSERT INTO backtest_batches (batch_id, name, created_at) VALUES (?, ?, ?)"

INSERT_TASKS = """
INSERT INTO backtest_tasks (task_id, batch_id, stock_code, config, params, status, progress, message, attempt, max_attempts,
  attempt_limit, timeout_seconds, priority_rank, created_at, run_at, started_at, finished_at, worker_id, heartbeat, error,
  engine_version)
SELECT ? || id_tail, ?, stock_code, ?, params, status, progress, message, 1, 3, 3, 3600.0, 0, ?, ?, ? || started, ? || finished,
  'server-1:4711:5f0c9a7be3d1', 2, error, 'qtm 0.1.0'
FROM bench_rows ORDER BY place"""

INSERT_RESULTS = """
INSERT INTO backtest_results (task_id, result, non_finite)
SELECT ? || id_tail, ?, '[]' FROM bench_rows WHERE status = 'completed' ORDER BY place"""

INSERT_METRICS = """
INSERT INTO backtest_metrics (batch_id, task_id, stock_code, params, params_key, start_date, end_date, engine_version,
  periods_per_year, period_sharpe, sharpe_error, metrics, data_version)
SELECT ?, ? || id_tail, stock_code, params, params_key, '2005-01-03', '2012-12-31', 'qtm 0.1.0', 252, period_sharpe, 0.02236, metrics,
  data_version
FROM bench_rows WHERE status = 'completed' ORDER BY place"""

METRICS = (
    *(
        "final_equity",
        "total_return",
        "annual_return",
        "annual_volatility",
        "sharpe",
        "max_drawdown",
        "exposure",
    ),
    *("trades", "win_rate", "bars", "skew", "kurtosis"),
)


class Cursor(Protocol):
    """What both drivers have in common here."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any:
        """Run one statement."""

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        """Run one statement for many rows."""

    def fetchone(self) -> Any:
        """The next row, or None."""


@contextlib.contextmanager
def _open(url: str) -> Iterator[tuple[Cursor, str]]:
    """A cursor on the database of a qtm URL, set up for bulk inserts, and the driver's parameter mark."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "sqlite":
        connection = sqlite3.connect(parts.path[1:], isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-400000"):
            connection.execute(f"PRAGMA {pragma}")
        yield connection.cursor(), "?"
        connection.close()
        _write_back(parts.path[1:])
        return
    server = pymysql.connect(host="127.0.0.1", port=parts.port or 3306, user="root", database=parts.path[1:])
    cursor = server.cursor()
    cursor.execute("SET SESSION sql_mode='STRICT_ALL_TABLES,PIPES_AS_CONCAT', unique_checks=0")
    yield cursor, "%s"
    server.commit()
    cursor.execute("ANALYZE TABLE backtest_tasks, backtest_batches, backtest_results, backtest_metrics")
    _flush_pages(cursor)
    server.close()


def _write_back(path: str) -> None:
    """Wait until the file is on the disk, so that writing it back disturbs no measurement."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _flush_pages(cursor: Cursor) -> None:
    """The same for InnoDB: FOR EXPORT returns when the pages of these tables are written."""
    cursor.execute("FLUSH TABLES backtest_tasks, backtest_batches, backtest_results FOR EXPORT")
    cursor.execute("UNLOCK TABLES")


def batch_id(batch: int) -> str:
    """The id of a batch."""
    return _id_head(batch) + "-7000-bfff-000000000000"


def task_id(batch: int, place: int) -> str:
    """The id of a task: a UUID of version 7, as qtm makes them."""
    return _id_head(batch) + _id_tail(place)


def is_completed(place: int) -> bool:
    """Whether the task at this place of a batch is completed; 2 % failed and 1 % were cancelled."""
    return _status(place) == "completed"


def _id_head(batch: int) -> str:
    stamp = f"{int(FIRST_CREATED.timestamp() + 3600 * batch) * 1000:012x}"
    return f"{stamp[:8]}-{stamp[8:]}"


def _id_tail(place: int) -> str:
    return f"-7000-{0x8000 | place:04x}-{random.Random(place).getrandbits(48):012x}"


def _status(place: int) -> str:
    return "failed" if place % 50 == 3 else "cancelled" if place % 100 == 7 else "completed"


def stock_code(place: int) -> str:
    """The stock at this place of a batch."""
    return f"SH{600000 + place}"


def _template_row(place: int) -> tuple[Any, ...]:
    """The parts of a task that are the same in every batch; the times follow the hour of the batch."""
    status = _status(place)
    done = 1.0 if status == "completed" else 0.4
    started, finished = (
        f"{int(s) // 60:02d}:{s % 60:09.6f}" for s in (0.7 * place + 1.031507, 0.7 * place + 1.618034)
    )
    params = json.dumps({"fast": 5 + place % 20, "slow": 60 + place % 100}, separators=(",", ":"))
    message = "2012-12-31: equity 118734.25" if status == "completed" else "2008-02-11: equity 97310.50"
    error = (
        '{"type":"ValueError","message":"no price on 2008-02-12","attempt":1}' if status == "failed" else None
    )
    numbers = random.Random(place)
    metrics = {name: numbers.gauss(0.5, 0.5) for name in METRICS} | {"bars": 2013, "trades": place % 40}
    text = json.dumps(metrics, separators=(",", ":"))
    key = zlib.crc32(params.encode())
    head = (
        place,
        _id_tail(place),
        stock_code(place),
        params,
        status,
        done,
        message,
        started,
        finished,
        error,
    )
    data = hashlib.sha256(stock_code(place).encode()).hexdigest()
    return *head, key, metrics["sharpe"] / 252**0.5, text, data


def result_json() -> str:
    """A result of about 4 KB, of the shape that the built-in engine gives."""
    numbers = random.Random(4096)
    days = [FIRST_CREATED.date() + datetime.timedelta(days=i) for i in range(110)]
    metrics = {
        "final_equity": 118734.25,
        "total_return": 0.1873425,
        "sharpe": 0.4132,
        "max_drawdown": -0.3127,
        "trades": 12,
    }
    curve = [[day.isoformat(), round(100000 * numbers.uniform(0.7, 1.3), 2)] for day in days]
    trades = [
        {"date": day.isoformat(), "side": "buy", "shares": 100 * i, "price": 33.17}
        for i, day in enumerate(days[:14])
    ]
    return json.dumps({"metrics": metrics, "equity_curve": curve, "trades": trades}, separators=(",", ":"))


def fill(
    url: str, rows: int, is_one_batch: bool = False, first_rows: int = 0, with_metrics: bool = False
) -> int:
    """Fill the empty tables of a migrated database with about ``rows`` finished tasks in whole batches, the
    first of which has ``first_rows`` or all of them; how many times 5,000 there are."""
    batches = max(1, round(rows / BATCH_TASKS))
    config, result = json.dumps(CONFIG, separators=(",", ":")), result_json()
    with _open(url) as (cursor, mark):
        cursor.execute(TEMPLATE_TABLE)
        values = ", ".join([mark] * 14)
        cursor.executemany(
            f"INSERT INTO bench_rows VALUES ({values})",
            [_template_row(place) for place in range(BATCH_TASKS)],
        )
        for batch in range(batches):
            created = FIRST_CREATED + datetime.timedelta(hours=batch)
            stamp, hour = created.strftime("%Y-%m-%d %H:%M:%S.000000"), created.strftime("%Y-%m-%d %H:")
            cursor.execute("BEGIN")
            owner = batch_id(0 if is_one_batch or batch * BATCH_TASKS < first_rows else batch)
            if owner == batch_id(batch):
                cursor.execute(INSERT_BATCH.replace("?", mark), (owner, f"universe scan {batch + 1}", stamp))
            head = _id_head(batch)
            cursor.execute(INSERT_TASKS.replace("?", mark), (head, owner, config, stamp, stamp, hour, hour))
            if batch < RESULT_BATCHES:
                cursor.execute(INSERT_RESULTS.replace("?", mark), (head, result))
            if with_metrics:
                cursor.execute(INSERT_METRICS.replace("?", mark), (owner, head))
            cursor.execute("COMMIT")
    return batches
