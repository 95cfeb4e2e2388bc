"""What a request body of many small values costs the service: time, memory at its peak, and memory that stays.

    python3 bench/body_values.py                          # a few seconds
    python3 bench/body_values.py --code ../before/qtm.py  # the same of another version

`qtm.py serve --no-scheduler` on SQLite gets one create whose body is 8 MiB of `[],[],…`, and is asked for its health meanwhile.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

import fill
from load import ServerProcess, call
from private_mariadb import free_port

ROOT = Path(__file__).resolve().parent.parent
BODY_BYTES = 8 * 1024 * 1024
SETTLE_SECONDS = 3.0  # until what the request left in the heap is given back


def resident_mb(pid: int) -> tuple[float, float]:
    """Resident memory of a process now and at its peak, in MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    now, peak = (int(re.findall(rf"{name}:\s+(\d+) kB", text)[0]) / 1000 for name in ("VmRSS", "VmHWM"))
    return now, peak


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, str, float]:
    """Status, the beginning of the answer, and seconds."""
    started = time.perf_counter()
    status, text = call(port, method, path, body)
    return status, text[:150], time.perf_counter() - started


def main() -> None:
    """Start, send, and print a line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--code", default=str(ROOT / "qtm.py"), help="the qtm.py to measure")
    options = parser.parse_args()
    head = f'{{"stock_code":"A","config":{json.dumps(fill.CONFIG)},"params":{{"x":['.encode()
    text = head + b",".join([b"[]"] * ((BODY_BYTES - len(head)) // 3 - 1)) + b"]}}"
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {"QTM_DATABASE_URL": f"sqlite:///{folder}/q.db", "QTM_PORT": str(port)}
        command = [sys.executable, options.code, "serve", "--no-scheduler"]
        with ServerProcess(command, environment, port, Path(folder, "log"), "/readyz") as server:
            before, _ = resident_mb(server.pid)
            waits: list[float] = []
            is_over = threading.Event()

            def watch() -> None:
                while not is_over.is_set():
                    waits.append(ask(port, "GET", "/healthz")[2])

            watcher = threading.Thread(target=watch)
            watcher.start()
            status, answer, seconds = ask(port, "POST", "/api/v1/backtest/createTask", text)
            is_over.set()
            watcher.join()
            time.sleep(SETTLE_SECONDS)
            after, peak = resident_mb(server.pid)
    print(f"{len(text)} bytes: {status} in {seconds:.2f} s; /healthz meanwhile {max(waits):.3f} s at most")
    print(f"resident: {before:.0f} MB before, {peak:.0f} MB at the peak, {after:.0f} MB afterwards")
    print(answer)


if __name__ == "__main__":
    main()
