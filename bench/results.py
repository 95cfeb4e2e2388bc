"""What it costs to make JSON of a result: qtm beside plain `json.dumps`, `json.dumps(default=str)` and, where it is installed, orjson.

    python bench/results.py

Prints the CPU milliseconds of one conversion, least, median and most of 200, of a result of 2,000 points and 32 trades: plain, with one
Timestamp, and as a pandas frame. The others make no strict JSON of NaN, lose names or refuse what they do not know; a dash stands where one
refuses.
"""

from __future__ import annotations

import datetime
import gc
import importlib
import json
import math
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import qtm

POINTS, TRADES, ROUNDS = 2_000, 32, 200


def optional(name: str) -> Any:
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def results() -> dict[str, dict[str, Any]]:
    """The results that are converted."""
    first = datetime.date(2015, 1, 1)
    days = [(first + datetime.timedelta(days=day)).isoformat() for day in range(POINTS)]
    curve = [[day, 100_000 + 1_000 * math.sin(place / 50)] for place, day in enumerate(days)]
    trade = {
        "entry_date": days[0],
        "entry_price": 1.25,
        "exit_date": days[9],
        "exit_price": 2.5,
        "shares": 3,
        "profit": 3.75,
    }
    plain = {
        "metrics": {"sharpe": 1.25, "trades": TRADES, "win_rate": None},
        "equity_curve": curve,
        "trades": [trade] * TRADES,
    }
    found: dict[str, dict[str, Any]] = {
        "plain": plain,
        "one date": {**plain, "at": datetime.datetime(2015, 1, 1)},
        "one NaN": {**plain, "bad": math.nan},
    }
    pandas = optional("pandas")
    if pandas:
        found["one Timestamp"] = {**plain, "at": pandas.Timestamp("2015-01-01")}
        series = pandas.Series([value for _, value in curve], index=pandas.to_datetime(days))
        found["a Series by time"] = {**plain, "equity_curve": series}
        found["a frame by time"] = {
            **plain,
            "equity_curve": pandas.DataFrame({"equity": series, "cash": series, "shares": 3}),
        }
    return found


def cpu_ms(convert: Callable[[Any], Any], result: Any) -> str:
    """CPU time of one conversion; a dash where it is refused."""
    try:
        convert(result)
    except (TypeError, ValueError):
        return "-"
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        convert(result)
        times.append(1000 * (time.process_time() - start))
    return f"{min(times):.2f} {statistics.median(times):.2f} {max(times):.2f}"


def main() -> int:
    """Print the table."""
    converters: dict[str, Callable[[Any], Any]] = {
        "qtm": qtm.result_document,
        "json.dumps": json.dumps,
        "default=str": lambda result: json.dumps(result, default=str),
    }
    orjson = optional("orjson")
    if orjson:
        converters["orjson"] = lambda result: orjson.dumps(
            result, default=str, option=orjson.OPT_SERIALIZE_NUMPY
        )
    cases = results()
    gc.collect()
    gc.freeze()  # or each collection would look at what the libraries' imports made
    print(f"{'CPU ms: least, median, most':<28}" + "".join(f"{name:>20}" for name in converters))
    for name, result in cases.items():
        print(
            f"{name:<28}" + "".join(f"{cpu_ms(convert, result):>20}" for convert in converters.values()),
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
