"""An engine of qtm on backtrader (https://www.backtrader.com): orders, bar by bar, of many stocks.

python3 -m pip install 'backtrader>=1.9.78' 'pandas>=2'
python3 qtm.py serve --engine backtrader_engine:run
echo '{"stock_code": "AAPL", "config": {"strategy": "sma_cross", "commission": 0.001},
       "params": {"fast": 10, "slow": 30}}' | python3 qtm.py submit - --wait
"""

import backtrader
import pandas

import qtm


class SmaCross(backtrader.Strategy):
    params = (("fast", 0), ("slow", 0))

    def __init__(self):
        fast, slow = (backtrader.indicators.SMA(period=days) for days in (self.p.fast, self.p.slow))
        self.is_above = fast > slow

    def next(self):
        if self.is_above[0] != bool(self.position):
            self.close() if self.position else self.buy()


def validate(task):  # refuses at createTask what can never run
    fast, slow = task.params.get("fast"), task.params.get("slow")
    if not (type(fast) is type(slow) is int and 0 < fast < slow):
        raise qtm.InvalidTask("params.fast and params.slow must be whole numbers, 0 < fast < slow")
    if not qtm.price_file(task).exists():
        raise qtm.InvalidTask(f"there are no prices for {task.stock_code}: no file {qtm.price_file(task)}")


def run(task, progress):
    config, bars = task.config, pandas.read_csv(qtm.price_file(task), index_col="Date", parse_dates=True)
    bars = bars[["Open", "High", "Low", "Close"]].mul(bars["Adj Close"] / bars["Close"], axis=0)
    bars = bars.loc[config.get("start_date") : config.get("end_date")]
    cerebro, analyzers = backtrader.Cerebro(), backtrader.analyzers
    cerebro.adddata(backtrader.feeds.PandasData(dataname=bars))
    cerebro.addstrategy(SmaCross, **task.params)
    cerebro.addsizer(backtrader.sizers.PercentSizerInt, percents=95)  # the rest is for a gap to the next open
    cerebro.broker.setcash(config.get("initial_cash", 100_000))
    cerebro.broker.setcommission(config.get("commission", 0))
    cerebro.addanalyzer(analyzers.SharpeRatio_A, timeframe=backtrader.TimeFrame.Days, riskfreerate=0)
    cerebro.addanalyzer(analyzers.DrawDown)
    cerebro.addanalyzer(analyzers.Transactions)
    (done,) = cerebro.run()
    sharpe, drawdown, orders = (analyzer.get_analysis() for analyzer in done.analyzers)
    trades = [{"date": day.date(), "shares": one[0], "price": one[1]} for day, (one,) in orders.items()]
    metrics = {
        "final_equity": cerebro.broker.getvalue(), "sharpe": sharpe["sharperatio"], "bars": len(bars),
        "max_drawdown": -drawdown["max"]["drawdown"] / 100, "trades": sum(one["shares"] < 0 for one in trades),
    }  # fmt: skip
    curve = zip(bars.index.date, done.stats.broker.value.get(size=len(bars)), strict=True)
    return {"metrics": metrics, "equity_curve": list(curve), "trades": trades}


run.version = f"sma_cross 1 on backtrader {backtrader.__version__}"  # raise the 1 when you change this file
run.validate, run.data_version = validate, qtm.price_data_version  # the SHA-256 of the price file
