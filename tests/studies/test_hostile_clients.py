"""What is trained under which attack, and what is said about it."""

import dataclasses

import jax
import numpy as np
import pytest

from polyfed.agents import PPO
from polyfed.experiments import load_study
from polyfed.simulation.simulate import Simulation
from polyfed.studies.hostile_clients import HostileClients, findings
from polyfed.study import silent

STUDY = load_study("byzantine-cartpole")
assert isinstance(STUDY, HostileClients)
RULES, ATTACKS = tuple(STUDY.rules(2)), tuple(STUDY.attacks(2))


def test_the_published_study_can_be_made():
    STUDY.check()


@pytest.mark.slow
def test_arms_of_a_rule_differ_in_numbers_alone():
    """So that they share a compilation."""
    forms = {}
    for count in (2, 3):
        for name, rule in STUDY.rules(count).items():
            for attack in ("none", "ALIE", "reward poisoning"):
                simulation = Simulation(STUDY.arm(rule, attack, count), (0,))
                arrays = (simulation.parts, simulation._params)
                form = jax.tree.map(lambda x: (x.shape, x.dtype), arrays)
                forms.setdefault(name, set()).add((str(form), simulation.plan))
    assert {name: len(each) for name, each in forms.items()} == dict.fromkeys(RULES, 1)


def test_poisoned_rewards_are_those_of_the_first_clients_and_of_no_world_that_is_judged():
    arm = STUDY.arm(STUDY.rules(3)["mean"], "reward poisoning", 3)
    assert arm.variation.params(arm.environment, 10).reward.tolist() == [-1] * 3 + [1] * 7
    assert arm.evaluation.held_out.params(arm.environment, 5).reward.tolist() == [1] * 5
    clean = STUDY.arm(STUDY.rules(3)["mean"], "sign flip", 3)
    assert clean.variation.params(clean.environment, 10).reward.tolist() == [1] * 10


def cells(**worth):
    """Made-up returns: 500 where nothing is said, by rule and attack of two hostile clients."""
    found = {(rule, "none", 2): np.full(3, 500.0) for rule in RULES}
    for rule in RULES:
        for attack in ATTACKS:
            for count in (2, 3):
                share = worth.get(attack.replace(" ", "_"), {}).get(rule, 1.0) if count == 2 else 1.0
                found[rule, attack, count] = share * np.array([490.0, 500.0, 510.0])
    return found


def test_says_which_attacks_count_and_what_is_left():
    broken = {"mean": 0.02, "Krum": 0.5}
    said = findings(STUDY, cells(sign_flip=broken), (0, 1, 2))
    assert "With 2 of 10 hostile averaging is broken by sign flip; " in said.verdict[0]
    assert said.verdict[0].endswith("Krum 50 %. Under each some rule keeps 85 %.")
    assert "nothing is shown" in said.verdict[1]
    krum = next(row for row in said.tables[0].rows if row[0] == "Krum")
    np.testing.assert_allclose(krum[2].value, 50.0)
    assert krum[2].low < 50 < krum[2].high


def test_says_what_no_rule_survives():
    said = findings(STUDY, cells(ALIE=dict.fromkeys(RULES, 0.1)), (0, 1, 2))
    assert said.verdict[0].endswith("No rule keeps 85 % under ALIE.")


def test_refuses():
    with pytest.raises(ValueError, match="last = 99"):
        dataclasses.replace(STUDY, last=99).check()
    with pytest.raises(ValueError, match="has nothing left"):
        dataclasses.replace(STUDY, hostile=(5,)).check()


@pytest.mark.slow
def test_a_small_study_is_whole():
    experiment = dataclasses.replace(
        STUDY.experiment, agent=PPO(hidden=(4,), rollout_steps=8, epochs=1, minibatches=1), num_rounds=2, local_steps=8
    )
    found = dataclasses.replace(STUDY, experiment=experiment, hostile=(1,), last=1).answer((0, 1), silent)
    assert len(found.tables) == 1
    assert len(found.tables[0].rows) == len(RULES)
    assert len(found.tables[0].rows[0]) == len(ATTACKS) + 2
