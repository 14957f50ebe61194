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


def test_a_box_may_say_how_its_entries_are_laid_out():
    image = Box(low=(0.0,) * 6, high=(1.0,) * 6, shape=(2, 3))
    assert (image.size, image.shape, CartPole().observation_space.shape) == (6, (2, 3), None)
    assert image != Box(low=image.low, high=image.high)
