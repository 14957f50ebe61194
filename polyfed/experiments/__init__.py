"""Experiments by name, one file each: `cartpole-poles` is `cartpole_poles.py` with a value `EXPERIMENT`."""

from __future__ import annotations

import ast
import importlib
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

from polyfed.naming import did_you_mean

if TYPE_CHECKING:
    from polyfed.experiment import Experiment


def titles() -> dict[str, str]:
    """Every experiment's name and the first line of its docstring, without importing any.

    >>> "cartpole-poles" in titles()
    True
    """
    files = sorted(p for p in Path(__file__).parent.glob("*.py") if not p.name.startswith("_"))
    docs = {p.stem.replace("_", "-"): ast.get_docstring(ast.parse(p.read_text())) or "" for p in files}
    return {name: doc.partition("\n")[0] for name, doc in docs.items()}


def load(name: str) -> Experiment:
    """The experiment of that name; raises `ValueError` if there is none.

    >>> load("cartpole-pols")
    Traceback (most recent call last):
    ValueError: There is no experiment 'cartpole-pols': did you mean 'cartpole-poles'?
    """
    if name not in titles():
        raise ValueError(f"There is no experiment {name!r}: {did_you_mean(name, titles())}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}").EXPERIMENT


def load_file(path: Path) -> Experiment:
    """The `EXPERIMENT` of a user's Python file, which is run as such a file is: with all that it may do.

    Raises:
      ValueError: There is no such file, or it defines no `EXPERIMENT`.
    """
    from polyfed.experiment import Experiment

    if not path.is_file():
        raise ValueError(f"There is no file {path}: give a Python file, or a name from `polyfed list`.")
    found = runpy.run_path(str(path)).get("EXPERIMENT")
    if not isinstance(found, Experiment):
        raise ValueError(
            f"{path} defines no EXPERIMENT of type polyfed.experiment.Experiment: assign one to that name."
        )
    return found
