"""Runs wrk, the HTTP load generator in C, and takes exact figures from it.

wrk (https://github.com/wg/wrk) corrects its latencies for coordinated omission: below each one that is longer than twice the
mean interval between answers of a connection, it counts others that would have been seen had it kept sending. That says
something about open loads, but not what these clients saw; `measured` takes the addition out again.
"""

from __future__ import annotations

import json
import resource
import subprocess
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 30  # wrk keeps a counter for every microsecond of it

DONE = """
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\\nRESULT {"duration":%d,"requests":%d,"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}',
    summary.duration, summary.requests, errors.connect, errors.read, errors.write, errors.status, errors.timeout), ',"latencies":[')
  for place = 1, #latency do
    local value, count = latency(place)
    io.write(string.format("%s[%d,%d]", place > 1 and "," or "", value, count))
  end
  io.write("]}\\n")
end
"""

GETS = """
local requests, place = {}, 0
function init(arguments)
  for target in io.lines("FOLDER/targets") do requests[#requests + 1] = wrk.format("GET", target) end
end
function request()
  place = place % #requests + 1
  return requests[place]
end
"""

POST = """
wrk.method, wrk.path = "POST", "TARGET"
wrk.headers["Content-Type"] = "application/json"
wrk.body = assert(io.open("FOLDER/body", "rb")):read("*a")
"""


@dataclass(frozen=True)
class WrkResult:
    """What wrk saw. Latencies are in nanoseconds, sorted; wrk itself counts microseconds."""

    latencies_ns: Sequence[int]
    seconds: float
    error_count: int
    errors: str
    client_cpu_seconds: float


def measured(counts: Sequence[tuple[int, int]], interval: int) -> list[tuple[int, int]]:
    """The latencies (value, count) without what wrk added, which is: for each one of at least twice the
    interval, one more at every step of an interval below it, down to the interval itself."""
    remaining, added = dict(counts), dict[int, int]()
    for value in sorted(remaining, reverse=True):
        count = remaining[value] = remaining[value] - added.pop(value, 0)
        if count and interval > 0 and value >= 2 * interval:
            for lower in range(value - interval, interval, -interval):
                added[lower] = added.get(lower, 0) + count
    return [(value, count) for value, count in sorted(remaining.items()) if count]


def run_wrk(
    wrk: str,
    port: int,
    targets: Sequence[str],
    body: bytes | None,
    connections: int,
    seconds: int,
    folder: Path,
) -> WrkResult:
    """GETs of the targets in turn, or POSTs of the body to the only one. Raises RuntimeError when wrk
    fails."""
    if body is None:
        (folder / "targets").write_text("\n".join(targets))
        script = GETS
    else:
        (folder / "body").write_bytes(body)
        script = POST.replace("TARGET", targets[0])
    (folder / "script.lua").write_text(script.replace("FOLDER", str(folder)) + DONE)
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={TIMEOUT_SECONDS}s", "--latency"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command += ["-s", str(folder / "script.lua"), f"http://127.0.0.1:{port}/"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    _, found, text = done.stdout.partition("\nRESULT ")
    if done.returncode or not found:
        raise RuntimeError(f"wrk failed with {done.returncode}: {done.stderr[-1000:]}{done.stdout[-1000:]}")
    result = json.loads(text.splitlines()[0])
    counts = [(value, count) for value, count in result["latencies"]]
    rounds = result["requests"] // connections
    interval = result["duration"] // rounds if rounds else 0
    latencies = array("q")
    for value, count in measured(counts, interval):
        latencies.extend([value * 1000] * count)
    if len(latencies) != result["requests"] - result["errors"]["timeout"]:
        raise RuntimeError(
            f"wrk answered {result['requests']} requests and has {len(latencies)} latencies of them"
        )
    return WrkResult(
        latencies,
        result["duration"] / 1e6,
        sum(result["errors"].values()),
        json.dumps({name: count for name, count in result["errors"].items() if count}),
        after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
    )
