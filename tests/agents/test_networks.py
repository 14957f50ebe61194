import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.networks import ACTIVATIONS, MLP, DuelingMLP, linears

NAIVE = {
    "relu": lambda x: x if x > 0 else 0.0,
    "tanh": np.tanh,
    "elu": lambda x: x if x > 0 else np.exp(x) - 1,
}


@functools.partial(jax.jit, static_argnums=range(5))
def made(network, in_size, out_size, hidden, activation, seed):
    return network(in_size, out_size, hidden=hidden, activation=activation, key=jax.random.key(seed))


def naive_linear(layer, x):
    weight, bias = np.asarray(layer.weight, np.float64), np.asarray(layer.bias, np.float64)
    return [sum(weight[o, i] * x[i] for i in range(len(x))) + bias[o] for o in range(len(bias))]


def naive_mlp(mlp, x):
    for layer in mlp.layers[:-1]:
        x = [NAIVE[mlp.activation](value) for value in naive_linear(layer, x)]
    return naive_linear(mlp.layers[-1], x)


@pytest.mark.parametrize(("activation", "hidden"), [*((name, (5, 7)) for name in ACTIVATIONS), ("relu", (5,))])
def test_mlp_is_the_naive_loop(activation, hidden):
    mlp = made(MLP, 3, 2, hidden, activation, seed=0)
    x = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(mlp(jnp.asarray(x)), [naive_mlp(mlp, row) for row in x], rtol=1e-4, atol=1e-6)
    for leading in ((6, 4), (), (0,)):  # any leading axes
        assert jax.eval_shape(mlp, jnp.ones((*leading, 3))).shape == (*leading, 2)
    np.testing.assert_allclose(mlp(jnp.asarray(x[0])), naive_mlp(mlp, x[0]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("hidden", [(5,), (5, 7)])
def test_dueling_is_value_plus_centred_advantage(hidden):
    net = made(DuelingMLP, 3, 4, hidden, "tanh", seed=1)
    x = np.random.default_rng(1).normal(size=(5, 3))
    expected = []
    for row in x:
        body = [np.tanh(value) for value in naive_mlp(net.body, row)]
        (value,), advantage = naive_linear(net.value, body), naive_linear(net.advantage, body)
        expected.append([value + a - sum(advantage) / len(advantage) for a in advantage])
    np.testing.assert_allclose(net(jnp.asarray(x)), expected, rtol=1e-4, atol=1e-6)
    shifted = jax.tree.map(lambda b: b, net)
    object.__setattr__(shifted.advantage, "bias", net.advantage.bias + 100.0)  # a constant advantage is no advantage
    np.testing.assert_allclose(shifted(jnp.asarray(x)), expected, rtol=1e-3, atol=1e-4)


def test_weights_are_out_by_in():
    mlp = MLP(4, 2, hidden=(8, 16), activation="relu", key=jax.random.key(0))
    assert [layer.weight.shape for layer in mlp.layers] == [(8, 4), (16, 8), (2, 16)]
    assert [layer.bias.shape for layer in mlp.layers] == [(8,), (16,), (2,)]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(mlp))


def test_first_weights_fill_their_bounds_and_differ():
    layers = jax.jit(lambda key: linears([(16, 400), (400, 100)], key))(jax.random.key(3))
    for layer, size in zip(layers, (16, 400), strict=True):
        bound = 1 / np.sqrt(size)
        for leaf, low in ((layer.weight, 0.99), (layer.bias, 0.9)):
            largest = float(jnp.max(jnp.abs(leaf)))
            assert low * bound < largest <= bound
        assert float(jnp.mean(layer.weight)) == pytest.approx(0.0, abs=0.05 * bound)
        assert float(jnp.std(layer.weight)) == pytest.approx(bound / np.sqrt(3), rel=0.02)
    draws = np.concatenate(
        [
            np.asarray(leaf).ravel() * np.sqrt(s)
            for leaf, s in zip(layers, (16, 400), strict=True)
            for leaf in (leaf.weight, leaf.bias)
        ]
    )
    assert len(np.unique(draws)) > 0.99 * len(draws)  # no draw is used twice


def test_another_key_gives_other_weights():
    one, same, other = (made(MLP, 2, 2, (3,), "relu", seed=k) for k in (0, 0, 1))
    np.testing.assert_array_equal(one.layers[0].weight, same.layers[0].weight)
    assert not np.any(np.asarray(one.layers[0].weight) == np.asarray(other.layers[0].weight))
