"""Other ways to run many tasks: one drain of tasks that were queued before, in a process of its own.

    python3 bench/rivals.py NAME COUNT FOLDER PORT      # prints tasks a second

Each is set up as its documents say, durable where it can be. The clock runs from the first task's first line (of those without
a queue: from the first call) until the outcome of the last task is stored.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pymysql

PGQUEUER_BATCH = 100  # jobs a claim, the quickest of 10, 100 and 1,000


def no_op(number: int) -> dict[str, Any]:
    """A task."""
    return {}


# -- with a queue
# ------------------------------------------------------------------------------------------------------

JOBS = """CREATE TABLE jobs (id INT PRIMARY KEY AUTO_INCREMENT, payload LONGTEXT NOT NULL, status VARCHAR(9) NOT NULL DEFAULT 'pending',
  started_at DATETIME(6), finished_at DATETIME(6), result LONGTEXT, KEY by_status (status, id))"""
CLAIM = "SELECT id, payload FROM jobs WHERE status = 'pending' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
START = "UPDATE jobs SET status = 'running', started_at = NOW(6) WHERE id = %s"
FINISH = "UPDATE jobs SET status = 'completed', finished_at = NOW(6), result = %s WHERE id = %s AND status = 'running'"


def hand_written(count: int, folder: Path, port: int) -> float:
    """A loop over a table of MariaDB: claim and commit, run, write the end and commit."""
    connection = pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True)
    cursor = connection.cursor()
    for sql in (
        "DROP DATABASE IF EXISTS hand_written",
        "CREATE DATABASE hand_written",
        "USE hand_written",
        JOBS,
    ):
        cursor.execute(sql)
    cursor.executemany(
        "INSERT INTO jobs (payload) VALUES (%s)",
        [(json.dumps({"number": number}),) for number in range(count)],
    )
    cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    started = time.perf_counter()
    while True:
        connection.begin()
        cursor.execute(CLAIM)
        row = cursor.fetchone()
        if row is None:
            break
        cursor.execute(START, (row[0],))
        connection.commit()
        cursor.execute(FINISH, (json.dumps(no_op(**json.loads(row[1]))), row[0]))
    return count / (time.perf_counter() - started)


def huey(count: int, folder: Path, port: int) -> float:
    """huey's consumer with one worker thread; every commit waits for the disk, results are stored."""
    from huey import SqliteHuey, signals

    queue = SqliteHuey(filename=str(folder / "huey.db"), fsync=True)
    started = ended = 0.0
    done = 0

    def task(number: int) -> dict[str, Any]:
        nonlocal started
        started = started or time.perf_counter()
        return no_op(number)

    def completed(*_: object) -> None:
        nonlocal done, ended
        done, ended = done + 1, time.perf_counter()
        if done == count:
            consumer.stop_flag.set()

    queued = queue.task()(task)
    queue.signal(signals.SIGNAL_COMPLETE)(completed)
    for number in range(count):
        queued(number)
    consumer = queue.create_consumer(workers=1, periodic=False)
    consumer.run()
    return count / (ended - started)


def rq(count: int, folder: Path, port: int) -> float:
    """rq's standard worker, which forks for each job."""
    from redis import Redis
    from rq import Queue, Worker

    connection = Redis(port=port)
    connection.flushall()
    queue = Queue(connection=connection)
    queue.enqueue_many([Queue.prepare_data(no_op, (number,)) for number in range(count)])
    worker = Worker([queue], connection=connection)
    started = time.perf_counter()
    worker.work(burst=True, logging_level="ERROR")
    seconds = time.perf_counter() - started
    if queue.finished_job_registry.count != count:
        raise RuntimeError(f"rq completed {queue.finished_job_registry.count} of {count} jobs")
    return count / seconds


def pgqueuer(count: int, folder: Path, port: int) -> float:
    """pgqueuer's worker, its tasks coroutines of one process; it keeps no results."""
    import asyncpg
    from pgqueuer import PgQueuer
    from pgqueuer.types import QueueExecutionMode

    done = 0
    started = 0.0

    async def entrypoint(job: Any) -> None:
        nonlocal done, started
        started = started or time.perf_counter()
        done += 1

    async def drain() -> float:
        admin = await asyncpg.connect(host="127.0.0.1", port=port, user="qtm", database="postgres")
        await admin.execute("DROP DATABASE IF EXISTS jobs")
        await admin.execute("CREATE DATABASE jobs")
        await admin.close()
        connection = await asyncpg.connect(host="127.0.0.1", port=port, user="qtm", database="jobs")
        application = PgQueuer.from_asyncpg_connection(connection)
        await application.qm.queries.install()
        await application.qm.queries.enqueue(["no_op"] * count, [b"{}"] * count, [0] * count)
        application.entrypoint("no_op")(entrypoint)
        await application.qm.run(batch_size=PGQUEUER_BATCH, mode=QueueExecutionMode.drain)
        seconds = time.perf_counter() - started
        left = await connection.fetchval("SELECT COUNT(*) FROM pgqueuer")
        await connection.close()
        if left or done != count:
            raise RuntimeError(f"pgqueuer ran {done} of {count} jobs, {left} are left")
        return count / seconds

    return asyncio.run(drain())


# -- without a queue
# ---------------------------------------------------------------------------------------------------


def process_pool(count: int, folder: Path, port: int) -> float:
    """ProcessPoolExecutor with one process."""
    with ProcessPoolExecutor(1) as pool:
        pool.submit(no_op, 0).result()  # starts the process
        started = time.perf_counter()
        for future in [pool.submit(no_op, number) for number in range(count)]:
            future.result()
        return count / (time.perf_counter() - started)


def dask(count: int, folder: Path, port: int) -> float:
    """dask.distributed, two worker processes of one thread each."""
    return _dask(no_op, [(number,) for number in range(count)], folder)


def _dask(call: Callable[..., Any], arguments: list[tuple[Any, ...]], folder: Path) -> float:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            local_directory=str(folder),
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.gather(
            [
                client.submit(call, *arguments[0], workers=[worker], pure=False)
                for worker in client.scheduler_info()["workers"]
            ]
        )
        started = time.perf_counter()
        client.gather(client.map(call, *zip(*arguments, strict=True), pure=False))
        return len(arguments) / (time.perf_counter() - started)


def _backtests(count: int) -> list[tuple[Any, ...]]:
    import sma

    pairs = sma.params(-(-count // len(sma.STOCKS)))
    return [(stock, pair["fast"], pair["slow"]) for stock in sma.STOCKS for pair in pairs][:count]


def process_pool_backtests(count: int, folder: Path, port: int) -> float:
    """ProcessPoolExecutor with two processes; the parent gets curve and trades, and stores nothing."""
    import sma

    arguments = _backtests(count)
    with ProcessPoolExecutor(2) as pool:
        for future in [pool.submit(sma.backtest, *one) for one in arguments[:2]]:
            future.result()
        started = time.perf_counter()
        for future in [pool.submit(sma.backtest, *one) for one in arguments]:
            future.result()
        return count / (time.perf_counter() - started)


def forked_backtests(count: int, folder: Path, port: int) -> float:
    """The floor of a fresh process for each: this one, which has imported all, forks two at a time, and drops
    their results."""
    import sma

    sma.backtest(*_backtests(1)[0])
    running, started = 0, time.perf_counter()
    for arguments in _backtests(count):
        if running == 2:
            os.wait()
            running -= 1
        if not os.fork():
            sma.backtest(*arguments)
            os._exit(0)
        running += 1
    while running:
        os.wait()
        running -= 1
    return count / (time.perf_counter() - started)


def dask_backtests(count: int, folder: Path, port: int) -> float:
    """dask.distributed with two worker processes; the client gets curve and trades, and stores nothing."""
    import sma

    return _dask(sma.backtest, _backtests(count), folder)


class Rival(NamedTuple):
    """A row's neighbour: what it is called, the package and the server that it needs, and whether it forks
    for each task."""

    title: str
    drain: Callable[[int, Path, int], float]
    package: str = ""
    server: str = ""
    is_forking: bool = False

    @property
    def version(self) -> str | None:
        """Of its package, "" without one, None where it is not installed."""
        try:
            return importlib.metadata.version(self.package) if self.package else ""
        except importlib.metadata.PackageNotFoundError:
            return None


DRAINS: Mapping[str, Rival] = {
    "hand-written": Rival("hand-written loop on MariaDB", hand_written, server="mariadb"),
    "huey": Rival("huey on SQLite, fsync", huey, "huey"),
    "rq": Rival("rq on Redis, a fork per job", rq, "rq", "redis", is_forking=True),
    "pgqueuer": Rival("pgqueuer on PostgreSQL", pgqueuer, "pgqueuer", "postgresql"),
    "dask": Rival("dask.distributed, 2 workers, not durable", dask, "distributed"),
    "processes": Rival("ProcessPoolExecutor(1), not durable", process_pool),
}
BACKTESTS: Mapping[str, Rival] = {
    "dask-backtests": Rival("dask.distributed, 2 workers, stores nothing", dask_backtests, "distributed"),
    "processes-backtests": Rival("ProcessPoolExecutor(2), stores nothing", process_pool_backtests),
    "forked-backtests": Rival("a bare fork for each, 2 at a time, drops the result", forked_backtests),
}

if __name__ == "__main__":
    sys.modules["rivals"] = sys.modules["__main__"]  # by which workers import the task
    no_op.__module__ = "rivals"
    name, count, folder, port = sys.argv[1:]
    print({**DRAINS, **BACKTESTS}[name].drain(int(count), Path(folder), int(port)))
