"""The FastAPI application that bench/http_edge.py measures beside qtm; uvicorn serves it by `--factory`.

`threaded` has plain ``def`` endpoints, which FastAPI runs in its pool of threads, as its documentation advises for a driver that
blocks. `direct` has ``async def`` endpoints that call the database where they stand: one request at a time, no change of
threads, which is the faster of the two when the database answers within a millisecond.
"""

import os
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from http_common import (
    API,
    MAX_TASKS,
    ApiError,
    CreateRequest,
    Service,
    Status,
    invalid_request,
    malformed_json,
    success,
)

JSON = "application/json"
THREADS = 40  # of FastAPI's pool; a connection for each, so that none waits for one

TaskId = Annotated[str, Query(min_length=1)]


def _application() -> FastAPI:
    """What both have in common: errors in the envelope, and the probe."""
    app = FastAPI(title="backtest tasks")

    @app.exception_handler(ApiError)
    async def api_error(request: Request, error: ApiError) -> Response:
        return Response(error.body, error.status, media_type=JSON)

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        faults = error.errors()
        is_malformed = faults[0]["type"] == "json_invalid"
        failure = malformed_json(faults[0]["msg"]) if is_malformed else invalid_request(faults)
        return Response(failure.body, failure.status, media_type=JSON)

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response(success({"status": "ok"}), media_type=JSON)

    return app


def direct() -> FastAPI:
    """Endpoints on the event loop."""
    app, service = _application(), Service(os.environ["BENCH_DATABASE"], pool_size=1)

    @app.post(f"{API}/createTask")
    async def create_task(body: CreateRequest) -> Response:
        return Response(service.create(body), 201, media_type=JSON)

    @app.get(f"{API}/getTaskStatus")
    async def get_task_status(task_id: TaskId) -> Response:
        return Response(service.status(task_id), media_type=JSON)

    @app.get(f"{API}/getTaskResult")
    async def get_task_result(task_id: TaskId) -> Response:
        return Response(service.result(task_id), media_type=JSON)

    @app.get(f"{API}/getTasksByBatch")
    async def get_tasks_by_batch(
        batch_id: Annotated[str, Query(min_length=1)],
        status: Annotated[list[Status], Query()] = [],  # noqa: B006 - FastAPI copies it
        stock_code: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_TASKS)] = MAX_TASKS,
        cursor: str | None = None,
    ) -> Response:
        return Response(service.batch(batch_id, status, stock_code, limit, cursor), media_type=JSON)

    return app


def threaded() -> FastAPI:
    """Endpoints on FastAPI's threads."""
    app, service = _application(), Service(os.environ["BENCH_DATABASE"], pool_size=THREADS)

    @app.post(f"{API}/createTask")
    def create_task(body: CreateRequest) -> Response:
        return Response(service.create(body), 201, media_type=JSON)

    @app.get(f"{API}/getTaskStatus")
    def get_task_status(task_id: TaskId) -> Response:
        return Response(service.status(task_id), media_type=JSON)

    @app.get(f"{API}/getTaskResult")
    def get_task_result(task_id: TaskId) -> Response:
        return Response(service.result(task_id), media_type=JSON)

    @app.get(f"{API}/getTasksByBatch")
    def get_tasks_by_batch(
        batch_id: Annotated[str, Query(min_length=1)],
        status: Annotated[list[Status], Query()] = [],  # noqa: B006 - FastAPI copies it
        stock_code: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_TASKS)] = MAX_TASKS,
        cursor: str | None = None,
    ) -> Response:
        return Response(service.batch(batch_id, status, stock_code, limit, cursor), media_type=JSON)

    return app
