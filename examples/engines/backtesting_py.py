"""An engine of qtm on backtesting.py (https://kernc.github.io/backtesting.py): orders, bar by bar, of one stock.

python3 -m pip install 'backtesting>=0.6'
python3 qtm.py serve --engine backtesting_py:run
echo '{"stock_code": "AAPL", "config": {"strategy": "sma_cross", "commission": 0.001},
       "params": {"fast": 10, "slow": 30}}' | python3 qtm.py submit - --wait
"""

import os

os.environ.setdefault("TQDM_DISABLE", "1")  # or each backtest logs the library's progress bar
import backtesting
import pandas

import qtm

METRICS = {"final_equity": "Equity Final [$]", "total_return": "Return [%]", "trades": "# Trades",
           "annual_return": "Return (Ann.) [%]", "annual_volatility": "Volatility (Ann.) [%]",
           "sharpe": "Sharpe Ratio", "max_drawdown": "Max. Drawdown [%]", "win_rate": "Win Rate [%]",
           "exposure": "Exposure Time [%]"}  # fmt: skip


class SmaCross(backtesting.Strategy):
    fast = slow = 0

    def init(self):
        close = self.data.Close.s
        self.quick = self.I(close.rolling(self.fast).mean, name="fast")
        self.calm = self.I(close.rolling(self.slow).mean, name="slow")

    def next(self):
        if (self.quick[-1] > self.calm[-1]) != bool(self.position):
            self.position.close() if self.position else self.buy()


def validate(task):  # refuses at createTask what can never run
    fast, slow = task.params.get("fast"), task.params.get("slow")
    if not (type(fast) is type(slow) is int and 0 < fast < slow):
        raise qtm.InvalidTask("params.fast and params.slow must be whole numbers, 0 < fast < slow")
    if not qtm.price_file(task).exists():
        raise qtm.InvalidTask(f"there are no prices for {task.stock_code}: no file {qtm.price_file(task)}")


def run(task, progress):
    config = task.config
    bars = pandas.read_csv(qtm.price_file(task), index_col="Date", parse_dates=True)
    bars = bars[["Open", "High", "Low", "Close"]].mul(bars["Adj Close"] / bars["Close"], axis=0)
    bars = bars.loc[config.get("start_date") : config.get("end_date")]
    progress(0.1, f"{len(bars)} bars read")
    costs = {"cash": config.get("initial_cash", 100_000), "commission": config.get("commission", 0)}
    found = backtesting.Backtest(bars, SmaCross, **costs, finalize_trades=True).run(**task.params)
    metrics = {name: found[key] / 100 if "%" in key else found[key] for name, key in METRICS.items()}
    metrics["bars"] = len(bars)
    curve, trades = found["_equity_curve"]["Equity"], found["_trades"].drop(columns="Duration")
    return {"metrics": metrics, "equity_curve": curve.set_axis(curve.index.date), "trades": trades}


run.version = f"sma_cross 1 on backtesting {backtesting.__version__}"  # raise the 1 when you change this file
run.validate, run.data_version = validate, qtm.price_data_version  # the SHA-256 of the price file
