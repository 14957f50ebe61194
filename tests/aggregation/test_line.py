"""The closed form on a line against quantile functions in NumPy, POT's linear program, and its own properties."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.aggregation import barycenter_1d, displacement

CASES, K, N = 200, 6, 24
VARIANTS = [("split", 2), ("nearest", 2), ("split", 1)]


def quantiles(histograms, weights):
    """`(length of each step, Q_k on it [K, steps], lambda)` of the clients that came."""
    histograms, weights = histograms[weights > 0], weights[weights > 0]
    cdf = np.cumsum(histograms / histograms.sum(1, keepdims=True), axis=1)
    cdf[:, -1] = 1.0
    ends = np.unique(cdf)
    middles = (ends + np.concatenate([[0.0], ends[:-1]])) / 2
    q = np.stack([np.searchsorted(row, middles) for row in cdf])
    return np.diff(ends, prepend=0.0), q, weights / weights.sum()


def naive_split(histograms, weights):
    lengths, q, shares = quantiles(histograms, weights)
    mean = shares @ q
    lower = np.minimum(np.floor(mean).astype(int), histograms.shape[1] - 2)
    result = np.bincount(lower, lengths * (lower + 1 - mean), histograms.shape[1])
    return result + np.bincount(lower + 1, lengths * (mean - lower), histograms.shape[1])


def objective(histograms, weights, b, power):
    """`sum_k lambda_k W_p^p(h_k, b)`."""
    shares = weights / weights.sum()
    total = 0.0
    for share, h in zip(shares, histograms, strict=True):
        if share > 0:
            lengths, q, _ = quantiles(np.stack([h, b]), np.ones(2))
            total += share * lengths @ np.abs(q[0] - q[1]).astype(float) ** power
    return total


def cases(seed=0):
    """Far, near, sparse and single-point histograms; weights uniform, random, and with absent clients."""
    random = np.random.default_rng(seed)
    histograms, weights = np.empty((CASES, K, N)), np.empty((CASES, K))
    for i in range(CASES):
        far = random.dirichlet(np.full(N, 0.5), size=K)
        near = random.dirichlet(np.ones(N)) * random.uniform(0.9, 1.1, size=(K, N))
        sparse = far * (random.uniform(size=(K, N)) < 0.3) + np.eye(N)[random.integers(N, size=K)]
        h = (far, near, sparse, np.eye(N)[random.integers(N, size=K)])[i % 4]
        histograms[i] = h / h.sum(1, keepdims=True)
        weights[i] = (np.ones(K), random.uniform(0.1, 1.0, size=K), 10.0 ** random.uniform(-6, 0, K))[i % 3]
        weights[i] *= random.permutation(np.arange(K) < random.integers(1, K + 1)) if i % 5 else 1
    return histograms, weights


@pytest.fixture(scope="module")
def solved():
    """`{(grid, power): (function, result)}`, one compiled function per variant for all tests of this file."""
    table = {}
    with jax.enable_x64(True):
        for grid, power in VARIANTS:
            function = jax.jit(
                jax.vmap(lambda h, w, grid=grid, power=power: barycenter_1d(h, w, grid=grid, power=power))
            )

            def call(h, w, function=function):
                with jax.enable_x64(True):
                    return np.asarray(function(h, w))

            table[grid, power] = call, call(*cases())
    return table


def test_split_agrees_with_the_quantile_functions(solved):
    expected = np.stack([naive_split(h, w) for h, w in zip(*cases(), strict=True)])
    np.testing.assert_allclose(solved["split", 2][1], expected, atol=2e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_p3_mass_is_one_and_nothing_is_negative(solved, variant):
    result = solved[variant][1]
    assert np.all(np.isfinite(result))
    assert result.min() >= 0
    np.testing.assert_allclose(result.sum(1), 1, atol=1e-12)


def test_p4_split_keeps_the_mean_and_nearest_moves_it_by_half_a_bin_at_most(solved):
    histograms, weights = cases()
    bins = np.arange(N)
    mean = np.einsum("ck,ckn,n->c", weights / weights.sum(1, keepdims=True), histograms, bins)
    np.testing.assert_allclose(solved["split", 2][1] @ bins, mean, atol=1e-9)
    assert np.max(np.abs(solved["nearest", 2][1] @ bins - mean)) <= 0.5 + 1e-9


def test_p7_nearest_is_optimal_and_split_costs_an_eighth_more_at_most(solved):
    random = np.random.default_rng(1)
    excess = []
    for (h, w), split, nearest in zip(
        zip(*cases(), strict=True), solved["split", 2][1], solved["nearest", 2][1], strict=True
    ):
        best = objective(h, w, nearest, 2)
        others = [w @ h / w.sum(), h[np.argmax(w)], random.dirichlet(np.ones(N))]
        assert all(best <= objective(h, w, other, 2) + 1e-9 for other in others)
        excess.append(objective(h, w, split, 2) - best)
    assert min(excess) >= -1e-9
    assert max(excess) <= 1 / 8 + 1e-9


@pytest.mark.parametrize(("variant", "power"), [(("nearest", 2), 2), (("split", 1), 1)])
def test_reaches_the_optimum_of_the_linear_program(solved, variant, power):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # POT on import
        import ot
    random = np.random.default_rng(2)
    for num_clients, n, uniform in itertools.product((2, 3, 5), (5, 9), (True, False)):
        h, w = np.zeros((K, N)), np.zeros(K)
        h[:num_clients, :n] = random.dirichlet(np.ones(n), size=num_clients)
        w[:num_clients] = 1 if uniform else random.uniform(0.1, 1, size=num_clients)
        cost = np.abs(np.arange(n)[:, None] - np.arange(n)).astype(float) ** power
        shares = w[:num_clients] / w.sum()
        optimum = ot.lp.barycenter(h[:num_clients, :n].T.copy(), cost, weights=shares)
        tiled = np.broadcast_to(h, (CASES, K, N)), np.broadcast_to(w, (CASES, K))
        found = solved[variant][0](*tiled)[0]
        padded = np.pad(optimum, (0, N - n))
        np.testing.assert_allclose(objective(h, w, found, power), objective(h, w, padded, power), atol=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_p2_p6_order_scale_of_weights_and_absent_clients_do_not_matter(solved, variant):
    function, result = solved[variant]
    histograms, weights = cases()
    order = np.random.default_rng(3).permutation(K)
    np.testing.assert_allclose(function(histograms[:, order], weights[:, order]), result, atol=1e-12)
    np.testing.assert_array_equal(function(histograms, weights * 0.125), result)
    absent = np.where(weights[..., None] > 0, histograms, np.nan)
    np.testing.assert_array_equal(function(absent, weights), result)


@pytest.mark.parametrize("variant", VARIANTS)
def test_p6_a_client_twice_is_a_client_of_twice_the_weight(solved, variant):
    function, _ = solved[variant]
    histograms, weights = cases()
    histograms, weights = histograms.copy(), np.where(weights > 0, weights, 0.5)
    weights[:, 5] = 0
    once = weights * np.array([2, 1, 1, 1, 1, 1])
    twice = weights.copy()
    twice[:, 5], histograms[:, 5] = weights[:, 0], histograms[:, 0]
    np.testing.assert_allclose(function(histograms, once), function(histograms, twice), atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_p5_follows_a_shift_and_split_a_reversal(solved, variant):
    function, _ = solved[variant]
    histograms, weights = cases()
    histograms = histograms * (np.arange(N) < N - 5)
    histograms[:, :, 0] += 1e-3
    result = function(histograms, weights)
    np.testing.assert_allclose(function(np.roll(histograms, 5, axis=2), weights), np.roll(result, 5, axis=1), atol=1e-9)
    if variant == ("split", 2):
        np.testing.assert_allclose(function(histograms[..., ::-1], weights), result[..., ::-1], atol=1e-9)


def test_p8_interleaved_histograms_give_their_weighted_mean(solved):
    function, _ = solved["split", 2]
    random = np.random.default_rng(4)
    base = np.full(N, 1.0) / N
    cdf = np.cumsum(base)[:-1] + random.uniform(0, 0.9 / N, size=(CASES, K, N - 1))
    histograms = np.diff(cdf, prepend=0.0, append=1.0)
    _, weights = cases()
    spread = jax.vmap(displacement)(histograms.astype(np.float32), weights.astype(np.float32))
    assert np.max(spread) <= 1
    mean = np.einsum("ck,ckn->cn", weights / weights.sum(1, keepdims=True), histograms)
    np.testing.assert_allclose(function(histograms, weights), mean, atol=1e-15)


def test_p9_split_is_continuous_in_the_weights(solved):
    function, result = solved["split", 2]
    histograms, weights = cases()
    changed = weights * (1 + 1e-7 * np.random.default_rng(5).uniform(-1, 1, size=weights.shape))
    assert np.max(np.abs(function(histograms, changed) - result)) < 1e-7 * N


def test_p11_power_one_of_two_equal_clients_is_their_mean(solved):
    function, _ = solved["split", 1]
    histograms, _ = cases()
    weights = np.broadcast_to(np.arange(K) < 2, (CASES, K)).astype(float)
    np.testing.assert_allclose(function(histograms, weights), histograms[:, :2].mean(1), atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_p1_equal_histograms_come_back_bit_for_bit(solved, variant):
    function, _ = solved[variant]
    histograms, weights = cases()
    same = np.broadcast_to(histograms[:, :1], histograms.shape) * 3.7
    np.testing.assert_array_equal(function(same, weights), same[:, 0])


def test_p12_points_meet_in_the_middle():
    for i, j in itertools.product(range(6), repeat=2):
        halves = np.eye(6)[[(i + j) // 2, (i + j + 1) // 2]].mean(0)
        np.testing.assert_array_equal(barycenter_1d(np.eye(6, dtype=np.float32)[[i, j]], np.float32([1, 1])), halves)
        assert displacement(np.eye(6, dtype=np.float32)[[i, j]], np.float32([1, 1])) == abs(i - j)


def test_displacement_is_the_largest_spread_of_quantiles():
    histograms, weights = cases()
    weights = np.where(weights > 0, 1.0, 0.0)
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(displacement))(np.where(weights[..., None] > 0, histograms, np.nan), weights)
    for h, w, bins in zip(histograms, weights, np.asarray(found), strict=True):
        lengths, q, _ = quantiles(h, w)
        assert bins == np.max(np.ptp(q, axis=0)[lengths > 1e-12])


def test_p13_nobody_no_mass_one_bin():
    one = np.float32([1, 1])
    np.testing.assert_array_equal(barycenter_1d(np.full((2, 4), np.nan, np.float32), 0 * one), np.zeros(4))
    np.testing.assert_array_equal(barycenter_1d(np.zeros((2, 4), np.float32), one), np.zeros(4))
    np.testing.assert_array_equal(barycenter_1d(np.float32([[1], [3]]), one), [2.0])
    mute = np.float32([[0, 0, 0, 0], [0, 2, 1, 0]])  # counts in the mass, not in the shape
    np.testing.assert_allclose(barycenter_1d(mute, one), [0, 1, 0.5, 0], rtol=1e-6)
    assert float(displacement(np.zeros((2, 4), np.float32), one)) == 0
    assert float(displacement(mute, one)) == 0


def test_type_in_is_type_out():
    weights = jax.ShapeDtypeStruct((K,), np.float32)
    for dtype in (np.float32, jnp.bfloat16, np.float64):
        with jax.enable_x64(dtype == np.float64):
            assert jax.eval_shape(barycenter_1d, jax.ShapeDtypeStruct((K, N), dtype), weights).dtype == dtype


def test_weights_of_very_different_size_keep_their_say(solved):
    function, _ = solved["split", 2]
    histograms, weights = cases()
    weights = np.broadcast_to(np.float64([1, 1e-9, 0, 0, 0, 0]), weights.shape)
    result = function(histograms, weights)
    expected = np.stack([naive_split(h, w) for h, w in zip(histograms, weights, strict=True)])
    np.testing.assert_allclose(result, expected, atol=1e-13)
    assert np.max(np.abs(result - histograms[:, 0])) > 1e-10
