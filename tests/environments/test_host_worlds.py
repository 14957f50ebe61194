import importlib.util

import pytest

from polyfed.environments.host_worlds import make, make_world
from polyfed.errors import MissingExtraError

REFUSALS = {
    "no such id": ("CartPole-v7", {}, "did you mean"),
    "id of a package": ("sumo-rl-v0", {}, r'pip install "polyfed\[traffic\]"\); give sumo_rl:sumo-rl-v0, and allow'),
    "imports code": ("some_module:Env-v0", {}, "would import some_module, and so run its code"),
    "no such attribute": ("CartPole-v1", {"nose": 1.0}, "has no attribute 'nose'"),
    "out of range": ("Hopper-v5", {"gravity": 50.0}, r"it must lie in \[0, 30\] m/s\^2"),
    "no number": ("Hopper-v5", {"friction": float("nan")}, "friction = nan"),
    "not set yet": ("CartPole-v1", {"state": 1.0}, "is no number that can be changed"),
}


@pytest.mark.parametrize(("id_", "values", "words"), REFUSALS.values(), ids=REFUSALS)
def test_refuses_in_a_sentence(id_, values, words):
    with pytest.raises(ValueError, match=words):
        make_world(id_, values)


def test_an_argument_that_the_constructor_does_not_take_is_refused():
    with pytest.raises(ValueError, match="refuses its arguments"):
        make("CartPole-v1", spin=3)


def test_an_argument_of_the_constructor_is_a_quantity():
    env = make_world("Hopper-v5", {"kwargs.ctrl_cost_weight": 0.5})
    assert env.unwrapped._ctrl_cost_weight == 0.5


def test_a_module_is_imported_where_that_is_allowed():
    assert make("gymnasium.envs:CartPole-v1", modules=True).spec.id == "CartPole-v1"


@pytest.mark.skipif(importlib.util.find_spec("minigrid") is not None, reason="minigrid is installed")
def test_a_missing_module_names_its_extra():
    with pytest.raises(MissingExtraError, match=r'needs the package minigrid, .* pip install "polyfed\[maze\]"'):
        make("minigrid:MiniGrid-Empty-5x5-v0", modules=True)


@pytest.mark.skipif(importlib.util.find_spec("Box2D") is not None, reason="Box2D is installed")
def test_a_missing_simulator_names_its_extra():
    with pytest.raises(MissingExtraError, match=r'pip install "polyfed\[box2d\]"'):
        make("LunarLander-v3")


def test_a_path_to_several_numbers_sets_all_of_them_whatever_the_first_was():
    first = make("Hopper-v5").unwrapped.model.dof_damping
    env = make_world("Hopper-v5", {"model.dof_damping[*]": float(first[0])})
    assert set(env.unwrapped.model.dof_damping.tolist()) == {float(first[0])}
    assert len(set(first.tolist())) > 1


def test_one_quantity_is_not_given_twice():
    with pytest.raises(ValueError, match=r"got both kwargs.frame_skip = 2 and the argument frame_skip = 4"):
        make_world("Hopper-v5", {"kwargs.frame_skip": 2.0}, frame_skip=4)
