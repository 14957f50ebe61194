"""Entropic barycenters: against POT's logarithmic Sinkhorn, against the optimum they tend to, and finite throughout."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.aggregation import barycenter_1d
from polyfed.aggregation.entropic import _log, entropic_barycenter_1d, half_width
from polyfed.aggregation.rows import fuse_rows, fuse_rows_entropic


def solve(histograms, weights, **settings):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, entropic_barycenter_1d(np.asarray(histograms), np.asarray(weights), **settings))


@pytest.fixture(scope="module")
def far():
    """Five histograms on 64 bins, shifted by up to four bins and each a little different."""
    base = np.random.default_rng(1).dirichlet(np.ones(50))
    rows = [np.roll(np.pad(base * np.random.default_rng(k).uniform(0.8, 1.2, 50), 7), k - 2) for k in range(5)]
    return np.stack(rows) / np.sum(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("regularization", [0.1, 2.0])
@pytest.mark.parametrize("iterations", [1, 100])
def test_p16_weighted_agrees_with_pot_in_the_log_domain(regularization, iterations):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ot = pytest.importorskip("ot")
        random = np.random.default_rng(0)
        histograms, weights = random.dirichlet(np.ones(48), size=4), random.dirichlet(np.ones(4))
        cost = np.subtract.outer(np.arange(48.0), np.arange(48.0)) ** 2
        options = {"method": "sinkhorn_log", "numItermax": iterations, "stopThr": 0}
        expected = ot.bregman.barycenter(histograms.T.copy(), cost, regularization, weights=weights, **options)
    found = solve(histograms, weights, regularization=regularization, iterations=iterations)
    np.testing.assert_allclose(found.histogram, expected / expected.sum(), atol=1e-13)


@pytest.mark.slow
def test_solved_to_the_end_it_is_the_optimum_of_the_linear_program(far):
    weights = np.ones(5)
    with jax.enable_x64(True):
        optimum = np.asarray(barycenter_1d(far, weights, grid="nearest"))
    early = solve(far, weights, regularization=0.1, iterations=100)
    late = solve(far, weights, regularization=0.1, iterations=100_000)
    assert (early.converged, late.converged) == (0, 1)
    assert early.marginal_error > 0.05
    assert late.marginal_error < 1e-4
    assert np.abs(early.histogram - optimum).sum() > 0.3
    assert np.abs(late.histogram - optimum).sum() < 0.02


@pytest.mark.slow
def test_reports_convergence_and_never_assumes_it(far):
    error = [solve(far, np.ones(5), regularization=2.0, iterations=i).marginal_error for i in (1, 10, 100, 1000)]
    assert error == sorted(error, reverse=True)
    assert solve(far, np.ones(5), regularization=2.0, iterations=1).converged == 0
    assert solve(far, np.ones(5), regularization=2.0, iterations=10_000).converged == 1


def test_p3_two_points_too_far_for_the_kernel_stay_finite():
    points = np.eye(60)[[2, 55]]
    for regularization in (0.01, 0.1, 1.0):
        found = solve(points, [1.0, 1.0], regularization=regularization)
        assert np.all(np.isfinite(found.histogram))
        np.testing.assert_allclose(found.histogram.sum(), 1, atol=1e-12)
        assert found.converged == (regularization == 1.0)  # whose kernel reaches the middle from both


@pytest.mark.slow
def test_equal_histograms_come_back_blurred_not_equal():
    """P1 fails for entropic barycenters: they are known to blur. Small regularization, little blur."""
    row = np.random.default_rng(0).dirichlet(np.ones(100))
    error = [np.abs(solve([row] * 3, np.ones(3), regularization=r).histogram - row).sum() for r in (0.05, 0.2, 1.0)]
    assert error[0] < 1e-6 < error[1] < error[2]
    point = solve(np.eye(41)[[20, 20]], np.ones(2), regularization=2.0, iterations=2000).histogram
    assert np.sqrt(point @ (np.arange(41) - 20.0) ** 2) == pytest.approx(np.sqrt(2.0 / 2), rel=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0]))
def test_p2_p3_p5_p6_order_mass_reversal_and_absent_clients(seed, regularization):
    random = np.random.default_rng(seed)
    histograms = random.dirichlet(np.full(16, 0.5), size=4) * (random.uniform(size=(4, 16)) < 0.6) + np.eye(16)[0] / 9
    weights = random.uniform(0.1, 1, size=4)
    found = solve(histograms, weights, regularization=regularization).histogram
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(), 1, atol=1e-12)
    order = random.permutation(4)
    same = solve(histograms[order], 3 * weights[order], regularization=regularization).histogram
    np.testing.assert_allclose(same, found, atol=1e-11)
    back = solve(histograms[:, ::-1], weights, regularization=regularization).histogram
    np.testing.assert_allclose(back[::-1], found, atol=1e-11)
    absent = np.where(np.arange(4)[:, None] == 2, np.nan, histograms)
    without = np.where(np.arange(4) == 2, 0, weights)
    other = np.where(np.arange(4)[:, None] == 2, 1.0, histograms)
    np.testing.assert_array_equal(
        solve(absent, without, regularization=regularization).histogram,
        solve(other, without, regularization=regularization).histogram,
    )


def test_nobody_and_no_mass():
    np.testing.assert_array_equal(solve(np.full((2, 4), np.nan), [0.0, 0.0]).histogram, 0)
    np.testing.assert_array_equal(solve(np.zeros((2, 4)), [1.0, 1.0]).histogram, 0)


def test_the_logarithm():
    with jax.enable_x64(True):
        values = np.exp(np.random.default_rng(0).uniform(-690, 690, 10_000))
        values[:3] = 1.0, 2.0, np.sqrt(2)
        error = np.abs(np.asarray(_log(jnp.asarray(values))) - np.log(values))
        assert np.max(error / np.maximum(1, np.abs(np.log(values)))) < 5e-16
        assert float(_log(jnp.zeros(1))[0]) < -700


def test_the_kernel_ends_where_float64_does():
    for regularization in (0.01, 0.1, 1.0, 7.0):
        width = half_width(regularization)
        assert np.exp(-((width + 1) ** 2) / regularization) == 0
        assert width == 1 or np.exp(-(width**2) / regularization) > 0


@pytest.mark.slow
def test_rows_p10_affine_changes_and_float32_in_a_compiled_program():
    random = np.random.default_rng(0)
    rows = (random.normal(size=(3, 30)) + 0.2 * random.normal(size=(4, 3, 30))).astype(np.float32)
    weights = np.float32([1, 2, 0, 1])
    for scale in ("mass", "paper"):
        plain = jax.jit(lambda r, w, s=scale: fuse_rows_entropic(r, w, scale=s))(rows, weights)
        changed = fuse_rows_entropic(4 * rows + 3, weights, scale=scale)
        np.testing.assert_allclose(changed.rows, 4 * plain.rows + 3, atol=2e-5)
        np.testing.assert_array_equal(plain.bins, fuse_rows(rows, weights, scale=scale)[1])
        assert plain.rows.dtype == plain.marginal_error.dtype == np.float32
    both = jax.vmap(lambda r: fuse_rows_entropic(r, weights).rows)(np.stack([rows, rows[::-1]]))
    np.testing.assert_allclose(both[0], fuse_rows_entropic(rows, weights).rows, atol=1e-6)


def test_rows_that_are_constant_or_nan():
    rows = np.float32([[[1, 1, 1], [2, 0, 1]], [[3, 3, 3], [2, np.nan, 1]]])
    found = fuse_rows_entropic(rows, np.ones(2, np.float32))
    np.testing.assert_array_equal(found.rows[0], 2)
    assert (found.converged[0], found.marginal_error[0]) == (1, 0)
    assert np.all(np.isnan(found.rows[1]))
