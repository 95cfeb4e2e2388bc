"""Contention: four replicas of four slots on one MariaDB, and what a claim costs when sixteen claim at once.

    python3 bench/contention.py             # about ten minutes: 10,000 tasks, and claims beside 1,000,000 finished ones
    python3 bench/contention.py --quick     # under a minute: 1,000 tasks, and no finished ones

Three parts, all on a private MariaDB with durable commits:

* **Replicas**: `qtm.py serve --no-scheduler` for the API and `qtm.py worker` processes, as in a deployment. Every engine process
  appends its task, attempt and pid to one ledger. Each task must have one line there, attempt 1, one attempt on record, and the
  result of the very process in the ledger.
* **Claims**: the DAO alone, no engine. Each claimer claims one task, writes its end, and claims the next, from 20,000 pending
  ones; sixteen are four processes of four threads. A real replica claims in one thread for all its slots, so this is the
  harder case. The cost per task is given twice: the wall time of the phase divided by its tasks, and the CPU time of MariaDB
  per task, to the end of the purge that the phase leaves behind. Repeats take turns, so that a ratio compares neighbours.
* **Obstacles**: what one claim costs when others hold locks on the rows before it, when tasks that wait for their retry stand
  before it, and when an old snapshot (a backup, say) keeps InnoDB from purging what was claimed since.

Nothing here is an assertion of time: the exit code is 1 only when a task ran twice or not at all, or when an error happened.
On a machine that is busy with other things the times say little: see the load averages.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import multiprocessing.process
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import fill
import pymysql
from load import end_process, get_request, quantile_of, spread, table
from private_mariadb import PrivateMariaDB, die_with_parent
from service import (
    API,
    BUFFER_POOL,
    ROOT,
    SUCCESS,
    Caller,
    WrongAnswer,
    await_engine,
    children,
    create_request,
    expect,
    forget_settings,
    service,
    tell,
)

import qtm

CLAIMERS = (1, 4, 16)
THREADS = 4  # of a claiming process at most
DUE_BEHIND = 500  # tasks that are due behind those that wait
PROBES = 40  # claims per obstacle, from the same 500
STILL_SECONDS = 60.0  # without one more finished task: stuck
STOP_SECONDS = 30.0
TICKS = os.sysconf("SC_CLK_TCK")
COST_LIMIT = 2.0

ENGINE = """
import os

LEDGER = os.open(os.environ["BENCH_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

def run(task, progress):
    os.write(LEDGER, f"{task.task_id} {task.attempt} {os.getpid()}\\n".encode())
    return {"pid": os.getpid()}
"""


class Fleet(NamedTuple):
    """How many replicas of how many slots, and the tasks for them."""

    replicas: int
    slots: int
    tasks: int

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"{self.replicas} × {self.slots}"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    fleets: tuple[Fleet, ...] = (Fleet(1, 1, 500), Fleet(1, 4, 1000), Fleet(4, 4, 10_000))
    create: int = 1000  # tasks per createTask
    finished: int = 1_000_000
    pending: int = 20_000
    claims: int = 1600  # per phase
    repeats: int = 5
    locked: tuple[int, ...] = (0, 100, 1000, 10_000)
    waiting: tuple[int, ...] = (0, 1000, 10_000, 100_000)
    unpurged: tuple[int, ...] = (1000, 10_000)


QUICK = Plan(
    fleets=(Fleet(1, 1, 100), Fleet(1, 4, 200), Fleet(4, 4, 1000)),
    create=250,
    finished=0,
    claims=480,
    repeats=2,
    locked=(0, 1000),
    waiting=(0, 10_000),
    unpurged=(1000,),
)


# -- what MariaDB and processes used
# -----------------------------------------------------------------------------------


class CpuTimes(NamedTuple):
    """Seconds of a process, user and system, and of those of its children that have ended and were waited
    for."""

    own: float
    ended: float


def cpu_times(pid: int) -> CpuTimes:
    """Of this process, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, ended_user, ended_system = (int(text) / TICKS for text in fields[11:15])
    return CpuTimes(user + system, ended_user + ended_system)


def counters(mariadb: PrivateMariaDB) -> Counter[str]:
    """The server's status counters, all sessions together."""
    wanted = "'^(Handler_read_(key|next)|Handler_icp_attempts|Innodb_(row_lock_waits|deadlocks))$'"
    rows = mariadb.execute(f"SHOW GLOBAL STATUS WHERE Variable_name RLIKE {wanted}")
    return Counter({str(name).lower(): int(str(value)) for name, value in rows})


def server_cpu(mariadb: PrivateMariaDB) -> float:
    """CPU seconds of MariaDB since its start."""
    return cpu_times(int((mariadb.folder / "pid").read_text())).own


def settle(mariadb: PrivateMariaDB) -> None:
    """Wait until InnoDB has purged what was changed and deleted, so that one phase does not pay for the one
    before."""
    mariadb.execute("SET GLOBAL innodb_max_purge_lag_wait = 0")


# -- part 1: replicas
# --------------------------------------------------------------------------------------------------


class Replica:
    """`qtm.py worker` in a process of its own. A context manager; it ends by SIGTERM."""

    def __init__(self, url: str, slots: int, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._environment = {
            **os.environ,
            "QTM_DATABASE_URL": url,
            "QTM_WORKERS": str(slots),
            "QTM_ENGINE": "bench_engine:run",
            "QTM_POLL_SECONDS": "1",
            "PYTHONPATH": str(folder.parent),
            "BENCH_LEDGER": str(folder.parent / "ledger"),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Replica:
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, str(ROOT / "qtm.py"), "worker"]
            # preexec_fn: one system call, so that a killed benchmark leaves no replica behind
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        return self

    def __exit__(self, *_: object) -> None:
        end_process(self._process)

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder / "log").read_text()

    def check(self) -> None:
        """Raises WrongAnswer when it has ended."""
        if self._process and self._process.poll() is not None:
            raise WrongAnswer(
                f"a replica ended by itself, code {self._process.returncode}:\n{self.log[-2000:]}"
            )

    def cpu(self) -> tuple[float, float]:
        """CPU seconds so far: the scheduler's process, and the engine's with all that was forked for
        tasks."""
        pid = self._process.pid if self._process else 0
        own = cpu_times(pid)
        return own.own, own.ended + sum(sum(cpu_times(child)) for child in children(pid))


@dataclass
class FleetResult:
    """What a fleet did, and what it cost."""

    fleet: Fleet
    seconds: float  # from the first start of a task to the last end, by the database's clock
    shares: list[int]  # tasks of each replica
    at_once: int  # tasks that ran at the same time, at most
    claims: int  # those that got tasks
    scheduler_cpu: float
    engine_cpu: float
    api_cpu: float
    server_cpu: float
    lock_waits: int
    deadlocks: int
    faults: list[str]  # tasks that ran twice, not at all, or otherwise than they should; warnings in a log


def run_fleet(mariadb: PrivateMariaDB, fleet: Fleet, plan: Plan, folder: Path) -> FleetResult:
    """Create the tasks by the API, have them all run, and check what came of them."""
    folder.mkdir()
    (folder / "bench_engine.py").write_text(ENGINE)
    url = mariadb.create_database(folder.name)
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(service(url, folder, ["--no-scheduler"]))
        replicas = [
            stack.enter_context(Replica(url, fleet.slots, folder / f"replica{i + 1}"))
            for i in range(fleet.replicas)
        ]
        for replica in replicas:
            await_engine(replica.folder, [" engine ready "])
        caller = Caller(api.port)
        before, server, served = counters(mariadb), server_cpu(mariadb), cpu_times(api.pid).own
        used = [replica.cpu() for replica in replicas]
        batches = create_tasks(caller, fleet.tasks, plan.create)
        await_batches(caller, list(batches), replicas)
        after = counters(mariadb) - before
        cpu = [
            [now - then for now, then in zip(replica.cpu(), start, strict=True)]
            for replica, start in zip(replicas, used, strict=True)
        ]
        server, served = server_cpu(mariadb) - server, cpu_times(api.pid).own - served
    faults = ledger_faults(
        mariadb, folder, {task_id for task_ids in batches.values() for task_id in task_ids}
    )
    at_once = most_at_once(mariadb, folder.name)
    faults += [
        f"{fleet.name}: a replica of {fleet.slots} slots ran {count} at once"
        for count in at_once[:-1]
        if count > fleet.slots
    ]
    for replica in replicas:
        faults += [f"{fleet.name}: {line}" for line in replica.log.splitlines() if " INFO " not in line]
    seconds = mariadb.execute(
        f"USE {folder.name}",
        "SELECT TIMESTAMPDIFF(MICROSECOND, MIN(started_at), MAX(finished_at)) / 1e6 FROM backtest_tasks",
    )
    # One claim gives all that it takes the same started_at.
    shares = mariadb.execute(
        f"USE {folder.name}",
        "SELECT COUNT(*), COUNT(DISTINCT started_at) FROM backtest_attempts GROUP BY worker_id",
    )
    return FleetResult(
        fleet,
        float(str(seconds[0][0])),
        [int(str(row[0])) for row in shares],
        max(at_once),
        sum(int(str(row[1])) for row in shares),
        sum(scheduler for scheduler, _ in cpu),
        sum(engine for _, engine in cpu),
        served,
        server,
        after["innodb_row_lock_waits"],
        after["innodb_deadlocks"],
        faults,
    )


def create_tasks(caller: Caller, count: int, at_once: int) -> dict[str, list[str]]:
    """The task ids that createTask gave, by batch."""
    batches = {}
    for start in range(0, count, at_once):
        created, _ = caller.ask(create_request(caller.port, min(at_once, count - start), {}))
        batches[created["batch_id"]] = created["task_ids"]
    return batches


def await_batches(caller: Caller, batches: Sequence[str], replicas: Sequence[Replica]) -> None:
    """Until all have ended. Raises WrongAnswer when nothing ends any more, or a replica has ended."""
    done, moved_at = 0, time.monotonic()
    for place, batch_id in enumerate(batches):
        while True:
            target = f"{API}/getTasksByBatch?batch_id={batch_id}&limit=1&wait=2"
            batch, _ = caller.ask(
                get_request(caller.port, target, SUCCESS + b'{"batch_id":"%s"' % batch_id.encode())
            )
            left = batch["counts"]["pending"] + batch["counts"]["running"]
            now = place * batch["total"] + batch["total"] - left
            if now != done:
                done, moved_at = now, time.monotonic()
            if not left:
                break
            for replica in replicas:
                replica.check()
            expect(
                time.monotonic() - moved_at < STILL_SECONDS,
                f"no task ended for {STILL_SECONDS:g} s: {batch['counts']}",
            )


def most_at_once(mariadb: PrivateMariaDB, database: str) -> list[int]:
    """How many attempts ran at the same time, at most: of each replica, and last of all together."""
    rows = mariadb.execute(
        f"USE {database}",
        "SELECT worker_id, started_at, ended_at FROM backtest_attempts WHERE ended_at IS NOT NULL",
    )
    workers = {str(row[0]) for row in rows}
    found = []
    for mine in [*({worker} for worker in workers), workers]:
        spans = [(str(start), str(end)) for worker, start, end in rows if worker in mine]
        changes = sorted([(end, -1) for _, end in spans] + [(start, 1) for start, _ in spans])
        found.append(max(itertools.accumulate(change for _, change in changes)))
    return found


def ledger_faults(mariadb: PrivateMariaDB, folder: Path, created: set[str]) -> list[str]:
    """What the ledger and the database say against: each task ran once, on its first attempt, and kept that
    run's result."""
    runs = [line.split() for line in (folder / "ledger").read_text().splitlines()]
    times = Counter(task_id for task_id, _, _ in runs)
    faults = [f"{task_id} was never run" for task_id in created - set(times)]
    faults += [f"{task_id} was run, but never created" for task_id in set(times) - created]
    faults += [f"{task_id} was run {count} times" for task_id, count in times.items() if count > 1]
    faults += [f"{task_id} was run as attempt {attempt}" for task_id, attempt, _ in runs if attempt != "1"]
    pids = {task_id: pid for task_id, _, pid in runs}
    rows = mariadb.execute(
        f"USE {folder.name}",
        """SELECT task_id, t.status, t.attempt, r.result, COUNT(a.attempt), MAX(a.ending) FROM backtest_tasks AS t
           LEFT JOIN backtest_results AS r USING (task_id) LEFT JOIN backtest_attempts AS a USING (task_id) GROUP BY task_id""",
    )
    if {str(row[0]) for row in rows} != created:
        faults.append(f"the database has {len(rows)} tasks, {len(created)} were acknowledged")
    for task_id, status, attempt, result, attempts, ending in rows:
        if (status, attempt, attempts, ending) != ("completed", 1, 1, "completed"):
            faults.append(
                f"{task_id} is {status}, attempt {attempt}, {attempts} on record, the last {ending}"
            )
        elif str(json.loads(str(result))["pid"]) != pids.get(str(task_id)):
            faults.append(f"{task_id} has the result of another run: {result}")
    return faults


# -- part 2: claims
# ----------------------------------------------------------------------------------------------------


@dataclass
class ClaimLog:
    """What the claimers of one process did in one phase."""

    task_ids: list[str] = field(default_factory=list)
    claim_ms: list[float] = field(default_factory=list)
    record_ms: list[float] = field(default_factory=list)
    started: float = 0.0  # monotonic, which all processes of a machine share
    ended: float = 0.0
    cpu: float = 0.0
    retries: int = 0
    errors: list[str] = field(default_factory=list)


DONE = qtm.Outcome(result_json='{"metrics":{"final_equity":118734.25}}')


def completed(attempts: list[qtm.Attempt]) -> list[qtm.Attempt]:
    """The attempts as they have ended just now."""
    for one in attempts:
        one.outcome, one.message, one.ended_at = DONE, "done", time.monotonic()
    return attempts


def claim_and_record(dao: qtm.TaskDAO, quota: int, group: int, go: threading.Event, log: ClaimLog) -> None:
    """One claimer: a scheduler whose engine takes no time. Appends to lists that others append to, which is
    safe."""
    worker_id = qtm.new_worker_id()
    go.wait()
    try:
        for _ in range(quota // group):
            started = time.perf_counter()
            claimed = dao.claim(worker_id, group)
            between = time.perf_counter()
            if not claimed:
                raise WrongAnswer("a claim got nothing, although tasks were pending")
            recorded = dao.record(completed(claimed))
            finished = time.perf_counter()
            log.task_ids += [one.task_id for one in claimed]
            log.claim_ms.append((between - started) * 1000)
            log.record_ms.append((finished - between) * 1000)
            if len(recorded.keys) != len(claimed):
                raise WrongAnswer(
                    f"of {len(claimed)} that were claimed, {len(recorded.keys)} could be recorded"
                )
    except (qtm.QtmError, WrongAnswer) as error:
        log.errors.append(repr(error))


def claim_process(url: str, pipe: Connection) -> None:
    """The main function of a claiming process: one phase per message (claimers, quota of each, tasks a
    claim), until the pipe closes."""
    dao = qtm.TaskDAO(qtm.Database(url, THREADS))
    with contextlib.suppress(EOFError):
        while True:
            claimers, quota, group = pipe.recv()
            go, log = threading.Event(), ClaimLog()
            threads = [
                threading.Thread(target=claim_and_record, args=(dao, quota, group, go, log), daemon=True)
                for _ in range(claimers)
            ]
            for thread in threads:
                thread.start()
            retries, cpu = dao.database.snapshot()["retries"], time.process_time()
            pipe.send(None)  # ready
            pipe.recv()
            log.started = time.monotonic()
            go.set()
            for thread in threads:
                thread.join()
            log.ended, log.cpu = time.monotonic(), time.process_time() - cpu
            log.retries = dao.database.snapshot()["retries"] - retries
            pipe.send(log)
    dao.database.close()


@dataclass
class Phase:
    """So many claimers at once, and what came of it."""

    claimers: int
    logs: list[ClaimLog]
    server_cpu: float
    status: Counter[str]

    @property
    def tasks(self) -> int:
        """How many were claimed and finished."""
        return sum(len(log.task_ids) for log in self.logs)

    def per_task_ms(self, seconds: float) -> float:
        """A sum of seconds as milliseconds per task."""
        return 1000 * seconds / max(1, self.tasks)

    @property
    def wall_ms(self) -> float:
        """Wall time of the whole phase per task."""
        return self.per_task_ms(max(log.ended for log in self.logs) - min(log.started for log in self.logs))

    @property
    def server_ms(self) -> float:
        """CPU time of MariaDB per task."""
        return self.per_task_ms(self.server_cpu)

    @property
    def client_ms(self) -> float:
        """CPU time of the claiming processes per task."""
        return self.per_task_ms(sum(log.cpu for log in self.logs))

    def merged(self, times: str) -> list[float]:
        """The latencies of all processes, in ms; ``times`` names the list."""
        return [value for log in self.logs for value in getattr(log, times)]


class ClaimSite:
    """A database with pending tasks, and the processes that claim from it. A context manager."""

    def __init__(self, mariadb: PrivateMariaDB, plan: Plan) -> None:
        self.mariadb = mariadb
        self.plan = plan
        self.url = mariadb.create_database("claims")
        self.database = qtm.Database(self.url)
        self.dao = qtm.TaskDAO(self.database)
        qtm.migrate(self.database)
        self._pipes: list[Connection] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []

    def __enter__(self) -> ClaimSite:
        context = multiprocessing.get_context("spawn")  # a fork would take the connections along
        for _ in range(max(CLAIMERS) // THREADS):
            ours, theirs = context.Pipe()
            process = context.Process(target=claim_process, args=(self.url, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(STOP_SECONDS)
        self.database.close()

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        """Statements on this database."""
        return self.mariadb.execute("USE claims", *statements)

    def fill_up(self, pending: int) -> None:
        """Create tasks until so many are pending, and wait for the purge of what was before."""
        left = int(str(self.execute("SELECT COUNT(*) FROM backtest_tasks WHERE status = 'pending'")[0][0]))
        for start in range(left, pending, 5000):
            count = min(5000, pending - start)
            batch_id, *task_ids = qtm.new_task_ids(count + 1)
            codes = tuple(fill.stock_code(place) for place in range(count))
            self.dao.create(
                [
                    qtm.NewTasks(
                        qtm.BatchRequest(codes, dict(fill.CONFIG), ({},)), batch_id, task_ids, 3600.0, 3
                    )
                ]
            )
        settle(self.mariadb)

    def phase(self, claimers: int, tasks: int, group: int = 1) -> Phase:
        """Have this many claimers claim and record this many tasks together, ``group`` at a time. They start
        at the same time."""
        processes = -(-claimers // THREADS)
        pipes = self._pipes[:processes]
        before, cpu = counters(self.mariadb), server_cpu(self.mariadb)
        for message in ((claimers // processes, tasks // claimers, group), None):
            for pipe in pipes:
                pipe.send(message)
            answers = [pipe.recv() for pipe in pipes]
        status = counters(self.mariadb) - before
        settle(self.mariadb)
        return Phase(claimers, answers, server_cpu(self.mariadb) - cpu, status)


def measure_claims(site: ClaimSite) -> list[Phase]:
    """Phases of each number of claimers, taking turns."""
    plan = site.plan
    if plan.finished:
        tell(f"filling {plan.finished:,} finished tasks")
        fill.fill(site.url, plan.finished)
    site.fill_up(plan.pending)
    site.phase(max(CLAIMERS), max(CLAIMERS) * 10)  # opens the connections, and is not measured
    phases = []
    for number in range(plan.repeats):
        for claimers in CLAIMERS:
            tell(f"{claimers} claimers, repeat {number + 1} of {plan.repeats}")
            site.fill_up(plan.pending)
            phases.append(site.phase(claimers, plan.claims))
    return phases


def claim_faults(site: ClaimSite, phases: Sequence[Phase]) -> list[str]:
    """Errors, tasks that two claimers got, and tasks of the phases that are not completed on their first
    attempt."""
    logs = [log for phase in phases for log in phase.logs]
    faults = [error for log in logs for error in log.errors]
    times = Counter(task_id for log in logs for task_id in log.task_ids)
    faults += [f"{task_id} was claimed {count} times" for task_id, count in times.items() if count > 1]
    rows = site.execute(
        "SELECT task_id FROM backtest_tasks WHERE status = 'completed' AND attempt = 1 AND worker_id NOT LIKE 'server-%'"
    )
    lost = set(times) - {str(row[0]) for row in rows}
    return faults + [f"{task_id} was finished, but the database says otherwise" for task_id in lost]


# -- part 3: obstacles
# -------------------------------------------------------------------------------------------------


class Probe(NamedTuple):
    """What single claims cost behind an obstacle."""

    name: str
    claim_ms: list[float]
    due_ms: list[float]  # seconds_to_next_run, which a scheduler asks after a claim that left slots free
    entries: float  # of the queue's index whose run_at was looked at, per claim
    reads: float  # rows that the server fetched, per claim
    claimed: int


def probe(site: ClaimSite, name: str, count: int = PROBES) -> Probe:
    """Claim one task after another with nobody else there, and finish them all afterwards."""
    before = counters(site.mariadb)
    claimed, claim_ms = [], []
    for _ in range(count):
        started = time.perf_counter()
        claimed += site.dao.claim("probe", 1)
        claim_ms.append((time.perf_counter() - started) * 1000)
    status = counters(site.mariadb) - before
    due_ms = []
    for _ in range(5):
        started = time.perf_counter()
        site.dao.seconds_to_next_run()
        due_ms.append((time.perf_counter() - started) * 1000)
    site.dao.record(completed(claimed))
    reads = status["handler_read_key"] + status["handler_read_next"]
    return Probe(name, claim_ms, due_ms, status["handler_icp_attempts"] / count, reads / count, len(claimed))


def behind_locks(site: ClaimSite) -> Iterator[Probe]:
    """Claims while another transaction has locked the first tasks of the queue, as claims under way do."""
    site.fill_up(site.plan.pending)
    for locked in site.plan.locked:
        connection = pymysql.connect(host="127.0.0.1", port=site.mariadb.port, user="root", database="claims")
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cursor.execute("START TRANSACTION")
            if locked:
                site.database.dialect.run(cursor, qtm.CLAIMABLE, {"limit": locked})
                expect(len(cursor.fetchall()) == locked, f"not {locked} tasks could be locked")
            yield probe(site, f"{locked:,} locked tasks before it")
            connection.rollback()


def behind_waiting(site: ClaimSite) -> Iterator[Probe]:
    """Claims of tasks behind others that wait for their next attempt, and claims that find nothing due."""
    for waiting in site.plan.waiting:
        site.execute("UPDATE backtest_tasks SET status = 'cancelled' WHERE status = 'pending'")
        site.fill_up(waiting)
        site.execute(
            "UPDATE backtest_tasks SET run_at = ADDTIME(UTC_TIMESTAMP(6), '0:05:00') WHERE status = 'pending'"
        )
        settle(site.mariadb)
        yield probe(site, f"nothing due, {waiting:,} tasks wait", 10)
        site.fill_up(waiting + DUE_BEHIND)
        yield probe(site, f"{waiting:,} waiting tasks before it")


def behind_snapshot(site: ClaimSite) -> Iterator[Probe]:
    """Claims while an old snapshot keeps InnoDB from purging the index entries of tasks that left the queue
    since."""
    connection = pymysql.connect(host="127.0.0.1", port=site.mariadb.port, user="root", database="claims")
    with contextlib.closing(connection), connection.cursor() as cursor:
        site.execute("UPDATE backtest_tasks SET status = 'cancelled' WHERE status = 'pending'")
        for unpurged in site.plan.unpurged:
            site.fill_up(site.plan.pending)
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            first = "WHERE status = 'pending' ORDER BY priority_rank, created_at, task_id"
            site.execute(f"UPDATE backtest_tasks SET status = 'cancelled' {first} LIMIT {unpurged}")
            yield probe(site, f"{unpurged:,} that left since an open snapshot")
            connection.rollback()
            settle(site.mariadb)
            yield probe(site, f"{unpurged:,} that left, snapshot closed")


# -- the report
# --------------------------------------------------------------------------------------------------------


def fleet_table(results: Sequence[FleetResult]) -> str:
    """One row per fleet."""
    rows = []
    for result in results:
        tasks = result.fleet.tasks
        per_task = [
            f"{1000 * seconds / tasks:.2f}"
            for seconds in (result.server_cpu, result.scheduler_cpu, result.api_cpu, result.engine_cpu)
        ]
        shares = f"{min(result.shares):,} – {max(result.shares):,}"
        figures = [
            f"{tasks:,}",
            f"{tasks / result.seconds:.1f}",
            shares,
            str(result.at_once),
            f"{result.claims / tasks:.2f}",
            *per_task,
        ]
        rows.append([result.fleet.name, *figures, f"{result.lock_waits:,}", f"{result.deadlocks:,}"])
    columns = [
        "tasks",
        "tasks/s",
        "of a replica",
        "at once",
        "claims/task",
        "MariaDB ms",
        "schedulers ms",
        "API ms",
        "engines ms",
    ]
    return table(["replicas × slots", *columns, "lock waits", "deadlocks"], rows)


def claim_table(phases: Sequence[Phase]) -> str:
    """One row per number of claimers."""
    rows = []
    for claimers in CLAIMERS:
        mine = [phase for phase in phases if phase.claimers == claimers]
        latencies = [
            spread([quantile_of(phase.merged(times), quantile) for phase in mine], 2)
            for times in ("claim_ms", "record_ms")
            for quantile in (0.5, 0.99)
        ]
        tasks = sum(phase.tasks for phase in mine)
        counts = [
            sum(log.retries for phase in mine for log in phase.logs),
            *(
                sum(phase.status[name] for phase in mine)
                for name in ("innodb_row_lock_waits", "innodb_deadlocks")
            ),
        ]
        reads = sum(
            phase.status["handler_read_key"] + phase.status["handler_read_next"] for phase in mine
        ) / max(1, tasks)
        costs = [
            spread([getattr(phase, cost) for phase in mine], 2)
            for cost in ("wall_ms", "server_ms", "client_ms")
        ]
        rows.append(
            [
                str(claimers),
                f"{tasks:,}",
                *costs,
                *latencies,
                *(f"{count:,}" for count in counts),
                f"{reads:.1f}",
            ]
        )
    columns = ["tasks", "wall ms/task", "MariaDB CPU ms/task", "client CPU ms/task"]
    columns += [
        "claim p50 ms",
        "claim p99 ms",
        "record p50 ms",
        "record p99 ms",
        "retries",
        "lock waits",
        "deadlocks",
        "rows read/task",
    ]
    return table(["claimers", *columns], rows)


def probe_table(probes: Sequence[Probe]) -> str:
    """One row per obstacle."""
    rows = [
        [
            item.name,
            f"{item.claimed} of {len(item.claim_ms)}",
            *(f"{quantile_of(item.claim_ms, quantile):.2f}" for quantile in (0.5, 0.99)),
            f"{item.entries:,.1f}",
            f"{item.reads:,.1f}",
            f"{quantile_of(item.due_ms, 0.5):.2f}",
        ]
        for item in probes
    ]
    return table(
        [
            "obstacle",
            "claimed",
            "claim p50 ms",
            "p99 ms",
            "index entries/claim",
            "rows read/claim",
            "next run p50 ms",
        ],
        rows,
    )


def ratios(phases: Sequence[Phase], cost: Callable[[Phase], float]) -> list[float]:
    """The cost per task with the most claimers by that with one, in each repeat."""
    one, most = (
        [cost(phase) for phase in phases if phase.claimers == claimers] for claimers in (1, max(CLAIMERS))
    )
    return [many / single for single, many in zip(one, most, strict=True)]


def goal_lines(
    results: Sequence[FleetResult], phases: Sequence[Phase], faults: Sequence[str]
) -> Iterator[str]:
    """A line per goal, with its figure."""
    fleet = results[-1].fleet
    verdict = "MISSED" if any(result.faults for result in results) or faults else "holds"
    yield f"- {verdict}: {fleet.name} slots, {fleet.tasks:,} tasks: each ran exactly once, on its first attempt, and kept that result"
    for name, cost in (
        ("wall time", lambda phase: phase.wall_ms),
        ("CPU of MariaDB", lambda phase: phase.server_ms),
    ):
        found = ratios(phases, cost)
        verdict = "holds" if statistics.median(found) <= COST_LIMIT else "MISSED"
        text = f"claim and record, {name} per task, {max(CLAIMERS)} claimers ÷ 1: {spread(found, 2)}"
        yield f"- {verdict}: {text}; goal at most {COST_LIMIT:g}"
    one, most = (result.server_cpu / result.fleet.tasks for result in (results[0], results[-1]))
    verdict = "holds" if most / one <= COST_LIMIT else "MISSED"
    yield f"- {verdict}: whole service, CPU of MariaDB per task, {fleet.name} slots ÷ 1 × 1: {most / one:.2f}; goal at most {COST_LIMIT:g}"


def report(
    results: Sequence[FleetResult],
    phases: Sequence[Phase],
    probes: Sequence[Probe],
    faults: Sequence[str],
    plan: Plan,
    head: str,
) -> str:
    """All of it as Markdown."""
    return "\n\n".join(
        [
            "# qtm under contention",
            head,
            "## Replicas, real processes",
            fleet_table(results),
            f"## Claims by the DAO, {plan.pending:,} pending and {plan.finished:,} finished tasks, {plan.repeats} repeats, "
            "min – median – max",
            claim_table(phases),
            "## One claim behind obstacles",
            probe_table(probes),
            "## Goals",
            "\n".join(goal_lines(results, phases, faults)),
        ]
    )


# -- the command
# -------------------------------------------------------------------------------------------------------


def run(plan: Plan) -> int:
    """Measure everything and print it; 1 when a task did not run exactly once, or an error happened."""
    before = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="qtm-bench-") as name,
        PrivateMariaDB(buffer_pool=BUFFER_POOL) as mariadb,
    ):
        results = []
        for fleet in plan.fleets:
            tell(f"{fleet.name} slots, {fleet.tasks:,} tasks")
            results.append(
                run_fleet(mariadb, fleet, plan, Path(name) / f"fleet_{fleet.replicas}_{fleet.slots}")
            )
        with ClaimSite(mariadb, plan) as site:
            phases = measure_claims(site)
            faults = claim_faults(site, phases)
            probes: list[Probe] = []
            for obstacle in (behind_locks, behind_waiting, behind_snapshot):
                tell(obstacle.__name__.replace("_", " "))
                probes += obstacle(site)
        version = str(mariadb.execute("SELECT VERSION()")[0][0])
    faults += [fault for result in results for fault in result.faults]
    head = (
        f"Python {platform.python_version()}, MariaDB {version}; {os.cpu_count()} cores for all processes together; load average before "
        f"{before:.1f}, after {os.getloadavg()[0]:.1f}. Commits are durable. CPU times are per task."
    )
    sys.stdout.write(report(results, phases, probes, faults, plan, head) + "\n")
    for fault in faults[:20]:
        sys.stdout.write(f"\nERROR: {fault}\n")
    return 1 if faults else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Run replicas against each other on a private MariaDB, and measure claims."
    )
    parser.add_argument(
        "--quick", action="store_true", help="1,000 tasks and no finished ones: under a minute"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server's folder is removed
    forget_settings()
    try:
        return run(QUICK if options.quick else Plan())
    except WrongAnswer as error:
        sys.stderr.write(f"wrong answer: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
