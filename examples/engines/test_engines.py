"""Each example engine under the service gives what its library gives when it is called directly, to the last digit.

Without a library its test is skipped and says so; with CI set that is an error. `.ci/run` installs the extra `engines` and runs this file.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.metadata
import math
import os
import pathlib
import re
import shlex
import shutil
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


@contextlib.contextmanager
def service(folder: pathlib.Path, *arguments: str, **environment: str):
    """A service in this folder, with copies of the example engines; gives its URL."""
    for file in ENGINES.glob("*_*.py"):
        shutil.copy(file, folder)
    port = private_mariadb.free_port()
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("QTM_", "PYTHON"))}
    command = [sys.executable, str(ROOT / "qtm.py"), "serve", *arguments]
    url, given = f"http://127.0.0.1:{port}", {**kept, "QTM_PORT": str(port), **environment}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=given, stderr=log)
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_ready(url):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            threading.Event().wait(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


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


DIRECT_RUNS = {  # the library, and a run of it without qtm
    "backtesting_py": ("backtesting", backtesting_directly),
    "backtrader_engine": ("backtrader", backtrader_directly),
    "vectorbt_engine": ("vectorbt", vectorbt_directly),
    "bt_engine": ("bt", bt_directly),
    "pandas_engine": ("pandas", pandas_directly),
}


@pytest.mark.parametrize("module", DIRECT_RUNS)
def test_an_example_engine_gives_what_its_library_gives_directly(module, tmp_path):
    name, directly = DIRECT_RUNS[module]
    library(name)
    with (
        service(tmp_path, "--engine", f"{module}:run", QTM_TASKS_PER_PROCESS="50") as url,
        qtm.connect(url) as tasks,
    ):
        batch = tasks.submit(STOCKS, {**CONFIG, **COSTS}, PARAMS)
        assert batch.wait(progress=False, timeout_seconds=DEADLINE_SECONDS).counts["completed"] == 8
        found = {(one.stock_code, one.params["fast"]): one.task_id for one in batch.tasks()}
        for code in STOCKS:
            for params in PARAMS:
                stored = tasks.get_task_result(found[code, params["fast"]])
                metrics, curve, trades = directly(code, **params)
                assert stored.result["metrics"] == metrics
                assert stored.result["equity_curve"] == curve
                assert stored.result["trades"] == trades
                assert (stored.non_finite, stored.converted) == ([], [])
        info = tasks.get_task_status(found["AAPL", 10])
        with pytest.raises(qtm.InvalidTask, match="0 < fast < slow"):
            tasks.submit("AAPL", CONFIG, {"fast": 30, "slow": 30})
        with pytest.raises(qtm.InvalidTask, match="no prices for NONE"):
            tasks.submit("NONE", CONFIG, PARAMS[0])
    version = importlib.metadata.version(name)
    assert info.engine_version == f"sma_cross 1 on {name} {version}"
    assert info.run_key, "it has a data_version"


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
def process_tasks(tmp_path):
    """A service whose engine is PROGRAM; its folder and a client."""
    program = tmp_path / "program.py"
    program.write_text(f"#!{sys.executable}\n{PROGRAM}")
    program.chmod(0o755)
    command = {"ENGINE_COMMAND": shlex.join([str(program)]), "QTM_MAX_ATTEMPTS": "1", "QTM_WORKERS": "2"}
    with (
        service(tmp_path, "--engine", "process_engine:run", **command) as url,
        qtm.connect(url) as tasks,
    ):
        yield tmp_path, tasks


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


def test_a_command_that_is_no_program_is_refused_at_the_start(tmp_path):
    shutil.copy(ENGINES / "process_engine.py", tmp_path)
    for command in ("", "no-such-program --fast"):
        environment = {**os.environ, "ENGINE_COMMAND": command, "QTM_ENGINE": "process_engine:run"}
        given = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        done = subprocess.run([sys.executable, str(ROOT / "qtm.py"), "check"], check=False, **given)
        assert done.returncode == 1
        assert f"ENGINE_COMMAND must be the command line of a program, and is {command!r}" in done.stdout


@pytest.mark.parametrize("file", sorted(ENGINES.glob("*_*.py")), ids=lambda file: file.stem)
def test_an_example_engine_is_short_and_says_how_to_serve_it(file):
    if file.name.startswith("test_"):
        return
    source = file.read_text()
    assert len(source.splitlines()) <= 60
    text = ast.get_docstring(ast.parse(source))
    assert f"python3 qtm.py serve --engine {file.stem}:run\n" in text
    assert "python3 qtm.py submit - --wait" in text
