import dataclasses

import numpy as np
import pytest

from polyfed.agents import Distillation
from polyfed.environments import CartPole
from polyfed.environments.public_states import UniformStates
from polyfed.environments.state_file import FileStates
from polyfed.errors import DamagedError
from polyfed.exchange import Predictions
from polyfed.recipes import fedhpd
from polyfed.runs.kept_states import NAME, read_states, write_states

BUILDER = UniformStates(num=6, seed=3)


def test_states_are_written_once_and_come_back(tiny, tmp_path):
    experiment = fedhpd(dataclasses.replace(tiny(), payload=Predictions(BUILDER, Distillation(chunks=1))))
    write_states(tmp_path, experiment)
    np.testing.assert_array_equal(read_states(tmp_path), BUILDER.states(CartPole()))
    (tmp_path / NAME).chmod(0o400)
    before = (tmp_path / NAME).stat().st_mtime_ns
    write_states(tmp_path, experiment)  # as when a run is resumed
    assert (tmp_path / NAME).stat().st_mtime_ns == before
    np.testing.assert_array_equal(FileStates(str(tmp_path / NAME)).states(CartPole()), BUILDER.states(CartPole()))


def test_where_parameters_are_sent_there_are_none(tiny, tmp_path):
    write_states(tmp_path, tiny())
    assert not list(tmp_path.iterdir())
    assert read_states(tmp_path) is None


def test_a_file_that_was_edited_is_noticed(tiny, tmp_path):
    write_states(tmp_path, fedhpd(dataclasses.replace(tiny(), payload=Predictions(BUILDER, Distillation(chunks=1)))))
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:-3])
    with pytest.raises(DamagedError, match="was cut or edited"):
        read_states(tmp_path)
