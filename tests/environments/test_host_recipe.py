import dataclasses
import json

import pytest

from polyfed.environments import CartPole
from polyfed.environments.host_recipe import Recipe, facts, family_of, known_quantities, make_live
from polyfed.environments.spaces import Discrete


def test_arguments_are_plain_values_or_text():
    recipe = Recipe("FrozenLake-v1", ("map_name=8x8", "is_slippery=False", "success_rate=0.5"))
    assert recipe.keywords == {"map_name": "8x8", "is_slippery": False, "success_rate": 0.5}
    with pytest.raises(ValueError, match="'slippery' is no argument of an environment: give name=value"):
        _ = Recipe("FrozenLake-v1", ("slippery",)).keywords


def test_it_survives_being_written_down():
    recipe = Recipe("CartPole-v1", wrappers=("ClipReward(max_reward=1)",), varied=("length",), time_limit=9)
    assert Recipe.read(json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


def test_an_environment_of_a_family_of_ours_has_the_familys_quantities_and_derives_what_depends_on_them():
    assert isinstance(family_of("CartPole-v1"), CartPole)
    assert family_of("LunarLander-v3") is None
    assert known_quantities(Recipe("CartPole-v1")) == CartPole().quantities()
    env = make_live(Recipe("CartPole-v1"), {"mass_pole": 0.5, "half_length": 1.0})
    assert (env.unwrapped.total_mass, env.unwrapped.polemass_length) == (1.5, 0.5)


def test_paths_stand_beside_names_with_what_they_are_now():
    known = known_quantities(Recipe("CartPole-v1", varied=("theta_threshold_radians",)))
    assert list(known)[-1] == "theta_threshold_radians"
    assert known["theta_threshold_radians"]["default"] == pytest.approx(0.2094395)
    with pytest.raises(ValueError, match="no attribute 'wind'"):
        known_quantities(Recipe("CartPole-v1", varied=("wind",)))


def test_wrappers_are_put_around_from_the_inside():
    around = "RescaleAction(min_action=-1, max_action=1)", "ClipReward(min_reward=-1)"
    env = make_live(Recipe("Pendulum-v1", wrappers=around), {})
    assert env.action_space.high.tolist() == [1.0]
    assert type(env).__name__ == "ClipReward"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ClipRewards", r"no wrapper 'ClipRewards': did you mean 'ClipReward'\?"),
        ("ClipReward(1)", "is no wrapper: give Name or Name"),
        ("import os", "is no wrapper: give Name or Name"),
        ("ClipReward(max_reward=open('x'))", "is no wrapper: give Name or Name"),
        ("RescaleAction(min_action=0)", "does not fit around"),
    ],
)
def test_what_is_no_wrapper_is_refused_and_never_run(text, said):
    with pytest.raises(ValueError, match=said):
        make_live(Recipe("Pendulum-v1", wrappers=(text,)), {})


def test_facts_are_spaces_limit_and_quantities():
    known = facts(Recipe("FrozenLake-v1", time_limit=7))
    assert (known.max_steps, known.taken.space, known.seen.space.size, known.quantities) == (7, Discrete(4), 16, {})
    with pytest.raises(ValueError, match="did you mean 'CartPole-v1'"):
        facts(Recipe("CartPole-v2"))


def test_an_environment_without_a_time_limit_needs_one():
    import gymnasium

    gymnasium.register("Endless-v0", entry_point="gymnasium.envs.classic_control.cartpole:CartPoleEnv")
    try:
        with pytest.raises(ValueError, match="Endless-v0 has no time limit, so an episode need not end"):
            facts(Recipe("Endless-v0"))
        assert facts(Recipe("Endless-v0", time_limit=3)).max_steps == 3
    finally:
        del gymnasium.registry["Endless-v0"]
