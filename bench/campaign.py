"""The fault campaign: nothing lost, nothing twice, nothing stuck, whatever is killed, frozen or refused meanwhile.

    python bench/campaign.py --database both --seed 7          the quick form, about a minute
    python bench/campaign.py --database mariadb --minutes 60   the long form
    python bench/campaign.py --database galera                 a cluster of three nodes
    python bench/campaign.py --tasks-per-process 20            with warm engine processes

Services run as real processes, clients create, cancel and retry tasks, and a seeded plan of faults strikes both: the
processes of a service (itself, its engine server, engine hosts, engines, all at once; frozen past the lease; stopped by
SIGTERM), some at a moment of their own (killed right after the COMMIT of a claim, so before its tasks have started; killed
right after a COMMIT of outcomes; frozen as soon as an engine has ended, so before its outcome is recorded), and the database:
MariaDB (killed, frozen, read-only, its connections killed or used up) or nodes of a cluster (one killed or frozen, two of
three frozen). Who was killed is started again, as Kubernetes would. The same seed gives the same plan; the moments within the
service differ.

The oracle stands outside the service and believes none of its logs. It has three sources:

* the **history**: what clients were told. A create that was answered is acknowledged with all its task ids; a cancel that
  was answered by 200 binds the task to ``cancelled`` until the client retries it. Requests that lost their connection, or
  got 503, are sent again until they are answered, a create with its Idempotency-Key; some creates are sent twice from the
  start. Every status that any answer showed is an observation with the moments before and after its request; an end that
  one observation saw and a later one does not see is a changed end, unless the client's own retry lies between.
* the **ledger**: what engines did. Each execution appends its begin, its ticks and its end to one file (task, attempt, a
  nonce of its own, pid and start time of the process, monotonic time), each line by one write. A result carries the
  nonce, so that it names the one execution that it came from. Grandchildren are in the ledger, too.
* the **database**, at the end, through a fresh service and directly.

What must be zero, each with the evidence for it:

* lost: acknowledged tasks that are not there; unasked: tasks that are there and that no client was told of.
* double: a completed task whose result changed, or is not that of an execution of its own accepted attempt that ended well.
* changed: a terminal status that became another one without a retry. undone: an acknowledged cancel that did not hold.
* wrong: a task that ended otherwise than its kind must (kinds that fail on purpose must fail, all others must complete).
* stuck: tasks that are pending or running at the end, and due, while nothing changes for the lease, two polls and the time that
  the longest task takes.
* orphans: processes of engines, and what they started, that outlive their attempt; zombies of a service. A warm engine that waits for
  its next attempt, and one that waits for its first, are none as long as their service runs.
* leaked: temporary files, and descriptors of a service that is idle.
* unexplained: overlapping executions of one task that nothing explains. An overlap is legitimate in three cases only: the
  service that ran one of them was frozen past its lease, or it alone was cut off from the database that long, so that others
  took the task back while its engine ran on; or the client cancelled the task and retried it within the heartbeat and the
  grace that a cancel may take to reach the engine. The outcome of the earlier one is void each time.
* wasted: an execution that ended well and whose outcome was thrown away, although its client asked for no change and its
  service was neither killed, nor frozen, nor stopped, nor cut off alone: the database was merely away (guarantee G6).
* exits: a service that ended by itself, or not with code 0 after SIGTERM.
* answers: a status of 5xx other than 503, a 503 without Retry-After, or no answer at all once the faults are over.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import pymysql
import pymysql.cursors
from private_galera import PrivateGalera
from private_mariadb import PrivateMariaDB, die_with_parent, free_port

T = TypeVar("T")
ROOT = pathlib.Path(__file__).resolve().parent.parent
API = "/api/v1/backtest"
CONFIG = {
    "strategy": "campaign",
    "start_date": "2005-01-03",
    "end_date": "2012-12-31",
    "initial_cash": 100000,
    "commission": 0.001,
}

HEARTBEAT_SECONDS = 0.5
LEASE_SECONDS = 2.5
POLL_SECONDS = 1.0
SETTINGS = {
    "QTM_ENGINE": "campaign_engine:run",
    "QTM_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
    "QTM_LEASE_SECONDS": str(LEASE_SECONDS),
    "QTM_POLL_SECONDS": str(POLL_SECONDS),
    "QTM_RETRY_BACKOFF_SECONDS": "0.05",
    "QTM_SHUTDOWN_GRACE_SECONDS": "1",
    "QTM_TASK_TIMEOUT_SECONDS": "120",
}

CLIENTS = 6
OPEN_BATCHES = 3  # of one client, so that the backlog stays short and the last deadline tight
# longer than any freeze: a client that gives up early would leave requests behind that apply later
REQUEST_SECONDS = 40.0
START_SECONDS = 40.0  # of a service, on a busy machine
STOP_SECONDS = 40.0  # above the service's own longest stop
SETTLE_SECONDS = 90.0  # for clients to get their last answers once the faults are over
# no change for so long means stuck: the longest task, and a busy machine
STILL_SECONDS = LEASE_SECONDS + 2 * POLL_SECONDS + 7.0 + 3.0
QUIET_SECONDS = 300.0  # however much changes, the backlog is worked off by then
GONE_SECONDS = 10.0  # for processes to be gone: the kill grace is 2 s
# Of an idle service, beside its slots: standard ones, the pool, three per SQLite connection, sockets.
OWN_DESCRIPTORS = 40
SLOT_DESCRIPTORS = 7  # two to wake it, and five of its host
KEPT_EVIDENCE = 20

ENGINE = r'''"""Backtests that misbehave on purpose; each tells a ledger what it does."""

import json
import os
import signal
import subprocess
import time

import qtm

LEDGER = os.open(os.environ["CAMPAIGN_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
REPLICA = os.environ["CAMPAIGN_REPLICA"]


def born(pid):
    """When a process started, in clock ticks since boot: with the pid it names the process for good."""
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[19])


class Execution:
    """One run of one attempt, and its lines in the ledger."""

    def __init__(self, task, progress):
        self.task, self.progress, self.nonce = task, progress, os.urandom(8).hex()
        self.seconds, self.failures = task.params["seconds"], task.params["failures"]

    def note(self, event, pid=None, **more):
        pid = pid or os.getpid()
        line = {"event": event, "task": self.task.task_id, "attempt": self.task.attempt, "nonce": self.nonce, "replica": REPLICA}
        line.update(more, pid=pid, born=born(pid), parent=os.getppid(), ns=time.monotonic_ns())
        os.write(LEDGER, json.dumps(line).encode() + b"\n")

    def work(self):
        end = time.monotonic() + self.seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(0.1, left))
            self.note("tick")
            self.progress(1.0 - left / self.seconds, f"{left:.1f} s left")

    @property
    def must_fail(self):
        return self.task.attempt <= self.failures


def quick(run):
    print("done", run.task.task_id)


def slow(run):
    run.work()


def flaky(run):
    if run.must_fail:
        raise RuntimeError("for the campaign")
    run.work()


def crash(run):
    run.work()
    if run.must_fail:
        os.kill(os.getpid(), signal.SIGKILL)


def leave(run):
    run.work()
    if run.must_fail:
        os._exit(0)


def daemon(run):
    """Leaves a grandchild in a session of its own behind, and one below that."""
    child = subprocess.Popen(["sh", "-c", "sleep 900 & exec sleep 900"], start_new_session=True)
    run.note("child", child.pid)
    run.work()


def refused(run):
    raise qtm.InvalidTask("for the campaign")


def stubborn(run):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run.work()


def run(task, progress):
    execution = Execution(task, progress)
    execution.note("begin")
    try:
        globals()[task.params["does"]](execution)
    except BaseException as error:
        execution.note("end", how=type(error).__name__)
        raise
    execution.note("end", how="result")
    return {"task_id": task.task_id, "attempt": task.attempt, "nonce": execution.nonce}
'''


class Kind(NamedTuple):
    """What a task does: a function of the engine, how long (seconds, from-to), in how many attempts it fails,
    how it must end."""

    does: str
    low: float
    high: float
    failures: int
    end: str


KINDS: Mapping[str, Kind] = {
    "quick": Kind("quick", 0.0, 0.0, 0, "completed"),
    "slow": Kind("slow", 0.2, 2.0, 0, "completed"),
    # outlasts a lease, so that a freeze makes others run it, too
    "patient": Kind("slow", 4.0, 7.0, 0, "completed"),
    "flaky": Kind("flaky", 0.0, 0.3, 2, "completed"),
    "crash": Kind("crash", 0.0, 0.5, 1, "completed"),
    "leave": Kind("leave", 0.0, 0.5, 1, "completed"),
    "daemon": Kind("daemon", 0.1, 0.6, 0, "completed"),
    "refused": Kind("refused", 0.0, 0.0, 0, "failed"),
    "broken": Kind("flaky", 0.0, 0.0, 1_000_000, "failed"),
    "doomed": Kind("crash", 0.0, 0.2, 1_000_000, "failed"),
    # These run for 90 s unless they are cancelled, as they always are.
    "endless": Kind("slow", 90.0, 90.0, 0, "cancelled"),
    "stubborn": Kind("stubborn", 90.0, 90.0, 0, "cancelled"),
}
GOOD = ("quick", "quick", "slow", "slow", "flaky", "crash", "leave", "daemon")
BAD = ("refused", "broken", "doomed")
LONG = ("endless", "stubborn")
BURST = ("quick",) * 20  # of one batch, so that claims and outcomes come in groups
FINAL = ("completed", "failed", "cancelled")


# -- processes
# ---------------------------------------------------------------------------------------------------------


PARTS: Mapping[str, Sequence[str]] = {
    "server": ("qtm-server",),
    "host": ("qtm-host",),
    "engine": ("qtm-engine",),
}


class Process(NamedTuple):
    """A process as /proc shows it; pid and ``born`` (clock ticks since boot) together are never used
    again."""

    pid: int
    name: str  # as `ps` shows it
    parent: int
    state: str
    born: int


def process_of(pid: int) -> Process | None:
    """The process that has this pid now, or None."""
    try:
        head, _, tail = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return None
    fields = tail.split()
    return Process(pid, head.partition("(")[2], int(fields[1]), fields[0], int(fields[19]))


def marked_processes(mark: str) -> list[Process]:
    """All processes whose environment holds ``CAMPAIGN_REPLICA=`` and a value that starts with ``mark``.

    The mark stays with every descendant, however it re-parents, and whatever session it makes. Zombies have
    lost it.
    """
    wanted = b"CAMPAIGN_REPLICA=" + mark.encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in pathlib.Path(f"/proc/{name}/environ").read_bytes():
                    found.append(process_of(int(name)))
    return [process for process in found if process]


def signal_process(process: Process, number: int) -> bool:
    """Send a signal, unless the pid belongs to another process by now."""
    now = process_of(process.pid)
    if now is None or now.born != process.born or now.state == "Z":
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
        return True
    return False


# -- what was found
# ----------------------------------------------------------------------------------------------------

ZERO = (
    "lost", "unasked", "double", "changed", "undone", "wrong", "stuck", "orphans", "leaked", "unexplained", "wasted", "exits", "answers",
)  # fmt: skip


class Findings:
    """The evidence, by name. Written by every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the dict
        self._found: dict[str, list[str]] = defaultdict(list)

    def add(self, name: str, evidence: str) -> None:
        """One more finding."""
        with self._lock:
            self._found[name].append(evidence)

    def count(self, name: str) -> int:
        """How many there are under this name."""
        with self._lock:
            return len(self._found[name])

    def evidence(self) -> list[str]:
        """The first of each, as sentences."""
        with self._lock:
            return [f"{name}: {text}" for name in ZERO for text in self._found[name][:KEPT_EVIDENCE]]


class Interval(NamedTuple):
    """A span of the monotonic clock, in seconds."""

    begin: float
    end: float

    def meets(self, other: Interval) -> bool:
        """Whether the two have a moment in common."""
        return self.begin <= other.end and other.begin <= self.end


@dataclass
class Told:
    """An acknowledged task, and what its client did and saw. Guarded by the history's lock."""

    task_id: str
    batch_id: str
    kind: str
    cancelled: bool = False  # acknowledged for this task
    batch_cancelled: bool = False  # acknowledged for its batch: it has ended, whichever way
    settled_at: float = float("inf")  # when that answer came
    # begin and end of each retry; the end is infinite until answered
    retries: list[list[float]] = field(default_factory=list)
    end: tuple[str, Interval] | None = None  # the terminal status that was seen last
    nonce: str | None = None  # of the result that was seen

    def retried_in(self, span: Interval) -> bool:
        """Whether a retry may have been applied in this span."""
        return any(span.meets(Interval(begin, end)) for begin, end in self.retries)

    def ends_allowed(self) -> set[str]:
        """How it may end, by what its client was told."""
        if self.cancelled:
            return {"cancelled"}
        return {KINDS[self.kind].end, "cancelled"} if self.batch_cancelled else {KINDS[self.kind].end}


class History:
    """What was acknowledged and observed. Written by clients and the watcher, read by the oracle."""

    def __init__(self, findings: Findings) -> None:
        self._lock = threading.Lock()  # guards everything in here
        self._findings = findings
        self.tasks: dict[str, Told] = {}
        self.batches: dict[str, list[str]] = {}
        self.acknowledged_calls = 0
        self.longest_answer = 0.0

    def created(self, batch_id: str, task_ids: Sequence[str], kinds: Sequence[str]) -> None:
        """A create was answered by 201, or by 200 for a repeat."""
        with self._lock:
            self.acknowledged_calls += 1
            self.batches[batch_id] = list(task_ids)
            self.tasks.update(
                {one: Told(one, batch_id, kind) for one, kind in zip(task_ids, kinds, strict=True)}
            )

    def cancelled(self, task_id: str, at: float) -> None:
        """A cancel of one task was answered by 200."""
        with self._lock:
            self.acknowledged_calls += 1
            told = self.tasks[task_id]
            told.cancelled, told.settled_at = True, at

    def batch_cancelled(self, batch_id: str, at: float) -> None:
        """A cancel of a batch was answered by 200."""
        with self._lock:
            self.acknowledged_calls += 1
            for told in (self.tasks[one] for one in self.batches[batch_id]):
                told.batch_cancelled, told.settled_at = True, at

    def retrying(self, task_ids: Sequence[str]) -> None:
        """A retry of these tasks will be sent now: from here on their ends may change."""
        with self._lock:
            for one in task_ids:
                self.tasks[one].retries.append([time.monotonic(), float("inf")])

    def retried(self, task_ids: Sequence[str], happened: bool) -> None:
        """The retry was answered; when it happened, no cancel of before binds any longer."""
        with self._lock:
            self.acknowledged_calls += 1
            for told in (self.tasks[one] for one in task_ids):
                told.retries[-1][1] = time.monotonic()
                if happened:
                    told.cancelled = told.batch_cancelled = False
                    told.settled_at = float("inf")

    def observe(self, task_id: str, status: str, seen: Interval, nonce: str | None = None) -> None:
        """An answer showed this status (and the nonce of the result) at some moment of ``seen``."""
        with self._lock:
            told = self.tasks.get(task_id)
            if told is None:
                return  # its create was not answered yet
            before, when = told.end or (status, seen)
            if (
                status != before
                and when.end < seen.begin
                and not told.retried_in(Interval(when.begin, seen.end))
            ):
                self._findings.add("changed", f"task {task_id} was {before}, then {status}")
            if (
                status not in FINAL
                and told.settled_at < seen.begin
                and not told.retried_in(Interval(told.settled_at, seen.end))
            ):
                self._findings.add("undone", f"task {task_id} is {status} after its cancel was acknowledged")
            if nonce and told.nonce and nonce != told.nonce:
                self._findings.add("double", f"the result of task {task_id} changed")
            told.nonce = told.nonce or nonce
            if told.end is None or told.end[1].end < seen.begin:
                told.end = (status, seen) if status in FINAL else None

    def batch_ids(self) -> list[str]:
        """All acknowledged batches."""
        with self._lock:
            return list(self.batches)

    def answered_in(self, seconds: float) -> None:
        """How long an answer took."""
        with self._lock:
            self.longest_answer = max(self.longest_answer, seconds)


# -- the databases
# -----------------------------------------------------------------------------------------------------

# a fault under way: it yields how long to wait before it goes on, and puts things right when closed
Steps = Iterator[float]


class SQLiteTarget:
    """A SQLite file; what can happen to it happens to the one process that holds it."""

    name = "sqlite"
    workers = 4  # of its one service
    good: Sequence[str] = GOOD  # kinds of tasks that complete

    def __init__(self, folder: pathlib.Path) -> None:
        self._path = folder / "qtm.db"
        self.url = f"sqlite:///{self._path}"
        self.faults: Mapping[str, tuple[Callable[[float], Steps], float, float]] = {}

    def start(self) -> None:
        """There is nothing to start."""

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """Ask the file itself, once no service holds it."""
        with contextlib.closing(sqlite3.connect(self._path)) as connection:
            return list(connection.execute(sql))

    def look(self, sql: str) -> list[tuple[object, ...]]:
        """Ask the file beside the service. Raises sqlite3.Error."""
        with contextlib.closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as connection:
            return list(connection.execute(sql))

    def problems(self) -> list[str]:
        """What SQLite finds wrong with its file."""
        return [str(row[0]) for row in self.rows("PRAGMA integrity_check") if row[0] != "ok"]

    def remove(self) -> None:
        """The folder goes as a whole."""


class MariaDBTarget:
    """A private server, with an account for qtm that read_only and max_connections hold for."""

    name = "mariadb"
    workers = 2  # of each service
    good: Sequence[str] = (*GOOD, "patient")

    def __init__(self) -> None:
        self._server = PrivateMariaDB(buffer_pool="64M")
        self.url = f"mysql://qtm:campaign@127.0.0.1:{self._server.port}/qtm"
        self.faults: Mapping[str, tuple[Callable[[float], Steps], float, float]] = {
            "database killed": (self._killed, 0.1, 1.5),
            "database frozen": (self._frozen, 0.5, LEASE_SECONDS + 2.0),
            "connections killed": (self._connections_killed, 0.3, 1.0),
            "read-only": (self._read_only, 0.3, 2.5),
            "too many connections": (self._too_many_connections, 0.3, LEASE_SECONDS + 1.5),
        }

    def start(self) -> None:
        """Start the server and make the accounts."""
        self._server.start()
        self._server.create_database("qtm")
        self._server.execute(
            "CREATE USER qtm@'127.0.0.1' IDENTIFIED BY 'campaign'",
            "GRANT ALL ON qtm.* TO qtm@'127.0.0.1'",
            "CREATE USER crowd@'127.0.0.1'",
        )

    def _killed(self, seconds: float) -> Steps:
        self._server.kill()
        try:
            yield seconds
        finally:
            self._server.start()

    def _frozen(self, seconds: float) -> Steps:
        self._server.freeze()
        try:
            yield seconds
        finally:
            self._server.thaw()

    @contextlib.contextmanager
    def _root(self) -> Iterator[pymysql.cursors.Cursor]:
        """A cursor of a connection that stays, for faults that would keep a new one out."""
        connection = pymysql.connect(
            host="127.0.0.1", port=self._server.port, user="root", autocommit=True, ssl_disabled=True
        )
        try:
            yield connection.cursor()
        finally:
            connection.close()

    def _kill_connections(self, cursor: pymysql.cursors.Cursor) -> None:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE user = 'qtm'")
        for (number,) in cursor.fetchall():
            with contextlib.suppress(pymysql.err.OperationalError):  # it has gone by itself
                cursor.execute(f"KILL CONNECTION {number}")

    def _connections_killed(self, seconds: float) -> Steps:
        with self._root() as cursor:
            for _ in range(5):
                self._kill_connections(cursor)
                yield seconds / 5

    def _read_only(self, seconds: float) -> Steps:
        self._server.execute("SET GLOBAL read_only = 1")
        try:
            yield seconds
        finally:
            self._server.execute("SET GLOBAL read_only = 0")

    def _too_many_connections(self, seconds: float) -> Steps:
        """A crowd takes all the places that qtm's killed connections leave."""
        crowd: list[pymysql.Connection[Any]] = []
        end = time.monotonic() + seconds
        with self._root() as cursor:
            cursor.execute("SET GLOBAL max_connections = 10")
            try:
                while time.monotonic() < end:
                    self._kill_connections(cursor)
                    with contextlib.suppress(pymysql.err.Error):
                        while len(crowd) < 12:
                            crowd.append(
                                pymysql.connect(
                                    host="127.0.0.1", port=self._server.port, user="crowd", ssl_disabled=True
                                )
                            )
                    yield 0.1
            finally:
                for connection in crowd:
                    connection.close()
                cursor.execute("SET GLOBAL max_connections = 300")

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """Ask the server itself."""
        return self._server.execute("USE qtm", sql)

    look = rows

    def problems(self) -> list[str]:
        """What the server finds wrong with its tables."""
        return [
            str(row)
            for row in self.rows(
                "CHECK TABLE backtest_tasks, backtest_results, backtest_batches, backtest_metrics"
            )
            if row[3] != "OK"
        ]

    def remove(self) -> None:
        """End the server, delete its folder."""
        self._server.remove()


class GaleraTarget:
    """A cluster of three nodes, all of which every service knows, in the same order."""

    name = "galera"
    workers = 2  # of each service
    good: Sequence[str] = (*GOOD, "patient")

    def __init__(self) -> None:
        self._cluster = PrivateGalera()
        self._next = 0  # the node that is struck next
        self.url = ""
        self.faults: Mapping[str, tuple[Callable[[float], Steps], float, float]] = {
            "node killed": (self._node_killed, 0.5, LEASE_SECONDS + 2.0),
            "node frozen": (self._node_frozen, 0.5, LEASE_SECONDS + 4.0),
            "majority frozen": (self._majority_frozen, 0.5, LEASE_SECONDS + 4.0),
        }

    def start(self) -> None:
        """Start the nodes."""
        self._cluster.start()
        self.url, _ = self._cluster.create_database("qtm")

    def _struck(self) -> PrivateMariaDB:
        self._next = (self._next + 1) % len(self._cluster.nodes)
        return self._cluster.nodes[self._next]

    def _node_killed(self, seconds: float) -> Steps:
        node = self._struck()
        node.kill()
        try:
            yield seconds
        finally:
            self._cluster.rejoin(node)

    def _frozen(self, nodes: Sequence[PrivateMariaDB], seconds: float) -> Steps:
        for node in nodes:
            node.freeze()
        try:
            yield seconds
        finally:
            for node in nodes:
                node.thaw()
            self._cluster.await_ready()

    def _node_frozen(self, seconds: float) -> Steps:
        return self._frozen([self._struck()], seconds)

    def _majority_frozen(self, seconds: float) -> Steps:
        return self._frozen([self._struck(), self._struck()], seconds)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """Ask the first node."""
        return self._cluster.nodes[0].execute("SET SESSION wsrep_sync_wait = 1", "USE qtm", sql)

    def problems(self) -> list[str]:
        """What the nodes hold differently: they must be the same."""
        tables = "backtest_tasks, backtest_results, backtest_batches, backtest_attempts, backtest_metrics"
        sums = [
            str(node.execute("SET SESSION wsrep_sync_wait = 1", "USE qtm", f"CHECKSUM TABLE {tables}"))
            for node in self._cluster.nodes
        ]
        return sums if len(set(sums)) > 1 else []

    def remove(self) -> None:
        """End the nodes, delete their folders."""
        self._cluster.remove()


Target = SQLiteTarget | MariaDBTarget | GaleraTarget
# What each worker has claimed, and what it has completed, by the database.
CLAIMS = "SELECT worker_id, SUM(attempt) FROM backtest_tasks WHERE worker_id IS NOT NULL GROUP BY worker_id"
RECORDS = "SELECT worker_id, COUNT(*) FROM backtest_tasks WHERE worker_id IS NOT NULL AND status = 'completed' GROUP BY worker_id"
# Faults of a database that cut off some services and not others: which node each is at, and whether it still
# gets a connection.
CUT_OFF_SOME = ("too many connections", "node killed", "node frozen", "majority frozen")


# -- the services
# ------------------------------------------------------------------------------------------------------


class Replica:
    """One service, started again whenever it ends. Used by the main thread alone, but for ``port``."""

    def __init__(
        self,
        folder: pathlib.Path,
        mark: str,
        index: int,
        target: Target,
        findings: Findings,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.mark = f"{mark}-{index}"
        self.port = free_port()
        self.pids: list[int] = []  # of all its services so far
        self.is_doomed = False  # killed by us: any exit is right
        self.is_stopping = False  # SIGTERM was sent: code 0 is right
        self.ledger = folder / "ledger"
        self._folder, self._target, self._findings, self._index = folder, target, findings, index
        self._arguments = list(arguments)
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "none"
        self._next_start = 0.0

    @property
    def pid(self) -> int:
        """Of the present service, dead or alive."""
        return self.pids[-1]

    def start(self) -> None:
        """Start a service; main thread only, since it dies with the thread that started it."""
        environment = {name: text for name, text in os.environ.items() if not name.startswith("QTM_")}
        environment.update(SETTINGS, **self._environment)
        environment.update(
            QTM_DATABASE_URL=self._target.url, QTM_WORKERS=str(self._target.workers), QTM_PORT=str(self.port)
        )
        environment.update(CAMPAIGN_REPLICA=self.mark, CAMPAIGN_LEDGER=str(self.ledger))
        environment.update(PYTHONPATH=str(self._folder), TMPDIR=str(self._folder / "tmp"))
        self._log = self._folder / f"service-{self._index}-{len(self.pids) + 1}.log"
        command = [sys.executable, str(ROOT / "qtm.py"), "serve", *self._arguments]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.pids.append(self._process.pid)
        self.is_doomed = self.is_stopping = False

    def is_running(self) -> bool:
        """Whether the present service lives."""
        return self._process is not None and self._process.poll() is None

    def tend(self) -> None:
        """Start it again when it has ended. An end that nobody asked for is a finding."""
        if self._process and self._process.poll() is not None:
            self._judge_exit(self._process.returncode)
            self._process = None
            self._next_start = time.monotonic() + 0.1
        if self._process is None and time.monotonic() >= self._next_start:
            self.start()

    def _judge_exit(self, code: int) -> None:
        log = self._log.read_text(errors="replace")
        refused_start = code == 1 and "serving" not in log  # the database was away when it started
        right = self.is_doomed or (
            self.is_stopping and code in (0, -signal.SIGTERM) if "serving" not in log else code == 0
        )
        if not right and not refused_start:
            self._findings.add(
                "exits",
                f"{self.mark} (pid {self.pid}) ended with code {code}; its log ends with:\n{log[-2000:]}",
            )
        elif not self.is_doomed and not self.is_stopping and not refused_start:
            self._findings.add("exits", f"{self.mark} (pid {self.pid}) ended by itself with code {code}")

    def kill(self) -> int:
        """SIGKILL to the service; how many processes were hit."""
        if not self.is_running():
            return 0
        self.is_doomed = True
        os.kill(self.pid, signal.SIGKILL)
        return 1

    def kill_all(self) -> int:
        """SIGKILL to everything that this replica started, until nothing is left: as when a container is
        killed."""
        self.is_doomed = True
        count = 0
        for _ in range(100):
            victims = marked_processes(self.mark)
            if not victims:
                break
            count += sum(signal_process(victim, signal.SIGKILL) for victim in victims)
        return count

    def terminate(self) -> None:
        """SIGTERM: a graceful stop."""
        if self.is_running():
            self.is_stopping = True
            os.kill(self.pid, signal.SIGTERM)

    def send(self, number: int) -> None:
        """Any signal to the service."""
        if self.is_running():
            os.kill(self.pid, number)

    def parts(self) -> dict[str, list[Process]]:
        """Its living processes below the service, by role. A server that has just forked a host is still told
        by its parent."""
        below = [
            process
            for process in marked_processes(self.mark)
            if process.pid != self.pid and process.state != "Z"
        ]
        found = {
            role: [process for process in below if process.name in names] for role, names in PARTS.items()
        }
        found["server"] = [process for process in found["server"] if process.parent == self.pid]
        return found

    def stop(self) -> None:
        """SIGTERM for the last time, and wait; not ending, or another code than 0, is a finding."""
        self.terminate()
        if self._process is None:
            return
        try:
            self._judge_exit(self._process.wait(STOP_SECONDS))
        except subprocess.TimeoutExpired:
            self._findings.add(
                "exits", f"{self.mark} (pid {self.pid}) did not end within {STOP_SECONDS:g} s of SIGTERM"
            )
            self._process.kill()
            self._process.wait()
        self._process = None

    def remove(self) -> None:
        """Leave nothing behind, whatever happened."""
        self.send(signal.SIGCONT)
        self.kill_all()
        if self._process:
            self._process.wait()
            self._process = None


# -- clients
# -----------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What came of a request; status 0 when the connection was refused or lost."""

    status: int
    data: Any
    seen: Interval


class Unanswered(Exception):
    """A request got no answer although the faults are over."""


class Caller:
    """Sends requests to any of the replicas, and again until they are answered. One per thread."""

    def __init__(
        self,
        ports: Sequence[int],
        rng: random.Random,
        history: History,
        findings: Findings,
        faults_over: threading.Event,
    ) -> None:
        self.rng = rng
        self.history = history
        self._ports = ports
        self._findings = findings
        self._faults_over = faults_over

    def abandon(self, path: str, body: object, key: str) -> None:
        """Send a create and hang up before its answer: it happens now, later, or never. Its repeat must not
        happen as well."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.rng.choice(self._ports), timeout=REQUEST_SECONDS
        )
        with contextlib.suppress(OSError):
            connection.request(
                "POST", path, json.dumps(body), {"Content-Type": "application/json", "Idempotency-Key": key}
            )
        connection.close()

    def once(self, port: int, method: str, path: str, body: object = None, key: str | None = None) -> Answer:
        """One request to one service. What no fault excuses is a finding."""
        headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS)
        started = time.monotonic()
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            return Answer(0, None, Interval(started, time.monotonic()))
        finally:
            connection.close()
        ended = time.monotonic()
        self.history.answered_in(ended - started)
        if (response.status >= 500 and response.status != 503) or (
            response.status == 503 and not response.headers.get("Retry-After")
        ):
            self._findings.add("answers", f"{method} {path}: {response.status} {text[:300]!r}")
        return Answer(response.status, json.loads(text)["data"], Interval(started, ended))

    def call(self, method: str, path: str, body: object = None, key: str | None = None) -> Answer:
        """A request, sent again to any service until it is answered. Raises Unanswered when the faults are
        over for long."""
        given_up: float | None = None
        while True:
            answer = self.once(self.rng.choice(self._ports), method, path, body, key)
            if answer.status not in (0, 500, 503):
                return answer
            if self._faults_over.is_set():
                given_up = given_up or time.monotonic() + SETTLE_SECONDS
                if time.monotonic() > given_up:
                    self._findings.add(
                        "answers",
                        f"{method} {path}: no answer within {SETTLE_SECONDS:g} s after the last fault",
                    )
                    raise Unanswered(path)
            time.sleep(0.05)

    def read_batch(self, batch_id: str, wait: float = 0.0) -> list[dict[str, Any]] | None:
        """The tasks of an acknowledged batch, observed; None (a finding) when it is not there."""
        answer = self.call("GET", f"{API}/getTasksByBatch?batch_id={batch_id}&wait={wait:g}")
        if answer.status == 404:
            self._findings.add("lost", f"the acknowledged batch {batch_id} is not there")
            return None
        for task in answer.data["tasks"]:
            self.history.observe(task["task_id"], task["status"], answer.seen)
        return list(answer.data["tasks"])

    def read_result(self, task_id: str) -> dict[str, Any] | None:
        """The result of a task that is completed, observed; None (a finding) when it is not there."""
        answer = self.call("GET", f"{API}/getTaskResult?task_id={task_id}")
        if answer.status != 200 or not answer.data["result"]:
            self._findings.add(
                "double", f"the completed task {task_id} has no result: {answer.status} {answer.data}"
            )
            return None
        found: dict[str, Any] = answer.data
        self.history.observe(task_id, found["status"], answer.seen, found["result"]["nonce"])
        return found


class Client(threading.Thread):
    """Creates batches, changes its mind about some, and follows them; ends with no request open."""

    def __init__(self, number: int, caller: Caller, stop: threading.Event, good: Sequence[str]) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self._number = number
        self._caller = caller
        self._good = good
        self._stop_asked = stop
        self._open: list[str] = []
        self._count = 0

    def run(self) -> None:
        """Until it is asked to stop."""
        with contextlib.suppress(Unanswered):
            while not self._stop_asked.is_set():
                self._one_batch()
                while len(self._open) > OPEN_BATCHES and not self._stop_asked.is_set():
                    tasks = self._caller.read_batch(self._open[0], wait=0.5)
                    if tasks is None or all(task["status"] in FINAL for task in tasks):
                        self._retry_some(self._open.pop(0), tasks or [])

    def _one_batch(self) -> None:
        rng = self._caller.rng
        kinds = (
            rng.choices(BAD, k=rng.randint(1, 2))
            if rng.random() < 0.2
            else rng.choices(self._good, k=rng.randint(1, 5))
        )
        if rng.random() < 0.1:
            kinds = list(BURST)
        if rng.random() < 0.25:
            kinds = [*kinds, rng.choice(LONG)]
        batch_id, task_ids = self.create(kinds)
        self._open.append(batch_id)
        self._stop_asked.wait(rng.uniform(0.0, 0.3))
        long = [one for one, kind in zip(task_ids, kinds, strict=True) if kind in LONG]
        if rng.random() < 0.12:
            self._cancel_batch(batch_id)
            return
        for task_id in long or ([rng.choice(task_ids)] if rng.random() < 0.25 else []):
            self._cancel(task_id)
            if not long and rng.random() < 0.5:
                self._retry(task_id)

    def create(self, kinds: Sequence[str]) -> tuple[str, list[str]]:
        """An acknowledged batch with one task of each of these kinds: its id, and theirs."""
        rng, self._count = self._caller.rng, self._count + 1
        params = []
        for kind in map(KINDS.__getitem__, kinds):
            params.append(
                {
                    "does": kind.does,
                    "seconds": round(rng.uniform(kind.low, kind.high), 3),
                    "failures": kind.failures,
                }
            )
        attempts = 2 if any(kind in BAD for kind in kinds) else 100
        body = {
            "stock_code": f"C{self._number}",
            "config": CONFIG,
            "params": params,
            "max_attempts": attempts,
        }
        key = f"client-{self._number}-{self._count}"
        if rng.random() < 0.2:
            self._caller.abandon(f"{API}/createTask", body, key)
        answer = self._caller.call("POST", f"{API}/createTask", body, key)
        if answer.status not in (200, 201):
            raise RuntimeError(f"createTask answered {answer.status}: {answer.data}")
        self._caller.history.created(answer.data["batch_id"], answer.data["task_ids"], kinds)
        return answer.data["batch_id"], answer.data["task_ids"]

    def _cancel(self, task_id: str) -> None:
        answer = self._caller.call("POST", f"{API}/cancelTask", {"task_id": task_id})
        if answer.status == 200:
            self._caller.history.cancelled(task_id, answer.seen.end)

    def _cancel_batch(self, batch_id: str) -> None:
        answer = self._caller.call("POST", f"{API}/cancelTask", {"batch_id": batch_id})
        if answer.status == 200:
            self._caller.history.batch_cancelled(batch_id, answer.seen.end)
            self._caller.read_batch(batch_id)

    def _retry(self, task_id: str) -> None:
        """409 says that it is pending, running or completed: also the answer to a retry whose first answer
        was lost."""
        history = self._caller.history
        history.retrying([task_id])
        answer = self._caller.call("POST", f"{API}/retryTask", {"task_id": task_id})
        cancelled = (
            answer.status == 409
            and self._caller.call("GET", f"{API}/getTaskStatus?task_id={task_id}").data["status"]
            == "cancelled"
        )
        history.retried([task_id], happened=not cancelled)

    def _retry_some(self, batch_id: str, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Now and then ask for the failed ones of a batch again; they fail again."""
        failed = [str(task["task_id"]) for task in tasks if task["status"] == "failed"]
        if failed and self._caller.rng.random() < 0.3:
            self._caller.history.retrying(failed)
            self._caller.call("POST", f"{API}/retryTask", {"batch_id": batch_id})
            self._caller.history.retried(failed, happened=False)
            self._open.append(batch_id)


class Watcher(threading.Thread):
    """Looks at random acknowledged batches, so that an end that changes is seen."""

    def __init__(self, caller: Caller, stop: threading.Event) -> None:
        super().__init__(name="watcher", daemon=True)
        self._caller = caller
        self._stop_asked = stop

    def run(self) -> None:
        """Until it is asked to stop."""
        with contextlib.suppress(Unanswered):
            while not self._stop_asked.wait(0.03):
                known = self._caller.history.batch_ids()
                if known:
                    recent = known[-40:] if self._caller.rng.random() < 0.7 else known
                    tasks = self._caller.read_batch(self._caller.rng.choice(recent)) or []
                    completed = [task["task_id"] for task in tasks if task["status"] == "completed"]
                    if completed:
                        self._caller.read_result(self._caller.rng.choice(completed))


# -- faults
# ------------------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """One line of the plan."""

    kind: str
    pause: float  # seconds after the fault before it
    replica: int
    choice: float  # 0.0-1.0: which of several processes
    share: float  # 0.0-1.0: how long, between the shortest and the longest of its kind


def planned(kinds: Sequence[str], rng: random.Random, replicas: int, longest_pause: float) -> Iterator[Fault]:
    """Endless rounds of all kinds, each round in another order."""
    while kinds:
        for kind in rng.sample(kinds, len(kinds)):
            yield Fault(
                kind, rng.uniform(0.1, longest_pause), rng.randrange(replicas), rng.random(), rng.random()
            )


@dataclass
class Injected:
    """A fault that was injected; ``replica`` None: the database, hence all."""

    kind: str
    replica: int | None
    begin: float
    end: float = float("inf")
    end_wall: float = float("inf")


class Lane:
    """Faults that come one after another; two lanes strike independently."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._due = time.monotonic()

    def turn(self) -> None:
        """Go on when it is time."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + next(self._steps, 3600.0)

    def close(self) -> None:
        """End the fault that is under way."""
        closing = getattr(self._steps, "close", None)
        if closing:
            closing()


class Injector:
    """Applies the plan. Main thread only."""

    def __init__(self, replicas: Sequence[Replica], target: Target) -> None:
        self.injected: list[Injected] = []
        self.kill_points = 0
        self._replicas = replicas
        self._target = target
        self._is_held = False  # the database's lane waits
        self._is_database_struck = False  # a fault of the database's lane is under way
        self._process_faults: Mapping[str, Callable[[Replica, Fault], Steps]] = {
            "service killed": self._kill_service,
            "engine server killed": lambda replica, fault: self._kill_part(replica, fault, "server"),
            "engine host killed": lambda replica, fault: self._kill_part(replica, fault, "host"),
            "engine killed": lambda replica, fault: self._kill_part(replica, fault, "engine"),
            "all killed": self._kill_all,
            "service frozen": self._freeze_service,
            "service stopped": self._stop_service,
            "before a record: service frozen": self._freeze_before_record,
        }
        # a cluster's nodes see a commit at different times
        self._watched = None if isinstance(target, GaleraTarget) else target
        if self._watched:
            self._process_faults = {
                **self._process_faults,
                "after a claim: service killed": lambda replica, fault: self._kill_after(replica, CLAIMS),
                "after a record: service killed": lambda replica, fault: self._kill_after(replica, RECORDS),
            }

    def lanes(self, seed: int) -> list[Lane]:
        """One lane for the services, one for the database."""
        count = len(self._replicas)
        for_processes = planned(list(self._process_faults), random.Random(f"{seed}:processes"), count, 0.7)
        for_database = planned(list(self._target.faults), random.Random(f"{seed}:database"), count, 1.5)
        return [Lane(self._processes(for_processes)), Lane(self._database(for_database))]

    def _processes(self, plan: Iterator[Fault]) -> Steps:
        for fault in plan:
            yield fault.pause
            yield from self._recorded(
                fault.kind,
                fault.replica,
                self._process_faults[fault.kind](self._replicas[fault.replica], fault),
            )

    def _database(self, plan: Iterator[Fault]) -> Steps:
        for fault in plan:
            yield fault.pause
            while self._is_held:
                yield 0.05
            apply, low, high = self._target.faults[fault.kind]
            self._is_database_struck = True
            try:
                yield from self._recorded(fault.kind, None, apply(low + fault.share * (high - low)))
            finally:
                self._is_database_struck = False

    def _recorded(self, kind: str, replica: int | None, steps: Steps) -> Steps:
        record = Injected(kind, replica, time.monotonic())
        self.injected.append(record)
        try:
            yield from steps
        finally:
            record.end, record.end_wall = time.monotonic(), time.time()

    def _kill_service(self, replica: Replica, fault: Fault) -> Steps:
        self.kill_points += replica.kill()
        yield 0.0

    def _kill_all(self, replica: Replica, fault: Fault) -> Steps:
        self.kill_points += replica.kill_all()
        yield 0.0

    def _await_part(self, replica: Replica, role: str) -> Steps:
        """Until there is such a process; at most 2 s, since the database may be away."""
        for _ in range(40):
            if replica.parts()[role]:
                return
            yield 0.05

    def _kill_part(self, replica: Replica, fault: Fault, role: str) -> Steps:
        yield from self._await_part(replica, role)
        found = replica.parts()[role]
        if found:
            self.kill_points += signal_process(found[int(fault.choice * len(found))], signal.SIGKILL)

    def _freeze_service(self, replica: Replica, fault: Fault) -> Steps:
        """Past its lease, while it runs something. Mostly with no new fault of the database, so that the
        other services can see the lease run out and run the task again before this one wakes up."""
        yield from self._await_part(replica, "engine")
        yield from self._freeze(replica, fault)

    def _freeze(self, replica: Replica, fault: Fault) -> Steps:
        self._is_held = fault.choice < 0.8
        try:
            replica.send(signal.SIGSTOP)
            yield LEASE_SECONDS + (1.5 + 2.5 * fault.share if len(self._replicas) > 1 else fault.share)
        finally:
            self._is_held = False
            replica.send(signal.SIGCONT)

    def _kill_after(self, replica: Replica, counts: str) -> Steps:
        """As soon as the number that ``counts`` gives of this service grows: right after a COMMIT of its
        own."""
        self._is_held = True
        try:
            while self._is_database_struck:
                yield 0.05
            before = self._counted(replica, counts)
            for _ in range(200):
                if self._counted(replica, counts) > before:
                    self.kill_points += replica.kill()
                    return
                yield 0.0
        finally:
            self._is_held = False

    def _counted(self, replica: Replica, counts: str) -> int:
        rows: list[tuple[object, ...]] = []
        # the service is making the tables, or writes
        with contextlib.suppress(sqlite3.Error, pymysql.err.Error):
            rows = self._watched.look(counts) if self._watched else rows
        return sum(int(str(count)) for worker, count in rows if str(worker).split(":")[1] == str(replica.pid))

    def _freeze_before_record(self, replica: Replica, fault: Fault) -> Steps:
        """Past its lease, as soon as an engine of it has ended and before its outcome is recorded, unless
        that was quicker."""
        path = replica.ledger
        place = path.stat().st_size if path.exists() else 0
        for _ in range(200):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                file.seek(place)
                lines = [json.loads(line) for line in file if line.endswith(b"\n")]
                if any(line["event"] == "end" and line["replica"] == replica.mark for line in lines):
                    break
            yield 0.0
        yield from self._freeze(replica, fault)

    def _stop_service(self, replica: Replica, fault: Fault) -> Steps:
        before = replica.pid
        replica.terminate()
        for _ in range(int(STOP_SECONDS / 0.05)):
            if replica.pid != before or not replica.is_running():
                return
            yield 0.05
        replica.is_stopping = False  # whatever ends it now, it did not stop when it was told
        replica.send(signal.SIGKILL)


# -- the oracle
# --------------------------------------------------------------------------------------------------------


@dataclass
class Execution:
    """One run of an engine, from the ledger. One that was killed ends with its last line."""

    task_id: str
    attempt: int
    nonce: str
    replica: int
    begin: float
    end: float
    process: tuple[int, int]  # pid and start time
    how: str = ""  # "result", the name of an exception, or "" when it never said


class Ledger:
    """The file that engines wrote."""

    def __init__(self, path: pathlib.Path) -> None:
        self.executions: dict[str, Execution] = {}  # by nonce
        # by pid and start time: the first line of each
        self.processes: dict[tuple[int, int], dict[str, Any]] = {}
        lines = path.read_text().splitlines() if path.exists() else []
        for line in map(json.loads, lines):
            process = line["pid"], line["born"]
            self.processes.setdefault(process, line)
            at = line["ns"] / 1e9
            replica = int(line["replica"].rpartition("-")[2])
            found = self.executions.setdefault(
                line["nonce"],
                Execution(line["task"], line["attempt"], line["nonce"], replica, at, at, process),
            )
            found.end = max(found.end, at)
            found.how = line.get("how", found.how)

    def is_waiting(self, process: tuple[int, int]) -> bool:
        """Whether this is an engine that has ended every attempt that it began."""
        executions = [one for one in self.executions.values() if one.process == process]
        return bool(executions) and all(one.how for one in executions)

    def overlaps(self) -> list[tuple[Execution, Execution]]:
        """Pairs of executions of one task that ran at the same time, the earlier one first."""
        by_task: dict[str, list[Execution]] = defaultdict(list)
        for execution in self.executions.values():
            by_task[execution.task_id].append(execution)
        pairs = []
        for executions in by_task.values():
            executions.sort(key=lambda one: one.begin)
            for i, first in enumerate(executions):
                pairs += [(first, second) for second in executions[i + 1 :] if second.begin < first.end]
        return pairs


@dataclass(frozen=True)
class CampaignReport:
    """What was done and found. ``counts`` has every name of ZERO."""

    database: str
    seed: int
    seconds: float
    faults: Mapping[str, int]
    kill_points: int
    tasks: int
    acknowledged: int
    executions: int
    processes: int  # of engines, in which they ran
    overlaps: int
    quiet_seconds: float
    longest_recovery: float
    longest_answer: float
    longest_stop: float
    counts: Mapping[str, int]
    evidence: Sequence[str]

    @property
    def is_good(self) -> bool:
        """Whether all that must be zero is zero."""
        return not any(self.counts[name] for name in ZERO)

    def line(self) -> str:
        """The report in one line."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        parts = [
            f"campaign {self.database}: {sum(self.faults.values())} faults in {self.seconds:.0f} s ({kinds})",
            f"kill points {self.kill_points}, tasks {self.tasks}, acknowledged {self.acknowledged}",
            f"executions {self.executions} in {self.processes} processes",
            *(f"{name} {self.counts[name]}" for name in ZERO),
            f"overlaps {self.overlaps}, quiet after {self.quiet_seconds:.1f} s, longest recovery {self.longest_recovery:.1f} s",
            f"longest answer {self.longest_answer:.1f} s, longest stop {self.longest_stop:.1f} s, seed {self.seed}",
        ]
        return ", ".join(parts)


def await_none(find: Callable[[], list[T]]) -> list[T]:
    """What ``find`` gives, once that is nothing or GONE_SECONDS are over."""
    deadline = time.monotonic() + GONE_SECONDS
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


class Oracle:
    """Judges at the end, from history, ledger and database."""

    def __init__(
        self,
        target: Target,
        history: History,
        injector: Injector,
        findings: Findings,
        folder: pathlib.Path,
        is_warm: bool,
    ) -> None:
        self._target = target
        self._is_warm = is_warm  # engines wait for their next attempt
        self._history = history
        self._injector = injector
        self._findings = findings
        self._folder = folder
        self.ledger = Ledger(folder / "ledger")
        # the nonce of each completed task's result; written by check_tasks
        self._accepted: dict[str, str] = {}

    def check_processes(self, replicas: Sequence[Replica], mark: str) -> None:
        """With the services idle: engines and all they started are gone, no zombie is left, no descriptor
        either."""
        self.ledger = Ledger(self._folder / "ledger")
        idle = {replica.pid for replica in replicas}
        for process in await_none(lambda: self._left_over(idle, mark)):
            line = self.ledger.processes.get((process.pid, process.born), {})
            what = f"pid {process.pid} (state {process.state}, parent {process.parent}): {line or 'not in the ledger'}"
            self._findings.add("orphans", what)
            signal_process(process, signal.SIGKILL)
        for replica in replicas:
            descriptors = self._descriptors(replica.pid)
            if descriptors.total() > OWN_DESCRIPTORS + SLOT_DESCRIPTORS * self._target.workers:
                kinds = ", ".join(f"{count} of {kind}" for kind, count in descriptors.most_common())
                self._findings.add(
                    "leaked",
                    f"{replica.mark} has {descriptors.total()} descriptors while it is idle: {kinds}",
                )

    @staticmethod
    def _descriptors(pid: int) -> Counter[str]:
        """How many descriptors of each kind a process has; none when it is gone."""
        kinds: Counter[str] = Counter()
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    kinds[os.readlink(f"/proc/{pid}/fd/{name}").partition(":[")[0]] += 1
        return kinds

    def _left_over(self, idle: set[int], mark: str) -> list[Process]:
        """Processes that should be gone: by the ledger, by the mark, and zombies that a service does not
        collect."""
        found = {process.pid: process for process in marked_processes(mark)}
        for pid, born in self.ledger.processes:
            process = process_of(pid)
            if process and process.born == born:
                found[pid] = process
        servers = {one.pid for one in found.values() if one.parent in idle and one.name in PARTS["server"]}
        # a service adopts the hosts of a server that was killed, and keeps one until its slot has an attempt again
        parents = idle | servers
        hosts = {one.pid for one in found.values() if one.parent in parents and one.name in PARTS["host"]}
        waiting = {one.pid for one in found.values() if one.parent in hosts and self._may_wait(one)}
        ours = idle | servers | hosts | waiting
        # a zombie of another parent has been disowned: that one collects it, or does not
        return [
            one for one in found.values() if one.pid not in ours and (one.state != "Z" or one.parent in ours)
        ]

    def _may_wait(self, process: Process) -> bool:
        """Whether this is an engine that has run nothing yet, or a warm one between two attempts."""
        key = process.pid, process.born
        if process.name not in PARTS["engine"] or process.state == "Z":
            return False
        return key not in self.ledger.processes or (self._is_warm and self.ledger.is_waiting(key))

    def check_tasks(self, caller: Caller) -> list[dict[str, Any]]:
        """Read every acknowledged batch and result through a fresh service. Gives all tasks."""
        tasks: list[dict[str, Any]] = []
        for batch_id, task_ids in self._history.batches.items():
            found = {task["task_id"]: task for task in caller.read_batch(batch_id) or []}
            for missing in set(task_ids) - set(found):
                self._findings.add(
                    "lost", f"the acknowledged task {missing} of batch {batch_id} is not there"
                )
            for extra in set(found) - set(task_ids):
                self._findings.add("unasked", f"task {extra} of batch {batch_id} was acknowledged to nobody")
            tasks += [task for task_id, task in found.items() if task_id in task_ids]
        for task in tasks:
            self._check_end(task)
            if task["status"] == "completed":
                self._check_result(task, caller.read_result(task["task_id"]))
        return tasks

    def _check_end(self, task: Mapping[str, Any]) -> None:
        told = self._history.tasks[task["task_id"]]
        allowed, status = told.ends_allowed(), task["status"]
        if status in FINAL and status not in allowed:
            name = "undone" if allowed == {"cancelled"} and told.cancelled else "wrong"
            self._findings.add(
                name, f"task {told.task_id} ({told.kind}) is {status}, not {allowed}; {task['error']}"
            )

    def _check_result(self, task: Mapping[str, Any], found: Mapping[str, Any] | None) -> None:
        """The result is of this task and of its accepted attempt, and an execution that ended well gave
        it."""
        result = found["result"] if found else {}
        self._accepted[task["task_id"]] = result.get("nonce", "")
        ran = self.ledger.executions.get(result.get("nonce", ""))
        expected = {
            "task_id": task["task_id"],
            "attempt": task["attempt"],
            "nonce": ran.nonce if ran else None,
        }
        if (
            result != expected
            or ran is None
            or (ran.task_id, ran.attempt, ran.how) != (task["task_id"], task["attempt"], "result")
        ):
            self._findings.add(
                "double",
                f"task {task['task_id']}, attempt {task['attempt']}, has the result {result}; its execution: {ran}",
            )

    def check_database(self) -> None:
        """What only the database itself can tell."""
        for problem in self._target.problems():
            self._findings.add("lost", f"the database is damaged: {problem}")
        known = self._history.tasks
        for (task_id,) in self._target.rows("SELECT task_id FROM backtest_tasks"):
            if task_id not in known:
                self._findings.add("unasked", f"task {task_id} was acknowledged to nobody")
        wrong = "SELECT t.task_id, t.status FROM backtest_tasks t LEFT JOIN backtest_results r ON r.task_id = t.task_id WHERE "
        for row in self._target.rows(wrong + "(t.status = 'completed') <> (r.task_id IS NOT NULL)"):
            self._findings.add(
                "double", f"task {row[0]} is {row[1]}, which does not go with its result being there or not"
            )
        joined = "LEFT JOIN backtest_metrics m ON m.batch_id = t.batch_id AND m.task_id = t.task_id"
        alone = f"SELECT t.task_id, t.status FROM backtest_tasks t {joined} WHERE "
        for row in self._target.rows(alone + "(t.status = 'completed') <> (m.task_id IS NOT NULL)"):
            self._findings.add("double", f"task {row[0]} is {row[1]}, and its metrics do not fit")
        for path in await_none(self._temporary_files):
            self._findings.add("leaked", f"the temporary file {path.name}")

    def _temporary_files(self) -> list[pathlib.Path]:
        """But for the empty folder of an engine server that was killed: the next start removes it."""
        files = (self._folder / "tmp").iterdir()
        return [path for path in files if not path.is_dir() or any(path.iterdir())]

    def check_overlaps(self) -> int:
        """How many executions of one task overlapped; those that nothing explains are findings."""
        pairs = self.ledger.overlaps()
        for first, second in pairs:
            told = self._history.tasks.get(first.task_id)
            # what began after the claim and ended before the engine's first line counts, too
            window = Interval(first.begin - LEASE_SECONDS, second.begin)
            retried = told is not None and told.retried_in(window)
            cut_off = any(
                fault.kind in CUT_OFF_SOME
                or (
                    fault.kind.endswith("service frozen") and fault.replica in (first.replica, second.replica)
                )
                for fault in self._injector.injected
                if fault.end - fault.begin >= LEASE_SECONDS - HEARTBEAT_SECONDS
                and window.meets(Interval(fault.begin, fault.end))
            )
            if not retried and not cut_off:
                self._findings.add("unexplained", f"{first} and {second}")
        return len(pairs)

    def check_waste(self) -> None:
        """Finished work is thrown away for a reason only."""
        touching = ("killed", "frozen", "stopped")  # faults of a service, as its plan names them
        for execution in self.ledger.executions.values():
            told = self._history.tasks.get(execution.task_id)
            if told is None or told.retries or told.cancelled or told.batch_cancelled:
                continue
            if execution.how != "result" or self._accepted.get(execution.task_id) in (None, execution.nonce):
                continue
            later = [
                one.begin
                for one in self.ledger.executions.values()
                if one.task_id == told.task_id and one.begin > execution.begin
            ]
            window = Interval(execution.begin - LEASE_SECONDS, min(later, default=float("inf")))
            reasons = [
                fault
                for fault in self._injector.injected
                if (
                    fault.kind in CUT_OFF_SOME
                    or (fault.replica == execution.replica and fault.kind.endswith(touching))
                )
                and window.meets(Interval(fault.begin, fault.end))
            ]
            if not reasons:
                self._findings.add(
                    "wasted", f"{execution}; the accepted one is {self._accepted[told.task_id]}"
                )

    def longest_recovery(self, tasks: Sequence[Mapping[str, Any]], replicas: Sequence[Replica]) -> float:
        """The longest time from the end of a fault until one of the affected services had completed a task,
        by the database's clock, which is this machine's; further faults that struck meanwhile are in it."""
        owner = {pid: number for number, replica in enumerate(replicas) for pid in replica.pids}
        completed = [task for task in tasks if task["status"] == "completed" and task["worker_id"]]
        ends = [
            (wall_time(task["finished_at"]), owner[int(task["worker_id"].split(":")[1])])
            for task in completed
        ]
        longest = 0.0
        for fault in self._injector.injected:
            after = [end for end, number in ends if end >= fault.end_wall and fault.replica in (None, number)]
            longest = max(longest, min(after, default=fault.end_wall) - fault.end_wall)
        return longest


def wall_time(stamp: str) -> float:
    """Seconds since 1970 of an ISO time as the API writes it."""
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


# -- the campaign
# ------------------------------------------------------------------------------------------------------


class Campaign:
    """One run on one database. Main thread only; `run` once."""

    def __init__(
        self,
        target: Target,
        seconds: float,
        seed: int,
        replicas: int,
        folder: pathlib.Path,
        tasks_per_process: int,
    ) -> None:
        self._target = target
        self._seconds = seconds
        self._seed = seed
        self._folder = folder
        self._mark = os.urandom(6).hex()
        self._findings = Findings()
        self._history = History(self._findings)
        self._faults_over = threading.Event()
        self._clients_stop, self._watcher_stop = threading.Event(), threading.Event()
        self._is_warm = tasks_per_process > 1
        environment = {"QTM_TASKS_PER_PROCESS": str(tasks_per_process)} if self._is_warm else {}
        self._replicas = [
            Replica(folder, self._mark, number, target, self._findings, (), environment)
            for number in range(replicas)
        ]
        self._fresh = Replica(folder, self._mark, replicas, target, self._findings, ["--no-scheduler"])
        self._injector = Injector(self._replicas, target)
        self._quiet_seconds = 0.0

    def run(self) -> CampaignReport:
        """All of it; leaves no process behind, whatever happens."""
        (self._folder / "campaign_engine.py").write_text(ENGINE)
        (self._folder / "tmp").mkdir()
        try:
            self._target.start()
            for replica in self._replicas:
                replica.start()
            self._await_ready(self._replicas)
            self._work_under_faults()
            self._become_quiet()
            return self._judge()
        finally:
            self._faults_over.set()
            self._clients_stop.set()
            self._watcher_stop.set()
            for replica in [*self._replicas, self._fresh]:
                replica.remove()
            self._target.remove()

    def _caller(self, name: str, replicas: Sequence[Replica]) -> Caller:
        rng = random.Random(f"{self._seed}:{name}")
        return Caller(
            [replica.port for replica in replicas], rng, self._history, self._findings, self._faults_over
        )

    def _await_ready(self, replicas: Sequence[Replica]) -> None:
        """Raises RuntimeError when a service does not become ready: then there is nothing to judge."""
        caller, deadline = self._caller("ready", replicas), time.monotonic() + START_SECONDS
        waiting = list(replicas)
        while waiting:
            for replica in replicas:
                replica.tend()
            waiting = [
                replica for replica in waiting if caller.once(replica.port, "GET", "/readyz").status != 200
            ]
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{[replica.mark for replica in waiting]} did not become ready in {START_SECONDS:g} s: see {self._folder}"
                )
            time.sleep(0.02)

    def _work_under_faults(self) -> None:
        clients = [
            Client(
                number,
                self._caller(f"client {number}", self._replicas),
                self._clients_stop,
                self._target.good,
            )
            for number in range(CLIENTS)
        ]
        watcher = Watcher(self._caller("watcher", self._replicas), self._watcher_stop)
        for thread in [*clients, watcher]:
            thread.start()
        lanes = self._injector.lanes(self._seed)
        end = time.monotonic() + self._seconds
        try:
            while time.monotonic() < end:
                for lane in lanes:
                    lane.turn()
                for replica in self._replicas:
                    replica.tend()
                time.sleep(0.01)
        finally:
            for lane in lanes:
                lane.close()
        self._clients_stop.set()
        self._faults_over.set()
        while any(client.is_alive() for client in clients):
            for replica in self._replicas:
                replica.tend()
            time.sleep(0.02)
        self._await_ready(self._replicas)

    def _become_quiet(self) -> None:
        """A last wave of work, through every service; then nothing may be left to do within the deadline."""
        caller = self._caller("last wave", self._replicas)
        for number, replica in enumerate(self._replicas):
            last = Client(CLIENTS + number, self._caller(f"last {number}", [replica]), self._clients_stop, ())
            last.create(["slow", "quick", "quick", "slow", "daemon"])
        started, changed = time.monotonic(), time.time()
        before: set[tuple[str, str, int]] = set()
        while time.monotonic() - started < QUIET_SECONDS:
            tasks = caller.call("GET", f"{API}/listTasks?status=pending&status=running").data["tasks"]
            now = {(task["task_id"], task["status"], task["attempt"]) for task in tasks}
            if now != before:
                changed, before = time.time(), now
            due = max((wall_time(task["run_at"]) for task in tasks), default=0.0)
            if not tasks or time.time() - max(changed, due) > STILL_SECONDS:
                break
            time.sleep(0.05)
        self._quiet_seconds = time.monotonic() - started
        for task in tasks:
            self._findings.add(
                "stuck",
                f"task {task['task_id']} is {task['status']}, attempt {task['attempt']}, run at {task['run_at']}",
            )
        self._watcher_stop.set()

    def _judge(self) -> CampaignReport:
        oracle = Oracle(
            self._target, self._history, self._injector, self._findings, self._folder, self._is_warm
        )
        oracle.check_processes(self._replicas, self._mark)
        for replica in self._replicas:
            replica.stop()
        oracle.check_processes([], self._mark)
        self._fresh.start()
        self._await_ready([self._fresh])
        tasks = oracle.check_tasks(self._caller("fresh", [self._fresh]))
        self._fresh.stop()
        oracle.check_database()
        oracle.check_waste()
        overlaps = oracle.check_overlaps()
        return CampaignReport(
            database=self._target.name,
            seed=self._seed,
            seconds=self._seconds,
            faults=Counter(fault.kind for fault in self._injector.injected),
            kill_points=self._injector.kill_points,
            tasks=len(tasks),
            acknowledged=self._history.acknowledged_calls,
            executions=len(oracle.ledger.executions),
            processes=len({one.process for one in oracle.ledger.executions.values()}),
            overlaps=overlaps,
            quiet_seconds=self._quiet_seconds,
            longest_recovery=oracle.longest_recovery(tasks, self._replicas),
            longest_answer=self._history.longest_answer,
            longest_stop=max(
                (one.end - one.begin for one in self._injector.injected if one.kind == "service stopped"),
                default=0.0,
            ),
            counts={name: self._findings.count(name) for name in ZERO},
            evidence=self._findings.evidence(),
        )


def run_campaign(
    database: str,
    seconds: float,
    seed: int,
    folder: pathlib.Path,
    replicas: int = 3,
    tasks_per_process: int = 1,
) -> CampaignReport:
    """Faults for ``seconds`` on ``sqlite`` (one service), ``mariadb`` (a private server) or ``galera`` (three
    nodes), both with ``replicas`` services.

    ``folder`` must be empty; logs, ledger and the SQLite file stay in it. Raises MariaDBMissing. Main thread
    only.
    """
    target: Target = (
        SQLiteTarget(folder)
        if database == "sqlite"
        else GaleraTarget()
        if database == "galera"
        else MariaDBTarget()
    )
    return Campaign(
        target, seconds, seed, 1 if database == "sqlite" else replicas, folder, tasks_per_process
    ).run()


def main() -> int:
    """Run from the command line; 1 when something was found."""
    parser = argparse.ArgumentParser(
        description="Inject faults, and look whether anything was lost, twice or stuck."
    )
    parser.add_argument(
        "--database",
        choices=["sqlite", "mariadb", "galera", "both"],
        default="both",
        help="both: sqlite, mariadb",
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of faults on each database (default 20)")
    parser.add_argument("--minutes", type=float, help="the same, in minutes")
    parser.add_argument("--seed", type=int, default=None, help="of the plan (default: a new one)")
    parser.add_argument("--replicas", type=int, default=3, help="services on MariaDB (default 3)")
    parser.add_argument(
        "--tasks-per-process", type=int, default=1, help="attempts of one engine process (default 1)"
    )
    options = parser.parse_args()
    seconds = options.minutes * 60 if options.minutes else options.seconds
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    failed = False
    for database in ["sqlite", "mariadb"] if options.database == "both" else [options.database]:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="qtm-campaign-"))
        report = run_campaign(database, seconds, seed, folder, options.replicas, options.tasks_per_process)
        print(report.line(), flush=True)
        for text in report.evidence:
            print("  " + text, flush=True)
        if report.is_good:
            shutil.rmtree(folder)
        else:
            failed = True
            print(f"  logs and ledger: {folder}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
