import numpy as np
import pytest
from gymnasium import spaces

from polyfed.environments import Box, Discrete
from polyfed.environments.host_spaces import actions, observations

OBSERVATIONS = {
    "box": spaces.Box(-1.0, 1.0, (2, 3)),
    "doubles": spaces.Box(-1.0, 1.0, (4,), np.float64),
    "choice": spaces.Discrete(5, start=-2),
    "choices": spaces.MultiDiscrete([2, 3]),
    "flags": spaces.MultiBinary(4),
    "tuple": spaces.Tuple((spaces.Discrete(2), spaces.Box(0.0, 1.0, (2,)))),
    "dict": spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Dict({"x": spaces.Box(0.0, 1.0, (2,))})}),
    "image": spaces.Box(0, 255, (4, 5, 3), np.uint8),
}
ACTIONS = {
    "choice": spaces.Discrete(3, start=-1),
    "choices": spaces.MultiDiscrete([2, 3], start=[1, 0]),
    "tuple": spaces.Tuple((spaces.Discrete(2, start=4), spaces.Discrete(3))),
}


@pytest.mark.parametrize("space", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_observations_are_finite_vectors_inside_their_box(space):
    space.seed(0)
    read = observations(space)
    low, high = np.asarray(read.space.low), np.asarray(read.space.high)
    seen = [read.flatten(space.sample()) for _ in range(20)]
    for one in seen:
        assert one.dtype == np.float32
        assert one.shape == (read.space.size,)
        assert np.all((low <= one) & (one <= high))
    assert len({one.tobytes() for one in seen}) > 1


def test_an_image_keeps_its_rows_columns_and_channels():
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    read = observations(OBSERVATIONS["image"])
    assert read.space.shape == (4, 5, 3)
    np.testing.assert_allclose(read.flatten(image).reshape(4, 5, 3) * 255, image, atol=1e-4)


@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
def test_every_choice_is_another_action_of_the_space(space):
    made = actions(space)
    assert isinstance(made.space, Discrete)
    taken = [made.take(np.array([i], np.float32)) for i in range(made.space.n)]
    assert all(space.contains(action) for action in taken)
    assert len({str(action) for action in taken}) == made.space.n == {"Discrete": 3}.get(type(space).__name__, 6)


def test_vectors_are_clipped_to_their_bounds():
    made = actions(spaces.Box(-1.0, 2.0, (1, 2)))
    assert made.space == Box(low=(-1.0, -1.0), high=(2.0, 2.0))
    assert made.take(np.array([-5.0, 5.0], np.float32)).tolist() == [[-1.0, 2.0]]


@pytest.mark.parametrize(
    ("ask", "space", "words"),
    [
        (observations, spaces.Sequence(spaces.Discrete(2)), "no fixed number of entries"),
        (observations, spaces.Graph(spaces.Box(-1.0, 1.0, (2,)), None), "no fixed number of entries"),
        (actions, spaces.MultiDiscrete([200, 200]), "40000 combinations"),
        (actions, spaces.MultiBinary(3), "neither one choice"),
    ],
    ids=["sequence", "graph", "many choices", "flags"],
)
def test_refuses_in_a_sentence_what_no_network_reads_or_gives(ask, space, words):
    with pytest.raises(ValueError, match=words):
        ask(space)


def test_frames_and_channels_that_come_first_become_the_last():
    rng = np.random.default_rng(0)
    for shape, laid in [((4, 7, 6), (7, 6, 4)), ((2, 7, 6, 3), (7, 6, 6))]:
        read, frames = observations(spaces.Box(0, 255, shape, np.uint8)), rng.integers(0, 256, shape, np.uint8)
        assert read.space.shape == laid
        picture = read.flatten(frames).reshape(laid)
        np.testing.assert_allclose(picture[3, 2], frames[:, 3, 2].T.ravel() / 255, rtol=1e-6)


def test_pictures_of_numbers_are_scaled_and_other_boxes_are_not():
    read = observations(spaces.Box(-1.0, 3.0, (5, 4, 3)))
    assert read.space.shape == (5, 4, 3)
    assert (min(read.space.low), max(read.space.high)) == (0.0, 1.0)
    assert read.flatten(np.full((5, 4, 3), 1.0, np.float32)).tolist() == [0.5] * 60
    assert observations(spaces.Box(-np.inf, np.inf, (5, 4, 3))).space.shape is None
    assert observations(spaces.Box(-1.0, 3.0, (5, 4))).space.shape is None
