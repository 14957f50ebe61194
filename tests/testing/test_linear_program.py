"""The linear program: it finds the optimum of the closed form, and says when it would need too much memory."""

import jax
import numpy as np
import pytest

from polyfed.aggregation import barycenter_1d
from polyfed.testing.linear_program import barycenter_linear_program


def cost(histograms, weights, b, power):
    """`sum_k lambda_k W_p^p(h_k, b)` by quantiles."""
    total = 0.0
    for share, h in zip(weights / weights.sum(), histograms, strict=True):
        ends = np.unique(np.concatenate([np.cumsum(h), np.cumsum(b)]).clip(0, 1))
        middles = (ends + np.concatenate([[0.0], ends[:-1]])) / 2
        gap = np.searchsorted(np.cumsum(h)[:-1], middles) - np.searchsorted(np.cumsum(b)[:-1], middles)
        total += share * np.diff(ends, prepend=0.0) @ np.abs(gap).astype(float) ** power
    return total


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_p7_agrees_with_the_closed_form(power, seed):
    random = np.random.default_rng(seed)
    count, size = 2 + seed, 6 + 3 * seed
    histograms = random.dirichlet(np.ones(size), size=count)
    weights = np.ones(count) if seed % 2 else random.uniform(0.1, 1, size=count)
    with jax.enable_x64(True):
        exact = np.asarray(barycenter_1d(histograms, weights, grid="nearest", power=power))
    found = barycenter_linear_program(7 * histograms, weights, power)
    np.testing.assert_allclose(found.sum(), 1, atol=1e-9)
    assert cost(histograms, weights, exact, power) == pytest.approx(cost(histograms, weights, found, power), abs=1e-7)


def test_agrees_with_pot():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ot = pytest.importorskip("ot")
        histograms, weights = np.random.default_rng(5).dirichlet(np.ones(9), size=3), np.array([0.5, 0.2, 0.3])
        squares = np.subtract.outer(np.arange(9.0), np.arange(9.0)) ** 2
        expected = ot.lp.barycenter(histograms.T.copy(), squares, weights=weights)
    np.testing.assert_allclose(barycenter_linear_program(histograms, weights), expected, atol=1e-6)


def test_refuses_gigabytes_and_names_the_exact_solver():
    with pytest.raises(ValueError, match=r"17,408\.0 GB.*barycenter_1d.*nearest"):
        barycenter_linear_program(np.ones((10, 1000 * 32)), np.ones(10))
    with pytest.raises(ValueError, match=r"17\.0 GB"):
        barycenter_linear_program(np.ones((10, 1000)), np.ones(10))


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [1, np.nan]])
def test_refuses_weights_that_share_nothing_out(weights):
    with pytest.raises(ValueError, match="share nothing out"):
        barycenter_linear_program(np.ones((2, 3)), weights)


def test_refuses_what_is_no_histogram():
    for bad in ([[1, -1, 1]], [[0, 0, 0]], [[np.inf, 0, 1]]):
        with pytest.raises(ValueError, match="no mass"):
            barycenter_linear_program(bad, [1.0])
