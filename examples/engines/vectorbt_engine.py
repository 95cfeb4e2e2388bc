"""An engine of qtm on vectorbt (https://vectorbt.dev): whole arrays at once, compiled by numba.

python3 -m pip install 'vectorbt>=0.28'
QTM_TASKS_PER_PROCESS=200 python3 qtm.py serve --engine vectorbt_engine:run
echo '{"stock_code": "AAPL", "config": {"strategy": "sma_cross", "commission": 0.001},
       "params": {"fast": 10, "slow": 30}}' | python3 qtm.py submit - --wait
"""

import contextlib
import os
import pathlib
import urllib.parse

import pandas
import vectorbt

import qtm

vectorbt.settings.array_wrapper["freq"], vectorbt.settings.returns["year_freq"] = "1D", "252 days"


def validate(task):  # refuses at createTask what can never run
    fast, slow = task.params.get("fast"), task.params.get("slow")
    if not (type(fast) is type(slow) is int and 0 < fast < slow):
        raise qtm.InvalidTask("params.fast and params.slow must be whole numbers, 0 < fast < slow")
    if not qtm.price_file(task).exists():
        raise qtm.InvalidTask(f"there are no prices for {task.stock_code}: no file {qtm.price_file(task)}")


def run(task, progress):
    config = task.config
    bars = pandas.read_csv(qtm.price_file(task), index_col="Date", parse_dates=True)
    bars = bars[["Open", "Close"]].mul(bars["Adj Close"] / bars["Close"], axis=0)
    bars = bars.loc[config.get("start_date") : config.get("end_date")]
    fast, slow = (bars["Close"].rolling(task.params[name]).mean() for name in ("fast", "slow"))
    is_long = (fast > slow).shift(1, fill_value=False)  # decided at a close, traded at the next open
    costs = {"init_cash": config.get("initial_cash", 100_000), "fees": config.get("commission", 0)}
    found = vectorbt.Portfolio.from_signals(
        bars["Close"], is_long, ~is_long, price=bars["Open"], size_granularity=1, **costs
    )
    metrics = {
        "final_equity": found.final_value(), "total_return": found.total_return(), "bars": len(bars),
        "annual_return": found.annualized_return(), "annual_volatility": found.annualized_volatility(),
        "sharpe": found.sharpe_ratio(), "max_drawdown": found.max_drawdown(),
        "trades": found.trades.closed.count(), "win_rate": found.trades.win_rate(),
    }  # fmt: skip
    curve, trades = found.value(), found.trades.records_readable
    return {"metrics": metrics, "equity_curve": curve.set_axis(curve.index.date), "trades": trades}


run.version = f"sma_cross 1 on vectorbt {vectorbt.__version__}"  # raise the 1 when you change this file
run.validate, run.data_version = validate, qtm.price_data_version  # the SHA-256 of the price file

with contextlib.suppress(ValueError):  # without prices each process compiles for itself
    first = min(pathlib.Path(os.environ.get("QTM_DATA_DIR", qtm.Settings.data_dir)).glob("*.csv"))
    code = urllib.parse.unquote(first.stem)
    run(qtm.TaskRequest(code, {"commission": 0.001}, {"fast": 10, "slow": 30}), print)
