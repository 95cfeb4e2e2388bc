"""The Flask application that bench/http_edge.py measures beside qtm; gunicorn serves ``create_app()`` with threads."""

from __future__ import annotations

import os

from flask import Flask, Response, request
from http_common import API, MAX_TASKS, STATUSES, ApiError, Service, invalid_request, parse_create, success

JSON = "application/json"


def _required(name: str) -> str:
    value: str = request.args.get(name, "")
    if not value:
        raise invalid_request([{"loc": (name,), "msg": "is missing"}])
    return value


def create_app() -> Flask:
    """The application; BENCH_DATABASE and BENCH_THREADS come from the environment."""
    app = Flask(__name__)
    service = Service(os.environ["BENCH_DATABASE"], pool_size=int(os.environ["BENCH_THREADS"]))

    @app.errorhandler(ApiError)
    def api_error(error: ApiError) -> Response:
        return Response(error.body, error.status, content_type=JSON)

    @app.get("/healthz")
    def healthz() -> Response:
        return Response(success({"status": "ok"}), content_type=JSON)

    @app.post(f"{API}/createTask")
    def create_task() -> Response:
        return Response(service.create(parse_create(request.get_data(cache=False))), 201, content_type=JSON)

    @app.get(f"{API}/getTaskStatus")
    def get_task_status() -> Response:
        return Response(service.status(_required("task_id")), content_type=JSON)

    @app.get(f"{API}/getTaskResult")
    def get_task_result() -> Response:
        return Response(service.result(_required("task_id")), content_type=JSON)

    @app.get(f"{API}/getTasksByBatch")
    def get_tasks_by_batch() -> Response:
        batch_id, statuses, limit = (
            _required("batch_id"),
            request.args.getlist("status"),
            request.args.get("limit", str(MAX_TASKS)),
        )
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= MAX_TASKS:
            raise invalid_request(
                [{"loc": ("limit",), "msg": f"must be a whole number from 1 to {MAX_TASKS}"}]
            )
        if not set(statuses) <= set(STATUSES):
            raise invalid_request([{"loc": ("status",), "msg": f"must be one of {', '.join(STATUSES)}"}])
        body = service.batch(
            batch_id, statuses, request.args.get("stock_code"), int(limit), request.args.get("cursor")
        )
        return Response(body, content_type=JSON)

    return app
