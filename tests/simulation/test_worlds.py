"""Worlds that move and clients that join late, in the compiled engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed import recipes
from polyfed.agents import Survival
from polyfed.environments import Drift, Drifts, Uniform
from polyfed.experiment import Evaluation, Experiment
from polyfed.simulation.engine import home, welcomed
from polyfed.simulation.simulate import Simulation
from polyfed.simulation.worlds import course, world_values

SWITCH = Drift(to={"half_length": 0.8}, first=4, clients=(0,))
SLIDE = Drift(factors={"force": 2.0}, first=2, rounds=4, clients=(1,))
LATE = (1, 1, 4)


@pytest.fixture(scope="module")
def changing(tiny: Callable[..., Experiment]) -> Experiment:
    """Client 2 joins in round 4, and learns nothing by itself: it is what it was sent."""
    agent = {"learning_rate": (1e-2, 1e-2, 0.0), "survival": Survival.everything()}
    evaluation = Evaluation(every=3, episodes=1)
    return tiny(agent=agent, schedule=Drifts((SWITCH, SLIDE)), joins=LATE, evaluation=evaluation)


@pytest.fixture(scope="module")
def lived(changing: Experiment) -> tuple[Simulation, list[Any], list[dict[str, np.ndarray]]]:
    """A run of two seeds, its federation after 0, 3 and 6 rounds, and the metrics of each half."""
    simulation = Simulation(changing, (0, 1))
    federation = simulation.init()
    kept, metrics = [copied(simulation, federation)], []
    for _ in range(2):
        federation, found = rounds(simulation, federation, 3)
        kept.append(copied(simulation, federation))
        metrics.append(found)
    return simulation, kept, metrics


def rounds(simulation: Simulation, federation: Any, number: int) -> tuple[Any, dict[str, np.ndarray]]:
    """One after another, so that one program serves all tests."""
    found = []
    for _ in range(number):
        federation, metrics = simulation.advance(federation, 1)
        found.append(metrics)
    return federation, {name: np.concatenate([metrics[name] for metrics in found]) for name in found[0]}


def copied(simulation: Simulation, federation: Any) -> Any:
    return jax.tree.map(jnp.copy, simulation.unpadded(federation))


def placed(simulation: Simulation, kept: Any) -> Any:
    return simulation.place(jax.tree.map(jnp.copy, kept))  # a block of rounds uses up what it is given


def client(federation: Any, nth: int, seed: int = 0) -> Any:
    return jax.tree.map(lambda x: x[3 * seed + nth], federation.clients[0])


def same(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


# Joining late


def test_who_has_not_joined_is_absent(lived: Any) -> None:
    _, (begun, half, _), (first, second) = lived
    assert (first["weight"] == [1, 1, 0]).all()
    assert (second["weight"] == [1, 1, 1]).all()
    assert first["joined"].tolist() == [[[1, 1, 0]] * 2] * 3
    for name in ("steps", "bytes_up", "bytes_down"):
        assert not first[name][..., 2].any()
        assert (first[name][..., :2] > 0).all()
        assert (second[name][..., 2] > 0).all()
    for name in ("return", "loss", "episodes"):
        assert np.isnan(first[name][..., 2]).all()
    for seed in (0, 1):
        same(client(begun, 2, seed), client(half, 2, seed))  # not a step was lived, not an episode begun


def test_who_joins_starts_from_the_global_model(lived: Any) -> None:
    """It learns nothing by itself here, so after its first round it is what was broadcast."""
    simulation, (_, half, _), _ = lived
    federation, _ = simulation.advance(placed(simulation, half), 1)
    broadcast = jax.tree.map(lambda x: x[0], half.server.broadcast)
    newcomer = client(simulation.unpadded(federation), 2).agent
    same(newcomer.online, broadcast)
    same(newcomer.target, broadcast)  # although targets survive merges
    assert int(newcomer.replay.count) == 20


def test_a_newcomer_begins_with_nothing_of_its_own_and_others_keep_theirs(lived: Any) -> None:
    simulation, (_, half, _), _ = lived
    parts = jax.tree.map(lambda x: x[0], simulation.homes.parts[0])
    broadcast = jax.tree.map(lambda x: x[0] + 1, half.server.broadcast)
    one = client(half, 0)
    same(welcomed(parts, one, broadcast, jnp.bool_(False)), one)
    begun = welcomed(parts, one, broadcast, jnp.bool_(True))
    same(begun.agent.target, broadcast)
    assert int(begun.agent.replay.count) == 0
    same(begun.stay, one.stay)


@pytest.mark.bits
def test_a_run_that_goes_on_later_ends_with_the_same_bits(changing: Experiment, lived: Any) -> None:
    _, (_, half, end), (_, second) = lived
    again = Simulation(changing, (0, 1))
    federation, metrics = rounds(again, placed(again, half), 3)
    same(again.unpadded(federation), end)
    for name, values in second.items():
        np.testing.assert_array_equal(metrics[name], values, err_msg=name)


# Worlds


def test_each_round_is_lived_in_the_worlds_of_that_round(lived: Any) -> None:
    simulation, *_ = lived

    def each_round(client: int) -> Any:
        lived_in = lambda round_: home(simulation.homes, simulation.plan, 0, jnp.int32(client), round_)[1]  # noqa: E731
        return jax.vmap(lived_in)(jnp.arange(7))

    np.testing.assert_allclose(each_round(0).half_length[:, 0], [0.25] * 4 + [0.8] * 3)
    np.testing.assert_allclose(each_round(1).force[:, 0], [10, 10, 12.5, 15, 17.5, 20, 20])


def test_what_moves_is_recorded_and_nobody_else_feels_it(changing: Experiment, lived: Any) -> None:
    """The same program with a pole that becomes what it is: rounds differ from the switch on, at its client first."""
    _, _, (first, second) = lived
    moves = np.concatenate([first["moved"], second["moved"]])[:, 0]
    assert moves.tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]]
    still = dataclasses.replace(SWITCH, to={"half_length": 0.25})
    simulation = Simulation(dataclasses.replace(changing, schedule=Drifts((still, SLIDE))), (0, 1))
    federation, before = rounds(simulation, simulation.init(), 3)
    same(before["loss"], first["loss"])
    _, after = rounds(simulation, federation, 3)
    assert (after["loss"][0, :, 0] != second["loss"][0, :, 0]).all()
    same(after["loss"][0, :, 1], second["loss"][0, :, 1])


def test_policies_are_judged_in_the_worlds_of_the_last_round(lived: Any) -> None:
    simulation, (begun, half, end), _ = lived
    lengths = [simulation.worlds_after(r)[0].half_length[0, 0] for r in (0, 3, 4, 6)]
    np.testing.assert_allclose(lengths, [0.25, 0.25, 0.8, 0.8])
    for federation, there in ((begun, False), (half, True), (end, True)):  # it takes part in the round after the third
        scores = simulation.evaluate(placed(simulation, federation))
        assert np.isfinite(scores[:, :3]).all()
        assert np.isfinite(scores[:, 3]).all() == there


def test_values_of_worlds_are_those_in_the_end(changing: Experiment) -> None:
    values, units = world_values(changing)
    assert values == {"half_length": [0.8, 0.5, 1.0], "force": [10.0, 20.0, 10.0]}
    assert units == {"half_length": "m", "force": "N"}


def test_fleets_that_are_drawn_for_each_seed_move_from_where_they_are(tiny: Callable[..., Experiment]) -> None:
    drawn = Uniform(("half_length",), each_seed=True)
    experiment = tiny(variation=drawn, schedule=Drift(factors={"half_length": 2.0}, first=3))
    one, other = (course(experiment, seed) for seed in (0, 1))
    assert not np.allclose(one.at(2).half_length, other.at(2).half_length)
    for fleet in (one, other):
        np.testing.assert_allclose(fleet.at(3).half_length, 2 * fleet.at(2).half_length, rtol=1e-6)


def test_one_agent_for_all_meets_a_world_when_its_client_joins(changing: Experiment) -> None:
    simulation = Simulation(
        recipes.pooled(dataclasses.replace(changing, agent=dataclasses.replace(changing.agent, learning_rate=1e-3))),
        (0,),
    )
    assert simulation.homes.joins is None
    found = [simulation.homes.worlds.at(r).half_length[0, 0].tolist() for r in (3, 4)]
    np.testing.assert_allclose(found, [[0.25, 0.5, 0.25], [0.8, 0.5, 1.0]])


def test_changes_are_told_in_order(changing: Experiment) -> None:
    assert [(c.first, c.last, c.clients, c.words) for c in changing.changes] == [
        (2, 5, (1,), "force is multiplied by 2.0"),
        (4, 4, (0,), "half_length becomes 0.8"),
        (4, 4, (2,), "joins"),
    ]


@pytest.mark.slow
def test_learning_alone_goes_on_as_if_nobody_came(changing: Experiment) -> None:
    """A personal rule: the late client begins with what it is; the others never notice."""
    alone = recipes.local_only(dataclasses.replace(changing, schedule=Drift()))
    late, early = Simulation(alone, (0,)), Simulation(dataclasses.replace(alone, joins=()), (0,))
    (a, told), (b, known) = (s.advance(s.init(), 4) for s in (late, early))
    np.testing.assert_allclose(told["loss"][..., :2], known["loss"][..., :2], rtol=1e-5)
    first, second = late.unpadded(a), early.unpadded(b)
    for x, y in zip(jax.tree.leaves(client(first, 0)), jax.tree.leaves(client(second, 0)), strict=True):
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    assert int(client(first, 2).agent.replay.count) == 20
    assert int(client(second, 2).agent.replay.count) == 80
