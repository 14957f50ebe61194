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
    Acrobot,
    CartPole,
    Explicit,
    Grid,
    MountainCar,
    Quantity,
    Uniform,
    quantities,
    quantity,
)

families = st.sampled_from(FAMILIES)
quick = settings(max_examples=40, deadline=None)


def evaluated(text):
    return eval(text, {"Explicit": Explicit, "Grid": Grid, "Uniform": Uniform})


@st.composite
def lists(draw, length=None):
    """A family, and for some of its quantities lists of values in their ranges."""
    environment = draw(families)
    known = quantities(environment.params_class)
    names = draw(st.lists(st.sampled_from(list(known)), unique=True, max_size=3))
    size = st.just(draw(st.integers(1, 5))) if length is None else length
    pairs = {}
    for name in names:
        n = draw(size)
        values = st.floats(known[name]["low"], known[name]["high"])
        pairs[name] = tuple(draw(st.lists(values, min_size=n, max_size=n)))
    return environment, pairs


def check_stack(variation, environment, num_clients):
    """What holds for every variation; returns its parameters."""
    params = variation.params(environment, num_clients)
    worlds = variation.worlds(environment, num_clients)
    for name, spec in quantities(environment.params_class).items():
        leaf = getattr(params, name)
        assert leaf.shape == (num_clients,)
        assert leaf.dtype == jnp.float32
        expected = worlds.get(name, np.full(num_clients, spec["default"]))
        np.testing.assert_array_equal(leaf, expected.astype(np.float32))
    assert evaluated(repr(variation)) == variation
    assert hash(evaluated(repr(variation))) == hash(variation)
    assert jax.tree.leaves(variation) == []
    return params


@given(lists())
@quick
def test_explicit_gives_what_is_written(drawn):
    environment, pairs = drawn
    num_clients = len(next(iter(pairs.values()))) if pairs else 3
    variation = Explicit(pairs)
    check_stack(variation, environment, num_clients)
    assert variation == Explicit(tuple(pairs.items()))
    assert list(variation.worlds(environment, num_clients)) == list(pairs)


@given(lists(length=st.integers(1, 3)))
@quick
def test_grid_is_the_product_in_the_order_of_nested_loops(drawn):
    environment, pairs = drawn
    rows = list(itertools.product(*pairs.values()))
    check_stack(Grid(pairs), environment, len(rows))
    worlds = Grid(pairs).worlds(environment, len(rows))
    assert [tuple(worlds[name][i] for name in pairs) for i in range(len(rows))] == rows


@given(
    families,
    st.integers(1, 6),
    st.floats(0, 0.4),
    st.integers(0, 2**32),
    st.randoms(use_true_random=False),
)
@quick
def test_uniform_moves_groups_together_within_rho(environment, num_clients, rho, seed, random):
    known = quantities(environment.params_class)
    names = [name for name in known if known[name]["default"] != 0]
    random.shuffle(names)
    groups = (tuple(names[:2]), names[2])
    variation = Uniform(groups, rho=rho, seed=seed)
    check_stack(variation, environment, num_clients)
    worlds = variation.worlds(environment, num_clients)
    x = {name: worlds[name] / known[name]["default"] - 1 for name in worlds}
    assert all(np.all(abs(change) <= rho + 1e-12) for change in x.values())
    np.testing.assert_allclose(x[names[0]], x[names[1]], atol=1e-12)
    more = variation.worlds(environment, num_clients + 3)
    for name in worlds:
        np.testing.assert_array_equal(worlds[name], more[name][:num_clients])


def test_uniform_draws_are_numpys_and_uniform():
    worlds = Uniform("half_length", rho=0.5, seed=7).worlds(CartPole(), 4000)
    expected = 0.5 * (1 + np.random.default_rng(7).uniform(-0.5, 0.5, (4000, 1))[:, 0])
    np.testing.assert_array_equal(worlds["half_length"], expected)
    assert worlds["half_length"].mean() == pytest.approx(0.5, abs=0.01)
    assert worlds["half_length"].std() == pytest.approx(0.5 / np.sqrt(12), abs=0.01)
    other = Uniform("half_length", rho=0.5, seed=8).worlds(CartPole(), 4000)
    assert not np.array_equal(other["half_length"], worlds["half_length"])


def test_two_groups_are_independent():
    worlds = Uniform(("half_length", "force"), rho=0.5).worlds(CartPole(), 4000)
    assert abs(np.corrcoef(worlds["half_length"], worlds["force"])[0, 1]) < 0.05


def test_groups_can_be_written_in_three_ways():
    one = Uniform(("half_length", ("mass_pole", "mass_cart")))
    assert one == Uniform([("half_length",), ["mass_pole", "mass_cart"]]) == Uniform(("half_length", one.groups[1]))
    assert Uniform("force") == Uniform(("force",))


def test_derived_quantities_follow_a_draw():
    params = Uniform((("mass_pole", "mass_cart"),), seed=2).params(CartPole(), 5)
    np.testing.assert_allclose(params.total_mass, 11 * params.mass_pole, rtol=1e-6)


REFUSED = [
    (Explicit({"half_lenght": (0.5,)}), 1, "CartPole has no quantity 'half_lenght': did you mean 'half_length'?"),
    (Grid({"colour": (0.5,)}), 1, "no quantity 'colour': choose among gravity, mass_cart"),
    (Uniform("masspole"), 2, "did you mean 'mass_pole'?"),
    (Explicit({"force": (1.0, 2.0)}), 3, "gives 2 values of force to 3 clients.* Give 3 values"),
    (Explicit({"force": ()}), 1, "gives 0 values of force"),
    (Grid({"force": (1, 2), "gravity": (1, 2, 3)}), 5, r"Grid makes 6 worlds \(2 force x 3 gravity\) for 5 clients"),
    (Grid(), 2, "Grid makes 1 worlds"),
    (Explicit({"half_length": (0.5, -0.5)}), 2, r"half_length = -0.5 m at client 1 .* must lie in \[0.001, 100\] m"),
    (Grid({"half_length": (0.5, 1e9)}), 2, r"half_length = 1e\+09 m .* Change it in Grid"),
    (Explicit({"force": (float("nan"),)}), 1, "force = nan N"),
    (Explicit({"gravity": (float("inf"),)}), 1, "gravity = inf m/s"),
    (Uniform("force", rho=-0.1), 2, r"rho = -0.1.*\[0, 1\)"),
    (Uniform("force", rho=1.0), 2, r"rho = 1, .*\[0, 1\)"),
    (Uniform("force", rho=float("nan")), 2, "rho = nan"),
    (Uniform(("force", "force+gravity")), 2, "'force' is named twice"),
    (Uniform((("force", "force"),)), 2, "'force' is named twice"),
    (Explicit((("force", (1.0,)), ("force", (2.0,)))), 1, "'force' is named twice"),
    (Uniform(()), 2, "names no quantity"),
    (Uniform("force", seed=-1), 2, "seed = -1"),
    (Explicit(), 0, "asked for 0 worlds"),
]


@pytest.mark.parametrize(("variation", "num_clients", "sentence"), REFUSED)
def test_what_cannot_be_simulated_is_refused(variation, num_clients, sentence):
    with pytest.raises(ValueError, match=sentence):
        variation.check(CartPole(), num_clients)
    with pytest.raises(ValueError, match=sentence):
        variation.params(CartPole(), num_clients)


@pytest.mark.parametrize(("environment", "name"), [(MountainCar(), "goal_velocity"), (Acrobot(), "torque_noise")])
def test_a_relative_change_of_nothing_is_refused(environment, name):
    with pytest.raises(ValueError, match=f"{name} in proportion to its nominal value, but that is 0"):
        Uniform(name).check(environment, 2)


def test_a_draw_outside_the_range_is_refused():
    class Narrow(eqx.Module):
        mass: Quantity = quantity(1.0, "kg", low=0.9, high=1.1)

    environment = SimpleNamespace(quantities=lambda: quantities(Narrow), check_worlds=lambda worlds: None)
    Uniform("mass", rho=0.1).check(environment, 100)
    with pytest.raises(ValueError, match=r"mass = .* kg at client .* must lie in \[0.9, 1.1\] kg\. Lower rho = 0.2"):
        Uniform("mass", rho=0.2).check(environment, 100)
