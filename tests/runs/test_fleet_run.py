"""A run of agents of different make that was cut off, and ends with the bits of one that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from polyfed import recipes
from polyfed.agents import DQN, REINFORCE, Distillation, Group, Mixed, Survival
from polyfed.environments import CartPole, Explicit
from polyfed.environments.public_states import UniformStates
from polyfed.exchange import Predictions
from polyfed.experiment import Evaluation, Experiment
from polyfed.runs import run, store

SMALL = DQN(hidden=(5,), batch_size=4, replay_capacity=60, learning_starts=4, survival=Survival.everything())
FLEET = recipes.fedhpd(
    Experiment(
        name="fleet",
        environment=CartPole(max_steps=20),
        variation=Explicit({"half_length": (0.25, 0.5, 1.0)}),
        num_clients=3,
        agent=Mixed((Group(SMALL, local_steps=10, name="values"), Group(REINFORCE(hidden=(4,)), num_clients=2))),
        payload=Predictions(UniformStates(num=6), Distillation(payload="probabilities", chunks=3, repetitions=1)),
        num_rounds=3,
        local_steps=2,
        evaluation=Evaluation(every=1, episodes=1),
    )
)


class PowerCut(BaseException):
    """The end of a process, without a chance to tidy up."""


def ignore(progress: Any) -> None:
    """Watch a run and say nothing."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the fleet that was never interrupted."""
    folder = run.create(tmp_path_factory.mktemp("undisturbed"), FLEET, (0,))
    run.go_on(folder, ignore, checkpoint_seconds=0)
    return folder


@pytest.mark.parametrize("at", [1, 2])
def test_a_fleet_that_was_cut_off_ends_like_any_other(
    at: int, undisturbed: Path, tmp_path: Path, results: Callable[[Path], dict[str, Any]]
) -> None:
    """After one round a chunk's turn is not where it began: three chunks, two of which were absorbed."""

    def cut(progress: Any) -> None:
        if progress.round == at:
            raise PowerCut

    folder = run.create(tmp_path, FLEET, (0,))
    with pytest.raises(PowerCut):
        run.go_on(folder, cut, checkpoint_seconds=0)
    assert results(folder) != results(undisturbed)
    run.go_on(folder, ignore, checkpoint_seconds=0)
    assert results(folder) == results(undisturbed)


def test_a_run_of_a_fleet_keeps_every_policy_as_it_is_made(undisturbed: Path) -> None:
    arm = store.load_run(undisturbed).arms["fedhpd"]
    assert np.asarray(arm.returns[1]).shape == (1, 3, 3)
    weights = undisturbed / "arms" / "fedhpd" / "weights" / "seed-0"
    assert sorted(path.stem for path in weights.glob("*.safetensors")) == ["client-0", "client-1", "client-2"]
    first = [load_file(weights / f"client-{c}.safetensors")["layers.0.weight"] for c in range(3)]
    assert [layer.shape for layer in first] == [(5, 4), (4, 4), (4, 4)]
    assert np.any(first[1] != first[2])


def test_the_record_of_a_fleet_is_read_again(undisturbed: Path) -> None:
    experiment, seeds = store.read_experiment(store.read_record(undisturbed))
    assert (experiment, seeds) == (FLEET, (0,))
