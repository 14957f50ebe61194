"""Public states that somebody brings in a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import equinox as eqx
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from polyfed.environments.state_checks import check_states
from polyfed.environments.world import World

SUFFIXES = (".npy", ".safetensors", ".csv")


class FileStates(eqx.Module):
    """States that you bring: `[M, D]` in a `.npy`, `.safetensors` (one array) or `.csv` file (commas, header or not).

    >>> import tempfile
    >>> from polyfed.environments import CartPole
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/states.npy", np.zeros((10, 4)))
    ...     FileStates(f"{folder}/states.npy").states(CartPole()).shape
    (10, 4)
    """

    path: str = eqx.field(static=True)  # of the file; relative to where the program is started

    @property
    def describe(self) -> str:
        """One line."""
        return f"states from {self.path}"

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if the file cannot be read, or holds no states of the environment."""
        self.states(environment)

    def states(self, environment: World) -> np.ndarray:
        """Float32 `[M, D]`, in the order of the file."""
        read = _read(self._file())
        if read.dtype.kind not in "biuf":
            raise ValueError(f"{self.path} holds {read.dtype}, but states are numbers: save them as float32.")
        check_states(read.shape, environment)
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
            states = read.astype(np.float32)
        if not np.isfinite(states).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(states))[0])
            raise ValueError(
                f"{self.path} holds {states[row, column]} in row {row}, column {column}, on which nobody can predict: "
                "leave out such rows."
            )
        return states

    def fingerprint(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self._file().read_bytes()).hexdigest()

    def _file(self) -> Path:
        file = Path(self.path).expanduser()
        if file.suffix not in SUFFIXES:
            raise ValueError(f"{self.path} is none of the files that hold states: give one of {', '.join(SUFFIXES)}.")
        if not file.is_file():
            raise ValueError(f"{self.path} is not there: give the path of a file of states, [M, D].")
        return file


def _read(file: Path) -> np.ndarray:
    """The one array in a file."""
    try:
        if file.suffix == ".npy":
            return np.load(file, allow_pickle=False)
        if file.suffix == ".csv":
            return _read_csv(file)
        arrays = load(file.read_bytes())
    except (ValueError, EOFError, SafetensorError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"{file} cannot be read ({reason}): give an array of numbers, [M, D].") from error
    if len(arrays) != 1:
        raise ValueError(f"{file} holds {len(arrays)} arrays ({', '.join(sorted(arrays))}): keep the states alone.")
    return next(iter(arrays.values()))


def _read_csv(file: Path) -> np.ndarray:
    """Rows of numbers between commas; a first row of words is a header."""
    rows = [line for line in file.read_text().splitlines() if line.strip()]
    if rows and not _numbers(rows[0]):
        rows = rows[1:]
    return np.loadtxt(rows, delimiter=",", ndmin=2, dtype=np.float64) if rows else np.zeros((0, 0))


def _numbers(row: str) -> bool:
    try:
        return bool([float(cell) for cell in row.split(",")])
    except ValueError:
        return False
