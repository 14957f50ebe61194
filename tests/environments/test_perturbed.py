import itertools
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.environments import (
    FAMILIES,
    CartPole,
    Dataset,
    Digits,
    MountainCar,
    Perturbed,
    Quantity,
    quantities,
    quantity,
)
from polyfed.experiment import Evaluation
from polyfed.record import from_data, to_data
from polyfed.simulation.worlds import world_values


@given(
    st.sampled_from(FAMILIES),
    st.integers(1, 4),
    st.floats(0.01, 0.4),
    st.integers(0, 5),
    st.integers(0, 2**32 - 1),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_worlds_are_those_of_a_naive_loop(environment, half, rho, num_joint, seed, random):
    known = quantities(environment.params_class)
    names = [name for name in known if known[name]["default"] != 0]
    random.shuffle(names)
    groups, points = ((names[0], names[1]), (names[2],)), 2 * half + 1
    test = Perturbed(groups, rho=rho, points=points, num_joint=num_joint, seed=seed)
    expected = []
    for changed in groups:
        for x in np.linspace(-rho, rho, points):
            expected.append({name: known[name]["default"] * (1 + x * (name in changed)) for name in names[:3]})
    draws = np.random.default_rng(seed).uniform(-rho, rho, (num_joint, 2))
    for one, two in draws:
        factors = (1 + one, 1 + one, 1 + two)
        expected.append({name: known[name]["default"] * f for name, f in zip(names[:3], factors, strict=True)})
    assert test.num_worlds == len(expected)
    worlds = test.worlds(environment, test.num_worlds)
    assert list(worlds) == names[:3]
    for name in worlds:
        np.testing.assert_allclose(worlds[name], [row[name] for row in expected], rtol=1e-12)
    params = test.params(environment, test.num_worlds)
    for name, spec in known.items():
        leaf = getattr(params, name)
        assert leaf.shape == (test.num_worlds,)
        assert leaf.dtype == jnp.float32
        np.testing.assert_array_equal(leaf, np.broadcast_to(worlds.get(name, spec["default"]), leaf.shape).astype("f4"))


def test_the_grid_is_that_of_the_issue_and_holds_the_nominal_world_exactly():
    test = Perturbed(["gravity", "force"])
    np.testing.assert_allclose(test.changes, np.linspace(-0.5, 0.5, 11), atol=1e-15)
    assert test.changes[5] == 0
    np.testing.assert_array_equal(test.changes, -test.changes[::-1])
    worlds = test.worlds(CartPole(), test.num_worlds)
    assert test.nominal == (5, 16)
    for place in test.nominal:
        assert (worlds["gravity"][place], worlds["force"][place]) == (9.8, 10.0)


def test_every_world_has_one_place():
    test = Perturbed(["gravity", "mass_pole+mass_cart", "force"], points=5, num_joint=4)
    places = list(itertools.chain(*(test.grid(group) for group in test.groups), test.joint))
    assert places == list(range(test.num_worlds)) == list(range(19))
    assert np.count_nonzero(test.perturbations[:15]) == 3 * 4
    assert np.all(test.perturbations[test.joint] != 0)
    assert np.array_equal(test.perturbations[test.grid("force"), 2], test.changes)


def test_joint_worlds_are_uniform_and_independent():
    draws = Perturbed(["gravity", "force"], points=3, num_joint=4000, seed=3).perturbations[6:]
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.05
    assert draws.std() == pytest.approx(0.5 / np.sqrt(3), abs=0.01)
    assert np.abs(draws).max() <= 0.5


def test_it_is_recorded_and_written_as_it_is():
    test = Perturbed(["gravity", ("mass_pole", "mass_cart")], rho=0.3, points=7, num_joint=2, seed=9)
    assert from_data(to_data(test)) == test
    assert eval(repr(test), {"Perturbed": Perturbed}) == test
    assert hash(test) == hash(Perturbed(test.groups, 0.3, 7, 2, 9))
    assert jax.tree.leaves(test) == []
    assert Perturbed("force") == Perturbed(("force",)) == Perturbed([("force",)])


def asked(test):
    return max(test.num_worlds, 1)


REFUSED = [
    (Perturbed("half_lenght"), "CartPole has no quantity 'half_lenght': did you mean 'half_length'?"),
    (Perturbed(("force", "force+gravity")), "'force' is named twice"),
    (Perturbed(()), "names no quantity"),
    (Perturbed("force", rho=0.0), "rho = 0.0, but it is the largest relative change: at 0 nothing varies"),
    (Perturbed("force", rho=1.0), "rho = 1.0.* Give a rho between 0 and 1"),
    (Perturbed("force", rho=-0.5), "rho = -0.5"),
    (Perturbed("force", rho=float("nan")), "rho = nan"),
    (Perturbed("force", rho=(0.1, 0.2)), r"rho = \(0.1, 0.2\)"),
    (Perturbed("force", points=10), "points = 10, which leaves out the nominal world .* odd number, e.g. 11"),
    (Perturbed("force", points=1), "points = 1 is out of range"),
    (Perturbed("force", points=5.0), "points = 5.0 is not one whole number"),
    (Perturbed("force", num_joint=-1), "num_joint = -1 is out of range"),
    (Perturbed("force", seed=-1), "seed = -1 is out of range"),
]


@pytest.mark.parametrize(("test", "sentence"), REFUSED)
def test_what_cannot_be_simulated_is_refused(test, sentence):
    for method in (test.check, test.params):
        with pytest.raises(ValueError, match=sentence) as caught:
            method(CartPole(), asked(test))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [1, 31, 33])
def test_another_number_of_worlds_is_refused_with_the_right_one(number):
    test = Perturbed(["force", "gravity"], num_joint=10)
    sentence = (
        rf"Perturbed makes 32 worlds \(2 x 11 points and 10 joint\), but num_held_out is {number}: "
        "set evaluation.num_held_out to 32"
    )
    with pytest.raises(ValueError, match=sentence):
        test.check(CartPole(), number)
    test.check(CartPole(), 32)


def test_a_relative_change_of_nothing_is_refused():
    test = Perturbed("goal_velocity")
    with pytest.raises(ValueError, match="goal_velocity in proportion to its nominal value, but that is 0"):
        test.check(MountainCar(), test.num_worlds)


def test_a_body_that_is_invalid_is_refused():
    class Narrow(eqx.Module):
        mass: Quantity = quantity(1.0, "kg", low=0.6, high=1.6)

    environment, test = (
        SimpleNamespace(quantities=lambda: quantities(Narrow), check_worlds=lambda worlds: None),
        Perturbed("mass", rho=0.4),
    )
    test.check(environment, test.num_worlds)
    with pytest.raises(ValueError, match=r"mass = 0.5 kg .* must lie in \[0.6, 1.6\] kg\. Lower rho = 0.5"):
        Perturbed("mass").check(environment, 21)


def test_a_data_set_has_no_physics():
    with pytest.raises(ValueError, match="vary physics, but Dataset has none"):
        Perturbed("force").check(Dataset(source=Digits()), 21)


def test_an_experiment_takes_it_as_held_out_worlds(tiny):
    test = Perturbed(["half_length", "force"], points=3, num_joint=2)
    experiment = tiny(evaluation=Evaluation(every=2, held_out=test, num_held_out=test.num_worlds))
    experiment.check()
    assert from_data(to_data(experiment)).evaluation.held_out == test
    values, units = world_values(experiment)
    assert units == {"half_length": "m", "force": "N"}
    assert values["half_length"][:9] == [0.25, 0.5, 1.0, 0.25, 0.5, 0.75, 0.5, 0.5, 0.5]
    assert values["force"][3:9] == [10.0, 10.0, 10.0, 5.0, 10.0, 15.0]
    with pytest.raises(ValueError, match="Perturbed makes 8 worlds"):
        tiny(evaluation=Evaluation(every=2, held_out=test, num_held_out=7)).check()
