from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import Agent
from polyfed.aggregation import LocalOnly, ServerSGD
from polyfed.environments import Box, Discrete, Environment, Explicit, Probe, ProbeParams, ProbeState, Step
from polyfed.environments.probes import OBSERVED_ACTION_REWARD
from polyfed.exchange import Transform
from polyfed.experiment import Evaluation, Experiment
from polyfed.simulation.debug import StageError, debug_rounds
from polyfed.simulation.simulate import Simulation


class Cliff(Environment[ProbeState]):
    """A probe whose reward is not a number where the world's scale is above `edge`."""

    params_class: ClassVar[type] = ProbeParams

    edge: float = eqx.field(default=2.5, static=True)
    max_steps: int = eqx.field(default=5, static=True)
    probe: Probe = OBSERVED_ACTION_REWARD

    @property
    def observation_space(self) -> Box:
        return self.probe.observation_space

    @property
    def action_space(self) -> Discrete:
        return self.probe.action_space

    def reset(self, key: Any, params: Any) -> Any:
        return self.probe.reset(key, params)

    def step(self, key: Any, state: Any, action: Any, params: Any) -> tuple[Any, Step]:
        state, given = self.probe.step(key, state, action, params)
        reward = jnp.where(params.scale > self.edge, jnp.nan, given.reward)
        return state, dataclasses.replace(given, reward=reward)


class Level(Agent):
    """Learns the mean reward as one number; small enough to be run operation by operation."""

    rate: float = 0.5
    broken: str = eqx.field(default="", static=True)  # the method that raises at the client whose `rate` is 0.25

    def check(self, environment: Environment) -> None:
        return

    def init(self, key: Any, environment: Environment, num_envs: int) -> Any:
        return {"level": jnp.zeros(2)}

    def act(self, state: Any, observation: Any, key: Any) -> Any:
        return jnp.zeros(observation.shape[0], jnp.int32)

    def learn(self, state: Any, trajectory: Any, key: Any) -> Any:
        self._fail("learn")
        error = jnp.mean(trajectory.reward) - state["level"]
        return {"level": state["level"] + self.rate * error}, {"error": jnp.sum(error)}

    def share(self, state: Any) -> Any:
        self._fail("share")
        return state

    def absorb(self, state: Any, broadcast: Any) -> Any:
        self._fail("absorb")
        return broadcast

    def policy(self, state: Any, observation: Any) -> Any:
        return jnp.zeros(observation.shape[0], jnp.int32)

    def _fail(self, method: str) -> None:
        if self.broken == method and not isinstance(self.rate, jax.core.Tracer) and float(self.rate) == 0.25:
            raise RuntimeError(f"{method} has no teeth")


class Careless(Agent):
    """Trains the broadcast in place: what trap 11 is about."""

    level: Level = Level()

    def check(self, environment: Environment) -> None:
        return

    def init(self, key: Any, environment: Environment, num_envs: int) -> Any:
        return self.level.init(key, environment, num_envs)

    def act(self, state: Any, observation: Any, key: Any) -> Any:
        return self.level.act(state, observation, key)

    def learn(self, state: Any, trajectory: Any, key: Any) -> Any:
        return self.level.learn(state, trajectory, key)

    def share(self, state: Any) -> Any:
        return state

    def absorb(self, state: Any, broadcast: Any) -> Any:
        if not isinstance(broadcast["level"], jax.core.Tracer):
            np.asarray(broadcast["level"])[...] += 1.0
        return broadcast

    def policy(self, state: Any, observation: Any) -> Any:
        return self.level.policy(state, observation)


class Blots(Transform):
    """Spoils one number of every message."""

    def upload(self, state: Any, update: Any, broadcast: Any, key: Any) -> Any:
        return jax.tree.map(lambda x: x.at[0].set(jnp.inf), update), state


class Refuses(Transform):
    """Cannot undo what it did."""

    def receive(self, state: Any, merged: Any) -> Any:
        if not isinstance(merged["level"], jax.core.Tracer):
            raise KeyError("the key is gone")
        return merged, state


class Leaps(ServerSGD):
    """A server optimizer that overflows."""

    def step(self, state: Any, broadcast: Any, merged: Any) -> Any:
        return jax.tree.map(lambda x: x + jnp.inf, merged), state


def small(**changes: Any) -> Simulation:
    experiment = Experiment(
        name="small",
        environment=Cliff(),
        variation=Explicit({"scale": (1.0, 2.0, 2.25)}),
        num_clients=3,
        agent=Level(rate=(0.5, 0.25, 0.5)),
        num_rounds=2,
        local_steps=2,
        evaluation=Evaluation(every=1, episodes=1),
    )
    return Simulation(dataclasses.replace(experiment, **changes), (5,))


def failure(simulation: Simulation, num_rounds: int = 2) -> tuple[str, list[str]]:
    """The sentence with which a debug round ends, and the lines before it."""
    lines: list[str] = []
    with pytest.raises(StageError) as caught:
        lines.extend(iter_lines(simulation, num_rounds, lines))
    return str(caught.value), lines


def iter_lines(simulation: Simulation, num_rounds: int, lines: list[str]) -> list[str]:
    for line in debug_rounds(simulation, num_rounds):
        lines.append(line)
    return []


@pytest.mark.slow
def test_a_client_whose_world_gives_no_number_is_named_with_round_and_stage() -> None:
    sentence, lines = failure(small(variation=Explicit({"scale": (1.0, 3.0, 2.0)})))
    assert sentence.startswith("round 1, client-1, stage 'local update': ")
    assert sentence.endswith("is not finite after it.")
    assert [line.partition(":")[0] for line in lines] == ["round 1, client-0"]


@pytest.mark.parametrize(("method", "stage"), [("absorb", "absorb"), ("learn", "local update"), ("share", "share")])
def test_a_client_that_raises_is_named_with_round_and_stage(method: str, stage: str) -> None:
    sentence, lines = failure(small(agent=Level(rate=(0.5, 0.25, 0.5), broken=method)))
    assert sentence == f"round 1, client-1, stage '{stage}': RuntimeError: {method} has no teeth"
    assert len(lines) == 1


def test_a_client_that_diverges_later_is_named_with_the_round() -> None:
    sentence, lines = failure(small(agent=Level(rate=(0.5, 0.5, 1e30))))
    assert re.match(r"round [12], client-2, stage 'local update': .*level is not finite", sentence)
    assert all("client-2" not in line or line.startswith("round 1") for line in lines)


def test_a_client_that_writes_into_the_broadcast_is_stopped_and_named() -> None:
    sentence, _ = failure(small(agent=Careless()))
    assert re.match(r"round 1, client-0, stage 'absorb': ValueError: .*read-only", sentence)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"transforms": (Blots(),)}, r"round 1, server, stage 'upload': .* is not finite after it\."),
        ({"transforms": (Refuses(),)}, r"round 1, server, stage 'receive': KeyError: 'the key is gone'"),
        ({"server_optimizer": Leaps()}, r"round 1, server, stage 'server optimizer': .* is not finite after it\."),
    ],
    ids=["upload", "receive", "server optimizer"],
)
def test_the_server_is_named_with_round_and_stage(changes: dict[str, Any], sentence: str) -> None:
    found, lines = failure(small(**changes))
    assert re.fullmatch(sentence, found)
    assert len(lines) == 3


def figures(lines: list[str]) -> list[dict[str, float]]:
    """The figures in the lines of the clients."""
    found = []
    for line in lines:
        if "client" in line:
            pairs = (pair.rsplit(" ", 1) for pair in line.partition(": ")[2].split(", "))
            found.append({name: float(value) for name, value in pairs})
    return found


def assert_agrees(simulation: Simulation, num_rounds: int) -> None:
    lines = list(debug_rounds(simulation, num_rounds))
    _, metrics = simulation.advance(simulation.init(), num_rounds)
    clients = simulation.plan.num_clients
    assert len(lines) == num_rounds * (clients + 1)
    for i, found in enumerate(figures(lines)):
        expected = {n: float(metrics[n][i // clients, 0, i % clients]) for n in found}
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=2e-3, atol=1e-6, err_msg=name)


def test_a_debug_round_gives_what_a_compiled_round_gives() -> None:
    assert_agrees(small(agent=Level(rate=(0.5, 0.25, 0.125))), 2)


@pytest.mark.slow
def test_a_debug_round_of_a_personal_rule_gives_what_a_compiled_round_gives() -> None:
    assert_agrees(small(agent=Level(rate=(0.5, 0.25, 0.125)), rule=LocalOnly()), 2)


@pytest.mark.slow
def test_a_debug_round_of_dqn_gives_what_a_compiled_round_gives(tiny: Callable[..., Experiment]) -> None:
    assert_agrees(Simulation(tiny(local_steps=10, agent={"learning_starts": 4}), (0,)), 2)
