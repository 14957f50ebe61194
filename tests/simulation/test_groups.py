"""Clients of different make in one federation: the same as a loop over clients in Python, wherever they lie."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed import recipes
from polyfed.agents import DQN, REINFORCE, Distillation, Group, Mixed, Survival
from polyfed.agents.rollout import local_update
from polyfed.environments import CartPole, Explicit
from polyfed.environments.public_states import UniformStates
from polyfed.exchange import HalfPrecision, Nothing, Predictions
from polyfed.experiment import Evaluation, Experiment
from polyfed.simulation.compile_clock import compile_seconds
from polyfed.simulation.debug import debug_rounds
from polyfed.simulation.engine import Federation, home, run_rounds
from polyfed.simulation.simulate import Simulation, Traffic

ONE = tuple(jax.devices()[:1])
TWO = tuple(jax.devices()[:2])
MESSAGE = 4 * 4 * 2  # bytes: four states of a chunk, the probabilities of two actions

needs_two_devices = pytest.mark.skipif(len(TWO) < 2, reason="needs two devices")

SMALL = DQN(hidden=(4,), batch_size=4, replay_capacity=60, learning_starts=4, survival=Survival.everything())
SHARING = Distillation(payload="probabilities", chunks=2, repetitions=2)
FLEET = recipes.fedhpd(
    Experiment(
        name="fleet",
        environment=CartPole(max_steps=20),
        variation=Explicit({"half_length": (0.25, 0.5, 0.75, 1.0)}),
        num_clients=4,
        agent=Mixed((Group(SMALL, local_steps=10), Group(REINFORCE(hidden=(4,)), num_clients=3))),
        payload=Predictions(UniformStates(num=8), SHARING),
        num_rounds=2,
        local_steps=2,
        evaluation=Evaluation(every=1, episodes=1),
    )
)


def with_distillation(**changes: Any) -> Experiment:
    """The fleet with other numbers of distillation."""
    payload = dataclasses.replace(FLEET.payload, distillation=dataclasses.replace(SHARING, **changes))
    return dataclasses.replace(FLEET, payload=payload)


@dataclasses.dataclass
class Outcome:
    """A federation after some rounds, on the host, without padding."""

    simulation: Simulation
    first: Federation
    last: Federation
    metrics: dict[str, np.ndarray]


def host(tree: Any) -> Any:
    """A copy that no block of rounds uses up; keys as numbers."""
    return jax.tree.map(np.array, tree)


def run(experiment: Experiment, devices: Any = TWO, seeds: tuple[int, ...] = (0,), num_rounds: int = 2) -> Outcome:
    simulation = Simulation(experiment, seeds, list(devices))
    federation = simulation.init()
    first = host(simulation.unpadded(federation))
    federation, metrics = simulation.advance(federation, num_rounds)
    return Outcome(simulation, first, host(simulation.unpadded(federation)), metrics)


@pytest.fixture(scope="module")
def trained() -> Callable[..., Outcome]:
    """`trained(FLEET, ONE)`; each is run once."""
    return functools.cache(run)


def assert_same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(one: Any, other: Any, tolerance: float = 2e-5) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# Alone


ALONE = Experiment(
    name="alone",
    environment=CartPole(max_steps=20),
    variation=Explicit({"half_length": (0.25, 0.5, 1.0)}),
    num_clients=3,
    num_rounds=2,
    local_steps=10,
    common_start=False,
    evaluation=Evaluation(every=1, episodes=1),
)


@pytest.mark.slow
def test_clients_of_a_fleet_learn_alone_as_they_would_among_their_like(trained: Callable[..., Outcome]) -> None:
    wide = dataclasses.replace(SMALL, hidden=(8,))
    fleet = Mixed((Group(SMALL), Group(wide, num_clients=2)))
    mixed = trained(recipes.local_only(dataclasses.replace(ALONE, agent=fleet)))
    assert mixed.simulation.experiment.payload == Nothing()
    found = [client.agent for client in mixed.last.clients]
    for group, places, agent in ((0, [0], SMALL), (1, [1, 2], wide)):
        alike = trained(recipes.local_only(dataclasses.replace(ALONE, agent=agent)))
        expected = jax.tree.map(lambda x, places=places: x[places], alike.last.clients[0].agent)
        assert_close(found[group], expected, 1e-6)
        for name in ("return", "loss"):
            np.testing.assert_allclose(mixed.metrics[name][..., places], alike.metrics[name][..., places], rtol=1e-5)
    assert not mixed.metrics["bytes_up"].any()
    assert not mixed.metrics["bytes_down"].any()


# Devices


@pytest.mark.slow
@needs_two_devices
def test_groups_smaller_than_the_devices_are_among_those_tested(trained: Callable[..., Outcome]) -> None:
    shares = trained(FLEET).simulation.plan.shares
    assert [(share.total, share.per_device, share.num_devices, share.turn) for share in shares] == [
        (1, 1, 2, 1),
        (3, 2, 2, 0),
    ]
    assert [share.order.tolist() for share in shares] == [[1, 0], [0, 1, 2, 3]]
    assert [share.where.tolist() for share in shares] == [[1], [0, 1, 2]]


@pytest.mark.bits
@needs_two_devices
def test_one_device_or_two_give_the_same_bits(trained: Callable[..., Outcome]) -> None:
    """But for the optimizer of a REINFORCE that distils, whose moments may differ in the last bit."""
    one, two = trained(FLEET, ONE), trained(FLEET, TWO)
    assert_same(one.first, two.first)
    assert_same(one.last.server, two.last.server)
    assert_same(one.last.clients[0], two.last.clients[0])
    assert_same(*(outcome.last.clients[1].agent.learner.policy for outcome in (one, two)))
    assert_close(one.last, two.last, 1e-6)
    assert_same(one.metrics, two.metrics)


@pytest.mark.slow
@needs_two_devices
def test_one_device_or_two_give_the_same_numbers_for_several_seeds(trained: Callable[..., Outcome]) -> None:
    one, two = (trained(FLEET, devices, (3, 0, 5)) for devices in (ONE, TWO))
    assert_close(one.last, two.last, 1e-5)
    assert_close(one.metrics, two.metrics, 1e-5)
    alone = trained(FLEET, TWO)
    for name, values in alone.metrics.items():
        np.testing.assert_allclose(values[:, 0], two.metrics[name][:, 1], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.slow
@needs_two_devices
def test_a_federation_is_laid_out_again_as_it_was(trained: Callable[..., Outcome]) -> None:
    simulation = trained(FLEET).simulation
    before = simulation.init()
    after = simulation.place(simulation.unpadded(before))
    assert_same(host(simulation.unpadded(after)), host(simulation.unpadded(before)))  # what fills up is anybody's
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, before)
    places = [leaf.sharding for leaf in jax.tree.leaves(before)]
    assert [leaf.sharding for leaf in jax.tree.leaves(after)] == places


# Metrics


@pytest.mark.slow
def test_what_a_learner_does_not_tell_is_nan_for_its_clients_alone(trained: Callable[..., Outcome]) -> None:
    metrics = trained(FLEET).metrics
    told = {name: ~np.isnan(values).all(axis=(0, 1)) for name, values in metrics.items() if values.ndim == 3}
    assert told["entropy"].tolist() == [False, True, True, True]
    assert told["loss"].tolist() == told["divergence"].tolist() == [True] * 4
    assert metrics["episodes"][..., 1:].tolist() == [[[2.0] * 3], [[2.0] * 3]]


@pytest.mark.slow
def test_steps_are_those_of_the_group_or_are_counted_where_they_are_episodes(trained: Callable[..., Outcome]) -> None:
    metrics = trained(FLEET).metrics
    steps = metrics["steps"]
    assert steps.dtype == np.int64
    assert steps[..., 0].tolist() == [[10], [10]]
    np.testing.assert_allclose(steps[..., 1:], 2 * metrics["return"][..., 1:], rtol=1e-6)  # a reward of 1 per step
    assert np.ptp(steps[..., 1:]) > 0


def test_bytes_are_exchanges_times_a_message(trained: Callable[..., Outcome]) -> None:
    outcome = trained(FLEET)
    assert outcome.simulation.plan.exchanges == 4
    assert outcome.simulation.traffic == Traffic(4 * MESSAGE, 4 * MESSAGE)
    assert (outcome.metrics["bytes_up"] == 4 * MESSAGE).all()
    assert (outcome.metrics["bytes_down"] == 4 * MESSAGE).all()
    halved = dataclasses.replace(FLEET, transforms=(HalfPrecision(),))
    assert Simulation(halved, (0,)).traffic == Traffic(2 * MESSAGE, 4 * MESSAGE)


def test_an_event_with_one_consensus_is_one_exchange_of_all_states() -> None:
    simulation = Simulation(with_distillation(refresh="event"), (0,))
    assert simulation.plan.exchanges == 1
    assert simulation.traffic == Traffic(2 * MESSAGE, 2 * MESSAGE)  # two chunks at once


# The same as a loop in Python


def update(parts: Any, state: Any, stay: Any, params: Any, key: Any, num_steps: int) -> Any:
    return local_update(parts.environment, parts.agent, (state, stay, params), key, num_steps=num_steps)


learn_at_home = eqx.filter_jit(update)
take_in = eqx.filter_jit(lambda parts, state, consensus: parts.agent.absorb(state, consensus))
say = eqx.filter_jit(lambda parts, state: parts.agent.share(state))


def naive_rounds(outcome: Outcome, num_rounds: int) -> tuple[list[Any], Any, list[list[dict[str, Any]]]]:
    """One client after another: absorb, learn at home before the first exchange, share; then the mean of all."""
    simulation = outcome.simulation
    homes, plan = simulation.homes, simulation.plan
    members = [(group, i) for group, share in enumerate(plan.shares) for i in range(share.num_clients)]
    clients = [jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), outcome.first.clients[group]) for group, i in members]
    states, stays = [client.agent for client in clients], [client.stay for client in clients]
    consensus, metrics = None, []
    for round_ in range(1, num_rounds + 1):
        metrics.append([])
        for exchange in range(plan.exchanges):
            messages = []
            for c, (group, i) in enumerate(members):
                parts, params, key = home(homes, plan, group, jnp.int32(i), jnp.int32(round_))
                if consensus is not None:
                    states[c] = take_in(parts, states[c], consensus)
                if exchange == 0:
                    steps = plan.shares[group].local_steps
                    states[c], stays[c], found = learn_at_home(parts, states[c], stays[c], params, key, steps)
                    metrics[-1].append(found)
                messages.append(np.asarray(say(parts, states[c]).probabilities, np.float64))
            mean = np.mean(messages, axis=0).astype(np.float32)
            consensus = type(outcome.first.server.broadcast)(jnp.asarray(mean))
    return states, consensus, metrics


@pytest.mark.parametrize("refresh", ["chunk", pytest.param("event", marks=pytest.mark.slow)])
def test_fedhpd_is_what_a_loop_over_clients_gives(refresh: str, trained: Callable[..., Outcome]) -> None:
    outcome = trained(with_distillation(refresh=refresh))
    states, consensus, metrics = naive_rounds(outcome, 2)
    found = [jax.tree.map(lambda x: x[0], outcome.last.clients[0].agent)]
    found += [jax.tree.map(lambda x, i=i: x[i], outcome.last.clients[1].agent) for i in range(3)]
    for client, (state, expected) in enumerate(zip(found, states, strict=True)):
        assert_close(state, host(expected))
        for round_ in range(2):
            for name, value in metrics[round_][client].items():
                np.testing.assert_allclose(outcome.metrics[name][round_, 0, client], value, rtol=1e-4, atol=1e-5)
    broadcast = jax.tree.map(lambda x: x[0], outcome.last.server.broadcast)
    assert_close(broadcast, host(consensus))
    begun = [jax.tree.leaves(client.agent.learner) for client in outcome.first.clients]
    ended = [jax.tree.leaves(client.agent.learner) for client in outcome.last.clients]
    assert all(any(np.any(a != b) for a, b in zip(*pair, strict=True)) for pair in zip(begun, ended, strict=True))


def test_nobody_takes_in_what_was_never_broadcast(trained: Callable[..., Outcome]) -> None:
    """Three of four exchanges of the first round are absorbed, all four later."""
    outcome = trained(FLEET)
    assert [client.agent.turn.tolist() for client in outcome.first.clients] == [[0], [0] * 3]
    assert [client.agent.turn.tolist() for client in outcome.last.clients] == [[7 % 2], [7 % 2] * 3]
    assert outcome.metrics["divergence"][0].tolist() == [[0.0] * 4]
    assert (outcome.metrics["divergence"][1] > 0).all()


# Numbers, and no program


def test_another_strength_of_distillation_compiles_nothing(trained: Callable[..., Outcome]) -> None:
    plain = trained(FLEET)
    simulation = Simulation(with_distillation(strength=0.5), (0,), list(TWO))
    federation = simulation.init()
    programs, seconds = run_rounds._cache_size(), compile_seconds()
    federation, metrics = simulation.advance(federation, 2)
    assert run_rounds._cache_size() == programs
    assert compile_seconds() == seconds
    assert np.any(metrics["divergence"] != plain.metrics["divergence"])


def test_policies_of_a_fleet_are_judged_in_the_order_of_the_clients(trained: Callable[..., Outcome]) -> None:
    simulation = trained(FLEET).simulation
    assert simulation.policy_names == ("client-0", "client-1", "client-2", "client-3")
    scores = simulation.evaluate(simulation.init())
    assert scores.shape == (1, 4, 4)
    assert np.isfinite(scores).all()


def figures(line: str) -> dict[str, float]:
    """The figures in a line of a debugged client."""
    pairs = (pair.rsplit(" ", 1) for pair in line.partition(": ")[2].split(", "))
    return {name: float(value) for name, value in pairs}


@pytest.mark.slow
def test_debugged_rounds_of_a_fleet_give_what_compiled_rounds_give() -> None:
    experiment = dataclasses.replace(with_distillation(repetitions=1), environment=CartPole(max_steps=4), local_steps=1)
    few = tuple(dataclasses.replace(group, local_steps=5 if group.local_steps else 1) for group in FLEET.agent.groups)
    simulation = Simulation(dataclasses.replace(experiment, agent=Mixed(few)), (0,))
    lines = list(debug_rounds(simulation, 2))
    _, metrics = simulation.advance(simulation.init(), 2)
    assert len(lines) == 2 * 2 * (4 + 1)
    assert lines[5].startswith("round 1, exchange 1, client-0: ")
    for round_ in range(2):
        for client in range(4):
            for name, value in figures(lines[round_ * 10 + client]).items():
                expected = metrics[name][round_, 0, client]
                np.testing.assert_allclose(value, expected, rtol=2e-3, atol=1e-6, err_msg=name)
        assert not any(figures(lines[round_ * 10 + 5 + client])["episodes"] for client in range(4))
