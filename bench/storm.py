"""The storm: a million random and mutated requests, and the service stands there as if nothing had been.

    python bench/storm.py                                    a million requests on SQLite
    python bench/storm.py --database mariadb --requests 100000 --seed 7
    python bench/storm.py --tls --requests 100000            clients and service speak TLS
    python bench/storm.py --replay /tmp/qtm-storm-x/finding-1-4711.json

One service runs as users run it, with the built-in engine. A few client processes throw scripts at it, each on a connection
of its own or on one that was kept: requests of every route with valid and hostile parameters and bodies; requests that HTTP
must refuse; bytes of requests flipped, cut and spliced; noise of other protocols. They are sent at once, in pieces, or in part,
and the client then half-closes, waits, reads slowly, resets or vanishes. Script number N of a seed is always the same (task
ids apart, which are the service's own), and one that showed a fault is saved as JSON with its bytes in hexadecimal, to be sent
again by ``--replay``, also after it was cut down by hand.

With --tls, a client half-closes by close_notify, every second one by a FIN behind it; a script that begins with noise is sent
without TLS by every second one, behind some bytes of a handshake, and has no answer.

What is known of a script judges the answers. Requests whose framing is sound get one answer each, in their order; one that
closes the connection gets the last one; what follows a framing in doubt gets none, also when the doubt is in the body of a
request that was refused already; elsewhere there are at most as many answers as there can be requests. A refusal of a sound
request drops its body and goes on with the next, unless the body is longer than the service takes, or its client waits for the
service's word before it sends it. Every answer must be strict HTTP/1.1 with strict JSON in the envelope that docs/http.md
promises, with a declared code and a request id that no other answer has. 503 is declared, and counted by its code.

What must be zero, each with evidence:

* malformed: answers that are no strict HTTP/1.1, no strict JSON, or not in the envelope; bytes after the last answer.
* internal: answers of status 500, or any other of 5xx than 503.
* wrong: an answer that its request cannot have. missing: a request without one. extra: more answers than requests.
* unclosed: connections that end neither when they said so, nor when the client had closed its half.
* repeated: request ids that stand in two answers.
* health: a /healthz that took longer than a second, or failed, while the storm went on.
* memory: growth of the service over the second half of the storm, by its linear trend.
* leaked: threads, descriptors or processes that are more than before, once the storm is over.
* log: lines of level ERROR, tracebacks, and lines that are none of ours (something wrote its own line end).
* end: no create-to-result afterwards, or no exit with code 0 after SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import http.client
import itertools
import json
import math
import os
import pathlib
import random
import re
import select
import shutil
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, NamedTuple

from load import client_tls, spread
from private_mariadb import PrivateMariaDB, die_with_parent
from service import children, memory_mb, service

import qtm

ROOT = pathlib.Path(__file__).resolve().parent.parent
API = "/api/v1/backtest"
CONFIG = {
    "strategy": "buy_and_hold",
    "start_date": "2012-11-01",
    "end_date": "2012-12-31",
    "initial_cash": 100000,
    "commission": 0.001,
}
CLIENTS = 2  # processes
CONNECTIONS = 24  # of each
WARM_UP_SHARE = 50  # one request of so many is sent before anything is measured, at least MIN_WARM_UP
MIN_WARM_UP = 2_000
SESSION_SECONDS = 60.0  # a connection that has not ended by then never will
SAMPLE_SECONDS = 0.5
HEALTH_SECONDS = 1.0  # for a /healthz in the middle of it all
BATCHES = 500  # that the storm creates tasks in
CALM_SECONDS = 2.5  # before descriptors and threads are counted
SETTLE_SECONDS = 30.0  # for descriptors to be closed after it
QUIET_SECONDS = 120.0  # for what is left to be cancelled and to end
FLAT_MB = 5.0
SHORT_FLAT_MB = 10.0  # the same for a storm of less than LONG_STORM requests: all caches are not full yet
LONG_STORM = 100_000
POOLED = "descriptors to the database"  # come and go with the pool's connections
# a timer of the scheduler and the one before it, and the thread that counts tasks for /metrics
SHORT_THREADS = 3
MAX_POOLED = 30  # 8 connections and those of their own, each of up to three files
KEPT_EVIDENCE = 3  # of each finding in each process
MAX_HEAD_BYTES = 16 * 1024

ZERO = (
    "malformed",
    "internal",
    "wrong",
    "missing",
    "extra",
    "unclosed",
    "repeated",
    "health",
    "memory",
    "leaked",
    "log",
    "end",
)


# -- scripts
# -----------------------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """One request, or what stands in its place. ``closes``: whether its answer is the last, and says so;
    None: only the answer tells."""

    data: bytes
    kind: str
    statuses: frozenset[int] = frozenset()  # that its answer may have besides 503; empty: not known
    marker: str = ""  # stands in the body of its answer
    is_head: bool = False
    is_sound: bool = True  # exactly one answer
    closes: bool | None = False
    ends: bool = False  # its answer is the last, and went out before that could be known


class Script(NamedTuple):
    """What one connection is sent, in chunks that end at ``cuts``, and how it behaves (``manner``)."""

    number: int
    manner: str
    pieces: Sequence[Piece]
    cuts: Sequence[int] = ()

    def certain(self, known: int = 0) -> int:
        """How many of the pieces have exactly one answer each, for certain: up to the first that may end it
        all. The first ``known`` are answered, and did not end it."""
        for i, piece in enumerate(self.pieces[known:], known):
            if not piece.is_sound:
                return i
            if piece.closes is not False or piece.ends:
                return i + 1
        return len(self.pieces)

    def most(self, certain: int) -> int:
        """How many answers there may be: nothing that is no request line counts, but one for where the
        framing ends."""
        if certain == len(self.pieces) or (
            certain and (self.pieces[certain - 1].closes or self.pieces[certain - 1].ends)
        ):
            return certain
        rest = b"".join(piece.data for piece in self.pieces[certain:])
        return certain + rest.upper().count(b"HTTP/") + 1

    def chunks(self) -> list[bytes]:
        """The bytes as they are sent. Who resets or vanishes never sends those after the last cut."""
        data = b"".join(piece.data for piece in self.pieces)
        ends = [*self.cuts] if self.manner in ("reset", "vanish") else [*self.cuts, len(data)]
        return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if end > start]

    def to_json(self, seed: int, ids: Sequence[str], fault: str) -> str:
        """For a file that `script_from` reads."""
        pieces = [
            {
                **piece._asdict(),
                "data": piece.data.hex(),
                "text": ascii(piece.data)[2:-1],
                "statuses": sorted(piece.statuses),
            }
            for piece in self.pieces
        ]
        found = {
            "fault": fault,
            "seed": seed,
            "number": self.number,
            "manner": self.manner,
            "cuts": list(self.cuts),
            "ids": list(ids),
        }
        return json.dumps({**found, "pieces": pieces}, indent=1)


def script_from(text: str, ids: Sequence[str]) -> Script:
    """A saved script, with the task ids of this service in the place of those that it was saved with."""
    saved = json.loads(text)
    pieces = []
    for values in saved["pieces"]:
        data = bytes.fromhex(values["data"])
        for old, new in zip(saved["ids"], ids, strict=True):
            data = data.replace(old.encode(), new.encode())
        del values["text"]
        pieces.append(Piece(**{**values, "data": data, "statuses": frozenset(values["statuses"])}))
    return Script(saved["number"], saved["manner"], pieces, saved["cuts"])


# -- what the scripts are made of
# --------------------------------------------------------------------------------------

LONG_DIGITS = b"9" * 400
# JSON values, or what pretends to be one, that a strict parser or a validation must see through.
HOSTILE_VALUES = (
    b"null", b"true", b"false", b"0", b"-0", b"-1", b"1.5", b"1e400", b"-1e400", b"5e-324", b"1e308", b"NaN", b"Infinity", b"-Infinity",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"-9223372036854775809", b"01",
    b"+1", b".5", b"1.", b"0x10", LONG_DIGITS, b"0." + LONG_DIGITS, b"1e" + LONG_DIGITS, b'""', b'" "', b'"\\u0000"', b'"\0"',
    b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"\xc0\x80"',
    '"\U0001f4a9\u202e\u2028"'.encode(), '"\u0661\u0662"'.encode(), b'"\n"', b'"\\x41"', b'"unended', b"'single'", b"[]", b"{}", b"[[]]",
    b"[null]", b"[1,]", b'{"a":1,}', b"{a:1}", b'{"a":1,"a":2}', b'{"":{}}', b'{"__proto__":{"x":1}}', b'{"$ref":"#"}',
    b"[" * 63 + b"]" * 63, b"[" * 64 + b"]" * 64, b"[" * 65 + b"]" * 65, b"[" * 30_000 + b"]" * 30_000, b"[" * 30_000,
    b'{"a":' * 70 + b"1" + b"}" * 70, b'{"a":' * 62 + b"1" + b"}" * 62, b'"' + b"A" * 33 + b'"', b'"' + b"x" * 501 + b'"',
    b'"' + b"y" * 20_000 + b'"', b'"' + b"\\\\" * 5_000 + b'"', b'"' + '\u00e9'.encode() * 300 + b'"', b'"2005-02-30"', b'"0000-01-01"',
    b'"0001-01-01"', b'"9999-12-31"', b'"2005-1-3"', b'"20050103"', b'"2005-W01-1"', b'"../../etc/passwd"', b'"..."', b'"A/B"',
    b'"AAPL\\u0000"', b'"AAPL "', b'"aapl"', b'"%s%n{0}"', b'"\'; DROP TABLE backtest_tasks; --"', b'"<script>"', b"/*c*/1", b"", b"1 2",
    b'["AAPL","AAPL"]', b'["AAPL",1]', b'[{"fast":1,"slow":2},{}]', b'{"fast":1,"slow":100000}', b'{"fast":true,"slow":2}',
    b"[" + b"{}," * 30 + b"{}]",
)  # fmt: skip
HOSTILE_NAMES = (
    "name", "timeout_seconds", "max_attempts", "priority", "batch_id", "params", "task_id", "x", "", "\\u0000", "\\ud800", "\U0001f600",
)  # fmt: skip
# Values of parameters, percent-encoded soundly.
HOSTILE_TEXTS = (
    "", "%00", "%20", "+", "%2B1", "0", "-1", "1.5", "1e9", "0x10", "999999999999999999999", "%D9%A3", "NaN", "null", "undefined", "[]",
    "%7B%7D", "pending", "PENDING", "running,failed", "..%2F..%2Fetc%2Fpasswd", "%27;DROP%20TABLE%20backtest_tasks;--", "%25%27", "%5C",
    "_", "%2A", "%0D%0AX-Bad:%201", "%F0%9F%92%A9", "%E2%80%AE", "%EF%BF%BD", "%C3%A9" * 50, "a" * 36, "a" * 64, "a" * 65, "A" * 400,
    "0" * 36, "-" * 36, "%0A", "%7F", "=", "==", "a=b", "2005-01-01%2000:00:00~x", "0000-00-00%2000:00:00.000000~x",
    "9999-99-99%2099:99:99.999999~x", "0.000000001", "0.05", "0.2", "61", "10001",
)  # fmt: skip
BROKEN_TEXTS = ("%", "%0", "%zz", "%ff", "%C0%80", "%ED%A0%80", "\xe9", "%F4%90%80%80", "a%2", "#x")
PARAMETERS = (
    "task_id",
    "batch_id",
    "wait",
    "status",
    "stock_code",
    "limit",
    "cursor",
    "token",
    "__class__",
    "",
)

REQUEST_END = "\r\nHost: 127.0.0.1\r\n"
JSON_FIELDS = "Content-Type: application/json\r\n"
OTHER_JSON_FIELDS = (  # that say the same
    "Content-Type: application/json;\r\n", "Content-Type: APPLICATION/JSON ; indent=4\r\n", "Content-Encoding: identity\r\n" + JSON_FIELDS,
    "Content-Type: application/json; charset=UTF-8\r\n", 'Content-Type: application/json;x=y; charset="utf-8"\r\n',
)  # fmt: skip
CREATE = f"POST {API}/createTask HTTP/1.1\r\nHost: 127.0.0.1\r\n{JSON_FIELDS}"
# What HTTP must refuse by its framing: after the answer the connection closes, and nothing that follows is a
# request.
REFUSED = {
    "length and chunked": (400, f"{CREATE}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunked and length": (400, f"{CREATE}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    "two lengths": (400, f"{CREATE}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}"),
    "two lengths in one": (400, f"{CREATE}Content-Length: 2, 2\r\n\r\n{{}}"),
    "length with a sign": (400, f"{CREATE}Content-Length: +2\r\n\r\n{{}}"),
    "negative length": (400, f"{CREATE}Content-Length: -2\r\n\r\n{{}}"),
    "hexadecimal length": (400, f"{CREATE}Content-Length: 0x2\r\n\r\n{{}}"),
    "empty length": (400, f"{CREATE}Content-Length:\r\n\r\n{{}}"),
    "endless length": (400, f"{CREATE}Content-Length: {'9' * 30}\r\n\r\n{{}}"),
    "huge length": (413, f"{CREATE}Content-Length: {'9' * 15}\r\n\r\n{{}}"),
    "length in other digits": (400, f"{CREATE}Content-Length: \xb2\r\n\r\n{{}}"),
    "gzip": (400, f"{CREATE}Transfer-Encoding: gzip\r\n\r\n"),
    "gzip and chunked": (400, f"{CREATE}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "chunked twice": (400, f"{CREATE}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "two codings": (
        400,
        f"{CREATE}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    "nearly chunked": (400, f"{CREATE}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "vertical tab": (400, f"{CREATE}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "space before colon": (400, f"{CREATE}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    "chunked in 1.0": (
        400,
        CREATE.replace("HTTP/1.1", "HTTP/1.0") + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "no host": (400, "GET /healthz HTTP/1.1\r\n\r\n"),
    "two hosts": (400, f"GET /healthz HTTP/1.1{REQUEST_END}Host: 127.0.0.1\r\n\r\n"),
    "empty host": (400, "GET /healthz HTTP/1.1\r\nHost:\r\n\r\n"),
    "port in letters": (400, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:99x\r\n\r\n"),
    "path as host": (400, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1/x\r\n\r\n"),
    "bare line feeds": (400, "GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n"),
    "one bare line feed": (400, f"GET /healthz HTTP/1.1{REQUEST_END}X: a\nY: b\r\n\r\n"),
    "bare carriage return": (400, f"GET /healthz HTTP/1.1{REQUEST_END}X: a\rY: b\r\n\r\n"),
    "folded line": (400, f"GET /healthz HTTP/1.1{REQUEST_END}X: a\r\n b\r\n\r\n"),
    "no colon": (400, f"GET /healthz HTTP/1.1{REQUEST_END}nothing\r\n\r\n"),
    "no name": (400, f"GET /healthz HTTP/1.1{REQUEST_END}: x\r\n\r\n"),
    "NUL in a field": (400, f"GET /healthz HTTP/1.1{REQUEST_END}X: \0\r\n\r\n"),
    "two spaces": (400, f"GET  /healthz HTTP/1.1{REQUEST_END}\r\n"),
    "tabs": (400, f"GET\t/healthz\tHTTP/1.1{REQUEST_END}\r\n"),
    "small letters": (400, f"GET /healthz http/1.1{REQUEST_END}\r\n"),
    "version 2.0": (400, f"GET /healthz HTTP/2.0{REQUEST_END}\r\n"),
    "version 0.9": (400, f"GET /healthz HTTP/0.9{REQUEST_END}\r\n"),
    "version 1.2 without a host": (400, "GET /healthz HTTP/1.2\r\n\r\n"),
    "version 1.2 with both": (
        400,
        CREATE.replace("/1.1", "/1.2") + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "version 1.10": (400, f"GET /healthz HTTP/1.10{REQUEST_END}\r\n"),
    "no version": (400, "GET /healthz\r\n\r\n"),
    "no target": (400, f"GET HTTP/1.1{REQUEST_END}\r\n"),
    "asterisk of another method": (400, f"GET * HTTP/1.1{REQUEST_END}\r\n"),
    "absolute form": (400, "GET http://127.0.0.1/healthz HTTP/1.1\r\nHost: other\r\n\r\n"),
    "asterisk": (400, f"OPTIONS * HTTP/1.1{REQUEST_END}\r\n"),
    "extension": (400, f"{CREATE}Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{{}}\r\n0\r\n\r\n"),
    "trailer": (400, f"{CREATE}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nX: y\r\n\r\n"),
    "asterisk and more": (400, f"OPTIONS *?x HTTP/1.1{REQUEST_END}\r\n"),
    "authority": (400, f"CONNECT 127.0.0.1:80 HTTP/1.1{REQUEST_END}\r\n"),
    "fragment": (400, f"GET /healthz#x HTTP/1.1{REQUEST_END}\r\n"),
    "raw letters": (400, f"GET /h\xe9 HTTP/1.1{REQUEST_END}\r\n"),
    "preface of HTTP/2": (400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    "proxy protocol": (400, f"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /healthz HTTP/1.1{REQUEST_END}\r\n"),
    "long method": (400, f"{'M' * 50} /healthz HTTP/1.1{REQUEST_END}\r\n"),
    "many fields": (
        431,
        f"GET /healthz HTTP/1.1{REQUEST_END}" + "".join(f"X-{i}: {i}\r\n" for i in range(70)) + "\r\n",
    ),
    "long head": (431, f"GET /healthz HTTP/1.1{REQUEST_END}X: {'x' * 17000}\r\n\r\n"),
    "long target": (431, f"GET /{'x' * 17000} HTTP/1.1{REQUEST_END}\r\n"),
    "long line without end": (431, "x" * 17000),
    "expectation": (417, f"{CREATE}Content-Length: 2\r\nExpect: magic\r\n\r\n{{}}"),
    "no chunk size": (400, f"{CREATE}Transfer-Encoding: chunked\r\n\r\n\r\n\r\n"),
    "chunk size in words": (400, f"{CREATE}Transfer-Encoding: chunked\r\n\r\nfive\r\n12345\r\n0\r\n\r\n"),
    "chunk size with a prefix": (400, f"{CREATE}Transfer-Encoding: chunked\r\n\r\n0x2\r\n{{}}\r\n0\r\n\r\n"),
    "negative chunk": (400, f"{CREATE}Transfer-Encoding: chunked\r\n\r\n-2\r\n{{}}\r\n0\r\n\r\n"),
    "long chunk": (400, f"{CREATE}Transfer-Encoding: chunked\r\n\r\n1\r\n{{}}\r\n0\r\n\r\n"),
    "huge chunk": (413, f"{CREATE}Transfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n{{}}\r\n0\r\n\r\n"),
    "chunk with a bare line feed": (400, f"{CREATE}Transfer-Encoding: chunked\r\n\r\n2\n{{}}\r\n0\r\n\r\n"),
    "bad trailer": (400, f"{CREATE}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nnothing\r\n\r\n"),
}
# What clients of other protocols say first: TLS, version 2 of the proxy protocol, and so on.
NOISE = (
    bytes.fromhex("1603010200010001fc0303") + bytes(range(32)) + b"\x20" + bytes(200),
    bytes.fromhex("0d0a0d0a000d0a515549540a") + b"\x21\x11\0\x0c\x7f\0\0\1\x7f\0\0\1\x1f\x90\x1f\x91GET / HTTP/1.1\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n", b"EHLO there\r\n", b"*1\r\n$4\r\nPING\r\n", b"\0\0\0\x55\xffSMBr", b"USER anonymous\r\n",
    b"RTSP/1.0 200 OK\r\n\r\n", b"GET /\r\n", b"GET / HTTP/1.1", b"\n", b"\r", b"\r\n", b"\0", b"\x80" * 300,
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"{}\n", b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\1\0\x08\0\3\0\0\0",
    b"GET http:// HTTP/1.1\r\n\r\n", b"GET //// HTTP/1.1\r\nHost:\r\n\r\n",
)  # fmt: skip


def form(kind: str, status: int, text: str, closes: bool | None = False, ends: bool = False) -> Piece:
    """A request that is always the same."""
    return Piece(
        text.encode("latin-1"),
        kind,
        frozenset((status,)),
        is_head=text.startswith("HEAD "),
        closes=closes,
        ends=ends,
    )


def refused_at_once(body: str) -> Piece:
    """Answered by its head; then its body leaves in doubt where it ends, or is longer than the service
    takes."""
    return form(
        "refused, then in doubt",
        404,
        f"POST /x HTTP/1.1{REQUEST_END}Transfer-Encoding: chunked\r\n\r\n{body}",
        ends=True,
    )


ODD_FORMS = (
    form("HTTP/1.0 kept", 200, "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    form("empty lines before", 200, f"\r\n\r\nGET /healthz HTTP/1.1{REQUEST_END}\r\n"),
    form("encoded path", 200, f"GET /%68ealthz HTTP/1.1{REQUEST_END}\r\n"),
    form("GET with a body", 200, f"GET /healthz? HTTP/1.1{REQUEST_END}Content-Length: 3\r\n\r\nabc"),
    form(
        "GET in chunks",
        200,
        f"GET /healthz HTTP/1.1{REQUEST_END}Transfer-Encoding: chunked\r\n\r\n1\r\n\0\r\n0\r\n\r\n",
    ),
    form("HEAD with a body", 404, f"HEAD /x HTTP/1.1{REQUEST_END}Content-Length: 4\r\n\r\nHTTP"),
    form("dots", 404, f"GET /healthz/../x HTTP/1.1{REQUEST_END}\r\n"),
    form("slashes", 404, f"GET //healthz HTTP/1.1{REQUEST_END}\r\n"),
    form("later version", 200, f"GET /healthz HTTP/1.2{REQUEST_END}\r\n"),
    form(
        "later version",
        404,
        f"POST /x HTTP/1.9{REQUEST_END}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
)
LAST_FORMS = (
    form("close", 200, f"GET /healthz HTTP/1.1{REQUEST_END}Connection: close\r\n\r\n", True),
    form("close", 404, f"GET /x HTTP/1.1{REQUEST_END}Connection: x, Close\r\n\r\n", True),
    form("HTTP/1.0", 200, "GET /healthz HTTP/1.0\r\n\r\n", True),
    form("HTTP/1.0", 200, "HEAD /healthz HTTP/1.0\r\n\r\n", True),
    form("too large", 413, f"{CREATE}Content-Length: {9 << 20}\r\n\r\n{{}}", True),
    form("too large", 404, f"POST /x HTTP/1.1{REQUEST_END}Content-Length: {9 << 20}\r\n\r\n{{}}", True),
    form("too large", 415, f"{CREATE}Content-Encoding: gzip\r\nContent-Length: {9 << 20}\r\n\r\n{{}}", True),
    form(
        "unwanted",
        404,
        f"POST /x HTTP/1.1{REQUEST_END}Connection: close\r\nContent-Length: 99999\r\n\r\n{'x' * 99_999}",
        True,
    ),
    form(
        "unwanted",
        404,
        f"POST /x HTTP/1.1{REQUEST_END}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{{}}",
        None,
    ),
    *map(
        refused_at_once,
        (
            "five\r\n12345\r\n0\r\n\r\n",
            "1\r\n{}\r\n0\r\n\r\n",
            "FFFFFFF\r\n{}\r\n0\r\n\r\n",
            "0\r\nnothing\r\n\r\n",
        ),
    ),
)


class Ids(NamedTuple):
    """Ids that the service knows: of tasks in every state, and of batches."""

    tasks: Sequence[str]
    batches: Sequence[str]


# What a client does with its connection, and how often of 100.
MANNERS = {"half-close": 44, "stay": 22, "split": 16, "slow": 3, "reset": 7, "vanish": 7, "idle": 1}


class Writer:
    """Writes the scripts of one seed: the same number gives the same script."""

    def __init__(self, seed: int, ids: Ids) -> None:
        self._seed = seed
        self._ids = ids
        self._rng = random.Random()
        self._gets = sorted(route.path for route in qtm.ROUTES if route.method == "GET")

    def script(self, number: int) -> Script:
        """Sound requests in a row; then, mostly, one piece that ends it, and sometimes more behind that."""
        rng = self._rng = random.Random(f"{self._seed}:{number}")
        manner = rng.choices([*MANNERS], [*MANNERS.values()])[0]
        if manner == "idle":
            return Script(number, "vanish", [Piece(b"", "nothing", is_sound=False)])
        pieces = [
            self._sound()
            for _ in range(
                rng.choice((1, 2, 4, 8, 30)) if manner == "stay" else rng.choice((0, 0, 1, 2, 3, 5, 8, 16))
            )
        ]
        if manner != "stay":
            pieces.append(
                rng.choices((self._mutant, self._refused, self._noise, self._last), (55, 20, 12, 13))[0]()
            )
            pieces += [self._sound() for _ in range(rng.choice((0, 0, 0, 1, 2)))]
        return Script(number, manner, pieces, self._cuts(manner, sum(len(piece.data) for piece in pieces)))

    def _cuts(self, manner: str, size: int) -> list[int]:
        if manner == "split":
            return sorted(
                {self._rng.randrange(1, size + 1) for _ in range(self._rng.choice((1, 2, 5, 20)))} - {size}
            )
        if manner in ("reset", "vanish"):
            return [self._rng.randint(1, size)]
        return []

    # -- sound requests: one answer each
    # -------------------------------------------------------------------------------------

    def _sound(self) -> Piece:
        make = self._rng.choices(
            (
                self._read,
                self._hostile_read,
                self._post,
                self._selection,
                self._nowhere,
                self._refused_by_head,
                self._odd_form,
            ),
            (30, 20, 22, 8, 8, 6, 6),
        )[0]
        return make()

    def _task_id(self) -> str:
        return self._rng.choice(self._ids.tasks)

    def _batch_id(self) -> str:
        return self._rng.choice(self._ids.batches)

    def _parameters(self, path: str) -> list[tuple[str, str]]:
        """Valid ones, for the routes that take any."""
        rng, name = self._rng, path.rpartition("/")[2]
        if name in ("getTaskStatus", "getTaskResult"):
            return [
                ("task_id", self._task_id()),
                *([("wait", rng.choice(("0", "0.01", "0.1")))] if rng.random() < 0.2 else []),
            ]
        if name in ("getTaskAttempts", "getRunCard"):
            return [("task_id", self._task_id())]
        if name == "getCurves":
            return [("points", "9"), *(("task_id", self._task_id()) for _ in range(rng.choice((1, 2, 5))))]
        if name == "exportTasks":
            return [("batch_id", self._batch_id()), ("format", rng.choice(("csv", "ndjson")))]
        if name in ("getTasksByBatch", "rankTasks"):
            return [("batch_id", self._batch_id()), ("limit", rng.choice(("1", "5", "20")))]
        if name == "listTasks":
            found = [("limit", rng.choice(("1", "3", "10", "50"))), ("batch_id", self._batch_id())][
                : rng.choice((1, 2))
            ]
            return [
                *found,
                *[("status", rng.choice(list(qtm.TaskStatus)).value) for _ in range(rng.choice((0, 1, 2)))],
            ]
        return [("limit", rng.choice(("1", "5")))] if name == "listBatches" else []

    def _get(
        self,
        path: str,
        query: Sequence[tuple[str, str]],
        kind: str,
        statuses: Sequence[int],
        closes: bool | None = False,
    ) -> Piece:
        method = "HEAD" if self._rng.random() < 0.06 else "GET"
        text = "&".join(f"{name}={value}" if value is not None else name for name, value in query)
        head = f"{method} {path}{'?' if text else ''}{text} HTTP/1.1{REQUEST_END}{self._fields()}\r\n"
        return Piece(
            head.encode("latin-1"), kind, frozenset(statuses), is_head=method == "HEAD", closes=closes
        )

    def _fields(self) -> str:
        """Fields that change nothing."""
        if self._rng.random() < 0.7:
            return ""
        return self._rng.choice(
            (
                "User-Agent: storm\r\nAccept: */*\r\n", "Accept-Encoding: gzip, br\r\n", "X-Forwarded-For: 10.0.0.1\r\n",
                "Cookie: a=b; c=d\r\n", f"X-Long: {'x' * self._rng.randrange(4000)}\r\n", "X-Request-Id: not,valid\r\n",
                "X-Empty:\r\nX-Empty: \r\n", "Range: bytes=0-1\r\n", "Connection: keep-alive\r\n", "Authorization: Bearer wrong\r\n",
                "If-None-Match: *\r\n", "X-High: \xff\xfe\r\n", "Upgrade: h2c\r\n",
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
            )
        )  # fmt: skip

    def _read(self) -> Piece:
        path = self._rng.choice(self._gets)
        return self._get(path, self._parameters(path), "read", (200, 404, 409))

    def _hostile_read(self) -> Piece:
        """One to three of: another value, a parameter left out, one too many, one twice."""
        rng, path = self._rng, self._rng.choice(self._gets)
        query = self._parameters(path)
        for _ in range(rng.choice((1, 1, 2, 3))):
            change = rng.randrange(4)
            if change == 0 and query:
                i = rng.randrange(len(query))
                query[i] = (query[i][0], rng.choice(HOSTILE_TEXTS))
            elif change == 1 and query:
                del query[rng.randrange(len(query))]
            elif change == 2:
                query.insert(rng.randint(0, len(query)), (rng.choice(PARAMETERS), rng.choice(HOSTILE_TEXTS)))
            elif query:
                query += [rng.choice(query)] * rng.choice((1, 1, 5))
        return self._get(path, query, "hostile parameters", (200, 400, 404, 409))

    def _nowhere(self) -> Piece:
        """A path that the answer repeats, so that an answer in the wrong place shows."""
        path = (
            self._rng.choice(("/nowhere/", f"{API}/", f"{API}/createTask/", "/api/v2/"))
            + f"{self._rng.getrandbits(40):010x}"
        )
        piece = self._get(path, (), "nowhere", (404,))
        return piece if piece.is_head else piece._replace(marker=f"there is no {path};")

    def _body_piece(self, path: str, body: bytes, kind: str, statuses: Sequence[int]) -> Piece:
        """A POST by Content-Length, or chunked, with or without an expectation."""
        rng = self._rng
        fields = JSON_FIELDS if rng.random() < 0.9 else rng.choice(OTHER_JSON_FIELDS)
        head = f"POST {path} HTTP/1.1{REQUEST_END}{fields}{self._fields()}"
        if rng.random() < 0.1:
            head += f"Idempotency-Key: key-{rng.randrange(50)}\r\n"
        if rng.random() < 0.05:
            head += f"Expect: {rng.choice(('100-continue', '100-Continue'))}\r\n"
        return Piece(self._with_body(head, body), kind, frozenset(statuses))

    def _with_body(self, head: str, body: bytes) -> bytes:
        rng = self._rng
        if rng.random() < 0.2:
            return f"{head}Transfer-Encoding: {rng.choice(('chunked', 'Chunked'))}\r\n\r\n".encode(
                "latin-1"
            ) + self._chunked(body)
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body

    def _chunked(self, body: bytes) -> bytes:
        rng, parts, at = self._rng, [], 0
        while at < len(body):
            part = (
                body[at : at + rng.choice((1, 7, 100, 5000, len(body)))]
                if len(body) < 2000
                else body[at : at + 4000]
            )
            parts.append(f"{len(part):{rng.choice(('x', 'X', '06x'))}}\r\n".encode() + part + b"\r\n")
            at += len(part)
        return b"".join(parts) + rng.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"000\r\n\r\n"))

    def _post(self) -> Piece:
        """createTask, once in a while as it should be: those run."""
        rng = self._rng
        config = {name: json.dumps(value).encode() for name, value in CONFIG.items()}
        fields = {
            "stock_code": rng.choice((b'"AAPL"', b'"IBM"', b'"NONE"')),
            "params": b"{}",
            "batch_id": b'"%s"' % self._batch_id().encode(),
        }
        if rng.random() < 0.15:
            code = fields.pop("stock_code")
            fields["stock_codes"] = b"[" + b",".join([code] * rng.choice((1, 2, 3))) + b"]"
        if rng.random() < 0.2:
            fields["priority"] = b"%d" % rng.randint(-100, 100)
        if rng.random() < 0.03:
            fields["config"] = self._object(config)
            return self._body_piece(f"{API}/createTask", self._object(fields), "create", (200, 201, 400, 422))
        pairs = [*fields.items()]
        config_pairs = [*config.items()]
        for _ in range(rng.choice((1, 1, 2, 4))):
            self._change(rng.choice((pairs, config_pairs)))
        body = self._disturbed(
            self._object([*pairs, ("config", self._object(config_pairs))][:: rng.choice((1, -1))])
        )
        return self._body_piece(f"{API}/createTask", body, "hostile create", (200, 201, 400, 422))

    def _object(self, pairs: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> bytes:
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        return b"{" + b",".join(b'"%s":%s' % (name.encode(), value) for name, value in items) + b"}"

    def _change(self, pairs: list[tuple[str, bytes]]) -> None:
        rng = self._rng
        value, at = rng.choice(HOSTILE_VALUES), rng.randrange(len(pairs)) if pairs else 0
        change = rng.randrange(6)
        if change <= 2 and pairs:
            pairs[at] = (pairs[at][0], value)
        elif change == 3 and pairs:
            del pairs[at]
        elif change == 4 and pairs:
            pairs.insert(at, (pairs[at][0], value))
        else:
            pairs.append((rng.choice(HOSTILE_NAMES), value))

    def _disturbed(self, body: bytes) -> bytes:
        """Mostly as it is."""
        rng = self._rng
        if rng.random() < 0.85:
            return body
        return rng.choice(
            (
                b"\xef\xbb\xbf" + body, body + b"\0", body + body, body[:-1], b"", b"[" + body + b"]",
                body.decode("latin-1").encode("utf-16"), body.replace(b",", b" ,\r\n\t"), b" " * 3000 + body, rng.choice(HOSTILE_VALUES),
                body.replace(b'"', b"'"), rng.randbytes(rng.randrange(200)),
            )
        )  # fmt: skip

    def _selection(self) -> Piece:
        """cancelTask, retryTask; deletes are hostile ones alone, which few survive, or nothing would be left."""
        rng = self._rng
        path = f"{API}/{rng.choice(('cancelTask', 'retryTask'))}"
        pairs = [
            ("task_id", b'"%s"' % self._task_id().encode())
            if rng.random() < 0.5
            else ("batch_id", b'"%s"' % self._batch_id().encode())
        ]
        kind = "select"
        if rng.random() < 0.6:
            kind = "hostile select"
            self._change(pairs)
            if rng.random() < 0.3:
                path = f"{API}/{rng.choice(('deleteTask', 'deleteBatch'))}"
        return self._body_piece(path, self._disturbed(self._object(pairs)), kind, (200, 400, 404, 409))

    def _refused_by_head(self) -> Piece:
        """What the head alone refuses, while the framing is sound and the connection goes on."""
        rng = self._rng
        body = rng.randbytes(rng.choices((0, 1, 100, 5000, 99_999), (5, 5, 5, 5, 1))[0])
        post = f"POST {API}/createTask HTTP/1.1{REQUEST_END}"
        method = rng.choice(
            ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "BREW", "M-SEARCH", "!#$%&'*+-.^_`|~")
        )
        status, head = rng.choice(
            (
                (415, post), (415, f"{post}Content-Type: text/plain\r\n"), (415, f"{post}Content-Type: application/jsonp\r\n"),
                (415, f"{post}Content-Type: application/json; x=y; charset=utf-16\r\n"),
                (415, f"{post}{JSON_FIELDS}Content-Encoding: gzip\r\n"), (415, f"{post}{JSON_FIELDS}Content-Encoding: identity, br\r\n"),
                (403, f"{post}{JSON_FIELDS}Origin: http://evil.example\r\n"), (403, f"{post}{JSON_FIELDS}Origin: null\r\n"),
                (421, post.replace("127.0.0.1", "evil.example")), (421, post.replace("127.0.0.1", "127.0.0.2:99")),
                (405, f"{method} {API}/createTask HTTP/1.1{REQUEST_END}"), (405, f"{method} /healthz HTTP/1.1{REQUEST_END}"),
                (405, f"POST /healthz HTTP/1.1{REQUEST_END}"), (404, f"{method} /favicon.ico HTTP/1.1{REQUEST_END}"),
                (404, f"POST /favicon.ico HTTP/1.1{REQUEST_END}"),
            )
        )  # fmt: skip
        return Piece(self._with_body(head, body), "refused by head", frozenset((status,)))

    def _odd_form(self) -> Piece:
        """Forms that are sound, though few clients use them."""
        return self._rng.choice(ODD_FORMS)

    # -- pieces that end a script
    # ----------------------------------------------------------------------------------------------

    def _last(self) -> Piece:
        """Sound, and the client or the rules ask for the end."""
        rng = self._rng
        if rng.random() < 0.2:
            path = rng.choice(self._gets)
            return self._get(
                path, [("task_id", rng.choice(BROKEN_TEXTS))], "broken encoding", (400,), closes=True
            )
        return rng.choice(LAST_FORMS)

    def _refused(self) -> Piece:
        name = self._rng.choice(list(REFUSED))
        status, text = REFUSED[name]
        return Piece(text.encode("latin-1"), "refused framing", frozenset((status,)), closes=True)

    def _noise(self) -> Piece:
        rng = self._rng
        known = rng.random() < 0.4
        data = rng.choice(NOISE) if known else rng.randbytes(rng.choice((1, 2, 10, 100, 1000, 20_000)))
        return Piece(data, "other protocols" if known else "random bytes", is_sound=False)

    def _mutant(self) -> Piece:
        """A sound request, or a refused one, with some of its bytes changed."""
        rng = self._rng
        data = bytearray((self._sound() if rng.random() < 0.9 else self._refused()).data)
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            self._mutate(data)
        return Piece(bytes(data or b"\0"), "mutant", is_sound=False)

    def _mutate(self, data: bytearray) -> None:
        rng, at = self._rng, self._rng.randint(0, len(data))
        change = rng.randrange(8)
        if change == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif change == 1 and at < len(data):
            data[at] = rng.randrange(256)
        elif change == 2:
            data[at:at] = rng.choice(
                (
                    b"\r\n",
                    b"\n",
                    b"\r",
                    b"\0",
                    b" ",
                    b":",
                    b"\t",
                    b"%",
                    b"\xff",
                    b'"',
                    b"{",
                    rng.randbytes(rng.randrange(1, 9)),
                )
            )
        elif change == 3:
            del data[at : at + rng.choice((1, 1, 2, 10))]
        elif change == 4:
            data[at:at] = data[at : at + rng.choice((1, 2, 20, 200))] * rng.choice((1, 2, 5))
        elif change == 5:
            del data[at:]
        elif change == 6:
            other = self._sound().data
            data[at:] = other[rng.randint(0, len(other)) :]
        elif numbers := [*re.finditer(rb"[0-9]+", data)]:
            number = rng.choice(numbers)
            data[number.start() : number.end()] = rng.choice(
                (b"0", b"-1", b"1", b"99999999", b"4294967296", b"1e9", b"%d" % (int(number[0][:9]) + 1))
            )


# -- answers
# -----------------------------------------------------------------------------------------------------------

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]+")
FIELD = re.compile(rb"([A-Za-z][A-Za-z0-9-]*): ([!-~](?:[ -~]*[!-~])?)")
REQUEST_ID = re.compile(rb"[0-9a-f]{16}")
CHOSEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")  # that a mutant may have happened to ask for
CHUNK_SIZE = re.compile(rb"([0-9a-f]{1,8})\r\n")
NEEDED_FIELDS = (b"date", b"content-type", b"x-request-id")


def declared_codes() -> dict[int, str]:
    """The codes of the HTTP reference and the names of their errors."""
    text = (ROOT / "docs" / "http.md").read_text()
    return {int(code): name for code, name in re.findall(r"\| ([45][0-9]{4}) \| ([a-z_]+)", text)}


class Malformed(Exception):
    """Bytes that are no strict answer; says why."""


class Answer(NamedTuple):
    """One answer as it came."""

    status: int
    fields: Mapping[bytes, bytes]
    body: bytes
    has_body: bool  # false for the answer to a HEAD

    @property
    def closes(self) -> bool:
        """Whether it is to be the last."""
        return self.fields.get(b"connection", b"").lower() == b"close"


class AnswerReader:
    """Cuts what a connection receives into answers. ``is_head(i)`` tells whether answer i has no body; None:
    it may not have one, which shows, because all bodies are JSON objects or text that does not begin like an
    answer."""

    def __init__(self, is_head: Callable[[int], bool | None]) -> None:
        self.continues = 0  # answers 100
        self.count = 0
        self._is_head = is_head
        self._buffer = bytearray()
        self._head: tuple[int, dict[bytes, bytes]] | None = None

    @property
    def has_more(self) -> bool:
        """Whether there are bytes that belong to no answer so far."""
        return bool(self._buffer or self._head)

    def feed(self, data: bytes) -> None:
        """More has come."""
        self._buffer += data

    def answers(self, is_over: bool = False) -> Iterator[Answer]:
        """Those that are whole; ``is_over``: nothing more will come. Raises Malformed."""
        while True:
            if self._head is None:
                self._head = self._read_head()
                if self._head is None:
                    break
            answer = self._read_answer(*self._head, is_over)
            if answer is None:
                break
            self._head = None
            self.count += 1
            yield answer
        if is_over and self.has_more:
            raise Malformed(f"the connection ended within an answer: {bytes(self._buffer[:200])!r}")

    def _read_head(self) -> tuple[int, dict[bytes, bytes]] | None:
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD_BYTES or not b"HTTP/1.1 ".startswith(self._buffer[:9]):
                raise Malformed(f"no answer begins with {bytes(self._buffer[:200])!r}")
            return None
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        first, *lines = head.split(b"\r\n")
        match = STATUS_LINE.fullmatch(first)
        if match is None:
            raise Malformed(f"not a status line: {first[:200]!r}")
        if match[1] == b"100" and not lines:
            self.continues += 1
            return self._read_head()
        matches = [FIELD.fullmatch(line) for line in lines]
        fields = {match[1].lower(): match[2] for match in matches if match}
        if len(fields) < len(lines):
            raise Malformed(f"a field stands twice or is not NAME: VALUE in {head!r}")
        length = fields.get(b"content-length", b"")
        is_chunked = fields.get(b"transfer-encoding") == b"chunked" and not length
        # an export for HTTP/1.0, which a mutant may ask for
        is_to_the_end = (
            not length and fields.get(b"connection") == b"close" and b"content-disposition" in fields
        )
        is_framed = is_chunked or is_to_the_end or length.isdigit()
        if not is_framed or any(name not in fields for name in NEEDED_FIELDS):
            raise Malformed(f"a field is missing or wrong in {head!r}")
        return int(match[1]), fields

    def _read_answer(self, status: int, fields: dict[bytes, bytes], is_over: bool) -> Answer | None:
        is_head = self._is_head(self.count)
        if is_head is None and ((is_over and not self._buffer) or self._buffer.startswith(b"HTTP/1.1 ")):
            is_head = True
        if is_head:
            return Answer(status, fields, b"", False)
        if b"transfer-encoding" in fields:
            body = self._read_chunks()
            return None if body is None else Answer(status, fields, body, True)
        if b"content-length" not in fields:
            length = len(self._buffer) if is_over else sys.maxsize
        else:
            length = int(fields[b"content-length"])
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return Answer(status, fields, body, True)

    def _read_chunks(self) -> bytes | None:
        """The body of an export, once its last chunk is there."""
        chunks, end = list[bytes](), 0
        while match := CHUNK_SIZE.match(self._buffer, end):
            start, size = match.end(), int(match[1], 16)
            end = start + size + 2
            if len(self._buffer) >= end and self._buffer[end - 2 : end] != b"\r\n":
                raise Malformed(f"no chunk ends with {bytes(self._buffer[end - 9 : end])!r}")
            chunks.append(bytes(self._buffer[start : end - 2]))
            if size == 0 and len(self._buffer) >= end:
                del self._buffer[:end]
                return b"".join(chunks)
        if len(self._buffer) > end + 10:
            raise Malformed(f"no chunk begins with {bytes(self._buffer[end : end + 20])!r}")
        return None


def no_constant(text: str) -> Any:
    """For json: NaN and the infinities are none."""
    raise ValueError(f"{text} is not JSON")


class Judge:
    """Looks at single answers; each fault is a pair of the finding's name and a sentence."""

    def __init__(self) -> None:
        self._codes = declared_codes()
        self.statuses: Counter[int] = Counter()
        self.refusals: Counter[str] = Counter()  # answers 503, by code and name
        self.request_ids = array("Q")

    def faults(self, answer: Answer, piece: Piece | None) -> Iterator[tuple[str, str]]:
        """What is wrong with an answer; ``piece`` is its request where that is known."""
        status, fields = answer.status, answer.fields
        self.statuses[status] += 1
        shown = f"{status} {answer.body[:300]!r}"
        if status >= 500 and status != 503:
            yield "internal", shown
        if REQUEST_ID.fullmatch(fields[b"x-request-id"]):
            self.request_ids.append(int(fields[b"x-request-id"], 16))
        elif piece or not CHOSEN_ID.fullmatch(fields[b"x-request-id"]):
            yield "malformed", f"X-Request-Id is {fields[b'x-request-id']!r}"
        if (status == 503 and not fields.get(b"retry-after", b"").isdigit()) or (
            status == 405 and b"allow" not in fields
        ):
            yield "malformed", f"a field is missing: {shown} {fields}"
        if answer.has_body and fields[b"content-type"] == b"application/json":
            fault = self._envelope_fault(status, answer.body)
            if fault:
                yield "malformed", f"{fault}: {shown}"
        elif status >= 400 and answer.has_body:
            yield "malformed", f"an error that is no JSON: {shown}"
        if piece and status != 503:
            if piece.statuses and status not in piece.statuses:
                yield "wrong", f"{shown}, not one of {sorted(piece.statuses)}"
            elif piece.marker and piece.marker.encode() not in answer.body:
                yield "wrong", f"{shown} does not hold {piece.marker!r}"
            if piece.closes is not None and answer.closes != piece.closes:
                yield (
                    "wrong",
                    f"{shown} {'does not close' if piece.closes else 'closes'} the connection: {fields}",
                )

    def _envelope_fault(self, status: int, body: bytes) -> str | None:
        try:
            document = json.loads(body.decode("utf-8"), parse_constant=no_constant)
        except ValueError as error:
            return f"no strict JSON ({error})"
        if not isinstance(document, dict):
            return "no object"
        if status < 400:
            is_right = (
                document.get("code") == 0
                and document.keys() == {"code", "message", "data"}
                and document["message"] == "success"
            )
            return None if is_right or "openapi" in document else "not the envelope of a success"
        if document.keys() != {"code", "error", "message", "data", "errors"} or document["data"] is not None:
            return "not the envelope of a failure"
        code = document["code"]
        if status == 503:
            self.refusals[f"{code} {document['error']}"] += 1
        if code not in self._codes or self._codes[code] != document["error"] or code // 100 != status:
            return "an undeclared code, or one of another status"
        texts = [
            document["message"],
            *(text for one in document["errors"] for text in (one["field"], one["message"])),
        ]
        if not all(isinstance(text, str) for text in texts) or not document["message"]:
            return "a message that is no text"
        return (
            "a traceback"
            if "Traceback (most" in document["message"] or ", line " in document["message"]
            else None
        )


# -- clients
# -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What one client process does: scripts ``first``, ``first + step``, … until ``requests`` pieces were
    sent or time is up."""

    port: int
    seed: int
    ids: Ids
    first: int
    step: int
    requests: int
    seconds: float
    folder: str
    is_tls: bool = False


@dataclass
class Tally:
    """What one client saw."""

    sent: int = 0
    answered: int = 0
    scripts: int = 0
    connections: int = 0
    resets: int = 0  # connections that the service reset when all was answered
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    manners: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)  # findings by name
    evidence: list[str] = field(default_factory=list)
    request_ids: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, other: Tally) -> None:
        """Sum it up with another client's."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        self.seconds = max(self.seconds, other.seconds)


class TlsSocket:
    """TLS on a connected socket, with the methods of a socket that does not block. It keeps no ciphertext back
    when its end is sent, or OpenSSL would answer that with an alert instead of the end."""

    def __init__(self, sock: socket.socket, ends_tcp: bool) -> None:
        self.fileno, self.setsockopt, self.close = sock.fileno, sock.setsockopt, sock.close
        self._socket, self._ends_tcp = sock, ends_tcp
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_tls().wrap_bio(self._incoming, self._outgoing)
        self._plain, self._is_over = b"", False
        self._record, self._taken = b"", 0  # one that is on its way, and how many bytes it is of
        self.is_ready = False  # the handshake is over
        self.on_ready: Callable[[], None] = lambda: None  # called then
        self._shake()

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._socket.send(self._outgoing.read())
            return
        self._socket.send(self._outgoing.read())
        self.is_ready = True
        self.on_ready()

    @staticmethod
    def hello() -> bytes:
        """The first message of a handshake."""
        outgoing = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            client_tls().wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
        return outgoing.read()

    def send(self, data: memoryview) -> int:
        """How many bytes went out. Raises BlockingIOError: to be called again with the same."""
        if not self._record:
            self._taken = self._tls.write(data[:16384])
            self._record = self._outgoing.read()
        while self._record:
            self._record = self._record[self._socket.send(self._record) :]
        return self._taken

    def shutdown(self, how: int) -> None:
        """Send the end."""
        with contextlib.suppress(ssl.SSLError):  # it wants to read the other's
            self._tls.unwrap()
        with contextlib.suppress(BlockingIOError):
            self._socket.send(self._outgoing.read())
        if self._ends_tcp:
            self._socket.shutdown(how)

    def recv(self, most: int) -> bytes:
        """What has arrived, ``b""`` at the end. Raises BlockingIOError, OSError."""
        while not (self._plain or self._is_over):
            data = self._socket.recv(most)
            self._incoming.write(data) if data else self._incoming.write_eof()
            if not self.is_ready:
                self._shake()
                raise BlockingIOError
            self._decrypt()
        data, self._plain = self._plain[:most], self._plain[most:]
        return data

    def _decrypt(self) -> None:
        try:
            while part := self._tls.read(16384):
                self._plain += part
            self._is_over = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):  # after its own end; a TCP end without one of TLS
            self._is_over = True


class NoTlsSocket:
    """For a script that is no TLS: what comes back is an alert at most, which nobody reads."""

    def __init__(self, sock: socket.socket, hello: bytes) -> None:
        self.fileno, self.setsockopt, self.close = sock.fileno, sock.setsockopt, sock.close
        self.send, self.shutdown, self._socket = sock.send, sock.shutdown, sock
        sock.send(hello)

    def recv(self, most: int) -> bytes:
        """Nothing, at the end."""
        while self._socket.recv(most):
            pass
        return b""


def secured(sock: socket.socket, script: Script) -> TlsSocket | NoTlsSocket:
    """The socket of a client of a service with TLS."""
    if script.number % 2 or (script.pieces and script.pieces[0].is_sound):
        return TlsSocket(sock, ends_tcp=script.number % 4 < 2)
    hello = TlsSocket.hello()
    return NoTlsSocket(sock, hello[: script.number // 2 % (len(hello) + 1)])


class Session:
    """A connection and the script that is played on it."""

    def __init__(self, sock: socket.socket | TlsSocket | NoTlsSocket, script: Script, now: float) -> None:
        self.socket = sock
        self.former: list[int] = []  # numbers of the scripts that were played on this connection before
        self.begin(script, now)

    def begin(self, script: Script, now: float) -> None:
        """Play a script, maybe on a connection that was kept."""
        self.script = script
        self.learn(0)
        self.unsent: deque[memoryview] = deque(memoryview(chunk) for chunk in script.chunks())
        self.deadline = now + SESSION_SECONDS
        self.is_sent = False
        self.is_closing = False  # the last answer has come
        self.is_refused = False  # by a 503 that was the last
        self.reader = AnswerReader(self._is_head)

    def learn(self, known: int) -> None:
        """The first ``known`` pieces are answered, and the connection goes on."""
        self.certain = self.script.certain(known)
        self.most = self.script.most(self.certain)

    def _is_head(self, index: int) -> bool | None:
        return self.script.pieces[index].is_head if index < self.certain else None

    @property
    def events(self) -> int:
        """What to poll for. A slow reader looks by itself; one shot, or a hang-up would be told without
        end."""
        return select.EPOLLONESHOT if self.script.manner == "slow" else select.EPOLLIN

    def expected(self, index: int) -> Piece | None:
        """The request of an answer, where it is known."""
        return self.script.pieces[index] if index < self.certain else None


class Client:
    """Plays scripts in this process: an epoll loop over its sessions."""

    def __init__(
        self, task: Task, scripts: Iterator[Script], tell: Callable[[Answer], None] | None = None
    ) -> None:
        self._task = task
        self._scripts = scripts
        self._tell = tell
        self._judge = Judge()
        self._tally = Tally()
        self._epoll = select.epoll()
        self._sessions: dict[int, Session] = {}
        self._due: list[tuple[float, int, Session]] = []  # sends or reads that wait for their moment
        self._turns = 0
        self._end = time.monotonic() + task.seconds

    def run(self) -> Tally:
        """All of the task."""
        started, cpu, next_look = time.monotonic(), time.process_time(), 0.0
        while True:
            while len(self._sessions) < CONNECTIONS and (script := self._next_script()):
                self._connect(script)
            if not self._sessions:
                break
            now = time.monotonic()
            wait = max(0.0, min(0.2, self._due[0][0] - now)) if self._due else 0.2
            for descriptor, event in self._epoll.poll(wait, 256):
                session = self._sessions.get(descriptor)
                if session:
                    self._on_event(session, event)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                self._on_due(heapq.heappop(self._due)[2])
            if now > next_look:
                next_look = now + 1.0
                self._look(now)
        tally = self._tally
        tally.seconds, tally.cpu_seconds = time.monotonic() - started, time.process_time() - cpu
        tally.statuses, tally.refusals, tally.request_ids = (
            self._judge.statuses,
            self._judge.refusals,
            self._judge.request_ids,
        )
        return tally

    def _next_script(self) -> Script | None:
        """None when enough was sent, or time is up."""
        if self._tally.sent >= self._task.requests or time.monotonic() >= self._end:
            return None
        return next(self._scripts, None)

    # -- a session's life
    # ----------------------------------------------------------------------------------------------------

    def _connect(self, script: Script) -> None:
        sock = socket.socket()
        if script.manner == "slow":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(SESSION_SECONDS)
        # An address of its own for each client: else the ports of closed connections would run out.
        sock.bind((f"127.0.0.{2 + self._task.first % 200}", 0))
        sock.connect(("127.0.0.1", self._task.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self._tally.connections += 1
        session = Session(secured(sock, script) if self._task.is_tls else sock, script, time.monotonic())
        self._sessions[sock.fileno()] = session
        self._epoll.register(sock.fileno(), session.events)
        self._began(session)

    def _began(self, session: Session) -> None:
        script, tally = session.script, self._tally
        tally.scripts += 1
        tally.manners[script.manner] += 1
        tally.kinds.update(piece.kind for piece in script.pieces)
        tally.sent += sum(1 for piece in script.pieces if piece.data)
        if script.manner == "slow":
            self._later(session, 0.02)
        if isinstance(session.socket, TlsSocket) and not session.socket.is_ready:
            session.socket.on_ready = lambda: self._send(session)
        else:
            self._send(session)

    def _later(self, session: Session, seconds: float) -> None:
        self._turns += 1
        heapq.heappush(self._due, (time.monotonic() + seconds, self._turns, session))

    def _is_alive(self, session: Session) -> bool:
        return self._sessions.get(session.socket.fileno()) is session

    def _on_due(self, session: Session) -> None:
        if not self._is_alive(session):
            return
        if session.script.manner == "slow":
            self._receive(session, 300)
            if self._is_alive(session):
                self._later(session, 0.002)
        else:
            self._send(session)

    def _on_event(self, session: Session, event: int) -> None:
        if event & select.EPOLLOUT:
            self._epoll.modify(session.socket.fileno(), session.events)
            self._send(session)
        elif session.script.manner != "slow":
            self._receive(session, 256 * 1024)

    def _send(self, session: Session) -> None:
        """The next chunk; the others after a moment."""
        while session.unsent:
            try:
                rest = session.unsent[0][session.socket.send(session.unsent[0]) :]
            except BlockingIOError:
                self._epoll.modify(session.socket.fileno(), session.events | select.EPOLLOUT)
                return
            except OSError:  # it has closed, as it may have to: the answers tell
                session.unsent.clear()
                break
            if rest:
                session.unsent[0] = rest
                continue
            session.unsent.popleft()
            if session.unsent:
                self._later(session, 0.001)
                return
        self._sent(session)

    def _sent(self, session: Session) -> None:
        """The last of the script: what its manner says."""
        session.is_sent = True
        manner = session.script.manner
        if manner in ("reset", "vanish"):
            if manner == "reset":
                session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._close(session)
        elif manner != "stay":
            with contextlib.suppress(OSError):  # it has closed already
                session.socket.shutdown(socket.SHUT_WR)
        elif session.reader.count >= session.certain:  # the last was refused before all of it was sent
            self._answered(session)

    def _receive(self, session: Session, most: int) -> None:
        try:
            data = session.socket.recv(most)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self._tally.resets += 1
            data = b""
        except OSError as error:
            self._find(session, "unclosed", f"reading failed: {error!r}")
            data = b""
        try:
            if data:
                session.reader.feed(data)
            for answer in session.reader.answers(is_over=not data):
                self._take(session, answer)
        except Malformed as error:
            self._find(session, "malformed", str(error))
            self._close(session)
            return
        if not data:
            self._ended(session)
        elif session.script.manner == "stay" and session.reader.count >= session.certain and session.is_sent:
            self._answered(session)

    def _take(self, session: Session, answer: Answer) -> None:
        index = session.reader.count - 1
        if self._tell:
            self._tell(answer)
        self._tally.answered += 1
        for name, fault in self._judge.faults(answer, session.expected(index)):
            self._find(session, name, f"answer {index + 1}: {fault}")
        if session.is_closing:
            raise Malformed(f"an answer after the last one: {answer.status} {answer.body[:200]!r}")
        if index >= session.most:
            self._find(
                session,
                "extra",
                f"answer {index + 1} of at most {session.most}: {answer.status} {answer.body[:200]!r}",
            )
        piece = session.expected(index)
        if answer.closes:
            session.is_closing, session.is_refused = True, answer.status == 503
        elif piece and piece.closes is None:
            session.learn(index + 1)

    def _ended(self, session: Session) -> None:
        """The service has closed the connection."""
        count, reader = session.certain, session.reader
        if reader.count < count and not session.is_refused:
            self._find(session, "missing", f"{reader.count} answers, {count} requests")
        if reader.continues and not any(
            b"100-continue" in piece.data.lower() for piece in session.script.pieces
        ):
            self._find(session, "extra", "a 100 that nobody asked for")
        self._close(session)

    def _answered(self, session: Session) -> None:
        """All is answered on a connection that stays: go on with it, or leave it."""
        if session.reader.has_more:
            self._find(session, "extra", "bytes after the last answer")
        script = self._next_script()
        if script is None or script.manner == "slow" or session.reader.has_more:
            self._close(session)
            if script:
                self._connect(script)
        else:
            session.former.append(session.script.number)
            session.begin(script, time.monotonic())
            self._began(session)

    def _look(self, now: float) -> None:
        for session in [*self._sessions.values()]:
            if now > session.deadline:
                self._find(
                    session,
                    "unclosed",
                    f"not over after {SESSION_SECONDS:g} s: {session.reader.count} answers",
                )
                self._close(session)

    def _close(self, session: Session) -> None:
        del self._sessions[session.socket.fileno()]
        session.socket.close()

    def _find(self, session: Session, name: str, fault: str) -> None:
        tally, script = self._tally, session.script
        tally.counts[name] += 1
        if tally.counts[name] <= KEPT_EVIDENCE:
            file = pathlib.Path(self._task.folder) / f"finding-{len(tally.evidence) + 1}-{script.number}.json"
            file.write_text(script.to_json(self._task.seed, self._task.ids.tasks, f"{name}: {fault}"))
            former = f" after {session.former}" if session.former else ""
            tally.evidence.append(
                f"{name}: script {script.number} ({script.manner}{former}): {fault}; {file}"
            )


def run_client(task: Task) -> Tally:
    """One task, in this process."""
    writer = Writer(task.seed, task.ids)
    return Client(task, map(writer.script, itertools.count(task.first, task.step))).run()


# -- the service
# -------------------------------------------------------------------------------------------------------


class Sample(NamedTuple):
    """The service at one moment of the storm."""

    at: float
    rss_mb: float
    threads: int
    descriptors: int
    health_seconds: float


class Caller:
    """Single requests, each on a connection of its own."""

    def __init__(self, port: int, is_tls: bool = False) -> None:
        self._port, self._is_tls = port, is_tls

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The status and the data. Raises OSError, HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SESSION_SECONDS)
        if self._is_tls:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self._port, timeout=SESSION_SECONDS, context=client_tls()
            )
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            response = connection.getresponse()
            return response.status, json.load(response)["data"]

    def data(self, method: str, path: str, body: object = None) -> Any:
        """The data of a success. Raises RuntimeError for anything else."""
        status, data = self.call(method, path, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path} was answered by {status}")
        return data

    def create(self, **more: object) -> dict[str, Any]:
        """A batch as it should be."""
        return dict(self.data("POST", f"{API}/createTask", {"stock_code": "AAPL", "config": CONFIG, **more}))

    def make_ids(self) -> Ids:
        """Tasks that completed, failed and were cancelled, and batches that the storm fills."""
        completed = self.create(params=[{}] * 6, batch_id="storm-completed", priority=100)["task_ids"]
        failed = self.create(
            stock_code="NONE", params=[{}] * 3, max_attempts=1, batch_id="storm-failed", priority=100
        )["task_ids"]
        cancelled = self.create(params=[{}] * 3, batch_id="storm-cancelled")["task_ids"]
        self.data("POST", f"{API}/cancelTask", {"batch_id": "storm-cancelled"})
        for name in ("storm-completed", "storm-failed"):
            self.data("GET", f"{API}/getTasksByBatch?batch_id={name}&wait=60")
        strangers = ["01890000-0000-7000-8000-000000000000", "0" * 36]
        batches = [f"storm-{i}" for i in range(BATCHES)] + [
            "storm-completed",
            "storm-failed",
            "storm-cancelled",
            "nobodys",
        ]
        return Ids([*completed, *failed, *cancelled, *strangers], batches)

    def end_all(self) -> None:
        """Cancel whatever has not ended, and wait until it has. Raises RuntimeError when that takes too
        long."""
        deadline = time.monotonic() + QUIET_SECONDS
        while tasks := self.data("GET", f"{API}/listTasks?status=pending&status=running&limit=10000")[
            "tasks"
        ]:
            for batch_id in {task["batch_id"] for task in tasks}:
                self.call("POST", f"{API}/cancelTask", {"batch_id": batch_id})
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(tasks)} tasks have not ended {QUIET_SECONDS:g} s after the storm")


class Watch:
    """Looks at the service from outside."""

    def __init__(self, pid: int, caller: Caller, database_port: int) -> None:
        self.samples: list[Sample] = []
        self._pid, self._caller, self._database_port = pid, caller, database_port
        self._database_sockets: set[str] = set()  # all that were seen

    def resources(self) -> dict[str, int]:
        """What the service and the processes below it hold now."""
        pids = [self._pid, *children(self._pid)]
        counts = {"threads": len(os.listdir(f"/proc/{self._pid}/task")), "processes": len(pids)}
        for pid, name in zip(pids, ("service", "engine server"), strict=False):
            links = self._links(pid)
            pooled = self._of_database(links)
            counts[f"descriptors of the {name}"] = len(links) - len(pooled)
            if pid == self._pid:
                counts[POOLED] = len(pooled)
        return counts

    def calm_resources(self) -> dict[str, int]:
        """The least of each while nothing happens, for so long that connections that linger have gone; of
        threads the most, since a timer has one that comes and goes."""
        seen = [self.resources()]
        end = time.monotonic() + CALM_SECONDS
        while time.monotonic() < end:
            time.sleep(0.1)
            seen.append(self.resources())
        found = {name: min(one.get(name, count) for one in seen) for name, count in seen[-1].items()}
        return {**found, "threads": max(one["threads"] for one in seen)}

    def _links(self, pid: int) -> list[str]:
        """What the descriptors of a process lead to; none of a service, which shows them to root alone."""
        links = []
        with contextlib.suppress(PermissionError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):  # closed meanwhile
                    links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        return links

    def _of_database(self, links: Sequence[str]) -> list[str]:
        """Those that lead to the database, or did: a pooled connection that is idle for long is reset by the
        server, and then in no table until the pool looks at it again."""
        if not self._database_port:
            return [link for link in links if ".db" in link]
        for line in pathlib.Path(f"/proc/{self._pid}/net/tcp").read_text().splitlines():
            if f":{self._database_port:04X} " in line:
                self._database_sockets.add(f"socket:[{line.split()[9]}]")
        return [link for link in links if link in self._database_sockets]

    def sample(self) -> None:
        """One more sample."""
        began = time.monotonic()
        try:
            health = time.monotonic() - began if self._caller.call("GET", "/healthz")[0] == 200 else math.inf
        except (OSError, http.client.HTTPException, ValueError):
            health = math.inf
        links, threads = self._links(self._pid), len(os.listdir(f"/proc/{self._pid}/task"))
        self._of_database(links)
        self.samples.append(Sample(began, memory_mb(self._pid)[0], threads, len(links), health))

    def growth_mb(self) -> float:
        """Of the second half of the samples: the slope of the line through them (least squares) times their
        time."""
        half = self.samples[len(self.samples) // 2 :]
        if len(half) < 3:
            return 0.0
        slope, _ = statistics.linear_regression([one.at for one in half], [one.rss_mb for one in half])
        return slope * (half[-1].at - half[0].at)

    def tenths(self) -> list[str]:
        """Minimum - median - maximum of the memory in each tenth of the storm."""
        size = max(1, math.ceil(len(self.samples) / 10))
        parts = [
            [one.rss_mb for one in self.samples[i : i + size]] for i in range(0, len(self.samples), size)
        ]
        return [spread(part) for part in parts]


LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S.*)")


def look_into_log(path: pathlib.Path) -> tuple[Counter[str], list[str]]:
    """How often each event of level WARNING was logged, and the lines that should not be there."""
    warnings: Counter[str] = Counter()
    bad: list[str] = []
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for line in lines:
            match = LOG_LINE.fullmatch(line.rstrip("\n"))
            if match is None or match[1] in ("ERROR", "CRITICAL") or "Traceback (most recent" in line:
                bad.append(line.rstrip("\n")[:3000])
            elif match[1] == "WARNING":
                warnings[re.split(r" \w+=", match[2])[0]] += 1
    return warnings, bad


# -- the storm
# ---------------------------------------------------------------------------------------------------------


@dataclass
class StormReport:
    """What came of one storm."""

    database: str
    seed: int
    tally: Tally
    seconds: float
    watch: Watch
    before: Mapping[str, int]
    after: Mapping[str, int]
    warnings: Counter[str]
    tasks: int
    findings: list[str]

    @property
    def is_good(self) -> bool:
        """Nothing was found."""
        return not self.findings

    def line(self) -> str:
        """All in one."""
        tally = self.tally
        zero = ", ".join(f"{name} {tally.counts[name]}" for name in ZERO)
        return (
            f"storm on {self.database}, seed {self.seed}: {tally.sent} requests in {self.seconds:.0f} s, {tally.answered} answers; "
            f"{self.watch.growth_mb():+.1f} MB in the second half; {zero}"
        )

    def lines(self) -> Iterator[str]:
        """Every count, and the verdict."""
        tally, samples = self.tally, self.watch.samples
        yield f"storm on {self.database}, seed {self.seed}"
        yield f"  requests sent: {tally.sent} in {self.seconds:.1f} s ({tally.sent / self.seconds:.0f}/s), answers read: {tally.answered}"
        yield f"  connections: {tally.connections}, scripts: {tally.scripts}; the clients took {tally.cpu_seconds / self.seconds:.2f} CPUs"
        for name, counts in (
            ("kinds", tally.kinds),
            ("manners", tally.manners),
            ("statuses", tally.statuses),
            ("answers 503", tally.refusals),
        ):
            yield f"  {name}: " + (
                ", ".join(f"{key} {count}" for key, count in counts.most_common()) or "none"
            )
        yield f"  reset after the last answer: {tally.resets}; tasks stored: {self.tasks}"
        yield f"  RSS, MB, by tenths: {' | '.join(self.watch.tenths())}"
        yield f"  RSS, trend of the second half: {self.watch.growth_mb():+.2f} MB"
        yield (
            f"  threads: {min(one.threads for one in samples)}-{max(one.threads for one in samples)}, descriptors: at most "
            + str(max(one.descriptors for one in samples))
        )
        yield f"  /healthz: at most {max(one.health_seconds for one in samples) * 1000:.0f} ms in {len(samples)} samples"
        yield f"  before: {dict(self.before)}; after: {dict(self.after)}"
        yield "  warnings in the log: " + (
            ", ".join(f"{text} {count}" for text, count in self.warnings.most_common()) or "none"
        )
        for name in ZERO:
            yield f"  {name}: {tally.counts[name]}"
        yield from (f"    {text}" for text in self.findings)
        yield "nothing was found" if self.is_good else "FAILED"


def certificate(folder: pathlib.Path) -> dict[str, str]:
    """The settings of a service with a certificate that it has signed itself."""
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    subprocess.run([*made, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return {"QTM_TLS_CERT": cert, "QTM_TLS_KEY": key}


class Storm:
    """One storm on one database. Main thread only; `run` once."""

    def __init__(
        self, url: str, database: str, requests: int, seed: int, seconds: float, folder: pathlib.Path,
        is_tls: bool = False,
    ) -> None:  # fmt: skip
        self._database, self._requests, self._seed, self._seconds, self._folder = (
            database,
            requests,
            seed,
            seconds,
            folder,
        )
        self._database_port = urllib.parse.urlsplit(url).port or 0
        self._server = service(url, folder, environment=certificate(folder) if is_tls else {})
        self._is_tls = is_tls
        self._counts: Counter[str] = Counter()
        self._evidence: list[str] = []

    def _find(self, name: str, text: str) -> None:
        self._counts[name] += 1
        self._evidence.append(f"{name}: {text}")

    def run(self) -> StormReport:
        """All of it; the folder keeps log, database and saved scripts."""
        with self._server as server, self._processes() as executor:
            caller = Caller(server.port, self._is_tls)
            watch = Watch(server.pid, caller, self._database_port)
            try:
                ids = caller.make_ids()
                warm_up = self._rage(
                    executor, watch, ids, -self._seed - 1, max(MIN_WARM_UP, self._requests // WARM_UP_SHARE)
                )
                caller.end_all()
                before = watch.calm_resources()
                watch.samples.clear()
                began = time.monotonic()
                tally = self._rage(executor, watch, ids, self._seed, self._requests)
                seconds = time.monotonic() - began
                after, tasks = self._aftermath(watch, caller, before)
            except Exception:  # the service is gone, or a client has failed
                samples = "\n  ".join(map(str, watch.samples[-10:]))
                print(f"the storm broke off; {server.state()}\nthe last samples:\n  {samples}", flush=True)
                raise
        if server.exit_code != 0:
            self._find("end", f"the service ended with code {server.exit_code}")
        self._judge(watch)
        warnings, bad = look_into_log(self._folder / "log")
        for line in bad:
            self._find("log", line)
        tally.counts += warm_up.counts + self._counts
        findings = [*warm_up.evidence, *tally.evidence, *self._evidence]
        return StormReport(
            self._database, self._seed, tally, seconds, watch, before, after, warnings, tasks, findings
        )

    @contextlib.contextmanager
    def _processes(self) -> Iterator[ProcessPoolExecutor]:
        with ProcessPoolExecutor(
            CLIENTS, mp_context=get_context("spawn"), initializer=die_with_parent
        ) as executor:
            yield executor

    def _rage(self, executor: ProcessPoolExecutor, watch: Watch, ids: Ids, seed: int, requests: int) -> Tally:
        """Let the clients loose, and watch until they are done."""
        futures: list[Future[Tally]] = [
            executor.submit(
                run_client,
                Task(
                    self._server.port,
                    seed,
                    ids,
                    i,
                    CLIENTS,
                    requests // CLIENTS,
                    self._seconds,
                    str(self._folder),
                    self._is_tls,
                ),
            )
            for i in range(CLIENTS)
        ]
        while not all(future.done() for future in futures):
            watch.sample()
            time.sleep(SAMPLE_SECONDS)
        total = Tally()
        for tally in (future.result() for future in futures):
            total.add(tally)
        repeated = len(total.request_ids) - len(set(total.request_ids))
        if repeated:
            self._find("repeated", f"{repeated} request ids of {len(total.request_ids)}")
        return total

    def _aftermath(
        self, watch: Watch, caller: Caller, before: Mapping[str, int]
    ) -> tuple[Mapping[str, int], int]:
        """The storm is over: all is put away, and the service works. What it holds, and how many tasks it has
        stored."""
        try:
            caller.end_all()
            task_id = caller.create(batch_id="after-the-storm")["task_ids"][0]
            found = caller.data("GET", f"{API}/getTaskResult?task_id={task_id}&wait=30")
            if found["result"]["metrics"]["bars"] < 10:
                self._find("end", f"the result afterwards is {found}")
        except (OSError, http.client.HTTPException, RuntimeError, TypeError, KeyError) as error:
            self._find("end", f"no create to result afterwards: {error!r}")
        deadline = time.monotonic() + SETTLE_SECONDS
        most = {**before, POOLED: MAX_POOLED}
        while True:
            after = watch.resources()
            more = [name for name, count in after.items() if count > most.get(name, 0)]
            if not more or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        for name in more:
            self._find("leaked", f"{after[name]} {name}, not {most.get(name, 0)} as before the storm")
        return after, self._count_tasks(caller)

    def _count_tasks(self, caller: Caller) -> int:
        count, cursor = 0, ""
        try:
            while cursor is not None:
                page = caller.data(
                    "GET", f"{API}/listTasks?limit=10000" + (f"&cursor={cursor}" if cursor else "")
                )
                count, cursor = count + len(page["tasks"]), page["next_cursor"]
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            self._find("end", f"the tasks could not be counted to the end: {error!r}")
        return count

    def _judge(self, watch: Watch) -> None:
        """What the samples say."""
        for one in watch.samples:
            if one.health_seconds > HEALTH_SECONDS:
                self._find("health", f"/healthz took {one.health_seconds:.2f} s")
        if watch.growth_mb() > (FLAT_MB if self._requests >= LONG_STORM else SHORT_FLAT_MB):
            self._find(
                "memory", f"the service grew by {watch.growth_mb():.1f} MB in the second half of the storm"
            )
        threads = sorted({one.threads for one in watch.samples})
        if threads[-1] > threads[0] + SHORT_THREADS:
            self._find("leaked", f"the number of threads did not stay: {threads}")


@contextlib.contextmanager
def database_url(database: str, folder: pathlib.Path) -> Iterator[str]:
    """The URL of an empty database. Raises MariaDBMissing."""
    if database == "sqlite":
        yield f"sqlite:///{folder / 'qtm.db'}"
    else:
        with PrivateMariaDB() as server:
            yield server.create_database("storm")


def run_storm(
    database: str, requests: int, seed: int, folder: pathlib.Path, seconds: float = math.inf,
    is_tls: bool = False,
) -> StormReport:  # fmt: skip
    """A storm on ``sqlite`` or ``mariadb`` (a private server), of ``requests`` or ``seconds``, whichever ends
    first; a short warm-up comes on top. ``folder`` must be empty. Raises MariaDBMissing. Main thread only."""
    with database_url(database, folder) as url:
        return Storm(url, database, requests, seed, seconds, folder, is_tls).run()


def replay(file: pathlib.Path, database: str, folder: pathlib.Path, is_tls: bool = False) -> list[str]:
    """Play a saved script on a fresh service, tell its answers, and return what is wrong with them."""

    def tell(answer: Answer) -> None:
        print(
            answer.status,
            dict(answer.fields),
            answer.body[:2000].decode("utf-8", "backslashreplace"),
            flush=True,
        )

    settings = certificate(folder) if is_tls else {}
    with database_url(database, folder) as url, service(url, folder, environment=settings) as server:
        ids = Caller(server.port, is_tls).make_ids()
        script = script_from(file.read_text(), ids.tasks)
        task = Task(server.port, 0, ids, 0, 1, sys.maxsize, math.inf, str(folder), is_tls)
        tally = Client(task, iter([script]), tell).run()
    return [*tally.evidence, *look_into_log(folder / "log")[1]]


def main() -> int:
    """Run from the command line; 1 when something was found."""
    parser = argparse.ArgumentParser(
        description="Throw random and mutated requests at a service, and look whether it stands."
    )
    parser.add_argument("--database", choices=["sqlite", "mariadb"], default="sqlite")
    parser.add_argument("--requests", type=int, default=1_000_000, help="to send (default 1,000,000)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="to stop after (default: never)")
    parser.add_argument("--seed", type=int, default=None, help="of the scripts (default: a new one)")
    parser.add_argument(
        "--replay",
        type=pathlib.Path,
        metavar="FILE",
        help="play one saved script instead, and show the answers",
    )
    parser.add_argument("--tls", action="store_true", help="with a certificate made by openssl")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    folder = pathlib.Path(tempfile.mkdtemp(prefix="qtm-storm-"))
    print(f"log and scripts, kept unless all is well: {folder}", flush=True)
    if options.replay:
        findings = replay(options.replay, options.database, folder, options.tls)
        lines = iter([*findings, "FAILED" if findings else "nothing was found"])
    else:
        report = run_storm(options.database, options.requests, seed, folder, options.seconds, options.tls)
        findings, lines = report.findings, report.lines()
    for line in lines:
        print(line, flush=True)
    if findings:
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
