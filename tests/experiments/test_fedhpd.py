"""The fleets of FedHPD's experiments: what the arms have in common, and what sets them apart."""

import dataclasses

import pytest

from polyfed.agents import A2C, PPO, REINFORCE
from polyfed.environments import NeutralStates, UniformStates
from polyfed.exchange import Nothing
from polyfed.experiments import load
from polyfed.recipes import arms


@pytest.mark.parametrize(
    ("name", "learner"), [("fedhpd-cartpole", REINFORCE), ("fedhpd-a2c", A2C), ("fedhpd-ppo", PPO)]
)
def test_the_ten_networks_are_the_published_ones_whoever_learns(name, learner):
    groups = load(name).groups
    assert all(isinstance(group.agent, learner) for group in groups)
    assert [group.agent.hidden for group in groups] == [g.agent.hidden for g in load("fedhpd-cartpole").groups]
    assert len({(g.agent.hidden, g.agent.activation, g.agent.learning_rate) for g in groups}) == 10


def test_arms_with_other_public_states_differ_in_nothing_else():
    found = arms(load("fedhpd-public-states"))
    assert isinstance(found["fedhpd_neutral"].payload.public, NeutralStates)
    assert isinstance(found["fedhpd_uniform"].payload.public, UniformStates)
    assert found["fedhpd_one_cluster"].payload.public.clusters == 1
    assert found["fedhpd_few"].payload.public.num == 500
    assert isinstance(found["local_only"].payload, Nothing)
    for method, arm in found.items():
        if method != "local_only":
            assert arm.payload.distillation == found["fedhpd"].payload.distillation
            assert dataclasses.replace(arm, method="fedhpd", payload=found["fedhpd"].payload) == found["fedhpd"]


def test_every_arm_of_the_sample_cost_lives_two_thousand_episodes():
    for arm in arms(load("fedhpd-sample-cost")).values():
        assert arm.num_rounds * arm.local_steps == 2000


def test_the_pendulums_agents_are_those_of_the_released_code():
    experiment = load("fedhpd-pendulum")
    agents = [group.agent for group in experiment.groups]
    assert [len(agent.activation) for agent in agents] == [2] * 10
    assert {(agent.weight_decay, agent.normalize, agent.decay, agent.scale) for agent in agents} == {
        (0.01, False, 1.0, "network")
    }
    assert experiment.payload.distillation.direction == "reverse"
    assert experiment.num_rounds * experiment.local_steps == 6000


def test_the_lunar_landers_are_those_of_the_released_code():
    pytest.importorskip("Box2D")
    experiment = load("fedhpd-lunarlander")
    experiment.check()
    assert [group.agent.activation for group in experiment.groups] == [
        group.agent.activation for group in load("fedhpd-cartpole").groups
    ]
    public, distillation = experiment.payload.public, experiment.payload.distillation
    assert (public.num, public.num_policies) == (10_000, 21)
    assert public.num // distillation.chunks == 2500
    assert experiment.num_rounds * experiment.local_steps == 3000
