"""One backtest of backtesting.py: a crossing of two moving averages over eight years of daily bars, which are read at import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas
from backtesting import Backtest, Strategy
from backtesting.lib import crossover

PRICES = Path(__file__).resolve().parent.parent / "examples" / "prices"
STOCKS = ("AAPL", "GOOG", "IBM", "MSFT")
BARS = {
    stock: pandas.read_csv(PRICES / f"{stock}.csv", index_col="Date", parse_dates=True).loc[
        "2005-01-03":"2012-12-31"
    ]
    for stock in STOCKS
}


def rolling_mean(values: Any, days: int) -> Any:
    """The mean of the last so many values."""
    return pandas.Series(values).rolling(days).mean()


class SmaCross(Strategy):
    """Long while the fast average is above the slow one."""

    fast, slow = 10, 50

    def init(self) -> None:
        """The two averages."""
        self.fast_mean = self.I(rolling_mean, self.data.Close, self.fast)
        self.slow_mean = self.I(rolling_mean, self.data.Close, self.slow)

    def next(self) -> None:
        """Buy and close where they cross."""
        if crossover(self.fast_mean, self.slow_mean):
            self.buy()
        elif crossover(self.slow_mean, self.fast_mean):
            self.position.close()


def params(count: int) -> list[dict[str, int]]:
    """So many different pairs of averages."""
    return [{"fast": 5 + number % 10, "slow": 20 + 2 * (number // 10)} for number in range(count)]


def backtest(stock: str, fast: int, slow: int) -> dict[str, Any]:
    """Metrics, equity curve and trades, as backtesting.py has them."""
    found = Backtest(BARS[stock], SmaCross, cash=100_000, commission=0.001, finalize_trades=True).run(
        fast=fast, slow=slow
    )
    metrics = {
        "sharpe": found["Sharpe Ratio"],
        "total_return": found["Return [%]"] / 100,
        "trades": found["# Trades"],
    }
    return {"metrics": metrics, "equity_curve": found["_equity_curve"]["Equity"], "trades": found["_trades"]}
