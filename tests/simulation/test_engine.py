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
from polyfed.aggregation import LocalOnly, NestedMean, ServerAdam, weighted_mean
from polyfed.environments import Explicit
from polyfed.exchange import HalfPrecision, LoseMessages
from polyfed.experiment import Experiment
from polyfed.leaves import stacked
from polyfed.simulation.compile_clock import compile_seconds
from polyfed.simulation.engine import Federation, home, run_rounds
from polyfed.simulation.round import Client, ClientParts, client_round
from polyfed.simulation.simulate import Simulation

ONE = tuple(jax.devices()[:1])
TWO = tuple(jax.devices()[:2])

needs_two_devices = pytest.mark.skipif(len(TWO) < 2, reason="needs two devices")


@dataclasses.dataclass
class Outcome:
    """A federation after some rounds, on the host, without padding."""

    simulation: Simulation
    clients: Any  # leaves [S, C, ...]
    server: Any
    metrics: dict[str, np.ndarray]
    first: Any  # the clients before the first round

    def of_seed(self, seed: int) -> Any:
        """Everything that was found for one seed."""
        s = self.simulation.seeds.index(seed)
        nth = lambda tree: jax.tree.map(lambda x: x[s], tree)  # noqa: E731
        return nth(self.clients), nth(self.server), {n: v[:, s] for n, v in self.metrics.items()}


def unpadded(simulation: Simulation, federation: Federation) -> tuple[Any, Any]:
    (share,) = simulation.plan.shares
    cut = lambda x: np.array(x).reshape(share.num_seeds, share.num_clients, *x.shape[1:])  # noqa: E731
    return jax.tree.map(cut, simulation.unpadded(federation).clients[0]), jax.tree.map(np.array, federation.server)


def run(simulation: Simulation, *blocks: int) -> Outcome:
    federation = simulation.init()
    first = unpadded(simulation, federation)[0]
    metrics = []
    for block in blocks:
        federation, found = simulation.advance(federation, block)
        metrics.append(found)
    joined = {name: np.concatenate([m[name] for m in metrics]) for name in metrics[0]}
    return Outcome(simulation, *unpadded(simulation, federation), joined, first)


@pytest.fixture(scope="module")
def arm(tiny: Callable[..., Experiment]) -> Callable[..., Experiment]:
    """`arm("fedwb", learning_rate=1e-4)`."""
    return lambda method, **agent: recipes.RECIPES[method](tiny(agent=agent))


@pytest.fixture(scope="module")
def trained(arm: Callable[..., Experiment]) -> Callable[..., Outcome]:
    """`trained(method="fedavg", seeds=(0,), devices=TWO, blocks=(2,))`; each is run once."""

    @functools.cache
    def make(
        method: str = "fedavg", seeds: tuple[int, ...] = (0,), devices: Any = TWO, blocks: tuple[int, ...] = (2,)
    ) -> Outcome:
        return run(Simulation(arm(method), seeds, list(devices)), *blocks)

    return make


def assert_same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(one: Any, other: Any, tolerance: float = 2e-5) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# The same as a loop in Python


@functools.cache
def compiled_client_round(local_steps: int) -> Any:
    def run(parts: ClientParts, client: Client, broadcast: Any, setting: Any) -> Any:
        return client_round(parts, client, broadcast, setting, local_steps=local_steps)

    return eqx.filter_jit(run)


def naive_rounds(experiment: Experiment, outcome: Outcome, num_rounds: int, merge: Any) -> tuple[list[Client], Any]:
    """One client after another, `merge(payloads) -> one broadcast per client`; nothing of the engine is used."""
    agents = stacked(experiment.agent, experiment.num_clients)
    worlds = experiment.variation.params(experiment.environment, experiment.num_clients)
    clients = [jax.tree.map(lambda x, c=c: jnp.asarray(x[0, c]), outcome.first) for c in range(experiment.num_clients)]
    start = jax.tree.map(lambda x: jnp.asarray(x[0]), first_broadcast(outcome))
    broadcasts = [start] * experiment.num_clients
    for round_ in range(1, num_rounds + 1):
        payloads = []
        for c in range(experiment.num_clients):
            parts = ClientParts(experiment.environment, jax.tree.map(lambda x, c=c: x[c], agents))
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), round_), c)
            params = jax.tree.map(lambda x, c=c: x[c : c + 1], worlds)
            clients[c], payload, _ = compiled_client_round(experiment.local_steps)(
                parts, clients[c], broadcasts[c], (params, key)
            )
            payloads.append(payload)
        broadcasts = merge(payloads)
    return clients, broadcasts


def first_broadcast(outcome: Outcome) -> Any:
    server = outcome.simulation.init().server
    broadcast = jax.tree.map(np.array, server.broadcast)
    return jax.tree.map(lambda x: x[:, 0], broadcast) if outcome.simulation.personal else broadcast


def mean_for_all(payloads: list[Any]) -> list[Any]:
    mean = jax.tree.map(
        lambda *x: jnp.asarray(np.mean(np.asarray(x, np.float64), axis=0).astype(np.float32)), *payloads
    )
    return [mean] * len(payloads)


def test_a_federated_round_is_what_a_loop_over_clients_gives(trained: Callable[..., Outcome]) -> None:
    outcome = trained()
    clients, broadcasts = naive_rounds(outcome.simulation.experiment, outcome, 2, mean_for_all)
    found, server, _ = outcome.of_seed(0)
    stack = jax.tree.map(lambda *x: np.stack(x), *clients)
    np.testing.assert_array_equal(found.agent.replay.count, stack.agent.replay.count)
    np.testing.assert_allclose(found.agent.replay.rows, stack.agent.replay.rows, rtol=1e-5, atol=1e-5)
    assert_close(found, stack)
    assert_close(server.broadcast, jax.tree.map(np.asarray, broadcasts[0]))
    before = jax.tree.leaves(first_broadcast(outcome))
    moved = [np.abs(a - b[0]).max() for a, b in zip(jax.tree.leaves(server.broadcast), before, strict=True)]
    assert min(moved) > 1e-4  # it did learn


def test_local_only_is_every_client_learning_alone(trained: Callable[..., Outcome]) -> None:
    outcome = trained("local_only")
    clients, broadcasts = naive_rounds(outcome.simulation.experiment, outcome, 2, lambda payloads: payloads)
    found, server, _ = outcome.of_seed(0)
    assert_close(found, jax.tree.map(lambda *x: np.stack(x), *clients))
    assert_close(server.broadcast, jax.tree.map(lambda *x: np.stack(x), *broadcasts))
    last = np.asarray(jax.tree.leaves(server.broadcast)[0])
    assert np.abs(last[0] - last[1]).max() > 1e-4  # each has its own
    assert_same(server.broadcast, found.agent.online)


def test_the_broadcast_of_fedavg_is_the_weighted_mean_of_what_the_clients_hold(trained: Callable[..., Outcome]) -> None:
    clients, server, metrics = trained().of_seed(0)
    weight = metrics["weight"][-1]
    np.testing.assert_array_equal(weight, np.ones(3))
    assert_close(server.broadcast, jax.tree.map(np.asarray, weighted_mean(clients.agent.online, weight)), 1e-7)


def test_all_clients_of_all_arms_start_from_one_network_target_included(trained: Callable[..., Outcome]) -> None:
    for method in ("fedavg", "local_only"):
        outcome = trained(method)
        start = first_broadcast(outcome)
        for network in (outcome.first.agent.online, outcome.first.agent.target):
            for leaf, expected in zip(jax.tree.leaves(network), jax.tree.leaves(start), strict=True):
                np.testing.assert_array_equal(leaf, np.broadcast_to(expected[:, None], leaf.shape))


# Devices, seeds, blocks


@needs_two_devices
def test_the_numbers_of_clients_do_not_divide_evenly_so_that_padding_is_tested(trained: Callable[..., Outcome]) -> None:
    (share,) = trained().simulation.plan.shares
    assert (share.total, share.per_device, share.num_devices) == (3, 2, 2)
    federation = trained().simulation.init()
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(federation.clients)} == {2}


@pytest.mark.bits
@needs_two_devices
def test_one_device_or_two_give_the_same_bits(trained: Callable[..., Outcome]) -> None:
    one, two = trained(devices=ONE), trained()
    assert_same(one.first, two.first)
    assert_same(one.clients, two.clients)
    assert_same(one.server, two.server)
    assert_same(one.metrics, two.metrics)


@pytest.mark.slow
@needs_two_devices
@pytest.mark.parametrize("method", ["fedwb", "pooled"])
def test_every_method_gives_the_same_bits_on_one_device_or_two(method: str, tiny: Callable[..., Experiment]) -> None:
    experiment = recipes.RECIPES[method](tiny())
    found = [run(Simulation(experiment, (0, 4, 2), list(devices)), 2) for devices in (ONE, TWO)]
    evaluated = [outcome.simulation.evaluate(outcome.simulation.init()) for outcome in found]
    np.testing.assert_array_equal(*evaluated)
    assert_same(found[0].clients, found[1].clients)
    assert_same(found[0].server, found[1].server)
    assert_same(found[0].metrics, found[1].metrics)


@pytest.mark.bits
def test_a_seed_alone_gives_the_bits_that_it_gives_among_others(trained: Callable[..., Outcome]) -> None:
    alone, among = trained(), trained(seeds=(3, 0))
    assert_same(alone.of_seed(0), among.of_seed(0))
    different = [np.any(x[0] != x[1]) for x in jax.tree.leaves(among.server.broadcast)]
    assert all(different)  # seeds are not copies of each other


def test_the_same_seed_gives_the_same_bits_again(trained: Callable[..., Outcome]) -> None:
    again = run(Simulation(trained().simulation.experiment, (0,), list(TWO)), 2)
    assert_same(again.clients, trained().clients)
    assert_same(again.server, trained().server)
    assert_same(again.metrics, trained().metrics)


def test_a_block_of_four_rounds_is_two_blocks_of_two(trained: Callable[..., Outcome]) -> None:
    one, two = trained(blocks=(4,)), trained(blocks=(2, 2))
    assert_same(one.clients, two.clients)
    assert_same(one.server, two.server)
    assert_same(one.metrics, two.metrics)
    assert one.metrics["return"].shape == (4, 1, 3)


@pytest.mark.slow
def test_clients_side_by_side_agree_with_clients_one_after_another(trained: Callable[..., Outcome]) -> None:
    simulation = Simulation(trained().simulation.experiment, (0,), list(ONE))
    simulation.plan = dataclasses.replace(simulation.plan, side_by_side=True)
    side_by_side = run(simulation, 2)
    assert_close(side_by_side.clients, trained().clients)
    assert_close(side_by_side.server, trained().server)
    assert_close(side_by_side.metrics, trained().metrics, 1e-4)


# What compiles, and what does not


def test_a_second_block_and_a_changed_number_compile_nothing(
    trained: Callable[..., Outcome], arm: Callable[..., Experiment]
) -> None:
    trained()
    simulation = Simulation(arm("fedavg", learning_rate=3e-4, discount=0.5), (0,), list(TWO))
    federation = simulation.init()
    programs, seconds = run_rounds._cache_size(), compile_seconds()
    for _ in range(2):
        federation, _ = simulation.advance(federation, 2)
    assert run_rounds._cache_size() == programs
    assert compile_seconds() == seconds
    assert simulation.compile_seconds == 0.0
    assert simulation.seconds > 0.0


def test_numbers_per_client_worlds_and_seeds_compile_nothing(
    trained: Callable[..., Outcome], arm: Callable[..., Experiment]
) -> None:
    trained()
    experiment = arm("fedavg", learning_rate=(0.0, 1e-3, 1e-2))
    experiment = dataclasses.replace(experiment, variation=Explicit({"force": (5.0, 10.0, 20.0)}))
    simulation = Simulation(experiment, (11,), list(TWO))
    federation, seconds = simulation.init(), compile_seconds()
    simulation.advance(federation, 2)
    assert compile_seconds() == seconds


# What differs between clients


def test_hyper_parameters_of_a_client_act_on_that_client_alone(
    trained: Callable[..., Outcome], arm: Callable[..., Experiment]
) -> None:
    plain = trained("local_only")
    changed = run(Simulation(arm("local_only", learning_rate=(1e-3, 0.0, 1e-3)), (0,), list(TWO)), 2)
    for leaf, expected in zip(jax.tree.leaves(changed.clients), jax.tree.leaves(plain.clients), strict=True):
        np.testing.assert_array_equal(leaf[0, [0, 2]], expected[0, [0, 2]])
    networks = zip(
        *(jax.tree.leaves(o.agent.online) for o in (changed.clients, plain.clients, plain.first)), strict=True
    )
    for leaf, expected, start in networks:
        np.testing.assert_array_equal(leaf[0, 1], start[0, 1])  # it does not move at all
        assert np.any(expected[0, 1] != start[0, 1])


def test_clients_live_in_worlds_of_their_own(trained: Callable[..., Outcome]) -> None:
    params = trained().simulation.homes.params
    np.testing.assert_allclose(params.half_length[0], [[0.25], [0.5], [1.0]])
    replay = trained().of_seed(0)[0].agent.replay
    assert not np.array_equal(replay.rows[0], replay.rows[1])


@pytest.mark.slow
def test_pooled_lives_in_all_worlds_and_takes_as_many_steps_as_the_fleet(trained: Callable[..., Outcome]) -> None:
    outcome = trained("pooled")
    simulation, agent = outcome.simulation, outcome.of_seed(0)[0].agent
    np.testing.assert_allclose(simulation.homes.params.half_length[0], [[0.25, 0.5, 1.0]])
    assert agent.replay.rows.shape[:3] == (1, 300, 3)  # one agent, 900 transitions, three worlds side by side
    steps = 2 * 20
    assert int(agent.replay.count[0]) == steps
    begun = steps - 10 + 1  # local steps from the one on which learning starts
    assert int(agent.learn_steps[0]) == 3 * begun
    lived = agent.replay.rows[0, :steps]
    assert not np.array_equal(lived[:, 0], lived[:, 1])
    assert not np.array_equal(lived[:, 1], lived[:, 2])
    assert simulation.policy_names == ("global",)
    assert outcome.metrics["return"].shape == (2, 1, 1)


# Messages on the way


@pytest.mark.slow
def test_where_every_message_is_lost_clients_learn_and_the_broadcast_stays(tiny: Callable[..., Experiment]) -> None:
    experiment = tiny(
        transforms=(HalfPrecision(), LoseMessages(probability=1.0)),
        server_optimizer=ServerAdam(),
        agent={"learning_starts": 1},
    )
    simulation = Simulation(experiment, (0,), list(TWO))
    before = jax.tree.map(np.array, simulation.init().server)
    outcome = run(simulation, 2)
    assert_same(outcome.server, before)
    np.testing.assert_array_equal(outcome.metrics["weight"], np.zeros((2, 1, 3)))
    online = jax.tree.leaves(outcome.of_seed(0)[0].agent.online)
    broadcast = jax.tree.leaves(before.broadcast)
    assert all(np.any(x[c] != b[0]) for x, b in zip(online, broadcast, strict=True) for c in range(3))


@pytest.mark.slow
def test_with_starts_of_their_own_clients_differ_and_train_what_they_have(tiny: Callable[..., Experiment]) -> None:
    """Before the first merge nothing has been broadcast; after it, everybody has what was merged."""
    own = run(Simulation(tiny(common_start=False), (0,), list(TWO)), 1)
    weights = jax.tree.leaves(own.first.agent.online)[0][0]
    assert not np.array_equal(weights[0], weights[1])
    parts, plan = own.simulation.homes, own.simulation.plan
    for c in range(3):
        client = jax.tree.map(lambda x, c=c: jnp.asarray(x[0, c]), own.first)
        local, params, key = home(parts, plan, 0, jnp.int32(c), jnp.int32(1))
        alone, _, _ = jax.jit(
            lambda client, local, params, key: client_round(
                local, client, local.agent.share(client.agent), (params, key), local_steps=plan.shares[0].local_steps
            )
        )(client, local, params, key)
        found = jax.tree.map(lambda x, c=c: x[0, c], own.clients.agent.online)
        for a, b in zip(jax.tree.leaves(alone.agent.online), jax.tree.leaves(found), strict=True):
            np.testing.assert_allclose(np.asarray(a), b, rtol=1e-5, atol=1e-6)
    later = run(Simulation(tiny(common_start=False, rule=LocalOnly(), method="local_only"), (0,), list(TWO)), 2)
    common = run(Simulation(tiny(rule=LocalOnly(), method="local_only"), (0,), list(TWO)), 2)
    first = jax.tree.leaves(common.first.agent.online)[0][0]
    np.testing.assert_array_equal(first[0], first[1])
    assert np.isfinite(jax.tree.leaves(later.clients.agent.online)[0]).all()


@pytest.mark.slow
def test_clients_of_different_widths_never_touch_what_they_do_not_hold(tiny: Callable[..., Experiment]) -> None:
    experiment = tiny(agent={"width": (4, 8, 16)}, rule=NestedMean(), method="heterofl")
    outcome = run(Simulation(experiment, (0, 1), list(TWO)), 3)
    merged = outcome.server.broadcast
    assert merged.width.tolist() == [16, 16]
    weights = outcome.clients.agent.online.layers[0].weight  # [S, C, 16, 4]
    begun = outcome.first.agent.online.layers[0].weight
    assert not np.array_equal(weights[:, 0, :4], begun[:, 0, :4])
    np.testing.assert_array_equal(weights[:, 0, 8:], weights[:, 1, 8:], "both have what the third client sent")
    assert not np.array_equal(weights[:, 2, 8:], begun[:, 2, 8:])
    assert outcome.simulation.evaluate(outcome.simulation.init()).shape == (2, 4, 4)
