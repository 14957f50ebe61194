"""A fleet of agents of different make: who is in it, and what it refuses."""

import dataclasses

import numpy as np
import pytest

from polyfed.agents import DQN, Group, Mixed
from polyfed.environments import CartPole, Explicit
from polyfed.experiment import Experiment
from polyfed.leaves import check_leaves
from polyfed.record import from_data, to_data

FLEET = Mixed(
    (
        Group(DQN(hidden=(4,)), name="narrow"),
        Group(DQN(hidden=(8,), learning_rate=(1e-3, 1e-4)), num_clients=2, local_steps=50),
    )
)
EXPERIMENT = Experiment("fleet", CartPole(), Explicit(), num_clients=3, agent=FLEET, local_steps=20, common_start=False)


def test_clients_follow_each_other_group_after_group():
    assert FLEET.num_clients == 3
    FLEET.check(3)
    assert [(first, group.num_clients) for first, group in EXPERIMENT.placed_groups()] == [(0, 1), (1, 2)]
    assert [group.local_steps for group in EXPERIMENT.groups] == [20, 50]
    assert [name for name, _ in EXPERIMENT.named_groups()] == ["agent.groups[0].agent", "agent.groups[1].agent"]


def test_every_client_has_its_own_learner():
    found = [EXPERIMENT.learner_of(client) for client in range(3)]
    assert [agent.hidden for agent in found] == [(4,), (8,), (8,)]
    np.testing.assert_allclose([agent.learning_rate for agent in found[1:]], [1e-3, 1e-4], rtol=1e-6)
    with pytest.raises(ValueError, match=r"no such client among 3: count from 0\.$"):
        EXPERIMENT.learner_of(3)


def test_a_plain_learner_is_one_group():
    alike = dataclasses.replace(EXPERIMENT, agent=DQN(), common_start=True)
    assert alike.groups == (Group(DQN(), num_clients=3, local_steps=20),)
    pooled = dataclasses.replace(alike, pooled=True)
    assert pooled.groups == (Group(DQN(), num_clients=1, local_steps=20),)


def test_a_function_of_learners_leaves_the_groups_alone():
    changed = EXPERIMENT.with_learners(lambda learner: dataclasses.replace(learner, discount=0.5))
    assert [group.agent.discount for group in changed.agent.groups] == [0.5, 0.5]
    assert [(g.num_clients, g.local_steps, g.name) for g in changed.agent.groups] == [(1, None, "narrow"), (2, 50, "")]
    assert changed.agent.groups[1].agent.learning_rate == (1e-3, 1e-4)


def test_a_fleet_is_recorded():
    assert from_data(to_data(FLEET)) == FLEET


@pytest.mark.parametrize(
    ("fleet", "sentence"),
    [
        (Mixed(()), r"agent\.groups = \(\) holds nobody: give at least one Group\."),
        (Mixed((Group(DQN(), 0),)), r"agent\.groups\[0\]\.num_clients = 0 is out of range"),
        (Mixed((Group(DQN(), 3, local_steps=0),)), r"agent\.groups\[0\]\.local_steps = 0 is out of range"),
        (
            Mixed((Group(DQN(), 2),)),
            r"agent\.groups have 2 clients, but num_clients = 3: make them equal\.",
        ),
    ],
    ids=["nobody", "an empty group", "no steps", "another number"],
)
def test_a_fleet_that_cannot_be_is_refused_in_a_sentence(fleet, sentence):
    with pytest.raises(ValueError, match=sentence):
        fleet.check(3)


def test_numbers_are_one_per_client_of_the_group():
    name, group = EXPERIMENT.named_groups()[1]
    check_leaves(name, group.agent, group.num_clients)
    with pytest.raises(ValueError, match=r"agent\.groups\[1\]\.agent\.learning_rate has 2 values for 3 clients"):
        check_leaves(name, group.agent, 3)
