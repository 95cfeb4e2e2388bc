"""Faults on purpose, and an oracle that looks past qtm: what the tests of faults have in common.

`FaultPlan` and `inject` make the k-th call of the driver fail. `Oracle` reads the database by its own connection, and has
the database itself write down every change of a status. `Life` is a scheduler without threads, whose time is a number.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pymysql

import qtm

LATE_COMMIT_SECONDS = 0.1  # a server that was slow to hear of a COMMIT whose client has gone
LOST = {
    "mysql": (pymysql.err.OperationalError, (2013, "Lost connection")),
    "sqlite": (sqlite3.OperationalError, ("disk I/O error",)),
}
CONFLICTS = {
    "deadlock": (pymysql.err.OperationalError, (1213, "Deadlock found")),
    "lock timeout": (pymysql.err.OperationalError, (1205, "Lock wait timeout exceeded")),
    "killed query": (pymysql.err.OperationalError, (1317, "Query execution was interrupted")),
    "busy": (sqlite3.OperationalError, ("database is locked",)),
}


class FaultPlan:
    """Which driver calls fail, and how. One thread arms it, makes calls and disarms it.

    Kinds: ``before`` (the connection is lost and nothing was done), ``after`` (it was done and the answer is
    lost), ``late`` (the same for a COMMIT that the server takes only after a while), and the conflicts
    ``deadlock``, ``lock timeout``, ``killed query`` and ``busy``. Calls are counted from 1, for ``late`` the
    COMMITs alone. A fault that lasts has its kind at the first call; at the later ones nothing is done.
    """

    def __init__(self, database_kind: str) -> None:
        self.database_kind = database_kind
        self.hits = 0
        self.statement = ""  # where the first fault was
        self._kind = ""
        self._first = math.inf
        self._last = math.inf
        self._calls = 0
        self._late: list[threading.Timer] = []

    def arm(self, kind: str, number: int, length: float = 1) -> None:
        """Let ``length`` calls fail from call ``number`` (1: the next) on."""
        self._kind, self._first, self._last = kind, number, number + length - 1
        self._calls = self.hits = 0
        self.statement = ""

    def disarm(self) -> int:
        """All is well from now on; how many calls failed."""
        self._first = math.inf
        return self.hits

    def commit_late(self, commit: Callable[[], None]) -> None:
        """Have it done after a while."""
        self._late.append(threading.Timer(LATE_COMMIT_SECONDS, commit))
        self._late[-1].start()

    def settle(self) -> None:
        """Wait until every late COMMIT is done."""
        while self._late:
            self._late.pop().join()

    def next_fault(self, sql: str) -> str | None:
        """Count a call; the kind of fault that it is to have, or None."""
        if self._kind == "late" and sql != "COMMIT":
            return None
        self._calls += 1
        if not self._first <= self._calls <= self._last:
            return None
        self.hits += 1
        if self.hits == 1:
            self.statement = " ".join(sql.split())[:80]
            return self._kind
        return self._kind if self._kind in CONFLICTS else "before"


class FaultyConnection:
    """A driver's connection whose cursors fail by plan."""

    def __init__(self, real: Any, plan: FaultPlan) -> None:
        self.real = real
        self.plan = plan

    def cursor(self) -> FaultyCursor:
        """A cursor of it."""
        return FaultyCursor(self, self.real.cursor())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class FaultyCursor:
    """A driver's cursor whose ``execute`` fails by plan, and ``nextset``, where several statements were sent
    as one."""

    def __init__(self, connection: FaultyConnection, real: Any) -> None:
        self._connection = connection
        self._real = real
        self.connection = connection
        self._answers = math.inf  # how many of a script come before the fault
        self._fault = ""

    def execute(self, sql: str, parameters: Any = None) -> None:
        """Run the statement, or fail."""
        if ";\n" in sql:
            self._execute_script(sql.split(";\n"), parameters)
            return
        kind = self._connection.plan.next_fault(sql)
        if kind in CONFLICTS:
            if kind == "deadlock":
                self._real.execute("ROLLBACK")  # which is what a server does to the victim
            self._raise(CONFLICTS[kind])
        if kind == "late":
            self._commit_later()
        elif kind != "before":
            self._real.execute(sql) if parameters is None else self._real.execute(sql, parameters)
        if kind is not None:
            if kind != "late":
                self._real.close()
                self._connection.real.close()  # uncommitted work goes with it
            self._raise(LOST[self._connection.plan.database_kind])

    def _execute_script(self, parts: Sequence[str], parameters: Any) -> None:
        """A server stops at the statement that fails; of a client that has gone it hears only after all of
        them."""
        plan, self._fault = self._connection.plan, ""
        for number, part in enumerate(parts):
            if kind := plan.next_fault(part):
                self._answers, self._fault = number, kind
                break
        done = {"": parts, "after": parts, "late": parts[:-1], "before": ()}.get(
            self._fault, parts[: int(min(self._answers, len(parts)))]
        )
        if done:
            self._real.execute(";\n".join(done), parameters)
        if not self._fault:
            return
        while done and self._real.nextset():
            pass
        if self._fault == "deadlock":
            self._real.execute("ROLLBACK")
        elif self._fault == "late":
            self._commit_later()
        elif self._fault not in CONFLICTS:
            self._real.close()
            self._connection.real.close()
        self._answer()

    def nextset(self) -> Any:
        """The answer to the next statement of a script, or the fault."""
        return self._answer() if self._fault else self._real.nextset()

    def _answer(self) -> bool:
        if self._answers == 0:
            kind, self._fault = self._fault, ""
            self._raise(CONFLICTS[kind] if kind in CONFLICTS else LOST[self._connection.plan.database_kind])
        self._answers -= 1
        return True

    def _commit_later(self) -> None:
        # closed in its place
        real, self._connection.real = self._connection.real, sqlite3.connect(":memory:")

        def commit() -> None:
            self._real.execute("COMMIT")
            real.close()

        self._connection.plan.commit_late(commit)

    def _raise(self, fault: tuple[type[Exception], tuple[Any, ...]]) -> None:
        raise fault[0](*fault[1])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def inject(database: qtm.Database) -> FaultPlan:
    """A plan that connections of this database follow, those that are opened from now on."""
    plan, connect = FaultPlan(database.dialect.name), database.dialect.connect
    database.dialect.connect = lambda **options: FaultyConnection(connect(**options), plan)  # type: ignore[method-assign, assignment]
    return plan


class Oracle:
    """Sees the database as it is, by a connection of its own.

    `watch` makes a trigger that writes every change of a status into a table, in the transaction that makes
    the change: so it holds what was committed, in order, whatever the service believes.
    """

    def __init__(self, url: str) -> None:
        parts = qtm.parse_database_url(url)
        self._connection: Any
        if parts.kind == "sqlite":
            self._connection = sqlite3.connect(
                parts.path, 10.0, isolation_level=None, check_same_thread=False
            )
        else:
            self._connection = pymysql.connect(
                host=parts.hosts[0].name,
                port=parts.hosts[0].port,
                user=parts.user,
                database=parts.name,
                autocommit=True,
                ssl_disabled=True,
            )

    def watch(self) -> None:
        """Have every change of a status written down from now on."""
        self.rows(
            """CREATE TABLE status_log (
                 number INTEGER PRIMARY KEY /*! AUTO_INCREMENT */, task_id CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */,
                 attempt_before INTEGER, attempt INTEGER, before_status VARCHAR(9), after_status VARCHAR(9))"""
        )
        # Not INSERT ... SELECT, for which InnoDB would hold the counter's lock to the end of a long
        # statement.
        insert = """INSERT INTO status_log (task_id, attempt_before, attempt, before_status, after_status)
                    VALUES (NEW.task_id, OLD.attempt, NEW.attempt, OLD.status, NEW.status);"""
        trigger, changed = (
            "CREATE TRIGGER log_status AFTER UPDATE ON backtest_tasks FOR EACH ROW",
            "NEW.status <> OLD.status",
        )
        if isinstance(self._connection, sqlite3.Connection):
            self.rows(f"{trigger} WHEN {changed} BEGIN {insert} END")
        else:
            self.rows(f"{trigger} IF {changed} THEN {insert} END IF")

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """All rows of a statement, whose parameters are ``?``."""
        cursor = self._connection.cursor()
        try:
            if isinstance(self._connection, sqlite3.Connection):
                cursor.execute(sql, parameters)
            else:
                cursor.execute(sql.replace("?", "%s"), parameters or None)
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def value(self, sql: str, *parameters: Any) -> Any:
        """The first column of the only row."""
        ((value, *_),) = self.rows(sql, *parameters)
        return value

    def history(self, task_id: str) -> list[tuple[str, str]]:
        """The changes of a task's status as (before, after)."""
        sql = "SELECT before_status, after_status FROM status_log WHERE task_id = ? ORDER BY number"
        return [(before, after) for before, after in self.rows(sql, task_id)]

    def faults(self, task_ids: Sequence[str]) -> list[str]:
        """What is wrong with these tasks: lost ones, illegal changes, second outcomes, results that do not
        fit."""
        found = []
        for task_id in task_ids:
            rows = self.rows("SELECT status FROM backtest_tasks WHERE task_id = ?", task_id)
            if len(rows) != 1:
                found.append(f"{task_id} is there {len(rows)} times")
                continue
            history = self.history(task_id)
            allowed = {
                (before.value, after.value) for before, many in qtm.TRANSITIONS.items() for after in many
            }
            found += [f"{task_id}: {change[0]} -> {change[1]}" for change in history if change not in allowed]
            completed = sum(after == "completed" for _, after in history)
            if completed > 1:
                found.append(f"{task_id} was completed {completed} times")
            if self.value("SELECT COUNT(*) FROM backtest_results WHERE task_id = ?", task_id) != (
                rows[0][0] == "completed"
            ):
                found.append(f"{task_id} is {rows[0][0]}, and its result does not fit")
            sql = "SELECT attempt_before, attempt FROM status_log WHERE task_id = ? AND after_status = 'running' ORDER BY number"
            starts = self.rows(sql, task_id)
            found += [
                f"{task_id}: attempt {before} -> {attempt}"
                for before, attempt in starts
                if attempt != before + 1
            ]
        return found

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


class ImpatientEvent(threading.Event):
    """An event on which nobody waits, so that pauses between tries cost no time."""

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is set."""
        return self.is_set()


Play = Callable[[qtm.TaskRequest, Callable[[float, str], None]], qtm.Outcome]


class ScriptedRunner:
    """Runs attempts in the caller's thread: ``play`` says how each ends. It keeps which were started, and is
    its own slot."""

    is_ready = True

    def __init__(self, play: Play) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.starts: list[tuple[str | None, int]] = []
        self._play = play

    def ensure(self) -> None:
        """Nothing to start."""

    def slot(self) -> ScriptedSlot:
        """The only one."""
        return ScriptedSlot(self._play, self.starts)

    def validate(self, tasks: Sequence[qtm.TaskRequest]) -> list[tuple[int, str]]:
        """Everything is good."""
        return []

    def close(self) -> None:
        """Nothing to end."""


class ScriptedSlot:
    """Runs attempts one by one; the script alone decides when they end."""

    def __init__(self, play: Play, starts: list[tuple[str | None, int]]) -> None:
        self._play = play
        self._starts = starts

    def run(self, first: Any, more: Callable[[int], Sequence[Any]], events: Any) -> None:
        """What the script says."""
        self._starts.append((first.task_id, first.attempt))
        events.started(first, time.monotonic(), "scripted")
        events.ended(first, self._play(first.request(), lambda *said: events.reported(first, *said)))

    def stop(self, attempt: Any, with_stacks: bool = False) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Nothing to end."""


class Life:
    """A scheduler and its upkeep, without threads. A `turn` makes one step of each, plays what was claimed,
    and lets 10 s of their clock pass."""

    def __init__(self, dao: qtm.TaskDAO, play: Play, **options: Any) -> None:
        self.now = 1000.0
        self.runner = ScriptedRunner(play)
        chosen = qtm.Settings(retry_backoff_seconds=0.0, **options)
        self.scheduler = qtm.TaskScheduler(
            dao,
            self.runner,  # type: ignore[arg-type]
            chosen,
            clock=lambda: self.now,
        )
        self.scheduler.attempts.stopped = ImpatientEvent()
        self.upkeep = qtm.Upkeep(dao, chosen, clock=lambda: self.now)

    def step(self) -> None:
        """A step of the scheduler, 10 s, and a step of the recorder."""
        self.scheduler.step()
        self.now += 10.0
        self.scheduler.recorder.step()

    def turn(self) -> None:
        """A step, and all attempts that it claimed, each to its end."""
        self.step()
        self.upkeep.step()
        while self.scheduler.slots[0].turn():
            self.scheduler.recorder.step()


# A service that stops at one point of a task's life: the engine and two methods of the DAO wait there for a
# file, once.
HELD_SERVICE = """
import os, pathlib, select, sys, time

sys.path.insert(0, os.environ["HELD_ROOT"])
import qtm

folder = pathlib.Path(os.environ["HELD_FOLDER"])


def hold(point):
    if point != os.environ["HELD_POINT"]:
        return
    try:
        (folder / "reached").touch(exist_ok=False)
    except FileExistsError:
        return
    while not (folder / "go").exists():
        time.sleep(0.005)


def run(task, progress):
    with (folder / "ledger").open("a") as file:
        file.write(f"{task.attempt} {os.getpid()}\\n")
    hold("started")
    progress(0.5, "half way")
    hold("half way")
    select.select([], [], [], float(task.params.get("seconds", 0.0)))  # libfaketime makes time.sleep last for hours
    return {"attempt": task.attempt}


if __name__ == "__main__":
    least = int(os.environ.get("HELD_LEAST", "1"))  # so many attempts in a group
    claim, record = qtm.TaskDAO.claim, qtm.TaskDAO.record

    def held_claim(self, *arguments):
        claimed = claim(self, *arguments)
        if len(claimed) >= least:
            hold("claimed")
        return claimed

    def held_record(self, attempts):
        if len(attempts) >= least:
            hold("result sent")
        recorded = record(self, attempts)
        if len(attempts) >= least:
            hold("outcome written")
        return recorded

    qtm.TaskDAO.claim, qtm.TaskDAO.record = held_claim, held_record
    if os.environ["HELD_POINT"] == "claimed":  # by a claim of its own
        qtm.TaskDAO.create_claimed = lambda *arguments: []
    sys.exit(qtm.main(sys.argv[1:]))
"""
