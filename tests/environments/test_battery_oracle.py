import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.environments.battery_oracle import Home, optimal_flows, self_consumption

LEVELS = 8  # of the store, in the dynamic programme


def planned(home):
    charge, discharge = optimal_flows(home)
    return home.cost(home.net + charge - discharge)


def random_home(rng, num=6, **changes):
    """A home without losses in which all energies are whole numbers, so that an optimum is in whole numbers too."""
    buy = rng.uniform(0.05, 0.5, num)
    fields = {
        "net": rng.integers(-4, 5, num).astype(float),
        "buy": buy,
        "sell": buy * rng.uniform(0, 1, num),
        "capacity": float(rng.integers(1, LEVELS)),
        "power": float(rng.integers(1, 5)),
        "loss": 0.0,
        "first": 0.0,
    }
    return Home(**(fields | changes))


def dynamic_programme(home):
    """The least cost over all whole-numbered levels of the store."""
    costs = {int(home.first): 0.0}
    for t, net in enumerate(home.net):
        after = {}
        for level, cost in costs.items():
            for new in range(int(home.capacity) + 1):
                if abs(new - level) <= home.power:
                    grid = net + new - level
                    paid = cost + (home.buy[t] if grid > 0 else home.sell[t]) * grid
                    after[new] = min(after.get(new, np.inf), paid)
        costs = after
    return min(costs.values())


@pytest.mark.parametrize("seed", range(20))
def test_the_optimum_is_that_of_a_dynamic_programme(seed):
    home = random_home(np.random.default_rng(seed))
    assert planned(home) == pytest.approx(dynamic_programme(home), abs=1e-9)


@given(st.integers(0, 2**31), st.floats(0, 0.5), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_flows_are_possible_and_no_random_policy_costs_less(seed, loss, level):
    rng = np.random.default_rng(seed)
    home = random_home(rng, num=12, loss=loss)
    home = random_home(rng, num=12, loss=loss, first=level * home.capacity, capacity=home.capacity)
    charge, discharge = optimal_flows(home)
    keeps = 1 - loss
    stored = home.first + np.cumsum(keeps * charge - discharge / keeps)
    assert np.all(stored >= -1e-6)
    assert np.all(stored <= home.capacity + 1e-6)
    assert np.all(np.minimum(charge, discharge) == 0)
    assert np.all(charge + discharge <= home.power + 1e-6)
    least = planned(home)
    assert least <= home.cost(home.net) + 1e-6
    assert least <= home.cost(self_consumption(home)) + 1e-6
    for _ in range(5):
        store, grid = home.first, np.zeros(12)
        for t in range(12):
            wish = rng.uniform(-home.power, home.power)
            c, d = min(max(wish, 0), (home.capacity - store) / keeps), min(max(-wish, 0), store * keeps)
            store += keeps * c - d / keeps
            grid[t] = home.net[t] + c - d
        assert least <= home.cost(grid) + 1e-6


def test_losses_make_a_small_difference_in_price_worthless():
    cheap_then_dear = {"net": np.array([0.0, 1.0]), "buy": np.array([0.3, 0.35]), "sell": np.zeros(2)}
    for loss, cost in ((0.0, 0.3), (0.1, 0.35)):  # 1 / 0.81 kWh at 0.3 would cost 0.37
        assert planned(Home(**cheap_then_dear, capacity=5.0, power=5.0, loss=loss, first=0.0)) == pytest.approx(cost)


def test_what_is_stored_at_first_is_used():
    home = Home(np.array([1.0, 1.0]), np.array([0.1, 0.4]), np.zeros(2), 5.0, 5.0, 0.0, 1.0)
    assert planned(home) == pytest.approx(0.1)
    assert self_consumption(home).tolist() == [0.0, 1.0]  # uses it at once, when power is cheap


def test_self_consumption_respects_power_capacity_and_losses():
    home = Home(np.array([-4.0, -4.0, 9.0]), np.ones(3), np.zeros(3), 3.0, 2.0, 0.5, 0.0)
    # charges 2 kW twice and stores 1 kWh each; gives out half of the 2 kWh
    assert self_consumption(home).tolist() == [-2.0, -2.0, 8.0]
