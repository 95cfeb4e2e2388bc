"""Each example engine under the service gives what its library gives when it is called directly, to the last digit.

Without a library its test is skipped and says so; with CI set that is an error. `.ci/run` installs the extra `engines` and runs this file.
"""

from __future__ import annotations

import ast
import contextlib
import csv
import importlib
import importlib.metadata
import math
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import private_mariadb
import pytest

import qtm

ROOT = pathlib.Path(qtm.__file__).parent
ENGINES = pathlib.Path(__file__).parent
PRICES = ROOT / "examples" / "prices"
STOCKS = ("AAPL", "GOOG", "IBM", "MSFT")
CONFIG = {"strategy": "sma_cross", "start_date": "2005-01-03", "end_date": "2012-12-31"}
COSTS = {"initial_cash": 100_000, "commission": 0.001}
PARAMS = [{"fast": 10, "slow": 30}, {"fast": 20, "slow": 50}]
DEADLINE_SECONDS = 300.0  # of each wait; generous, since numba compiles for half a minute on a busy machine


def library(name: str):
    """A library of an engine; without it a loud skip, and a failure under CI."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI is set and {name} is missing; install the extra engines: {error}")
        pytest.skip(f"ATTENTION, THE EXAMPLE ENGINE ON {name} IS NOT TESTED: {error}")


def is_ready(url: str) -> bool:
    with contextlib.suppress(urllib.error.URLError, OSError):
        return urllib.request.urlopen(f"{url}/readyz", timeout=30).status == 200
    return False


@pytest.fixture
def folder(tmp_path):
    """What a newcomer has: the files of qtm, and this Python as python3, for which all packages are installed."""
    found = tmp_path / "qtm"
    (found / "bin").mkdir(parents=True)
    for name in ("qtm.py", "dashboard.html"):
        shutil.copy(ROOT / name, found)
    shutil.copytree(ROOT / "examples", found / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    python = found / "bin" / "python3"
    python.write_text(f'#!/bin/sh\n[ "$1 $2" = "-m pip" ] || exec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return found


def environment(folder: pathlib.Path, **more: str) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("QTM_", "PYTHON"))}
    return {**kept, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **more}


def typed(folder: pathlib.Path, command: str, url: str = "") -> str:
    """What a shell prints when this is typed into it, with the URL of the service that it is about."""
    given = {"cwd": folder, "env": environment(folder, QTM_URL=url), "capture_output": True, "text": True}
    done = subprocess.run(["sh", "-e"], input=command, check=False, **given)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def service(folder: pathlib.Path, command: str, **more: str):
    """The service that this command starts, on a free port in place of 8080; gives its URL."""
    port, log = private_mariadb.free_port(), folder / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            ["sh", "-e", "-c", command],
            cwd=folder,
            env=environment(folder, QTM_PORT=str(port), **more),
            stderr=stderr,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_ready(f"http://127.0.0.1:{port}"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            threading.Event().wait(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(DEADLINE_SECONDS)


def usage(module: str) -> list[str]:
    """The commands in the docstring of an example engine: install, serve, submit."""
    text = ast.get_docstring(ast.parse((ENGINES / f"{module}.py").read_text()))
    return re.findall(r"^(?:.*python3 |echo )(?:.*,\n)?.*", text, re.MULTILINE)


def adjusted(code: str, *columns: str):
    """The bars of a stock in CONFIG's period, adjusted by Adj Close / Close; other code than the engines'."""
    pandas = library("pandas")
    bars = pandas.read_csv(PRICES / f"{code}.csv")
    bars = bars[(bars["Date"] >= CONFIG["start_date"]) & (bars["Date"] <= CONFIG["end_date"])]
    days = pandas.DatetimeIndex(bars["Date"])
    ratio = bars["Adj Close"] / bars["Close"]
    return pandas.DataFrame({name: (bars[name] * ratio).to_numpy() for name in columns}, index=days)


def curve_of(index, values) -> list[list]:
    return [[day.strftime("%Y-%m-%d"), float(value)] for day, value in zip(index, values, strict=True)]


def plain(value):
    """A cell of a library's table as JSON has it."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def records(frame) -> list[dict]:
    return [
        dict(zip(frame.columns, map(plain, row), strict=True))
        for row in frame.itertuples(index=False, name=None)
    ]


def backtesting_directly(code: str, fast: int, slow: int):
    backtesting = library("backtesting")

    class Cross(backtesting.Strategy):
        def init(self):
            closes = self.data.df["Close"]
            self.of_fast = self.I(lambda: closes.rolling(fast).mean().to_numpy(), name="fast")
            self.of_slow = self.I(lambda: closes.rolling(slow).mean().to_numpy(), name="slow")

        def next(self):
            is_above = self.of_fast[-1] > self.of_slow[-1]
            if is_above and not self.position:
                self.buy()
            if self.position and not is_above:
                self.position.close()

    bars = adjusted(code, "Open", "High", "Low", "Close")
    stats = backtesting.Backtest(
        bars, Cross, cash=COSTS["initial_cash"], commission=COSTS["commission"], finalize_trades=True
    ).run()
    metrics = {
        "final_equity": stats["Equity Final [$]"],
        "total_return": stats["Return [%]"] / 100,
        "annual_return": stats["Return (Ann.) [%]"] / 100,
        "annual_volatility": stats["Volatility (Ann.) [%]"] / 100,
        "sharpe": stats["Sharpe Ratio"],
        "max_drawdown": stats["Max. Drawdown [%]"] / 100,
        "exposure": stats["Exposure Time [%]"] / 100,
        "win_rate": stats["Win Rate [%]"] / 100,
        "trades": stats["# Trades"],
        "bars": len(bars),
    }
    equity, trades = stats["_equity_curve"]["Equity"], stats["_trades"]
    return metrics, curve_of(equity.index, equity), records(trades.drop(columns=["Duration"]))


def backtrader_directly(code: str, fast: int, slow: int):
    backtrader = library("backtrader")

    class Values(backtrader.Analyzer):
        """The equity at each close, from the broker itself."""

        def start(self):
            self.values = []

        def next(self):
            self.values.append(self.strategy.broker.getvalue())

        prenext = next

        def get_analysis(self):
            return self.values

    class Cross(backtrader.Strategy):
        def __init__(self):
            self.fast = backtrader.indicators.SimpleMovingAverage(self.data.close, period=fast)
            self.slow = backtrader.indicators.SimpleMovingAverage(self.data.close, period=slow)

        def next(self):
            if not self.position and self.fast[0] > self.slow[0]:
                self.buy()
            elif self.position and self.fast[0] <= self.slow[0]:
                self.close()

    bars = adjusted(code, "Open", "High", "Low", "Close")
    cerebro = backtrader.Cerebro(stdstats=False, runonce=False)
    cerebro.adddata(backtrader.feeds.PandasData(dataname=bars))
    cerebro.addstrategy(Cross)
    cerebro.addsizer(backtrader.sizers.PercentSizerInt, percents=95)
    cerebro.broker = backtrader.brokers.BackBroker(cash=COSTS["initial_cash"])
    cerebro.broker.setcommission(commission=COSTS["commission"])
    days = {"timeframe": backtrader.TimeFrame.Days, "annualize": True, "riskfreerate": 0.0}
    cerebro.addanalyzer(backtrader.analyzers.SharpeRatio, _name="sharpe", **days)
    cerebro.addanalyzer(backtrader.analyzers.DrawDown, _name="drawdown")
    cerebro.addanalyzer(backtrader.analyzers.TradeAnalyzer, _name="trades")
    cerebro.addanalyzer(backtrader.analyzers.PyFolio, _name="pyfolio")
    cerebro.addanalyzer(Values, _name="values")
    strategy = cerebro.run()[0]
    values = strategy.analyzers.values.get_analysis()
    metrics = {
        "final_equity": values[-1],
        "sharpe": strategy.analyzers.sharpe.get_analysis()["sharperatio"],
        "max_drawdown": -strategy.analyzers.drawdown.get_analysis().max.drawdown / 100,
        "trades": strategy.analyzers.trades.get_analysis().total.closed,
        "bars": len(bars),
    }
    _, _, orders, _ = strategy.analyzers.pyfolio.get_pf_items()
    days = orders.index.strftime("%Y-%m-%d")
    trades = [
        {"date": day, "shares": int(shares), "price": price}
        for day, shares, price in zip(days, orders["amount"], orders["price"], strict=True)
    ]
    return metrics, curve_of(bars.index, values), trades


def vectorbt_directly(code: str, fast: int, slow: int):
    vectorbt = library("vectorbt")
    bars = adjusted(code, "Open", "Close")
    is_above = bars["Close"].rolling(fast).mean() > bars["Close"].rolling(slow).mean()
    portfolio = vectorbt.Portfolio.from_signals(
        bars["Close"],
        entries=is_above.vbt.signals.fshift(1),
        exits=(~is_above).vbt.signals.fshift(1),
        price=bars["Open"],
        size_granularity=1,
        init_cash=COSTS["initial_cash"],
        fees=COSTS["commission"],
        freq="1D",
    )
    stats = portfolio.stats(settings={"year_freq": "252 days"})
    metrics = {
        "final_equity": stats["End Value"],
        "total_return": portfolio.total_return(),
        "annual_return": portfolio.annualized_return(year_freq="252 days"),
        "annual_volatility": portfolio.annualized_volatility(year_freq="252 days"),
        "sharpe": stats["Sharpe Ratio"],
        "max_drawdown": portfolio.max_drawdown(),
        "trades": stats["Total Closed Trades"],
        "win_rate": portfolio.trades.win_rate(),
        "bars": len(bars),
    }
    value = portfolio.value()
    return metrics, curve_of(value.index, value), records(portfolio.trades.records_readable)


def bt_directly(code: str, fast: int, slow: int):
    bt, pandas = library("bt"), library("pandas")
    closes = pandas.read_csv(PRICES / f"{code}.csv", index_col=0, parse_dates=[0])["Adj Close"]
    closes = closes[CONFIG["start_date"] : CONFIG["end_date"]].to_frame(code)
    is_above = (closes.rolling(fast).mean() > closes.rolling(slow).mean())[code].tolist()
    targets = {}  # of the days on which the weight changes, the day after the signal
    for day, was, now in zip(closes.index[2:], is_above, is_above[1:], strict=False):
        if was != now:
            targets[day] = {code: float(now)}
    target = pandas.DataFrame.from_dict(targets, orient="index")
    strategy = bt.Strategy("direct", [bt.algos.WeighTarget(target), bt.algos.Rebalance()])
    test = bt.Backtest(
        strategy,
        closes,
        initial_capital=COSTS["initial_cash"],
        commissions=lambda quantity, price: COSTS["commission"] * abs(quantity) * price,
        progress_bar=False,
    )
    result = bt.run(test)
    orders = result.get_transactions("direct")
    values = test.strategy.values.iloc[1:]  # the first row is bt's own, of the day before the first
    stats = result["direct"]
    metrics = {
        "final_equity": values.iloc[-1],
        "total_return": stats.total_return,
        "annual_return": stats.cagr,
        "annual_volatility": stats.daily_vol,
        "sharpe": stats.daily_sharpe,
        "max_drawdown": stats.max_drawdown,
        "trades": len(orders[orders.quantity < 0]),
        "bars": len(closes),
    }
    return metrics, curve_of(values.index, values), records(orders.reset_index())


def pandas_directly(code: str, fast: int, slow: int):
    """The same day by day in plain Python; pandas only for what is rounded by its own way of summing."""
    pandas = library("pandas")
    closes = pandas.read_csv(PRICES / f"{code}.csv", index_col="Date")["Adj Close"]
    closes = closes[CONFIG["start_date"] : CONFIG["end_date"]]
    is_above = [*(closes.rolling(fast).mean() > closes.rolling(slow).mean())]
    held = [0, *map(int, is_above[:-1])]
    growth, returns, trades = [1.0], [], []
    for i, (day, close) in enumerate(closes.items()):
        change = held[i] - held[i - 1] if i else 0
        gain = held[i - 1] * (close / closes.iloc[i - 1] - 1) if i else 0.0
        returns.append(gain - abs(change) * COSTS["commission"])
        growth.append(growth[-1] * (1 + returns[-1]))
        if change:
            trades.append({"date": f"{day}T00:00:00", "price": close, "side": float(change)})
    of_days, values = pandas.Series(returns), pandas.Series(growth[1:])
    curve = [[day, COSTS["initial_cash"] * value] for day, value in zip(closes.index, values, strict=True)]
    deviation = of_days.std()
    metrics = {
        "final_equity": curve[-1][1],
        "total_return": growth[-1] - 1,
        "annual_volatility": deviation * math.sqrt(252),
        "sharpe": of_days.mean() / deviation * math.sqrt(252),
        "max_drawdown": (values / values.cummax() - 1).min(),
        "exposure": sum(held) / len(held),
        "trades": sum(one["side"] < 0 for one in trades),
        "bars": len(held),
    }
    return metrics, curve, trades


def requirements(extra: str) -> set[str]:
    """What pyproject.toml says of an extra; tomllib is not in Python 3.10."""
    (listed,) = re.findall(
        rf"^{extra} = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    return set(re.findall('"(.*?)"', listed))


DIRECT_RUNS = {  # the library, and a run of it without qtm
    "backtesting_py": ("backtesting", backtesting_directly),
    "backtrader_engine": ("backtrader", backtrader_directly),
    "vectorbt_engine": ("vectorbt", vectorbt_directly),
    "bt_engine": ("bt", bt_directly),
    "pandas_engine": ("pandas", pandas_directly),
}


@pytest.mark.parametrize("module", DIRECT_RUNS)
def test_an_example_engine_gives_what_its_library_gives_directly(module, folder):
    """It is served and asked as its docstring says."""
    name, directly = DIRECT_RUNS[module]
    library(name)
    install, serve, submit = usage(module)
    shutil.copy(ENGINES / f"{module}.py", folder)
    with service(folder, serve, QTM_TASKS_PER_PROCESS="50") as url, qtm.connect(url) as tasks:
        (batch_id,) = typed(folder, submit, url).split()
        assert tasks.batch(batch_id).info().counts["completed"] == 1
        batch = tasks.submit(STOCKS, {**CONFIG, **COSTS}, PARAMS)
        assert batch.wait(progress=False, timeout_seconds=DEADLINE_SECONDS).counts["completed"] == 8
        for info in batch.tasks():
            found = tasks.get_task_result(info.task_id)
            metrics, curve, trades = directly(info.stock_code, **info.params)
            assert found.result["metrics"] == metrics
            assert found.result["equity_curve"] == curve
            assert found.result["trades"] == trades
            assert (found.non_finite, found.converted) == ([], [])
        with pytest.raises(qtm.InvalidTask, match="0 < fast < slow"):
            tasks.submit("AAPL", CONFIG, {"fast": 30, "slow": 30})
        with pytest.raises(qtm.InvalidTask, match="no prices for NONE"):
            tasks.submit("NONE", CONFIG, PARAMS[0])
        last = tasks.get_task_status(info.task_id)
    assert last.engine_version == f"sma_cross 1 on {name} {importlib.metadata.version(name)}"
    assert last.run_key, "it has a data_version"
    assert install.startswith("python3 -m pip install ")
    assert set(shlex.split(install)[4:]) <= requirements("engines")


PROGRAM = """
import json, os, pathlib, sys, time
task = json.load(sys.stdin)
todo = task["params"]["do"]
if todo == "sleep":
    pathlib.Path(f"{task['stock_code']}.pid").write_text(str(os.getpid()))
    print("progress 0.25 asleep", file=sys.stderr, flush=True)
    time.sleep(3600)
if todo in ("fail", "refuse"):
    print("progress 0.5", "no number: progress 2", "the prices are bad", sep="\\n", file=sys.stderr)
    sys.exit(65 if todo == "refuse" else 3)
if todo == "die":
    os.kill(os.getpid(), 9)
if todo == "fill":
    sys.stderr.write("x" * 300_000 + "\\n")
answer = {"metrics": {"sharpe": 1.25}, "text": "é" * 200_000, "asked": task}
print({"garble": "half of {", "list": "[1]", "say nothing": ""}.get(todo, json.dumps(answer, ensure_ascii=False)))
"""
FAULTS = {  # what the program does, and type and message of the task's error
    "fail": ("RuntimeError", "program.py ended with exit code 3: no number: progress 2\nthe prices are bad"),
    "refuse": (
        "invalid_task",
        "program.py ended with exit code 65: no number: progress 2\nthe prices are bad",
    ),
    "die": ("RuntimeError", "program.py ended with signal 9: nothing on stderr"),
    "garble": ("RuntimeError", "program.py printed no JSON but b'half of {\\n': Expecting value: line 1"),
    "list": ("invalid_result", "a result must be a mapping, not list"),
    "say nothing": ("RuntimeError", "program.py printed no JSON but b'\\n': Expecting value: line 2"),
}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def eventually(condition):
    """Poll until the condition gives something true, which is returned."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
    return found


@pytest.fixture
def process_tasks(folder):
    """A service whose engine is PROGRAM; its folder and a client."""
    program = folder / "program.py"
    program.write_text(f"#!{sys.executable}\n{PROGRAM}")
    program.chmod(0o755)
    shutil.copy(ENGINES / "process_engine.py", folder)
    (serve, _) = usage("process_engine")
    given = {"QTM_MAX_ATTEMPTS": "1", "QTM_WORKERS": "2"}
    with (
        service(folder, serve.replace("./my_program", str(program)), **given) as url,
        qtm.connect(url) as tasks,
    ):
        yield folder, tasks


def test_a_program_gets_the_task_and_its_answer_is_the_result(process_tasks):
    _, tasks = process_tasks
    batch = tasks.submit("平安银行", CONFIG, [{"do": "answer"}, {"do": "fill"}])
    batch.wait(progress=False, timeout_seconds=DEADLINE_SECONDS)
    for info in batch.tasks():
        found = tasks.get_task_result(info.task_id)
        assert info.metrics["sharpe"] == 1.25
        assert found.result["text"] == "é" * 200_000
        asked = found.result["asked"]
        assert (asked["stock_code"], asked["config"], asked["params"]) == ("平安银行", CONFIG, info.params)
        assert re.fullmatch(".*/program.py [0-9a-f]{12}", info.engine_version)
    assert batch.info().counts["completed"] == 2


def test_what_a_program_does_wrong_is_in_the_error_of_its_task(process_tasks):
    _, tasks = process_tasks
    batch = tasks.submit("AAPL", CONFIG, [{"do": name} for name in FAULTS], max_attempts=1)
    batch.wait(progress=False, timeout_seconds=DEADLINE_SECONDS)
    found = {one.params["do"]: tasks.get_task_status(one.task_id).error for one in batch.tasks()}
    for name, (kind, message) in FAULTS.items():
        assert found[name]["type"] == kind, found[name]
        assert message in found[name]["message"], found[name]


@pytest.mark.parametrize("ending", ["timeout", "cancel"])
def test_a_program_ends_with_its_attempt(process_tasks, ending):
    folder, tasks = process_tasks
    options = {"timeout_seconds": 20.0 if ending == "cancel" else 2.0}
    batch = tasks.submit("AAPL", CONFIG, {"do": "sleep"}, **options)
    file = folder / "AAPL.pid"
    pid = int(eventually(lambda: file.exists() and file.read_text()))
    if ending == "cancel":
        (task,) = batch.tasks()
        eventually(lambda: tasks.get_task_status(task.task_id).message == "asleep")
        batch.cancel()
    ended = batch.wait(progress=False, timeout_seconds=DEADLINE_SECONDS)
    assert ended.counts["failed" if ending == "timeout" else "cancelled"] == 1
    eventually(lambda: not is_alive(pid))


@pytest.mark.parametrize("command", ["", "no-such-program --fast"])
def test_a_command_that_is_no_program_is_refused_at_the_start(folder, command):
    shutil.copy(ENGINES / "process_engine.py", folder)
    check = f"ENGINE_COMMAND='{command}' python3 qtm.py check --engine process_engine:run || true"
    assert f"ENGINE_COMMAND must be the command line of a program, and is {command!r}" in typed(folder, check)


@pytest.mark.parametrize("module", [*DIRECT_RUNS, "process_engine"])
def test_an_example_engine_is_short(module):
    assert len((ENGINES / f"{module}.py").read_text().splitlines()) <= 60
    assert f"| `{module}.py` |" in GUIDE


# ---- docs/engines.md and the notebook


GUIDE = (ROOT / "docs" / "engines.md").read_text()


def blocks(kind: str) -> list[str]:
    """The fenced blocks of the guide of one kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def test_the_engine_of_the_guide_runs_as_it_is_typed(folder):
    (folder / "my_engine.py").write_text(blocks("python")[0])
    serve, submit, check = blocks("sh")[:3]
    assert "engine" in typed(folder, check)
    with service(folder, serve) as url, qtm.connect(url) as tasks:
        printed, shown = typed(folder, submit, url), blocks("text")[0].partition("…")[0]
        assert printed.startswith(shown), printed
        with pytest.raises(qtm.InvalidTask) as caught:
            tasks.submit("AAPL", {})
    assert [fault.field for fault in caught.value.errors] == ["params.window"]


def test_the_guide_serves_the_example_engines_as_their_docstrings_do():
    of_backtesting, submit, of_vectorbt = blocks("sh")[3:6]
    for module, block in (("backtesting_py", of_backtesting), ("vectorbt_engine", of_vectorbt)):
        install, serve, _ = usage(module)
        assert block == f"{install}\ncp examples/engines/{module}.py .\n{serve}\n"
    assert submit == usage("backtesting_py")[2] + "\n"


def test_the_program_of_the_guide_gives_the_return_of_its_prices(folder):
    with service(folder, blocks("sh")[6]) as url, qtm.connect(url) as tasks:
        batch = tasks.submit(STOCKS, {})
        batch.wait(progress=False, timeout_seconds=DEADLINE_SECONDS)
        for info in batch.tasks():
            found = tasks.get_task_result(info.task_id).result
            with (PRICES / f"{info.stock_code}.csv").open() as file:
                rows = [(row["Date"], float(row["Adj Close"])) for row in csv.DictReader(file)]
            assert found["equity_curve"] == [[*row] for row in rows]
            assert found["metrics"]["bars"] == len(rows)
            assert found["metrics"]["total_return"] == pytest.approx(rows[-1][1] / rows[0][1] - 1, rel=1e-12)


def test_the_notebook_runs_and_says_what_its_text_says(folder):
    nbformat, nbclient = library("nbformat"), library("nbclient")
    library("ipykernel")
    notebook = nbformat.read(folder / "examples" / "first_sweep.ipynb", 4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "it is stored without outputs"
    place = {"metadata": {"path": str(folder / "examples")}}
    nbclient.NotebookClient(notebook, timeout=DEADLINE_SECONDS, resources=place).execute()
    printed = "".join(
        output.get("text") or output["data"]["text/plain"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert "64 of 64 tasks ended" in printed
    assert (
        "best of 16 pairs: 0.799; without skill: 0.202\ndeflated Sharpe ratio: 0.889, it may well be luck"
        in printed
    )
    assert "rank correlation: -0.106" in printed, "the order did not survive"
    (command,) = re.findall(r"`(cd examples .*?)`", notebook.cells[-2].source)
    with service(folder, command) as url, qtm.connect(url) as tasks:
        batches, _ = tasks.list_batches()
        assert batches[-1].name == "2005 to 2008"
