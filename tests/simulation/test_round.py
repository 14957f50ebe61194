from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import PRNGKeyArray

from polyfed.agents import Survival
from polyfed.aggregation import LocalOnly, ServerAdam, ServerMomentum, ServerSGD, WeightedMean
from polyfed.aggregation.rule import AggregationRule
from polyfed.exchange import LoseMessages, Transform
from polyfed.experiment import Experiment
from polyfed.simulation.round import Client, ClientParts, Server, ServerParts, client_round, server_round
from polyfed.types import Metrics, Payload, Update

KEY = jax.random.key(7)
NAN = np.float32(np.nan)


class Shift(Transform):
    """Adds on the way up, takes away on the way back; remembers how often it was used."""

    amount: float = 1.0

    def init(self, payload: Payload, num_clients: int) -> Any:
        return jnp.zeros(2, jnp.int32)

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        return Update(jax.tree.map(lambda x: x + self.amount, update.payload), update.weight), state.at[0].add(1)

    def receive(self, state: Any, merged: Payload) -> tuple[Payload, Any]:
        return jax.tree.map(lambda x: x - self.amount, merged), state.at[1].add(1)


class Stretch(Transform):
    """Multiplies on the way up, divides on the way back."""

    factor: float = 2.0

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        return Update(jax.tree.map(lambda x: x * self.factor, update.payload), update.weight), state

    def receive(self, state: Any, merged: Payload) -> tuple[Payload, Any]:
        return jax.tree.map(lambda x: x / self.factor, merged), state


class Jitter(Transform):
    """Adds noise from the key that it was given."""

    def upload(self, state: Any, update: Update, broadcast: Payload, key: PRNGKeyArray) -> tuple[Update, Any]:
        add = lambda x: x + jax.random.normal(key, x.shape, x.dtype)  # noqa: E731
        return Update(jax.tree.map(add, update.payload), update.weight), state


class Counting(AggregationRule):
    """The mean, and how many rounds it has seen."""

    linear = True

    def init(self, payload: Payload) -> Any:
        return jnp.zeros((), jnp.int32)

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        merged, _, _ = WeightedMean().aggregate((), update)
        return merged, state + 1, {"seen": state + 1}


class Recorder:
    """Runs stages and remembers their names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        self.names.append(name)
        return function(*args)


def a_server(parts: ServerParts, broadcast: Payload, num_clients: int = 3) -> Server:
    one = jax.tree.map(lambda x: x[0], broadcast) if parts.rule.personal else broadcast
    transforms = tuple(t.init(one, num_clients) for t in parts.transforms)
    return Server(broadcast, parts.rule.init(one), transforms, parts.optimizer.init(broadcast))


def updates(weight: Any = (1.0, 1.0, 1.0)) -> Update:
    values = np.random.default_rng(3).normal(size=(3, 4)).astype(np.float32)
    return Update({"w": jnp.asarray(values)}, jnp.asarray(weight, jnp.float32))


def assert_same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_stages_of_the_server_come_in_the_order_of_the_line() -> None:
    parts, recorder = ServerParts((Shift(), Stretch()), WeightedMean(), ServerSGD()), Recorder()
    server_round(parts, a_server(parts, {"w": jnp.zeros(4)}), updates(), KEY, recorder)
    assert recorder.names == ["upload", "upload", "aggregate", "receive", "receive", "server optimizer"]


def test_transforms_act_in_order_on_the_way_up_and_in_reverse_on_the_way_back() -> None:
    parts = ServerParts((Shift(amount=3.0), Stretch(factor=2.0)), WeightedMean(), ServerSGD())
    update = updates()
    after, _ = server_round(parts, a_server(parts, {"w": jnp.zeros(4)}), update, KEY)
    # up: 2 (x + 3); back: divided by 2 first, then less 3. In any other order a multiple of 1.5 would be left over.
    np.testing.assert_allclose(after.broadcast["w"], np.asarray(update.payload["w"]).mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after.transforms[0], [1, 1])


def test_transforms_keep_their_own_state_in_their_own_place() -> None:
    parts = ServerParts((Stretch(), Shift(), Stretch()), WeightedMean(), ServerSGD())
    server = a_server(parts, {"w": jnp.zeros(4)})
    for _ in range(3):
        server, _ = server_round(parts, server, updates(), KEY)
    assert server.transforms[0] == () == server.transforms[2]
    np.testing.assert_array_equal(server.transforms[1], [3, 3])


def test_every_transform_gets_a_key_of_its_own() -> None:
    nothing = Update({"w": jnp.zeros((3, 4))}, jnp.ones(3))
    noise = []
    for transforms in ((Jitter(),), (Jitter(), Jitter())):
        parts = ServerParts(transforms, WeightedMean(), ServerSGD())
        noise.append(server_round(parts, a_server(parts, {"w": jnp.zeros(4)}), nothing, KEY)[0].broadcast["w"])
    one, two = np.asarray(noise[0]), np.asarray(noise[1])
    assert np.abs(two - 2 * one).max() > 0.1  # one key for both would double the noise


def test_server_is_a_naive_mean_followed_by_its_optimizer() -> None:
    broadcast, update = {"w": jnp.arange(4.0)}, updates((1.0, 3.0, 0.0))
    parts = ServerParts((), WeightedMean(), ServerSGD(learning_rate=0.5))
    after, metrics = server_round(parts, a_server(parts, broadcast), update, KEY)
    x = np.asarray(update.payload["w"], np.float64)
    mean = (1.0 * x[0] + 3.0 * x[1]) / 4.0
    np.testing.assert_allclose(after.broadcast["w"], 0.5 * (np.arange(4.0) + mean), rtol=1e-6)
    np.testing.assert_array_equal(metrics["weight"], [1.0, 3.0, 0.0])


def test_metrics_say_what_counted_after_losses_and_what_the_rule_adds() -> None:
    parts = ServerParts((LoseMessages(probability=1.0),), Counting(), ServerSGD())
    _, metrics = server_round(parts, a_server(parts, {"w": jnp.zeros(4)}), updates(), KEY)
    np.testing.assert_array_equal(metrics["weight"], [0.0, 0.0, 0.0])
    assert int(metrics["seen"]) == 1


@pytest.mark.parametrize("optimizer", [ServerSGD(), ServerMomentum(), ServerAdam()], ids=lambda o: type(o).__name__)
def test_a_round_to_which_nobody_came_leaves_the_server_as_it_was(optimizer: Any) -> None:
    parts = ServerParts((Shift(), LoseMessages(probability=1.0)), Counting(), optimizer)
    full = ServerParts((Shift(), LoseMessages(probability=0.0)), Counting(), optimizer)
    server, _ = server_round(full, a_server(full, {"w": jnp.arange(4.0)}), updates(), KEY)  # memories are not empty
    lost = Update({"w": jnp.full((3, 4), NAN)}, jnp.ones(3))
    after, _ = server_round(parts, server, lost, KEY)
    assert_same(after, Server(server.broadcast, server.rule, after.transforms, server.optimizer))
    np.testing.assert_array_equal(after.transforms[0], [2, 1])  # the way up was gone, and none came back
    other = Update({"w": -updates().payload["w"]}, jnp.ones(3))
    moved, _ = server_round(full, server, other, KEY)
    assert np.any(np.asarray(moved.broadcast["w"]) != np.asarray(server.broadcast["w"]))


@pytest.mark.parametrize("content", [0.0, 1e30, np.inf, np.nan])
def test_an_absent_client_has_no_influence_whatever_it_holds(content: float) -> None:
    parts = ServerParts((), WeightedMean(), ServerAdam())
    server = a_server(parts, {"w": jnp.arange(4.0)})
    update = updates((1.0, 0.0, 2.0))
    filled = Update({"w": update.payload["w"].at[1].set(content)}, update.weight)
    without = Update({"w": update.payload["w"][jnp.array([0, 2])]}, update.weight[jnp.array([0, 2])])
    after, _ = server_round(parts, server, filled, KEY)
    expected, _ = server_round(parts, server, without, KEY)
    assert_same(after, expected)


def test_a_personal_rule_gives_everyone_its_own_and_an_absent_client_keeps_what_it_had() -> None:
    parts = ServerParts((), LocalOnly(), ServerSGD())
    had = {"w": jnp.arange(12.0).reshape(3, 4)}
    update = updates((1.0, 0.0, 5.0))
    update = Update({"w": update.payload["w"].at[1].set(NAN)}, update.weight)
    after, _ = server_round(parts, a_server(parts, had), update, KEY)
    sent = np.asarray(update.payload["w"])
    np.testing.assert_array_equal(after.broadcast["w"], [sent[0], np.asarray(had["w"])[1], sent[2]])


def test_an_absent_client_keeps_what_it_had_under_a_server_optimizer_that_rolls_on() -> None:
    parts = ServerParts((), LocalOnly(), ServerMomentum(momentum=0.9))
    server = a_server(parts, {"w": jnp.zeros((3, 4))})
    server, _ = server_round(parts, server, updates(), KEY)  # everybody gathers momentum
    after, _ = server_round(parts, server, updates((1.0, 0.0, 1.0)), KEY)
    np.testing.assert_array_equal(after.broadcast["w"][1], server.broadcast["w"][1])
    assert np.any(np.asarray(after.broadcast["w"][0]) != np.asarray(server.broadcast["w"][0]))


# The client's half


@functools.cache
def compiled_client_round(local_steps: int) -> Any:
    def run(parts: ClientParts, client: Client, broadcast: Any, setting: Any) -> Any:
        return client_round(parts, client, broadcast, setting, local_steps=local_steps)

    return eqx.filter_jit(run)


@pytest.fixture
def at_home(tiny: Callable[..., Experiment]) -> tuple[ClientParts, Client, Any]:
    """A client's parts, its state and its world; learning begins at once."""
    survival = Survival()  # the target follows the broadcast
    experiment = tiny(agent={"learning_starts": 1, "learning_rate": jnp.float32(1e-3), "survival": survival})
    parts = ClientParts(experiment.environment, experiment.agent)
    params = jax.tree.map(lambda x: x[None], experiment.environment.nominal())
    agent = parts.agent.init(jax.random.key(1), parts.environment, 1)
    return parts, Client(agent, parts.environment.start(jax.random.key(2), params)), params


def a_broadcast(parts: ClientParts, seed: int = 9) -> Any:
    return parts.agent.share(parts.agent.init(jax.random.key(seed), parts.environment, 1))


def test_stages_of_a_client_come_in_the_order_of_the_line(at_home: Any) -> None:
    parts, client, params = at_home
    recorder = Recorder()

    def run(client: Client, broadcast: Any) -> Any:
        return client_round(parts, client, broadcast, (params, KEY), local_steps=4, run_stage=recorder)

    jax.eval_shape(run, client, a_broadcast(parts))
    assert recorder.names == ["absorb", "local update", "share"]


def test_a_client_learns_from_the_broadcast_and_not_from_what_it_had(at_home: Any) -> None:
    parts, client, params = at_home
    broadcast, run = a_broadcast(parts), compiled_client_round(20)
    _, payload, _ = run(parts, client, broadcast, (params, KEY))
    other = eqx.tree_at(lambda c: c.agent.online, client, a_broadcast(parts, seed=10))
    other = eqx.tree_at(lambda c: c.agent.target, other, a_broadcast(parts, seed=11))
    _, same, _ = run(parts, other, broadcast, (params, KEY))
    assert_same(payload, same)  # absorb comes first: the networks of before are gone
    pairs = zip(jax.tree.leaves(payload), jax.tree.leaves(broadcast), strict=True)
    assert all(np.any(np.asarray(p) != np.asarray(b)) for p, b in pairs)


def test_training_never_changes_the_broadcast(at_home: Any) -> None:
    parts, client, params = at_home
    broadcast = a_broadcast(parts)
    before = jax.tree.map(lambda x: np.array(x, copy=True), broadcast)
    views = jax.tree.map(np.asarray, broadcast)  # of the same memory: a write in place would show
    state, payload, _ = compiled_client_round(20)(parts, client, broadcast, (params, KEY))
    assert_same(views, before)
    assert_same(broadcast, before)
    for sent, leaf in zip(jax.tree.leaves(payload), jax.tree.leaves(broadcast), strict=True):
        assert sent.unsafe_buffer_pointer() != leaf.unsafe_buffer_pointer()
    again, _, _ = compiled_client_round(20)(parts, client, broadcast, (params, KEY))
    assert_same(again.agent.online, state.agent.online)  # the next client starts where the first one started
