"""The public states of an arm in its folder: written once, so that nobody who looks at a run has to make them again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from polyfed.errors import DamagedError
from polyfed.experiment import Experiment
from polyfed.runs.checkpoint import write_arrays
from polyfed.simulation.simulate import public_states

NAME = "public_states.safetensors"


def write_states(arm: Path, experiment: Experiment) -> None:
    """Write the states on which an arm's clients predict, unless they are there; nothing where there are none.

    Args:
      arm: The arm's folder.
      experiment: The arm's.
    """
    states = public_states(experiment)
    if np.size(states) and not (arm / NAME).is_file():
        write_arrays(arm / NAME, {"states": states})


def read_states(arm: Path) -> np.ndarray | None:
    """`[M, D]` as they were written; None where there are none.

    Raises:
      DamagedError: The file was cut or edited.
    """
    path = arm / NAME
    if not path.is_file():
        return None
    try:
        states = load(path.read_bytes())["states"]
    except (OSError, SafetensorError, KeyError) as error:
        raise DamagedError(f"{path} cannot be read: it was cut or edited.") from error
    if states.ndim != 2 or not states.size or not np.isfinite(states).all():
        raise DamagedError(f"{path} does not hold states, one per row: it was edited.")
    return states
