"""Tabular Q-learning: against naive loops, what it learns of neighbours, what it sends, and where it converges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import Constant, QLearning, RobbinsMonro, Survival, known_neighbours
from polyfed.agents.rollout import local_update
from polyfed.environments import CartPole, Dataset, Pendulum, TabularMDP, WindyCliff, planning, random_mdps_common
from polyfed.environments.digits import Digits
from polyfed.environments.tabular import stacked_params
from polyfed.types import Trajectory

WORLD = TabularMDP(num_states=3, num_actions=2)
LIFE = [
    (0, 0, 1.0, 1, False),
    (1, 1, -1.0, 2, False),
    (2, 0, 0.5, 0, False),
    (0, 0, 1.0, 2, False),
    (2, 1, 2.0, 2, True),
]


def told(life):
    """A trajectory `[1, 1]` per moment."""
    one = lambda s: np.eye(3, dtype=np.float32)[s][None, None]  # noqa: E731
    for s, a, r, t, over in life:
        flag = lambda x: jnp.array([[x]])  # noqa: E731
        yield Trajectory(one(s), jnp.array([[a]]), jnp.array([[r]]), one(t), flag(over), flag(False))


@pytest.mark.parametrize("omega", [0.0, 0.4])
@pytest.mark.parametrize("neighbours", [None, ((0, 1, 2), (0, 2), (0, 1))], ids=["learned", "known"])
def test_learns_as_naive_loops_do(omega, neighbours):
    agent = QLearning(omega=omega, step_size=RobbinsMonro(1.0, 2.0), neighbours=neighbours, initial=0.0)
    state = agent.init(jax.random.key(0), WORLD, 1)
    sets = [set(x) for x in neighbours] if neighbours else [set() for _ in range(3)]
    q, visits = np.zeros((3, 2)), np.zeros((3, 2))
    for trajectory, (s, a, r, t, over) in zip(told(LIFE), LIFE, strict=True):
        state, _ = agent.learn(state, trajectory, jax.random.key(0))
        values = {**dict(enumerate(q.max(1))), "end": 0.0}
        sets[s].add("end" if over else t)
        rate = 1 / (visits[s, a] + 2)
        following = 0.0 if over else values[t]
        target = r + 0.9 * ((1 - omega) * following + omega * min(values[x] for x in sets[s]))
        q[s, a], visits[s, a] = (1 - rate) * q[s, a] + rate * target, visits[s, a] + 1
    np.testing.assert_allclose(state.q, q, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(state.visits, visits)
    assert [{"end" if x == 3 else int(x) for x in np.flatnonzero(row)} for row in state.neighbours] == sets


def test_sends_the_table_and_nothing_else():
    agent = QLearning(omega=0.3)
    state = agent.init(jax.random.key(0), WORLD, 1)
    for trajectory in told(LIFE):
        state, _ = agent.learn(state, trajectory, jax.random.key(0))
    assert [leaf.shape for leaf in jax.tree.leaves(agent.share(state))] == [(3, 2)]


def test_what_survives_a_merge_is_declared():
    keep, lose = QLearning(), QLearning(survival=Survival.nothing())
    state = keep.init(jax.random.key(0), WORLD, 1)
    for trajectory in told(LIFE):
        state, _ = keep.learn(state, trajectory, jax.random.key(0))
    broadcast = jnp.ones((3, 2))
    kept, lost = keep.absorb(state, broadcast), lose.absorb(state, broadcast)
    np.testing.assert_array_equal(kept.q, lost.q)
    assert int(kept.visits.sum()) == int(kept.explore_steps) == 5
    assert int(lost.visits.sum()) == int(lost.explore_steps) == 0
    assert bool(kept.neighbours.any())
    assert not bool(lost.neighbours.any())
    assert lose.alone().survival == Survival.everything()


@pytest.mark.parametrize(
    ("agent", "world", "sentence"),
    [
        (QLearning(omega=-0.1), WORLD, r"agent\.omega = -0\.1 is out of range"),
        (QLearning(omega=(0.1, 1.2)), WORLD, r"agent\.omega = 1\.2 is out of range"),
        (QLearning(discount=2.0), WORLD, r"agent\.discount = 2 is out of range"),
        (QLearning(initial=-1.0), WORLD, r"agent\.initial = -1 is out of range"),
        (QLearning(step_size=Constant(2.0)), WORLD, r"step_size\.learning_rate = 2 is out of range"),
        (QLearning(neighbours=((0,),)), WORLD, "give one set for each"),
        (QLearning(neighbours=((1,), (0,), (5,))), WORLD, "states are numbered 0 to 2"),
        (QLearning(neighbours=((1,), (1,), (0,))), WORLD, "State 1 is absorbing"),
        (QLearning(neighbours=((1,), (), (0,))), WORLD, "State 1 has an empty neighbour set"),
        (QLearning(), CartPole(), "CartPole shows other numbers"),
        (QLearning(), Pendulum(), "Pendulum takes continuous ones"),
        (QLearning(), Dataset(Digits()), "use a Classifier"),
    ],
)
def test_refuses(agent, world, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        agent.check(world)
    assert str(refusal.value).count(". ") == 0


def test_fits_finite_worlds():
    QLearning(neighbours=((1,), (0, 2), (0,))).check(WORLD)
    QLearning().check(WindyCliff())


def federation(agent, mdps, num_rounds, period):
    """Clients walk, learn, and average their tables; returns the averaged table."""
    num = len(mdps.transitions)
    world = TabularMDP(num_states=5, num_actions=5)
    params = jax.tree.map(lambda x: x[:, None], stacked_params(mdps, num))  # one environment each
    k_agent, k_worlds, k_life = jax.random.split(jax.random.key(0), 3)
    states = jax.vmap(lambda key: agent.init(key, world, 1))(jax.random.split(k_agent, num))
    stays = jax.vmap(world.start)(jax.random.split(k_worlds, num), params)

    def live(state, stay, params, key):
        return local_update(world, agent, (state, stay, params), key, num_steps=period)[:2]

    def one_round(carry, key):
        states, stays = jax.vmap(live)(*carry, params, jax.random.split(key, num))
        mean = jnp.mean(jax.vmap(agent.share)(states), axis=0)
        return (jax.vmap(agent.absorb, in_axes=(0, None))(states, mean), stays), None

    run = jax.jit(lambda *carry: jax.lax.scan(one_round, carry, jax.random.split(k_life, num_rounds))[0])
    return run(states, stays)[0].q[0]


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False], ids=["known", "learned"])
def test_converges_to_the_robust_fixed_point(known):
    drawn = random_mdps_common(jax.random.key(5), 1, 3)
    mdps = type(drawn)(drawn.transitions[0], drawn.rewards[0, 0], drawn.start, drawn.discount)
    mean, sets = mdps.transitions.mean(0), planning.neighbour_sets(mdps.transitions)
    robust = planning.robust_value_iteration(mean, mdps.rewards, 0.9, omega=0.3, neighbours=sets)
    plain = planning.value_iteration(mean, mdps.rewards, 0.9)
    agent = QLearning(omega=0.3, neighbours=known_neighbours(mdps.transitions) if known else None)
    q = federation(agent, mdps, 6000, 50)
    far = float(jnp.max(jnp.abs(q - robust)))
    assert far < 0.15
    assert far < 0.2 * float(jnp.max(jnp.abs(q - plain)))
