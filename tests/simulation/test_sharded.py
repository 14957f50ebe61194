"""Shards in actors give the simulation's own numbers, whoever dies on the way; these actors live in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from polyfed import recipes
from polyfed.agents import Distillation, Group, Mixed
from polyfed.agents.foreign_sb3 import SB3
from polyfed.environments import UniformStates
from polyfed.exchange import Predictions
from polyfed.experiment import Experiment
from polyfed.record import from_data
from polyfed.runs import run
from polyfed.runs.store import load_run, read_record
from polyfed.simulation.crew import ActorFailedError, ActorLostError, Crew
from polyfed.simulation.shard import Shard, bounds
from polyfed.simulation.sharded import LIVES, Sharded, check_sharded
from polyfed.simulation.simulate import Simulation


class Actor:
    def __init__(self, shard: Shard):
        self.shard, self.dead, self.rounds = shard, False, list[int]()


class FalseCrew(Crew):
    """Shards in this process; `doomed` says at which calls an actor dies, counted over all."""

    def __init__(self, num_actors: int, doomed: tuple[int, ...] = (), method: str = "exchange"):
        self.num_actors, self.doomed, self.method = num_actors, doomed, method
        self.actors: list[Actor] = []
        self.calls = 0

    def start(self, experiment: Any, seeds: tuple[int, ...], clients: Any) -> Actor:
        self.actors.append(Actor(Shard(from_data(experiment), seeds, clients)))
        return self.actors[-1]

    def call(self, actor: Actor, method: str, *arguments: Any) -> Any:
        self.calls += method == self.method
        if method == self.method and self.calls in self.doomed:
            actor.dead = True
        if actor.dead:
            return ActorLostError("it is dead")
        if method == "exchange":
            actor.rounds.append(arguments[1])
        try:
            return getattr(actor.shard, method)(*arguments)
        except Exception as error:
            return ActorFailedError(str(error))

    def result(self, ticket: Any) -> Any:
        if isinstance(ticket, Exception):
            raise ticket
        return ticket

    def stop(self, actor: Actor) -> None:
        actor.dead = True


def sharded(experiment: Experiment, crew: Crew, seeds: tuple[int, ...] = (0, 1)) -> Simulation:
    return Simulation(experiment, seeds, afar=lambda simulation: Sharded(simulation, crew))


def rounds(simulation: Simulation, *blocks: int) -> tuple[Any, list[dict[str, np.ndarray]]]:
    """The server after some blocks of rounds, and their figures."""
    federation, metrics = simulation.init(), []
    for block in blocks:
        federation, found = simulation.advance(federation, block)
        metrics.append(found)
    return jax.tree.map(np.asarray, federation.server), metrics


def judged(simulation: Simulation, *blocks: int) -> tuple[Any, list[dict[str, np.ndarray]], list[np.ndarray]]:
    """As `rounds`, and the scores before and after each block."""
    federation, metrics = simulation.init(), []
    returns = [simulation.evaluate(federation)]
    for block in blocks:
        federation, found = simulation.advance(federation, block)
        metrics.append(found)
        returns.append(simulation.evaluate(federation))
    return jax.tree.map(np.asarray, federation.server), metrics, returns


def assert_same(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_all_the_same(found: Any, expected: Any) -> None:
    assert_same(found[0], expected[0])
    assert_same(found[2:], expected[2:])
    for one, other in zip(found[1], expected[1], strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            np.testing.assert_array_equal(one[name], value, name)
            assert one[name].dtype == value.dtype, name


@pytest.fixture(scope="module")
def in_shards(tiny: Callable[..., Experiment]) -> Any:
    """Three rounds of two shards, and what they were told to do."""
    crew = FalseCrew(2)
    found = rounds(sharded(tiny(), crew), 2, 1)
    assert [actor.rounds for actor in crew.actors] == [[1, 2, 3]] * 2
    return found


@pytest.mark.bits
@pytest.mark.slow
def test_shards_give_weights_figures_and_scores_of_one_process(tiny: Callable[..., Experiment]) -> None:
    found = judged(sharded(tiny(), FalseCrew(2)), 2, 1)
    assert_all_the_same(found, judged(Simulation(tiny(), (0, 1)), 2, 1))


@pytest.mark.parametrize(("doomed", "died"), [((3,), 1), ((6, 7, 8), 2)], ids=["once", "while it is brought back"])
def test_an_actor_that_dies_is_brought_back_and_nobody_else_learns_twice(
    tiny: Callable[..., Experiment], in_shards: Any, doomed: tuple[int, ...], died: int
) -> None:
    crew = FalseCrew(2, doomed)
    simulation = sharded(tiny(), crew)
    assert_all_the_same(rounds(simulation, 2, 1), in_shards)
    assert "died and was started again" in simulation.told()
    assert len(crew.actors) == 2 + died
    assert [actor.rounds for actor in crew.actors].count([1, 2, 3]) == 2  # who lived, and who was brought back


def test_what_was_kept_is_where_an_actor_is_brought_back_to(tiny: Callable[..., Experiment], in_shards: Any) -> None:
    crew = FalseCrew(2, doomed=(5,))
    simulation = sharded(tiny(), crew)
    federation, _ = simulation.advance(simulation.init(), 2)
    simulation.unpadded(federation)  # as a checkpoint does
    federation, _ = simulation.advance(federation, 1)
    assert_same(jax.tree.map(np.asarray, federation.server), in_shards[0])
    assert crew.actors[2].rounds == [3]


def test_an_actor_that_always_dies_ends_the_run_in_a_sentence(tiny: Callable[..., Experiment]) -> None:
    simulation = sharded(tiny(), FalseCrew(2, tuple(range(1, 99)), "begin"))
    with pytest.raises(ActorLostError, match=rf"clients 0 to 1 died {LIVES} times at 'begin'.*can be resumed"):
        simulation.init()


def test_what_fails_in_an_actor_ends_the_run_in_a_sentence(tiny: Callable[..., Experiment]) -> None:
    crew = FalseCrew(1)
    simulation = sharded(tiny(), crew)
    federation = simulation.init()
    crew.actors[0].shard.exchange = lambda *_: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ActorFailedError, match="clients 0 to 2 failed at 'exchange': division by zero"):
        simulation.advance(federation, 1)


@pytest.mark.bits
@pytest.mark.slow
def test_a_run_goes_on_from_its_checkpoint_with_another_number_of_actors(
    tiny: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment = tiny(num_rounds=4)
    plain = run.create(tmp_path / "plain", experiment, (0,))
    run.go_on(plain, lambda progress: None)
    folder = run.create(tmp_path / "ray", experiment, (0,), engine={"name": "ray", "actors": 2})

    def stop(progress: run.Progress) -> None:
        if progress.round == 2:
            raise KeyboardInterrupt

    def make(num_actors: int) -> Any:
        return lambda arm, seeds: sharded(arm, FalseCrew(num_actors), seeds)

    with pytest.raises(KeyboardInterrupt):
        run.go_on(folder, stop, checkpoint_seconds=0.0, make=make(2))
    run.go_on(folder, lambda progress: None, checkpoint_seconds=0.0, make=make(3))
    for name in ("metrics.jsonl", "evaluation.jsonl"):
        logs = [(each / "arms" / "fedavg" / name).read_text() for each in (plain, folder)]
        assert logs[0] == logs[1]
    weights = [{p.name: p.read_bytes() for p in each.glob("arms/fedavg/weights/seed-0/*")} for each in (plain, folder)]
    assert weights[0] == weights[1]
    assert weights[0].keys() == {"global.safetensors", *(f"client-{i}.safetensors" for i in range(3))}
    assert read_record(folder)["engine"] == {"name": "ray", "actors": 2}
    assert load_run(folder).record["engine"]["actors"] == 2


def test_shards_are_cut_across_groups() -> None:
    assert bounds(10, 4) == [(0, 3), (3, 5), (5, 8), (8, 10)]
    assert bounds(1, 4) == [(0, 1)]


@pytest.mark.bits
@pytest.mark.slow
@pytest.mark.parametrize("what", ["fleet", "personal", "late", "pooled", "predictions"])
def test_every_kind_of_federation_is_the_one_of_one_process(tiny: Callable[..., Experiment], what: str) -> None:
    small = tiny(num_rounds=3)
    experiment = {
        "fleet": lambda: dataclasses.replace(
            recipes.local_only(small),
            common_start=False,
            agent=Mixed((Group(small.agent, 2), Group(dataclasses.replace(small.agent, learning_rate=0.01), 1))),
        ),
        "personal": lambda: recipes.local_only(small),
        "late": lambda: tiny(num_rounds=3, joins=(1, 1, 2)),
        "pooled": lambda: recipes.pooled(small),
        "predictions": lambda: predicted(small),
    }[what]()
    assert_all_the_same(judged(sharded(experiment, FalseCrew(2)), 3), judged(Simulation(experiment, (0, 1)), 3))


def predicted(experiment: Experiment) -> Experiment:
    payload = Predictions(UniformStates(num=20), Distillation(chunks=2, repetitions=1))
    return recipes.fedhql(dataclasses.replace(experiment, payload=payload))


def test_agents_made_elsewhere_are_refused(tiny: Callable[..., Experiment]) -> None:
    with pytest.raises(ValueError, match="Agents made elsewhere live in the process that merges"):
        check_sharded(dataclasses.replace(tiny(), agent=Mixed((Group(SB3("PPO"), 3),))))
