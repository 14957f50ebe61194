"""What a site takes from a server: an experiment made of parts of polyfed that reach for nothing else at the site."""

from __future__ import annotations

import dataclasses
from typing import Any

from polyfed.agents.foreign import Foreign
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.leaves import is_part


def check_trusted(part: Any) -> None:
    """Raise `ValueError` where an experiment from the network would run code, or read files, of another's choice.

    >>> from polyfed.experiments import load
    >>> check_trusted(load("cartpole-poles"))
    >>> check_trusted(Gymnasium("module:Env-v0"))
    Traceback (most recent call last):
    ValueError: The server's experiment names the environment 'module:Env-v0', which imports code at this site: give \
the experiment to `polyfed join` yourself, if you trust it.
    """
    trust = "give the experiment to `polyfed join` yourself, if you trust it"
    if isinstance(part, Foreign):
        raise ValueError(f"The server's experiment has an agent made elsewhere ({type(part).__name__}): {trust}.")
    if isinstance(part, Gymnasium):
        if ":" in part.id:
            raise ValueError(
                f"The server's experiment names the environment {part.id!r}, which imports code at this site: {trust}."
            )
        if part.modules or part.wrappers or part.arguments:
            raise ValueError(f"The server's experiment gives {part.id} arguments, wrappers or modules: {trust}.")
    if isinstance(part, tuple):
        for each in part:
            check_trusted(each)
    if is_part(part):
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if isinstance(value, str) and field.name in ("folder", "path"):
                raise ValueError(f"The server's experiment names a path, {field.name} = {value!r}: {trust}.")
            check_trusted(value)
