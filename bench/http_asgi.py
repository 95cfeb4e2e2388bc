"""The hardest rival of bench/http_edge.py: getTaskStatus alone, as a bare ASGI callable with asyncmy and orjson.

No framework, no router, no check of what comes in, no error but 404: what is left when all but the query is taken away.
uvicorn (uvloop, httptools) and granian both serve ``app``. It answers as qtm does to the ids that exist and to those
that do not.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import asyncmy
import orjson

CONNECTIONS = 16
HEADERS = [(b"content-type", b"application/json")]
COLUMNS = """t.task_id, t.batch_id, t.stock_code, t.config, t.params, status, progress, message, attempt,
max_attempts, timeout_seconds, -priority_rank AS priority, created_at, run_at, started_at, finished_at, worker_id,
error, t.engine_version, metrics"""
NAMES = [column.split()[-1].rpartition(".")[2] for column in COLUMNS.split(",")]
QUERY = f"""SELECT {COLUMNS} FROM backtest_tasks t LEFT JOIN backtest_metrics m
    ON m.batch_id = t.batch_id AND m.task_id = t.task_id WHERE t.task_id = %s"""
STATUS_TEXTS = {
    "completed": "Completed; the result is ready.",
    "failed": "Failed; the error tells why.",
    "cancelled": "Cancelled; it will not run.",
}
UNUSED = {"run_key": None, "drift": False, "created_by": None, "result_of": None}  # by the tasks of the bench
Message = Mapping[str, Any]

pool: Any = None


async def start() -> None:
    """Open the connections."""
    global pool
    parts = urlsplit(os.environ["BENCH_DATABASE"])
    pool = await asyncmy.create_pool(
        host=parts.hostname,
        port=parts.port,
        user=parts.username,
        db=parts.path[1:],
        minsize=CONNECTIONS,
        maxsize=CONNECTIONS,
        autocommit=True,
    )


def iso(stamp: datetime.datetime | None) -> str | None:
    """A time of the database as qtm shows it."""
    return None if stamp is None else stamp.isoformat(timespec="microseconds") + "Z"


def document(row: Sequence[Any]) -> dict[str, Any]:
    """A row as qtm shows a task that has ended."""
    task = dict(zip(NAMES, row, strict=True))
    for name in ("config", "params", "error", "metrics"):
        task[name] = task[name] and orjson.loads(task[name])
    for name in ("created_at", "run_at", "started_at", "finished_at"):
        task[name] = iso(task[name])
    return {
        **task,
        "status_text": STATUS_TEXTS[task["status"]],
        "queue_position": None,
        "waiting_for": None,
        **UNUSED,
    }


async def status(task_id: str) -> tuple[int, bytes]:
    """The status and body of the answer."""
    async with pool.acquire() as connection, connection.cursor() as cursor:
        await cursor.execute(QUERY, (task_id,))
        row = await cursor.fetchone()
    if row is None:
        error = {"code": 40401, "error": "task_not_found", "message": f"no task {task_id}", "data": None}
        return 404, orjson.dumps({**error, "errors": []})
    return 200, orjson.dumps({"code": 0, "message": "success", "data": document(row)})


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """The ASGI callable."""
    if scope["type"] == "lifespan":
        await receive()
        await start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/healthz":
        code, body = 200, b"{}"
    else:
        code, body = await status(scope["query_string"].partition(b"=")[2].decode())
    head = {
        "type": "http.response.start",
        "status": code,
        "headers": [*HEADERS, (b"content-length", b"%d" % len(body))],
    }
    await send(head)
    await send({"type": "http.response.body", "body": body})
