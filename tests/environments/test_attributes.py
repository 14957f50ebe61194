import types

import numpy as np
import pytest

from polyfed.environments.attributes import read, write


class Derived:
    """An environment some of whose numbers follow from others."""

    def __init__(self):
        self.length, self.name, self.empty = 0.5, "pole", None
        self.model = types.SimpleNamespace(gravity=np.array([0.0, 0.0, -9.81]), friction=np.ones((2, 3)))

    @property
    def moment(self):
        return 2 * self.length

    @property
    def stubborn(self):
        return 1.0

    @stubborn.setter
    def stubborn(self, value):
        pass


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("length", 2.0, [2.0]),
        ("model.gravity[2]", -3.7, [-3.7]),
        ("model.gravity[*]", 1.0, [1.0] * 3),
        ("model.gravity", 2.0, [2.0] * 3),
        ("model.friction[*,0]", 0.25, [0.25] * 2),
        ("model.friction[1, 2]", 4.0, [4.0]),
    ],
)
def test_what_is_written_is_read_and_nothing_else_moves(path, value, found):
    env, untouched = Derived(), Derived()
    write(env, path, value)
    assert np.ravel(read(env, path)).tolist() == found
    write(untouched, path, read(untouched, path))
    for name in ("length", "model.gravity", "model.friction"):
        np.testing.assert_array_equal(read(untouched, name), read(Derived(), name))
    changed = sum(np.sum(read(env, n) != read(Derived(), n)) for n in ("length", "model.gravity", "model.friction"))
    assert changed == len(found)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nose", "has no attribute 'nose'"),
        ("model.nose", "SimpleNamespace has no 'nose'"),
        ("__class__", "is no path"),
        ("length; import os", "is no path"),
        ("model.gravity[1:2]", "is no path"),
        ("model.gravity[-]", "is no index"),
        ("model.gravity[7]", "is no number that can be changed"),
        ("name", "is no number that can be changed"),
        ("empty", "is no number that can be changed"),
        ("moment", "cannot be set"),
        ("stubborn", "is 1 after it was set to 3: something derives it"),
    ],
)
def test_refuses_in_a_sentence_what_cannot_be_set(path, words):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        write(Derived(), path, 3.0)
    assert words in str(error.value)
