"""A load client on raw sockets, and a server process to put under load. Shared by the benchmarks in this folder.

The client must not be the bottleneck: it has a process of its own, drives all connections from one epoll loop, sends
requests that were built beforehand, and of an answer reads no more than what proves it right. Every result carries the
share of a CPU that the client itself took, so that a reader can see that it was not the limit.
"""

from __future__ import annotations

import contextlib
import gc
import http.client
import math
import os
import select
import socket
import ssl
import statistics
import subprocess
import sys
import time
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from private_mariadb import die_with_parent

ANSWER_SECONDS = 60.0  # an answer that takes longer is an error; above every timeout of the servers
START_SECONDS = 30.0
STOP_SECONDS = 30.0
RECEIVE_BYTES = 256 * 1024
KEPT_ERRORS = 5


# -- requests and what came of them
# ------------------------------------------------------------------------------------


class Request(NamedTuple):
    """The bytes to send, and what a right answer is: status 2xx, a body that starts so and is at least that
    long."""

    data: bytes
    body_prefix: bytes
    min_body_bytes: int = 0


def get_request(port: int, target: str, body_prefix: bytes, min_body_bytes: int = 0) -> Request:
    """A GET of ``target``, which is sent as it stands (percent-encoded)."""
    head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    return Request(head.encode(), body_prefix, min_body_bytes)


def post_request(port: int, target: str, body: bytes, body_prefix: bytes, min_body_bytes: int = 0) -> Request:
    """A POST of a JSON body."""
    head = f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return Request(head.encode() + body, body_prefix, min_body_bytes)


@dataclass(frozen=True)
class Load:
    """Each connection sends a request, reads the answer, and sends the next, taking turns over ``requests``.

    No request starts after ``seconds`` or after ``max_requests``; those under way are read to their end.
    """

    port: int
    requests: Sequence[Request]
    connections: int
    seconds: float
    max_requests: int = sys.maxsize


@dataclass
class LoadResult:
    """Latencies from before the first byte was sent until the last byte was read, of the right answers
    only."""

    latencies_ns: array[int]
    seconds: float
    client_cpu_seconds: float
    refused_count: int = 0  # answers 503: the server said in time that it had too much to do
    error_count: int = 0
    errors: list[str] = field(default_factory=list)  # the first few, as sentences

    @property
    def requests_per_second(self) -> float:
        """Right answers per second of wall time."""
        return len(self.latencies_ns) / self.seconds

    @property
    def client_cpu_share(self) -> float:
        """The share of one CPU that the client took; near 1.0 it is the client that was measured."""
        return self.client_cpu_seconds / self.seconds

    def milliseconds(self, quantile: float) -> float:
        """A quantile of the latencies."""
        return quantile_of(self.latencies_ns, quantile) / 1e6


def quantile_of(values: Sequence[float], quantile: float) -> float:
    """The smallest value that ``quantile`` (0.0-1.0) of all are not above (nearest rank); NaN of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)] if ordered else math.nan


def spread(values: Sequence[float], digits: int = 1) -> str:
    """``min - median - max`` of repeated measurements, as one table cell; a single one stands alone."""
    figures = (min(values), statistics.median(values), max(values)) if len(values) > 1 else values
    return " – ".join(f"{value:,.{digits}f}" for value in figures)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is also aligned as plain text: the first column to the left, the others to the
    right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        return (
            "| "
            + " | ".join(
                [first, *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))]
            )
            + " |"
        )

    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


# -- the client
# --------------------------------------------------------------------------------------------------------


class Connection:
    """One keep-alive connection and its request under way."""

    __slots__ = ("body_at", "received", "request", "socket", "start", "started_ns", "total_bytes", "unsent")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.request = Request(b"", b"")
        self.unsent = memoryview(b"")
        self.start = bytearray()  # the head and as much of the body as is checked
        self.started_ns = self.received = 0
        self.body_at = self.total_bytes = -1  # unknown until the head is complete

    def begin(self, request: Request) -> bool:
        """Send a request; True when all of it went out at once."""
        self.request = request
        self.start.clear()
        self.received = 0
        self.body_at = self.total_bytes = -1
        self.unsent = memoryview(request.data)
        self.started_ns = time.perf_counter_ns()
        return self.send_more()

    def send_more(self) -> bool:
        """Send what the socket takes; True when nothing is left."""
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            return False
        return not self.unsent

    def take(self, data: memoryview) -> bool:
        """Take received bytes; True when the answer is complete. Raises ValueError when it has no
        Content-Length."""
        self.received += len(data)
        if self.body_at < 0 or len(self.start) < self.body_at + len(self.request.body_prefix):
            self.start += data
            if self.body_at < 0:
                self._read_head()
        return 0 <= self.total_bytes <= self.received

    def _read_head(self) -> None:
        end = self.start.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.start[: end + 2].lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            raise ValueError("the answer has no Content-Length")
        self.body_at = end + 4
        self.total_bytes = self.body_at + int(head[at + 17 : head.index(b"\r", at + 17)])

    def fault(self) -> str | None:
        """What is wrong with the complete answer, or None."""
        body = self.start[self.body_at : self.body_at + 200]
        if not self.start.startswith(b"HTTP/1.1 2"):
            return f"{bytes(self.start[:40])!r} {bytes(body)!r}"
        if not body.startswith(self.request.body_prefix[:200]):
            return f"the body starts with {bytes(body)!r}, not with {self.request.body_prefix!r}"
        if self.total_bytes - self.body_at < self.request.min_body_bytes:
            return f"the body has {self.total_bytes - self.body_at} bytes, not {self.request.min_body_bytes}"
        return None if self.received == self.total_bytes else "there are bytes after the answer"


class Client:
    """Runs one load in this process: an epoll loop over its connections."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._epoll = select.epoll()
        self._connections = [Connection(load.port) for _ in range(load.connections)]
        self._open: dict[int, Connection] = {}  # those with a request under way, by descriptor
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._sent = 0
        self._deadline = math.inf
        self._result = LoadResult(array("q"), 0.0, 0.0)

    def run(self) -> LoadResult:
        """Put the load on the server; the result once every answer has come."""
        gc.disable()  # a collection in the middle would be measured as latency
        started, cpu = time.perf_counter(), time.process_time()
        self._deadline = started + self._load.seconds
        for connection in self._connections:
            descriptor = connection.socket.fileno()
            self._open[descriptor] = connection
            self._epoll.register(descriptor, select.EPOLLIN)
        for connection in self._connections:
            self._next(connection)
        while self._open:
            events = self._epoll.poll(ANSWER_SECONDS)
            if not events:
                for connection in list(self._open.values()):
                    self._fail(connection, f"no answer within {ANSWER_SECONDS:g} s")
            for descriptor, event in events:
                self._handle(self._open[descriptor], event)
        self._result.seconds = time.perf_counter() - started
        self._result.client_cpu_seconds = time.process_time() - cpu
        self._epoll.close()
        gc.enable()
        return self._result

    def _next(self, connection: Connection) -> None:
        """The next request on this connection, or its end when the load is over."""
        if self._sent >= self._load.max_requests or time.perf_counter() >= self._deadline:
            self._close(connection)
            return
        request = self._load.requests[self._sent % len(self._load.requests)]
        self._sent += 1
        try:
            if not connection.begin(request):
                self._epoll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
        except OSError as error:
            self._fail(connection, f"sending failed: {error!r}")

    def _handle(self, connection: Connection, event: int) -> None:
        try:
            if event & select.EPOLLOUT and connection.send_more():
                self._epoll.modify(connection.socket.fileno(), select.EPOLLIN)
            if not event & ~select.EPOLLOUT:
                return
            count = connection.socket.recv_into(self._buffer)
            if not count:
                self._fail(connection, "the server closed the connection")
            elif connection.take(self._buffer[:count]):
                self._finish(connection)
        except (OSError, ValueError) as error:
            self._fail(connection, repr(error))

    def _finish(self, connection: Connection) -> None:
        ended = time.perf_counter_ns()
        if connection.start.startswith(b"HTTP/1.1 503 "):
            self._result.refused_count += 1
            self._next(connection)
            return
        fault = connection.fault()
        if fault:
            self._fail(connection, fault)
            return
        self._result.latencies_ns.append(ended - connection.started_ns)
        self._next(connection)

    def _fail(self, connection: Connection, reason: str) -> None:
        """Count an error and use the connection no more: any error fails the benchmark, so there is nothing
        to save."""
        self._result.error_count += 1
        if len(self._result.errors) < KEPT_ERRORS:
            self._result.errors.append(reason)
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        del self._open[connection.socket.fileno()]
        connection.socket.close()


def run_load(load: Load) -> LoadResult:
    """One load, in this process."""
    return Client(load).run()


class LoadProcess:
    """A process of its own for the client, reused for every load. Use it as a context manager."""

    def __init__(self) -> None:
        # spawn: a fork would copy what the benchmark holds, and collect or copy-on-write it while measuring
        self._executor = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def __enter__(self) -> LoadProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()

    def run(self, load: Load) -> LoadResult:
        """One load; blocks until it is over."""
        return self._executor.submit(run_load, load).result()


def call(port: int, method: str, path: str, body: str | bytes | None = None) -> tuple[int, str]:
    """One request on a connection of its own: status and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2 * ANSWER_SECONDS)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read().decode()


# -- the server
# --------------------------------------------------------------------------------------------------------


def client_tls() -> ssl.SSLContext:
    """Of a client that believes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def end_process(process: subprocess.Popen[bytes] | None) -> None:
    """SIGTERM, and SIGKILL after 30 s; nothing for one that has ended."""
    if process and process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class ServerProcess:
    """A server started by a command, ready when ``GET path`` answers 2xx. A context manager: it ends by
    SIGTERM.

    ``start_seconds`` is from just before the process was made (``started``, monotonic) until that answer was
    read.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], port: int, log: Path, path: str
    ) -> None:
        self.port = port
        self.started = self.start_seconds = 0.0
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._log = log
        self._probe = get_request(port, path, b"")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the command."""
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        """Of the command, once it has ended; negative for a signal."""
        return self._process.returncode if self._process else None

    def state(self) -> str:
        """How it is, or how it ended; its memory by /proc while it is there, and the end of its log."""
        assert self._process
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)  # it may be about to end
        code = self._process.poll()
        lines = [f"process {self.pid} " + ("runs" if code is None else f"ended with code {code}")]
        with contextlib.suppress(OSError):  # it has ended
            status = Path(f"/proc/{self.pid}/status").read_text().splitlines()
            lines += [line for line in status if line.startswith(("Vm", "Rss", "Threads", "State"))]
        meminfo = Path("/proc/meminfo").read_text().splitlines()
        lines += [line for line in meminfo if line.startswith(("MemTotal", "MemAvailable", "SwapFree"))]
        with self._log.open(errors="replace") as log:
            odd = deque((line for line in log if " INFO " not in line), 30)
            log.seek(0)
            lines += ["its last log lines that are no INFO:", *odd, "the end of its log:", *deque(log, 30)]
        return "\n  ".join(map(str.rstrip, lines))

    def __enter__(self) -> ServerProcess:
        with self._log.open("ab") as log:
            self.started, started = time.monotonic(), time.perf_counter()
            # preexec_fn: one system call, so that a killed benchmark leaves no server behind
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        try:
            while not self._answers():
                if self._process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                    raise RuntimeError(f"{self._command} did not start:\n{self._log.read_text()[-3000:]}")
                time.sleep(0.001)
            self.start_seconds = time.perf_counter() - started
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as plain:
                sock = client_tls().wrap_socket(plain) if "QTM_TLS_CERT" in self._environment else plain
                sock.sendall(self._probe.data)
                return sock.recv(64).startswith(b"HTTP/1.1 2")
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        end_process(self._process)
