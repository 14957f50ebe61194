import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.aggregation import Krum
from polyfed.aggregation.krum import krum_scores
from polyfed.types import Update


def naive_scores(rows, came, f):
    present, scores = [k for k in range(len(rows)) if came[k]], np.full(len(rows), np.inf)
    for k in present:
        others = sorted(sum((rows[k] - rows[j]) ** 2) for j in present if j != k)
        scores[k] = sum(others[: max(len(present) - f - 2, 1)])
    return scores


@pytest.mark.parametrize("absent", [(), (0,), (1, 5, 8)])
@pytest.mark.parametrize("f", [0, 2, 3])
def test_scores_agree_with_a_naive_loop(absent, f):
    rows = np.random.default_rng(f).normal(size=(10, 6)).astype(np.float32)
    came = np.float32([k not in absent for k in range(10)])
    np.testing.assert_allclose(krum_scores(jnp.asarray(rows), came, f), naive_scores(rows, came, f), rtol=1e-5)


def test_gives_the_message_with_the_lowest_score_itself():
    rows = np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32)
    merged, _, metrics = Krum(num_hostile=2).aggregate((), Update(rows, np.ones(9, np.float32)))
    np.testing.assert_array_equal(merged, rows[np.argmin(naive_scores(rows, np.ones(9), 2))])
    assert float(metrics["selected"]) == 1


def test_multi_krum_averages_the_lowest():
    rows = np.random.default_rng(2).normal(size=(9, 6)).astype(np.float32)
    merged, _, _ = Krum(num_hostile=2, num_selected=4).aggregate((), Update(rows, np.ones(9, np.float32)))
    best = np.argsort(naive_scores(rows, np.ones(9), 2))[:4]
    np.testing.assert_allclose(merged, rows[best].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("lie", [np.nan, np.inf, 1e30, -1e38, 50.0])
def test_liars_who_agree_are_not_chosen(lie):
    rows = np.random.default_rng(3).normal(size=(10, 6)).astype(np.float32)
    rows[:3] = lie
    for selected in (1, 5, 7):
        merged, _, _ = Krum(num_hostile=3, num_selected=selected).aggregate((), Update(rows, np.ones(10, np.float32)))
        assert np.abs(merged).max() <= np.abs(rows[3:]).max()


def test_where_few_came_one_neighbour_counts():
    for count in (1, 2, 3):
        rows = np.float32([[1.0], [2.0], [4.0]])
        weight = np.float32(np.arange(3) < count)
        merged, _, _ = Krum(num_hostile=2).aggregate((), Update(rows, weight))
        assert merged.tolist() == [[1.0], [1.5], [1.5]][count - 1]


def test_refuses():
    with pytest.raises(ValueError, match=r"2 \* 4 \+ 3 = 11, but there are 10: lower num_hostile to 3"):
        Krum(num_hostile=4).check_clients(10)
    with pytest.raises(ValueError, match="lower num_selected to 7"):
        Krum(num_hostile=3, num_selected=8).check_clients(10)
    with pytest.raises(ValueError, match=r"rule\.num_selected"):
        Krum(num_selected=0).check()
    Krum(num_hostile=3, num_selected=7).check_clients(10)
