"""The benchmark of the HTTP edge: qtm beside what a team would build instead, with one command.

    python3 -m pip install -e '.[bench]'     # and Debian's package wrk, if it can be had
    python3 bench/http_edge.py               # a quarter of an hour
    python3 bench/http_edge.py --quick       # two minutes, for trying it out
    python3 bench/http_edge.py --check       # only compare the answers
    python3 bench/http_edge.py --rows getTaskStatus --connections 16 --servers qtm,fastapi-async --repeats 1   # one cell

The others are FastAPI on uvicorn (uvloop, httptools), once with ``async def`` endpoints that call the
database directly and once with ``def`` endpoints, and Flask on gunicorn's threads: one process each,
SQLAlchemy over PyMySQL, see bench/http_common.py; and for getTaskStatus a bare ASGI callable on uvicorn and
on granian, which checks nothing, see bench/http_asgi.py. qtm is ``qtm.py serve --no-scheduler`` with its
default settings and an engine that refuses nothing. All run at the same time on the same tables of a private
MariaDB that commits durably, and one at a time is loaded: within each repeat they take turns, and the turns
rotate. Before that, every server must give the same answers as qtm to the same questions.

The client of small answers is wrk, if it is installed, with one thread. wrk drops what is under way when its
time is over, which of a few large answers would be most; so the two rows of 5,000 tasks always have the
client of bench/load.py, which reads every answer to its end and checks it. wrk also adds made-up latencies
for requests that it might have sent meanwhile; they are taken out again, so that quantiles are those of real
answers. Exit code 1 means wrong answers, never missed goals.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import importlib.util
import math
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import fill
from floor import COMPLETED, Replay, latencies_of
from http_check import ask, check_same, create_body, exchange
from load import Load, LoadProcess, Request, ServerProcess, get_request, post_request, quantile_of, table
from private_mariadb import PrivateMariaDB, free_port
from service import (
    API,
    BUFFER_POOL,
    KNOWN_TARGETS,
    ROOT,
    SUCCESS,
    Site,
    WrongAnswer,
    children,
    forget_settings,
    prepare,
    service,
    tell,
)
from wrk import run_wrk

BENCH = ROOT / "bench"
STATUS, RESULT, BATCH, CREATE_ONE, CREATE_MANY = (
    "getTaskStatus",
    "getTaskResult",
    "getTasksByBatch",
    "createTask",
    "createTask5000",
)
LARGE = (BATCH, CREATE_MANY)  # rows of 5,000 tasks
QTM, ASYNC, THREADS, FLASK = "qtm", "fastapi-async", "fastapi-threads", "flask"
UVICORN, GRANIAN = "asgi-uvicorn", "asgi-granian"
BARE = (UVICORN, GRANIAN)  # getTaskStatus alone
# gunicorn keeps idle connections outside of its threads, so that 64 of them are served by 16
FLASK_THREADS = 16
KEEP_ALIVE_SECONDS = 75
WARM_UP_SECONDS = 0.5
FLOOR_SECONDS = 2.0
WRITE_BACK_SECONDS = 1.0  # after rows that write, for InnoDB to go quiet
PACKAGES = (
    "PyMySQL",
    "FastAPI",
    "uvicorn",
    "uvloop",
    "httptools",
    "Flask",
    "gunicorn",
    "SQLAlchemy",
    "pydantic",
    "asyncmy",
    "orjson",
    "granian",
)

SPEED_GOAL, SINGLE_GOAL = 2.5, 1.5  # requests/s, times those of the best framework; at one connection
BARE_GOAL = 1.3  # the same beside the best bare ASGI callable, at 16 connections; 1 elsewhere
TAIL_GOAL = 0.5  # p99, times that of the best other
STEADY_CONNECTIONS, STEADY_GOAL = 64, 5.0  # p99, times p50, from so many connections on
MEMORY_GOAL_MB = 60.0

FLOORS: Mapping[str, Callable[[Replay], Callable[[], None]]] = {
    STATUS: Replay.status,
    RESULT: Replay.result,
    BATCH: Replay.batch,
    CREATE_ONE: functools.partial(Replay.create, count=1),
    CREATE_MANY: functools.partial(Replay.create, count=fill.BATCH_TASKS),
}
TITLES: Mapping[str, str] = {
    STATUS: "getTaskStatus",
    RESULT: "getTaskResult, 4 KB",
    BATCH: "getTasksByBatch, 5,000",
    CREATE_ONE: "createTask, 1",
    CREATE_MANY: "createTask, 5,000",
}


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rows: tuple[str, ...] = tuple(FLOORS)  # reads first, so that writing back disturbs them least
    connections: tuple[int, ...] = (1, 16, 64)
    servers: tuple[str, ...] = (QTM, ASYNC, THREADS, FLASK, *BARE)
    repeats: int = 3
    seconds: int = 3
    tasks: int = 100_000
    wrk: str | None = None  # its path

    def of(self, row: str) -> list[str]:
        """The servers that answer the requests of a row."""
        return [name for name in self.servers if row == STATUS or name not in BARE]

    def rivals(self, row: str) -> list[list[str]]:
        """qtm's rivals in a row: the frameworks, and the bare callables."""
        names = [name for name in self.of(row) if name != QTM]
        groups = [[name for name in names if (name in BARE) == is_bare] for is_bare in (False, True)]
        return [group for group in groups if group]


QUICK = Plan(connections=(1, 16), repeats=1, seconds=1, tasks=20_000)


# -- the servers
# -------------------------------------------------------------------------------------------------------


def start_server(name: str, mariadb: PrivateMariaDB, database: str, folder: Path) -> ServerProcess:
    """One of the servers, as its users start it."""
    own = folder / name
    own.mkdir()
    if name == QTM:
        (own / "any_engine.py").write_text("def run(task, progress):\n    return {}\n")
        engine = {"QTM_ENGINE": "any_engine:run", "PYTHONPATH": str(own)}  # one that refuses no params
        url = f"mysql://root@127.0.0.1:{mariadb.port}/{database}"
        return service(url, own, ["--no-scheduler"], engine)
    port = free_port()
    environment = {
        "BENCH_DATABASE": f"mysql+pymysql://root@127.0.0.1:{mariadb.port}/{database}",
        "BENCH_THREADS": str(FLASK_THREADS),
    }
    if name == FLASK:
        command = ["gunicorn", "--workers", "1", "--worker-class", "gthread", "--threads", str(FLASK_THREADS)]
        command += [
            "--keep-alive",
            str(KEEP_ALIVE_SECONDS),
            "--bind",
            f"127.0.0.1:{port}",
            "--chdir",
            str(BENCH),
            "http_flask:create_app()",
        ]
    elif name == GRANIAN:
        command = ["granian", "--interface", "asgi", "--workers", "1", "--working-dir", str(BENCH)]
        command += ["--port", str(port), "--no-ws", "http_asgi:app"]
    else:
        applications = {
            ASYNC: "http_fastapi:direct",
            THREADS: "http_fastapi:threaded",
            UVICORN: "http_asgi:app",
        }
        command = ["uvicorn", applications[name], "--app-dir", str(BENCH)]
        command += [] if name == UVICORN else ["--factory"]
        command += ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        command += ["--timeout-keep-alive", str(KEEP_ALIVE_SECONDS)]
    return ServerProcess([sys.executable, "-m", *command], environment, port, own / "log", "/healthz")


def missing_packages(servers: Sequence[str]) -> list[str]:
    """What the extra `bench` would bring."""
    needed = {"sqlalchemy", "pydantic"} if set(servers) - {QTM, *BARE} else set()
    needed |= {"fastapi"} if {ASYNC, THREADS} & set(servers) else set()
    needed |= {"uvicorn", "uvloop", "httptools"} if {ASYNC, THREADS, UVICORN} & set(servers) else set()
    needed |= {"asyncmy", "orjson"} if set(BARE) & set(servers) else set()
    needed |= {"granian"} if GRANIAN in servers else set()
    needed |= {"flask", "gunicorn"} if FLASK in servers else set()
    return sorted(name for name in needed if importlib.util.find_spec(name) is None)


def process_tree(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(below for child in children(pid) for below in process_tree(child))]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process tree."""
    ticks = 0
    for member in process_tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def forget_peak_memory(pid: int) -> None:
    """Let the peaks of a process tree begin anew."""
    for member in process_tree(pid):
        Path(f"/proc/{member}/clear_refs").write_text("5")


def peak_memory_mb(pid: int) -> float:
    """The sum of the peaks of RSS in a process tree, in MB of 1,000,000 bytes."""
    kilobytes = 0
    for member in process_tree(pid):
        line = next(
            line
            for line in Path(f"/proc/{member}/status").read_text().splitlines()
            if line.startswith("VmHWM:")
        )
        kilobytes += int(line.split()[1])
    return kilobytes * 1024 / 1e6


# -- requests
# ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """The requests of a row: what each asks for, how its right answer begins, and how long that is at
    least."""

    targets: Sequence[str]
    prefixes: Sequence[bytes]
    body: bytes | None = None
    min_body_bytes: int = 0

    def requests(self, port: int) -> list[Request]:
        """For the client of bench/load.py."""
        if self.body is not None:
            return [post_request(port, self.targets[0], self.body, self.prefixes[0], self.min_body_bytes)]
        pairs = zip(self.targets, self.prefixes, strict=True)
        return [get_request(port, target, prefix, self.min_body_bytes) for target, prefix in pairs]


def build_work(row: str, batches: int, port: int) -> Work:
    """The requests of a row, in a random order that is always the same; ``port`` is qtm's, whose answer says
    the length."""
    choice = random.Random(row)
    if row in (CREATE_ONE, CREATE_MANY):
        count = 1 if row == CREATE_ONE else fill.BATCH_TASKS
        return Work([f"{API}/createTask"], [SUCCESS + b'{"batch_id":"'], create_body(count), 39 * count)
    if row == BATCH:
        ids, name = [fill.batch_id(choice.randrange(batches)) for _ in range(KNOWN_TARGETS)], "batch_id"
    elif row == RESULT:
        filled = min(batches, fill.RESULT_BATCHES)
        ids, name = (
            [fill.task_id(choice.randrange(filled), choice.choice(COMPLETED)) for _ in range(KNOWN_TARGETS)],
            "task_id",
        )
    else:
        ids = [
            fill.task_id(choice.randrange(batches), choice.randrange(fill.BATCH_TASKS))
            for _ in range(KNOWN_TARGETS)
        ]
        name = "task_id"
    targets = [f"{API}/{row}?{name}={key}" for key in ids]
    length = min(len(ask(port, target).body) for target in targets[:20])
    slack = 500 if row == STATUS else 20  # a task that never began has fewer fields, a batch a shorter name
    return Work(targets, [SUCCESS + f'{{"{name}":"{key}"'.encode() for key in ids], None, length - slack)


# -- measuring
# ---------------------------------------------------------------------------------------------------------


@dataclass
class Sample:
    """One server under one load, once."""

    requests_per_second: float
    p50: float  # ms
    p99: float
    error_count: int
    refused_count: int  # answers 503: the server said in time that it had too much to do
    rss_mb: float  # the peak
    cpu_ms: float  # of the server's processes, per 1,000 requests
    client_share: float  # of one CPU

    @property
    def tail(self) -> float:
        """How many times its p50 the p99 is."""
        return self.p99 / self.p50


class Statements(NamedTuple):
    """What the statements of a row take on one bare PyMySQL connection, in seconds."""

    p50: float
    p99: float


class Cell(NamedTuple):
    """A row at a number of connections."""

    row: str
    connections: int

    def __str__(self) -> str:
        return f"{TITLES[self.row]}, {self.connections} connection{'s' if self.connections > 1 else ''}"


@dataclass
class Measured:
    """All samples of a run, in the order of the repeats."""

    servers: dict[tuple[Cell, str], list[Sample]] = field(default_factory=dict)
    bare: dict[Cell, list[Sample]] = field(default_factory=dict)
    floors: dict[str, list[Statements]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """What measuring needs."""

    plan: Plan
    servers: Mapping[str, ServerProcess]
    client: LoadProcess
    folder: Path
    database_url: str
    batches: int
    measured: Measured

    def sample(
        self, name: str, server: ServerProcess, cell: Cell, work: Work, is_bare: bool = False
    ) -> Sample:
        """Warm up, then measure; errors go to the list of them."""
        requests = work.requests(server.port)
        if is_bare:  # it gives one answer to all
            requests = [request._replace(body_prefix=SUCCESS, min_body_bytes=0) for request in requests]
        is_large = cell.row in LARGE
        warm = self.client.run(
            Load(server.port, requests, 1 if is_large else cell.connections, WARM_UP_SECONDS)
        )
        forget_peak_memory(server.pid)
        cpu = cpu_seconds(server.pid)
        if self.plan.wrk and not is_large:
            result = run_wrk(
                self.plan.wrk,
                server.port,
                work.targets,
                work.body,
                cell.connections,
                self.plan.seconds,
                self.folder,
            )
            latencies, seconds, client_cpu = result.latencies_ns, result.seconds, result.client_cpu_seconds
            # wrk does not tell which status it was
            errors, refused, example = result.error_count, 0, result.errors
        else:
            load = self.client.run(Load(server.port, requests, cell.connections, self.plan.seconds))
            latencies, seconds, client_cpu = load.latencies_ns, load.seconds, load.client_cpu_seconds
            errors, refused, example = load.error_count, load.refused_count, "; ".join(load.errors)
        cpu = cpu_seconds(server.pid) - cpu
        errors, refused = errors + warm.error_count, refused + warm.refused_count
        if errors:
            self.measured.errors.append(
                f"{name}, {cell}: {errors} errors, such as {'; '.join(warm.errors) or example}"
            )
        count = max(1, len(latencies))
        p50, p99 = (quantile_of(latencies, quantile) / 1e6 for quantile in (0.5, 0.99))
        memory = peak_memory_mb(server.pid)
        return Sample(
            len(latencies) / seconds,
            p50,
            p99,
            errors,
            refused,
            memory,
            1e6 * cpu / count,
            client_cpu / seconds,
        )

    def measure(self) -> None:
        """Every cell of every repeat."""
        works = {row: build_work(row, self.batches, self.servers[QTM].port) for row in self.plan.rows}
        for repeat in range(self.plan.repeats):
            for row, work in works.items():
                tell(f"repeat {repeat + 1} of {self.plan.repeats}: {TITLES[row]}")
                self._measure_floors(row, work)
                for connections in self.plan.connections:
                    names = self.plan.of(row)
                    turn = repeat % len(names)
                    for name in names[turn:] + names[:turn]:
                        cell = Cell(row, connections)
                        self.measured.servers.setdefault((cell, name), []).append(
                            self.sample(name, self.servers[name], cell, work)
                        )
                if row in (CREATE_ONE, CREATE_MANY):
                    time.sleep(WRITE_BACK_SECONDS)

    def _measure_floors(self, row: str, work: Work) -> None:
        """The same statements without a server, and the same answers without anything else."""
        with Replay(self.database_url, self.batches) as replay:
            seconds = latencies_of(FLOORS[row](replay), FLOOR_SECONDS)
        self.measured.floors.setdefault(row, []).append(
            Statements(quantile_of(seconds, 0.5), quantile_of(seconds, 0.99))
        )
        port, answer = free_port(), self.folder / "answer"
        answer.write_bytes(exchange(self.servers[QTM].port, work.requests(port)[0].data))
        command = [sys.executable, str(BENCH / "bare.py"), str(port), str(answer)]
        with ServerProcess(command, {}, port, self.folder / "bare.log", "/") as bare:
            for connections in self.plan.connections:
                cell = Cell(row, connections)
                self.measured.bare.setdefault(cell, []).append(
                    self.sample("bare", bare, cell, work, is_bare=True)
                )


# -- the report
# --------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three or four digits that matter; a dash for what there is none of."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def across(values: Sequence[float]) -> str:
    """``min - median - max``."""
    figures = (min(values), statistics.median(values), max(values)) if len(values) > 1 else values
    return " – ".join(map(number, figures))


def servers_table(measured: Measured, plan: Plan) -> str:
    """A line per row, connections and server."""
    rows = []
    for row in plan.rows:
        for connections in plan.connections:
            for name in plan.of(row):
                samples = measured.servers[Cell(row, connections), name]
                rows.append(
                    [
                        TITLES[row],
                        str(connections),
                        name,
                        across([sample.requests_per_second for sample in samples]),
                        *(
                            across([getattr(sample, figure) for sample in samples])
                            for figure in ("p50", "p99")
                        ),
                        number(max(sample.rss_mb for sample in samples)),
                        number(statistics.median(sample.cpu_ms for sample in samples)),
                        f"{100 * max(sample.client_share for sample in samples):.0f}",
                        str(sum(sample.refused_count for sample in samples)),
                        str(sum(sample.error_count for sample in samples)),
                    ]
                )
    header = [
        "",
        "connections",
        "server",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "peak RSS MB",
        "CPU ms/1,000",
        "client CPU %",
        "503",
        "errors",
    ]
    return table(header, rows)


class Comparison(NamedTuple):
    """qtm beside the best of the others, which is the one with the most requests/s of that repeat; a value
    per repeat. ``floor_…``: what the bare statements and the bare socket, one after the other, would reach in
    its place at one connection."""

    best: str
    speed: Sequence[float]
    tail: Sequence[float]
    floor_speed: Sequence[float] = ()
    floor_tail: Sequence[float] = ()


def compare(measured: Measured, plan: Plan, cell: Cell, others: Sequence[str]) -> Comparison:
    """Of one cell, with the best of ``others``."""
    best, speed, tail = Counter[str](), [], []
    floor_speed, floor_tail = [], []
    for repeat in range(plan.repeats):
        samples = {name: measured.servers[cell, name][repeat] for name in others}
        mine = measured.servers[cell, QTM][repeat]
        name, other = max(samples.items(), key=lambda item: item[1].requests_per_second)
        best[name] += 1
        speed.append(mine.requests_per_second / other.requests_per_second)
        tail.append(mine.p99 / other.p99)
        statements, bare = measured.floors[cell.row][repeat], measured.bare[cell][repeat]
        floor_speed.append(1000 / (1000 * statements.p50 + bare.p50) / other.requests_per_second)
        floor_tail.append((1000 * statements.p99 + bare.p50) / other.p99)
    return Comparison(", ".join(name for name, _ in best.most_common()), speed, tail, floor_speed, floor_tail)


def comparison_table(measured: Measured, plan: Plan) -> str:
    """A line per row and connections, against the others and against the floors."""
    rows = []
    for row in plan.rows:
        for connections in plan.connections:
            cell = Cell(row, connections)
            mine, bare = measured.servers[cell, QTM], measured.bare[cell]
            alone = Comparison("–", [math.nan], [math.nan])
            found = [compare(measured, plan, cell, group) for group in plan.rivals(row)] or [alone]
            floors = [floor.p50 for floor in measured.floors[row]]
            statements = [sample.p50 / 1000 / seconds for sample, seconds in zip(mine, floors, strict=True)]
            rate = [
                sample.requests_per_second * seconds for sample, seconds in zip(mine, floors, strict=True)
            ]
            shared = [
                number(1 / statistics.median(floors)),
                across(rate),
                across(statements) if connections == 1 else "",
                number(statistics.median(sample.requests_per_second for sample in bare)),
                across(
                    [
                        100 * a.requests_per_second / b.requests_per_second
                        for a, b in zip(mine, bare, strict=True)
                    ]
                ),
            ]
            tails = across([sample.tail for sample in mine])
            for one in found:
                ratios = [one.best, across(one.speed), across(one.tail), tails]
                rows.append([TITLES[row], str(connections), *ratios, *shared])
    header = ["qtm ÷ …", "connections", "best other", "requests/s", "p99", "own p99 ÷ p50"]
    header += ["statements/s", "requests/s ÷ statements/s", "p50 ÷ statements", "bare/s", "% of bare/s"]
    return table(header, rows)


def speed_goal(group: Sequence[str], connections: int) -> float:
    """How many times the requests/s of the best of a group qtm must reach."""
    if group[0] in BARE:
        return BARE_GOAL if connections == 16 else 1.0
    return SPEED_GOAL if connections > 1 else SINGLE_GOAL


def goal_lines(measured: Measured, plan: Plan) -> Iterator[str]:
    """A line per goal and cell, by the medians of the repeats."""

    def line(holds: bool, text: str, floor: str = "") -> str:
        return f"- {'holds' if holds else 'MISSED'}: {text}{floor}"

    def at_floor(cell: Cell, ratios: Sequence[float]) -> str:
        return (
            f"; bare statements and a bare socket: {statistics.median(ratios):.2f} times"
            if cell.connections == 1
            else ""
        )

    for row in plan.rows:
        for connections in plan.connections:
            cell = Cell(row, connections)
            for group in plan.rivals(row):
                found = compare(measured, plan, cell, group)
                speed, tail = statistics.median(found.speed), statistics.median(found.tail)
                goal = speed_goal(group, connections)
                yield line(
                    speed >= goal,
                    f"{cell}: {speed:.2f} times the requests/s of {found.best}, goal {goal:g} times",
                    at_floor(cell, found.floor_speed),
                )
                if group[0] not in BARE:
                    yield line(
                        tail <= TAIL_GOAL,
                        f"{cell}: p99 {tail:.2f} times that of {found.best}, goal at most {TAIL_GOAL:g} times",
                        at_floor(cell, found.floor_tail),
                    )
            if connections >= STEADY_CONNECTIONS:
                steady = statistics.median(sample.tail for sample in measured.servers[cell, QTM])
                yield line(
                    steady <= STEADY_GOAL,
                    f"{cell}: p99 {steady:.1f} times p50, goal at most {STEADY_GOAL:g} times",
                )
    peaks = {
        cell: max(sample.rss_mb for sample in samples)
        for (cell, name), samples in measured.servers.items()
        if name == QTM
    }
    cell = max(peaks, key=lambda cell: peaks[cell])
    yield line(
        peaks[cell] <= MEMORY_GOAL_MB,
        f"{cell}: peak RSS {peaks[cell]:.1f} MB, the largest, goal at most {MEMORY_GOAL_MB:g} MB",
    )


def report(measured: Measured, plan: Plan, mariadb: str, load_before: float) -> str:
    """All of it as Markdown."""
    small = (
        "wrk, one thread"
        if plan.wrk
        else "bench/load.py, since wrk is not installed: it takes more of the CPU than wrk"
    )
    names = [name for name in PACKAGES if importlib.util.find_spec(name.lower())]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return "\n\n".join(
        [
            "# HTTP edge benchmark",
            f"- Python {platform.python_version()}, MariaDB {mariadb}, {versions}\n"
            f"- {os.cpu_count()} cores for server, database and client together; load average before {load_before:.1f}, "
            f"after {os.getloadavg()[0]:.1f}\n"
            f"- {plan.tasks:,} finished tasks, commits durable; all servers run, one at a time is loaded; repeats of each cell: "
            f"{plan.repeats}, of {plan.seconds} s after a warm-up of {WARM_UP_SECONDS:g} s\n"
            f"- clients: {small}; for rows of 5,000 tasks bench/load.py\n"
            "- qtm is `serve --no-scheduler` with default settings\n"
            "- min – median – max of the repeats; CPU: the median; peak RSS and client CPU: the worst; 503: refused under too much load, "
            "which wrk counts as errors",
            servers_table(measured, plan),
            "Below: qtm beside the best other of each repeat; beside the same statements on one bare PyMySQL connection; beside a bare "
            "epoll loop that gives the same bytes to the same client. At one connection, where nothing can overlap, the goals also say how "
            "many times the best other those two would reach, one after the other.",
            comparison_table(measured, plan),
            "\n".join(goal_lines(measured, plan)),
        ]
    )


# -- the command
# -------------------------------------------------------------------------------------------------------


def run(plan: Plan, is_check: bool) -> int:
    """Start everything, compare the answers, measure and print; 1 when an answer was wrong."""
    load_before = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qtm-bench-")))
        mariadb = stack.enter_context(PrivateMariaDB(["--skip-ssl"], buffer_pool=BUFFER_POOL))
        version = str(mariadb.execute("SELECT VERSION()")[0][0])
        site = Site("MariaDB", mariadb.create_database("bench"), "", folder)
        prepare(site, plan.tasks)
        servers = {
            name: stack.enter_context(start_server(name, mariadb, "bench", folder)) for name in plan.servers
        }
        for name, server in servers.items():
            tell(f"comparing the answers of {name}")
            check_same(name, server.port, servers[QTM].port, name in BARE)
        if is_check:
            sys.stdout.write(f"{', '.join(servers)}: the same answers\n")
            return 0
        measured = Measured()
        Bench(
            plan, servers, stack.enter_context(LoadProcess()), folder, site.url, site.batches, measured
        ).measure()
        sys.stdout.write(report(measured, plan, version, load_before) + "\n")
    for error in measured.errors:
        sys.stdout.write(f"\nERROR: {error}\n")
    return 1 if measured.errors else 0


def chosen(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Names after commas, in the order of ``known``. Raises ArgumentTypeError for others."""
    names = text.split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    return tuple(name for name in known if name in names)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure qtm's HTTP edge beside FastAPI and Flask.")
    parser.add_argument("--check", action="store_true", help="only compare the answers")
    parser.add_argument(
        "--quick", action="store_true", help="20,000 tasks, 1 s and 1 repeat per cell, up to 16 connections"
    )
    parser.add_argument(
        "--rows", type=functools.partial(chosen, known=Plan.rows), help=f"of {','.join(Plan.rows)}"
    )
    parser.add_argument(
        "--servers", type=functools.partial(chosen, known=Plan.servers), help=f"of {','.join(Plan.servers)}"
    )
    parser.add_argument(
        "--connections", type=lambda text: tuple(map(int, text.split(","))), help="such as 1,16,64"
    )
    parser.add_argument("--repeats", type=int, help=f"of each cell (default {Plan.repeats})")
    parser.add_argument("--seconds", type=int, help=f"of each load (default {Plan.seconds})")
    parser.add_argument("--tasks", type=int, help=f"finished tasks in the database (default {Plan.tasks:,})")
    parser.add_argument(
        "--client",
        choices=("auto", "own"),
        default="auto",
        help="own: bench/load.py for all, also where wrk is installed",
    )
    return parser.parse_args()


def main() -> int:
    """Measure as asked."""
    options = parse_arguments()
    plan = QUICK if options.quick else Plan()
    given = {
        name: value
        for name in Plan.__dataclass_fields__
        if (value := getattr(options, name, None)) is not None
    }
    plan = replace(plan, **given, wrk=shutil.which("wrk") if options.client == "auto" else None)
    # the answers of the others are compared with its own, and its ids are asked for
    if QTM not in plan.servers:
        plan = replace(plan, servers=(QTM, *plan.servers))
    missing = missing_packages(plan.servers)
    if missing:
        sys.stderr.write(
            f"not installed: {', '.join(missing)}; python3 -m pip install -e '.[bench]' brings them, --servers qtm does without\n"
        )
        return 2
    forget_settings()
    try:
        return run(plan, options.check)
    except WrongAnswer as error:
        sys.stderr.write(f"wrong answer: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
