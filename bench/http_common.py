"""What the FastAPI and the Flask application of bench/http_edge.py share: the rules of a request, the tables, the statements.

It is qtm's API as a team would build it from well-known parts: pydantic checks what comes in, SQLAlchemy Core over PyMySQL
reads and writes qtm's own tables, documents are parsed when they are read and written when the answer is. Tuned where tuning
is common knowledge: rows instead of mapped objects, reads in autocommit (one round trip), READ COMMITTED, one multi-row INSERT
for all tasks, pydantic's JSON writer in Rust, no access log. Left out is what no row of the benchmark needs and what would only
cost time: ``wait``, ``Idempotency-Key``, ``queue_position`` of pending tasks, tokens and the check of ``Host``.
"""

from __future__ import annotations

import datetime
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import sqlalchemy as sa
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json, to_json

API = "/api/v1/backtest"
MAX_TASKS = 100_000
DEFAULT_TIMEOUT_SECONDS = 3600.0
DEFAULT_MAX_ATTEMPTS = 3
Status = Literal["pending", "running", "completed", "failed", "cancelled"]
STATUSES: tuple[str, ...] = get_args(Status)
STATUS_TEXTS = {
    "pending": "Waiting for its turn.",
    "completed": "Completed; the result is ready.",
    "failed": "Failed; the error tells why.",
    "cancelled": "Cancelled; it will not run.",
}


# -- what a client may ask for
# -----------------------------------------------------------------------------------------


def _iso_date(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("must be a date, YYYY-MM-DD")
    return value


StockCode = Annotated[str, StringConstraints(pattern=r"^[^\p{C}\p{Z}](?:[^\p{C}]{0,62}[^\p{C}\p{Z}])?$")]
BatchId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
IsoDate = Annotated[datetime.date, BeforeValidator(_iso_date)]
Number = Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True, allow_inf_nan=False)]
Document = dict[str, Any]


class RunConfig(BaseModel):
    """``config`` of createTask; other keys pass through to the engine."""

    model_config = ConfigDict(extra="allow")

    strategy: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    start_date: IsoDate
    end_date: IsoDate
    initial_cash: Annotated[Number, Field(gt=0, le=1e15)]
    commission: Annotated[Number, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _in_order(self) -> RunConfig:
        if self.start_date > self.end_date:
            raise ValueError("start_date is after end_date")
        return self


class CreateRequest(BaseModel):
    """The body of createTask: every stock code x every params object."""

    model_config = ConfigDict(extra="forbid")

    stock_code: StockCode | None = None
    stock_codes: Annotated[list[StockCode], Field(min_length=1, max_length=MAX_TASKS)] | None = None
    config: RunConfig
    params: Document | Annotated[list[Document], Field(min_length=1)] = {}
    batch_id: BatchId | None = None
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    priority: Annotated[int, Field(strict=True, ge=-100, le=100)] = 0
    timeout_seconds: Annotated[Number, Field(ge=0.001, le=31_536_000)] | None = None
    max_attempts: Annotated[int, Field(strict=True, ge=1, le=100)] | None = None

    @model_validator(mode="after")
    def _one_way_of_naming(self) -> CreateRequest:
        if (self.stock_code is None) == (self.stock_codes is None):
            raise ValueError("give either stock_code or stock_codes")
        count = len(self.codes) * len(self.documents)
        if count > MAX_TASKS:
            raise ValueError(f"{count} tasks are more than {MAX_TASKS} in one request")
        return self

    @property
    def codes(self) -> list[str]:
        """The stock codes, one or many."""
        return self.stock_codes if self.stock_codes is not None else [self.stock_code or ""]

    @property
    def documents(self) -> list[Document]:
        """The parameters, one or many."""
        return self.params if isinstance(self.params, list) else [self.params]


# -- answers
# -----------------------------------------------------------------------------------------------------------


class ApiError(Exception):
    """An answer that is no success."""

    def __init__(
        self, status: int, number: int, error: str, message: str, errors: Sequence[dict[str, str]] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = to_json(
            {
                "code": status * 100 + number,
                "error": error,
                "message": message,
                "data": None,
                "errors": list(errors),
            }
        )


def success(data: Document) -> bytes:
    """The body of an answer that is one."""
    body: bytes = to_json({"code": 0, "message": "success", "data": data})
    return body


def invalid_request(faults: Sequence[Any]) -> ApiError:
    """400 with the path of every wrong field, from the errors of pydantic."""
    errors = [{"field": _path(fault["loc"]), "message": str(fault["msg"])} for fault in faults]
    return ApiError(400, 1, "invalid_request", f"{errors[0]['field']}: {errors[0]['message']}", errors)


def malformed_json(message: str) -> ApiError:
    """400 for a body that is not JSON."""
    return ApiError(400, 2, "malformed_json", message)


def _path(location: Sequence[str | int]) -> str:
    parts = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}"
        for part in location
        if part not in ("body", "query")
    )
    return parts.lstrip(".")


def parse_create(body: bytes) -> CreateRequest:
    """The request of a body. Raises ApiError."""
    try:
        request: CreateRequest = CreateRequest.model_validate_json(body)
        return request
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise (
            malformed_json(faults[0]["msg"])
            if faults[0]["type"] == "json_invalid"
            else invalid_request(faults)
        ) from None


# -- tables
# ------------------------------------------------------------------------------------------------------------

metadata = sa.MetaData()
Stamp = sa.DateTime()

batches = sa.Table(
    "backtest_batches",
    metadata,
    sa.Column("batch_id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(200)),
    sa.Column("created_at", Stamp, nullable=False),
)
tasks = sa.Table(
    "backtest_tasks",
    metadata,
    sa.Column("task_id", sa.CHAR(36), primary_key=True),
    sa.Column("batch_id", sa.String(64), nullable=False),
    sa.Column("stock_code", sa.String(32), nullable=False),
    sa.Column("config", sa.Text, nullable=False),
    sa.Column("params", sa.Text, nullable=False),
    sa.Column("status", sa.String(9), nullable=False),
    sa.Column("progress", sa.Double, nullable=False),
    sa.Column("message", sa.String(500), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("attempt_limit", sa.Integer, nullable=False),
    sa.Column("timeout_seconds", sa.Double, nullable=False),
    sa.Column("priority_rank", sa.Integer, nullable=False),
    sa.Column("created_at", Stamp, nullable=False),
    sa.Column("run_at", Stamp, nullable=False),
    sa.Column("started_at", Stamp),
    sa.Column("finished_at", Stamp),
    sa.Column("worker_id", sa.String(190)),
    sa.Column("heartbeat", sa.BigInteger, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("engine_version", sa.String(100)),
)
results = sa.Table(
    "backtest_results",
    metadata,
    sa.Column("task_id", sa.CHAR(36), primary_key=True),
    sa.Column("result", sa.Text, nullable=False),
    sa.Column("non_finite", sa.Text, nullable=False),
    sa.Column("converted", sa.Text),
)

ranked = sa.Table(
    "backtest_metrics",
    metadata,
    sa.Column("batch_id", sa.String(64), primary_key=True),
    sa.Column("task_id", sa.CHAR(36), primary_key=True),
    sa.Column("metrics", sa.Text),
)

SHOWN = [column for column in tasks.c if column.name not in ("attempt_limit", "heartbeat")]
SHOWN.append(ranked.c.metrics)
OF_TASK = (ranked.c.batch_id == tasks.c.batch_id) & (ranked.c.task_id == tasks.c.task_id)
WITH_METRICS = tasks.outerjoin(ranked, OF_TASK)
BY_ID = sa.select(*SHOWN).select_from(WITH_METRICS).where(tasks.c.task_id == sa.bindparam("task_id"))
BY_ID_WITH_RESULT = (
    sa.select(*SHOWN, results.c.result, results.c.non_finite, results.c.converted)
    .select_from(WITH_METRICS.outerjoin(results, results.c.task_id == tasks.c.task_id))
    .where(tasks.c.task_id == sa.bindparam("task_id"))
)
BATCH = sa.select(batches).where(batches.c.batch_id == sa.bindparam("batch_id"))
COUNTS = (
    sa.select(tasks.c.status, sa.func.count(), sa.func.sum(tasks.c.progress))
    .where(tasks.c.batch_id == sa.bindparam("batch_id"))
    .group_by(tasks.c.status)
)


def _iso(stamp: datetime.datetime | None) -> str | None:
    return None if stamp is None else stamp.isoformat(timespec="microseconds") + "Z"


def _status_text(status: str, attempt: int, progress: float) -> str:
    if status == "pending" and attempt:
        return f"Waiting to be tried again, after attempt {attempt}."
    if status == "running":
        return f"Running on the engine, attempt {attempt}, {progress:.0%} done."
    return STATUS_TEXTS[status]


UNUSED: Document = {"run_key": None, "drift": False, "created_by": None, "result_of": None}  # by its tasks


def _task(row: Sequence[Any]) -> Document:
    """A row of SHOWN as the API shows it."""
    (
        task_id,
        batch_id,
        stock_code,
        config,
        params,
        status,
        progress,
        message,
        attempt,
        max_attempts,
        timeout_seconds,
        rank,
    ) = row[:12]
    created_at, run_at, started_at, finished_at, worker_id, error, engine_version, metrics = row[12:20]
    return {
        "task_id": task_id,
        "batch_id": batch_id,
        "stock_code": stock_code,
        "config": from_json(config),
        "params": from_json(params),
        "status": status,
        "status_text": _status_text(status, attempt, progress),
        "progress": progress,
        "message": message,
        "attempt": attempt,
        "max_attempts": max_attempts,
        "timeout_seconds": timeout_seconds,
        "priority": -rank,
        "created_at": _iso(created_at),
        "run_at": _iso(run_at),
        "started_at": _iso(started_at),
        "finished_at": _iso(finished_at),
        "worker_id": worker_id,
        "error": None if error is None else from_json(error),
        "engine_version": engine_version,
        "metrics": None if metrics is None else from_json(metrics),
        **UNUSED,
    }


def new_ids(count: int) -> list[str]:
    """UUIDs of version 7, so that keys arrive in order, as with uuid.uuid7 of newer Pythons; those of one
    call ascend."""
    head = f"{time.time_ns() // 1_000_000:012x}"
    first = int.from_bytes(os.urandom(3), "big") >> 1
    tail = os.urandom(6 * count).hex()
    ids = []
    for i in range(count):
        counter = first + i  # 24 bits and a carry at most, in the 26 after the milliseconds
        low = 0x8000 | counter & 0x3FFF
        ids.append(f"{head[:8]}-{head[8:]}-7{counter >> 14:03x}-{low:04x}-{tail[12 * i : 12 * i + 12]}")
    return ids


class Service:
    """The four operations; each takes checked input and gives the body of its answer. Thread-safe. Raises
    ApiError."""

    def __init__(self, url: str, pool_size: int) -> None:
        options: Document = {
            "pool_size": pool_size,
            "max_overflow": 0,
            "connect_args": {"charset": "utf8mb4", "ssl_disabled": True},
        }
        # Every use ends its transaction itself, so that the pool's ROLLBACK would be a round trip for
        # nothing. Reads have none.
        options["pool_reset_on_return"] = None
        self._readers = sa.create_engine(
            url, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True, **options
        )
        self._writers = sa.create_engine(url, isolation_level="READ COMMITTED", **options)

    def create(self, request: CreateRequest) -> bytes:
        """createTask: one transaction for the batch and all tasks."""
        documents = [to_json(document).decode() for document in request.documents]
        ids = new_ids(len(request.codes) * len(documents) + 1)
        batch_id, task_ids = request.batch_id or ids[0], ids[1:]
        now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
        attempts = request.max_attempts or DEFAULT_MAX_ATTEMPTS
        shared = {
            "batch_id": batch_id,
            "config": request.config.model_dump_json(),
            "status": "pending",
            "progress": 0.0,
            "message": "",
            "attempt": 0,
            "max_attempts": attempts,
            "attempt_limit": attempts,
            "timeout_seconds": float(request.timeout_seconds or DEFAULT_TIMEOUT_SECONDS),
            "priority_rank": -request.priority,
            "created_at": now,
            "run_at": now,
            "heartbeat": 0,
        }
        pairs = [(code, document) for code in request.codes for document in documents]
        rows = [
            {**shared, "task_id": task_id, "stock_code": code, "params": document}
            for task_id, (code, document) in zip(task_ids, pairs, strict=True)
        ]
        with self._writers.begin() as connection:
            known = request.batch_id and connection.execute(BATCH, {"batch_id": batch_id}).first()
            if not known:
                connection.execute(
                    sa.insert(batches), {"batch_id": batch_id, "name": request.name, "created_at": now}
                )
            connection.execute(sa.insert(tasks), rows)
        return success({"batch_id": batch_id, "count": len(task_ids), "task_ids": task_ids})

    def status(self, task_id: str) -> bytes:
        """getTaskStatus."""
        with self._readers.connect() as connection:
            row = connection.execute(BY_ID, {"task_id": task_id}).first()
        if row is None:
            raise ApiError(404, 1, "task_not_found", f"there is no task {task_id!r}")
        return success({**_task(row), "queue_position": None, "waiting_for": None})

    def result(self, task_id: str) -> bytes:
        """getTaskResult."""
        with self._readers.connect() as connection:
            row = connection.execute(BY_ID_WITH_RESULT, {"task_id": task_id}).first()
        if row is None:
            raise ApiError(404, 1, "task_not_found", f"there is no task {task_id!r}")
        if row.status in ("pending", "running"):
            raise ApiError(409, 1, "task_not_finished", f"the task is {row.status}: it has no result yet")
        is_completed = row.status == "completed"
        result, non_finite = (
            (from_json(row.result), from_json(row.non_finite)) if is_completed else (None, [])
        )
        converted = from_json(row.converted) if row.converted else []
        return success({**_task(row), "result": result, "non_finite": non_finite, "converted": converted})

    def batch(
        self, batch_id: str, statuses: Sequence[str], stock_code: str | None, limit: int, cursor: str | None
    ) -> bytes:
        """getTasksByBatch: the batch with its counts and a page of its tasks."""
        page = (
            sa.select(*SHOWN)
            .select_from(WITH_METRICS)
            .where(tasks.c.batch_id == batch_id)
            .order_by(tasks.c.task_id)
            .limit(limit + 1)
        )
        if statuses:
            page = page.where(tasks.c.status.in_(statuses))
        if stock_code:
            page = page.where(tasks.c.stock_code == stock_code)
        if cursor:
            page = page.where(tasks.c.task_id > cursor)
        counts = dict.fromkeys(STATUSES, 0)
        with self._readers.connect() as connection:
            found = connection.execute(BATCH, {"batch_id": batch_id}).first()
            if found is None:
                raise ApiError(404, 2, "batch_not_found", f"there is no batch {batch_id!r}")
            rows = connection.execute(page).all()
            if statuses or stock_code or cursor or len(rows) > limit:
                groups = connection.execute(COUNTS, {"batch_id": batch_id}).all()
                counts.update({status: count for status, count, _ in groups})
                done = sum(part for *_, part in groups)
            else:
                counts.update(Counter(row[5] for row in rows))
                done = sum(row[6] for row in rows)
        summary = {
            "batch_id": batch_id,
            "name": found.name,
            "created_at": _iso(found.created_at),
            "total": sum(counts.values()),
            "counts": counts,
            "progress": round(done / max(1, sum(counts.values())), 6),
            "created_by": None,
            "tasks_per_second": None,  # of a batch that runs, which none of the bench does
            "eta_seconds": None,
        }
        shown = [_task(row) for row in rows[:limit]]
        return success(
            {**summary, "tasks": shown, "next_cursor": shown[-1]["task_id"] if len(rows) > limit else None}
        )
