"""DDPG and TD3 against NumPy written out by hand, on problems of known values, and what a merge leaves of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import DDPG, Embedding, GaussianNoise, OrnsteinUhlenbeck, Proximal, Survival, WorstCase
from polyfed.agents.actor_critic import critic_values
from polyfed.agents.noise import TargetSmoothing
from polyfed.agents.rollout import local_update
from polyfed.agents.target import SoftUpdate
from polyfed.environments import CONTINUOUS_PROBES, FAMILIES, PROBES, Box, Discrete, Explicit, Pendulum
from polyfed.experiment import Evaluation, Experiment
from polyfed.leaves import stacked
from polyfed.simulation.simulate import Simulation
from polyfed.testing import check_agent
from polyfed.types import Trajectory

SMALL = DDPG(hidden=(8,), batch_size=16, replay_capacity=90, learning_starts=10, target_update=SoftUpdate(0.1))
WORLD = Pendulum()  # observations of 3 numbers, one action in [-2, 2]
TARGETS = ("actor", "critic", "actor_target", "critic_target")


def made_up(seed, num_steps, num_envs=1):
    """Transitions of Pendulum's shape that nobody lived through, `[T, E]`, with both kinds of ends."""
    random = np.random.default_rng(seed)
    shape = (num_steps, num_envs)
    return Trajectory(
        observation=random.normal(size=(*shape, 3)).astype(np.float32),
        action=random.uniform(-2, 2, (*shape, 1)).astype(np.float32),
        reward=random.normal(size=shape).astype(np.float32),
        next_observation=random.normal(size=(*shape, 3)).astype(np.float32),
        terminated=random.random(shape) < 0.2,
        truncated=random.random(shape) < 0.2,
    )


@jax.jit
def begin(agent, key):
    return agent.init(key, WORLD, 1)


@jax.jit
def learn(agent, state, trajectory, key):
    return agent.learn(state, trajectory, key)


@jax.jit
def sampled(agent, state, transition, key):
    """What the learner samples after one more transition."""
    return state.replay.add(transition).sample(key, agent.batch_size, agent.discount, 1)


# ---- one step by hand ----


def weights(network):
    return [np.asarray(x, np.float64) for layer in network.layers for x in (layer.weight, layer.bias)]


def forward(params, x):
    w1, b1, w2, b2 = params
    hidden = np.maximum(w1 @ x + b1, 0)
    return w2 @ hidden + b2, hidden


def backward(params, x, hidden, out):
    """Gradients of the weights, and of the input, for the gradient `out` of the output."""
    w1, _, w2, _ = params
    back = (w2.T @ out) * (hidden > 0)
    return (np.outer(back, x), back, np.outer(out, hidden), out), w1.T @ back


def stepped(params, gradient, moments, rate, t):
    """Adam as Kingma and Ba (2015) write it in their Algorithm 1; `moments` is changed in place."""
    new = []
    for i, (w, g) in enumerate(zip(params, gradient, strict=True)):
        moments[0][i] = 0.9 * moments[0][i] + 0.1 * g
        moments[1][i] = 0.999 * moments[1][i] + 0.001 * g**2
        new.append(w - rate * (moments[0][i] / (1 - 0.9**t)) / (np.sqrt(moments[1][i] / (1 - 0.999**t)) + 1e-8))
    return new


def noughts(params):
    return [[np.zeros_like(w) for w in params] for _ in range(2)]


class ByHand:
    """The learner's networks in float64, and a gradient step of each, one transition after the other."""

    def __init__(self, agent, learner):
        self.agent, self.t = agent, 0
        self.actor, self.actor_target = weights(learner.actor), weights(learner.actor_target)
        self.critics, self.critic_targets = [[weights(q) for q in c] for c in (learner.critic, learner.critic_target)]
        self.worst = weights(learner.worst_case.network) if agent.worst_case is not None else None
        self.moments = [noughts(p) for p in (self.actor, *self.critics, *([self.worst] if self.worst else []))]

    def target(self, batch, i, noise):
        """`(y, V'(s'))` of one transition."""
        after = np.asarray(batch.next_observation[i], np.float64)
        action = np.clip(np.tanh(forward(self.actor_target, after)[0]) + noise[i], -1, 1)
        value = min(forward(q, np.append(after, action))[0][0] for q in self.critic_targets)
        alive = batch.bootstrap[i] > 0
        if self.worst is None:
            return float(batch.reward[i]) + 0.99 * alive * value, value
        part = self.agent.worst_case
        least = forward(self.worst, np.asarray(batch.observation[i], np.float64))[0][0]
        return float(batch.reward[i]) + 0.99 * ((1 - part.omega) * alive * value + part.omega * least), value

    def step(self, batch, noise):
        """Critics, worst case, actor, targets; the loss of the critics."""
        self.t, loss, size = self.t + 1, 0.0, len(batch.reward)
        seen = np.asarray(batch.observation, np.float64)
        both = np.append(seen, np.asarray(batch.action, np.float64) / 2, axis=1)
        aims = [self.target(batch, i, noise) for i in range(size)]
        for k, critic in enumerate(self.critics):
            gradient = [np.zeros_like(w) for w in critic]
            for i in range(size):
                value, hidden = forward(critic, both[i])
                loss += (value[0] - aims[i][0]) ** 2 / size
                for g, add in zip(gradient, backward(critic, both[i], hidden, 2 * (value - aims[i][0]) / size)[0]):  # noqa: B905
                    g += add
            self.critics[k] = stepped(critic, gradient, self.moments[1 + k], self.agent.critic_learning_rate, self.t)
        if self.worst is not None:
            self.worst_step(seen, [v * (batch.bootstrap[i] > 0) for i, (_, v) in enumerate(aims)])
        if self.t % self.agent.policy_delay == 0:
            self.actor_step(seen)
        return loss

    def worst_step(self, seen, values):
        gradient = [np.zeros_like(w) for w in self.worst]
        for x, value in zip(seen, values, strict=True):
            out, hidden = forward(self.worst, x)
            weight = 0.99 if value < out[0] else 0.01
            added = backward(self.worst, x, hidden, 2 * weight * (out - value) / len(seen))[0]
            gradient = [g + add for g, add in zip(gradient, added, strict=True)]
        self.worst = stepped(self.worst, gradient, self.moments[-1], self.agent.critic_learning_rate, self.t)

    def actor_step(self, seen):
        gradient = [np.zeros_like(w) for w in self.actor]
        for x in seen:
            out, hidden = forward(self.actor, x)
            action = np.tanh(out)
            _, units = forward(self.critics[0], np.append(x, action))
            slope = backward(self.critics[0], np.append(x, action), units, np.array([-1 / len(seen)]))[1][-1:]
            added = backward(self.actor, x, hidden, slope * (1 - action**2))[0]
            gradient = [g + add for g, add in zip(gradient, added, strict=True)]
        rate, count = self.agent.actor_learning_rate, self.t // self.agent.policy_delay
        self.actor = stepped(self.actor, gradient, self.moments[0], rate, count)
        follow = lambda target, new: [0.9 * t + 0.1 * n for t, n in zip(target, new, strict=True)]  # noqa: E731
        self.actor_target = follow(self.actor_target, self.actor)
        pairs = zip(self.critic_targets, self.critics, strict=True)
        self.critic_targets = [follow(target, new) for target, new in pairs]


def close(network, mine):
    for theirs, expected in zip(weights(network), mine, strict=True):
        np.testing.assert_allclose(theirs, expected, rtol=2e-3, atol=2e-4)


VARIANTS = {
    "ddpg": {},
    "td3": {"twin": True, "policy_delay": 2, "smoothing": TargetSmoothing()},
    "robust": {"worst_case": WorstCase(omega=0.3)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_steps_are_the_algorithm_by_hand(variant):
    fields = {"learning_starts": 1, "actor_learning_rate": 0.003, "critic_learning_rate": 0.01}
    plain = dataclasses.replace(SMALL, **fields, **VARIANTS[variant])
    agent = stacked(plain, None)
    state = begin(agent, jax.random.key(0))
    other = begin(agent, jax.random.key(1)).learner  # targets that are not the networks
    old = state.learner
    learner = dataclasses.replace(old, actor_target=other.actor, critic_target=other.critic)
    state = dataclasses.replace(state, learner=learner, replay=state.replay.add(made_up(0, 40)))
    mine = ByHand(plain, learner)
    for t in range(1, 6):
        transition, key = made_up(t, 1), jax.random.key(t)
        batch = jax.tree.map(np.asarray, sampled(agent, state, transition, key))
        noise = np.zeros((16, 1))
        if plain.smoothing is not None:
            noise = np.asarray(plain.smoothing((16, 1), jax.random.fold_in(key, 2)))
        expected = mine.step(batch, noise)
        state, metrics = learn(agent, state, transition, key)
        assert float(metrics["loss"]) == pytest.approx(expected, rel=2e-3)
        new = state.learner
        close(new.actor, mine.actor)
        close(new.actor_target, mine.actor_target)
        for k, critic in enumerate(mine.critics):
            close(new.critic[k], critic)
            close(new.critic_target[k], mine.critic_targets[k])
        if plain.worst_case is not None:
            close(new.worst_case.network, mine.worst)
    assert int(state.learner.steps) == 5


def test_terminated_steps_have_no_next_value_and_truncated_ones_have():
    agent = stacked(SMALL, None)
    fresh = begin(agent, jax.random.key(0))
    for terminated, truncated in ((True, False), (True, True), (False, True), (False, False)):
        flags = {"terminated": np.full((1, 1), terminated), "truncated": np.full((1, 1), truncated)}
        step = dataclasses.replace(made_up(3, 1), **flags)
        filled = fresh.replay.add(jax.tree.map(lambda x: x.repeat(90, 0), step))
        _, metrics = learn(agent, dataclasses.replace(fresh, replay=filled), step, jax.random.key(0))
        mine = ByHand(SMALL, fresh.learner)
        value = forward(mine.critics[0], np.append(step.observation[0, 0], step.action[0, 0] / 2))[0][0]
        after = step.next_observation[0, 0]
        action = np.tanh(forward(mine.actor_target, after)[0])
        ahead = 0.0 if terminated else 0.99 * forward(mine.critic_targets[0], np.append(after, action))[0][0]
        assert float(metrics["loss"]) == pytest.approx((value - step.reward[0, 0] - ahead) ** 2, rel=1e-4)


# ---- acting ----


def test_acts_uniformly_at_first_and_then_with_noise_around_the_policy():
    agent = stacked(dataclasses.replace(SMALL, noise=GaussianNoise(0.05)), None)
    state = begin(agent, jax.random.key(0))
    seen = 0.1 * jax.random.normal(jax.random.key(1), (2000, 3))
    act = jax.jit(lambda agent, *given: agent.act(*given))
    early = np.asarray(act(agent, state, seen, jax.random.key(2)))[:, 0]
    assert np.histogram(early, bins=4, range=(-2, 2))[0] == pytest.approx([500] * 4, abs=80)
    later = act(agent, dataclasses.replace(state, explore_steps=jnp.int32(10)), seen, jax.random.key(2))
    away = np.asarray(later - agent.policy(state, seen))
    assert away.std() == pytest.approx(2 * 0.05, rel=0.1)  # in halves of the range, which is 2 N m
    assert np.abs(later).max() <= 2


def test_waits_and_then_learns_at_every_step():
    agent = stacked(SMALL, None)
    state = fresh = begin(agent, jax.random.key(0))
    steps = made_up(0, 12)
    for t in range(12):
        state, _ = learn(agent, state, jax.tree.map(lambda x, t=t: x[t : t + 1], steps), jax.random.key(t))
        moved = not np.array_equal(state.learner.actor.layers[0].weight, fresh.learner.actor.layers[0].weight)
        assert moved == (t + 1 >= 10)
        assert int(state.learner.steps) == max(t + 1 - 9, 0)
    agent = stacked(dataclasses.replace(SMALL, updates_per_step=3, learning_starts=1), None)
    assert int(learn(agent, fresh, made_up(0, 1), jax.random.key(0))[0].learner.steps) == 3


@pytest.mark.slow
def test_remembering_noise_is_one_per_environment_and_ends_with_its_episode():
    agent = stacked(dataclasses.replace(SMALL, noise=OrnsteinUhlenbeck(theta=0.0, sigma=0.0)), None)
    state = agent.init(jax.random.key(0), WORLD, 3)
    assert state.noise.shape == (3, 1)
    state = dataclasses.replace(state, noise=jnp.array([[0.1], [0.2], [0.3]]), explore_steps=jnp.int32(99))
    seen = jnp.zeros((3, 3))
    away = agent.act(state, seen, jax.random.key(0)) - agent.policy(state, seen)
    np.testing.assert_allclose(away, 2 * state.noise, rtol=1e-5)
    ends = np.array([[True, False, False]]), np.array([[False, False, True]])
    lived = dataclasses.replace(made_up(0, 1, 3), terminated=ends[0], truncated=ends[1])
    after, _ = learn(agent, state, lived, jax.random.key(1))
    np.testing.assert_allclose(after.noise, [[0.0], [0.2], [0.0]], rtol=1e-6)


# ---- what a merge leaves ----


def lived(agent, seed=0):
    """A learner that has learned for a while, and one that began elsewhere."""
    agent = stacked(agent, None)
    state = begin(agent, jax.random.key(seed))
    for t in range(3):
        state, _ = learn(agent, state, made_up(t, 10), jax.random.key(t))
    return agent, state


def same(one, other):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


@pytest.mark.parametrize("survival", [Survival(), Survival.everything(), Survival.nothing()], ids=repr)
@pytest.mark.parametrize("shared", [("actor",), ("actor", "critic"), (*TARGETS, "worst_case")], ids=len)
def test_a_merge_takes_what_is_shared_and_leaves_what_survives(survival, shared):
    agent, state = lived(
        dataclasses.replace(SMALL, survival=survival, shared=shared, worst_case=WorstCase(), noise=OrnsteinUhlenbeck())
    )
    sent = agent.share(lived(agent, seed=1)[1])
    assert set(sent) == set(shared)
    new, old = agent.absorb(state, sent), state.learner
    assert same(agent.share(new), sent)
    critic = sent.get("critic", old.critic)
    assert same(new.learner.critic, critic)
    targets = (old.actor_target, old.critic_target) if survival.target else (sent["actor"], critic)
    assert same(new.learner.actor_target, sent.get("actor_target", targets[0]))
    assert same(new.learner.critic_target, sent.get("critic_target", targets[1]))
    assert same(new.learner.worst_case.network, sent.get("worst_case", old.worst_case.network))
    for name in ("actor_optimizer", "critic_optimizer"):
        fresh = jax.tree.map(jnp.zeros_like, getattr(old, name))
        assert same(getattr(new.learner, name), getattr(old, name) if survival.optimizer else fresh)
    assert (int(new.replay.count) > 0) == survival.replay
    assert (int(new.explore_steps) > 0) == bool(np.any(new.noise)) == survival.exploration


def test_a_proximal_term_pulls_actor_and_critic_to_the_broadcast():
    base = dataclasses.replace(SMALL, actor_learning_rate=0.01, critic_learning_rate=0.01)
    distances = []
    for terms in ((), (Proximal(100.0),)):
        agent, state = lived(dataclasses.replace(base, local_terms=terms))
        state = agent.absorb(state, sent := agent.share(state))
        assert set(state.anchor) == ({"actor", "critic"} if terms else set())
        for t in range(20):
            state, _ = learn(agent, state, made_up(t, 1), jax.random.key(t))
        far = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), agent.share(state), sent)
        distances.append([sum(map(float, jax.tree.leaves(far[name]))) for name in ("actor", "critic")])
    assert all(near < 0.5 * far for far, near in zip(*distances, strict=True))


def test_embeddings_are_the_clients_own_and_are_trained():
    agent, state = lived(dataclasses.replace(SMALL, embedding=Embedding(2)))
    assert not np.any(begin(agent, jax.random.key(0)).learner.embedding.actor.vector)  # a newcomer's
    state = agent.settle(state, jax.random.key(7))
    vectors = state.learner.embedding.actor.vector, state.learner.embedding.critic.vector
    assert not np.array_equal(*vectors)
    assert state.learner.actor.layers[0].weight.shape == (8, 5)
    assert same(agent.absorb(state, agent.share(state)).learner.embedding, state.learner.embedding)
    after, _ = learn(agent, state, made_up(9, 1), jax.random.key(9))
    assert np.abs(after.learner.embedding.actor.vector - vectors[0]).min() > 0
    assert np.abs(after.learner.embedding.critic.vector - vectors[1]).min() > 0
    frozen = stacked(dataclasses.replace(SMALL, embedding=Embedding(2, learning_rate=0.0)), None)
    after, _ = learn(frozen, state, made_up(9, 1), jax.random.key(9))
    assert same((after.learner.embedding.actor.vector, after.learner.embedding.critic.vector), vectors)


def test_derived_learners():
    agent = dataclasses.replace(
        SMALL, worst_case=WorstCase(), shared=("actor", "worst_case"), local_terms=(Proximal(),), embedding=Embedding()
    )
    assert agent.plain() == dataclasses.replace(SMALL, shared=("actor",))
    assert agent.alone().survival == Survival.everything()
    assert (agent.pooled(3).updates_per_step, agent.pooled(3).replay_capacity) == (3, 270)
    assert DDPG.td3().twin
    assert DDPG.td3().smoothing == TargetSmoothing(0.2, 0.5)


# ---- federations ----


def federation(agent, **parts):
    fields = {"name": "pendulums", "environment": Pendulum(), "num_clients": 2, "num_rounds": 5, "local_steps": 40}
    worlds = Explicit({"mass": (0.8, 1.2)})
    given = {**fields, "variation": worlds, "evaluation": Evaluation(every=5, episodes=1), **parts}
    simulation = Simulation(Experiment(agent=agent, **given), seeds=(0, 3))
    return simulation.advance(simulation.init(), 5)


BITS = {
    "ddpg": {},
    "authors": {"worst_case": WorstCase(masked=False)},
    "td3, 2 environments": {**VARIANTS["td3"], "num_envs": 2},
}


@pytest.mark.bits
@pytest.mark.parametrize("case", ["ddpg", *(pytest.param(c, marks=pytest.mark.slow) for c in list(BITS)[1:])])
def test_no_trust_in_the_worst_is_ddpgavg_bit_for_bit(case):
    """Two seeds and clients, 200 steps, averaging targets too, in the compiled round."""
    fields = dict(BITS[case])
    num_envs, part = fields.pop("num_envs", 1), fields.pop("worst_case", WorstCase())
    fields |= {"hidden": (32,), "batch_size": 64, "replay_capacity": 1000, "learning_starts": 20, "shared": TARGETS}
    plain = dataclasses.replace(SMALL, **fields)
    part = dataclasses.replace(part, omega=0.0)
    robust = dataclasses.replace(plain, worst_case=part, shared=(*TARGETS, "worst_case"))
    (one, _), (other, metrics) = (federation(agent, num_envs=num_envs) for agent in (plain, robust))
    assert np.all(metrics["worst_case_loss"][1:] > 0)  # it does learn
    stripped = dataclasses.replace(other.clients[0].agent.learner, worst_case=())
    assert same(one.clients[0].agent.learner, stripped)
    assert same(one.clients[0].agent.replay, other.clients[0].agent.replay)
    assert same(one.clients[0].stay, other.clients[0].stay)


@pytest.mark.slow
def test_learns_pooled():
    agent = dataclasses.replace(SMALL.pooled(2), replay_capacity=400)
    state, metrics = federation(agent, pooled=True, num_envs=2)
    assert state.clients[0].agent.replay.rows.shape[1:] == (100, 4, 10)
    assert np.all(state.clients[0].agent.learner.steps == 2 * (200 - 9))
    assert np.isfinite(metrics["loss"]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent", [DDPG.td3(), DDPG(noise=OrnsteinUhlenbeck(), worst_case=WorstCase())], ids=["td3", "robust"]
)
def test_keeps_the_contract(agent):
    small = {"hidden": (8,), "batch_size": 8, "learning_starts": 5, "shared": (*TARGETS,), "replay_capacity": 100}
    check_agent(dataclasses.replace(agent, **small), WORLD, num_steps=20)


# ---- problems with known values ----


LEARNABLE = [pytest.param(CONTINUOUS_PROBES[0], marks=pytest.mark.slow), CONTINUOUS_PROBES[1]]


@pytest.mark.parametrize("probe", LEARNABLE, ids=lambda probe: probe.name)
def test_learns_what_to_do_and_what_it_is_worth(probe):
    """The reward of an action is `2 (1 - (a - best)^2)` and the episode ends: so is the value, and `best` is best."""
    agent = stacked(
        DDPG(hidden=(32,), batch_size=32, replay_capacity=800, learning_starts=400, critic_learning_rate=5e-3), None
    )
    params = jax.tree.map(lambda x: jnp.full(2, 2 * x), probe.nominal())
    state = agent.init(jax.random.key(3), probe, 2), probe.start(jax.random.key(4), params), params
    run = jax.jit(lambda *client: local_update(probe, agent, client, jax.random.key(5), num_steps=1500)[0])
    state, seen, best = run(*state), jnp.asarray(probe.observations), np.asarray(probe.best)
    np.testing.assert_allclose(agent.policy(state, seen)[:, 0], best, atol=0.1)
    for away in (-0.3, 0.0, 0.3):
        values = critic_values(state.learner.critic, seen, jnp.asarray(best + away)[:, None])[0]
        np.testing.assert_allclose(values, 2 * (1 - away**2), atol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("agent", [DDPG(), DDPG.td3(), DDPG(noise=OrnsteinUhlenbeck())], ids=["ddpg", "td3", "ou"])
def test_swings_the_pendulum_up(agent):
    """10,000 steps; a policy that balances earns about -150, a random one about -1200."""
    experiment = Experiment(
        name="pendulum", environment=Pendulum(), variation=Explicit(), num_clients=1, agent=agent, num_rounds=100,
        evaluation=Evaluation(every=100, episodes=20),
    )  # fmt: skip
    simulation = Simulation(experiment, seeds=(0, 1, 2))
    state, _ = simulation.advance(simulation.init(), 100)
    assert np.all(simulation.evaluate(state)[:, 0, 0] > -200)


# ---- what it refuses ----


@pytest.mark.parametrize("environment", [*FAMILIES, *PROBES, *CONTINUOUS_PROBES], ids=repr)
def test_fits_worlds_with_bounded_continuous_actions(environment):
    if isinstance(environment.action_space, Box):
        return DDPG().check(environment)
    assert isinstance(environment.action_space, Discrete)
    with pytest.raises(ValueError, match="DDPG moves actions by small amounts, but"):
        DDPG().check(environment)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"activation": "rleu"}, r"agent\.activation = 'rleu' is not known: did you mean 'relu'\?"),
        ({"hidden": ()}, r"agent\.hidden = \(\) leaves no hidden layer"),
        ({"hidden": (64, 0)}, r"agent\.hidden = 0 units is out of range"),
        ({"actor_learning_rate": -1e-3}, r"agent\.actor_learning_rate = -0\.001 is out of range"),
        ({"critic_learning_rate": (1e-3, 11.0)}, r"agent\.critic_learning_rate = 11 is out of range"),
        ({"discount": 1.5}, r"agent\.discount = 1\.5 is out of range"),
        ({"batch_size": 0}, r"agent\.batch_size = 0 transitions is out of range"),
        ({"replay_capacity": 0}, r"agent\.replay_capacity = 0 transitions is out of range"),
        ({"learning_starts": 0}, r"agent\.learning_starts = 0 local steps is out of range"),
        ({"updates_per_step": 0}, r"agent\.updates_per_step = 0 is out of range"),
        ({"policy_delay": 0}, r"agent\.policy_delay = 0 critic steps is out of range"),
        ({"noise": GaussianNoise(-1.0)}, r"noise\.scale = -1 is out of range"),
        ({"smoothing": TargetSmoothing(-1.0)}, r"smoothing\.scale = -1 is out of range"),
        ({"target_update": SoftUpdate(0.0)}, r"target_update\.rate = 0 is out of range"),
        ({"worst_case": WorstCase(omega=2.0)}, r"worst_case\.omega = 2 is out of range"),
        ({"shared": ("actor", "critics")}, r"agent\.shared = 'critics' is not known: did you mean 'critic'\?"),
        ({"shared": ("critic",)}, r"agent\.shared = \('critic',\) must name actor, and nothing twice"),
        ({"shared": ("actor", "actor")}, r"must name actor, and nothing twice"),
        ({"shared": ("actor", "worst_case")}, r"agent\.shared names worst_case, but agent\.worst_case is none"),
    ],
)  # fmt: skip
def test_refuses_fields_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        dataclasses.replace(DDPG(), **fields).check(Pendulum())
    assert str(refusal.value).replace("e.g. ", "").count(". ") == 0
