"""The audit on a training of a few rounds: it is whole, repeatable, and refuses what it cannot look at."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import WorstCase
from polyfed.experiments import load, load_study
from polyfed.simulation.worlds import fleet
from polyfed.studies import expectile_audit
from polyfed.studies.expectile_audit import BOX, ExpectileAudit, Trained, held_out, train
from polyfed.study import findings_to_data, silent

NAMED = load_study("expectile-audit")
assert isinstance(NAMED, ExpectileAudit)
SMALL = dataclasses.replace(
    NAMED,
    experiment=dataclasses.replace(
        NAMED.experiment,
        num_clients=2,
        num_rounds=2,
        agent=dataclasses.replace(NAMED.experiment.agent, hidden=(8,), replay_capacity=150),
        evaluation=dataclasses.replace(NAMED.experiment.evaluation, every=1),
    ),
    taus=(0.5, 0.01),
    capacities=(150,),
    ends=(0.05,),
    num_states=30,
    fixed_steps=20,
    instances=3,
)


def made_up(experiment: Any, seeds: tuple[int, ...]) -> Trained:
    """What a training could have left: networks as they begin, and states of a box that nobody lived through."""
    agent, environment, num = experiment.agent, experiment.environment, len(seeds)
    keys = jax.random.split(jax.random.key(0), num)
    states = jax.vmap(lambda key: agent.init(key, environment, 1))(keys)
    seen = np.random.default_rng(0).uniform(-0.2, 0.2, (num, 60, 4)).astype(np.float32)
    worlds = jax.tree.map(lambda *x: jnp.stack(x), *(fleet(experiment, seed) for seed in seeds))
    alive = np.abs(seen[..., 2]) < 0.19
    return Trained(states.online, states.target, states.worst_case.network, seen, seen + 0.01, alive, worlds)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["made up", pytest.param("trained", marks=pytest.mark.slow)])
def test_findings_are_whole(source, monkeypatch) -> None:
    if source == "made up":
        monkeypatch.setattr(expectile_audit, "train", made_up)
    found = SMALL.answer((0, 1), silent)
    assert len(found.tables) == 5
    assert len(found.tables[0].rows) == 5 * 2  # two forms while training, three with fixed values, at two orders
    assert len(found.tables[2].rows) == 2
    assert {len(row) for table in found.tables for row in table.rows} <= {5, 6, 7}
    assert [curve.name for curve in found.curves] == ["share-by-order", "pearson-by-order"]
    assert "hope" in found.verdict[0]
    findings_to_data(found)


def test_arms_vary_one_thing_at_a_time() -> None:
    arms = NAMED.arms()
    assert arms[0] == NAMED.own
    assert len(arms) == len(set(arms)) == 10 + 5
    for arm in arms:
        differ = [f for f in ("tau", "capacity", "end") if getattr(arm, f) != getattr(NAMED.own, f)]
        assert len([f for f in differ if f == "tau"]) + (len(differ) > 0 and "tau" not in differ) <= 1


@pytest.mark.slow
def test_what_a_training_leaves_and_the_held_out_states() -> None:
    trained = train(SMALL.experiment, (0, 1))
    assert trained.observation.shape == (2, 2 * 150, 4)
    assert trained.worlds.half_length.shape == (2, 2)
    going = trained.alive[0].mean()
    assert 0.8 < going < 1  # some episodes ended
    # a next state belongs to the state that is stored beside it
    moved = np.abs(trained.next_observation - trained.observation)[..., 0]
    np.testing.assert_allclose(moved, 0.02 * np.abs(trained.observation[..., 1]), atol=1e-6)
    states = held_out(SMALL, trained, (0, 1))
    assert [len(one) for kind in states.values() for one in kind] == [30] * 4
    assert np.all(np.abs(states["box"][0]) <= np.array(BOX) + 1e-6)
    stored = {tuple(row) for row in trained.observation[0].tolist()}
    assert not any(tuple(row) in stored for row in states["visited"][0].tolist())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taus": ()}, "taus is empty"),
        ({"taus": (0.7,)}, "taus"),
        ({"num_states": 3}, "num_states"),
        ({"ends": (2.0,)}, "ends"),
        ({"experiment": dataclasses.replace(load("acrobot-links"), compare=())}, "on Acrobot: give"),
        (
            {
                "experiment": dataclasses.replace(
                    SMALL.experiment,
                    agent=dataclasses.replace(SMALL.experiment.agent, shared=("online",), worst_case=WorstCase()),
                )
            },
            "looks at the merged target",
        ),
    ],
)
def test_what_cannot_be_audited_is_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change).check()
