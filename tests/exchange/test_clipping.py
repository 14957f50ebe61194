import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.exchange import ClipNorm, WireSize
from polyfed.types import Update

SHAPES = {"weight": (3, 4), "bias": (3,), "scalar": ()}


def made_up(seed, num_clients, scale):
    random = np.random.default_rng(seed)
    return {k: (scale * random.normal(size=(num_clients, *s))).astype(np.float32) for k, s in SHAPES.items()}


@jax.jit
def clipped(transform, payload, broadcast):
    count = len(payload["scalar"])
    return transform.upload((), Update(payload, jnp.ones(count)), broadcast, jax.random.key(0))[0].payload


def flat(tree, client):
    return np.concatenate([np.ravel(np.asarray(tree[name], np.float64)[client]) for name in SHAPES])


def naive(payload, broadcast, max_norm, client):
    delta = flat(payload, client) - broadcast
    norm = np.sqrt((delta**2).sum())
    return broadcast + delta * min(1.0, max_norm / norm if norm else 1.0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e3, 1e15]),
    max_norm=st.sampled_from([1e-2, 1.0, 50.0]),
    own=st.booleans(),
)
def test_is_the_naive_clip_of_each_client(seed, scale, max_norm, own):
    """The global norm over all leaves, from a broadcast for all or one for each."""
    payload, starts = made_up(seed, 4, scale), made_up(seed + 1, 4, 1.0)
    broadcast = starts if own else {k: v[0] for k, v in starts.items()}
    result = clipped(ClipNorm(jnp.float32(max_norm)), payload, broadcast)
    for client in range(4):
        base = flat(starts, client if own else 0)
        expected, found = naive(payload, base, max_norm, client), flat(result, client)
        size = np.linalg.norm(expected - base)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5 * size + 3e-7)
        assert np.linalg.norm(found - base) <= max_norm * (1 + 1e-5) + 1e-6


def test_a_message_within_the_bound_is_sent_as_it_is():
    """Bit for bit, although `b + (x - b)` is not `x` in floating point."""
    payload, broadcast = made_up(0, 3, 1e-3), {k: v[0] for k, v in made_up(1, 1, 10.0).items()}
    assert any(np.any(broadcast[k] + (v - broadcast[k]) != v) for k, v in payload.items())
    result = clipped(ClipNorm(jnp.float32(1e3)), payload, broadcast)
    for name, leaf in result.items():
        np.testing.assert_array_equal(leaf, payload[name])


@pytest.mark.parametrize("max_norm", [0.0, -1.0, float("nan"), float("inf")])
def test_refuses_what_is_no_bound(max_norm):
    with pytest.raises(ValueError, match=r"transforms\.max_norm = .* is out of range"):
        ClipNorm(max_norm).check()


def test_says_that_it_bounds_and_keeps():
    assert (ClipNorm.bounds_norm, ClipNorm.keeps_norm, ClipNorm.sum_only) == (True, True, False)
    assert ClipNorm().wire(WireSize(1000)).total == 4000
