"""The optimum of a run's evaluation episodes in its folder: looked for once, since that may take long."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np

from polyfed.environments.episodes import episode_keys
from polyfed.errors import DamagedError
from polyfed.evaluation.yardstick import Say, Yardstick, yardstick
from polyfed.experiment import Experiment
from polyfed.record import digest
from polyfed.runs.files import write_json
from polyfed.simulation.worlds import course, evaluation_worlds, seeds_of_fleets

NAME = "optimum.json"


def write_yardstick(folder: Path, experiment: Experiment, seeds: tuple[int, ...], say: Say | None = None) -> None:
    """Write the optimum and the known rules of the evaluation episodes, unless they are there.

    Nothing is written where the environment knows no optimum, or where worlds move: each evaluation would have its
    own. The episodes are those of all arms, which share worlds and evaluation.

    Args:
      folder: The run folder.
      experiment: The run's.
      seeds: The run's.
      say: Told in a sentence how long it takes, where it takes long.
    """
    environment, evaluation = experiment.environment, experiment.evaluation
    if not environment.floor or experiment.schedule.stations or (folder / NAME).is_file():
        return
    fleets = [course(experiment, seed).params for seed in seeds_of_fleets(experiment, seeds)]
    judged = [evaluation_worlds(experiment, fleet) for fleet in fleets]
    keys = episode_keys(jax.random.key(evaluation.seed), evaluation.episodes)
    found = yardstick(environment, judged, keys, say)
    body = {
        "floor": found.floor,
        "optimum": found.optimum.tolist(),
        "baselines": {name: row.tolist() for name, row in found.baselines.items()},
    }
    write_json(folder / NAME, {**body, "optimum_sha256": digest(body)})


def read_yardstick(folder: Path) -> Yardstick | None:
    """What was written; None where there is nothing, as in folders of older versions.

    Raises:
      DamagedError: The file was cut or edited.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text())
        whole = data.pop("optimum_sha256") == digest(data)
        baselines = {name: np.array(rows, float) for name, rows in data["baselines"].items()}
        found = Yardstick(data["floor"], np.array(data["optimum"], float), baselines)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path} cannot be read: it was cut or edited.") from error
    if not whole:
        raise DamagedError(f"{path} was edited: its checksum is not the recorded one.")
    return found
