"""How long a status takes while as many engines as the machine has cores compute without a pause, with one command.

    python3 bench/busy.py [--seconds 10] [--repeats 3]

A client asks for a status every 20 ms on one keep-alive connection, first of an idle service and then beside the engines:
as they run, and with their lower priority taken away. The cases take turns, and each figure is min - median - max over
the repeats. The exit code is 1 only for a wrong answer.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from load import quantile_of, spread, table
from service import Caller, WrongAnswer, await_engine, create_request, expect, poll, service, status_request

PACE_SECONDS = 0.02
ENGINE = """
import hashlib, os, time
import qtm

if os.environ.get("BENCH_NICE") == "0":  # this module is imported by the engine server alone, which forks the engines
    qtm._yield_to_the_service = lambda: None

def run(task, progress):
    block = bytes(50_000_000)
    end = time.monotonic() + task.params["seconds"]
    while time.monotonic() < end:
        hashlib.sha256(block).digest()
    return {}
"""
CASES: Mapping[str, Mapping[str, str]] = {
    "idle": {},
    "beside busy engines": {},
    "beside busy engines at the service's priority": {"BENCH_NICE": "0"},
}


def latencies_ms(caller: Caller, task_id: str, seconds: float) -> list[float]:
    """Of paced statuses, in ms."""
    request, found = status_request(caller.port, task_id), []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        caller.ask(request)
        found.append((time.perf_counter() - started) * 1000)
        time.sleep(PACE_SECONDS)
    return found


def measure(folder: Path, case: str, seconds: float) -> list[float]:
    """One service, one case."""
    cores = os.cpu_count() or 1
    environment = {
        **CASES[case],
        "QTM_ENGINE": "busy_engine:run",
        "PYTHONPATH": str(folder),
        "QTM_WORKERS": str(cores),
    }
    (folder / "busy_engine.py").write_text(ENGINE)
    (folder / "log").unlink(missing_ok=True)
    url = f"sqlite:///{folder}/{time.monotonic_ns()}.db"
    with service(url, folder, environment=environment) as server:
        await_engine(folder)
        caller = Caller(server.port)
        created, _ = caller.ask(
            create_request(server.port, cores, {"seconds": 0.0 if case == "idle" else seconds + 3.0}, "busy")
        )
        ids = created["task_ids"]
        wanted = ("completed",) if case == "idle" else ("running",)
        poll(
            lambda: all(caller.ask(status_request(server.port, one))[0]["status"] in wanted for one in ids),
            f"tasks that are {wanted[0]}",
        )
        found = latencies_ms(caller, ids[0], seconds)
        states = {caller.ask(status_request(server.port, one))[0]["status"] for one in ids}
        expect(states == set(wanted), f"the engines were {states} at the end, not {wanted}")
    return found


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(
        description="How long a status takes while all cores are busy with engines."
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of asking, in each case and repeat")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[list[float]]] = {case: [] for case in CASES}
    try:
        with tempfile.TemporaryDirectory(prefix="qtm-bench-") as name:
            for _ in range(options.repeats):
                for case in CASES:
                    found[case].append(measure(Path(name), case, options.seconds))
    except WrongAnswer as error:
        print(f"wrong: {error}")
        return 1
    rows = [
        [case, *(spread([quantile_of(one, quantile) for one in repeats], 2) for quantile in (0.5, 0.99, 1.0))]
        for case, repeats in found.items()
    ]
    print(
        f"getTaskStatus every {PACE_SECONDS * 1000:g} ms on {os.cpu_count()} cores, ms (min – median – max of {options.repeats})\n"
    )
    print(table(["case", "p50", "p99", "max"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
