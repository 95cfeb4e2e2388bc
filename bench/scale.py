"""What lists, pages, counts and filters take as the table grows: one table for SQLite and one for MariaDB.

    python3 bench/scale.py [--sizes 10000,1000000,10000000] [--one-batch 600000] [--databases sqlite,mariadb] [--rounds 30] [--folder DIR]

Fills a SQLite file and a private MariaDB by SQL with each number of tasks, asks each question many times, with and without tasks that
fit, and prints minimum, median and maximum in milliseconds, the CPU time of client and server, and its ratio to that at the smallest
size, which other work on the machine disturbs least: at most 1.2, or a millisecond more, is the aim. Questions about batches ask about
one of 5,000; ``--one-batch`` adds a database that is one batch of so many, in which a page, a filter and the counts have bounds of
their own: 20, 20 and 300 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import fill
import private_mariadb

import qtm

SIZES = (10_000, 1_000_000, 10_000_000)
MOST_RATIO = 1.2
SLACK_MS = 1.0  # a quick question varies by as much from run to run
BOUNDS_MS = {"page": 20.0, "filter": 20.0, "counts": 300.0}  # in one batch, however large
SLOW_SECONDS = 60.0  # after which a question is asked no more


@dataclasses.dataclass(frozen=True)
class Question:
    """One request as the service answers it."""

    kind: str
    name: str
    ask: Callable[[], object]


def questions(tasks: qtm.TaskManager, batch: str, code: str) -> Iterator[Question]:
    """Of all tasks, of a batch, and of a stock; ``code`` is one of the batch."""
    status = qtm.TaskStatus
    filters: dict[str, dict[str, object]] = {
        "any": {},
        "most": {"statuses": [status.COMPLETED]},
        "some": {"statuses": [status.FAILED]},
        "none": {"statuses": [status.RUNNING]},
        "two": {"statuses": [status.FAILED, status.RUNNING]},
    }
    places: dict[str, dict[str, object]] = {
        "all tasks": {},
        "a stock": {"stock_code": code, "limit": 2},  # the smallest size has no more
        "no stock": {"stock_code": "-"},
        "a batch": {"batch_id": batch},
        "a batch, a stock": {"batch_id": batch, "stock_code": code},
        "a batch, no stock": {"batch_id": batch, "stock_code": "-"},
    }
    for place, chosen in places.items():
        for name, filtered in filters.items():
            asked = {**chosen, **filtered}
            kind = "filter" if filtered or "stock_code" in chosen else "page"
            yield Question(
                kind,
                f"listTasks {place}, {name}",
                lambda asked=asked: tasks.list_page(qtm.TaskFilter(**asked)),  # type: ignore[misc]
            )
    further = qtm.TaskFilter(
        batch, limit=100, cursor=tasks.list_page(qtm.TaskFilter(batch, limit=50)).next_cursor
    )
    yield Question("page", "getTasksByBatch, a further page", lambda: tasks.get_batch_page(further))
    one = qtm.TaskFilter(batch, limit=1)
    yield Question("counts", "getTasksByBatch, one task and the counts", lambda: tasks.get_batch_page(one))
    yield Question("counts", "listBatches, two", lambda: tasks.list_batches(2))
    yield Question("wait", "whether a batch has ended", lambda: tasks.ended((), [batch]))
    yield Question("change", "cancel of a batch that is over", lambda: tasks.dao.cancel_batch(batch))
    yield Question("scrape", "/metrics, pending and running tasks", tasks.dao.count_open)


def cpu_seconds(server_pid: int | None) -> float:
    """Of this process and of the server."""
    ticks = 0
    if server_pid:
        fields = pathlib.Path(f"/proc/{server_pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def milliseconds(ask: Callable[[], object], rounds: int) -> list[float]:
    """What each round took, the first left out; fewer rounds of a slow one."""
    found: list[float] = []
    begun = time.perf_counter()
    for number in range(rounds + 1):
        started = time.perf_counter()
        try:
            ask()
        except qtm.QtmError as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            return [float("inf")]
        if number or time.perf_counter() - begun > SLOW_SECONDS / 10:
            found.append(1000 * (time.perf_counter() - started))
        if time.perf_counter() - begun > SLOW_SECONDS:
            break
    return found


class Answer(NamedTuple):
    """What one question took, in milliseconds."""

    kind: str
    least: float
    median: float
    most: float
    cpu: float


Answers = dict[str, Answer]  # by question


def measured(
    url: str, batch: str, code: str, rounds: int, server_pid: int | None = None
) -> tuple[Answers, str]:
    """The questions, asked of a filled database, and the count of ended tasks for /metrics."""
    answers = {}
    qtm.COUNTS_SECONDS = 0.0  # each count is a new one
    with qtm.start(qtm.Settings(database_url=url), scheduler=False) as tasks:
        started = time.perf_counter()
        number = sum(tasks.dao.count_ended().values())
        counted = f"/metrics counts {number:,} ended tasks in {time.perf_counter() - started:.2f} s"
        for question in questions(tasks, batch, code):
            started = cpu_seconds(server_pid)
            took = milliseconds(question.ask, rounds)
            cpu = 1000 * (cpu_seconds(server_pid) - started) / (len(took) + 1)
            answers[question.name] = Answer(question.kind, min(took), statistics.median(took), max(took), cpu)
    return answers, counted


@contextlib.contextmanager
def database(kind: str, folder: pathlib.Path, buffer_pool: str) -> Iterator[tuple[str, int | None]]:
    """The URL of an empty database with qtm's tables, which goes away afterwards, and the process of its
    server."""
    if kind == "sqlite":
        place = pathlib.Path(tempfile.mkdtemp(prefix="qtm-scale-", dir=folder))
        url = f"sqlite:///{place}/qtm.db"
        migrate(url)
        try:
            yield url, None
        finally:
            shutil.rmtree(place)
        return
    tempfile.tempdir = str(folder)
    with private_mariadb.PrivateMariaDB(buffer_pool=buffer_pool, is_durable=False) as server:
        url = server.create_database("qtm")
        migrate(url)
        yield url, int((server.folder / "pid").read_text())


def migrate(url: str) -> None:
    """Make the tables."""
    opened = qtm.Database(url)
    qtm.migrate(opened)
    opened.close()


def verdict(answer: Answer, smallest: Answer | None, in_one_batch: bool) -> str:
    """The ratio to the smallest size, or the bound, marked where it is missed."""
    if in_one_batch:
        bound = BOUNDS_MS.get(answer.kind)
        return "" if bound is None else f"of {bound:.0f}" + (" MISSED" if answer.least > bound else "")
    if smallest is None:
        return ""
    missed = answer.cpu > MOST_RATIO * smallest.cpu and answer.cpu > smallest.cpu + SLACK_MS
    return f"x{answer.cpu / max(smallest.cpu, 0.01):.2f}" + (" MISSED" if missed else "")


def show(title: str, found: Answers, smallest: Answers | None, in_one_batch: bool) -> int:
    """Print a table; how many questions missed their bound."""
    print(f"\n{title}\n{'':44}{'min':>9}{'median':>9}{'max':>9}{'CPU':>9}  ms", flush=True)
    missed = 0
    for name, answer in found.items():
        told = verdict(answer, smallest[name] if smallest else None, in_one_batch)
        missed += "MISSED" in told
        print(
            f"{name:44}{answer.least:9.2f}{answer.median:9.2f}{answer.most:9.2f}{answer.cpu:9.2f}  {told}",
            flush=True,
        )
    return missed


def run(
    kind: str, sizes: Sequence[int], one_batch: int, rounds: int, folder: pathlib.Path, buffer_pool: str
) -> int:
    """All tables of one kind of database; how many questions missed their bound."""
    missed, smallest = 0, None
    for size in sizes:
        with database(kind, folder, buffer_pool) as (url, pid):
            started = time.perf_counter()
            batches = fill.fill(url, size)
            title = f"{kind}, {size:,} tasks in batches of {fill.BATCH_TASKS:,} (filled in {time.perf_counter() - started:.0f} s)"
            found, counted = measured(url, fill.batch_id(batches // 2), fill.stock_code(1), rounds, pid)
            missed += show(title, found, smallest, in_one_batch=False)
            print(counted, flush=True)
            smallest = smallest or found
    if one_batch:
        with database(kind, folder, buffer_pool) as (url, pid):
            fill.fill(url, one_batch, is_one_batch=True)
            found, counted = measured(url, fill.batch_id(0), fill.stock_code(1), rounds, pid)
            missed += show(f"{kind}, {one_batch:,} tasks in one batch", found, None, in_one_batch=True)
            print(counted, flush=True)
    return missed


def main() -> int:
    """Print the tables; 1 when a bound was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--sizes",
        default=",".join(map(str, SIZES)),
        help="numbers of tasks, the smallest first (%(default)s)",
    )
    parser.add_argument(
        "--one-batch", type=int, default=600_000, help="tasks of one batch, 0: leave it out (%(default)s)"
    )
    parser.add_argument("--databases", default="sqlite,mariadb")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        default=pathlib.Path(tempfile.gettempdir()),
        help="for the files (%(default)s)",
    )
    parser.add_argument("--buffer-pool", default="1G", help="of MariaDB (%(default)s)")
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",") if size]
    os.makedirs(given.folder, exist_ok=True)
    missed = [
        run(kind, sizes, given.one_batch, given.rounds, given.folder, given.buffer_pool)
        for kind in given.databases.split(",")
    ]
    print(f"\n{sum(missed)} missed")
    return 1 if any(missed) else 0


if __name__ == "__main__":
    sys.exit(main())
