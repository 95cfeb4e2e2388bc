"""An engine of qtm on bt (https://pmorissette.github.io/bt): target weights of many stocks, rebalanced.

python3 -m pip install 'bt>=1.1'
python3 qtm.py serve --engine bt_engine:run
echo '{"stock_code": "AAPL", "config": {"strategy": "sma_cross", "commission": 0.001},
       "params": {"fast": 10, "slow": 30}}' | python3 qtm.py submit - --wait
"""

import importlib.metadata

import bt
import pandas

import qtm

METRICS = {"total_return": "total_return", "annual_return": "cagr", "annual_volatility": "daily_vol",
           "sharpe": "daily_sharpe", "max_drawdown": "max_drawdown"}  # fmt: skip


def validate(task):  # refuses at createTask what can never run
    fast, slow = task.params.get("fast"), task.params.get("slow")
    if not (type(fast) is type(slow) is int and 0 < fast < slow):
        raise qtm.InvalidTask("params.fast and params.slow must be whole numbers, 0 < fast < slow")
    if not qtm.price_file(task).exists():
        raise qtm.InvalidTask(f"there are no prices for {task.stock_code}: no file {qtm.price_file(task)}")


def run(task, progress):
    config = task.config
    closes = pandas.read_csv(qtm.price_file(task), index_col="Date", parse_dates=True)[["Adj Close"]]
    closes = closes.set_axis([task.stock_code], axis=1).loc[config.get("start_date") : config.get("end_date")]
    fast, slow = (closes.rolling(task.params[name]).mean() for name in ("fast", "slow"))
    weights = (fast > slow).astype(float).shift(1, fill_value=0.0)  # decided at a close, traded at the next
    weights = weights[weights.diff().fillna(0).ne(0).any(axis=1)]  # orders on the days of a change only
    rate = config.get("commission", 0)
    test = bt.Backtest(
        bt.Strategy("sma_cross", [bt.algos.WeighTarget(weights), bt.algos.Rebalance()]),
        closes,
        initial_capital=config.get("initial_cash", 100_000),
        commissions=lambda quantity, price: abs(quantity) * price * rate,
    )
    found = bt.run(test)
    curve, orders = test.strategy.values.loc[closes.index[0] :], found.get_transactions().reset_index()
    metrics = {name: found.stats["sma_cross"][theirs] for name, theirs in METRICS.items()}
    metrics |= {"final_equity": curve.iloc[-1], "trades": sum(orders["quantity"] < 0), "bars": len(curve)}
    return {"metrics": metrics, "equity_curve": curve.set_axis(curve.index.date), "trades": orders}


run.version = f"sma_cross 1 on bt {importlib.metadata.version('bt')}"  # raise the 1 when you change this file
run.validate, run.data_version = validate, qtm.price_data_version  # the SHA-256 of the price file
