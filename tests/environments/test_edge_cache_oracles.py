import functools
import itertools

import numpy as np
import pytest

from polyfed.environments.edge_cache_oracles import Demand, belady, lfu, lru, next_requests, optimal_plan, planned_hits


def some_demand(seed, *, equal=False, num=7):
    random = np.random.default_rng(seed)
    sizes = np.ones(4) if equal else random.uniform(0.5, 1.5, 4)
    savings = np.ones(num) if equal else random.uniform(0.2, 1.0, num)
    capacity = 2.0 if equal else random.uniform(1.0, 3.0)
    return Demand(random.integers(0, 4, num), sizes, savings, capacity, num_slots=2)


def most_by_search(demand):
    """The most that can be saved, by trying every set that may be held after every request."""
    contents = range(demand.num_contents)
    sets = [frozenset(s) for k in range(demand.num_slots + 1) for s in itertools.combinations(contents, k)]
    feasible = [s for s in sets if demand.fits(set(s))]

    @functools.cache
    def best(t, held):
        if t == len(demand.requests):
            return 0.0
        content = int(demand.requests[t])
        now = demand.savings[t] if content in held else 0.0
        return now + max(best(t + 1, after) for after in feasible if after <= held | {content})

    return best(0, frozenset())


@pytest.mark.parametrize("seed", range(25))
def test_the_optimum_is_that_of_an_exhaustive_search(seed):
    demand = some_demand(seed)
    assert demand.saved(planned_hits(demand, optimal_plan(demand))) == pytest.approx(most_by_search(demand), abs=1e-9)


@pytest.mark.parametrize("seed", range(25))
def test_belady_is_optimal_where_sizes_and_savings_are_equal(seed):
    demand = some_demand(seed, equal=True)
    assert demand.saved(belady(demand)) == pytest.approx(most_by_search(demand))


@pytest.mark.parametrize("seed", range(10))
def test_no_rule_saves_more_than_the_optimum(seed):
    demand = some_demand(seed, num=60)
    most = demand.saved(planned_hits(demand, optimal_plan(demand)))
    assert all(demand.saved(rule(demand)) <= most + 1e-9 for rule in (lru, lfu, belady))


def test_with_unequal_sizes_belady_may_fall_short():
    demands = [some_demand(seed) for seed in range(25)]
    assert any(demand.saved(belady(demand)) < most_by_search(demand) - 1e-9 for demand in demands)


def test_a_hit_needs_the_content_to_have_been_held_since_its_last_request():
    requests = np.array([0, 1, 0, 2, 0])
    assert next_requests(requests).tolist() == [2, 5, 4, 5, 5]
    demand = Demand(requests, np.ones(3), np.ones(5), capacity=1.0, num_slots=1)
    assert lru(demand).sum() == 0  # every other request throws it out
    assert belady(demand).tolist() == [False, False, True, False, True]


def test_nothing_is_kept_that_is_too_large_or_saves_nothing():
    too_large = Demand(np.array([0, 0]), np.array([3.0]), np.ones(2), capacity=2.0, num_slots=2)
    worthless = Demand(np.array([0, 0]), np.array([1.0]), np.array([0.0, -1.0]), capacity=2.0, num_slots=2)
    for demand in (too_large, worthless):
        assert not optimal_plan(demand).any()
    assert not lru(too_large).any()
