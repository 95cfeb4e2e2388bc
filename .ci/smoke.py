"""Serve, create, result, stop: with this interpreter, on SQLite, with no package installed."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = {
    "strategy": "buy_and_hold",
    "start_date": "2005-01-03",
    "end_date": "2012-12-31",
    "initial_cash": 100000,
    "commission": 0.001,
}


def call(base: str, path: str, body: object = None) -> dict:
    """One request; the data of its answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=70) as response:
        return json.load(response)["data"]


def main() -> None:
    """Run it; any failure is an exception."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "QTM_PORT": str(port), "QTM_DATABASE_URL": f"sqlite:///{folder}/qtm.db"}
        service = subprocess.Popen(
            [sys.executable, str(ROOT / "qtm.py"), "serve"], cwd=folder, env=environment
        )
        try:
            base = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 20
            while True:
                try:
                    call(base, "/readyz")
                    break
                except OSError:
                    if time.monotonic() > deadline or service.poll() is not None:
                        raise
                    time.sleep(0.05)
            created = call(base, "/api/v1/backtest/createTask", {"stock_code": "AAPL", "config": CONFIG})
            found = call(base, f"/api/v1/backtest/getTaskResult?task_id={created['task_ids'][0]}&wait=30")
            metrics = found["result"]["metrics"]
            assert (metrics["bars"], metrics["final_equity"] > 0) == (2013, True), metrics
        finally:
            service.send_signal(signal.SIGTERM)
            code = service.wait(20)
        assert code == 0, code
    print(f"smoke run passed on Python {sys.version.split()[0]}: final equity {metrics['final_equity']:.2f}")


main()
