"""DQN against NumPy written out by hand, and on five problems whose action values are known."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polyfed.agents import DQN, Embedding, HardUpdate, LinearDecay, Proximal, SoftUpdate, Survival, WorstCase
from polyfed.agents.networks import Linear
from polyfed.agents.rollout import local_update
from polyfed.environments import (
    CONTINUOUS_PROBES,
    FAMILIES,
    PROBES,
    CartPole,
    Discrete,
    Environment,
    Probe,
    ProbeState,
    Quantity,
    quantity,
)
from polyfed.leaves import stacked
from polyfed.simulation.simulate import Simulation
from polyfed.types import Trajectory

SMALL = DQN(hidden=(16,), batch_size=16, replay_capacity=90, learning_starts=10, target_update=HardUpdate(7))


def made_up(seed, num_steps, num_envs=1):
    """Transitions of CartPole's shape that nobody lived through, `[T, E]`, with both kinds of ends."""
    random = np.random.default_rng(seed)
    shape = (num_steps, num_envs)
    return Trajectory(
        observation=random.normal(size=(*shape, 4)).astype(np.float32),
        action=random.integers(0, 2, shape).astype(np.int32),
        reward=random.normal(size=shape).astype(np.float32),
        next_observation=random.normal(size=(*shape, 4)).astype(np.float32),
        terminated=random.random(shape) < 0.2,
        truncated=random.random(shape) < 0.2,
    )


@jax.jit
def begin(agent, key):
    return agent.init(key, CartPole(), 1)


@jax.jit
def sampled(agent, state, transition, key):
    """What the learner samples after one more transition."""
    return state.replay.add(transition).sample(key, agent.batch_size, agent.discount, agent.n_step)


@jax.jit
def learn(agent, state, trajectory, key):
    return agent.learn(state, trajectory, key)


def values_of(network, dueling, x):
    """Naive action values of one observation, float64."""

    def linear(layer, x):
        return np.asarray(layer.weight, np.float64) @ x + np.asarray(layer.bias, np.float64)

    if not dueling:
        hidden, out = network.layers
        return linear(out, np.maximum(linear(hidden, x), 0))
    x = np.maximum(linear(network.body.layers[0], x), 0)
    advantage = linear(network.advantage, x)
    return linear(network.value, x)[0] + advantage - advantage.mean()


def naive_loss(agent, state, batch):
    """Mean loss over the batch, one transition after the other."""
    total = 0.0
    for i in range(agent.batch_size):
        after = np.asarray(batch.next_observation[i], np.float64)
        aims = values_of(state.target, agent.dueling, after)
        if agent.double:
            best = aims[np.argmax(values_of(state.online, agent.dueling, after))]
        else:
            best = max(aims)
        target = float(batch.reward[i]) + float(batch.bootstrap[i]) * best
        chosen = values_of(state.online, agent.dueling, batch.observation[i])[int(batch.action[i, 0])]
        error = abs(chosen - target)
        if agent.loss == "mse":
            total += error**2
        else:
            total += 0.5 * error**2 if error <= 1 else error - 0.5
    return total / agent.batch_size


@pytest.mark.parametrize(
    "fields",
    [
        {},
        pytest.param({"double": True}, marks=pytest.mark.slow),  # both are in the last one, too
        pytest.param({"dueling": True}, marks=pytest.mark.slow),
        {"n_step": 3},
        {"loss": "huber"},
        {"double": True, "dueling": True, "n_step": 3, "loss": "huber"},
    ],
    ids=lambda fields: "+".join(fields) or "plain",
)
def test_loss_is_the_naive_td_error(fields):
    agent = stacked(dataclasses.replace(SMALL, **fields), None)
    state = begin(agent, jax.random.key(0))
    target = begin(agent, jax.random.key(1)).online  # not the online network
    state = eqx.tree_at(lambda s: (s.target, s.replay), state, (target, state.replay.add(made_up(0, 40))))
    transition, key = made_up(1, 1), jax.random.key(77)
    batch = sampled(agent, state, transition, key)
    _, metrics = learn(agent, state, transition, key)
    expected = naive_loss(agent, state, batch)
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-4)
    for other in ({"double": not agent.double}, {"loss": "mse" if agent.loss == "huber" else "huber"}):
        assert abs(naive_loss(dataclasses.replace(agent, **other), state, batch) - expected) > 1e-3


def test_terminated_steps_have_no_next_value_and_truncated_ones_have():
    for terminated, truncated in ((True, False), (True, True), (False, True), (False, False)):
        agent = stacked(SMALL, None)
        state = begin(agent, jax.random.key(0))
        step = made_up(3, 1)
        flags = {"terminated": np.full((1, 1), terminated), "truncated": np.full((1, 1), truncated)}
        step = dataclasses.replace(step, **flags)
        state = eqx.tree_at(lambda s: s.replay.count, state, jnp.int32(90))  # its ring is full
        state = eqx.tree_at(lambda s: s.replay, state, state.replay.add(jax.tree.map(lambda x: x.repeat(90, 0), step)))
        _, metrics = learn(agent, state, step, jax.random.key(0))
        after = values_of(state.target, False, step.next_observation[0, 0]).max()
        target = step.reward[0, 0] + (0 if terminated else 0.99 * after)
        chosen = values_of(state.online, False, step.observation[0, 0])[step.action[0, 0]]
        assert float(metrics["loss"]) == pytest.approx((chosen - target) ** 2, rel=1e-4)


@pytest.mark.parametrize(("loss", "max_grad_norm"), [("mse", 1e9), ("mse", 0.1), ("huber", 1e9)])
def test_a_gradient_step_is_backpropagation_clipping_and_adam_by_hand(loss, max_grad_norm):
    fields = {"loss": loss, "max_grad_norm": max_grad_norm, "learning_rate": 0.01, "learning_starts": 1}
    agent = stacked(dataclasses.replace(SMALL, **fields), None)
    state = begin(agent, jax.random.key(0))
    weights = [np.asarray(x, np.float64) for layer in state.online.layers for x in (layer.weight, layer.bias)]
    target = state.target
    first, second = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for t in range(1, 6):
        transition, key = made_up(t, 1), jax.random.key(t)
        batch = sampled(agent, state, transition, key)
        gradient = [np.zeros_like(w) for w in weights]
        w1, b1, w2, b2 = weights
        for i in range(agent.batch_size):
            x, action = np.asarray(batch.observation[i], np.float64), int(batch.action[i, 0])
            aim = batch.reward[i] + batch.bootstrap[i] * values_of(target, False, batch.next_observation[i]).max()
            before = w1 @ x + b1
            hidden = np.maximum(before, 0)
            error = (w2 @ hidden + b2)[action] - float(aim)
            slope = (2 * error if loss == "mse" else np.clip(error, -1, 1)) / agent.batch_size
            out = np.eye(2)[action] * slope
            back = (w2.T @ out) * (before > 0)
            for g, add in zip(gradient, (np.outer(back, x), back, np.outer(out, hidden), out), strict=True):
                g += add
        norm = np.sqrt(sum((g**2).sum() for g in gradient))
        gradient = [g * min(1, max_grad_norm / norm) for g in gradient]
        for i, g in enumerate(gradient):
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g**2
            weights[i] = weights[i] - 0.01 * (first[i] / (1 - 0.9**t)) / (np.sqrt(second[i] / (1 - 0.999**t)) + 1e-8)
        state, _ = learn(agent, state, transition, key)
        leaves = [x for layer in state.online.layers for x in (layer.weight, layer.bias)]
        for mine, theirs in zip(weights, leaves, strict=True):
            np.testing.assert_allclose(theirs, mine, rtol=2e-3, atol=2e-4)
    assert (norm > max_grad_norm) == (max_grad_norm == 0.1)


def test_waits_for_the_first_steps_and_then_learns_at_every_one():
    agent = stacked(SMALL, None)
    state = fresh = begin(agent, jax.random.key(0))
    steps = made_up(0, 12)
    for t in range(12):
        state, metrics = learn(agent, state, jax.tree.map(lambda x, t=t: x[t : t + 1], steps), jax.random.key(t))
        moved = not np.array_equal(state.online.layers[0].weight, fresh.online.layers[0].weight)
        assert moved == (t + 1 >= 10)
        assert (float(metrics["loss"]) > 0) == (t + 1 >= 10)
        assert int(state.learn_steps) == max(t + 1 - 9, 0)
        assert int(state.explore_steps) == t + 1


def test_takes_as_many_gradient_steps_as_asked():
    agent = stacked(dataclasses.replace(SMALL, updates_per_step=4), None)
    state = begin(agent, jax.random.key(0))
    for t in range(15):
        state, _ = learn(agent, state, made_up(t, 1), jax.random.key(t))
    assert int(state.learn_steps) == 4 * 6
    assert int(jax.tree.leaves(state.optimizer)[0]) == 4 * 6


@pytest.mark.parametrize("update", [HardUpdate(4), SoftUpdate(0.3)], ids=["hard", "soft"])
def test_the_target_follows_by_gradient_steps(update):
    agent = stacked(dataclasses.replace(SMALL, target_update=update, learning_starts=3), None)
    state = begin(agent, jax.random.key(0))
    target, steps = np.asarray(state.target.layers[0].weight), made_up(0, 12)
    for t in range(12):
        state, _ = learn(agent, state, jax.tree.map(lambda x, t=t: x[t : t + 1], steps), jax.random.key(t))
        online, count = np.asarray(state.online.layers[0].weight), max(t - 1, 0)
        if isinstance(update, HardUpdate):
            target = online if count and count % 4 == 0 else target
        elif count:
            target = 0.3 * online + 0.7 * target
        np.testing.assert_allclose(state.target.layers[0].weight, target, rtol=1e-5, atol=1e-7)


def test_explores_by_its_schedule_and_is_judged_without():
    agent = stacked(dataclasses.replace(SMALL, exploration=LinearDecay(1.0, 0.0, steps=10)), None)
    state = begin(agent, jax.random.key(0))
    seen = jax.random.normal(jax.random.key(1), (4000, 4))
    act = jax.jit(lambda agent, *given: agent.act(*given))
    greedy = np.argmax(state.online(seen), axis=1)
    np.testing.assert_array_equal(agent.policy(state, seen), greedy)
    for step, agreement in ((0, 0.5), (5, 0.75), (10, 1.0)):
        now = eqx.tree_at(lambda s: s.explore_steps, state, jnp.int32(step))
        acted = np.asarray(act(agent, now, seen, jax.random.key(2)))
        assert (acted == greedy).mean() == pytest.approx(agreement, abs=0.03)


def test_every_client_has_its_own_numbers():
    rates, discounts = (1e-2, 0.0, 1e-3), (0.9, 0.99, 0.0)
    fields = {"learning_rate": rates, "discount": discounts, "target_update": SoftUpdate((0.1, 0.5, 1.0))}
    agents = stacked(dataclasses.replace(SMALL, learning_starts=(1, 2, 3), **fields), 3)
    steps = made_up(0, 6)

    def run(agent):
        state = begin(agent, jax.random.key(0))

        def step(state, inputs):
            return agent.learn(state, jax.tree.map(lambda x: x[None], inputs[0]), inputs[1])

        return jax.lax.scan(step, state, (steps, jax.random.split(jax.random.key(1), 6)))[0]

    run = jax.jit(jax.vmap(run))
    together = run(agents)
    assert together.learn_steps.tolist() == [6, 5, 4]
    for i in range(3):
        alike = jax.tree.map(lambda x, i=i: jnp.full_like(x, x[i]), agents)  # everybody has the numbers of client i
        for mine, theirs in zip(jax.tree.leaves(run(alike)), jax.tree.leaves(together), strict=True):
            np.testing.assert_array_equal(theirs[i], mine[i])
    first = begin(stacked(SMALL, None), jax.random.key(0)).online.layers[0].weight
    moved = jnp.abs(together.online.layers[0].weight - first).max(axis=(1, 2))
    assert moved[1] == 0.0
    assert moved[0] > 5 * moved[2] > 0


def test_a_change_of_a_number_does_not_retrace():
    traces = []

    @jax.jit
    def step(agent, state, trajectory, key):
        traces.append(None)
        return agent.learn(state, trajectory, key)[0]

    base = dataclasses.replace(SMALL, learning_starts=1, local_terms=(Proximal(),))
    state = begin(stacked(base, None), jax.random.key(0))
    changes = [
        {},
        {"learning_rate": 0.1},
        {"discount": 0.5},
        {"max_grad_norm": 0.3},
        {"learning_starts": 7},
        {"target_update": HardUpdate(3)},
        {"exploration": LinearDecay(0.5, 0.1, 77)},
        {"local_terms": (Proximal(0.5),)},
    ]
    for change in changes:
        after = step(stacked(dataclasses.replace(base, **change), None), state, made_up(0, 1), jax.random.key(0))
        assert int(after.learn_steps) == (0 if "learning_starts" in change else 1)
    assert len(traces) == 1


# ---- the five probes, and one that only the clock ends ----

ENDLESS = Probe(name="endless", seen=(0.5,), rewards=((1.0,),), successors=(0,), num_starts=1, max_steps=4)
SIX = (*PROBES, ENDLESS)
DISCOUNTS = (0.9, 0.9, 0.9, 0.9, 0.9, 0.8)
KNOWN = [probe.action_values(discount=0.9) for probe in PROBES] + [np.array([[1 / (1 - 0.8)]])]


class Which(eqx.Module):
    probe: Quantity = quantity(0, "1")


class EveryProbe(Environment[ProbeState]):
    """All six as one family, one per client, so that one program learns them side by side; spare actions are the last.

    Worlds differ as data: this is what the library is for, and it compiles once instead of six times.
    """

    params_class: ClassVar[type] = Which

    max_steps: int = 10
    observation_space = ENDLESS.observation_space
    action_space = Discrete(2)

    def reset(self, key, params):
        starts = jnp.asarray([probe.num_starts for probe in SIX])
        seen = jnp.asarray([(*probe.seen, 0.0)[:2] for probe in SIX])
        situation = jax.random.randint(key, (), 0, starts[params.probe], jnp.int32)
        return ProbeState(situation, time=jnp.int32(0)), seen[params.probe, situation][None]

    def step(self, key, state, action, params):
        def of(probe):
            last = probe.action_space.n - 1
            return lambda key, state, action: probe.step(key, state, jnp.minimum(action, last), probe.nominal())

        return jax.lax.switch(params.probe, [of(probe) for probe in SIX], key, state, action)


LEARNER = DQN(
    hidden=(16,),
    batch_size=32,
    replay_capacity=300,
    learning_rate=5e-3,
    learning_starts=20,
    discount=DISCOUNTS,
    target_update=SoftUpdate(0.1),
    exploration=LinearDecay(1.0, 0.5, 500),
)
VARIANTS = {"plain": {}, "double": {"double": True}, "dueling": {"dueling": True}, "n-step": {"n_step": 3}}


slow = [pytest.param(name, marks=pytest.mark.slow) for name in ("double", "dueling")]  # test_loss_... has them too


@pytest.fixture(scope="module", params=["plain", "n-step", *slow])
def learned(request):
    """The learner and its states `[6]` after as many lives in the six probes."""
    environment, agent = EveryProbe(), dataclasses.replace(LEARNER, **VARIANTS[request.param])
    agent.check(environment)

    def life(client):
        agent, params, key = client
        worlds = environment.start(key, params)
        state = agent.init(key, environment, 1)
        return local_update(environment, agent, (state, worlds, params), key, num_steps=1200)[0]

    worlds = Which(jnp.arange(6, dtype=jnp.int32)[:, None])
    clients = stacked(agent, 6), worlds, jax.random.split(jax.random.key(0), 6)
    return agent, jax.jit(lambda clients: jax.lax.map(life, clients))(clients)


@pytest.mark.parametrize("probe", SIX, ids=lambda probe: probe.name)
def test_learns_the_known_action_values(learned, probe):
    """Of the endless one: truncation bootstraps, or it would be worth less than `1 / (1 - discount)`."""
    agent, states = learned
    state = jax.tree.map(lambda x: x[SIX.index(probe)], states)
    seen, known = jnp.asarray(probe.observations), KNOWN[SIX.index(probe)]
    values = state.online(seen)
    np.testing.assert_allclose(values, np.broadcast_to(known, values.shape), atol=0.1)
    if probe.action_space.n > 1:
        np.testing.assert_array_equal(agent.policy(state, seen), known.argmax(axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_learns_each_probe_by_itself(variant, probe):
    """As above without the wrapper, in two copies of a world that pays double."""
    agent = stacked(dataclasses.replace(LEARNER, discount=0.9, **VARIANTS[variant]), None)
    agent.check(probe)
    params = jax.tree.map(lambda x: jnp.full(2, 2 * x), probe.nominal())
    state = agent.init(jax.random.key(3), probe, 2), probe.start(jax.random.key(4), params), params
    run = jax.jit(lambda *client: local_update(probe, agent, client, jax.random.key(5), num_steps=1200)[0])
    known = probe.action_values(discount=0.9, scale=2.0)
    np.testing.assert_allclose(run(*state).online(jnp.asarray(probe.observations)), known, atol=0.2)


# ---- what it refuses ----


@pytest.mark.parametrize("environment", [*FAMILIES, *PROBES, *CONTINUOUS_PROBES], ids=repr)
def test_fits_worlds_with_finitely_many_actions(environment):
    if isinstance(environment.action_space, Discrete):
        return DQN().check(environment)
    with pytest.raises(ValueError, match="DQN chooses among a finite set of actions, but") as refusal:
        DQN().check(environment)
    assert type(environment).__name__ in str(refusal.value)
    assert str(refusal.value).count(". ") == 0  # one sentence


def test_refuses_a_world_that_shows_no_vector():
    class Blind(Environment):
        max_steps: int = 1
        observation_space = Discrete(3)
        action_space = Discrete(2)

        def reset(self, key, params):
            raise NotImplementedError

        def step(self, key, state, action, params):
            raise NotImplementedError

    with pytest.raises(ValueError, match="DQN reads vectors, but Blind shows"):
        DQN().check(Blind())


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"activation": "rleu"}, r"agent\.activation = 'rleu' is not known: did you mean 'relu'\?"),
        ({"loss": "hubr"}, r"agent\.loss = 'hubr' is not known: did you mean 'huber'\?"),
        ({"hidden": ()}, r"agent\.hidden = \(\) leaves no hidden layer"),
        ({"hidden": (64, 0)}, r"agent\.hidden = 0 units is out of range"),
        ({"hidden": (64, 2.5)}, r"agent\.hidden = 2\.5 .* whole number"),
        ({"learning_rate": -1e-3}, r"agent\.learning_rate = -0\.001 is out of range"),
        ({"learning_rate": (1e-3, 11.0)}, r"agent\.learning_rate = 11 is out of range"),
        ({"learning_rate": "fast"}, r"agent\.learning_rate = 'fast' is not a number"),
        ({"discount": 1.5}, r"agent\.discount = 1\.5 is out of range: give a number from 0 to 1\."),
        ({"discount": float("nan")}, r"agent\.discount = nan is out of range"),
        ({"max_grad_norm": 0.0}, r"agent\.max_grad_norm = 0 is out of range"),
        ({"n_step": 0}, r"agent\.n_step = 0 steps is out of range"),
        ({"batch_size": 0}, r"agent\.batch_size = 0 transitions is out of range"),
        ({"batch_size": (16, 32)}, r"agent\.batch_size = \(16, 32\) .* one whole number"),
        ({"updates_per_step": 0}, r"agent\.updates_per_step = 0 is out of range"),
        ({"replay_capacity": 2, "n_step": 3}, r"agent\.replay_capacity = 2 transitions is out of range"),
        ({"learning_starts": 2, "n_step": 3}, r"agent\.learning_starts = 2 local steps is out of range"),
        ({"target_update": HardUpdate(0)}, r"target_update\.period = 0 is out of range"),
        ({"exploration": LinearDecay(start=2.0)}, r"exploration\.start = 2 is out of range"),
    ],
)
def test_refuses_fields_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(DQN(), **fields).check(CartPole())


@pytest.mark.parametrize(
    "fields",
    [
        {"max_grad_norm": float("inf")},
        {"discount": (0.0, 1.0), "learning_rate": (0.0, 10.0)},
        {"n_step": 3, "learning_starts": 3, "replay_capacity": 3},
    ],
)
def test_accepts_the_ends_of_the_ranges(fields):
    dataclasses.replace(DQN(), **fields).check(CartPole())


# Worst case, embedding, and what is shared


@pytest.mark.bits
@pytest.mark.parametrize("masked", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_without_omega_a_worst_case_changes_no_bit(tiny, masked):
    plain = {"shared": ("online", "target"), "double": True}
    robust = plain | {"worst_case": WorstCase(omega=0.0, masked=masked), "shared": ("online", "target", "worst_case")}
    found = []
    for fields in (plain, robust):
        simulation = Simulation(tiny(agent=fields), (0, 1))
        federation, metrics = simulation.advance(simulation.init(), 6)
        broadcast = federation.server.broadcast
        found.append(
            (broadcast["online"], broadcast["target"], federation.clients[0].agent.replay.rows, metrics["loss"])
        )
    for ours, theirs in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    moved = broadcast["worst_case"].layers[0].weight
    assert np.ptp(moved) > 0


def test_with_omega_a_target_is_that_of_the_equation():
    """One gradient step by hand: y = r + discount * ((1 - omega) * max Q'(s') + omega * D(s))."""
    agent = DQN(hidden=(8,), batch_size=4, learning_starts=1, worst_case=WorstCase(omega=0.3), max_grad_norm=None)
    state = begin(stacked(agent, None), jax.random.key(0))
    rng = np.random.default_rng(0)
    for i in range(4):
        step = Trajectory(
            *(jnp.asarray(x, jnp.float32) for x in (rng.normal(size=(1, 1, 4)), [[i % 2]], [[1.5]])),
            jnp.asarray(rng.normal(size=(1, 1, 4)), jnp.float32),
            jnp.asarray([[i == 2]]),
            jnp.asarray([[i == 3]]),
        )
        state = dataclasses.replace(state, replay=state.replay.add(step))
    key = jax.random.key(5)
    batch = state.replay.sample(key, 4, jnp.float32(0.99), 1)
    value = np.max(state.target(batch.next_observation), axis=-1)
    worst = state.worst_case.network(batch.observation)[:, 0]
    y = batch.reward + 0.99 * (0.7 * np.where(batch.bootstrap > 0, value, 0) + 0.3 * worst)

    def loss(online):
        values = online(batch.observation)
        chosen = values[jnp.arange(4), batch.action[:, 0].astype(int)]
        return jnp.mean((chosen - y) ** 2)

    @jax.jit
    def by_hand(online):
        updates, _ = optax.adam(1e-3).update(jax.grad(loss)(online), optax.adam(1e-3).init(online))
        return optax.apply_updates(online, updates)

    new, metrics = jax.jit(agent._gradient_step)(state, key)
    np.testing.assert_allclose(metrics["loss"], loss(state.online), rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(new.online), jax.tree.leaves(by_hand(state.online)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_what_is_shared_is_averaged_and_what_is_not_stays(tiny):
    fields = {"shared": ("online", "worst_case"), "worst_case": WorstCase(), "survival": Survival.everything()}
    simulation = Simulation(tiny(agent=fields), (0,))
    before, _ = simulation.advance(simulation.init(), 2)
    agents = jax.tree.map(lambda x: np.asarray(x)[:3], before.clients[0].agent)
    merged = jax.tree.map(lambda x: np.asarray(x)[0], before.server.broadcast)
    assert set(merged) == {"online", "worst_case"}
    for name, tree in (("online", agents.online), ("worst_case", agents.worst_case.network)):
        for mean, each in zip(jax.tree.leaves(merged[name]), jax.tree.leaves(tree), strict=True):
            np.testing.assert_allclose(mean, np.mean(each, axis=0), rtol=1e-5, atol=1e-7)
    taken = simulation.experiment.agent.absorb(jax.tree.map(lambda x: x[0], agents), merged)
    for leaf, own in zip(jax.tree.leaves(taken.target), jax.tree.leaves(agents.target), strict=True):
        np.testing.assert_array_equal(leaf, own[0])


@pytest.mark.slow
def test_an_embedding_is_ones_own_learns_and_never_leaves(tiny):
    simulation = Simulation(tiny(agent={"embedding": Embedding(size=2)}), (0,))
    first = simulation.init()
    vectors = np.asarray(first.clients[0].agent.embedding.vector)[:3]
    assert np.all(np.abs(vectors) <= 1)
    assert len(np.unique(vectors)) == vectors.size  # every client draws its own
    weights = np.asarray(first.clients[0].agent.online.layers[0].weight)[:3]
    np.testing.assert_array_equal(weights[0], weights[1])  # though networks begin alike
    assert weights.shape[-1] == 4 + 2
    after, _ = simulation.advance(first, 4)
    moved = np.asarray(after.clients[0].agent.embedding.vector)[:3]
    assert np.all(np.abs(moved - vectors) > 1e-6)
    assert jax.tree.structure(after.server.broadcast) == jax.tree.structure(first.server.broadcast)
    assert simulation.traffic.up == 4 * ((6 + 1) * 16 + (16 + 1) * 2)


@pytest.mark.slow
def test_a_frozen_embedding_of_zeros_is_no_embedding(tiny):
    """PerDQN with zeros before every observation is DQNAvg on padded observations."""
    agent = tiny(agent={"embedding": Embedding(size=2, learning_rate=0.0)}).agent
    plain = dataclasses.replace(agent, embedding=None)
    key, keys = jax.random.key(0), jax.random.split(jax.random.key(1), 30)
    learn, learn_plain = jax.jit(lambda *x: agent.learn(*x)[0]), jax.jit(lambda *x: plain.learn(*x)[0])
    state, other = agent.init(key, CartPole(), 1), plain.init(key, CartPole(), 1)
    first = state.online.layers[0]
    cut = lambda tree: eqx.tree_at(lambda n: n.layers, tree, (Linear(first.weight[:, 2:], first.bias), tree.layers[1]))  # noqa: E731
    padded = dataclasses.replace(other, online=cut(state.online), target=cut(state.target))
    for k in keys:
        x, y = jax.random.normal(k, (2, 1, 1, 4))
        step = Trajectory(x, jnp.ones((1, 1), jnp.int32), jnp.ones((1, 1)), y, *jnp.zeros((2, 1, 1), bool))
        state, padded = learn(state, step, k), learn_plain(padded, step, k)
    np.testing.assert_array_equal(state.embedding.vector, np.zeros(2))
    np.testing.assert_allclose(state.online.layers[0].weight[:, 2:], padded.online.layers[0].weight, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"shared": ("online", "actor")}, r"agent\.shared = 'actor' is not known"),
        ({"shared": ("target",)}, "must name online"),
        ({"shared": ("online", "worst_case")}, r"agent\.worst_case is none"),
        ({"worst_case": WorstCase(), "n_step": 3}, "looks past the next state"),
        ({"worst_case": WorstCase(omega=1.5)}, r"worst_case\.omega = 1\.5 is out of range"),
        ({"worst_case": WorstCase(tau=0.6)}, r"worst_case\.tau = 0\.6 is out of range"),
        ({"embedding": Embedding(size=0)}, r"embedding\.size = 0"),
        ({"embedding": Embedding(), "width": 8}, r"agent\.width shares nested"),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        DQN(**fields).check(CartPole())


@pytest.mark.parametrize(
    ("survival", "left"),
    [(Survival.nothing(), False), pytest.param(Survival.everything(), True, marks=pytest.mark.slow)],
    ids=str,
)
def test_an_embeddings_moments_survive_as_the_networks_do(tiny, survival, left):
    simulation = Simulation(tiny(agent={"embedding": Embedding(size=2), "survival": survival}), (0,))
    federation, _ = simulation.advance(simulation.init(), 2)
    agent = jax.tree.map(lambda x: x[0], federation.clients[0].agent)
    first: DQN = jax.tree.map(lambda x: x[0], simulation.homes.parts[0].agent)
    broadcast = jax.tree.map(lambda x: x[0], federation.server.broadcast)
    taken = first.absorb(agent, broadcast).embedding
    np.testing.assert_array_equal(taken.vector, agent.embedding.vector)
    assert any(np.any(x != 0) for x in jax.tree.leaves(taken.optimizer)) == left
