"""REINFORCE against backpropagation written out by hand, one step after another, and on problems of known answers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.reinforce import REINFORCE
from polyfed.agents.rollout import local_update
from polyfed.environments import CONTINUOUS_PROBES, PROBES, CartPole, Pendulum
from polyfed.leaves import stacked
from polyfed.testing import check_agent
from polyfed.types import Trajectory

SMALL = REINFORCE(hidden=(6,), learning_rate=0.01, decay=0.5, decay_every=1)
VECTOR = REINFORCE(hidden=(6,), learning_rate=0.01, decay=1.0, weight_decay=0.01, normalize=False)


def made_up(seed, lengths, world, length=150):
    """Padded episodes that nobody lived through; the first is cut by the clock."""
    random, choice = np.random.default_rng(seed), isinstance(world, CartPole)
    shape, size = (length, len(lengths)), world.observation_space.size
    valid = np.arange(length)[:, None] < np.asarray(lengths)
    pad = lambda x: np.where(valid.reshape(*shape, *(1,) * (x.ndim - 2)), x, np.zeros_like(x))  # noqa: E731
    last = np.arange(length)[:, None] == np.asarray(lengths) - 1
    first = np.arange(len(lengths)) == 0
    action = random.integers(0, 2, shape) if choice else random.normal(size=(*shape, 1))
    return Trajectory(
        observation=pad(random.normal(size=(*shape, size)).astype(np.float32)),
        action=pad(action.astype(np.int32 if choice else np.float32)),
        reward=pad(random.normal(size=shape).astype(np.float32)),
        next_observation=pad(random.normal(size=(*shape, size)).astype(np.float32)),
        terminated=last & ~first,
        truncated=last & first,
    )  # fmt: skip


class ByHand:
    """The policy in float64 and its update, one step after the other."""

    def __init__(self, agent, policy):
        self.agent, self.t = agent, 0
        self.params = [np.asarray(x, np.float64) for layer in policy.layers for x in (layer.weight, layer.bias)]
        self.moments = [[np.zeros_like(w) for w in self.params] for _ in range(2)]

    def gradient(self, trajectory, lengths):
        """`(gradient, loss)`, episodes averaged."""
        w1, b1, w2, b2 = self.params
        gradient, loss = [np.zeros_like(w) for w in self.params], 0.0
        for e, steps in enumerate(lengths):
            gains = [
                sum(0.99 ** (j - t) * float(trajectory.reward[j, e]) for j in range(t, steps)) for t in range(steps)
            ]
            if self.agent.normalize:
                spread = np.std(gains, ddof=1) if steps > 1 else 0.0
                gains = (np.array(gains) - np.mean(gains)) / (spread + 1e-5)
            for t in range(steps):
                x = trajectory.observation[t, e].astype(np.float64)
                before = w1 @ x + b1
                hidden, action = np.maximum(before, 0), trajectory.action[t, e]
                log_prob, out = self.log_prob(w2 @ hidden + b2, action)
                loss -= log_prob * gains[t] / len(lengths)
                out = -out * gains[t] / len(lengths)
                back = (w2.T @ out) * (before > 0)
                for g, add in zip(gradient, (np.outer(back, x), back, np.outer(out, hidden), out), strict=True):
                    g += add
        return gradient, loss

    def log_prob(self, outputs, action):
        """`log pi` and its gradient by the outputs."""
        if np.ndim(action) == 0:
            share = np.exp(outputs) / np.exp(outputs).sum()
            return np.log(share[action]), np.eye(2)[action] - share
        mean, scale = outputs[0] + 1e-6, np.log1p(np.exp(outputs[1])) + 1e-6
        away = (float(action[0]) - mean) / scale
        slope = 1 / (1 + np.exp(-outputs[1]))
        density = -0.5 * away**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
        return density, np.array([away / scale, (away**2 - 1) / scale * slope])

    def step(self, trajectory, lengths):
        """Adam (Kingma and Ba 2015, Algorithm 1) with torch's schedule and decoupled weight decay; the loss."""
        gradient, loss = self.gradient(trajectory, lengths)
        rate = 0.01 * (0.5 ** (self.t // 1) if self.agent.decay != 1 else 1.0)
        self.t += 1
        for i, g in enumerate(gradient):
            self.moments[0][i] = 0.9 * self.moments[0][i] + 0.1 * g
            self.moments[1][i] = 0.999 * self.moments[1][i] + 0.001 * g**2
            mean, square = self.moments[0][i] / (1 - 0.9**self.t), self.moments[1][i] / (1 - 0.999**self.t)
            self.params[i] *= 1 - rate * (self.agent.weight_decay or 0.0)
            self.params[i] -= rate * mean / (np.sqrt(square) + 1e-8)
        return loss


@pytest.mark.parametrize(("agent", "world"), [(SMALL, CartPole()), (VECTOR, Pendulum())], ids=["choice", "vector"])
def test_updates_are_those_of_the_algorithm_by_hand(agent, world):
    """Episodes of one chunk, of several, and of all steps: as far as they go, and not twice where chunks overlap."""
    state = agent.init(jax.random.key(0), world, 2)
    mine = ByHand(agent, state.policy)
    learn = jax.jit(lambda *given: stacked(agent, None).learn(*given, jax.random.key(0)))
    for seed, lengths in enumerate([(20, 7), (150, 70), (1, 64), (129, 150)]):
        trajectory = made_up(seed, lengths, world)
        loss = mine.step(trajectory, lengths)
        state, metrics = learn(state, trajectory)
        assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-3, abs=1e-3)
        leaves = [x for layer in state.policy.layers for x in (layer.weight, layer.bias)]
        for ours, theirs in zip(leaves, mine.params, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-4)
    assert int(state.updates) == 4


SEEN = jax.random.normal(jax.random.key(5), (9, 4))


def pull(predict):
    """A penalty that grows with the probability of the first action."""
    return 100.0 * jnp.sum(predict(SEEN).probabilities[:, 0])


@pytest.fixture(scope="module")
def short():
    """A learner, an episode of five steps, and what it learns from one with and without the penalty."""
    state = SMALL.init(jax.random.key(0), CartPole(), 1)
    plain = jax.jit(lambda state, given: SMALL.learn(state, given, jax.random.key(0)))
    pulled = jax.jit(lambda state, given: SMALL.learn(state, given, jax.random.key(0), penalty=pull))
    return state, made_up(0, (5,), CartPole(), length=5), plain, pulled


def test_an_episode_of_one_step_teaches_nothing_where_returns_are_standardised(short):
    state, trajectory, learn, _ = short
    after, metrics = learn(state, made_up(0, (1,), CartPole(), length=5))
    assert float(metrics["loss"]) == 0.0
    for new, old in zip(jax.tree.leaves(after.policy), jax.tree.leaves(state.policy), strict=True):
        np.testing.assert_array_equal(new, old)
    after, _ = learn(state, trajectory)
    assert np.any(after.policy.layers[0].weight != state.policy.layers[0].weight)


def test_a_penalty_is_added_to_the_loss(short):
    state, trajectory, plain, pulled = short
    found = [learn(state, trajectory)[0].optimizer.mean for learn in (plain, pulled)]
    extra = jax.grad(lambda policy: pull(lambda seen: SMALL.predict(state, seen, policy)))(state.policy)
    for without, together, more in zip(*map(jax.tree.leaves, (*found, extra)), strict=True):
        np.testing.assert_allclose(together - without, 0.1 * more, rtol=1e-3, atol=1e-4)


def test_derived_learners():
    assert REINFORCE().episodic
    assert REINFORCE().pooled(3) == REINFORCE() == REINFORCE().plain()
    assert (REINFORCE.continuous().decay, REINFORCE.continuous().weight_decay) == (1.0, 0.01)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"decay": 1.5}, r"agent\.decay = 1\.5 is out of range"),
        ({"decay_every": 0}, r"agent\.decay_every = 0 updates is out of range"),
        ({"weight_decay": -1.0}, r"agent\.weight_decay = -1 is out of range"),
    ],
)
def test_refuses_fields_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(SMALL, **fields).check(CartPole())


PROBLEMS = [*PROBES[3:], *CONTINUOUS_PROBES]


@pytest.mark.parametrize(
    "probe", [pytest.param(p, marks=[] if p is PROBES[4] else pytest.mark.slow) for p in PROBLEMS], ids=lambda p: p.name
)
def test_learns_what_to_do(probe):
    agent = REINFORCE(hidden=(16,), activation="tanh", learning_rate=5e-3, decay=1.0, normalize=False)
    params = jax.tree.map(lambda x: jnp.full(64, x), probe.nominal())
    state = agent.init(jax.random.key(3), probe, 64)
    run = jax.jit(lambda *client: local_update(probe, agent, client, jax.random.key(5), num_steps=1000)[0])
    seen = jnp.asarray(probe.observations)
    found = np.asarray(agent.policy(run(state, (), params), seen))
    if probe in PROBES:
        np.testing.assert_array_equal(found, probe.action_values(discount=0.99).argmax(axis=1))
    else:
        np.testing.assert_allclose(found[:, 0], probe.best, atol=0.15)


@pytest.mark.slow
def test_keeps_the_contract():
    check_agent(dataclasses.replace(SMALL, normalize=False), CartPole(max_steps=30), num_steps=5)


@pytest.mark.slow
def test_balances_the_pole():
    """FedHPD's first agent alone, 2,000 episodes."""
    world, agent = CartPole(), stacked(REINFORCE(), None)
    params = jax.tree.map(lambda x: jnp.asarray(x)[None], world.nominal())
    run = jax.jit(lambda state, key: local_update(world, agent, (state, (), params), key, num_steps=2000)[0])
    found = []
    for seed in range(3):
        state = run(agent.init(jax.random.key(seed), world, 1), jax.random.key(10 + seed))
        found.append(float(world.evaluate(lambda x, s=state: agent.policy(s, x), params, jax.random.key(9), 20)[0]))
    assert np.mean(found) >= 475
