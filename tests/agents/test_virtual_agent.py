"""The virtual agent: which states it leaves, and that they are like the published ones."""

import dataclasses

import numpy as np
import pytest

from polyfed.agents.virtual_agent import VirtualAgentStates
from polyfed.environments import Acrobot, CartPole, Pendulum
from polyfed.record import from_data, to_data

SMALL = VirtualAgentStates(num=60, clusters=3, hidden=(4,), first=2, last=4, every=2, rollouts=6)


def test_states_of_a_virtual_agent():
    made = SMALL.states(CartPole(max_steps=20))
    assert made.shape == (60, 4)
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    assert np.all(np.any(made != 0, axis=1))  # no padding
    assert np.abs(made[:, 0]).max() < 2.4
    assert len(np.unique(made, axis=0)) > 30


def test_too_few_states():
    with pytest.raises(ValueError, match=r"The virtual agent met \d+ states, from which 1000 cannot be drawn"):
        dataclasses.replace(SMALL, num=1000).states(CartPole(max_steps=20))


@pytest.mark.parametrize(
    ("made", "world", "sentence"),
    [
        (VirtualAgentStates(every=300), CartPole(), "are kept every 300 episodes, which does not meet first = 1000"),
        (VirtualAgentStates(last=900), CartPole(), r"public_states\.last = 900 episodes is out of range"),
        (VirtualAgentStates(components=4), Pendulum(), r"public_states\.components = 4 is out of range"),
        (VirtualAgentStates(num=3), CartPole(), r"public_states\.clusters = 5 is out of range"),
        (VirtualAgentStates(acting="random"), CartPole(), r"public_states\.acting = 'random' is not known"),
        (VirtualAgentStates(activation="relo"), CartPole(), r"agent\.activation = 'relo' is not known"),
        (VirtualAgentStates(rollouts=0), CartPole(), r"public_states\.rollouts = 0 episodes is out of range"),
    ],
)
def test_what_cannot_be_made(made, world, sentence):
    with pytest.raises(ValueError, match=sentence):
        made.check(world)


def test_it_is_a_part():
    again = from_data(to_data(SMALL))
    assert again == SMALL
    assert hash(again) == hash(SMALL)
    assert (SMALL.num_policies, VirtualAgentStates().num_policies) == (2, 11)
    assert "60 states of a virtual agent after 2 to 4 episodes" in SMALL.describe
    for world in (Acrobot(), Pendulum()):
        VirtualAgentStates().check(world)
    assert SMALL.agent(Pendulum()).normalize is False


@pytest.mark.slow
def test_states_are_like_the_published_ones():
    """Released set: standard deviations of an upright pole (.596, .177, .007, .219) - here within a factor of four."""
    states = VirtualAgentStates().states(CartPole())
    spread = states.std(axis=0)
    published = np.array([0.596, 0.177, 0.007, 0.219])
    assert states.shape == (5000, 4)
    assert np.all(spread[[0, 1, 3]] < 4 * published[[0, 1, 3]])
    assert np.all(spread[[0, 1, 3]] > published[[0, 1, 3]] / 4)
    assert spread[2] < 0.1  # rad: it balances
