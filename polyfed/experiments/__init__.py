"""Experiments by name, one file each: `cartpole-poles` is `cartpole_poles.py` with a value `EXPERIMENT`.

A file with a value `STUDY` is a study instead: it is run, listed and reported by the same commands.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from polyfed.naming import did_you_mean

if TYPE_CHECKING:
    from polyfed.experiment import Experiment
    from polyfed.study import Study


def titles() -> dict[str, str]:
    """Every experiment's name and the first line of its docstring, without importing any.

    >>> "cartpole-poles" in titles()
    True
    """
    return _titles("EXPERIMENT")


def studies() -> dict[str, str]:
    """Every study's name and the first line of its docstring, without importing any.

    >>> "tabular-qavg" in studies()
    True
    """
    return _titles("STUDY")


def _titles(value: str) -> dict[str, str]:
    files = sorted(p for p in Path(__file__).parent.glob("*.py") if not p.name.startswith("_"))
    trees = {p.stem.replace("_", "-"): ast.parse(p.read_text()) for p in files}
    return {
        name: (ast.get_docstring(tree) or "").partition("\n")[0]
        for name, tree in trees.items()
        if value in _assigned(tree)
    }


def _assigned(tree: ast.Module) -> set[str]:
    """Names to which a module assigns at its top level."""
    plain = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    typed = [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return {target.id for target in [*plain, *typed] if isinstance(target, ast.Name)}


def load(name: str) -> Experiment:
    """The experiment of that name; raises `ValueError` if there is none.

    >>> load("cartpole-pols")
    Traceback (most recent call last):
    ValueError: There is no experiment 'cartpole-pols': did you mean 'cartpole-poles'?
    """
    if name not in titles():
        raise ValueError(f"There is no experiment {name!r}: {did_you_mean(name, {**titles(), **studies()})}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}").EXPERIMENT


def load_study(name: str) -> Study:
    """The study of that name; raises `ValueError` if there is none.

    >>> load_study("tabular-qavg").name
    'tabular-qavg'
    """
    if name not in studies():
        raise ValueError(f"There is no study {name!r}: {did_you_mean(name, studies())}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}").STUDY


def load_file(path: Path) -> Experiment | Study:
    """The `EXPERIMENT` or `STUDY` of a user's Python file, which is run as such a file is: with all that it may do.

    Raises:
      ValueError: There is no such file, or it defines neither.
    """
    from polyfed.experiment import Experiment
    from polyfed.study import Study

    if not path.is_file():
        raise ValueError(f"There is no file {path}: give a Python file, or a name from `polyfed list`.")
    spec = importlib.util.spec_from_file_location(f"file_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where the fields of a class of its own are looked up
    spec.loader.exec_module(module)
    if isinstance(study := getattr(module, "STUDY", None), Study):
        return study
    found = getattr(module, "EXPERIMENT", None)
    if not isinstance(found, Experiment):
        raise ValueError(
            f"{path} defines no EXPERIMENT of type polyfed.experiment.Experiment, and no STUDY of type "
            "polyfed.study.Study: assign one to that name."
        )
    return found
