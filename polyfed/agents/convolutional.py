"""Convolutional stages before any network, so that learners of vectors read images (as in Mnih et al. 2015).

References: mnih2015dqn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.agents.networks import Convolution, convolutions, convolved
from polyfed.checks import whole_in_range
from polyfed.environments.spaces import Box
from polyfed.environments.world import World


class Convolutional(eqx.Module):
    """Stages of a 3x3 convolution, activation and 2x2 max pooling, and a network that reads what they leave.

    Images come flattened. Channels of a stage and units of the network are what they are: neither has widths.

    >>> from polyfed.agents.networks import MLP
    >>> image = Box(low=(0.0,) * 64, high=(1.0,) * 64, shape=(8, 8))
    >>> made = lambda size, key: MLP(size, 3, hidden=(16,), activation="relu", key=key)
    >>> network = over_image(made, image, channels=(4, 8), activation="relu", key=jax.random.key(0))
    >>> network(jax.numpy.ones((5, 64))).shape, network.network.layers[0].weight.shape
    ((5, 3), (16, 32))
    """

    stages: tuple[Convolution, ...]
    network: Any
    image_shape: tuple[int, ...] = eqx.field(static=True)  # rows, columns, and channels if there is more than one
    activation: str = eqx.field(static=True)  # of the stages

    def __call__(self, x: Float[Array, "... pixels"]) -> Float[Array, "... out"]:
        """Apply to any leading axes."""
        return self.network(convolved(self.stages, x, self.image_shape, self.activation))


def over_image(
    made: Callable[[int, PRNGKeyArray], Any],
    space: Box,
    *,
    channels: tuple[int, ...],
    activation: str | tuple[str, ...],
    key: PRNGKeyArray,
) -> Any:
    """A network that reads observations: what `made` gives where there are no channels, else that over stages.

    Args:
      made: A network from its number of inputs and a key.
      space: Of the observations.
      channels: Of each stage; each halves rows and columns. None: the network reads the flattened observation.
      activation: Of the stages; of several the first.
      key: Of the initial weights; where there are no channels `made` gets it as it is.

    >>> over_image(lambda size, key: size, Box(low=(0.0,), high=(1.0,)), channels=(), activation="relu", key=None)
    1
    """
    if not channels:
        return made(space.size, key)
    assert space.shape is not None
    k_stages, k_network = jax.random.split(key)
    name = activation if isinstance(activation, str) else activation[0]
    stages = convolutions((*space.shape, 1)[2], channels, k_stages)
    rows, columns = (length // 2 ** len(channels) for length in space.shape[:2])
    network = made(math.prod((rows, columns, channels[-1])), k_network)
    return Convolutional(stages, network, space.shape, name)


def check_channels(channels: tuple[int, ...], environment: World) -> None:
    """Raise `ValueError` in one sentence where stages do not fit what is seen.

    >>> from polyfed.environments import CartPole
    >>> check_channels((), CartPole())
    """
    if not channels:
        return
    for number in channels:
        whole_in_range("agent.channels", number, 1, 2**16)
    space, name = environment.observation_space, type(environment).__name__
    shape = space.shape if isinstance(space, Box) else None
    if shape is None or len(shape) not in (2, 3):
        raise ValueError(
            f"agent.channels = {channels} reads images, but what {name} shows has no rows and columns: leave "
            "agent.channels out."
        )
    if min(shape[:2]) < 2 ** len(channels):
        raise ValueError(
            f"agent.channels = {channels} halves rows and columns {len(channels)} times, but {name} shows "
            f"{' x '.join(map(str, shape))}: give at most {min(shape[:2]).bit_length() - 1}."
        )
