import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed import recipes
from polyfed.agents import DDPG, DQN, PPO, REINFORCE
from polyfed.environments import CartPole, Drift, Explicit
from polyfed.environments.gymnasium_world import Gymnasium, GymnasiumParams, _calls, _worlds
from polyfed.environments.trace import trace_episode
from polyfed.experiment import Evaluation, Experiment
from polyfed.simulation.engine import run_rounds
from polyfed.simulation.simulate import Simulation
from polyfed.testing import check_environment

BRITTLE = """
import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

class Brittle(CartPoleEnv):
    def step(self, action):
        self.steps = getattr(self, "steps", 0) + 1
        if self.length > 0.9 and self.steps > 30:
            raise RuntimeError("the pole broke")
        return super().step(action)

gymnasium.register("Brittle-v0", entry_point=Brittle, max_episode_steps=50)
"""


def fleet(world, variation, **changes):
    """Two clients of DQN, two worlds each, two rounds."""
    settings = {
        "agent": DQN(hidden=(8,), batch_size=8, replay_capacity=64, learning_starts=10),
        "num_clients": 2,
        "num_envs": 2,
        "num_rounds": 2,
        "local_steps": 40,
        "evaluation": Evaluation(every=1, episodes=2),
    }
    return recipes.fedavg(Experiment("outside", world, variation, **{**settings, **changes}))


def lived(simulation, rounds=2):
    """What a run leaves: every number of the federation, and the evaluation."""
    federation = simulation.init()
    for _ in range(rounds):
        federation, metrics = simulation.advance(federation, 1)
    return federation, metrics, simulation.evaluate(federation)


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


POLES = Explicit({"half_length": (0.3, 0.8)})


CHANGING = {"schedule": Drift(to={"half_length": 0.6}, rounds=2, clients=(0,)), "joins": (1, 2)}


@pytest.mark.parametrize("changes", [pytest.param({}, marks=pytest.mark.slow), CHANGING], ids=["same", "changing"])
def test_a_federation_is_the_same_in_this_process_in_others_and_resumed(changes) -> None:
    here = fleet(Gymnasium("CartPole-v1", time_limit=60), POLES, **changes)
    simulation = Simulation(here, (0,))
    whole = lived(simulation)
    assert np.isfinite(whole[2]).all()
    assert np.all(whole[1]["loss"][..., 0] > 0)
    there = dataclasses.replace(here, environment=dataclasses.replace(here.environment, workers=2))
    others = Simulation(there, (0,))
    same(whole, lived(others))
    _worlds(there.environment).close()

    half, _ = simulation.advance(simulation.init(), 1)
    kept = jax.tree.map(lambda x: x, half)
    _worlds.cache_clear(), _calls.cache_clear()  # what a new process knows of the episodes under way
    resumed = Simulation(dataclasses.replace(here, environment=Gymnasium("CartPole-v1", time_limit=60)), (0,))
    federation, _ = resumed.advance(resumed.place(kept), 1)
    same(whole[0], federation)


def test_a_world_in_which_nothing_can_differ_is_compiled_for_once() -> None:
    small = PPO(hidden=(4,), rollout_steps=4, epochs=1, minibatches=1)
    world = Gymnasium("FrozenLake-v1")
    assert not world.quantities()
    simulation = Simulation(fleet(world, Explicit(), agent=small, local_steps=4), (0,))
    federation, _ = simulation.advance(simulation.init(), 1)
    programs = run_rounds._cache_size()
    simulation.advance(federation, 1)
    assert run_rounds._cache_size() == programs


def test_an_episode_ends_in_the_world_in_which_it_began_and_the_next_is_in_the_new() -> None:
    experiment = fleet(Gymnasium("CartPole-v1", time_limit=60), POLES, **CHANGING)
    simulation = Simulation(experiment, (0,))
    names = list(experiment.environment.quantities())
    length = lambda federation, client: federation.clients[0].stay.state.values[client, :, names.index("half_length")]  # noqa: E731
    federation = simulation.init()
    np.testing.assert_allclose(length(federation, 0), 0.3)
    for expected in (0.45, 0.6):  # 40 steps are more than an episode of a pole that nobody balances
        federation, metrics = simulation.advance(federation, 1)
        assert expected in np.asarray(length(federation, 0)).round(6)
    assert metrics["moved"].tolist() == [[[1, 0]]]
    np.testing.assert_allclose(length(federation, 1), 0.8)


def test_a_client_whose_world_fails_is_absent_and_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "brittle_worlds.py").write_text(BRITTLE)
    monkeypatch.syspath_prepend(tmp_path)
    world = Gymnasium("brittle_worlds:Brittle-v0", varied=("length",), modules=True)
    simulation = Simulation(fleet(world, Explicit({"length": (0.5, 1.0)})), (0,))
    federation, _, scores = lived(simulation)
    assert simulation.told() == (
        "client-1 is absent from now on: brittle_worlds:Brittle-v0 (length=1) failed: RuntimeError: the pole broke."
    )
    assert simulation.told() == ""  # once is enough
    (own, *_), server = federation.clients, federation.server
    first = jax.tree.map(lambda x: x[0], own.agent)
    broadcast = jax.tree.map(lambda x: x[0], server.broadcast)
    same(simulation.experiment.agent.share(first), broadcast)  # nobody else had a say
    names = simulation.environment_names
    assert np.isnan(scores[0, :, names.index("client-1")]).all()
    assert np.isfinite(scores[0, :, names.index("client-0")]).all()


def test_the_nominal_world_is_that_of_gymnasium() -> None:
    import gymnasium

    world = Gymnasium("Acrobot-v1", time_limit=30)
    params = world.nominal()
    states, score, steps = trace_episode(world, lambda o: jnp.zeros(len(o), jnp.int32), params, jax.random.key(4))
    env = gymnasium.make("Acrobot-v1", max_episode_steps=30)
    env.reset(seed=int(states.seed[0]))
    rewards = [env.step(0)[1] for _ in range(steps)]
    assert (score, steps) == (sum(rewards), 30)


@pytest.mark.parametrize(
    ("world", "agent", "varied"),
    [
        pytest.param(
            Gymnasium("Pendulum-v1", time_limit=20),
            DDPG(hidden=(8,), batch_size=8, replay_capacity=64, learning_starts=10),
            "gravity",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(Gymnasium("FrozenLake-v1", ("is_slippery=False",), time_limit=20), PPO(hidden=(8,), rollout_steps=20)),
            "",
            marks=pytest.mark.slow,
        ),
        (Gymnasium("CartPole-v1", time_limit=20), REINFORCE(hidden=(8,)), "mass_pole"),
    ],
    ids=["box-actions", "discrete-observations", "whole-episodes"],
)
def test_every_kind_of_learner_lives_in_it(world: Gymnasium, agent, varied: str) -> None:
    variation = Explicit({varied: (2.0, 3.0)}) if varied else Explicit()
    simulation = Simulation(fleet(world, variation, agent=agent, num_rounds=1), (0,))
    federation = simulation.init()
    before = [np.array(x) for x in jax.tree.leaves(federation.server.broadcast)]
    federation, _ = simulation.advance(federation, 1)
    assert np.isfinite(simulation.evaluate(federation)).all()
    after = jax.tree.leaves(federation.server.broadcast)
    changed = [bool(np.any(a != np.asarray(b))) for a, b in zip(before, after, strict=True)]
    assert any(changed)


def test_it_keeps_the_contract_of_environments() -> None:
    check_environment(Gymnasium("CartPole-v1", time_limit=40))


def test_quantities_are_those_of_our_family_and_paths_beside() -> None:
    world = Gymnasium("CartPole-v1", varied=("x_threshold",))
    assert list(world.quantities()) == [*CartPole().quantities(), "x_threshold"]
    params = world.made({**{n: k["default"] for n, k in world.quantities().items()}, "x_threshold": jnp.ones(3)}, (3,))
    assert isinstance(params, GymnasiumParams)
    assert params.values.shape == (3, len(world.quantities()))


@pytest.mark.parametrize(
    ("world", "sentence"),
    [
        (Gymnasium("CartPol-v1"), "CartPol-v1"),
        (Gymnasium("CartPole-v1", workers=-1), r"environment\.workers"),
        (Gymnasium("CartPole-v1", patience=0.0), "leaves a process no time"),
        (Gymnasium("CartPole-v1", varied=("no_such",)), "no_such"),
        (Gymnasium("CartPole-v1", wrappers=("NoWrapper",)), "no wrapper 'NoWrapper'"),
        (Gymnasium("evil:Env-v0"), "modules"),
    ],
)
def test_bad_input_is_one_sentence(world: Gymnasium, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        Simulation(fleet(world, Explicit()), (0,))
    assert "\n" not in str(caught.value)


def test_a_world_that_cannot_be_made_is_refused_before_anybody_learns() -> None:
    shows = "kwargs.include_cfrc_ext_in_observation"
    ants = Gymnasium("Ant-v5", varied=(shows,))
    agent = PPO(hidden=(4,), rollout_steps=8, epochs=1, minibatches=1)
    with pytest.raises(ValueError, match=r"world of client 1 cannot be made: with .* need the spaces of the nominal"):
        Simulation(fleet(ants, Explicit({shows: (1.0, 0.0)}), agent=agent), (0,))
