"""What the page of a batch of 100,000 takes: its first paint, another sort, a filter, a jump to the middle, in Chromium.

    python3 bench/page.py [--rows 100000] [--databases sqlite,mariadb] [--rounds 5]

Fills a SQLite file and a private MariaDB by SQL, starts a service for each round, so that no answer is kept, and prints the milliseconds
that a person waits: from the address or the click until the rows stand in the window. Needs selenium, chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import fill
import selenium.webdriver.chrome.service
from rank import database
from selenium import webdriver
from service import service

GOALS_MS = {"first paint": 1000, "sort by another column": 1000}
WATCH = """
const look = () => document.querySelector(".board td a")
  ? requestAnimationFrame(() => setTimeout(() => (window.painted = performance.now()))) : requestAnimationFrame(look);
requestAnimationFrame(look);
"""
UNTIL = """
const [act, holds, done] = arguments;
const isDone = new Function(`return ${holds}`), started = performance.now();
new Function(act)();
const look = () => isDone() ? setTimeout(() => done(performance.now() - started)) : requestAnimationFrame(look);
requestAnimationFrame(look);
"""
TITLE = """[...document.querySelectorAll(".board th a")].find((one) => one.textContent === "{}")"""
SORTED = """document.querySelector(".board:not(.busy) [aria-sort]")?.textContent === "{}" """
FILTERED = """document.querySelector(".board:not(.busy)") && document.querySelector("table").ariaRowCount !== window.before"""


@contextlib.contextmanager
def browser(folder: str) -> Iterator[webdriver.Chrome]:
    """A headless Chromium that tells when the first rows are painted."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    switches = [
        "--headless=new",
        "--no-first-run",
        "--window-size=1400,900",
        f"--user-data-dir={folder}/profile",
    ]
    for switch in switches + (["--no-sandbox"] if os.geteuid() == 0 else []):
        options.add_argument(switch)
    driver = selenium.webdriver.chrome.service.Service(executable_path=shutil.which("chromedriver"))
    chromium = webdriver.Chrome(options=options, service=driver)
    try:
        chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        chromium.set_script_timeout(60)
        yield chromium
    finally:
        chromium.quit()


def measure(chromium: webdriver.Chrome, port: int, rows: int, found: dict[str, list[float]]) -> int:
    """One visit; how many elements the page has at its end."""

    def wait(name: str, act: str, holds: str) -> None:
        found.setdefault(name, []).append(chromium.execute_async_script(UNTIL, act, holds))

    chromium.get("about:blank")
    chromium.get(f"http://127.0.0.1:{port}/#/batch/{fill.batch_id(0)}")
    script = (
        "const done = arguments[0], look = () => window.painted ? done(painted) : setTimeout(look, 5); look()"
    )
    found.setdefault("first paint", []).append(chromium.execute_async_script(script))
    for title in ("Max drawdown", "Trades"):
        wait("sort by another column", f"{TITLE.format(title)}.click()", SORTED.format(title))
    middle = "const board = document.querySelector('.board'); board.scrollTo(0, board.scrollHeight / 2)"
    wait(
        "jump to the middle", middle, f"document.querySelector('.board tr[aria-rowindex=\"{rows // 2}\"] a')"
    )
    over = "window.before = document.querySelector('table').ariaRowCount; document.querySelector('[type=checkbox]').click()"
    wait("over stocks", over, FILTERED)
    elements: int = chromium.execute_script("return document.querySelectorAll('*').length")
    return elements


def report(kind: str, found: dict[str, list[float]], elements: int) -> None:
    """Print a line for each wait."""
    for name, values in found.items():
        goal = GOALS_MS.get(name)
        verdict = f"  goal {goal}{'' if statistics.median(values) <= goal else '  OVER'}" if goal else ""
        ends = f"min {min(values):7.1f}  max {max(values):7.1f}"
        print(f"{kind}: {name:26} p50 {statistics.median(values):7.1f}  {ends}{verdict}", flush=True)
    print(f"{kind}: {elements} elements in the page")


def main() -> None:
    """Measure both databases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--databases", default="sqlite,mariadb")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()}")
    for kind in options.databases.split(","):
        with tempfile.TemporaryDirectory() as folder, database(kind, folder) as (url, _):
            fill.fill(url, options.rows, is_one_batch=True, with_metrics=True)
            found: dict[str, list[float]] = {}
            flags: list[Any] = ["--no-scheduler"] if kind != "sqlite" else []
            with browser(folder) as chromium:
                for _ in range(options.rounds):
                    with service(url, pathlib.Path(folder), flags) as server:
                        elements = measure(chromium, server.port, options.rows, found)
            report(kind, found, elements)


if __name__ == "__main__":
    main()
