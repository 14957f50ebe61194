"""Actions between bounds: there and back, and the worlds that have no such bounds."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.action_bounds import check_bounds, scaled, unscaled
from polyfed.environments import CONTINUOUS_PROBES, Box, CartPole, ContinuousProbe, Dataset, Discrete
from polyfed.environments.digits import Digits

BOX = Box(low=(-2.0, 0.0), high=(2.0, 10.0))


def test_there_and_back():
    inside = jnp.array([[-1.0, -1.0], [0.0, 0.5], [1.0, 1.0]])
    np.testing.assert_allclose(scaled(inside, BOX), [[-2, 0], [0, 7.5], [2, 10]], rtol=1e-6)
    np.testing.assert_allclose(unscaled(scaled(inside, BOX), BOX), inside, atol=1e-6)


def test_never_leaves_the_bounds_by_rounding():
    odd = Box(low=(-0.3,), high=(0.7,))
    actions = np.asarray(scaled(jnp.linspace(-1, 1, 1001)[:, None], odd))
    assert actions.min() == np.float32(-0.3)
    assert actions.max() == np.float32(0.7)


class Strange(ContinuousProbe):
    box: Box = BOX
    shown: object = BOX

    @property
    def action_space(self):
        return self.box

    @property
    def observation_space(self):
        return self.shown


@pytest.mark.parametrize(
    ("world", "sentence"),
    [
        (CartPole(), r"DDPG moves actions by small amounts, but CartPole takes one of 2: use DQN"),
        (Dataset(Digits()), r"DDPG learns by acting, but Dataset shows right answers"),
        (Strange(box=Box((-1.0,), (float("inf"),))), r"but Strange has Box.* give each entry a finite lower bound"),
        (Strange(box=Box((1.0,), (1.0,))), r"give each entry a finite lower bound and a larger finite upper one"),
        (Strange(shown=Discrete(3)), r"DDPG reads vectors, but Strange shows Discrete"),
    ],
)
def test_refuses_worlds_in_a_sentence(world, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        check_bounds("DDPG", world)
    assert str(refusal.value).count(". ") == 0


def test_accepts_the_others():
    for probe in CONTINUOUS_PROBES:
        check_bounds("DDPG", probe)
    check_bounds("DDPG", Strange(box=dataclasses.replace(BOX)))
