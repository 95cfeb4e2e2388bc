"""A Galera cluster of three nodes behind HAProxy, with the settings of examples/deploy/haproxy.cfg.

python bench/cluster.py --seconds 60 shows how long writes stand still when the writer, or the majority, is lost, and then
runs the fault campaign on such a cluster; with --seconds 0 it does the first alone.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence

from campaign import API, CONFIG, ROOT, Campaign, Findings, GaleraTarget, Replica
from private_mariadb import PrivateMariaDB, die_with_parent, free_port

DEPLOY = ROOT / "examples" / "deploy"
LOST_SECONDS = 20.0  # how long a node, or the majority, is away
REST_SECONDS = 8.0  # until HAProxy uses the node that returned again


class Balancer:
    """HAProxy, and galera_check.py for each node, on free ports of loopback. A context manager."""

    def __init__(self, nodes: Sequence[PrivateMariaDB]) -> None:
        self._nodes, self.port = nodes, free_port()
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="qtm-haproxy-"))
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Balancer:
        text = (DEPLOY / "haproxy.cfg").read_text().replace("127.0.0.1:3307", f"127.0.0.1:{self.port}")
        text = re.sub(" +(user|group) haproxy\n", "", text).replace(":8404", f":{free_port()}")
        commands = list[list[str]]()
        for number, node in enumerate(self._nodes, 1):
            check = free_port()
            place = rf"(server node{number}) \S+ check"
            text = re.sub(place, rf"\1 127.0.0.1:{node.port} check port {check}", text)
            client = ["--no-defaults", "--host=127.0.0.1", f"--port={node.port}", "--user=root", "--skip-ssl"]
            command = [sys.executable, str(DEPLOY / "galera_check.py"), "--host=127.0.0.1", f"--port={check}"]
            commands.append([*command, "--", *client])
        (self._folder / "haproxy.cfg").write_text(text)
        path = f"{os.environ['PATH']}:/usr/sbin"
        commands.append(
            [shutil.which("haproxy", path=path) or "haproxy", "-f", str(self._folder / "haproxy.cfg")]
        )
        quiet = subprocess.DEVNULL
        self._processes = [
            subprocess.Popen(one, stderr=quiet, preexec_fn=die_with_parent) for one in commands
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        shutil.rmtree(self._folder)


class BalancedTarget(GaleraTarget):
    """The cluster of the campaign, whose services know HAProxy alone."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        """Start the nodes, and HAProxy before them."""
        super().start()
        balancer = self._stack.enter_context(Balancer(self._cluster.nodes))
        self.url = f"mysql://root@127.0.0.1:{balancer.port}/qtm"

    def remove(self) -> None:
        """End all."""
        self._stack.close()
        super().remove()


def create(port: int, stopped: threading.Event, moments: list[float]) -> None:
    """Create a task 20 times a second; note when each was acknowledged."""
    document = json.dumps({"stock_code": "X", "config": CONFIG}).encode()
    url, headers = f"http://127.0.0.1:{port}{API}/createTask", {"Content-Type": "application/json"}
    request = urllib.request.Request(url, document, headers)
    while not stopped.wait(0.05):
        with contextlib.suppress(OSError, http.client.HTTPException):  # 503 is one
            urllib.request.urlopen(request, timeout=40).read()
            moments.append(time.monotonic())


def measure_gap(kind: str, target: BalancedTarget, replica: Replica) -> float:
    """How long creates stand still in one fault."""
    replica.start()  # anew, so that it writes to the node that is struck
    stopped, moments = threading.Event(), list[float]()
    threading.Thread(target=create, args=(replica.port, stopped, moments), daemon=True).start()
    while not moments:
        time.sleep(0.1)
    target._next = 2  # so that the first node is struck, to which HAProxy sends all while it is there
    started, fault = time.monotonic(), target.faults[kind][0](LOST_SECONDS)
    time.sleep(next(fault))
    next(fault, None)  # puts things right
    time.sleep(REST_SECONDS)
    stopped.set()
    later = [started, *(moment for moment in moments if moment >= started), time.monotonic()]
    return max(after - before for before, after in itertools.pairwise(later))


def measure_gaps(folder: pathlib.Path) -> None:
    """Print how long writes stand still in each fault."""
    target = BalancedTarget()
    (folder / "tmp").mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(target.remove)
        target.start()
        for number, kind in enumerate(target.faults):
            replica = Replica(folder, "gaps", number, target, Findings(), ["--no-scheduler"])
            stack.callback(replica.remove)
            gap = measure_gap(kind, target, replica)
            print(f"{kind} for {LOST_SECONDS:g} s: writes stood still for {gap:.1f} s", flush=True)


def main() -> int:
    """Run from the command line; 1 when the campaign found something."""
    parser = argparse.ArgumentParser(description="A Galera cluster behind HAProxy, with faults.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the campaign (default 60; 0: none)")
    parser.add_argument("--seed", type=int, default=7, help="of its plan (default 7)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qtm-cluster-") as folder:
        measure_gaps(pathlib.Path(folder))
    if not options.seconds:
        return 0
    with tempfile.TemporaryDirectory(prefix="qtm-cluster-") as folder:
        plan = options.seconds, options.seed, 3, pathlib.Path(folder), 1
        report = Campaign(BalancedTarget(), *plan).run()
    print(report.line(), *report.evidence, sep="\n  ")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
