"""Writes docs/http.md from /openapi.json, with examples that it runs and the answers that they get.

    python docs/make_http.py

What differs from run to run (ids, times, the machine) is replaced by fixed values, so that the same qtm makes the
same page; a test compares them.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "http.md"
API = "/api/v1/backtest"
START_SECONDS = 60.0  # until a service answers
WIDTH = 110  # of a line of an answer

HEAD = """# HTTP reference

<!-- Made by docs/make_http.py: change that, and run it. -->

Every endpoint with its parameters, an example and the answer that it got. A service describes itself the
same way at `/openapi.json` (OpenAPI 3.1, which generators of clients and API browsers read), and this page
is made from that. What the parts of a sweep and of a ranking mean is in [sweeps.md](sweeps.md).

The examples run as they stand, after these two lines (`python3 qtm.py serve` runs in another
terminal):

```sh
api=http://127.0.0.1:8080/api/v1/backtest
last() { curl -s "$api/listTasks?limit=1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"]["tasks"][0]["task_id"])'; }
```

`$(last)` is the id of the task that was created last. In the answers below, lists are cut to two items, and
ids, times and what depends on the machine are examples.

## Requests and answers

HTTP/1.1, JSON, UTF-8. Success is `{"code": 0, "message": "success", "data": …}`. A failure has the HTTP
status, a [code](#errors), and in `errors` every fault of the request with its field:

```sh
$ERROR_COMMAND
```

```json
$ERROR_ANSWER
```

- With tokens set, send `Authorization: Bearer TOKEN`. Tokens of `QTM_READ_TOKEN` may only read.
- A write is `POST` with `Content-Type: application/json`, and a page of another origin cannot make one.
  `HEAD` is answered wherever `GET` is. An unknown path is 404; another method is 405 with `Allow`.
- Every answer has an `X-Request-Id`: the client's own if it sent one of 1 to 64 letters, digits, `.`, `_`
  and `-`. The log has it too. 429 and 503 have `Retry-After`.
- With `wait` (seconds, up to 60) the answer comes when the task or batch ends: at once if it ends in this
  replica, within a second if in another. Waiting costs neither a thread nor a database connection. Half of
  `QTM_MAX_CONNECTIONS` may wait; further requests are answered at once with the current state.
- Lists are pages: `next_cursor` asks for the next one, and is null on the last. A page ends when `limit`
  tasks or 8 MiB are reached.
- Bounds: a body of 8 MiB (`QTM_MAX_BODY_BYTES`) and 1,000,000 commas, brackets and braces; its `config` and `params` times its
  tasks 64 MiB; a head of 16 KiB and 64 fields. JSON is strict: no duplicate keys, no NaN, at most 64
  levels.

## Endpoints

The paths without a slash are under `/api/v1/backtest/`.

$LIST
"""

CREATE = """curl -s $api/createTask -H 'Content-Type: application/json' -d '{
  "batch_id": "first", "stock_codes": ["AAPL", "MSFT"],
  "config": {"strategy": "sma_cross", "start_date": "2005-01-03", "end_date": "2012-12-31"},
  "sweep": {"grid": {"fast": [10, 20], "slow": [50, 100]}}}'"""
JSON_BODY = "-H 'Content-Type: application/json' -d"
HOST = "http://127.0.0.1:8080"
# In the order in which they run. Of a service without a scheduler where tasks must not end by themselves.
EXAMPLES: Mapping[str, str] = {
    "createTask": CREATE,
    "getTasksByBatch": 'curl -s "$api/getTasksByBatch?batch_id=first&status=completed&limit=1&wait=60"',
    "getTaskStatus": 'curl -s "$api/getTaskStatus?task_id=$(last)&wait=10"',
    "getTaskResult": 'curl -s "$api/getTaskResult?task_id=$(last)"',
    "getTaskAttempts": 'curl -s "$api/getTaskAttempts?task_id=$(last)"',
    "getRunCard": 'curl -s "$api/getRunCard?task_id=$(last)"',
    "listTasks": 'curl -s "$api/listTasks?status=completed&stock_code=MSFT&limit=1"',
    "listBatches": 'curl -s "$api/listBatches?limit=1"',
    "rankTasks": 'curl -sG "$api/rankTasks?batch_id=first&by=sharpe&limit=2" --data-urlencode "where=fast<20"',
    "exportTasks": 'curl -s "$api/exportTasks?batch_id=first&fields=stock_code,fast,slow,sharpe"',
    "getCurves": 'curl -s "$api/getCurves?task_id=$(last)&points=50"',
    "/healthz": f"curl -s {HOST}/healthz",
    "/readyz": f"curl -s {HOST}/readyz",
    "/metrics": f"curl -s {HOST}/metrics | grep '^qtm_tasks{{'",
    "/openapi.json": f"curl -s {HOST}/openapi.json -o openapi.json",
    "/": f"curl -s {HOST}/ -o page.html",
    "deleteTask": f"""curl -s $api/deleteTask {JSON_BODY} "{{\\"task_id\\": \\"$(last)\\"}}\"""",
    "deleteBatch": f"""curl -s $api/deleteBatch {JSON_BODY} '{{"batch_id": "first"}}'""",
    "cancelTask": f"""curl -s $api/cancelTask {JSON_BODY} '{{"batch_id": "first"}}'""",
    "retryTask": f"""curl -s $api/retryTask {JSON_BODY} '{{"batch_id": "first", "status": ["failed", "cancelled"]}}'""",
}
WITHOUT_SCHEDULER = ("cancelTask", "retryTask")
ERROR_COMMAND = f"""curl -s $api/createTask {JSON_BODY} '{{"stock_code": 7, "config": {{"start_date": "2005-02-30"}}, "prams": {{}}}}'"""

# What a schema cannot say.
NOTES: Mapping[str, str] = {
    "createTask": "At most 100,000 tasks, stock-major; the answer for more than 10,000 has no `task_ids`. "
    "Give `stock_code` or `stock_codes`, `config`, and `params` or "
    "`sweep`; or `rerun` in place of stock codes and params. 201 where tasks were created; 200 for a dry run, and for a "
    "repeated `Idempotency-Key`, which gets the first answer again, but for ids that are deleted.",
    "getTaskStatus": "A pending task also has `queue_position` (in a long queue, as of the last quarter of a second) and "
    "`waiting_for`.",
    "getTasksByBatch": "`tasks_per_second` counts tasks that complete or fail, by the last 200 that did; it and "
    "`eta_seconds` are null while none runs or has ended lately. Counts of a batch of 20,000 and more tasks may be a "
    "second old, on pages after the first a minute.",
    "cancelTask": "Of one task: the task. Cancelling twice is no error. The processes of a running task get SIGTERM, and "
    "SIGKILL two seconds later; where another replica runs it, up to `QTM_HEARTBEAT_SECONDS` later.",
    "retryTask": "Of one task: the task. `status` goes with `batch_id`.",
    "deleteTask": "A batch without tasks is deleted with its last one.",
    "deleteBatch": "In short transactions: after an error send it again for the rest.",
    "getTaskAttempts": "The newest 100 attempts.",
    "getRunCard": "`seed` is that of `params`, else of `config`.",
    "rankTasks": "Tasks without the metric come last. A name in `where` is a metric, else a parameter of that name, or "
    "`stock_code`; it is compared with a number or a text. A page is kept for a minute while the counts of the batch stay.",
    "exportTasks": "In the order of creation, streamed: each page of 1,000 tasks is read when the client has taken the one "
    "before, and shows its tasks as they are then. CSV (RFC 4180, UTF-8) has a column for each parameter and metric, "
    "1,000 at most, with `metrics.` before a name that is taken. A field is one of the task's, or `params.`, `metrics.`, "
    "`config.` or `error.` with a name, or the name of a parameter or else a metric. An export that fails ends without "
    "its last chunk.",
    "getCurves": "`[time, value]` each, `null` where a result has none: the first and last point, and the least and "
    "greatest of equally long stretches (min-max aggregation as in Jugel et al., *M4*, VLDB 2014); gaps stay gaps.",
    "/": "`dashboard.html`, which lies beside `qtm.py`.",
    "/healthz": "For a liveness probe: it looks at nothing but the process. Any `Host` is accepted, and a query is ignored.",
    "/readyz": "For a readiness probe, with any `Host`. `scheduler` is null on a replica without one.",
    "/metrics": "A holder of a read token may ask it. It answers without the database too (`qtm_database_up 0`).",
}
WORDS: Mapping[str, str] = {  # of fields and errors, in place of the description there
    "unauthorized": "The bearer token is missing or wrong.",
    "internal_error": "A fault inside qtm; the log has it with its traceback.",
    "invalid_task": "The engine refuses the task; `errors` may name fields.",
    "database_busy": "Too many conflicts with other transactions; nothing was applied.",
    "DryRun.count": "Tasks that a create would make.",
    "DryRun.stock_codes": "The first ten.",
    "DryRun.params": "The first ten.",
    "DryRun.skipped": "Tasks that `invalid` of `skip` would leave out.",
    "DryRun.refused": "Tasks that the engine refuses.",
    "DryRun.refusals": "The first ten: `stock_code`, `params`, `message`.",
    "DryRun.estimate_seconds": "By recent tasks of the same strategy; null where there are none.",
    "Task.max_attempts": "So many attempts may fail.",
    "Task.timeout_seconds": "Of one attempt.",
    "Task.priority": "Higher first.",
    "Task.status": "`pending`, `running`, `completed`, `failed` or `cancelled`.",
    "TaskAttempt.exit_signal": "Such as `SIGKILL`.",
    "TaskAttempt.max_rss_bytes": "Peak memory.",
    "RunCard.engine": "As `QTM_ENGINE` names it.",
    "RunCard.python": "Its version.",
    "RunCard.qtm": "Its version.",
    "RunCard.host": "On which it ran.",
    "RunCard.max_rss_bytes": "Peak memory.",
    "Ranking.stat": "Of a grouped ranking.",
    "TaskError.type": "See [operate.md](operate.md).",
    "TaskError.attempt": "Which attempt it was.",
    "Rerun.order": "Whether the greatest or the least are the best.",
    "Batch.counts": "Tasks by status.",
    "RankedRow.drift": "Of the task, or of any task of the group.",
    "Task.task_id": "A UUIDv7: ordered by time.",
    "Task.status_text": "The status as a sentence.",
    "Task.progress": "As the engine says it; never falls within an attempt.",
    "Task.message": "What the engine last said; empty when it has completed.",
    "Task.metrics": "The numbers of the result's `metrics`.",
    "Task.attempt": "How often it was claimed. A claim that was released counts here, and not against `max_attempts`.",
    "Task.run_at": "When it may be started; later than now after a failed attempt.",
    "Task.started_at": "When the engine began the last attempt.",
    "Task.worker_id": "The scheduler that runs it: host, pid and a random part.",
    "Task.engine_version": "What the engine calls itself.",
    "Task.error": "Of the last failed attempt: `type`, `message`, `attempt`, `traceback`.",
    "CreateTask.batch_id": "Of a batch that is there: adds to it. Made by the service where none is given.",
    "CreateTask.name": "Of the batch, for people.",
    "CreateTask.priority": "Higher first.",
    "CreateTask.timeout_seconds": "Of one attempt; `QTM_TASK_TIMEOUT_SECONDS` where none is given.",
    "CreateTask.max_attempts": "`QTM_MAX_ATTEMPTS` where none is given.",
    "CreateTask.stock_code": "A name of 1 to 64 printable characters, compared exactly.",
    "CreateTask.stock_codes": "Such names.",
    "CreateTask.config": "The run; which keys it must hold is up to the engine.",
    "CreateTask.params": "One set of the strategy's parameters, or a list of sets.",
    "CreateTask.sweep": "A grid in place of params.",
    "CreateTask.rerun": "The best of another batch in place of stock codes and params.",
    "Sweep.grid": "A list, a range or one value for each name.",
    "Sweep.where": "Conditions such as `fast < slow`.",
    "Rerun.top": "So many tasks, or sets of params.",
    "Rerun.by": "The metric, or a parameter such as `params.fast`.",
    "Rerun.group": "`params`: all tasks of the best params.",
    "Rerun.stat": "Over the stocks of a group.",
    "Rerun.where": "As in rankTasks.",
    "RankedRow.value": "Of a grouped row: its statistic. Rows of tasks have `metrics` instead.",
    "RankedRow.count": "Stocks in the group.",
    "RankedRow.missing": "Stocks whose task did not complete.",
    "RankedRow.other": "With `against`: the value in the other batch.",
    "RankedRow.deflated_sharpe": "The probability that the true ratio exceeds `expected_max_sharpe`.",
    "Ranking.trials": "Completed tasks, or sets of params, with a Sharpe ratio.",
    "Ranking.expected_max_sharpe": "Of the best of so many trials without any skill.",
    "Ranking.rank_correlation": "With `against`: Spearman's.",
    "Ranking.warnings": "What makes rows incomparable.",
    "TaskAttempt.ending": "Null while it runs.",
    "TaskAttempt.output_tail": "The end of what the engine printed.",
    "Batch.progress": "The mean of its tasks.",
    "Created.count": "Tasks of this request.",
    "Created.skipped": "That the engine refused, with `invalid` of `skip`.",
    "CreateTask.invalid": "`skip` leaves out the tasks that the engine refuses; `refuse` refuses the create.",
}
OBJECTS = (
    "CreateTask", "Sweep", "Range", "Rerun", "Created", "DryRun", "Task", "TaskError", "TaskAttempt", "Batch",
    "Ranking", "RankedRow", "RunCard",
)  # fmt: skip
TAKES = {
    "CreateTask": "The body is [CreateTask](#createtask).",
    "Selection": "The body has `task_id` or `batch_id`.",
    "RetryTask": "The body has `task_id`, or `batch_id` and perhaps `status`: `failed` (the default), `cancelled`, or "
    "a list of both.",
    "DeleteTask": "The body has `task_id`.",
    "DeleteBatch": "The body has `batch_id`.",
}
ERRORS = """## Errors

What to do about each is in [operate.md](operate.md). Those with * can come from every endpoint of the API, or from
every write.

| HTTP | code | error | meaning |
|---|---|---|---|
"""
PLAIN = {
    **dict.fromkeys(("Metrics", "Params", "Config", "CreateConfig", "Grid", "Distribution"), "object"),
    **{"Status": "status", "StatusCounts": "object", "Refusal": "object", "Ending": "text"},
}
VOLATILE: Mapping[str, Any] = {
    "worker_id": "research-1:4711:0f7c2a91b3d5",
    "host": "research-1",
    "python": "3.11.7",
    "distribution": None,
    "cpu_seconds": 0.031,
    "max_rss_bytes": 24117248,
    "last_poll_age_seconds": 0.2,
    "activity": "idle",
    "tasks_per_second": None,
    "eta_seconds": None,
}


# ---- A service, and commands against it ----


@contextlib.contextmanager
def service(folder: str, *flags: str, **settings: str) -> Iterator[str]:
    """The address of a service that keeps its data in this folder."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    kept = {name: text for name, text in os.environ.items() if not name.startswith("QTM_")}
    database = f"sqlite:///{folder}/{len(os.listdir(folder))}.db"
    environment = {**kept, **settings, "QTM_PORT": str(port), "QTM_DATABASE_URL": database}
    command = [sys.executable, str(ROOT / "qtm.py"), "serve", *flags]
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/readyz", timeout=10).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def printed(command: str, url: str, folder: str) -> str:
    """What a command of the page prints against this service."""
    preamble = "\n".join(re.findall(r"^(?:api=|last\(\)).*$", HEAD, re.MULTILINE))
    text = f"{preamble}\n{command}".replace(HOST, url)
    return subprocess.run(["sh", "-ec", text], cwd=folder, capture_output=True, text=True, check=True).stdout


# ---- An answer as the page shows it ----


def steady(value: Any, ids: dict[str, str]) -> Any:
    """The value without what differs from run to run; lists have two items, numbers six digits."""
    if isinstance(value, dict):
        return {
            name: VOLATILE[name] if name in VOLATILE and one is not None else steady(one, ids)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [steady(one, ids) for one in value[:2]]
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f-]{36}", value):
        return ids.setdefault(value, f"01a20e10-0a3e-7000-b6f5-58b207e8f9{len(ids):02x}")
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", value):
        return "2026-01-05T09:30:00.000000Z"
    return value


def pretty(value: Any, indent: str = "") -> str:
    """JSON with an object or list on one line where it fits."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + len(indent) <= WIDTH or not isinstance(value, (dict, list)):
        return line
    more = indent + "  "
    if isinstance(value, list):
        return "[\n" + ",\n".join(more + pretty(one, more) for one in value) + f"\n{indent}]"
    rows = [""]
    for name, one in value.items():  # as many short members on a line as fit
        text = f"{json.dumps(name)}: {pretty(one, more)}, "
        if rows[-1] and ("\n" in text or "\n" in rows[-1] or len(more + rows[-1] + text) > WIDTH):
            rows.append("")
        rows[-1] += text
    return "{\n" + "\n".join(more + row.rstrip() for row in rows).rstrip(",") + f"\n{indent}}}"


def shown(answer: str, ids: dict[str, str]) -> str:
    """A block with this answer."""
    try:
        return f"```json\n{pretty(steady(json.loads(answer), ids))}\n```\n"
    except ValueError:
        return f"```text\n{''.join(answer.splitlines(keepends=True)[:4])}```\n" if answer else ""


# ---- The description as tables ----


def cell(text: str) -> str:
    """A text in a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("``", "`")


def kind_of(schema: Mapping[str, Any]) -> str:
    """What a schema takes, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if name in OBJECTS else PLAIN.get(name, name)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind_of(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(one) if one is None else one}`" for one in schema["enum"])
    if found := re.fullmatch(r"\^\(\?:([a-z]+(?:\|[a-z]+)+|[a-z]+)\)\$", schema.get("pattern", "")):
        return ", ".join(f"`{one}`" for one in found[1].split("|"))
    if schema.get("type") == "array":
        return f"list of {kind_of(schema['items'])}"
    types = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", ["anything"])
    names = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    words = " or ".join(names.get(one, one) for one in types)
    low, high = schema.get("minimum"), schema.get("maximum", schema.get("exclusiveMaximum"))
    if schema.get("format") in ("date", "date-time"):
        words = words.replace("text", {"date": "date", "date-time": "time"}[schema["format"]])
    if low is not None and high is not None:
        words += (
            f" {low:,} to {high:,}"
            if isinstance(low, int) and isinstance(high, int)
            else f" {low:g} to {high:g}"
        )
    elif low is not None and low > 0:
        words += f" from {low:,}"
    return words


def fields(name: str, schema: Mapping[str, Any]) -> str:
    """The table of an object."""
    lines = ["| field | takes | default | meaning |", "|---|---|---|---|"]
    if name not in ("CreateTask", "Sweep", "Range", "Rerun"):
        lines = ["| field | is | meaning |", "|---|---|---|"]
    for field, one in schema["properties"].items():
        same = "Task" if name == "RunCard" else name
        words = WORDS.get(f"{name}.{field}") or one.get("description") or WORDS.get(f"{same}.{field}", "")
        parts = [f"`{field}`", kind_of(one)]
        if len(lines[0].split("|")) == 6:
            parts.append(f"`{json.dumps(one['default'])}`" if "default" in one else "")
        lines.append(f"| {' | '.join(map(cell, [*parts, words]))} |")
    return "\n".join(lines) + "\n"


def parameters(operation: Mapping[str, Any]) -> str:
    """The table of an operation's parameters."""
    lines = ["| parameter | takes | default | meaning |", "|---|---|---|---|"]
    for one in operation["parameters"]:
        schema = one["schema"]
        kind = kind_of(schema) + (", repeatable" if schema.get("type") == "array" else "")
        default = "needed" if one["required"] else f"`{schema['default']}`" if "default" in schema else ""
        name = f"`{one['name']}`" + (" (header)" if one["in"] == "header" else "")
        lines.append(f"| {' | '.join(map(cell, (name, kind, default, one['description'])))} |")
    return "\n".join(lines) + "\n" if operation["parameters"] else ""


def errors_of(operation: Mapping[str, Any]) -> set[str]:
    """The names of the errors that it may answer."""
    names = [one["$ref"].rpartition("/")[2] for one in operation["responses"].values() if "$ref" in one]
    return {error for name in names for error in name.split(".")}


def section(path: str, method: str, operation: Mapping[str, Any], answer: str) -> str:
    """One endpoint, without its errors."""
    name = path.removeprefix(f"{API}/")
    summary = cell(operation["summary"])
    words = f"{summary[0].upper()}{summary[1:]}. {NOTES.get(name, '')}".strip()
    parts = [f"### {method} {name}\n", f"{words}\n"]
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        parts.append(TAKES[schema.rpartition("/")[2]] + "\n")
    parts += [parameters(operation)] if operation["parameters"] else []
    parts += [f"```sh\n{EXAMPLES[name]}\n```\n", *([answer] if answer else [])]
    return "\n".join(parts)


def page(document: Mapping[str, Any], answers: Mapping[str, str], refusal: str) -> str:
    """The page, from the description and from what the examples printed."""
    schemas = document["components"]["schemas"]
    operations = [(path, *one) for path, found in document["paths"].items() for one in found.items()]
    listed = schemas["Failure"]["properties"]["code"]["description"].splitlines()
    errors = sorted(line[2:].replace(":", "", 1).split(" ", 2) for line in listed if line[:2] == "- ")
    codes = {name: code for code, name, _ in errors}
    common = set.intersection(*(errors_of(one) for path, _, one in operations if path.startswith(API)))
    common |= set.intersection(*(errors_of(one) for _, method, one in operations if method == "post"))
    sections, links = list[str](), list[str]()
    for path, method, operation in operations:
        name = path.removeprefix(f"{API}/")
        own = [
            f"{codes[error]} {error}"
            for error in sorted(errors_of(operation) - common, key=codes.__getitem__)
        ]
        sections.append(section(path, method.upper(), operation, answers[name]))
        if own and path.startswith(API):
            sections.append(f"Errors: {', '.join(own)}, and [those of every endpoint](#errors).\n")
        title = f"{method.upper()} {name}"
        links.append(f"[{title}](#{re.sub(r'[^a-z-]', '', title.lower().replace(' ', '-'))})")
    head = HEAD.replace("$ERROR_COMMAND", ERROR_COMMAND).replace("```json\n$ERROR_ANSWER\n```\n", refusal)
    objects = [f"### {name}\n\n{fields(name, schemas[name])}" for name in OBJECTS]
    rows = [
        f"| {code[:3]} | {code} | {name}{'*' * (name in common)} | {cell(WORDS.get(name, words))} |"
        for code, name, words in errors
    ]
    parts = [
        head.replace("$LIST", ",\n".join(links)),
        *sections,
        "## Objects\n",
        *objects,
        ERRORS + "\n".join(rows),
    ]
    return "\n".join(parts) + "\n"


def make() -> str:
    """Run the examples, and make the page."""
    answers: dict[str, str] = {}
    ids: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        with service(folder, "--no-scheduler", QTM_API_TOKEN="of-this-page") as url:
            document = json.loads(printed(f"curl -s {HOST}/openapi.json", url, folder))
        with service(folder) as running, service(folder, "--no-scheduler") as resting:
            printed(CREATE, resting, folder)
            refusal = shown(printed(ERROR_COMMAND, running, folder), ids)
            for name, command in EXAMPLES.items():
                url = resting if name in WITHOUT_SCHEDULER else running
                answers[name] = shown(printed(command, url, folder), ids)
    return page(document, answers, refusal)


if __name__ == "__main__":
    PAGE.write_text(make())
