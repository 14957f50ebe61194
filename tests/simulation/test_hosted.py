"""Agents made elsewhere beside compiled ones: the same round, which goes on when one of them fails."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from polyfed import recipes
from polyfed.agents import DQN, Distillation, Group, Mixed, Survival
from polyfed.agents.foreign import ForeignAgent, Made
from polyfed.environments import CartPole, Explicit
from polyfed.environments.public_states import UniformStates
from polyfed.errors import PolyfedError
from polyfed.exchange import Nothing, Predictions
from polyfed.experiment import Evaluation, Experiment
from polyfed.runs import run as runs
from polyfed.simulation.simulate import Simulation, Traffic
from polyfed.types import Probabilities


class Guest(ForeignAgent):
    """A logit for each action, in plain Python: it likes one action more with every step, and moves towards others."""

    fails: tuple[str, int] = ("", 0)  # a method, and the call of it that raises; 0: every call

    def __init__(self, environment: Any, params: Any, seed: int) -> None:
        self.logit, self.half_length, self.seed = 0.0, float(params.half_length), seed
        self.asked: dict[str, int] = {}

    def _count(self, method: str) -> None:
        self.asked[method] = self.asked.get(method, 0) + 1
        name, call = self.fails
        if name == method and call in (0, self.asked[method]):
            raise RuntimeError("no mood")

    def act(self, observations: Any, greedy: bool) -> Any:
        self._count("act")
        return np.full(len(observations), int(self.logit > 0))

    def predict(self, observations: Any) -> Any:
        self._count("predict")
        return self._likes(observations)

    def _likes(self, observations: Any) -> Any:
        odds = 1 / (1 + math.exp(-self.logit)) + 0.01 * np.tanh(observations[:, 0])
        return Probabilities(np.stack([1 - odds, odds], axis=1))

    def learn(self, num_steps: int) -> Any:
        self._count("learn")
        self.logit += 0.1 * num_steps
        return {"return": self.half_length, "episodes": 1, "steps": num_steps, "mood": self.logit}

    def imitate(self, observations: Any, target: Any, num_steps: int, weight: float) -> None:
        self._count("imitate")
        own = self._likes(observations).probabilities
        self.logit += weight * num_steps * float(np.mean(target.probabilities - own, axis=0)[1])

    def save(self) -> Any:
        return {"logit": np.array(self.logit)}

    def load(self, arrays: Any) -> None:
        self.logit = float(arrays["logit"])


@functools.cache
def failing(method: str, call: int) -> type[Guest]:
    """A guest whose method raises when it is called for the `call`th time; 0: always."""
    return type("Frail", (Guest,), {"fails": (method, call)})


SMALL = DQN(hidden=(4,), batch_size=4, replay_capacity=60, learning_starts=4, survival=Survival.everything())
SHARING = Distillation(payload="probabilities", chunks=2, repetitions=1)
PREDICTIONS = Predictions(UniformStates(num=8), SHARING)


def fleet(*guests: Any, compiled: int = 1, **changes: Any) -> Experiment:
    """A fleet of DQNs, and then a client for every maker of guests."""
    groups = (Group(SMALL, compiled),) if compiled else ()
    groups += tuple(Group(Made(guest), local_steps=5) for guest in guests)
    num = compiled + len(guests)
    experiment = Experiment(
        name="hosted",
        environment=CartPole(max_steps=20),
        variation=Explicit({"half_length": tuple(0.25 * (i + 1) for i in range(num))}),
        num_clients=num,
        agent=Mixed(groups),
        payload=PREDICTIONS,
        num_rounds=2,
        local_steps=10,
        evaluation=Evaluation(every=1, episodes=1),
    )
    return recipes.fedhpd(dataclasses.replace(experiment, **changes))


def run(experiment: Experiment, num_rounds: int = 2, seeds: tuple[int, ...] = (0,)) -> tuple[Any, Any, Any]:
    simulation = Simulation(experiment, seeds)
    return simulation, *simulation.advance(simulation.init(), num_rounds)


def broadcast(federation: Any) -> np.ndarray:
    return np.asarray(federation.server.broadcast.probabilities)


@pytest.fixture(scope="module")
def well() -> tuple[Any, Any, Any]:
    """A fleet of a DQN and a guest of whom nothing bad can be told."""
    return run(fleet(Guest))


# Taking part


def test_a_guest_takes_part_in_every_exchange(well: tuple[Any, Any, Any]) -> None:
    simulation, federation, metrics = well
    (guest,) = (member.agent for member in simulation.guests.guests)
    assert guest.asked == {"learn": 2, "predict": 4, "imitate": 3}  # the first absorb has nothing to take in
    assert guest.half_length == 0.5  # its own world
    assert metrics["weight"].tolist() == [[[1.0, 1.0]], [[1.0, 1.0]]]
    assert metrics["steps"].tolist() == [[[10, 5]], [[10, 5]]]
    assert metrics["return"][..., 1].tolist() == [[0.5], [0.5]]
    assert np.isnan(metrics["mood"][..., 0]).all()
    assert np.isnan(metrics["loss"][..., 1]).all()
    assert int(federation.round) == 2
    assert simulation.told() == ""
    message = 4 * 4 * 2
    assert simulation.traffic == Traffic(2 * message, 2 * message)
    assert (metrics["bytes_up"] == 2 * message).all()


@pytest.mark.slow
def test_the_consensus_is_the_mean_of_compiled_and_made_elsewhere() -> None:
    simulation = Simulation(fleet(Guest), (0,))
    federation = simulation.init()
    federation, _ = simulation._exchange_with(simulation.guests, federation, 0)
    own = simulation.homes.parts[0].agent
    nth = lambda tree: jax.tree.map(lambda x: x[0], tree)  # noqa: E731
    state = nth(simulation.unpadded(federation).clients[0]).agent
    learner = nth(own).share(state).probabilities
    guest = simulation.guests.guests[0].agent.predict(np.asarray(own.public[0])[:4]).probabilities
    np.testing.assert_allclose(broadcast(federation)[0], (np.asarray(learner) + guest) / 2, rtol=1e-5)


@pytest.mark.slow
def test_a_guest_that_joins_late_is_left_alone_until_then() -> None:
    payload = dataclasses.replace(PREDICTIONS, distillation=dataclasses.replace(SHARING, refresh="event"))
    simulation, _, metrics = run(fleet(Guest, payload=payload, joins=(1, 2)))
    (guest,) = (member.agent for member in simulation.guests.guests)
    assert guest.asked["learn"] == 1
    assert metrics["weight"].tolist() == [[[1.0, 0.0]], [[1.0, 1.0]]]
    assert metrics["steps"].tolist() == [[[10, 0]], [[10, 5]]]
    assert metrics["joined"].tolist() == [[[1, 0]], [[1, 1]]]
    assert np.isnan(metrics["return"][0, 0, 1])


# Failing


@pytest.mark.parametrize("method", ["learn", "predict", "imitate"])
def test_the_round_goes_on_without_a_guest_that_fails(method: str, well: tuple[Any, Any, Any]) -> None:
    simulation, federation, metrics = run(fleet(failing(method, 2)))
    weight = metrics["weight"].mean(axis=0)
    assert weight.tolist() == [[1.0, 0.75]]  # absent in one of the four exchanges
    told = simulation.told()
    assert told.startswith(f"client-1 of seed 0 is absent: Frail.{method} raised RuntimeError: no mood (")
    assert told.endswith(".")
    assert simulation.told() == ""
    assert np.isfinite(broadcast(federation)).all()
    assert np.any(broadcast(federation) != broadcast(well[1]))


@pytest.mark.bits
def test_a_guest_that_always_fails_leaves_the_numbers_of_a_fleet_without_it() -> None:
    simulation, federation, metrics = run(fleet(failing("predict", 0)))
    _, expected, known = run(fleet(compiled=1))
    np.testing.assert_array_equal(broadcast(federation), broadcast(expected))
    for a, b in zip(jax.tree.leaves(federation.clients), jax.tree.leaves(expected.clients), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[:1], np.asarray(b)[:1])
    for name, values in known.items():
        if values.ndim == 3:
            np.testing.assert_array_equal(metrics[name][..., :1], values, err_msg=name)
    assert not metrics["weight"][..., 1].any()
    assert simulation.told().endswith("(4 times)")


def test_what_a_guest_answers_that_cannot_be_right_is_refused_and_it_is_absent() -> None:
    class Boaster(Guest):
        def predict(self, observations: Any) -> Any:
            return Probabilities(np.full((len(observations), 2), 7.0))

    simulation, federation, metrics = run(fleet(Boaster), num_rounds=1)
    assert metrics["weight"].tolist() == [[[1.0, 0.0]]]
    assert simulation.told().startswith("client-1 of seed 0 is absent: What Boaster.predict gave is refused: ")
    assert np.isfinite(broadcast(federation)).all()


# Among themselves


def test_guests_alone_are_a_federation() -> None:
    simulation, federation, metrics = run(fleet(Guest, Guest, compiled=0), seeds=(4, 2))
    assert broadcast(federation).shape == (2, 4, 2)
    assert metrics["weight"].shape == (2, 2, 2)
    assert metrics["mood"][0].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    seeds = {guest.agent.seed for guest in simulation.guests.guests}
    assert len(seeds) == 4
    members = [g for g in simulation.guests.guests if g.seed == 0]
    states = np.asarray(simulation.guests._public())[4:]
    mean = np.mean([g.agent.predict(states).probabilities for g in members], axis=0)
    np.testing.assert_allclose(broadcast(federation)[0], mean, rtol=1e-5)
    assert simulation.evaluate(federation).shape == (2, 2, 2)


def test_a_federation_of_guests_cannot_begin_with_one_that_says_nothing() -> None:
    simulation = Simulation(fleet(failing("predict", 0), Guest, compiled=0), (0,))
    with pytest.raises(ValueError, match=r"cannot begin: client-0 of seed 0 is absent: .*no mood.* Mend that agent\.$"):
        simulation.init()


def test_a_round_in_which_nobody_answers_ends_the_run() -> None:
    simulation = Simulation(fleet(failing("learn", 2), compiled=0), (0,))
    federation, _ = simulation.advance(simulation.init(), 1)
    with pytest.raises(PolyfedError, match=r"^Nobody of seed 0 answered, .*: client-0 of seed 0 is absent: .* is kept"):
        simulation.advance(federation, 1)


@pytest.mark.slow
def test_guests_that_learn_alone_are_asked_for_nothing(well: tuple[Any, Any, Any]) -> None:
    alone = recipes.local_only(fleet(Guest))
    assert alone.payload == Nothing()
    simulation, federation, metrics = run(alone)
    (guest,) = simulation.guests.guests
    assert guest.agent.asked == {"learn": 2}
    assert metrics["mood"][..., 1].tolist() == [[0.5], [1.0]]
    assert not metrics["bytes_up"].any()
    assert simulation.traffic == Traffic(0, 0)
    assert simulation.evaluate(federation).shape == (1, 2, 2)


# Judged, kept, recorded


class Right(Guest):
    """Takes action 1, always."""

    def act(self, observations: Any, greedy: bool) -> Any:
        assert greedy
        return np.ones(len(observations), int)


def test_the_policy_of_a_guest_is_judged_like_any_other(well: tuple[Any, Any, Any]) -> None:
    simulation = Simulation(fleet(Right), (0,))
    scores = simulation.evaluate(simulation.init())
    assert simulation.policy_names == ("client-0", "client-1")
    world = CartPole(max_steps=20)
    always = lambda observation: np.ones(observation.shape[0], np.int32)  # noqa: E731
    params = jax.tree.map(lambda x: x[0], simulation.worlds_after(0)[0])
    expected = world.evaluate(always, params, simulation.worlds_after(0)[1], 1)
    np.testing.assert_allclose(scores[0, 1], expected, rtol=1e-6)
    frail = Simulation(fleet(failing("act", 0)), (0,))
    assert np.isfinite(frail.evaluate(frail.init())).all()
    assert "Frail.act raised RuntimeError" in frail.told()


def test_a_federation_that_was_kept_goes_on_with_its_guests(well: tuple[Any, Any, Any]) -> None:
    simulation, half, _ = run(fleet(Guest), num_rounds=1)
    kept = jax.tree.map(np.array, simulation.unpadded(half))
    assert [sorted(arrays) for arrays in kept.guests] == [["logit"]]
    again = Simulation(fleet(Guest), (0,))
    again.init()
    federation, metrics = again.advance(again.place(kept), 1)
    np.testing.assert_array_equal(broadcast(federation), broadcast(well[1]))
    for name, values in metrics.items():
        np.testing.assert_array_equal(values, well[2][name][1:], err_msg=name)
    assert again.guests.guests[0].turn == well[0].guests.guests[0].turn
    assert sorted(again.guest_weights(0)) == ["client-1"]


def test_code_cannot_be_recorded_but_runs_from_python(tmp_path: Path, well: tuple[Any, Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"is code, which a record cannot hold: run it with Simulation in Python.*\.$"):
        runs.create(tmp_path / "runs", fleet(Guest), (0,))
    assert not (tmp_path / "runs").exists()
