import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from polyfed.exchange import LoseMessages
from polyfed.types import Update

PAYLOAD = jnp.arange(6.0).reshape(3, 2)


@jax.jit
def weights(transform, weight, keys):
    def one(key):
        return transform.upload((), Update(jnp.zeros((len(weight), 1)), weight), jnp.zeros(1), key)[0].weight

    return jax.vmap(one)(keys)


@pytest.mark.parametrize("probability", [0.05, 0.3, 0.9])
def test_loses_as_often_as_it_says_each_client_alone(probability):
    keys = jax.random.split(jax.random.key(0), 5000)
    left = np.asarray(weights(LoseMessages(jnp.float32(probability)), jnp.array([2.0, 1.0, 0.5]), keys))
    lost = left == 0
    for client in range(3):
        assert stats.binomtest(int(lost[:, client].sum()), 5000, probability).pvalue > 1e-3
        assert set(left[~lost[:, client], client]) == {(2.0, 1.0, 0.5)[client]}
    both = int((lost[:, 0] & lost[:, 1]).sum())  # one client's loss says nothing of another's
    assert stats.binomtest(both, 5000, probability**2).pvalue > 1e-3
    again = int((lost[1:, 0] & lost[:-1, 0]).sum())  # nor of the next round's
    assert stats.binomtest(again, 4999, probability**2).pvalue > 1e-3


@pytest.mark.parametrize(("probability", "left"), [(0.0, [1.0, 2.0, 0.0]), (1.0, [0.0, 0.0, 0.0])])
def test_never_and_always(probability, left):
    for seed in range(50):
        update = Update(PAYLOAD, jnp.array([1.0, 2.0, 0.0]))
        sent, _ = LoseMessages(probability).upload((), update, jnp.zeros(2), jax.random.key(seed))
        assert sent.weight.tolist() == left
        assert sent.payload is PAYLOAD


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_refuses_what_is_no_probability(probability):
    with pytest.raises(ValueError, match=r"transforms\.probability = .* is out of range: give a number from 0 to 1\."):
        LoseMessages(probability).check()
