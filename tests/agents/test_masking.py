"""What a world does not allow is neither done nor counted on, while learning, in judging, and in what is shared."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import A2C, DQN, PPO, REINFORCE, HardUpdate, LinearDecay, Made, QLearning, WorstCase, guarded
from polyfed.agents.distillation import Distillation, Distilled
from polyfed.agents.masking import FORBIDDEN, kept_within, mask_of, nth_allowed
from polyfed.agents.rollout import local_update
from polyfed.environments import CartPole, Doors, Explicit, NeutralStates, TabularMDP
from polyfed.environments.public_states import _wander
from polyfed.experiment import Experiment
from polyfed.testing import check_agent
from polyfed.types import Probabilities

DOORS = Doors()
LEARNERS = (
    DQN(hidden=(16,), batch_size=16, replay_capacity=200, learning_starts=10, double=True, worst_case=WorstCase()),
    REINFORCE(hidden=(16,)),
    A2C(hidden=(16,)),
    PPO(hidden=(16,), rollout_steps=16, minibatches=2, epochs=2),
)
EACH = pytest.mark.parametrize(
    "agent",
    [*LEARNERS[:2], *(pytest.param(agent, marks=pytest.mark.slow) for agent in LEARNERS[2:])],
    ids=lambda agent: type(agent).__name__,
)


def allowed_taken(trajectory):
    over = trajectory.terminated | trajectory.truncated
    lived = np.asarray(np.cumsum(over, axis=0) - over == 0) if trajectory.reward.shape[0] == DOORS.max_steps else True
    allowed = np.asarray(DOORS.allowed(trajectory.observation))
    return np.take_along_axis(allowed, np.asarray(trajectory.action)[..., None], -1)[..., 0] | ~np.asarray(lived)


@pytest.mark.parametrize(
    "agent",
    [LEARNERS[0], *(pytest.param(agent, marks=pytest.mark.slow) for agent in LEARNERS[1:])],
    ids=lambda agent: type(agent).__name__,
)
def test_learners_keep_the_contract_and_take_nothing_that_is_shut(agent):
    check_agent(agent, DOORS, num_steps=40)


@EACH
def test_an_eager_policy_is_held_back_and_predicts_so(agent):
    """All networks made to want the last door, by a lot."""
    state = agent.init(jax.random.key(0), DOORS, 1)
    network = state.online if isinstance(agent, DQN) else state.policy
    wants = jax.tree.map(jnp.zeros_like, network)
    wants = eqx.tree_at(lambda net: net.layers[-1].bias, wants, jnp.array([0.0, 1.0, 50.0]))
    state = agent.taught(state, wants, agent.student(state)[1])
    seen = jnp.asarray(np.tile(DOORS.observations, (500, 1)))
    allowed = np.asarray(DOORS.allowed(seen))
    best = np.where(allowed[:, 2], 2, np.where(allowed[:, 1], 1, 0))
    np.testing.assert_array_equal(agent.policy(state, seen), best)
    done = np.asarray(jax.jit(agent.act)(state, seen, jax.random.key(1)))
    assert allowed[np.arange(len(done)), done].all()
    told = agent.predict(state, seen[:12])
    shut = ~allowed[:12]
    if isinstance(told, Probabilities):
        assert np.all(np.asarray(told.probabilities)[shut] == 0)
        np.testing.assert_allclose(np.sum(told.probabilities, axis=-1), 1, rtol=1e-6)
        assert np.isfinite(state.head.entropy(jnp.where(DOORS.allowed(seen), 0.0, FORBIDDEN))).all()
    else:
        assert np.all(np.asarray(told.values)[shut] == FORBIDDEN)


@pytest.mark.parametrize("double", [False, True])
def test_targets_are_maxima_over_what_is_allowed(double):
    agent = dataclasses.replace(LEARNERS[0], double=double, worst_case=None)
    one, other = (agent.init(jax.random.key(k), DOORS, 1) for k in (0, 1))
    hopes = eqx.tree_at(lambda net: net.layers[-1].bias, other.online, jnp.array([0.0, 0.1, 5.0]))
    state = dataclasses.replace(one, target=hopes)
    after = jnp.asarray(DOORS.observations)
    online, target = np.asarray(one.online(after)), np.asarray(hopes(after))
    wanted = []
    for row, seen in enumerate(DOORS.observations):
        can = [a for a in range(3) if seen[1 + a]]
        chosen = max(can, key=lambda a, row=row: (online if double else target)[row, a])
        wanted.append(target[row, chosen])
    np.testing.assert_allclose(agent._next_value(state, after), wanted, rtol=1e-5)
    assert np.any(np.abs(np.max(target, axis=-1) - wanted) > 1e-3)  # a maximum over all would be another


def test_where_none_is_allowed_all_are():
    mask = mask_of(DOORS)
    assert mask(jnp.zeros((1, 4))).tolist() == [[True] * 3]
    assert mask_of(CartPole()) is None
    agent = LEARNERS[0]
    state = agent.init(jax.random.key(0), DOORS, 1)
    assert float(agent._next_value(state, jnp.zeros((1, 4)))[0]) > FORBIDDEN / 2


def test_exploration_is_uniform_over_what_is_allowed():
    allowed = jnp.broadcast_to(jnp.array([True, False, True]), (4000, 3))
    chosen = np.asarray(nth_allowed(allowed, jax.random.uniform(jax.random.key(0), (4000,))))
    np.testing.assert_allclose(np.bincount(chosen, minlength=3) / 4000, [0.5, 0, 0.5], atol=0.03)
    almost = jnp.full(4000, np.nextafter(np.float32(1), np.float32(0)))
    assert set(np.asarray(nth_allowed(allowed, almost)).tolist()) == {2}
    assert kept_within(jnp.array([1]), allowed[:1], jnp.array([2])).tolist() == [2]


def test_random_public_states_are_met_behind_open_doors():
    seen = np.asarray(_wander(DOORS, 30, jax.random.key(0)))
    assert np.mean(seen[..., 0] > 0.5) > 0.2  # a third of the time in the last room: nobody ran against a door
    assert NeutralStates(num=10, steps=100).states(DOORS).shape == (10, 4)


def test_distillation_goes_over_the_allowed_alone():
    """A consensus moves the policy where doors are open, and asks nothing of it at shut ones."""
    agent = Distilled(REINFORCE(hidden=(16,)), Distillation(chunks=1, repetitions=1), jnp.asarray(DOORS.observations))
    agent.check(DOORS)
    state, other = (agent.init(jax.random.key(k), DOORS, 1) for k in (0, 1))
    aim = agent.share(other)
    assert np.all(np.asarray(aim.probabilities)[~np.asarray(DOORS.allowed(agent.public))] == 0)
    first, absorb = None, jax.jit(lambda state: agent.absorb(state, aim))
    for _ in range(60):
        state = absorb(state)
        first = float(state.apart) if first is None else first
    assert np.isfinite(first)
    assert float(state.apart) < first / 5
    assert np.isfinite(jax.flatten_util.ravel_pytree(state.learner.policy)[0]).all()


def test_who_asks_for_no_mask_is_refused_and_who_breaks_one_is_absent():
    class Masked(TabularMDP):
        def allowed(self, observation):
            return observation[..., :2] >= 0

    make = Made(lambda *_: None)
    good = Experiment(name="doors", environment=DOORS, variation=Explicit(), num_clients=2, agent=LEARNERS[1])
    good.check()
    tabular = dataclasses.replace(good, environment=Masked(num_states=3, num_actions=2), agent=QLearning())
    with pytest.raises(
        ValueError, match=r"^Masked allows but some of its actions in a state, and agent is a QLearning"
    ):
        tabular.check()
    assert make.heeds_masks

    class Rash:
        def act(self, observations, greedy):
            return np.full(len(observations), 2)

    assert guarded(Rash(), "act", DOORS, DOORS.observations[1:2], True)[1] is None
    assert "does not allow" in guarded(Rash(), "act", DOORS, DOORS.observations[:1], True)[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("agent", "steps"),
    [
        (
            DQN(
                hidden=(32,), discount=0.9, learning_starts=64, target_update=HardUpdate(50),
                exploration=LinearDecay(1.0, 0.2, 2000), replay_capacity=4000,
            ),
            6000,
        ),
        (PPO(hidden=(32,), discount=0.9, rollout_steps=64, learning_rate=3e-3), 64 * 150),
        (A2C(hidden=(32,), discount=0.9, learning_rate=3e-3), 16 * 1000),
        (REINFORCE(hidden=(32,), discount=0.9, learning_rate=3e-3), 3000),
    ],
    ids=["DQN", "PPO", "A2C", "REINFORCE"],
)  # fmt: skip
def test_the_best_door_is_taken(agent, steps, seed):
    params = jax.tree.map(lambda x: x[None], DOORS.nominal())
    k_agent, k_world, k_life, k_judge = jax.random.split(jax.random.key(seed), 4)
    client = agent.init(k_agent, DOORS, 1), DOORS.start(k_world, params), params
    state, _, _ = jax.jit(lambda *c: local_update(DOORS, agent, c, k_life, num_steps=steps))(*client)
    seen = jnp.asarray(DOORS.observations)
    best = np.argmax(np.where(DOORS.allowed(seen), DOORS.action_values(0.9), -np.inf), axis=-1)
    np.testing.assert_array_equal(agent.policy(state, seen), best)
    score = float(DOORS.evaluate(lambda x: agent.policy(state, x), params, k_judge, 2000)[0])
    assert score == pytest.approx(DOORS.value(1.0), abs=0.3)
    if isinstance(agent, DQN):  # a maximum over shut doors would make all rooms but the last worth too much
        found, true = np.asarray(state.online(seen)), DOORS.action_values(0.9)
        np.testing.assert_allclose(
            found[np.asarray(DOORS.allowed(seen))], true[np.asarray(DOORS.allowed(seen))], atol=0.5
        )
