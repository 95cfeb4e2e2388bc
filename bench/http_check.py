"""Whether another server gives the same answers as qtm: the same documents to what it takes, the same refusals to what it does not."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import fill
from load import get_request, post_request
from service import API, WAIT_SECONDS, expect

STAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
OWN = ("task_id", "batch_id", "created_at", "run_at")  # differ from one create to the next
PENDING_ONLY = ("queue_position", "waiting_for")  # the others have none of it


def exchange(port: int, data: bytes) -> bytes:
    """The whole answer to one request on a connection of its own, head and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS) as sock:
        sock.sendall(data)
        received = bytearray()
        total = sys.maxsize
        while len(received) < total:
            part = sock.recv(1 << 18)
            expect(bool(part), f"the connection closed after {bytes(received[:200])!r}")
            received += part
            end = received.find(b"\r\n\r\n") if total == sys.maxsize else -1
            if end >= 0:
                length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)\r\n", received[: end + 2])
                expect(length is not None, f"an answer without Content-Length: {bytes(received[:end])!r}")
                total = end + 4 + int(length[1]) if length else 0
        return bytes(received)


class Answer(NamedTuple):
    """An answer, taken apart."""

    status: int
    body: bytes
    document: Any


def ask(port: int, target: str, body: bytes | None = None) -> Answer:
    """A GET, or a POST of a body."""
    request = get_request(port, target, b"") if body is None else post_request(port, target, body, b"")
    head, _, text = exchange(port, request.data).partition(b"\r\n\r\n")
    return Answer(int(head.split()[1]), text, json.loads(text))


def create_body(count: int, **more: object) -> bytes:
    """The body of a createTask of this many stocks."""
    codes = (
        {"stock_code": fill.stock_code(0)}
        if count == 1
        else {"stock_codes": [fill.stock_code(place) for place in range(count)]}
    )
    return json.dumps({**codes, "config": fill.CONFIG, "params": {"fast": 5, "slow": 60}, **more}).encode()


def read_targets() -> Iterator[str]:
    """Questions about rows that are the same for all."""
    places = (0, 3, 7)  # completed, failed, cancelled
    for place in places:
        yield f"getTaskStatus?task_id={fill.task_id(1, place)}"
        yield f"getTaskResult?task_id={fill.task_id(0, place)}"
    yield from (f"{name}?task_id=019-none" for name in ("getTaskStatus", "getTaskResult"))
    yield from (
        f"getTasksByBatch?batch_id={fill.batch_id(0)}{more}"
        for more in ("", "&limit=10", "&status=failed&status=cancelled")
    )
    yield f"getTasksByBatch?batch_id={fill.batch_id(0)}&stock_code={fill.stock_code(77)}"
    yield f"getTasksByBatch?batch_id={fill.batch_id(0)}&limit=3&cursor={fill.task_id(0, 5)}"
    yield from (
        "getTasksByBatch?batch_id=none",
        "getTaskStatus",
        "getTasksByBatch",
        f"getTasksByBatch?batch_id={fill.batch_id(0)}&limit=0",
    )


def bad_bodies() -> Iterator[bytes]:
    """Requests that every server must refuse."""
    good = json.loads(create_body(1))
    changes: list[dict[str, object]] = [
        {"stock_code": "A\n"},
        {"stock_code": ""},
        {"stock_code": 5},
        {"stock_codes": ["A"]},
        {"stock_codes": []},
        {"params": "none"},
        {"params": []},
        {"batch_id": "a b"},
        {"batch_id": "x" * 65},
        {"name": ""},
        {"priority": 101},
        {"priority": "1"},
        {"priority": True},
        {"timeout_seconds": 0},
        {"max_attempts": 101},
        {"unknown": 1},
    ]
    yield from (json.dumps({**good, **change}).encode() for change in changes)
    configs: list[dict[str, object]] = [
        {"start_date": "2020-02-30"},
        {"start_date": "20200101"},
        {"start_date": "2030-01-01"},
        {"initial_cash": 0},
        {"initial_cash": "100"},
        {"commission": 1},
        {"commission": -0.1},
        {"commission": True},
        {"strategy": ""},
    ]
    yield from (json.dumps({**good, "config": {**good["config"], **change}}).encode() for change in configs)
    yield from (
        b"{",
        b"[]",
        json.dumps({**good, "stock_code": None, "stock_codes": ["A"] * 100_001}).encode(),
    )


def refusal(answer: Answer) -> object:
    """What must be equal of an answer that is no success; the words may differ."""
    return (
        answer.status,
        {name: answer.document[name] for name in ("code", "error", "data")},
        sorted(answer.document),
    )


def good_bodies(name: str) -> Iterator[bytes]:
    """Requests that every server must take."""
    yield create_body(1)
    yield create_body(
        3,
        params=[{"a": 1}, {"b": [1.5, None, "é"]}],
        name="three",
        priority=7,
        timeout_seconds=5,
        max_attempts=2,
    )
    yield create_body(
        2,
        config={**fill.CONFIG, "universe": {"own": ["key", 1]}, "initial_cash": 2.5e4},
        batch_id=f"of-{name}",
    )
    yield create_body(1, batch_id=f"of-{name}")  # one more into the same batch


def created(port: int, body: bytes) -> object:
    """What a create made, without what differs from one to the next."""
    answer = ask(port, f"{API}/createTask", body)
    data = answer.document["data"]
    expect(
        answer.status == 201 and data["count"] == len(data["task_ids"]) == len(set(data["task_ids"])),
        f"createTask gave {answer.body!r}",
    )
    found = [
        ask(port, f"{API}/getTaskStatus?task_id={task_id}").document["data"] for task_id in data["task_ids"]
    ]
    batch = ask(port, f"{API}/getTasksByBatch?batch_id={data['batch_id']}").document["data"]
    for task in (*found, *batch["tasks"], batch):
        stamps = [task[name] for name in ("created_at", "run_at") if name in task]
        expect(all(STAMP.fullmatch(stamp) for stamp in stamps), f"times such as {stamps}")
    listed = [task["task_id"] for task in batch["tasks"]][-len(found) :]
    expect(listed == data["task_ids"], f"the tasks {data['task_ids']} are listed as {listed}")
    return [
        {key: value for key, value in task.items() if key not in (*OWN, *PENDING_ONLY)} for task in found
    ], sorted(found[0])


def check_same(name: str, port: int, qtm_port: int, is_bare: bool) -> None:
    """Raises WrongAnswer where this server answers otherwise than qtm; a bare one has getTaskStatus of an id
    alone."""
    for target in read_targets():
        if is_bare and not target.startswith("getTaskStatus?"):
            continue
        mine, theirs = (ask(at, f"{API}/{target}") for at in (qtm_port, port))
        same = (
            mine == theirs._replace(body=mine.body)
            if mine.status == 200
            else refusal(mine) == refusal(theirs)
        )
        expect(
            same,
            f"{name}: {target} was answered {theirs.status} {theirs.body[:600]!r}, by qtm {mine.status} {mine.body[:600]!r}",
        )
        close = mine.status != 200 or abs(len(mine.body) - len(theirs.body)) <= len(mine.body) / 100
        expect(
            close,
            f"{name}: {target} was answered with {len(theirs.body)} bytes, by qtm with {len(mine.body)}",
        )
    if is_bare:
        return
    for body in bad_bodies():
        mine, theirs = (ask(at, f"{API}/createTask", body) for at in (qtm_port, port))
        same = mine.status == 400 and refusal(mine) == refusal(theirs)
        expect(
            same,
            f"{name}: {body[:600]!r} was answered {theirs.status} {theirs.body!r}, by qtm {mine.status} {mine.body!r}",
        )
    for place, body in enumerate(good_bodies(name)):
        ours, others = (created(at, body) for at in (qtm_port, port))
        expect(
            ours == others, f"{name}: good body {place} made {str(others)[:1500]}, by qtm {str(ours)[:1500]}"
        )
