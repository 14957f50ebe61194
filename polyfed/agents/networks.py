"""Multi-layer perceptrons with weights `[out, in]`, convolutional ones with `[out, in, height, width]`.

Out-major is the canonical order in which a layer is flattened: a row is what one output unit, or channel, reads. Of a
perceptron, the first `width` units of every hidden layer are a network of their own (HeteroFL, Diao et al. 2021,
sec. 3.1): so agents of different widths train side by side in arrays of one shape.

References: wang2016dueling, diao2021heterofl.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "tanh": jnp.tanh, "elu": jax.nn.elu}


class Linear(eqx.Module):
    """`x W^T + b` over any leading axes."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"]

    def __call__(self, x: Float[Array, "... in"]) -> Float[Array, "... out"]:
        """Apply to any leading axes."""
        return (self.weight @ x if x.ndim == 1 else x @ self.weight.T) + self.bias


def _held_linear(layer: Linear, inputs: Bool[Array, " in"] | None, outputs: Bool[Array, " out"] | None) -> Linear:
    """Which entries belong to a sub-network with these inputs and outputs; None: all of them."""
    num_outputs, num_inputs = layer.weight.shape
    rows = jnp.ones(num_outputs, bool) if outputs is None else outputs
    columns = jnp.ones(num_inputs, bool) if inputs is None else inputs
    return Linear(rows[:, None] & columns, rows)


def _kept(units: Float[Array, "... units"], width: ArrayLike | None) -> Float[Array, "... units"]:
    """The first `width` units, 0 in the place of the others; None: all, untouched."""
    return units if width is None else jnp.where(jnp.arange(units.shape[-1]) < width, units, 0)


def linears(shapes: Sequence[tuple[int, int]], key: PRNGKeyArray) -> tuple[Linear, ...]:
    """Layers of shapes `(in, out)`, weights and biases uniform in `±1/sqrt(in)`, all from one draw.

    >>> [layer.weight.shape for layer in linears([(4, 8), (8, 2)], jax.random.key(0))]
    [(8, 4), (2, 8)]
    """
    sizes = [(a + 1) * b for a, b in shapes]
    draws = jnp.split(jax.random.uniform(key, (sum(sizes),), jnp.float32, -1.0, 1.0), np.cumsum(sizes)[:-1])
    return tuple(
        Linear(x[: a * b].reshape(b, a) / np.sqrt(a, dtype=np.float32), x[a * b :] / np.sqrt(a, dtype=np.float32))
        for x, (a, b) in zip(draws, shapes, strict=True)
    )


class MLP(eqx.Module):
    """Fully connected layers; the last one is linear.

    Initial weights and biases are uniform in `±1/sqrt(in)` (the usual default of PyTorch and Equinox).

    >>> import jax
    >>> mlp = MLP(4, 2, hidden=(8, 8), activation="relu", key=jax.random.key(0))
    >>> mlp(jax.numpy.ones((3, 4))).shape
    (3, 2)
    """

    layers: tuple[Linear, ...]
    activation: str = eqx.field(static=True)

    def __init__(self, in_size: int, out_size: int, *, hidden: tuple[int, ...], activation: str, key: PRNGKeyArray):
        sizes = (in_size, *hidden, out_size)
        self.layers = linears(list(itertools.pairwise(sizes)), key)
        self.activation = activation

    def __call__(self, x: Float[Array, "... in"], width: ArrayLike | None = None) -> Float[Array, "... out"]:
        """Apply to any leading axes.

        Args:
          x: Inputs.
          width: How many units of every hidden layer are in use, from the first; it may be traced. The others are 0,
            and so is every gradient of what they read and of what reads them. None: all.
        """
        for layer in self.layers[:-1]:
            x = _kept(ACTIVATIONS[self.activation](layer(x)), width)
        return self.layers[-1](x)

    def held(self, width: ArrayLike) -> MLP:
        """The same tree with booleans: which entries belong to the sub-network of `width` units per hidden layer.

        Inputs and outputs always do; a layer of no more than `width` units does as a whole.

        >>> mlp = MLP(2, 1, hidden=(3,), activation="relu", key=jax.random.key(0))
        >>> [layer.weight.tolist() for layer in mlp.held(2).layers]
        [[[True, True], [True, True], [False, False]], [[True, True, False]]]
        """
        return self._held(width, last_is_hidden=False)

    def _held(self, width: ArrayLike, *, last_is_hidden: bool) -> MLP:
        inputs: Array | None = None
        layers = []
        for index, layer in enumerate(self.layers):
            hidden = last_is_hidden or index < len(self.layers) - 1
            outputs = jnp.arange(layer.weight.shape[0]) < width if hidden else None
            layers.append(_held_linear(layer, inputs, outputs))
            inputs = outputs
        return eqx.tree_at(lambda mlp: mlp.layers, self, tuple(layers))


class DuelingMLP(eqx.Module):
    """Action values as `V(s) + A(s, a) - mean_a A(s, a)` over a shared body (Wang et al. 2016, eq. 9).

    >>> import jax
    >>> net = DuelingMLP(4, 2, hidden=(8, 8), activation="relu", key=jax.random.key(0))
    >>> net(jax.numpy.ones((3, 4))).shape
    (3, 2)
    """

    body: MLP  # its last layer is the last hidden layer
    value: Linear
    advantage: Linear

    def __init__(self, in_size: int, out_size: int, *, hidden: tuple[int, ...], activation: str, key: PRNGKeyArray):
        k_body, k_heads = jax.random.split(key)
        self.body = MLP(in_size, hidden[-1], hidden=hidden[:-1], activation=activation, key=k_body)
        self.value, self.advantage = linears([(hidden[-1], 1), (hidden[-1], out_size)], k_heads)

    def __call__(self, x: Float[Array, "... in"], width: ArrayLike | None = None) -> Float[Array, "... out"]:
        """Apply to any leading axes; `width` as in `MLP`."""
        x = _kept(ACTIVATIONS[self.body.activation](self.body(x, width)), width)
        advantage = self.advantage(x)
        return self.value(x) + advantage - jnp.mean(advantage, axis=-1, keepdims=True)

    def held(self, width: ArrayLike) -> DuelingMLP:
        """The same tree with booleans, as in `MLP`.

        >>> net = DuelingMLP(2, 3, hidden=(4,), activation="relu", key=jax.random.key(0))
        >>> net.held(1).value.weight.tolist(), net.held(1).body.layers[0].bias.tolist()
        ([[True, False, False, False]], [True, False, False, False])
        """
        body = self.body._held(width, last_is_hidden=True)
        units = body.layers[-1].bias
        heads = _held_linear(self.value, units, None), _held_linear(self.advantage, units, None)
        return eqx.tree_at(lambda net: (net.body, net.value, net.advantage), self, (body, *heads))


def hidden_and_heads(network: MLP | DuelingMLP) -> tuple[tuple[Linear, ...], tuple[Linear, ...]]:
    """The hidden layers, and the linear layers that read the last of them.

    >>> net = DuelingMLP(4, 2, hidden=(8, 6), activation="relu", key=jax.random.key(0))
    >>> [[len(layer.bias) for layer in layers] for layers in hidden_and_heads(net)]
    [[8, 6], [1, 2]]
    """
    if isinstance(network, DuelingMLP):
        return network.body.layers, (network.value, network.advantage)
    return network.layers[:-1], network.layers[-1:]


class Convolution(eqx.Module):
    """A 3x3 convolution that keeps the size of the image, channels last.

    Computed as one product of patches and weights: XLA's own convolution takes fifteen times as long on a CPU.
    """

    weight: Float[Array, "out in 3 3"]
    bias: Float[Array, " out"]

    def __call__(self, x: Float[Array, "batch height width in"]) -> Float[Array, "batch height width out"]:
        """Apply to a batch of images."""
        height, width = x.shape[1:3]
        framed = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        shifts = [framed[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        kernel = jnp.moveaxis(self.weight, (2, 3), (0, 1)).swapaxes(2, 3).reshape(-1, self.weight.shape[0])
        return jnp.concatenate(shifts, axis=-1) @ kernel + self.bias


def convolutions(depth: int, channels: tuple[int, ...], key: PRNGKeyArray) -> tuple[Convolution, ...]:
    """Stages of so many output channels, over an image of `depth` of them; initial weights as those of `linears`.

    >>> [stage.weight.shape for stage in convolutions(3, (8, 16), jax.random.key(0))]
    [(8, 3, 3, 3), (16, 8, 3, 3)]
    """
    shapes = [(9 * a, b) for a, b in itertools.pairwise((depth, *channels))]
    filters = linears(shapes, key) if shapes else ()
    return tuple(Convolution(x.weight.reshape(len(x.bias), -1, 3, 3), x.bias) for x in filters)


def convolved(
    stages: tuple[Convolution, ...], x: Float[Array, "... pixels"], image_shape: tuple[int, ...], activation: str
) -> Float[Array, "... features"]:
    """What stages leave of flattened images, flattened: each is a convolution, its activation, and 2x2 max pooling.

    >>> convolved((), jnp.ones((5, 6)), (2, 3), "relu").shape
    (5, 6)
    """
    leading, image = x.shape[:-1], (*image_shape, 1)[:3]
    x = x.reshape(math.prod(leading), *image)
    for stage in stages:
        x = _halved(ACTIVATIONS[activation](stage(x)))
    return x.reshape(*leading, math.prod(x.shape[1:]))


class CNN(eqx.Module):
    """Stages of a 3x3 convolution, activation and 2x2 max pooling, then an `MLP`.

    Images come flattened, as vectors of `prod(image_shape)` numbers. A row of a weight is an output channel. Its units
    have no widths: channels that lie flattened before the first layer of the head are not its first inputs, so there
    is no `held`; give agents of different widths an `MLP`.

    >>> import jax
    >>> cnn = CNN((8, 8), 10, channels=(4, 8), hidden=(16,), activation="relu", key=jax.random.key(0))
    >>> cnn(jax.numpy.ones((3, 64))).shape, cnn.stages[1].weight.shape, cnn.head.layers[0].weight.shape
    ((3, 10), (8, 4, 3, 3), (16, 32))
    """

    stages: tuple[Convolution, ...]
    head: MLP
    image_shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        image_shape: tuple[int, ...],  # height and width in pixels, and channels if there is more than one
        out_size: int,
        *,
        channels: tuple[int, ...],  # of every stage
        hidden: tuple[int, ...],
        activation: str,
        key: PRNGKeyArray,
    ):
        height, width, depth = (*image_shape, 1)[:3]
        size = height // 2 ** len(channels), width // 2 ** len(channels)
        if min(size) < 1:
            raise ValueError(
                f"{len(channels)} stages halve an image of {height} x {width} pixels to nothing: "
                f"give at most {min(height, width).bit_length() - 1} channels, not {channels}."
            )
        k_stages, k_head = jax.random.split(key)
        self.stages = convolutions(depth, channels, k_stages)
        depth = channels[-1] if channels else depth
        self.head = MLP(math.prod(size) * depth, out_size, hidden=hidden, activation=activation, key=k_head)
        self.image_shape = (height, width, *image_shape[2:])

    def __call__(self, x: Float[Array, "... pixels"]) -> Float[Array, "... out"]:
        """Apply to any leading axes."""
        return self.head(convolved(self.stages, x, self.image_shape, self.head.activation))


def _halved(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch half_height half_width channels"]:
    """The largest of every 2x2 pixels; an odd last row or column is left out.

    A reshape, not `lax.reduce_window`, whose gradient is slower on a CPU.
    """
    batch, height, width, channels = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return jnp.max(even.reshape(batch, height // 2, 2, width // 2, 2, channels), axis=(2, 4))
