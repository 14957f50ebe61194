import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.networks import ACTIVATIONS, CNN, MLP, DuelingMLP, hidden_and_heads, linears

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


@pytest.mark.slow
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


@pytest.mark.parametrize("network", [MLP, DuelingMLP])
def test_full_width_is_no_width_bit_for_bit(network):
    net, x = made(network, 3, 2, (5, 7), "elu", seed=0), jnp.ones((4, 3))
    for width in (7, 99):
        np.testing.assert_array_equal(net(x, width), net(x))
    np.testing.assert_array_equal(net(x, None), net(x))
    plain = jax.make_jaxpr(lambda net, x: net(x))(net, x)
    assert not {"iota", "select_n", "lt"} & {str(equation.primitive) for equation in plain.eqns}  # costs nothing


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("network", [pytest.param(MLP, marks=pytest.mark.slow), DuelingMLP])
def test_gradients_outside_of_a_slice_are_exactly_zero(network, activation):
    net, x = made(network, 3, 2, (5, 7), activation, seed=0), jnp.asarray(np.random.default_rng(0).normal(size=(9, 3)))

    @jax.jit
    def gradient(net, width):
        return jax.grad(lambda net: jnp.sum(jnp.sin(net(x, width))))(net)

    for width in (1, 3, 5, 6, 7):
        for leaf, held in zip(jax.tree.leaves(gradient(net, width)), jax.tree.leaves(net.held(width)), strict=True):
            assert held.dtype == bool
            assert leaf.shape == held.shape
            assert not np.any(np.asarray(leaf)[~np.asarray(held)])
        assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient(net, width)))


@pytest.mark.parametrize("network", [pytest.param(MLP, marks=pytest.mark.slow), DuelingMLP])
def test_units_beyond_the_width_do_not_matter(network):
    net, x = made(network, 3, 2, (5, 7), "tanh", seed=0), jnp.ones((4, 3))
    other = jax.tree.map(lambda leaf, held: jnp.where(held, leaf, 1e6), net, net.held(4))
    np.testing.assert_array_equal(other(x, 4), net(x, 4))
    widths = jnp.array([2, 4])
    side_by_side = jax.vmap(net, in_axes=(None, 0))(x, widths)
    np.testing.assert_allclose(side_by_side, [net(x, 2), net(x, 4)], atol=1e-6)


def test_hidden_and_heads():
    for network, sizes in ((MLP, [[5, 7], [2]]), (DuelingMLP, [[5, 7], [1, 2]])):
        layers = hidden_and_heads(made(network, 3, 2, (5, 7), "tanh", seed=0))
        assert [[len(layer.bias) for layer in part] for part in layers] == sizes


def naive_cnn(cnn, x):
    height, width, depth = (*cnn.image_shape, 1)[:3]
    image = np.asarray(x, np.float64).reshape(height, width, depth)
    for stage in cnn.stages:
        weight, bias = np.asarray(stage.weight, np.float64), np.asarray(stage.bias, np.float64)
        height, width, _ = image.shape
        framed = np.pad(image, ((1, 1), (1, 1), (0, 0)))
        out = np.zeros((height, width, len(bias)))
        for i, j, o in np.ndindex(*out.shape):
            patch = framed[i : i + 3, j : j + 3]  # [3, 3, in]
            out[i, j, o] = NAIVE[cnn.head.activation](np.sum(patch * weight[o].transpose(1, 2, 0)) + bias[o])
        image = np.stack(
            [
                [out[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1)) for j in range(width // 2)]
                for i in range(height // 2)
            ]
        )
    return naive_mlp(cnn.head, image.ravel())


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        pytest.param((6, 6), (3,), marks=pytest.mark.slow),
        pytest.param((7, 5), (3, 2), marks=pytest.mark.slow),
        ((4, 4, 3), (2,)),
        ((3, 3), ()),
    ],
)
def test_cnn_is_the_naive_loop(shape, channels):
    cnn = CNN(shape, 4, channels=channels, hidden=(5,), activation="relu", key=jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(3, np.prod(shape)))
    np.testing.assert_allclose(cnn(jnp.asarray(x)), [naive_cnn(cnn, row) for row in x], rtol=1e-4, atol=1e-5)
    for leading in ((6, 2), (), (0,)):
        assert jax.eval_shape(cnn, jnp.ones((*leading, int(np.prod(shape))))).shape == (*leading, 4)
    np.testing.assert_allclose(cnn(jnp.asarray(x[0])), naive_cnn(cnn, x[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_cnn_weights_are_out_by_in_by_height_by_width_and_fill_their_bounds():
    cnn = CNN((8, 8, 4), 10, channels=(64, 32), hidden=(16,), activation="relu", key=jax.random.key(0))
    assert [stage.weight.shape for stage in cnn.stages] == [(64, 4, 3, 3), (32, 64, 3, 3)]
    for stage in cnn.stages:
        bound = 1 / np.sqrt(np.prod(stage.weight.shape[1:]))
        assert 0.95 * bound < float(jnp.max(jnp.abs(stage.weight))) <= bound
        assert float(jnp.max(jnp.abs(stage.bias))) <= bound
    assert not hasattr(cnn, "held")
    gradient = jax.jit(jax.grad(lambda cnn, x: jnp.sum(cnn(x) ** 2)))(cnn, jnp.ones((2, 256)))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(cnn))


def test_cnn_with_too_many_stages_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="3 stages halve an image of 6 x 9 pixels to nothing: give at most 2"):
        CNN((6, 9), 2, channels=(1, 1, 1), hidden=(2,), activation="relu", key=jax.random.key(0))
