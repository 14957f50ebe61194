from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed import recipes
from polyfed.agents import QLearning
from polyfed.aggregation import WassersteinBarycenter
from polyfed.environments import CartPole, Explicit, Grid, Pendulum, RandomMDPs, TabularMDP, Uniform
from polyfed.errors import DivergedError
from polyfed.exchange import HalfPrecision, Transform
from polyfed.experiment import Evaluation, Experiment
from polyfed.simulation.simulate import Simulation, Traffic, check_seeds
from polyfed.simulation.worlds import world_values
from polyfed.types import Update

WEIGHTS = 4 * (4 * 16 + 16 + 16 * 2 + 2)  # bytes of a network 4-16-2


@pytest.mark.parametrize(
    ("method", "policies"),
    [
        ("fedavg", ("global", "client-0", "client-1", "client-2")),
        ("local_only", ("client-0", "client-1", "client-2")),
        ("pooled", ("global",)),
    ],
)
def test_policies_and_environments_are_named_in_order(
    method: str, policies: tuple[str, ...], tiny: Callable[..., Experiment]
) -> None:
    simulation = Simulation(recipes.RECIPES[method](tiny()), (0,))
    assert simulation.policy_names == policies
    assert simulation.environment_names == ("client-0", "client-1", "client-2", "held-out-0")
    assert simulation.personal == (method == "local_only")


@pytest.mark.parametrize(
    ("method", "traffic"),
    [
        ("fedavg", Traffic(WEIGHTS, WEIGHTS)),
        ("fedwb", Traffic(WEIGHTS, WEIGHTS)),
        ("fedadam", Traffic(WEIGHTS, WEIGHTS)),
        ("local_only", Traffic(0, 0)),
        ("pooled", Traffic(20 * (4 * (4 + 4 + 1 + 1) + 2), WEIGHTS)),  # every transition goes up
    ],
)
def test_traffic_is_counted_by_hand(method: str, traffic: Traffic, tiny: Callable[..., Experiment]) -> None:
    assert Simulation(recipes.RECIPES[method](tiny()), (0, 1)).traffic == traffic


def test_half_precision_halves_the_way_up_alone(tiny: Callable[..., Experiment]) -> None:
    assert Simulation(tiny(transforms=(HalfPrecision(),)), (0,)).traffic == Traffic(WEIGHTS // 2, WEIGHTS)


def test_environments_side_by_side_share_their_clients_world(tiny: Callable[..., Experiment]) -> None:
    simulation = Simulation(tiny(num_envs=2), (0,))
    np.testing.assert_allclose(simulation.homes.params.half_length[0], [[0.25] * 2, [0.5] * 2, [1.0] * 2])
    pooled = Simulation(recipes.pooled(tiny(num_envs=2)), (0,))
    np.testing.assert_allclose(pooled.homes.params.half_length[0], [[0.25, 0.25, 0.5, 0.5, 1.0, 1.0]])


def test_values_of_worlds_put_clients_first_and_the_nominal_where_nothing_is_given(
    tiny: Callable[..., Experiment],
) -> None:
    evaluation = Evaluation(every=1, held_out=Grid({"force": (5.0, 20.0)}), num_held_out=2)
    values, units = world_values(tiny(evaluation=evaluation))
    assert values == {"half_length": [0.25, 0.5, 1.0, 0.5, 0.5], "force": [10.0, 10.0, 10.0, 5.0, 20.0]}
    assert units == {"half_length": "m", "force": "N"}


def test_values_of_worlds_are_those_that_are_simulated(tiny: Callable[..., Experiment]) -> None:
    experiment = tiny(variation=Uniform(("force", "half_length"), rho=0.4, seed=3), evaluation=Evaluation(every=1))
    values, _ = world_values(experiment)
    params = Simulation(experiment, (0,)).homes.params
    np.testing.assert_allclose(params.force[0, :, 0], values["force"], rtol=1e-6)
    np.testing.assert_allclose(params.half_length[0, :, 0], values["half_length"], rtol=1e-6)


@pytest.mark.parametrize(
    ("seeds", "sentence"),
    [((), "No seed was given"), ((1, 2, 1), "one seed twice"), ((-1,), "out of range"), ((2**32,), "out of range")],
)
def test_seeds_that_cannot_be(seeds: tuple[int, ...], sentence: str, tiny: Callable[..., Experiment]) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_seeds(seeds)
    with pytest.raises(ValueError, match=sentence):
        Simulation(tiny(), seeds)


def test_the_largest_seed_works_and_differs_from_its_neighbour(tiny: Callable[..., Experiment]) -> None:
    keys = jax.random.key_data(Simulation(tiny(), (2**32 - 1, 2**32 - 2, 0)).homes.keys)
    assert len({tuple(key) for key in np.asarray(keys).tolist()}) == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"environment": Pendulum(), "variation": Explicit()}, "DQN chooses among a finite set of actions"),
        ({"num_clients": 4}, "3 values of half_length to 4 clients"),
        ({"agent": {"learning_rate": (1e-3, 1e-4)}}, "agent.learning_rate has 2 values for 3 clients"),
        ({"num_rounds": 0}, "num_rounds = 0"),
    ],
)
def test_an_experiment_that_cannot_run_is_refused_in_a_sentence(
    changes: dict, sentence: str, tiny: Callable[..., Experiment]
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Simulation(tiny(**changes), (0,))


def test_one_agent_for_all_clients_cannot_have_a_number_per_client(tiny: Callable[..., Experiment]) -> None:
    experiment = recipes.pooled(tiny(agent={"learning_rate": (1e-3, 5e-4, 1e-3)}))
    with pytest.raises(ValueError, match=r"pooled.*one agent.*agent\.learning_rate"):
        Simulation(experiment, (0,))


class Spoil(Transform):
    """Makes the message of the last client NaN."""

    def upload(self, state, update, broadcast, key):
        spoilt = jax.tree.map(lambda x: x.at[-1].set(jnp.nan), update.payload)
        return Update(spoilt, update.weight), state


@pytest.mark.slow
def test_a_client_that_diverged_ends_the_run_or_is_left_out_as_the_rule_says(tiny):
    experiment = tiny(rule=WassersteinBarycenter(), transforms=(Spoil(),), method="fedwb")
    simulation = Simulation(experiment, (0,))
    with pytest.raises(DivergedError, match="lower the learning rate, or leave such clients out"):
        simulation.advance(simulation.init(), 1)
    forgiving = dataclasses.replace(experiment, rule=WassersteinBarycenter(on_nonfinite="drop"))
    simulation = Simulation(forgiving, (0,))
    federation, metrics = simulation.advance(simulation.init(), 2)
    assert metrics["nonfinite"].tolist() == [[1.0], [1.0]]
    assert all(np.isfinite(x).all() for x in map(np.asarray, jax.tree.leaves(federation.server.broadcast)))


@pytest.mark.slow
def test_every_seed_may_have_a_fleet_of_its_own(tiny: Callable[..., Experiment]) -> None:
    variation = Uniform(["half_length"], each_seed=True)
    experiment = tiny(variation=variation, num_rounds=2, evaluation=Evaluation(every=1, episodes=1))
    both, alone = Simulation(experiment, (3, 4)), Simulation(experiment, (4,))
    params = both.homes.params.half_length[..., 0]
    assert params.shape == (2, 3)
    assert np.all(params[0] != params[1])
    np.testing.assert_array_equal(params[1], variation.of_seed(4).params(CartPole(), 3).half_length)
    ran = [simulation.advance(simulation.init(), 2)[0] for simulation in (both, alone)]
    found = [simulation.evaluate(federation) for simulation, federation in zip((both, alone), ran, strict=True)]
    np.testing.assert_array_equal(found[0][1], found[1][0])  # a seed does not depend on those beside it
    values, _ = world_values(experiment)
    assert np.isnan(values["half_length"]).all()


@pytest.mark.slow
def test_a_fleet_of_tables_learns_and_is_warned_of_what_it_does_not_cover() -> None:
    experiment = recipes.fedavg(
        Experiment(
            "tables",
            TabularMDP(max_steps=20),
            RandomMDPs(seed=1),
            num_clients=3,
            agent=QLearning(omega=0.1),
            num_rounds=2,
            local_steps=50,
            evaluation=Evaluation(every=1, episodes=2),
        )
    )
    with pytest.warns(UserWarning, match=r"omega = 0\.1 is smaller than the heterogeneity kappa = "):
        simulation = Simulation(experiment, (0, 1))
    federation, metrics = simulation.advance(simulation.init(), 2)
    assert federation.server.broadcast.shape == (2, 5, 5)
    assert np.isfinite(metrics["bytes_up"]).all()
    assert simulation.evaluate(federation).shape == (2, 4, 3)
    assert np.ptp(federation.server.broadcast) > 0.1
