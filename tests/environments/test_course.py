import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments.course import Course

POINTS = {3: (jnp.float32([1.0, 0.1]), jnp.int32(4)), 7: (jnp.float32([3.0, 0.1]), jnp.int32(9))}


def test_it_is_at_its_stations_to_the_last_bit_and_stays_before_and_after():
    course = Course.through(POINTS)
    for round_, station in ((0, 3), (3, 3), (7, 7), (100, 7)):
        for found in (course.at(round_), jax.jit(lambda c, r: c.at(r))(course, jnp.int32(round_))):
            np.testing.assert_array_equal(found[0], POINTS[station][0])


@pytest.mark.parametrize("round_", range(3, 8))
def test_it_goes_in_equal_steps_and_what_is_whole_jumps_at_the_end(round_):
    values, whole = Course.through(POINTS).at(round_)
    np.testing.assert_allclose(values, [1.0 + (round_ - 3) / 2, 0.1], rtol=1e-6)
    assert int(whole) == (9 if round_ == 7 else 4)
    assert whole.dtype == jnp.int32


def test_without_moves_it_is_what_was_given():
    worlds = jnp.arange(3.0)
    course = Course(worlds)
    assert course.at(5) is worlds  # so a run without a schedule is the program that it was
    assert course.rounds == ()
    assert jax.tree.leaves(course) == [worlds]


def test_what_picks_worlds_picks_of_a_course():
    course = Course.through({0: jnp.arange(3.0), 4: jnp.arange(3.0) * 5})
    one = jax.tree.map(lambda x: x[2], course)
    assert [float(one.at(r)) for r in (0, 2, 4)] == [2.0, 6.0, 10.0]
    assert course.rounds == (0, 4)
