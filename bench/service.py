"""The benchmark of the service: speed, first line and weight on SQLite and MariaDB, with one command.

    python3 bench/service.py             # about ten minutes, a million rows
    python3 bench/service.py --quick     # about one minute, 20,000 rows and up to 16 connections, for trying it out

Both databases are filled with finished tasks and commit durably; the service is `qtm.py serve` in a process of its own,
and so is the client. Repeats take turns between the databases. Nothing here is an assertion of time: the exit code is
1 only when an answer was wrong, and a 503 under too much load is counted in a column of its own. The goals and what was
measured stand at the end. On a machine that is busy with other things the figures say little: see the load averages.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import random
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import fill
from floor import Floor, p50_milliseconds
from load import (
    Load,
    LoadProcess,
    LoadResult,
    Request,
    ServerProcess,
    get_request,
    post_request,
    quantile_of,
    spread,
    table,
)
from private_mariadb import PrivateMariaDB, free_port

ROOT = Path(__file__).resolve().parent.parent
API = "/api/v1/backtest"
SUCCESS = b'{"code":0,"message":"success","data":'
BUFFER_POOL = "1G"  # the index pages of a million rows fit, as on any server that is meant for them
AHEAD_BATCHES = 3  # of 5,000 pending tasks each: a queue longer than what a status counts
KNOWN_TARGETS = 1000  # different tasks that are asked for
WAIT_SECONDS = 30.0
# between two tasks of the first-line measurement, so that the former's processes are gone
PAUSE_SECONDS = 0.02

STATUS, PENDING, BATCH = "getTaskStatus", "getTaskStatus, pending", "getTasksByBatch of 5,000"
CREATE_ONE, CREATE_MANY = "createTask of 1", "createTask of 5,000"
FLOORS: Mapping[str, Callable[[Floor], None]] = {
    STATUS: Floor.status,
    BATCH: Floor.batch,
    CREATE_ONE: functools.partial(Floor.create, count=1),
    CREATE_MANY: functools.partial(Floor.create, count=fill.BATCH_TASKS),
}

ENGINE = """
import os, time

def run(task, progress):
    now = time.monotonic_ns()
    path = os.path.join(os.environ["BENCH_FOLDER"], task.task_id)
    with open(path + ".new", "w") as file:
        file.write(str(now))
    os.rename(path + ".new", path)
    return {}
"""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rows: int = 1_000_000
    repeats: int = 3
    load_seconds: float = 2.0
    floor_seconds: float = 0.5
    first_lines: int = 300
    starts: int = 10
    connections: tuple[int, ...] = (1, 16, 64)


QUICK = Plan(
    rows=20_000, repeats=1, load_seconds=0.4, floor_seconds=0.2, first_lines=30, starts=3, connections=(1, 16)
)


class WrongAnswer(Exception):
    """The service answered otherwise than it should."""


# -- one database and its service
# --------------------------------------------------------------------------------------


@dataclass
class Site:
    """One of the two databases, and all that was measured on it."""

    name: str
    url: str
    idle_url: str  # an empty database on the same server
    folder: Path
    batches: int = 0
    created: int = 0
    loads: dict[tuple[str, int], list[LoadResult]] = field(default_factory=dict)
    floors: dict[str, list[float]] = field(default_factory=dict)  # p50 in ms
    first_lines: list[float] = field(default_factory=list)  # ms after the answer was read
    idle: Weight | None = None
    loaded_mb: float = 0.0

    def p50(self, operation: str) -> list[float]:
        """The p50 of each repeat at one connection, in ms."""
        return [result.milliseconds(0.5) for result in self.loads[operation, 1]]

    def worst(self, operation: str, quantile: float, connections: int = 1) -> float:
        """The worst repeat's quantile, in ms."""
        return max(result.milliseconds(quantile) for result in self.loads[operation, connections])


def service(
    url: str,
    folder: Path,
    flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    path: str = "/readyz",
    program: Sequence[str] = (str(ROOT / "qtm.py"),),
) -> ServerProcess:
    """`qtm.py serve` on this database, run as the README says, or by other arguments of Python."""
    port = free_port()
    settings = {"QTM_DATABASE_URL": url, "QTM_PORT": str(port), **(environment or {})}
    command = [sys.executable, *program, "serve", *flags]
    return ServerProcess(command, settings, port, folder / "log", path)


class Caller:
    """One keep-alive connection for single requests whose answers are read in full."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered_ns = 0  # CLOCK_MONOTONIC when the last answer was complete
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: Request) -> tuple[dict[str, Any], int]:
        """The data of the answer and the length of its body. Raises WrongAnswer."""
        self._socket.sendall(request.data)
        received = bytearray()
        total = sys.maxsize
        while len(received) < total:
            data = self._socket.recv(1 << 18)
            if not data:
                raise WrongAnswer(f"the connection closed after {bytes(received[:200])!r}")
            received += data
            end = received.find(b"\r\n\r\n") if total == sys.maxsize else -1
            if end >= 0:
                total = (
                    end
                    + 4
                    + int(received[: end + 2].lower().partition(b"content-length:")[2].split(b"\r")[0])
                )
        self.answered_ns = time.monotonic_ns()
        body = bytes(received[received.find(b"\r\n\r\n") + 4 :])
        if not body.startswith(request.body_prefix):
            raise WrongAnswer(f"{request.data[:100]!r} was answered {bytes(received[:600])!r}")
        data = json.loads(body)["data"]
        return data, len(body)


def create_request(
    port: int, count: int, params: Mapping[str, object], strategy: str = "buy_and_hold"
) -> Request:
    """createTask of this many stocks."""
    codes = [fill.stock_code(place) for place in range(count)]
    body = json.dumps(
        {"stock_codes": codes, "config": {**fill.CONFIG, "strategy": strategy}, "params": params}
    ).encode()
    return post_request(port, f"{API}/createTask", body, SUCCESS + b'{"batch_id":"', 39 * count)


def status_request(port: int, task_id: str, wait: str = "") -> Request:
    """getTaskStatus of this task."""
    return get_request(
        port, f"{API}/getTaskStatus?task_id={task_id}{wait}", SUCCESS + b'{"task_id":"%s"' % task_id.encode()
    )


def expect(holds: bool, what: str) -> None:
    """Raises WrongAnswer unless it holds."""
    if not holds:
        raise WrongAnswer(what)


# -- speed
# -------------------------------------------------------------------------------------------------------------


def build_requests(site: Site, port: int) -> dict[str, list[Request]]:
    """The requests of each operation, in the order of measuring: reads first, so that writing back disturbs
    them least.

    One answer of each is parsed and checked in full; under load the start and the length must be those of a
    right one.
    """
    caller, choice = Caller(port), random.Random(7)
    many = create_request(port, fill.BATCH_TASKS, {})
    for _ in range(AHEAD_BATCHES):
        created, _ = caller.ask(many)
        expect(
            created["count"] == len(set(created["task_ids"])) == fill.BATCH_TASKS,
            f"createTask gave {created['count']} tasks",
        )
    waiting = [status_request(port, task_id) for task_id in choice.sample(created["task_ids"], KNOWN_TARGETS)]
    found, _ = caller.ask(waiting[0])
    expect(found["status"] == "pending" and found["queue_position"] == 10_000, f"a pending task has {found}")

    def place() -> tuple[int, int]:
        return choice.randrange(site.batches), choice.randrange(fill.BATCH_TASKS)

    known = [status_request(port, fill.task_id(*place())) for _ in range(KNOWN_TARGETS)]
    found, _ = caller.ask(known[0])
    expect(
        found["status"] in ("completed", "failed", "cancelled") and found["attempt"] == 1,
        f"a finished task has {found}",
    )
    batch_ids = [fill.batch_id(place()[0]) for _ in range(KNOWN_TARGETS)]
    target = f"{API}/getTasksByBatch?batch_id="
    batch, length = caller.ask(
        get_request(port, target + batch_ids[0], SUCCESS + b'{"batch_id":"%s"' % batch_ids[0].encode())
    )
    codes = [task["stock_code"] for task in batch["tasks"]]
    expect(
        batch["total"] == fill.BATCH_TASKS and codes == [fill.stock_code(i) for i in range(fill.BATCH_TASKS)],
        "a batch is not its tasks",
    )
    batches = [
        get_request(port, target + name, SUCCESS + b'{"batch_id":"%s"' % name.encode(), length - 1000)
        for name in batch_ids
    ]
    one = create_request(port, 1, {})
    created, _ = caller.ask(one)
    expect(created["count"] == len(created["task_ids"]) == 1, f"createTask of 1 gave {created}")
    site.created += AHEAD_BATCHES * fill.BATCH_TASKS + 1
    return {STATUS: known, PENDING: waiting, BATCH: batches, CREATE_ONE: [one], CREATE_MANY: [many]}


def measure_speed(sites: Sequence[Site], plan: Plan) -> list[str]:
    """Loads of every operation, and the floors; the errors, as sentences."""
    errors = []
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(LoadProcess())
        servers = [stack.enter_context(service(site.url, site.folder, ["--no-scheduler"])) for site in sites]
        requests = [build_requests(site, server.port) for site, server in zip(sites, servers, strict=True)]
        for number in range(plan.repeats):
            for operation in requests[0]:
                tell(f"{operation}, repeat {number + 1} of {plan.repeats}")
                measure_floor(sites, operation, plan)
                for connections in plan.connections:
                    for site, server, known in zip(sites, servers, requests, strict=True):
                        result = client.run(
                            Load(server.port, known[operation], connections, plan.load_seconds)
                        )
                        site.loads.setdefault((operation, connections), []).append(result)
                        count = {CREATE_ONE: 1, CREATE_MANY: fill.BATCH_TASKS}.get(operation, 0)
                        site.created += count * len(result.latencies_ns)
                        if result.error_count:
                            errors.append(
                                f"{site.name}, {operation}, {connections}: {result.error_count} errors, such as {result.errors[0]}"
                            )
        for site, server in zip(sites, servers, strict=True):
            site.loaded_mb = memory_mb(server.pid)[0]
    return errors


def measure_floor(sites: Sequence[Site], operation: str, plan: Plan) -> None:
    """The same statements without qtm, while the service is idle."""
    for site in sites:
        if operation in FLOORS:
            with Floor(site.url, site.batches) as floor:
                value = p50_milliseconds(functools.partial(FLOORS[operation], floor), plan.floor_seconds)
            site.floors.setdefault(operation, []).append(value)


# -- from the answer to the engine's first line
# ------------------------------------------------------------------------


def poll(found: Callable[[], bool], what: str) -> None:
    """Wait until it is so. Raises WrongAnswer after 30 s."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not found():
        if time.monotonic() > deadline:
            raise WrongAnswer(f"{what} did not come within {WAIT_SECONDS:g} s")
        time.sleep(0.001)


def measure_first_lines(site: Site, plan: Plan) -> None:
    """One task after another on the service with its scheduler, default settings and the filled tables."""
    lines = site.folder / "lines"
    lines.mkdir()
    (site.folder / "bench_engine.py").write_text(ENGINE)
    environment = {
        "QTM_ENGINE": "bench_engine:run",
        "PYTHONPATH": str(site.folder),
        "BENCH_FOLDER": str(lines),
    }
    with service(site.url, site.folder, environment=environment) as server:
        await_engine(site.folder)
        caller = Caller(server.port)
        request = create_request(server.port, 1, {})
        for _ in range(plan.first_lines):
            created, _ = caller.ask(request)
            answered, (task_id,) = caller.answered_ns, created["task_ids"]
            poll((lines / task_id).exists, "the engine's first line")
            site.first_lines.append((int((lines / task_id).read_text()) - answered) / 1e6)
            ended, _ = caller.ask(status_request(server.port, task_id, f"&wait={WAIT_SECONDS:g}"))
            expect(ended["status"] == "completed", f"a task ended so: {ended}")
            time.sleep(PAUSE_SECONDS)
    site.created += plan.first_lines


def await_engine(folder: Path, events: Sequence[str] = (" engine ready ", " serving ")) -> None:
    """Until the engine server process has imported the engine, and a service with a port its database."""
    log = folder / "log"
    poll(lambda: all(event in log.read_text() for event in events), "the engine server")


# -- weight
# ------------------------------------------------------------------------------------------------------------


class Weight(NamedTuple):
    """Memory of the idle service, in MB of 1,000,000 bytes: itself, and the sum with its engine server
    process."""

    rss: float
    pss: float
    sum_rss: float
    sum_pss: float


def memory_mb(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process (PSS: pages that several share are divided among them). A service shows its
    PSS to root alone: to others it is NaN."""
    values = []
    for name, word in (("status", "VmRSS:"), ("smaps_rollup", "Pss:")):
        try:
            line = next(
                line for line in Path(f"/proc/{pid}/{name}").read_text().splitlines() if line.startswith(word)
            )
        except PermissionError:
            line = f"{word} nan"
        values.append(float(line.split()[1]) * 1024 / 1e6)
    return values[0], values[1]


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended since leaves its children to another one
            found += [int(child) for child in file.read_text().split()]
    return found


def measure_idle(site: Site) -> None:
    """Memory a second after the service was ready, with the scheduler and the built-in engine."""
    folder = site.folder / "idle"
    folder.mkdir()
    with service(site.idle_url, folder) as server:
        await_engine(folder)
        time.sleep(1.0)
        rss, pss = memory_mb(server.pid)
        sums = [memory_mb(child) for child in children(server.pid)]
        expect(len(sums) == 1, f"the idle service has {len(sums)} child processes")
        site.idle = Weight(rss, pss, rss + sums[0][0], pss + sums[0][1])


def measure_starts(folder: Path, plan: Plan) -> dict[str, list[float]]:
    """Milliseconds from before the fork until the first 200 of a path, each time on a new SQLite file."""
    starts: dict[str, list[float]] = {"/healthz": [], "/readyz": []}
    for number in range(plan.starts):
        for path, times in starts.items():
            own = folder / f"start{number}{path[1:]}"
            own.mkdir()
            with service(f"sqlite:///{own}/qtm.db", own, path=path) as server:
                times.append(server.start_seconds * 1000)
    return starts


# -- the report
# --------------------------------------------------------------------------------------------------------


def speed_table(site: Site) -> str:
    """One row per operation and number of connections."""
    rows = []
    for (operation, connections), results in site.loads.items():
        ratio = "–"
        if connections == 1 and operation in site.floors:
            ratio = spread(
                [
                    mine / floor
                    for mine, floor in zip(site.p50(operation), site.floors[operation], strict=True)
                ]
            )
        rows.append(
            [
                operation,
                str(connections),
                spread(
                    [result.requests_per_second for result in results],
                    0 if results[0].requests_per_second > 100 else 1,
                ),
                *(
                    spread(
                        [result.milliseconds(quantile) for result in results], 2 if connections == 1 else 1
                    )
                    for quantile in (0.5, 0.99, 1.0)
                ),
                f"{sum(result.refused_count for result in results):,}",
                spread([100 * result.client_cpu_share for result in results], 0),
                ratio,
            ]
        )
    return table(
        [
            "min – median – max",
            "connections",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "max ms",
            "refused",
            "client CPU %",
            "p50 ÷ floor",
        ],
        rows,
    )


def weight_lines(sites: Sequence[Site], starts: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Floors, first lines, memory and start times, as list items."""
    for site in sites:
        floors = ", ".join(f"{name} {spread(values, 2)}" for name, values in site.floors.items())
        yield f"- {site.name}, the floor (same statements, bare driver), p50 in ms: {floors}"
    for site in sites:
        lines = site.first_lines
        early = sum(value < 0 for value in lines)
        figures = ", ".join(
            f"{name} {quantile_of(lines, quantile):.1f}"
            for name, quantile in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        )
        text = f"from createTask's answer to the engine's first line, {len(lines)} tasks: {figures} ms; {early} came before it"
        yield f"- {site.name}, {text}"
    for site in sites:
        if site.idle:
            rss, pss, sum_rss, sum_pss = site.idle
            yield (
                f"- {site.name}, idle service: RSS {rss:.1f} MB, PSS {pss:.1f} MB; with its engine server process: RSS {sum_rss:.1f} MB, "
                f"PSS {sum_pss:.1f} MB. The service that took the loads, afterwards: RSS {site.loaded_mb:.1f} MB"
            )
    for path, times in starts.items():
        yield f"- from the start of the process to the first 200 of {path} on a new SQLite file, {len(times)} starts: {spread(times, 0)} ms"


class Goal(NamedTuple):
    """A goal, a measured figure and what it must be below, all in one unit."""

    text: str
    measured: float
    limit: float
    unit: str


def goals(site: Site) -> Iterator[Goal]:
    """The goals that hold for each database. Far below is taken as below a quarter; single queries are those
    at one connection."""
    yield Goal("getTaskStatus, 1 connection, p50, worst repeat", max(site.p50(STATUS)), 2.0, "ms")
    for operation in (CREATE_ONE, CREATE_MANY):
        yield Goal(
            f"{operation}, 1 connection, p99, worst repeat (far below 1 s)",
            site.worst(operation, 0.99),
            250.0,
            "ms",
        )
    for operation in (STATUS, PENDING, BATCH):
        yield Goal(
            f"{operation}, 1 connection, p99, worst repeat (far below 500 ms)",
            site.worst(operation, 0.99),
            125.0,
            "ms",
        )
    yield Goal(
        "from the answer to the engine's first line, p99", quantile_of(site.first_lines, 0.99), 50.0, "ms"
    )
    if site.idle:
        yield Goal("idle service, RSS", site.idle.rss, 40.0, "MB")


def goal_lines(sites: Sequence[Site], starts: Mapping[str, Sequence[float]], most: int) -> Iterator[str]:
    """A line per goal, and what the ``most`` connections make of the large requests, for which there is no
    goal."""
    named = [(site.name, goal) for site in sites for goal in goals(site)]
    named += [
        ("SQLite", Goal(f"start to the first 200 of {path}, median", statistics.median(times), 300.0, "ms"))
        for path, times in starts.items()
    ]
    for name, goal in named:
        verdict = "holds" if goal.measured < goal.limit else "MISSED"
        yield f"- {verdict}: {name}, {goal.text}: {goal.measured:.2f} {goal.unit}, goal under {goal.limit:g} {goal.unit}"
    for site in sites:
        for operation in (BATCH, CREATE_MANY):
            worst = site.worst(operation, 0.99, most)
            yield f"- no goal: {site.name}, {operation}, {most} connections, p99, worst repeat: {worst:,.0f} ms, most of it in the queue"


def report(
    sites: Sequence[Site],
    starts: Mapping[str, Sequence[float]],
    plan: Plan,
    mariadb_version: str,
    load_before: float,
) -> str:
    """All of it as Markdown."""
    versions = (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, MariaDB {mariadb_version}"
    )
    parts = [
        "# qtm service benchmark",
        f"{versions}; {os.cpu_count()} cores for service, database and client together; load average before {load_before:.1f}, "
        f"after {os.getloadavg()[0]:.1f}. Repeats: {plan.repeats}, of {plan.load_seconds:g} s per load, keep-alive, commits durable. "
        "Latencies are those of right answers; refused ones got 503. The pending tasks of getTaskStatus stand behind 10,000 others.",
    ]
    for site in sites:
        parts += [
            f"## {site.name}, {site.batches * fill.BATCH_TASKS:,} finished tasks, and {site.created:,} created here",
            speed_table(site),
        ]
    parts += [
        "## First line and weight",
        "\n".join(weight_lines(sites, starts)),
        "## Goals",
        "\n".join(goal_lines(sites, starts, plan.connections[-1])),
    ]
    return "\n\n".join(parts)


# -- the command
# -------------------------------------------------------------------------------------------------------


def tell(text: str) -> None:
    """Progress, to stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def forget_settings() -> None:
    """Drop the caller's settings of qtm. Without compiled files every start would compile qtm twice, so that
    goes, too."""
    for name in list(os.environ):
        if name.startswith("QTM_") or name == "PYTHONDONTWRITEBYTECODE":
            del os.environ[name]


def migrate(url: str) -> None:
    """Make the tables."""
    command = [sys.executable, str(ROOT / "qtm.py"), "migrate"]
    subprocess.run(
        command,
        env={**os.environ, "QTM_DATABASE_URL": url},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def prepare(site: Site, rows: int) -> None:
    """Tables and rows."""
    tell(f"{site.name}: filling {rows:,} rows")
    migrate(site.url)
    site.batches = fill.fill(site.url, rows)


def run(plan: Plan) -> int:
    """Measure everything and print it; 1 when an answer was wrong."""
    with (
        tempfile.TemporaryDirectory(prefix="qtm-bench-") as name,
        PrivateMariaDB(buffer_pool=BUFFER_POOL) as mariadb,
    ):
        folder = Path(name)
        (folder / "s").mkdir()
        (folder / "m").mkdir()
        sites = [
            Site("SQLite", f"sqlite:///{folder}/s/qtm.db", f"sqlite:///{folder}/s/idle.db", folder / "s"),
            Site("MariaDB", mariadb.create_database("bench"), mariadb.create_database("idle"), folder / "m"),
        ]
        load_before = os.getloadavg()[0]
        version = str(mariadb.execute("SELECT VERSION()")[0][0])
        tell("start times")
        starts = measure_starts(folder, plan)
        for site in sites:
            tell(f"{site.name}: idle memory")
            measure_idle(site)
            prepare(site, plan.rows)
        for site in sites:
            tell(f"{site.name}: first lines")
            measure_first_lines(site, plan)
        errors = measure_speed(sites, plan)
    sys.stdout.write(report(sites, starts, plan, version, load_before) + "\n")
    for error in errors:
        sys.stdout.write(f"\nERROR: {error}\n")
    return 1 if errors else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Benchmark the service on SQLite and on a private MariaDB.")
    parser.add_argument(
        "--quick", action="store_true", help="20,000 rows, short loads, up to 16 connections: about a minute"
    )
    parser.add_argument("--rows", type=int, help=f"finished tasks in each database (default {Plan.rows:,})")
    parser.add_argument("--repeats", type=int, help=f"how often each load is put on (default {Plan.repeats})")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, rows=options.rows or plan.rows, repeats=options.repeats or plan.repeats)
    forget_settings()
    try:
        return run(plan)
    except WrongAnswer as error:
        sys.stderr.write(f"wrong answer: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
