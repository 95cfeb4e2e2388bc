"""What a task costs beside its own work, next to other ways to run many tasks: one command, one run, rounds that take turns.

    python3 bench/drain.py                                  # all rows on SQLite and MariaDB, 3 rounds, about ten minutes
    python3 bench/drain.py --rows drain,pickup --rounds 5   # these rows
    python3 bench/drain.py --databases sqlite --tasks 100   # smaller
    python3 bench/drain.py --rows drain --only "qtm warm"   # without all others

All servers are private ones on free ports, and every commit waits for the disk. The other queues are those of bench/rivals.py, as far as
they are installed (extra `bench`, and the binaries of Redis and PostgreSQL); the report names those that are missing. Contenders that start
a process for each task get ``--tasks`` of them, all others ten times as many, so that each runs for a second or more.

Compiled bytecode is kept (PYTHONDONTWRITEBYTECODE is not passed on), as for all that pip installs: the first start makes it.

The service is `qtm.py serve` in a process of its own, with a backlog of tasks that were created before or, for pickups, one task after
another; the row ``start`` has `-m qtm serve` too. The clock of a drain runs from the first task's first line to the answer that says that
all have ended. ``warm`` is QTM_TASKS_PER_PROCESS=1000.

Figures are min – median – max of the rounds, after Ctrl-C of those so far; ratios and goals compare medians. On a machine that is busy
with other things they say little (see the load averages), the less since qtm's engines run at nice 10 and the rivals do not; CPU a task
says more then. The exit code is 1 only when an answer was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import platform
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import contention
import fill
from load import Load, LoadProcess, ServerProcess, get_request, quantile_of, spread, table
from private_mariadb import PrivateMariaDB
from private_servers import PrivatePostgreSQL, PrivateRedis, PrivateServer, ServerMissing
from rivals import BACKTESTS, DRAINS, Rival
from service import (
    API,
    BUFFER_POOL,
    ROOT,
    SUCCESS,
    WAIT_SECONDS,
    Caller,
    WrongAnswer,
    await_engine,
    children,
    create_request,
    expect,
    forget_settings,
    memory_mb,
    poll,
    service,
    status_request,
    tell,
)

import qtm

MODES: dict[str, dict[str, str]] = {"fresh": {}, "warm": {"QTM_TASKS_PER_PROCESS": "1000"}}
SCRIPT = (str(ROOT / "qtm.py"),)  # as the README starts it
PAUSE_SECONDS = 0.02  # between two pickups, so that the former's processes are gone
STATUS_CLIENTS = 8
CLAIM_GROUP = 200
ENGINE = "drain_engine:run"
METRICS = 12  # of a task that has any
REST_SECONDS = 2.0  # of the engine whose memory is measured
RIVAL_SECONDS = 300.0


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 3
    tasks: int = 300
    backtests: int = 200
    pickups: int = 200
    backlog: int = 10_000  # while clients ask for a status
    seconds: float = 2.0  # of asking
    claims: int = 800


class Goal(NamedTuple):
    """What the median of the contenders whose name starts with ``contender`` must reach; with ``of`` it is a
    factor of that rival's."""

    contender: str
    bound: float
    of: str = ""


class Row(NamedTuple):
    """One table: more is better of rates and ratios, less of times, memory and costs."""

    title: str
    unit: str
    is_rate: bool
    goals: tuple[Goal, ...]
    digits: int = 1


RQ, POOL = DRAINS["rq"].title, BACKTESTS["processes-backtests"].title
ROWS: Mapping[str, Row] = {
    "drain": Row(
        "drain, no-op, 1 slot",
        "tasks/s",
        True,
        (Goal("qtm fresh", 300), Goal("qtm fresh", 4, RQ), Goal("qtm warm", 5000)),
        0,
    ),
    "pandas": Row(
        "drain, no-op, 1 slot, pandas imported by the engine", "tasks/s", True, (Goal("qtm fresh", 180),), 0
    ),
    "metrics": Row(
        f"drain of tasks with {METRICS} metrics each, beside tasks without", "×", True, (Goal("qtm", 0.9),), 2
    ),
    "backtests": Row(
        "backtests of backtesting.py, 8 years, 2 slots, curve and trades stored",
        "backtests/s",
        True,
        (Goal("qtm fresh", 0.6, POOL), Goal("qtm warm", 0.95, POOL)),
    ),
    "pickup": Row(
        "pickup, create's call to the engine's first line, idle",
        "ms",
        False,
        (
            Goal("qtm fresh p50", 3),
            Goal("qtm fresh p99", 8),
            Goal("qtm warm p50", 1.5),
            Goal("qtm warm p99", 4),
        ),
        2,
    ),
    "cpu": Row("CPU a task", "ms", False, (Goal("claim and record alone, in groups", 0.15),), 3),
    "memory": Row(
        "memory while one task runs, all processes, PSS (less beside other Python processes)",
        "MB",
        False,
        (Goal("qtm", 40),),
    ),
    "start": Row(
        "start of serve to the first task's first line, with a backlog", "ms", False, (Goal("qtm", 350),), 0
    ),
    "contention": Row(
        "16 claimers on one MariaDB, cost a task, against one",
        "×",
        False,
        (Goal("claim and record, wall", 1.0),),
        2,
    ),
    "status": Row(
        f"getTaskStatus by {STATUS_CLIENTS} clients without a pause while a backlog drains",
        "ms",
        False,
        (Goal("qtm fresh p99", 10), Goal("qtm warm p99", 10)),
        2,
    ),
}


# -- the site
# ----------------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """The servers, and all that was measured."""

    plan: Plan
    folder: Path
    mariadb: PrivateMariaDB
    servers: Mapping[str, PrivateServer]  # by what a rival calls them
    mariadb_version: str
    claims: contention.ClaimSite | None = None
    phases: list[contention.Phase] = field(default_factory=list)
    # row, contender: a figure of each round
    found: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    count: int = 0  # of databases so far

    def add(self, row: str, contender: str, value: float) -> None:
        """One more figure."""
        self.found.setdefault(row, {}).setdefault(contender, []).append(value)

    def place(self, database: str) -> tuple[str, Path]:
        """The URL of a new database, and a new folder."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        return (
            f"sqlite:///{folder}/qtm.db"
            if database == "SQLite"
            else self.mariadb.create_database(f"bench_{self.count}")
        ), folder


@contextlib.contextmanager
def serving(
    url: str, folder: Path, mode: str, slots: int = 1, imports: str = "", program: Sequence[str] = SCRIPT
) -> Iterator[ServerProcess]:
    """The service with the engine of this benchmark, from its first answer on."""
    environment = {
        **MODES[mode],
        "QTM_ENGINE": ENGINE,
        "QTM_WORKERS": str(slots),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "bench")]),
        "BENCH_FIRST_LINE": str(folder / "first"),
        "BENCH_IMPORTS": imports,
    }
    with service(url, folder, environment=environment, path="/healthz", program=program) as server:
        yield server


def create(url: str, request: qtm.BatchRequest) -> qtm.CreatedBatch:
    """A backlog that is there before the service starts."""
    with qtm.start(qtm.Settings(database_url=url, engine=ENGINE), scheduler=False) as tasks:
        return tasks.create_task(request)


def no_ops(count: int, metrics: int = 0) -> qtm.BatchRequest:
    """So many tasks that do nothing, and give so many metrics."""
    params = [{"metrics": metrics}] if metrics else [{}]
    return qtm.BatchRequest([fill.stock_code(place) for place in range(count)], fill.CONFIG, params)


def descendants(pid: int) -> list[int]:
    """All processes below this one."""
    found = children(pid)
    for child in found:
        found += children(child)
    return found


def cpu_of_all(pid: int) -> float:
    """CPU seconds of this process and all below it, those that have ended included."""
    total = 0.0
    for one in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError):  # it has ended since, and its parent has its time
            total += sum(contention.cpu_times(one))
    return total


# -- measurements of qtm
# -----------------------------------------------------------------------------------------------


class Drained(NamedTuple):
    """What a drain gave."""

    tasks_per_second: float
    start_ms: float
    start_cpu_ms: float  # of all processes until then
    service_cpu_ms: float  # a task
    all_cpu_ms: float  # with the engine's processes


def drained(
    bench: Bench,
    database: str,
    mode: str,
    request: qtm.BatchRequest,
    slots: int = 1,
    imports: str = "",
    program: Sequence[str] = SCRIPT,
) -> Drained:
    """Create the tasks, start the service, and wait until all have completed."""
    url, folder = bench.place(database)
    batch = create(url, request)
    with serving(url, folder, mode, slots, imports, program) as server:
        poll((folder / "first").exists, "the engine's first line")
        cpu, start_cpu = contention.cpu_times(server.pid).own, cpu_of_all(server.pid)
        caller, ended = Caller(server.port), False
        target = f"{API}/getTasksByBatch?batch_id={batch.batch_id}&limit=1&wait={WAIT_SECONDS / 2:g}"
        deadline = time.monotonic() + RIVAL_SECONDS
        while not ended:
            answer, _ = caller.ask(get_request(server.port, target, SUCCESS))
            ended = answer["counts"]["pending"] + answer["counts"]["running"] == 0
            expect(time.monotonic() < deadline, f"after {RIVAL_SECONDS:g} s the tasks are {answer['counts']}")
        cpu, all_cpu = contention.cpu_times(server.pid).own - cpu, cpu_of_all(server.pid) - start_cpu
        expect(
            answer["counts"]["completed"] == batch.count,
            f"of {batch.count} tasks not all completed: {answer['counts']}",
        )
    first = float((folder / "first").read_text())
    seconds = caller.answered_ns / 1e9 - first
    return Drained(
        batch.count / seconds,
        1000 * (first - server.started),
        1000 * start_cpu,
        1000 * cpu / batch.count,
        1000 * all_cpu / batch.count,
    )


def measure_drain(bench: Bench, database: str, mode: str) -> None:
    """No-ops; the start of the service and its CPU come with them."""
    found = drained(bench, database, mode, no_ops(bench.plan.tasks * (1 if mode == "fresh" else 10)))
    name = f"qtm {mode}, {database}"
    bench.add("drain", name, found.tasks_per_second)
    bench.add("cpu", f"{name}, the service", found.service_cpu_ms)
    bench.add("cpu", f"{name}, with the engine's processes", found.all_cpu_ms)
    add_start(bench, name, found)


def add_start(bench: Bench, name: str, found: Drained) -> None:
    """The time of the start, and its CPU."""
    bench.add("start", name, found.start_ms)
    bench.add("start", f"CPU of all processes, {name}", found.start_cpu_ms)


def measure_module_start(bench: Bench, database: str, mode: str) -> None:
    """The start by `python -m qtm serve`, which finds compiled bytecode."""
    found = drained(bench, database, mode, no_ops(bench.plan.tasks), program=("-m", "qtm"))
    add_start(bench, f"qtm {mode} by -m, {database}", found)


def measure_pandas(bench: Bench, database: str, mode: str) -> None:
    """No-ops of an engine that has imported pandas."""
    found = drained(
        bench, database, mode, no_ops(bench.plan.tasks * (1 if mode == "fresh" else 10)), imports="pandas"
    )
    bench.add("pandas", f"qtm {mode}, {database}", found.tasks_per_second)


def measure_metrics(bench: Bench, database: str, mode: str) -> None:
    """No-ops with metrics beside no-ops without."""
    count = bench.plan.tasks * (1 if mode == "fresh" else 10)
    plain, rich = (drained(bench, database, mode, no_ops(count, metrics)) for metrics in (0, METRICS))
    bench.add("metrics", f"qtm {mode}, {database}", rich.tasks_per_second / plain.tasks_per_second)


def measure_backtests(bench: Bench, database: str, mode: str) -> None:
    """Real ones."""
    import sma

    request = qtm.BatchRequest(
        sma.STOCKS,
        {**fill.CONFIG, "strategy": "sma_cross"},
        sma.params(bench.plan.backtests // len(sma.STOCKS)),
    )
    found = drained(bench, database, mode, request, slots=2, imports="sma")
    bench.add("backtests", f"qtm {mode}, {database}", found.tasks_per_second)


def measure_pickup(bench: Bench, database: str, mode: str) -> None:
    """One task after another on an idle service."""
    url, folder = bench.place(database)
    with serving(url, folder, mode) as server:
        await_engine(folder)
        caller, found = Caller(server.port), []
        request = create_request(server.port, 1, {})
        for _ in range(bench.plan.pickups):
            called = time.monotonic()
            created, _ = caller.ask(request)
            (task_id,) = created["task_ids"]
            ended, _ = caller.ask(status_request(server.port, task_id, f"&wait={WAIT_SECONDS / 2:g}"))
            expect(ended["status"] == "completed", f"a task ended so: {ended}")
            result, _ = caller.ask(
                get_request(server.port, f"{API}/getTaskResult?task_id={task_id}", SUCCESS)
            )
            found.append(1000 * (result["result"]["at"] - called))
            time.sleep(PAUSE_SECONDS)
    for name, quantile in (("p50", 0.5), ("p99", 0.99)):
        bench.add("pickup", f"qtm {mode} {name}, {database}", quantile_of(found, quantile))


def measure_memory(bench: Bench, database: str, mode: str) -> None:
    """The service, and all below it, while an engine that imported nothing rests."""
    url, folder = bench.place(database)
    with serving(url, folder, mode) as server:
        await_engine(folder)
        Caller(server.port).ask(create_request(server.port, 1, {"seconds": REST_SECONDS}))
        poll((folder / "first").exists, "the engine's first line")
        time.sleep(REST_SECONDS / 2)
        bench.add(
            "memory",
            f"qtm {mode}, {database}",
            sum(memory_mb(pid)[1] for pid in [server.pid, *descendants(server.pid)]),
        )


def measure_status(bench: Bench, database: str, mode: str) -> None:
    """Clients that ask without a pause for tasks of a backlog that drains meanwhile."""
    url, folder = bench.place(database)
    batch = create(url, no_ops(bench.plan.backlog))
    with serving(url, folder, mode) as server, LoadProcess() as client:
        poll((folder / "first").exists, "the engine's first line")
        requests = [
            status_request(server.port, task_id) for task_id in batch.task_ids[:: max(1, batch.count // 1000)]
        ]
        started = time.monotonic()
        result = client.run(Load(server.port, requests, STATUS_CLIENTS, bench.plan.seconds))
        expect(not result.error_count, f"{result.error_count} statuses were wrong, such as {result.errors}")
        target = f"{API}/getTasksByBatch?batch_id={batch.batch_id}&limit=1"
        counts = Caller(server.port).ask(get_request(server.port, target, SUCCESS))[0]["counts"]
        rate = (batch.count - counts["pending"]) / (time.monotonic() - started)
    tell(
        f"  {result.requests_per_second:,.0f} statuses/s, {rate:,.0f} tasks/s meanwhile, {counts['pending']:,} tasks left"
    )
    for name, quantile in (("p50", 0.5), ("p99", 0.99)):
        bench.add("status", f"qtm {mode} {name}, {database}", result.milliseconds(quantile))


def measure_claims(bench: Bench) -> None:
    """What the database layer alone costs, as bench/contention.py measures it."""
    site = bench.claims
    if site is None:
        raise RuntimeError("the claiming processes were not started")
    most = max(contention.CLAIMERS)
    grouped_tasks = CLAIM_GROUP * -(-bench.plan.claims * 3 // CLAIM_GROUP)
    site.fill_up(bench.plan.claims * 2 + grouped_tasks)
    single, many = (site.phase(claimers, bench.plan.claims) for claimers in (1, most))
    grouped = site.phase(1, grouped_tasks, CLAIM_GROUP)
    bench.phases += [single, many, grouped]
    bench.add("cpu", "claim and record alone, one by one, MariaDB", single.client_ms)
    bench.add("cpu", f"claim and record alone, in groups of {CLAIM_GROUP}, MariaDB", grouped.client_ms)
    bench.add("contention", "claim and record, wall time", many.wall_ms / single.wall_ms)
    bench.add("contention", "claim and record, CPU of MariaDB", many.server_ms / single.server_ms)


def measure_rival(bench: Bench, row: str, name: str, rival: Rival) -> None:
    """One drain of it, in a process of its own."""
    count = bench.plan.backtests if row == "backtests" else bench.plan.tasks * (1 if rival.is_forking else 10)
    port = (
        bench.mariadb.port
        if rival.server == "mariadb"
        else bench.servers[rival.server].port
        if rival.server
        else 0
    )
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        command = [sys.executable, str(ROOT / "bench" / "rivals.py"), name, str(count), folder, str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RIVAL_SECONDS, check=False)
    expect(done.returncode == 0, f"{rival.title} failed:\n{done.stderr[-2000:]}")
    bench.add(row, rival.title, float(done.stdout.split()[-1]))


# -- the rounds
# --------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One measurement of a round, and the rows that it gives figures to."""

    rows: tuple[str, ...]
    name: str
    measure: Callable[[Bench], None]


QTM_STEPS: Sequence[tuple[tuple[str, ...], Callable[[Bench, str, str], None]]] = (
    (("drain", "cpu", "start"), measure_drain),
    (("start",), measure_module_start),
    (("pandas",), measure_pandas),
    (("metrics",), measure_metrics),
    (("backtests",), measure_backtests),
    (("pickup",), measure_pickup),
    (("memory",), measure_memory),
    (("status",), measure_status),
)


def missing(rival: Rival, servers: Mapping[str, PrivateServer]) -> str:
    """Why a rival cannot run, or ""."""
    if rival.version is None:
        return f"{rival.title}: the package {rival.package} is not installed"
    if rival.server not in ("", "mariadb", *servers):
        return f"{rival.title}: no {rival.server} on this machine"
    return ""


def steps_of(
    rows: Sequence[str], databases: Sequence[str], servers: Mapping[str, PrivateServer]
) -> tuple[list[Step], list[str]]:
    """All that a round measures, in its order, and what cannot be measured here."""
    steps: list[Step] = []
    lacking = []
    modes = list(MODES)
    if "tasks_per_process" not in qtm.Settings.__dataclass_fields__:
        modes.remove("warm")
        lacking.append("qtm warm: this version has no QTM_TASKS_PER_PROCESS")
    has_backtesting = Rival("", DRAINS["rq"].drain, "backtesting").version is not None
    if "backtests" in rows and not has_backtesting:
        lacking.append("all backtests: the package backtesting is not installed")
    for given, measure in QTM_STEPS:
        if given != ("backtests",) or has_backtesting:
            for database in databases:
                for mode in modes:
                    name = f"{given[0]}, qtm {mode}, {database}"
                    measured: Callable[..., None] = measure
                    steps.append(Step(given, name, functools.partial(measured, database=database, mode=mode)))
    for row, many in (("drain", DRAINS), ("backtests", BACKTESTS if has_backtesting else {})):
        for name, rival in many.items():
            if reason := missing(rival, servers):
                lacking.append(reason)
                continue
            step = Step(
                (row,),
                f"{row}, {rival.title}",
                functools.partial(measure_rival, row=row, name=name, rival=rival),
            )
            steps.append(step)
    steps.append(Step(("contention", "cpu"), "claims", measure_claims))
    return [step for step in steps if set(step.rows) & set(rows)], lacking


def measure_rounds(bench: Bench, steps: Sequence[Step]) -> list[str]:
    """All steps in turn, again and again, until Ctrl-C; what went wrong."""
    errors: list[str] = []
    try:
        for number in range(bench.plan.rounds):
            for step in steps:
                tell(f"round {number + 1} of {bench.plan.rounds}: {step.name}")
                try:
                    step.measure(bench)
                except (
                    WrongAnswer,
                    RuntimeError,
                    subprocess.TimeoutExpired,
                ) as error:  # the other steps are still worth their time
                    errors.append(f"{step.name}: {error}")
                    tell(errors[-1])
        return errors + (contention.claim_faults(bench.claims, bench.phases) if bench.claims else [])
    except KeyboardInterrupt:  # the servers may have got the signal, too
        tell("interrupted: the report of what there is")
    return errors


@contextlib.contextmanager
def rivals_servers() -> Iterator[dict[str, PrivateServer]]:
    """Redis and PostgreSQL, where they are installed."""
    with contextlib.ExitStack() as stack:
        found: dict[str, PrivateServer] = {}
        for name, kind in (("redis", PrivateRedis), ("postgresql", PrivatePostgreSQL)):
            with contextlib.suppress(ServerMissing):
                found[name] = stack.enter_context(kind())
        yield found


# -- the report
# --------------------------------------------------------------------------------------------------------


def verdict(row: Row, contender: str, medians: Mapping[str, float]) -> str:
    """The goals of this contender, and whether they are met."""
    texts = []
    for goal in row.goals:
        if contender.startswith(goal.contender) and (not goal.of or goal.of in medians):
            bound = goal.bound * (medians[goal.of] if goal.of else 1.0)
            is_met = medians[contender] >= bound if row.is_rate else medians[contender] <= bound
            text = f"{'≥' if row.is_rate else '≤'} {goal.bound:g}" + (
                f" × {goal.of.split(',')[0].split(' on ')[0]}" if goal.of else ""
            )
            texts.append(f"{text} {'met' if is_met else 'MISSED'}")
    return "; ".join(texts)


def row_table(row: Row, found: Mapping[str, Sequence[float]]) -> str:
    """The contenders of one row; the ratio is to the best of the rivals."""
    medians = {name: statistics.median(values) for name, values in found.items()}
    rivals = {
        name: median
        for name, median in medians.items()
        if name in {one.title for one in (*DRAINS.values(), *BACKTESTS.values())}
    }
    best = (max if row.is_rate else min)(rivals.values(), default=None)
    rows = [
        [
            name,
            spread(values, row.digits),
            f"{medians[name] / best:.2g}" if best else "–",
            verdict(row, name, medians),
        ]
        for name, values in found.items()
    ]
    return table([f"{row.title} ({row.unit})", "min – median – max", "÷ best rival", "goal"], rows)


def report(bench: Bench, rows: Sequence[str], lacking: Sequence[str], load_before: float) -> str:
    """All of it as Markdown."""
    versions = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    versions += [f"MariaDB {bench.mariadb_version}"]
    versions += [f"{rival.package} {rival.version}" for rival in DRAINS.values() if rival.version]
    plan = bench.plan
    parts = [
        "# qtm beside other queues",
        f"{', '.join(versions)}; {os.cpu_count()} cores for all processes together; load average before {load_before:.1f}, after "
        f"{os.getloadavg()[0]:.1f}. {plan.rounds} rounds; {plan.tasks:,} tasks of contenders that start a process for each, ten times as "
        f"many of others, {plan.backtests} backtests, {plan.pickups} pickups.",
        *(row_table(ROWS[row], bench.found[row]) for row in rows if row in bench.found),
        *(f"Missing: {text}." for text in lacking),
    ]
    return "\n\n".join(parts)


# -- the command
# -------------------------------------------------------------------------------------------------------


def run(plan: Plan, rows: Sequence[str], databases: Sequence[str], only: str) -> int:
    """Measure everything and print it; 1 when an answer was wrong."""
    load_before = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qtm-bench-")))
        mariadb = stack.enter_context(PrivateMariaDB(buffer_pool=BUFFER_POOL))
        bench = Bench(
            plan,
            folder,
            mariadb,
            stack.enter_context(rivals_servers()),
            str(mariadb.execute("SELECT VERSION()")[0][0]),
        )
        steps, lacking = steps_of(rows, databases, bench.servers)
        steps = [step for step in steps if only in step.name]
        if any(step.measure is measure_claims for step in steps):
            bench.claims = stack.enter_context(
                contention.ClaimSite(mariadb, contention.Plan(claims=plan.claims))
            )
            bench.claims.fill_up(1000)
            # opens the connections
            bench.claims.phase(max(contention.CLAIMERS), max(contention.CLAIMERS) * 10)
        errors = measure_rounds(bench, steps)
        sys.stdout.write(report(bench, rows, lacking, load_before) + "\n")
    for text in errors[:20]:
        sys.stdout.write(f"\nERROR: {text}\n")
    return 1 if errors else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", default=",".join(ROWS), help="(%(default)s)")
    parser.add_argument("--only", default="", help="the contenders whose name contains this text")
    parser.add_argument("--databases", default="SQLite,MariaDB", help="(%(default)s)")
    for name, meaning in (
        ("rounds", "in which all contenders take turns"),
        ("tasks", "no-ops of each contender that starts a process for each; ten times as many of the others"),
        ("backtests", "of backtesting.py"),
        ("pickups", "tasks that are created one after another"),
        ("backlog", "tasks that drain while clients ask for a status"),
        ("seconds", "of asking for a status"),
        ("claims", "of each number of claimers"),
    ):
        default = getattr(Plan, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{meaning} (%(default)s)")
    options = vars(parser.parse_args())
    rows, databases, only = (
        options.pop("rows").split(","),
        options.pop("databases").split(","),
        options.pop("only"),
    )
    names = {name.lower(): name for name in ("SQLite", "MariaDB")}
    if unknown := [one for one in rows if one not in ROWS] + [
        one for one in databases if one.lower() not in names
    ]:
        parser.error(f"unknown: {', '.join(unknown)}")
    # as Ctrl-C, so that the servers' folders are removed
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    forget_settings()
    return run(replace(Plan(), **options), rows, [names[one.lower()] for one in databases], only)


if __name__ == "__main__":
    sys.exit(main())
