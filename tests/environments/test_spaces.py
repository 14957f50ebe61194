import math

from polyfed.environments import Box, CartPole, Discrete, Pendulum


def test_a_box_knows_its_size_and_whether_it_is_bounded():
    assert Box(low=(-1.0, 0.0), high=(1.0, 2.0)).size == 2
    assert Box(low=(-1.0,), high=(1.0,)).bounded
    assert not Box(low=(-math.inf,), high=(1.0,)).bounded
    assert not CartPole().observation_space.bounded
    assert Pendulum().action_space.bounded


def test_spaces_are_values():
    assert hash(Box(low=(-1.0,), high=(1.0,))) == hash(Box(low=(-1.0,), high=(1.0,)))
    assert Discrete(2) != Discrete(3)
