"""FedWB's fusion: what it keeps, what it refuses, where it equals the mean, and that it runs anywhere JAX does."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.aggregation import WassersteinBarycenter, WeightedMean, fuse_rows
from polyfed.testing import check_rule
from polyfed.types import Update

SAFE, PAPER = WassersteinBarycenter.safe(), WassersteinBarycenter.paper_exact()


def fused(rows, weights=None, **settings):
    """`fuse_rows` of up to 10 clients and 4 rows, filled up with absent clients that hold NaN: it compiles once."""
    count, num_rows, num_bins = np.shape(rows)
    stacked = np.full((10, 4, num_bins), np.nan, np.float32)
    stacked[:count] = np.resize(np.moveaxis(rows, 1, 0), (4, count, num_bins)).swapaxes(0, 1)
    filled = np.zeros(10, np.float32)
    filled[:count] = 1 if weights is None else weights
    return np.asarray(fuse_rows(stacked, filled, **settings)[0])[:num_rows]


def near_agents(num_clients, *shape, noise=0.1, seed=0):
    random = np.random.default_rng(seed)
    base = random.normal(size=shape)
    return (base + noise * random.normal(size=(num_clients, *shape))).astype(np.float32)


def naive_algorithm_1(vectors):
    """Algorithm 1 of Pereira & Amini (2025), line by line in float64: sort all CDF values, average blocks of K."""
    vectors = vectors.astype(np.float64)
    minima = vectors.min(1, keepdims=True)
    masses = (vectors - minima).sum(1, keepdims=True)
    cdf = np.cumsum((vectors - minima) / masses, axis=1)[:, :-1]
    blocks = np.sort(cdf, axis=None).reshape(-1, len(vectors)).mean(1)
    return np.diff(blocks, prepend=0.0, append=1.0) * masses.mean() + minima.mean()


@pytest.mark.parametrize("scale", ["mass", "paper"])
@pytest.mark.parametrize("num_bins", [1, 2, 1000])
def test_p1_equal_agents_come_back_bit_for_bit(num_bins, scale):
    random = np.random.default_rng(num_bins)
    row = (random.normal(size=num_bins) * 10.0 ** random.uniform(-12, 3, num_bins)).astype(np.float32)
    row[0] = -0.0
    for present in (1, 2, 3, 7, 10):
        rows = np.broadcast_to(row, (10, 1, num_bins))
        for weights in (np.ones(10, np.float32), random.uniform(0.1, 1, 10).astype(np.float32)):
            result = fused(rows, np.where(np.arange(10) < present, weights, 0), scale=scale)
            np.testing.assert_array_equal(result[0].view(np.uint32), row.view(np.uint32))


@pytest.mark.parametrize("seed", range(8))
def test_equal_agents_with_many_smallest_weights_come_back_bit_for_bit(seed):
    """Empty positions, where the blocks of a parallel cumulative sum meet, once let the last bits through."""
    random = np.random.default_rng(seed)
    row = (random.normal(size=1000) * 10.0 ** random.uniform(-12, 3, 1000)).astype(np.float32)
    borders = random.choice(np.arange(15, 999, 16), size=20)
    row[np.concatenate([borders, borders + 1, [999]])] = row.min()
    for scale in ("mass", "paper"):
        np.testing.assert_array_equal(fused(np.broadcast_to(row, (10, 1, 1000)), scale=scale)[0], row)


@pytest.mark.parametrize("num_clients", [1, 3])
def test_equal_agents_come_back_also_when_nobody_is_absent(num_clients):
    rows = np.broadcast_to(near_agents(1, 1, 40), (num_clients, 1, 40))
    np.testing.assert_array_equal(fuse_rows(rows, np.ones(num_clients, np.float32))[0], rows[0])


@pytest.mark.parametrize("settings", [{"grid": "nearest"}, {"power": 1}], ids=str)
def test_equal_agents_come_back_from_every_solver(settings):
    rows = np.broadcast_to(near_agents(1, 1, 1000), (7, 1, 1000))
    np.testing.assert_array_equal(fused(rows, **settings), rows[0])


@pytest.mark.slow
def test_p14_a_large_layer_agrees_with_float64_and_equal_ones_stay():
    """Float32 cumulative sums would be off by 0.1 to 0.5 standard deviations here."""
    vectors = near_agents(10, 100_000, noise=0.01)
    expected = naive_algorithm_1(vectors)
    result = fuse_rows(vectors[:, None], np.ones(10, np.float32), scale="paper")[0][0]
    error = np.sqrt(np.mean((result - expected) ** 2)) / expected.std()
    assert error < 1e-6
    same = np.broadcast_to(vectors[:1, None], (10, 1, 100_000))
    np.testing.assert_array_equal(fuse_rows(same, np.ones(10, np.float32), scale="paper")[0], same[0])


def test_agrees_with_algorithm_1_line_by_line():
    for num_clients, num_bins, noise in ((2, 40, 1.0), (5, 40, 0.1)):
        vectors = near_agents(num_clients, num_bins, noise=noise)
        np.testing.assert_allclose(fused(vectors[:, None], scale="paper")[0], naive_algorithm_1(vectors), atol=2e-6)


def test_agrees_with_algorithm_1_for_many_clients_inside_a_compiled_program():
    vectors = near_agents(40, 30)
    result = jax.jit(lambda rows: fuse_rows(rows, jnp.ones(40), scale="paper")[0])(vectors[:, None])
    np.testing.assert_allclose(result[0], naive_algorithm_1(vectors), atol=2e-6)


def test_p8_where_nothing_crosses_mass_scale_is_the_mean():
    weight = near_agents(5, 8, 16, noise=1e-3)
    weight[:, :, 0] = -5  # the empty position at the border, where no mass has to jump over it
    update = Update(payload={"weight": weight, "bias": near_agents(5, 8)}, weight=np.float32([1, 2, 0, 3, 4]))
    merged, _, metrics = SAFE.aggregate((), update)
    mean, _, _ = WeightedMean().aggregate((), update)
    assert metrics["displacement/weight"] == 1
    np.testing.assert_allclose(merged["weight"], mean["weight"], rtol=1e-6)
    np.testing.assert_array_equal(merged["bias"], mean["bias"])


@pytest.mark.parametrize("scale", ["mass", "paper"])
def test_p10_follows_a_change_of_scale_and_each_agents_own_offset(scale):
    rows = near_agents(5, 2, 40, noise=1.0)
    offsets = np.random.default_rng(1).normal(size=(5, 1, 1)).astype(np.float32)
    changed = fused(4 * rows + offsets, scale=scale)
    np.testing.assert_allclose(changed, 4 * fused(rows, scale=scale) + offsets.mean(0), atol=2e-5)


def test_p13_one_outlier_blows_up_the_paper_scale_and_not_the_mass_scale():
    rows = near_agents(2, 1, 1000, noise=0.01) * 0.05
    before = {scale: fused(rows, scale=scale)[0, 1:].std() for scale in ("mass", "paper")}
    rows[0, 0, 500] = -10.0
    keep = np.abs(np.arange(1000) - 500) > 2
    after = {scale: fused(rows, scale=scale)[0, keep].std() for scale in ("mass", "paper")}
    assert after["paper"] > 5 * before["paper"]
    assert after["mass"] < 1.5 * before["mass"]


@pytest.mark.parametrize("scale", ["mass", "paper"])
def test_p13_constant_rows_have_no_say_in_the_shape(scale):
    constants = np.broadcast_to(np.float32([1.0, 4.0]).reshape(2, 1, 1), (2, 3, 40))
    np.testing.assert_allclose(fused(constants, scale=scale), 2.5)
    np.testing.assert_array_equal(fused(0 * constants, scale=scale), 0)
    mixed = constants.copy()
    mixed[0, 0, [2, 5]] = 3, 2  # mass 3, minimum 1, beside a constant 4
    np.testing.assert_allclose(fused(mixed, scale=scale)[0], 0.5 * (mixed[0, 0] - 1) + 2.5, rtol=1e-6)


def test_p13_a_nan_that_came_stays_in_its_row():
    rows = near_agents(3, 4, 40)
    rows[1, 2, 3] = np.nan
    result = fused(rows)
    assert np.isnan(result[2]).all()
    assert np.isfinite(np.delete(result, 2, axis=0)).all()


def test_leaves_of_every_kind():
    payload = {
        "layers": [{"weight": near_agents(4, 6, 5), "bias": near_agents(4, 6)}],
        "filter": near_agents(4, 3, 2, 3, 3),
        "temperature": near_agents(4),
        "steps": np.arange(4),
        "mask": np.array([True, True, True, False]),
        "half": near_agents(4, 2, 8).astype(np.float16),
        "empty": np.zeros((4, 0, 3), np.float32),
    }
    update = Update(payload=payload, weight=np.ones(4, np.float32))
    for rule, names in (
        (SAFE, {"layers.0.weight", "filter", "half"}),
        (PAPER, {"layers.0.weight", "layers.0.bias", "filter", "half"}),
    ):
        merged, metrics = jax.eval_shape(lambda u, rule=rule: rule.aggregate((), u)[::2], update)
        kinds = ("displacement", "scrambled")
        assert set(metrics) == {"nonfinite"} | {f"{kind}/{name}" for kind in kinds for name in names}
        assert {(leaf.shape, leaf.dtype) for leaf in metrics.values()} == {((), np.dtype(np.float32))}
        expected = jax.tree.map(lambda sent: jax.ShapeDtypeStruct(sent.shape[1:], jnp.asarray(sent).dtype), payload)
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), merged) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), expected
        )


def test_a_bare_array_and_an_equinox_network_have_names():
    bare = Update(payload=near_agents(2, 3, 4), weight=np.ones(2, np.float32))
    names = lambda update: set(jax.eval_shape(lambda u: SAFE.aggregate((), u)[2], update))  # noqa: E731
    assert names(bare) == {"displacement", "scrambled", "nonfinite"}
    keys = jax.random.split(jax.random.key(0))
    networks = eqx.filter_vmap(lambda key: eqx.nn.MLP(3, 2, 4, 1, key=key))(keys)
    parameters = eqx.filter(networks, eqx.is_array)
    update = Update(payload=parameters, weight=np.ones(2, np.float32))
    kinds = ("displacement", "scrambled")
    found = {f"{kind}/layers.{layer}.weight" for kind in kinds for layer in (0, 1)}
    assert names(update) == found | {"nonfinite"}


def test_rows_are_the_outputs_and_layers_are_read_row_by_row():
    weight = near_agents(3, 4, 10, noise=1.0)
    update = Update(payload=weight, weight=np.ones(3, np.float32))
    np.testing.assert_allclose(SAFE.aggregate((), update)[0], fused(weight), atol=1e-6)
    layer = WassersteinBarycenter(granularity="layer")
    np.testing.assert_allclose(
        layer.aggregate((), update)[0].reshape(1, 40), fused(weight.reshape(3, 1, 40)), atol=1e-6
    )


WEIGHTS = np.float32([1, 2, 0, 1, 0.5])


def rounds(drifts):
    """Drift and fusion as the engine compiles them: drifts `[rounds, 5, 4, 10]` to models `[rounds, 4, 10]`."""

    def body(model, drift):
        merged, _, metrics = SAFE.aggregate((), Update(payload=model + drift, weight=WEIGHTS))
        return merged, (merged, metrics)

    return jax.lax.scan(body, jnp.zeros_like(drifts[0, 0]), drifts)[1]


def test_float64_inside_survives_jit_scan_vmap_and_shard_map():
    num_seeds = 2 * jax.device_count()
    drifts = np.random.default_rng(0).normal(size=(num_seeds, 3, 5, 4, 10)).astype(np.float32)
    mesh = jax.make_mesh((jax.device_count(),), ("seeds",))
    seeds = jax.sharding.PartitionSpec("seeds")
    run = jax.jit(jax.shard_map(jax.vmap(rounds), mesh=mesh, in_specs=seeds, out_specs=seeds))
    models, metrics = run(jax.device_put(drifts, jax.sharding.NamedSharding(mesh, seeds)))
    assert models.dtype == metrics["displacement"].dtype == np.float32
    for found, its_drifts in zip(np.asarray(models), drifts, strict=True):
        model = np.zeros((4, 10), np.float32)
        for i, drift in enumerate(its_drifts):
            model = fused(model + drift, WEIGHTS)
            np.testing.assert_allclose(found[i], model, atol=1e-5)


def test_float64_in_gives_float64():
    with jax.enable_x64(True):
        rows = near_agents(5, 1, 40).astype(np.float64)
        result, bins = fuse_rows(rows, np.ones(5), scale="paper")
        assert result.dtype == bins.dtype == np.float64
        np.testing.assert_allclose(result[0], naive_algorithm_1(rows[:, 0]), atol=1e-13)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("granularity", "tensor"),
        ("support", "index"),
        ("solver", "sinkhorn"),
        ("scale", "max"),
        ("grid", "lp"),
        ("bias", "skip"),
        ("power", 3),
        ("on_displacement", "stop"),
        ("on_nonfinite", "keep"),
    ],
)
def test_check_refuses_what_it_does_not_know(field, value):
    with pytest.raises(ValueError, match=f"{field} {value!r}.*Use "):
        WassersteinBarycenter(**{field: value}).check()
    SAFE.check()
    PAPER.check()


def test_check_refuses_numbers_out_of_range_and_contradictions():
    for fields, sentence in (
        ({"regularization": 0.0}, "regularization 0.0.*above 0"),
        ({"iterations": 0}, "iterations 0.*from 1"),
        ({"max_displacement": -1.0}, "max_displacement -1.0.*from 0"),
        ({"solver": "entropic", "power": 1}, 'entropic solver knows.*solver="exact"'),
        ({"solver": "geometric", "support": "value"}, 'geometric solver knows.*solver="exact"'),
    ):
        with pytest.raises(ValueError, match=sentence):
            WassersteinBarycenter(**fields).check()


PRESETS = ("safe", "paper", "paper_exact", "lp", "values", "geometric")


@pytest.mark.parametrize("name", ["paper", *(pytest.param(n, marks=pytest.mark.slow) for n in PRESETS if n != "paper")])
def test_every_preset_keeps_the_contract(name):
    """The entropic one blurs a consensus; all others keep it to the bit."""
    check_rule(getattr(WassersteinBarycenter, name)(), consensus_tolerance=0.2 if name == "paper" else 0.0)


def test_every_preset_reports_what_it_should():
    update = Update(payload={"w": near_agents(3, 4, 5), "b": near_agents(3, 4)}, weight=np.ones(3, np.float32))
    for name in PRESETS:
        rule = getattr(WassersteinBarycenter, name)()
        metrics = jax.eval_shape(lambda sent, rule=rule: rule.aggregate((), sent)[2], update)
        kinds = {"displacement", "scrambled"} if name != "values" else set()
        kinds |= {"converged", "marginal_error"} if name == "paper" else set()
        leaves = ("w", "b") if name in ("paper", "paper_exact", "lp") else ("w",)
        assert set(metrics) == {"nonfinite"} | {f"{kind}/{leaf}" for kind in kinds for leaf in leaves}


@pytest.mark.parametrize("solver", ["exact", pytest.param("entropic", marks=pytest.mark.slow), "geometric"])
def test_displacement_acts_as_told(solver):
    """One parameter far above the bound, one below it: warn changes nothing, mean falls back where it must."""
    payload = {"far": near_agents(4, 3, 200, noise=1.0), "near": near_agents(4, 3, 20, noise=1e-3)}
    update = Update(payload=payload, weight=np.float32([1, 2, 0, 3]))
    mean = WeightedMean().aggregate((), update)[0]
    results = {}
    for action in ("warn", "mean", "ignore"):
        rule = WassersteinBarycenter(solver=solver, on_displacement=action, regularization=0.5, iterations=20)
        results[action] = jax.jit(lambda r, u: r.aggregate((), u)[::2])(rule, update)
    for action in ("warn", "mean"):
        metrics = results[action][1]
        assert (float(metrics["scrambled/far"]), float(metrics["scrambled/near"])) == (1, 0)
        assert float(metrics["displacement/far"]) > 3 >= float(metrics["displacement/near"])
    assert not any(key.startswith("scrambled") for key in results["ignore"][1])
    for leaf in payload:
        np.testing.assert_array_equal(results["warn"][0][leaf], results["ignore"][0][leaf])
    np.testing.assert_array_equal(results["mean"][0]["far"], mean["far"])
    np.testing.assert_array_equal(results["mean"][0]["near"], results["warn"][0]["near"])
    assert np.abs(results["warn"][0]["far"] - mean["far"]).max() > 0.01


def test_the_bound_on_displacement_can_be_swept():
    update = Update(payload=near_agents(4, 3, 50, noise=1.0), weight=np.ones(4, np.float32))
    rule = WassersteinBarycenter(on_displacement="mean")

    def merged(bound):
        return eqx.tree_at(lambda r: r.max_displacement, rule, bound).aggregate((), update)[0]

    both = jax.jit(jax.vmap(merged))(jnp.array([0.0, 100.0]))
    np.testing.assert_allclose(both[0], update.payload.mean(0), atol=1e-6)
    np.testing.assert_allclose(both[1], SAFE.aggregate((), update)[0], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["mass", "paper"]))
def test_p2_p6_p10_order_double_weight_and_affine_changes(seed, scale):
    random = np.random.default_rng(seed)
    rows = near_agents(5, 2, 20, noise=random.uniform(0.01, 2), seed=seed)
    weights = random.uniform(0.1, 1, 5).astype(np.float32)
    expected = fused(rows, weights, scale=scale)
    order = random.permutation(5)
    np.testing.assert_allclose(fused(rows[order], weights[order], scale=scale), expected, atol=1e-6)
    twice = np.concatenate([rows, rows[:1]])
    halved = np.append(weights, weights[0] / 2) * np.where(np.arange(6) == 0, 0.5, 1).astype(np.float32)
    np.testing.assert_allclose(fused(twice, halved, scale=scale), expected, atol=1e-6)
    offsets = random.normal(size=(5, 1, 1)).astype(np.float32)
    moved_by = np.average(offsets[:, 0, 0], weights=weights)
    np.testing.assert_allclose(fused(2 * rows + offsets, weights, scale=scale), 2 * expected + moved_by, atol=2e-5)


@pytest.mark.slow
def test_p14_p1_a_million_weights():
    """Float32 cumulative sums give an error of 0.2 to 0.5 standard deviations here."""
    vectors = near_agents(10, 1_000_000, noise=0.01)
    expected = naive_algorithm_1(vectors)
    result = fuse_rows(vectors[:, None], np.ones(10, np.float32), scale="paper")[0][0]
    assert np.sqrt(np.mean((result - expected) ** 2)) / expected.std() < 1e-6
    same = np.broadcast_to(vectors[:1, None], (10, 1, 1_000_000))
    np.testing.assert_array_equal(fuse_rows(same, np.ones(10, np.float32), scale="paper")[0], same[0])
