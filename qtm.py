"""qtm: the backtest task manager of a quant engine, in one file.

People who research trading strategies hand qtm many backtests (stocks x parameters) and walk away. It keeps
every task in a database (SQLite, MySQL or MariaDB), runs them on an engine, stops what must be stopped, and
answers for each one: status, progress, result, or a clear reason.

As a service, with curl against it::

    python3 qtm.py serve

From the command line, against it::

    python3 qtm.py submit job.json --wait

Embedded::

    import qtm
    with qtm.start(qtm.Settings(database_url="sqlite:///qtm.db", engine="my_engine:run")) as tasks:
        batch = tasks.create_task(qtm.TaskRequest(stock_code="AAPL", config={...}, params={...}))
        info = tasks.wait(batch.task_ids[0], timeout_seconds=60)

Against a running service, by the same verbs; here as there, `submit` gives a batch as an object::

    tasks = qtm.connect("http://127.0.0.1:8080")
    batch = tasks.submit(["AAPL", "MSFT"], config, qtm.grid(fast=range(5, 30, 5), slow=[50, 100]))
    batch.wait()
    print(batch.best("sharpe"))

The life of a task::

    pending --claim--> running --> completed
       |                 |  +----> failed
       |                 |  +----> pending     (failed or lost, with attempts left; or released)
       +--> cancelled <--+
    failed, cancelled --retryTask--> pending

Every arrow is one compare-and-set in the database. What a scheduler changes in a task that it runs, it changes
for its own attempt number and worker id (host:pid:random) alone. If that matches no row, the task was cancelled
or another scheduler owns it: this one kills the engine process and discards the outcome. A rescue needs the
attempt number and the heartbeat that stood still; on SQLite, which has one scheduler, a start rescues at once.
If a slot is free and no task is pending, a create of one task, with neither an Idempotency-Key nor a batch_id,
is also its claim: it stores the task as ``running``.

Threads and processes::

    service process                    -- fork -->     engine server process (imports the engine once)
      main              waits for a signal               |- fork per slot
      http-loop         reads, checks, writes, waits     v
      http-worker-N     compute answers                engine host (one per slot: forks ahead, reaps, kills)
      scheduler         claims, heartbeats, rescues      |- fork per attempt, or per QTM_TASKS_PER_PROCESS
      scheduler-timer   a threading.Timer, only wakes    v
      slot-N            runs attempts of one slot ===> engine process (one runs attempts, the next one waits)
      recorder          writes outcomes and progress
      upkeep            retention, checkpoints
      engine-output     logs what the import prints
      cached-read       asks the database for /readyz and /metrics; ends after each read

Locks: a thread that holds one acquires no other, and never holds it during a call to the database or to user
code, or during a join. There are three exceptions: ProgressSender._lock, while a report is passed on;
PendingLimit._lock, while one thread counts pending tasks for all; and EngineServer._validator_lock, while the
engine answers a create.

Rooms (search for "# ==== "):
  Models: 1 Errors, 2 Settings, 3 JSON, 4 Fields, 5 Sweeps, 6 Requests, 7 Tasks, 8 Ranking,
    9 Tables and curves.
  Database: 10 Log and counters, 11 Connection pool, 12 SQLite, 13 MySQL, 14 Transactions, 15 Migrations,
    16 Rows, 17 New tasks, 18 Create statements, 19 Task statements, 20 Attempts, 21 Run statements,
    22 Rank statements, 23 Export statements, 24 Upkeep statements, 25 Doctor.
  Engine: 26 Engines, 27 Prices, 28 Backtest engine, 29 Library values, 30 Results, 31 Engine calls,
    32 Processes, 33 Engine process, 34 Temporary folders, 35 Engine host, 36 Engine server process,
    37 Engine output, 38 Host links, 39 Engine slots, 40 Engine server, 41 Thread runner.
  Scheduler: 42 Upkeep, 43 Leases and waits, 44 Recorder, 45 Slot workers, 46 TaskScheduler.
  Verbs: 47 Admission, 48 Batches, 49 Task queries, 50 TaskManager, 51 Service connections, 52 Client.
  HTTP: 53 HTTP messages, 54 Metrics, 55 Schemas, 56 Routes, 57 OpenAPI, 58 Page, 59 API, 60 Access,
    61 HTTP exchanges, 62 HTTP connections, 63 HTTP dispatch, 64 HTTP server.
  Program: 65 Command output, 66 Client commands, 67 Service log, 68 Check, 69 Service process,
    70 Command line.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # noqa: UP036  an installer knows; whoever copied the file is told here
    fault = f"qtm needs Python 3.10 or newer, this is {sys.version_info[0]}.{sys.version_info[1]}"
    if __name__ != "__main__":
        raise ImportError(fault)
    sys.stderr.write(fault + "\n")
    sys.exit(2)

# one copy of every class: the script runs as the module that everybody else imports
if __name__ == "__main__":
    import fcntl
    import os

    # Start again as `python -c`: a script is compiled at every start, and keeps the 28 MB that this takes.
    # Secrets must leave the environment before an engine server is forked (`take_secrets`): a file in memory
    # carries them. A profiler or debugger that runs this code keeps its process.
    with_runpy = 2 if __spec__ else 0
    is_qtm = __spec__ is None or __spec__.name == "qtm"
    if sys.executable and is_qtm and sys._getframe(with_runpy).f_back is None:
        try:
            # above the numbers of the standard streams, one of which may be closed
            secrets = fcntl.fcntl(os.memfd_create("secrets"), fcntl.F_DUPFD, 3)
        except (AttributeError, OSError):  # not Linux, or a sandbox that refuses it: they stay where they are
            secrets = -1
        else:
            names = ("QTM_DATABASE_URL", "QTM_API_TOKEN", "QTM_READ_TOKEN")  # and each with _FILE
            texts = [f"{name}={os.environ.pop(name)}" for name in [*os.environ] if name.startswith(names)]
            os.write(secrets, os.fsencode("\0".join(texts)))
        *flags, last = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
        if __spec__ and last == "qtm":
            last = flags.pop() + last  # -m qtm, as -mqtm
        flags.append(last.removesuffix("mqtm") + "c" if __spec__ else "-c")
        name = ascii(sys.argv[0])[1:-1]  # at the end, so that `pgrep -f 'qtm.py serve'` finds the process
        run = f"import qtm; sys.exit(qtm.main(secrets={secrets}))"
        program = f"import sys; sys.path[0] = {sys.path[0]!r}; {run}  # {name}"
        os.execv(sys.executable, [sys.orig_argv[0], *flags, program, *sys.argv[1:]])

    import qtm

    sys.exit(qtm.main())

import _signal  # type: ignore[import-not-found]  # whose functions make no enums, as those of signal do
import atexit
import base64
import bisect
import codecs
import contextlib
import csv
import dataclasses
import datetime
import decimal
import enum
import errno
import faulthandler
import fcntl
import functools
import gc
import hashlib
import hmac
import html
import http.client
import http.server
import importlib
import inspect
import io
import itertools
import json
import logging
import math
import operator
import os
import queue
import random
import re
import reprlib
import resource
import select
import selectors
import shutil
import signal
import socket
import socketserver
import stat
import struct
import threading
import time
import traceback
import urllib.parse
import weakref
from collections import Counter, defaultdict, deque
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    MappingView,
    Sequence,
    Set,
)
from dataclasses import dataclass, field
from typing import (
    IO,
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    NamedTuple,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
)


class LazyModule:
    """A module that few processes use; imported with its first use, which takes 1 to 20 ms and up to 3 MB."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


if TYPE_CHECKING:
    import argparse
    import asyncio
    import ctypes
    import importlib.metadata as importlib_metadata
    import pathlib
    import sqlite3
    import ssl
    import statistics
    import tempfile
    import unicodedata
else:
    for name in (
        *("argparse", "asyncio", "ctypes", "importlib.metadata", "pathlib", "sqlite3", "ssl"),
        *("statistics", "tempfile", "unicodedata"),
    ):
        globals()[name.replace(".", "_")] = LazyModule(name)

__version__ = "0.1.0"
__all__ = [
    "Batch", "BatchInfo", "BatchNotFound", "BatchRequest", "Client", "CreatedBatch", "Curve",
    "DatabaseUnavailable", "DryRun", "EngineError", "FieldError", "InvalidRequest", "InvalidTask", "QtmError",
    "Ranking", "Rerun", "ServiceUnreachable", "Settings", "SettingsError", "TaskAttempt", "TaskFinished",
    "TaskInfo", "TaskManager", "TaskNotFinished", "TaskNotFound", "TaskNotRetryable", "TaskRequest",
    "TaskResult", "TaskStatus", "TooManyPending", "Unauthorized", "connect", "grid", "run_backtest", "start",
]  # fmt: skip

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
E = TypeVar("E", bound="QtmError")
V = TypeVar("V", bound="SharedVerbs")
logger = logging.getLogger("qtm")
audit_logger = logging.getLogger("qtm.audit")  # its lines go to the handlers of the former


# ==== 1 Errors ==============================================================================================
# Every error that qtm raises on purpose derives from QtmError. Each class has an HTTP status, an error code
# (status x 100 + n) and a name; the message has the numbers. HTTP answers read them from here.


class FieldError(NamedTuple):
    """One fault of a request: a field's path (``config.start_date``, ``params[3]``) and what is wrong."""

    field: str
    message: str


class QtmError(Exception):
    """The parent of all errors of qtm; on its own it means a fault inside qtm (HTTP 500)."""

    http_status: ClassVar[int] = 500
    code: ClassVar[int] = 50001
    error: ClassVar[str] = "internal_error"

    def __init_subclass__(cls, code: int = 0, error: str = "") -> None:
        if code:
            cls.http_status, cls.code = code // 100, code
            cls.error = error or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(
        self, message: str, errors: Sequence[FieldError] = (), retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.errors = tuple(errors)
        self.retry_after_seconds = retry_after_seconds
        self.log: Mapping[str, Any] = {}  # the ids that the request named, for its log line


class Unauthorized(QtmError, code=40101):
    """The bearer token is missing or wrong; ``challenge`` is the header WWW-Authenticate, by RFC 6750."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.challenge = 'Bearer realm="qtm"' + (f', error="{reason}"' if reason else "")


class MethodNotAllowed(QtmError, code=40501):
    """The path exists, with other methods (header ``Allow``)."""

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


# fmt: off
class InvalidRequest(QtmError, code=40001): """Fields are missing or wrong; ``errors`` names every one."""
class MalformedJSON(QtmError, code=40002): """The body is not one strict JSON object."""
class MalformedHTTP(QtmError, code=40003): """The request breaks RFC 9112; the connection closes after it."""
class InvalidTask(QtmError, code=40004): """Raised by an engine for a task that can never succeed."""
class ForeignOrigin(QtmError, code=40301): """A web page of another origin tried to write."""
class ReadOnlyToken(Unauthorized, code=40302): """A write with a token that may only read."""
class TaskNotFound(QtmError, code=40401): """No task has this id."""
class BatchNotFound(QtmError, code=40402): """No batch has this id."""
class PathNotFound(QtmError, code=40403): """No route has this path."""
class RequestTimeout(QtmError, code=40801): """The head or the body did not arrive within its deadline."""
class TaskNotFinished(QtmError, code=40901): """The task, or one of the batch, has not ended."""
class TaskFinished(QtmError, code=40902, error="task_already_finished"): """The task has already ended."""
class TaskNotRetryable(QtmError, code=40903): """Only failed and cancelled tasks can be retried."""
class BodyTooLarge(QtmError, code=41301): """The body, or what would be stored of it, is over its limit."""
class UnsupportedMediaType(QtmError, code=41501): """The body is compressed, or no application/json."""
class ExpectationFailed(QtmError, code=41701): """An ``Expect`` other than 100-continue."""
class HostNotAllowed(QtmError, code=42101): """The ``Host`` of the request is not in the allow-list."""
class IdempotencyKeyReused(QtmError, code=42201): """The same Idempotency-Key came with another body."""
class TooManyPending(QtmError, code=42901): """This create would exceed ``QTM_MAX_PENDING``."""
class HeadTooLarge(QtmError, code=43101): """The request line and headers are over 16 KiB or 64 fields."""
class DatabaseUnavailable(QtmError, code=50301): """The database cannot be used now; try again."""
class OutcomeUnknown(DatabaseUnavailable, code=50302): """Whether the write was applied is not known."""
class TooManyConnections(QtmError, code=50303): """Too many are open."""
class EngineUnavailable(QtmError, code=50304): """The engine is being imported, or replaced."""
class TransactionConflict(QtmError, code=50305, error="database_busy"): """It is busy; nothing was applied."""
class DatabaseRefused(DatabaseUnavailable, code=50306): """Account refused, or no such database."""
class Overloaded(QtmError, code=50307): """Too many bytes of bodies and answers are held."""
class DuplicateKey(QtmError): """A unique key exists already. The DAO answers it; callers never see it."""
class ForkedProcess(QtmError): """A manager or a database is used in a child process of its own process."""
class SettingsError(QtmError): """Settings are missing or wrong; the message lists every fault."""
class DatabaseTlsFault(DatabaseRefused, SettingsError): """The TLS that the URL asks for cannot be had."""
class DatabaseInUse(SettingsError): """Another process holds the SQLite file."""
class EngineError(QtmError): """The engine cannot be imported, or can never run a backtest."""
class SchemaError(QtmError): """The database has a schema that this version cannot work with."""
class ServiceUnreachable(QtmError): """A client got no answer from its service."""
# fmt: on


def shown_errors(parent: type[QtmError] = QtmError) -> list[type[QtmError]]:
    """The errors that an answer can have: those with a code of their own."""
    children = [child for child in parent.__subclasses__() if "code" in vars(child)]
    return [parent, *(error for child in children for error in shown_errors(child))]


def without_traceback(error: E) -> E:
    """An error that is answered later than it was caught, without the frames that it came through, which
    would keep all that they hold. One that means a fault of ours stays as it is, for the log."""
    if type(error) is not QtmError:
        error.__context__ = error.__cause__ = error.__traceback__ = None
    return error


# ==== 2 Settings ============================================================================================
# One frozen dataclass: default < environment QTM_* < flag. A service does not start with a wrong setting:
# `problems()` returns all faults at once, each under the environment variable's name. No repr and no message
# contains a secret (tokens, the database password).

BASE_DIR = os.path.dirname(os.path.realpath(__file__))
TIMEOUT_SECONDS = (0.001, 31_536_000)  # of one attempt: the least and the greatest, in settings and requests
ATTEMPTS = (1, 100)
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")  # an IPv4 address too
ORIGIN = re.compile(rf"(https?://)(\[[0-9A-Fa-f:.]+\]|{HOST_NAME.pattern})(:[0-9]{{1,5}})?", re.IGNORECASE)
MYSQL_URL = "mysql://USER:PASSWORD@HOST:PORT/NAME"
MYSQL_HOST = re.compile(r"(?:\[([^][]+)\]|([^][:]+))(?::([0-9]{1,5}))?")
SSL_MODES = ("disabled", "required", "verify")
MYSQL_OPTIONS = ("ssl_mode", "ssl_ca", "ssl_cert", "ssl_key", "sync_wait", "unix_socket")


def _is_host(text: str) -> bool:
    """Whether this is a host name or an IP address, without scheme, brackets and port."""
    try:
        return HOST_NAME.fullmatch(text) is not None or socket.inet_pton(socket.AF_INET6, text) != b""
    except (OSError, ValueError):  # the latter for what is not even ASCII
        return False


class DatabaseHost(NamedTuple):
    """One server of a database URL."""

    name: str = "127.0.0.1"
    port: int = 3306

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True)
class DatabaseUrl:
    """The parts of a database URL. ``kind`` is ``sqlite`` (then only ``path`` counts) or ``mysql``."""

    kind: str
    path: str = ""
    hosts: tuple[DatabaseHost, ...] = (DatabaseHost(),)  # in the order in which they are tried
    user: str = ""
    password: str = field(default="", repr=False)
    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def ssl_mode(self) -> str:
        """One of SSL_MODES, or ``preferred``: TLS where the server offers it, unverified."""
        return "verify" if "ssl_ca" in self.options else self.options.get("ssl_mode", "preferred")

    @property
    def is_remote(self) -> bool:
        """Whether the connection leaves this machine."""
        is_local = all(host.name in LOOPBACK_HOSTS for host in self.hosts)
        return not is_local and "unix_socket" not in self.options


def _mysql_host(text: str) -> DatabaseHost:
    found = MYSQL_HOST.fullmatch(text)
    name, port = ((found[1] or found[2]).lower(), int(found[3] or 3306)) if found else ("", 0)
    if not _is_host(name) or not 1 <= port <= 65535:
        several = "several as HOST:PORT,HOST:PORT, IPv6 as [::1]:3306"
        raise SettingsError(f"a host cannot be read: {MYSQL_URL}, {several}")
    return DatabaseHost(name, port)


def _mysql_options(query: str) -> dict[str, str]:
    """The options of a URL. Raises SettingsError, and ValueError for a text that is no query."""
    options = dict(urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    choices = {"ssl_mode": SSL_MODES, "sync_wait": ("0", "1")}
    for name, value in options.items():
        if name not in MYSQL_OPTIONS:
            raise SettingsError(f"unknown option {name!r}; known are {', '.join(MYSQL_OPTIONS)}")
        if value not in choices.get(name, (value,)):
            raise SettingsError(f"{name} must be {' or '.join(choices[name])}, not {value!r}")
    return options


def parse_database_url(url: str) -> DatabaseUrl:
    """``sqlite:///file.db`` (relative), ``sqlite:////abs/file.db`` or
    ``mysql://user:password@host1:3306,[::1]:3306/name?ssl_ca=file``; ``mariadb://`` and ``mysql+pymysql://``
    mean the same as ``mysql://``. Raises SettingsError, without the password."""
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and separator:
        path = urllib.parse.unquote(rest[1:])
        if not rest.startswith("/") or not path or path == ":memory:" or "\0" in path:
            raise SettingsError("a SQLite database is a file: sqlite:///qtm.db or sqlite:////folder/qtm.db")
        return DatabaseUrl("sqlite", path=path)
    if scheme not in ("mysql", "mariadb", "mysql+pymysql"):
        raise SettingsError("must start with sqlite:/// or mysql://")
    parts = cast("re.Match[str]", re.fullmatch(r"(?s)([^/?#]*)([^?#]*)\??([^#]*)(.*)", rest))
    authority, path, query, fragment = parts.groups()
    # the rest of a password that is not encoded
    if "@" in path + fragment or ("@" in query and "@" not in authority):
        raise SettingsError("cannot be read: special characters of user and password must be percent-encoded")
    account, _, servers = authority.rpartition("@")
    user, _, password = map(urllib.parse.unquote, account.partition(":"))
    name = urllib.parse.unquote(path.lstrip("/"))
    if not servers or not name:
        raise SettingsError(f"needs a host and a database name: {MYSQL_URL}")
    try:
        hosts = tuple(map(_mysql_host, servers.split(",")))
        options = _mysql_options(query)
    except ValueError:
        raise SettingsError(f"cannot be read: {MYSQL_URL}, special characters percent-encoded") from None
    return DatabaseUrl("mysql", "", hosts, user, password, name, options)


def _database_url_fault(url: str) -> str:
    try:
        parse_database_url(url)
    except SettingsError as error:
        return error.message
    return ""


SETTING_FORMS = {  # of the text of a setting, by its type
    bool: ("1 or 0", r"(?i)1|true|yes|on|0|false|no|off|"),
    int: ("a whole number", r"-?[0-9]{1,18}"),
    float: ("a number", r"-?[0-9]+(\.[0-9]+)?"),
}
# Kubernetes sets these for a Service that is called qtm
SERVICE_LINK = re.compile(r"QTM_(PORT=\w+://|PORT_[0-9]|SERVICE_).*")
CLIENT_NAMES = ("QTM_URL", "QTM_TOKEN")  # of clients of a service: no settings of its own
SECRET_NAMES = ("database_url", "api_token", "read_token")  # each also as a file that holds it
SECRET_FILES = {f"{name}_file" for name in SECRET_NAMES}
SECRET_VARIABLES = {f"QTM_{name.upper()}" for name in (*SECRET_NAMES, *SECRET_FILES)}


def usable_cpus(cgroups: str = "/sys/fs/cgroup") -> float:
    """The CPUs that this process may use: those of its affinity, or fewer by the quota of its container
    (cgroup v2, ``cpu.max``: microseconds of a period, or ``max``)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        group = pathlib.Path("/proc/self/cgroup").read_text().split("0::/")[-1].strip()
        quota, period = (pathlib.Path(cgroups) / group / "cpu.max").read_text().split()
        return min(count, int(quota) / int(period))
    except (OSError, ValueError):  # no cgroup v2, or no quota
        return count


def _parse_setting(kind: type, text: str) -> Any:
    """The value of a setting from its text. Raises ValueError with the reason."""
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    form, pattern = SETTING_FORMS.get(kind, ("", "(?s).*"))
    if not re.fullmatch(pattern, text):
        raise ValueError(f"must be {form}, not {text!r}")
    return text.lower() in ("1", "true", "yes", "on") if kind is bool else kind(text)


def _read_secret(path: str) -> str:
    """What a file holds; several tokens may stand on a line each. Raises ValueError with the reason."""
    try:
        parts = pathlib.Path(path).read_text("utf-8").split()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "it holds bytes that are no text")
        raise ValueError(f"{path} cannot be read: {reason}") from None
    if not parts:
        raise ValueError(f"{path} holds nothing")
    return ",".join(parts)


TOKEN_NAME = "[A-Za-z0-9._-]{1,64}"


def named_tokens(texts: Iterable[str]) -> list[tuple[str | None, str]]:
    """The name, or None, and the token of each ``token`` or ``name:token``."""
    parts = [text.rpartition(":") for text in texts]
    return [(name or None, token) for name, _, token in parts]


def _setting(
    default: Any, meaning: str, low: float = -math.inf, high: float = math.inf, secret: bool = False
) -> Any:
    return field(default=default, repr=not secret, metadata={"meaning": meaning, "low": low, "high": high})


@dataclass(frozen=True)
class Settings:
    """All settings of qtm; each is read from the environment as ``QTM_`` + its name in capitals."""

    # fmt: off
    database_url: str = _setting("sqlite:///qtm.db", f"sqlite:///FILE or {MYSQL_URL}", secret=True)
    host: str = _setting("127.0.0.1", "address to listen on; beyond loopback with a token")
    port: int = _setting(8080, "TCP port to listen on", 0, 65535)
    api_token: tuple[str, ...] = _setting((), "bearer tokens of clients, or name:token, comma-separated", secret=True)
    read_token: tuple[str, ...] = _setting((), "bearer tokens that may read and not write", secret=True)
    allow_anonymous: bool = _setting(False, "serve another address than loopback without a token")
    allowed_hosts: tuple[str, ...] = _setting((), "names accepted in the Host header, comma-separated")
    allowed_origins: tuple[str, ...] = _setting((), "origins whose pages may write, comma-separated")
    engine: str = _setting("qtm:run_backtest", "the engine, as package.module:attribute")
    engine_start: str = _setting("", "fork or spawn; default: spawn where the import leaves threads")
    engine_start_seconds: float = _setting(300.0, "time for the import of the engine, at most", 0.1, 86_400)
    data_dir: str = _setting(os.path.join(BASE_DIR, "examples", "prices"), "prices of the built-in engine")
    workers: int = _setting(1, "how many tasks run at the same time; auto: one less than the CPUs", 1, 256)
    tasks_per_process: int = _setting(1, "tasks of an engine process; above 1 it stays warm", 1, 100_000)
    poll_seconds: float = _setting(30.0, "how often the scheduler looks for work by itself", 0.05, 3600)
    task_timeout_seconds: float = _setting(3600.0, "wall time of an attempt by default", *TIMEOUT_SECONDS)
    max_attempts: int = _setting(3, "attempts of a task by default", *ATTEMPTS)
    retry_backoff_seconds: float = _setting(5.0, "wait for the second attempt; doubles, up to 600", 0, 600)
    heartbeat_seconds: float = _setting(10.0, "between two signs of life of running tasks", 0.05, 3600)
    lease_seconds: float = _setting(45.0, "without a heartbeat so long a task is rescued", 0.1, 86_400)
    shutdown_grace_seconds: float = _setting(8.0, "from SIGTERM until running tasks are released", 0, 86_400)
    pool_size: int = _setting(8, "database connections, at most", 2, 256)
    max_body_bytes: int = _setting(8 * 1024 * 1024, "largest request body", 1024, 128 * 1024 * 1024)
    max_connections: int = _setting(512, "client connections, at most; more get 503", 1, 65536)
    tls_cert: str = _setting("", "PEM file of the certificate (and its chain) to serve HTTPS with")
    tls_key: str = _setting("", "PEM file of its private key")
    max_pending: int = _setting(0, "more pending tasks get 429; 0 sets no limit", 0, 10_000_000)
    task_memory_mb: int = _setting(0, "memory of one attempt; 0 sets no limit", 0, 16_777_216)
    retention_days: float = _setting(0.0, "delete tasks that ended longer ago; 0 keeps them", 0, 36_500)
    log_format: str = _setting("text", "text or json")
    # fmt: on

    @classmethod
    def load(cls, environ: Mapping[str, str], flags: Mapping[str, str] | None = None) -> Settings:
        """Settings from defaults, then ``environ``, then ``flags`` (field name to text); QTM_API_TOKEN_FILE
        and the like name files. Raises SettingsError with every fault at once, unknown ``QTM_*`` included."""
        # QTM_URL belongs to clients of the service
        texts = {
            name[4:].lower(): text
            for name, text in environ.items()
            if name.startswith("QTM_")
            and name not in CLIENT_NAMES
            and not SERVICE_LINK.fullmatch(f"{name}={text}")
        }
        kinds = {item.name: type(item.default) for item in dataclasses.fields(cls)}
        faults = dict.fromkeys(sorted(texts.keys() - kinds - SECRET_FILES), "there is no such setting")
        texts.update(flags or {})
        if "database_url" in (flags or {}) and re.search(r"://[^/]*:[^/]*@", texts["database_url"]):
            faults["database_url"] = "a process list would show the password: set it in the environment"
        values: dict[str, Any] = {}
        for name, kind in kinds.items():
            source = f"{name}_file" if f"{name}_file" in texts else name
            try:
                if source != name and name in texts:
                    raise ValueError(f"QTM_{name.upper()} is set too: set one of the two")
                if source in texts and source not in faults:
                    text = _read_secret(texts[source]) if source != name else texts[source]
                    if (name, text) == ("workers", "auto"):
                        text = str(max(1, min(256, int(usable_cpus()) - 1)))
                    values[name] = _parse_setting(kind, text)
            except ValueError as error:
                faults[source] = str(error)
        settings = cls(**values)
        faults.update(settings._faults(unread={name.removesuffix("_file") for name in faults}))
        if faults:
            errors = [FieldError(f"QTM_{name.upper()}", message) for name, message in faults.items()]
            lines = [f"\n  {error.field}: {error.message}" for error in errors]
            raise SettingsError(f"settings are wrong:{''.join(lines)}", errors)
        return settings

    def problems(self) -> list[str]:
        """Every fault of these settings, as sentences that start with the name in the environment."""
        return [f"QTM_{name.upper()}: {message}" for name, message in self._faults().items()]

    def _faults(self, unread: Collection[str] = ()) -> dict[str, str]:
        """The type of each field, or else its range and what the fields must mean together. A field that is
        ``unread`` stands at its default, and takes part in no further check."""
        mistyped, faults = dict[str, str](), dict[str, str]()
        for item in dataclasses.fields(self):
            value, kind = getattr(self, item.name), type(item.default)
            low, high = item.metadata["low"], item.metadata["high"]
            if not isinstance(value, kind) and not (kind is float and type(value) is int):
                mistyped[item.name] = f"must be {kind.__name__}, not {type(value).__name__}"
            elif kind in (int, float) and not low <= value <= high:
                faults[item.name] = f"must be from {low} to {high}, not {value}"
        for names, is_wrong, message in self._checks() if not mistyped else ():
            if is_wrong and not {*unread} & {*names.split()}:
                faults.setdefault(names.split()[0], message)
        return mistyped | faults

    def _checks(self) -> Iterator[tuple[str, Any, str]]:
        """The fields that a check reads, the one to change first; whether they are wrong; and the message."""
        engine_form = r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*"
        token_form = f"({TOKEN_NAME}:)?[A-Za-z0-9._~+/-]{{8,}}=*"
        token_rule = "each token must have at least 8 of the characters A-Z a-z 0-9 . _ ~ + / -"
        full, reading = (
            {one for _, one in named_tokens(texts)} for texts in (self.api_token, self.read_token)
        )
        hosts = ", ".join(repr(host) for host in self.allowed_hosts if not _is_host(host))
        origins = ", ".join(repr(origin) for origin in self.allowed_origins if not ORIGIN.fullmatch(origin))
        is_closed = self.host in ("", *LOOPBACK_HOSTS) or self.api_token or self.allow_anonymous
        yield from (
            ("engine_start", self.engine_start not in ("", "fork", "spawn"), "must be fork or spawn"),
            ("log_format", self.log_format not in ("text", "json"), "must be text or json"),
            ("task_memory_mb", 0 < self.task_memory_mb < 64, "must be 0, or 64 for Python itself and more"),
            ("engine", not re.fullmatch(engine_form, self.engine), "must be package.module:attribute"),
            ("host", not self.host, "must be a host name or an IP address; 0.0.0.0 is all of them"),
            ("allowed_hosts", hosts,
             f"{hosts} must be a host name or an IP address, without scheme, brackets and port"),
            ("allowed_origins", origins,
             f"{origins} must be as browsers send it, such as https://qtm.example, without a path"),
            ("database_url", fault := _database_url_fault(self.database_url), fault),
            ("lease_seconds heartbeat_seconds", self.lease_seconds < 2 * self.heartbeat_seconds,
             f"must be at least twice QTM_HEARTBEAT_SECONDS ({self.heartbeat_seconds:g})"),
            ("host allow_anonymous", not is_closed,
             f"{self.host} can be reached from outside: set QTM_API_TOKEN, or QTM_ALLOW_ANONYMOUS=1"),
            ("tls_key tls_cert", self.tls_cert and not self.tls_key, "HTTPS needs it beside QTM_TLS_CERT"),
            ("tls_cert tls_key", self.tls_key and not self.tls_cert, "HTTPS needs it beside QTM_TLS_KEY"),
            *((name, not all(re.fullmatch(token_form, token) for token in tokens), token_rule)
              for name, tokens in (("api_token", self.api_token), ("read_token", self.read_token))),
            ("read_token api_token", self.read_token and not self.api_token, "needs QTM_API_TOKEN too"),
            ("read_token api_token", reading & full, "has a token of QTM_API_TOKEN"),
        )  # fmt: skip


# ==== 3 JSON ================================================================================================
# Strict JSON (RFC 8259) in both directions. The parser refuses what the json module accepts: NaN, duplicate
# keys, lone surrogates, numbers beyond 64 bits, unlimited depth.

MAX_JSON_DEPTH = 64
# of one request: each takes 8 to 300 bytes of memory, an empty list 64 for 3 bytes of the body
MAX_BODY_VALUES = 1_000_000
BRACKETS = bytes.maketrans(b"{}", b"[]")

# Compact strict JSON. Raises ValueError for NaN, infinities and cycles, TypeError for other types.
dump_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

# The same text whatever the order of the keys, for hashes.
sorted_json = json.JSONEncoder(sort_keys=True).encode


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        name = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {name!r} stands twice in one object")
    return result


def _strict_int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"the number {reprlib.repr(text)[1:-1]} does not fit 64 bits")
    return int(text)


def _strict_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:24]} is beyond a double")
    return value


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_strict_json = json.JSONDecoder(
    object_pairs_hook=_unique_keys,
    parse_int=_strict_int,
    parse_float=_strict_float,
    parse_constant=_no_constant,
)


def _json_depth(body: bytes) -> int:
    """How deep the brackets outside texts nest; more than MAX_JSON_DEPTH are not counted to the end. A few
    passes in C over the whole body: 30 ms for 10 MB, where a loop over its brackets takes 900."""
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    outside = b"".join(unescaped.split(b'"')[::2])
    depth, brackets = 0, outside.translate(BRACKETS, bytes(set(range(256)) - set(b"[]{}")))
    while depth <= MAX_JSON_DEPTH and b"[]" in brackets:  # each pass takes the innermost level
        depth, brackets = depth + 1, brackets.replace(b"[]", b"")
    return depth + brackets.count(b"[")


def _bad_text(value: Any) -> str | None:
    """Why a text in a document of bounded depth cannot be stored, or None."""
    if isinstance(value, str):
        if "\0" in value:
            return "a text holds NUL"
        is_cut = not value.isascii() and re.search("[\ud800-\udfff]", value)
        return "a text holds half of a surrogate pair" if is_cut else None
    items = (*value, *value.values()) if isinstance(value, dict) else value
    return next(filter(None, map(_bad_text, items)), None) if isinstance(items, (list, tuple)) else None


def parse_json(body: bytes) -> Any:
    """The value of one strict JSON text: UTF-8 without BOM, no duplicate keys, NaN, lone surrogates or NUL,
    at most 64 deep, integers within 64 bits, floats within a double. Raises MalformedJSON."""
    try:
        if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH and _json_depth(body) > MAX_JSON_DEPTH:
            raise ValueError(f"it nests deeper than {MAX_JSON_DEPTH} levels")
        if body.startswith(b"\xef\xbb\xbf"):
            raise ValueError("it starts with a byte order mark")
        value = _strict_json.decode(body.decode("utf-8"))
        if b"\\u" in body and (fault := _bad_text(value)):
            raise ValueError(fault)
        return value
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not UTF-8"
    except ValueError as error:
        reason = str(error)
    raise MalformedJSON(f"the body is not strict JSON: {reason}")


def parse_body(body: bytes) -> Any:
    """The value of a body of at most MAX_BODY_VALUES values: each has a comma, a bracket or a brace before it,
    and those in texts count, too. Raises MalformedJSON."""
    most = body.count(b",") + body.count(b"[") + body.count(b"{")
    if most > MAX_BODY_VALUES:
        words = f"{most} commas, brackets and braces, more than {MAX_BODY_VALUES}"
        raise MalformedJSON(f"the body has too many values: {words}")
    return parse_json(body)


# ==== 4 Fields ==============================================================================================
# What fields of requests may be, written as JSON schemas in short form: bodies and parameters are checked by
# them, and the OpenAPI document shows them. So HTTP, `import qtm` and the OpenAPI document agree.

MAX_TASKS_PER_CREATE = 100_000
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024  # of config and params of one create, summed over its tasks
MAX_LISTED = 100  # faults of one request that an answer lists; all are counted
# Control and format characters, spaces other than U+0020, private use and tags. Written out, so that every
# Python and the OpenAPI document mean the same.
NOT_PRINTABLE = (
    r"\x00-\x1f\x7f-\xa0\xad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000"
    "\\ue000-\\uf8ff\\ufeff\\ufff9-\\uffff\U000e0000-\U000e00ff\U000f0000-\U0010ffff"
)
STOCK_CODE_LENGTH = 64  # characters
STOCK_CODE_PATTERN = (
    f"[^ {NOT_PRINTABLE}](?:[^{NOT_PRINTABLE}]{{0,{STOCK_CODE_LENGTH - 2}}}[^ {NOT_PRINTABLE}])?"
)
STOCK_CODE_RULE = f"be a text of 1 to {STOCK_CODE_LENGTH} printable characters without a space at either end"
BATCH_ID_RULE = "be a text of 1 to 64 of A-Z a-z 0-9 . _ : - and start with a letter or digit"
ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
NOUNS = {
    **{"string": "a text", "boolean": "true or false", "array": "a list", "object": "an object"},
    **{"integer": "a whole number", "number": "a number", "null": "null"},
}
KINDS: dict[Any, str] = {  # of JSON; Mapping is for those that are no dict
    **{bool: "boolean", str: "string", int: "integer", float: "number", type(None): "null"},
    **{list: "array", tuple: "array", dict: "object", Mapping: "object"},
}
MAX_DOUBLE = sys.float_info.max
REFERENCE = "#/components/schemas/"  # before the name of a component
BOUNDS = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}
RULES: dict[str, str] = {}  # of a pattern: what a text must do to match
MATCHES: dict[str, Callable[[str], Any]] = {}  # of a pattern: whether a text does
SCHEMAS: dict[str, dict[str, Any]] = {}  # the components that requests are made of, each room adds its own


def matching(pattern: str, rule: str = "") -> dict[str, Any]:
    """The schema of a text that matches the whole pattern."""
    shown, whole = f"^(?:{pattern})$", pattern.replace("[^", r"[^\ud800-\udfff")  # which UTF-8 cannot hold
    RULES[shown], MATCHES[shown] = rule, re.compile(whole).fullmatch
    return {"type": "string", "pattern": shown}


TYPES: dict[str, Mapping[str, Any]] = {  # each room adds its own
    "any": {},
    "null": {"type": "null"},
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "count": {"type": "integer", "minimum": 0},
    "share": {"type": "number", "minimum": 0, "maximum": 1},
    "fraction": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "date-time"},
    "list": {"type": "array", "items": {}, "minItems": 1},
    "code": matching(STOCK_CODE_PATTERN, STOCK_CODE_RULE),
    "batch": matching(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", BATCH_ID_RULE),
    "key": matching(r"[\x21-\x7e]{1,255}", "be 1 to 255 visible ASCII characters"),
}
SHORT_FORM = re.compile(r'(.+?)(?: = (\S+))?(?: "([^"]*)")?', re.DOTALL)
ONE_FORM = re.compile(r"(\w+)(\*?)(?: (\S+?)\.\.(\S*))?")
OBJECT_FORM = re.compile(r"^(\w+)(!?) = (.*(?:\n .*)*)", re.MULTILINE)


def component(name: str) -> dict[str, Any]:
    """The schema that refers to a component."""
    return {"$ref": f"{REFERENCE}{name}"}


def _one_schema(form: str) -> dict[str, Any]:
    match = ONE_FORM.fullmatch(form)
    if match is None:
        raise ValueError(f"no schema in short form: {form}")
    name, is_list, *bounds = match.groups()
    found = {**(TYPES[name] if name in TYPES else component(name))}
    if is_list:
        found = {"type": "array", "items": found}
    names = BOUNDS.get(found.get("type", ""), ("minimum", "maximum"))
    return found | {key: json.loads(text) for key, text in zip(names, bounds, strict=True) if text}


def any_of(*forms: str) -> dict[str, Any]:
    """The schema of what has one of these forms, each a literal, or a name and perhaps a range."""
    literals = [json.loads(form) for form in forms if form[0] in '"0']
    if len(forms) == len(literals) == 1:
        return {"const": literals[0]}
    schemas = [{"type": "string", "enum": literals}] if literals else []
    schemas += [_one_schema(form) for form in forms if form[0] not in '"0']
    first, *others = schemas
    if others != [TYPES["null"]] or "type" not in first:
        return {"anyOf": schemas} if others else first
    nullable = {"enum": [*literals, None]} if literals else {}
    return {**first, "type": [first["type"], "null"], **nullable}


@functools.cache
def schema_of(form: str) -> dict[str, Any]:
    """The JSON schema that is written in short as ``int 1..100|null = 3 "Tries."``: alternatives, a default,
    a description. An alternative is a literal of JSON, or a name of TYPES or else of a component; ``*`` for a
    list of these; the least and the greatest value, length or number of items."""
    match = SHORT_FORM.fullmatch(form)
    text, default, words = match.groups() if match else ("", None, None)
    found = any_of(*text.split("|"))
    found |= {"default": json.loads(default)} if default else {}
    return found | ({"description": words} if words else {})


def object_of(fields: str) -> dict[str, Any]:
    """The schema of an object with fields such as ``task_id: str, traceback?: str``, of which those with a
    question mark may be missing."""
    parts = [one.partition(": ") for one in re.split(r", (?=[\w-]+\??: )", " ".join(fields.split())) if one]
    return {
        "type": "object",
        "properties": {name.removesuffix("?"): schema_of(form) for name, _, form in parts},
        "required": [name for name, _, _ in parts if not name.endswith("?")],
    }


def objects_of(text: str) -> dict[str, dict[str, Any]]:
    """The schemas of objects, each ``Name = its fields``; one with an exclamation mark has no others."""
    closed = {"!": {"additionalProperties": False}, "": {}}
    return {name: object_of(fields) | closed[mark] for name, mark, fields in OBJECT_FORM.findall(text)}


def form_range(bounds: tuple[float, float]) -> str:
    """The least and the greatest value in short form."""
    return f"{bounds[0]}..{bounds[1]}"


def form_choice(values: Iterable[str]) -> str:
    """One of these texts, in short form."""
    return "|".join(map(json.dumps, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _date_of(value: Any) -> datetime.date | None:
    with contextlib.suppress(ValueError):
        if isinstance(value, str) and ISO_DATE.fullmatch(value):
            return datetime.date.fromisoformat(value)
    return None


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return SCHEMAS[schema["$ref"].removeprefix(REFERENCE)] if "$ref" in schema else schema


def rule_of(schema: Mapping[str, Any]) -> str:
    """What a value of this schema must do, in words."""
    schema = _resolved(schema)
    if "anyOf" in schema:
        return " or ".join(map(rule_of, schema["anyOf"])).replace(" or be ", " or ")
    kind = schema["type"] if isinstance(schema["type"], str) else schema["type"][0]
    low, high = (schema.get(name) for name in BOUNDS.get(kind, ("minimum", "maximum")))
    if "pattern" in schema:
        return RULES[schema["pattern"]]
    if "enum" in schema:
        known = [one for one in schema["enum"] if one]
        return f"be {'one of ' * (len(known) > 1)}{', '.join(known)}"
    if "format" in schema:
        return "be a date, YYYY-MM-DD"
    if "exclusiveMaximum" in schema:
        return f"be {NOUNS[kind]} of at least {low} and less than {schema['exclusiveMaximum']}"
    if low is None:
        return f"be {NOUNS[kind]}{' with at least one name' * ('minProperties' in schema)}"
    if high is None:
        return f"be {NOUNS[kind]}{' that is not empty' if kind in BOUNDS else f' of at least {low}'}"
    unit = {"string": " characters", "array": " items"}.get(kind, "")
    return f"be {NOUNS[kind]} {'of' if kind in BOUNDS else 'from'} {low} to {high}{unit}"


def _schema_for(value: Any, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema, or the first of its alternatives, for values of this type. JSON does not distinguish 3.0 from 3:
    both are whole numbers."""
    kind = KINDS.get(type(value)) or next((KINDS[one] for one in KINDS if isinstance(value, one)), "unknown")
    if schema.get("type") == kind:
        return schema
    for one in schema.get("anyOf") or (schema,):
        found = _resolved(one)
        kinds = found.get("type", kind)
        if kind in kinds or (kind == "integer" and "number" in kinds):
            return found
        if kind == "number" and "integer" in kinds and value.is_integer():
            return found
    return None


def _is_right(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value of the right type is within its bounds."""
    if isinstance(value, str):
        return (
            ("enum" not in schema or value in schema["enum"])
            and ("pattern" not in schema or MATCHES[schema["pattern"]](value) is not None)
            and ("format" not in schema or _date_of(value) is not None)
            and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)
        )
    if isinstance(value, (int, float)):
        low, high = schema.get("minimum", -MAX_DOUBLE), schema.get("maximum", MAX_DOUBLE)
        return bool(low <= value <= high and value < schema.get("exclusiveMaximum", math.inf))
    if isinstance(value, (list, tuple)):
        return bool(schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf))
    return "minProperties" not in schema or len(value) >= schema["minProperties"]


def faults_of(path: str, value: Any, schema: Mapping[str, Any]) -> list[FieldError]:
    """All faults of a value that a schema of ours is for, each with the path of its field."""
    found = _schema_for(value, schema)
    if found is None or not _is_right(value, found):
        words = f"must {rule_of(schema if found is None else found)}"
        is_code = type(value) is int and "a text" in words and abs(value) < 10**64
        return [FieldError(path, f'{words}; write "{value}", in quotes' if is_code else words)]
    faults = list[FieldError]()
    if isinstance(value, (str, int, float)):
        return faults
    items, members, others = (found.get(name) for name in ("items", "properties", "additionalProperties"))
    if items:
        for i, one in enumerate(value):
            if faults_of("", one, items):  # the paths of all would take longer
                faults += faults_of(f"{path}[{i}]", one, items)
    if members or isinstance(others, dict):
        stem = f"{path}." if path else ""
        missing = [name for name in found.get("required", ()) if name not in value]
        faults += [FieldError(f"{stem}{name}", "is missing") for name in missing]
        for name, one in value.items():
            form = members.get(name, others) if members else others
            if form is False:
                faults.append(FieldError(f"{stem}{name}", "there is no such field"))
            elif form:
                faults += faults_of(f"{stem}{name}", one, form)
    return faults


def invalid_request(faults: Sequence[FieldError]) -> InvalidRequest:
    """One error for all faults; the message names the first, so that it helps without reading ``errors``."""
    listed = f"; {MAX_LISTED} are listed" if len(faults) > MAX_LISTED else ""
    more = f" (and {len(faults) - 1} more{listed})" if len(faults) > 1 else ""
    return InvalidRequest(f"{faults[0].field or 'body'}: {faults[0].message}{more}", faults)


def _whole(value: Any) -> Any:
    """JSON does not distinguish 3.0 from 3, nor do its schemas: both are whole numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _without_numpy(value: Any) -> Any:
    """Scalars and arrays of numpy as Python's own, by duck typing; times as texts, since numpy itself would
    give nanoseconds. A duration, a Series and a structured array stay as they are."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if not kind or kind == "m" or hasattr(value, "index") or value.dtype.names:
        return value
    return value.astype(str).tolist() if kind == "M" else value.tolist()


# ==== 5 Sweeps ==============================================================================================
# The params of a sweep: the product of lists and ranges, kept where conditions hold, or a sample of it.

MAX_COMBINATIONS = 1_000_000  # that are checked against conditions, about a second
MAX_VALUES = 100_000  # of one range
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
OPERATOR = f"({'|'.join(OPERATORS)})"
SIDE = r"(?=\s*[^\s<>=!])"  # of a condition: it is not blank; no place in it can be read in two ways
CONDITION = re.compile(rf"{SIDE}([^<>=!\n]+){OPERATOR}{SIDE}([^<>=!\n]+)")
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
COMPARE_RULE = 'compare two names or numbers by < <= > >= == or !=, such as "fast < slow"'
TYPES["condition"] = matching(CONDITION.pattern, COMPARE_RULE)
SCHEMAS.update(
    objects_of("""
Sweep! = grid: Grid, where?: condition*, sample?: int 1.. "So many of the combinations, chosen at random.",
    seed?: int = 0 "Of the choice; the same seed gives the same sample."
Range! = from: float, to: float "Included.", step?: float = 1 "It leads from one to the other."
""")
)
GRID_VALUES = schema_of("Range|list|float|str|bool|null")
SCHEMAS["Grid"] = {"type": "object", "minProperties": 1, "additionalProperties": GRID_VALUES}


class SweepError(ValueError):
    """One fault of a sweep: the path below ``sweep``, and what is wrong."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.message = path, message


def _range_values(path: str, given: Mapping[str, Any]) -> list[int | float]:
    """From ``from`` to ``to`` inclusive by ``step`` (1), in decimals: the third step of 0.1 is 0.3."""
    first, last, step = (decimal.Decimal(repr(given.get(name, 1))) for name in ("from", "to", "step"))
    if not step or (last - first) / step < 0:
        raise SweepError(f"{path}.step", f"does not lead from {first} to {last}")
    count = int((last - first) / step) + 1
    if count > MAX_VALUES:
        raise SweepError(path, f"more than {MAX_VALUES} values")
    is_whole = all(isinstance(given.get(name, 1), int) for name in ("from", "step"))
    return [(int if is_whole else float)(first + step * i) for i in range(count)]


def _grid_values(name: str, given: Any) -> Sequence[Any]:
    """The values of one parameter: a list, a range, or the one value that all have."""
    if isinstance(given, Mapping):
        return _range_values(f"grid.{name}", given)
    return given if isinstance(given, (list, tuple)) else [given]


def _condition(path: str, text: str, names: Collection[str]) -> Callable[[Mapping[str, Any]], bool]:
    """``fast < slow`` or ``stop >= 0.5`` as a function of params."""

    def side(word: str) -> Callable[[Mapping[str, Any]], Any]:
        if word in names:
            return operator.itemgetter(word)
        if not NUMBER.fullmatch(word):
            known = ", ".join(sorted(names))
            raise SweepError(path, f"{word[:60]!r} is neither a number nor one of {known}"[:300])
        number = float(word)
        return lambda _: number

    one, sign, other = cast("re.Match[str]", CONDITION.fullmatch(text)).groups()
    left, compare, right = side(one.strip()), OPERATORS[sign], side(other.strip())

    def holds(params: Mapping[str, Any]) -> bool:
        try:
            return bool(compare(left(params), right(params)))
        except TypeError:
            raise SweepError(path, f"cannot compare {left(params)!r} with {right(params)!r}"[:300]) from None

    return holds


def _combination(names: Sequence[str], values: Sequence[Sequence[Any]], place: int) -> dict[str, Any]:
    """The combination at a place of the product, which itself may be too long to be made."""
    chosen = []
    for of_name in reversed(values):
        place, i = divmod(place, len(of_name))
        chosen.append(of_name[i])
    return dict(zip(names, reversed(chosen), strict=True))


def expand_sweep(
    grid: Mapping[str, Any],
    where: Sequence[str] | Callable[[dict[str, Any]], bool] = (),
    sample: int | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The params of a sweep of the right form, in the order of the grid: the last name varies fastest. Raises
    SweepError."""
    names, values = list(grid), [_grid_values(name, given) for name, given in grid.items()]
    count = math.prod(map(len, values))
    if count > sys.maxsize:  # too long a number to be written, or for `random`
        raise SweepError("grid", "more than 2**63 combinations")
    conditions: Sequence[Callable[[Any], bool]] = (
        [where]
        if callable(where)
        else [_condition(f"where[{i}]", text, names) for i, text in enumerate(where)]
    )
    chooser = random.Random(seed)
    if sample is not None and not conditions:
        places = sorted(chooser.sample(range(count), min(sample, count)))
        return [_combination(names, values, place) for place in places]
    most, hint = MAX_TASKS_PER_CREATE, "choose a sample"
    if conditions:
        most, hint = MAX_COMBINATIONS, "a sample of them needs no conditions"
    if count > most:
        raise SweepError("grid", f"{count} combinations are more than {most}; {hint}")
    found = [dict(zip(names, each, strict=True)) for each in itertools.product(*values)]
    for holds in conditions:
        found = list(filter(holds, found))
    if not found:
        raise SweepError("where", f"none of {count} combinations is left")
    if sample is None or sample >= len(found):
        return found
    return [found[i] for i in sorted(chooser.sample(range(len(found)), sample))]


def _list_of(value: Any, most: int = MAX_COMBINATIONS) -> Any:
    """A range, array, Series or other iterable as a list of Python's own values, cut behind one more than
    ``most``; a dict with such values; else as it is."""
    if isinstance(value, Mapping):
        return {name: _without_numpy(one) for name, one in value.items()}
    found = value.tolist() if hasattr(value, "index") and hasattr(value, "tolist") else _without_numpy(value)
    if isinstance(found, (str, bytes)) or not isinstance(found, Iterable):
        return found
    return [_without_numpy(one) for one in itertools.islice(found, most + 1)]


def grid(
    where: Sequence[str] | Callable[[dict[str, Any]], bool] = (),
    sample: int | None = None,
    seed: int = 0,
    **values: Any,
) -> list[dict[str, Any]]:
    """Every combination of ``values``, as params for `BatchRequest`: ``grid(fast=range(5, 9), slow=[50,
    100])``.

    A value that is a list, range, array or ``{"from": 0.1, "to": 0.5, "step": 0.1}`` varies, any other is the
    same in all. ``where`` keeps those for which a function is true, or every condition, such as ``"fast <
    slow"``; ``sample`` of them are chosen at random by ``seed``. Raises ValueError."""
    given = {name: _list_of(value) for name, value in values.items()}
    sweep = {"where": where, "sample": _without_numpy(sample), "seed": _without_numpy(seed)}
    # a value that is the same in all may be of any type
    of_any = {name: one if isinstance(one, (Mapping, list)) else 0 for name, one in given.items()}
    asked = {
        name: one for name, one in sweep.items() if not (callable(one) or (name, one) == ("sample", None))
    }
    for path, message in faults_of("", {"grid": of_any, **asked}, SCHEMAS["Sweep"]):
        raise SweepError(path, message)
    return expand_sweep(given, **{name: _whole(one) for name, one in sweep.items()})


# ==== 6 Requests ============================================================================================
# The bodies of creates, and the queries of rankings. They validate themselves: all faults at once, each with the
# path of its field.

MAX_METRIC_NAME = 100  # characters


STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": lambda values: sum(values) / len(values),
    "median": lambda values: statistics.median(values),  # noqa: PLW0108  nothing is imported now
    "min": min,
    "max": max,
}
RANKED_NAME = r'[^"\\<>=!\x00-\x1f]'  # a character of the metrics and params that rankings can name
RANK_CONDITION = re.compile(rf"{SIDE}({RANKED_NAME}+){OPERATOR}{SIDE}([^<>=!\x00-\x1f]+)")
BY_RULE = "be the name of a metric, or params.NAME, without quotes"
CONDITION_RULE = "compare a name with a number or text by < <= > >= == or !=, such as fast<20"
TYPES["metric"] = matching(f"{RANKED_NAME}{{1,{MAX_METRIC_NAME}}}", BY_RULE)
TYPES["row_condition"] = matching(RANK_CONDITION.pattern, CONDITION_RULE)
PRIORITIES = (-100, 100)  # the least and the greatest, here and below
INITIAL_CASH = (1e-9, 10**15)
# of a create, for all its tasks; and of a TaskRequest
SHARED_FIELDS = ("batch_id", "name", "priority", "timeout_seconds", "max_attempts")
CREATE_OPTIONS = (*SHARED_FIELDS, "invalid", "reuse")
NOT_OF_RERUN = ("stock_code", "stock_codes", "params", "sweep")
MANY = f"1..{MAX_TASKS_PER_CREATE}"
FREE = {"type": "object", "additionalProperties": True}


def rank_condition(text: str) -> tuple[str, str, float | str]:
    """A name, the operator of SQL, and a number or text, of ``sharpe > 1``, say, which matches
    RANK_CONDITION."""
    name, sign, value = map(str.strip, cast("re.Match[str]", RANK_CONDITION.fullmatch(text)).groups())
    is_number = name != "stock_code" and NUMBER.fullmatch(value)
    number = max(-MAX_DOUBLE, min(float(value), MAX_DOUBLE)) if is_number else value
    return name, {"==": "=", "!=": "<>"}.get(sign, sign), number


@dataclass(frozen=True)
class RankQuery:
    """Which ranking is asked for: ``by`` a metric, of the tasks of a batch or, with ``group`` "params", of
    equal params over all stocks by a statistic of theirs; ``start``: so many rows are passed over."""

    batch_id: str
    by: str = "sharpe"
    order: str = "desc"
    group: str | None = None
    stat: str = "mean"
    where: Sequence[str] = ()
    against: str | None = None
    limit: int = 100
    start: int = 0

    def problems(self) -> list[FieldError]:
        """All faults."""
        asked = {name: one for name, one in vars(self).items() if name in SCHEMAS["Rerun"]["properties"]}
        return faults_of("", asked, SCHEMAS["Rerun"])


@dataclass(frozen=True)
class Rerun:
    """The best of a batch, to be run again: its ``top`` tasks by a metric, or, with ``group`` "params", all
    its tasks that have one of the ``top`` params. The other fields are those of `TaskManager.rank`."""

    batch_id: str
    top: int = 20
    by: str = "sharpe"
    order: str = "desc"
    group: str | None = None
    stat: str = "mean"
    where: Sequence[str] = ()

    @property
    def query(self) -> RankQuery:
        """The ranking whose first rows are the best."""
        same = {name: value for name, value in vars(self).items() if name != "top"}
        return RankQuery(**same, limit=self.top)


SCHEMAS.update(
    objects_of(f"""
CreateTask! = stock_code?: code, stock_codes?: code* {MANY}, config?: CreateConfig, params?: Params|Params* {MANY},
    sweep?: Sweep, rerun?: Rerun, dry_run?: bool = false "Store nothing; say what the create would do.",
    reuse?: "completed"|null "Take over results of the same run_key.", invalid?: "refuse"|"skip" = "refuse"
    "What becomes of tasks that the engine refuses: the whole create is, or they are skipped.",
    batch_id?: batch|null, name?: str 1..200|null, priority?: int {form_range(PRIORITIES)} = 0,
    timeout_seconds?: float {form_range(TIMEOUT_SECONDS)}|null, max_attempts?: int {form_range(ATTEMPTS)}|null
CreateConfig = strategy?: str 1..100, start_date?: date "The first day, not after end_date.",
    end_date?: date, initial_cash?: float {form_range(INITIAL_CASH)},
    commission?: fraction "A fraction of each trade's value."
Rerun! = batch_id: str 1.. "The batch whose best are run again.", top?: int {MANY} = {Rerun.top},
    by?: metric = "{Rerun.by}", order?: "asc"|"desc" = "{Rerun.order}", group?: "params"|null,
    stat?: {form_choice(STATISTICS)} = "{Rerun.stat}", where?: row_condition*
""")
)
SCHEMAS["Params"] = {**FREE, "description": "Parameters of the strategy, free."}
Combination = tuple[str, Mapping[str, Any], Mapping[str, Any]]  # stock code, config and params of a task


def date_order_faults(config: Any) -> list[FieldError]:
    """The fault of a config that ends before it starts."""
    start, end = (_date_of(config.get(name)) for name in ("start_date", "end_date"))
    is_wrong = start is not None and end is not None and start > end
    return [FieldError("config.start_date", f"{start} is after end_date {end}")] if is_wrong else []


def _create_faults(body: Any) -> list[FieldError]:
    """All faults of the form of a body of createTask."""
    faults = faults_of("", body, SCHEMAS["CreateTask"])
    if not isinstance(body, Mapping):
        return faults
    config, params = body.get("config"), body.get("params")
    if isinstance(config, Mapping):
        faults += date_order_faults(config)
    elif "config" not in body and "rerun" not in body:
        faults.append(FieldError("config", "is missing"))
    if "rerun" in body:
        faults += [FieldError(name, "give either this or rerun") for name in NOT_OF_RERUN if name in body]
    elif ("stock_code" in body) == ("stock_codes" in body):
        faults.append(FieldError("stock_code", "give either stock_code or stock_codes"))
    if params is not None and "sweep" in body:
        faults.append(FieldError("params", "give either params or sweep"))
    if isinstance(params, dict) and params and all(isinstance(value, list) for value in params.values()):
        faults.append(FieldError("params", "each value is a list: did you mean sweep.grid?"))
    return faults


def _swept_params(sweep: Mapping[str, Any], faults: list[FieldError]) -> list[dict[str, Any]]:
    """The params of a sweep. What is wrong with it becomes one of the ``faults``."""
    if any(fault.field.startswith("sweep") for fault in faults):
        return []
    try:
        return expand_sweep(**{name: _whole(value) for name, value in sweep.items()})
    except SweepError as error:
        faults.append(FieldError(f"sweep.{error.path}", error.message))
        return []


@dataclass(frozen=True)
class BatchRequest:
    """Many backtests in one: every stock code x every params object, stock-major, all or nothing. ``invalid``
    says what becomes of tasks that the engine's ``validate`` refuses: "refuse" the create, or "skip" them.
    ``reuse`` "completed" has a task take over the result of a completed one with the same run_key, in place
    of a run; where no engine is at hand to tell the run_keys (``scheduler=False``), all run. With ``rerun``
    the tasks are the best of another batch, each with its own config, over which ``config`` is merged.
    ``origin`` is the field that the params came from, for messages: ``params``, ``sweep`` or ``rerun``."""

    stock_codes: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    params: Sequence[Mapping[str, Any]] = ({},)
    batch_id: str | None = None
    name: str | None = None
    priority: int = 0
    timeout_seconds: float | None = None
    max_attempts: int | None = None
    invalid: str = "refuse"
    reuse: str | None = None
    rerun: Rerun | None = None
    origin: str = field(default="params", repr=False, compare=False)

    @classmethod
    def from_body(cls, body: Any) -> BatchRequest:
        """From the JSON body of createTask. Raises InvalidRequest that lists every fault."""
        faults = _create_faults(body)
        if isinstance(body, Mapping) and "sweep" in body:
            body = {**body, "params": _swept_params(body["sweep"], faults)}
        if faults:
            raise invalid_request(faults)
        params, rerun = body.get("params", {}), body.get("rerun")
        request = cls(
            [] if rerun else body["stock_codes"] if "stock_codes" in body else [body["stock_code"]],
            body.get("config", {}),
            [params] if isinstance(params, Mapping) else params,
            **{name: body[name] for name in CREATE_OPTIONS if name in body}
            | {name: _whole(body[name]) for name in ("priority", "max_attempts") if name in body},
            rerun=Rerun(**{name: _whole(one) for name, one in rerun.items()}) if rerun else None,
            origin=next((name for name in ("rerun", "sweep") if name in body), "params"),
        )
        if faults := request._size_faults():
            raise invalid_request(faults)
        return request

    def combinations(self) -> list[Combination]:
        """Its tasks, stock-major; equal params are one object."""
        return [(code, self.config, params) for code in self.stock_codes for params in self.params]

    def asked(self) -> dict[str, Any]:
        """Its fields as a body of createTask has them. The SHA-256 of an Idempotency-Key is made of these, so
        that a field of a later version is left out where it has its default."""
        values = {name: value for name, value in vars(self).items() if name != "origin"}
        for name in ("invalid", "reuse", "rerun"):
            if values[name] == getattr(BatchRequest, name):
                del values[name]
        if self.rerun:
            values["rerun"] = dataclasses.asdict(self.rerun)
            for name in ("stock_codes", "params"):
                if list(values[name]) in ([], [{}]):
                    del values[name]
        return values

    def _size_faults(self) -> list[FieldError]:
        """Faults that only turn up when the documents are written, and too many tasks."""
        stocks, count, sizes = len(self.stock_codes), len(self.params), list[int]()
        if stocks * count > MAX_TASKS_PER_CREATE:
            most = f"more than {MAX_TASKS_PER_CREATE} in one request"
            many = "stock_codes" if stocks > 1 else self.origin
            return [FieldError(many, f"{stocks * count} tasks are {most}")]
        for path, document in (("config", self.config), ("params", self.params)):
            try:
                sizes.append(len(dump_json(document).encode("utf-8")))
            except (TypeError, ValueError, RecursionError) as error:
                return [FieldError(path, f"cannot be written as JSON: {error}")]
        size = (sizes[0] * count + sizes[1] - count - 1) * stocks
        if size <= MAX_DOCUMENT_BYTES:
            return []
        message = f"config and params of all tasks are {size} bytes, more than {MAX_DOCUMENT_BYTES}"
        return [FieldError(self.origin, message)]


@dataclass(frozen=True)
class TaskRequest:
    """One backtest, as an engine gets it and as a Python caller asks for it.

    ``config`` is the engine's. Checked where they are present: ``strategy`` (text), ``start_date``,
    ``end_date`` (ISO, start <= end), ``initial_cash`` (> 0) and ``commission`` (0 <= x < 1, a fraction of
    each trade's value). ``params`` are the strategy's own. ``timeout_seconds`` (of one attempt) and
    ``max_attempts`` (1-100) default to the settings. ``task_id`` and ``attempt`` are set for the engine."""

    stock_code: str
    config: Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    batch_id: str | None = None
    name: str | None = None
    priority: int = 0
    timeout_seconds: float | None = None
    max_attempts: int | None = None
    task_id: str | None = None
    attempt: int = 0

    def validate(self) -> None:
        """Raises InvalidRequest with every fault. Unlike create_task, it takes no values of numpy."""
        body = {name: getattr(self, name) for name in ("stock_code", "config", *SHARED_FIELDS)}
        faults = faults_of("params", self.params, SCHEMAS["Params"])
        if fault := _bad_text(self.name):
            faults.append(FieldError("name", fault))
        if faults:
            raise invalid_request(faults + _create_faults(body))
        BatchRequest.from_body({**body, "params": [self.params]})

    def to_dict(self) -> dict[str, Any]:
        """As a dict that JSON can hold; `from_dict` gives an equal request back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskRequest:
        """The inverse of `to_dict`. Raises TypeError for unknown names."""
        return cls(**values)


_last_task_id_lock = threading.Lock()  # guards the one below; held for one computation only
_last_task_id = 0  # the 48 bits of milliseconds and 26 bits of counter of the newest id of this process


def new_task_ids(count: int) -> list[str]:
    """``count`` new UUIDs of version 7 (RFC 9562), each greater than all before it in this process: 26 bits
    after the milliseconds count up (method 1 of section 6.2), the last 48 bits are random."""
    global _last_task_id
    with _last_task_id_lock:
        now = (time.time_ns() // 1_000_000 << 26) | random.getrandbits(16)
        first = max(now, _last_task_id + 1)
        _last_task_id = first + count - 1
    ids, tail = [], os.urandom(6 * count).hex()
    for i in range(count):
        stamp = first + i
        time_text, high, low = f"{stamp >> 26:012x}", (stamp >> 14) & 0xFFF, stamp & 0x3FFF
        ids.append(
            f"{time_text[:8]}-{time_text[8:]}-7{high:03x}-{0x8000 | low:04x}-{tail[12 * i : 12 * i + 12]}"
        )
    return ids


# ==== 7 Tasks ===============================================================================================
# The models of answers: a task's status and its legal changes, the task, its attempts, batch and result.
# config, params and error are kept as the JSON text that is stored, and parsed at the first access.


# A sentence for people about each status, in English with numbers between @, and in Chinese with \1 and \2.
STATUS_TEXTS: Mapping[str, tuple[str, str]] = {
    "pending": ("Waiting for its turn.", "正在排队。"),
    "running": ("Running on the engine, attempt @attempt@, @percent@% done.", r"第 \1 次运行，已完成 \2%。"),
    "completed": ("Completed; the result is ready.", "已完成，可以查看结果。"),
    "failed": ("Failed; the error tells why.", "失败，原因见错误信息。"),
    "cancelled": ("Cancelled; it will not run.", "已取消，不会运行。"),
}
RETRIED_TEXTS = ("Waiting to be tried again, after attempt @attempt@.", r"等待重试，此前已尝试 \1 次。")
# Before each of them in the JSON of tasks. Stored documents have no space outside of texts: so it is found in
# a page without parsing, which takes fifty times as long.
STATUS_TEXT_NAME = '"status_text": '
# Of each status those that may follow it: the arrows of the module's diagram.
ARROWS: Mapping[str, Collection[str]] = {
    "pending": ("running", "cancelled"),
    "running": ("completed", "failed", "pending", "cancelled"),
    "completed": (),
    "failed": ("pending",),
    "cancelled": ("pending",),
}


class TaskStatus(str, enum.Enum):
    """Where a task stands; the value is the same word in SQL, JSON and here."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True when nothing happens any more without a client asking for it."""
        return self not in (TaskStatus.PENDING, TaskStatus.RUNNING)

    def can_become(self, other: TaskStatus) -> bool:
        """Whether a task of this status may change to the other."""
        return other.value in ARROWS[self.value]


TRANSITIONS = {status: frozenset(filter(status.can_become, TaskStatus)) for status in TaskStatus}

# Doubles are stored with at most six decimals, so that both databases print them exactly; the slack makes
# 0.29 * 100 the 29 it means.
DECIMALS = 6
PERCENT_SLACK = 0.00001


def html_table(title: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """A table for notebooks, with a column for each name in the rows. All texts are escaped."""

    def cell(kind: str, value: Any) -> str:
        text = f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
        return f"<{kind}>{html.escape(text)}</{kind}>"

    found = list(rows)
    names = [*dict.fromkeys(itertools.chain(*found))]
    cells = [[cell("th", name) for name in names]]
    cells += [[cell("td", row.get(name)) for name in names] for row in found]
    lines = [f"<tr>{''.join(row)}</tr>" for row in cells]
    return f"<table><caption>{html.escape(title)}</caption>{''.join(lines)}</table>"


@dataclass(slots=True)
class TaskInfo:
    """What is known of a task, as the API shows it; ``result`` is None unless it was asked for. ``metrics``
    are the numbers of the result's metrics, ``error`` is ``{type, message, attempt, traceback?}`` of the last
    failed attempt. Times are UTC by the database's clock, as ISO 8601 text with ``Z`` and microseconds.

    A completed task has a ``run_key``, the SHA-256 of all that its result depends on; ``drift`` is true where
    an earlier task of the same key has other metrics, and ``result_of`` names the task whose result was taken
    over in place of a run. ``created_by`` is the name of the token that created it."""

    task_id: str
    batch_id: str
    stock_code: str
    status: TaskStatus
    status_text: str
    progress: float
    message: str
    metrics: dict[str, float] | None
    run_key: str | None
    drift: bool
    attempt: int
    max_attempts: int
    timeout_seconds: float
    priority: int
    created_at: str
    run_at: str
    started_at: str | None
    finished_at: str | None
    worker_id: str | None
    engine_version: str | None
    created_by: str | None
    result_of: str | None
    config: dict[str, Any]
    params: dict[str, Any]
    error: dict[str, Any] | None
    result: dict[str, Any] | None = None

    def __repr__(self) -> str:
        sharpe = (self.metrics or {}).get("sharpe")
        words = "" if sharpe is None else f" sharpe={sharpe:.4g}"
        return f"<TaskInfo {self.task_id} {self.stock_code} {self.status.value}{words}>"

    def to_dict(self) -> dict[str, Any]:
        """The task as the API shows it; `from_dict` gives an equal one back."""
        found = {**dataclasses.asdict(self), "status": self.status.value}
        return {name: value for name, value in found.items() if name != "result" or value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskInfo:
        """The inverse of `to_dict`; names that are no fields (``queue_position``) are left out."""
        fields = {name: values[name] for name in cls.__slots__ if name != "result" or name in values}
        for name, kind in (("status", TaskStatus), ("progress", float), ("timeout_seconds", float)):
            fields[name] = kind(values[name])
        return cls(**fields)


CARD_OF_TASK = "task_id batch_id stock_code config params engine_version run_key result_of drift created_by"
CARD_OF_RUN = (
    "engine distribution python qtm host data_version attempt started_at ended_at cpu_seconds max_rss_bytes"
)


@dataclass(frozen=True)
class TaskAttempt:
    """One attempt of a task on record, and what its processes used.

    ``ending`` is None while it runs, else ``completed``, ``failed``, ``timeout``, ``crashed``,
    ``out_of_memory``, ``worker_lost``, ``released`` or ``cancelled``. ``max_rss_bytes`` is the peak of the
    largest process, ``cpu_seconds`` the sum of all; None where they were not measured. ``output_tail`` is the
    end of what the engine printed, at most 4 KiB."""

    task_id: str
    attempt: int
    worker_id: str
    started_at: str
    ended_at: str | None
    ending: str | None
    error: dict[str, Any] | None
    exit_code: int | None
    exit_signal: str | None
    max_rss_bytes: int | None
    cpu_seconds: float | None
    output_tail: str

    def to_dict(self) -> dict[str, Any]:
        """The attempt as the API shows it."""
        return dataclasses.asdict(self)


MAX_LISTED_IDS = 10_000  # of a create, in its answer: 400 kB


@dataclass(frozen=True)
class CreatedBatch:
    """The answer to a create: how many tasks, and their ids, stock-major; none where they are more than
    10,000. ``repeated`` is true when the Idempotency-Key was known; ``skipped`` tasks were refused by the
    engine and left out; ``reused`` ones have taken over the result of another. ``warnings``: of a rerun."""

    batch_id: str
    count: int
    task_ids: Sequence[str] = field(repr=False)
    repeated: bool = False
    skipped: int = 0
    reused: int = 0
    warnings: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True)
class DryRun:
    """What a create would do: ``count`` tasks, the first ten of their stock codes and params. Of all that it
    asks for, the engine refuses ``refused`` (``refusals``: the first ten, each ``{stock_code, params,
    message}``); ``skipped`` of them would be left out, else any of them refuses the create.
    ``estimate_seconds`` is of the slots that are there now, by the median of recent tasks of the strategy, or
    None."""

    count: int
    stock_codes: Sequence[str]
    params: Sequence[Mapping[str, Any]]
    skipped: int
    refused: int
    refusals: Sequence[Mapping[str, Any]]
    estimate_seconds: float | None
    warnings: Sequence[str] = field(default_factory=list)  # as of CreatedBatch


@dataclass(frozen=True)
class BatchInfo:
    """A batch with its counts by status (all five, zeros included) and mean progress (0.0-1.0).
    ``tasks_per_second`` is how many complete or fail, by the last 200 that did, and ``eta_seconds`` what is
    left at this rate; both are None while no task of it runs, or none has ended lately. ``created_by`` is the
    name of the token that created its first task."""

    batch_id: str
    name: str | None
    created_at: str
    counts: Mapping[str, int]
    progress: float
    tasks_per_second: float | None = None
    eta_seconds: float | None = None
    created_by: str | None = None
    tasks: Sequence[TaskInfo] = field(default=(), repr=False)
    next_cursor: str | None = None

    @property
    def total(self) -> int:
        """How many tasks the batch has."""
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        """How many of them have ended."""
        return self.total - self.counts["pending"] - self.counts["running"]

    @property
    def is_final(self) -> bool:
        """True when no task of it is pending or running."""
        return self.ended == self.total

    def summary(self) -> dict[str, Any]:
        """The batch without its tasks, as the API shows it."""
        names = ("batch_id", "name", "created_at", "created_by", "total", "progress")
        found = {name: getattr(self, name) for name in (*names, "tasks_per_second", "eta_seconds")}
        return {**found, "counts": dict(self.counts)}


@dataclass(frozen=True)
class TaskResult:
    """A finished task with its result (None unless completed).

    ``non_finite`` lists what is null in it because it was NaN or infinite: ``{"path": "metrics.sharpe",
    "kind": "nan"}``, or ``inf`` or ``-inf``. ``converted`` lists what has no JSON form and is kept as its text,
    or as null where it stands for a missing value: ``{"path": "trades[0].held", "type":
    "datetime.timedelta"}``."""

    task: TaskInfo
    result: dict[str, Any] | None
    non_finite: Sequence[Mapping[str, str]]
    converted: Sequence[Mapping[str, str]]

    def __repr__(self) -> str:
        return f"<TaskResult of {self.task!r}: {', '.join(self.result or ()) or None}>"

    def _repr_html_(self) -> str:
        task, members = self.task, dict(self.result or {})
        metrics = members.pop("metrics", None)
        members = {**(metrics if isinstance(metrics, dict) else {}), **members}
        rows = [
            {"name": name, "value": f"{len(one)} items" if isinstance(one, (list, dict)) else one}
            for name, one in members.items()
        ]
        return html_table(f"{task.stock_code} {dump_json(task.params)}: {task.status_text}", rows)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskResult:
        """From the data that getTaskResult answers."""
        return cls(TaskInfo.from_dict(values), values["result"], values["non_finite"], values["converted"])


class TaskPage(NamedTuple):
    """A page of tasks as the JSON text of each, separated by commas; and the cursor of the next page."""

    json: str
    next_cursor: str | None

    @property
    def tasks(self) -> list[TaskInfo]:
        """The tasks themselves."""
        return [TaskInfo.from_dict(values) for values in json.loads(f"[{self.json}]")]


# ==== 8 Ranking =============================================================================================
# Pure functions: the metrics that are kept beside a completed task, the deflated Sharpe ratio, rank
# correlation.

MAX_METRICS = 64  # of a result, kept beside the task
TRADING_DAYS = 252  # in a year, for annual figures
EULER_GAMMA = 0.5772156649015329


@functools.cache
def _normal() -> statistics.NormalDist:
    return statistics.NormalDist()


def params_key(params: Mapping[str, Any]) -> int:
    """63 bits of a hash of params in any order; among a million, two meet once in ten million times."""
    text = sorted_json(params).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def task_facts(task: TaskRequest) -> list[Any]:
    """What a ranking knows of a task: the key of its params, and its ``start_date`` and ``end_date``."""
    dates = [task.config.get(name) for name in ("start_date", "end_date")]
    return [params_key(task.params), *(one if _date_of(one) else None for one in dates)]


def return_moments(returns: Sequence[float]) -> dict[str, float]:
    """``skew`` and ``kurtosis`` (3 for a normal distribution) of returns; neither where they do not vary."""
    try:
        mean = math.fsum(returns) / len(returns)
        squares = [(one - mean) ** 2 for one in returns]
        variance = math.fsum(squares) / len(returns)
        third = math.fsum(square * (one - mean) for square, one in zip(squares, returns, strict=True))
        fourth = math.fsum(square * square for square in squares)
        skew = third / len(returns) / variance**1.5
        kurtosis = fourth / len(returns) / variance**2
    except (ArithmeticError, ValueError):  # fsum refuses inf - inf
        return {}
    return {"skew": skew, "kurtosis": kurtosis} if math.isfinite(skew + kurtosis) else {}


def is_curve(points: Any) -> bool:
    """Whether this is a list of [time, value], each value a number or None."""
    try:
        return bool(points) and {type(value) for _, value in points} <= {int, float, type(None)}
    except (TypeError, ValueError):  # its points are no pairs
        return False


def _curve_metrics(curve: Any) -> dict[str, float]:
    """``bars``, ``skew`` and ``kurtosis`` of an equity curve, a list of [time, value]; else nothing."""
    values = [value for _, value in curve] if is_curve(curve) else []
    if not values or None in values or 0 in values:
        return {}
    returns = [after / before - 1 for before, after in itertools.pairwise(values)]
    return {"bars": len(values), **return_moments(returns)}


def result_metrics(result: Mapping[str, Any]) -> tuple[dict[str, float], int]:
    """The numbers of a result's ``metrics``, at most 64, and of its equity curve ``skew``, ``kurtosis`` and
    ``bars`` where they are missing; and how many numbers are left out. Takes the result as JSON holds it."""
    given = result.get("metrics")
    pairs = given.items() if isinstance(given, dict) else ()
    numbers = [pair for pair in pairs if _is_number(pair[1])]
    metrics = dict([pair for pair in numbers if len(pair[0]) <= MAX_METRIC_NAME][:MAX_METRICS])
    left_out = len(numbers) - len(metrics)
    if "equity_curve" in result and not metrics.keys() >= {"skew", "kurtosis", "bars"}:
        for name, value in _curve_metrics(result["equity_curve"]).items():
            if len(metrics) < MAX_METRICS:
                metrics.setdefault(name, value)
    return metrics, left_out


def sharpe_error(sharpe: float, periods: float, skew: float, kurtosis: float) -> float | None:
    """The standard error of a Sharpe ratio of one period, or None where it is not defined."""
    variance = 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe * sharpe
    is_defined = periods > 1 and 0 < variance < math.inf
    return math.sqrt(variance / (periods - 1)) if is_defined else None


def expected_max_sharpe(trials: int, variance: float) -> float:
    """The greatest Sharpe ratio to expect of so many trials without skill, whose ratios have this variance;
    0 for one trial. Bailey and Lopez de Prado, The Deflated Sharpe Ratio, 2014."""
    if trials < 2:
        return 0.0
    best, next_best = _normal().inv_cdf(1 - 1 / trials), _normal().inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - EULER_GAMMA) * best + EULER_GAMMA * next_best)


def _mean_ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value, 1 for the least; equal ones have the mean of theirs."""
    ranks, before = [0.0] * len(values), 0
    order = sorted(range(len(values)), key=values.__getitem__)
    for _, places in itertools.groupby(order, key=values.__getitem__):
        ties = list(places)
        for place in ties:
            ranks[place] = before + (len(ties) + 1) / 2
        before += len(ties)
    return ranks


def sharpe_facts(metrics: Mapping[str, float]) -> list[float | None]:
    """Of the annual metric ``sharpe``: periods of a year (metric ``periods_per_year``, else 252), ratio of
    one period, and its standard error by ``skew``, ``kurtosis`` and ``bars``. None for what is not known."""
    sharpe, a_year = metrics.get("sharpe"), metrics.get("periods_per_year", TRADING_DAYS)
    ratio = sharpe / math.sqrt(a_year) if sharpe is not None and a_year > 0 else math.nan
    if not abs(ratio) < 1e100:  # a square of more is no double
        return [None, None, None]
    needed = [metrics.get(name) for name in ("bars", "skew", "kurtosis")]
    known = [value for value in needed if value is not None]
    return [float(a_year), ratio, sharpe_error(ratio, *known) if len(known) == len(needed) else None]


MAX_RANKED = 1000  # rows of a page
SHOWN_ROWS = 20  # of a page in a notebook


@dataclass
class ParamsGroup:
    """The tasks of a batch that have equal params; the values are those of one metric."""

    task_id: str  # of one that completed; empty where none has
    params: str = ""  # their text, where it is known
    count: int = 0
    missing: int = 0  # that did not complete
    values: Sequence[float] = ()
    sharpe_error: float | None = None

    def statistic(self, name: str) -> float | None:
        """One of STATISTICS; None without values, or where it is not finite."""
        found = STATISTICS[name](self.values) if self.values else math.nan
        return found if math.isfinite(found) else None

    def period_sharpe(self, periods_per_year: float) -> float | None:
        """The mean of its annual Sharpe ratios, of one period."""
        mean = self.statistic("mean")
        return None if mean is None else mean / math.sqrt(periods_per_year)


class Luck(NamedTuple):
    """How good the best of a batch's trials looks without any skill: ``expected_max`` is of one period."""

    trials: int
    expected_max: float
    periods_per_year: float

    @classmethod
    def of_groups(cls, groups: Iterable[ParamsGroup], periods_per_year: float) -> Luck:
        """A group is one trial, by the mean of its Sharpe ratios, since that is what is chosen from."""
        means = [mean for one in groups if (mean := one.period_sharpe(periods_per_year)) is not None]
        middle = math.fsum(means) / max(1, len(means))
        variance = math.fsum((mean - middle) ** 2 for mean in means) / max(1, len(means) - 1)
        return cls(len(means), expected_max_sharpe(len(means), variance), periods_per_year)

    def deflated(self, sharpe: float | None, error: float | None) -> float | None:
        """The deflated Sharpe ratio of one with this ratio and standard error, both of one period."""
        return _normal().cdf((sharpe - self.expected_max) / error) if error and sharpe is not None else None


def rank_correlation(first: Mapping[Any, float | None], second: Mapping[Any, float | None]) -> float | None:
    """Spearman's, over the keys that have a value in both."""
    pairs = [(one, second.get(key)) for key, one in first.items()]
    both = [(one, other) for one, other in pairs if one is not None and other is not None]
    try:
        return statistics.correlation(*(_mean_ranks(values) for values in zip(*both, strict=True)))
    except (statistics.StatisticsError, TypeError):  # one does not vary, or there is no pair
        return None


# ==== 9 Tables and curves ===================================================================================
# The columns of tables and exports, the page of a leaderboard, thinned equity curves.


def named_columns(keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The heads of columns by kind and name: the name, or ``metrics.trades`` for one that is taken."""
    columns, taken = dict[tuple[str, str], str](), set[str]()
    for kind, name in keys:
        if (kind, name) not in columns:
            head = name
            while head in taken:
                head = f"{kind}.{head}"
            columns[kind, name] = head
            taken.add(head)
    return columns


def flat_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the members of their ``params`` and ``metrics`` under the heads of `named_columns`."""
    kinds = ("", "params", "metrics")
    flat: list[dict[tuple[str, str], Any]] = []
    for row in rows:
        members = {**row, "": {name: value for name, value in row.items() if name not in kinds}}
        flat.append(
            {(kind, name): value for kind in kinds for name, value in (members.get(kind) or {}).items()}
        )
    heads = named_columns(sorted(dict.fromkeys(itertools.chain(*flat)), key=lambda key: kinds.index(key[0])))
    return [{heads[key]: value for key, value in one.items()} for one in flat]


@dataclass(frozen=True)
class Ranking:
    """A page of a leaderboard. Its rows are dicts: ``rank``, ``task_id``, ``stock_code``, ``params``,
    ``metrics``, ``deflated_sharpe`` and ``drift``; grouped, ``rank``, ``params``, ``value``, ``count``,
    ``missing``, ``min``, ``median``, ``mean``, ``max`` and ``deflated_sharpe``; and ``other`` where it is
    held against a batch."""

    batch_id: str
    by: str
    order: str
    stat: str | None
    trials: int | None
    expected_max_sharpe: float | None
    rank_correlation: float | None
    warnings: Sequence[str]
    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    next_cursor: str | None

    def _repr_html_(self) -> str:
        luck = self.expected_max_sharpe
        words = f", best of {self.trials} without skill: {luck:.3g}" if luck is not None else ""
        head = " | ".join([f"{self.batch_id} by {self.by}{words}", *self.warnings])
        return html_table(head, flat_rows(self.rows[:SHOWN_ROWS]))


MAX_COLUMNS = 1000  # of an export
CSV_TYPE, NDJSON_TYPE = "text/csv; charset=utf-8", "application/x-ndjson"
FORMATS = {"csv": CSV_TYPE, "ndjson": NDJSON_TYPE}  # of exports
DOCUMENTS = ("config", "params", "metrics", "error")  # the objects of a task
TASK_FIELDS = frozenset(TaskInfo.__slots__) - {"status_text"}  # that an export can show
COLUMN_NAME = r"[^\S\x00-\x1f]*[^,\s\x00-\x1f][^,\x00-\x1f]*"  # not of blanks alone
COLUMN_NAMES = rf"{COLUMN_NAME}(?:,{COLUMN_NAME}){{0,{MAX_COLUMNS - 1}}}"
CELL_TYPES = frozenset((str, int, float, type(None)))  # that csv writes as JSON does; null is an empty cell
Columns = Mapping[tuple[str, str], str]  # the heads of a table's columns, by kind and name


def chosen_columns(fields: Iterable[str]) -> Columns:
    """The columns that these texts name: a field of the task, a member of one of its objects
    (``params.fast``, ``config.strategy``), or a parameter or else a metric by its name alone (of the kind
    "*")."""
    columns = dict[tuple[str, str], str]()
    for text in fields:
        kind, _, name = text.partition(".")
        is_member = bool(name) and kind in DOCUMENTS
        columns[(kind, name) if is_member else ("" if text in TASK_FIELDS else "*", text)] = text
    return columns


FIRST_FIELDS = "task_id stock_code status attempt created_at started_at finished_at engine_version"
# of an export; those of all params and metrics follow
FIRST_COLUMNS = chosen_columns([*FIRST_FIELDS.split(), "error.type", "error.message"])
# for metrics: to read doubles and write them again takes longer than all else that an export does
NUMBERS_AS_TEXT = json.JSONDecoder(parse_float=str, parse_int=str)


class TableLines:
    """Rows of tasks as lines of CSV (RFC 4180), or each as a JSON object of its columns. A row has the values
    of ``fields``, objects as JSON text."""

    def __init__(self, columns: Columns, is_csv: bool = True) -> None:
        kinds = {kind or name for kind, name in columns}
        self._has_any = "*" in kinds
        kinds |= {"params", "metrics"} if self._has_any else set()
        self._columns = columns
        self._kinds = [kind for kind in DOCUMENTS if kind in kinds]
        self.fields = [*dict.fromkeys([*(name for kind, name in columns if not kind), *self._kinds])]
        self._readers = dict.fromkeys(self._kinds, json.JSONDecoder().raw_decode)
        if is_csv and "metrics" in self._readers:
            self._readers["metrics"] = NUMBERS_AS_TEXT.raw_decode
        self._writer: Any = csv.writer(self) if is_csv else None
        self.head: str = self._writer.writerow(columns.values()) if self._writer else ""

    def write(self, text: str) -> str:
        """The file's side of `csv.writer`, whose ``writerow`` gives what this gives."""
        return text

    def line(self, row: Sequence[Any]) -> str:
        """The line of a task."""
        task: dict[str, Any] = dict(zip(self.fields, row, strict=True))
        found = {kind: read(task[kind] or "null")[0] for kind, read in self._readers.items()}
        task |= {} if self._writer else found
        if "drift" in task:
            task["drift"] = task["drift"] == 1
        found = {kind: value or {} for kind, value in found.items()} | {"": task}
        if self._has_any:
            found["*"] = {**found["metrics"], **found["params"]}
        values = [found[kind].get(name) for kind, name in self._columns]
        if not self._writer:
            return f"{dump_json(dict(zip(self._columns.values(), values, strict=True)))}\n"
        texts = [one if type(one) in CELL_TYPES else dump_json(one) for one in values]
        return cast(str, self._writer.writerow(texts))


PIECE_LENGTH = 512 * 1024  # characters, where a piece of an export ends before its page does


def pieces_of(rows: Iterable[Sequence[Any] | None], head: str, line: Callable[[Any], str]) -> Iterator[str]:
    """The lines of rows, joined to pieces: one ends with each page, for which None stands among the rows."""
    lines, length = [head], 0
    for row in rows:
        if row is not None:
            lines.append(line(row))
            length += len(lines[-1])
        if row is None or length > PIECE_LENGTH:
            yield "".join(lines)
            lines, length = [], 0


MAX_CURVES = 20
CURVE_POINTS = (2, 2000)
THINNING = "minmax"


class Curve(NamedTuple):
    """The equity curve of a task, a list of [time, value] thinned from ``length`` points, or None."""

    task_id: str
    stock_code: str
    params: dict[str, Any]
    length: int
    curve: list[list[Any]] | None


def thin_curve(curve: Sequence[Sequence[Any]], most: int) -> list[Any]:
    """At most so many of the points of a curve of [time, value], in their order. Min-max aggregation (as in
    Jugel et al., M4: A Visualization-Oriented Time Series Data Aggregation, VLDB 2014): the first and the
    last point stay, and of each of the equally long buckets between them the least and the greatest; from
    four points on these are the least and the greatest of all. Where values are None, the first None of each
    bucket stays, too, as a gap."""
    values = [value for _, value in curve]
    if len(curve) <= most:
        return [*curve]
    inner = len(curve) - 2
    buckets = (most - 2) // (3 if None in values else 2)
    kept = [0]
    for i in range(buckets):
        places = range(1 + i * inner // buckets, 1 + (i + 1) * inner // buckets)
        known = [place for place in places if values[place] is not None]
        gap = next((place for place in places if values[place] is None), None)
        ends = [choose(known, key=values.__getitem__) for choose in (min, max) if known]
        kept += sorted({place for place in (*ends, gap) if place is not None})
    return [curve[place] for place in [*kept, len(curve) - 1]]


# ==== 10 Log and counters ===================================================================================
# One log line per event; the counters of the database layer; what a forked child closes.

REMINDER_SECONDS = 10.0  # between two lines about the same ongoing trouble
MAX_ERROR_TEXT = 500  # characters of another library's error, in a message or a log line


class LogEvent(NamedTuple):
    """A short sentence and its fields; as text, one line for whatever log the host keeps."""

    event: str
    fields: Mapping[str, Any]

    def __str__(self) -> str:
        quoted, parts = json.encoder.encode_basestring_ascii, [self.event]
        for name, value in self.fields.items():
            parts.append(f"{name}={value if isinstance(value, (int, float)) else quoted(str(value))}")
        return " ".join(parts)


def error_text(error: BaseException) -> str:
    """The text of another library's exception, cut short; of a UnicodeError without the text that failed."""
    text = f"{type(error).__name__}: {error}" if isinstance(error, UnicodeError) else repr(error)
    return text[:MAX_ERROR_TEXT]


def log_events(
    level: int, events: Sequence[tuple[float, str, Mapping[str, Any]]], to: logging.Logger = logger
) -> None:
    """Log events that happened at these times of `time.time`. qtm's own handler writes their lines together:
    a write for each would cost more than all else that is done for a quick task. Builds the LogRecords
    directly: Logger.log() would walk the stack for the caller, which costs as much as the line."""
    if not to.isEnabledFor(level):
        return
    for number, (at, event, fields) in enumerate(events, 1):
        extra = {"fields": fields, "is_followed": number < len(events)}
        message = LogEvent(event, fields)
        record = to.makeRecord(to.name, level, __file__, 0, message, (), None, "log_event", extra)
        record.created, record.msecs = at, at % 1 * 1000
        to.handle(record)


def log_event(level: int, event: str, **fields: Any) -> None:
    """Log one line."""
    log_events(level, [(time.time(), event, fields)])


class Reminder:
    """When to log ongoing trouble: at once, when its text changes, every 10 s. Guarded by its owner."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._text = ""
        self._next = -math.inf

    def is_due(self, text: str) -> bool:
        """Whether to log it now."""
        now = self._clock()
        if text == self._text and now < self._next:
            return False
        self._text, self._next = text, now + REMINDER_SECONDS
        return True

    def clear(self) -> None:
        """The trouble is over."""
        self._text = ""


class DatabaseMonitor:
    """Counters of the database layer; the lock guards them and is held for additions only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, float] = {"statements": 0, "seconds": 0.0, "retries": 0}
        self._errors: Counter[str] = Counter()

    def add(self, error: str = "", **counts: float) -> None:
        """Count statements and their time, transactions that are tried again, an error by its stable name."""
        with self._lock:
            for name, count in counts.items():
                self._counts[name] += count
            if error:
                self._errors[error] += 1

    def snapshot(self) -> dict[str, Any]:
        """All counters as one dict."""
        with self._lock:
            return {**self._counts, "errors": dict(self._errors)}


def give_up_when_forked(one: Any) -> None:
    """Call ``one.forked()`` in every child process that an embedding program forks (qtm's own start as new
    programs), in its only thread. It drops what the child must not use: sockets, without a byte to the peer,
    and locks, which another thread of the parent may have held at the fork."""
    found = weakref.ref(one)
    os.register_at_fork(after_in_child=lambda: (left := found()) and left.forked())


def close_inherited(sock: socket.socket | None) -> None:
    """Close the child's copy of a socket that the parent uses, without a byte to the peer."""
    with contextlib.suppress(OSError, AttributeError):
        os.close(cast("socket.socket", sock).detach())


class LeftToParent:
    """Replaces an object of the parent in a forked child: every use raises ForkedProcess."""

    def _refuse(self, *_: object) -> Any:
        raise ForkedProcess(
            "this manager belongs to the process from which this one was forked: call qtm.start() after the "
            "fork, in each process that uses it (with gunicorn in the hook post_fork, or without --preload)"
        )

    __getattr__ = __enter__ = __exit__ = _refuse


LEFT_TO_PARENT: Any = LeftToParent()


# ==== 11 Connection pool ====================================================================================
# A LIFO pool for any kind of connection; two functions open one, and check whether an idle one is usable.

POOL_WAIT_SECONDS = 10.0  # a request that gets no connection that long is answered with 503


class ConnectionPool:
    """At most ``size`` connections, opened when needed, the one that was used last first. What comes back
    goes to the thread that waits longest, or its last user could starve the others (SQLite has one writer).
    No deadlock: a thread never holds two connections."""

    def __init__(
        self, connect: Callable[[], Any], is_usable: Callable[[Any], bool], size: int,
        wait_seconds: float = POOL_WAIT_SECONDS,
    ) -> None:  # fmt: skip
        self.size = size
        self._connect = connect
        self._is_usable = is_usable
        self._wait_seconds = wait_seconds
        # guards the fields below; never held while connecting, closing or waiting
        self._lock = threading.Lock()
        self._free: list[Any] = [None] * size  # idle ones, and None for each that may be opened
        self._waiting: deque[queue.SimpleQueue[Any]] = deque()  # empty while anything is free
        self._current: set[Any] = set()  # idle and checked out; others are closed instead of used again
        self._is_closed = False
        self._waits = 0  # check-outs that had to wait

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection for a ``with`` block, closed if an exception leaves it. Raises DatabaseUnavailable when
        none came free in time, or what ``connect`` raises."""
        connection = self._check_out()
        try:
            yield connection
        except BaseException:
            self._close(connection)
            self._put(None)
            raise
        self._put(connection)

    def _check_out(self) -> Any:
        connection = self._take()
        if connection is not None:
            if connection in self._current and self._is_usable(connection):
                return connection
            self._close(connection)
        try:
            connection = self._connect()
        except BaseException:
            self._put(None)
            raise
        with self._lock:
            self._current.add(connection)
        return connection

    def _take(self) -> Any:
        with self._lock:
            if self._is_closed:
                raise DatabaseUnavailable("the database is closed")
            if self._free:
                return self._free.pop()
            turn: queue.SimpleQueue[Any] = queue.SimpleQueue()  # of one connection
            self._waiting.append(turn)
            self._waits += 1
        try:
            return turn.get(timeout=self._wait_seconds)
        except BaseException as error:  # it took too long, or the KeyboardInterrupt of an embedding program
            with self._lock, contextlib.suppress(ValueError):
                self._waiting.remove(turn)
            if not turn.empty():  # a connection came in the last moment
                self._put(turn.get())
            if not isinstance(error, queue.Empty):
                raise
        words = f"no database connection of {self.size} came free within {self._wait_seconds} s"
        raise DatabaseUnavailable(words)

    def _put(self, connection: Any) -> None:
        with self._lock:
            returned = connection if connection in self._current and not self._is_closed else None
            if self._waiting:
                self._waiting.popleft().put(returned)
            else:
                self._free.append(returned)
        if connection is not returned:
            self._close(connection)

    def _close(self, connection: Any) -> None:
        with self._lock:
            self._current.discard(connection)
        with contextlib.suppress(Exception):  # a driver may raise anything from a broken connection
            connection.close()

    def drop_idle(self) -> None:
        """Use no connection again that was opened before now: its server has gone or turned read-only."""
        with self._lock:
            self._current.clear()

    def close(self) -> None:
        """Close what is idle now, and what is checked out when it comes back."""
        with self._lock:
            self._is_closed = True
            idle, self._free = self._free, [None] * len(self._free)
        for connection in idle:
            if connection is not None:
                self._close(connection)

    def snapshot(self) -> dict[str, int]:
        """``size``, ``in_use`` and ``waits`` (check-outs that had to wait) now."""
        return {"size": self.size, "in_use": max(0, self.size - len(self._free)), "waits": self._waits}


# ==== 12 SQLite =============================================================================================
# The differences between SQLite and MySQL (MariaDB too), in two classes with the same members, described at
# the first. All other SQL is one text, with MySQL-only words in ``/*! */``. The errors of drivers become
# TransactionConflict (rolled back: run it again), DatabaseUnavailable (the connection is broken) and
# OutcomeUnknown (the connection broke at COMMIT: read back whether it was applied).

MIGRATION_STATEMENT_SECONDS = 6 * 3600  # an index over many millions of rows takes its time
SQLITE_BUSY_SECONDS = 5.0
SQLITE_STATEMENTS = 32  # compiled ones that each connection keeps, some of them tens of kilobytes long
SQLITE_CACHE_KIB = 1024  # of pages, for each connection; the system's cache holds the file anyway
PRIVATE_MODE = 0o600  # of the files that qtm makes: tasks and results are for their owner alone


class PreparedStatement(str):
    """A statement that MariaDB parses once for each connection: saves half of the server's and a fifth of the
    client's CPU time for a status, whose text is long; nothing for creates."""


def _stamp_text(moment: datetime.datetime) -> str:
    """A time as the database writes it, MySQL's DATETIME(6)."""
    return moment.isoformat(" ", "microseconds")


def _utc_timestamp(digits: int) -> str:
    """SQLite's UTC_TIMESTAMP(6)."""
    return _stamp_text(datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None))


def _add_time(stamp: str, amount: str) -> str:
    """SQLite's ADDTIME(stamp, 'H:MM:SS.ffffff')."""
    hours, minutes, seconds = amount.lstrip("-").split(":")
    total = datetime.timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    return _stamp_text(datetime.datetime.fromisoformat(stamp) + (-total if amount.startswith("-") else total))


def _open_file(path: str, flags: int) -> int:
    """A descriptor of this file, which is made if need be; one that is there keeps its mode."""
    try:
        return os.open(path, os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, PRIVATE_MODE)
    except OSError as error:
        raise SettingsError(f"{path} cannot be used: {error.strerror}") from None


class SQLiteDialect:
    """One file, held by one process by a lock on a side file; WAL, durable commits (synchronous=FULL)."""

    name = "sqlite"
    begin = "BEGIN IMMEDIATE"
    explain = "EXPLAIN QUERY PLAN"  # before a query: its plan as rows
    schema_table = "SELECT 1 FROM sqlite_master WHERE name = 'qtm_schema'"  # a row where it is there
    json_member = "{0} -> {1}"  # of a document, at a path: a number as it is written
    listed_number = "{}"  # for GROUP_CONCAT, which writes a double with 15 digits
    # of a parameter: the number as it is written, or the text, at a path
    json_number = "CASE WHEN JSON_TYPE(params, {0}) IN ('integer', 'real') THEN params -> {0} END"
    json_text = """CASE JSON_TYPE(params, {0}) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false'
        WHEN 'text' THEN JSON_EXTRACT(params, {0}) END"""
    json_keys = "(SELECT JSON_GROUP_ARRAY(key) FROM JSON_EACH({}))"  # a list of the names of an object
    byte_length = "LENGTH(CAST({} AS BLOB))"  # of a text; LENGTH alone counts characters, up to its first NUL
    max_document_bytes = 512 * 1024 * 1024
    is_cluster = False
    has_log = True  # a write-ahead log that `truncate_log` must cut now and then

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)  # one lock, whatever link the file is opened by
        self._lock_file: int | None = None  # written by open and close only

    def open(self) -> None:
        """Take what is held while the database is in use. Raises SettingsError, DatabaseInUse."""
        lock = _open_file(self.path + ".lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            process = f"process {holder}: a SQLite file belongs to one process; stop that one, or use MySQL"
            if holder == str(os.getpid()):
                process = "this process: use the manager of its first qtm.start(), or close() it"
            raise DatabaseInUse(f"{self.path} is in use by {process}") from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        self._lock_file = lock
        # Its mode is that of the files that SQLite makes beside it. Only while no connection is open: closing
        # a file drops the locks that this process has on it.
        os.close(_open_file(self.path, os.O_RDONLY))

    def close(self) -> None:
        """Release the lock, or a child's copy of it. The side file stays, as others may have opened it."""
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def connect(self, read_only: bool = False, timeout_seconds: float | None = None) -> sqlite3.Connection:
        """A connection in autocommit mode. Readers cannot write, so that the one writer alone checkpoints."""
        try:
            connection = sqlite3.connect(
                self.path, SQLITE_BUSY_SECONDS, isolation_level=None, check_same_thread=False,
                cached_statements=SQLITE_STATEMENTS,
            )  # fmt: skip
            # temp_store: a statement's journal would be a file outside the data folder
            for setting in (
                *("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY"),
                *(f"cache_size=-{SQLITE_CACHE_KIB}", f"query_only={int(read_only)}"),
            ):
                connection.execute(f"PRAGMA {setting}")
        except sqlite3.Error as error:
            raise self.error(error) from error
        # Deterministic functions are computed once per statement, as MySQL does with UTC_TIMESTAMP.
        connection.create_function("utc_timestamp", 1, _utc_timestamp, deterministic=True)
        connection.create_function("addtime", 2, _add_time, deterministic=True)
        connection.create_function("floor", 1, math.floor, deterministic=True)  # not in every build
        return connection

    def is_usable(self, connection: Any) -> bool:
        """Whether an idle connection is still good, without a round trip: a file does not hang up."""
        return True

    def run(self, cursor: Any, sql: str, parameters: Mapping[str, Any]) -> None:
        """Run one statement with ``:name`` parameters."""
        cursor.execute(sql, parameters)

    def run_all(self, cursor: Any, script: Sequence[str], parameters: Mapping[str, Any]) -> Iterator[None]:
        """Run statements that share their parameters in one round trip; yields after the answer to each."""
        for sql in script:
            yield cursor.execute(sql, parameters)

    def insert(self, cursor: Any, head: str, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows by one statement; ``head`` is all of it up to VALUES."""
        cursor.executemany(f"{head} ({', '.join('?' * len(rows[0]))})", rows)

    def error(self, error: Exception, is_committing: bool = False, is_sent: bool = False) -> QtmError:
        """Our error for one of the driver. ``is_committing``: COMMIT failed; ``is_sent``: it was sent with the
        statement that failed."""
        text = str(error)[:MAX_ERROR_TEXT]
        if isinstance(error, sqlite3.IntegrityError) and "UNIQUE" in text:
            return DuplicateKey(text)
        if isinstance(error, sqlite3.OperationalError):
            if re.search("locked|busy", text):
                return TransactionConflict(f"the database is busy: {text}")
            if re.search("disk|full|unable to open|readonly|malformed", text):
                # the log may hold the whole commit, which the next opening of the file finds
                is_unclear = is_committing and "full" not in text
                kind = OutcomeUnknown if is_unclear else DatabaseUnavailable
                return kind(f"the database cannot be used: {text}")
        if "not a database" in text:
            return SettingsError(f"{self.path} is not a SQLite database")
        return QtmError(f"unexpected database error: {type(error).__name__}: {text}")

    def is_already(self, error: Exception) -> bool:
        """Whether a change of the schema failed because it was made before."""
        return re.search("already exists|duplicate column name|no such index", str(error)) is not None

    def json_rows(self, *columns: str, parameter: str = "rows") -> str:
        """A FROM item of these columns by a parameter, a JSON list of lists of texts and numbers."""
        values = ", ".join(f"json_extract(value, '$[{i}]') AS {name}" for i, name in enumerate(columns))
        return f"(SELECT {values} FROM json_each(:{parameter}))"

    def update_from(self, rows: str, condition: str, assignments: str) -> str:
        """An UPDATE of backtest_tasks from ``rows``, an item of `json_rows` named r, at most one for a task."""
        return f"UPDATE backtest_tasks SET {assignments} FROM {rows} AS r WHERE {condition}"

    def filled(self, template: str) -> str:
        """An expression for a text, or its UTF-8, by a template with expressions, none of them NULL, between
        ``@``. By ``printf``: a chain of ``||`` copies the text at every link."""
        texts = [text.replace("'", "''").replace("%", "%%") for text in template.split("@")[::2]]
        return f"printf('{'%s'.join(texts)}', {', '.join(template.split('@')[1::2])})"

    def facts(self, session: Session) -> dict[str, str]:
        """What `check` judges."""
        return {"version": sqlite3.sqlite_version, "is_sqlite": "True"}

    def log_bytes(self) -> int:
        """The size of the write-ahead log."""
        with contextlib.suppress(OSError):
            return os.stat(self.path + "-wal").st_size
        return 0

    def truncate_log(self, cursor: Any, wait_seconds: float) -> bool:
        """Cut the log to no size, while writers wait; False when an older reader held it all the while."""
        cursor.execute(f"PRAGMA busy_timeout={round(1000 * wait_seconds)}")
        try:
            return bool(cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
        finally:
            cursor.execute(f"PRAGMA busy_timeout={round(1000 * SQLITE_BUSY_SECONDS)}")


# ==== 13 MySQL ==============================================================================================
# MySQL and MariaDB, through PyMySQL: the members of SQLiteDialect, where they are described.

CONNECT_TIMEOUT_SECONDS = 5
MYSQL_IO_TIMEOUT_SECONDS = 12  # one statement; above innodb_lock_wait_timeout, which we set to 5
MYSQL_IDLE_SECONDS = 30  # then the server hangs up, and a replica that froze in a transaction loses its locks


def _numbers(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split()))


# Conflicts: record changed (1020), lock wait timeout (1205), deadlock (1213); ended by KILL QUERY (1317) or a
# limit on its time (1969, 3024).
MYSQL_CONFLICTS = _numbers("1020 1205 1213 1317 1969 3024")
# The connection, or the whole server, cannot be used for writing now: too many connections (1040, 1203,
# 1226), shutting down (1053, 1927, 4031), not ready (1047), read-only (1180, 1290, 1792, 1836), disk full (3,
# 20, 1021, 1026, 1030, 1114), out of memory (1037, 1038), a broken connection (1152, 1184, 1243).
MYSQL_USELESS = _numbers(
    "3 20 1021 1026 1030 1037 1038 1040 1047 1053 1114 1152 1180 1184 1203 1226 1243 1290 1792 1836 1927 4031"
)
MYSQL_ALREADY = _numbers("1050 1060 1061 1091")  # table, column or index is there already, or gone already
# An account or a server that the operator must change, and how; the server's own text stands before it.
DATABASE_RIGHTS = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX"  # the last three for a new schema
VERIFY = "add ?ssl_ca=FILE or ssl_mode=verify to QTM_DATABASE_URL"
_LOGIN = "check user and password in QTM_DATABASE_URL"
_TLS = "check ssl_mode, ssl_ca and the host's name in QTM_DATABASE_URL, and the certificate of the server"
_GRANT = f"GRANT {DATABASE_RIGHTS} ON {{name}}.* TO '{{user}}'@'%'"
MYSQL_NO_TLS = 2026  # of the driver, where the URL requires TLS
MYSQL_REMEDIES = {
    **dict.fromkeys((1045, 1130, 1698), _LOGIN),
    **dict.fromkeys((1044, 1049), f"CREATE DATABASE {{name}}; {_GRANT}"),
    **dict.fromkeys((1142, 1143, 1227, 1370), _GRANT),
}
MYSQL_LONGEST_GROUP = 2**30  # of group_concat_max_len; a server whose global sql_mode is strict takes no more
MYSQL_TEXT = "LONGTEXT CHARACTER SET utf8mb4"
# as the tables have them, or no index helps
MYSQL_KEY_TYPES = {
    "task_id": "CHAR(36) CHARACTER SET ascii COLLATE ascii_bin",
    "source": "CHAR(36) CHARACTER SET ascii COLLATE ascii_bin",
    "run_key": "CHAR(64) CHARACTER SET ascii COLLATE ascii_bin",
    "attempt": "INTEGER",
}
MYSQL_MODE = (
    "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE"
)
MYSQL_PARAMETER = re.compile(r"(?<![\w:]):([a-z_][a-z_0-9]*)")


@functools.lru_cache(maxsize=1024)  # statements are constants, and there are fewer
def _split_at_parameters(sql: str) -> list[str]:
    """Text, name, text, name, ..., text."""
    return MYSQL_PARAMETER.split(sql)


def _error_number(error: Exception) -> int:
    """Of the server, or of its driver (from 2000 on); 0 for an error without one."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _driver_text(error: Exception) -> str:
    """The text of the server or the driver, cut short."""
    is_numbered = len(error.args) > 1 and _error_number(error)
    return str(error.args[1])[:MAX_ERROR_TEXT] if is_numbered else error_text(error)


def _refuse_clear_text(connection: Any) -> NoReturn:
    """PyMySQL's plugin for a login, which the server chooses, that sends the password as it is."""
    words = "the server asks for the password in clear text, which is sent over verified TLS only"
    raise DatabaseRefused(f"{words}: {VERIFY}")


class MySQLDialect:
    """MySQL 8 or MariaDB 10.6 and newer, through PyMySQL."""

    name = "mysql"
    begin = "BEGIN"
    explain = "EXPLAIN FORMAT=TRADITIONAL"  # MySQL 9 draws a tree else
    schema_table = """SELECT 1 FROM information_schema.tables
        WHERE table_schema = DATABASE() AND table_name = 'qtm_schema'"""
    json_member = "JSON_EXTRACT({0}, {1})"
    listed_number = "{} + 0e0"  # a text would make the temporary table of a GROUP BY wide
    json_number = """CASE WHEN JSON_TYPE(JSON_EXTRACT(params, {0})) IN ('INTEGER', 'DOUBLE', 'DECIMAL',
        'UNSIGNED INTEGER') THEN JSON_EXTRACT(params, {0}) END"""
    json_text = """CASE WHEN JSON_TYPE(JSON_EXTRACT(params, {0})) IN ('STRING', 'BOOLEAN')
        THEN CAST(JSON_UNQUOTE(JSON_EXTRACT(params, {0})) AS BINARY) END"""
    json_keys = "JSON_KEYS({})"
    byte_length = "LENGTH({})"
    is_cluster = False  # Galera certifies written rows at COMMIT, and row locks are local; written at connect
    has_log = False

    def __init__(self, url: DatabaseUrl) -> None:
        try:
            import pymysql
            import pymysql.constants.CLIENT
            import pymysql.converters
        except ImportError:
            raise SettingsError("a mysql:// database needs PyMySQL: python3 -m pip install pymysql") from None
        if pymysql.VERSION < (1, 2):  # which goes on without TLS where the server offers none
            raise SettingsError(
                f"PyMySQL {pymysql.VERSION_STRING} is too old: python3 -m pip install -U pymysql"
            )
        self._pymysql: Any = pymysql
        self._url = url
        self._hosts = url.hosts  # the one that was connected to last first; written at connect by any thread
        # TIMESTAMP (7) and DATETIME (12) stay text, as we send it on
        converters = pymysql.converters.conversions.items()
        self._conversions = {kind: convert for kind, convert in converters if kind not in (7, 12)}
        self.max_document_bytes = 8 * 1024 * 1024  # until a server named its limit; written at connect

    def open(self) -> None:
        """Nothing is held between connections."""

    def connect(self, read_only: bool = False, timeout_seconds: float | None = None) -> Any:
        """At READ COMMITTED, with matched (not changed) rows as rowcount. Of several servers, the one used last
        and then the others in their order: the first that can write, else the last that answers."""
        hosts, found, failures = self._hosts, None, list[QtmError]()
        for number, host in enumerate(hosts):
            try:
                connection = self._connect_to(host, timeout_seconds)
            except DatabaseUnavailable as error:
                failures.append(without_traceback(error))  # its frames would keep the socket open
                continue
            if found:
                found.close()
            found = connection
            if found.is_writable:
                self._hosts = hosts[number:] + hosts[:number]
                break
        if found:
            return found
        words = "; ".join(dict.fromkeys(error.message for error in failures))
        kinds = DatabaseTlsFault, DatabaseRefused, DatabaseUnavailable
        raise next(kind for kind in kinds if all(isinstance(error, kind) for error in failures))(words)

    def _connect_to(self, host: DatabaseHost, timeout_seconds: float | None = None) -> Any:
        url, client = self._url, self._pymysql.constants.CLIENT
        is_safe = url.ssl_mode == "verify" or "unix_socket" in url.options
        try:
            connection = self._pymysql.connections.Connection(
                host=host.name,
                port=host.port,
                user=url.user,
                password=url.password.encode("utf-8"),  # a text would be sent as latin-1
                database=url.name,
                unix_socket=url.options.get("unix_socket"),
                charset="utf8mb4",
                autocommit=True,
                client_flag=client.FOUND_ROWS | client.MULTI_STATEMENTS,  # the latter for `run_all`
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                read_timeout=timeout_seconds or MYSQL_IO_TIMEOUT_SECONDS,
                write_timeout=MYSQL_IO_TIMEOUT_SECONDS,
                conv=self._conversions,
                ssl=self._ssl_context(),
                ssl_disabled=url.ssl_mode == "disabled",
                auth_plugin_map={
                    name: _refuse_clear_text for name in ("mysql_clear_password", "dialog") if not is_safe
                },
                init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; "
                f"SET SESSION sql_mode='{MYSQL_MODE}', time_zone='+00:00', innodb_lock_wait_timeout=5, "
                f"wait_timeout={MYSQL_IDLE_SECONDS}, group_concat_max_len={MYSQL_LONGEST_GROUP}",
                defer_connect=True,
            )
            connection._ssl_required = url.ssl_mode in ("required", "verify")
            connection.connect()
        except (self._pymysql.Error, OSError, RuntimeError) as error:
            raise self._connect_error(error, host) from error
        try:
            self._read_state(connection)
        except (self._pymysql.Error, OSError) as error:
            connection.close()
            raise self.error(error) from error
        connection.hangup = select.poll()  # its socket is readable while idle when the server has hung up
        connection.hangup.register(connection._sock.fileno(), select.POLLIN)
        return connection

    def _read_state(self, connection: Any) -> None:
        """Read the limits and the state of its server. A Galera node may lag behind what another node has
        acknowledged, so that a read misses a task that was just created: with wsrep_sync_wait=1, reads and
        BEGIN wait until the node has caught up."""
        # PreparedStatements by name; None: the server takes none, as MySQL's EXECUTE takes no values
        connection.prepared = {} if "mariadb" in connection.server_version.lower() else None
        connection.is_reusable = True  # False: its node was not ready, and the session is not set up
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet, @@read_only /*M!100101 , @@wsrep_on */")
            packet, read_only, *wsrep = cursor.fetchone()
            # A document travels escaped, which at worst doubles it, beside a few hundred bytes of statement.
            self.max_document_bytes = int(packet) // 2 - 4096
            connection.is_writable = not int(read_only)
            if not any(map(int, wsrep)):
                return
            self.is_cluster = True
            cursor.execute("SHOW STATUS LIKE 'wsrep_ready'")
            connection.is_reusable = cursor.fetchone()[1] == "ON"
            connection.is_writable &= connection.is_reusable
            # without quorum every wait would fail
            if connection.is_reusable and self._url.options.get("sync_wait") != "0":
                cursor.execute("SET SESSION wsrep_sync_wait=1")

    def _ssl_context(self) -> Any:
        """The TLS context for the URL's ssl_mode. Without verification it reads no CA: all of the system's take
        some 40 ms, which PyMySQL's own default spends on every connection."""
        mode, options = self._url.ssl_mode, self._url.options
        if mode == "disabled":
            return None
        try:
            if mode == "verify":
                context = ssl.create_default_context(cafile=options.get("ssl_ca"))
            else:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if "ssl_cert" in options:
                context.load_cert_chain(options["ssl_cert"], options.get("ssl_key"))
            return context
        except (OSError, ssl.SSLError) as error:
            raise DatabaseTlsFault(f"the database's TLS files cannot be used: {error}") from None

    def _refusal(self, error: Exception, place: str = "") -> DatabaseRefused | None:
        number = _error_number(error)
        if number not in MYSQL_REMEDIES:
            return None
        remedy = MYSQL_REMEDIES[number].format(name=self._url.name, user=self._url.user)
        return DatabaseRefused(f"{_driver_text(error)} ({place}error {number}); {remedy}")

    def _connect_error(self, error: Exception, host: DatabaseHost) -> DatabaseUnavailable:
        place = f"{host}/{self._url.name}"
        words = f"cannot connect to the database at {place}: {_driver_text(error)}"
        if _error_number(error) == MYSQL_NO_TLS or "CERTIFICATE_VERIFY_FAILED" in words:
            return DatabaseTlsFault(f"{words}; {_TLS}")
        return self._refusal(error, f"at {place}, ") or DatabaseUnavailable(words)

    def is_usable(self, connection: Any) -> bool:
        """Readable while idle means that the server hung up, or sent the reason."""
        return connection.is_reusable and connection.open and not connection.hangup.poll(0)

    def _literal(self, value: object) -> str:
        """A value as a literal. MySQL asks to escape the backslash and the quote, at every sql_mode that qtm
        sets; PyMySQL escapes more characters, one by one: 7 ms for a result of 120 kB in place of 0.2."""
        if isinstance(value, str):
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        if value is None:
            return "NULL"
        return str(self._pymysql.converters.escape_item(value, "utf8mb4"))

    def _filled_in(self, cursor: Any, sql: str, parameters: Mapping[str, Any]) -> str:
        """The statement as it is sent. Only parameters that it names are escaped: a script's may be a megabyte."""
        parts = list(_split_at_parameters(sql))
        parts[1::2] = [self._literal(parameters[name]) for name in parts[1::2]]
        if isinstance(sql, PreparedStatement) and (name := self._prepared(cursor, sql)):
            return f"EXECUTE {name} USING {','.join(parts[1::2])}"
        return "".join(parts)

    def _prepared(self, cursor: Any, sql: str) -> str | None:
        """Its name in this connection, prepared when it is new; None where the server prepares none."""
        known = cursor.connection.prepared
        if known is not None and sql not in known:
            text = self._literal("?".join(_split_at_parameters(sql)[::2]))
            cursor.execute(f"PREPARE qtm_{len(known)} FROM {text}")
            known[sql] = f"qtm_{len(known)}"
        return cast("str | None", known and known[sql])

    def run(self, cursor: Any, sql: str, parameters: Mapping[str, Any]) -> None:
        cursor.execute(self._filled_in(cursor, sql, parameters))

    def run_all(self, cursor: Any, script: Sequence[str], parameters: Mapping[str, Any]) -> Iterator[None]:
        """As one text; the server stops at the first that fails. MULTI_STATEMENTS allows this, and would let
        an unescaped value become a statement: so all texts are constants, and `_literal` makes every
        value."""
        cursor.execute(";\n".join([self._filled_in(cursor, one, parameters) for one in script]))
        yield
        while cursor.nextset():
            yield

    def insert(self, cursor: Any, head: str, rows: Sequence[Sequence[Any]]) -> None:
        """As literals, which cost the server half as much as JSON_TABLE."""
        cursor.execute(head + ",".join([f"({','.join(map(self._literal, row))})" for row in rows]))

    def error(self, error: Exception, is_committing: bool = False, is_sent: bool = False) -> QtmError:
        """By the number. PyMySQL has lost the connection where the number is its own (2000 to 2999) or is
        missing; the server may still go on with all that was sent."""
        number, text = _error_number(error), _driver_text(error)
        is_drivers = isinstance(error, (self._pymysql.InterfaceError, self._pymysql.InternalError))
        is_lost = isinstance(error, OSError) or 2000 <= number < 3000 or (number == 0 and is_drivers)
        # a text that is no Unicode was never sent
        is_unclear = is_lost or not (number or isinstance(error, UnicodeError))
        if (is_committing and (is_unclear or number in MYSQL_USELESS)) or (is_sent and is_unclear):
            return OutcomeUnknown(f"the database connection was lost at COMMIT (error {number})")
        words = f"error {number} {text}"
        if is_lost or number in MYSQL_USELESS:
            return DatabaseUnavailable(f"the database cannot be used: {words}")
        if number in MYSQL_CONFLICTS:
            return TransactionConflict(f"the database is busy: {words}")
        if number == 1062:
            return DuplicateKey(text)
        return self._refusal(error) or QtmError(f"unexpected database {words}")

    def is_already(self, error: Exception) -> bool:
        return _error_number(error) in MYSQL_ALREADY

    def json_rows(self, *columns: str, parameter: str = "rows") -> str:
        kinds = [f"{name} {MYSQL_KEY_TYPES.get(name, MYSQL_TEXT)}" for name in columns]
        values = ", ".join(f"{kind} PATH '$[{i}]'" for i, kind in enumerate(kinds))
        return f"JSON_TABLE(:{parameter}, '$[*]' COLUMNS ({values}))"

    def update_from(self, rows: str, condition: str, assignments: str) -> str:
        """By a join that reads r first, and each task by its key."""
        joined = f"{rows} AS r STRAIGHT_JOIN backtest_tasks FORCE INDEX (PRIMARY) ON {condition}"
        return f"UPDATE {joined} SET {assignments}"

    def filled(self, template: str) -> str:
        """By ``CONCAT`` of bytes, which the driver gives: all is UTF-8 or ASCII, so that the server need convert
        no character set and compare no collations. More than ``max_allowed_packet`` becomes NULL."""
        parts = template.split("@")
        parts[::2] = ["'" + text.replace("'", "''") + "'" for text in parts[::2]]
        return f"CONCAT(CAST({parts[0]} AS BINARY), {', '.join(parts[1:])})"

    def facts(self, session: Session) -> dict[str, str]:
        """Variables of this session and its server, and their states; ``clock_skew``: seconds between the
        clocks of the server and of this host."""
        rows = session.rows("SHOW VARIABLES") + session.rows("SHOW STATUS")
        skew = float(session.rows("SELECT UNIX_TIMESTAMP(NOW(6))")[0][0]) - time.time()
        return {
            **{name.lower(): value for name, value in rows},
            "is_remote": str(self._url.is_remote),
            "is_verified": str(self._url.ssl_mode == "verify"),
            "clock_skew": f"{abs(skew):.3f}",
        }

    def close(self) -> None:
        """Nothing was held."""

    def log_bytes(self) -> int:
        return 0

    def truncate_log(self, cursor: Any, wait_seconds: float) -> bool:
        return True


Dialect = SQLiteDialect | MySQLDialect


# ==== 14 Transactions =======================================================================================
# `Database.read` and `Database.write` run a function in one transaction, with a Session. A conflict runs it
# again. After an unknown outcome the database is asked whether the transaction was committed.

TRANSACTION_TRIES = 8  # deadlocks resolve within milliseconds; with a growing wait these are about one second
CONFLICT_SECONDS = 8.0  # and no new try after that: each may wait 5 s for a lock that somebody holds for long
# what fails sooner may be a connection that went stale, worth a new one; later it is the server
QUICK_FAILURE_SECONDS = 2.0
SQLITE_READERS = 4
NO_PARAMETERS: Mapping[str, Any] = {}


class Session:
    """One connection inside one transaction, for the work of `Database.read` and `Database.write` alone."""

    __slots__ = ("_dialect", "_monitor", "cursor", "is_committing", "is_sent")

    def __init__(self, dialect: Dialect, cursor: Any, monitor: DatabaseMonitor) -> None:
        self._dialect = dialect
        self._monitor = monitor
        self.cursor = cursor
        # how far the transaction has come, for the judgement of an error
        self.is_committing = False
        self.is_sent = False  # all of it, COMMIT included

    def execute(self, sql: str, parameters: Mapping[str, Any] = NO_PARAMETERS) -> int:
        """Run one statement with ``:name`` parameters; how many rows it matched."""
        return self._timed(self._dialect.run, sql, parameters)

    def insert(self, head: str, rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows by one statement; ``head`` is all of it up to VALUES."""
        if rows:
            self._timed(self._dialect.insert, head, rows)

    def _timed(self, run: Callable[[Any, str, Any], None], sql: str, values: Any) -> int:
        started = time.perf_counter()
        try:
            run(self.cursor, sql, values)
        finally:
            self._monitor.add(statements=1, seconds=time.perf_counter() - started)
        return int(self.cursor.rowcount)

    def rows(self, sql: str, parameters: Mapping[str, Any] = NO_PARAMETERS) -> list[tuple[Any, ...]]:
        """All rows of a query; every caller bounds them by LIMIT or by key."""
        self.execute(sql, parameters)
        return list(self.cursor.fetchall())

    def row(self, sql: str, parameters: Mapping[str, Any] = NO_PARAMETERS) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        return next(iter(self.rows(sql, parameters)), None)


class Database:
    """Transactions over the pools of one database, for any number of threads."""

    def __init__(self, url: str, pool_size: int = 8, sleep: Callable[[float], None] = time.sleep) -> None:
        parts = parse_database_url(url)
        is_sqlite = parts.kind == "sqlite"
        dialect: Dialect = SQLiteDialect(parts.path) if is_sqlite else MySQLDialect(parts)
        self.dialect = dialect
        self.monitor = DatabaseMonitor()
        self._sleep = sleep
        self._writers = ConnectionPool(dialect.connect, dialect.is_usable, 1 if is_sqlite else pool_size)
        self._readers = self._writers
        if is_sqlite:
            connect = functools.partial(dialect.connect, read_only=True)
            self._readers = ConnectionPool(connect, dialect.is_usable, min(pool_size, SQLITE_READERS))
        dialect.open()
        give_up_when_forked(self)

    def forked(self) -> None:
        """Close this process's copy of the file's lock. Its copies of connections are in nobody's reach."""
        self.dialect.close()

    def read(self, work: Callable[[Session], T]) -> T:
        """``work`` on an autocommit connection: one query is one round trip. Tried once more on a fresh
        connection when it failed quickly. Raises DatabaseUnavailable."""
        started = time.monotonic()
        try:
            return self._once(self._readers, work)
        except (DatabaseUnavailable, TransactionConflict):
            if time.monotonic() - started > QUICK_FAILURE_SECONDS:
                raise
            self.monitor.add(retries=1)
            return self._once(self._readers, work)

    def rows(self, sql: str, parameters: Mapping[str, Any] = NO_PARAMETERS) -> list[tuple[Any, ...]]:
        """All rows of one query; see `read`."""
        return self.read(lambda session: session.rows(sql, parameters))

    def write(self, work: Callable[[Session], T], confirm: Callable[[Session], T | None] | None = None) -> T:
        """``work`` in one transaction, tried again when it surely was not applied.

        When the connection is lost at COMMIT, ``confirm`` reads back on a new one: its value is the outcome,
        and None means that nothing is applied so far, so that the work is tried again. Raises
        TransactionConflict, DatabaseUnavailable, or OutcomeUnknown when reading back fails, when there is no
        ``confirm``, and when no later try succeeds.
        """

        def run(session: Session) -> T:
            session.cursor.execute(self.dialect.begin)
            value = work(session)
            session.is_committing = True
            session.cursor.execute("COMMIT")
            return value

        return self._until_applied(run, confirm)

    def write_at_once(
        self, statements: Sequence[str], parameters: Mapping[str, Any], value: T,
        confirm: Callable[[Session], T | None], row_counts: list[int] | None = None,
    ) -> T:  # fmt: skip
        """Statements that depend on no answer in between, in one transaction and where possible in one round
        trip; ``value`` when it is committed, and in ``row_counts`` how many rows each has matched, BEGIN and
        COMMIT too. The rest is as in `write`."""
        script = [self.dialect.begin, *statements, "COMMIT"]

        def run(session: Session) -> T:
            session.is_sent = True
            started = time.perf_counter()
            try:
                for answered, _ in enumerate(self.dialect.run_all(session.cursor, script, parameters), 1):
                    session.is_committing = answered == len(script) - 1
                    if row_counts is not None:
                        row_counts.append(session.cursor.rowcount)
            finally:
                self.monitor.add(statements=1, seconds=time.perf_counter() - started)
            return value

        return self._until_applied(run, confirm)

    def _until_applied(self, run: Callable[[Session], T], confirm: Callable[[Session], T | None] | None) -> T:
        begun, attempt = time.monotonic(), 0
        # a lost COMMIT that was not there when it was read back may still come through
        doubt: OutcomeUnknown | None = None
        while True:
            attempt += 1
            started = time.monotonic()
            try:
                return self._once(self._writers, run)
            except (TransactionConflict, DatabaseUnavailable) as failure:
                now = time.monotonic()
                is_worth_it = attempt == 1 or now - begun < CONFLICT_SECONDS
                if isinstance(failure, OutcomeUnknown):
                    doubt = without_traceback(failure)
                    outcome = self._read_back(confirm, failure)
                    if outcome is not None:
                        return outcome
                elif isinstance(failure, TransactionConflict):
                    is_worth_it = now - begun < CONFLICT_SECONDS
                else:
                    is_worth_it = attempt == 1 and now - started < QUICK_FAILURE_SECONDS
                if attempt == TRANSACTION_TRIES or not is_worth_it:
                    if doubt:
                        raise doubt from None
                    raise
            self.monitor.add(retries=1)
            self._sleep(random.uniform(0.2, 1.0) * 0.005 * 2**attempt)

    def _read_back(self, confirm: Callable[[Session], T | None] | None, unknown: OutcomeUnknown) -> T | None:
        if confirm is None:
            raise unknown
        try:
            return self.read(confirm)
        except (DatabaseUnavailable, TransactionConflict):  # "nothing was applied" would be a guess
            raise unknown from None

    def _once(self, pool: ConnectionPool, run: Callable[[Session], T]) -> T:
        """After an error that leaves the connection sound, it is rolled back and kept for others. When
        ROLLBACK fails, too, the connection is closed, which rolls back as well."""
        failure: QtmError | None = None
        try:
            with pool.connection() as connection:
                session = Session(self.dialect, connection.cursor(), self.monitor)
                try:
                    return run(session)
                except Exception as error:  # the driver's own, which the dialect alone knows by name
                    failure = error if isinstance(error, QtmError) else self._translated(error, session)
                    if isinstance(failure, DatabaseUnavailable):
                        raise failure from error
                    try:
                        session.cursor.execute("ROLLBACK")
                    except Exception as second:  # lost, or SQLite that has no transaction (any more)
                        raise failure from second
            raise failure
        except QtmError as error:
            self.monitor.add(error=error.error)
            raise
        finally:
            failure = None  # it holds this frame, and so the cursor, which would keep SQLite's file open

    def _translated(self, error: Exception, session: Session) -> QtmError:
        ours = self.dialect.error(error, session.is_committing, session.is_sent)
        if isinstance(ours, DatabaseUnavailable):
            self._readers.drop_idle()
            self._writers.drop_idle()
        return ours

    def single_connection(self) -> contextlib.AbstractContextManager[Any]:
        """A raw connection for migrations, whose statements may take hours. So may the wait for a frozen
        server: a `read` just before finds it in seconds."""
        return contextlib.closing(self.dialect.connect(timeout_seconds=MIGRATION_STATEMENT_SECONDS))

    def truncate_log(self, wait_seconds: float) -> bool:
        """Of SQLite. The one writer does it, so that no other connection commits meanwhile."""
        return self._once(
            self._writers, lambda session: self.dialect.truncate_log(session.cursor, wait_seconds)
        )

    def snapshot(self) -> dict[str, Any]:
        """The monitor's counters and the use of the pools."""
        found = {**self.monitor.snapshot(), "pool": self._writers.snapshot()}
        if self._readers is not self._writers:
            found["reader_pool"] = self._readers.snapshot()
        return found

    def close(self) -> None:
        """Close the readers first, so that the writer makes the last checkpoint; then release the file."""
        self._readers.close()
        self._writers.close()
        self.dialect.close()


# ==== 15 Migrations =========================================================================================
# The schema is a list of numbered steps; steps are only appended. schema.sql is a copy of this text for
# people and their tools (`qtm.py migrate --print`). Each statement is recorded when it is done: an
# interrupted migration continues where it stopped. Replicas that start together apply the same statements; the
# database runs one after the other, and the later ones find it done.

SCHEMA = """\
-- The schema of qtm: one text for SQLite, MySQL 8 and MariaDB 10.6 and newer. MySQL alone reads /*! these */.
-- No CHECK constraint guards a status and its times: to add one, MySQL and MariaDB copy the table and refuse writes
-- until they are done, and SQLite cannot. Every change of a status is a compare-and-set, and tests try each.
-- Numbered steps, only ever appended; a released step is never edited. `python3 qtm.py migrate` applies them.

-- step 1: batches, tasks, results
CREATE TABLE backtest_batches (
  batch_id   VARCHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL PRIMARY KEY,
  name       VARCHAR(200) NULL,
  created_at DATETIME(6) NOT NULL
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- For listBatches: newest first, a page at a time.
CREATE INDEX backtest_batches_newest ON backtest_batches (created_at, batch_id);

-- The row that status queries read; results lie apart. Documents are JSON text: a JSON column would reorder
-- keys on MySQL and turn numbers into text on SQLite.
CREATE TABLE backtest_tasks (
  -- UUIDv7, so that keys arrive in order
  task_id         CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL PRIMARY KEY,
  batch_id        VARCHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  stock_code      VARCHAR(32) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  config          LONGTEXT NOT NULL,
  params          LONGTEXT NOT NULL,
  -- pending -> running, cancelled;  running -> completed, failed, pending, cancelled
  -- failed, cancelled -> pending (retryTask)
  status          VARCHAR(9) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  progress        DOUBLE NOT NULL,           -- 0.0 to 1.0, never falls within an attempt
  message         VARCHAR(500) NOT NULL,     -- of the engine, the last one
  attempt         INTEGER NOT NULL,          -- how often it was started; guards every write of a runner
  max_attempts    INTEGER NOT NULL,          -- as the client asked
  attempt_limit   INTEGER NOT NULL,          -- it fails after this one; a release and a retryTask raise it
  timeout_seconds DOUBLE NOT NULL,           -- wall time of one attempt
  priority_rank   INTEGER NOT NULL,          -- the negated priority: one ascending index orders the claims
  created_at      DATETIME(6) NOT NULL,      -- all times are UTC, from the database's clock
  run_at          DATETIME(6) NOT NULL,      -- not before this; in the future while a failed attempt waits
  started_at      DATETIME(6) NULL,
  finished_at     DATETIME(6) NULL,
  -- the scheduler that runs it; guards its writes
  worker_id       VARCHAR(190) /*! CHARACTER SET ascii COLLATE ascii_bin */ NULL,
  heartbeat       BIGINT NOT NULL,           -- counts up while its scheduler lives; in no index, see below
  error           LONGTEXT NULL,             -- {type, message, attempt, traceback?} of the last failed one
  engine_version  VARCHAR(100) NULL
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- The order of claims. It equals WHERE and ORDER BY, so that a claim locks what it takes and what waits
-- before it; run_at is in it so that waiting rows are passed over inside the index. The heartbeat is not: an
-- indexed one deadlocks with the reaper.
CREATE INDEX backtest_tasks_queue ON backtest_tasks (status, priority_rank, created_at, task_id, run_at);

-- For getTasksByBatch in the order of creation, and the counts of a batch.
CREATE INDEX backtest_tasks_batch ON backtest_tasks (batch_id, task_id);

-- For listTasks by status or stock, newest first.
CREATE INDEX backtest_tasks_status ON backtest_tasks (status, task_id);
CREATE INDEX backtest_tasks_stock ON backtest_tasks (stock_code, task_id);

CREATE TABLE backtest_results (
  task_id    CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL PRIMARY KEY,
  result     LONGTEXT NOT NULL,              -- the engine's JSON object
  non_finite LONGTEXT NOT NULL               -- JSON list of the paths that were NaN or infinite and are null
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- One row per create that carried an Idempotency-Key. The key is unique, so that of many repeats one creates.
CREATE TABLE backtest_idempotency_keys (
  idempotency_key VARCHAR(255) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL PRIMARY KEY,
  request_sha256  CHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  batch_id        VARCHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  task_ids        LONGTEXT NOT NULL,
  created_at      DATETIME(6) NOT NULL
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- One row per living scheduler: whether anybody will come for a pending task. No lease hangs on it.
CREATE TABLE backtest_workers (
  worker_id  VARCHAR(190) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL PRIMARY KEY,
  slots      INTEGER NOT NULL,
  started_at DATETIME(6) NOT NULL,
  seen_at    DATETIME(6) NOT NULL
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- step 2: attempts on record
-- One row per attempt, written by the transaction that ends it; the newest 100 of a task are kept.
CREATE TABLE backtest_attempts (
  task_id       CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  attempt       INTEGER NOT NULL,
  worker_id     VARCHAR(190) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  started_at    DATETIME(6) NOT NULL,
  ended_at      DATETIME(6) NULL,
  -- completed, failed, timeout, crashed, out_of_memory, worker_lost, released, cancelled
  ending        VARCHAR(20) NULL,
  error         LONGTEXT NULL,               -- as in backtest_tasks
  exit_code     INTEGER NULL,                -- of the engine process; null when a signal ended it
  exit_signal   VARCHAR(20) NULL,            -- its name, SIGKILL for one
  max_rss_bytes BIGINT NULL,                 -- the largest process of the attempt, at its peak
  cpu_seconds   DOUBLE NULL,                 -- of all its processes, user and system
  output_tail   TEXT NOT NULL,               -- the end of what it printed
  PRIMARY KEY (task_id, attempt)
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- step 3: stock codes of any script; indexes for every list and count
-- MySQL rebuilds the table once, and replaces each index in one statement, so that replicas of the version
-- before, which force an index by its name, always find it; the CREATE INDEX below are for SQLite. It takes
-- texts of any width and compares their bytes, as the NO PAD collations do.
/*! ALTER TABLE backtest_tasks
  MODIFY stock_code VARCHAR(64) CHARACTER SET utf8mb4 */
  /*M! COLLATE utf8mb4_nopad_bin */ /*!80017 COLLATE utf8mb4_0900_bin */
  /*! NOT NULL,
  ADD INDEX backtest_tasks_batch_stock (batch_id, stock_code, status, task_id), */
  DROP INDEX backtest_tasks_stock /*! , ADD INDEX backtest_tasks_stock (stock_code, status, task_id) */;
/*! ALTER TABLE backtest_tasks */
  DROP INDEX backtest_tasks_batch
  /*! , ADD INDEX backtest_tasks_batch (batch_id, status, task_id, progress) */;

-- For getTasksByBatch, a branch for each status, and for the counts and the progress of a batch.
CREATE INDEX backtest_tasks_batch ON backtest_tasks (batch_id, status, task_id, progress);

-- For the tasks of a stock, in one batch and in all, a branch for each status.
CREATE INDEX backtest_tasks_batch_stock ON backtest_tasks (batch_id, stock_code, status, task_id);
CREATE INDEX backtest_tasks_stock ON backtest_tasks (stock_code, status, task_id);

-- JSON list of the paths that are stored as text, having no JSON form
ALTER TABLE backtest_results ADD COLUMN converted LONGTEXT NULL;

-- step 4: an index for the retention of Idempotency-Keys, which looks at the oldest first
CREATE INDEX backtest_idempotency_keys_oldest ON backtest_idempotency_keys (created_at, idempotency_key);

-- step 5: metrics beside the task
-- One row per completed task, written with its outcome: what a ranking of a batch reads, so that it passes
-- over no wide rows. Its key keeps the rows of a batch together.
CREATE TABLE backtest_metrics (
  batch_id         VARCHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  task_id          CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  stock_code       VARCHAR(64) /*! CHARACTER SET utf8mb4 */ /*M! COLLATE utf8mb4_nopad_bin */
                   /*!80017 COLLATE utf8mb4_0900_bin */ NOT NULL,
  params           LONGTEXT NOT NULL,
  params_key       BIGINT NOT NULL,          -- a hash of params, the same for any order of their names
  start_date       VARCHAR(10) NULL,         -- of config
  end_date         VARCHAR(10) NULL,
  engine_version   VARCHAR(100) NULL,
  periods_per_year DOUBLE NULL,              -- of the metric sharpe
  period_sharpe    DOUBLE NULL,              -- the Sharpe ratio of one period, and its standard error
  sharpe_error     DOUBLE NULL,
  metrics          LONGTEXT NOT NULL,        -- JSON object: the numbers of the result's metrics, at most 64
  PRIMARY KEY (batch_id, task_id)
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- step 6: run cards, results that are taken over, drift
-- MySQL adds columns at the end of a table without touching its rows.
-- The name of the token that created the task
ALTER TABLE backtest_tasks ADD COLUMN created_by VARCHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NULL;
-- The task whose row of backtest_results is this one's too, since its run_key is the same
ALTER TABLE backtest_tasks ADD COLUMN result_of CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NULL;
-- JSON object: the engine, its versions, its host and its data, and what the attempt used
ALTER TABLE backtest_results ADD COLUMN run_card LONGTEXT NULL;
-- SHA-256 of engine, version, stock, config, params and data version
ALTER TABLE backtest_metrics ADD COLUMN run_key CHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NULL;
-- 1: an earlier task of the same run_key has other metrics
ALTER TABLE backtest_metrics ADD COLUMN drift INTEGER NULL;
-- JSON object: the counts of the answer, beside task_ids
ALTER TABLE backtest_idempotency_keys ADD COLUMN counts LONGTEXT NULL;

-- For an earlier task of the same run_key, once for each task that completes.
CREATE INDEX backtest_metrics_run_key ON backtest_metrics (run_key);

-- One row per task that has a result_of: a result stays while it is in one of them.
CREATE TABLE backtest_reuses (
  result_of CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  task_id   CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  PRIMARY KEY (result_of, task_id)
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- step 7: the version of the data beside the metrics
-- As the engine's data_version gave it; NULL where it gives none, and of tasks that completed before
ALTER TABLE backtest_metrics ADD COLUMN data_version VARCHAR(200) NULL;
"""

# Which statements of which steps are done. It is made before the steps. Readiness proves that it can write by
# probed_at.
SCHEMA_TABLE = """
CREATE TABLE IF NOT EXISTS qtm_schema (
  step       INTEGER NOT NULL,
  statement  INTEGER NOT NULL,
  applied_at DATETIME(6) NOT NULL,
  probed_at  DATETIME(6) NULL,
  PRIMARY KEY (step, statement)
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin */
"""
RECORD_STATEMENT = """INSERT INTO qtm_schema (step, statement, applied_at)
    VALUES (:step, :statement, UTC_TIMESTAMP(6))"""


def schema_steps(text: str = SCHEMA) -> dict[int, list[str]]:
    """The statements of each step of a schema text, by number."""
    steps: dict[int, list[str]] = {}
    for part in re.split(r"^-- step (?=[0-9]+:)", text, flags=re.MULTILINE)[1:]:
        number, _, body = part.partition(":")
        body = re.sub(r"--[^\n]*", "", body.partition("\n")[2])
        steps[int(number)] = [statement.strip() for statement in body.split(";") if statement.strip()]
    return steps


def _recorded(database: Database) -> set[tuple[int, int]]:
    """Step and place of each statement that is done."""
    is_there = database.rows(database.dialect.schema_table)
    rows = database.rows("SELECT step, statement FROM qtm_schema") if is_there else ()
    return {(int(step), int(place)) for step, place in rows}


def schema_step(database: Database) -> int:
    """The newest step that is complete in the database; 0 for an empty one. Changes nothing."""
    done, known = Counter(step for step, _ in _recorded(database)), schema_steps()
    return max((step for step, count in done.items() if count >= len(known.get(step, ()))), default=0)


def _missing_statements(database: Database, steps: Mapping[int, list[str]]) -> Iterator[tuple[int, int, str]]:
    """Step, place and text of each statement not on record. Raises SchemaError for a newer database."""
    done = _recorded(database)
    newest = max((step for step, _ in done), default=0)
    if newest > max(steps):
        words = f"the database has schema step {newest}, this version knows {max(steps)}: use a newer qtm"
        raise SchemaError(words)
    for step in sorted(steps):
        for place, sql in enumerate(steps[step]):
            if (step, place) not in done:
                yield step, place, sql


def _migrate_once(database: Database, steps: Mapping[int, list[str]], changed: set[int]) -> None:
    """Apply and record what is missing. DuplicateKey, TransactionConflict: another replica does so, too."""
    missing = [*_missing_statements(database, steps)]
    if not missing:
        return  # the account needs no right to change tables
    dialect = database.dialect
    with database.single_connection() as connection:
        cursor = connection.cursor()
        try:
            cursor.execute(SCHEMA_TABLE)
            for step, place, sql in missing:
                try:
                    cursor.execute(sql)
                except Exception as error:
                    # it ran, in another replica or before a crash, and is not recorded yet
                    if not dialect.is_already(error):
                        raise
                dialect.run(cursor, RECORD_STATEMENT, {"step": step, "statement": place})
                changed.add(step)
        except Exception as error:  # the driver's own, translated as in every transaction
            raise dialect.error(error) from error


def migrate(database: Database, steps: Mapping[int, list[str]] | None = None) -> list[int]:
    """Bring the database up to the newest step; the numbers of the steps in which something was done.

    Raises SchemaError when the database is newer than this code, DatabaseUnavailable when it cannot be
    reached, TransactionConflict when it stays busy.
    """
    begun, changed = time.monotonic(), set[int]()
    while True:
        try:
            _migrate_once(database, steps or schema_steps(), changed)
            for step in sorted(changed):
                log_event(logging.INFO, "schema step applied", step=step)
            return sorted(changed)
        except DuplicateKey:  # another replica was first
            log_event(logging.INFO, "another replica migrates the database, too")
        except TransactionConflict:
            if time.monotonic() - begun > CONFLICT_SECONDS:
                raise
        time.sleep(random.uniform(0.02, 0.2))


# ==== 16 Rows ===============================================================================================
# Conversions between models and rows: the columns, the JSON of tasks and of creates, and filters.

MAX_BACKOFF_SECONDS = 600.0
MAX_KEYS = 256  # looked up by one statement
MAX_QUEUE_POSITION = 10_000  # counting stops there, so that asking stays cheap with a million tasks waiting
QUEUE_RANK_OFFSET = 5000  # makes every rank four digits, so that entries of the queue sort by it
# A run_at further ahead than any backoff (and some difference between clocks) means that the clock was set
# back since: it is due.
IS_DUE = "(run_at <= UTC_TIMESTAMP(6) OR run_at > ADDTIME(UTC_TIMESTAMP(6), '0:11:00'))"
# Lists and counts that MariaDB and MySQL end after 5 s, before our own timeout would take the connection for
# broken.
BOUNDED_SELECT = (
    "/*M!100101 SET STATEMENT max_statement_time = 5 FOR */ SELECT /*+ MAX_EXECUTION_TIME(5000) */"
)
ATTEMPT_FIELDS = (
    *("worker_id", "started_at", "ended_at", "ending", "error"),
    *("exit_code", "exit_signal", "max_rss_bytes", "cpu_seconds", "output_tail"),
)


def _task_metrics(dialect: Dialect) -> str:
    """The expression for what backtest_metrics has of a task, as members of its JSON."""

    def members(*values: str) -> str:
        return dialect.filled('"metrics":@{}@,"run_key":@{}@,"drift":@{}@'.format(*values))

    metrics, run_key = "COALESCE(NULLIF(m.metrics, '{}'), 'null')", "COALESCE(JSON_QUOTE(m.run_key), 'null')"
    found = members(metrics, run_key, "CASE m.drift WHEN 1 THEN 'true' ELSE 'false' END")
    return f"""COALESCE((SELECT {found} FROM backtest_metrics AS m WHERE m.batch_id = backtest_tasks.batch_id
        AND m.task_id = backtest_tasks.task_id), {members("'null'", "'null'", "'false'")})"""


OF_METRICS = """(SELECT m.{} FROM backtest_metrics AS m
    WHERE m.batch_id = backtest_tasks.batch_id AND m.task_id = backtest_tasks.task_id)"""


def _task_columns(dialect: Dialect) -> tuple[str, str]:
    """The column of `_task_text`, and the expression for the JSON of a whole task, which HTTP sends as it is: a
    driver takes longer for each column, and twice as long for nineteen. Creates hold the documents of a task
    to half of max_allowed_packet, beyond which the server makes NULL of a text."""

    def quoted(column: str) -> str:
        return f"@COALESCE(JSON_QUOTE({column}), 'null')@"

    def stamp(column: str) -> str:
        text = dialect.filled(f"\"@REPLACE({column}, ' ', 'T')@Z\"")
        return f"@CASE WHEN {column} IS NULL THEN 'null' ELSE {text} END@"

    percent = f"FLOOR(progress * 100 + {PERCENT_SLACK})"
    running = STATUS_TEXTS["running"][0].replace("percent", percent)
    others = [f"WHEN '{one}' THEN '{words}'" for one, (words, _) in STATUS_TEXTS.items() if one != "running"]
    status_text = f"""CASE WHEN status = 'running' THEN {dialect.filled(running)}
        WHEN status = 'pending' AND attempt > 0 THEN {dialect.filled(RETRIED_TEXTS[0])}
        ELSE CASE status {" ".join(others)} END END"""
    run_at = "@REPLACE(run_at, ' ', 'T')@Z"
    whole = (
        '{"task_id":"@backtest_tasks.task_id@","batch_id":"@batch_id@",'
        f'"stock_code":{quoted("stock_code")},"status":"@status@",{STATUS_TEXT_NAME}"@{status_text}@",'
        f'"progress":@progress@,"message":{quoted("message")},@{_task_metrics(dialect)}@,"attempt":@attempt@,'
        '"max_attempts":@max_attempts@,"timeout_seconds":@timeout_seconds@,"priority":@-priority_rank@,'
        f'"created_at":"@REPLACE(created_at, \' \', \'T\')@Z","run_at":"{run_at}",'
        f'"started_at":{stamp("started_at")},"finished_at":{stamp("finished_at")},'
        f'"worker_id":{quoted("worker_id")},"engine_version":{quoted("engine_version")},'
        f'"created_by":{quoted("created_by")},"result_of":{quoted("result_of")},"config":@config@,'
        """"params":@params@,"error":@COALESCE(error, 'null')@}"""
    )
    line = f"@backtest_tasks.task_id@ @status@ @-priority_rank@ {run_at} {whole}"
    return dialect.filled(line), dialect.filled(whole)


class TaskText(NamedTuple):
    """A task as JSON text, what its place in the queue depends on, and, if asked for, what is stored of its
    result, None unless completed; ``result_json`` alone is None where it is too long to be read with others."""

    task_id: str
    status: TaskStatus
    priority: int
    run_at: str
    json: str
    result_json: str | None = None
    non_finite_json: str | None = None
    converted_json: str | None = None


def _utf8(text: str | bytes) -> str:
    """What `Dialect.filled` made, as the driver gives it."""
    return text.decode("utf-8") if isinstance(text, bytes) else text


def _task_text(row: Sequence[Any]) -> TaskText:
    text, *result = row
    task_id, status, priority, run_at, task_json = _utf8(text).split(" ", 4)
    return TaskText(task_id, TaskStatus(status), int(priority), run_at, task_json, *result)


def _iso(stamp: str | None) -> str | None:
    return None if stamp is None else f"{stamp[:10]}T{stamp[11:]}Z"


def _seconds_between(start: str, end: str) -> float:
    """Of two times as the database writes them."""
    return (datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(start)).total_seconds()


LARGE_BATCH = 20_000  # tasks, which are counted in some 10 ms; the counts of more are kept
COUNTS_SECONDS = 1.0  # how old the counts of a large batch may be in an answer
NEXT_PAGE_COUNTS_SECONDS = 60.0  # and in the pages after the first, which are not worth a count of their own
MAX_KEPT_BATCHES = 1000
RATE_TASKS = 200  # that ended last tell the rate of a batch
PAUSE_SECONDS = 60.0  # without an end, beside the time of the longest task: another run has begun since


def _rate(ends: Sequence[Sequence[float]], is_all: bool) -> float | None:
    """Tasks a second, by the seconds since each one started and ended; ``is_all``: no others have ended. What
    ended before a pause is of an earlier run: a retryTask made the others pending again."""
    pause = PAUSE_SECONDS + max((start - end for start, end in ends), default=0.0)
    starts, last = list[float](), 0.0
    for start, end in sorted(ends, key=operator.itemgetter(1)):
        if end - last > pause:
            is_all = True
            break
        starts, last = [*starts, start], end
    if not starts:
        return None
    # since the first of them started, or, where others ended before it, since its end
    return len(starts) / max(*starts, 0.001) if is_all else (len(starts) - 1) / max(last, 0.001)


# one step of a purge: how many rows it deleted, and where the next step goes on; None at the end
Purged = tuple[int, str | None]


class QueueHead(NamedTuple):
    """The first 10,000 pending tasks, by rank and id, in the order of claims at ``now``."""

    now: str
    latest: str  # that a run_at is waited for, see IS_DUE
    has_worker: bool  # a scheduler was seen
    entries: Sequence[str]

    def place(self, task_id: str, priority: int) -> int:
        """Where this pending task stands, 1 for the next, 10,000 at most."""
        place = bisect.bisect_left(self.entries, f"{QUEUE_RANK_OFFSET - priority}{task_id}")
        return min(place + 1, MAX_QUEUE_POSITION)

    def is_in_backoff(self, run_at: str) -> bool:
        """Whether a task waits for this time; see IS_DUE."""
        return self.now < run_at <= self.latest


def _attempt(row: Sequence[Any]) -> TaskAttempt:
    """A TaskAttempt from a row of task_id, attempt and ATTEMPT_FIELDS."""
    task_id, attempt, worker_id, started_at, ended_at, ending, error, *usage = row
    began, ended = cast(str, _iso(started_at)), _iso(ended_at)
    parsed = None if error is None else json.loads(error)
    return TaskAttempt(task_id, attempt, worker_id, began, ended, ending, parsed, *usage)


def _stamps(now: str) -> Callable[[float], str]:
    """Gives times of `time.monotonic` as the database writes them, whose clock shows ``now``."""
    start = datetime.datetime.fromisoformat(now) - datetime.timedelta(seconds=time.monotonic())
    return lambda at: _stamp_text(start + datetime.timedelta(seconds=at))


def _time_text(seconds: float) -> str:
    """Seconds as the second argument of ADDTIME."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60 + seconds - whole:09.6f}"


def _key(text: str) -> str:
    """A key to look up. MySQL refuses to compare ours, which are ASCII, with others, and ignores a space at
    the end: those become one that is not there."""
    return text if text.isascii() and not text.endswith(" ") else ""


def _in_list(values: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The inside of an IN (...) and its parameters."""
    parameters = {f"in_{i}": value for i, value in enumerate(values)}
    return ", ".join(f":{name}" for name in parameters), parameters


BATCH_IS_EMPTY = "NOT EXISTS (SELECT 1 FROM backtest_tasks t WHERE t.batch_id = backtest_batches.batch_id)"
# an Idempotency-Key is kept as long as its batch
KEY_IS_SPENT = (
    "NOT EXISTS (SELECT 1 FROM backtest_batches b WHERE b.batch_id = backtest_idempotency_keys.batch_id)"
)


@functools.lru_cache(maxsize=64)
def _for_keys(sql: str, count: int) -> tuple[PreparedStatement, Sequence[str]]:
    """A statement that ends in IN, for so many keys, and the names of its parameters."""
    names, parameters = _in_list([""] * count)
    return PreparedStatement(f"{sql} ({names})"), tuple(parameters)


def _key_lists(sql: str, keys: Sequence[str]) -> Iterator[tuple[PreparedStatement, dict[str, str]]]:
    """A statement that ends in IN with its keys, filled up to a power of two, so that few are prepared."""
    for start in range(0, len(keys), MAX_KEYS):
        part = [_key(key) for key in keys[start : start + MAX_KEYS]]
        statement, names = _for_keys(sql, 1 << (len(part) - 1).bit_length())
        yield statement, dict(itertools.zip_longest(names, part, fillvalue=part[-1]))


class StatusChange(NamedTuple):
    """A change that clients ask for: of which statuses, its assignments, whether it ends attempts."""

    before: tuple[TaskStatus, ...]
    to: str
    ends_attempts: bool = False


CANCEL = StatusChange(
    (TaskStatus.PENDING, TaskStatus.RUNNING), "status = 'cancelled', finished_at = UTC_TIMESTAMP(6)", True
)
CANCELLED_ATTEMPTS = """REPLACE INTO backtest_attempts
    (task_id, attempt, worker_id, started_at, ended_at, ending, output_tail)
    SELECT task_id, attempt, worker_id, started_at, UTC_TIMESTAMP(6), 'cancelled', '' FROM backtest_tasks
    WHERE status = 'running' AND task_id IN"""
RETRY = StatusChange(
    (TaskStatus.FAILED, TaskStatus.CANCELLED),
    """status = 'pending', attempt_limit = attempt + max_attempts, progress = 0.0, message = '',
       run_at = UTC_TIMESTAMP(6), started_at = NULL, finished_at = NULL, worker_id = NULL""",
)
# The rows of a page, in the order of its ids; CROSS JOIN keeps SQLite, and STRAIGHT_JOIN MySQL, from another.
PAGE_ROWS = "CROSS JOIN backtest_tasks ON backtest_tasks.task_id = page.task_id"


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks a list shows: of a batch, statuses, a stock, beyond a cursor (an id), at most so many."""

    batch_id: str | None = None
    statuses: Sequence[TaskStatus] = ()
    stock_code: str | None = None
    limit: int = 100
    cursor: str | None = None
    newest_first: bool = True

    def source(self) -> str:
        """The ids of the page as a FROM item with `parameters`. A branch for each status reads one range of
        an index that ends in the id, hence few entries more than the page shows. Left to themselves,
        optimizers walk the primary key for two statuses, or all tasks of a stock for those of a batch."""
        wanted = [name for name in ("batch_id", "stock_code") if getattr(self, name)]
        statuses = sorted({status.value for status in self.statuses or (TaskStatus if wanted else ())})
        parts = [name.partition("_")[0] for name in wanted or ["status"]]
        index = "_".join(["backtest_tasks", *parts]) if wanted or statuses else "PRIMARY"
        order, beyond = ("DESC", "<") if self.newest_first else ("ASC", ">")
        page = f"ORDER BY task_id {order} LIMIT :limit"
        head = f"SELECT task_id FROM backtest_tasks /*! FORCE INDEX ({index}) */ WHERE"
        where = " AND ".join([*(f"{name} = :{name}" for name in wanted), f"task_id {beyond} :cursor"])
        selects = [f"{head} status = '{status}' AND {where} {page}" for status in statuses]
        if len(selects) < 2:
            return f"({selects[0] if selects else f'{head} {where} {page}'}) AS page"
        branches = [f"SELECT task_id FROM ({select}) AS branch_{i}" for i, select in enumerate(selects)]
        return f"(SELECT task_id FROM ({' UNION ALL '.join(branches)}) AS branches {page}) AS page"

    def parameters(self, limit: int) -> dict[str, Any]:
        """For at most ``limit`` ids."""
        code = self.stock_code or ""
        return {
            "batch_id": _key(self.batch_id or ""),
            "stock_code": "" if code.endswith(" ") else code,  # which MySQL before 8.0.17 ignores
            "cursor": self.cursor or ("~" if self.newest_first else ""),
            "limit": limit,
        }


# ==== 17 New tasks ==========================================================================================
# The tasks of one create as the rows that it stores.

# The columns that each task of a create has for itself, and those that all have in common.
TASK_COLUMNS = ("task_id", "stock_code", "params")
SHARED_COLUMNS = ("batch_id", "config", "max_attempts", "timeout_seconds", "priority_rank", "created_by")


class NewTasks(NamedTuple):
    """A create that is ready to be stored, with the ids that were made for it. ``tasks``: all of the request
    where empty; ``sources``: by new ids, the completed tasks whose results are taken over."""

    request: BatchRequest
    batch_id: str
    task_ids: Sequence[str]
    timeout_seconds: float
    max_attempts: int
    idempotency_key: str | None = None
    request_sha256: str = ""
    created_by: str | None = None
    tasks: Sequence[Combination] = ()
    skipped: int = 0
    sources: Mapping[str, str] = NO_PARAMETERS
    warnings: Sequence[str] = ()

    @property
    def combinations(self) -> Sequence[Combination]:
        """Its tasks, in the order of their ids."""
        return self.tasks or self.request.combinations()

    @property
    def created(self) -> CreatedBatch:
        """The answer once it is stored."""
        count, more = len(self.task_ids), (self.skipped, len(self.sources), [*self.warnings])
        listed = self.task_ids if count <= MAX_LISTED_IDS else ()
        return CreatedBatch(self.batch_id, count, listed, False, *more)

    @property
    def key_row(self) -> list[Any]:
        """The Idempotency-Key and the answer to a repeat: the ids, or their count alone; the rest."""
        ids: list[Any] = list(self.created.task_ids) or [len(self.task_ids)]
        counts = dump_json({"skipped": self.skipped, "reused": len(self.sources), "warnings": self.warnings})
        return [self.idempotency_key, self.request_sha256, self.batch_id, dump_json(ids), counts]

    @property
    def shared(self) -> list[Any]:
        """What all of its tasks have in common, in the order of SHARED_COLUMNS."""
        timeout, config = round(float(self.timeout_seconds), DECIMALS), dump_json(self.combinations[0][1])
        creator = self.created_by or ""  # NULL would be that of the first create
        return [self.batch_id, config, self.max_attempts, timeout, -self.request.priority, creator]

    def rows(self, shared: Sequence[Any], with_source: bool = False) -> Iterator[str]:
        """Each task as a JSON list of id, stock, params and ``shared``, with its own config where that is not
        the first one's. Either those without a source, or those with one, which comes last."""
        tasks = self.combinations
        rests = {id(tasks[0][1]): f",{dump_json(shared)[1:-1]}" if shared else ""}
        codes, texts = dict[str, str](), dict[int, str]()
        for task_id, (code, config, params) in zip(self.task_ids, tasks, strict=True):
            if (task_id in self.sources) != with_source:
                continue
            if id(config) not in rests:
                own = {**dict(itertools.zip_longest(SHARED_COLUMNS, shared)), "config": dump_json(config)}
                rests[id(config)] = f",{dump_json(list(own.values()))[1:-1]}"
            if code not in codes:
                codes[code] = dump_json(code)
            if id(params) not in texts:
                texts[id(params)] = dump_json(dump_json(params))
            source = f',"{self.sources[task_id]}"' if with_source else ""
            yield f'["{task_id}",{codes[code]},{texts[id(params)]}{rests[id(config)]}{source}]'


# ==== 18 Create statements ==================================================================================
# The SQL of creates, and of what admits them. Only Rows and the statement rooms have SQL about tasks: models
# go in and out, no cursors and no SQL. Each method is one transaction.

RECENT_TASKS = 300  # whose durations an estimate is made of
MAX_GROUP_CREATES = 64  # that share a transaction: enough to share its cost, and each waits for few others
MAX_GROUP_TASKS = 256  # of all of them
STATEMENT_TASKS = 10_000  # that one statement inserts
STATEMENT_BYTES = 2 * 1024 * 1024  # of the JSON rows of one statement
# A create adds to a batch that is there: it locks the row of the batch against retention. Row locks are local
# to a node of a cluster, which certifies written rows at COMMIT: there the row is changed by a microsecond,
# so that a retention on another node conflicts.
LOCK_BATCH = "SELECT 1 FROM backtest_batches WHERE batch_id = :batch_{0} /*! LOCK IN SHARE MODE */"
TOUCH_BATCH = """UPDATE backtest_batches SET created_at = ADDTIME(created_at, '0:00:00.000001')
    WHERE batch_id = :batch_{0}"""
INSERT_NAMED_BATCH = """INSERT INTO backtest_batches (batch_id, name, created_at)
    SELECT :batch_{0}, :name_{0}, UTC_TIMESTAMP(6) /*! FROM DUAL */
    WHERE NOT EXISTS (SELECT 1 FROM backtest_batches WHERE batch_id = :batch_{0})"""
INSERT_BATCH = (
    "INSERT INTO backtest_batches (batch_id, name, created_at) VALUES (:batch_id, :name, UTC_TIMESTAMP(6))"
)


def in_groups(
    items: Iterable[T], size_of: Callable[[T], int], most: int, most_size: int
) -> Iterator[list[T]]:
    """Lists of at most ``most`` items, in their order, and of this size in all but where one alone is larger."""
    group: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if group and (len(group) == most or total + size > most_size):
            yield group
            group, total = [], 0
        group.append(item)
        total += size
    if group:
        yield group


def _check_size(text: str, max_bytes: int) -> int:
    """The bytes of a task's documents. Raises BodyTooLarge for more than ``max_bytes``."""
    size = len(text.encode("utf-8"))
    if size > max_bytes:
        most = f"more than the database takes in one packet beside the config ({max_bytes})"
        raise BodyTooLarge(f"params of {size} bytes are {most}")
    return size


def _statement_rows(rows: Iterable[str], max_bytes: int) -> Iterator[str]:
    """JSON lists of the rows, each for one statement. Raises BodyTooLarge."""
    most = min(STATEMENT_BYTES, max_bytes)
    for part in in_groups(rows, lambda row: _check_size(row, max_bytes) + 1, STATEMENT_TASKS, most):
        yield f"[{','.join(part)}]"


class Statements:
    """Statements over one database, for any number of threads; they raise what `Database` does."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def change(self, *statements: str, **parameters: Any) -> None:
        """Run statements in one transaction, which does no harm when it is applied twice."""

        def work(session: Session) -> bool:
            for sql in statements:
                session.execute(sql, parameters)
            return True

        self.database.write(work, confirm=lambda session: None)

    def delete_spent(self, table: str, key: str, keys: Sequence[str], is_spent: str) -> int:
        """Delete those rows for which the condition holds once they are locked: a create that adds to a batch
        holds its row, and has committed when we have locked it."""

        def work(session: Session) -> int:
            names, parameters = _in_list(keys)
            chosen = f"{key} IN ({names})"
            session.rows(f"SELECT 1 FROM {table} WHERE {chosen} ORDER BY {key} /*! FOR UPDATE */", parameters)
            return session.execute(f"DELETE FROM {table} WHERE {chosen} AND {is_spent}", parameters)

        return self.database.write(work, confirm=lambda session: None) if keys else 0

    def _take(self, take: Callable[[Session], list[T]], is_left: Callable[[Session, T], Any]) -> list[T]:
        """What ``take`` has changed or deleted. It no longer matches: so a lost COMMIT is read back by its
        first."""
        taken: list[T] = []
        # of a try whose COMMIT was lost: if a later one finds nothing, that one had done it
        doubtful: list[T] = []

        def work(session: Session) -> list[T]:
            taken[:] = take(session)
            return taken or doubtful

        def confirm(session: Session) -> list[T] | None:
            doubtful[:] = taken or doubtful
            return None if doubtful and is_left(session, doubtful[0]) else doubtful

        return self.database.write(work, confirm)


def _first_of_run_keys(dialect: Dialect, column: str) -> str:
    """The query for each run_key that a completed task has, with a column of that task. Keys without one give no
    row: to fetch a row costs the driver as much as to find it costs the server."""
    return f"""SELECT * FROM (SELECT r.run_key, (SELECT m.{column} FROM backtest_metrics AS m
            /*! FORCE INDEX (backtest_metrics_run_key) */ WHERE m.run_key = r.run_key LIMIT 1) AS found
        FROM {dialect.json_rows("run_key")} AS r) AS known WHERE found IS NOT NULL"""


class CreateStatements(Statements):
    """Creates of tasks, the results that they take over, and what a create is refused or estimated by."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        dialect = database.dialect
        keys = ("idempotency_key", "request_sha256", "batch_id", "task_ids", "counts")
        rows = dialect.json_rows(*keys, parameter="keys")
        self._insert_keys = f"""INSERT INTO backtest_idempotency_keys ({", ".join(keys)}, created_at)
            SELECT {", ".join(keys)}, UTC_TIMESTAMP(6) FROM {rows} AS k"""
        rows = dialect.json_rows("batch_id", "name", parameter="batches")
        self._insert_batches = f"""INSERT INTO backtest_batches (batch_id, name, created_at)
            SELECT batch_id, name, UTC_TIMESTAMP(6) FROM {rows} AS b"""
        # The rows of the first create of a transaction leave out what they share, which stands in the
        # parameters. A single task has no row: most creates are such, and without JSON they take half as
        # long.
        own = {name: f"r.{name}" for name in TASK_COLUMNS}
        own |= {name: f"COALESCE(r.{name}, :{name})" for name in SHARED_COLUMNS}
        self._insert_task = self._insert({name: f":{name}" for name in own}, "")
        self._insert_tasks = self._insert(own, f"FROM {dialect.json_rows(*own)} AS r")
        self._init_reuse([*own])

    def _init_reuse(self, columns: Sequence[str]) -> None:
        """The statements for tasks that take over a result; rows are `NewTasks.rows` with their sources."""
        dialect, by_key = self.database.dialect, "/*! FORCE INDEX (PRIMARY) */ ON"
        rows = f"FROM {dialect.json_rows(*columns, 'source')} AS r CROSS JOIN backtest_tasks AS"
        new, old = f"{rows} t {by_key} t.task_id = r.task_id", f"{rows} s {by_key} s.task_id = r.source"
        self._select_known_run = _first_of_run_keys(dialect, "task_id")
        named, is_done = dialect.json_rows("task_id"), "COALESCE(status, '') = 'completed'"
        self._lock_sources = f"""SELECT /*! STRAIGHT_JOIN */ s.task_id FROM {named} AS r
            CROSS JOIN backtest_tasks AS s {by_key} s.task_id = r.task_id AND {is_done} /*! LOCK IN SHARE MODE */"""
        is_source = f"backtest_tasks.task_id = r.task_id AND {is_done}"
        self._touch_sources = dialect.update_from(named, is_source, "heartbeat = heartbeat + 1")
        own = [f"NULLIF(r.{name}, '')" if name == "created_by" else f"r.{name}" for name in columns]
        copied = (
            "params_key, start_date, end_date, engine_version, periods_per_year, period_sharpe, data_version"
        )
        names = [f"{copied}, sharpe_error, metrics, run_key, drift", "batch_id, task_id, stock_code, params"]
        from_source = ", ".join(f"m.{name}" for name in names[0].split(", "))
        self._take_over = (
            f"""INSERT INTO backtest_tasks ({", ".join(columns)}, status, progress, message, attempt, created_at,
                    run_at, finished_at, heartbeat, attempt_limit, engine_version, result_of)
                SELECT /*! STRAIGHT_JOIN */ {", ".join(own)}, 'completed', 1.0, '', 0, UTC_TIMESTAMP(6),
                    UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 0, r.max_attempts, s.engine_version,
                    COALESCE(s.result_of, s.task_id) {old}""",
            f"""INSERT INTO backtest_metrics ({", ".join(names)})
                SELECT /*! STRAIGHT_JOIN */ {from_source}, r.batch_id, r.task_id, r.stock_code, r.params {old}
                CROSS JOIN backtest_metrics AS m {by_key} m.batch_id = s.batch_id AND m.task_id = s.task_id""",
            f"""INSERT INTO backtest_reuses (result_of, task_id)
                SELECT /*! STRAIGHT_JOIN */ t.result_of, t.task_id {new}""",
        )

    def known_runs(self, run_keys: Iterable[str]) -> dict[str, str]:
        """A completed task of each key that has one."""
        found: dict[str, str] = {}
        for part in _statement_rows((f'["{key}"]' for key in run_keys), STATEMENT_BYTES):
            found.update(self.database.rows(self._select_known_run, {"rows": part}))
        return found

    def _held(self, session: Session, new: NewTasks) -> NewTasks:
        """The create with those of its sources that are still there, and are not deleted before its COMMIT.
        Locks are local to a node of a cluster: there the rows are changed, as in TOUCH_BATCH."""
        there = set[str]()
        named = (f'["{one}"]' for one in sorted({*new.sources.values()}))
        for part in _statement_rows(named, STATEMENT_BYTES):
            if self.database.dialect.is_cluster:
                session.execute(self._touch_sources, {"rows": part})
            there.update(row[0] for row in session.rows(self._lock_sources, {"rows": part}))
        kept = {task_id: one for task_id, one in new.sources.items() if one in there}
        return new._replace(sources=kept)

    def _insert(self, values: Mapping[str, str], source: str) -> str:
        """The statement that inserts tasks with these expressions for their columns."""
        others = "status, progress, message, attempt, created_at, run_at, heartbeat, attempt_limit"
        rest = f"'pending', 0.0, '', 0, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 0, {values['max_attempts']}"
        values = {**values, "created_by": f"NULLIF({values['created_by']}, '')"}
        return f"""INSERT INTO backtest_tasks ({", ".join(values)}, {others})
            SELECT {", ".join(values.values())}, {rest} {source}"""

    def create(self, creates: Iterable[NewTasks]) -> list[CreatedBatch | QtmError]:
        """Store creates, small ones in one transaction. Each is all or nothing, and durable when this returns;
        what it raised stands in its place: BodyTooLarge where no packet takes a document, or, for a key that
        came with another request, IdempotencyKeyReused; with the same, the first answer comes back. A batch
        that is there is added to."""
        groups = in_groups(creates, lambda new: len(new.task_ids), MAX_GROUP_CREATES, MAX_GROUP_TASKS)
        return [answer for group in groups for answer in self._create_group(group)]

    def _create_group(self, creates: Sequence[NewTasks]) -> Sequence[CreatedBatch | QtmError]:
        try:
            return self._store(creates)
        except QtmError as error:
            # of the database: alone each would only meet the same, one after the other
            if len(creates) == 1 or isinstance(error, (DatabaseUnavailable, TransactionConflict)):
                return [without_traceback(error)] * len(creates)
            return [answer for new in creates for answer in self._create_group([new])]

    def _store(self, creates: Sequence[NewTasks]) -> Sequence[CreatedBatch]:
        created, script = [new.created for new in creates], self._create_script(creates)
        parameters = {name: value for _, values in script for name, value in values.items()}
        size = sum(len(str(value).encode("utf-8")) for value in parameters.values())
        is_short = sum("config" in values for _, values in script) == 1
        takes_over = any(new.sources for new in creates)
        is_short &= size <= self.database.dialect.max_document_bytes and not takes_over
        first = creates[0].task_ids[0]  # stands for all, which are one transaction
        stored = "SELECT 1 FROM backtest_tasks WHERE task_id = :first"

        def work(session: Session) -> Sequence[CreatedBatch]:
            held = [self._held(session, new) for new in creates] if takes_over else creates
            created[:] = [new.created for new in held]
            for statement, values in self._create_script(held) if takes_over else script:
                session.execute(statement, values)
            return created

        def confirm(session: Session) -> Sequence[CreatedBatch] | None:
            return created if session.row(stored, {"first": first}) else None

        for _ in range(3):
            try:
                if is_short:
                    statements = [statement for statement, _ in script]
                    return self.database.write_at_once(statements, parameters, created, confirm)
                return self.database.write(work, confirm)
            except DuplicateKey:  # a late COMMIT of ours, a known key, or a batch that others made just now
                try:
                    known, repeated = self.database.read(confirm), None
                    if len(creates) == 1:
                        repeated = self.repeated(creates[0].idempotency_key, creates[0].request_sha256)
                except (DatabaseUnavailable, TransactionConflict):
                    raise OutcomeUnknown("this create may be stored, and reading it back failed") from None
                if known or repeated:
                    return known or [cast(CreatedBatch, repeated)]
                if len(creates) > 1:
                    raise
        raise TransactionConflict(f"the batch {creates[0].batch_id} is being created by others; try again")

    def _create_script(self, creates: Sequence[NewTasks]) -> list[tuple[str, dict[str, Any]]]:
        """The statements of a transaction, with their parameters. Raises BodyTooLarge."""
        own: dict[str, str | None] = {}
        named: dict[str, str | None] = {}
        for new in creates:
            (named if new.request.batch_id else own).setdefault(new.batch_id, new.request.name)
        script: list[tuple[str, dict[str, Any]]] = []
        if keys := [new.key_row for new in creates if new.idempotency_key is not None]:
            script.append((self._insert_keys, {"keys": dump_json(keys)}))
        hold = TOUCH_BATCH if self.database.dialect.is_cluster else LOCK_BATCH
        # sorted, or two transactions would wait for each other
        for number, (batch_id, name) in enumerate(sorted(named.items())):
            values = {f"batch_{number}": batch_id, f"name_{number}": name}
            script += [(hold.format(number), values), (INSERT_NAMED_BATCH.format(number), values)]
        if len(own) == 1:
            script += [(INSERT_BATCH, {"batch_id": batch_id, "name": name}) for batch_id, name in own.items()]
        elif own:
            script.append((self._insert_batches, {"batches": dump_json(list(own.items()))}))
        first = creates[0]
        shared = dict(zip(SHARED_COLUMNS, first.shared, strict=True))
        most = self.database.dialect.max_document_bytes - len(shared["config"].encode("utf-8"))
        if len(creates) == len(first.task_ids) == 1 and not first.sources:
            ((code, _, document),) = first.combinations
            params = dump_json(document)
            _check_size(params, most)
            own_values = (first.task_ids[0], code, params)
            task = {**shared, **dict(zip(TASK_COLUMNS, own_values, strict=True))}
            return [*script, (self._insert_task, task)]
        rows = (row for new in creates for row in new.rows([] if new is first else new.shared))
        parts = [{**shared, "rows": part} for part in _statement_rows(rows, most)]
        script += [(self._insert_tasks, part) for part in parts]
        rows = (row for new in creates if new.sources for row in new.rows(new.shared, with_source=True))
        taken = [{"rows": part} for part in _statement_rows(rows, most)]
        return script + [(statement, part) for part in taken for statement in self._take_over]

    def count_pending(self, most: int) -> int:
        """How many tasks are pending; no more than ``most`` are counted."""
        some = "SELECT 1 FROM backtest_tasks WHERE status = 'pending' LIMIT :most"
        return int(self.database.rows(f"SELECT COUNT(*) FROM ({some}) AS waiting", {"most": most})[0][0])

    def recent_seconds(self, strategy: str | None) -> list[float]:
        """How long the newest completed tasks of this ``config.strategy`` ran, without takers of results."""
        rows = self.database.rows(
            f"""{BOUNDED_SELECT} JSON_EXTRACT(config, '$.strategy'),
                CASE WHEN result_of IS NULL THEN started_at END, finished_at
                FROM backtest_tasks /*! FORCE INDEX (backtest_tasks_status) */ WHERE status = 'completed'
                ORDER BY task_id DESC LIMIT {RECENT_TASKS}"""
        )
        texts = (strategy, dump_json(strategy))  # as SQLite gives it, and as MySQL does
        return [_seconds_between(start, end) for found, start, end in rows if found in texts and start]

    def living_slots(self, within_seconds: float) -> int:
        """The slots of all schedulers that were seen in the last ``within_seconds``."""
        seen = "SELECT SUM(slots) FROM backtest_workers WHERE seen_at > ADDTIME(UTC_TIMESTAMP(6), :ago)"
        return int(self.database.rows(seen, {"ago": "-" + _time_text(within_seconds)})[0][0] or 0)

    def repeated(self, key: str | None, sha256: str) -> CreatedBatch | None:
        """What was created by this key; None when nothing was, or when its batch is deleted, which frees the
        key. Raises IdempotencyKeyReused after another request."""
        if key is None:
            return None
        is_spent = f"CASE WHEN {KEY_IS_SPENT} THEN 1 ELSE 0 END"
        found = f"""SELECT request_sha256, batch_id, task_ids, COALESCE(counts, '{{}}'), {is_spent}
            FROM backtest_idempotency_keys WHERE idempotency_key = :key"""
        for known, batch_id, ids_json, counts, is_gone in self.database.rows(found, {"key": key}):
            if is_gone:
                self.delete_spent("backtest_idempotency_keys", "idempotency_key", [key], KEY_IS_SPENT)
                return None
            if known != sha256:
                words = "this Idempotency-Key came before with another request"
                raise IdempotencyKeyReused(f"{words}; use a new key for a new request")
            ids = json.loads(ids_json)
            count, listed = (ids[0], ()) if isinstance(ids[0], int) else (len(ids), ids)
            return CreatedBatch(batch_id, count, listed, repeated=True, **json.loads(counts))
        return None


# ==== 19 Task statements ====================================================================================
# The SQL of clients: read, list, cancel, retry, delete. A status changes only by a compare-and-set; a method
# returns whether it won, and raises nothing if it lost.

PAGE_BYTES = 8 * 1024 * 1024  # of the documents of a page of tasks, which ends there
# of the JSON of a task beside its message, its metrics and its documents; twice that at worst
TASK_BYTES = 1000
RESULT_TOGETHER_BYTES = 64 * 1024  # of a result that is read with others; a longer one is read alone
CHANGED_TASKS = 200  # in one transaction of a cancel or retry of a batch: 10 ms, in which others wait
CHANGED_ON_CLUSTER = 20  # the same there, where many rows lose to every small transaction of another node


def _delete_metrics(tasks: Sequence[Sequence[str]]) -> tuple[str, dict[str, str]]:
    """The statement that deletes the metrics of tasks, each a pair of task_id and batch_id."""
    pairs = " OR ".join(f"(task_id = :task_{i} AND batch_id = :batch_{i})" for i in range(len(tasks)))
    keys = {
        f"{name}_{i}": task[n] for i, task in enumerate(tasks) for n, name in enumerate(("task", "batch"))
    }
    return f"DELETE FROM backtest_metrics WHERE {pairs}", keys


IS_ENDED = "COALESCE(status, '') IN ('completed', 'failed', 'cancelled')"
# Neither its own task is there, nor one that has taken it over.
RESULT_IS_UNUSED = """NOT EXISTS (SELECT 1 FROM backtest_reuses u WHERE u.result_of = backtest_results.task_id)
    AND NOT EXISTS (SELECT 1 FROM backtest_tasks t WHERE t.task_id = backtest_results.task_id)"""


def _delete_tasks(
    session: Session, task_ids: Sequence[str], condition: str, parameters: Mapping[str, Any], lock: str
) -> list[tuple[str, str]]:
    """Delete those of these tasks for which the condition holds, with all that belongs to them; the task_id
    and batch_id of each. Locked first, so that one that retryTask has made pending keeps its records."""
    names, keys = _in_list(task_ids)
    locked = session.rows(
        f"""SELECT task_id, batch_id, result_of FROM backtest_tasks /*! FORCE INDEX (PRIMARY) */
            WHERE task_id IN ({names}) AND {condition} ORDER BY task_id /*! {lock} */""",
        {**keys, **parameters},
    )
    if locked:
        session.execute(*_delete_metrics(locked))
        ids, reused = [row[0] for row in locked], [row for row in locked if row[2]]
        names, keys = _in_list(ids)
        for table in ("backtest_attempts", "backtest_tasks"):
            session.execute(f"DELETE FROM {table} WHERE task_id IN ({names})", keys)
        for task_id, _, source in reused:
            # A delete of the source at the same moment would leave the result to this one, and this one to it.
            # On one server the second waits for locks; nodes of a cluster conflict, since this changes the source.
            touch = "UPDATE backtest_tasks SET heartbeat = heartbeat + 1 WHERE task_id = :source"
            pair = "DELETE FROM backtest_reuses WHERE result_of = :source AND task_id = :task_id"
            for sql in (touch, pair):
                session.execute(sql, {"source": source, "task_id": task_id})
        names, keys = _in_list([*ids, *{row[2] for row in reused}])
        unused = f"DELETE FROM backtest_results WHERE task_id IN ({names}) AND {RESULT_IS_UNUSED}"
        session.execute(unused, keys)
    return [(row[0], row[1]) for row in locked]


class TaskStatements(Statements):
    """What clients ask for: reads, cancels, retries and deletes."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        # The last counts of large batches, which each page of the batch shows, and the time before they were
        # counted: 600,000 tasks take a quarter of a second. Any thread reads and writes; each step is atomic.
        self._kept: dict[str, tuple[float, BatchInfo]] = {}
        dialect = database.dialect
        self._task_column, self._task_json = _task_columns(dialect)
        where = "WHERE backtest_tasks.task_id IN"
        self._select_task = f"SELECT {self._task_column} FROM backtest_tasks {where}"
        short = f"CASE WHEN LENGTH(result) <= {RESULT_TOGETHER_BYTES} THEN result END"
        self._select_result, self._select_results, self._select_card = (
            f"""SELECT {self._task_column}, {columns} FROM backtest_tasks LEFT JOIN backtest_results
                ON backtest_results.task_id = COALESCE(result_of, backtest_tasks.task_id) {where}"""
            for columns in (*(f"{result}, non_finite, converted" for result in ("result", short)), "run_card")
        )

    def get(self, task_id: str) -> TaskInfo | None:
        """The task, or None."""
        found = self.get_texts([task_id]).get(task_id)
        return TaskInfo.from_dict(json.loads(found.json)) if found else None

    def get_texts(self, task_ids: Sequence[str], with_results: bool = False) -> dict[str, TaskText]:
        """Those of the tasks that are there. Of several results, long ones are left out."""
        sql = self._select_task
        if with_results:
            sql = self._select_results if len(task_ids) > 1 else self._select_result
        lists = _key_lists(sql, task_ids)
        rows = [row for statement, keys in lists for row in self.database.rows(statement, keys)]
        return {task.task_id: task for task in map(_task_text, rows)}

    def get_run_card(self, task_id: str) -> tuple[TaskInfo, dict[str, Any]] | None:
        """The task, or None if it is not there; and what is stored of its run, nothing unless completed."""
        for row in self.database.rows(f"{self._select_card} (:task_id)", {"task_id": _key(task_id)}):
            task, card = _task_text(row[:1]), json.loads(row[1] or "{}")
            return TaskInfo.from_dict(json.loads(task.json)), card
        return None

    def get_attempts(self, task_id: str) -> list[TaskAttempt]:
        """The attempts of a task, the first one first: those on record, and the one that runs."""
        rows = self.database.rows(
            f"""SELECT task_id, attempt, {", ".join(ATTEMPT_FIELDS)} FROM backtest_attempts
                WHERE task_id = :task_id AND ending IS NOT NULL UNION ALL
                SELECT task_id, attempt, worker_id, started_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, ''
                FROM backtest_tasks WHERE task_id = :task_id AND status = 'running' ORDER BY attempt""",
            {"task_id": _key(task_id)},
        )
        return [_attempt(row) for row in rows]

    def get_batch(self, batch_id: str, max_age_seconds: float = 0.0) -> BatchInfo | None:
        """The batch, or None; the counts of a large one may be as old as ``max_age_seconds``."""

        def work(session: Session) -> BatchInfo | None:
            sql = "SELECT batch_id, name, created_at FROM backtest_batches WHERE batch_id = :batch_id"
            row = session.row(sql, {"batch_id": _key(batch_id)})
            return self._counted(session, [row], max_age_seconds)[0] if row else None

        return self.database.read(work)

    def _counted(
        self, session: Session, rows: Sequence[Sequence[Any]], max_age_seconds: float
    ) -> list[BatchInfo]:
        """The batches of rows of batch_id, name and created_at; those that are not known are counted by one
        statement."""
        started = time.monotonic()
        kept = {row[0]: self._kept.get(row[0]) for row in rows}
        found = {key: one[1] for key, one in kept.items() if one and one[0] > started - max_age_seconds}
        wanted = {row[0]: row for row in rows if row[0] not in found}
        counts = {batch_id: dict.fromkeys((status.value for status in TaskStatus), 0) for batch_id in wanted}
        done, creators = dict.fromkeys(wanted, 0.0), dict[str, str | None]()
        names, parameters = _in_list([*wanted])
        sql = f"""{BOUNDED_SELECT} c.*, (SELECT created_by FROM backtest_tasks t WHERE t.task_id = c.first_id)
                FROM (SELECT batch_id, status, COUNT(*), SUM(progress), MIN(task_id) AS first_id
                FROM backtest_tasks /*! FORCE INDEX (backtest_tasks_batch) */
                WHERE batch_id IN ({names}) GROUP BY batch_id, status) c"""
        counted = session.rows(sql, parameters) if wanted else []
        for batch_id, status, count, progress, _, creator in sorted(counted, key=lambda row: row[4])[::-1]:
            counts[batch_id][status] = int(count)
            done[batch_id] += float(progress)
            creators[batch_id] = creator  # the last one is that of the first task
        for batch_id, name, created_at in wanted.values():
            total = sum(counts[batch_id].values())
            mean, created = round(done[batch_id] / max(1, total), DECIMALS), cast(str, _iso(created_at))
            creator = creators.get(batch_id)
            found[batch_id] = BatchInfo(batch_id, name, created, counts[batch_id], mean, created_by=creator)
            self._kept.pop(batch_id, None)
            if total >= LARGE_BATCH:
                self._kept[batch_id] = started, found[batch_id]
        if len(self._kept) > MAX_KEPT_BATCHES:
            self._kept.clear()
        return [found[row[0]] for row in rows]

    def with_rate(self, batch: BatchInfo) -> BatchInfo:
        """The batch with its rate, by the tasks that ended last: those before the newest one that runs, since
        tasks are claimed in the order of their ids."""
        counts = batch.counts
        if not counts["running"] or not counts["completed"] + counts["failed"]:
            return batch
        newest = """SELECT MAX(task_id) FROM backtest_tasks /*! FORCE INDEX (backtest_tasks_batch) */
            WHERE batch_id = :batch_id AND status = 'running'"""
        ((cursor,),) = self.database.rows(newest, {"batch_id": batch.batch_id})
        ended = TaskFilter(batch.batch_id, (TaskStatus.COMPLETED, TaskStatus.FAILED), cursor=cursor)
        columns = "/*! STRAIGHT_JOIN */ started_at, finished_at, UTC_TIMESTAMP(6)"
        sql = f"{BOUNDED_SELECT} {columns} FROM {ended.source()} {PAGE_ROWS}"
        rows = self.database.rows(sql, ended.parameters(RATE_TASKS))
        ends = [[_seconds_between(at, now) for at in times] for *times, now in rows if all(times)]
        if not (rate := _rate(ends, is_all=len(rows) < RATE_TASKS)):
            return batch
        eta = round((counts["pending"] + counts["running"]) / rate, 1)
        return dataclasses.replace(batch, tasks_per_second=round(rate, DECIMALS), eta_seconds=eta)

    def _bounded_page(
        self, chosen: TaskFilter, columns: str, texts: Sequence[str], most_bytes: int, **parameters: Any
    ) -> list[tuple[Any, ...]]:
        """These columns of the tasks of a page, which ends before ``most_bytes`` of these texts, but has at least
        one task. ``found`` counts the tasks that were looked at: more than the page has if others follow."""
        sizes = [self.database.dialect.byte_length.format(f"COALESCE({text}, '')") for text in texts]
        order = f"(ORDER BY page.task_id {'DESC' if chosen.newest_first else 'ASC'})"
        sized = f"""SELECT /*! STRAIGHT_JOIN */ page.task_id, COUNT(*) OVER () AS found, COUNT(*) OVER {order} AS place,
            SUM({" + ".join([*sizes, str(TASK_BYTES)])}) OVER {order} AS bytes FROM {chosen.source()} {PAGE_ROWS}"""
        bounds = "WHERE place <= :most_tasks AND (place = 1 OR bytes <= :most_bytes)"
        given = {**chosen.parameters(chosen.limit + 1), "most_tasks": chosen.limit, "most_bytes": most_bytes}
        sql = f"{BOUNDED_SELECT} /*! STRAIGHT_JOIN */ {columns} FROM ({sized}) AS page {PAGE_ROWS} {bounds}"
        return self.database.rows(sql, {**given, **parameters})

    def list_page(self, chosen: TaskFilter) -> TaskPage:
        """A page of tasks as a text of the database: parsing rows takes fifty times as long. A server cuts off
        what exceeds max_allowed_packet, so a page is at most half of that."""
        dialect = self.database.dialect
        # each text ends with a line feed, of which JSON that is stored has none
        page = dialect.filled(f"@{self._task_json}@{chr(10)}")
        columns = f"GROUP_CONCAT({page}), GROUP_CONCAT(page.task_id), MAX(found)"
        texts = ("message", "config", "params", "error", OF_METRICS.format("metrics"))
        most = min(PAGE_BYTES, dialect.max_document_bytes)
        ((text, listed, found),) = self._bounded_page(chosen, columns, texts, most)
        ids, text = _utf8(listed or "").split(","), _utf8(text or "")
        if ids != (in_order := sorted(ids, reverse=chosen.newest_first)):  # GROUP_CONCAT promises no order
            text = ",".join(sorted(text.split("\n,"), reverse=chosen.newest_first))
        return TaskPage(text, in_order[-1] if listed and found > len(ids) else None)

    def list_batches(self, limit: int = 20, cursor: str | None = None) -> tuple[list[BatchInfo], str | None]:
        """A page of batches with their counts, newest first, and the cursor of the next page."""
        stamp, _, last = (cursor or "9999-12-31 00:00:00~").partition("~")

        def work(session: Session) -> tuple[list[BatchInfo], str | None]:
            rows = session.rows(
                """SELECT batch_id, name, created_at FROM backtest_batches
                   WHERE created_at <= :stamp AND (created_at < :stamp OR batch_id < :last)
                   ORDER BY created_at DESC, batch_id DESC LIMIT :limit""",
                {"stamp": stamp, "last": last, "limit": limit + 1},
            )
            page = rows[:limit]
            more = f"{page[-1][2]}~{page[-1][0]}" if len(rows) > limit else None
            return self._counted(session, page, COUNTS_SECONDS), more

        batches, following = self.database.read(work)
        return [self.with_rate(batch) for batch in batches], following

    def ended(self, task_ids: Sequence[str], batch_ids: Sequence[str]) -> set[str]:
        """Which of these tasks and batches have ended, all tasks of a batch, or are gone."""
        is_open = "COALESCE(status, '') IN ('pending', 'running')"
        tasks = f"SELECT task_id, 1 FROM backtest_tasks WHERE {is_open} AND task_id IN"
        some = """(SELECT 1 FROM backtest_tasks t /*! FORCE INDEX (backtest_tasks_batch) */
            WHERE t.batch_id = b.batch_id AND t.status = '{}' LIMIT 1)"""
        is_open = f"COALESCE({some.format('pending')}, {some.format('running')})"
        batches = f"SELECT batch_id, {is_open} FROM backtest_batches b WHERE batch_id IN"
        found = set[str]()
        for sql, keys in ((tasks, task_ids), (batches, batch_ids)):
            found.update(keys)
            for statement, parameters in _key_lists(sql, keys):
                found.difference_update(row[0] for row in self.database.rows(statement, parameters) if row[1])
        return found

    def queue_head(self, within_seconds: float) -> QueueHead:
        """The head of the queue, and whether a scheduler was seen in the last ``within_seconds``. As one row:
        10,000 would take the driver fifty times as long."""
        entry = self.database.dialect.filled(f"@priority_rank + {QUEUE_RANK_OFFSET}@@task_id@")
        ((now, latest, has_worker, entries),) = self.database.rows(
            f"""SELECT REPLACE(UTC_TIMESTAMP(6), ' ', 'T'),
                   REPLACE(ADDTIME(UTC_TIMESTAMP(6), '0:11:00'), ' ', 'T'),
                   EXISTS (SELECT 1 FROM backtest_workers WHERE seen_at > ADDTIME(UTC_TIMESTAMP(6), :ago)),
                   GROUP_CONCAT(entry)
                FROM (SELECT {entry} AS entry FROM backtest_tasks /*! FORCE INDEX (backtest_tasks_queue) */
                      WHERE status = 'pending'
                      ORDER BY priority_rank, created_at, task_id LIMIT :limit) AS head""",
            {"ago": "-" + _time_text(within_seconds), "limit": MAX_QUEUE_POSITION},
        )
        waiting = sorted(_utf8(entries).split(",")) if entries else []
        return QueueHead(f"{now}Z", f"{latest}Z", bool(has_worker), waiting)

    # -- change what clients ask for

    def cancel(self, task_id: str) -> bool:
        """pending or running -> cancelled; False when it was neither."""
        return len(self._change_some(CANCEL, [_key(task_id)])) == 1

    def cancel_batch(self, batch_id: str) -> int:
        """Cancel all pending and running tasks of a batch; how many they were."""
        return self._change_batch(CANCEL, batch_id)

    def retry(self, task_id: str) -> bool:
        """failed or cancelled -> pending, with ``max_attempts`` new attempts; False when it was neither."""
        return len(self._change_some(RETRY, [_key(task_id)])) == 1

    def retry_batch(self, batch_id: str, statuses: Sequence[TaskStatus] = (TaskStatus.FAILED,)) -> int:
        """Retry all tasks of a batch that are failed, cancelled, or either; how many they were."""
        return self._change_batch(RETRY._replace(before=tuple(statuses)), batch_id)

    def _change_batch(self, change: StatusChange, batch_id: str) -> int:
        """Change the tasks that match, a bounded number in each transaction, since a batch may have a
        million; how many they were. After a failure a repeat does the rest. They are looked for without
        locks, which in the index of batches would meet those of ending tasks in the opposite order."""
        total, chosen = 0, TaskFilter(batch_id, change.before, newest_first=False)
        most = CHANGED_ON_CLUSTER if self.database.dialect.is_cluster else CHANGED_TASKS
        while True:
            sql = f"SELECT task_id FROM {chosen.source()}"
            ids = sorted(row[0] for row in self.database.rows(sql, chosen.parameters(most)))
            total += len(self._change_some(change, ids)) if ids else 0
            if len(ids) < most:
                return total
            chosen = dataclasses.replace(chosen, cursor=ids[-1])

    def _change_some(self, change: StatusChange, task_ids: Sequence[str]) -> list[str]:
        """Those of the tasks that were changed."""
        before = ", ".join(f"'{status.value}'" for status in change.before)
        # COALESCE: left to itself, SQLite would walk all tasks of a status
        select = f"""SELECT task_id FROM backtest_tasks /*! FORCE INDEX (PRIMARY) */
            WHERE COALESCE(status, '') IN ({before}) AND task_id IN"""
        update = f"UPDATE backtest_tasks /*! FORCE INDEX (PRIMARY) */ SET {change.to} WHERE task_id IN"

        def take(session: Session) -> list[str]:
            names, keys = _in_list(task_ids)
            rows = session.rows(f"{select} ({names}) ORDER BY task_id /*! FOR UPDATE */", keys)
            taken = [row[0] for row in rows]
            if taken:
                names, keys = _in_list(taken)
                if change.ends_attempts:
                    session.execute(f"{CANCELLED_ATTEMPTS} ({names})", keys)
                session.execute(f"{update} ({names})", keys)
            return taken

        return self._take(take, lambda session, first: session.row(f"{select} (:first)", {"first": first}))

    def delete(self, task_ids: Sequence[str]) -> list[tuple[str, str]]:
        """Delete those of these tasks that have ended; the task_id and batch_id of each."""
        there = "SELECT 1 FROM backtest_tasks WHERE task_id = :first"
        if not task_ids:
            return []

        def take(session: Session) -> list[tuple[str, str]]:
            return _delete_tasks(session, task_ids, IS_ENDED, NO_PARAMETERS, "FOR UPDATE")

        return self._take(take, lambda session, first: session.row(there, {"first": first[0]}))

    def delete_some(self, batch_id: str, after: str, limit: int) -> Purged:
        """Delete the next ``limit`` tasks of a batch after an id that have ended."""
        statuses = [status for status in TaskStatus if status.is_final]
        chosen = TaskFilter(batch_id, statuses, cursor=after, newest_first=False)
        rows = self.database.rows(f"SELECT task_id FROM {chosen.source()}", chosen.parameters(limit))
        ids = sorted(row[0] for row in rows)
        return len(self.delete(ids)), ids[-1] if len(ids) == limit else None

    def delete_if_empty(self, batch_id: str) -> None:
        """Tasks of this batch are deleted: delete the batch, too, if it has no others."""
        self._kept.pop(batch_id, None)
        sql = f"SELECT batch_id FROM backtest_batches WHERE batch_id = :batch_id AND {BATCH_IS_EMPTY}"
        empty = [row[0] for row in self.database.rows(sql, {"batch_id": _key(batch_id)})]
        self.delete_spent("backtest_batches", "batch_id", empty, BATCH_IS_EMPTY)


# ==== 20 Attempts ===========================================================================================
# One attempt of a task in this process: its states, its outcome, the rows that the recorder writes of it, and
# the SQL that finds tasks to claim.

KEPT_ATTEMPTS = 100  # of one task on record; max_attempts allows as many, and retryTask may add more


# What to claim, in the order of the index; `check` explains it.
CLAIMABLE = f"""SELECT task_id, attempt + 1, attempt_limit, batch_id, stock_code, timeout_seconds,
        CASE WHEN error LIKE '{{"type":"worker_lost"%' THEN 1 ELSE 0 END, config, params, -priority_rank, max_attempts
    FROM backtest_tasks /*! FORCE INDEX (backtest_tasks_queue) */
    WHERE status = 'pending' AND {IS_DUE}
    ORDER BY priority_rank, created_at, task_id LIMIT :limit /*! FOR UPDATE SKIP LOCKED */"""


class ProcessUsage(NamedTuple):
    """How the processes of an attempt ended and what they used, for its record; see TaskAttempt."""

    exit_code: int | None = None
    exit_signal: str | None = None
    max_rss_bytes: int | None = None
    cpu_seconds: float | None = None
    output_tail: str | None = None


NO_USAGE = ProcessUsage()
# other errors are just "failed"
ENDINGS_BY_ERROR = ("timeout", "crashed", "out_of_memory", "worker_lost", "cancelled")


class RunFacts(NamedTuple):
    """What rankings and run cards need of a completed attempt; see the columns of backtest_metrics."""

    params_key: int
    start_date: str | None
    end_date: str | None
    run_key: str | None
    periods_per_year: float | None
    period_sharpe: float | None
    sharpe_error: float | None
    data_version: str | None


class Outcome(NamedTuple):
    """How an attempt ended: with a result, an error, or released (then it may have one more)."""

    result_json: str | None = None
    non_finite_json: str = "[]"
    converted_json: str = "[]"
    metrics_json: str = "{}"  # of a result
    facts: RunFacts | None = None  # of a result
    environment: str = '{"engine":null}'  # of a result, see `run_environment`
    error_type: str | None = None
    message: str = ""
    traceback: str | None = None
    retryable: bool = True
    released: bool = False
    # SIGTERM or its like ended the engine process, and it was not qtm that sent it
    by_stop_signal: bool = False
    usage: ProcessUsage = NO_USAGE

    @property
    def result_bytes(self) -> int:
        """What is stored of a result."""
        texts = f"{self.result_json or ''}{self.non_finite_json}{self.converted_json}"
        return len(texts) if texts.isascii() else len(texts.encode("utf-8"))

    @property
    def stored_bytes(self) -> int:
        """About what it takes in a statement."""
        texts = (self.message, self.traceback, self.usage.output_tail, self.metrics_json)
        return self.result_bytes + sum(len(text or "") for text in texts) + 800

    @property
    def ending(self) -> str:
        """The word for it on the attempt's record."""
        if self.released:
            return "released"
        if self.result_json is not None:
            return "completed"
        return self.error_type if self.error_type in ENDINGS_BY_ERROR else "failed"

    def error_json(self, attempt: int) -> str | None:
        """The ``error`` document of the task, or None."""
        if self.error_type is None:
            return None
        error = {"type": self.error_type, "message": self.message, "attempt": attempt}
        return dump_json({**error, "traceback": self.traceback} if self.traceback else error)


RELEASED = Outcome(released=True)
CANCELLED = Outcome(error_type="cancelled", message="cancelled, or taken over by another scheduler")
WORKER_LOST = Outcome(
    error_type="worker_lost", message="the scheduler that ran this attempt died or lost its database"
)


class AttemptState(enum.Enum):
    """Where an attempt of this process stands; ATTEMPT_MOVES has the arrows."""

    CLAIMED = "claimed"  # ours in the database; no engine has begun it
    RUNNING = "running"
    RELEASED = "released"  # to be stopped, and pending again unless it ends with a result
    LOST = "lost"  # cancelled, or taken over by others: to be stopped, its outcome is void
    RECORDING = "recording"  # it has ended, and the recorder has its outcome
    RECORDED = "recorded"  # it has left: its outcome is in the database, or never will be


_ENDS = {AttemptState.RELEASED, AttemptState.LOST, AttemptState.RECORDING}
ATTEMPT_MOVES = {
    AttemptState.CLAIMED: {AttemptState.RUNNING, *_ENDS},
    AttemptState.RUNNING: _ENDS,
    AttemptState.RELEASED: {AttemptState.LOST, AttemptState.RECORDING},
    AttemptState.RECORDING: {AttemptState.RECORDED},
    AttemptState.LOST: {AttemptState.RECORDED},
    AttemptState.RECORDED: set(),
}


@dataclass(eq=False)
class Attempt:
    """A task that is ours to run, and all that is known of its attempt. State, slot and outcome change under
    the lock of `Attempts`; the slot's thread writes the rest, and the recorder's once it has the outcome."""

    worker_id: str
    task_id: str
    attempt: int
    attempt_limit: int  # the attempt after which it fails for good
    batch_id: str
    stock_code: str
    timeout_seconds: float
    was_lost: bool = False  # the attempt that failed last did so with its scheduler
    request_text: str = "{}"  # what its engine gets
    params_text: str = "{}"  # of it
    state: AttemptState = AttemptState.CLAIMED
    slot: SlotWorker | None = None  # that has taken it from the queue
    claimed_at: float = 0.0  # by the scheduler's clock
    started_at: float = field(default_factory=time.monotonic)  # as its engine says it
    ended_at: float = field(default_factory=time.monotonic)
    progress: float = 0.0
    message: str = ""
    engine_version: str | None = None
    outcome: Outcome = RELEASED
    delay_seconds: float = 0.0  # from its record on, before its task is tried again
    has_start_to_log: bool = False
    refusals: int = 0  # of its outcome or its progress by the database
    next_write: float = 0.0  # not before this time, once one was refused

    def __post_init__(self) -> None:
        self.key = self.task_id, self.attempt  # what no other attempt has
        self.log_fields = {"task_id": self.task_id, "attempt": self.attempt}

    @classmethod
    def from_row(cls, worker_id: str, row: Sequence[Any]) -> Attempt:
        """From a row of CLAIMABLE."""
        task_id, attempt, limit, batch_id, code, timeout, was_lost, config, params, priority, most = row
        request = (
            f'{{"stock_code":{dump_json(code)},"config":{config},"params":{params},"batch_id":"{batch_id}",'
            f'"priority":{priority},"timeout_seconds":{float(timeout)!r},"max_attempts":{most},'
            f'"task_id":"{task_id}","attempt":{attempt}}}'
        )
        about = worker_id, task_id, attempt, limit, batch_id, code, float(timeout)
        return cls(*about, bool(was_lost), request, params)

    def request(self) -> TaskRequest:
        """What its engine gets."""
        return TaskRequest.from_dict(json.loads(self.request_text))

    @property
    def is_wanted(self) -> bool:
        """Whether it shall begin, or run on."""
        return self.state in (AttemptState.CLAIMED, AttemptState.RUNNING)

    def move(self, state: AttemptState) -> bool:
        """Change the state if that is an arrow; False when the attempt has moved on before."""
        is_arrow = state in ATTEMPT_MOVES[self.state]
        if is_arrow:
            self.state = state
        return is_arrow


class Recorded(NamedTuple):
    """The keys of those outcomes of a group that are in the database, and of those that others have locked
    just now. The rest are no longer this worker's: their outcomes are void."""

    keys: Set[tuple[str, int]]
    locked: Set[tuple[str, int]] = frozenset()


class RunningTask(NamedTuple):
    """What a reaper sees of a running task: the pair (attempt, heartbeat) moves while its scheduler lives."""

    task_id: str
    attempt: int
    heartbeat: int
    worker_id: str

    @property
    def key(self) -> tuple[str, int]:
        """What no other attempt has."""
        return self.task_id, self.attempt

    @property
    def log_fields(self) -> dict[str, Any]:
        """What log lines call it."""
        return {"task_id": self.task_id, "attempt": self.attempt, "worker_id": self.worker_id}


# A task that is created while a slot is free and nothing is pending is ours from the start.
INSERT_CLAIMED = """INSERT INTO backtest_tasks (task_id, batch_id, stock_code, config, params, priority_rank,
        timeout_seconds, max_attempts, attempt_limit, status, attempt, worker_id, heartbeat, progress, message,
        created_by, created_at, run_at, started_at)
    SELECT :task_id, :batch_id, :stock_code, :config, :params, :priority_rank,
        :timeout_seconds, :max_attempts, :max_attempts, 'running', 1, :worker_id, 1, 0.0, '',
        NULLIF(:created_by, ''), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) /*! FROM DUAL */
    WHERE NOT EXISTS (SELECT 1 FROM backtest_tasks WHERE status = 'pending')"""
INSERT_ITS_BATCH = """INSERT INTO backtest_batches (batch_id, name, created_at)
    SELECT :batch_id, :name, UTC_TIMESTAMP(6) /*! FROM DUAL */
    WHERE EXISTS (SELECT 1 FROM backtest_tasks WHERE task_id = :task_id)"""
# What the end of an attempt makes of its task, as a row of JSON, by names that tasks do not have. The longest
# come last: JSON_TABLE reads a row up to each of its columns.
ENDED = (
    *("task_id", "attempt", "new_status", "new_progress", "given_back", "due_at", "began_at", "ended_at"),
    *("runner", "new_version", "new_message", "new_error"),
)
# The fields that a completed task needs. Most tasks complete, and the database reads these in half the time.
COMPLETED = ("task_id", "attempt", "began_at", "ended_at", "new_version")
NEW_STATUS = ENDED.index("new_status")
_AS_COMPLETED = operator.itemgetter(*map(ENDED.index, COMPLETED))
INSERT_ATTEMPTS = f"REPLACE INTO backtest_attempts (task_id, attempt, {', '.join(ATTEMPT_FIELDS)}) VALUES"
INSERT_RESULTS = "INSERT INTO backtest_results (task_id, result, non_finite, converted, run_card) VALUES"
INSERT_METRICS = f"""INSERT INTO backtest_metrics (task_id, batch_id, stock_code, params, engine_version, drift,
        {", ".join(RunFacts._fields)}, metrics) VALUES"""


def _run_card(one: Attempt, times: Sequence[str]) -> str:
    """The run card of a result, without what its task has; ``times``: when the attempt began and ended."""
    usage, (began, ended), facts = one.outcome.usage, times, one.outcome.facts
    data_version = facts and facts.data_version
    own = f'"data_version":{dump_json(data_version)},"attempt":{one.attempt},"started_at":"{_iso(began)}"'
    used = f'"cpu_seconds":{usage.cpu_seconds},"max_rss_bytes":{usage.max_rss_bytes}'.replace("None", "null")
    return f'{one.outcome.environment[:-1]},{own},"ended_at":"{_iso(ended)}",{used}}}'


def _ended_rows(
    key: tuple[str, int], limit: int, runner: str, outcome: Outcome, times: Sequence[str],
    told: tuple[str, float, str | None] = ("", 0.0, None),
) -> tuple[list[Any], list[Any]]:  # fmt: skip
    """The row of ENDED, and that of the attempt's record. ``times``: when its task is due if it is tried
    again, when it began, when it ended; ``told`` by its engine: message, progress, version."""
    (message, progress, engine_version), (due, *ran) = told, times
    if outcome.result_json is not None:
        status, message, progress = "completed", "", 1.0  # the message told of work under way
    elif outcome.released or (outcome.retryable and key[1] < limit):
        status, progress = "pending", 0.0
    else:
        status = "failed"
    ends = [None, *ran, runner] if status != "pending" else [due, None, None, None]
    error, (*usage, tail) = outcome.error_json(key[1]), outcome.usage
    task = [
        *key,
        status,
        round(progress, DECIMALS),
        int(outcome.released),
        *ends,
        engine_version,
        message,
        error,
    ]
    return task, [*key, runner, *ran, outcome.ending, error, *usage, tail or ""]


# ==== 21 Run statements =====================================================================================
# The SQL of a scheduler: claims, heartbeats, progress, outcomes, rescues. Each statement handles any number
# of tasks, which it gets as rows of JSON, and changes only those whose attempt, and worker id or heartbeat,
# still match.


def _in_lock_order(attempts: Sequence[Attempt]) -> tuple[dict[tuple[str, int], Attempt], dict[str, Any]]:
    """Attempts of one worker by key, in the order of all row locks, and the parameters that name them."""
    by_key = {one.key: one for one in sorted(attempts, key=lambda one: one.key)}
    return by_key, {"worker_id": attempts[0].worker_id, "rows": dump_json(list(by_key))}


def _keys(session: Session, sql: str, parameters: Mapping[str, Any]) -> set[tuple[str, int]]:
    return {(row[0], row[1]) for row in session.rows(sql, parameters)}


class RunStatements(Statements):
    """What schedulers say of the tasks that they run."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        dialect = database.dialect
        keys = dialect.json_rows("task_id", "attempt")
        beats = dialect.json_rows("task_id", "attempt", "seen_heartbeat")
        reports = dialect.json_rows("task_id", "attempt", "new_progress", "new_message", "began_at")
        # COALESCE: left to itself, SQLite would walk all tasks of a status
        same_attempt = """backtest_tasks.task_id = r.task_id AND backtest_tasks.attempt = r.attempt
            AND COALESCE(status, '') = 'running'"""
        is_ours = f"{same_attempt} AND worker_id = :worker_id"
        joined = "AS r CROSS JOIN backtest_tasks /*! FORCE INDEX (PRIMARY) */ ON"
        self._claim = dialect.update_from(
            dialect.json_rows("task_id", "new_attempt"),
            "backtest_tasks.task_id = r.task_id AND COALESCE(status, '') = 'pending'",
            """status = 'running', attempt = r.new_attempt, worker_id = :worker_id, progress = 0.0, message = '',
               heartbeat = heartbeat + 1, started_at = UTC_TIMESTAMP(6), finished_at = NULL""",
        )
        owned = "/*! STRAIGHT_JOIN */ backtest_tasks.task_id, backtest_tasks.attempt, UTC_TIMESTAMP(6)"
        self._select_owned = f"SELECT {owned} FROM {keys} {joined} {is_ours}"
        # SKIP LOCKED: a frozen replica may hold the lock of a row, and neither another outcome nor our
        # heartbeat shall wait for it
        self._lock_owned = f"{self._select_owned} /*! FOR UPDATE SKIP LOCKED */"
        self._lock_orphans = f"""SELECT {owned}, attempt_limit, worker_id, started_at FROM {beats} {joined}
            {same_attempt} AND heartbeat = r.seen_heartbeat /*! FOR UPDATE SKIP LOCKED */"""
        self._beat = dialect.update_from(keys, is_ours, "heartbeat = heartbeat + 1")
        self._report = dialect.update_from(
            reports, is_ours, "progress = r.new_progress, message = r.new_message, started_at = r.began_at"
        )
        # No assignment reads a column that another one writes: MySQL would see the new value, SQLite the old
        # one.
        self._end_tasks = dialect.update_from(
            dialect.json_rows(*ENDED),
            same_attempt,
            """status = r.new_status, message = r.new_message, progress = r.new_progress,
               engine_version = r.new_version, attempt_limit = attempt_limit + r.given_back,
               error = CASE r.given_back WHEN 1 THEN error ELSE r.new_error END,
               run_at = COALESCE(r.due_at, run_at), started_at = r.began_at, finished_at = r.ended_at,
               worker_id = r.runner""",
        )
        self._complete_tasks = dialect.update_from(
            dialect.json_rows(*COMPLETED),
            same_attempt,
            """status = 'completed', message = '', progress = 1.0, error = NULL,
               engine_version = r.new_version, started_at = r.began_at, finished_at = r.ended_at""",
        )
        self._select_known = _first_of_run_keys(dialect, "metrics")
        self._select_recorded = f"""SELECT /*! STRAIGHT_JOIN */ a.task_id, a.attempt FROM {keys} AS r
            CROSS JOIN backtest_attempts AS a ON a.task_id = r.task_id AND a.attempt = r.attempt
            WHERE a.worker_id = :worker_id AND a.ending NOT IN ('worker_lost', 'cancelled')"""

    def claim(self, worker_id: str, limit: int, with_lost: bool = True) -> list[Attempt]:
        """Take up to ``limit`` due tasks by priority, then age. One whose last attempt was lost may have ended
        its scheduler, and would end the next one with all that runs beside it: it is taken alone, if
        ``with_lost``, when it is the first; else those before it are taken."""
        taken: list[Attempt] = []

        def parameters() -> dict[str, Any]:
            return {"worker_id": worker_id, "rows": dump_json([one.key for one in taken])}

        def work(session: Session) -> list[Attempt]:
            rows = session.rows(CLAIMABLE, {"limit": limit})
            before_lost = list(itertools.takewhile(lambda row: not row[6], rows))
            taken[:] = [Attempt.from_row(worker_id, row) for row in before_lost or rows[: int(with_lost)]]
            if taken:
                session.execute(self._claim, parameters())
            return taken

        def confirm(session: Session) -> list[Attempt] | None:
            owned = _keys(session, self._select_owned, parameters()) if taken else set()
            return [one for one in taken if one.key in owned] or (None if taken else [])

        return self.database.write(work, confirm)

    def create_claimed(self, new: NewTasks, worker_id: str) -> list[Attempt]:
        """Create its only task as ours, running and on its first attempt, unless another is pending: one
        transaction less before it begins. Empty when nothing is surely stored."""
        (task_id,), most, counts = new.task_ids, new.max_attempts, list[int]()
        ((code, _, document),) = new.combinations
        values = dict(zip(SHARED_COLUMNS, new.shared, strict=True)) | {"name": new.request.name}
        values |= {"task_id": task_id, "stock_code": code, "worker_id": worker_id}
        values["params"] = params = dump_json(document)
        row = [task_id, 1, most, new.batch_id, code, values["timeout_seconds"], 0, values["config"], params]
        claimed = [Attempt.from_row(worker_id, [*row, new.request.priority, most])]
        script = [INSERT_CLAIMED, INSERT_ITS_BATCH]
        found = self.database.write_at_once(script, values, claimed, lambda session: [], counts)
        return found if counts[-3:-2] == [1] else []

    def heartbeat(self, worker_id: str, keys: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
        """Count up the heartbeat of these attempts and of the worker; which are no longer this worker's."""
        seen = "UPDATE backtest_workers SET seen_at = UTC_TIMESTAMP(6) WHERE worker_id = :worker_id"
        parameters = {"worker_id": worker_id, "rows": dump_json(sorted(keys))}

        def work(session: Session) -> set[tuple[str, int]]:
            session.execute(seen, parameters)
            if not keys or session.execute(self._beat, parameters) == len(keys):
                return set()
            return set(keys) - _keys(session, self._select_owned, parameters)

        return self.database.write(work, confirm=lambda session: set())  # a beat more or less changes nothing

    def report_progress(self, attempts: Sequence[Attempt]) -> bool:
        """Write what engines said of their progress; False when a task is no longer this attempt's."""
        by_key, parameters = _in_lock_order(attempts)

        def work(session: Session) -> bool:
            rows: list[list[Any]] = []
            for task_id, attempt, now in session.rows(self._lock_owned, parameters):
                one = by_key[task_id, attempt]
                progress, started_at = round(one.progress, DECIMALS), _stamps(now)(one.started_at)
                rows.append([task_id, attempt, progress, one.message, started_at])
            if rows:
                session.execute(self._report, {**parameters, "rows": dump_json(rows)})
            return len(rows) == len(by_key)

        # the next report overwrites what a lost COMMIT has left out
        return self.database.write(work, confirm=lambda session: True)

    def record(self, attempts: Sequence[Attempt]) -> Recorded:
        """Write how attempts ended, in one transaction: tasks are completed, failed, or pending again."""
        by_key, parameters = _in_lock_order(attempts)

        def work(session: Session) -> Recorded:
            owned = session.rows(self._lock_owned, parameters)
            if owned:
                self._record(session, [by_key[row[:2]] for row in owned], _stamps(owned[0][2]))
            done = {row[:2] for row in owned}
            if len(done) == len(by_key):
                return Recorded(done)
            # the others are locked by others, or recorded by a lost COMMIT that came through, or not ours
            recorded = _keys(session, self._select_recorded, parameters)
            return Recorded(done | recorded, _keys(session, self._select_owned, parameters))

        def confirm(session: Session) -> Recorded | None:
            found = _keys(session, self._select_recorded, parameters)
            return Recorded(found, _keys(session, self._select_owned, parameters)) if found else None

        return self.database.write(work, confirm)

    def _record(self, session: Session, attempts: Sequence[Attempt], stamp: Callable[[float], str]) -> None:
        rows, results, ranked = [], [], list[tuple[Attempt, RunFacts]]()
        for one in attempts:
            outcome = one.outcome
            times = stamp(time.monotonic() + one.delay_seconds), stamp(one.started_at), stamp(one.ended_at)
            told = one.message, one.progress, one.engine_version
            rows.append(_ended_rows(one.key, one.attempt_limit, one.worker_id, outcome, times, told))
            if outcome.result_json is None:
                continue
            if outcome.facts:
                ranked.append((one, outcome.facts))
            documents = outcome.result_json, outcome.non_finite_json, outcome.converted_json
            results.append((one.task_id, *documents, _run_card(one, times[1:])))
        self._end(session, rows)
        session.insert(INSERT_RESULTS, results)
        session.insert(INSERT_METRICS, [*self._metrics_rows(session, ranked)])

    def _metrics_rows(
        self, session: Session, ranked: Sequence[tuple[Attempt, RunFacts]]
    ) -> Iterator[Sequence[Any]]:
        """The rows of INSERT_METRICS. A task drifts from the first completed task of its run_key that is
        found, or of this group, when the numbers differ."""
        keys = [[facts.run_key] for _, facts in ranked if facts.run_key]
        first = dict(session.rows(self._select_known, {"rows": dump_json(keys)}) if keys else ())
        for one, facts in ranked:
            own = one.outcome.metrics_json
            other = first.setdefault(facts.run_key, own) if facts.run_key else own
            drift = int(other != own and json.loads(other) != json.loads(own))
            of_task = one.task_id, one.batch_id, one.stock_code, one.params_text, one.engine_version
            yield *of_task, drift, *facts, own

    def _end(self, session: Session, rows: Sequence[tuple[list[Any], list[Any]]]) -> None:
        """running -> completed, failed or pending for locked tasks, and the records of their attempts."""
        completed = [_AS_COMPLETED(task) for task, _ in rows if task[NEW_STATUS] == "completed"]
        others = [task for task, _ in rows if task[NEW_STATUS] != "completed"]
        for statement, tasks in ((self._complete_tasks, completed), (self._end_tasks, others)):
            if tasks:
                session.execute(statement, {"rows": dump_json(tasks)})
        session.insert(INSERT_ATTEMPTS, [record for _, record in rows])
        old = "DELETE FROM backtest_attempts WHERE task_id = :task_id AND attempt <= :oldest"
        for (task_id, attempt, *_), _ in rows:
            if attempt > KEPT_ATTEMPTS:
                session.execute(old, {"task_id": task_id, "oldest": attempt - KEPT_ATTEMPTS})

    def running(self, limit: int = 10_000) -> list[RunningTask]:
        """All running tasks as the reaper sees them, read without locks."""
        sql = """SELECT task_id, attempt, heartbeat, worker_id FROM backtest_tasks WHERE status = 'running'
            ORDER BY task_id LIMIT :limit"""
        return [RunningTask(*row) for row in self.database.rows(sql, {"limit": limit})]

    def reclaim(self, orphans: Mapping[RunningTask, tuple[Outcome, float]]) -> dict[RunningTask, TaskStatus]:
        """End the attempts of a scheduler that died with these outcomes, each guarded by the pair that stood
        still; a task that is tried again is due after so many seconds. The new status of each that was ended."""
        by_key = {orphan.key: orphan for orphan in sorted(orphans)}
        parameters = {"rows": dump_json([orphan[:3] for orphan in by_key.values()])}

        def work(session: Session) -> dict[RunningTask, TaskStatus]:
            statuses, rows = {}, []
            found = session.rows(self._lock_orphans, parameters)
            for task_id, attempt, now, limit, worker_id, started_at in found:
                orphan = by_key[task_id, attempt]
                outcome, delay = orphans[orphan]
                times = _stamps(now)(time.monotonic() + delay), started_at, now
                rows.append(_ended_rows(orphan.key, limit, worker_id, outcome, times))
                statuses[orphan] = TaskStatus(rows[-1][0][NEW_STATUS])
            if rows:
                self._end(session, rows)
            return statuses

        return self.database.write(work)

    def close_attempt(self, key: tuple[str, int], usage: ProcessUsage) -> None:
        """Complete the record of an attempt that others have ended with what its processes used."""
        sql = """UPDATE backtest_attempts SET exit_code = :exit_code, exit_signal = :exit_signal,
            max_rss_bytes = :max_rss_bytes, cpu_seconds = :cpu_seconds,
            output_tail = COALESCE(:output_tail, output_tail) WHERE task_id = :task_id AND attempt = :attempt"""
        self.change(sql, task_id=key[0], attempt=key[1], **usage._asdict())

    def seconds_to_next_run(self) -> float | None:
        """Seconds until the first waiting task is due (0 when one is), or None when nothing is pending."""
        sql = "SELECT MIN(run_at), UTC_TIMESTAMP(6) FROM backtest_tasks WHERE status = 'pending'"
        ((due, now),) = self.database.rows(sql)
        return None if due is None else max(0.0, _seconds_between(now, due))

    def register_worker(self, worker_id: str, slots: int) -> None:
        """This scheduler is here."""
        self.change(
            "DELETE FROM backtest_workers WHERE worker_id = :worker_id",
            """INSERT INTO backtest_workers (worker_id, slots, started_at, seen_at)
               VALUES (:worker_id, :slots, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))""",
            worker_id=worker_id,
            slots=slots,
        )

    def remove_worker(self, worker_id: str) -> None:
        """This scheduler is gone; those that were not seen for a day are forgotten."""
        is_old = "seen_at < ADDTIME(UTC_TIMESTAMP(6), '-24:00:00')"
        sql = f"DELETE FROM backtest_workers WHERE worker_id = :worker_id OR {is_old}"
        self.change(sql, worker_id=worker_id)

    def has_worker(self, within_seconds: float) -> bool:
        """Whether any scheduler was seen in the last ``within_seconds``."""
        sql = "SELECT 1 FROM backtest_workers WHERE seen_at > ADDTIME(UTC_TIMESTAMP(6), :ago) LIMIT 1"
        return bool(self.database.rows(sql, {"ago": "-" + _time_text(within_seconds)}))

    def abandoned(self, lease_seconds: float, limit: int = 20) -> list[tuple[str, str, str | None]]:
        """Running tasks whose scheduler was not seen for the lease: task, worker, when seen (None: never)."""
        rows = self.database.rows(
            """SELECT t.task_id, t.worker_id, w.seen_at
               FROM backtest_tasks t LEFT JOIN backtest_workers w ON w.worker_id = t.worker_id
               WHERE t.status = 'running' AND (w.seen_at IS NULL OR w.seen_at < ADDTIME(UTC_TIMESTAMP(6), :ago))
               ORDER BY t.task_id LIMIT :limit""",
            {"ago": "-" + _time_text(lease_seconds), "limit": limit},
        )
        return [(task_id, worker_id, _iso(seen_at)) for task_id, worker_id, seen_at in rows]


# ==== 22 Rank statements ====================================================================================
# The SQL of rankTasks, by the table backtest_metrics alone where it can: it is narrow, so that ranking a
# batch reads few pages.

NOT_COMPLETED = [status.value for status in TaskStatus if status is not TaskStatus.COMPLETED]
PARAM = "params."  # before the name of a parameter that ranks in the place of a metric
OF_BATCH_OPEN = f"""FROM backtest_tasks /*! FORCE INDEX (backtest_tasks_batch) */
    WHERE batch_id = :batch_id AND status IN ('{"', '".join(NOT_COMPLETED)}')"""


def _condition_parameters(where: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for i, (name, _, value) in enumerate(map(rank_condition, where)):
        found |= {f"path_{i}": f'$."{name}"', f"wanted_{i}": value}
    return found


def _rank_parameters(query: RankQuery) -> dict[str, Any]:
    found = {"batch_id": _key(query.batch_id), "by": f'$."{query.by.removeprefix(PARAM)}"'}
    return found | _condition_parameters(query.where)


class BatchFacts(NamedTuple):
    """Of the completed tasks of a batch. A kind has one period and engine version: start, end, version; how
    many tasks, and with a Sharpe ratio; the sum of those of one period, less that of some task lest digits
    cancel, and of its squares; the shortest and longest year; how many drifted."""

    kinds: Sequence[Sequence[Any]]
    mixed_stocks: int  # whose tasks ran on different data; those of an unknown version do not count
    mixed_stock: str | None  # one of them


class RankStatements(Statements):
    """The rankings of batches."""

    def _number(self, query: RankQuery) -> str:
        """The number that ranks, as it is written; NULL where a task has none."""
        dialect = self.database.dialect
        is_param = query.by.startswith(PARAM)
        return dialect.json_number.format(":by") if is_param else dialect.json_member.format("metrics", ":by")

    def _order_value(self, query: RankQuery) -> str:
        """Its value, greatest for the first row. A Sharpe ratio, to a rounding, from its column: to read it
        in the JSON of the metrics takes five times as long."""
        number = f"({self._number(query)}) + 0e0"
        if query.by == "sharpe":
            annual = f"period_sharpe * {math.sqrt(TRADING_DAYS)!r}e0"
            number = f"CASE WHEN periods_per_year = {TRADING_DAYS} THEN {annual} ELSE {number} END"
        return f"{'-' if query.order == 'asc' else ''}({number})"

    def _where(self, where: Sequence[str], metrics: str = "metrics") -> str:
        """Conditions of backtest_metrics, or of backtest_tasks with an expression for the ``metrics``."""
        dialect, parts = self.database.dialect, [""]
        for i, (name, sign, value) in enumerate(map(rank_condition, where)):
            path, found = f":path_{i}", "stock_code"
            if name != "stock_code" and isinstance(value, str):
                found = dialect.json_text.format(path)
            elif name != "stock_code":
                metric = f"JSON_EXTRACT({metrics}, {path}) + 0e0"
                found = f"COALESCE({metric}, {dialect.json_number.format(path)} + 0e0)"
            parts.append(f"{found} {sign} :wanted_{i}")
        return " AND ".join(parts)

    def rank(self, query: RankQuery, counts: Mapping[str, int], facts: BatchFacts | None = None) -> str:
        """A page as the JSON text of a Ranking; ``counts`` are those of the batch by status."""
        known = facts or self.batch_facts(query)

        def work(session: Session) -> str:
            warnings, luck = self._summary(query, counts, known)
            has_groups = query.group or query.against
            groups = self._groups(session, query, counts if query.group else {}) if has_groups else {}
            others = self._others(session, query)
            if query.group and query.by == "sharpe":  # each set of params is one trial, those left out, too
                all_of = dataclasses.replace(query, where=())
                tried = self._groups(session, all_of, {}) if query.where else groups
                luck = Luck.of_groups(tried.values(), luck.periods_per_year)
            if query.group:
                rows = self._group_rows(session, query, luck, groups, others)
            else:
                rows = self._task_rows(session, query, luck, counts, others)
            mine = {key: group.statistic(query.stat) for key, group in groups.items()}
            correlation = rank_correlation(mine, others) if query.against else None
            head: dict[str, Any] = {"batch_id": query.batch_id, "by": query.by, "order": query.order}
            annual, is_sharpe = luck.expected_max * math.sqrt(luck.periods_per_year), query.by == "sharpe"
            head |= {
                "stat": query.stat if query.group else None,
                "trials": luck.trials if is_sharpe else None,
            }
            head |= {"expected_max_sharpe": annual if is_sharpe else None}
            following = str(query.start + query.limit) if len(rows) > query.limit else None
            if rows and counts["completed"] and not query.start:
                best = json.loads(rows[0])
                is_param, name = query.by.startswith(PARAM), query.by.removeprefix(PARAM)
                of_task = best.get("params" if is_param else "metrics") or {}
                if (best["value"] if query.group else of_task.get(name)) is None:
                    noun = "a number as its parameter" if is_param else "the metric"
                    warnings.append(f"none of these tasks has {noun} {name!r}")
            if not rows and not query.start:
                warnings += self._unknown_names(session, query)
            head |= {"rank_correlation": correlation, "warnings": warnings, "next_cursor": following}
            return f'{dump_json(head)[:-1]},"rows":[{",".join(rows[: query.limit])}]}}'

        return self.database.read(work)

    def _unknown_names(self, session: Session, query: RankQuery) -> Iterator[str]:
        """A warning for each name in a condition that no task of the batch has: the condition never holds."""
        has = "JSON_EXTRACT({}, :path) IS NOT NULL"
        of_batch = f"FROM backtest_metrics WHERE batch_id = :batch_id AND ({has} OR {has})"
        sources = of_batch.format("metrics", "params"), f"{OF_BATCH_OPEN} AND {has.format('params')}"
        for name in {name: 1 for name, *_ in map(rank_condition, query.where) if name != "stock_code"}:
            given = {"batch_id": _key(query.batch_id), "path": f'$."{name}"'}
            if not any(session.rows(f"{BOUNDED_SELECT} 1 {source} LIMIT 1", given) for source in sources):
                yield f"no task of the batch has a metric or parameter {name!r}, which a condition names"

    def batch_facts(self, query: RankQuery) -> BatchFacts:
        """What all rankings of a batch, or of one against another, have in common."""
        of_batch = "FROM backtest_metrics WHERE batch_id"
        columns = ("start_date", "end_date", "engine_version")
        given: dict[str, Any] = {"batch_id": _key(query.batch_id)}
        any_ratio = f"SELECT period_sharpe {of_batch} = :batch_id AND period_sharpe IS NOT NULL LIMIT 1"
        given["shift"] = next((row[0] for row in self.database.rows(any_ratio, given)), 0.0)
        ends = ", ".join(f"MIN(COALESCE({one}, '')), MAX(COALESCE({one}, ''))" for one in columns)
        sums = f"""COUNT(*), COUNT(period_sharpe), SUM(period_sharpe - :shift),
            SUM((period_sharpe - :shift) * (period_sharpe - :shift)), MIN(periods_per_year),
            MAX(periods_per_year), SUM(drift), MIN(data_version), MAX(data_version) {of_batch} = :batch_id"""
        # of one kind, as most batches are: to group them takes SQLite half as long again
        (all_of,) = self.database.rows(f"{BOUNDED_SELECT} {ends}, {sums}", given)
        kinds, mixed = [(*all_of[:6:2], *all_of[6:])], (0, None)
        if all_of[:6:2] != all_of[1:6:2]:
            by = ", ".join(columns)
            sql = f"{BOUNDED_SELECT} {by}, {sums} GROUP BY {by} LIMIT {MAX_RANKED}"
            kinds = self.database.rows(sql, given)
        if all_of[-2] != all_of[-1] or query.against:  # those of different stocks always differ
            by_stock = f"""SELECT stock_code {of_batch} IN (:batch_id, :other)
                GROUP BY stock_code HAVING MIN(data_version) <> MAX(data_version)"""
            sql = f"{BOUNDED_SELECT} COUNT(*), MIN(stock_code) FROM ({by_stock}) AS mixed"
            (mixed,) = self.database.rows(sql, {**given, "other": _key(query.against or query.batch_id)})
        return BatchFacts(kinds, *mixed)

    def _summary(
        self, query: RankQuery, counts: Mapping[str, int], facts: BatchFacts
    ) -> tuple[list[str], Luck]:
        """What makes the rows of a batch incomparable, and how lucky its best may be."""
        warnings, periods, versions = list[str](), Counter[str](), Counter[str]()
        for start, end, version, count, *_ in facts.kinds:
            periods[f"{start or '?'} to {end or '?'}"] += count
            versions[version or "unknown"] += count
        for words, found in (("periods", periods), ("engine versions", versions)):
            if len(found) > 1:
                listed = ", ".join(f"{name} ({count})" for name, count in found.most_common(3))
                warnings.append(f"tasks of {len(found)} {words}: {listed}{', ...' * (len(found) > 3)}")
        if facts.mixed_stocks:
            where = " in the two batches" if query.against else ""
            words = f"{where} have different data versions, such as those of {facts.mixed_stock}"
            warnings.append(f"tasks of {facts.mixed_stocks} stocks{words}")
        if drifting := sum(int(kind[9] or 0) for kind in facts.kinds):
            cause = "have other metrics than an earlier task of the same run_key: they cannot be reproduced"
            warnings.append(f"{drifting} tasks {cause}")
        if lacking := ", ".join(f"{counts[one]} {one}" for one in NOT_COMPLETED if counts[one]):
            subject = "groups lack tasks" if query.group else "tasks"
            warnings.append(f"{subject} that have not completed: {lacking}")
        if (unknown := counts["completed"] - sum(periods.values())) > 0:
            warnings.append(f"{unknown} completed tasks are not ranked: they ran before metrics were kept")
        trials, total, squares = (sum(kind[i] or 0 for kind in facts.kinds) for i in (4, 5, 6))
        variance = max(0.0, (squares - total * total / trials) / (trials - 1)) if trials > 1 else 0.0
        a_year = [kind[i] for kind in facts.kinds for i in (7, 8) if kind[i]] or [TRADING_DAYS]
        if query.by == "sharpe" and min(a_year) != max(a_year):
            warnings.append(f"years of {min(a_year):g} to {max(a_year):g} periods")
        return warnings, Luck(int(trials), expected_max_sharpe(int(trials), variance), max(a_year))

    def _task_rows(
        self, session: Session, query: RankQuery, luck: Luck, counts: Mapping[str, int],
        others: Mapping[Any, float | None],
    ) -> list[str]:  # fmt: skip
        """The rows, one more than asked for if there is. Tasks without the metric are the last of
        backtest_metrics; those that have not completed follow."""
        given = _rank_parameters(query) | {"limit": query.limit + 1, "start": query.start}
        value, where = self._order_value(query), self._where(query.where)
        found = session.rows(
            f"""{BOUNDED_SELECT} /*! STRAIGHT_JOIN */ task_id, stock_code, params, metrics, params_key,
                period_sharpe, sharpe_error, drift
                FROM (SELECT task_id AS ranked_id, {value} AS v FROM backtest_metrics
                      WHERE batch_id = :batch_id{where} ORDER BY v DESC, task_id LIMIT :limit OFFSET :start) AS page
                CROSS JOIN backtest_metrics ON batch_id = :batch_id AND task_id = ranked_id
                ORDER BY v DESC, task_id""",
            given,
        )
        if len(found) <= query.limit and any(counts[one] for one in NOT_COMPLETED):
            count = f"{BOUNDED_SELECT} COUNT(*) FROM backtest_metrics WHERE batch_id = :batch_id{where}"
            before = query.start + len(found) if found else session.rows(count, given)[0][0]
            more = {"limit": query.limit + 1 - len(found), "start": max(0, query.start - before)}
            where = self._where(query.where, "NULL")
            columns = "task_id, stock_code, params, '{}', NULL, NULL, NULL, 0"
            page = f"{OF_BATCH_OPEN}{where} ORDER BY task_id LIMIT :limit OFFSET :start"
            found += session.rows(f"{BOUNDED_SELECT} {columns} {page}", {**given, **more})
        rows = []
        for rank, row in enumerate(found, query.start + 1):
            task_id, code, params, metrics, key, sharpe, error, drift = row
            deflated = dump_json(luck.deflated(sharpe, error) if query.by == "sharpe" else None)
            known = "null" if metrics == "{}" else metrics
            text = f'{{"rank":{rank},"task_id":"{task_id}","stock_code":{dump_json(code)},"params":{params}'
            other = f',"other":{dump_json(others.get((key, code)))}' if query.against else ""
            drifts = dump_json(drift == 1)
            rows.append(f'{text},"metrics":{known},"deflated_sharpe":{deflated},"drift":{drifts}{other}}}')
        return rows

    def _groups(
        self, session: Session, query: RankQuery, counts: Mapping[str, int]
    ) -> dict[Any, ParamsGroup]:
        """The groups of a batch by params_key; without ``group`` by stock, too. LIMIT: MariaDB makes a narrow
        table of the rows, and groups that in half the time. ``counts``: whether tasks may be missing."""
        given, code = _rank_parameters(query), "''" if query.group else "stock_code"
        number = self.database.dialect.listed_number.format(self._number(query))
        groups: dict[Any, ParamsGroup] = {}
        for key, stock, count, task_id, error, text in session.rows(
            f"""{BOUNDED_SELECT} params_key, stock, COUNT(*), MIN(task_id), AVG(sharpe_error), GROUP_CONCAT(number)
                FROM (SELECT params_key, {code} AS stock, task_id, sharpe_error, {number} AS number FROM backtest_metrics
                      WHERE batch_id = :batch_id{self._where(query.where)} LIMIT {2**62}) AS chosen
                GROUP BY params_key, stock""",
            given,
        ):
            values = [*map(float, text.split(","))] if text else ()
            groups[key, stock] = ParamsGroup(task_id, "", count, 0, values, error)
        if any(counts.get(one) for one in NOT_COMPLETED):
            columns = f"params, COUNT(*) {OF_BATCH_OPEN}{self._where(query.where, 'NULL')} GROUP BY params"
            for params, count in session.rows(f"{BOUNDED_SELECT} {columns}", given):
                group = groups.setdefault((params_key(json.loads(params)), ""), ParamsGroup(""))
                group.params, group.missing = params, group.missing + count
        return groups

    def _others(self, session: Session, query: RankQuery) -> dict[Any, float | None]:
        """The values of the batch that a ranking is held against, by the keys of `_groups`."""
        if query.against is None:
            return {}
        other = dataclasses.replace(query, batch_id=query.against, where=())
        return {key: group.statistic(query.stat) for key, group in self._groups(session, other, {}).items()}

    def _group_order(
        self, query: RankQuery, groups: Mapping[Any, ParamsGroup]
    ) -> tuple[dict[Any, float | None], list[Any]]:
        """The value of each group, and their keys in the order of the ranking."""
        values = {key: group.statistic(query.stat) for key, group in groups.items()}
        sign = 1 if query.order == "asc" else -1
        order = sorted(
            groups,
            key=lambda key: (values[key] is None, sign * (values[key] or 0.0), groups[key].task_id, key),
        )
        return values, order

    def _best_of_groups(self, session: Session, query: RankQuery, counts: Mapping[str, int]) -> list[str]:
        """The ids of all tasks of the batch whose params are among the best, in the order of these."""
        values, order = self._group_order(query, self._groups(session, query, {}))
        tasks: dict[int, list[str]] = {key[0]: [] for key in order[: query.limit] if values[key] is not None}
        given = {"batch_id": _key(query.batch_id)}
        ids = "GROUP_CONCAT(task_id)"
        of_key = f"params_key, {ids} FROM backtest_metrics WHERE batch_id = :batch_id GROUP BY params_key"
        found = session.rows(f"{BOUNDED_SELECT} {of_key}", given)
        if any(counts[one] for one in NOT_COMPLETED):
            of_params = f"params, {ids} {OF_BATCH_OPEN} GROUP BY params"
            rows = session.rows(f"{BOUNDED_SELECT} {of_params}", given)
            found += [(params_key(json.loads(params)), some) for params, some in rows]
        for key, some in found:
            if key in tasks:
                tasks[key] += _utf8(some).split(",")
        return [task_id for some in tasks.values() for task_id in sorted(some)]

    def best(self, query: RankQuery, counts: Mapping[str, int]) -> list[tuple[str, str, str]]:
        """Stock code, and config and params as JSON, of the best tasks, or of all tasks of the best params;
        ``counts``: of the batch by status. Raises InvalidRequest for too many or too large ones."""

        def work(session: Session) -> list[str]:
            if query.group:
                return self._best_of_groups(session, query, counts)
            value = self._order_value(query)
            chosen = f"batch_id = :batch_id AND {self._number(query)} IS NOT NULL{self._where(query.where)}"
            first = f"WHERE {chosen} ORDER BY {value} DESC, task_id LIMIT :limit"
            given = {**_rank_parameters(query), "limit": query.limit}
            rows = session.rows(f"{BOUNDED_SELECT} task_id FROM backtest_metrics {first}", given)
            return [row[0] for row in rows]

        ids, size, found = self.database.read(work), 0, dict[str, tuple[str, str, str]]()
        if len(ids) > MAX_TASKS_PER_CREATE:
            message = f"{len(ids)} tasks are more than {MAX_TASKS_PER_CREATE} in one request"
            raise invalid_request([FieldError("rerun.top", message)])
        sql = "SELECT task_id, stock_code, config, params FROM backtest_tasks WHERE task_id IN"
        for statement, keys in _key_lists(sql, ids):
            found |= (some := {row[0]: row[1:] for row in self.database.rows(statement, keys)})
            size += sum(len(config) + len(params) for _, config, params in some.values())
            if size > MAX_DOCUMENT_BYTES:
                message = f"config and params of all tasks are more than {MAX_DOCUMENT_BYTES} bytes"
                raise invalid_request([FieldError("rerun.top", message)])
        return [found[task_id] for task_id in ids if task_id in found]

    def _group_rows(
        self, session: Session, query: RankQuery, luck: Luck, groups: Mapping[Any, ParamsGroup],
        others: Mapping[Any, float | None],
    ) -> list[str]:  # fmt: skip
        """The same for groups."""
        values, order = self._group_order(query, groups)
        page = order[query.start : query.start + query.limit + 1]
        sql = "SELECT task_id, params FROM backtest_metrics WHERE batch_id = :batch_id AND task_id IN"
        texts: dict[str, str] = {}
        for statement, keys in _key_lists(sql, [groups[key].task_id for key in page if groups[key].task_id]):
            texts |= dict(session.rows(statement, {**keys, "batch_id": _key(query.batch_id)}))
        rows = []
        for rank, key in enumerate(page, query.start + 1):
            group, value = groups[key], values[key]
            params = texts.get(group.task_id, group.params)
            row: dict[str, Any] = {"value": value, "count": group.count, "missing": group.missing}
            row |= {name: group.statistic(name) for name in ("min", "median", "mean", "max")}
            sharpe = group.period_sharpe(luck.periods_per_year) if query.by == "sharpe" else None
            row["deflated_sharpe"] = luck.deflated(sharpe, group.sharpe_error)
            row |= {"other": others.get(key)} if query.against else {}
            rows.append(f'{{"rank":{rank},"params":{params or "null"},{dump_json(row)[1:]}')
        return rows


# ==== 23 Export statements ==================================================================================
# The SQL of exportTasks and getCurves.

EXPORT_BYTES = 2 * 1024 * 1024  # of the documents of a page, which ends there


def _export_column(name: str) -> str:
    """The expression for a field of a task."""
    if name in ("metrics", "run_key", "drift"):
        return OF_METRICS.format(name)
    if name.endswith("_at"):
        return f"REPLACE(REPLACE('@Z', '@', {name}), ' ', 'T')"
    return "-priority_rank" if name == "priority" else f"backtest_tasks.{name}"


class ExportStatements(TaskStatements, RankStatements):
    """All tasks of a batch, and equity curves."""

    def export_rows(
        self, chosen: TaskFilter, fields: Sequence[str], where: Sequence[str]
    ) -> Iterator[Sequence[Any] | None]:
        """The tasks for which the conditions hold, in the order of their ids: of each the values of these
        fields, or without any the JSON of the whole task; and None after each page, which is a statement of
        its own, so that no connection is held between two."""
        documents = [name for name in ("config", "params", "error") if name in fields or not fields]
        is_wanted = f"CASE WHEN 1{self._where(where, OF_METRICS.format('metrics'))} THEN 1 ELSE 0 END"
        values = [*map(_export_column, fields)] or [self._task_json]
        columns, given = ", ".join(["page.task_id, found", is_wanted, *values]), _condition_parameters(where)
        has_more = True
        while has_more:
            rows = self._bounded_page(chosen, columns, documents, EXPORT_BYTES, **given)
            rows.sort(key=operator.itemgetter(0))
            yield from (row[3:] for row in rows if row[2])
            yield None
            has_more = bool(rows) and rows[0][1] > len(rows)
            chosen = dataclasses.replace(chosen, cursor=rows[-1][0]) if has_more else chosen

    def export_names(self, chosen: TaskFilter, where: Sequence[str]) -> Iterator[tuple[str, Iterable[str]]]:
        """Names that these tasks have in "params" or "metrics", a page of tasks at a time."""
        documents = {"params": "params", "metrics": OF_METRICS.format("metrics")}
        keys, wanted = self.database.dialect.json_keys, self._where(where, documents["metrics"])
        # the document itself where its names are not found: MariaDB reads none that is nested deeply
        names = [f"COALESCE({keys.format(x)}, {x}, '[]') AS {name}_names" for name, x in documents.items()]
        columns = f"""CASE WHEN 1{wanted} THEN 1 ELSE 0 END AS wanted, {", ".join(names)},
            COUNT(*), MAX(backtest_tasks.task_id)"""
        groups = f"{PAGE_ROWS} GROUP BY wanted, params_names, metrics_names"
        while True:
            given = chosen.parameters(chosen.limit) | _condition_parameters(where)
            sql = f"{BOUNDED_SELECT} /*! STRAIGHT_JOIN */ {columns} FROM {chosen.source()} {groups}"
            rows = self.database.rows(sql, given)
            for row in rows:
                yield from zip(documents, map(json.loads, row[1:3]), strict=True) if row[0] else ()
            if sum(row[3] for row in rows) < chosen.limit:
                return
            chosen = dataclasses.replace(chosen, cursor=max(row[4] for row in rows))

    def get_curve(self, task_id: str) -> Any:
        """The equity curve of a result, if it has one. Where none is found the whole result is read: MariaDB
        finds nothing in one that is nested deeply."""
        curve = "COALESCE(JSON_EXTRACT(result, '$.equity_curve'), result)"
        rows = self.database.rows(
            f"""SELECT {curve} FROM backtest_results WHERE task_id =
                COALESCE((SELECT result_of FROM backtest_tasks WHERE task_id = :id), :id)""",
            {"id": task_id},
        )
        with contextlib.suppress(ValueError):  # a text is no curve
            found = json.loads(rows[0][0]) if rows else None
            return found.get("equity_curve") if isinstance(found, dict) else found


# ==== 24 Upkeep statements ==================================================================================
# The SQL of retention, probes and the counts for /metrics. Each statement reads and changes a bounded number
# of rows.

PURGE_ROWS = 200  # tasks or batches that one step of a purge looks at, at most: some 20 ms
PURGE_KEYS = 20  # keys, each of which remembers up to 10,000 ids, which are 380 kB
COUNTED_TASKS = 100_000  # by one statement, in some 40 ms


class UpkeepStatements(Statements):
    """What a service does beside its tasks."""

    def retention_cutoff(self, retention_days: float) -> str:
        """The time so long ago, by the database's clock."""
        ((now,),) = self.database.rows("SELECT UTC_TIMESTAMP(6)")
        return _stamp_text(datetime.datetime.fromisoformat(now) - datetime.timedelta(days=retention_days))

    def purge(self, cutoff: str, after: str = "", limit: int = PURGE_ROWS) -> Purged:
        """Look at the next ``limit`` tasks after an id, and delete those that ended before ``cutoff``. Ids
        begin with the milliseconds of their creation, before which no task ends: the key finds the old end of
        the table without an index of finished_at."""
        created = datetime.datetime.fromisoformat(cutoff).replace(tzinfo=datetime.timezone.utc).timestamp()
        head = f"{max(0, int(created * 1000)):012x}"
        is_expired = "status IN ('completed', 'failed', 'cancelled') AND finished_at < :cutoff"
        rows = self.database.rows(
            f"""SELECT task_id, CASE WHEN {is_expired} THEN 1 ELSE 0 END FROM backtest_tasks /*! FORCE INDEX (PRIMARY) */
                WHERE task_id > :after AND task_id < :newest ORDER BY task_id LIMIT :limit""",
            {"after": after, "newest": f"{head[:8]}-{head[8:]}", "cutoff": cutoff, "limit": limit},
        )

        def work(session: Session) -> int:
            lock, values = "FOR UPDATE SKIP LOCKED", {"cutoff": cutoff}
            return len(_delete_tasks(session, expired, is_expired, values, lock))

        expired = [row[0] for row in rows if row[1]]
        deleted = self.database.write(work, confirm=lambda session: 0) if expired else 0
        return deleted, rows[-1][0] if len(rows) == limit else None

    def purge_batches(self, cutoff: str, after: str = "", limit: int = PURGE_ROWS) -> Purged:
        """Look at the next ``limit`` batches from before ``cutoff``, and delete those without tasks."""
        return self._purge_oldest("backtest_batches", "batch_id", BATCH_IS_EMPTY, cutoff, after, limit)

    def purge_keys(self, cutoff: str, after: str = "", limit: int = PURGE_KEYS) -> Purged:
        """Look at the next ``limit`` Idempotency-Keys that came before ``cutoff``, the oldest first, and
        delete those whose batch is gone. Until then a repeat must find them."""
        table = "backtest_idempotency_keys"
        return self._purge_oldest(table, "idempotency_key", KEY_IS_SPENT, cutoff, after, limit)

    def _purge_oldest(
        self, table: str, key: str, is_spent: str, cutoff: str, after: str, limit: int
    ) -> Purged:
        stamp, _, last = after.partition("~")
        rows = self.database.rows(
            f"""SELECT {key}, CASE WHEN {is_spent} THEN 1 ELSE 0 END, created_at FROM {table}
                WHERE created_at < :cutoff AND created_at >= :stamp AND (created_at > :stamp OR {key} > :last)
                ORDER BY created_at, {key} LIMIT :limit""",
            {"cutoff": cutoff, "stamp": stamp or "1000-01-01 00:00:00", "last": last, "limit": limit},
        )
        deleted = self.delete_spent(table, key, [row[0] for row in rows if row[1]], is_spent)
        return deleted, f"{rows[-1][2]}~{rows[-1][0]}" if len(rows) == limit else None

    def probe(self) -> None:
        """Prove that the database can be written and has the schema of this version, or raise a QtmError."""
        known = max(schema_steps())

        def work(session: Session) -> int:
            touch = "UPDATE qtm_schema SET probed_at = UTC_TIMESTAMP(6) WHERE step = 1 AND statement = 0"
            session.execute(touch)
            return int(session.rows("SELECT COALESCE(MAX(step), 0) FROM qtm_schema")[0][0])

        step = self.database.write(work, confirm=lambda session: None)
        # a newer one is a replica of the next version at work: this one goes on until it is replaced
        if step < known:
            message = f"the database has schema step {step}, this version needs {known}: run `migrate`"
            raise SchemaError(message)

    def ping(self) -> None:
        """Prove that the database can be read. Raises a QtmError when not."""
        self.database.rows("SELECT 1 FROM qtm_schema LIMIT 1")

    def count_open(self) -> tuple[dict[str, int], float]:
        """How many tasks are pending and running, and for how many seconds the longest waiting one has been
        due (0: none is). Reads as many index entries."""
        rows = self.database.rows(
            f"""{BOUNDED_SELECT} status, COUNT(*), MIN(CASE WHEN {IS_DUE} THEN run_at END), UTC_TIMESTAMP(6)
                FROM backtest_tasks WHERE status IN ('pending', 'running') GROUP BY status"""
        )
        counts = {"pending": 0, "running": 0} | {status: int(count) for status, count, _, _ in rows}
        ages = [_seconds_between(due, now) for status, _, due, now in rows if status == "pending" and due]
        return counts, max([0.0, *ages])

    def count_ended(self) -> dict[str, int]:
        """How many tasks are completed, failed and cancelled. Reads an index entry for each, in statements of
        100,000: 10,000,000 in 4 s."""
        counts = {"completed": 0, "failed": 0, "cancelled": 0}
        for status in counts:
            after: str | None = ""
            while after is not None:
                count, after = self.count_status(status, after)
                counts[status] += count
        return counts

    def count_status(self, status: str, after: str, limit: int = COUNTED_TASKS) -> tuple[int, str | None]:
        """How many tasks of this status come after an id, up to ``limit``, and after which to count more."""
        ((count, last),) = self.database.rows(
            f"""{BOUNDED_SELECT} COUNT(*), MAX(task_id) FROM (
                SELECT task_id FROM backtest_tasks /*! FORCE INDEX (backtest_tasks_status) */
                WHERE status = :status AND task_id > :after ORDER BY task_id LIMIT :limit) AS counted""",
            {"status": status, "after": after, "limit": limit},
        )
        return int(count), last if count == limit else None

    def snapshot(self) -> dict[str, Any]:
        """Statements, errors, time and pool use since the start."""
        return self.database.snapshot()


class TaskDAO(CreateStatements, ExportStatements, RunStatements, UpkeepStatements):
    """The statements of all rooms over one database."""

    get_task = TaskStatements.get

    def save_task(self, new: NewTasks) -> CreatedBatch:
        """One `create`. Raises what it is refused for."""
        (answer,) = self.create([new])
        if isinstance(answer, QtmError):
            raise answer
        return answer


# ==== 25 Doctor =============================================================================================
# The findings of `check` about a database; nothing is changed. Facts are collected first, then a table of
# rules judges them, so that a test can check each rule with invented facts.

CLOCK_SKEW_SECONDS = 2.0
SMALL_PACKET_BYTES = 16 * 1024 * 1024  # the default of MariaDB 10.11 and a quarter of MySQL 8's


class Finding(NamedTuple):
    """One finding; its level is "good", "warning" (it works, with a risk) or "fault" (it will not work)."""

    level: str
    subject: str
    message: str
    why: str = ""
    remedy: str = ""


Facts = defaultdict[str, Any]  # of a database; one that it does not have is an empty text


def known_facts(given: Mapping[str, Any]) -> Facts:
    """These facts, and those that follow from them."""
    facts = Facts(str, given)
    # SKIP LOCKED came with MySQL 8.0 and MariaDB 10.6; SQLite has JSON since 3.38
    servers = (10, 6) if "mariadb" in facts["version"].lower() else (8, 0)
    least = (3, 38) if facts["is_sqlite"] else servers
    facts["is_old"] = (*map(int, re.findall(r"[0-9]+", facts["version"])[:2]),) < least
    facts["isolation"] = facts["transaction_isolation"] or facts["tx_isolation"]  # by the server's version
    facts["is_cluster"] = facts["wsrep_on"] == "ON"  # a node of Galera works while it sees the majority
    facts["has_majority"] = not facts["is_cluster"] or facts["wsrep_cluster_status"] == "Primary"
    facts["is_unverified"] = facts["is_remote"] == "True" and facts["is_verified"] != "True"
    facts["is_writable"] = facts["read_only"] in ("", "OFF", "0")  # not in the middle of a failover
    return facts


def _number(facts: Facts, name: str, default: float = 0) -> float:
    return float(facts[name] or default)


# Level, subject, when it is so, what is so, why it matters and what to do, with facts in braces. The first
# row of a subject that is so counts.
CHECKS: Sequence[tuple[str, str, Callable[[Facts], Any], str, str, str]] = (
    ("fault", "version", lambda f: f["is_old"], "{version} is too old", "it lacks statements that qtm needs",
     "upgrade to MySQL 8.0, MariaDB 10.6, SQLite 3.38 or newer"),
    ("good", "version", lambda f: True, "{version}", "", ""),
    ("good", "isolation", lambda f: f["isolation"] == "READ-COMMITTED", "{isolation}", "", ""),
    ("fault", "isolation", lambda f: f["isolation"], "the session is at {isolation}: something resets it",
     "gap locks make creates wait and end in deadlocks", "let qtm reach the server without a pooling proxy"),
    ("warning", "max_allowed_packet",
     lambda f: _number(f, "max_allowed_packet", SMALL_PACKET_BYTES) < SMALL_PACKET_BYTES,
     "{max_allowed_packet} bytes", "a result of over half of it fails its task as result_too_large",
     "SET GLOBAL max_allowed_packet = 67108864, and in the server's file"),
    ("good", "max_allowed_packet", lambda f: f["max_allowed_packet"], "{max_allowed_packet} bytes", "", ""),
    ("warning", "innodb_flush_log_at_trx_commit",
     lambda f: f["innodb_flush_log_at_trx_commit"] not in ("", "1"), "{innodb_flush_log_at_trx_commit}",
     "a crash of the server loses up to a second of acknowledged tasks",
     "SET GLOBAL innodb_flush_log_at_trx_commit = 1"),
    ("fault", "read_only", lambda f: not f["is_writable"], "the server takes no writes",
     "no task can be created or run", "point QTM_DATABASE_URL to the primary"),
    ("warning", "encryption", lambda f: f["is_unverified"] and f["ssl_cipher"],
     "TLS, and the server is not verified", "a server in between can read and change it", VERIFY),
    ("warning", "encryption", lambda f: f["is_unverified"], "the connection is in clear text",
     "others on the network can read and change it", VERIFY),
    ("fault", "cluster", lambda f: not f["has_majority"],
     "the node is {wsrep_cluster_status} and sees {wsrep_cluster_size} of its cluster",
     "it has lost the majority, and refuses every statement until then; qtm waits meanwhile",
     "start the other nodes, or mend their network. If they are gone for good, on one node: "
     "SET GLOBAL wsrep_provider_options = 'pc.bootstrap=YES'"),
    ("warning", "cluster", lambda f: f["is_cluster"] and f["wsrep_local_state_comment"] != "Synced",
     "the node is {wsrep_local_state_comment}", "it lags behind, or refuses statements",
     "wait until it is Synced"),
    ("warning", "cluster", lambda f: f["is_cluster"] and _number(f, "wsrep_cluster_size") < 3,
     "Primary, with {wsrep_cluster_size} nodes in sight", "after one is lost, the rest has no majority",
     "run three, or two and an arbitrator (garbd)"),
    ("good", "cluster", lambda f: f["is_cluster"], "Primary, Synced, {wsrep_cluster_size} nodes", "", ""),
    ("warning", "wsrep_sync_wait",
     lambda f: f["is_cluster"] and f["has_majority"] and not int(f["wsrep_sync_wait"]) & 1, "{wsrep_sync_wait}",
     "what one node acknowledged is missed on another for a moment: 404 after a 201",
     "take sync_wait=0 out of QTM_DATABASE_URL"),
    ("good", "wsrep_sync_wait", lambda f: f["is_cluster"] and f["has_majority"], "{wsrep_sync_wait}", "", ""),
    ("warning", "clock", lambda f: _number(f, "clock_skew") >= CLOCK_SKEW_SECONDS,
     "{clock_skew} s from the database's", "log lines and lists disagree with the times of tasks",
     "run a time service (NTP) on both hosts"),
    ("good", "clock", lambda f: f["clock_skew"], "{clock_skew} s from the database's", "", ""),
    ("fault", "schema", lambda f: _number(f, "step") > _number(f, "newest_step"),
     "step {step} is newer than this version's {newest_step}", "it would be misread", "use a newer qtm"),
    ("warning", "schema", lambda f: _number(f, "step") < _number(f, "newest_step"),
     "step {step} of {newest_step}", "the tables are not there yet, or are older",
     "start qtm, or run `migrate`; both complete it"),
    ("good", "schema", lambda f: f["newest_step"], "step {step} of {newest_step}", "", ""),
    ("fault", "claim", lambda f: f["claim_error"], "{claim_error}", "no scheduler can take a task",
     "a missing table or index stands in schema.sql; SKIP LOCKED needs MySQL 8 or MariaDB 10.6"),
    ("good", "claim",
     lambda f: "backtest_tasks_queue" in f["plan"] and not re.search("filesort|TEMP B-TREE", f["plan"]),
     "reads backtest_tasks_queue in order, without a sort", "", ""),
    ("fault", "claim", lambda f: f["plan"], "the plan is {plan}",
     "schedulers would block each other, and every claim would read all pending tasks",
     "ANALYZE TABLE backtest_tasks; the index is in schema.sql"),
    ("warning", "leases", lambda f: f["abandoned"],
     "{abandoned} running tasks have no living scheduler, such as {task_id} at {worker_id}, seen {seen_at}",
     "they wait to be rescued", "start a scheduler: `serve` or `worker`"),
    ("good", "leases", lambda f: f["abandoned"] == 0, "every running task has a living scheduler", "", ""),
    ("warning", "schedulers", lambda f: f["is_unserved"], "tasks are pending, and no scheduler is seen",
     "nobody runs them", "start one"),
)  # fmt: skip


def judge(facts: Mapping[str, Any]) -> list[Finding]:
    """What CHECKS finds in these facts, at most one finding for each subject."""
    known, found = known_facts(facts), dict[str, Finding]()
    for level, subject, is_so, *texts in CHECKS:
        if subject not in found and is_so(known):
            found[subject] = Finding(level, subject, *(text.format_map(known) for text in texts))
    return list(found.values())


def _explained(database: Database, sql: str, **parameters: Any) -> tuple[str, str]:
    """The plan of a statement, and what the database has against it. Raises DatabaseUnavailable."""
    try:
        return str(database.rows(f"{database.dialect.explain} {sql}", parameters)), ""
    except QtmError as error:
        if isinstance(error, DatabaseUnavailable) and not isinstance(error, DatabaseRefused):
            raise
        return "", error.message


def diagnose(dao: TaskDAO, lease_seconds: float) -> list[Finding]:
    """Everything to say about a database; it changes nothing. Raises DatabaseUnavailable."""
    database = dao.database
    facts = known_facts(database.read(database.dialect.facts))
    if not facts["has_majority"]:
        return judge(facts)  # no table can be read
    facts["step"], facts["newest_step"] = schema_step(database), max(schema_steps())
    if facts["step"] != facts["newest_step"] or not facts["is_writable"]:  # which would not explain a claim
        return judge(facts)
    facts["plan"], facts["claim_error"] = _explained(database, CLAIMABLE, limit=1)
    if not facts["claim_error"]:
        abandoned = dao.abandoned(lease_seconds)
        facts["abandoned"] = len(abandoned)
        if abandoned:
            facts["task_id"], facts["worker_id"], seen_at = abandoned[0]
            facts["seen_at"] = seen_at or "never"
        has_worker = dao.has_worker(max(lease_seconds, 60.0))
        facts["is_unserved"] = not has_worker and dao.count_pending(1) > 0
    return judge(facts)


# ==== 26 Engines ============================================================================================
# The interface of engines, how one is loaded and called, and what is known of its version.

MAX_VERSION = 100  # characters of an engine's version
Progress = Callable[..., None]


class BacktestEngine(Protocol):
    """Runs one backtest and returns one JSON object. Raises InvalidTask for a task that can never succeed.

    ``progress(fraction, message="")`` may be called at any time. Optional attributes of the callable:
    ``validate(task)`` (raises InvalidTask; called at create, so it must be quick), ``version`` (text) and
    ``data_version(task)``, a text that changes with the data of this task; called before each run, and at a
    create that asks for reuse. Where it raises, the task runs all the same and has no run_key. All of them
    may be ``async def``."""

    def __call__(self, task: TaskRequest, progress: Progress) -> Mapping[str, Any]:
        """Run the backtest."""


def _call_fault(call: Any, wanted: inspect.Signature) -> str | None:
    """Why calling this with the parameters of ``wanted`` can never give a value; None where it can, or where
    nobody can tell."""
    if not callable(call):
        return f"is not callable but {type(call).__name__}"
    if isinstance(call, type) and not issubclass(call, Mapping):
        return "is a class without __call__"
    functions = (call, type(call).__call__)  # the latter for an instance
    if any(map(inspect.isgeneratorfunction, functions)) or any(map(inspect.isasyncgenfunction, functions)):
        return "is a generator function"
    try:
        # of a decorated function, what is called, not what is shown
        signature = inspect.signature(call, follow_wrapped=False)
    except (TypeError, ValueError):  # a builtin, or compiled code
        return None
    try:
        signature.bind(*wanted.parameters)
    except TypeError:
        plain = inspect.Parameter.empty
        names = [one.replace(default=plain, annotation=plain) for one in signature.parameters.values()]
        return f"takes {inspect.Signature(names)}"
    return None


RUN_SIGNATURE = inspect.signature(lambda task, progress: None)
VALIDATE_SIGNATURE = inspect.signature(lambda task: None)


def usable_engine(found: Any, name: str) -> BacktestEngine:
    """``found``, or an instance of it when it is a class with ``__call__``. Raises EngineError for what can
    never run a backtest."""
    if isinstance(found, type) and any("__call__" in vars(one) for one in found.__mro__):
        try:
            found = found()
        except Exception as error:  # its __init__ is user code
            why = f"of which no instance can be made without arguments: {type(error).__name__}: {error}"
            raise EngineError(f"engine {name} is a class {why}") from error
    if fault := _call_fault(found, RUN_SIGNATURE):
        must = f"it must be a function run{RUN_SIGNATURE} that returns the result"
        raise EngineError(f"engine {name} {fault}: {must}")
    for verb in ("validate", "data_version"):
        if hasattr(found, verb) and (fault := _call_fault(getattr(found, verb), VALIDATE_SIGNATURE)):
            must = f"it must be a function {verb}{VALIDATE_SIGNATURE}"
            raise EngineError(f"engine {name}: its {verb} {fault}: {must}")
    return cast(BacktestEngine, found)


def _import_fault(error: BaseException) -> str:
    """What an import raised, and the last place that is not of the standard library."""
    library = (os.path.dirname(os.__file__), "<frozen ")
    frames = [
        one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(library)
    ]
    is_exit = isinstance(error, SystemExit)
    remedy = '; what its module does as a script belongs under if __name__ == "__main__"' if is_exit else ""
    return f"{type(error).__name__}: {error} ({frames[-1].filename}:{frames[-1].lineno}){remedy}"


def load_engine(reference: str) -> BacktestEngine:
    """The engine that ``package.module:attribute`` names. Raises EngineError with the reason."""
    module_name, _, attributes = reference.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for name in attributes.split("."):
            found = getattr(found, name)
    except BaseException as error:  # a module may raise anything while it is imported, SystemExit too
        is_file = module_name.endswith(".py")
        fault = f"did you mean {module_name[:-3]}:{attributes}?" if is_file else _import_fault(error)
        raise EngineError(f"engine {reference} cannot be imported: {fault}") from error
    return usable_engine(found, reference)


def _clean(text: str) -> str:
    """Text that UTF-8 and every database can hold."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def engine_version(engine: BacktestEngine) -> str | None:
    """What the engine calls itself, at most 100 characters."""
    version = getattr(engine, "version", None)
    return None if version is None else _clean(str(version))[:MAX_VERSION]


def _has_metadata(name: str) -> bool:
    """Whether a folder of a distribution may be of this name. importlib.metadata takes 20 ms to import."""
    form = re.compile(rf"{re.escape(name).replace('_', '[-_.]')}[-_.].*-info", re.IGNORECASE)
    for folder in sys.path:
        with contextlib.suppress(OSError):
            if any(map(form.fullmatch, os.listdir(folder or "."))):
                return True
    return False


def _distribution_of(module: str) -> dict[str, str] | None:
    """Name and version of the installed distribution that a module comes from, or None."""
    top, file = module.partition(".")[0], getattr(sys.modules.get(module), "__file__", None) or ""
    is_installed = not {"site-packages", "dist-packages"}.isdisjoint(file.split(os.sep))
    if not is_installed and not _has_metadata(top):
        return None
    with contextlib.suppress(Exception):  # whatever is installed beside it may be broken
        try:
            found = importlib_metadata.distribution(top)
        except importlib_metadata.PackageNotFoundError:
            if not is_installed:
                return None
            names = importlib_metadata.packages_distributions()[top]  # reads files of all
            found = importlib_metadata.distribution(names[0])
        if is_installed or found.read_text("direct_url.json"):  # it is editable, not another one of this name
            return {"name": found.metadata["Name"], "version": found.version}
    return None


def run_environment(engine: str) -> str:
    """What all attempts on an engine of this name have in common on their run cards: the text of an
    object."""
    versions = {"python": ".".join(map(str, sys.version_info[:3])), "qtm": __version__}
    distribution, host = _distribution_of(engine.partition(":")[0]), socket.gethostname()
    return dump_json({"engine": engine, **versions, "distribution": distribution, "host": host})


# ==== 27 Prices =============================================================================================
# The files of prices that the built-in engine reads: their names, columns, dates and numbers.

BOOKS = decimal.Context(prec=50)  # sums and products of prices stay exact; divisions round at the 50th digit


class Bar(NamedTuple):
    """One day of one stock: what the built-in engine needs of it."""

    date: str
    open: decimal.Decimal
    close: decimal.Decimal


# How a header may call the columns that are read, in any letter case, and with or without spaces and . _ - (
# ) < >.
PRICE_COLUMNS = {
    "date": ("date", "datetime", "time", "timestamp", "tradedate", "日期", "交易日期", "时间"),
    "open": ("open", "openprice", "开盘", "开盘价", "开盘价元"),
    "close": ("close", "closeprice", "收盘", "收盘价", "收盘价元"),
    "adj close": (
        *("adjclose", "adjustedclose", "closeadj", "closehfq", "closeqfq"),
        *(
            form.format(kind)
            for kind in ("", "前", "后")
            for form in ("{}复权收盘价", "{}复权收盘", "{}复权价", "收盘价{}复权", "收盘{}复权")
        ),
    ),
}
COLUMN_OF_NAME = {name: column for column, names in PRICE_COLUMNS.items() for name in names}
# An adjustment that is not read: whether its factor multiplies or divides, and whether the prices have it
# already, differs by vendor.
UNREAD_ADJUSTMENT = re.compile(r"adj.*factor|.*factor.*adj|(?!.*(开盘|最高|最低|成交)).*复权")
DATE_TEXT = re.compile(r"([0-9]{4})(?:([-/])([0-9]{1,2})\2([0-9]{1,2})|([0-9]{2})([0-9]{2}))(?:[T ](.+))?")
MIDNIGHT = re.compile(r"00:00(:00(\.0+)?)?( ?(Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?")
PRICE_TEXT = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
NO_PRICE = frozenset(("", "null", "nan", "na", "n/a", "#n/a", "none", "-", "--"))
PRICES = (decimal.Decimal("1e-12"), decimal.Decimal("1e15"))


def price_file_name(stock_code: str) -> str:
    """The name of a stock's file in QTM_DATA_DIR: its code and ".csv". What a file name cannot hold ("/" and
    what is not printable), and "%", is percent-encoded: ``BTC%2FUSDT.csv``."""
    quote = functools.partial(urllib.parse.quote, safe="", errors="surrogatepass")
    return (
        "".join(one if one.isprintable() and one not in "/%" else quote(one) for one in stock_code) + ".csv"
    )


# Of each exchange of A-shares the name of tushare and akshare, the one of ISO 10383 (JoinQuant, RiceQuant),
# and how the numbers of its stocks begin, with those of Shanghai's funds: 000001 alone is Shenzhen's stock,
# never Shanghai's index of this number. Of other numbers, such as those of bonds, nobody can tell.
EXCHANGES = (
    ("SH", "XSHG", ("60", "68", "900", "5")),
    ("SZ", "XSHE", ("00", "20", "30")),
    ("BJ", "BJSE", ("43", "83", "87", "92")),
)


def code_spellings(stock_code: str) -> list[str]:
    """An A-share as tushare, JoinQuant and RiceQuant, and akshare write it: ``600519.SH``, ``600519.XSHG``,
    ``sh600519`` and ``600519``. Empty for any other code."""
    if match := re.fullmatch("[a-z]{0,2}([0-9]{6})[.A-Z]{0,5}", stock_code):
        for short, mic, begins in EXCHANGES:
            names = [f"{match[1]}.{short}", f"{match[1]}.{mic}", short.lower() + match[1]]
            names += [match[1]] if match[1].startswith(begins) else []
            if stock_code in names:
                return names
    return []


def price_path(folder: str, stock_code: str) -> pathlib.Path:
    """The price file of a stock: the one of its very name, else, of an A-share, the one that has another
    spelling of its code. Raises InvalidTask where two have."""
    own = pathlib.Path(folder) / price_file_name(stock_code)
    others = [own.with_name(f"{name}.csv") for name in code_spellings(stock_code)]
    found = [own] if os.path.exists(own) else [path for path in others if os.path.exists(path)]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InvalidTask(f"{names} are files of {stock_code}: keep one, or give its name as the code")
    return found[0] if found else own


def _date_text(text: str) -> str:
    """YYYY-MM-DD of a date as price files write it. Raises ValueError with the reason."""
    match = DATE_TEXT.fullmatch(text)
    if not match:
        raise ValueError("is not a date; write it as YYYY-MM-DD, YYYYMMDD or YYYY/MM/DD")
    if match[7] is not None and not MIDNIGHT.fullmatch(match[7]):
        raise ValueError("has a time other than midnight; a file holds one row a day")
    try:
        return datetime.date(int(match[1]), int(match[3] or match[5]), int(match[4] or match[6])).isoformat()
    except ValueError:
        raise ValueError("is a date that does not exist") from None


def _price(text: str) -> decimal.Decimal | None:
    """A price; None where there is none, as on a day without trade. Raises ValueError with the reason."""
    if text.lower() in NO_PRICE:
        return None
    if not PRICE_TEXT.fullmatch(text):
        raise ValueError(
            "is not a price; write it as 1234.56, without separators of thousands, signs or units"
        )
    price = decimal.Decimal(text)
    if price and not PRICES[0] <= price <= PRICES[1]:
        raise ValueError(f"is not a price from {PRICES[0]} to {PRICES[1]}")
    return price or None


def _price_text(path: pathlib.Path) -> str:
    """The text of a file of prices. Raises InvalidTask."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        fault = f"{path} does not exist (QTM_DATA_DIR names the folder)"
        raise InvalidTask(f"there are no prices for {urllib.parse.unquote(path.stem)}: {fault}") from None
    except (OSError, ValueError) as error:
        raise InvalidTask(f"{path.name} cannot be read as UTF-8: {error}") from None


def _price_places(header: Sequence[str]) -> dict[str, int]:
    """The place of each column: of those that are read by the names in PRICE_COLUMNS, of others by their own.
    Raises ValueError."""
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        plain = re.sub(r"[\s._()（）<>-]", "", name).casefold()
        column = COLUMN_OF_NAME.get(plain, name.casefold())
        if name and column in places:
            same = header[places[column]]
            raise ValueError(f"the columns {same!r} and {name!r} are the same; keep the one that is meant")
        if plain not in COLUMN_OF_NAME and UNREAD_ADJUSTMENT.match(plain):
            fault = "adjusts prices in a way that is not known; give an Adj Close, or remove it"
            raise ValueError(f"the column {name!r} {fault}")
        places[column] = place
    for column in ("date", "open", "close"):
        if column not in places:
            names = ", ".join(PRICE_COLUMNS[column])
            hint = "; separate the columns by commas" if len(header) == 1 else ""
            raise ValueError(f"has no column {column!r} (any of {names}); its header is {header}{hint}")
    return places


def _cell(header: Sequence[str], row: Sequence[str], place: int, read: Callable[[str], T]) -> T:
    try:
        return read(row[place])
    except ValueError as error:
        raise ValueError(f"column {header[place]!r}: {row[place][:100]!r} {error}") from None


def _dated_prices(
    rows: Iterator[Sequence[str]], start_date: str, end_date: str
) -> Iterator[tuple[str, list[Any]]]:
    """The date of each row behind the header, and in this period its open, close and, if there is one,
    adjusted close. Raises ValueError, and csv.Error."""
    header = next(rows, [])
    places, dates = _price_places(header), set[str]()
    columns = [places[name] for name in ("open", "close", "adj close") if name in places]
    for row in rows:
        if len(row) != len(header):
            more = "; a number must not hold a comma" if len(row) > len(header) else ""
            raise ValueError(
                f"{len(row)} fields under a header of {len(header)}: {','.join(row)[:200]!r}{more}"
            )
        date = _cell(header, row, places["date"], _date_text)
        if date in dates:
            raise ValueError(f"column {header[places['date']]!r}: the date {date} stands twice")
        dates.add(date)
        read = columns if start_date <= date <= end_date else []
        yield date, [_cell(header, row, place, _price) for place in read]


def read_prices(path: pathlib.Path, start_date: str, end_date: str) -> tuple[list[Bar], int]:
    """The bars of a CSV file with ``start_date <= date <= end_date`` in order of time, and how many rows of
    them had no prices.

    The header names Date, Open and Close in any case and order, in English or Chinese (see PRICE_COLUMNS).
    With a column Adj Close it is the close, and the open is open x Adj Close / Close. Raises InvalidTask,
    with line, column and text, for whatever is ambiguous.
    """
    reader = csv.reader(io.StringIO(_price_text(path), newline=""), strict=True)
    rows = (cells for row in reader if any(cells := [cell.strip() for cell in row]))
    try:
        prices = dict(_dated_prices(rows, start_date, end_date))
    except (ValueError, csv.Error) as error:
        raise InvalidTask(f"{path.name}, line {reader.line_num}: {error}") from None
    found = [(date, prices[date]) for date in sorted(prices) if prices[date]]
    with decimal.localcontext(BOOKS):
        bars = [Bar(date, row[0] * row[-1] / row[1], row[-1]) for date, row in found if None not in row]
    if not bars:
        held = f"it holds {min(prices)} to {max(prices)}" if prices else "it holds none at all"
        rest = f"{held}; rows of this period without prices: {len(found)}"
        raise InvalidTask(f"{path.name} has no bar from {start_date} to {end_date}; {rest}")
    return bars, len(found) - len(bars)


# ==== 28 Backtest engine ====================================================================================
# The built-in reference engine. It computes in decimals of 50 digits, with prices as they stand in the file,
# so that rounding changes neither a crossing nor a share count. Only the final metrics are floats.

# rounds to it what may be off at the 50th, so that equal amounts are equal
TEN_DIGITS_LESS = decimal.Context(prec=40)


def long_signals(bars: Sequence[Bar], strategy: str, params: Mapping[str, Any]) -> Iterator[bool]:
    """For each bar, whether the strategy wants to be long at its close.

    ``buy_and_hold``: always. ``sma_cross``: while the simple mean of the last ``fast`` closes is above that
    of the last ``slow``; not before ``slow`` closes are there. Sums are exact, so equal means are equal.
    """
    if strategy == "buy_and_hold":
        yield from (True for _ in bars)
        return
    fast, slow = int(params["fast"]), int(params["slow"])
    fast_sum = slow_sum = decimal.Decimal(0)
    for i, bar in enumerate(bars):
        fast_sum += bar.close - (bars[i - fast].close if i >= fast else 0)
        slow_sum += bar.close - (bars[i - slow].close if i >= slow else 0)
        yield i + 1 >= slow and fast_sum * slow > slow_sum * fast


ZERO = decimal.Decimal(0)


class Costs(NamedTuple):
    """What trades cost. ``commission``, on both sides, and ``stamp_duty``, on sales, are fractions of a
    trade's value at a price that is worse than the open by the fraction ``slippage``; the commission of a
    trade is at least ``min_commission``. Shares are bought in multiples of ``lot_size``."""

    commission: decimal.Decimal = ZERO
    min_commission: decimal.Decimal = ZERO
    stamp_duty: decimal.Decimal = ZERO
    slippage: decimal.Decimal = ZERO
    lot_size: decimal.Decimal = decimal.Decimal(1)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Costs:
        """Those of a config that `_cost_faults` has passed."""
        given = {**config, **config.get("costs", {})}
        return cls(**{name: decimal.Decimal(str(given[name])) for name in cls._fields if name in given})

    def buy(self, cash: decimal.Decimal, price: decimal.Decimal) -> tuple[int, decimal.Decimal]:
        """The most shares for this cash at this open, and their cost with the greater of both commissions."""
        each, bare = price * ((1 + self.slippage) * (1 + self.commission)), price * (1 + self.slippage)
        limits = (cash / each, (cash - self.min_commission) / bare)
        lot, most = int(self.lot_size), int(min(map(TEN_DIGITS_LESS.plus, limits)))
        shares = max(0, most // lot * lot)
        return shares, max(each * shares, bare * shares + self.min_commission) if shares else ZERO

    def sell(self, shares: int, price: decimal.Decimal) -> decimal.Decimal:
        """What is left of a sale at this open; nothing where it costs more than it brings."""
        rest, slipped = 1 - self.stamp_duty, 1 - self.slippage
        value = price * shares
        by_rate = value * (slipped * (rest - self.commission))
        return max(ZERO, min(by_rate, value * (slipped * rest) - self.min_commission))


def trade(
    bars: Sequence[Bar], signals: Iterable[bool], cash: decimal.Decimal, costs: Costs, progress: Progress
) -> tuple[list[decimal.Decimal], list[dict[str, Any]], int]:
    """Trade at the open after each signal: all in, as many shares as the cash pays for, and all out again.
    The equity at each close, the closed round trips, and how many bars closed with shares held."""
    equity, trades, bars_held = list[decimal.Decimal](), list[dict[str, Any]](), 0
    shares, cost, entry, is_wanted = 0, ZERO, bars[0], False
    for i, (bar, signal_at_close) in enumerate(zip(bars, signals, strict=True)):
        if is_wanted and not shares:
            shares, cost = costs.buy(cash, bar.open)
            cash, entry = cash - cost, bar
        elif shares and not is_wanted:
            proceeds = costs.sell(shares, bar.open)
            profit = float(TEN_DIGITS_LESS.plus(proceeds) - TEN_DIGITS_LESS.plus(cost))
            dates = {"entry_date": entry.date, "exit_date": bar.date}
            paid, got = entry.open * (1 + costs.slippage), bar.open * (1 - costs.slippage)
            prices = {"entry_price": float(paid), "exit_price": float(got)}
            trades.append({**dates, **prices, "shares": shares, "profit": profit})
            cash, shares = cash + proceeds, 0
        equity.append(cash + shares * bar.close)
        bars_held += shares > 0
        is_wanted = signal_at_close
        if i % 250 == 0:
            progress(i / len(bars), f"{bar.date}: equity {equity[-1]:.2f}")
    return equity, trades, bars_held


def backtest_metrics(
    initial_cash: decimal.Decimal, equity: list[decimal.Decimal], trades: list[dict[str, Any]], bars_held: int
) -> dict[str, float | int | None]:
    """The metrics of a run over its equity at each close; see `trade`.

    total_return = final / initial - 1; annual_return = (final / initial) ^ (252 / daily returns) - 1;
    annual_volatility = sample deviation of the daily returns x sqrt(252), None for less than two of them;
    sharpe = mean / deviation x sqrt(252), risk-free rate 0 (Sharpe 1994); max_drawdown = the lowest equity /
    (highest before, the initial cash included) - 1; exposure = bars that close with shares held / bars; skew
    and kurtosis of the daily returns are None where these do not vary. After an equity of 0, which only a
    least commission leaves, returns are 0.
    """
    count = len(equity) - 1
    returns = [float(equity[i + 1] / equity[i] - 1) if equity[i] else 0.0 for i in range(count)]
    mean = math.fsum(returns) / count if count else 0.0
    deviation = (
        math.sqrt(math.fsum((value - mean) ** 2 for value in returns) / (count - 1)) if count > 1 else None
    )
    growth = equity[-1] / initial_cash
    # a decimal, since a few days of a wild price are beyond a double
    years = decimal.Decimal(count) / TRADING_DAYS
    peaks = itertools.accumulate(equity[1:], max, initial=max(initial_cash, equity[0]))
    drawdown = min(value / peak - 1 for value, peak in zip(equity, peaks, strict=True))
    return {
        "final_equity": float(equity[-1]),
        "total_return": float(growth - 1),
        "annual_return": float(growth ** (1 / years) - 1) if count else 0.0,
        "annual_volatility": None if deviation is None else deviation * math.sqrt(TRADING_DAYS),
        "sharpe": mean / deviation * math.sqrt(TRADING_DAYS) if deviation else None,
        "max_drawdown": float(drawdown),
        "exposure": bars_held / len(equity),
        "trades": len(trades),
        "win_rate": sum(one["profit"] > 0 for one in trades) / len(trades) if trades else None,
        "bars": len(equity),
        **{"skew": None, "kurtosis": None, **return_moments(returns)},
    }


STRATEGY_PARAMS: Mapping[str, Sequence[str]] = {"buy_and_hold": (), "sma_cross": ("fast", "slow")}
NEEDED_CONFIG = ("strategy", "start_date", "end_date")
OPTIONAL_CONFIG = ("initial_cash", "commission", "costs", "lot_size")
DEFAULT_CASH, LOT_SIZES = 100_000, (1, 1_000_000)
AVERAGE_BARS = (1, 100_000)


def _unknown_names(path: str, found: Iterable[str], known: Sequence[str], reader: str) -> list[FieldError]:
    """Names that would be ignored, and the numbers would then not be those that were asked for."""
    words = f"reads only {', '.join(known)}" if known else "reads none"
    return [
        FieldError(f"{path}.{str(name)[:100]}", f"is unknown; {reader} {words}")
        for name in found
        if name not in known
    ]


def _cost_faults(config: Mapping[str, Any]) -> list[FieldError]:
    costs: Any = config.get("costs", {})
    if not isinstance(costs, Mapping):
        return [FieldError("config.costs", "must be an object")]
    names = Costs._fields[:4]
    faults = _unknown_names("config.costs", costs, names, "the built-in engine")
    for name, value in costs.items():
        path = f"config.costs.{name}"
        if name == "min_commission":
            faults += faults_of(path, value, schema_of(f"float 0..{INITIAL_CASH[1]}"))
        elif name in names:
            faults += faults_of(path, value, TYPES["fraction"])
    if "commission" in costs and "commission" in config:
        faults.append(FieldError("config.commission", "stands beside config.costs.commission; give one"))
    if "lot_size" in config:
        faults += faults_of("config.lot_size", config["lot_size"], schema_of(f"int {form_range(LOT_SIZES)}"))
    return faults


def _run_faults(config: Mapping[str, Any]) -> list[FieldError]:
    faults = [
        FieldError(f"config.{name}", "is missing, and the built-in engine needs it")
        for name in NEEDED_CONFIG
        if name not in config
    ]
    faults += _unknown_names("config", config, (*NEEDED_CONFIG, *OPTIONAL_CONFIG), "the built-in engine")
    faults += _cost_faults(config)
    strategy: Any = config.get("strategy")
    if strategy is not None and strategy not in STRATEGY_PARAMS:
        message = f"strategy {strategy!r} is not one of {', '.join(STRATEGY_PARAMS)}"
        faults.append(FieldError("config.strategy", message))
    return faults


def _strategy_faults(strategy: Any, params: Mapping[str, Any]) -> list[FieldError]:
    if strategy not in STRATEGY_PARAMS:
        return []
    names, (low, high) = STRATEGY_PARAMS[strategy], AVERAGE_BARS
    values = {name: _whole(params.get(name)) for name in names}
    wrong = [
        FieldError(f"params.{name}", f"{strategy} needs params.{name}, a whole number from {low} to {high}")
        for name, value in values.items()
        if faults_of(name, value, schema_of(f"int {low}..{high}"))
    ]
    if strategy == "sma_cross" and not wrong and values["fast"] >= values["slow"]:
        message = f"params.fast ({values['fast']}) must be less than params.slow ({values['slow']})"
        wrong.append(FieldError("params.fast", message))
    return _unknown_names("params", params, names, strategy) + wrong


def backtest_faults(tasks: Iterable[Combination]) -> Iterator[list[FieldError]]:
    """What the built-in engine can know of each task without its prices; each config and params are looked at
    once."""
    of_config, of_params = dict[int, list[FieldError]](), dict[tuple[int, int], list[FieldError]]()
    for _, config, params in tasks:
        if id(config) not in of_config:
            of_config[id(config)] = _run_faults(config)
        key = id(config), id(params)
        if key not in of_params:
            of_params[key] = of_config[id(config)] + _strategy_faults(config.get("strategy"), params)
        yield of_params[key]


def validate_backtest(task: TaskRequest) -> None:
    """What the built-in engine can know of a task without its prices. Raises InvalidTask with every fault."""
    (faults,) = backtest_faults([(task.stock_code, task.config, task.params)])
    if faults:
        raise InvalidTask(f"{faults[0].field}: {faults[0].message}", faults)


def price_file(task: TaskRequest) -> pathlib.Path:
    """The file of a task's prices in QTM_DATA_DIR (see `price_path`), for engines that read it themselves."""
    return price_path(os.environ.get("QTM_DATA_DIR", Settings.data_dir), task.stock_code)


@functools.lru_cache(maxsize=10_000)
def _file_sha256(path: pathlib.Path, size: int, mtime_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def price_data_version(task: TaskRequest) -> str:
    """The SHA-256 of the price file. Raises OSError."""
    path = price_file(task)
    found = path.stat()
    return _file_sha256(path, found.st_size, found.st_mtime_ns)


def run_backtest(task: TaskRequest, progress: Progress) -> dict[str, Any]:
    """The built-in engine: long-only, whole shares, all in, on ``QTM_DATA_DIR/<stock_code>.csv`` (see
    `price_path`).

    A signal on a bar's close trades at the next bar's open, at the `Costs` of the config; an open position at
    the end is marked at the last close. Returns ``metrics``, ``equity_curve``, ``trades`` and
    ``skipped_rows``, how many rows of the period had no prices.
    """
    validate_backtest(task)
    config = task.config
    bars, skipped_rows = read_prices(price_file(task), config["start_date"], config["end_date"])
    with decimal.localcontext(BOOKS):
        initial_cash = decimal.Decimal(str(config.get("initial_cash", DEFAULT_CASH)))
        signals = long_signals(bars, config["strategy"], task.params)
        equity, trades, bars_held = trade(bars, signals, initial_cash, Costs.of(config), progress)
        metrics = backtest_metrics(initial_cash, equity, trades, bars_held)
    curve = [[bar.date, round(float(value), 2)] for bar, value in zip(bars, equity, strict=True)]
    return {"metrics": metrics, "equity_curve": curve, "trades": trades, "skipped_rows": skipped_rows}


run_backtest.validate = validate_backtest  # type: ignore[attr-defined]
run_backtest.data_version = price_data_version  # type: ignore[attr-defined]
run_backtest.version = f"qtm {__version__}"  # type: ignore[attr-defined]


# ==== 29 Library values =====================================================================================
# What numpy, pandas, polars and others put into a result, as plain data, told by the names of their classes:
# none of them is imported here.


class ResultFault(ValueError):
    """What a result holds cannot be kept without loss; the message names its path."""


def _library_name(kind: type) -> str:
    """The top-level module and the name of a class: libraries move their classes between submodules."""
    module = kind.__module__.partition(".")[0]
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _in_utf8(text: str) -> str:
    """The text without halves of surrogate pairs, which UTF-8 cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _text_of(value: Any) -> str:
    try:
        return _in_utf8(str(value))
    except MemoryError:
        raise
    except Exception as error:  # user code
        return f"<{_library_name(type(value))}, whose text cannot be read: {type(error).__name__}>"


def _is_plain(values: Sequence[Any]) -> bool:
    """Whether all are finite floats, or all ASCII texts; to check them one by one takes thirty times as long."""
    kinds = set(map(type, values))
    return (kinds == {float} and math.isfinite(sum(values))) or (kinds == {str} and "".join(values).isascii())


Convert = Callable[["ResultConverter", Any], Any]


def _by_method(name: str) -> Convert:
    def convert(converter: ResultConverter, value: Any) -> Any:
        found = getattr(value, name)()
        return converter.as_text(value) if type(found) is type(value) else converter.value(found)

    return convert


def _numpy_scalar(converter: ResultConverter, value: Any) -> Any:
    names, kind = value.dtype.names, value.dtype.kind
    if names:
        return converter.members([(name, value[name]) for name in names])
    if kind not in "mM":
        return _by_method("item")(converter, value)
    if value != value:
        return converter.missing(value)
    return str(value) if kind == "M" else converter.as_text(value)


def _numpy_array(converter: ResultConverter, array: Any) -> Any:
    if array.dtype.kind not in "mMV":
        return converter.value(array.tolist())
    # tolist() would lose units or names
    return converter.items(array) if array.ndim else converter.value(array[()])


def _time_texts(index: Any) -> list[str]:
    """As isoformat() gives them; numpy makes whole seconds without a time zone in a fifth of the time."""
    if index.tz is None:
        seconds = index.to_numpy().astype("datetime64[s]")
        if (seconds == index.to_numpy()).all():
            return cast("list[str]", seconds.astype(str).tolist())
    return [label.isoformat() for label in index]


TEXTS_OF_INDEX: Mapping[str, Callable[[Any], Iterable[str]]] = {
    "DatetimeIndex": _time_texts,
    **dict.fromkeys(("PeriodIndex", "TimedeltaIndex", "IntervalIndex"), functools.partial(map, str)),
}


def _is_plain_index(index: Any) -> bool:
    """0, 1, 2, ...: the place in a list says the same."""
    return type(index).__name__ == "RangeIndex" and (index.start, index.step, index.name) == (0, 1, None)


def _index_labels(index: Any) -> list[Any]:
    """Periods and durations as their text, which is not listed: a label need be no more than unique."""
    texts_of = TEXTS_OF_INDEX.get(type(index).__name__)
    labels = list(texts_of(index)) if texts_of else index.tolist()
    return (
        [None if missing else label for label, missing in zip(labels, index.isna(), strict=True)]
        if index.hasnans
        else labels
    )


def _pandas_frame(converter: ResultConverter, frame: Any) -> Any:
    """A list of records with the index, its levels named as reset_index() does, unless it only counts."""
    index, names = frame.index, frame.columns.tolist()
    columns = [
        (converter.key(name), own.tolist()) for name, (_, own) in zip(names, frame.items(), strict=True)
    ]
    taken = {name for name, _ in columns}
    for i in () if _is_plain_index(index) else reversed(range(index.nlevels)):
        level = index.get_level_values(i)
        own = None if level.name is None else converter.key(level.name)
        spare = "index" if index.nlevels == 1 and "index" not in taken else f"level_{i}"
        columns.insert(0, (spare if own is None or own in taken else own, _index_labels(level)))
        taken.add(columns[0][0])
    names = [name for name, _ in columns]
    if len(taken) < len(names):
        repeated = Counter(names).most_common(1)[0][0]
        raise ResultFault(f"two columns of a frame are named {repeated!r}, at {converter.path()[:200]}")
    return converter.value(
        [dict(zip(names, row, strict=True)) for row in zip(*(values for _, values in columns), strict=True)]
    )


def _pandas_series(converter: ResultConverter, series: Any) -> Any:
    """A list; by time [time, value] pairs; by other labels an object, or pairs where two are equal."""
    index, values = series.index, series.tolist()
    if _is_plain_index(index):
        return converter.value(values)
    if index.nlevels > 1:
        return _pandas_frame(converter, series.to_frame("value" if series.name is None else series.name))
    labels = _index_labels(index)
    is_of_times = type(index).__name__ in ("DatetimeIndex", "PeriodIndex", "TimedeltaIndex")
    if not is_of_times and not (labels and all(isinstance(label, datetime.date) for label in labels)):
        keys = [converter.key(label) for label in labels]
        if len(set(keys)) == len(keys):
            return converter.members(zip(keys, values, strict=True))
    pairs = list(zip(labels, values, strict=True))
    if not (_is_plain(labels) and _is_plain(values)):
        return converter.value(pairs)
    return [*converter.value(pairs[:1]), *pairs[1:]]  # the conversion of the first checks the depth of all


def _decimal(converter: ResultConverter, value: decimal.Decimal) -> Any:
    """A double, as all numbers of JSON are read; a number beyond doubles as its text."""
    number = math.nan if value.is_nan() else float(value)
    return converter.as_text(value) if math.isinf(number) and value.is_finite() else converter.value(number)


# By the names of a value's class and of the classes above it, since numpy, pandas and polars are not imported
# here.
CONVERTERS: Mapping[str, Convert] = {
    "numpy.ndarray": _numpy_array,
    "numpy.generic": _numpy_scalar,
    "pandas.DataFrame": _pandas_frame,
    "pandas.Series": _pandas_series,
    "pandas.Index": lambda converter, index: converter.items(_index_labels(index)),
    "enum.Enum": lambda converter, value: converter.value(value.value),
    "int": lambda converter, value: converter.value(int(value)),
    "float": lambda converter, value: converter.value(float(value)),
    "str": lambda converter, value: converter.value(str.__str__(value)),
    "decimal.Decimal": _decimal,
    **dict.fromkeys(("pandas.NaTType", "pandas.NAType"), lambda converter, value: converter.missing(value)),
    **dict.fromkeys(
        ("bytes", "bytearray", "memoryview", "datetime.timedelta"),
        lambda converter, value: converter.as_text(value),
    ),
}


@functools.lru_cache(maxsize=256)
def _converter(kind: type[Any]) -> Convert:
    """How values of this type are converted: by its library, by what it is, by its methods, else as text."""
    for name in map(_library_name, kind.__mro__):
        if name in CONVERTERS:
            return CONVERTERS[name]
    if hasattr(kind, "_fields") and issubclass(kind, tuple):  # a namedtuple
        return lambda converter, value: converter.members(zip(value._fields, value, strict=True))
    if issubclass(kind, Mapping):
        return lambda converter, value: converter.members(value.items())
    if issubclass(kind, (Sequence, Set, MappingView)):
        return lambda converter, value: converter.items(value)
    if dataclasses.is_dataclass(kind):
        return lambda converter, value: converter.members(
            (item.name, getattr(value, item.name)) for item in dataclasses.fields(value)
        )
    # frames, arrays, scalars and times, of polars and others
    for method in ("to_dicts", "to_list", "tolist", "item", "to_dict", "isoformat"):
        if callable(getattr(kind, method, None)):
            return _by_method(method)
    return lambda converter, value: converter.as_text(value)


# ==== 30 Results ============================================================================================
# An engine's result as strict JSON, whatever is in it.


class ResultDocument(NamedTuple):
    """A result as strict JSON text, and as the plain value that the text is of.

    ``non_finite`` lists what became null: ``{"path", "kind"}``, the kind nan, inf or -inf. ``converted``
    lists what has no JSON form and became its text: ``{"path", "type"}``.
    """

    text: str
    non_finite: list[dict[str, str]]
    converted: list[dict[str, str]]
    plain: Mapping[str, Any]


class ResultConverter:
    """Makes plain data of what an engine returned, and lists what is not finite or has no JSON form."""

    def __init__(self) -> None:
        self.non_finite: list[dict[str, str]] = []
        self.converted: list[dict[str, str]] = []
        self._path: list[str | int] = []  # of the value in hand, as it stands in the document

    def path(self) -> str:
        """Where the value in hand stands: ``curve[1].value``; ``metrics["a.b"]`` for a key with a dot."""
        text = ""
        for step in self._path:
            if isinstance(step, int) or not step or re.search(r'[.\[\]"]', step):
                text += f"[{dump_json(step)}]"
            else:
                text += f".{step}" if text else step
        return text

    def value(self, value: Any) -> Any:
        """Any value as plain data. Raises ResultFault for equal keys, a cycle, and more than 64 levels."""
        kind = type(value)
        if kind is float and not math.isfinite(value):
            self.non_finite.append({"path": self.path(), "kind": str(value)})
            return None
        if kind in (float, bool) or value is None:
            return value
        if kind is str:
            return value if value == _in_utf8(value) else self.as_text(value)
        if kind is int:
            return value if -(2**63) <= value < 2**64 else self.as_text(value)
        if kind is dict:
            is_plain = (
                len(self._path) < MAX_JSON_DEPTH and _is_plain([*value]) and _is_plain([*value.values()])
            )
            return value if is_plain else self.members(value.items())
        return self.items(value) if kind is list or kind is tuple else self._foreign(value)

    def items(self, values: Iterable[Any]) -> list[Any]:
        """A list."""
        self._go_down()
        found = []
        for self._path[-1], item in enumerate(values):
            found.append(self.value(item))
        self._path.pop()
        return found

    def members(self, pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        """An object. Raises ResultFault for keys that are equal as texts: one value of them would be lost."""
        self._go_down()
        found: dict[str, Any] = {}
        for key, item in pairs:
            self._path[-1] = name = _in_utf8(self.key(key))
            if name in found:
                raise ResultFault(
                    f"two keys of one object are the same as text, {self.path()[:200]!r}, and JSON holds only one"
                )
            found[name] = self.value(item)
        self._path.pop()
        return found

    def key(self, key: Any) -> str:
        """The text of a key, which is not listed."""
        if isinstance(key, enum.Enum):
            key = key.value
        elif type(key).__module__ == "numpy" and key.dtype.kind in "biuf":
            key = key.item()
        if isinstance(key, str):
            return str.__str__(key)
        if isinstance(key, tuple):
            return ".".join(map(self.key, key))
        if key is None or isinstance(key, bool):
            return dump_json(key)
        # NaT, a datetime, is not equal to itself
        if isinstance(key, (datetime.date, datetime.time)) and key == key:
            return str(key.isoformat())
        return _text_of(key)

    def as_text(self, value: Any) -> str:
        """The text of what has no JSON form, which is listed."""
        self.converted.append({"path": self.path(), "type": _library_name(type(value))})
        return _text_of(value)

    def missing(self, value: Any) -> None:
        """Null for a missing value of a library that has one of its own, which is listed."""
        self.as_text(value)

    def _go_down(self) -> None:
        if len(self._path) >= MAX_JSON_DEPTH:
            raise ResultFault(
                f"a value nests deeper than {MAX_JSON_DEPTH} levels, or holds itself, at {self.path()[:200]}"
            )
        self._path.append("")

    def _foreign(self, value: Any) -> Any:
        """A value of another type; as text where its own methods fail."""
        lists: tuple[list[Any], ...] = (self._path, self.non_finite, self.converted)
        lengths = [len(one) for one in lists]
        try:
            return _converter(type(value))(self, value)  # type: ignore[arg-type]  # mypy takes a type for unhashable
        except (MemoryError, ResultFault):
            raise
        except Exception:  # methods of user objects
            for one, length in zip(lists, lengths, strict=True):
                del one[length:]
            return self.as_text(value)


def result_document(result: Any) -> ResultDocument:
    """A result as strict JSON. Takes what numpy, pandas, polars, Decimal, dates and dataclasses give, without
    importing them.

    Raises TypeError for a result that is no object, and ResultFault, with the path, for what cannot be kept
    without loss: keys that are equal as texts, cycles, depth over 64.
    """
    converter = ResultConverter()
    plain = converter.value(result)
    if not isinstance(plain, dict):
        raise TypeError(f"a result must be a mapping, not {type(result).__name__}")
    return ResultDocument(dump_json(plain), converter.non_finite, converter.converted, plain)


# ==== 31 Engine calls =======================================================================================
# One attempt on the engine, or a question to it, in the process or thread of the caller. Whatever the engine does
# comes out as an Outcome.

MAX_CAUSES = 20  # exceptions of a chain that are looked at
PROGRESS_INTERVAL_SECONDS = 0.05  # a process sends no more often
MAX_MESSAGE = 500  # characters of a progress message, as its column has room for
MAX_IGNORED = 100  # characters of what an engine gave as a fraction, and was none
MAX_ERROR_TYPE, MAX_ERROR_MESSAGE, MAX_TRACEBACK = 200, 2000, 8000  # characters of an attempt's error
MAX_DATA_VERSION = 200  # characters that a run card shows; a run_key holds all of them
MAX_RESULT_BYTES = 64 * 1024 * 1024


def _fraction(value: Any) -> float | None:
    """A number from 0 to 1, or None for anything else; a sum that rounding took past an end is the end."""
    try:
        value = value.item() if callable(getattr(value, "item", None)) else value  # a scalar of numpy
        number = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except Exception:  # whatever the engine gave may raise anything
        return None
    return max(0.0, min(1.0, number)) if -1e-9 <= number <= 1 + 1e-9 else None


def _short_repr(value: Any) -> str:
    try:
        return _clean(reprlib.repr(value))[:MAX_IGNORED]
    except Exception:  # user code, or an int of more digits than Python writes
        return type(value).__name__[:MAX_IGNORED]


class ProgressSender:
    """The ``progress`` of an attempt: checks, keeps from falling, and sends at most every 50 ms."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._highest, self._message = 0.0, ""
        self._next_send = 0.0
        self._is_sent, self._is_warned, self._is_closed = True, False, False
        # guards all fields; held while a frame is sent, so that they keep their order
        self._lock = threading.Lock()

    def __call__(self, fraction: float, message: str = "") -> None:
        """Report ``fraction`` (0.0-1.0; others are ignored, with a warning) and a text of 500 characters."""
        value, text = _fraction(fraction), _clean(str(message)[:MAX_MESSAGE])
        with self._lock:
            if self._is_closed:
                return
            if value is not None:
                self._highest = max(self._highest, value)
            elif not self._is_warned:
                self._is_warned = True
                self._send({"ignored": _short_repr(fraction)})
            self._message, self._is_sent = text, False
            if time.monotonic() >= self._next_send:
                self._flush()

    def _flush(self) -> None:
        if not self._is_sent:
            self._next_send, self._is_sent = time.monotonic() + PROGRESS_INTERVAL_SECONDS, True
            self._send({"progress": self._highest, "message": self._message})

    def close(self) -> None:
        """Send the newest report, if it was held back; threads that are left report no more."""
        with self._lock:
            self._flush()
            self._is_closed = True


async def _awaited(value: Awaitable[T]) -> T:
    return await value


def _completed(value: Any) -> Any:
    """What a call gave, awaited where it must be: an engine may be ``async def``."""
    if not inspect.isawaitable(value):
        return value
    return asyncio.run(_awaited(value))


# Made beforehand: when it is needed there may be no memory left to make it.
OUT_OF_MEMORY = Outcome(error_type="out_of_memory", message="the engine got no more memory (MemoryError)")
NO_MEMORY_TEXT = re.compile(
    r"out of memory|cannot allocate memory|unable to allocate|bad_alloc|memory allocation of \d+ bytes failed",
    re.I,
)


def _name_and_message(error: BaseException) -> tuple[str, str]:
    """The class of an exception and its text, whatever its ``__str__`` does."""
    name = _clean(type(error).__name__)[:MAX_ERROR_TYPE]
    try:
        return name, _clean(str(error))[:MAX_ERROR_MESSAGE] or name
    except BaseException as second:  # user code, which may raise KeyboardInterrupt as well
        return name, f"(its message cannot be read: {type(second).__name__})"


def _failure(error: BaseException) -> Outcome:
    """The outcome of an exception."""
    name, message = _name_and_message(error)
    text = _clean("".join(traceback.format_tb(error.__traceback__)[-20:]))
    return Outcome(error_type=name, message=message, traceback=text[-MAX_TRACEBACK:] or None)


def _memory_cap_hit(error: BaseException, message: str) -> int:
    """This process's cap in bytes, if it stood at it when a library raised ``error`` of some kind; else 0."""
    cap, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if cap == resource.RLIM_INFINITY:
        return 0
    cause: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM):
            return cap
        cause = cause and (cause.__cause__ or cause.__context__)
    # What the frames of its traceback hold is held still.
    held = re.search(r"^VmData:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text(), re.MULTILINE)
    is_near = held is not None and int(held[1]) * 1024 > cap - cap // 10
    return cap if is_near or NO_MEMORY_TEXT.search(message) else 0


def _error_outcome(error: BaseException) -> Outcome:
    """The outcome of an attempt that an exception has ended."""
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    try:
        found = _failure(error)
        if not (cap := _memory_cap_hit(error, found.message)):
            return found
        setting = f"the process stood at its cap, QTM_TASK_MEMORY_MB ({cap >> 20} MB)"
        message = f"{setting}: {found.error_type}: {found.message}"[:MAX_ERROR_MESSAGE]
        return found._replace(error_type="out_of_memory", message=message)
    except (MemoryError, OSError):  # OSError: of /proc, for want of memory
        return OUT_OF_MEMORY


def run_key(name: str, engine: Any, task: TaskRequest) -> tuple[str, str | None]:
    """The SHA-256 of all that a task's result depends on, and its data version. Raises what ``data_version``
    raises, and TypeError where that gives no text."""
    version = _completed(engine.data_version(task)) if hasattr(engine, "data_version") else None
    if hasattr(engine, "data_version") and not isinstance(version, str):
        raise TypeError(f"it gave {_short_repr(version)}, which is no text")
    parts = [name, engine_version(engine), task.stock_code, task.config, task.params, version]
    return hashlib.sha256(sorted_json(parts).encode()).hexdigest(), version


def _key_facts(name: str, engine: Any, task: TaskRequest) -> tuple[str | None, str | None, str]:
    """The same; None, None and why where there is no key."""
    try:
        key, version = run_key(name, engine, task)
        return key, version and _clean(version)[:MAX_DATA_VERSION], ""
    except MemoryError:
        raise
    except BaseException as error:  # user code
        return None, None, ": ".join(_name_and_message(error))


def run_attempt(engine: BacktestEngine, task: TaskRequest, progress: Progress, name: str = "") -> Outcome:
    """Run one attempt on the engine of this name, and make JSON of its result."""
    try:
        facts = task_facts(task)  # before the engine may change them
        key, data_version, fault = _key_facts(name, engine, task)
        result = _completed(engine(task, progress))
    except InvalidTask as error:
        message = _clean(error.message)[:MAX_ERROR_MESSAGE]
        return Outcome(error_type="invalid_task", message=message, retryable=False)
    except BaseException as error:  # user code: SystemExit and KeyboardInterrupt end its attempt, not ours
        return _error_outcome(error)
    try:
        document = result_document(result)
        metrics, left_out = result_metrics(document.plain)
        ranked = RunFacts._make([*facts, key, *sharpe_facts(metrics), data_version])
        # most are empty, and to encode one takes 3 us
        listed = document.non_finite, document.converted
        non_finite, converted = (dump_json(one) if one else "[]" for one in listed)
        found = Outcome(document.text, non_finite, converted, dump_json(metrics) if metrics else "{}", ranked)
    except BaseException as error:  # conversion calls methods of user objects
        failed = _error_outcome(error)
        if failed.error_type == "out_of_memory":
            return failed
        return Outcome(error_type="invalid_result", message=failed.message, retryable=False)
    if (size := found.result_bytes) > MAX_RESULT_BYTES:
        message = f"the result, its non_finite and converted have {size} bytes, more than {MAX_RESULT_BYTES}"
        return Outcome(error_type="result_too_large", message=message, retryable=False)
    notes = [f"the task has no run_key: data_version: {fault}"] if fault else []
    if left_out:
        most = f"{MAX_METRICS} are kept, with names of up to {MAX_METRIC_NAME} characters"
        notes.append(f"{left_out} metrics of the result are in no list and no ranking: {most}")
    for note in notes:
        with contextlib.suppress(Exception):  # the engine may have closed or replaced it
            print(f"qtm: {note}", file=sys.stderr)
    return found


class TaskFault(NamedTuple):
    """Why an engine's ``validate`` refuses one of several tasks: its place, a field's path, and the fault."""

    place: int
    field: str
    message: str


def validation_faults(engine: Any, tasks: Iterable[TaskRequest], most: float = MAX_LISTED) -> list[TaskFault]:
    """What the engine's ``validate`` refuses; it stops looking after so many tasks."""
    faults: dict[int, list[TaskFault]] = {}
    for place, task in enumerate(tasks):
        try:
            _completed(engine.validate(task))
        except BaseException as error:  # user code; any exception refuses the task
            # without the traceback: a sweep that skips may hold 100,000 refusals, and has 10 s
            (name, text), is_refusal = _name_and_message(error), isinstance(error, InvalidTask)
            listed = getattr(error, "errors", None) if is_refusal else None  # as user code made it
            listed = listed if isinstance(listed, (list, tuple)) else ()
            message = text if is_refusal else f"{name}: {text}"
            named = [one for one in listed if isinstance(one, FieldError)] or [FieldError("params", message)]
            faults[place] = [TaskFault(place, _clean(str(field)), _clean(str(why))) for field, why in named]
        if len(faults) >= most:
            break
    return [fault for found in faults.values() for fault in found]


def _engine_answer(engine: BacktestEngine, question: Mapping[str, Any], name: str) -> Outcome:
    """The faults that ``validate`` finds in tasks, or without ``most`` their run_keys, as a result."""
    tasks = itertools.starmap(TaskRequest, question["tasks"])
    if "most" in question:
        found: list[Any] = validation_faults(engine, tasks, question["most"])
    else:
        found = [_key_facts(name, engine, task)[0] for task in tasks]
    return Outcome(dump_json(found))


# ==== 32 Processes ==========================================================================================
# How Linux describes and controls processes, and what other systems lack.

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 4, 15, 36
DESCRIPTOR = struct.Struct("i")


@functools.cache
def _find_prctl() -> Any:
    """The system call, or None where there is none: only Linux has it."""
    return getattr(ctypes.CDLL(None), "prctl", None)


def _prctl(option: int, value: int | bytes) -> None:
    if prctl := _find_prctl():
        prctl(option, value, 0, 0, 0)


def sees_processes() -> bool:
    """Whether this system has prctl (subreapers, death signals) and /proc, by which no process escapes."""
    return _find_prctl() is not None and os.path.isdir("/proc/self/task")


def read_small_file(path: str) -> bytes:
    """As open() does it, in a quarter of its time."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 65536)
    finally:
        os.close(file)


def _write_own(name: str, value: int) -> None:
    """Set a value of this process in /proc, where that is there and permits it."""
    with contextlib.suppress(OSError):
        file = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(file, b"%d" % value)
        os.close(file)


def _children(pid: int | str = "self") -> list[int]:
    """The pids of a process's children, of all its threads; empty where the system does not tell."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended, or there is no /proc
        for thread in os.listdir(f"/proc/{pid}/task"):
            # One that has ended in between leaves its children to another one.
            with contextlib.suppress(OSError):
                found += map(int, read_small_file(f"/proc/{pid}/task/{thread}/children").split())
    return found


def receive_descriptors(sock: socket.socket, size: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """The next data of a Unix socket, and the descriptors with it; socket.recv_fds() ignores its flags."""
    data, found, _, _ = sock.recvmsg(size, socket.CMSG_LEN(4 * DESCRIPTOR.size), flags)
    return data, [number for _, _, part in found for (number,) in DESCRIPTOR.iter_unpack(part)]


# ==== 33 Engine process =====================================================================================
# The process that runs attempts. All engine processes of a slot share three descriptors of their host: a
# datagram socket, from which the active process reads one task at a time; a pipe of frames to the service; a
# pipe for stdout and stderr. Hence the service can take an unread task back without knowing which process is
# active.

LOG_HANDLERS_SECONDS = 1.0  # for what they hold back, once an attempt has ended
# they may go to the whole group; the service decides what ends
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TASK_NICE = 10  # engines yield to the service, so that the API stays responsive
TASK_OOM_SCORE = 500  # when the machine runs out of memory, the kernel ends an engine before anything else
# has an engine process write where it is
STACKS_SIGNAL = signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR2
# as `ps -e` and `top` show them
HOST_FOLDER = "qtm-engine-"  # begins the name of the folder that holds TMPDIR of attempts
SERVER_NAME, ENGINE_HOST_NAME, ENGINE_NAME = "qtm-server", "qtm-host", "qtm-engine"
# before each piece of a frame: the slot's marker, the writer's pid, the bytes of the piece, whether it is the
# last
PIECE_HEAD = struct.Struct("!8sIH?")
PIECE_BYTES = select.PIPE_BUF - PIECE_HEAD.size  # the kernel writes up to PIPE_BUF bytes in one piece
# datagrams with boundaries and an end; where there are none (macOS), without an end
PACKETS = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
MAX_PACKET_BYTES = 65536 if sys.platform == "linux" else 2000  # a larger task is sent as a file


class ProcessPlan(NamedTuple):
    """What hosts and engine processes are to do; from the settings of the service."""

    engine: str
    sys_path: list[str]
    memory_bytes: int  # of all processes of an attempt together, and of each; 0 sets no limit
    start: str  # fork or spawn; empty: by what the import leaves
    data_dir: str  # QTM_DATA_DIR
    command: list[str]  # begins the command line of an engine server


class SlotEnds(NamedTuple):
    """What the processes of a slot share."""

    tasks: socket.socket
    frames: int
    output: int
    marker: bytes  # begins each piece of a frame, and ends the output of an attempt
    unsent: bytearray  # pieces of frames: an outcome is written together with the start of the next task
    turn: int = -1  # of each process alone: gives a byte when it is to take tasks

    def send(self, frame: Mapping[str, Any], *documents: str, is_held: bool = False) -> None:
        """Send a frame, and documents of JSON behind it, each a line; ``is_held``: with the next frame, or
        before the next wait for a task."""
        body = "\n".join((dump_json(frame), *documents)).encode()
        for start in range(0, len(body), PIECE_BYTES):
            piece = body[start : start + PIECE_BYTES]
            head = PIECE_HEAD.pack(self.marker, os.getpid(), len(piece), start + PIECE_BYTES >= len(body))
            if len(self.unsent) + len(head) + len(piece) > select.PIPE_BUF:
                self.flush()
            self.unsent.extend(head + piece)
        if not is_held:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self.unsent:
            os.write(self.frames, self.unsent)
            self.unsent.clear()

    def receive(self) -> tuple[int, Any] | None:
        """Wait for a task: its number, and the task. None when the service has gone."""
        while True:
            try:
                # not blocked in recv(): a process that is killed there may take a task with it
                data, files = receive_descriptors(self.tasks, MAX_PACKET_BYTES, socket.MSG_DONTWAIT)
                break
            except BlockingIOError:
                self.flush()
                arrival = select.poll()
                arrival.register(self.tasks, select.POLLIN)
                arrival.poll()
        for file in files:
            with open(file, "rb") as stream:
                data = stream.read()
        number, _, body = data.partition(b" ")
        return (int(number), json.loads(body)) if data else None


def _flush_log_handlers(handlers: Sequence[logging.Handler], is_last: bool) -> None:
    """Flush handlers, and before them the queues of QueueListeners, whose threads are not there in a fork."""
    module = sys.modules.get("logging.handlers")
    if module and any(isinstance(one, module.QueueHandler) for one in handlers):
        for listener in [one for one in gc.get_objects() if issubclass(type(one), module.QueueListener)]:
            with contextlib.suppress(AttributeError):  # its thread was never started
                listener.stop()
            with contextlib.suppress(queue.Empty):
                while True:
                    # or the sign for the thread to end
                    if isinstance(record := listener.dequeue(False), logging.LogRecord):
                        listener.handle(record)
    if is_last:
        return logging.shutdown()
    for handler in reversed(handlers):
        with contextlib.suppress(Exception):  # user code, whose fault must not keep others from it
            handler.flush()


def _flush_logs(is_last: bool) -> None:
    """Have log handlers write what `os._exit` would throw away; waits a second at most."""
    found = [one() for one in logging._handlerList]  # type: ignore[attr-defined]
    handlers = [one for one in found if one is not None and one is not logging.lastResort]
    if not handlers:
        return
    thread = threading.Thread(target=_flush_log_handlers, args=(handlers, is_last), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no memory for one
        return
    thread.join(LOG_HANDLERS_SECONDS)
    if thread.is_alive():
        text = f"qtm: a log handler did not flush within {LOG_HANDLERS_SECONDS:g} s; what it holds back is lost\n"
        with contextlib.suppress(OSError):  # the engine may have closed it
            os.write(2, text.encode())


def _flushed_streams() -> bool:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # the engine has closed or replaced them
        return False
    return True


def _print_to(output: int) -> None:
    for number in (1, 2):
        os.dup2(output, number)


class FreshState:
    """What the next attempt in a warm process must find as in a fresh one. Modules stay as they are."""

    def __init__(self, output: int) -> None:
        folder = os.environ.get("TMPDIR", "")
        self._folder = folder if HOST_FOLDER in folder else ""
        self._output = output
        self._work_folder = os.getcwd()
        self._environment = dict(os.environ)
        self._raw_environment = dict(os.environ._data)  # type: ignore[attr-defined]  # compared in 2 us instead of 70
        self._threads = threading.active_count()
        self._signals = list(map(_signal.getsignal, range(1, signal.NSIG)))
        self._streams = sys.stdout, sys.stderr
        self._logging = list(logging.root.handlers), logging.root.level
        numpy_random = sys.modules.get("numpy.random")
        self._numpy_state = numpy_random.get_state() if numpy_random else None
        self._cpu_seconds = 0.0

    def take_usage(self) -> tuple[int, float]:
        """Peak memory and CPU seconds since the last call."""
        own, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        before = self._cpu_seconds
        self._cpu_seconds = own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime
        _write_own("clear_refs", 5)  # the kernel forgets the peak; without /proc it is that of all attempts
        return max(own.ru_maxrss, below.ru_maxrss) * 1024, round(self._cpu_seconds - before, 6)

    def restore(self) -> bool:
        """Whether the next attempt may begin here; False when children, threads or files are left."""
        with contextlib.suppress(ChildProcessError):  # there is none
            os.waitpid(-1, os.WNOHANG)
            return False
        try:
            if threading.active_count() != self._threads:
                return False
            self._restore()
        except Exception:  # user code may have put anything in the place of anything
            return False
        return True

    def _restore(self) -> None:
        os.chdir(self._work_folder)
        if os.environ._data != self._raw_environment:  # type: ignore[attr-defined]
            os.environ.clear()
            os.environ.update(self._environment)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        _signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number, handler in enumerate(self._signals, 1):
            if _signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        sys.stdout, sys.stderr = self._streams
        _print_to(self._output)
        handlers, level = self._logging
        logging.root.handlers[:] = handlers
        if logging.root.level != level:
            logging.root.setLevel(level)
        # as Python does after a fork, but from 32 bytes: the 2,500 of random.seed() take as long as a small backtest
        random.seed(int.from_bytes(os.urandom(32), "big"))
        if numpy_random := sys.modules.get("numpy.random"):
            numpy_random.set_state(self._numpy_state) if self._numpy_state else numpy_random.seed()
        if self._folder and os.listdir(self._folder):
            shutil.rmtree(self._folder)
            os.mkdir(self._folder, 0o700)


def _send_outcome(ends: SlotEnds, frame: dict[str, Any], outcome: Outcome) -> None:
    if outcome.result_json is not None:
        listed = outcome.non_finite_json, outcome.converted_json
        documents = outcome.result_json, *listed, outcome.metrics_json
        return ends.send({**frame, "facts": outcome.facts}, *documents, is_held=True)
    error = outcome.error_type, outcome.message, outcome.traceback, outcome.retryable
    ends.send({**frame, "error": error}, is_held=True)


def _run_one(
    engine: BacktestEngine, name: str, number: int, values: Mapping[str, Any], ends: SlotEnds
) -> Outcome:
    if "tasks" in values:
        return _engine_answer(engine, values, name)
    progress = ProgressSender(lambda frame: ends.send({"task": number, **frame}))
    outcome = run_attempt(engine, TaskRequest.from_dict(values), progress, name)
    progress.close()
    return outcome


def _run_tasks(engine: BacktestEngine, name: str, tasks: int, ends: SlotEnds) -> None:
    """Take tasks, run them, send how each ended. The process ends after so many, and after an error."""
    state: FreshState | None = None
    for left in range(tasks - 1, -1, -1):
        if (task := ends.receive()) is None:
            return
        number, values = task
        if left and not state:
            state = FreshState(ends.output)
            _prctl(PR_SET_CHILD_SUBREAPER, 1)  # what an attempt leaves is seen here
        about = {"task": number, "pid": os.getpid(), "at": time.monotonic()}
        ends.send({**about, "version": engine_version(engine)})
        outcome = _run_one(engine, name, number, values, ends)
        if os.getpid() != about["pid"]:  # of a child that the engine forked: only its parent's outcome counts
            _flushed_streams()
            ends_well = ("SystemExit", "0"), ("SystemExit", "SystemExit")  # sys.exit(0), sys.exit()
            os._exit(bool(outcome.error_type) and (outcome.error_type, outcome.message) not in ends_well)
        # of a process that ends, its host knows more
        ending: dict[str, Any] = {"task": number, "usage": None}
        if left and state and outcome.error_type is None:
            _flush_logs(False)
            if _flushed_streams() and state.restore():
                ending["usage"] = state.take_usage()
                os.write(ends.output, ends.marker)
        try:
            _send_outcome(ends, ending, outcome)
        except MemoryError:
            ending["usage"] = None
            _send_outcome(ends, ending, OUT_OF_MEMORY)
        if ending["usage"] is None:
            return ends.flush()


def _spawned_engine(reference: str) -> BacktestEngine:
    """The engine, imported by this process itself, in silence, since the server has logged what its import
    prints. One that cannot be imported now fails every task."""
    output, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    _print_to(nowhere)
    try:
        return load_engine(reference)
    except EngineError as error:
        fault = error

        def fail(task: TaskRequest, progress: Progress) -> Mapping[str, Any]:
            raise fault

        return fail
    finally:
        _print_to(output)
        os.close(output)
        os.close(nowhere)


def _rehearse(ends: SlotEnds) -> None:
    """Run an empty attempt in advance, and send nothing: a fork copies each page of memory when it first writes
    to it, for which the first attempt would wait 0.7 ms."""
    values = json.loads('{"stock_code": "", "config": {}, "params": {}}')
    outcome = _run_one(lambda task, progress: {}, "", 0, values, ends)
    _send_outcome(ends, {"task": 0, "usage": None}, outcome)
    ends.unsent.clear()


def engine_process(
    engine: BacktestEngine | None, plan: ProcessPlan, tasks: int, ends: SlotEnds, host_pid: int
) -> None:
    """The life of an engine process; never returns. Its host prepares all that it can: each page of memory
    that is written after the fork is copied, at 2 us."""
    os.setsid()
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != host_pid:
        os._exit(70)  # the host died before the line above
    # Linux may weigh sessions instead of processes, and then nice says nothing outside of one
    os.nice(TASK_NICE)
    _write_own("autogroup", TASK_NICE)
    _prctl(PR_SET_NAME, ENGINE_NAME.encode())
    if plan.memory_bytes:  # the cap of one process; the host holds that of all together
        resource.setrlimit(resource.RLIMIT_DATA, (plan.memory_bytes, plan.memory_bytes))
    for number in (*STOP_SIGNALS, signal.SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)
    engine = engine or _spawned_engine(plan.engine)
    _rehearse(ends)
    if not os.read(ends.turn, 1):  # the host has gone
        os._exit(0)
    _run_tasks(engine, plan.engine, tasks, ends)
    _flush_logs(True)
    _flushed_streams()
    os._exit(0)  # threads that the engine left behind end here


# ==== 34 Temporary folders ==================================================================================
# TMPDIR of engine processes. Each host has one, in a folder that is locked as long as one of its processes lives.

MAX_FOLDER_BYTES = 75  # of TMPDIR: multiprocessing adds 32 to name a Unix socket in it, of 107 at most


def _lock_folder(path: str) -> int | None:
    """Lock a folder for all forks of this process; None if it is locked, or gone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        os.close(descriptor)
    return None


def _folder_of_hosts() -> str:
    """Where hosts make their folders, as tempfile chooses it; that would take 5 ms to import."""
    paths = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    paths = [path for path in (*paths, "/tmp", "/var/tmp") if path and os.access(path, os.W_OK | os.X_OK)]
    return os.path.abspath(paths[0] if paths else ".")


def remove_left_folders() -> None:
    """Remove the folders of hosts that were killed, once all of their processes have ended."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(_folder_of_hosts()):
            if entry.name.startswith(HOST_FOLDER) and (left := _lock_folder(entry.path)) is not None:
                shutil.rmtree(entry.path, ignore_errors=True)
                os.close(left)


class TemporaryFolder:
    """TMPDIR of this host and all below it, empty whenever a process begins; not used where it cannot be made."""

    def __init__(self) -> None:
        self._path, parent, name = "", _folder_of_hosts(), HOST_FOLDER + os.urandom(4).hex()
        path, hidden = os.path.join(parent, name, "attempts"), os.path.join(parent, f".{name}")
        if len(os.fsencode(path)) > MAX_FOLDER_BYTES:
            return
        with contextlib.suppress(OSError):
            os.mkdir(hidden, 0o700)
            if _lock_folder(hidden) is None:
                os.rmdir(hidden)
                return
            os.rename(hidden, os.path.dirname(path))  # only once it is locked: servers remove the others
            os.environ["TMPDIR"] = self._path = path
            if module := sys.modules.get("tempfile"):  # by the engine
                vars(module)["tempdir"] = path
            self.empty()

    def empty(self) -> None:
        """Remove what a process has left in it."""
        shutil.rmtree(self._path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.mkdir(self._path, 0o700)

    def remove(self) -> None:
        """With all in it."""
        shutil.rmtree(os.path.dirname(self._path), ignore_errors=True)


# ==== 35 Engine host ========================================================================================
# The parent of a slot's engine processes; it runs no user code. It forks the next engine process in advance
# and activates it when the process before, with all its descendants, has ended. It adopts orphaned descendants
# (child subreaper). It kills them when they use too much memory, and when the service asks for it: SIGTERM, then
# SIGKILL after 2 s. The engine slot watches the time. When the service dies, it reads the end of its socket,
# kills its processes and exits.

KILL_GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL
# for a process that removes shared memory of others, once those are killed: it may wait for a CPU
RESOURCE_TRACKER_SECONDS = 8.0
LAST_KILL_SECONDS = 5.0  # for killed processes to end: one in the kernel must not hold the slot for ever
MEMORY_POLL_SECONDS = 0.1
STACKS_SECONDS = 1.0  # for an engine process to write its stacks, once its time is over
STACKS_QUIET_SECONDS = 0.1  # without another byte of them: they are whole
MAX_STACKS_BYTES = 256 * 1024  # that are read; the report has no more of them than an error
SHORT_LIFE_SECONDS = 0.1  # a process that failed within it delays the next by as much


class Control:
    """Lines of JSON, with descriptors, on the socket between the service and its server or a host."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.descriptors: list[int] = []  # that came with the last message: the kernel ends a read after it
        self._text = b""

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """In ASCII, as names of folders may be no UTF-8. `receive` finds out when the other end has gone."""
        with contextlib.suppress(OSError):
            socket.send_fds(self.socket, [json.dumps(message).encode() + b"\n"], descriptors)

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have arrived, or None at the end."""
        try:
            flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
            data, self.descriptors = receive_descriptors(self.socket, 1 << 16, flags)
        except OSError:
            return None
        *lines, self._text = (self._text + data).split(b"\n")
        return [json.loads(line) for line in lines] if data else None

    def first(self) -> dict[str, Any] | None:
        """The first message, once all of it is there, or None at the end."""
        while (messages := self.receive()) == []:
            pass
        return messages[0] if messages else None


def _ignore_signal(_number: int, _frame: Any) -> None:
    """A handler that lets the signal wake a wait, and no more."""


class ChildSignal:
    """Lets a single-threaded process wait for a message or for a child to end, whichever comes first."""

    def __init__(self, control: Control) -> None:
        self._wake, notify = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(notify, False)
        signal.set_wakeup_fd(notify, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore_signal)
        # not select(), which refuses descriptors from 1024 on: a busy service passes such a number on
        self._poll = select.poll()
        self._poll.register(control.socket, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def wait(self, seconds: float = math.inf) -> bool:
        """True when there is a message; False when a child may have ended, or after ``seconds``."""
        timeout = None if seconds == math.inf else max(0.0, 1000 * seconds)
        found = [descriptor for descriptor, _ in self._poll.poll(timeout)]
        if self._wake in found:
            os.read(self._wake, 4096)
        return bool(set(found) - {self._wake})


def _tracks_resources(pid: int) -> bool:
    """Whether a process removes shared memory and semaphores of killed ones (multiprocessing, joblib's loky),
    or is about to: in the middle of an exec the command line is empty."""
    try:
        command = read_small_file(f"/proc/{pid}/cmdline")
        return not command or b"resource_tracker import main" in command
    except OSError:
        return False


def _memory_bytes(pid: int) -> int:
    """Anonymous and shared memory of a process and all below it; a page that several share is divided."""
    size = 0
    with contextlib.suppress(OSError):
        for line in read_small_file(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")):
                size += int(line.split()[1]) * 1024
    return size + sum(map(_memory_bytes, _children(pid)))


class HostedProcess:
    """An engine process as its host sees it."""

    def __init__(self, pid: int, turn: int) -> None:
        self.pid = pid
        self.turn = turn  # gives it its turn
        self.began_at = 0.0  # when it was given its turn
        self.deadline = math.inf  # when SIGTERM was not enough
        self.stacks = ""
        self.is_out_of_memory = False
        self._next_memory_check = 0.0
        self._max_rss_bytes = 0
        self._cpu_seconds = 0.0

    def begin(self) -> None:
        """Let it take tasks."""
        with contextlib.suppress(BrokenPipeError):  # it has just ended
            os.write(self.turn, b"x")
        os.close(self.turn)
        self.began_at = time.monotonic()

    def add_usage(self, usage: Any) -> None:
        """Of the process or of one that it left, each with all that it has waited for itself."""
        self._max_rss_bytes = max(self._max_rss_bytes, usage.ru_maxrss * 1024)
        self._cpu_seconds += usage.ru_utime + usage.ru_stime

    def report(self, code: int) -> dict[str, Any]:
        """The frame of its end."""
        usage = self._max_rss_bytes, round(self._cpu_seconds, 6)
        return {"exit": code, "usage": usage, "out_of_memory": self.is_out_of_memory, "stacks": self.stacks}

    def check_memory(self, limit: int) -> None:
        """Kill it when it and all below it hold more. Measuring takes a tenth of the time at most."""
        started = time.monotonic()
        if started >= self._next_memory_check and not self.is_out_of_memory:
            self.is_out_of_memory = _memory_bytes(self.pid) > limit
            self._next_memory_check = time.monotonic() + 9 * (time.monotonic() - started)
            if self.is_out_of_memory:
                self.kill(signal.SIGKILL)

    def kill(self, number: int) -> None:
        """Signal its group, and itself in case it has none yet; itself alone while a tracker must tidy up."""
        alone = number == signal.SIGKILL and any(map(_tracks_resources, _children(self.pid)))
        for kill in (os.kill,) if alone else (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, number)

    def read_stacks(self, pipe: int) -> None:
        """Have it write the Python stacks of all its threads, and read them."""
        os.kill(self.pid, STACKS_SIGNAL)  # not reaped yet: the pid is its own
        found, deadline = b"", time.monotonic() + STACKS_SECONDS
        while len(found) < MAX_STACKS_BYTES and (left := deadline - time.monotonic()) > 0:
            seconds = min(left, STACKS_QUIET_SECONDS) if found else left
            if not select.select([pipe], [], [], seconds)[0]:
                break
            found += os.read(pipe, MAX_STACKS_BYTES - len(found))
        threads = _clean(found.decode("utf-8", "replace")).strip().split("\n\n")
        # the main thread, written last, before what may be cut
        self.stacks = "\n\n".join([threads[-1], *threads[:-1]])[:MAX_TRACEBACK]


class EngineHost:
    """A slot's host. Single-threaded; a signal only wakes it."""

    def __init__(
        self, control: Control, ends: SlotEnds, begin: Callable[[SlotEnds, int], None], memory_bytes: int
    ) -> None:
        self._stacks, stacks = os.pipe()
        # in C, since a Python handler waits for C code to return; for the processes that are forked
        faulthandler.register(STACKS_SIGNAL, file=stacks, all_threads=True, chain=False)
        self._control = control
        self._ends = ends
        self._memory_bytes = memory_bytes  # of a process and all below it; 0: without limit
        self._begin = begin  # the life of an engine process
        self._folder = TemporaryFolder()
        self._process: HostedProcess  # whose turn it is
        self._standby: HostedProcess | None = None  # the next

    def run(self) -> None:
        """Until the service has gone. Raises OSError when there is no process."""
        children, is_open = ChildSignal(self._control), True
        self._ends.send({"host": os.getpid()})
        self._advance()
        try:
            while is_open:
                pause = MEMORY_POLL_SECONDS if self._memory_bytes else math.inf
                if children.wait(min(pause, self._process.deadline - time.monotonic())):
                    is_open = self._obey()
                self._reap()
                if self._memory_bytes:
                    self._process.check_memory(self._memory_bytes)
                if time.monotonic() >= self._process.deadline:
                    self._process.kill(signal.SIGKILL)
                    self._process.deadline = time.monotonic() + 1.0
        finally:
            self._kill_children(set())
            self._folder.remove()

    def _obey(self) -> bool:
        messages = self._control.receive()
        for message in messages or ():
            process = self._process
            if message["stop"] == process.pid and process.deadline == math.inf:
                if message["stacks"]:
                    process.read_stacks(self._stacks)
                process.kill(signal.SIGTERM)
                process.deadline = time.monotonic() + KILL_GRACE_SECONDS
        return messages is not None

    def _advance(self) -> None:
        self._process, self._standby = self._standby or self._fork(), None
        self._process.begin()
        with contextlib.suppress(OSError):  # no process now: it is tried again when it is needed
            self._standby = self._fork()

    def _fork(self) -> HostedProcess:
        turn, give_turn = os.pipe()
        host_pid, ends, control = os.getpid(), self._ends._replace(turn=turn), self._control.socket.fileno()
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                os.close(control)  # its end must be the host's alone, so that its death is seen
                os.close(give_turn)
                self._begin(ends, host_pid)
            finally:
                os._exit(70)
        os.close(turn)
        return HostedProcess(pid, give_turn)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.wait4(-1, os.WNOHANG))[0]:
                pid, status, usage = found
                if self._standby and pid == self._standby.pid:
                    os.close(self._standby.turn)
                    self._standby = None
                    continue
                self._process.add_usage(usage)  # or it was adopted, and ended by itself
                if pid == self._process.pid:
                    self._end_process(os.waitstatus_to_exitcode(status))

    def _end_process(self, code: int) -> None:
        """End what the process left, report its end, and let the next one begin."""
        process = self._process
        self._kill_children({self._standby.pid} if self._standby else set())
        self._folder.empty()
        os.write(self._ends.output, self._ends.marker)
        self._ends.send(process.report(code))
        if code and time.monotonic() - process.began_at < SHORT_LIFE_SECONDS:
            time.sleep(SHORT_LIFE_SECONDS)
        self._advance()

    def _kill_children(self, kept: Set[int]) -> None:
        """Kill and reap all children but these. Those of a killed one become ours, and are killed next."""
        children = set(_children()) - kept
        if not any(map(_tracks_resources, children)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        spared_until = time.monotonic() + RESOURCE_TRACKER_SECONDS
        while children and time.monotonic() < spared_until + LAST_KILL_SECONDS:
            for pid in children:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    if not _tracks_resources(pid) or time.monotonic() >= spared_until:
                        os.kill(pid, signal.SIGKILL)
                    ended, _, usage = os.wait4(pid, os.WNOHANG)
                    if ended:
                        self._process.add_usage(usage)
            time.sleep(0.001)
            children = set(_children()) - kept


def _be_host(
    request: Mapping[str, Any], descriptors: Sequence[int], engine: BacktestEngine | None, plan: ProcessPlan
) -> None:
    """The life of a host. The request has ``tasks``, how many a process runs, and the slot's ``marker``."""
    control, tasks = (socket.socket(fileno=one) for one in descriptors[:2])
    frames, output = descriptors[2:]
    ends = SlotEnds(tasks, frames, output, bytes.fromhex(request["marker"]), bytearray())
    _prctl(PR_SET_NAME, ENGINE_HOST_NAME.encode())  # before it leaves the server's session, see `kill_strays`
    os.setsid()
    _write_own("oom_score_adj", TASK_OOM_SCORE)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _print_to(ends.output)
    for number, name in enumerate(("stdout", "stderr"), 1):
        setattr(sys, name, open(number, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False))
    with contextlib.suppress(Exception):  # the engine has broken a module: its first attempt will tell
        # until Python has specialized the bytecode of an attempt: the forks share its pages
        for _ in range(10):
            _rehearse(ends)
    begin = functools.partial(engine_process, engine, plan, request["tasks"])
    try:
        EngineHost(Control(control), ends, begin, plan.memory_bytes).run()
    except OSError as error:
        with contextlib.suppress(OSError):  # the service has gone
            ends.send({"no_process": str(error)})


# ==== 36 Engine server process ==============================================================================
# The process that imports the engine once and forks one host per slot. It kills what a killed host has left,
# and ends when the service does.

IMPORT_END_SECONDS = 1.0  # for threads and exit handlers of the import, once the server ends
MAX_LEFT = 20  # threads or sockets that are named


def _kill_unless_host(pid: int) -> None:
    with contextlib.suppress(OSError):  # it has gone
        if read_small_file(f"/proc/{pid}/comm").strip().decode() != ENGINE_HOST_NAME:
            os.kill(pid, signal.SIGKILL)


def kill_strays(kept: Iterable[int] = ()) -> None:
    """Kill and reap the processes that this one adopted as a subreaper from a host that was killed. Attempts
    have sessions of their own, and hosts have a name. Call it whenever a child has ended: children of a
    killed one are adopted next."""
    session = os.getsid(0)
    for pid in set(_children()) - set(kept):
        with contextlib.suppress(OSError):  # it has gone
            if os.getsid(pid) != session and not os.waitpid(pid, os.WNOHANG)[0]:
                _kill_unless_host(pid)


def trim_memory() -> None:
    """Return malloc's free memory to the system (glibc): a third of an idle service's, after its imports."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _serve_hosts(control: Control, engine: BacktestEngine | None, plan: ProcessPlan) -> None:
    """Fork a host for every request, and end what dead hosts leave, as long as the service lives."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _prctl(PR_SET_PDEATHSIG, 0)  # from now on the end of the control socket says that the service has gone
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the engine's import may have blocked SIGCHLD
    started_by_import, hosts = _children(), set[int]()
    children = ChildSignal(control)
    remove_left_folders()
    gc.collect()
    trim_memory()
    gc.freeze()  # a collection in a fork would copy every page that holds an object
    while True:
        while not children.wait():
            kill_strays({*started_by_import, *hosts})
            with contextlib.suppress(ChildProcessError):
                while pid := os.waitpid(-1, os.WNOHANG)[0]:
                    hosts.discard(pid)
            remove_left_folders()
        messages = control.receive()
        if messages is None:
            return remove_left_folders()
        for request in messages:
            try:
                if (pid := os.fork()) == 0:
                    try:
                        control.socket.close()
                        _be_host(request, control.descriptors, engine, plan)
                    finally:
                        os._exit(0)
                hosts.add(pid)
            except OSError as error:
                print(f"no process for a host: {error}", file=sys.stderr, flush=True)
            for descriptor in control.descriptors:
                os.close(descriptor)


def _end_import(*by_signal: Any) -> None:
    """At exit, or by SIGALRM if a thread of the engine's import holds the exit up: kill what the import
    started. Hosts end by themselves."""
    for pid in _children():
        _kill_unless_host(pid)
    if by_signal:
        os._exit(0)


def _other_threads() -> list[str]:
    """All threads of this process but this one, those of libraries too: by Python's name or the system's."""
    own = threading.current_thread(), threading.get_native_id()  # in a fork, the former has an older number
    names = {thread.native_id: thread.name for thread in threading.enumerate() if thread is not own[0]}
    with contextlib.suppress(OSError):  # no /proc
        for number in map(int, os.listdir("/proc/self/task")):
            with contextlib.suppress(OSError):  # it has just ended
                names.setdefault(number, read_small_file(f"/proc/self/task/{number}/comm").strip().decode())
    names.pop(own[1], None)
    return sorted(names.values())


def _other_sockets(own: Control) -> list[str]:
    """The addresses of this process's open sockets but ``own``: of the peer, or where one listens."""
    found = []
    for number in map(int, os.listdir("/proc/self/fd") if sees_processes() else []):
        with contextlib.suppress(OSError):  # it was that of the listing, or is no socket
            if number == own.socket.fileno() or not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as one:
                try:
                    address = one.getpeername()
                except OSError:  # not connected
                    address = one.getsockname()
            is_internet = isinstance(address, tuple)
            found.append(
                ":".join(map(str, address[:2])) if is_internet else _clean(os.fsdecode(address)) or "unix"
            )
    return sorted(found)


# why what an import has left matters, and what to do
THREADS_SPAWNED = (
    "no thread is there in a fork: engine processes are started by spawn and import the engine themselves, which takes its time",
    "start threads, and call libraries that have a pool of them (polars, numba with parallel=True), in run() alone",
)
THREADS_LOST = (
    "no thread is there in a fork: an attempt that waits for one, or for a lock that it held, hangs until its timeout",
    "unset QTM_ENGINE_START, or start threads in run() alone, and call libraries that have a pool of them there",
)
SOCKETS_SHARED = "all attempts share a socket, and read each other's answers", "open connections in run()"
HELD_LESS_FIRMLY = (
    "this system lacks prctl or /proc: processes that leave their engine's process group outlive their attempt, QTM_TASK_MEMORY_MB "
    "caps each process alone, a service that is killed may leave engine processes, and engines are started by spawn"
)


def left_by_import(engine: str, ready: Mapping[str, Any]) -> Finding | None:
    """What to say of threads and sockets that the engine's import has left, as its server lists them."""
    threads, sockets, spawns = ready["threads"], ready["sockets"], ready["spawns"]
    named = (threads, "thread"), (sockets, "open socket")
    left = [
        f"{len(names)} {what}{'s' * (len(names) > 1)} ({', '.join(names[:MAX_LEFT])})"
        for names, what in named
        if names
    ]
    found = []
    if threads:
        found.append(THREADS_SPAWNED if spawns else THREADS_LOST)
    if sockets and not spawns:
        found.append(SOCKETS_SHARED)
    if not found:
        return None
    why, remedy = ("; ".join(texts) for texts in zip(*found, strict=True))
    return Finding("warning", "engine import", f"{engine} left {' and '.join(left)}", why, remedy)


def _import_engine(control: Control, plan: ProcessPlan) -> tuple[BacktestEngine, bool] | None:
    """Import the engine and report it; the engine, and whether its processes are to import it themselves."""
    try:
        engine = load_engine(plan.engine)
    except EngineError as error:
        control.send({"failed": _clean(error.message)[:8000]})
        return None
    if plan.engine.startswith(f"{__name__}:"):
        price_path(".", "")  # which imports pathlib here instead of in every fork
    # else every fork would print again what the import has left in them
    for stream in (sys.stdout, sys.stderr):
        # the import may have closed or replaced them
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    # Some libraries end their threads before a fork and start them anew when they need them (OpenBLAS, thus
    # numpy): hence those count that outlive one.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with contextlib.suppress(OSError):  # the system gives no process now
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    threads, sees = _other_threads(), sees_processes()
    spawns = plan.start == "spawn" or (not plan.start and (bool(threads) or not sees))
    said = {"threads": threads, "sockets": _other_sockets(control), "spawns": spawns, "sees_processes": sees}
    said |= {"version": engine_version(engine), "environment": run_environment(plan.engine)}
    control.send({**said, "validates": hasattr(engine, "validate")})
    return engine, spawns


def engine_server_main(arguments: Sequence[str]) -> int:
    """The engine server process: ``engine-server FD PARENT_PID [PLAN]``. It imports the engine, says so, and forks
    hosts on demand. For spawn it begins anew without the engine, with the plan that the service has sent."""
    control = Control(socket.socket(fileno=int(arguments[0])))
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(PR_SET_NAME, SERVER_NAME.encode())
    if os.getppid() != int(arguments[1]):
        return 1  # the service died before the line above
    # close what is inherited, not what this interpreter has opened, for an agent of sitecustomize, say
    listed = os.listdir("/dev/fd") if os.path.isdir("/dev/fd") else ()
    for other in {*map(int, listed)} - {0, 1, 2, control.socket.fileno()}:
        with contextlib.suppress(OSError):  # that of the listing itself
            if os.get_inheritable(other):
                os.close(other)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    given = json.loads(arguments[2]) if arguments[2:] else control.first()
    if given is None:
        return 0  # the service has ended
    plan = ProcessPlan(**given)
    os.environ["QTM_DATA_DIR"], sys.path[:], engine = plan.data_dir, plan.sys_path, None
    if not arguments[2:]:
        sys.argv[1:] = []  # an import that parses the command line is not meant by ours
        atexit.register(_end_import)  # before the import's own, which come first then
        imported = _import_engine(control, plan)
        if imported is None:
            return 1
        engine, spawns = imported
        if spawns:
            _end_import()
            control.socket.set_inheritable(True)
            os.execv(plan.command[0], [*plan.command, *arguments, json.dumps(plan._asdict())])
    _serve_hosts(control, engine, plan)
    signal.signal(signal.SIGALRM, _end_import)
    signal.setitimer(signal.ITIMER_REAL, IMPORT_END_SECONDS)
    return 0


def _write_command_line(text: str) -> None:
    """Have `ps -f` and `pgrep -f` show this text for the process; on Linux alone."""
    with contextlib.suppress(OSError):
        fields = read_small_file("/proc/self/stat").rpartition(b")")[2].split()
        begin, end = map(int, fields[45:47])  # arg_start and arg_end, see proc(5)
        ctypes.memset(begin, 0, end - begin)
        ctypes.memmove(begin, text.encode(), min(len(text), end - begin - 1))


class ServerProcess:
    """The engine server as the service sees it."""

    def __init__(self, command: Sequence[str] = (), environment: Mapping[str, str] = os.environ) -> None:
        """Start this program; without one, a fork of this process, which starts at once and shares the memory of
        all imports. Raises OSError."""
        while (other := os.open(os.devnull, os.O_RDWR)) < 3:
            pass  # a standard stream was closed: fill its number, or a socket of ours would get it
        os.close(other)
        ours, theirs = socket.socketpair()
        reads, writes = os.pipe()
        self.control, self.output, printed = Control(ours), open(reads, "rb", 0), open(writes, "wb", 0)
        self.ready: dict[str, Any] | None = None  # its only message, once the engine is imported
        self.started_at = time.monotonic()
        self.returncode: int | None = None
        self._lock = threading.Lock()  # guards the end of the child, and the field above
        arguments = [str(theirs.fileno()), str(os.getpid())]
        if command:
            theirs.set_inheritable(True)
            streams: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
            streams += [(os.POSIX_SPAWN_DUP2, writes, number) for number in (1, 2)]
            self.pid = os.posix_spawnp(command[0], [*command, *arguments], environment, file_actions=streams)
        else:
            gc.freeze()  # a collection would copy what the processes share
            self.pid = os.fork()
            if self.pid == 0:
                self._be_server(theirs, printed, arguments)
        theirs.close()
        printed.close()

    def _be_server(self, theirs: socket.socket, printed: IO[bytes], arguments: Sequence[str]) -> NoReturn:
        """In the fork. Its command line must not look like that of the service."""
        try:
            with open(os.devnull) as nothing:
                os.dup2(nothing.fileno(), 0)
            _print_to(printed.fileno())
            theirs.detach()
            for one in (self.control.socket, self.output, printed):
                one.close()
            _write_command_line(SERVER_NAME)
            sys.exit(engine_server_main(arguments))
        except OSError as error:  # which must not reach the caller: the fork would go on as a second service
            sys.exit(f"engine server ended: {error}")

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        with self._lock:
            try:
                if self.returncode is None and (found := os.waitpid(self.pid, os.WNOHANG))[0]:
                    self.returncode = os.waitstatus_to_exitcode(found[1])
            except ChildProcessError:  # another part of the program has reaped it, or SIGCHLD is ignored
                self.returncode = 0
        return self.returncode

    def wait(self, seconds: float) -> bool:
        """Whether it ends within this time."""
        deadline = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.poll() is not None

    def kill(self) -> None:
        """By SIGKILL. One that is in the kernel may live on."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(KILL_GRACE_SECONDS)


# ==== 37 Engine output ======================================================================================
# What engines print, into the log and into the records of attempts.

MAX_OUTPUT_BYTES = 64 * 1024  # of one attempt that go to the log; the rest is read and dropped
MAX_OUTPUT_TAIL_BYTES = 4096  # of one attempt that are kept with its record


def _last_state(line: bytes) -> bytes:
    """What of a line is still to be seen on a terminal, where a carriage return begins it anew."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


class OutputLog:
    """Logs what an engine prints, a line as an ``event``, up to 64 KiB, and keeps the last 4 KiB. A line that
    ``\\r`` writes anew, as progress bars do, is logged in its last state."""

    def __init__(self, event: str, **fields: Any) -> None:
        self._event, self._fields = event, fields
        self._line = b""  # the last state of a line that has not ended
        self._tail = b""  # the lines before it
        self._bytes = self._logged_bytes = 0
        self._is_cut = False

    @property
    def tail(self) -> str:
        """The end of the output, as text that every database takes."""
        output = self._tail + self._line.rstrip(b"\r")
        return _clean(output[-MAX_OUTPUT_TAIL_BYTES:].decode("utf-8", "replace"))

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        self._bytes += len(data)
        *lines, rest = (self._line + data).split(b"\n")
        if self._is_cut:
            lines = lines[-MAX_OUTPUT_TAIL_BYTES:]  # the tail holds no more of them
        ended = [_last_state(line) for line in lines]
        for line in ended:
            self._log(line)
        self._tail = (self._tail + b"".join(line + b"\n" for line in ended))[-MAX_OUTPUT_TAIL_BYTES:]
        # the end of the data may be in the middle of "\r\n"
        self._line = _last_state(rest) + b"\r" * rest.endswith(b"\r")
        if len(self._line) > MAX_OUTPUT_BYTES:
            self._log(self._line)
            self._line = self._line[-MAX_OUTPUT_TAIL_BYTES:]

    def close(self) -> None:
        """Log the last line, which may lack its end, and how much was dropped."""
        if line := self._line.rstrip(b"\r"):
            self._log(line)
        if self._is_cut:
            kept = {"bytes": self._bytes, "kept_bytes": self._logged_bytes}
            log_event(logging.WARNING, f"{self._event} cut", **self._fields, **kept)

    def _log(self, line: bytes) -> None:
        room = MAX_OUTPUT_BYTES - self._logged_bytes
        self._is_cut = self._is_cut or room <= 0 or len(line) > room
        if room > 0:
            self._logged_bytes += min(room, len(line) + 1)
            log_event(logging.INFO, self._event, **self._fields, text=line[:room].decode("utf-8", "replace"))


# ==== 38 Host links =========================================================================================
# The service's ends of a host: tasks go in, frames and output come out. A slot's marker before each piece of a
# frame says that qtm's own code made it; an engine that looks for the marker can forge its own outcome.

MAX_FRAME_BYTES = MAX_RESULT_BYTES + (1 << 20)
RESULT_DOCUMENTS = 4  # behind the frame of a result: itself, its non_finite, its converted, its metrics


class ForgedFrame(Exception):
    """These bytes are no frame of qtm's: the engine is user code and may write on any descriptor."""


class HostLink:
    """The service's ends of a host: tasks go in, frames and output come out. Of one thread."""

    def __init__(self, server: ServerProcess, control: socket.socket, wake: int) -> None:
        self.server = server  # that was asked to fork the host
        self.environment = ""  # of its engine, see `run_environment`
        self.pid = 0  # of the host, until it has said so
        self.marker = b"\0" + os.urandom(7)
        self.spent_cpu_seconds = 0.0  # by attempts that have ended in a process that lives on
        self.control = Control(control)
        self._tasks, self._untaken = socket.socketpair(socket.AF_UNIX, PACKETS)
        self._tasks.setblocking(False)
        self._frames, frames = os.pipe()
        self.output, output = os.pipe()
        # of the host, after its end of the control socket; the first is kept here too, to take tasks back
        self.given = [self._untaken.fileno(), frames, output]
        # so that a process need not wait with its result; Linux alone, and not when an account has many
        with contextlib.suppress(AttributeError, OSError):
            fcntl.fcntl(frames, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.set_blocking(self._frames, False)
        os.set_blocking(self.output, False)
        self._received = bytearray()  # of the pipe of frames
        self._pieces: dict[int, bytearray] = {}  # of frames, by the pid of their writer
        self._printed = b""  # output that may hold a marker, or the beginning of one
        self._poll = select.poll()
        for descriptor in (control.fileno(), self._frames, wake):
            self._poll.register(descriptor, select.POLLIN)
        give_up_when_forked(self)

    def forked(self) -> None:
        """Leave it to the parent of this process, whose end it shall see."""
        close_inherited(self.control.socket)

    def send(self, number: int, text: str) -> bool:
        """Send a task; a large one as a file. False when there is no room for it now."""
        data = b"%d %s" % (number, text.encode())
        try:
            if len(data) <= MAX_PACKET_BYTES:
                self._tasks.send(data)
            else:
                with tempfile.TemporaryFile(buffering=0) as file:
                    file.write(data)
                    file.seek(0)
                    socket.send_fds(self._tasks, [b"%d" % number], [file.fileno()])
        except BlockingIOError:
            return False
        except OSError as error:  # the host has gone, which `wait` tells
            return error.errno != errno.ENOBUFS
        return True

    def take_back(self) -> list[int]:
        """The numbers of the tasks that no process has taken, and now never will."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, files = receive_descriptors(self._untaken, MAX_PACKET_BYTES, socket.MSG_DONTWAIT)
                found.append(int(data.partition(b" ")[0]))
                for file in files:
                    os.close(file)
        return found

    def stop(self, pid: int, with_stacks: bool) -> None:
        """Have the host end a process by SIGTERM, and all by SIGKILL 2 s later; if asked, with its stacks."""
        self.control.send({"stop": pid, "stacks": with_stacks})

    def wait(self, seconds: float, has_output: bool = False) -> set[int]:
        """Wait for frames, for output if there may be any, or to be woken; the descriptors that are ready."""
        may_read = has_output and self.marker not in self._printed
        self._poll.register(self.output, select.POLLIN if may_read else 0)
        return {descriptor for descriptor, _ in self._poll.poll(1000 * min(seconds, 3600.0))}

    def frames(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        """The whole frames that have come, each with its documents. Raises ForgedFrame after those before."""
        with contextlib.suppress(BlockingIOError):
            self._received += os.read(self._frames, 1 << 16)
        data = self._received
        while len(data) >= PIECE_HEAD.size:
            marker, pid, size, is_last = PIECE_HEAD.unpack_from(data)
            pieces, end = self._pieces.setdefault(pid, bytearray()), PIECE_HEAD.size + size
            if marker != self.marker or len(pieces) > MAX_FRAME_BYTES:
                raise ForgedFrame
            if len(data) < end:
                return
            pieces += data[PIECE_HEAD.size : end]
            del data[:end]
            if is_last:
                head, *documents = self._pieces.pop(pid).decode().split("\n")
                if len(documents) not in (0, RESULT_DOCUMENTS):
                    raise ForgedFrame
                frame = json.loads(head)
                if "exit" in frame:
                    self._pieces.clear()  # of a frame that the process was killed in
                yield frame, documents

    def read_output(self, log: OutputLog | None, to_end: bool = False) -> None:
        """Give the log what was printed; ``to_end`` all up to the marker that ends an attempt's output."""
        while self.marker not in self._printed:
            data = b""
            with contextlib.suppress(BlockingIOError):
                data = os.read(self.output, 1 << 16)
            self._printed += data
            if not (data and to_end):
                break
        piece, marker, rest = self._printed.partition(self.marker)
        cut = -1 if marker else piece.find(self.marker[:1], max(0, len(piece) - len(self.marker) + 1))
        if cut >= 0:  # it may be the beginning of a marker
            piece, rest = piece[:cut], piece[cut:]
        if log and piece:
            log.feed(piece)
        self._printed = rest if to_end else marker + rest

    def kill(self) -> None:
        """Kill a host that does not answer; our end of its socket is open, so the pid is its own."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """The host ends, with all that it has forked."""
        for one in (self.control.socket, self._tasks, self._untaken):
            one.close()
        for descriptor in (self._frames, self.output):
            os.close(descriptor)


# ==== 39 Engine slots =======================================================================================
# The service's side of a slot. Its thread sends attempts to the engine processes of a host, several in advance
# while attempts are short, and reads frames until each has ended. It decides that the time of an attempt is over,
# and has the host end it. Every wait for another process has a deadline; a host that misses it is killed.

START_SECONDS = 10.0  # for a host to fork, and for an engine process to say that it has started
# at most so much of one wait counts to them: while the whole machine stood still, nothing could start
START_CHECK_SECONDS = 0.5
HOST_SECONDS = 10.0  # for a host to report an end that it was asked for, beyond the grace
# for a process to end by itself and for its host to tidy up, once it has nothing more to do
END_SECONDS = 25.0
# characters of an engine's stacks that are kept at the end of its output; its error has more of them
MAX_OUTPUT_STACKS = 3500
EARLY_ENDS = 3  # engine processes in a row that ended before they took a task: then it is the task's failure
SENT_AHEAD = 64  # tasks, at most
# of their work, so that a process need not wait when the service's threads wait for each other
SENT_AHEAD_SECONDS = 0.1
FRAMES_SECONDS = 0.002  # for frames of quick attempts to come together


def _nothing() -> None:
    """The default callback."""


class SlotEvents:
    """What happens to a slot's attempts, in the slot's thread; reports of a plain callable in the attempt's. An
    attempt has ``task_id``, ``attempt``, ``timeout_seconds``, and for its engine ``request_text``."""

    def started(self, attempt: Any, at: float, version: str | None) -> None:
        """The engine has begun, ``at`` this time of `time.monotonic`; the engine's version."""

    def reported(self, attempt: Any, progress: float, message: str) -> None:
        """The engine has reported its progress."""

    def ended(self, attempt: Any, outcome: Outcome) -> None:
        """The last event of an attempt. It is released if it was stopped before its engine began."""


def report_progress(events: SlotEvents, attempt: Any, frame: Mapping[str, Any]) -> None:
    """Pass on what a ProgressSender has sent of an attempt."""
    if "ignored" in frame:
        named = {"task_id": attempt.task_id, "attempt": attempt.attempt, "value": frame["ignored"]}
        remedy = "give a fraction from 0 to 1, such as done / total"
        log_event(logging.WARNING, "progress ignored", **named, remedy=remedy)
    else:
        events.reported(attempt, frame["progress"], frame["message"])


class Flight:
    """An attempt that was sent to the processes of a slot."""

    def __init__(self, number: int, attempt: Any) -> None:
        self.number = number
        self.attempt = attempt
        self.since = time.monotonic()  # nothing was before it
        self.pid = 0  # of the process that has begun it
        self.deadline = math.inf  # of its end, or of the end of its process
        self.kill_deadline = math.inf  # once it was stopped: when even the host has not answered
        self.is_timed_out = False
        self.outcome: Outcome | None = None  # once its engine has ended
        self.log = OutputLog("task output", task_id=attempt.task_id, attempt=attempt.attempt)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _death(flight: Flight, code: int | None, report: Mapping[str, Any]) -> Outcome:
    kind, by_stop_signal = "crashed", False
    if flight.is_timed_out:
        limit = f"timeout_seconds ({flight.attempt.timeout_seconds:g} s)"
        message = f"the attempt ran longer than {limit} and was ended"
        return Outcome(error_type="timeout", message=message, traceback=report.get("stacks") or None)
    if report.get("out_of_memory"):
        kind = "out_of_memory"
        message = "the attempt's processes used more than QTM_TASK_MEMORY_MB and were ended"
    elif code == -signal.SIGABRT and NO_MEMORY_TEXT.search(flight.log.tail):  # C++ and Rust end by it
        kind = "out_of_memory"
        message = (
            "the engine process got no more memory and was ended by signal 6 (SIGABRT); its output says more"
        )
    elif code is None:
        message = "the engine process vanished without a report"
    elif code == -signal.SIGKILL:
        message = "the engine process was ended by signal 9 (SIGKILL), not by qtm; often it is the kernel, out of memory"
    elif code < 0:
        by_stop_signal = flight.kill_deadline == math.inf and -code in STOP_SIGNALS
        message = f"the engine process was ended by signal {-code} ({_signal_name(-code)})"
    else:
        message = f"the engine process exited with code {code} without a result"
    return Outcome(error_type=kind, message=message, by_stop_signal=by_stop_signal)


class EngineSlot:
    """Runs attempts in the engine processes of one host. All but `stop` is for one thread."""

    def __init__(self, server: EngineServer, settings: Settings, tasks_per_process: int) -> None:
        self._server = server
        self._settings = settings
        self._tasks_per_process = tasks_per_process
        self._link: HostLink | None = None
        self._waiting: deque[Any] = deque()  # attempts that were not sent
        self._flights: dict[int, Flight] = {}  # by number, in the order in which they were sent
        self._last_number = 0
        self._begun: Flight | None = None  # the one that runs
        self._more: Callable[[int], Sequence[Any]] = lambda n: []
        self._events: SlotEvents
        self._silent_seconds = 0.0  # that no process has answered, none having begun an attempt
        self._early_ends = 0  # processes in a row that ended before they took a task
        self._pace_seconds = SENT_AHEAD_SECONDS  # that an attempt takes
        self._stops: queue.SimpleQueue[Any] = queue.SimpleQueue()  # put by `stop`
        self._wake, self._notify = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._notify, False)

    def stop(self, attempt: Any) -> None:
        """From any thread: end an attempt that has begun, return one that has not. One that a process has
        just taken is to be stopped again when it begins."""
        self._stops.put(attempt)
        # there are so many notices that it wakes anyway, or the slot is closed
        with contextlib.suppress(OSError):
            os.write(self._notify, b"x")

    def run(self, first: Any, more: Callable[[int], Sequence[Any]], events: SlotEvents) -> None:
        """Run ``first``, and what ``more(n)`` gives: up to n attempts, without blocking. Returns when none of
        them is in flight. Raises EngineUnavailable, before any event, while there is no engine. After an
        exception none of the attempts runs on, and those that had no last event get none."""
        self._more, self._events, self._silent_seconds, self._early_ends = more, events, 0.0, 0
        try:
            # the engine may be another by now, or the host has ended meanwhile
            link = self._link
            if link and (self._server.has_replaced(link.server) or not self._is_usable(link)):
                self._leave_host()
            self._link = link = self._link or self._server.open_host(self._wake, self._tasks_per_process)
            self._waiting.append(first)
            while self._link:
                self._feed(link)
                if not self._flights and not self._waiting:
                    return
                self._turn(link)
        except BaseException:
            self._leave_host()
            raise

    def close(self) -> None:
        """End the slot's processes."""
        self._leave_host()
        for descriptor in (self._wake, self._notify):
            os.close(descriptor)

    def _is_usable(self, link: HostLink) -> bool:
        """Whether the host lives, and sent nothing but the ends of processes since the last attempt."""
        try:
            ready = link.wait(0.0)
            self._take_frames(link)
        except ForgedFrame:
            return False
        return self._link is not None and link.control.socket.fileno() not in ready

    def _feed(self, link: HostLink) -> None:
        """Send attempts, as many ahead as will begin soon."""
        ahead = min(SENT_AHEAD, int(SENT_AHEAD_SECONDS / self._pace_seconds))
        room = 1 + ahead - len(self._flights)
        if room <= ahead // 2 or (self._begun and self._begun.kill_deadline != math.inf):
            return
        if len(self._waiting) < room:
            self._waiting.extend(self._more(room - len(self._waiting)))
        for _ in range(min(room, len(self._waiting))):
            if not link.send(self._last_number + 1, self._waiting[0].request_text):
                break
            self._last_number += 1
            self._flights[self._last_number] = Flight(self._last_number, self._waiting.popleft())

    def _turn(self, link: HostLink) -> None:
        """Wait once, and handle what came."""
        before, flight = time.monotonic(), self._begun
        pause = min(flight.deadline, flight.kill_deadline) - before if flight else START_CHECK_SECONDS
        ready = link.wait(max(0.0, pause), flight is not None)
        # quick ones, whose frames one by one would cost more than all else: let them come together
        if len(self._flights) > 2:
            time.sleep(min(FRAMES_SECONDS, self._pace_seconds * len(self._flights) / 4))
        try:
            self._take_frames(link)
        except ForgedFrame:
            if self._begun:
                words = "the engine wrote on the descriptor of its result, which cannot be read"
                self._begun.outcome = Outcome(error_type="crashed", message=words)
            return self._end_host("an engine wrote on the descriptor of results")
        if self._link and link.control.socket.fileno() in ready:
            self._end_host("the host of an attempt has ended")
        if self._link is None:
            return
        if self._begun and link.output in ready:
            link.read_output(self._begun.log)
        if self._wake in ready:
            os.read(self._wake, 4096)
            while not self._stops.empty():  # no other thread takes from it
                self._obey_stop(link, self._stops.get())
        now = time.monotonic()
        self._judge(link, now, now - before)

    def _judge(self, link: HostLink, now: float, waited: float) -> None:
        """Act on deadlines that are over."""
        flight = self._begun
        if flight is None:
            self._silent_seconds += min(waited, START_CHECK_SECONDS)
            limit = START_SECONDS + self._server.spawns * self._settings.engine_start_seconds
            if self._silent_seconds >= limit:  # the server, the host or the process is frozen
                if not link.pid:
                    self._server.end_frozen(link.server)
                link.kill()
                self._end_host("attempt not started", seconds=round(self._silent_seconds, 1))
        elif now >= flight.kill_deadline:  # the host is frozen, or the process in the kernel
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(flight.pid, signal.SIGKILL)
            link.kill()
            self._end_host("the host of an attempt does not answer")
        elif now >= flight.deadline:
            flight.is_timed_out = flight.outcome is None
            self._stop(link, flight, with_stacks=flight.is_timed_out)

    def _obey_stop(self, link: HostLink, attempt: Any) -> None:
        if self._begun and self._begun.attempt is attempt:
            return self._stop(link, self._begun)
        taken_back = [self._flights.pop(number).attempt for number in link.take_back()]
        self._waiting.extendleft(reversed(taken_back))
        if attempt in self._waiting:
            self._waiting.remove(attempt)
            self._events.ended(attempt, RELEASED)

    def _stop(self, link: HostLink, flight: Flight, with_stacks: bool = False) -> None:
        if flight.kill_deadline == math.inf:
            flight.deadline = math.inf
            flight.kill_deadline = time.monotonic() + KILL_GRACE_SECONDS + HOST_SECONDS
            link.stop(flight.pid, with_stacks)

    def _take_frames(self, link: HostLink) -> None:
        for frame, documents in link.frames():
            self._silent_seconds = 0.0
            if self._link is None:  # one before was the last
                return
            if "host" in frame:
                link.pid = link.pid or frame["host"]
            elif "exit" in frame:
                self._end_process(link, frame)
            elif "no_process" in frame:
                self._end_host("no process for an attempt", error=frame["no_process"])
            elif (flight := self._flights.get(frame["task"])) and flight.outcome is None:
                if self._begun is not (None if "at" in frame else flight):
                    raise ForgedFrame
                self._take_frame(link, flight, frame, documents)

    def _take_frame(
        self, link: HostLink, flight: Flight, frame: dict[str, Any], documents: list[Any]
    ) -> None:
        if "at" in frame:
            self._begin(flight, frame)
        elif "progress" in frame or "ignored" in frame:
            report_progress(self._events, flight.attempt, frame)
        else:
            of_result, error = documents or (None, "[]", "[]", "{}"), frame.get("error", ())
            facts = frame.get("facts")
            fields: list[Any] = [*of_result, facts and RunFacts._make(facts), link.environment, *error]
            flight.outcome = Outcome(*fields)
            flight.deadline = time.monotonic() + END_SECONDS
            if frame["usage"]:  # the process lives on
                link.spent_cpu_seconds += frame["usage"][1]
                link.read_output(flight.log, to_end=True)
                self._end_flight(flight, ProcessUsage(None, None, *frame["usage"]))

    def _begin(self, flight: Flight, frame: dict[str, Any]) -> None:
        """A process has begun an attempt. Those sent before it went to a process that ended just then."""
        while (number := next(iter(self._flights))) != frame["task"]:
            self._waiting.append(self._flights.pop(number).attempt)
        self._begun, self._early_ends, flight.pid = flight, 0, frame["pid"]
        flight.deadline = time.monotonic() + flight.attempt.timeout_seconds
        self._events.started(flight.attempt, min(frame["at"], time.monotonic()), frame["version"])

    def _end_process(self, link: HostLink, report: dict[str, Any]) -> None:
        if flight := self._begun:
            self._end_death(link, flight, report)
        else:
            link.read_output(None, to_end=True)
            self._early_ends += bool(self._flights)
            if self._early_ends == EARLY_ENDS:
                self._end_death(link, next(iter(self._flights.values())), report)
                self._end_host("attempt not started")
        link.spent_cpu_seconds = 0.0

    def _end_death(self, link: HostLink, flight: Flight, report: Mapping[str, Any]) -> None:
        """An attempt has ended with its process. The report is the host's; empty if that has gone too."""
        code = report.get("exit")
        exited, signalled = (None, _signal_name(-code)) if code is not None and code < 0 else (code, None)
        memory, cpu_seconds = report.get("usage", (None, None))
        cpu_seconds = cpu_seconds and round(max(0.0, cpu_seconds - link.spent_cpu_seconds), 6)
        link.read_output(flight.log, to_end=True)
        if stacks := report.get("stacks"):
            flight.log.feed(f"\n{stacks[:MAX_OUTPUT_STACKS]}\n".encode())
        # whatever it made of SIGTERM: SystemExit, KeyboardInterrupt
        if flight.outcome is None or (flight.is_timed_out and flight.outcome.error_type):
            flight.outcome = _death(flight, code, report)
        self._end_flight(flight, ProcessUsage(exited, signalled, memory, cpu_seconds))

    def _end_flight(self, flight: Flight, usage: ProcessUsage) -> None:
        """All that the attempt printed has been read."""
        flight.log.close()
        del self._flights[flight.number]
        self._begun, now = None, time.monotonic()
        self._pace_seconds += 0.2 * (min(now - flight.since, 1.0) - self._pace_seconds)
        if self._flights:
            next(iter(self._flights.values())).since = now
        usage = usage._replace(output_tail=flight.log.tail)
        self._events.ended(flight.attempt, cast(Outcome, flight.outcome)._replace(usage=usage))

    def _end_host(self, event: str, **fields: Any) -> None:
        """The host is gone, and with it the attempt that runs; release those that have not begun."""
        link, self._link = cast(HostLink, self._link), None
        if self._begun:
            self._end_death(link, self._begun, {})
        link.close()
        self._waiting.extendleft(reversed([one.attempt for one in self._flights.values()]))
        self._flights.clear()
        while self._waiting:
            attempt = self._waiting.popleft()
            log_event(logging.WARNING, event, task_id=attempt.task_id, attempt=attempt.attempt, **fields)
            self._events.ended(attempt, RELEASED)

    def _leave_host(self) -> None:
        """Close our ends, which ends the host and all that it has forked."""
        if self._link:
            self._link.close()
        self._link, self._begun = None, None
        self._flights.clear()
        self._waiting.clear()


# ==== 40 Engine server ======================================================================================
# The service's side of the engine server process: it starts the process, and starts another when it dies. One
# of the two runners.

SERVER_END_SECONDS = 2.0  # for the server to end by itself
CHANNEL_TIMEOUT_SECONDS = 10.0  # for the engine's ``validate``
QUESTIONS_PER_PROCESS = 1_000_000  # as good as no limit
# how the file of an interpreter begins; else it is a program that Python is a part of
PYTHON_NAMES = ("python", "pypy")
# a server that is killed while it imports is replaced; an import that ends every process is the engine's
# fault
ENGINE_START_TRIES = 3


def python_program() -> str:
    """The path of this Python, also within another program (uWSGI)."""
    if os.path.basename(sys.executable or "").lower().startswith(PYTHON_NAMES):
        return sys.executable
    return os.path.join(sys.exec_prefix, "bin", "python3")


def engine_path() -> tuple[list[str], list[str]]:
    """Where an engine server looks for modules: up to the standard library, and behind it. The working folder
    and that of qtm.py come behind, as a csv.py there must not replace the library's."""
    library = os.path.dirname(os.__file__)
    own = list(dict.fromkeys([os.getcwd(), BASE_DIR]))
    others = [entry for entry in sys.path if entry and entry not in own]
    place = max(
        (i for i, entry in enumerate(others, 1) if entry in (library, os.path.join(library, "lib-dynload"))),
        default=0,
    )
    return others[:place], [*own, *others[place:]]


class Question(SlotEvents):
    """What the engine is asked beside its attempts, which a slot runs as if it were one."""

    attempt = 1

    def __init__(self, verb: str, text: str) -> None:
        self.task_id = verb  # as log lines name it
        self.timeout_seconds = CHANNEL_TIMEOUT_SECONDS
        self.outcome = RELEASED
        self.request_text = text

    def ended(self, attempt: Any, outcome: Outcome) -> None:
        """The answer is its result."""
        self.outcome = outcome


class EngineServer:
    """The service's side of the engine server process. The scheduler thread alone starts and replaces it:
    PR_SET_PDEATHSIG ends the server with the thread that started it."""

    # a server that was forked before this process read a secret or started a thread; the first to be used
    forked_ahead: ClassVar[ServerProcess | None] = None

    def __init__(self, settings: Settings) -> None:
        # called when the server became ready, or failed; set by the scheduler
        self.on_change: Callable[[], None] = _nothing
        self._settings = settings
        # guards the fields below; notified when a server is ready, or the engine has failed; nothing blocking but
        # one small sendmsg under it
        self._changed = threading.Condition()
        self._server: ServerProcess | None = None
        self._validates: bool | None = None  # what the newest server that was ready said of its engine
        self._failure: EngineError | None = None
        # servers in a row that ended before they were ready; of the scheduler thread alone
        self._early_ends = 0
        self._validator_lock = threading.Lock()  # one question at a time; held while its answer is awaited
        self._validator: EngineSlot | None = None  # runs questions
        give_up_when_forked(self)

    def forked(self) -> None:
        """Leave it to the parent of this process, whose end it shall see."""
        if self._server:
            close_inherited(self._server.control.socket)

    @property
    def _ready(self) -> dict[str, Any] | None:
        server = self._server
        return server.ready if server else None

    @property
    def is_ready(self) -> bool:
        """Whether a slot would run an attempt now."""
        return self._ready is not None

    @property
    def spawns(self) -> bool:
        """Whether each engine process imports the engine itself."""
        ready = self._ready
        return bool(ready and ready["spawns"])

    def has_replaced(self, server: ServerProcess) -> bool:
        """Whether another server than this is ready."""
        return self.is_ready and self._server is not server

    def ensure(self) -> None:
        """Start the server or replace a dead one. For the scheduler thread alone. Raises EngineError."""
        if self._failure:
            raise self._failure
        server, engine = self._server, self._settings.engine
        if server and server.poll() is None:
            limit = self._settings.engine_start_seconds
            if server.ready is None and time.monotonic() - server.started_at > limit:
                server.kill()
                self._fail(f"engine {engine} was not imported within QTM_ENGINE_START_SECONDS ({limit:g} s)")
            return
        if server:
            self._early_ends = self._early_ends + 1 if server.ready is None else 0
            if self._early_ends == ENGINE_START_TRIES:
                times = f"{ENGINE_START_TRIES} times, at last with code {server.returncode},"
                return self._fail(f"the engine server process ended {times} while it imported {engine}")
            log_event(logging.WARNING, "engine server ended, starting another", exit_code=server.returncode)
            self._end()
        try:
            self._launch()
        except (OSError, RuntimeError) as error:  # no process, thread or descriptor now
            log_event(logging.WARNING, "engine server not started, trying again", error=str(error))
            self._end()

    def _plan(self) -> ProcessPlan:
        before, after = engine_path()
        # Imported, not run as a script: an import finds its compiled code in the cache.
        program = f"import sys; sys.path[:] = {[*before, BASE_DIR]!a}; import qtm; sys.exit(qtm.main())"
        command, settings = [python_program(), "-c", program, "engine-server"], self._settings
        more = settings.task_memory_mb * 1024 * 1024, settings.engine_start, settings.data_dir, command
        return ProcessPlan(settings.engine, [*before, *after], *more)

    def _launch(self) -> None:
        plan, server = self._plan(), EngineServer.forked_ahead
        EngineServer.forked_ahead = None
        environment = {name: os.environ[name] for name in os.environ if name not in SECRET_VARIABLES}
        self._server = server = server or ServerProcess(plan.command, environment)
        server.control.send(plan._asdict())
        for name, work in (("engine-ready", self._await_ready), ("engine-output", self._log_output)):
            threading.Thread(target=work, args=(server,), name=name, daemon=True).start()

    def _log_output(self, server: ServerProcess) -> None:
        """A thread of its own: log what the import prints, until all that print there have ended."""
        log = OutputLog("engine output")
        with server.output:
            while data := server.output.read(65536):
                log.feed(data)
        log.close()

    def _await_ready(self, server: ServerProcess) -> None:
        """A short thread of its own, for the server's only message."""
        said = server.control.first() or {}
        if "failed" in said:
            return self._fail(said["failed"])
        if not said:  # its socket ends a moment before the process does
            server.wait(1.0)
            return self.on_change()  # so that it is replaced now and not at the next poll
        with self._changed:
            server.ready, self._validates = said, said["validates"]
            self._changed.notify_all()
        self.on_change()
        version = {} if said["version"] is None else {"version": said["version"]}
        log_event(logging.INFO, "engine ready", engine=self._settings.engine, **version)
        if left := left_by_import(self._settings.engine, said):
            words = {"message": left.message, "why": left.why, "remedy": left.remedy}
            log_event(logging.WARNING, "left by the engine's import", **words)
        if not said["sees_processes"]:
            log_event(logging.WARNING, "engine processes are held less firmly", message=HELD_LESS_FIRMLY)

    def _fail(self, message: str) -> None:
        with self._changed:
            self._failure = EngineError(message)
            self._changed.notify_all()
        self.on_change()

    def _end(self) -> None:
        """End the server, if there is one. It ends when its socket closes; while it imports it is killed."""
        with self._changed:
            server, self._server = self._server, None
        if server:
            server.control.socket.close()
            if not server.wait(SERVER_END_SECONDS):
                server.kill()

    def wait_ready(self, seconds: float) -> dict[str, Any]:
        """What the server says once it is ready. Raises EngineError, or EngineUnavailable in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._failure, seconds)
            if self._failure:
                raise self._failure
            if self._ready is None:
                raise EngineUnavailable(f"the engine is not ready after {seconds:g} s", retry_after_seconds=2)
            return self._ready

    def slot(self) -> EngineSlot:
        """A slot, for one thread."""
        return EngineSlot(self, self._settings, self._settings.tasks_per_process)

    def end_frozen(self, server: ServerProcess) -> None:
        """Kill a server that does not fork; called by any thread. The scheduler thread starts another."""
        if server.poll() is None:
            log_event(logging.WARNING, "engine server does not answer, replacing it", seconds=START_SECONDS)
            server.kill()
        self.on_change()

    def open_host(self, wake: int, tasks_per_process: int) -> HostLink:
        """Have a host forked, whose waits end when ``wake`` is readable. Raises EngineUnavailable."""
        with self._changed:
            server = self._server
            if server is None or server.ready is None:
                raise EngineUnavailable("the engine server is not running", retry_after_seconds=1)
            ours, theirs = socket.socketpair()
            link = HostLink(server, ours, wake)
            link.environment = server.ready["environment"]
            request = {"tasks": tasks_per_process, "marker": link.marker.hex()}
            server.control.send(request, [theirs.fileno(), *link.given])
        theirs.close()
        for descriptor in link.given[1:]:
            os.close(descriptor)
        return link

    @property
    def may_refuse(self) -> bool:
        """Until its first import has ended, nobody knows."""
        return self._validates is not False

    def validate(self, tasks: Sequence[Combination], most: int = MAX_LISTED) -> list[TaskFault]:
        """Ask the engine's ``validate`` in a process that is kept for the next time."""
        if not self.may_refuse:
            return []
        return [TaskFault(*fault) for fault in self._ask("validate", {"most": most, "tasks": tasks})]

    def run_keys(self, tasks: Sequence[Combination]) -> Sequence[str | None]:
        """The run_key of each task by the engine's ``data_version``, None where that gives none."""
        try:
            return self._ask("data_version", {"tasks": tasks})
        except InvalidTask as error:  # it is no reason to refuse a task
            log_event(logging.WARNING, "results are not reused", error=error.message)
            return ()

    def _ask(self, verb: str, request: Mapping[str, Any]) -> list[Any]:
        """The engine's answer. Raises InvalidTask, EngineUnavailable."""
        if self._failure:  # the service is about to end by it
            why = "the engine cannot be used; the log of the service says why"
            raise EngineUnavailable(why, retry_after_seconds=5)
        if not self.is_ready:
            raise EngineUnavailable("the engine is still being imported", retry_after_seconds=2)
        question = Question(verb, dump_json(request))
        with self._validator_lock:
            self._validator = self._validator or EngineSlot(self, self._settings, QUESTIONS_PER_PROCESS)
            for _ in range(2):  # a process that others killed is none of the request's fault
                self._validator.run(question, lambda most: (), question)
                outcome = question.outcome
                if outcome.released:
                    why = "the engine server does not answer, or has no process, and is being replaced"
                    raise EngineUnavailable(why, retry_after_seconds=2)
                if outcome.error_type == "timeout":
                    limit = f"{question.timeout_seconds:g} s"
                    raise InvalidTask(f"the engine's {verb} took over {limit} on this request")
                if outcome.result_json is not None:
                    return cast("list[Any]", json.loads(outcome.result_json))
        raise InvalidTask(f"the engine's {verb} ended its process on this request")

    def close(self) -> None:
        """End the server; hosts end with their slots. Threads that wait for the engine get EngineError."""
        with self._changed:
            self._failure = self._failure or EngineError("the engine is closed")
            self._changed.notify_all()
        with self._validator_lock:
            if self._validator:
                self._validator.close()
        self._end()


# ==== 41 Thread runner ======================================================================================
# The other runner: it calls a plain function in threads of this process. At a timeout or cancel the attempt
# is over, but its thread runs until the function returns.


class TaskStopped(Exception):
    """Raised by ``progress`` in the thread of an attempt that was stopped, so that its engine ends."""


class ThreadRunner:
    """Runs a plain callable that was given to an embedded scheduler, each attempt in its own thread, which is
    abandoned at a stop or timeout; as EngineServer for the rest. It is the slot of any number of threads."""

    is_ready = True

    def __init__(self, engine: BacktestEngine) -> None:
        self.on_change: Callable[[], None] = _nothing
        self._engine = engine
        named: Any = engine if hasattr(engine, "__qualname__") else type(engine)
        self._name = f"{named.__module__}:{named.__qualname__}"
        self._ends: dict[Any, queue.SimpleQueue[Outcome]] = {}  # of the attempts that run

    @functools.cached_property
    def _environment(self) -> str:
        return run_environment(self._name)

    def slot(self) -> ThreadRunner:
        """It keeps nothing of a slot."""
        return self

    def stop(self, attempt: Any) -> None:
        """As `EngineSlot.stop`."""
        if ends := self._ends.get(attempt):
            ends.put(Outcome(error_type="stopped", message="the attempt was stopped"))

    def run(self, first: Any, more: Callable[[int], Sequence[Any]], events: SlotEvents) -> None:
        """As `EngineSlot.run`; ``more`` is not called, and progress is reported in the attempt's thread."""
        ends = self._ends[first] = queue.SimpleQueue()
        sender = ProgressSender(functools.partial(report_progress, events, first))

        def progress(fraction: float, message: str = "") -> None:
            if first not in self._ends:
                raise TaskStopped("this attempt was stopped")
            sender(fraction, message)

        def work() -> None:
            ends.put(run_attempt(self._engine, first.request(), progress, self._name))

        events.started(first, time.monotonic(), engine_version(self._engine))
        thread = threading.Thread(target=work, name=f"engine-{first.task_id}", daemon=True)
        thread.start()
        try:
            outcome = ends.get(timeout=first.timeout_seconds)
        except queue.Empty:
            limit = f"timeout_seconds ({first.timeout_seconds:g} s)"
            message = f"the attempt ran longer than {limit}; its thread cannot be killed and was abandoned"
            frame = sys._current_frames().get(cast(int, thread.ident))
            stack = "".join(traceback.format_stack(frame))[-MAX_TRACEBACK:] if frame else None
            outcome = Outcome(error_type="timeout", message=message, traceback=stack and _clean(stack))
        del self._ends[first]
        sender.close()
        events.ended(first, outcome._replace(environment=self._environment))

    def ensure(self) -> None:
        """Nothing to start."""

    def wait_ready(self, seconds: float) -> None:
        """It always is."""

    @property
    def may_refuse(self) -> bool:
        """Whether it has a ``validate``."""
        return hasattr(self._engine, "validate")

    def validate(self, tasks: Sequence[Combination], most: int = MAX_LISTED) -> list[TaskFault]:
        """The engine's own ``validate``, called here."""
        asked = itertools.starmap(TaskRequest, tasks)
        return validation_faults(self._engine, asked, most) if self.may_refuse else []

    def run_keys(self, tasks: Sequence[Combination]) -> Sequence[str | None]:
        """As `EngineServer.run_keys`, asked here."""
        asked = itertools.starmap(TaskRequest, tasks)
        return [_key_facts(self._name, self._engine, task)[0] for task in asked]

    def close(self) -> None:
        """Nothing to end."""


Slot = EngineSlot | ThreadRunner  # runs attempts one after the other; `run` and `close` belong to one thread
Runner = EngineServer | ThreadRunner  # where attempts run: apart in processes, or in threads of this process


# ==== 42 Upkeep =============================================================================================
# A thread for retention and SQLite's checkpoints. The scheduler never waits for it.

UPKEEP_STOP_SECONDS = 5.0  # for the step that is being done
PURGE_PASS_SECONDS = 60.0  # between two passes of the retention
PURGE_FIRST_ROWS = 25  # of a pass; what a step takes decides how many are next
PURGE_STEP_SECONDS = 0.02  # that a step may take: creates on SQLite wait for it
CHECKPOINT_SECONDS = 5.0  # how often the size of the write-ahead log is looked at
# beyond which it is to begin anew; by itself it does so at 4 MiB, when no reader is in it
CHECKPOINT_BYTES = 8 * 1024 * 1024
CHECKPOINT_WAIT_SECONDS = 0.1  # for readers
UPKEEP_RETRY_SECONDS = 30.0  # after a failure


def purge_steps(
    purge: Callable[[str, int], Purged], most: int, clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[int, float]]:
    """Steps of a purge, each about PURGE_STEP_SECONDS long: how many rows it deleted, and its seconds."""
    after: str | None = ""
    rows = min(most, PURGE_FIRST_ROWS)
    while after is not None:
        started = clock()
        deleted, after = purge(after, rows)
        took = clock() - started
        if took > PURGE_STEP_SECONDS:
            rows = max(1, rows // 2)
        elif took < PURGE_STEP_SECONDS / 2:
            rows = min(most, 2 * rows)
        yield deleted, took


class Upkeep:
    """The thread ``upkeep`` of every process with a manager. Each duty is a generator that does a short step at a
    time, and yields the seconds until the next. Replicas delete what no other has locked, and begin their passes
    at random times."""

    def __init__(self, dao: TaskDAO, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._begin = {"retention": self._retention} if settings.retention_days else {}
        if dao.database.dialect.has_log:
            self._begin["checkpoint"] = self._checkpoint
        # by duty; these three are written by the upkeep thread, and read by all
        self.due = dict.fromkeys(self._begin, -math.inf)
        self.failures = dict.fromkeys(self._begin, 0)
        self.purged_tasks = 0
        self._steps = {name: begin() for name, begin in self._begin.items()}
        self._dao = dao
        self._settings = settings
        self._clock = clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin, if there is anything to do."""
        if self.due:
            self._thread.start()

    def stop(self) -> None:
        """End after the step that is being done."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(UPKEEP_STOP_SECONDS)

    def _loop(self) -> None:
        while not self._stopped.wait(self.step()):
            pass

    def step(self) -> float:
        """One step of each duty that is due; seconds until there is another."""
        for name, due in self.due.items():
            if due <= self._clock() and not self._stopped.is_set():
                pause = self._step(name)
                self.due[name] = self._clock() + pause
        return max(0.0, min(self.due.values()) - self._clock())

    def _step(self, name: str) -> float:
        """Whatever fails is logged and tried again later, from the beginning."""
        try:
            return next(self._steps[name])
        except Exception as error:  # a fault of ours too: it must end neither the other duties nor the thread
            self.failures[name] += 1
            pause = UPKEEP_RETRY_SECONDS * random.uniform(0.5, 1.5)  # another replica may be at the same work
            text = str(error)[:MAX_ERROR_TEXT] or error_text(error)
            words = {"duty": name, "error": text, "next_try_seconds": round(pause, 1)}
            log_event(logging.WARNING, "upkeep failed", **words)
            logger.debug("upkeep failed", exc_info=True)
            self._steps[name] = self._begin[name]()
            return pause

    def _retention(self) -> Iterator[float]:
        """Passes over three tables, with pauses of about the length of each step."""
        days, dao = self._settings.retention_days, self._dao
        while True:
            cutoff, before = dao.retention_cutoff(days), self.purged_tasks
            tables = (dao.purge, PURGE_ROWS), (dao.purge_batches, PURGE_ROWS), (dao.purge_keys, PURGE_KEYS)
            for purge, most in tables:
                for deleted, took in purge_steps(functools.partial(purge, cutoff), most, self._clock):
                    self.purged_tasks += deleted if purge == dao.purge else 0
                    yield took * random.uniform(0.5, 1.0)
            if tasks := self.purged_tasks - before:
                log_event(logging.INFO, "old tasks deleted", tasks=tasks, retention_days=days)
            yield PURGE_PASS_SECONDS * random.uniform(0.5, 1.5)

    def _checkpoint(self) -> Iterator[float]:
        """A log with readers that overlap never begins anew by itself."""
        database = self._dao.database
        while True:
            if database.dialect.log_bytes() > CHECKPOINT_BYTES:
                database.truncate_log(CHECKPOINT_WAIT_SECONDS)
            yield CHECKPOINT_SECONDS


# ==== 43 Leases and waits ===================================================================================
# The scheduler's state in memory: threads that wait for a change; attempts of this process, their queue and their
# durations, which say how many to claim ahead; and tasks of other schedulers whose heartbeat has not changed for
# a lease. Only two clocks are used: this process's monotonic clock and the database's.

DATABASE_RETRY_SECONDS = 1.0  # pause of what has lost its database
# a second signal that the kernel gave to another thread waits until the main thread runs for a moment
SIGNAL_CHECK_SECONDS = 0.5
AHEAD_SECONDS = 0.5  # tasks are claimed ahead that the slots will start within it
MAX_AHEAD = 500  # tasks
MAX_AHEAD_BYTES = 8 * 1024 * 1024  # of their requests
# that a task waits behind a slow one; then it is released, since another replica may have a slot
LONGEST_AHEAD_SECONDS = 2.0
# of a task whose last attempt was lost, in which no other such task and nothing ahead is claimed
PROBATION_SECONDS = 5.0
PACE_ATTEMPTS = 100  # whose mean tells how long the next will take


class ChangeBoard:
    """Where threads wait for a task or batch to change in this process."""

    def __init__(self) -> None:
        self.is_closed = False  # written by close, read by waiting threads
        # also notified; written by the HTTP server, it must not block
        self.listener: Callable[[Sequence[str]], None] | None = None
        self._lock = threading.Lock()  # guards the next
        self._watchers: set[tuple[str, threading.Event]] = set()

    @contextlib.contextmanager
    def watch(self, key: str) -> Iterator[threading.Event]:
        """An event that is set when ``key`` changes from now on."""
        watcher = key, threading.Event()
        with self._lock:
            self._watchers.add(watcher)
        try:
            yield watcher[1]
        finally:
            with self._lock:
                self._watchers.discard(watcher)

    def close(self) -> None:
        """Nobody shall wait any longer: the service stops."""
        self.is_closed = True
        with self._lock:
            keys = {key for key, _ in self._watchers}
        self.notify(*keys)

    def notify(self, *keys: str) -> None:
        """Wake the threads that watch any of these keys."""
        with self._lock:
            events = [event for key, event in self._watchers if key in keys]
        for event in events:
            event.set()
        if listener := self.listener:
            listener(keys)


class Attempts:
    """The attempts of this process, from the claim until the outcome is in the database, and the queue of
    those that wait for a slot. Shared by the scheduler, the slots and the recorder."""

    def __init__(self, clock: Callable[[], float]) -> None:
        # guards all fields and the states; notified when an attempt comes or leaves; nothing slow under it
        self.changed = threading.Condition()
        self.known: dict[tuple[str, int], Attempt] = {}
        self.queue: deque[Attempt] = deque()
        self.is_claiming = False  # tasks may be ours in the database that are not known yet
        self.refill_at = -1  # with so many in the queue the scheduler is to claim more
        self.ended: Counter[str] = Counter()  # attempts by how they ended
        self.draining = threading.Event()  # begin no more
        self.stopped = threading.Event()  # end the threads
        self.clock = clock
        self._seconds: deque[float] = deque(maxlen=PACE_ATTEMPTS)  # that the last ones took of their slots
        self._request_bytes = 1  # of the largest request of the last claim

    def add(self, attempts: Sequence[Attempt]) -> None:
        """The end of a claim: queue its attempts."""
        now = self.clock()
        with self.changed:
            self.is_claiming = False
            for one in attempts:
                one.claimed_at, self.known[one.key] = now, one
            self.queue.extend(attempts)
            sizes = (len(one.request_text) for one in attempts)
            self._request_bytes = max(sizes, default=self._request_bytes)
            self.changed.notify_all()

    def take(self, slot: SlotWorker, most: int = 1, wait: bool = False) -> list[Attempt]:
        """Up to so many attempts for a slot; none once the threads are to end."""
        with self.changed:
            if wait and not self.queue:
                slot.wake()
            while wait and not self.queue and not self.stopped.is_set():
                self.changed.wait()
            count = 0 if self.stopped.is_set() else min(most, len(self.queue))
            taken = [self.queue.popleft() for _ in range(count)]
            for one in taken:
                one.slot = slot
            if len(self.queue) <= self.refill_at:
                slot.wake()
        return taken

    def end(self, attempts: Iterable[Attempt], state: AttemptState) -> tuple[list[Attempt], list[Attempt]]:
        """Have attempts released or lost; those that are in a slot, and those that were in the queue."""
        with self.changed:
            moved = [one for one in attempts if one.move(state)]
            self.queue = deque(one for one in self.queue if one.state is AttemptState.CLAIMED)
        return [one for one in moved if one.slot], [one for one in moved if not one.slot]

    def leave(self, attempts: Sequence[Attempt]) -> list[str]:
        """Forget recorded attempts. The ids of their batches that have no other attempt here."""
        with self.changed:
            for one in attempts:
                one.move(AttemptState.RECORDED)
                self.ended[one.outcome.ending] += 1
                del self.known[one.key]
            idle = {one.batch_id for one in attempts} - {one.batch_id for one in self.known.values()}
            self.changed.notify_all()
        return list(idle)

    def select(self, *states: AttemptState) -> list[Attempt]:
        """Those in one of these states."""
        with self.changed:
            return [one for one in self.known.values() if one.state in states]

    def took(self, seconds: float) -> None:
        """An attempt took so long of its slot; a slow one counts half a second, so that quick ones go on."""
        self._seconds.append(min(seconds, AHEAD_SECONDS))

    def window(self, slots: int) -> int:
        """How many attempts so many slots will start within half a second."""
        seconds = list(self._seconds)
        if not seconds:
            return 0
        quick = int(slots * AHEAD_SECONDS * len(seconds) / max(1e-6, sum(seconds)))
        return min(MAX_AHEAD, MAX_AHEAD_BYTES // self._request_bytes, quick)

    def waited_too_long(self, are_all_slow: bool) -> list[Attempt]:
        """Those behind a slow attempt: in its slot, or in the queue while all slots have one."""
        since = self.clock() - LONGEST_AHEAD_SECONDS

        def is_stuck(one: Attempt) -> bool:
            return one.slot.is_slow() and one.slot.present is not one if one.slot else are_all_slow

        claimed = self.select(AttemptState.CLAIMED)
        return [one for one in claimed if one.claimed_at < since and is_stuck(one)]

    def is_lost_on_probation(self) -> bool:
        """Whether one that was lost before may still end this process: then the next would lose a second
        attempt. It is trusted after PROBATION_SECONDS, or once its outcome is recorded."""
        since, running = time.monotonic() - PROBATION_SECONDS, AttemptState.RUNNING
        return any(
            one.was_lost and (one.state is not running or one.started_at > since)
            for one in self.select(AttemptState.CLAIMED, running, AttemptState.RECORDING)
        )

    def wait_idle(self, seconds: float) -> bool:
        """Whether all have left, and no claim is under way, within the time."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while (self.known or self.is_claiming) and (left := deadline - time.monotonic()) > 0:
                self.changed.wait(min(left, SIGNAL_CHECK_SECONDS))
            return not self.known and not self.is_claiming


class LeaseWatch:
    """Judges by this process's clock which running tasks have stood still for a lease. For the scheduler
    thread alone.

    Only time between two successful polls counts, and of it at most a heartbeat: neither an outage of the
    database nor one that only froze it makes an orphan.
    """

    def __init__(self, lease_seconds: float, heartbeat_seconds: float = math.inf) -> None:
        self._lease_seconds = lease_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._counted = 0.0
        self._last_success: float | None = None
        self._seen: dict[str, tuple[RunningTask, float]] = {}

    def failed(self) -> None:
        """A poll failed: the time since the last one does not count."""
        self._last_success = None

    def observe(self, now: float, running: Sequence[RunningTask]) -> list[RunningTask]:
        """Those whose pair (attempt, heartbeat) has not moved for the lease."""
        if self._last_success is not None:
            self._counted += min(now - self._last_success, self._heartbeat_seconds)
        self._last_success = now
        seen, self._seen = self._seen, {}
        for task in running:
            before, since = seen.get(task.task_id, (None, self._counted))
            self._seen[task.task_id] = (task, since if before == task else self._counted)
        return [task for task, since in self._seen.values() if self._counted - since >= self._lease_seconds]


class Health:
    """What the scheduler did last, for readiness and /metrics. Written by its thread, and by `stop`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.activity = "not started"  # empty while rounds succeed
        self.is_away = False  # the database, at the last round
        # by the clock: the last heartbeat, and the last round that succeeded
        self.beat = self.poll = -math.inf
        self._polled_at: float | None = None  # the same of time.time
        self._clock = clock
        self._reminder = Reminder(clock)

    def succeeded(self, activity: str) -> None:
        """A round did all of its work."""
        self.activity, self.is_away = activity, False
        self.poll, self._polled_at = self._clock(), time.time()
        self._reminder.clear()

    def failed(self, error: QtmError, worker_id: str) -> None:
        """A round could not reach the database."""
        self.activity, self.is_away = "waiting for the database", True
        if self._reminder.is_due(error.message):
            is_away = isinstance(error, (DatabaseUnavailable, TransactionConflict))
            level = logging.WARNING if is_away else logging.ERROR
            log_event(level, "database away", worker_id=worker_id, error=error.message)

    def to_dict(self) -> dict[str, Any]:
        """As `TaskScheduler.state` shows it."""
        now, at = self._clock(), self._polled_at
        ages = [None if then == -math.inf else round(now - then, 3) for then in (self.poll, self.beat)]
        stamp = at and datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
        text = stamp and stamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"last_poll_at": text, "last_poll_age_seconds": ages[0], "last_beat_age_seconds": ages[1]}


def retry_pause(settings: Settings, attempt: int) -> float:
    """The wait after a failed ``attempt``, from 1 on: backoff x 2^(attempt - 1), jittered, at most 600 s."""
    seconds = settings.retry_backoff_seconds * 2.0 ** min(attempt - 1, 60)
    return min(MAX_BACKOFF_SECONDS, seconds * random.uniform(0.75, 1.25))


def new_worker_id() -> str:
    """host:pid:random; the random part tells restarts under the same name apart."""
    host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())[:100]
    return f"{host}:{os.getpid()}:{os.urandom(6).hex()}"


# ==== 44 Recorder ===========================================================================================
# A thread that writes progress and outcomes. It writes everything that waits in one transaction: the longer a
# transaction takes, the larger the next group. While the database is unreachable it keeps outcomes in memory
# and tries again.

PROGRESS_WRITE_SECONDS = 1.0  # progress reaches the database at most that often
GROUP_OUTCOMES = 500  # in one transaction
# more for a group to grow while tasks wait for a slot: each transaction costs about 1 ms of CPU and a flush
GROUP_SECONDS = 0.02
LARGE_GROUP = 100  # outcomes: with so many, write at once, since tasks wait for the transactions then
MAX_KEPT_BYTES = 64 * 1024 * 1024  # of outcomes that wait; beyond it the slots begin nothing
# of one that the database refuses while it is there, in 12 s; then of the failure that replaces it
OUTCOME_TRIES = 8
OUTCOME_RETRY_SECONDS = (0.1, 5.0)  # doubling from the first to the last


def _ascii_error_text(error: Exception) -> str:
    """What an error says, in ASCII, so that every database takes it."""
    text = error.message if isinstance(error, QtmError) else error_text(error)
    return text.encode("ascii", "backslashreplace").decode()[:MAX_ERROR_TEXT]


def in_halves(
    items: Sequence[T], write: Callable[[Sequence[T]], None], refused: Callable[[T, Exception], None]
) -> None:
    """Write items together; halve the group where the database refuses it, until ``refused`` gets the bad one
    alone. Raises DatabaseUnavailable and TransactionConflict, which are no item's fault."""
    try:
        if items:
            write(items)
    except (DatabaseUnavailable, TransactionConflict):
        raise
    except Exception as error:  # the texts are engines', the database's refusal of any class
        if len(items) == 1:
            return refused(items[0], error)
        half = len(items) // 2
        in_halves(items[:half], write, refused)
        in_halves(items[half:], write, refused)


class Recorder:
    """Writes outcomes and progress. Slots call `put` and `report`; the rest is of the recorder thread."""

    def __init__(
        self,
        dao: TaskDAO,
        attempts: Attempts,
        on_recorded: Callable[[Sequence[Attempt], Sequence[str]], None],  # attempts that left, idle batches
        on_doubt: Callable[[], None],  # a task was to be running and is not: a heartbeat finds out
        clock: Callable[[], float],
    ) -> None:
        self._dao = dao
        self._on_recorded = on_recorded
        self._on_doubt = on_doubt
        self._attempts = attempts
        self._clock = clock
        # attempts that have ended, and the bytes that are written of each; under attempts.changed
        self._waiting: dict[Attempt, int] = {}
        # those whose progress the database does not have, and when to write it; the same
        self._reports: dict[Attempt, float] = {}
        self._woken = threading.Event()
        self._retry_seconds = OUTCOME_RETRY_SECONDS[0]
        self._reminder = Reminder(clock)

    def put(self, attempt: Attempt, outcome: Outcome, delay_seconds: float) -> None:
        """Take the outcome of an attempt that has ended; that of a lost one is void."""
        size = outcome.stored_bytes + len(attempt.params_text.encode())
        with self._attempts.changed:
            if not attempt.move(AttemptState.RECORDING):
                outcome = CANCELLED._replace(usage=outcome.usage)
            attempt.outcome, attempt.delay_seconds = outcome, delay_seconds
            attempt.next_write, attempt.refusals = 0.0, 0
            self._reports.pop(attempt, None)
            self._waiting[attempt] = size
        self._woken.set()

    def report(self, attempt: Attempt) -> None:
        """Write an attempt's progress in a second; a quick one ends before. The thread looks as often."""
        with self._attempts.changed:
            self._reports.setdefault(attempt, self._clock() + PROGRESS_WRITE_SECONDS)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing shall be claimed."""
        with self._attempts.changed:
            return len(self._waiting) > 2 * GROUP_OUTCOMES or sum(self._waiting.values()) > MAX_KEPT_BYTES

    def run(self) -> None:
        """The thread, until `stop`."""
        while not self._attempts.stopped.is_set():
            self._woken.wait(self.step())
            if self._attempts.queue and len(self._waiting) < LARGE_GROUP:
                self._attempts.stopped.wait(GROUP_SECONDS)
            self._woken.clear()

    def stop(self) -> None:
        """Have the thread end."""
        self._woken.set()

    def step(self) -> float:
        """Write what waits; the seconds until there may be more."""
        now = self._clock()
        with self._attempts.changed:
            waiting = [(one, size) for one, size in self._waiting.items() if one.next_write <= now]
            due = [one for one, at in self._reports.items() if at <= now]
            for one in due:
                del self._reports[one]
        self._log(due)
        try:
            self._let_go([one for one, _ in waiting if one.state is AttemptState.LOST])
            ended = [pair for pair in waiting if pair[0].state is AttemptState.RECORDING]
            most = min(STATEMENT_BYTES, self._dao.database.dialect.max_document_bytes)
            for group in in_groups(ended, operator.itemgetter(1), GROUP_OUTCOMES, most):
                in_halves([one for one, _ in group], self._record, self._refused)
            in_halves(due, self._report, self._report_refused)
            self._retry_seconds = OUTCOME_RETRY_SECONDS[0]
            self._reminder.clear()
        except (DatabaseUnavailable, TransactionConflict) as error:
            if self._reminder.is_due(error.message):
                words = {"outcomes": len(self._waiting), "error": error.message}
                log_event(logging.WARNING, "outcomes kept until the database is back", **words)
            with self._attempts.changed:
                for one in (one for one in due if one not in self._waiting):
                    self._reports.setdefault(one, now + DATABASE_RETRY_SECONDS)
            self._attempts.stopped.wait(self._retry_seconds)
            self._retry_seconds = min(2 * self._retry_seconds, OUTCOME_RETRY_SECONDS[1])
        with self._attempts.changed:
            times = [*(one.next_write for one in self._waiting), *self._reports.values()]
        return max(0.0, min([*times, self._clock() + PROGRESS_WRITE_SECONDS]) - self._clock())

    def _record(self, group: Sequence[Attempt]) -> None:
        found = self._dao.record(group)
        for one in group:
            if one.key in found.locked:
                one.next_write = self._clock() + OUTCOME_RETRY_SECONDS[0]
            elif one.key not in found.keys:
                one.outcome = CANCELLED._replace(usage=one.outcome.usage)
        self._let_go([one for one in group if one.key not in found.locked])

    def _let_go(self, attempts: Sequence[Attempt]) -> None:
        for one in attempts:
            if one.outcome.ending == CANCELLED.ending and one.outcome.usage != NO_USAGE:
                try:
                    self._dao.close_attempt(one.key, one.outcome.usage)
                except Exception as error:  # the record alone is the poorer for it
                    words = {**one.log_fields, "error": _ascii_error_text(error)}
                    log_event(logging.WARNING, "record of an attempt not completed", **words)
        with self._attempts.changed:
            for one in attempts:
                del self._waiting[one]
        self._log((), attempts)
        if attempts:
            self._on_recorded(attempts, self._attempts.leave(attempts))

    def _log(self, started: Sequence[Attempt], ended: Sequence[Attempt] = ()) -> None:
        """Many lines together, each with its own time, cost little more than one. A quick attempt has one
        line, as it ends: a second one would cost as much as half of its statements."""
        back = time.time() - time.monotonic()
        lines: list[tuple[float, str, Mapping[str, Any]]] = []

        def add(event: str, at: float, one: Attempt, **more: Any) -> None:
            about = {"batch_id": one.batch_id, "worker_id": one.worker_id, "stock_code": one.stock_code}
            is_first, one.has_start_to_log = one.has_start_to_log, False
            lines.append((back + at, event, {**one.log_fields, **(about if is_first else {}), **more}))

        for one in (one for one in started if one.has_start_to_log):
            add("attempt started", one.started_at, one)
        for one in ended:
            kind, seconds = one.outcome.error_type, round(one.ended_at - one.started_at, 6)
            error = {"error": f"{kind}: {one.outcome.message}"} if kind else {}
            add("attempt ended", one.ended_at, one, ending=one.outcome.ending, seconds=seconds, **error)
        log_events(logging.INFO, lines)

    def _refused(self, attempt: Attempt, error: Exception) -> None:
        """Try again later; in the end as a failure that holds nothing of the engine's."""
        text, outcome = _ascii_error_text(error), attempt.outcome
        log_event(logging.ERROR, "outcome refused by the database", **attempt.log_fields, error=text)
        attempt.refusals += 1
        if attempt.refusals == OUTCOME_TRIES:
            message = f"the outcome ({outcome.ending}) could not be stored: {text}"
            usage = outcome.usage._replace(output_tail=None)
            attempt.outcome = Outcome(error_type="not_stored", message=message, usage=usage)
            attempt.message, attempt.engine_version = "", None
        first, longest = OUTCOME_RETRY_SECONDS
        attempt.next_write = self._clock() + min(first * 2 ** (attempt.refusals % OUTCOME_TRIES), longest)

    def _report(self, attempts: Sequence[Attempt]) -> None:
        """Write progress; what an engine reports meanwhile is written the next time."""
        running = [one for one in attempts if one.is_wanted]
        if running and not self._dao.report_progress(running):
            self._on_doubt()

    def _report_refused(self, attempt: Attempt, error: Exception) -> None:
        """The next report tries again; the log has the first refusal."""
        if not attempt.refusals:
            text = _ascii_error_text(error)
            log_event(logging.WARNING, "progress not written", **attempt.log_fields, error=text)
        attempt.refusals += 1


# ==== 45 Slot workers =======================================================================================
# The threads that run attempts, one per slot. A thread takes attempts from the queue, has its engine slot run
# them, and gives their outcomes to the recorder.

# a stop signal to all processes may reach the engine a moment before the service, which may be busy
STOP_NOTICE_SECONDS = 2.0


class SlotWorker(SlotEvents):
    """One slot: its thread takes attempts from the queue, has the engine's slot run them (whose `SlotEvents`
    come in this thread), and gives their outcomes to the recorder."""

    def __init__(self, scheduler: TaskScheduler, runner: Runner, settings: Settings) -> None:
        self.wake = scheduler.wake  # which is to claim more, or to replace the engine server
        # when the slot turned to its present attempt; written here, read by the scheduler
        self.begun_at: float | None = None
        self._open = runner.slot
        self._slot: Slot | None = None  # made by the thread, which its processes outlive in no case
        self._attempts = scheduler.attempts
        self._recorder = scheduler.recorder
        self._settings = settings
        self._dialect = scheduler.dao.database.dialect
        # taken and not ended, in their order; written here, read by the scheduler
        self._hands: dict[Attempt, None] = {}

    def run(self) -> None:
        """The thread, until the scheduler stops."""
        while self.turn(wait=True):
            pass
        if self._slot:
            self._slot.close()

    def turn(self, wait: bool = False) -> bool:
        """Run the next attempt, and those that its engine slot asks for meanwhile; False if there is none."""
        self._hold(taken := self._attempts.take(self, wait=wait))
        if not taken:
            return False
        try:
            self._run()
            if self._hands:
                raise RuntimeError("its engine's slot said nothing of its end")
        except Exception as error:  # a fault of ours must not take the slot with it
            self._failed(error)
        self.begun_at = None
        return True

    def _run(self) -> None:
        """Run the attempts in hand, once there is an engine server; nothing is said of them until then."""
        self._slot = self._slot or self._open()
        deadline = time.monotonic() + self._settings.engine_start_seconds
        while (first := self.present) and first.is_wanted and time.monotonic() < deadline:
            try:
                return self._slot.run(first, self._more, self)
            except EngineUnavailable:
                self.wake()  # its thread alone replaces the server
                self._attempts.stopped.wait(0.05)
        for one in list(self._hands):
            self.ended(one, RELEASED)

    def stop(self, attempt: Attempt) -> None:
        """From any thread: end an attempt that is no longer wanted."""
        if self._slot:
            self._slot.stop(attempt)

    @property
    def present(self) -> Attempt | None:
        """The attempt that runs, or is next."""
        return next(iter(list(self._hands)), None)

    def is_slow(self) -> bool:
        """Whether its present attempt takes longer than what is claimed ahead."""
        return self.begun_at is not None and self._attempts.clock() - self.begun_at > AHEAD_SECONDS

    def _hold(self, attempts: Sequence[Attempt]) -> None:
        if attempts:
            self.begun_at = self.begun_at or self._attempts.clock()
            self._hands.update(dict.fromkeys(attempts))

    def _more(self, most: int) -> list[Attempt]:
        self._hold(taken := self._attempts.take(self, most))
        return taken

    def started(self, attempt: Attempt, at: float, version: str | None) -> None:
        """Its engine has begun it, at this time of `time.monotonic`."""
        attempt.started_at, attempt.engine_version = at, version
        with self._attempts.changed:
            is_new = attempt.move(AttemptState.RUNNING)
        if not attempt.is_wanted:  # it was stopped before the engine's slot knew it
            self.stop(attempt)
        if is_new:
            attempt.has_start_to_log = True
            self._recorder.report(attempt)

    def reported(self, attempt: Attempt, progress: float, message: str) -> None:
        """Its engine said how far it is; progress never falls."""
        attempt.progress, attempt.message = max(attempt.progress, progress), message
        self._recorder.report(attempt)

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """It has ended, however it did."""
        is_released = attempt.state is AttemptState.RELEASED
        usage, limit = outcome.usage, self._dialect.max_document_bytes
        if outcome.result_json is None and (is_released or self._is_of_stop(outcome)):
            outcome = RELEASED._replace(usage=usage)
        elif outcome.result_json is not None and (size := outcome.result_bytes) > limit:
            message = (
                f"the result, its non_finite and converted have {size} bytes, "
                f"more than the database takes in one packet ({limit})"
            )
            outcome = Outcome(error_type="result_too_large", message=message, retryable=False, usage=usage)
        # An attempt that was to be released is due at once; one for which no process could be started, after
        # a pause.
        pause = 0.0 if is_released else DATABASE_RETRY_SECONDS
        if outcome.error_type is not None:
            pause = retry_pause(self._settings, attempt.attempt)
        attempt.ended_at, now = time.monotonic(), self._attempts.clock()
        self._attempts.took(now - (self.begun_at or now))
        self.begun_at = now
        self._recorder.put(attempt, outcome, pause)
        self._hands.pop(attempt, None)

    def _is_of_stop(self, outcome: Outcome) -> bool:
        """Whether a stop signal to all processes ended the engine: systemd, scancel, some inits send it."""
        if outcome.error_type in ("SystemExit", "KeyboardInterrupt"):  # what handlers of these signals raise
            return self._attempts.draining.is_set()
        return outcome.by_stop_signal and self._attempts.draining.wait(STOP_NOTICE_SECONDS)

    def _failed(self, error: Exception) -> None:
        """Count our fault as the attempt's: released, it would meet the same fault for ever."""
        text, first = _ascii_error_text(error), self.present
        log_event(logging.CRITICAL, "slot failed", **(first.log_fields if first else {}), error=text)
        logger.debug("slot failed", exc_info=error)
        if first:
            message = f"qtm failed while it ran this attempt: {text}"
            self.ended(first, Outcome(error_type="internal", message=message))
        for one in list(self._hands):
            self.ended(one, RELEASED)


# ==== 46 TaskScheduler ======================================================================================
# The scheduler's thread claims tasks, sends heartbeats, rescues tasks whose lease has expired, and keeps an engine
# server running. `step()` is one round. The timer, a new task, or a slot that needs tasks only wakes the thread.

RELEASE_SECONDS = 5.0  # for recording the attempts that a stop releases
RESCUED_TOGETHER = 500  # tasks of a dead scheduler
RESCUE_EVENT = "task rescued"  # in the log: one of a scheduler that died


class TaskScheduler:
    """Runs pending tasks on the engine, FIFO within a priority. `start` it once, `stop` it once. It ties
    attempts, recorder, leases, slots, timer and threads together, hence its many attributes."""

    def __init__(
        self,
        dao: TaskDAO,
        runner: Runner,
        settings: Settings,
        board: ChangeBoard | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.worker_id = new_worker_id()
        # why the scheduler gave up; written by its threads, read by all
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] = _nothing
        self.dao = dao
        self.attempts = Attempts(clock)
        self.recorder = Recorder(dao, self.attempts, self._recorded, self._doubt, clock)
        self._runner = runner
        self._settings = settings
        self._board = board or ChangeBoard()
        self._clock = clock
        self._timer: threading.Timer | None = None  # the floor: a round at least every poll_seconds
        self._woken = threading.Event()
        self._health = Health(clock)
        self._leases = LeaseWatch(settings.lease_seconds, settings.heartbeat_seconds)
        self._draining_since = 0.0  # written once, before attempts.draining is set
        self._threads: list[threading.Thread] = []
        # this and the next are of the scheduler thread; a doubt sets the time, too
        self._is_registered = False
        self._next_beat = 0.0
        self.slots = [SlotWorker(self, runner, settings) for _ in range(settings.workers)]

    # -- for other threads
    # --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads. On SQLite, which one process holds, what runs now is an orphan."""
        if self.dao.database.dialect.name == "sqlite":
            self._reclaim(RESCUE_EVENT, dict.fromkeys(self.dao.running(), (WORKER_LOST, 0.0)))
        works = {"scheduler": self._loop, "recorder": self.recorder.run}
        works.update((f"slot-{number}", slot.run) for number, slot in enumerate(self.slots, 1))
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in works.items()
        ]
        for thread in self._threads:
            thread.start()
        self._tick()

    def _tick(self) -> None:
        """The timer: it only wakes, and sets the next one."""
        self.wake()
        if not self.attempts.stopped.is_set():
            self._timer = threading.Timer(self._settings.poll_seconds, self._tick)
            self._timer.name, self._timer.daemon = "scheduler-timer", True
            with contextlib.suppress(RuntimeError):  # the system gives no thread now: heartbeats go on
                self._timer.start()

    def wake(self) -> None:
        """Have a step done soon. Cheap, and safe from any thread."""
        self._woken.set()

    def state(self) -> dict[str, Any]:
        """What the scheduler does now, and when it last polled with success."""
        with self.attempts.changed:
            running = [one.task_id for slot in self.slots if (one := slot.present)]
            ended = dict(self.attempts.ended)
            present = "running" if self.attempts.known else "idle"
        return {
            "worker_id": self.worker_id,
            "activity": "failed" if self.failure else self._health.activity or present,
            "slots": self._settings.workers,
            "running": running,
            "attempts_ended": ended,
            **self._health.to_dict(),
            "engine_ready": self._runner.is_ready,
        }

    def is_fresh(self) -> bool:
        """Whether the last successful poll is younger than two poll intervals, or 5 s."""
        longest = max(5.0, 2 * self._settings.poll_seconds)
        return self.failure is None and self._clock() - self._health.poll < longest

    def discard(self, belongs: Callable[[Attempt], bool]) -> None:
        """End attempts of cancelled tasks; their outcomes are void. A heartbeat finds those not known yet."""
        with self.attempts.changed:
            cancelled = [one for one in self.attempts.known.values() if belongs(one)]
            is_claiming = self.attempts.is_claiming
        self._end(cancelled, AttemptState.LOST)
        if is_claiming:
            self._doubt()

    def create(self, new: NewTasks) -> bool:
        """Store a create's only task as ours, running, if a slot is free and nothing is pending. False if
        it is not surely stored. Raises DatabaseUnavailable."""
        is_grouped = new.idempotency_key is not None or new.request.batch_id or len(new.task_ids) > 1
        with self.attempts.changed:
            if is_grouped or new.sources or self._free_slots() <= 0 or not self._may_claim():
                return False
            self.attempts.is_claiming = True
        claimed: list[Attempt] = []
        try:
            claimed = self.dao.create_claimed(new, self.worker_id)
        except DatabaseUnavailable:  # the create that follows would wait for the same
            raise
        except QtmError:
            pass
        finally:
            self._take(claimed)
        return bool(claimed)

    def drain(self) -> None:
        """Claim and begin no more from now on; the grace of `stop` counts from here."""
        if not self.attempts.draining.is_set():
            self._draining_since = self._clock()
            self.attempts.draining.set()
            self._end(self.attempts.select(AttemptState.CLAIMED), AttemptState.RELEASED)

    def stop(self, grace_seconds: float | None = None) -> None:
        """Claim no more, give running tasks the grace, release the rest with their attempt, end the threads.
        Heartbeats go on until the last outcome is recorded."""
        grace = self._settings.shutdown_grace_seconds if grace_seconds is None else grace_seconds
        self._health.activity = "stopping"
        self.drain()
        self.wake()
        is_idle = self.attempts.wait_idle(max(0.0, self._draining_since + grace - self._clock()))
        # a database that is away gets no more time than the processes: the lease tells it the rest
        longest = 0.5 if self._health.is_away else RELEASE_SECONDS
        if not is_idle:
            self._end(list(self.attempts.known.values()), AttemptState.RELEASED)
            self.attempts.wait_idle(KILL_GRACE_SECONDS + longest)
        self.attempts.stopped.set()
        self.wake()
        self.recorder.stop()
        with self.attempts.changed:
            self.attempts.changed.notify_all()
        deadline = time.monotonic() + longest
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._timer:
            self._timer.cancel()
        self._runner.close()
        if self._is_registered and not self._health.is_away:
            with contextlib.suppress(QtmError):  # without it the row is forgotten after a day
                self.dao.remove_worker(self.worker_id)
        self._health.activity = "stopped"

    def _end(self, attempts: Sequence[Attempt], state: AttemptState) -> None:
        in_slots, waiting = self.attempts.end(attempts, state)
        for one in in_slots:
            cast(SlotWorker, one.slot).stop(one)
        for one in waiting:
            one.started_at = one.ended_at = time.monotonic()
            self.recorder.put(one, RELEASED, 0.0)

    def _recorded(self, attempts: Sequence[Attempt], batches: Sequence[str]) -> None:
        self._board.notify(*(one.task_id for one in attempts), *batches)
        is_low = len(self.attempts.queue) <= self.attempts.refill_at  # a full recorder has held up a claim
        # a task without a result may be pending again
        if is_low or any(one.outcome.result_json is None for one in attempts):
            self.wake()

    def _doubt(self) -> None:
        """A task has ended, or is no longer ours: a heartbeat finds out."""
        self._next_beat = 0.0
        self.wake()

    # -- the scheduler thread
    # --------------------------------------------------------------------------------------------------------

    def _guarded(self, work: Callable[[], None]) -> None:
        """A thread of the scheduler: the service must not live on without it."""
        try:
            work()
        except BaseException as error:  # whatever it is
            self.failure = error if isinstance(error, Exception) else RuntimeError(repr(error))
            level = logging.ERROR if isinstance(error, QtmError) else logging.CRITICAL
            text = str(error)[:MAX_ERROR_TEXT] or error_text(error)
            log_event(level, "scheduler failed", worker_id=self.worker_id, error=text)
            logger.debug("scheduler failed", exc_info=True)
            self.on_failure()

    def _loop(self) -> None:
        pause = None
        while not self.attempts.stopped.is_set():
            self._woken.wait(pause)
            self._woken.clear()
            if not self.attempts.stopped.is_set():
                pause = self.step()

    def step(self) -> float:
        """One round: engine server, heartbeats, orphans, claims; seconds until the next, if nothing wakes it.
        Raises EngineError when the engine cannot be imported; a database that is away only delays."""
        self._runner.ensure()
        are_all_slow = all(slot.is_slow() for slot in self.slots)
        self._end(self.attempts.waited_too_long(are_all_slow), AttemptState.RELEASED)
        try:
            self._beat_and_rescue()
            due = self._claim()
        except QtmError as error:  # of any class: running backtests are not thrown away for it
            self._leases.failed()
            self._health.failed(error, self.worker_id)
            return DATABASE_RETRY_SECONDS
        self._health.succeeded("stopping" if self.attempts.draining.is_set() else "")
        longest = LONGEST_AHEAD_SECONDS if self.attempts.select(AttemptState.CLAIMED) else math.inf
        return max(0.01, min(due, longest, self._settings.poll_seconds, self._next_beat - self._clock()))

    def _beat_and_rescue(self) -> None:
        now = self._clock()
        if now < self._next_beat:
            return
        if not self._is_registered:
            self.dao.register_worker(self.worker_id, self._settings.workers)
            self._is_registered = True
        with self.attempts.changed:
            mine = {
                key: one for key, one in self.attempts.known.items() if one.state is not AttemptState.LOST
            }
        not_ours = self.dao.heartbeat(self.worker_id, mine)
        self._health.beat = self._clock()
        for attempt in map(mine.__getitem__, not_ours):
            # such a task has most likely just ended
            if attempt.state not in (AttemptState.RECORDING, AttemptState.RECORDED):
                log_event(logging.WARNING, "task no longer ours", **attempt.log_fields)
                self._end([attempt], AttemptState.LOST)
        running = self.dao.running()
        self._end_unknown(running)
        expired = self._leases.observe(now, running)
        ends = {one: (WORKER_LOST, retry_pause(self._settings, one.attempt)) for one in expired}
        self._reclaim(RESCUE_EVENT, ends)
        self._next_beat = now + self._settings.heartbeat_seconds

    def _end_unknown(self, running: Sequence[RunningTask]) -> None:
        """Release what the database says we run, but no slot does: the answer to its claim was lost."""
        with self.attempts.changed:
            if self.attempts.is_claiming:  # by a create, whose attempt is not known yet
                return
            ours = [one for one in running if one.worker_id == self.worker_id]
            unknown = [one for one in ours if one.key not in self.attempts.known]
        self._reclaim("unknown claim released", dict.fromkeys(unknown, (RELEASED, 0.0)))

    def _reclaim(self, event: str, orphans: Mapping[RunningTask, tuple[Outcome, float]]) -> None:
        """End attempts that no scheduler runs; their tasks are pending again, or failed. An error stays with
        its task, unless the database is away."""
        statuses: dict[RunningTask, TaskStatus] = {}
        tasks = list(orphans)

        def reclaim(some: Sequence[RunningTask]) -> None:
            statuses.update(self.dao.reclaim({task: orphans[task] for task in some}))

        def refused(task: RunningTask, error: Exception) -> None:
            log_event(logging.ERROR, "task not reclaimed", **task.log_fields, error=_ascii_error_text(error))

        for start in range(0, len(tasks), RESCUED_TOGETHER):
            in_halves(tasks[start : start + RESCUED_TOGETHER], reclaim, refused)
        for task, status in statuses.items():
            with self.attempts.changed:
                self.attempts.ended[orphans[task][0].ending] += 1
            log_event(logging.WARNING, event, **task.log_fields, status=status.value)
            self._board.notify(task.task_id)
            self.wake()

    def _free_slots(self) -> int:
        return sum(slot.begun_at is None for slot in self.slots) - len(self.attempts.queue)

    def _may_claim(self) -> bool:
        is_held = self.attempts.is_claiming or self.attempts.draining.is_set() or self.recorder.is_full
        return self._runner.is_ready and not is_held

    def _take(self, claimed: Sequence[Attempt]) -> None:
        """The end of a claim: its attempts wait for a slot, unless a stop has come meanwhile."""
        self.attempts.add(claimed)
        if self.attempts.draining.is_set():
            self._end(claimed, AttemptState.RELEASED)

    def _claim(self) -> float:
        """Claim what the slots can begin soon; seconds until there may be more to claim."""
        attempts = self.attempts
        with attempts.changed:
            waiting, free = len(attempts.select(AttemptState.CLAIMED)), self._free_slots()
            is_risky = attempts.is_lost_on_probation()
            window = 0 if is_risky else attempts.window(sum(not slot.is_slow() for slot in self.slots))
            wanted = max(free, window - waiting if 2 * waiting <= window else 0)
            if wanted <= 0 or not self._may_claim():
                if wanted > 0:
                    attempts.refill_at = window // 2
                return 0.01 if attempts.is_claiming else math.inf
            attempts.is_claiming = True
        claimed: list[Attempt] = []
        try:
            claimed = self.dao.claim(self.worker_id, wanted, free > 0 and waiting == 0 and not is_risky)
            attempts.refill_at = window // 2 if len(claimed) == wanted else -1
        finally:
            self._take(claimed)
        if len(claimed) >= free:
            return math.inf
        due = self.dao.seconds_to_next_run()
        return math.inf if due is None else max(due, 0.05)


# ==== 47 Admission ==========================================================================================
# The checks before a verb runs: types of arguments, config and params of Python callers, the limit of pending
# tasks, and the engine's own validation.

VALIDATED_TOGETHER = 10_000  # tasks that an engine is asked about at once
FULL_RETRY_SECONDS = 10  # when to ask again that was refused for too many pending tasks
PENDING_SHARE = 10  # times as long as it took, a count of the pending tasks is good
DATE_AT_MIDNIGHT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T00:00:00(\.0+)?")


def text_argument(name: str, value: Any) -> str:
    """A text; of a TaskStatus its own."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, not {type(value).__name__}")
    return str.__str__(value)


def checked(**arguments: Any) -> dict[str, Any]:
    """Arguments of a verb by their names: texts, lists of texts (one text alone will do), and whole numbers of
    Python or numpy; any may be None. Raises TypeError, and InvalidRequest for a value out of range."""
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        fault = ""
        if value is None:
            found[name] = None
        elif name in ("limit", "points"):
            found[name] = int(value)
            fault = "" if found[name] >= 1 else f"must be at least 1, not {value}"
        elif name in ("statuses", "fields", "where", "task_ids"):
            many = [value] if isinstance(value, str) else value
            if name == "fields" and isinstance(value, str):
                many = map(str.strip, value.split(",")) if value else ()
            found[name] = tuple(text_argument(name, text) for text in many)
            if name == "statuses" and not set(found[name]) <= set(STATUS_TEXTS):
                fault = f"must be of {', '.join(STATUS_TEXTS)}"
            elif name == "statuses":
                found[name] = tuple(map(TaskStatus, found[name]))
        elif name != "timeout_seconds":
            found[name] = text_argument(name, value)
        if fault:
            raise invalid_request([FieldError(name, fault)])
    return found


def checked_filter(chosen: TaskFilter) -> TaskFilter:
    """The filter of a caller. Raises as `checked` does."""
    names = ("batch_id", "statuses", "stock_code", "limit", "cursor")
    return dataclasses.replace(chosen, **checked(**{name: getattr(chosen, name) for name in names}))


NO_JSON_FORM = {"int": "a whole number beyond 64 bits", "str": "half of a surrogate pair"}


def _json_member(name: str, value: Any, faults: list[FieldError]) -> Any:
    """A member of a Python caller's body, converted as results are; what has no JSON form is a fault."""
    try:
        found = result_document({name: value})
        member = parse_json(found.text.encode())[name]
    except (ResultFault, MalformedJSON) as error:
        faults.append(FieldError(name, str(error).removeprefix("the body is not strict JSON: ")))
        return None
    faults += [FieldError(one["path"], f"{one['kind']} is not JSON") for one in found.non_finite]
    for place, kind in (one.values() for one in found.converted):
        words = NO_JSON_FORM.get(kind, f"a value of type {kind}")
        faults.append(FieldError(place, f"{words} has no JSON form"))
    return member


def rerun_tasks(batch: BatchRequest, best: Sequence[tuple[str, str, str]]) -> list[Combination]:
    """The tasks of a rerun by those that were found to be the best. Raises InvalidRequest."""
    if not best:
        message = f"the batch has no completed task with the metric {cast(Rerun, batch.rerun).by!r}"
        raise invalid_request([FieldError("rerun", message)])
    params = {text: json.loads(text) for _, _, text in best}
    configs = {text: {**json.loads(text), **batch.config} for _, text, _ in best}
    faults = [fault for config in configs.values() for fault in date_order_faults(config)]
    if faults:
        raise invalid_request(list(dict.fromkeys(faults)))
    return [(code, configs[config], params[text]) for code, config, text in best]


def body_of(request: TaskRequest | BatchRequest, may_sweep: bool = False) -> dict[str, Any]:
    """The body of createTask that asks for this, of JSON values; ``params`` that have a ``grid`` are a sweep
    where that ``may_sweep``. Raises InvalidRequest for what has no JSON form; `BatchRequest.from_body` checks
    the rest."""
    if not isinstance(request, (TaskRequest, BatchRequest)):
        raise TypeError(f"a qtm.TaskRequest or qtm.BatchRequest is wanted, not {type(request).__name__}")
    given = {name: getattr(request, name, None) for name in (*CREATE_OPTIONS, "config", "stock_code")}
    given = {name: value for name, value in given.items() if value is not None}
    is_one = isinstance(request.params, Mapping)
    grid_of = request.params.get("grid") if isinstance(request.params, Mapping) and may_sweep else None
    if request.params is not BatchRequest.params:
        params = request.params if is_one else _list_of(request.params, MAX_TASKS_PER_CREATE)
        given["sweep" if isinstance(grid_of, Mapping) else "params"] = params
    if isinstance(request, BatchRequest):
        if request.stock_codes is not BatchRequest.stock_codes:
            given["stock_codes"] = _list_of(request.stock_codes, MAX_TASKS_PER_CREATE)
        if request.rerun is not None:
            given["rerun"] = vars(request.rerun) | checked(where=request.rerun.where)
    faults = list[FieldError]()
    body = {name: _json_member(name, value, faults) for name, value in given.items()}
    if faults:
        raise invalid_request(faults)
    for name in ("start_date", "end_date") if isinstance(request.config, Mapping) else ():
        match = DATE_AT_MIDNIGHT.fullmatch(str(body["config"].get(name)))
        if match and not isinstance(request.config[name], str):  # of Python, numpy or pandas
            body["config"][name] = match[1]
    if is_one and not may_sweep:
        body["params"] = [body["params"]]
    return body


class PendingLimit:
    """Refuses creates that would leave more than ``most`` tasks pending; 0 refuses none. To count many takes
    long, so that a count is good for ten times as long as it took; what is created here meanwhile is added.
    What schedulers and other replicas do, and creates that fail, are seen by the next count."""

    def __init__(self, dao: TaskDAO, most: int) -> None:
        self._dao = dao
        self._most = most
        self._lock = threading.Lock()  # guards the count; held on purpose while one counts for all
        self._pending = 0
        # also written by `count_anew`: one that comes while another counts may be lost
        self._good_until = -math.inf

    def count_anew(self) -> None:
        """The last count is no longer good: tasks were cancelled or retried here."""
        self._good_until = -math.inf

    def take(self, asked: int, is_kept: bool = True) -> None:
        """Room for so many tasks, which is kept for them. Raises TooManyPending."""
        if not self._most:
            return
        with self._lock:
            started = time.monotonic()
            if started >= self._good_until:
                self._pending = self._dao.count_pending(self._most + 1)
                now = time.monotonic()
                self._good_until = now + PENDING_SHARE * (now - started)
            pending = self._pending
            if pending + asked <= self._most:
                self._pending += asked if is_kept else 0
                return
        most = self._most
        counted = f"{pending} tasks" if pending <= most else f"more than {most} tasks"
        wanted = f"{asked} more were asked for, where QTM_MAX_PENDING allows {most}"
        remedy = "try again later" if asked <= most else "send fewer at once"
        message = f"{counted} are pending and {wanted}: {remedy}"
        raise TooManyPending(message, retry_after_seconds=FULL_RETRY_SECONDS)


class EngineCheck:
    """Asks the engine's ``validate`` about creates. The built-in engine is asked here, since it does not look
    at the stock; without a scheduler, other engines are not at hand, and the task itself will tell."""

    def __init__(self, settings: Settings, runner: Runner | None) -> None:
        self._runner = runner
        self._is_builtin = settings.engine == "qtm:run_backtest" and not isinstance(runner, ThreadRunner)

    @property
    def asks(self) -> bool:
        """Whether a create asks the user's engine, which may take long, or is not imported yet."""
        return self._runner is not None and not self._is_builtin and self._runner.may_refuse

    def check(
        self, batch: BatchRequest, tasks: Sequence[Combination], deadline: float
    ) -> Sequence[Combination]:
        """The tasks without those that are skipped. Raises InvalidTask with the faults, EngineUnavailable."""
        is_skipping = batch.invalid == "skip"
        found = self.refusals(tasks, deadline, len(tasks) if is_skipping else MAX_LISTED)
        if not found:
            return tasks
        if is_skipping and len(found) < len(tasks):
            return [task for place, task in enumerate(tasks) if place not in found]
        listed = itertools.islice(found.items(), MAX_LISTED)
        named = (self._field_error(batch, tasks, place, one) for place, many in listed for one in many)
        faults = list(dict.fromkeys(named))  # one of the config comes with every params
        raise InvalidTask(f"the engine refuses this: {faults[0].field}: {faults[0].message}", faults)

    def refusals(
        self, tasks: Sequence[Combination], deadline: float, most: int
    ) -> dict[int, list[FieldError]]:
        """The faults by the places of their tasks, of some ``most`` tasks. Raises EngineUnavailable."""
        found: dict[int, list[FieldError]] = {}
        if not self._is_builtin and self._runner is None:
            return found
        if time.monotonic() > deadline:
            message = "the engine took its time over requests before this one"
            raise EngineUnavailable(message, retry_after_seconds=2)
        if self._is_builtin:
            refused = ((place, faults) for place, faults in enumerate(backtest_faults(tasks)) if faults)
            return dict(itertools.islice(refused, most))
        for start in range(0, len(tasks), VALIDATED_TOGETHER):
            some = tasks[start : start + VALIDATED_TOGETHER]
            for fault in cast(Runner, self._runner).validate(some, most):
                found.setdefault(start + fault.place, []).append(FieldError(fault.field, fault.message))
            if len(found) >= most:
                break
        return found

    def run_keys(self, tasks: Sequence[Combination]) -> Iterator[str | None]:
        """The run_keys, up to where the engine fails; none without one. Raises EngineUnavailable."""
        for start in range(0, len(tasks) if self._runner else 0, VALIDATED_TOGETHER):
            yield from cast(Runner, self._runner).run_keys(tasks[start : start + VALIDATED_TOGETHER])

    def _field_error(
        self, batch: BatchRequest, tasks: Sequence[Combination], place: int, fault: FieldError
    ) -> FieldError:
        """A fault of the task at this place as one of the request."""
        (code, _, params), (field, message) = tasks[place], fault
        stock, number = divmod(place, len(batch.params))
        if batch.rerun and not self._is_builtin:
            return FieldError("rerun", f"{code}, {dump_json(params)[:MAX_ERROR_TEXT]}: {field}: {message}")
        if batch.origin != "params" and re.match(r"params\b", field):  # the client knows no numbers of them
            field, message = batch.origin, f"{dump_json(params)[:MAX_ERROR_TEXT]}: {message}"
        elif len(batch.params) > 1:
            field = re.sub(r"^params\b", f"params[{number}]", field)
        if len(batch.stock_codes) > 1 and not self._is_builtin:
            field = re.sub(r"^stock_code$", f"stock_codes[{stock}]", field)
            message = f"{code}: {message}"
        return FieldError(field, message)


# ==== 48 Batches ============================================================================================
# A batch as an object, over the verbs of a TaskManager or a Client, and the verbs that both have from here.
# Only calls of its methods make requests.

PROGRESS_SECONDS = 1.0  # between two looks at a batch that somebody watches
PLAIN_PROGRESS_SECONDS = 10.0  # between two lines, where none can be rewritten
COMPLETED_PAGE = 1000  # tasks that `as_completed` reads at once
BAR_WIDTH = 24  # characters


def progress_text(batch: BatchInfo) -> str:
    """Such as ``1,204 of 2,000 tasks ended, 4 running, 3 failed, 52.3 a second, 0:00:15 left``."""
    parts = [f"{batch.ended:,} of {batch.total:,} tasks ended"]
    parts += [f"{n:,} {name}" for name in ("running", "failed", "cancelled") if (n := batch.counts[name])]
    if batch.tasks_per_second and not batch.is_final:
        parts.append(f"{batch.tasks_per_second:.3g} a second")
    if batch.eta_seconds is not None and not batch.is_final:
        parts.append(f"{datetime.timedelta(seconds=round(batch.eta_seconds))} left")
    return ", ".join(parts)


class ProgressDisplay:
    """Shows how far a batch is: on a terminal and in a notebook in one line that is rewritten, elsewhere in a
    line every ten seconds and one at the end. To be called with each BatchInfo."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        self._is_rewritten = self._stream.isatty() or hasattr(shell, "kernel")  # of a notebook
        self._shown = ""
        self.seconds = PROGRESS_SECONDS if self._is_rewritten else PLAIN_PROGRESS_SECONDS  # between two calls

    def __call__(self, batch: BatchInfo) -> None:
        full = int(BAR_WIDTH * batch.ended / max(batch.total, 1))
        bar = f"{'█' * full}{'░' * (BAR_WIDTH - full)} " if self._is_rewritten else ""
        text = f"{batch.name or batch.batch_id}: {bar}{progress_text(batch)}"
        if self._is_rewritten:
            width = shutil.get_terminal_size((80 if self._stream.isatty() else 160, 1)).columns - 1
            self._stream.write(f"\r{text[:width]:{width}}" + "\n" * batch.is_final)
        elif text != self._shown:
            self._stream.write(f"{text}\n")
        self._shown = text
        self._stream.flush()


class Batch:
    """The tasks of one batch, from ``submit`` or ``batch``. Its methods raise what the verbs raise."""

    def __init__(self, verbs: Any, batch_id: str, created: CreatedBatch | None = None) -> None:
        self.batch_id = batch_id
        self.created = created  # the answer to `submit` and `rerun`
        self._verbs: TaskManager = verbs  # or a Client, which has the same

    def __repr__(self) -> str:
        return f"<Batch {self.batch_id!r}>"

    def _repr_html_(self) -> str:
        batch = self.info()
        head = f"Batch {batch.name or batch.batch_id}: {progress_text(batch)}"
        return html_table(head, [{"status": name, "tasks": count} for name, count in batch.counts.items()])

    def info(self) -> BatchInfo:
        """The batch with its counts as they are now, without tasks."""
        return self._verbs.get_batch(self.batch_id)

    def tasks(self, statuses: Sequence[TaskStatus] = ()) -> Iterator[TaskInfo]:
        """All its tasks, or those of these statuses, in the order of creation."""
        cursor = None
        while True:
            page = self._verbs.get_tasks_by_batch(self.batch_id, statuses, cursor=cursor)
            yield from page.tasks
            if not (cursor := page.next_cursor):
                return

    def wait(self, progress: bool = True, timeout_seconds: float | None = None) -> BatchInfo:
        """Wait until all of it has ended, or for ``timeout_seconds``: the batch with its counts then. With
        ``progress`` it shows how far it is on stderr or in the notebook's cell."""
        timeout = math.inf if timeout_seconds is None else timeout_seconds
        deadline, show = time.monotonic() + timeout, ProgressDisplay() if progress else None
        while True:
            left = deadline - time.monotonic()
            seconds = min(left, show.seconds if show else math.inf)
            batch = self._verbs.wait_batch(self.batch_id, max(seconds, 0.0))
            if show:
                show(batch)
            if batch.is_final or left <= 0:
                return batch

    def as_completed(self) -> Iterator[TaskInfo]:
        """Every task once it has ended, whether it completed or not; each comes once. Asks once a second, and
        reads only pages of the batch that had tasks that have not ended."""
        starts, ids = list[str | None]([None]), set[str]()  # the cursors of those pages; the tasks that came
        known, seconds = {*starts}, 0.0
        while True:
            batch = self._verbs.wait_batch(self.batch_id, seconds)
            unread, starts, seconds = deque(starts), [], PROGRESS_SECONDS
            while unread and (batch.is_final or len(ids) < batch.ended):
                start = unread.popleft()
                page = self._verbs.get_tasks_by_batch(self.batch_id, limit=COMPLETED_PAGE, cursor=start)
                ended = [task for task in page.tasks if task.status.is_final]
                fresh = [task for task in ended if task.task_id not in ids]
                ids.update(task.task_id for task in fresh)
                if page.next_cursor and page.next_cursor not in known:
                    known.add(page.next_cursor)
                    unread.append(page.next_cursor)
                if not page.next_cursor or len(ended) < len(page.tasks):
                    starts.append(start)
                yield from fresh
            starts += unread
            if batch.is_final:
                return

    def results(self) -> Iterator[TaskResult]:
        """The result of each completed task, in the order of creation, one request each."""
        return (self._verbs.get_task_result(task.task_id) for task in self.tasks([TaskStatus.COMPLETED]))

    def metrics(self, **options: Any) -> list[dict[str, Any]]:
        """A flat dict for each task, as `pandas.DataFrame` takes them: ``task_id``, ``stock_code``,
        ``status``, and its params and metrics by name; one whose name is taken is ``params.x`` or
        ``metrics.x``. The options are ``statuses`` and ``where`` of `TaskManager.export`."""
        names = ("task_id", "stock_code", "status", "params", "metrics")
        text = "".join(self._verbs.export(self.batch_id, "ndjson", names, **options))
        return flat_rows(map(json.loads, filter(None, text.split("\n"))))

    def export(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write all its tasks to a file, by its suffix CSV (``.csv``) or a JSON object a line (``.ndjson``),
        which replaces an older one when it is whole. The options are ``fields``, ``statuses`` and ``where``
        of `TaskManager.export`. Raises ValueError for another suffix, and OSError."""
        target = pathlib.Path(path)
        if target.suffix[1:].lower() not in FORMATS:
            raise ValueError(f"the name must end with .{' or .'.join(FORMATS)}: {target.name!r}")
        pieces = self._verbs.export(self.batch_id, target.suffix[1:].lower(), **options)
        if not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target))
        part = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
        try:
            with part.open("x", encoding="utf-8", newline="") as file:
                file.writelines(pieces)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def rank(self, by: str = "sharpe", **options: Any) -> Ranking:
        """Its leaderboard; the options are those of `TaskManager.rank`. ``against`` may be a Batch."""
        if isinstance(other := options.get("against"), Batch):
            options["against"] = other.batch_id
        return self._verbs.rank(self.batch_id, by, **options)

    def best(self, by: str = "sharpe", **options: Any) -> Mapping[str, Any] | None:
        """The first row of `rank`; None where no task has the metric."""
        rows = self.rank(by, **{**options, "limit": 1}).rows
        has_value = rows and (rows[0]["value"] if "value" in rows[0] else (rows[0]["metrics"] or {}).get(by))
        return rows[0] if rows and has_value is not None else None

    def rerun(self, **options: Any) -> Batch:
        """Run its best again, as a batch of their own; the options are those of `TaskManager.rerun`."""
        created = self._verbs.rerun(self.batch_id, **options)
        return Batch(self._verbs, created.batch_id, created)

    def cancel(self) -> int:
        """Cancel what has not ended; how many tasks."""
        return self._verbs.cancel_batch(self.batch_id)[0]

    def retry(self, **options: Any) -> int:
        """Retry what has failed, or tasks of other ``statuses``, see `TaskManager.retry_batch`; how many."""
        return self._verbs.retry_batch(self.batch_id, **options)[0]

    def delete(self) -> int:
        """Delete it with its tasks, all of which have ended; how many. Raises TaskNotFinished."""
        return self._verbs.delete_batch(self.batch_id)


class SharedVerbs:
    """The verbs that a TaskManager and a Client have from here; each class has the four steps that differ."""

    _task: Callable[[str], TaskInfo]
    _create: Callable[[dict[str, Any], str | None], CreatedBatch]
    _dry_run: Callable[[dict[str, Any]], DryRun]
    get_task_result: Any
    close: Callable[[], None]

    def __enter__(self: V) -> V:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get_task_status(self, task_id: str, with_result: bool = False) -> TaskInfo:
        """The task; a completed one has its ``result`` where that is asked for. Raises TaskNotFound."""
        task = self._task(text_argument("task_id", task_id))
        if with_result and task.status is TaskStatus.COMPLETED:
            task.result = self.get_task_result(task_id).result
        return task

    def create_task(
        self, request: TaskRequest | BatchRequest, idempotency_key: str | None = None
    ) -> CreatedBatch:
        """Store one task, or every stock x every params; all are durable when this returns. Waits while the
        engine is being imported. Raises InvalidRequest or InvalidTask with every fault, TooManyPending,
        IdempotencyKeyReused, EngineUnavailable, DatabaseUnavailable, and EngineError where the import has
        failed."""
        return self._new_batch(body_of(request), idempotency_key)

    def _new_batch(self, body: dict[str, Any], key: str | None) -> CreatedBatch:
        if key is not None:
            faults = faults_of("idempotency_key", text_argument("idempotency_key", key), TYPES["key"])
            if faults:
                raise invalid_request(faults)
        return self._create(body, key)

    def dry_run(self, request: TaskRequest | BatchRequest) -> DryRun:
        """What `create_task` would do with this request; nothing is stored. Makes all checks of a create and
        raises what they raise, TooManyPending too, but counts and lists what the engine refuses."""
        return self._dry_run(body_of(request))

    def batch(self, batch_id: str) -> Batch:
        """The batch of this id. Raises BatchNotFound."""
        batch = Batch(self, text_argument("batch_id", batch_id))
        batch.info()
        return batch

    def rerun(
        self,
        batch_id: str,
        top: int = 20,
        by: str = "sharpe",
        order: str = "desc",
        group: str | None = None,
        stat: str = "mean",
        where: str | Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        new_batch_id: str | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> CreatedBatch:
        """Run the best of a batch again, as a batch of their own: the ``top`` tasks by a metric, or, with
        ``group`` "params", all tasks of the batch that have one of the ``top`` params. ``config`` is merged
        over the config of each, say the dates of another period; ``rank(new, against=old)`` then shows both
        beside each other. The options are the other fields of BatchRequest. Raises BatchNotFound, and what
        create_task raises."""
        best = Rerun(batch_id, top, by, order, group, stat, cast(Any, where))
        merged = {} if config is None else config
        request = BatchRequest(config=merged, batch_id=new_batch_id, rerun=best, **options)
        return self.create_task(request, idempotency_key)

    def submit(
        self,
        stock_codes: str | Sequence[str],
        config: Mapping[str, Any],
        params: Mapping[str, Any] | Iterable[Mapping[str, Any]] = ({},),
        *,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Batch:
        """Create every stock x every params. ``params`` are one dict, a list of dicts such as `grid` gives,
        or a sweep as of createTask, ``{"grid": {"fast": range(5, 30, 5), "slow": [50, 100]}, "where": ["fast
        < slow"]}``, which takes one short request for up to 100,000 tasks. The options are the other fields
        of BatchRequest: ``name``, ``batch_id``, ``priority``, ``timeout_seconds``, ``max_attempts``,
        ``invalid``, ``reuse``. Raises what create_task raises."""
        codes = [stock_codes] if isinstance(stock_codes, str) else stock_codes
        request = BatchRequest(codes, config, cast(Any, params), **options)
        created = self._new_batch(body_of(request, may_sweep=True), idempotency_key)
        return Batch(self, created.batch_id, created)


# ==== 49 Task queries =======================================================================================
# The public verbs that change nothing. They raise the errors of the first room and return models, or the JSON
# text of an answer where HTTP would only write the model again.

WAIT_POLL_SECONDS = 1.0  # how late a waiting caller learns of a change that another replica made
RANKING_SECONDS = 60.0  # that a page of a ranking is kept, and what all pages of a batch have in common
MAX_RANKINGS = 16  # of half a megabyte each
MAX_PAGE = 10_000
DRY_RUN_EXAMPLES = 10  # stock codes, params and refusals that a dry run lists
EXPORT_TASKS = 1000  # of a page of an export: some hundred kilobytes, read and written in 30 ms
LONG_QUEUE = 200  # with more pending tasks, reading their order takes long enough to be done only
QUEUE_SECONDS = 0.25  # that often for all who ask where theirs stands


class TaskQueries(SharedVerbs):
    """The verbs that change nothing: they read tasks, batches and results, and wait for their ends."""

    def __init__(
        self, dao: TaskDAO, settings: Settings, scheduler: TaskScheduler | None, board: ChangeBoard
    ) -> None:
        self.dao = dao
        self.settings = settings
        self.scheduler = scheduler
        self._board = board
        # The head of a long queue and until when it is good. Written and read as one by any thread; two that
        # read it anew do no harm.
        self._queue: tuple[QueueHead, float] | None = None
        # pages and facts of rankings, those used last at the end, and until when each is good; the same
        self._rankings: dict[Any, tuple[float, Any]] = {}

    def _task(self, task_id: str) -> TaskInfo:
        task = self.dao.get(task_id)
        if task is None:
            raise self._no_task(task_id)
        return task

    def _no_task(self, task_id: str) -> TaskNotFound:
        return TaskNotFound(f"there is no task {task_id!r}")

    def get_status_texts(self, task_ids: Sequence[str]) -> dict[str, str | QtmError]:
        """For each of these ids what getTaskStatus answers: the JSON text of the task with its place in the
        queue, or the error. Many cost little more than one. Raises DatabaseUnavailable for all of them."""
        found = self.dao.get_texts(task_ids)
        is_any_pending = any(task.status is TaskStatus.PENDING for task in found.values())
        queue = self._queue_head() if is_any_pending else None

        def answer(task: TaskText) -> str:
            position, reason = "null", "null"
            if queue and task.status is TaskStatus.PENDING:
                position = str(queue.place(task.task_id, task.priority))
                reason = '"slot"' if self.scheduler is not None or queue.has_worker else '"no_scheduler"'
                reason = '"backoff"' if queue.is_in_backoff(task.run_at) else reason
            return f'{task.json[:-1]},"queue_position":{position},"waiting_for":{reason}}}'

        return {key: answer(found[key]) if key in found else self._no_task(key) for key in task_ids}

    def _queue_head(self) -> QueueHead:
        """As it stands now, or a moment ago when it is long."""
        if self._queue and time.monotonic() < self._queue[1]:
            return self._queue[0]
        queue = self.dao.queue_head(3 * self.settings.poll_seconds)
        self._queue = (queue, time.monotonic() + (QUEUE_SECONDS if len(queue.entries) > LONG_QUEUE else 0.0))
        return queue

    def get_batch_page(self, chosen: TaskFilter, has_waited: bool = False) -> tuple[BatchInfo, TaskPage]:
        """The batch with its counts, and a page of its tasks in the order of creation. Counts of a large
        batch may be a second old, after the first page a minute, unless the client ``has_waited`` for its
        end. They are read first: the tasks of an ended batch have ended. Raises BatchNotFound."""
        chosen = dataclasses.replace(checked_filter(chosen), newest_first=False)
        max_age = NEXT_PAGE_COUNTS_SECONDS if chosen.cursor else COUNTS_SECONDS
        batch = self._batch(text_argument("batch_id", chosen.batch_id), 0.0 if has_waited else max_age)
        return self.dao.with_rate(batch), self.dao.list_page(chosen)

    def get_tasks_by_batch(
        self,
        batch_id: str,
        statuses: Sequence[TaskStatus] = (),
        stock_code: str | None = None,
        limit: int = MAX_PAGE,
        cursor: str | None = None,
    ) -> BatchInfo:
        """The batch with its counts, and a page of its tasks in the order of creation. Raises BatchNotFound."""
        batch, page = self.get_batch_page(TaskFilter(batch_id, statuses, stock_code, limit, cursor))
        return dataclasses.replace(batch, tasks=page.tasks, next_cursor=page.next_cursor)

    def get_batch(self, batch_id: str) -> BatchInfo:
        """The batch with its counts and rate. Raises BatchNotFound."""
        return self.dao.with_rate(self._batch(text_argument("batch_id", batch_id), 0.0))

    def _batch(self, batch_id: str, max_age_seconds: float) -> BatchInfo:
        batch = self.dao.get_batch(batch_id, max_age_seconds)
        if batch is None:
            raise BatchNotFound(f"there is no batch {batch_id!r}")
        return batch

    def get_task_result(self, task_id: str) -> TaskResult:
        """The result, None for a failed or cancelled task. Raises TaskNotFound, TaskNotFinished."""
        (text,) = self.get_result_texts([text_argument("task_id", task_id)]).values()
        if isinstance(text, QtmError):
            raise text
        return TaskResult.from_dict(json.loads(cast(str, text)))

    def get_result_texts(self, task_ids: Sequence[str]) -> dict[str, str | QtmError | None]:
        """For each of these ids what getTaskResult answers: the JSON text of the task with its result, or the
        error; None for a result so long that it must be asked for alone. Raises DatabaseUnavailable."""
        found = self.dao.get_texts(task_ids, with_results=True)

        def answer(task: TaskText) -> str | QtmError | None:
            if not task.status.is_final:
                return TaskNotFinished(f"the task is {task.status.value}: it has no result yet")
            if task.non_finite_json is not None and task.result_json is None:
                return None
            lists = f'"non_finite":{task.non_finite_json or "[]"},"converted":{task.converted_json or "[]"}'
            return f'{task.json[:-1]},"result":{task.result_json or "null"},{lists}}}'

        return {key: answer(found[key]) if key in found else self._no_task(key) for key in task_ids}

    def get_task_attempts(self, task_id: str) -> list[TaskAttempt]:
        """The attempts on record, at most the newest 100, in their order. Raises TaskNotFound."""
        attempts = self.dao.get_attempts(text_argument("task_id", task_id))
        if not attempts:
            self.get_task_status(task_id)
        return attempts

    def run_card(self, task_id: str) -> dict[str, Any]:
        """What is needed to run a completed task again; None for what an older version did not keep. Of a
        result that was taken over, the attempt is that of its source. Raises TaskNotFound,
        TaskNotFinished."""
        found = self.dao.get_run_card(text_argument("task_id", task_id))
        if found is None:
            raise self._no_task(task_id)
        task, card = found
        if task.status is not TaskStatus.COMPLETED:
            raise TaskNotFinished(f"the task is {task.status.value}: only a completed one has a run card")
        seed = task.params.get("seed", task.config.get("seed"))
        own = {name: getattr(task, name) for name in CARD_OF_TASK.split()}
        return {**own, "seed": seed, **{name: card.get(name) for name in CARD_OF_RUN.split()}}

    def list_tasks(
        self,
        batch_id: str | None = None,
        statuses: Sequence[TaskStatus] = (),
        stock_code: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> tuple[list[TaskInfo], str | None]:
        """A page of tasks, newest first, and the cursor of the next page (None: this was the last)."""
        page = self.list_page(TaskFilter(batch_id, statuses, stock_code, limit, cursor))
        return page.tasks, page.next_cursor

    def list_page(self, chosen: TaskFilter) -> TaskPage:
        """The same as JSON text."""
        return self.dao.list_page(checked_filter(chosen))

    def rank(
        self,
        batch_id: str,
        by: str = "sharpe",
        order: str = "desc",
        group: str | None = None,
        stat: str = "mean",
        where: str | Sequence[str] = (),
        against: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Ranking:
        """The leaderboard of a batch by a metric, or by a parameter such as "params.fast"; a page has at most
        1,000 rows; tasks without it come last. ``group`` "params" ranks equal params by a statistic over
        their stocks (mean, median, min or max); ``where`` has conditions such as "fast < 20"; ``against`` is
        a batch whose metric of the same stock and params stands beside each row. By "sharpe" each row has its
        deflated Sharpe ratio: a group is one trial, by its mean, since that is what is chosen from. Raises
        BatchNotFound, InvalidRequest."""
        given = checked(batch_id=batch_id, by=by, order=order, group=group, stat=stat, where=where)
        given |= checked(against=against, limit=limit)
        start = cursor or "0"
        if not start.isdecimal():
            raise invalid_request([FieldError("cursor", "must be the next_cursor of the page before")])
        query = RankQuery(**{**given, "limit": min(given["limit"], MAX_RANKED)}, start=int(start))
        return Ranking(**json.loads(self.rank_text(query)))

    def rank_text(self, query: RankQuery) -> str:
        """The same as JSON text, kept for a minute while the counts of the batches stay."""
        if faults := query.problems():
            raise invalid_request(faults)
        batches = [self._batch(one, COUNTS_SECONDS) for one in (query.batch_id, query.against) if one]
        state = [(batch.batch_id, batch.created_at, *batch.counts.values()) for batch in batches]

        def rank() -> str:
            facts = self._kept(("facts", *state), lambda: self.dao.batch_facts(query))
            return self.dao.rank(query, batches[0].counts, facts)

        return self._kept((query, *state), rank)

    def _kept(self, key: Any, make: Callable[[], T]) -> T:
        """What was made for this key in the last minute, else what is made now."""
        until, found = self._rankings.pop(key, (0.0, None))
        if until < time.monotonic():
            until, found = time.monotonic() + RANKING_SECONDS, make()
        self._rankings[key] = until, found
        for old in list(self._rankings)[:-MAX_RANKINGS]:
            self._rankings.pop(old, None)
        return cast(T, found)

    def export(
        self,
        batch_id: str,
        format: str = "csv",
        fields: str | Sequence[str] = (),
        statuses: Sequence[TaskStatus] = (),
        where: str | Sequence[str] = (),
    ) -> Iterator[str]:
        """All tasks of a batch in the order of creation, as the pieces of a text: "csv" with a column for
        each parameter and metric that any of them has, or "ndjson" with a task in each line; of ``fields``
        only these: a field of the task, "params.fast", "metrics.sharpe", or a name alone, which is of each
        task the parameter, else the metric. A column that a task lacks is empty. Each page of 1,000 tasks
        shows them as they stand when it is read. Raises BatchNotFound, and InvalidRequest also for more than
        1,000 columns; the iterator raises DatabaseUnavailable."""
        chosen = TaskFilter(batch_id, statuses, limit=EXPORT_TASKS, newest_first=False)
        chosen, given = checked_filter(chosen), checked(where=where, fields=fields, format=format)
        conditions, names = given["where"], given["fields"]
        faults = faults_of("where", conditions, schema_of("row_condition*"))
        faults += faults_of("format", given["format"], schema_of(form_choice(FORMATS)))
        if "" in names or len(names) > MAX_COLUMNS:
            faults.append(FieldError("fields", f"must be 1 to {MAX_COLUMNS} names of columns"))
        if faults:
            raise invalid_request(faults)
        self._batch(text_argument("batch_id", batch_id), COUNTS_SECONDS)
        if format == "ndjson" and not names:
            rows = self.dao.export_rows(chosen, (), conditions)
            return pieces_of(rows, "", lambda row: f"{_utf8(row[0])}\n")
        columns = chosen_columns(names) if names else self._all_columns(chosen, conditions)
        lines = TableLines(columns, is_csv=format == "csv")
        return pieces_of(self.dao.export_rows(chosen, lines.fields, conditions), lines.head, lines.line)

    def _all_columns(self, chosen: TaskFilter, where: Sequence[str]) -> Columns:
        """The columns of all params and metrics of these tasks. Raises InvalidRequest for too many."""
        found: dict[str, dict[str, None]] = {"params": {}, "metrics": {}}
        for kind, names in self.dao.export_names(chosen, where):
            found[kind] |= dict.fromkeys(names)
            if sum(map(len, found.values())) + len(FIRST_COLUMNS) > MAX_COLUMNS:
                words = f"params and metrics make more than {MAX_COLUMNS} columns: choose fields, or format=ndjson"
                raise invalid_request([FieldError("fields", words)])
        first = [("", head) for head in FIRST_COLUMNS.values()]
        heads = named_columns([*first, *((kind, name) for kind in found for name in found[kind])])
        return {**FIRST_COLUMNS, **{key: head for key, head in heads.items() if key[0]}}

    def curves(self, task_ids: str | Sequence[str], points: int = 500) -> list[Curve]:
        """The equity curves of at most 20 completed tasks, each thinned to at most ``points`` (2 to 2,000),
        see `thin_curve`. Raises TaskNotFound, TaskNotFinished, InvalidRequest."""
        ids, points = checked(task_ids=task_ids, points=points).values()
        ids = [*dict.fromkeys(ids)]
        faults = faults_of("points", points, schema_of(f"int {form_range(CURVE_POINTS)}"))
        if not 1 <= len(ids) <= MAX_CURVES:
            faults.append(FieldError("task_id", f"must name 1 to {MAX_CURVES} tasks"))
        if faults:
            raise invalid_request(faults)
        found = self.dao.get_texts(ids)
        for task_id in ids:
            if task_id not in found:
                raise self._no_task(task_id)
            if found[task_id].status is not TaskStatus.COMPLETED:
                words = f"the task {task_id} is {found[task_id].status.value}: it has no equity curve"
                raise TaskNotFinished(words)
        return [self._curve(TaskInfo.from_dict(json.loads(found[one].json)), points) for one in ids]

    def _curve(self, task: TaskInfo, points: int) -> Curve:
        curve = self.dao.get_curve(task.result_of or task.task_id)
        known = curve if is_curve(curve) else None
        thinned = None if known is None else thin_curve(known, points)
        return Curve(task.task_id, task.stock_code, task.params, len(known or ()), thinned)

    def list_batches(self, limit: int = 20, cursor: str | None = None) -> tuple[list[BatchInfo], str | None]:
        """A page of batches with their counts, newest first, and the cursor of the next page."""
        limit = checked(limit=limit)["limit"]
        try:
            datetime.datetime.fromisoformat(cursor.partition("~")[0] if cursor else "9999-12-31")
        except ValueError:  # such as a 31st of February, which MySQL would call an error
            return [], None
        return self.dao.list_batches(limit, cursor)

    def wait(self, task_id: str, timeout_seconds: float) -> TaskInfo:
        """The task once it has ended, or as it stands after ``timeout_seconds``. Raises TaskNotFound;
        EngineError, or another QtmError, where the scheduler of this manager has failed."""
        text_argument("task_id", task_id)
        self._wait(task_id, timeout_seconds, lambda: bool(self.ended([task_id], ())))
        return self.get_task_status(task_id)

    def wait_batch(self, batch_id: str, timeout_seconds: float) -> BatchInfo:
        """The batch once it has ended, or after the time. Raises BatchNotFound, and as `wait`."""
        text_argument("batch_id", batch_id)
        self._wait(batch_id, timeout_seconds, lambda: bool(self.ended((), [batch_id])))
        return self.get_batch(batch_id)

    def _wait(self, key: str, timeout_seconds: float, has_ended: Callable[[], bool]) -> None:
        deadline = time.monotonic() + timeout_seconds
        with self._board.watch(key) as event:
            while not has_ended() and (remaining := deadline - time.monotonic()) > 0:
                if self._board.is_closed:
                    return
                self._check_scheduler()
                event.wait(min(WAIT_POLL_SECONDS, remaining))
                event.clear()

    def ended(self, task_ids: Sequence[str], batch_ids: Sequence[str]) -> set[str]:
        """Those of the tasks and batches that have ended, or are not there: for many waiting clients."""
        return self.dao.ended(task_ids, batch_ids)

    def _check_scheduler(self) -> None:
        """Raises the reason for which the scheduler of this manager has failed."""
        failure = self.scheduler.failure if self.scheduler else None
        if failure:
            kind = EngineError if isinstance(failure, EngineError) else QtmError
            raise kind(f"the scheduler of this manager has failed: {failure}") from failure


# ==== 50 TaskManager ========================================================================================
# The public verbs that change tasks, and `start`. HTTP and Python callers use only these and the verbs of Task
# queries.


class TaskManager(TaskQueries):
    """Creates, follows, cancels, retries and deletes tasks. Made by `start`; also a context manager."""

    def __init__(
        self,
        dao: TaskDAO,
        settings: Settings,
        scheduler: TaskScheduler | None = None,
        runner: Runner | None = None,
        board: ChangeBoard | None = None,
    ) -> None:
        super().__init__(dao, settings, scheduler, board or ChangeBoard())
        self.upkeep = Upkeep(dao, settings)
        self._runner = runner
        self._engine = EngineCheck(settings, runner)
        self._limit = PendingLimit(dao, settings.max_pending)
        give_up_when_forked(self)

    def forked(self) -> None:
        """All verbs but `close` raise ForkedProcess from now on: the threads are the parent's."""
        for name in ("dao", "scheduler", "upkeep", "_runner", "_engine", "_limit", "_board"):
            setattr(self, name, LEFT_TO_PARENT)

    @property
    def asks_engine(self) -> bool:
        """See `EngineCheck.asks`."""
        return self._engine.asks

    def _create(self, body: dict[str, Any], idempotency_key: str | None) -> CreatedBatch:
        batch = BatchRequest.from_body(body)
        self._wait_ready(batch.reuse is not None)
        (created,) = self.create_tasks([(batch, idempotency_key)])
        if isinstance(created, QtmError):
            raise created
        return created

    def _wait_ready(self, reuses: bool = False) -> None:
        self._check_scheduler()
        if self._runner is not None and (self.asks_engine or reuses):
            self._runner.wait_ready(self.settings.engine_start_seconds)

    def _dry_run(self, body: dict[str, Any]) -> DryRun:
        self._wait_ready()
        return self.would_create(BatchRequest.from_body(body))

    def _asked(self, batch: BatchRequest) -> tuple[Sequence[Combination], Sequence[str]]:
        """The tasks that this request asks for, and warnings. Raises BatchNotFound, InvalidRequest where it is
        a rerun."""
        if batch.rerun is None:
            return batch.combinations(), []
        counts = self._batch(batch.rerun.batch_id, 0.0).counts
        left = ", ".join(f"{counts[one]} {one}" for one in ("pending", "running") if counts[one])
        words = f"the batch {batch.rerun.batch_id} has not ended ({left}): these are its best so far"
        return rerun_tasks(batch, self.dao.best(batch.rerun.query, counts)), [words] if left else []

    def would_create(self, batch: BatchRequest) -> DryRun:
        """The same as `dry_run`, of a request that was checked."""
        asked, warnings = self._asked(batch)
        tasks = asked
        found = self._engine.refusals(asked, time.monotonic() + CHANNEL_TIMEOUT_SECONDS, len(asked))
        if found and batch.invalid == "skip":
            tasks = [task for place, task in enumerate(asked) if place not in found]
        self._limit.take(len(tasks), is_kept=False)
        refusals = []
        for place, faults in itertools.islice(found.items(), DRY_RUN_EXAMPLES):
            (code, _, params), (field, message) = asked[place], faults[0]
            refusals.append({"stock_code": code, "params": params, "message": f"{field}: {message}"})
        recent = self.dao.recent_seconds(asked[0][1].get("strategy"))
        slots, seconds = self.dao.living_slots(3 * self.settings.poll_seconds), None
        if recent and slots:
            seconds = round(statistics.median(recent) * max(len(tasks) / slots, len(tasks) > 0), 3)
        codes = list(dict.fromkeys(code for code, _, _ in tasks))[:DRY_RUN_EXAMPLES]
        examples = list({id(params): params for _, _, params in tasks}.values())[:DRY_RUN_EXAMPLES]
        skipped = len(asked) - len(tasks)
        return DryRun(len(tasks), codes, examples, skipped, len(found), refusals, seconds, warnings)

    def create_tasks(
        self, asked: Sequence[tuple[BatchRequest, str | None]], creators: Sequence[str | None] = ()
    ) -> list[CreatedBatch | QtmError]:
        """Requests of `BatchRequest.from_body` that wait at the same time, each with its Idempotency-Key or
        None: what `create_task` gives or raises for each. Small ones share a transaction, and none suffers
        for the faults of another. ``creators``: the name of the token of each."""
        answers: list[NewTasks | CreatedBatch | QtmError] = []
        deadline = time.monotonic() + CHANNEL_TIMEOUT_SECONDS
        for (batch, key), creator in itertools.zip_longest(asked, creators):
            if answers and isinstance(answers[-1], DatabaseUnavailable):
                answers.append(answers[-1])  # this one would only wait for the same
                continue
            try:
                answers.append(self._new_tasks(batch, key, creator, deadline))
            except QtmError as error:
                answers.append(without_traceback(error))
        stored = iter(self._stored([one for one in answers if isinstance(one, NewTasks)]))
        return [next(stored) if isinstance(one, NewTasks) else one for one in answers]

    def _stored(self, creates: Sequence[NewTasks]) -> Sequence[CreatedBatch | QtmError]:
        """The answer to each of these creates, which are stored now."""
        try:
            if len(creates) == 1 and self.scheduler and self.scheduler.create(creates[0]):
                return [creates[0].created]
        except DatabaseUnavailable as error:
            return [without_traceback(error)]
        answers = self.dao.create(creates)
        if self.scheduler and any(isinstance(one, CreatedBatch) and not one.repeated for one in answers):
            self.scheduler.wake()
        return answers

    def _new_tasks(
        self, batch: BatchRequest, key: str | None, creator: str | None, deadline: float
    ) -> NewTasks | CreatedBatch:
        """All that is to be stored of a request, or what its key has created, where it would be refused now.
        Raises as `_asked`, and InvalidTask, EngineUnavailable, TooManyPending, IdempotencyKeyReused."""
        digest = ""  # without a key nobody compares it
        if key is not None:
            digest = hashlib.sha256(json.dumps(batch.asked(), sort_keys=True).encode()).hexdigest()
        try:
            asked, warnings = self._asked(batch)
            tasks = self._engine.check(batch, asked, deadline)
            run_keys = list(self._engine.run_keys(tasks)) if batch.reuse else []
            known = self.dao.known_runs({one for one in run_keys if one}) if any(run_keys) else {}
            self._limit.take(len(tasks) - sum(one in known for one in run_keys))
        except (InvalidRequest, InvalidTask, BatchNotFound, EngineUnavailable, TooManyPending):
            created = self.dao.repeated(key, digest)
            if created:
                return created
            raise
        new_batch_id, *task_ids = new_task_ids(1 + len(tasks))
        sources = {
            task_id: known[one] for task_id, one in zip(task_ids, run_keys, strict=False) if one in known
        }
        timeout = batch.timeout_seconds or self.settings.task_timeout_seconds
        attempts, batch_id = batch.max_attempts or self.settings.max_attempts, batch.batch_id or new_batch_id
        ready = NewTasks(batch, batch_id, task_ids, timeout, attempts, key, digest, creator)
        skipped = len(asked) - len(tasks)
        return ready._replace(tasks=tasks, skipped=skipped, sources=sources, warnings=warnings)

    def cancel_task(self, task_id: str) -> TaskInfo:
        """Cancel a pending or running task; again is no error. Raises TaskNotFound, TaskFinished."""
        changed = self.dao.cancel(text_argument("task_id", task_id))
        task = self.get_task_status(task_id)
        if task.status is not TaskStatus.CANCELLED:
            raise TaskFinished(f"the task is {task.status.value} and can no longer be cancelled")
        if changed:
            self._cancelled(lambda running: running.task_id == task_id, task_id, task.batch_id)
        return task

    def cancel_batch(self, batch_id: str) -> tuple[int, BatchInfo]:
        """Cancel what of a batch has not ended: how many tasks, and the batch then. Raises BatchNotFound."""
        self._batch(text_argument("batch_id", batch_id), NEXT_PAGE_COUNTS_SECONDS)
        count = self.dao.cancel_batch(batch_id)
        if count:
            self._cancelled(lambda running: running.batch_id == batch_id, batch_id)
        return count, self.get_batch(batch_id)

    def _cancelled(self, belongs: Callable[[Attempt], bool], *keys: str) -> None:
        self._limit.count_anew()
        if self.scheduler:
            self.scheduler.discard(belongs)
        self._board.notify(*keys)

    def retry_task(self, task_id: str) -> TaskInfo:
        """Make a failed or cancelled task pending again, with ``max_attempts`` new attempts; ``max_pending``
        does not hold it up. Raises TaskNotFound, TaskNotRetryable."""
        changed = self.dao.retry(text_argument("task_id", task_id))
        task = self.get_task_status(task_id)
        if not changed:
            words = "only failed and cancelled ones can be retried"
            raise TaskNotRetryable(f"the task is {task.status.value}; {words}")
        self._retried()
        return task

    def retry_batch(
        self, batch_id: str, statuses: Sequence[TaskStatus] = (TaskStatus.FAILED,)
    ) -> tuple[int, BatchInfo]:
        """Retry what of a batch is failed, cancelled, or either: how many, and the batch then. Raises
        BatchNotFound, InvalidRequest."""
        chosen = checked(statuses=statuses)["statuses"]
        if not chosen or not set(chosen) <= set(RETRY.before):
            raise invalid_request([FieldError("statuses", "must be failed, cancelled or both")])
        self._batch(text_argument("batch_id", batch_id), NEXT_PAGE_COUNTS_SECONDS)
        count = self.dao.retry_batch(batch_id, chosen)
        if count:
            self._retried()
        return count, self.get_batch(batch_id)

    def _retried(self) -> None:
        self._limit.count_anew()
        if self.scheduler:
            self.scheduler.wake()

    def delete_task(self, task_id: str) -> None:
        """Delete a task that has ended, with its result, attempts and metrics, and its batch if it was the
        last. Raises TaskNotFound, TaskNotFinished."""
        deleted = self.dao.delete([_key(text_argument("task_id", task_id))])
        if not deleted:
            task = self.get_task_status(task_id)
            raise TaskNotFinished(f"the task is {task.status.value}: only ended ones can be deleted")
        self._deleted(deleted[0][1])

    def delete_batch(self, batch_id: str) -> int:
        """Delete a batch that has ended, in short transactions: how many tasks, 0 for a repeat after a lost
        answer. After an error a repeat deletes the rest. Raises BatchNotFound, TaskNotFinished."""
        batch = self.get_batch(batch_id)
        if not batch.is_final:
            counts = f"{batch.counts['pending']} tasks are pending and {batch.counts['running']} running"
            raise TaskNotFinished(f"{counts}: only a batch that has ended can be deleted")
        steps = purge_steps(functools.partial(self.dao.delete_some, batch_id), PURGE_ROWS)
        count = sum(deleted for deleted, _ in steps)
        self._deleted(batch_id)
        if self.dao.get_batch(batch_id):
            words = "others were retried or added meanwhile and are kept"
            error = TaskNotFinished(f"{count} tasks are deleted; {words}")
            error.log = {"tasks": count}
            raise error
        return count

    def _deleted(self, batch_id: str) -> None:
        self.dao.delete_if_empty(batch_id)
        self._rankings.clear()

    def listen(self, listener: Callable[[Sequence[str]], None] | None) -> None:
        """Have ``listener``, which must not block, called with the ids of what changes here."""
        self._board.listener = listener

    def drain(self) -> None:
        """The service is about to stop: claim no more, and let nobody wait for an end that may not come."""
        self._board.close()
        if self.scheduler:
            self.scheduler.drain()

    def close(self) -> None:
        """Stop the scheduler with its grace, then close the database; nothing in a forked process."""
        if self.dao is LEFT_TO_PARENT:
            return
        self.drain()
        if self.scheduler:
            self.scheduler.stop()
        self.upkeep.stop()
        self.dao.database.close()


def open_database(settings: Settings) -> Database:
    """The database, at the newest schema. Raises SettingsError, SchemaError, DatabaseUnavailable."""
    database = Database(settings.database_url, settings.pool_size)
    try:
        migrate(database)
        for found in judge(database.read(database.dialect.facts)):
            if found.subject == "encryption":
                words = {"message": found.message, "why": found.why, "remedy": found.remedy}
                log_event(logging.WARNING, "database connection not safe", **words)
    except BaseException:
        database.close()
        raise
    return database


def start(
    settings: Settings | None = None,
    engine: BacktestEngine | EngineServer | None = None,
    scheduler: bool = True,
    database: Database | None = None,
) -> TaskManager:
    """Open and migrate the database, start a scheduler unless ``scheduler`` is false, and return the manager.

    ``engine``, a plain callable, runs in threads of this process instead of ``settings.engine`` in processes
    of its own: handy in a notebook, but a timeout or cancel can then only abandon it. ``database`` is one
    from `open_database`; the manager closes it. Raises SettingsError, SchemaError, DatabaseUnavailable."""
    settings = Settings() if settings is None else settings
    faults = settings.problems()
    if engine is not None and not isinstance(engine, EngineServer):
        try:
            engine = usable_engine(engine, getattr(engine, "__name__", type(engine).__name__))
        except EngineError as error:
            faults.append(error.message)
    if faults:
        raise SettingsError("settings are wrong:\n  " + "\n  ".join(faults))
    database = database or open_database(settings)
    dao, board = TaskDAO(database), ChangeBoard()
    runner: Runner | None = None
    own: TaskScheduler | None = None
    if scheduler:
        engine = EngineServer(settings) if engine is None else engine
        runner = engine if isinstance(engine, EngineServer) else ThreadRunner(engine)
        own = TaskScheduler(dao, runner, settings, board)
        runner.on_change = own.wake
    tasks = TaskManager(dao, settings, own, runner, board)
    try:
        tasks.upkeep.start()
        if own:
            own.start()
    except BaseException:
        tasks.upkeep.stop()
        database.close()
        raise
    return tasks


# ==== 51 Service connections ================================================================================
# Requests to a running service. One is repeated when its answer is lost: creates have an Idempotency-Key, and
# the other changes ask for a state, not for a step.

API = "/api/v1/backtest"
DEFAULT_URL = "http://127.0.0.1:8080"
URL_RULE = f"must look like {DEFAULT_URL} or https://example.com/qtm; a token goes into token= or QTM_TOKEN"
CLIENT_HOST = r"([^][/?#@:\x00-\x20]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
CLIENT_URL = re.compile(rf"https?://{CLIENT_HOST}(/[^?#\x00-\x20]*)?", re.IGNORECASE)
BEARER = re.compile(r"[\x21-\x7e]*")
MAX_WAIT_SECONDS = 60.0  # for an end, of one request
CLIENT_WAIT_SECONDS = 30.0  # of those: many proxies give up after 60
REQUEST_SECONDS = 60.0  # that a request is tried, repeats included, beyond its wait for an end
CONNECT_SECONDS = 10.0
REPEAT_SECONDS = (0.05, 2.0)  # before the first repeat, doubling up to the last
REPEATED_STATUSES = (502, 503, 504)  # the service, or a proxy before it, cannot answer now
RECEIVED_BYTES = 64 * 1024  # at a time, of an export
SHOWN_BODY_BYTES = 200  # of an answer that is none of qtm's


@dataclass
class HttpReply:
    """The answer to a request; ``status`` is 0 where there is none, and ``body`` the reason. ``was_sent``:
    the service may have carried the request out; ``is_repeat``: or one before it, whose answer was lost."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    was_sent: bool = True
    is_repeat: bool = False
    pieces: Iterator[str] | None = None  # of an export, in place of a body

    @functools.cached_property
    def _values(self) -> Any:
        with contextlib.suppress(ValueError):
            return json.loads(self.body)

    @functools.cached_property
    def error(self) -> QtmError | None:
        """The error, of the class that the service raised; None for a success."""
        text, values = self.body[:SHOWN_BODY_BYTES].decode("utf-8", "replace"), self._values
        if not self.status:
            return ServiceUnreachable(text)
        try:
            if values["code"] == 0 and "data" in values:
                return None
            name, message = str(values["error"]), str(values["message"])
            faults = [FieldError(str(fault["field"]), str(fault["message"])) for fault in values["errors"]]
        except (KeyError, TypeError):
            to = f" with a redirect to {self.headers['location']}" if "location" in self.headers else ""
            words = f"{self.url} answered with status {self.status}{to}, and not as qtm does"
            return QtmError(f"{words}: {text}", retry_after_seconds=self.retry_after_seconds)
        kind = {one.error: one for one in shown_errors()}.get(name, QtmError)
        if kind is QtmError:
            message = f"{self.url} answered with status {self.status}, {name}: {message}"
        if self.status == Unauthorized.http_status:
            message += "; the token goes into qtm.connect(url, token=...) or QTM_TOKEN"
        error = kind.__new__(kind)  # the server's errors take other arguments
        QtmError.__init__(error, message, faults, self.retry_after_seconds)
        return error

    @property
    def retry_after_seconds(self) -> int | None:
        """The header Retry-After, if it is a number."""
        text = self.headers.get("retry-after", "")
        return int(text) if re.fullmatch("[0-9]{1,9}", text) else None

    def read(self, parse: Callable[[Any], R]) -> R:
        """The data of a success as a model. Raises the error of a failure."""
        if self.pieces is not None:
            return parse(self.pieces)
        if self.error:
            raise self.error
        try:
            return parse(self._values["data"])
        except (KeyError, TypeError, ValueError) as error:
            words = f"{self.url} answered what qtm {__version__} cannot read; is it of another version?"
            raise QtmError(f"{words} ({type(error).__name__}: {error})") from None


class ServiceConnections:
    """Keep-alive connections to one service, for any threads; a forked child makes new ones."""

    def __init__(self, url: str, token: str, timeout_seconds: float) -> None:
        parts = urllib.parse.urlsplit(url)
        self.url = url.rstrip("/")
        self.timeout_seconds = timeout_seconds
        self._is_https = parts.scheme == "https"
        self._address = (parts.hostname or "", parts.port)
        self._path = parts.path.rstrip("/") + API
        self._headers = {"Accept": "application/json", "User-Agent": f"qtm/{__version__}"}
        self._headers |= {"Authorization": f"Bearer {token}"} if token else {}
        # without a request, the one that was used last at the end: any thread takes one, and puts it back
        self._idle: list[http.client.HTTPConnection] = []
        self._has_answered = False  # written by any thread, only ever to True
        self._closed = threading.Event()
        give_up_when_forked(self)

    def forked(self) -> None:
        """Leave the connections to the parent of this process."""
        for connection in self._idle:
            close_inherited(connection.sock)
        self._idle, self._closed = [], threading.Event()

    def close(self) -> None:
        """End the idle connections; requests are refused, and waits end, from now on."""
        self._closed.set()
        for connection in self._taken():
            connection.close()

    def pause(self, seconds: float) -> bool:
        """Wait so long, or until it is closed; whether it is."""
        return self._closed.wait(seconds)

    def _taken(self) -> Iterator[http.client.HTTPConnection]:
        """The idle connections, each taken by this thread alone, while there are any."""
        with contextlib.suppress(IndexError):
            while True:
                yield self._idle.pop()

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        """An idle connection that the service has not closed, or a new one. Raises OSError."""
        for connection in self._taken():
            poll = select.poll()
            poll.register(connection.sock, select.POLLIN)
            if not poll.poll(0):
                connection.sock.settimeout(seconds)
                return connection
            connection.close()
        kind = http.client.HTTPSConnection if self._is_https else http.client.HTTPConnection
        connection = kind(*self._address, timeout=min(seconds, CONNECT_SECONDS))
        connection.connect()
        connection.sock.settimeout(seconds)
        return connection

    def _once(self, target: str, body: bytes | None, headers: Mapping[str, str], seconds: float) -> HttpReply:
        """One request and its answer, or the reason why there is none."""
        if self._closed.is_set():
            return HttpReply(self.url, 0, {}, b"this client is closed", was_sent=False)
        connection = None
        try:
            connection = self._connection(seconds)
            method = "GET" if body is None else "POST"
            connection.request(method, self._path + target, body, {**self._headers, **headers})
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            if answer.status == 200 and fields.get("content-type") in FORMATS.values():
                pieces, connection = self._pieces(connection, answer), None
                return HttpReply(self.url, answer.status, fields, b"", pieces=pieces)
            reply = HttpReply(self.url, answer.status, fields, answer.read())
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            words = "no answer from" if connection else "cannot connect to"
            reason = f"{words} {self.url}: {error or type(error).__name__}"
            return HttpReply(self.url, 0, {}, reason.encode(), was_sent=connection is not None)
        else:
            if connection.sock and not self._closed.is_set():
                self._idle.append(connection)
                connection = None
            return reply
        finally:
            if connection:
                connection.close()

    def _pieces(
        self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
    ) -> Iterator[str]:
        """The text of an export as it comes. Raises ServiceUnreachable where it breaks off."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while data := answer.read1(RECEIVED_BYTES):
                yield decoder.decode(data)
        except (OSError, http.client.HTTPException) as error:
            reason = f"the answer of {self.url} broke off: {error or type(error).__name__}"
            raise ServiceUnreachable(reason) from None
        finally:
            connection.close()

    def ask(self, verb: str, values: Any, key: str = "", wait_until: float = 0.0) -> HttpReply:
        """Make a request such as "GET getTaskStatus" with these parameters, or "POST cancelTask" with this
        body, again and again until the answer is no passing trouble: see `connect`. The service waits for an
        end until ``wait_until``, by the monotonic clock."""
        method, _, path = verb.partition(" ")
        content = dump_json(values).encode(errors="surrogatepass") if method == "POST" else None
        headers = {"Content-Type": "application/json"} if content else {}
        headers |= {"Idempotency-Key": key} if key else {}
        deadline = max(time.monotonic(), wait_until) + self.timeout_seconds
        pause, is_repeat = REPEAT_SECONDS[0], False
        while True:
            wait = min(max(wait_until - time.monotonic(), 0.0), CLIENT_WAIT_SECONDS)
            query = {} if content else {**values, "wait": f"{wait:.3f}"} if wait_until else values
            text = urllib.parse.urlencode(query, doseq=True, errors="replace")
            seconds = min(wait + self.timeout_seconds, max(deadline - time.monotonic(), 1.0))
            reply = self._once(f"/{path}?{text}".rstrip("?"), content, headers, seconds)
            reply.is_repeat = is_repeat
            pause = max(pause, reply.retry_after_seconds or 0)
            is_late = time.monotonic() + pause > deadline
            if not self._is_passing(reply) or is_late or self.pause(pause):
                return reply
            # but for an unknown outcome, a 503 has changed nothing
            has_changed_nothing = reply.status == 503 and not isinstance(reply.error, OutcomeUnknown)
            is_repeat = is_repeat or (reply.was_sent and not has_changed_nothing)
            pause = min(2 * pause, REPEAT_SECONDS[1])

    def _is_passing(self, reply: HttpReply) -> bool:
        """Whether a repeat may get another answer. Before the first one, a silent port is a wrong URL."""
        if reply.status and reply.status not in REPEATED_STATUSES:
            self._has_answered = True
            return False
        is_lost = not reply.status and reply.was_sent
        return is_lost or reply.is_repeat or self._has_answered or reply.retry_after_seconds is not None


# ==== 52 Client =============================================================================================
# The verbs of TaskManager against a running service, by HTTP. Most methods take their signature from it, so a new
# argument of a verb needs no change here.


def _model(kind: type[R], values: Mapping[str, Any], **known: Any) -> R:
    """A model from the data of an answer, without what a newer service adds to it."""
    names = [item.name for item in dataclasses.fields(cast(Any, kind))]
    return kind(**{name: values[name] for name in names if name in values} | known)


def _batch_info(data: Any) -> BatchInfo:
    """A batch without its tasks."""
    return _model(BatchInfo, data, tasks=(), next_cursor=None)


def _tasks(data: Any) -> list[TaskInfo]:
    return [TaskInfo.from_dict(task) for task in data["tasks"]]


def _changed_batch(data: Any) -> tuple[int, BatchInfo]:
    return data["cancelled"] if "cancelled" in data else data["retried"], _batch_info(data)


SENT_NAMES = {"statuses": "status", "task_ids": "task_id"}  # of arguments that have other names in requests


def _remote(
    verb: str,
    method: Callable[Concatenate[Any, P], R],
    parse: Callable[[Any], R],
    most: int = MAX_PAGE,
    settled: tuple[type[QtmError], Callable[[Any, Any], R]] | None = None,
    **more: Any,
) -> Callable[Concatenate[Client, P], R]:
    """A method of Client with signature and docstring of one of TaskManager. Its arguments are sent by this
    verb, see `ServiceConnections.ask`, with a ``limit`` of at ``most`` so much, and ``more`` beside them;
    with ``timeout_seconds`` it waits for an end. Where a repeat after a lost answer gets the error
    ``settled[0]``, the first has been carried out: ``settled[1]`` has the answer."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(client, *args, **kwargs)
        given.apply_defaults()
        (_, *pairs), seconds = given.arguments.items(), given.arguments.get("timeout_seconds")
        values = {name: one for name, one in checked(**dict(pairs)).items() if one is not None} | more
        if "limit" in values:
            values["limit"] = min(values["limit"], most)
        if "fields" in values:
            values["fields"] = [",".join(values["fields"])] if values["fields"] else []
        if "statuses" in values:
            values["statuses"] = [status.value for status in values["statuses"]]
        if seconds is not None:
            return cast(R, client._wait(verb, values, seconds, parse))
        reply = client.service.ask(verb, {SENT_NAMES.get(name, name): one for name, one in values.items()})
        if settled and reply.is_repeat and isinstance(reply.error, settled[0]):
            return settled[1](*given.args)
        return reply.read(parse)

    return call


class Client(SharedVerbs):
    """The verbs of `TaskManager` against a running service. Made by `connect`; also a context manager."""

    def __init__(self, service: ServiceConnections) -> None:
        self.service = service

    def __repr__(self) -> str:
        return f"<Client of {self.service.url}>"

    def _task(self, task_id: str) -> TaskInfo:
        return self.service.ask("GET getTaskStatus", {"task_id": task_id}).read(TaskInfo.from_dict)

    # fmt: off
    get_tasks_by_batch = _remote(
        "GET getTasksByBatch", TaskManager.get_tasks_by_batch, lambda data: _model(BatchInfo, data, tasks=_tasks(data)))
    get_batch = _remote("GET getTasksByBatch", TaskManager.get_batch, _batch_info, limit=1)
    get_task_result = _remote("GET getTaskResult", TaskManager.get_task_result, TaskResult.from_dict)
    get_task_attempts = _remote(
        "GET getTaskAttempts", TaskManager.get_task_attempts,
        lambda data: [_model(TaskAttempt, attempt) for attempt in data["attempts"]])
    run_card = _remote("GET getRunCard", TaskManager.run_card, dict)
    list_tasks = _remote("GET listTasks", TaskManager.list_tasks, lambda data: (_tasks(data), data["next_cursor"]))
    list_batches = _remote(
        "GET listBatches", TaskManager.list_batches,
        lambda data: ([*map(_batch_info, data["batches"])], data["next_cursor"]), most=100)
    rank = _remote("GET rankTasks", TaskManager.rank, functools.partial(_model, Ranking), most=MAX_RANKED)
    export = _remote("GET exportTasks", TaskManager.export, iter)
    curves = _remote(
        "GET getCurves", TaskManager.curves, lambda data: [Curve(*[curve[name] for name in Curve._fields]) for curve in data["curves"]])
    wait = _remote("GET getTaskStatus", TaskManager.wait, TaskInfo.from_dict)
    wait_batch = _remote("GET getTasksByBatch", TaskManager.wait_batch, _batch_info, limit=1)
    cancel_task = _remote("POST cancelTask", TaskManager.cancel_task, TaskInfo.from_dict)
    cancel_batch = _remote("POST cancelTask", TaskManager.cancel_batch, _changed_batch)
    retry_task = _remote(
        "POST retryTask", TaskManager.retry_task, TaskInfo.from_dict, settled=(TaskNotRetryable, SharedVerbs.get_task_status))
    retry_batch = _remote("POST retryTask", TaskManager.retry_batch, _changed_batch)
    delete_task = _remote(
        "POST deleteTask", TaskManager.delete_task, lambda _: None, settled=(TaskNotFound, lambda *_: None))
    delete_batch = _remote(
        "POST deleteBatch", TaskManager.delete_batch, operator.itemgetter("deleted"),
        settled=(BatchNotFound, lambda *_: 0))
    # fmt: on

    def _create(self, body: dict[str, Any], idempotency_key: str | None) -> CreatedBatch:
        key = os.urandom(16).hex() if idempotency_key is None else idempotency_key
        reply = self.service.ask("POST createTask", body, key)
        is_repeated = reply.status == 200 and idempotency_key is not None
        return reply.read(lambda data: _model(CreatedBatch, data, repeated=is_repeated))

    def _dry_run(self, body: dict[str, Any]) -> DryRun:
        return self.service.ask("POST createTask", {**body, "dry_run": True}).read(
            functools.partial(_model, DryRun)
        )

    def _wait(self, verb: str, query: Mapping[str, Any], seconds: float, parse: Callable[[Any], Any]) -> Any:
        until = time.monotonic() + seconds
        while True:
            asked_at = time.monotonic()
            found = self.service.ask(verb, query, wait_until=until).read(parse)
            # a service that stops answers early, as does one for which too many wait
            pause = min(asked_at + WAIT_POLL_SECONDS, until) - time.monotonic()
            has_ended = found.status.is_final if isinstance(found, TaskInfo) else found.is_final
            if has_ended or time.monotonic() >= until or self.service.pause(max(pause, 0.0)):
                return found

    def close(self) -> None:
        """End the connections."""
        self.service.close()


def connect(
    url: str | None = None, token: str | None = None, timeout_seconds: float = REQUEST_SECONDS
) -> Client:
    """A client of a running service, with the verbs of `TaskManager` and its errors. It makes no request yet.

    ``url`` (default: QTM_URL, else http://127.0.0.1:8080) may be https and have a path; ``token`` defaults to
    QTM_TOKEN. Proxies that the environment names are not used. A request is repeated for ``timeout_seconds``,
    beyond its wait for an end, when its answer is lost and when the service, or a proxy before it, cannot
    answer now (502, 503, 504). It takes effect once; after a lost answer, the count that it gives is of what
    the repeat changed. Then, or at once where nothing listens and the service has not answered before, it
    raises ServiceUnreachable. Threads and a forked child may share the client. Raises SettingsError."""
    url = url or os.environ.get("QTM_URL") or DEFAULT_URL
    token = os.environ.get("QTM_TOKEN", "") if token is None else text_argument("token", token)
    if not CLIENT_URL.fullmatch(url):
        raise SettingsError(f"the URL of a service {URL_RULE}")
    if not BEARER.fullmatch(token):
        raise SettingsError("the token must be of visible ASCII characters, without spaces")
    return Client(ServiceConnections(url, token, timeout_seconds))


# ==== 53 HTTP messages ======================================================================================
# A parser of requests by the strict grammar of RFC 9112, without a socket or a clock: packet boundaries do
# not matter. A doubt about where a request ends closes the connection. Also the heads of answers.

MAX_HEAD_BYTES = 16 * 1024
MAX_FIELDS = 64
MAX_CACHED_BYTES = 1024  # longer blocks of header fields are parsed anew each time
MAX_CHUNK_FRAMING_BYTES = 64 * 1024  # of lines with chunk sizes, beyond the bytes that the chunks hold

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
REQUEST_LINE = re.compile(rf"({TOKEN}{{1,40}}) (\S+) HTTP/([0-9])\.([0-9])".encode())
# it must match in one way only, or backtracking is quadratic
FIELD_LINE = re.compile(rf"({TOKEN}+):([\t\x20-\x7e\x80-\xff]*)".encode())
STRAY_CONTROL = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n|\0")
MAX_CHUNK_DIGITS = 8
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]+")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?")
BAD_TARGET = re.compile(r"%(?![0-9A-Fa-f]{2})|[^\x21\x22\x24-\x7e]")  # a fragment has no place in one, either
SINGLE_FIELDS = re.compile(
    "host|content-length|transfer-encoding|content-type|authorization|idempotency-key|origin|expect"
)
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in http.HTTPStatus}


class HttpRequest(NamedTuple):
    """One request whose framing was accepted. Names in ``headers`` are lower case; ``query`` keeps every
    value. ``length`` is that of the body, None for a chunked one. ``may_wait`` is false for a request that
    has waited already: its handler answers with the current state."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    is_old: bool = False  # HTTP/1.0
    body: bytes = b""
    may_wait: bool = True
    length: int | None = 0
    closes: bool = False  # the connection closes after the answer
    expects_continue: bool = False  # the client sends the body after 100 Continue
    token_name: str | None = None  # of a POST


NO_REQUEST = HttpRequest("-", "-", {}, {})  # in the place of a request that could not be read


def fixed_fields_with(policy: str) -> str:
    """The header fields that are the same in every answer but for its content security policy."""
    return (
        f"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
        f"Content-Security-Policy: {policy}\r\n"
    )


DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@functools.lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    """As email.utils.formatdate() gives it, which takes 14 ms to import; %a and %b depend on the locale."""
    moment = time.gmtime(second)
    form = f"{DAYS[moment.tm_wday]}, %d {MONTHS[moment.tm_mon - 1]} %Y %H:%M:%S GMT"
    return time.strftime(form, moment)


class Response(NamedTuple):
    """One answer; ``body`` is complete JSON unless ``content_type`` says otherwise, and empty where the body
    comes in ``pieces``. ``log`` goes into the request's log line."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"
    log: Mapping[str, Any] = {}
    pieces: Iterator[bytes] | None = None  # of a body whose length is not known; a worker makes each
    # made once, for all data
    fixed_fields: str = fixed_fields_with("default-src 'none'; frame-ancestors 'none'")

    def encoded(
        self, request_id: str, connection: str, is_head: bool, is_old: bool = False
    ) -> list[memoryview]:
        """The answer in bytes, in one piece unless that would copy much. ``connection`` is the field of that
        name, or empty."""
        extra = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        length = f"Content-Length: {len(self.body)}\r\n"
        if self.pieces is not None:  # HTTP/1.0 has no chunks: the body ends with the connection
            length = "" if is_old else "Transfer-Encoding: chunked\r\n"
        head = (
            f"{STATUS_LINES[self.status]}Date: {_http_date(int(time.time()))}\r\n"
            f"Content-Type: {self.content_type}\r\n{length}"
            f"X-Request-Id: {request_id}\r\n{self.fixed_fields}{extra}{connection}\r\n"
        ).encode("latin-1")
        if is_head or not self.body:
            return [memoryview(head)]
        if len(self.body) < 16 * 1024:
            return [memoryview(head + self.body)]
        return [memoryview(head), memoryview(self.body)]


def success(data_json: str, status: int = 200, log: Mapping[str, Any] | None = None) -> Response:
    """The envelope around data that is JSON text already."""
    return Response(status, f'{{"code":0,"message":"success","data":{data_json}}}'.encode(), log=log or {})


def failure(error: QtmError) -> Response:
    """The one place where errors become answers."""
    headers: list[tuple[str, str]] = []
    if error.http_status == 503 or error.retry_after_seconds:
        headers.append(("Retry-After", str(error.retry_after_seconds or 1)))
    if isinstance(error, MethodNotAllowed):
        headers.append(("Allow", error.allow))
    if isinstance(error, Unauthorized):
        headers.append(("WWW-Authenticate", error.challenge))
    faults = error.errors[:MAX_LISTED]
    body = {
        "code": error.code,
        "error": error.error,
        "message": _clean(error.message),
        "data": None,
        "errors": [{"field": _clean(fault.field), "message": _clean(fault.message)} for fault in faults],
    }
    log = {"error": error.error, **error.log}
    return Response(error.http_status, dump_json(body).encode(), tuple(headers), log=log)


def _percent_decoded(text: str) -> str:
    return urllib.parse.unquote(text, errors="strict") if "%" in text else text


def _parse_target(target: str) -> tuple[str, Mapping[str, list[str]]]:
    """The path and the query of an origin-form target, percent-decoded strictly."""
    if not target.startswith("/") or BAD_TARGET.search(target):
        raise MalformedHTTP("the target is not a path with an optional query, percent-encoded")
    path, _, query_text = target.partition("?")
    query: dict[str, list[str]] = {}
    try:
        for part in filter(None, query_text.replace("+", " ").split("&")):  # parse_qs takes twice as long
            name, _, value = part.partition("=")
            query.setdefault(_percent_decoded(name), []).append(_percent_decoded(value))
        decoded = _percent_decoded(path)
    except UnicodeDecodeError:
        raise MalformedHTTP("the target's percent-encoding is not UTF-8") from None
    if "%" in path and decoded.count("/") > path.count("/"):  # a proxy that guards paths reads another path
        raise MalformedHTTP("the path has an encoded slash")
    return decoded, query


def _body_length(headers: Mapping[str, str], is_old: bool) -> int | None:
    """The length of the body, or None for a chunked one."""
    if "transfer-encoding" in headers:
        if "content-length" in headers or is_old:
            message = "Transfer-Encoding beside a Content-Length, or in HTTP/1.0"
            raise MalformedHTTP(f"{message}: where the body ends is in doubt")
        if headers["transfer-encoding"].lower() != "chunked":
            raise MalformedHTTP("the only transfer coding known here is chunked")
        return None
    text = headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise MalformedHTTP("Content-Length is not a number of 1 to 18 digits")
    return int(text)


def _parse_fields(block: bytes, is_old: bool) -> tuple[Mapping[str, str], int | None, bool, bool]:
    """The header fields, a mapping that nobody changes, and what they alone decide: the length of the body
    (None: chunked), whether the connection closes, whether the client expects 100 Continue."""
    lines = block.split(b"\r\n") if block else []
    if len(lines) > MAX_FIELDS:
        raise HeadTooLarge(f"{len(lines)} header fields are more than {MAX_FIELDS}")
    headers: dict[str, str] = {}
    for line in lines:
        match = FIELD_LINE.fullmatch(line)
        if match is None:
            raise MalformedHTTP("a header line is not NAME: VALUE")
        name, value = match[1].decode().lower(), match[2].decode("latin-1").strip(" \t")
        if name in headers and SINGLE_FIELDS.fullmatch(name):
            raise MalformedHTTP(f"the header {name} stands twice")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "host" not in headers and not is_old:
        raise MalformedHTTP("HTTP/1.1 demands a Host header")
    if not HOST.fullmatch(headers.get("host", "localhost")):
        raise MalformedHTTP("the host is not NAME or NAME:PORT")
    length = _body_length(headers, is_old)
    expects = "expect" in headers and not is_old
    if expects and headers["expect"].lower() != "100-continue":
        raise ExpectationFailed("the only expectation known here is 100-continue")
    words = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    closes = "close" in words or (is_old and "keep-alive" not in words)
    return headers, length, closes, expects and length != 0


_cached_fields = functools.lru_cache(maxsize=256)(_parse_fields)  # a client sends the same ones every time


def parse_head(head: bytes) -> HttpRequest:
    """A request without its body, from a head without its empty line.

    Raises MalformedHTTP, HeadTooLarge, ExpectationFailed.
    """
    first, _, block = head.partition(b"\r\n")
    match = REQUEST_LINE.fullmatch(first)
    if match is None:
        raise MalformedHTTP("the request line is not METHOD SP TARGET SP HTTP/1.1")
    if match[3] != b"1":
        raise MalformedHTTP("only HTTP/1.0 and HTTP/1.1 are spoken here")
    is_old = match[4] == b"0"  # RFC 9110 2.5: a later minor version is read as the known one
    parse = _cached_fields if len(block) <= MAX_CACHED_BYTES else _parse_fields
    headers, length, closes, expects = parse(block, is_old)
    path, query = _parse_target(match[2].decode("latin-1"))
    return HttpRequest(match[1].decode(), path, query, headers, is_old, b"", True, length, closes, expects)


def _take_until(end: bytes, buffer: bytearray, most: int, error: type[QtmError]) -> bytes | None:
    """Take what stands before ``end``, and that, from the front of the buffer; None while it is incomplete."""
    place = buffer.find(end, 0, most + len(end))
    if place >= 0:
        found = bytes(buffer[:place])
        del buffer[: place + len(end)]
        return found
    if not end.startswith(buffer[most:]):  # a split of the end itself changes nothing
        raise error(f"a head, or a line of a chunked body, has more than {most} bytes")
    if STRAY_CONTROL.search(buffer):  # the end would never be found
        raise MalformedHTTP("lines end in CR LF, and hold neither of them elsewhere, nor NUL")
    return None


def _move(buffer: bytearray, body: bytearray, size: int) -> Iterator[None]:
    """Move so many bytes from the front of ``buffer`` to ``body``. Yields while bytes are missing."""
    while size:
        if not buffer:
            yield
        part = buffer[:size]
        del buffer[:size]
        body += part
        size -= len(part)


def _move_chunks(buffer: bytearray, body: bytearray, max_bytes: int) -> Iterator[None]:
    """The same with a chunked body (RFC 9112 7.1), strictly and bounded, without extensions and trailers."""
    size, framing, length = 0, 0, -1
    while length:
        while (line := _take_until(b"\r\n", buffer, MAX_CHUNK_DIGITS, MalformedHTTP)) is None:
            yield
        framing += len(line) + 2
        if framing > MAX_CHUNK_FRAMING_BYTES + size:
            raise MalformedHTTP("the chunks are so small that their framing outweighs their data")
        if CHUNK_SIZE.fullmatch(line) is None:
            raise MalformedHTTP("a chunk does not begin with its size in hexadecimal digits alone")
        length = int(line, 16)
        size += length
        if size > max_bytes:
            raise BodyTooLarge(f"the body has more than {max_bytes} bytes")
        yield from _move(buffer, body, length)
        while len(buffer) < 2:
            yield
        if not buffer.startswith(b"\r\n"):
            raise MalformedHTTP("a chunk is longer than its size, or trailer fields follow the last one")
        del buffer[:2]


NOTHING: Iterator[None] = iter(())  # to move


class MessageReader:
    """Cuts the bytes of one connection into heads and bodies, in the order in which they came."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._body = bytearray()  # what has arrived of it; chunks as objects would weigh many times as much
        self._moves = NOTHING  # ends when the body is whole

    def feed(self, data: bytes) -> None:
        """More bytes have arrived."""
        self._buffer += data

    @property
    def size(self) -> int:
        """How many bytes have arrived and were not taken."""
        return len(self._buffer)

    def head(self) -> bytes | None:
        """The next head without its empty line, once it is whole. Raises MalformedHTTP, HeadTooLarge."""
        while self._buffer.startswith(b"\r\n"):  # RFC 9112 2.2: old clients end a body with one
            del self._buffer[:2]
        return _take_until(b"\r\n\r\n", self._buffer, MAX_HEAD_BYTES, HeadTooLarge)

    def expect_body(self, length: int | None, max_bytes: int) -> None:
        """A body of ``length`` bytes comes next, or a chunked one (None) of at most ``max_bytes``."""
        self._moves = NOTHING
        if length is None:
            self._moves = _move_chunks(self._buffer, self._body, max_bytes)
        elif length:
            self._moves = _move(self._buffer, self._body, length)

    def body(self) -> bytes | None:
        """The body, once it is whole. Raises MalformedHTTP, BodyTooLarge."""
        if next(self._moves, True) is None:
            return None
        body = bytes(self._body)
        self._body.clear()
        return body

    def discard(self) -> bool:
        """Drop what has arrived of an unwanted body; whether that was all of it. Raises MalformedHTTP,
        BodyTooLarge."""
        is_whole = next(self._moves, True) is not None
        self._body.clear()
        return is_whole


# ==== 54 Metrics ============================================================================================
# /metrics in Prometheus' text format 0.0.4. Names have the prefix qtm_ and base units; labels have few
# values. A scrape asks the database for counts, but less often the more tasks there are, and waits for one
# second at most.

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DURATION_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SCRAPE_WAIT_SECONDS = 1.0  # for the database; qtm_database_up is 0 when it has not answered by then
OPEN_SECONDS = 1.0  # pending and running tasks are counted at most that often
ENDED_SECONDS = 15.0  # and ended ones
COUNT_SHARE = 100  # of the time, one part in so many may be spent with a count
MAX_COUNT_PAUSE_SECONDS = 600.0
ENDINGS = ("completed", "failed", *ENDINGS_BY_ERROR, "released")
Sample = tuple[str, Mapping[str, str], float]  # the suffix of the name, labels, value
Family = tuple[str, str, Sequence[Sample] | float | None]  # a name, its meaning, its samples or only value


def _by(label: str, values: Mapping[str, float]) -> list[Sample]:
    return [("", {label: key}, value) for key, value in values.items()]


def _escaped(text: str) -> str:
    return _clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def metrics_text(families: Iterable[Family]) -> str:
    """These families as text; those without a sample are left out."""
    lines = []
    for name, meaning, found in families:
        samples = found if isinstance(found, Sequence) else [("", {}, found)] if found is not None else []
        kind = "counter" if name.endswith("_total") else "histogram" if "duration" in name else "gauge"
        if samples:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
        for suffix, labels, value in samples:
            inside = ",".join([f'{label}="{_escaped(text)}"' for label, text in labels.items()])
            number = repr(value).replace("inf", "+Inf").replace("-+", "-").replace("nan", "NaN")
            lines.append(f"{name}{suffix}{f'{{{inside}}}' if inside else ''} {number}")
    return "\n".join(lines) + "\n"


class HttpMonitor:
    """Counts answers by route, method and status. Unknown paths and methods are "other", so that clients
    cannot make labels. The event loop counts; any thread reads."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.server: Callable[[], Mapping[str, Any]] = dict  # ApiServer.snapshot, before the first scrape
        self._answers: dict[tuple[str, str, int], int] = {}
        self._buckets = {path: [0] * (len(DURATION_BUCKETS) + 1) for path in (*paths, "other")}
        self._seconds = dict.fromkeys(self._buckets, 0.0)

    def observe(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count one answer, from the first byte of its request to the last of it."""
        route = path if path in self._buckets else "other"
        key = (route, method if method in METHODS else "other", status)
        bucket = bisect.bisect_left(DURATION_BUCKETS, seconds)
        self._answers[key] = self._answers.get(key, 0) + 1
        self._buckets[route][bucket] += 1
        self._seconds[route] += seconds

    def metrics(self) -> list[Family]:
        """All families of HTTP."""
        answers, durations = sorted(self._answers.copy().items()), list[Sample]()
        for path, counts in self._buckets.items():
            totals, seconds = [*itertools.accumulate(counts)], self._seconds[path]
            bounds = zip((*DURATION_BUCKETS, "+Inf"), totals, strict=True)
            durations += [("_bucket", {"route": path, "le": str(bound)}, total) for bound, total in bounds]
            durations += [("_sum", {"route": path}, seconds), ("_count", {"route": path}, totals[-1])]
        requests: list[Sample] = [
            ("", {"route": path, "method": method, "status": str(status)}, count)
            for (path, method, status), count in answers
        ]
        server, waits = self.server(), "Time to answer, the client's wait= included."
        waiting = "Requests that wait for a task or batch to end."
        return [
            ("qtm_http_requests_total", "Answers by route, method and status.", requests),
            ("qtm_http_request_duration_seconds", waits, durations),
            ("qtm_http_connections", "Open connections.", server.get("connections")),
            ("qtm_http_requests_waiting", waiting, server.get("waiting")),
            ("qtm_http_requests_queued", "Requests that wait for a worker.", server.get("queued")),
        ]


class CachedRead(Generic[T]):
    """A value that is read from the database for requests, by one thread at a time and not too often, so that
    a database that hangs delays no worker. Used by one worker. Failures are logged as ``event``."""

    def __init__(self, event: str, read: Callable[[], T], clock: Callable[[], float]) -> None:
        self.value: T | None = None  # the reading thread writes these five, then it sets `_done`
        self.error: Exception | None = None  # of the last read
        self.read_at = -math.inf
        self._done_at, self._took = -math.inf, 0.0
        self._event, self._read, self._clock = event, read, clock
        self._done, self._reminder = threading.Event(), Reminder(clock)
        self._done.set()

    def refresh(self, wait_seconds: float, pause_seconds: float, share: int = 0) -> bool:
        """Read anew, unless less than ``pause_seconds`` or ``share`` times the duration of the last read have
        passed since. False when that takes longer than ``wait_seconds``."""
        pause = max(pause_seconds, min(share * self._took, MAX_COUNT_PAUSE_SECONDS))
        if self._done.is_set() and self._clock() - self._done_at > pause:
            self._done.clear()
            try:
                threading.Thread(target=self._read_anew, name="cached-read", daemon=True).start()
            except RuntimeError:  # the system gives no thread now: the next request tries again
                self._done.set()
                return False
        return self._done.wait(wait_seconds)

    def _read_anew(self) -> None:
        started = self._clock()
        try:
            self.value, self.read_at, self.error = self._read(), started, None
            self._reminder.clear()
        except Exception as error:  # a bug too: every request gets an answer
            self.error = error.with_traceback(None)
            if self._event and self._reminder.is_due(error_text(error)):
                log_event(logging.WARNING, self._event, error=error_text(error))
        self._done_at = self._clock()
        self._took = self._done_at - started
        self._done.set()


class TaskCounts:
    """Counts tasks for scrapes, the open ones and the ended ones. Each count takes one hundredth of the time,
    and there are at most ten minutes between two."""

    def __init__(self, dao: TaskDAO, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ping = CachedRead("", dao.ping, clock)
        self._open = CachedRead("tasks not counted", dao.count_open, clock)
        self._ended = CachedRead("tasks not counted", dao.count_ended, clock)

    def metrics(self) -> list[Family]:
        """The newest counts; qtm_tasks_count_age_seconds is how old they are."""
        deadline = time.monotonic() + SCRAPE_WAIT_SECONDS
        is_up = self._ping.refresh(SCRAPE_WAIT_SECONDS, OPEN_SECONDS) and not self._ping.error
        for count, pause in ((self._open, OPEN_SECONDS), (self._ended, ENDED_SECONDS)) if is_up else ():
            count.refresh(max(0.0, deadline - time.monotonic()), pause, COUNT_SHARE)
        opened, age = self._open.value or ({}, None)
        counts = {**opened, **(self._ended.value or {})}
        up = "1 when the database answered within a second, at this scrape or just before."
        reads: dict[str, CachedRead[Any]] = {"open": self._open, "ended": self._ended}
        ages = {name: self._clock() - read.read_at for name, read in reads.items() if read.value}
        counted = "How old the counts of open and of ended tasks are."
        return [
            ("qtm_database_up", up, int(is_up)),
            ("qtm_tasks", "Tasks in the database by status.", _by("status", counts)),
            ("qtm_tasks_count_age_seconds", counted, _by("count", ages)),
            ("qtm_queue_age_seconds", "How long the longest waiting pending task is due.", age),
        ]


def manager_metrics(tasks: TaskManager) -> list[Family]:
    """The counters and the state of the database layer, the upkeep and the scheduler of this process."""
    database, upkeep = tasks.dao.snapshot(), tasks.upkeep
    pools = {"main": database["pool"], "readers": database.get("reader_pool")}

    def of_pools(name: str) -> list[Sample]:
        return _by("pool", {kind: pool[name] for kind, pool in pools.items() if pool})

    found: list[Family] = [
        ("qtm_database_statements_total", "Statements.", database["statements"]),
        ("qtm_database_statement_seconds_total", "Time in statements.", database["seconds"]),
        ("qtm_database_errors_total", "Errors by their stable name.", _by("kind", database["errors"])),
        ("qtm_database_retries_total", "Transactions that were tried again.", database["retries"]),
        ("qtm_database_pool_size", "Connections, at most.", of_pools("size")),
        ("qtm_database_pool_in_use", "Connections in use.", of_pools("in_use")),
        ("qtm_database_pool_waits_total", "Uses that had to wait for a connection.", of_pools("waits")),
        ("qtm_upkeep_failures_total", "Steps that failed and are tried again.", _by("duty", upkeep.failures)),
        ("qtm_purged_tasks_total", "Tasks that were deleted here for their age.", upkeep.purged_tasks),
    ]
    if tasks.scheduler:
        state = tasks.scheduler.state()
        busy, ended = len(state["running"]), dict.fromkeys(ENDINGS, 0) | state["attempts_ended"]
        slots, ready = {"busy": busy, "free": max(0, state["slots"] - busy)}, int(state["engine_ready"])
        polled, beaten = state["last_poll_age_seconds"], state["last_beat_age_seconds"]
        rescued = "Attempts that ended here, and those of lost schedulers that were rescued here."
        found += [
            ("qtm_slots", "Slots for attempts.", _by("state", slots)),
            ("qtm_attempts_total", rescued, _by("ending", ended)),
            ("qtm_engine_ready", "1 when the engine is imported and attempts can start.", ready),
            ("qtm_scheduler_poll_age_seconds", "Since the last round that succeeded.", polled),
            ("qtm_scheduler_heartbeat_age_seconds", "Since the last heartbeat.", beaten),
        ]
    return found


def process_metrics() -> list[Family]:
    """The service's own process, under the names that all Prometheus clients use; memory, descriptors and
    start only where /proc is."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    started = memory = files = None
    with contextlib.suppress(OSError, StopIteration):
        fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        lines = pathlib.Path("/proc/stat").read_text().splitlines()
        booted = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
        started = booted + int(fields[19]) / os.sysconf("SC_CLK_TCK")
        memory = int(fields[21]) * resource.getpagesize()
        files = len(os.listdir("/proc/self/fd")) - 1  # without the one that lists
    cpu_seconds, (most_files, _) = usage.ru_utime + usage.ru_stime, resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        ("process_start_time_seconds", "When it started, in seconds since 1970.", started),
        ("process_cpu_seconds_total", "CPU time, user and system.", cpu_seconds),
        ("process_resident_memory_bytes", "Resident memory.", memory),
        ("process_open_fds", "Open file descriptors.", files),
        ("process_max_fds", "File descriptors, at most.", most_files),
        ("qtm_info", "The version that runs.", [("", {"version": __version__}, 1)]),
    ]


# ==== 55 Schemas ============================================================================================
# The JSON schemas of bodies and answers, in the short form of room 4. Every object is a named component,
# because generators of clients derive type names from it.

RETRIED = [status.value for status in RETRY.before]
DATE_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?"
CURSOR_RULE = "be the next_cursor of the page before"
TYPES.update(
    pair={"type": "array", "items": {}, "minItems": 2, "maxItems": 2},
    retried={"type": "string", "enum": RETRIED},
    by_params={"type": "string", "enum": ["params"]},
    text=matching(".+", "not be empty"),
    columns=matching(COLUMN_NAMES, "be names of columns, separated by commas"),
    place=matching("[0-9]{1,9}", CURSOR_RULE),
    task_cursor=matching("[0-9a-f-]{36}", CURSOR_RULE),
    batch_cursor=matching(DATE_TIME + "~[A-Za-z0-9._:-]{1,64}", CURSOR_RULE),
)
SCHEMAS["Status"] = {"type": "string", "enum": [status.value for status in TaskStatus]}
SCHEMAS.update(
    objects_of(f"""
Selection! = task_id?: str, batch_id?: str
RetryTask! = task_id?: str, batch_id?: str, status?: retried|retried* 1.. = "{TaskStatus.FAILED.value}"
DeleteTask! = task_id: str
DeleteBatch! = batch_id: str
""")
)
WARNINGS = 'warnings: str* "That a rerun takes the best of a batch that has not ended."'
NEXT_CURSOR = 'next_cursor: str|null "null: the last page."'
OF_RUN = """run_key: str|null "SHA-256 of engine, version, stock, config, params and data version.",
    drift: bool "Whether an earlier task of this run_key has other metrics.",
    result_of: str|null "The task whose result was taken over.", created_by: str|null "The name of the token.",
    task_id: str, batch_id: str, stock_code: str, config: Config, params: Params, engine_version: str|null"""
TASK = f"""{OF_RUN}, status: Status, status_text: str, progress: share, message: str, metrics: Metrics|null,
    error: TaskError|null, attempt: int, max_attempts: int, timeout_seconds: float, priority: int,
    created_at: time, run_at: time, started_at: time|null, finished_at: time|null, worker_id: str|null"""
BATCH = """tasks_per_second: float|null "That complete or fail.",
    eta_seconds: float|null "Until all have ended, at this rate.", batch_id: str, name: str|null,
    created_at: time, created_by: str|null, counts: StatusCounts, total: count, progress: share"""
# the objects of answers
OBJECTS = f"""
Task = {TASK}
TaskStatus = {TASK}, queue_position: int|null "Of a pending task; 1 is next.",
    waiting_for: WaitingFor|null "What a pending task waits for."
TaskResult = {TASK}, result: Result|null, non_finite: NonFinite*, converted: Converted*
TaskError = type: str, message: str, attempt: count, traceback?: str
NonFinite = path: str, kind: NonFiniteKind|null "What is null in the result."
Converted = path: str, type: str "Of what is kept as its text."
TaskAttempt = task_id: str, attempt: int, worker_id: str, started_at: time, ended_at: time|null,
    ending: Ending|null, error: TaskError|null, exit_code: int|null, exit_signal: str|null,
    max_rss_bytes: int|null, cpu_seconds: float|null, output_tail: str
TaskAttempts = task_id: str, attempts: TaskAttempt*
TaskList = tasks: Task*, {NEXT_CURSOR}
RunCard = {OF_RUN}, engine: str|null,
    distribution: Distribution|null "That the engine comes from.", python: str|null, qtm: str|null,
    host: str|null, data_version: str|null "As the engine says it.", attempt: int|null, started_at: time|null,
    ended_at: time|null, cpu_seconds: float|null, max_rss_bytes: int|null,
    seed: any "Of params, else of config; null where neither has one."
Distribution = name: str, version: str
Created = batch_id: str, count: count, task_ids: str* "None of more than {MAX_LISTED_IDS} tasks.",
    skipped: count "See invalid.", reused: count "That took over a result.", {WARNINGS}
DryRun = count: count, stock_codes: str*, params: Params*, skipped: count, refused: count, refusals: Refusal*,
    estimate_seconds: float|null, {WARNINGS}
Refusal = stock_code: str, params: Params, message: str
StatusCounts = {", ".join(f"{status.value}: count" for status in TaskStatus)}
Batch = {BATCH}
BatchPage = {BATCH}, tasks: Task*, {NEXT_CURSOR}
BatchList = batches: Batch*, {NEXT_CURSOR}
CancelledBatch = cancelled: count, {BATCH}
RetriedBatch = retried: count, {BATCH}
Deleted = deleted: count "Tasks."
Ranking = batch_id: str, by: str, order: str, stat: str|null, trials: int|null, rows: RankedRow*,
    expected_max_sharpe: float|null, rank_correlation: float|null, warnings: str*, {NEXT_CURSOR}
RankedRow = rank: count, task_id?: str, stock_code?: str, params: Params, metrics?: Metrics|null,
    value?: float|null, count?: count, missing?: count, min?: float|null, median?: float|null,
    mean?: float|null, max?: float|null, other?: float|null, deflated_sharpe: share|null, drift?: bool
Curves = points: count, method: "{THINNING}", curves: Curve*
Curve = task_id: str, stock_code: str, params: Params, length: count,
    curve: pair*|null "Pairs of time and value or null."
Health = status: "ok", version: str
Readiness = status: "ready", scheduler: Scheduler|null
Scheduler = activity: str, slots: count, running: count, engine_ready: bool, last_poll_at: time|null,
    last_poll_age_seconds: float|null
FieldError = field: str, message: str
Failure = code: int, error: str "The name of the code.", message: str, data: null,
    errors: FieldError* "Every fault of the request, with its field."
"""


def _having(*names: str) -> dict[str, Any]:
    return {"required": [*names]}


CREATE_RULES = {  # written without oneOf, which generators of clients do not know here
    "if": _having("rerun"),
    "then": {"not": {"anyOf": [*map(_having, ("stock_code", "stock_codes", "params", "sweep"))]}},
    "else": {
        "if": _having("stock_code"),
        "then": {"not": _having("stock_codes")},
        "else": _having("stock_codes"),
        **_having("config"),
        "not": _having("params", "sweep"),
    },
}
RULES_OF_OBJECTS: Mapping[str, Mapping[str, Any]] = {  # of objects, beside their fields
    "CreateTask": CREATE_RULES,
    "CreateConfig": {
        "description": "Which keys are required is up to the engine; other keys pass through to it."
    },
    "Selection": {"minProperties": 1, "maxProperties": 1},
    "RetryTask": {"if": _having("task_id"), "then": {"maxProperties": 1}, "else": _having("batch_id")},
}
OTHER_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "WaitingFor": schema_of('"slot"|"backoff"|"no_scheduler"'),
    "Ending": schema_of(form_choice(["completed", "failed", "released", *ENDINGS_BY_ERROR])),
    "NonFiniteKind": schema_of('"nan"|"inf"|"-inf"'),
    "Config": {**FREE, "description": "As it was created."},
    "Metrics": {**FREE, "additionalProperties": TYPES["float"], "maxProperties": MAX_METRICS},
    "Result": {**FREE, "description": "What the engine returned."},
    "Document": {**FREE, "description": "An OpenAPI document."},
}


def component_schemas() -> dict[str, Any]:
    """The schemas of all components, by name."""
    found: dict[str, Any] = {**SCHEMAS, **OTHER_SCHEMAS, **objects_of(OBJECTS)}
    found |= {name: found[name] | rules for name, rules in RULES_OF_OBJECTS.items()}
    errors = [f"- {error.code} {error.error}: {inspect.getdoc(error)}" for error in shown_errors()]
    words = "\n".join(["The status and two more digits.", *errors])
    found["Failure"]["properties"]["code"] = found["Failure"]["properties"]["code"] | {"description": words}
    return found


# ==== 56 Routes =============================================================================================
# The parameters, body and answer of each route. A route validates parameters and body before it calls
# TaskAPI; the OpenAPI document is made from the same tables.

JSON_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?")
PROBES = ("/healthz", "/readyz")  # their Host is not checked: probes use whatever address a host has now
OPEN_PATHS = (*PROBES, "/", "/openapi.json")


def prefers_chinese(ranges: str | None) -> bool:
    """Whether the first language of an Accept-Language (RFC 9110 12.5.4) is Chinese, of any region."""
    return re.match(r"\s*zh\b", ranges or "", re.IGNORECASE) is not None


def in_chinese(tasks_json: bytes) -> bytes:
    """The JSON of tasks with each status_text in Chinese."""
    for english, chinese in (*STATUS_TEXTS.values(), RETRIED_TEXTS):
        texts = re.split("@.+?@", f'{STATUS_TEXT_NAME}"{english}"')
        if texts[0].encode() in tasks_json:
            pattern = "," + "([0-9]+)".join(map(re.escape, texts))
            tasks_json = re.sub(pattern.encode(), f',{STATUS_TEXT_NAME}"{chinese}"'.encode(), tasks_json)
    return tasks_json


PAGE = """limit?: int 1..{} = {} "The size of a page.",
    cursor?: {} "Where the page begins: next_cursor of the page before.\""""
LANGUAGE_HEADER = "Accept-Language"
LANGUAGE = f'{LANGUAGE_HEADER}?: str "With zh-CN, status_text is Chinese."'
WAIT = f'wait?: float 0..{MAX_WAIT_SECONDS:g} = 0 "Seconds to wait for the end."'
BATCH_ID = 'batch_id: str 1.. "The batch."'
STATUSES = 'status?: Status* "Only tasks with one of these statuses."'
OF_STOCK = 'stock_code?: str 1.. "Only tasks of this stock."'
WHERE = (
    'where?: row_condition* "Only rows for which this holds, such as fast<20, sharpe>1 or stock_code==AAPL."'
)
# The parameters of routes, which the query has, or headers: those with a capital letter.
OF_CREATE = 'Idempotency-Key?: key "The same key with the same body creates once."'
OF_TASK = 'task_id: str 1.. "The task."'
OF_TASK_READ = f"{OF_TASK}, {WAIT}, {LANGUAGE}"
OF_BATCH = f"{BATCH_ID}, {STATUSES}, {OF_STOCK}, {PAGE.format(MAX_PAGE, MAX_PAGE, 'task_cursor')}, {WAIT}, {LANGUAGE}"
IN_BATCH = 'batch_id?: str 1.. "Only tasks of this batch."'
OF_TASKS = f"{IN_BATCH}, {STATUSES}, {OF_STOCK}, {PAGE.format(MAX_PAGE, 100, 'task_cursor')}, {LANGUAGE}"
OF_BATCHES = PAGE.format(100, 20, "batch_cursor")
OF_RANKING = f"""{BATCH_ID}, by?: metric = "sharpe" "The metric, or a parameter, such as params.fast.",
    order?: "asc"|"desc" = "desc" "Whether the greatest or the least value is first.",
    group?: by_params "One row for equal params, over all stocks.",
    stat?: {form_choice(STATISTICS)} = "mean" "The statistic over the stocks of a group.", {WHERE},
    against?: str 1.. "A batch whose metric of the same stock and params is shown, too.",
    {PAGE.format(MAX_RANKED, 100, "place")}, format?: "json"|"csv" = "json" "JSON, or the rows alone as CSV."
"""
OF_EXPORT = f"""{BATCH_ID}, format?: {form_choice(FORMATS)} = "csv" "A line for each task: of CSV, or its JSON.",
    fields?: columns "Only these columns, such as stock_code,params.fast,metrics.sharpe. A name alone is the
    task's field, else its parameter, else its metric; a column that a task lacks is empty.",
    {STATUSES}, {WHERE}, {LANGUAGE}"""
OF_CURVES = f"""task_id: text* 1..{MAX_CURVES} "Completed tasks.",
    points?: int {form_range(CURVE_POINTS)} = 500 "At most so many of each curve."
"""


def is_header(parameter: str) -> bool:
    """Whether a parameter of this name is a header."""
    return parameter[0].isupper()


def parameter_values(schema: Mapping[str, Any], request: HttpRequest) -> dict[str, Any]:
    """All parameters of a request by this schema of theirs, those that are not given at their defaults. Raises
    InvalidRequest."""
    known: Mapping[str, Mapping[str, Any]] = schema["properties"]
    unknown = [name for name in request.query if name not in known or is_header(name)]
    values, faults = dict[str, Any](), [FieldError(name, "there is no such parameter") for name in unknown]
    for name, form in known.items():
        given: Sequence[str] = request.query.get(name, ())
        if is_header(name):
            given = [request.headers[name.lower()]] if name.lower() in request.headers else ()
        if form["type"] == "array":
            values[name] = given
        elif not given:
            values[name] = form.get("default")
        else:
            is_number = form["type"] != "string" and JSON_NUMBER.fullmatch(given[0])
            values[name] = _whole(float(given[0])) if is_number else given[0]
        if len(given) > 1 and form["type"] != "array":
            faults.append(FieldError(name, "is given more than once"))
        elif given:
            faults += [FieldError(name, message) for _, message in faults_of("", values[name], form)]
        elif name in schema["required"]:
            faults.append(FieldError(name, "is missing"))
    if faults:
        raise invalid_request(faults)
    return values


def body_values(name: str, body: Any) -> dict[str, Any]:
    """The fields of a body of this name; ``statuses`` are those of tasks to retry. Raises InvalidRequest."""
    if name == "CreateTask":
        return {"batch": BatchRequest.from_body(body), "dry_run": body.get("dry_run", False)}
    faults = faults_of("", body, SCHEMAS[name])
    if not faults and name in ("Selection", "RetryTask") and ("task_id" in body) == ("batch_id" in body):
        faults = [FieldError("task_id", "give either task_id or batch_id")]
    if not faults and {"status", "task_id"} <= body.keys():
        faults = [FieldError("status", "goes with batch_id only")]
    if faults:
        raise invalid_request(faults)
    status = body.get("status", TaskStatus.FAILED.value)
    return {**body, "status": status if isinstance(status, list) else [status]}


class WaitKey(NamedTuple):
    """A client waits for the end of this "task" or "batch"."""

    kind: str
    id: str


class Later(NamedTuple):
    """The answer is not known yet: the request is repeated, with ``may_wait`` false, when the task or batch
    has ended, or ``seconds`` after it came."""

    key: WaitKey
    seconds: float


class Alone(NamedTuple):
    """The answer of one of several requests is long: the request is repeated alone."""


Answer = Response | Later | Alone | Exception


class Call(NamedTuple):
    """A request that its route accepts, with the values of its parameters and body."""

    request: HttpRequest
    values: Mapping[str, Any]

    @property
    def ids(self) -> dict[str, str]:
        """The task or batch that the request names, for its log line."""
        ids = {name: self.values.get(name) for name in ("task_id", "batch_id")}
        return {name: one[:64] for name, one in ids.items() if one and isinstance(one, str)}


def _translated(answer: Answer, call: Call) -> Answer:
    """The answer in the language of its client, where its route has a choice."""
    if LANGUAGE_HEADER not in call.values or not isinstance(answer, Response):
        return answer
    body = in_chinese(answer.body) if prefers_chinese(call.values[LANGUAGE_HEADER]) else answer.body
    return answer._replace(body=body, headers=(*answer.headers, ("Vary", LANGUAGE_HEADER)))


class Lane(enum.Enum):
    """A queue of requests with its own workers: slow requests of one lane delay no other lane."""

    NOW = "now"  # no queue: the answer needs no database
    PROBE = "probe"  # one worker, which waits for the database a second at most
    READ = "read"
    WRITE = "write"  # short changes, whose COMMIT may take long
    LONG = "long"  # large answers and changes
    RANK = "rank"  # rankings, each of which reads a whole batch
    EXPORT = "export"  # whole batches, of which each client gets a page in turn
    ENGINE = "engine"  # creates that the user's engine validates


@dataclass(frozen=True)
class Route:
    """One line of ROUTES. ``answer``, a method of TaskAPI, gets a call and returns an answer, or its data as a
    dict or JSON text; of a route that ``is_joint``, it gets several calls and returns an answer for each.
    ``query`` has the short forms of its parameters. ``gives`` and ``takes`` name the schemas
    of the answer's data and of the body; a ``gives`` with a slash is the media type of an answer without the envelope.
    ``errors`` are those that not every route of its kind has."""

    path: str
    answer: Callable[[TaskAPI, Any], Any]
    gives: str
    query: str = ""
    errors: tuple[type[QtmError], ...] = ()
    lane: Lane = Lane.READ
    takes: str = ""
    is_joint: bool = False

    @functools.cached_property
    def methods(self) -> tuple[str, ...]:
        """POST for a route that takes a body, else GET and HEAD."""
        return ("POST",) if self.takes else ("GET", "HEAD")

    @property
    def method(self) -> str:
        """POST or GET."""
        return self.methods[0]

    @functools.cached_property
    def is_open(self) -> bool:
        """Whether it needs no token. It ignores its query, too, since probes may add parameters."""
        return self.path in OPEN_PATHS

    @functools.cached_property
    def is_shared(self) -> bool:
        """Whether equal requests that wait at the same time get one answer."""
        return self.lane in (Lane.PROBE, Lane.LONG, Lane.RANK)

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """The schema of all its parameters, by their names."""
        return object_of(self.query)

    def handler(self, api: TaskAPI, requests: Sequence[HttpRequest]) -> list[Answer]:
        """One answer or error for each request. `answer` gets only those with good parameters and bodies."""
        read = [self._read(request) for request in requests]
        answers = iter(self._answers(api, [one for one in read if isinstance(one, Call)]))
        return [_translated(next(answers), one) if isinstance(one, Call) else one for one in read]

    def _read(self, request: HttpRequest) -> Call | Exception:
        if self.is_open:
            return Call(request, {})
        try:
            values = parameter_values(self.parameters, request)
            if self.takes:
                values |= body_values(self.takes, parse_body(request.body))
            return Call(request, values)
        except Exception as error:  # a bug too: it spoils no other request
            return without_traceback(error) if isinstance(error, QtmError) else error

    def _answers(self, api: TaskAPI, calls: Sequence[Call]) -> Sequence[Answer]:
        """All calls together where that is possible, else one after the other: none spoils the others."""
        if self.is_joint and len(calls) > 1:
            try:
                return cast("Sequence[Answer]", self.answer(api, calls))
            except DatabaseUnavailable as error:  # each of them would only wait for the same
                return [without_traceback(error)] * len(calls)
            except Exception as error:
                event = "requests could not be answered together"
                log_event(logging.WARNING, event, count=len(calls), error=error_text(error))
        answers: list[Answer] = []
        for call in calls:
            answers.append(last := self._answer(api, call))
            if isinstance(last, DatabaseUnavailable) and not isinstance(last, OutcomeUnknown):
                # the others would only wait for the same; an error of their own has no ids of this call
                away = type(last)(last.message, retry_after_seconds=last.retry_after_seconds)
                return answers + [away] * (len(calls) - len(answers))
        return answers

    def _answer(self, api: TaskAPI, call: Call) -> Answer:
        try:
            found = self.answer(api, [call])[0] if self.is_joint else self.answer(api, call)
            if isinstance(found, (dict, str)):
                found = success(found if isinstance(found, str) else dump_json(found))
            if self.is_joint or not isinstance(found, Response):
                return cast(Answer, found)
            return found._replace(log={**call.ids, **found.log})
        except Exception as error:  # a bug too
            error.log = {**getattr(error, "log", {}), **call.ids}  # type: ignore[attr-defined]
            return without_traceback(error) if isinstance(error, QtmError) else error


# ==== 57 OpenAPI ============================================================================================
# The OpenAPI 3.1 document, made from ROUTES, from the models and their limits, and from the error classes.
# With a token set, every route that is not open is marked as needing one.

JSON_TYPE = "application/json"
HEADER_OF_STATUS = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}
HEADERS = {
    "X-Request-Id": "Names the request in the log; the client's own if it sent 1 to 64 of A-Z a-z 0-9 . _ -",
    "Retry-After": "Seconds after which it is worth to try again.",
    "Allow": "The methods that this path takes.",
    "WWW-Authenticate": "The scheme: Bearer.",
}
ERRORS_OF_ANY = {
    MalformedHTTP, MethodNotAllowed, RequestTimeout, BodyTooLarge, ExpectationFailed, HeadTooLarge, QtmError,
    TooManyConnections, Overloaded,
}  # fmt: skip
ERRORS_OF_DATABASE = {DatabaseUnavailable, DatabaseRefused, TransactionConflict}
ERRORS_OF_WRITES = {MalformedJSON, ForeignOrigin, UnsupportedMediaType, OutcomeUnknown}
# the data of answers that may be of two kinds
EITHER = {"DryRun": "Created|DryRun", "Cancelled": "Task|CancelledBatch", "Retried": "Task|RetriedBatch"}
CONFIG_EXAMPLE = {"strategy": "sma_cross", "start_date": "2005-01-03", "end_date": "2012-12-31"}
EXAMPLES: Mapping[str, Any] = {
    "CreateTask": {
        "batch_id": "first",
        "stock_codes": ["AAPL", "MSFT"],
        "config": {**CONFIG_EXAMPLE, "initial_cash": 100000, "commission": 0.001},
        "params": [{"fast": 10, "slow": 30}, {"fast": 20, "slow": 50}],
    },
    "Selection": {"batch_id": "first"},
    "RetryTask": {"batch_id": "first", "status": RETRIED},
    "DeleteTask": {"task_id": "0197f3a8-6c00-7000-8000-000000000000"},
    "DeleteBatch": {"batch_id": "first"},
}


def route_errors(route: Route, needs_token: bool) -> list[type[QtmError]]:
    """All errors that this route can answer, by code."""
    found = ERRORS_OF_ANY | {*route.errors} | (set() if route.path in PROBES else {HostNotAllowed})
    if not route.is_open:
        found |= {InvalidRequest, *((Unauthorized,) if needs_token else ())}
        found |= set() if route.lane is Lane.PROBE else ERRORS_OF_DATABASE
    if route.method == "POST":
        found |= ERRORS_OF_WRITES | ({ReadOnlyToken} if needs_token else set())
    return sorted(found, key=lambda error: error.code)


def _operation_id(route: Route) -> str:
    return route.path.rpartition("/")[2].partition(".")[0] or "page"


def _response(words: str, content: Mapping[str, str], *headers: str) -> dict[str, Any]:
    """A response whose ``content`` is by its media type of one of these schemas."""
    names = ("X-Request-Id", *headers)
    return {
        "description": words,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {media_type: {"schema": schema_of(form)} for media_type, form in content.items()},
    }


def _successes(route: Route) -> dict[str, Any]:
    """What a route answers to good requests, by status."""
    if route.takes == "CreateTask":
        return {
            "201": _response("Created", {JSON_TYPE: "CreatedAnswer"}),
            "200": _response("OK", {JSON_TYPE: "DryRunAnswer"}),
        }
    content = {route.gives: "str"} if "/" in route.gives else {JSON_TYPE: f"{route.gives}Answer"}
    if route.gives == JSON_TYPE:
        content = {JSON_TYPE: "Document"}
    formats = route.parameters["properties"].get("format", {"enum": ()})["enum"]
    content |= {FORMATS[name]: "str" for name in formats if name in FORMATS}
    return {"200": _response("OK", content)}


def _failures(route: Route, needs_token: bool) -> dict[str, tuple[str, dict[str, Any]]]:
    """What a route answers to bad requests, by status: the name of the response, which routes with the same
    errors share, and the response."""
    found = {}
    for status, group in itertools.groupby(route_errors(route, needs_token), lambda error: error.http_status):
        errors = [*group]
        words = ", ".join(f"{error.code} {error.error}" for error in errors)
        headers = [HEADER_OF_STATUS[status]] if status in HEADER_OF_STATUS else []
        name = ".".join(error.error for error in errors)
        found[str(status)] = name, _response(words, {JSON_TYPE: "Failure"}, *headers)
    return found


def _operation(route: Route, needs_token: bool) -> dict[str, Any]:
    """The description of a route, but for its responses."""
    required = route.parameters["required"]
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": " ".join((route.answer.__doc__ or "").split()).partition(": ")[2].rstrip("."),
        "parameters": [
            {"name": name, "in": "header" if is_header(name) else "query", "required": name in required}
            | {"description": form["description"]}
            | {"schema": {key: value for key, value in form.items() if key != "description"}}
            for name, form in route.parameters["properties"].items()
        ],
        "security": [] if route.is_open else [{"bearer": []}] if needs_token else [{}, {"bearer": []}],
    }
    if route.takes:
        media = {"schema": component(route.takes), "example": EXAMPLES[route.takes]}
        operation["requestBody"] = {"required": True, "content": {JSON_TYPE: media}}
    return operation


def openapi_document(routes: Sequence[Route], needs_token: bool) -> dict[str, Any]:
    """The OpenAPI document of these routes, for a service with tokens or without. HEAD goes wherever GET
    is."""
    paths: dict[str, dict[str, Any]] = {}
    failures: dict[str, Any] = {}
    for route in routes:
        failed = _failures(route, needs_token)
        failures.update(failed.values())
        shared = {status: {"$ref": f"#/components/responses/{name}"} for status, (name, _) in failed.items()}
        responses = {"responses": _successes(route) | shared}
        paths[route.path] = {route.method.lower(): _operation(route, needs_token) | responses}
    data = {route.gives: route.gives for route in routes if "/" not in route.gives} | EITHER
    answers = {
        f"{name}Answer": object_of(f'code: 0, message: "success", data: {form}')
        for name, form in data.items()
    }
    required = {"required": True, "schema": TYPES["str"]}
    components = {
        "schemas": component_schemas() | answers,
        "responses": failures,
        "headers": {name: {"description": words, **required} for name, words in HEADERS.items()},
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
    }
    words = (
        "The backtest task manager of a quant engine. HEAD is answered wherever GET is, a path that is not "
        f"listed here with {PathNotFound.http_status} and the code {PathNotFound.code}."
    )
    license = {"name": "MIT", "identifier": "MIT"}
    info = {"title": "qtm", "version": __version__, "description": words, "license": license}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}


# ==== 58 Page ===============================================================================================
# The page at `/` is dashboard.html, which holds no data and uses the API like every other client. It is read
# at the first request for it.

PAGE_FILE = "dashboard.html"
PAGE_TYPE = "text/html; charset=utf-8"
NO_PAGE = (
    f"this service has no page: {PAGE_FILE} is not beside qtm.py. Copy it there from where qtm.py came from"
    " (repository, wheel and image have it); the API works without it, and /openapi.json describes it"
)


def _page_text() -> str:
    """The text of the page: of the file beside this module, or of the one that its wheel installed. Raises
    PathNotFound."""
    path = pathlib.Path(__file__).with_name(PAGE_FILE)
    if not path.exists():
        with contextlib.suppress(importlib_metadata.PackageNotFoundError):
            installed = importlib_metadata.files("qtm") or ()
            path = next((pathlib.Path(file.locate()) for file in installed if file.name == PAGE_FILE), path)
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise PathNotFound(NO_PAGE) from None


@functools.cache  # a PathNotFound is not kept: the next request looks for the file again
def read_page() -> Response:
    """The page. Only its own script and style run, they reach this service alone, and no text can become
    markup. Raises PathNotFound with where to get the file."""
    text = _page_text()
    hashes = {
        tag: base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        for tag, content in re.findall(r"<(script|style)>(.*?)</\1>", text, re.DOTALL)
    }
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return Response(200, text.encode(), content_type=PAGE_TYPE, fixed_fields=fixed_fields_with(policy))


# ==== 59 API ================================================================================================
# One method per route. It gets validated requests and returns one answer for each: a Response, an error,
# Later (wait for an end), or Alone (call again with this request only). It blocks on the database, and a
# create also on the engine's validation.

PROBE_SECONDS = 1.0  # readiness is measured at most that often
PROBE_WAIT_SECONDS = 1.0  # for the database
SHOWN_OF_SCHEDULER = ("activity", "slots", "last_poll_at", "last_poll_age_seconds", "engine_ready")


def _filter(values: Mapping[str, Any]) -> TaskFilter:
    statuses = [TaskStatus(text) for text in values["status"]]
    return TaskFilter(values["batch_id"], statuses, values["stock_code"], values["limit"], values["cursor"])


def ranking_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of a ranking as CSV (RFC 4180) with a column for each of their params and metrics; one of a name
    that is taken has its kind before it, ``metrics.trades``."""
    flat, stream = flat_rows(rows), io.StringIO()
    names = [*dict.fromkeys(name for row in flat for name in row)]
    writer = csv.writer(stream)
    writer.writerow(names)
    for row in flat:
        values = map(row.get, names)
        writer.writerow(
            one if isinstance(one, str) else "" if one is None else dump_json(one) for one in values
        )
    return stream.getvalue()


def _changed(data: Mapping[str, Any], count: int = 1) -> Response:
    """The answer to a write that has changed so many tasks, which its audit line tells."""
    text = dump_json(data).replace('"status_text":', STATUS_TEXT_NAME, 1)
    return success(text, log={"tasks": count})


def _page_json(page: TaskPage) -> str:
    return f'"tasks":[{page.json}],"next_cursor":{dump_json(page.next_cursor)}'


class TaskAPI:
    """The answers to all routes, a method for each, hence so many. Those that need the database are 503
    before `open`."""

    def __init__(self, settings: Settings, routes: Sequence[Route] = ()) -> None:
        self.settings = settings
        self.monitor = HttpMonitor([route.path for route in routes])  # counts what the server answers
        self._routes = routes
        self._tasks: TaskManager | None = None  # these three are written once, by `open`
        self._counts: TaskCounts | None = None
        self._probe: CachedRead[None] | None = None

    def open(self, tasks: TaskManager) -> None:
        """Answer from these tasks from now on."""
        self._counts = TaskCounts(tasks.dao)
        self._probe = CachedRead("not ready", tasks.dao.probe, time.monotonic)
        self._tasks = tasks

    def close(self) -> None:
        """Listen to changes of tasks no more."""
        if self._tasks:
            self._tasks.listen(None)

    @property
    def tasks(self) -> TaskManager:
        """The manager. Raises DatabaseUnavailable before `open`."""
        if self._tasks is None:
            message = "not ready: the service is starting and waits for its database"
            raise DatabaseUnavailable(message, retry_after_seconds=2)
        return self._tasks

    @property
    def asks_engine(self) -> bool:
        """Whether a create asks the user's engine."""
        return self._tasks is not None and self._tasks.asks_engine

    def create_task(self, calls: Sequence[Call]) -> list[Answer]:
        """POST createTask: every stock x every params, stored all or none; or a dry run of it."""
        # first: when it fails, the calls are repeated one by one, and nothing may be stored by then
        dry = {i: self._dry_run(call) for i, call in enumerate(calls) if call.values["dry_run"]}
        stored = [call for i, call in enumerate(calls) if i not in dry]
        asked = [(call.values["batch"], call.values["Idempotency-Key"]) for call in stored]
        creators = [call.request.token_name for call in stored]
        created = iter(self.tasks.create_tasks(asked, creators))
        return [
            dry[i] if i in dry else self._created(call.values["batch"], next(created))
            for i, call in enumerate(calls)
        ]

    def _dry_run(self, call: Call) -> Response:
        found = self.tasks.would_create(call.values["batch"])
        return success(dump_json(dataclasses.asdict(found)), log={"dry_run": True})

    def _created(self, batch: BatchRequest, created: CreatedBatch | QtmError) -> Answer:
        if isinstance(created, QtmError):
            created.log = {"batch_id": batch.batch_id} if batch.batch_id else {}
            return created
        data = {name: value for name, value in vars(created).items() if name != "repeated"}
        log = {"batch_id": created.batch_id, "tasks": created.count}
        if created.count == 1:
            log["task_id"] = created.task_ids[0]
        return success(dump_json(data), 200 if created.repeated else 201, log)

    def get_task_status(self, calls: Sequence[Call]) -> list[Answer]:
        """GET getTaskStatus: the task without its result, and its place in the queue."""
        return self._task_answers(calls, self.tasks.get_status_texts)

    def get_task_result(self, calls: Sequence[Call]) -> list[Answer]:
        """GET getTaskResult: the task that has ended with its result, which only a completed one has."""
        return self._task_answers(calls, self.tasks.get_result_texts)

    def _task_answers(
        self, calls: Sequence[Call], read: Callable[[Sequence[str]], Mapping[str, str | QtmError | None]]
    ) -> list[Answer]:
        """For each call the text of its task, all of which are read at once."""
        later = self._later(calls, "task")
        ids = dict.fromkeys(call.values["task_id"] for i, call in enumerate(calls) if i not in later)
        texts = read([*ids])
        answers: list[Answer] = []
        for i, call in enumerate(calls):
            found = later[i] if i in later else texts[call.values["task_id"]]
            if isinstance(found, QtmError):
                found.log = call.ids
            answers.append(success(found, log=call.ids) if isinstance(found, str) else found or Alone())
        return answers

    def _later(self, calls: Sequence[Call], kind: str) -> dict[int, Later]:
        """By the places of the calls, those that wait for the end of a task or batch that has not ended."""
        waiting = {
            i: Later(WaitKey(kind, call.values[f"{kind}_id"]), call.values["wait"])
            for i, call in enumerate(calls)
            if call.values["wait"] and call.request.may_wait
        }
        ids = [later.key.id for later in waiting.values()]
        ended = self.tasks.ended(*((ids, ()) if kind == "task" else ((), ids))) if ids else ()
        return {i: later for i, later in waiting.items() if later.key.id not in ended}

    def get_tasks_by_batch(self, call: Call) -> Later | str:
        """GET getTasksByBatch: the batch with its counts, and a page of its tasks in the order of
        creation."""
        if later := self._later([call], "batch"):
            return later[0]
        batch, page = self.tasks.get_batch_page(_filter(call.values), has_waited=call.values["wait"] > 0)
        return f"{dump_json(batch.summary())[:-1]},{_page_json(page)}}}"

    def cancel_task(self, call: Call) -> Response:
        """POST cancelTask: a task, or all of a batch that has not ended."""
        if "task_id" in call.values:
            return _changed(self.tasks.cancel_task(call.values["task_id"]).to_dict())
        count, batch = self.tasks.cancel_batch(call.values["batch_id"])
        return _changed({"cancelled": count, **batch.summary()}, count)

    def retry_task(self, call: Call) -> Response:
        """POST retryTask: a failed or cancelled task, or all of a batch that are failed, cancelled or
        either."""
        if "task_id" in call.values:
            return _changed(self.tasks.retry_task(call.values["task_id"]).to_dict())
        statuses = [TaskStatus(text) for text in call.values["status"]]
        count, batch = self.tasks.retry_batch(call.values["batch_id"], statuses)
        return _changed({"retried": count, **batch.summary()}, count)

    def delete_task(self, call: Call) -> Response:
        """POST deleteTask: a task that has ended, with its result, attempts and metrics."""
        self.tasks.delete_task(call.values["task_id"])
        return _changed({"deleted": 1})

    def delete_batch(self, call: Call) -> Response:
        """POST deleteBatch: a batch that has ended, with its tasks."""
        count = self.tasks.delete_batch(call.values["batch_id"])
        return _changed({"deleted": count}, count)

    def get_task_attempts(self, call: Call) -> dict[str, Any]:
        """GET getTaskAttempts: the attempts on record, how each ended and what it used."""
        task_id = call.values["task_id"]
        attempts = self.tasks.get_task_attempts(task_id)
        return {"task_id": task_id, "attempts": [attempt.to_dict() for attempt in attempts]}

    def get_run_card(self, call: Call) -> dict[str, Any]:
        """GET getRunCard: what is needed to run a completed task again: engine, versions, data, host,
        seed."""
        return self.tasks.run_card(call.values["task_id"])

    def list_tasks(self, call: Call) -> str:
        """GET listTasks: a page of tasks, newest first."""
        return f"{{{_page_json(self.tasks.list_page(_filter(call.values)))}}}"

    def list_batches(self, call: Call) -> dict[str, Any]:
        """GET listBatches: a page of batches with their counts, newest first."""
        batches, following = self.tasks.list_batches(call.values["limit"], call.values["cursor"])
        return {"batches": [batch.summary() for batch in batches], "next_cursor": following}

    def rank_tasks(self, call: Call) -> Response | str:
        """GET rankTasks: the leaderboard of a batch by a metric, of tasks or of params over all stocks."""
        names = ("batch_id", "by", "order", "group", "stat", "against", "limit")
        given = {name: call.values[name] for name in names}
        start, where = int(call.values["cursor"] or 0), tuple(call.values["where"])
        text = self.tasks.rank_text(RankQuery(**given, where=where, start=start))
        if call.values["format"] == "json":
            return text
        return Response(200, ranking_csv(json.loads(text)["rows"]).encode(), content_type=CSV_TYPE)

    def export_tasks(self, call: Call) -> Response:
        """GET exportTasks: all tasks of a batch with their params and metrics, as CSV or a JSON object a
        line."""
        names = ("batch_id", "format", "fields", "status", "where")
        batch_id, name, fields, statuses, where = (call.values[one] for one in names)
        texts = self.tasks.export(batch_id, name, fields or (), statuses, where)
        pieces: Iterator[bytes] = (text.encode() for text in texts)
        if prefers_chinese(call.values[LANGUAGE_HEADER]) and not fields:  # what is chosen has no status_text
            pieces = map(in_chinese, pieces)
        first = next(pieces)  # what fails before it is an answer of its own
        headers = (("Content-Disposition", f'attachment; filename="{batch_id}.{name}"'),)
        return Response(200, b"", headers, FORMATS[name], pieces=itertools.chain([first], pieces))

    def get_curves(self, call: Call) -> dict[str, Any]:
        """GET getCurves: equity curves of completed tasks, thinned so that peaks and troughs stay."""
        points = call.values["points"]
        curves = [curve._asdict() for curve in self.tasks.curves(call.values["task_id"], points)]
        return {"points": points, "method": THINNING, "curves": curves}

    def page(self, _call: Call) -> Response:
        """GET /: the page for browsers. It holds no data, and asks for a token where one is needed."""
        return read_page()

    def openapi(self, _call: Call) -> Response:
        """GET /openapi.json: this document."""
        return Response(200, self._document)

    @functools.cached_property
    def _document(self) -> bytes:
        document = openapi_document(self._routes, needs_token=bool(self.settings.api_token))
        return dump_json(document).encode()

    def healthz(self, _call: Call) -> dict[str, Any]:
        """GET /healthz: the process answers."""
        return {"status": "ok", "version": __version__}

    def readyz(self, _call: Call) -> dict[str, Any]:
        """GET /readyz: the database takes writes, the schema is current, the last poll is fresh, and the
        engine is imported."""
        scheduler, probe = self.tasks.scheduler, cast("CachedRead[None]", self._probe)
        problem = ""
        if not probe.refresh(PROBE_WAIT_SECONDS, PROBE_SECONDS):
            problem = "the database has not answered yet"
        elif isinstance(probe.error, SchemaError):
            problem = "the schema is not current"
        elif isinstance(probe.error, QtmError):  # the client needs no token: only the log has the message
            problem = f"the database takes no writes now ({probe.error.error})"
        elif probe.error:
            raise probe.error
        elif scheduler and not scheduler.is_fresh():
            problem = "the scheduler's last poll is too old"
        if problem:
            raise DatabaseUnavailable(f"not ready: {problem}", retry_after_seconds=2)
        state = scheduler.state() if scheduler else None
        if state and not state["engine_ready"]:
            raise EngineUnavailable("not ready: the engine is still being imported", retry_after_seconds=2)
        if state:  # without names and ids
            state = {name: state[name] for name in SHOWN_OF_SCHEDULER} | {"running": len(state["running"])}
        return {"status": "ready", "scheduler": state}

    def metrics(self, _call: Call) -> Response:
        """GET /metrics: in Prometheus' text format, whether the database is there or not."""
        families = process_metrics() + self.monitor.metrics()
        if self._tasks and self._counts:
            families += self._counts.metrics() + manager_metrics(self._tasks)
        return Response(200, metrics_text(families).encode(), content_type=METRICS_TYPE)

    def ended(self, keys: Sequence[WaitKey]) -> set[WaitKey]:
        """Those of the keys whose task or batch has ended, or is not there."""
        ids = {kind: [key.id for key in keys if key.kind == kind] for kind in ("task", "batch")}
        ended = self.tasks.ended(ids["task"], ids["batch"])
        return {key for key in keys if key.id in ended}


NO_TASK, NO_BATCH = (TaskNotFound,), (BatchNotFound,)
NO_RESULT = (TaskNotFound, TaskNotFinished)
NOT_CREATED = (InvalidTask, BatchNotFound, IdempotencyKeyReused, TooManyPending, EngineUnavailable)
NOT_CANCELLED = (TaskNotFound, BatchNotFound, TaskFinished)
NOT_RETRIED = (TaskNotFound, BatchNotFound, TaskNotRetryable)
NOT_DELETED = (BatchNotFound, TaskNotFinished)
NOT_READY = (DatabaseUnavailable, EngineUnavailable)
ROUTES = (
    Route(f"{API}/createTask", TaskAPI.create_task, "Created", OF_CREATE, NOT_CREATED, Lane.WRITE, "CreateTask",
          is_joint=True),
    Route(f"{API}/getTaskStatus", TaskAPI.get_task_status, "TaskStatus", OF_TASK_READ, NO_TASK, is_joint=True),
    Route(f"{API}/getTasksByBatch", TaskAPI.get_tasks_by_batch, "BatchPage", OF_BATCH, NO_BATCH, Lane.LONG),
    Route(f"{API}/cancelTask", TaskAPI.cancel_task, "Cancelled", LANGUAGE, NOT_CANCELLED, Lane.WRITE, "Selection"),
    Route(f"{API}/getTaskResult", TaskAPI.get_task_result, "TaskResult", OF_TASK_READ, NO_RESULT, is_joint=True),
    Route(f"{API}/retryTask", TaskAPI.retry_task, "Retried", LANGUAGE, NOT_RETRIED, Lane.WRITE, "RetryTask"),
    Route(f"{API}/deleteTask", TaskAPI.delete_task, "Deleted", "", NO_RESULT, Lane.WRITE, "DeleteTask"),
    Route(f"{API}/deleteBatch", TaskAPI.delete_batch, "Deleted", "", NOT_DELETED, Lane.WRITE, "DeleteBatch"),
    Route(f"{API}/getTaskAttempts", TaskAPI.get_task_attempts, "TaskAttempts", OF_TASK, NO_TASK),
    Route(f"{API}/getRunCard", TaskAPI.get_run_card, "RunCard", OF_TASK, NO_RESULT),
    Route(f"{API}/listTasks", TaskAPI.list_tasks, "TaskList", OF_TASKS, lane=Lane.LONG),
    Route(f"{API}/rankTasks", TaskAPI.rank_tasks, "Ranking", OF_RANKING, NO_BATCH, Lane.RANK),
    Route(f"{API}/exportTasks", TaskAPI.export_tasks, CSV_TYPE, OF_EXPORT, NO_BATCH, Lane.EXPORT),
    Route(f"{API}/getCurves", TaskAPI.get_curves, "Curves", OF_CURVES, NO_RESULT, Lane.LONG),
    Route(f"{API}/listBatches", TaskAPI.list_batches, "BatchList", OF_BATCHES, lane=Lane.LONG),
    Route("/", TaskAPI.page, PAGE_TYPE, errors=(PathNotFound,), lane=Lane.NOW),
    Route("/openapi.json", TaskAPI.openapi, "application/json", lane=Lane.NOW),
    Route("/healthz", TaskAPI.healthz, "Health", lane=Lane.NOW),
    Route("/readyz", TaskAPI.readyz, "Readiness", errors=NOT_READY, lane=Lane.PROBE),
    Route("/metrics", TaskAPI.metrics, METRICS_TYPE, lane=Lane.PROBE),
)  # fmt: skip
WORKER_ROUTES = tuple(route for route in ROUTES if route.path in (*PROBES, "/metrics"))  # of `qtm worker`


# ==== 60 Access =============================================================================================
# Checks of a request's head by the event loop, before its body is read: Host, token, Origin, media type. Also
# the certificate of the service.

STRICT_TRANSPORT = "Strict-Transport-Security: max-age=31536000\r\n"  # a year without plain HTTP
RENEWAL_SECONDS = 10.0  # how late a new certificate is noticed


def tls_context(settings: Settings) -> ssl.SSLContext:
    """For TLS 1.2 and newer, with the certificate and key of the settings. Raises SettingsError."""
    cert, key = settings.tls_cert, settings.tls_key

    def refuse() -> str:  # or OpenSSL asks for the passphrase at the terminal, and the service waits for it
        raise SettingsError(f"QTM_TLS_KEY: {key} is encrypted; store the key without a passphrase")

    for name, path in (("QTM_TLS_CERT", cert), ("QTM_TLS_KEY", key)):
        if not os.access(path, os.R_OK):
            raise SettingsError(f"{name}: there is no file {path}, or this account cannot read it")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # its handshakes would cost us more than the client
    try:
        context.load_cert_chain(cert, key, password=refuse)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        names = "QTM_TLS_CERT, QTM_TLS_KEY"
        raise SettingsError(f"{names}: {cert} and {key} cannot be used: {reason}") from None
    return context


class Certificate:
    """The certificate of the service, loaded anew when its files have changed, so that a renewal needs no
    restart. ``context`` serves new connections."""

    def __init__(self, settings: Settings) -> None:
        self.context = tls_context(settings)
        self._settings = settings
        self._files = self._read()
        self._next_look = 0.0

    def _read(self) -> list[bytes] | None:
        """The files as they are now; None where one cannot be read."""
        with contextlib.suppress(OSError):
            return [
                pathlib.Path(path).read_bytes() for path in (self._settings.tls_cert, self._settings.tls_key)
            ]
        return None

    def refresh(self, now: float) -> None:
        """Look at the files now and then. A pair that cannot be used changes nothing, and is tried again once
        it has changed."""
        if now < self._next_look:
            return
        self._next_look = now + RENEWAL_SECONDS
        files = self._read()
        if files == self._files:
            return
        self._files = files
        try:
            self.context = tls_context(self._settings)
            log_event(logging.INFO, "certificate renewed", file=self._settings.tls_cert)
        except SettingsError as error:
            log_event(logging.WARNING, "certificate not renewed", error=str(error))


CHARSET = re.compile(r"\s*charset\s*=\s*(?!\"?utf-8\"?\s*$)", re.IGNORECASE)  # another one than UTF-8


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _sent_token(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip(" \t") if scheme.lower() == "bearer" else ""


class AccessRules:
    """What is checked before a request is answered: Host, route, token, and of writes media type, Origin and
    length."""

    def __init__(self, settings: Settings, routes: Sequence[Route] = ROUTES) -> None:
        self.certificate = Certificate(settings) if settings.tls_cert else None
        self._routes = {route.path: route for route in routes}
        self._max_body_bytes = settings.max_body_bytes
        self._tokens = [
            (_sha256(token), (may_write, name))
            for tokens, may_write in ((settings.api_token, True), (settings.read_token, False))
            for name, token in named_tokens(tokens)
        ]
        names = (*LOOPBACK_HOSTS, settings.host, *settings.allowed_hosts)
        self._hosts = {host.strip("[]").lower() for host in names}
        self._origins = {origin.lower() for origin in settings.allowed_origins}
        self._is_wildcard = settings.host in ("0.0.0.0", "::")
        self._is_served = functools.lru_cache(maxsize=64)(self._is_host_of_ours)

    def admit(self, request: HttpRequest) -> Route:
        """The route of a request, by its head alone. Raises a QtmError."""
        if request.path not in PROBES:
            self.check_host(request.headers)
        route = self._find(request.method, request.path)
        if not route.is_open:
            self._check_token(request.headers)
        if route.method == "POST":
            self._check_write(request.headers)
        if request.length is not None and request.length > self._max_body_bytes:
            raise BodyTooLarge(f"the body has {request.length} bytes, more than {self._max_body_bytes}")
        return route

    def _find(self, method: str, path: str) -> Route:
        route = self._routes.get(path)
        if route is None:
            is_api = f"{API}/createTask" in self._routes
            known = f"the endpoints are under {API}/" if is_api else f"known are {', '.join(self._routes)}"
            raise PathNotFound(f"there is no {path[:200]}; {known}")
        if method not in route.methods:
            allow = ", ".join(route.methods)
            raise MethodNotAllowed(f"{path} takes {allow}", allow)
        return route

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Raises HostNotAllowed. A page cannot rebind an IP address as it can a name, so that a service on
        all addresses takes any."""
        text = headers.get("host", "127.0.0.1")
        if not self._is_served(text):
            raise HostNotAllowed(f"the Host {text[:100]!r} is not served here; QTM_ALLOWED_HOSTS adds names")

    def _is_host_of_ours(self, text: str) -> bool:
        match = HOST.fullmatch(text)
        host = match[1].strip("[]").lower() if match else ""
        is_address = ":" in host or re.fullmatch(r"[0-9.]+", host) is not None
        return host != "" and (host in self._hosts or (self._is_wildcard and is_address))

    def _check_token(self, headers: Mapping[str, str]) -> None:
        if self._tokens and not self._matches(headers):
            message = "send the header Authorization: Bearer TOKEN with a token of this service"
            raise Unauthorized(message, "invalid_token" if _sent_token(headers) else "")

    def _check_write(self, headers: Mapping[str, str]) -> None:
        if self._tokens and not any(may_write for may_write, _ in self._matches(headers)):
            raise ReadOnlyToken("this token may only read", "insufficient_scope")
        media_type, *parameters = headers.get("content-type", "").split(";")
        if media_type.strip().lower() != "application/json" or any(map(CHARSET.match, parameters)):
            raise UnsupportedMediaType("send the body as Content-Type: application/json, in UTF-8")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise UnsupportedMediaType("send the body as it is, without a Content-Encoding")
        host, origin = headers.get("host", ""), headers.get("origin")
        # a proxy may speak TLS
        if origin not in (None, f"http://{host}", f"https://{host}") and origin not in self._origins:
            raise ForeignOrigin(
                f"a page of the origin {origin!r:.100} may not write to the host {host!r:.100}; if it is qtm's "
                "own behind a proxy, have the proxy pass the Host on, or add the origin to QTM_ALLOWED_ORIGINS"
            )

    def token_name(self, headers: Mapping[str, str]) -> str | None:
        """The name of the token that was sent, if it has one."""
        return next((name for _, name in self._matches(headers) if name), None)

    def _matches(self, headers: Mapping[str, str]) -> list[tuple[bool, str | None]]:
        """For each token of ours that was sent, whether it may write, and its name. All are compared, each in
        constant time; hashes, since texts of other lengths would differ sooner."""
        sent = _sha256(_sent_token(headers))
        return [known for token, known in self._tokens if hmac.compare_digest(token, sent)]


# ==== 61 HTTP exchanges =====================================================================================
# What one connection is made of: its stream of bytes, a request with its answer, and its share of the bytes
# that all connections may keep in memory together.

RECEIVE_BYTES = 64 * 1024
QUICK_BODY_BYTES = 16 * 1024  # a longer body is a long request
MAX_HELD_BYTES = 256 * 1024 * 1024  # of longer bodies, and of answers that their clients have not taken yet
MAX_LOGGED_PATH = 200  # characters


class Stream:
    """A TCP socket that never blocks."""

    needs = 0  # after BlockingIOError: the event to wait for, if it is not the one that was asked for

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.unsent: list[memoryview] = []
        self._events = 0  # what the poller watches for
        sock.setblocking(False)

    def watch(self, poller: selectors.BaseSelector, events: int, data: Any) -> None:
        """Have the poller give ``data`` at these events, at none when it is 0."""
        if events == self._events:
            return
        if not events:
            poller.unregister(self.socket)
        elif self._events:
            poller.modify(self.socket, events, data)
        else:
            poller.register(self.socket, events, data)
        self._events = events

    def flush(self) -> None:
        """Send what is unsent. Raises BlockingIOError when that is not all, OSError when the client is
        gone."""
        unsent = self.unsent
        while unsent:
            unsent[0] = unsent[0][self.send(unsent[0]) :]
            if not unsent[0]:
                unsent.pop(0)

    def receive(self) -> bytes:
        """What has arrived; nothing at the end. Raises BlockingIOError, OSError."""
        return self.socket.recv(RECEIVE_BYTES)

    def send(self, data: memoryview) -> int:
        """How many bytes went out. Raises BlockingIOError, OSError."""
        return self.socket.send(data)

    def shut(self, is_client_sending: bool) -> None:
        """Send the end of the stream."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)


class TlsStream(Stream):
    """The same over TLS; its handshake happens in the first calls of `receive`."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.socket = self._tls

    def receive(self) -> bytes:
        """Also all that is decrypted already, of which no poll would know."""
        data = self._translated(self._tls.recv, RECEIVE_BYTES)
        while data and (more := self._tls.pending()):
            data += self._tls.recv(more)
        return data

    def send(self, data: memoryview) -> int:
        """The same, encrypted."""
        return self._translated(self._tls.send, data)

    def _translated(self, call: Callable[..., T], *given: Any) -> T:
        try:
            return call(*given)
        except ssl.SSLWantReadError:
            self.needs = selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            self.needs = selectors.EVENT_WRITE
        raise BlockingIOError

    def shut(self, is_client_sending: bool) -> None:
        """Also within TLS. OpenSSL would look for the client's close_notify, and send a fatal alert when it
        finds data: a client that is still sending reads the end when the TCP socket is closed."""
        if not is_client_sending:
            with contextlib.suppress(OSError, ValueError):  # there is no close_notify yet, and none is needed
                self._tls.unwrap()
            super().shut(is_client_sending)


class Phase(enum.Enum):
    """What a connection is doing."""

    IDLE = "idle"  # nothing of a request has arrived
    HEAD = "head"  # a head has begun
    BODY = "body"
    BUSY = "busy"  # the request waits for a worker, or a worker answers it
    WAITING = "waiting"  # the request waits for a task or batch to end
    SENDING = "sending"  # the client has not taken all of the answer
    DISCARDING = "discarding"  # the body of a refused request goes by
    LINGERING = "lingering"  # answered for the last time; what still comes is dropped
    CLOSED = "closed"


UNASKED = (Phase.IDLE, Phase.HEAD)
READING = (*UNASKED, Phase.BODY, Phase.DISCARDING)
ANSWERING = (Phase.BUSY, Phase.WAITING)  # the next request is not read before the answer
UNUSED = (*UNASKED, Phase.DISCARDING)  # without a request, or it was refused
RECEIVING = (Phase.BODY, Phase.DISCARDING, Phase.LINGERING)  # a body comes, which must not be too slow

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # that a client may choose


@dataclass(slots=True, eq=False)
class Exchange:
    """A request and its answer. The event loop writes it; a worker reads its request."""

    connection: Connection
    started: float  # when the first byte of the head came
    request: HttpRequest = NO_REQUEST
    request_id: str = field(default_factory=lambda: f"{random.getrandbits(64):016x}")  # or the client's own
    route: Route = field(init=False)  # set once the request is admitted
    queued_at: float = 0.0
    status: int = 0  # of the answer
    is_head: bool = False  # a HEAD: the answer has no body
    is_alone: bool = False  # answered in a call of its own, for its body or its answer is long
    closes: bool = False  # the connection closes after the answer
    discards: bool = False  # its body is unwanted, and goes by
    is_cut_off: bool = False  # the client may be sending what cannot be cut into requests
    pieces: Iterator[bytes] | None = None  # of the answer, still to come; a worker takes them

    def joins(self, first: Exchange) -> bool:
        """Whether it is answered by the same call of the handler."""
        if self.route is not first.route or self.is_alone or first.is_alone:
            return False
        mine, other = (
            (one.query, one.may_wait, one.headers.get("accept-language"))
            for one in (self.request, first.request)
        )
        return not self.route.is_shared or mine == other

    def count(self, monitor: HttpMonitor) -> None:
        """Count it at its end, from the first byte of its head to the last byte of its answer."""
        seconds = time.monotonic() - self.started
        monitor.observe(self.request.path, self.request.method, self.status, seconds)

    def log(self, response: Response) -> None:
        """One line in the log, written before the answer is sent, so that lines stand in the order of answers
        and none is missing. That of a write is its audit line: who did what, and what came of it."""
        status, is_write = response.status, self.request.method == "POST"
        # 409 "not finished" is asked again and again
        is_notable = is_write or (status >= 400 and status != 409)
        level = logging.ERROR if status == 500 else logging.INFO if is_notable else logging.DEBUG
        event, to = ("audit", audit_logger) if is_write else ("request", logger)
        if to.isEnabledFor(level):
            fields: dict[str, Any] = {
                "client": self.connection.client,
                **({"token": self.request.token_name} if self.request.token_name else {}),
                "method": self.request.method,
                "path": self.request.path[:MAX_LOGGED_PATH],
                "status": status,
                "ms": round((time.monotonic() - self.started) * 1000, 2),
                "request_id": self.request_id,
            }
            log_events(level, [(time.time(), event, {**fields, **response.log})], to)


class ByteBudget:
    """How many bytes of longer bodies and answers the connections keep in memory together."""

    def __init__(self) -> None:
        self.held_bytes = 0

    def hold(self, connection: Connection, size: int) -> bool:
        """Note how many a connection keeps; False when those of all are too many. Few do not count."""
        size = size if size > QUICK_BODY_BYTES else 0
        self.held_bytes += size - connection.held_bytes
        connection.held_bytes = size
        return not size or self.held_bytes <= MAX_HELD_BYTES

    def has_room(self, size: int) -> bool:
        """Whether an answer of so many bytes may be kept. A short one always may: probes are answered
        whatever others do."""
        return size <= QUICK_BODY_BYTES or not self.held_bytes or self.held_bytes + size <= MAX_HELD_BYTES

    def overloaded(self) -> Overloaded:
        """The refusal where there is no room."""
        message = f"requests and answers of {MAX_HELD_BYTES} bytes are on their way already"
        return Overloaded(message, retry_after_seconds=1)


# ==== 62 HTTP connections ===================================================================================
# A connection is a non-blocking socket. It reads bytes, parses requests and writes answers; only the event
# loop (thread http-loop) uses it. Each phase except BUSY has a deadline; in BUSY a worker computes (HTTP dispatch
# bounds the wait for one); a body has a least rate, and a client that takes nothing of its answer is closed. So a
# slow client costs one descriptor for a while and no thread. HTTP messages and Access bound the size of a request,
# HTTP exchanges the memory of all, HTTP server their number.
#
#   IDLE --> HEAD --> BODY --> BUSY <--> WAITING          an answer that closes: --> LINGERING --> CLOSED
#    ^        |                 |                         a disconnect, or a deadline: --> CLOSED
#    |                       SENDING --> DISCARDING       more pieces of the answer: SENDING --> BUSY
#    +--------------------------+-----------+

IDLE_SECONDS = 75.0  # a kept connection without a request
MIN_IDLE_SECONDS = 1.0  # after which it may have to make room for another
HEAD_SECONDS = 10.0  # for the whole head, from its first byte
BODY_SECONDS = 120.0  # for the whole body, also for one that is dropped
BODY_GRACE_SECONDS = 5.0  # after which a body must have come at MIN_BODY_RATE
MIN_BODY_RATE = 4096  # bytes a second, on the average since its head
STALL_SECONDS = 30.0  # in which a client takes nothing of its answer
SEND_SECONDS = 600.0  # for a client to take one whole answer
LINGER_SECONDS = 2.0  # without a byte, after an answer that closes: unread bytes would reset the connection
ALWAYS_ANSWERED = (*PROBES, "/metrics")  # to clients beyond the cap, too


class Connection:
    """One client: its requests one after another, and one answer for each."""

    def __init__(self, server: ApiServer, stream: Stream, client: str) -> None:
        self.client = client  # its address
        self.stream = stream
        self.phase = Phase.IDLE
        self.since = time.monotonic()  # when the phase began
        self.deadline = self.since + HEAD_SECONDS  # a new client has something to ask
        self.exchange = Exchange(self, self.since)  # under way, or the next one
        self.rejection: QtmError | None = None  # the answer to all but probes, for a client beyond the cap
        self.has_ended = False  # the client sends no more
        self.held_bytes = 0  # of a longer body or answer, as the server counts them
        self._server = server
        self._reader = MessageReader()
        self._received = 0  # bytes of the body
        self._received_at = self.since

    # -- what the server calls

    def on_event(self) -> None:
        """Bytes have come or can go."""
        if self.phase is Phase.SENDING:
            self._flush()
            self.advance()
        elif self.phase is not Phase.CLOSED:  # by another event of the same poll
            self._receive()

    def on_deadline(self) -> None:
        """The phase has lasted too long."""
        phase = self.phase
        if phase is Phase.WAITING:
            self._server.dispatcher.end_wait(self.exchange)
        elif phase is Phase.BODY or (phase is Phase.HEAD and self._reader.size):
            self._refuse_framing(RequestTimeout(f"the {phase.value} did not arrive in time"))
        else:
            if phase is Phase.SENDING:
                log_event(logging.DEBUG, "answer not taken", request_id=self.exchange.request_id)
            self.close()

    def is_over(self, now: float) -> bool:
        """Whether the phase has outlasted its deadline, or a body comes too slowly."""
        seconds = now - self.since
        is_late = now > self.deadline and self.phase is not Phase.BUSY
        is_slow = seconds > BODY_GRACE_SECONDS and self._received < seconds * MIN_BODY_RATE
        return is_late or (is_slow and self.phase in RECEIVING)

    def give_way(self, now: float = math.inf) -> bool:
        """Close, if nothing is lost by it and the phase has lasted for a while; whether it is closed. What
        has arrived meanwhile is read first."""
        if now - self.since >= MIN_IDLE_SECONDS:
            if self.phase in UNASKED:
                self._receive()
            if self.phase in UNUSED:
                self.close()
        return self.phase is Phase.CLOSED

    def watch(self, events: int) -> None:
        self.stream.watch(self._server.poller, events, (self, self.on_event))

    # -- bytes in

    def _receive(self) -> None:
        try:
            data = self.stream.receive()
        except BlockingIOError:
            self.watch(self.stream.needs or selectors.EVENT_READ)
            return
        except OSError:  # a reset
            data = b""
        if not data:
            self._disconnected()
            return
        self._received += len(data)
        if self.phase is Phase.LINGERING:
            self._linger()
            return
        self._received_at = time.monotonic()
        if self.phase is Phase.IDLE:
            self.exchange.started = self._received_at
        self._reader.feed(data)
        if self.phase in ANSWERING:
            if self._reader.size > MAX_HEAD_BYTES:  # back-pressure: it sends faster than it is answered
                self.watch(0)
            return
        if self.phase is Phase.BODY and not self._server.budget.hold(self, self._received):
            self.exchange.closes = self.exchange.discards = True
            with contextlib.suppress(QtmError):  # nothing after it will be read as a request
                self._reader.discard()
            self.answer(failure(self._server.budget.overloaded()))
        self.advance()

    def _disconnected(self) -> None:
        """The client closed, at least its sending half: what it has asked for is still answered, without
        waiting for an end."""
        if self.phase not in ANSWERING:
            self.close()
            return
        self.has_ended = True
        self.watch(0)
        if self.phase is Phase.WAITING:
            self._server.dispatcher.end_wait(self.exchange)

    def advance(self) -> None:
        """Go on with what has arrived, until bytes are missing or a request is being answered. One request a
        turn of the event loop: a client that sends many at once does not hold up the others."""
        if self.phase not in READING:
            return
        try:
            self._read_on()
        except QtmError as error:  # the framing is in doubt: nothing after it can be trusted
            self._refuse_framing(error)

    def _read_on(self) -> None:
        if self.phase is Phase.DISCARDING:
            if not self._reader.discard():
                self._await_bytes()
                return
            if self.exchange.closes:
                self._linger()
                return
            self._await_request()
        if self.phase is not Phase.BODY:
            head = self._reader.head()
            if head is None:
                self._await_bytes()
                return
            if not self._begin(head):
                return
        body = self._reader.body()
        if body is None:
            self._await_bytes()
            return
        if body:
            self.exchange.request = self.exchange.request._replace(body=body)
        self.phase = Phase.BUSY
        self._server.dispatcher.submit(self.exchange)

    def _await_bytes(self) -> None:
        if self.phase is Phase.IDLE and self._reader.size:
            self._become(Phase.HEAD, HEAD_SECONDS)
        is_unwanted = self._server.dispatcher.is_draining and self.phase in UNASKED
        if self.has_ended or is_unwanted:
            self.close()
        else:
            self.watch(selectors.EVENT_READ)

    def _await_request(self) -> None:
        self.exchange = Exchange(self, self._received_at)
        self._become(Phase.IDLE, IDLE_SECONDS)

    def _become(self, phase: Phase, seconds: float) -> None:
        self.phase, self.since = phase, time.monotonic()
        self.deadline = self.since + seconds
        self._received = self._reader.size  # what came with the head counts

    def _begin(self, head: bytes) -> bool:
        """Accept or refuse a request by its head alone; True when its body may come. Raises a QtmError for
        its framing."""
        exchange, most = self.exchange, self._server.settings.max_body_bytes
        exchange.is_head = head.startswith(b"HEAD ")
        request = parse_head(head)
        if REQUEST_ID.fullmatch(given := request.headers.get("x-request-id", "")):
            exchange.request_id = given
        if request.method == "POST":
            request = request._replace(token_name=self._server.rules.token_name(request.headers))
        exchange.request = request
        if self.rejection and request.path not in ALWAYS_ANSWERED:
            raise self.rejection
        exchange.closes = request.closes or self.rejection is not None
        expects = request.expects_continue and not self._reader.size
        self._reader.expect_body(request.length, most)
        try:
            exchange.route = self._server.rules.admit(request)
        except QtmError as error:
            # a client that expects 100 Continue sends no body, or sends it all the same
            exchange.is_cut_off = expects or (request.length or 0) > most
            exchange.discards = request.length != 0 and not exchange.is_cut_off
            exchange.closes = exchange.closes or exchange.is_cut_off
            self.phase = Phase.BUSY
            self._server.dispatcher.complete_soon(exchange, failure(error))
            return False
        if request.length != 0:
            self._become(Phase.BODY, BODY_SECONDS)
            if expects:
                self.stream.unsent.append(memoryview(b"HTTP/1.1 100 Continue\r\n\r\n"))
                with contextlib.suppress(OSError):  # a disconnect is noticed when the body is read
                    self.stream.flush()
        return True

    # -- answers out

    def _refuse_framing(self, error: QtmError) -> None:
        exchange = self.exchange
        exchange.closes = exchange.is_cut_off = True
        self._reader = MessageReader()  # what it holds of a body is no longer counted
        if self.phase is Phase.DISCARDING:  # it is answered already
            self._linger()
            return
        exchange.discards = False
        self.answer(failure(error))

    def answer(self, response: Response) -> None:
        """Send the one answer to the request. The caller goes on with `advance`."""
        exchange, server = self.exchange, self._server
        server.budget.hold(self, 0)
        if exchange.request.method != "POST" and not server.budget.has_room(len(response.body)):
            response = failure(server.budget.overloaded())
        is_old = exchange.request.is_old
        exchange.closes |= server.dispatcher.is_draining or response.status == 500
        exchange.closes |= is_old and response.pieces is not None
        exchange.pieces = None if exchange.is_head else response.pieces
        field = "Connection: close\r\n" if exchange.closes else "Connection: keep-alive\r\n" if is_old else ""
        field += STRICT_TRANSPORT if server.rules.certificate else ""
        self.stream.unsent += response.encoded(exchange.request_id, field, exchange.is_head, is_old)
        exchange.log(response)
        exchange.status = response.status
        if exchange.request.body:
            exchange.request = exchange.request._replace(body=b"")
        self.since = time.monotonic()
        self._flush()

    def answer_more(self, outcome: bytes | Response | None) -> None:
        """Send the next piece of the answer; None ends it. After a failure the connection is closed in the
        midst of the answer, so that the client sees that it is not whole. The caller goes on with
        `advance`."""
        exchange, budget = self.exchange, self._server.budget
        piece = outcome if isinstance(outcome, bytes) else b""
        if not budget.has_room(len(piece)):
            outcome = failure(budget.overloaded())
        if isinstance(outcome, Response):
            log_event(logging.WARNING, "answer cut off", request_id=exchange.request_id, **outcome.log)
            self.close()
            return
        if outcome is None:
            exchange.pieces = None
        if exchange.request.is_old:
            self.stream.unsent.append(memoryview(piece))
        elif piece or outcome is None:  # an empty chunk is the last one
            self.stream.unsent.append(memoryview(b"%x\r\n%b\r\n" % (len(piece), piece)))
        self.since = time.monotonic()
        self._flush()

    def _flush(self) -> None:
        """Go on sending; after the last byte, turn to the next request or close."""
        exchange = self.exchange
        try:
            self.stream.flush()
        except BlockingIOError:
            self.phase = Phase.SENDING
            self.deadline = min(time.monotonic() + STALL_SECONDS, self.since + SEND_SECONDS)
            # a memoryview keeps all of its buffer in memory
            self._server.budget.hold(self, sum(memoryview(part.obj).nbytes for part in self.stream.unsent))
            self.watch(self.stream.needs or selectors.EVENT_WRITE)
            return
        except OSError as error:
            log_event(
                logging.DEBUG, "answer not taken", request_id=exchange.request_id, error=error_text(error)
            )
            self.close()
            return
        self._server.budget.hold(self, 0)
        if exchange.pieces is not None:
            self.phase = Phase.BUSY
            is_full = self.has_ended or self._reader.size > MAX_HEAD_BYTES
            self.watch(0 if is_full else selectors.EVENT_READ)
            self._server.dispatcher.submit_next(exchange)
            return
        exchange.count(self._server.api.monitor)
        if exchange.discards:
            self._become(Phase.DISCARDING, BODY_SECONDS)
        elif exchange.closes:
            self._linger()
        else:
            self._await_request()

    def _linger(self) -> None:
        """Close so that the last answer arrives, however much the client is sending: many send all of a
        request before they read."""
        if self.phase is not Phase.LINGERING:
            self.stream.shut(self.exchange.is_cut_off)
            if self.has_ended:
                self.close()
                return
            self._server.let_linger(self)
            self._reader = MessageReader()
            self._become(Phase.LINGERING, BODY_SECONDS)
        self.deadline = min(time.monotonic() + LINGER_SECONDS, self.since + BODY_SECONDS)
        self.watch(selectors.EVENT_READ)

    def close(self) -> None:
        """Forget the client."""
        if self.phase is Phase.CLOSED:
            return
        self.watch(0)
        is_broken = self.exchange.pieces is not None
        if (self.stream.unsent or is_broken) and self.exchange.status:
            self.exchange.count(self._server.api.monitor)
        if is_broken and self.exchange.request.is_old:
            linger = struct.pack("ii", 1, 0)  # a reset: the end would look like that of the body
            self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.phase = Phase.CLOSED
        self._server.forget(self)
        self.stream.socket.close()
        self.stream.unsent.clear()
        del self.exchange  # which refers to this connection


# ==== 63 HTTP dispatch ======================================================================================
# Requests on their way from the event loop to workers and back. The loop gives each idle worker a group of alike
# requests through its SimpleQueue; the answers return through a deque, and a socket pair wakes the loop.
# Groups: 16 status requests in one call take a third of the CPU of 16 calls. Lanes: each kind of request has
# its own queue and workers, so that slow requests (a create that the engine validates, a long answer, a
# COMMIT) delay no other kind.


QUEUED_LANES: Sequence[Lane] = [lane for lane in Lane if lane is not Lane.NOW]
WORKERS = {lane: 2 if lane in (Lane.READ, Lane.WRITE, Lane.LONG) else 1 for lane in QUEUED_LANES}
MAX_GROUP = 64  # requests that are answered together
GATHER_SECONDS = 0.005  # after which a second worker of a lane helps the first
ENOUGH_READS = 8  # for the second: the database answers one group while the loop reads the next
LATE_SECONDS = 10.0  # a request that no worker has taken by then is answered with 503
LOOK_SECONDS = 0.5  # how late a waiting client learns of a change that another replica made
TRIM_SECONDS = 1.0  # after the last long request, until what it left in the heap is given back


PolledEvents = list[tuple[selectors.SelectorKey, int]]
HttpOutcome = Response | Later | Alone | bytes | None  # the last two: the next piece of an answer, or its end


class Mailbox:
    """Calls that other threads leave for the event loop, which a socket pair wakes."""

    def __init__(self) -> None:
        self.receiver, self._sender = socket.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_loop_asleep = False  # written by the loop, and by the thread that wakes it

    def post(self, call: Callable[..., object], *given: Any) -> None:
        """Have the loop make a call, in its next round. Any thread may post."""
        self._calls.append((call, given))
        if self._is_loop_asleep:
            self._is_loop_asleep = False
            with contextlib.suppress(OSError):  # full or closed: the loop is awake or over
                self._sender.send(b".")

    def sleep(self, poller: selectors.BaseSelector, seconds: float) -> PolledEvents:
        """Wait for events, or for a call that is posted."""
        self._is_loop_asleep = True
        events = poller.select(0.0 if self._calls else seconds)
        self._is_loop_asleep = False
        return events

    def take(self) -> Iterator[tuple[Callable[..., object], tuple[Any, ...]]]:
        """The calls so far, in their order; what they post themselves comes in the next round."""
        for _ in range(len(self._calls)):
            yield self._calls.popleft()

    def on_event(self) -> None:
        """Forget what has woken the loop."""
        self.receiver.recv(4096)

    def close(self) -> None:
        """Wake nobody any more."""
        self.receiver.close()
        self._sender.close()


class LaneQueue:
    """The requests of a lane that wait for a worker, and its idle workers. The event loop alone uses it."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.waiting: deque[Exchange] = deque()
        self.idle: list[Worker] = []  # the one that was busy last is the next again: its cache is warm

    def add(self, exchange: Exchange) -> None:
        """Queue a request."""
        exchange.queued_at = time.monotonic()
        self.waiting.append(exchange)

    def is_gathering(self, now: float) -> bool:
        """Whether requests wait for the worker that is at work, as one group, which takes less CPU than two
        groups; until it has been held up for a while, or the group is large."""
        is_idle = len(self.idle) == WORKERS[self.lane] or self.lane not in (Lane.READ, Lane.WRITE)
        is_large = self.lane is Lane.READ and len(self.waiting) >= ENOUGH_READS
        return not (is_idle or is_large) and now - self.waiting[0].queued_at < GATHER_SECONDS

    def take_group(self) -> list[Exchange]:
        """The oldest request, and others that are answered by the same call."""
        first = self.waiting.popleft()
        group = [first]
        if self.waiting:
            others: deque[Exchange] = deque()
            for other in self.waiting:
                (group if len(group) < MAX_GROUP and other.joins(first) else others).append(other)
            self.waiting = others
        return group

    def take_overdue(self, before: float) -> list[Exchange]:
        """Requests that were queued before then, no longer queued."""
        late = [exchange for exchange in self.waiting if exchange.queued_at < before]
        if late:
            self.waiting = deque(exchange for exchange in self.waiting if exchange.queued_at >= before)
        return late


class Worker(threading.Thread):
    """Makes calls for the event loop, one after another. It touches no connection."""

    def __init__(self, number: int, queued: LaneQueue, done: Callable[..., None]) -> None:
        super().__init__(name=f"http-worker-{number}", daemon=True)
        self.queued = queued
        # what to call, with what, and what the loop calls then; None is the end
        self.jobs = queue.SimpleQueue[tuple[Callable[[Any], Any], Any, Callable[..., object]] | None]()
        self._done = done

    def run(self) -> None:
        """Until the end."""
        while (job := self.jobs.get()) is not None:
            call, given, then = job
            self._done(self, then, given, call(given))
            del job, given  # bodies and answers, while this thread waits


class Waiters(dict["Exchange", WaitKey]):
    """Requests that wait for a task or batch to end. No thread and no database connection waits with them: a
    change in this process makes their keys due at once, and all keys are due twice a second, for changes by
    other replicas. The event loop alone uses it."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._due: set[WaitKey] = set()
        self._next_look = 0.0

    def wait(self, exchange: Exchange, key: WaitKey) -> bool:
        """Wait for a key, which is due at once, since its end may have come just before; false when too many
        requests wait already."""
        if len(self) >= self._most:
            return False
        self[exchange] = key
        self._due.add(key)
        return True

    def changed(self, ids: Iterable[str]) -> None:
        """Tasks or batches have changed."""
        self._due.update(WaitKey(kind, name) for name in ids for kind in ("task", "batch"))

    def take_due(self, now: float) -> list[WaitKey]:
        """The keys whose end may have come; each is given out once."""
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._due.update(self.values())
        due = self._due.intersection(self.values()) if self._due else ()
        self._due.clear()
        return list(due)


def _too_late(lane: Lane) -> Response:
    error = EngineUnavailable if lane is Lane.ENGINE else DatabaseUnavailable
    return failure(error(f"no worker came free within {LATE_SECONDS} s", retry_after_seconds=2))


def _failed(exchange: Exchange, error: Exception) -> Response:
    """For a fault of ours the client gets a number to report, and the log the reason."""
    if isinstance(error, QtmError) and type(error) is not QtmError:
        return failure(error)
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-8))
    fields = {"request_id": exchange.request_id, "error": error_text(error), "traceback": trace}
    log_event(logging.ERROR, "internal error", **fields)
    ours = QtmError(f"internal error; the log has it under request id {exchange.request_id}")
    ours.log = getattr(error, "log", {})
    return failure(ours)


class Dispatcher:
    """Requests on their way to workers and back, and those that wait for an end. The event loop alone uses
    it, but for `changed`; workers take jobs from their queues."""

    def __init__(self, api: TaskAPI, most_waiting: int, mailbox: Mailbox, guard: Callable[..., None]) -> None:
        self.lanes = {lane: LaneQueue(lane) for lane in WORKERS}
        self.waiters = Waiters(most_waiting)
        self.workers: list[Worker] = []  # once it serves
        self.is_draining = False
        self._api = api
        self._mailbox = mailbox
        self._guard = guard  # calls a function for a connection, and closes that when it fails
        self._trim_at = math.inf

    def start(self) -> None:
        """Start the workers."""
        done = functools.partial(self._mailbox.post, self._job_done)
        lanes = [one for one in self.lanes.values() for _ in range(WORKERS[one.lane])]
        self.workers = [Worker(number, queued, done) for number, queued in enumerate(lanes)]
        for worker in self.workers:
            worker.queued.idle.append(worker)
            worker.start()

    def changed(self, ids: Sequence[str]) -> None:
        """Called by any thread that has changed tasks or batches. A request that begins to wait meanwhile is
        looked at all the same, see `Waiters.wait`."""
        if len(self.waiters):
            self._mailbox.post(self.waiters.changed, ids)

    def dispatch(self) -> float:
        """Give idle workers their next jobs; in how many seconds to do so again at the latest."""
        reads = self.lanes[Lane.READ]
        if self.waiters and reads.idle and (keys := self.waiters.take_due(time.monotonic())):
            reads.idle.pop().jobs.put((self._ended, keys, self.end_waits))
        pause = math.inf
        for queued in self.lanes.values():
            while queued.waiting and queued.idle:
                if queued.is_gathering(time.monotonic()):
                    pause = GATHER_SECONDS
                    break
                queued.idle.pop().jobs.put((self._answers, queued.take_group(), self._complete_group))
        return pause

    def complete_soon(self, exchange: Exchange, outcome: HttpOutcome) -> None:
        """Answer a request in the next turn of the loop."""
        self._mailbox.post(self._complete_group, [exchange], [outcome])

    def submit(self, exchange: Exchange) -> None:
        """Have a request answered."""
        route, body = exchange.route, exchange.request.body
        if route.lane is Lane.NOW:
            self.complete_soon(exchange, self._answers([exchange])[0])
            return
        is_create = route.takes == "CreateTask"
        # a short body may ask for 100,000 tasks, or for a change of as many
        marks = (b'"sweep"', b'"rerun"') if is_create else (b'"batch_id"',)
        is_long = len(body) > QUICK_BODY_BYTES or any(mark in body for mark in marks)
        lane = Lane.LONG if is_long else route.lane
        if is_create and (self._api.asks_engine or b'"reuse"' in body):
            lane = Lane.ENGINE
        exchange.is_alone = is_long or lane is Lane.EXPORT
        self.lanes[lane].add(exchange)

    def submit_next(self, exchange: Exchange) -> None:
        """Have the next piece of an answer made, in turn with the other requests of its lane."""
        exchange.queued_at = math.inf  # it is never late
        self.lanes[exchange.route.lane].waiting.append(exchange)

    def _answers(self, group: Sequence[Exchange]) -> list[HttpOutcome]:
        route, pieces = group[0].route, group[0].pieces
        asked = group[:1] if route.is_shared else group
        outcomes: Sequence[Any]
        try:
            if pieces is None:
                outcomes = route.handler(self._api, [exchange.request for exchange in asked])
            else:
                outcomes = [next(pieces, None)]
        except Exception as error:  # a fault of ours, which must not end the worker
            outcomes = [error] * len(asked)
        if route.is_shared:
            outcomes = outcomes * len(group)
        return [
            _failed(exchange, outcome) if isinstance(outcome, Exception) else outcome
            for exchange, outcome in zip(group, outcomes, strict=True)
        ]

    def _ended(self, keys: Sequence[WaitKey]) -> Collection[WaitKey]:
        """Those of the keys whose task or batch has ended."""
        try:
            return self._api.ended(keys)
        except Exception as error:  # the next look comes soon, and the waits end at their deadlines
            log_event(logging.WARNING, "looking for ended tasks failed", error=error_text(error))
            return ()

    def _job_done(self, worker: Worker, then: Callable[..., object], given: Any, found: Any) -> None:
        worker.queued.idle.append(worker)
        if worker.queued.lane in (Lane.LONG, Lane.RANK, Lane.EXPORT, Lane.ENGINE):
            self._trim_at = time.monotonic() + TRIM_SECONDS
        then(given, found)

    def _complete_group(self, group: Sequence[Exchange], outcomes: Sequence[HttpOutcome]) -> None:
        for exchange, outcome in zip(group, outcomes, strict=True):
            if exchange.connection.phase is not Phase.CLOSED:
                self._guard(exchange.connection, self._complete, exchange, outcome)

    def _complete(self, exchange: Exchange, outcome: HttpOutcome) -> None:
        connection = exchange.connection
        if exchange.pieces is not None or isinstance(outcome, bytes | None):
            connection.answer_more(cast("bytes | Response | None", outcome))
            connection.advance()
        elif isinstance(outcome, Response):
            connection.answer(outcome)
            connection.advance()
        elif isinstance(outcome, Alone):
            exchange.is_alone = True
            self.lanes[Lane.LONG].add(exchange)
        elif self.is_draining or connection.has_ended or not self.waiters.wait(exchange, outcome.key):
            self.end_wait(exchange)
        else:
            connection.phase, connection.deadline = Phase.WAITING, exchange.started + outcome.seconds

    def end_wait(self, exchange: Exchange) -> None:
        """Answer a request that waits, or would have to, with the current state."""
        self.waiters.pop(exchange, None)
        exchange.connection.phase = Phase.BUSY
        exchange.request = exchange.request._replace(may_wait=False)
        self.submit(exchange)

    def end_waits(self, _keys: Sequence[WaitKey], ended: Collection[WaitKey]) -> None:
        """Answer the requests that wait for one of the tasks or batches that have ``ended``."""
        for exchange in [one for one, key in self.waiters.items() if key in ended]:
            self._guard(exchange.connection, self.end_wait, exchange)

    def complete_overdue(self, before: float, late: Callable[[Lane], Response]) -> None:
        """Answer the requests that were queued before then, and that no worker has taken."""
        for lane, queued in self.lanes.items():
            for exchange in queued.take_overdue(before):
                self._complete_group([exchange], [late(lane)])

    def trim(self, now: float) -> None:
        """Return free memory to the system once long requests are over."""
        if now >= self._trim_at:
            self._trim_at = math.inf
            trim_memory()


# ==== 64 HTTP server ========================================================================================
# A subclass of http.server.HTTPServer. Its `serve_forever` is the event loop in the thread http-loop, which
# alone uses the listener, the poller, connections, lanes, waits and the counts of held bytes: they need no
# lock. It caps the connections, and its tick closes those past their deadline.

MAX_CLOSING = 256  # connections that linger, and clients beyond the cap that have asked for nothing yet
TICK_SECONDS = 0.2  # how late a deadline is noticed
DRAIN_SECONDS = 5.0
CUT_OFF_SECONDS = 1.0  # for the loop and the workers to end, after all connections were closed


class ApiServer(http.server.HTTPServer):
    """Listens from the start, so that a port in use is known before a task runs; serves from `begin` on, and
    all that needs the database from `open` on: before, requests for it get 503 database_unavailable. Raises
    SettingsError for an address or TLS files that cannot be used."""

    request_queue_size = 1024
    allow_reuse_address = True

    def __init__(self, settings: Settings, routes: Sequence[Route] = ROUTES) -> None:
        self.settings = settings
        self.api = TaskAPI(settings, routes)
        self.rules = AccessRules(settings, routes)
        self.budget = ByteBudget()
        self.poller = selectors.DefaultSelector()
        self._connections: dict[Connection, None] = {}  # in the order in which they came
        self._closing: dict[Connection, None] = {}  # those that linger or are on trial
        self._mailbox = Mailbox()
        most_waiting = max(1, settings.max_connections // 2)
        self.dispatcher = Dispatcher(self.api, most_waiting, self._mailbox, self._guard)
        self._loop = threading.Thread(target=self.serve_forever, name="http-loop", daemon=True)
        self._last_tick = 0.0
        if ":" in settings.host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((settings.host, settings.port), http.server.BaseHTTPRequestHandler)
        except OSError as error:
            place, reason = f"{settings.host}:{settings.port}", error.strerror or error
            choose = "QTM_HOST and QTM_PORT choose"
            raise SettingsError(f"cannot listen on {place}: {reason}; {choose}") from None
        self.socket.setblocking(False)

    def server_bind(self) -> None:
        """As TCPServer binds; HTTPServer asks the name service for the host's name, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        """Where it listens."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http{'s' if self.settings.tls_cert else ''}://{host}:{self.server_port}"

    def snapshot(self) -> dict[str, Any]:
        """What the server is doing now, as numbers: connections, and how many are in each phase; clients that
        linger or are on trial; requests that wait for an end, or for a worker; busy workers of each lane;
        bytes of longer bodies and answers. Any thread may call this."""
        lanes = self.dispatcher.lanes
        return {
            "connections": len(self._connections),
            "phases": Counter(one.phase.value for one in list(self._connections)),
            "closing": len(self._closing),
            "waiting": len(self.dispatcher.waiters),
            "queued": sum(len(one.waiting) for one in lanes.values()),
            "busy": {lane.value: WORKERS[lane] - len(one.idle) for lane, one in lanes.items()},
            "held_bytes": self.budget.held_bytes,
        }

    def begin(self, tasks: TaskManager | None = None) -> None:
        """Serve in threads of its own; until then clients only queue. ``tasks`` may come later, by `open`."""
        if tasks:
            self.open(tasks)
        self.api.monitor.server = self.snapshot
        self.poller.register(self.socket, selectors.EVENT_READ, (None, self._accept))
        self.poller.register(self._mailbox.receiver, selectors.EVENT_READ, (None, self._mailbox.on_event))
        self.dispatcher.start()
        self._loop.start()

    def open(self, tasks: TaskManager) -> None:
        """Answer from these tasks from now on."""
        tasks.listen(self.dispatcher.changed)
        self.api.open(tasks)

    # -- the event loop

    def serve_forever(self, poll_interval: float = TICK_SECONDS) -> None:
        """The event loop, until a drain has closed all connections."""
        dispatcher = self.dispatcher
        while not dispatcher.is_draining or self._connections or self._closing:
            most = dispatcher.dispatch()
            seconds = max(0.0, self._last_tick + poll_interval - time.monotonic())
            for key, _ in self._mailbox.sleep(self.poller, min(seconds, most)):
                connection, on_event = key.data
                self._guard(connection, on_event)
            for call, given in self._mailbox.take():
                self._guard(None, call, *given)
            if time.monotonic() >= self._last_tick + poll_interval:
                self._guard(None, self.service_actions)

    def _guard(self, connection: Connection | None, call: Callable[..., object], *given: Any) -> None:
        try:
            call(*given)
        except Exception:
            self.handle_error(connection, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The fault barrier: a fault of ours costs its connection (``request``, if it was one's) and a log
        line, not the thread that serves all."""
        fields = {"traceback": traceback.format_exc(limit=-8)}
        if request and request.phase is not Phase.CLOSED:
            log_event(logging.ERROR, "connection failed", request_id=request.exchange.request_id, **fields)
            request.close()
        else:
            log_event(logging.ERROR, "event loop failed", **fields)

    def service_actions(self) -> None:
        """The tick: deadlines, late requests, and what is due now and then."""
        self._last_tick = now = time.monotonic()
        for connection in [*self._connections, *self._closing]:
            if connection.is_over(now):
                self._guard(connection, connection.on_deadline)
        self.dispatcher.complete_overdue(now - LATE_SECONDS, _too_late)
        self.dispatcher.trim(now)
        if self.rules.certificate:
            self.rules.certificate.refresh(now)
        # after `_accept` ran out of descriptors; a drain has closed the listener, which no poller looks up
        if not self.dispatcher.is_draining and self.socket not in self.poller.get_map():
            self.poller.register(self.socket, selectors.EVENT_READ, (None, self._accept))

    # -- clients

    def _accept(self) -> None:
        try:
            request, address = self.get_request()
        except BlockingIOError:
            return
        except OSError as error:  # out of descriptors, most likely: the tick tries again
            log_event(logging.WARNING, "accepting failed", error=error_text(error))
            self.poller.unregister(self.socket)
            return
        try:
            self.process_request(request, (str(address[0]).removeprefix("::ffff:"), address[1]))
        except OSError as error:  # reset since: TLS looks for the peer
            log_event(logging.DEBUG, "client gone", error=error_text(error))
            request.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Register a new client. Raises OSError."""
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        certificate = self.rules.certificate
        stream = TlsStream(request, certificate.context) if certificate else Stream(request)
        connection = Connection(self, stream, client_address[0])
        is_welcome = self.verify_request(request, client_address)
        self._connections[connection] = None
        connection.watch(selectors.EVENT_READ)
        if not is_welcome:
            self._guard(connection, self._reject, connection)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """The cap: whether there is a place for a new client, or the one that is idle longest gives way."""
        if len(self._connections) < self.settings.max_connections:
            return True
        crowd, now = list(self._connections), time.monotonic()
        crowd.sort(key=lambda one: (one.phase is not Phase.IDLE, one.since))
        return any(one.give_way(now) for one in crowd)

    def _reject(self, connection: Connection) -> None:
        """One too many: only a probe is answered, and until it has asked it does not count."""
        self.let_linger(connection)
        message = f"there are {self.settings.max_connections} connections already"
        connection.rejection = TooManyConnections(message, retry_after_seconds=1)

    # -- what connections ask for

    def let_linger(self, connection: Connection) -> None:
        """It closes slowly, and no longer counts as a connection. The oldest of too many is closed at once."""
        if len(self._closing) >= MAX_CLOSING and connection not in self._closing:
            next(iter(self._closing)).close()
        self._closing[connection] = None
        self._connections.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self.budget.hold(connection, 0)
        self._connections.pop(connection, None)
        self._closing.pop(connection, None)
        self.dispatcher.waiters.pop(connection.exchange, None)

    # -- the end

    def shutdown(self, seconds: float = DRAIN_SECONDS) -> None:
        """The drain: accept no more, let open requests finish, and close the rest after ``seconds``. A worker
        may be held up by a database that does not answer: it ends with the process."""
        workers = self.dispatcher.workers
        if workers:
            self._mailbox.post(self._begin_drain)
            self._loop.join(seconds)
            self.api.close()
            self._mailbox.post(self._cut_off)
            for worker in workers:
                worker.jobs.put(None)
            deadline = time.monotonic() + CUT_OFF_SECONDS
            for thread in (self._loop, *workers):
                thread.join(max(0.0, deadline - time.monotonic()))
            self.dispatcher.workers = []
        self._mailbox.close()
        self.poller.close()
        self.server_close()

    def _begin_drain(self) -> None:
        self.dispatcher.is_draining = True
        if self.socket in self.poller.get_map():
            self.poller.unregister(self.socket)
        self.server_close()
        self.dispatcher.end_waits((), {*self.dispatcher.waiters.values()})
        for connection in list(self._connections):
            if connection.phase in UNASKED:  # what has arrived is still answered
                self._guard(connection, connection.give_way)

    def _cut_off(self) -> None:
        words = "the service stops, and no worker came free"
        late = failure(DatabaseUnavailable(words, retry_after_seconds=2))
        self.dispatcher.complete_overdue(math.inf, lambda _: late)
        connections = [*self._connections, *self._closing]
        busy = [one.exchange for one in connections if one.phase is Phase.BUSY]
        if busy:
            fields = {"count": len(busy), "request_ids": " ".join(one.request_id for one in busy)}
            log_event(logging.WARNING, "requests cut off", **fields)
        for exchange in busy:
            if exchange.request.method == "POST":  # its COMMIT may still succeed
                exchange.log(failure(OutcomeUnknown("the service stops")))
        for connection in connections:
            connection.close()


# ==== 65 Command output =====================================================================================
# What the client commands print for people; with --json they print the data of the answer instead.

SHOWN_CELL = 64  # characters of a cell in a table
SHOWN_FAILURES = 3  # of a batch
OTHER_METRICS = 3  # in a leaderboard, beside the one that orders it; these first
FIRST_METRICS = ("sharpe", "annual_return", "max_drawdown", "total_return", "trades")
LUCK_LEVEL = 0.95  # of the deflated Sharpe ratio, below which a result may well be luck


def _shown(value: Any) -> str:
    """A text with control characters replaced, which a terminal would obey; a float with four digits, from
    1,000 on as a whole number; of any other value the JSON."""
    if isinstance(value, float):
        return f"{value:{'.0f' if 1e3 <= abs(value) < 1e15 else '.4g'}}"
    text = "-" if value is None else value if isinstance(value, str) else dump_json(value)
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


def _table(columns: Iterable[tuple[str, Iterable[Any]]]) -> str:
    """Aligned columns, each a head and its values; numbers stand on the right."""
    shown = []
    for head, values in columns:
        cells = [_shown(head), *(_shown(value)[:SHOWN_CELL] for value in values)]
        widths = [sum(1 + (unicodedata.east_asian_width(one) in "WF") for one in cell) for cell in cells]
        is_number = all(cell == "-" or NUMBER.fullmatch(cell) for cell in cells[1:])
        pads = [" " * (max(widths) - width) for width in widths]
        both = zip(pads, cells, strict=True)
        shown.append([pad + cell if is_number else cell + pad for pad, cell in both])
    return "".join("  ".join(row).rstrip() + "\n" for row in zip(*shown, strict=True))


def _facts(pairs: Mapping[str, Any]) -> str:
    """A line for each that is known."""
    known = {name: _shown(value) for name, value in pairs.items() if value not in (None, "")}
    return "".join(f"{name:{max(map(len, known))}}  {text}\n" for name, text in known.items())


def _error_words(error: Mapping[str, Any] | None) -> str:
    return f"{error['type']}: {error['message']}" if error else ""


def _task_lines(data: Mapping[str, Any]) -> str:
    """A task for people."""
    first = ("task_id", "batch_id", "stock_code", "params", "status", "progress", "message", "attempt")
    names = (*first, "queue_position", "created_at", "started_at", "finished_at", "result_of")
    return _facts({**{name: data.get(name) for name in names}, "error": _error_words(data["error"])})


def _batch_lines(client: Client, data: Mapping[str, Any]) -> str:
    """A batch for people, with the first of its failures."""
    facts = {name: data[name] for name in ("batch_id", "name", "created_at")}
    facts["progress"] = progress_text(_batch_info(data))
    if data["counts"]["failed"]:
        query = {"batch_id": data["batch_id"], "status": "failed", "limit": SHOWN_FAILURES}
        for task in client.service.ask("GET getTasksByBatch", query).read(operator.itemgetter("tasks")):
            words = f"{task['stock_code']} {dump_json(task['params'])}: {_error_words(task['error'])}"
            facts[task["task_id"]] = words
    return _facts(facts)


def _result_lines(data: Mapping[str, Any]) -> str:
    """The metrics of a result; for a task that did not complete the error with its traceback."""
    if data["result"] is None:
        lines = str((data["error"] or {}).get("traceback", "")).splitlines()
        return _task_lines(data) + "".join(f"{_shown(line)}\n" for line in lines)
    facts = {name: data[name] for name in ("task_id", "stock_code", "params")}
    more = [f"{name} ({len(rows)})" for name, rows in data["result"].items() if isinstance(rows, list)]
    return _facts({**facts, **(data["metrics"] or {}), "with --json": ", ".join(more)})


def _dry_run_lines(data: Mapping[str, Any]) -> str:
    """What a create would do."""
    refusals = {
        f"refusal {i}": f"{one['stock_code']} {dump_json(one['params'])}: {one['message']}"
        for i, one in enumerate(data["refusals"], 1)
    }
    return _facts({**data, "refusals": None, **refusals})


def _luck_sentences(data: Mapping[str, Any]) -> str:
    rows, trials, texts = data["rows"], data["trials"], []
    if trials:
        chance, deflated = _shown(data["expected_max_sharpe"]), rows[0]["deflated_sharpe"]
        tries = "1 trial" if trials == 1 else f"{trials} trials"
        texts = [f"The best of {tries} without any skill would have a Sharpe ratio of {chance}."]
        verdict = "it may well be luck" if (deflated or 0) < LUCK_LEVEL else "more than luck explains"
        words = f"The first row's true ratio is greater with a probability of {_shown(deflated)}: {verdict}."
        texts.append("Whether the first row is luck is not known." if deflated is None else words)
    if "other" in rows[0]:
        words = "Spearman's rank correlation of both batches (1: the same order, 0: none)"
        texts.append(f"{words}: {_shown(data['rank_correlation'])}.")
    return "".join(f"{text}\n" for text in texts)


def _leaderboard(data: Mapping[str, Any]) -> str:
    """A page of a ranking for people: of the params those that vary, and the metric with some others."""
    rows, by, is_grouped = data["rows"], data["by"], data["stat"] is not None
    if not rows:
        return "No tasks.\n"
    params: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for row in rows for name in row["params"]):
        values = [row["params"].get(name, "") for row in rows]
        params[name] = [value if isinstance(value, str) else dump_json(value) for value in values]
    fixed = {name: cells[0] for name, cells in params.items() if len(set(cells)) == 1}
    found = [row if is_grouped else row["metrics"] or {} for row in rows]
    names = ["value", "count", "missing", "min", "median", "mean", "max"]
    if not is_grouped:
        ordered = dict.fromkeys(itertools.chain(FIRST_METRICS, *found))
        others = [name for name in ordered if name != by and any(name in one for one in found)]
        names = [by, *others[:OTHER_METRICS]]
    ends = ["other"] * ("other" in rows[0]) + ["deflated_sharpe"] * bool(data["trials"])
    columns = [(name, [row[name] for row in rows]) for name in ["rank", "stock_code"][: 2 - is_grouped]]
    columns += [item for item in params.items() if item[0] not in fixed]
    columns += [(name, [one.get(name) for one in found]) for name in names]
    columns += [(name, [row[name] for row in rows]) for name in [*ends, *["task_id"] * (not is_grouped)]]
    same = ", ".join(f"{_shown(name)} {_shown(cell)}" for name, cell in fixed.items())
    return _table(columns) + (f"The same in all rows: {same}\n" if same else "") + _luck_sentences(data)


# ==== 66 Client commands ====================================================================================
# The command line as a client of a running service, by `connect()`: no setting of a service is read. Answers
# go to stdout; progress, warnings and errors to stderr. Exit codes: 0 done, 1 a task that was waited for, or
# whose result was asked for, did not complete, 2 usage or a refusal, 130 ended by Ctrl-C.

TASK_ID_FORM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def _answer(options: argparse.Namespace, reply: HttpReply, text: Callable[[Any], str]) -> Any:
    """Print the data of an answer, as JSON or as the text that is made of them, and give them."""
    data, shown = reply.read(lambda data: (data, f"{dump_json(data)}\n" if options.json else text(data)))
    sys.stdout.write(shown)
    return data


def _given(options: argparse.Namespace, names: str) -> dict[str, Any]:
    """Those of the options that the command has and that were given."""
    found = {name: getattr(options, name, None) for name in names.split()}
    return {name: value for name, value in found.items() if value is not None}


def _ask_by_id(client: Client, an_id: str, of_task: str, of_batch: str, **more: Any) -> HttpReply:
    """The answer of the first verb for the task of this id; of the second for the batch, with ``more``, where
    no task has it. A batch's id may have the form of a task's."""
    reply, may_be_task = None, TASK_ID_FORM.fullmatch(an_id)
    if may_be_task:
        reply = client.service.ask(of_task, {"task_id": an_id})
    if reply is None or isinstance(reply.error, TaskNotFound):
        reply = client.service.ask(of_batch, {"batch_id": an_id, **more})
    if may_be_task and isinstance(reply.error, BatchNotFound):
        raise BatchNotFound(f"there is neither a task nor a batch {an_id!r}")
    return reply


def _watch(client: Client, options: argparse.Namespace) -> int:
    """Wait for the end of a batch. After `submit`, whose stdout has the id alone, the text goes to stderr."""
    batch_id = options.batch
    try:
        batch = Batch(client, batch_id).wait()
    except KeyboardInterrupt:
        sys.stderr.write("\n" if sys.stderr.isatty() else "")
        words = f"the batch {batch_id} goes on: `qtm watch {batch_id}` follows it again"
        raise KeyboardInterrupt(f"{words}, `qtm cancel {batch_id}` stops it") from None
    text = f"{dump_json(batch.summary())}\n" if options.json else _batch_lines(client, batch.summary())
    (sys.stdout if options.json or options.command == "watch" else sys.stderr).write(text)
    return 0 if batch.counts["completed"] == batch.total else 1


def read_job(name: str) -> Any:
    """The body of createTask in a file, or for ``-`` on standard input: JSON or, by the end ``.toml`` or a
    first character other than {, TOML, whose dates become texts. Raises QtmError, OSError."""
    with open(0 if name == "-" else name, "rb", closefd=name != "-") as file:
        content = file.read()
    is_toml = name.endswith(".toml") or (name == "-" and not content.lstrip().startswith(b"{"))
    try:
        if is_toml and sys.version_info >= (3, 11):
            import tomllib

            values = tomllib.loads(content.decode())
            content = json.dumps(values, default=lambda one: one.isoformat(), allow_nan=False).encode()
        elif is_toml:
            raise ValueError("TOML needs Python 3.11 or newer; JSON does not")
        return parse_json(content)
    except (ValueError, QtmError) as error:
        words = str(error).replace("the body", "it", 1)
        raise QtmError(f"{'standard input' if name == '-' else name}: {words}") from None


def _warn(data: Mapping[str, Any]) -> None:
    """Show the warnings of an answer."""
    sys.stderr.write("".join(f"qtm: warning: {_shown(text)}\n" for text in data.get("warnings", ())))


def _create(client: Client, options: argparse.Namespace, body: Any) -> int:
    """createTask, and the wait for its end. stdout has the id of the batch alone."""
    if options.dry_run and isinstance(body, dict):
        reply = client.service.ask("POST createTask", {**body, "dry_run": True})
        data = _answer(options, reply, _dry_run_lines)
        _warn(data)
        return 2 if data["refused"] > data["skipped"] else 0
    reply = client.service.ask("POST createTask", body, options.key or os.urandom(16).hex())
    data = reply.read(dict)
    options.batch = data["batch_id"]
    if not (options.json and options.wait):
        _answer(options, reply, lambda data: f"{data['batch_id']}\n")
        sys.stdout.flush()
    words = [f"{data[name]} {name}" for name in ("skipped", "reused") if data.get(name)]
    hint = "" if options.wait else f"; `qtm watch {options.batch}` follows the batch"
    sys.stderr.write(f"{', '.join(['tasks created: ' + str(data['count']), *words])}{hint}\n")
    _warn(data)
    return _watch(client, options) if options.wait else 0


def _config_change(text: str) -> tuple[str, Any]:
    """NAME=VALUE: the value is JSON, or a text where it is not."""
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, not {text!r}")
    with contextlib.suppress(MalformedJSON):
        return name, parse_json(value.encode("utf-8", "surrogateescape"))
    return name, value


def _rerun(client: Client, options: argparse.Namespace) -> int:
    rerun = {"batch_id": options.batch, **_given(options, "top by order group stat where")}
    more = {"config": dict(options.set)} if options.set else {}
    return _create(client, options, {"rerun": rerun, **_given(options, "batch_id"), **more})


def _status(client: Client, options: argparse.Namespace) -> None:
    if options.id is None:
        names = ["batch_id", "name", "total", *(status.value for status in TaskStatus), "created_at"]
        reply = client.service.ask("GET listBatches", _given(options, "limit"))

        def table(data: Mapping[str, Any]) -> str:
            rows = [{**batch, **batch["counts"]} for batch in data["batches"]]
            return _table((name, [row[name] for row in rows]) for name in names)

        _answer(options, reply, table)
        return
    more = {} if options.json else {"limit": 1}
    reply = _ask_by_id(client, options.id, "GET getTaskStatus", "GET getTasksByBatch", **more)
    _answer(options, reply, lambda one: _task_lines(one) if "task_id" in one else _batch_lines(client, one))


def _top(client: Client, options: argparse.Namespace) -> None:
    query = {"batch_id": options.batch, "limit": 10}
    query |= _given(options, "by order group stat where against limit")
    data = _answer(options, client.service.ask("GET rankTasks", query), _leaderboard)
    _warn(data)


def _result(client: Client, options: argparse.Namespace) -> int:
    reply = client.service.ask("GET getTaskResult", {"task_id": options.task})
    return int(_answer(options, reply, _result_lines)["result"] is None)


def _export(client: Client, options: argparse.Namespace) -> None:
    more = _given(options, "fields where") | {"statuses": [TaskStatus(text) for text in options.status or ()]}
    if options.o and options.format:
        raise QtmError("give either --format or -o, whose name ends with .csv or .ndjson")
    if options.o:
        Batch(client, options.batch).export(options.o, **more)
        return
    for piece in Client.export(client, options.batch, options.format or "csv", **more):
        sys.stdout.buffer.write(piece.encode())


def _change(of_task: str, of_batch: str) -> Callable[[Client, argparse.Namespace], None]:
    """A command that changes a task or a batch by these verbs."""
    names = ("task_id", "batch_id", "status", "cancelled", "retried", "deleted")

    def run(client: Client, options: argparse.Namespace) -> None:
        reply = _ask_by_id(client, options.id, of_task, of_batch, **_given(options, "status"))
        _answer(options, reply, lambda data: _facts({name: data.get(name) for name in names}))

    return run


def _delete(client: Client, options: argparse.Namespace) -> None:
    if not options.yes:
        if not os.isatty(0):
            raise QtmError("there is no terminal to ask whether to delete: give --yes")
        reply = _ask_by_id(client, options.id, "GET getTaskStatus", "GET getTasksByBatch", limit=1)
        count = reply.read(lambda data: data.get("total", 1))
        sys.stderr.write(f"Delete {count} task{'s' * (count != 1)} with all results? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise QtmError("nothing is deleted")
    _change("POST deleteTask", "POST deleteBatch")(client, options)


class Command(NamedTuple):
    """A row of COMMANDS (run with Settings) or CLIENT_COMMANDS (with a Client); see ARGUMENTS."""

    run: Callable[[Any, argparse.Namespace], int | None]
    meaning: str
    arguments: str = ""
    example: str = ""


FLAG: Mapping[str, Any] = {"action": "store_true"}
LIST: Mapping[str, Any] = {"action": "append"}
STATUS_NAMES = tuple(status.value for status in TaskStatus)
# fmt: off
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "FILE": {"help": "a body of createTask as JSON, or as TOML where it ends with .toml; - for standard input"},
    "BATCH": {"help": "the id of a batch"},
    "TASK": {"help": "the id of a task"},
    "ID": {"help": "the id of a task or batch"},
    "[ID]": {"help": "the id of a task or batch; without it the newest batches", "nargs": "?"},
    "--url": {"help": f"of the service (default: QTM_URL, else {DEFAULT_URL}); QTM_TOKEN is its token"},
    "--json": {"help": "print JSON: the data of the API's answer, or the findings of check", **FLAG},
    "--no-scheduler": {"help": "HTTP only; other replicas run the tasks", **FLAG},
    "--print": {"help": "print the schema instead", **FLAG},
    "--wait": {"help": "until the batch has ended; exit code 1 if a task did not complete", **FLAG},
    "--dry-run": {"help": "create nothing; show the tasks, what the engine refuses, and how long they take", **FLAG},
    "--key": {"help": "an Idempotency-Key: with the same key, the same file creates once"},
    "--by": {"metavar": "METRIC", "help": "the metric that orders them (default: sharpe)"},
    "--order": {"choices": ("desc", "asc"), "help": "greatest first, or least (default: desc)"},
    "--group": {"choices": ("params",), "help": "rank params, over all stocks"},
    "--stat": {"choices": tuple(STATISTICS), "help": "of a group (default: mean)"},
    "--where": {"metavar": "CONDITION", "help": "such as 'fast<20' or 'sharpe>1'; repeatable", **LIST},
    "--against": {"metavar": "BATCH", "help": "show the metric of the same stock and params in this batch, too"},
    "--limit": {"type": int, "help": "how many rows (default: 10 tasks or params, 20 batches)"},
    "--top": {"type": int, "help": "how many (default: 20)"},
    "--set": {"metavar": "NAME=VALUE", "type": _config_change, "help": "change config; repeatable", **LIST},
    "--batch-id": {"metavar": "NEW", "help": "the id of the new batch"},
    "--status": {"choices": STATUS_NAMES, "help": "of this status (retry: failed unless given); repeatable", **LIST},
    "--format": {"choices": FORMATS, "help": "on standard output (default: csv)"},
    "--fields": {"metavar": "NAMES", "help": "columns, such as stock_code,params.fast,sharpe (default: all)"},
    "-o": {"metavar": "FILE", "help": "write to a file, in the format of its suffix, .csv or .ndjson"},
    "--yes": {"help": "do not ask", **FLAG},
}
CLIENT_COMMANDS = {
    "submit": Command(
        lambda client, options: _create(client, options, read_job(options.file)),
        "create the tasks of a job file; prints the id of their batch",
        "FILE --wait --dry-run --key", "qtm submit job.json --wait"),
    "status": Command(
        _status, "show a task, a batch, or the newest batches", "[ID] --limit", "qtm status first"),
    "watch": Command(
        _watch, "show the progress of a batch until it has ended; exit code 1 if a task did not complete",
        "BATCH", "qtm watch first"),
    "top": Command(
        _top, "show the best of a batch, and whether they may be luck",
        "BATCH --by --order --group --stat --where --against --limit",
        "qtm top first --by sharpe --group params --where 'fast<20'"),
    "result": Command(
        _result, "show the metrics of a task, or with --json its result; exit code 1 if it did not complete",
        "TASK", "qtm result 01a20e10-0a3e-7000-b6f5-58b207e8f920 --json"),
    "export": Command(
        _export, "write all tasks of a batch with their params and metrics as a table",
        "BATCH --format --fields --status --where -o", "qtm export first -o first.csv"),
    "cancel": Command(
        _change("POST cancelTask", "POST cancelTask"), "cancel a task, or what of a batch has not ended",
        "ID", "qtm cancel first"),
    "retry": Command(
        _change("POST retryTask", "POST retryTask"), "run a task again, or those of a batch that failed",
        "ID --status", "qtm retry first --status failed --status cancelled"),
    "delete": Command(
        _delete, "delete a task or batch that has ended, with its results", "ID --yes", "qtm delete first"),
    "rerun": Command(
        _rerun, "run the best of a batch again with another config, as a batch of their own",
        "BATCH --top --by --order --group --stat --where --set --batch-id --wait --dry-run --key",
        "qtm rerun first --top 20 --by sharpe --set start_date=2013-01-01 --set end_date=2016-12-30 --wait"),
}
# fmt: on


def add_command(commands: Any, name: str, command: Command, more: str = "", **options: Any) -> None:
    """A parser for a command, with its own arguments and ``more``, and its example if it has one."""
    _, meaning, arguments, example = command
    options["epilog"] = f"example: {example}" if example else None
    options["allow_abbrev"] = False  # `--no-sched` is a mistake, which `take_secrets` would not know
    parser = commands.add_parser(name, help=meaning, description=meaning, **options)
    for argument in f"{arguments} {more}".split():
        words = {"metavar": argument.strip("[]")} if argument.isupper() else {}
        parser.add_argument(argument.strip("[]").lower(), **words, **ARGUMENTS[argument])


def run_client_command(options: argparse.Namespace) -> int:
    """The exit code of a command. An error is a line, and one for each field where there are several."""
    try:
        with connect(options.url) as client:
            code = CLIENT_COMMANDS[options.command].run(client, options)
            sys.stdout.flush()
            return code or 0
    except KeyboardInterrupt as error:
        sys.stderr.write(f"qtm: {error or 'interrupted'}\n")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # by `head`, say; what is left is written to nowhere
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        return 128 + signal.SIGPIPE
    except (QtmError, OSError, ValueError) as error:  # ValueError: the name of a file
        faults = error.errors if isinstance(error, QtmError) and len(error.errors) > 1 else ()
        lines = [f"qtm: {error}", *(f"  {fault.field or 'body'}: {fault.message}" for fault in faults)]
        sys.stderr.write("".join(f"{_shown(line)}\n" for line in lines))
        return 2


# ==== 67 Service log ========================================================================================
# The handler of qtm's log on stderr: one line for each event, as text or JSON, without secrets.

MIN_HIDDEN_LENGTH = 6  # a shorter secret stands in many a text by chance: hiding it there would reveal it


def secret_texts(settings: Settings) -> list[str]:
    """Every secret of these settings, plain, percent-encoded and as in JSON, which no log line may hold."""
    try:
        password = parse_database_url(settings.database_url).password
    except SettingsError:
        password = ""
    found: set[str] = set()
    tokens = [token for _, token in named_tokens((*settings.api_token, *settings.read_token))]
    for text in filter(None, (*tokens, password)):
        found |= {text, urllib.parse.quote(text, safe=""), json.dumps(text)[1:-1], repr(text)[1:-1]}
    return sorted((text for text in found if len(text) >= MIN_HIDDEN_LENGTH), key=len, reverse=True)


def _json_value(value: Any) -> Any:
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _clean(str(value))


class LogFormatter(logging.Formatter):
    """One line per record, as text or JSON; control characters are escaped. Nothing of ours logs a secret,
    but the message of an exception, say, may hold one: ``secrets`` are taken out of every line."""

    def __init__(self, is_json: bool, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._is_json = is_json
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        time_text = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
        event, fields = record.msg if isinstance(record.msg, LogEvent) else (record.getMessage(), {})
        if record.exc_info:
            fields = {**fields, "traceback": self.formatException(record.exc_info)}
        if self._is_json:
            members = {"time": time_text, "level": record.levelname, "event": _clean(event)}
            members |= {name: _json_value(value) for name, value in fields.items()}
            line = json.dumps(members, allow_nan=False)
        else:
            plain = LogEvent(event.encode("unicode_escape").decode(), fields)
            line = f"{time_text} {record.levelname} {plain}"
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line


class LineHandler(logging.StreamHandler):  # type: ignore[type-arg]  # it takes no argument before Python 3.11
    """Writes a line for each record to stderr; those of `log_events` together with the last one."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []  # guarded by the handler's lock

    def emit(self, record: logging.LogRecord) -> None:
        """Under the handler's lock."""
        try:
            self._lines.append(self.format(record) + self.terminator)
            if not getattr(record, "is_followed", False):
                lines, self._lines = self._lines, []
                self.stream.write("".join(lines))
                self.flush()
        except Exception:  # as logging does it: whatever it is, the caller goes on
            self.handleError(record)


def configure_logging(settings: Settings) -> None:
    """Send qtm's log to stderr, and warnings and exceptions that end a thread, which Python would print over
    many lines. Only the command line does this; `import qtm` leaves logging to its host."""

    def log_exception(raised: Any) -> None:
        error, where = raised.exc_value, getattr(raised, "thread", None) or raised.object
        lines = traceback.format_exception(error, limit=-8) if error else []
        words = {"where": str(where), "error": error and error_text(error), "traceback": "".join(lines)}
        log_event(logging.ERROR, "unhandled exception", **words)

    handler = LineHandler()
    handler.setFormatter(LogFormatter(settings.log_format == "json", secret_texts(settings)))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers[:] = [handler]
    threading.excepthook = sys.unraisablehook = log_exception


# ==== 68 Check ==============================================================================================
# What `check` and the start of a service find in settings, files, engine and database.

NO_START = "the service does not start"
URL_REMEDY = "fix QTM_DATABASE_URL"
MOUNTS = "/proc/self/mountinfo"
NETWORK_FILE_SYSTEMS = re.compile(
    r"nfs4?|cifs|smb\w*|9p|afs|ceph|lustre|fuse\.(sshfs|ceph|glusterfs|rclone|s3fs)"
)


def missing_prices(settings: Settings) -> Finding | None:
    """A finding when the built-in engine is to run without prices."""
    if settings.engine != "qtm:run_backtest" or any(pathlib.Path(settings.data_dir).glob("*.csv")):
        return None
    why, remedy = "the built-in engine refuses every task", "set QTM_DATA_DIR to a folder of <stock_code>.csv"
    return Finding("warning", "prices", f"{settings.data_dir} holds no CSV file", why, remedy)


def tokens_in_clear(settings: Settings) -> Finding | None:
    """A finding when tokens would cross a network unencrypted."""
    if settings.tls_cert or not settings.api_token or settings.host in LOOPBACK_HOSTS:
        return None
    why = "anyone on the network path between a client and qtm can read the token and use it"
    proxy = "let a proxy on this machine speak TLS and listen on 127.0.0.1"
    remedy = f"set QTM_TLS_CERT and QTM_TLS_KEY, or {proxy}"
    return Finding("warning", "tokens", f"clients send them to {settings.host} over plain HTTP", why, remedy)


def network_file(settings: Settings) -> Finding | None:
    """A finding when the SQLite file lies, or will lie, on a network file system, as far as Linux says so."""
    path = parse_database_url(settings.database_url).path
    with contextlib.suppress(OSError):  # no such folder, or another system
        device = os.stat(os.path.dirname(os.path.realpath(path))).st_dev if path else 0
        number = f"{os.major(device)}:{os.minor(device)}"
        for mount in pathlib.Path(MOUNTS).read_text(errors="replace").splitlines():
            kind = mount.partition(" - ")[2].split()[0]
            if mount.split()[2] == number and NETWORK_FILE_SYSTEMS.fullmatch(kind):
                why = "SQLite's write-ahead log can corrupt a file on a network"
                remedy = "use a local disk, or MySQL or MariaDB"
                return Finding("warning", "file system", f"{path} lies on {kind}", why, remedy)
    return None


def check_settings(settings: Settings) -> Finding:
    """Whether the files that the settings name can be used."""
    try:
        if settings.tls_cert:
            tls_context(settings)
    except SettingsError as error:
        return Finding("fault", "settings", error.message, NO_START, "fix QTM_TLS_CERT and QTM_TLS_KEY")
    return tokens_in_clear(settings) or Finding("good", "settings", "all are in range")


def check_engine(settings: Settings) -> list[Finding]:
    """Whether the engine can be imported, what the import leaves behind, whether there are prices."""
    server = EngineServer(settings)
    try:
        while not server.is_ready:
            server.ensure()
            with contextlib.suppress(EngineUnavailable):
                server.wait_ready(0.5)
        ready = server.wait_ready(0.0)
    except (EngineError, EngineUnavailable) as error:
        remedy = "fix QTM_ENGINE or its module; the working folder is importable"
        return [Finding("fault", "engine", error.message, "no task can run", remedy)]
    finally:
        server.close()
    version = f", version {ready['version']}" if ready["version"] is not None else ""
    found = missing_prices(settings) or Finding("good", "engine", f"{settings.engine}{version}")
    left = left_by_import(settings.engine, ready)
    return [found, left] if left else [found]


def check_database(settings: Settings) -> list[Finding]:
    """The findings of the doctor, or the reason why it cannot examine the database."""
    parts = parse_database_url(settings.database_url)
    if parts.kind == "sqlite" and not os.path.exists(parts.path):  # to open it would make it
        folder = os.path.dirname(os.path.realpath(parts.path))
        if not os.access(folder, os.W_OK):
            fault = f"there is no folder {folder}, or this account cannot write to it"
            return [Finding("fault", "database", fault, NO_START, URL_REMEDY)]
        return [Finding("good", "database", f"{parts.path} is not there yet; the first start makes it")]
    try:
        with contextlib.closing(Database(settings.database_url)) as database:
            return diagnose(TaskDAO(database), settings.lease_seconds)
    except DatabaseInUse as error:
        why = "so it is while a service runs; no other process may start or look into it"
        message, remedy = error.message.rpartition(": ")[0], "stop that process to have the file examined"
        return [Finding("good", "database", message, why, remedy)]
    except QtmError as error:
        remedy = f"{URL_REMEDY}, or start or repair the database; schema.sql has its tables"
        return [Finding("fault", "database", error.message, NO_START, remedy)]


def print_findings(findings: Sequence[Finding], as_json: bool) -> None:
    """On stdout, for people or for a script."""
    if as_json:
        sys.stdout.write(json.dumps([finding._asdict() for finding in findings]) + "\n")
        return
    for level, subject, message, why, remedy in findings:
        sys.stdout.write(f"{level:8} {subject}: {message}\n")
        for name, text in (("why:", why), ("do: ", remedy)):
            sys.stdout.write(f"{'':9}{name} {text}\n" if text else "")


# ==== 69 Service process ====================================================================================
# What `serve` and `worker` run: the order of start and stop, and signals.

DATABASE_START_SECONDS = 60.0  # a service may start before its database
SAME_STOP_SECONDS = 0.5  # two signals within them are one stop: GNU timeout signals its child and the group
M_ARENA_MAX = -8  # of mallopt, from malloc.h
# that a busy thread keeps Python's lock while others wait; a request takes it four times, and Python's 5 ms make
# that up to 20 while a backlog drains
SWITCH_SECONDS = 0.001


class ServiceSignals:
    """Wakes the main thread of a service: a stop signal stops the service, a second one ends the process at
    once; SIGCHLD announces the end of a child. The interpreter's own handler writes to a pipe, in any thread:
    a Python handler alone would wait for the main thread to wake up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_stopping = False  # written by `stop`, read by the main thread
        self._clock = clock
        self._asked_at = math.inf  # when the first stop signal came; of the handler alone
        self._wake, self._notify = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._notify, False)

    def install(self) -> None:
        """Take the signals; main thread only."""
        for number in STOP_SIGNALS:
            # nohup wants it ignored
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._stop_asked)
        signal.signal(signal.SIGCHLD, _ignore_signal)
        signal.set_wakeup_fd(self._notify, warn_on_full_buffer=False)

    def _stop_asked(self, number: int, _frame: Any) -> None:
        now = self._clock()
        self._asked_at = min(self._asked_at, now)
        self.stop()
        if now - self._asked_at >= SAME_STOP_SECONDS:
            os._exit(128 + number)

    def stop(self) -> None:
        """Have the service stop; from any thread."""
        self.is_stopping = True
        with contextlib.suppress(BlockingIOError):  # full: it will wake anyway
            os.write(self._notify, b".")

    def wait(self, seconds: float | None = None) -> None:
        """Wait for a signal or `stop`, for ``seconds`` at most."""
        if select.select([self._wake], [], [], seconds)[0]:
            os.read(self._wake, 4096)


def look_ahead(settings: Settings, with_http: bool, with_scheduler: bool) -> None:
    """Warn of tokens in clear and of missing prices. Raises SettingsError for TLS files that are wrong."""
    if with_http and settings.tls_cert:
        tls_context(settings)
    tokens = tokens_in_clear(settings) if with_http else None
    prices = missing_prices(settings) if with_scheduler else None
    for event, found in (("tokens in clear", tokens), ("no prices", prices)):
        if found:
            log_event(logging.WARNING, event, message=found.message, why=found.why, remedy=found.remedy)


def prepare_process() -> None:
    """Prepare a service before its first thread; it may open as many files as the system allows."""
    sys.setswitchinterval(SWITCH_SECONDS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # No process of the same user reads our memory and environment, and no core file holds them. The engine
    # server does not inherit this: it was forked before, or is started as a program of its own.
    _prctl(PR_SET_DUMPABLE, 0)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # for what an engine server and a host leave when both are killed
    if sys.platform == "linux":
        # One heap for all threads: else each keeps what its largest answers took, and Python's lock lets
        # them hardly meet there. Another C library than glibc has no mallopt.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def open_patiently(settings: Settings, signals: ServiceSignals) -> Database | None:
    """`open_database`, trying for 60 s while the database is not there; None when the service is to stop."""
    deadline, reminder = time.monotonic() + DATABASE_START_SECONDS, Reminder()
    while not signals.is_stopping:
        try:
            return open_database(settings)
        except DatabaseRefused:
            raise  # to wait would change nothing
        except (DatabaseUnavailable, TransactionConflict) as error:  # a cluster that is losing its quorum
            if time.monotonic() > deadline:
                raise
            if reminder.is_due(error.message):
                log_event(logging.WARNING, "waiting for the database", error=error.message)
            signals.wait(1.0)
    return None


def run_service(settings: Settings, routes: Sequence[Route], with_scheduler: bool) -> int:
    """Listen, unless there are no routes, then connect to the database and serve until a signal, or until the
    scheduler fails; the exit code. Probes are answered from the first moment."""
    prepare_process()
    look_ahead(settings, bool(routes), with_scheduler)
    signals = ServiceSignals()
    signals.install()
    runner = EngineServer(settings) if with_scheduler else None
    if runner:
        runner.ensure()  # it imports the engine while the database is opened
    with contextlib.ExitStack() as stack:  # whatever fails at the end, the tasks are released
        server = ApiServer(settings, routes) if routes else None
        if server:
            stack.callback(server.shutdown)
            server.begin()
        database = open_patiently(settings, signals)
        if database is None:
            return 0
        stack.callback(database.close)
        tasks = start(settings, runner, with_scheduler, database)
        stack.callback(tasks.close)
        if server:
            stack.callback(server.shutdown)
            server.open(tasks)
            log_event(logging.INFO, "serving", url=server.url, scheduler=with_scheduler)
        stack.callback(tasks.drain)
        if tasks.scheduler:
            tasks.scheduler.on_failure = signals.stop
            if tasks.scheduler.failure:
                signals.stop()
        trim_memory()
        while not signals.is_stopping:
            signals.wait()
            kill_strays()
        log_event(logging.INFO, "stopping")
    log_event(logging.INFO, "stopped")
    failure = tasks.scheduler.failure if tasks.scheduler else None
    if failure:
        sys.stderr.write(f"qtm: {failure}\n")
    return 2 if isinstance(failure, EngineError) else 1 if failure else 0  # an engine is a matter of settings


# ==== 70 Command line =======================================================================================
# `main(argv)` reads settings and runs a command by the public Python API. Exit codes: 0 done, 1 failed, 2
# usage or settings.

PING_SECONDS = 2.0  # for an answer to `ping`


def command_serve(settings: Settings, options: argparse.Namespace) -> int:
    """HTTP and a scheduler."""
    return run_service(settings, ROUTES, with_scheduler=not options.no_scheduler)


def command_worker(settings: Settings, options: argparse.Namespace) -> int:
    """A scheduler; with a port, by flag or environment, probes and metrics too."""
    text = os.environ.get("QTM_PORT")
    has_port = options.port is not None or (text and not SERVICE_LINK.fullmatch(f"QTM_PORT={text}"))
    return run_service(settings, WORKER_ROUTES if has_port else (), with_scheduler=True)


def _health_fault(settings: Settings) -> str:
    """The fault of the service at the host and port of the settings; empty when it is alive."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    connect: Callable[..., http.client.HTTPConnection] = http.client.HTTPConnection
    if settings.tls_cert:
        context = ssl._create_unverified_context()  # the certificate does not name the loopback address
        connect = functools.partial(http.client.HTTPSConnection, context=context)
    try:
        with contextlib.closing(connect(host, settings.port, timeout=PING_SECONDS)) as connection:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"nothing answers at {host}:{settings.port}: {error or type(error).__name__}"
    return "" if status == 200 else f"{host}:{settings.port} answers with status {status}"


def command_ping(settings: Settings, options: argparse.Namespace) -> int:
    """0 when the service or worker on this port is alive."""
    if fault := _health_fault(settings):
        sys.stderr.write(f"qtm: {fault}; QTM_HOST and QTM_PORT choose which service is asked\n")
        return 1
    sys.stdout.write(f"alive at port {settings.port}\n")
    return 0


def command_migrate(settings: Settings, options: argparse.Namespace) -> int:
    """Bring the database to the newest schema, or print the schema."""
    if options.print:
        sys.stdout.write(SCHEMA)
        return 0
    with contextlib.closing(Database(settings.database_url)) as database:
        steps = migrate(database)
    sys.stdout.write(f"applied schema steps: {', '.join(map(str, steps)) or 'none, it is current'}\n")
    return 0


def command_check(settings: Settings, options: argparse.Namespace) -> int:
    """Settings, files, engine and database: every finding, and 1 if there is a fault. Changes nothing."""
    findings = [check_settings(settings), *check_engine(settings), *check_database(settings)]
    findings += filter(None, [network_file(settings)])
    print_findings(findings, options.json)
    return 1 if any(finding.level == "fault" for finding in findings) else 0


PORT_OF_WORKER = "with QTM_PORT set it answers probes and /metrics"
PING_MEANING = "whether the service or worker of these settings is alive; for health checks of containers"
CHECK_MEANING = "examine settings, engine and database; changes nothing"
COMMANDS = {
    "serve": Command(command_serve, "HTTP API and scheduler", "--no-scheduler"),
    "worker": Command(command_worker, f"scheduler without the API (MySQL or MariaDB); {PORT_OF_WORKER}"),
    "ping": Command(command_ping, PING_MEANING),
    "migrate": Command(command_migrate, "bring the database to the newest schema", "--print"),
    "check": Command(command_check, CHECK_MEANING, "--json"),
}


def build_parser(chosen: str = "") -> argparse.ArgumentParser:
    """The command line: every setting is a flag, but for secrets, which a process list would show. With all
    commands, unless ``chosen`` is one of them: each takes half a millisecond."""
    shared = argparse.ArgumentParser(add_help=False)
    group = shared.add_argument_group("settings (each also as QTM_NAME in the environment)")
    for item in dataclasses.fields(Settings):
        if item.name not in ("api_token", "read_token"):
            default = item.default if not isinstance(item.default, tuple) else "none"
            optional: dict[str, Any] = {"nargs": "?", "const": "1"} if isinstance(item.default, bool) else {}
            text = f"{item.metadata['meaning']} (default {default})"
            group.add_argument("--" + item.name.replace("_", "-"), metavar="VALUE", help=text, **optional)
    meaning = "The backtest task manager of a quant engine."
    parser = argparse.ArgumentParser(prog="qtm", description=meaning, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"qtm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in (COMMANDS | CLIENT_COMMANDS).items():
        if name == chosen or chosen not in COMMANDS | CLIENT_COMMANDS:
            more: dict[str, Any] = {"parents": [shared]} if name in COMMANDS else {}
            url = "" if more else "--url" if name == "export" else "--json --url"
            add_command(commands, name, command, url, **more)
    return parser


def read_settings(options: argparse.Namespace) -> Settings:
    """From environment and flags. Raises SettingsError; `check --json` prints the faults first."""
    names = [item.name for item in dataclasses.fields(Settings)]
    flags = {name: text for name in names if (text := getattr(options, name, None)) is not None}
    # they listen nowhere, so that they need no token, nor flags that the service has for want of one
    if options.command in ("ping", "migrate"):
        flags["allow_anonymous"] = "1"
    try:
        return Settings.load(os.environ, flags)
    except SettingsError as error:
        if getattr(options, "json", False):
            faults = [(f"{name}: {text}", f"fix {name}") for name, text in error.errors]
            print_findings([Finding("fault", "settings", text, NO_START, do) for text, do in faults], True)
        raise


def take_secrets(arguments: Sequence[str], file: int) -> None:
    """Fork an engine server for a service as long as no secret is in this process, then take the secrets from
    the file where the script has left them, unless it is -1."""
    runs_tasks = arguments[:1] in (["serve"], ["worker"]) and "--no-scheduler" not in arguments
    if runs_tasks and SECRET_VARIABLES.isdisjoint(os.environ):
        with contextlib.suppress(OSError):  # the system gives no process now: the scheduler tries again
            EngineServer.forked_ahead = ServerProcess()
    if file >= 0:
        texts = os.fsdecode(os.pread(file, os.fstat(file).st_size, 0)).split("\0")
        os.environ.update(text.partition("=")[::2] for text in texts if text)
        os.close(file)


def main(argv: Sequence[str] | None = None, secrets: int = -1) -> int:
    """Run one command; its exit code. ``secrets`` is a file of variables of the environment, or -1."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # a folder's name may be of bytes that no encoding has
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["engine-server"]:  # started by EngineServer, not by people
        return engine_server_main(arguments[1:])
    if argv is None:  # this process is all ours
        take_secrets(arguments, secrets)
    options = build_parser(*arguments[:1]).parse_args(arguments)
    if options.command in CLIENT_COMMANDS:
        return run_client_command(options)
    try:
        settings = read_settings(options)
        configure_logging(settings)
        return COMMANDS[options.command].run(settings, options) or 0
    except (QtmError, OSError) as error:
        sys.stderr.write(f"qtm: {error}\n")
        return 2 if isinstance(error, SettingsError) else 1
