"""Whether states can be observations of an environment."""

from __future__ import annotations

from polyfed.environments.spaces import Box
from polyfed.environments.world import World


def check_states(shape: tuple[int, ...], environment: World) -> None:
    """Raise `ValueError` in one sentence unless states of a shape can be observations of an environment.

    >>> from polyfed.environments import CartPole
    >>> check_states((5000, 3), CartPole())
    Traceback (most recent call last):
    ValueError: Public states of 3 numbers are no observations of CartPole, which shows 4: give states of this ...
    """
    name, size = type(environment).__name__, box_of(environment).size
    if len(shape) != 2 or not shape[0]:
        raise ValueError(
            f"Public states of shape {list(shape)} give nothing to predict on: give [M, {size}], one state per row."
        )
    if shape[1] != size:
        raise ValueError(
            f"Public states of {shape[1]} numbers are no observations of {name}, which shows {size}: give states of "
            "this environment, or drop the columns that are none."
        )


def box_of(environment: World) -> Box:
    """The observation space, or a `ValueError` where observations are no vectors.

    >>> from polyfed.environments import CartPole
    >>> box_of(CartPole()).size
    4
    """
    space = environment.observation_space
    if not isinstance(space, Box):
        raise ValueError(
            f"Public states are vectors, but {type(environment).__name__} shows one of {space.n} states: use an "
            "environment whose observations are vectors."
        )
    return space
