"""The cheapest way to run a battery with all the future known: a linear program, solved by HiGHS.

All here is NumPy on one home; a period is an hour, so that kW and kWh are the same number.

References: huangfu2018highs.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]  # [T]


@dataclasses.dataclass(frozen=True)
class Home:
    """What a home uses and yields in every hour, at what prices, and its battery.

    >>> Home(np.ones(2), np.array([0.2, 0.4]), np.zeros(2), 5.0, 2.0, 0.0, 0.0).cost(np.array([2.0, -1.0]))
    0.4
    """

    net: Series  # kWh of load less solar, per hour
    buy: Series  # EUR/kWh
    sell: Series  # EUR/kWh, from 0 to `buy`
    capacity: float  # kWh
    power: float  # kW
    loss: float  # share lost in charging, and again in discharging
    first: float  # kWh in the battery at first

    def cost(self, grid: Series) -> float:
        """What it costs to take `grid` kWh from the grid in every hour; negative entries are sold."""
        return float(np.sum(np.where(grid > 0, self.buy, self.sell) * grid))


def optimal_flows(home: Home) -> tuple[Series, Series]:
    """Charging and discharging `([T], [T])`, kW at the home's side, at the least cost of all that are possible::

        min sum_t buy_t i_t - sell_t e_t
        where i_t - e_t = net_t + c_t - d_t,    s_t = s_{t-1} + (1 - loss) c_t - d_t / (1 - loss),
              0 <= s_t <= capacity,    0 <= c_t, d_t <= power,    0 <= i_t, e_t

    with `i` bought, `e` sold, `c` charged, `d` discharged and `s` stored. As no price is negative and none is sold
    above what is paid for it, charging and discharging at once never pays, so that a battery can do what the optimum
    does. Where an optimum does both, which it can where losses or prices are 0, the smaller of the two is taken out of
    both, at no cost. What is stored at the end is worth nothing.

    Raises:
      ValueError: HiGHS found no optimum.

    >>> home = Home(np.array([0.0, 2.0]), np.array([0.1, 0.4]), np.zeros(2), 5.0, 4.0, 0.0, 0.0)
    >>> [flow.round(6).tolist() for flow in optimal_flows(home)]  # buy early what is needed late
    [[2.0, 0.0], [0.0, 2.0]]
    """
    from scipy import sparse
    from scipy.optimize import linprog

    num, keeps, one = len(home.net), 1 - home.loss, sparse.identity(len(home.net))
    change = one - sparse.eye(num, k=-1)  # s_t - s_{t-1}
    balance = sparse.hstack([one, -one, -one, one, 0 * one])
    storage = sparse.hstack([0 * one, 0 * one, -keeps * one, one / keeps, change])
    begun = np.zeros(num)
    begun[0] = home.first
    bounds = [(0, None)] * (2 * num) + [(0, home.power)] * (2 * num) + [(0, home.capacity)] * num
    solved = linprog(
        np.concatenate([home.buy, -home.sell, np.zeros(3 * num)]),
        A_eq=sparse.vstack([balance, storage], format="csr"),
        b_eq=np.concatenate([home.net, begun]),
        bounds=bounds,
        method="highs",
    )
    if solved.x is None:
        raise ValueError(f"HiGHS found no optimum ({solved.message}), so there is none: look at prices and sizes.")
    _, _, charge, discharge, _ = solved.x.reshape(5, num)
    return _apart(charge, discharge, keeps)


def _apart(charge: Series, discharge: Series, keeps: float) -> tuple[Series, Series]:
    """The same changes of what is stored, without charging and discharging at once."""
    stored = keeps * charge - discharge / keeps
    return np.maximum(stored, 0) / keeps, np.maximum(-stored, 0) * keeps


def self_consumption(home: Home) -> Series:
    """What a home takes from the grid `[T]` if it stores all solar power it has left and uses it as soon as it can.

    The rule of most batteries sold: it never looks at prices, and neither buys to store nor sells from the store.

    >>> home = Home(np.array([-2.0, 1.0, 2.0]), np.ones(3), np.zeros(3), 5.0, 4.0, 0.0, 0.0)
    >>> self_consumption(home).tolist()
    [0.0, 0.0, 1.0]
    """
    keeps, stored, grid = 1 - home.loss, home.first, np.zeros(len(home.net))
    for t, net in enumerate(home.net.tolist()):
        charge = min(max(-net, 0.0), home.power, (home.capacity - stored) / keeps)
        discharge = min(max(net, 0.0), home.power, stored * keeps)
        stored += keeps * charge - discharge / keeps
        grid[t] = net + charge - discharge
    return grid
