"""Clipping and noise: what leaves, against naive loops; the distribution of the noise; messages that are none."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2, kstest

from polyfed.agents.observation_statistics import Moments
from polyfed.aggregation import Consensus, WeightedMean
from polyfed.exchange import CentralNoise, LocalNoise, WireSize
from polyfed.exchange.privacy import centred, mended, normal_like, on_the_simplex
from polyfed.testing import check_transform
from polyfed.testing.predictions import made_up_predictions
from polyfed.types import ActionValues, Gaussians, Logits, Nested, Probabilities, Update, Visit

KINDS = (Probabilities, Logits, Gaussians, ActionValues)
KEY = jax.random.key(7)


@eqx.filter_jit
def released(part, update, broadcast, key=KEY, rule=None):
    """What a server makes of a round: the way up, the rule, the way back."""
    one = jax.tree.map(lambda x: x[0], update.payload)
    sent, state = part.upload(part.init(one, len(update.weight)), update, broadcast, key)
    merged, _, _ = (rule or WeightedMean()).aggregate((), sent)
    return part.receive(state, merged)[0]


def naive(rows, came, broadcast, max_norm):
    """Sum of clipped differences, float64."""
    total = np.zeros_like(broadcast, np.float64)
    for row, here in zip(rows, came, strict=True):
        delta = row.astype(np.float64) - broadcast
        size = np.linalg.norm(delta)
        if here:
            total += delta * min(1.0, max_norm / size) if size else 0
    return total


def test_central_is_the_sum_of_clipped_differences_over_all_clients_that_there_are():
    """Whoever came, the denominator is the same; whatever they count for, they count alike."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(6, 50)).astype(np.float32) * np.array([0.01, 1, 1, 1, 100, 1], np.float32)[:, None]
    broadcast = random.normal(size=50).astype(np.float32)
    for absent in ((), (1,), (0, 2, 3, 4, 5)):
        came = ~np.isin(np.arange(6), absent)
        sent = np.where(came[:, None], rows, np.nan)
        update = Update(jnp.asarray(sent), jnp.where(came, jnp.arange(1.0, 7.0), 0.0))
        found = released(CentralNoise(0.0, max_norm=2.0), update, jnp.asarray(broadcast))
        np.testing.assert_allclose(found, broadcast + naive(rows, came, broadcast, 2.0) / 6, atol=3e-6)


def chi_squared(noise, deviation):
    """How likely a sum of squares this far from its mean is, and whether the shape is normal."""
    flat = np.ravel(noise).astype(np.float64) / deviation
    tail = chi2.cdf(np.sum(flat**2), flat.size)
    return 2 * min(tail, 1 - tail), kstest(flat, "norm").pvalue


@pytest.mark.parametrize(("noise", "max_norm", "clients"), [(1.0, 1.0, 4), (6.4, 0.5, 3)])
def test_central_noise_passes_a_chi_squared_test(noise, max_norm, clients):
    """Deviation `z S / C` on the mean, also where only one of all came."""
    payload = {"a": jnp.zeros((clients, 40, 500)), "b": jnp.zeros((clients, 300))}
    still = jax.tree.map(lambda x: x[0], payload)
    for weight in (jnp.ones(clients), jnp.arange(clients) == 0):
        found = released(CentralNoise(noise, max_norm), Update(payload, weight * 1.0), still)
        flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(found)])
        assert min(chi_squared(flat, noise * max_norm / clients)) > 1e-3
    assert min(chi_squared(flat, 1.02 * noise * max_norm / clients)) < 1e-3  # the test sees 2 per cent


def test_local_noise_passes_a_chi_squared_test_at_each_client():
    update = Update(jnp.zeros((3, 20_000)), jnp.array([1.0, 2.0, 3.0]))
    sent, _ = LocalNoise(3.0, max_norm=0.5).upload((), update, jnp.zeros(20_000), KEY)
    for row in np.asarray(sent.payload):
        assert min(chi_squared(row, 1.5)) > 1e-3
    assert abs(np.corrcoef(sent.payload)[np.triu_indices(3, 1)]).max() < 0.03  # of each its own
    assert sent.weight.tolist() == update.weight.tolist()


def test_the_clip_comes_before_the_noise():
    """A message of any length moves what is sent by the bound at most, the noise being the same."""
    for part in (CentralNoise(1.0, max_norm=0.5), LocalNoise(1.0, max_norm=0.5)):
        for length in (0.0, 0.3, 0.5, 7.0, 1e12):
            rows = jnp.zeros((2, 900)).at[0].set(length / 30)
            found = released(part, Update(rows, jnp.ones(2)), jnp.zeros(900))
            without = released(part, Update(jnp.zeros((2, 900)), jnp.ones(2)), jnp.zeros(900))
            assert np.linalg.norm(found - without) == pytest.approx(min(length, 0.5) / 2, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("part", [CentralNoise(0.0, 1.0), LocalNoise(0.0, 1.0)], ids=repr)
def test_a_message_of_length_zero_stays_one_and_one_that_is_not_finite_is_absent(part):
    broadcast = jnp.array([1.0, -2.0, 0.0])
    bad = jnp.array([[jnp.nan, 0, 0], [jnp.inf, 0, 0], [-jnp.inf, 0, 0]]) + broadcast
    rows = jnp.concatenate([broadcast[None], bad, broadcast[None]])
    sent, _ = part.upload(part.init(broadcast, 5), Update(rows, jnp.ones(5)), broadcast, KEY)
    assert sent.weight.tolist() == [1, 0, 0, 0, 1]
    np.testing.assert_array_equal(sent.payload[jnp.array([0, 4])], jnp.stack([broadcast] * 2))
    np.testing.assert_array_equal(released(part, Update(rows, jnp.ones(5)), broadcast), broadcast)


def test_a_message_whose_square_overflows_is_cut_too():
    rows = jnp.array([[3e30, 4e30], [0.0, 0.0]])
    sent, _ = LocalNoise(0.0, 1.0).upload((), Update(rows, jnp.ones(2)), jnp.zeros(2), KEY)
    assert np.linalg.norm(sent.payload[0]) <= 1 + 1e-6


def test_with_the_same_key_the_same_noise_comes_to_the_last_bit():
    """So a round that is done again after a crash releases nothing new."""
    update, broadcast = Update(jax.random.normal(KEY, (3, 100)), jnp.ones(3)), jnp.zeros(100)
    for part in (CentralNoise(2.0), LocalNoise(2.0)):
        once, twice = (released(part, update, broadcast, jax.random.key(5)) for _ in range(2))
        np.testing.assert_array_equal(once, twice)
        assert np.any(once != released(part, update, broadcast, jax.random.key(6)))


def test_what_the_server_added_is_not_kept():
    part, update = CentralNoise(2.0), Update(jnp.ones((3, 10)), jnp.ones(3))
    _, pending = part.upload(part.init(jnp.zeros(10), 3), update, jnp.zeros(10), KEY)
    assert np.any(pending.add)
    assert not np.any(part.receive(pending, jnp.ones(10))[1].add)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [CentralNoise, LocalNoise])
def test_predictions_stay_predictions(kind, make):
    """Under noise that is far too much, and for whoever came with none."""
    update = made_up_predictions(kind, 0, 4)
    broken = jax.tree.map(lambda x: np.where(np.arange(4).reshape(-1, 1, 1) == 1, np.nan, x), update.payload)
    broadcast = jax.tree.map(lambda x: jnp.zeros_like(x[0]), update.payload)
    rule = Consensus("mean", on_invalid="drop")
    found = released(make(50.0, 1.0), Update(broken, jnp.ones(4)), broadcast, rule=rule)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    if kind is Probabilities:
        np.testing.assert_allclose(found.probabilities.sum(axis=-1), 1, atol=1e-5)
        assert found.probabilities.min() >= 0
    if kind is Gaussians:
        assert found.scale.min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_clipped_around_what_says_nothing(kind):
    """Wherever the broadcast is: it may be on another part of the public states."""
    update = made_up_predictions(kind, 3, 5)
    broadcast = jax.tree.map(lambda x: 100 + x[0], update.payload)
    sent, _ = LocalNoise(0.0, 0.25).upload((), update, broadcast, KEY)
    payload, centre = centred(sent.payload, broadcast)
    deltas = jax.tree.map(lambda x, c: np.reshape(x - c, (5, -1)), payload, centre)
    length = np.sqrt(sum(np.sum(d**2, axis=1) for d in jax.tree.leaves(deltas)))
    np.testing.assert_allclose(length, 0.25, rtol=1e-4)


def test_what_of_logits_says_nothing_is_not_sent():
    logits = Logits(jnp.array([[[1e4, 1e4 + 1]], [[-3.0, -2.0]]]))
    sent, _ = LocalNoise(0.0, 10.0).upload((), Update(logits, jnp.ones(2)), Logits(jnp.zeros((1, 2))), KEY)
    np.testing.assert_allclose(sent.payload.logits, [[[-0.5, 0.5]]] * 2, atol=1e-3)


def test_the_simplex_is_the_nearest_point():
    rows = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32) * 2
    found = np.asarray(on_the_simplex(jnp.asarray(rows)))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    others = np.random.default_rng(1).dirichlet(np.ones(4), 2000)
    for row, point in zip(rows, found, strict=True):
        assert np.sum((row - point) ** 2) <= np.sum((row - others) ** 2, axis=1).min() + 1e-5
    np.testing.assert_allclose(on_the_simplex(jnp.asarray(found)), found, atol=1e-6)


def test_noise_has_the_form_of_what_it_is_put_on():
    tree = {"a": jnp.zeros((2, 3), jnp.float16), "b": (jnp.zeros(()),)}
    noise = normal_like(KEY, tree, 1.0)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), noise) == jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert mended(tree) is tree


@pytest.mark.parametrize("kind", [Probabilities, Gaussians])
def test_keeps_the_contract_with_predictions(kind):
    """Central noise does too, but for distances to the broadcast, which is not the centre there."""
    made_up = functools.partial(made_up_predictions, kind)
    check_transform(LocalNoise(0.5, 2.0), made_up=made_up, zero_tolerance=float("inf"))


@pytest.mark.parametrize("make", [CentralNoise, LocalNoise])
@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ({"w": jnp.zeros(2), "steps": jnp.int32(3)}, r"but steps of a message is whole .* keep it off the wire"),
        (Nested(jnp.zeros(2), jnp.int32(1)), "but width of a message is whole"),
        ({"moments": Moments.none(3)}, "leave the observation statistics out of what is shared"),
        (Visit(jnp.zeros(4), Logits(jnp.zeros((1, 2))), jnp.zeros(4)), "the server walks from state to state"),
    ],
)
def test_refuses_what_noise_cannot_hide(make, payload, sentence):
    with pytest.raises(ValueError, match=f"{make.__name__} .*{sentence}"):
        make().init(payload, 3)


@pytest.mark.parametrize("make", [CentralNoise, LocalNoise])
@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"noise_multiplier": -1.0}, r"transforms\.noise_multiplier = -1 is out of range"),
        ({"max_norm": 0.0}, r"transforms\.max_norm = 0 is out of range"),
        ({"delta": 0.0}, r"transforms\.delta = 0 is out of range"),
        ({"epsilon": -1.0}, r"transforms\.epsilon = -1 is out of range"),
        ({"accountant": "moments"}, r"transforms\.accountant = 'moments' is not known"),
    ],
)
def test_refuses_fields_out_of_range(make, fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**fields).check()


def test_noise_weighs_nothing_on_the_wire():
    assert CentralNoise().wire(WireSize(100)) == LocalNoise().wire(WireSize(100)) == WireSize(100)
