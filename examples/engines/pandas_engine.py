"""An engine of qtm on pandas alone, without a backtest library: two moving averages.

python3 -m pip install 'pandas>=2'
python3 qtm.py serve --engine pandas_engine:run
echo '{"stock_code": "AAPL", "config": {"strategy": "sma_cross", "commission": 0.001},
       "params": {"fast": 10, "slow": 30}}' | python3 qtm.py submit - --wait
"""

import pandas

import qtm


def validate(task):  # refuses at createTask what can never run
    fast, slow = task.params.get("fast"), task.params.get("slow")
    if not (type(fast) is type(slow) is int and 0 < fast < slow):
        raise qtm.InvalidTask("params.fast and params.slow must be whole numbers, 0 < fast < slow")
    if not qtm.price_file(task).exists():
        raise qtm.InvalidTask(f"there are no prices for {task.stock_code}: no file {qtm.price_file(task)}")


def run(task, progress):
    config = task.config
    close = pandas.read_csv(qtm.price_file(task), index_col="Date", parse_dates=True)["Adj Close"]
    close = close.loc[config.get("start_date") : config.get("end_date")]
    fast, slow = (close.rolling(task.params[name]).mean() for name in ("fast", "slow"))
    held = (fast > slow).astype(int).shift(1, fill_value=0)  # decided at a close, traded at the next
    change = held.diff().fillna(0)
    returns = held.shift(1, fill_value=0) * close.pct_change().fillna(0)
    returns -= change.abs() * config.get("commission", 0)
    growth = (1 + returns).cumprod()
    equity = config.get("initial_cash", 100_000) * growth
    metrics = {
        "final_equity": equity.iloc[-1], "total_return": growth.iloc[-1] - 1, "exposure": held.mean(),
        "sharpe": returns.mean() / returns.std() * 252**0.5, "annual_volatility": returns.std() * 252**0.5,
        "max_drawdown": (growth / growth.cummax() - 1).min(), "trades": sum(change < 0), "bars": len(close),
    }  # fmt: skip
    trades = [{"date": day, "price": close[day], "side": change[day]} for day in change.index[change != 0]]
    return {"metrics": metrics, "equity_curve": equity.set_axis(equity.index.date), "trades": trades}


run.version = f"sma_cross 1 on pandas {pandas.__version__}"  # raise the 1 when you change this file
run.validate, run.data_version = validate, qtm.price_data_version  # the SHA-256 of the price file
