"""Bodies as environments: against Gymnasium's own, nominal and changed, and inside compiled programs."""

import re
import warnings

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from polyfed.agents.ddpg import DDPG
from polyfed.environments import (
    BODIES,
    Explicit,
    HalfCheetah,
    Hopper,
    InvertedPendulum,
    Uniform,
    Walker2d,
    quantities,
)
from polyfed.environments import mujoco as door
from polyfed.errors import MissingExtraError
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import ddpgavg
from polyfed.simulation.simulate import Simulation
from polyfed.testing import check_environment

try:
    door.load_mujoco()
except MissingExtraError as missing:
    pytest.skip(str(missing), allow_module_level=True)

bodies = pytest.mark.parametrize("environment", BODIES, ids=lambda e: e.gymnasium_id)

# As a person would edit the published file: (pattern, replacement) per quantity. The numbers are those of a client,
# which are float32, in full.
EDITS = {
    "HalfCheetah-v5": {
        "gravity": (r'gravity="0 0 -9.81"', 'gravity="0 0 -{0}"'),
        "total_mass": (r'settotalmass="14"', 'settotalmass="{0}"'),
        "torso_half_length": (r'fromto="-.5 0 0 .5 0 0"', 'fromto="-{0} 0 0 {0} 0 0"'),
        "torso_density": (r'name="torso" size', 'name="torso" density="{0}" size'),
        "back_thigh_half_length": (r'size="0.046 .145"', 'size="0.046 {0}"'),
        "front_thigh_half_length": (r'size="0.046 .133"', 'size="0.046 {0}"'),
        "front_foot_radius": (r'size="0.046 .07"', 'size="{0} .07"'),
    },
    "Hopper-v5": {
        "gravity": (r'timestep="0.002"', 'timestep="0.002" gravity="0 0 -{0}"'),
        "torso_density": (r'name="torso_geom"', 'name="torso_geom" density="{0}"'),
        "leg_radius": (r'size="0.04 0.25"', 'size="{0} 0.25"'),
        "foot_half_length": (r'size="0.06 0.195"', 'size="0.06 {0}"'),
    },
    "Walker2d-v5": {
        "gravity": (r'timestep="0.002"', 'timestep="0.002" gravity="0 0 -{0}"'),
        "torso_radius": (r'size="0.050000000000000003 0.19999999999999996"', 'size="{0} 0.19999999999999996"'),
        "left_foot_half_length": (r'(name="foot_left_geom".*size="0.059999999999999998) \S+"', r'\1 {0}"'),
        "right_leg_radius": (r'(name="leg_geom" size=")\S+ ', r"\g<1>{0} "),
    },
    "InvertedPendulum-v5": {
        "gravity": (r'gravity="0 0 -9.81"', 'gravity="0 0 -{0}"'),
        "gear": (r'gear="100"', 'gear="{0}"'),
        "cart_density": (r'name="cart" pos="0 0 0" quat', 'name="cart" density="{0}" pos="0 0 0" quat'),
        "cart_half_length": (r'size="0.1 0.1"', 'size="0.1 {0}"'),
        "pole_radius": (r'size="0.049 0.3"', 'size="{0} 0.3"'),
    },
}


def changed_params(environment, factors):
    known = quantities(environment.params_class)
    values = {name: np.float32(known[name]["default"] * f) for name, f in factors.items()}
    return environment.params_class(**values)


def edited(environment, params, folder):
    """The published description with a client's numbers in it, written by hand."""
    text = (door.assets() / environment.xml).read_text()
    nominal = environment.params_class()
    for name, (pattern, replacement) in EDITS[environment.gymnasium_id].items():
        if getattr(params, name) != getattr(nominal, name):
            text, n = re.subn(pattern, replacement.format(repr(float(getattr(params, name)))), text)
            assert n == 1, name
    path = folder / "body.xml"
    path.write_text(text)
    return str(path)


def theirs(environment, params, folder):
    """Gymnasium's environment with the edited description."""
    with warnings.catch_warnings():  # MuJoCo says that `settotalmass` is deprecated
        warnings.simplefilter("ignore")
        return gymnasium.make(
            environment.gymnasium_id, xml_file=edited(environment, params, folder), disable_env_checker=True
        ).unwrapped


def both_live(environment, params, folder, num_steps, seed=0):
    """One walk from the same start with the same actions: `(ours, theirs)`, each `(observations, rewards, ends)`.

    Gymnasium's goes on from where it is; the walk of both goes on where an episode ends.
    """
    state, first = environment.reset(jax.random.key(seed), jax.tree.map(jnp.float32, params))
    most = 1.2 * environment.strength
    actions = np.random.default_rng(seed).uniform(-most, most, (num_steps, environment.num_motors)).astype(np.float32)

    @jax.jit
    def walk(state, params):
        step = lambda state, action: environment.step(jax.random.key(0), state, action, params)  # noqa: E731
        return jax.lax.scan(step, state, actions)[1]

    given = walk(state, jax.tree.map(jnp.float32, params))
    env, n = theirs(environment, params, folder), len(environment.rest)
    start = door.join_floats(np.asarray(state.physics))
    env.set_state(start[:n], start[n : 2 * n])
    np.testing.assert_array_equal(env._get_obs().astype(np.float32), first)
    wanted = [env.step(action.astype(float))[:3] for action in actions]
    env.close()
    return (given.observation, given.reward, given.terminated), tuple(map(np.array, zip(*wanted, strict=True)))


CHANGES = [
    {},
    {"all": 0.7},
    {"all": 1.4},
]


@bodies
@pytest.mark.parametrize("change", CHANGES, ids=["nominal", "smaller", "larger"])
def test_a_thousand_steps_are_gymnasiums_to_the_last_bit(environment, change, tmp_path):
    names = list(EDITS[environment.gymnasium_id])
    factors = {name: change["all"] + 0.03 * i for i, name in enumerate(names)} if change else {}
    ours, wanted = both_live(environment, changed_params(environment, factors), tmp_path, num_steps=1000)
    # Gymnasium works in double precision; ours is rounded once, when it is shown
    np.testing.assert_array_equal(ours[0], wanted[0].astype(np.float32))
    np.testing.assert_array_equal(ours[1], wanted[1].astype(np.float32))
    np.testing.assert_array_equal(ours[2], wanted[2])
    assert np.isfinite(ours[0]).all()
    assert ours[2].any() == (environment != HalfCheetah())


@pytest.mark.parametrize("environment", [b for b in BODIES if b != InvertedPendulum()], ids=lambda e: e.gymnasium_id)
def test_single_precision_alone_would_not_do(environment):
    """Why a state holds three floats a number: an episode of float32 states ends somewhere else, where feet touch."""
    body = door.compile_body(type(environment), environment.params_class())
    actions = np.random.default_rng(0).uniform(-1, 1, (environment.max_steps, environment.num_motors))
    exact = rounded = np.concatenate([environment.rest, np.zeros(2 * len(environment.rest))])
    for action in actions:
        exact = body.step(exact, action)
        rounded = body.step(rounded.astype(np.float32).astype(float), action)
    assert np.max(np.abs(exact - rounded)[: 2 * len(environment.rest)]) > 0.1


@bodies
def test_the_contract_of_an_environment(environment):
    check_environment(environment, num_steps=100)


@bodies
def test_the_spaces_are_gymnasiums(environment, tmp_path):
    env = theirs(environment, environment.params_class(), tmp_path)
    assert environment.observation_space.size == env.observation_space.shape[0]
    assert environment.action_space.size == env.action_space.shape[0]
    np.testing.assert_array_equal(environment.action_space.low, env.action_space.low)
    assert env.dt == environment.time_step
    assert env.frame_skip == environment.frame_skip
    np.testing.assert_array_equal(env.init_qpos, environment.rest)
    np.testing.assert_array_equal(env.init_qvel, 0)
    assert gymnasium.spec(environment.gymnasium_id).max_episode_steps == environment.max_steps
    env.close()


@bodies
def test_resets_are_drawn_as_gymnasiums(environment):
    reset = jax.jit(jax.vmap(environment.reset, in_axes=(0, None)))
    states, seen = reset(jax.random.split(jax.random.key(0), 4000), environment.nominal())
    n, noise = len(environment.rest), environment.params_class().reset_noise
    position, velocity = (np.asarray(x) for x in (states.physics[:, 0, :n], states.physics[:, 0, n : 2 * n]))
    position = (position - environment.rest) / noise
    assert np.abs(position).max() <= 1 + 1e-4
    np.testing.assert_allclose(position.var(axis=0), 1 / 3, rtol=0.08)
    np.testing.assert_allclose(velocity.var(axis=0) / noise**2, 1 if environment == HalfCheetah() else 1 / 3, rtol=0.1)
    np.testing.assert_allclose([position.mean(axis=0), velocity.mean(axis=0) / noise], 0, atol=0.08)
    assert np.all(states.physics[:, 1:] == 0)
    unseen = environment.unseen
    np.testing.assert_array_equal(seen[:, : n - unseen], states.physics[:, 0, unseen:n])


def test_the_inverted_pendulum_pays_while_the_pole_is_upright():
    environment = InvertedPendulum()
    params = environment.nominal()
    state, _ = environment.reset(jax.random.key(0), params)
    upright, tilted = (eqx.tree_at(lambda s: s.physics, state, state.physics.at[0, 1].set(x)) for x in (0.19, -0.21))
    for begun, reward in ((upright, 1.0), (tilted, 0.0)):
        _, step = environment.step(jax.random.key(1), begun, jnp.zeros(1), params)
        assert float(step.reward) == reward == 1.0 - float(step.terminated)
        assert abs(float(step.observation[1])) == pytest.approx(0.19 if reward else 0.21, abs=0.01)


def test_a_variation_refuses_before_anything_is_compiled():
    with pytest.raises(ValueError, match=r"leg_radius = -0\.02 m at client 1 cannot be simulated by Hopper"):
        Explicit({"leg_radius": (0.04, -0.02)}).check(Hopper(), 2)


def test_many_rows_come_back_in_order():
    """More than one callback once held, over two axes."""
    environment = Walker2d()
    params = Uniform(["left_leg_radius", "gravity"], rho=0.3, seed=0).params(environment, 2)
    many = 303
    keys = jax.random.split(jax.random.key(0), (2, many))
    states, _ = jax.jit(jax.vmap(jax.vmap(environment.reset, (0, None))))(keys, params)
    actions = jax.random.uniform(jax.random.key(1), (2, many, 6), jnp.float32, -1.0, 1.0)
    alone = jax.jit(environment.step)
    after, given = jax.jit(jax.vmap(jax.vmap(environment.step, (0, 0, 0, None))))(keys, states, actions, params)
    for client, i in ((0, 0), (0, many - 1), (1, 0), (1, many // 2), (1, many - 1)):
        take = lambda tree, c=client, i=i: jax.tree.map(lambda x: x[c, i], tree)  # noqa: E731
        world = jax.tree.map(lambda x, c=client: x[c], params)
        one = alone(take(keys), take(states), take(actions), world)
        assert eqx.tree_equal(one, (take(after), take(given)))


@pytest.mark.slow
def test_two_devices_call_at_once():
    """Each device waits in its own callbacks; whatever the number of rows, none waits for the other."""
    environment, spread = HalfCheetah(), PartitionSpec("devices")
    params = Uniform(["gravity"], rho=0.3, seed=0).params(environment, 4)
    params = jax.tree.map(lambda x: jnp.repeat(x, 150), params)
    keys = jax.random.split(jax.random.key(0), 600)
    actions = jax.random.uniform(jax.random.key(1), (5, 6), jnp.float32, -1.0, 1.0)

    def walk(keys, params):
        def step(state, action):
            state, given = jax.vmap(environment.step, (0, 0, None, 0))(keys, state, action, params)
            return state, given.reward

        return jax.lax.scan(step, jax.vmap(environment.reset)(keys, params)[0], actions)[1].T

    mesh = Mesh(jax.devices()[:2], ("devices",))
    assert len(mesh.devices) == 2
    both = jax.shard_map(walk, mesh=mesh, in_specs=(spread, spread), out_specs=spread, check_vma=False)
    np.testing.assert_array_equal(jax.jit(both)(keys, params), jax.jit(walk)(keys, params))


@pytest.mark.slow
def test_a_federation_of_bodies_is_the_same_on_any_number_of_devices():
    experiment = ddpgavg(
        Experiment(
            name="bodies",
            environment=HalfCheetah(max_steps=30),
            variation=Uniform(["back_thigh_half_length"], rho=0.5),
            num_clients=3,
            agent=DDPG(hidden=(16,), batch_size=8, replay_capacity=200, learning_starts=20),
            local_steps=40,
            evaluation=Evaluation(episodes=2),
        )
    )
    found = []
    for devices in (jax.devices()[:1], jax.devices()[:2]):
        simulation = Simulation(experiment, seeds=(0,), devices=devices)
        federation, metrics = simulation.advance(simulation.init(), 3)
        found.append((metrics["return"], simulation.evaluate(federation)))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.isfinite(found[0][1]).all()
