"""What is typed at a command line, as values: seeds, numbers per client, worlds, splits, transforms."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from polyfed.environments import SPLITS
from polyfed.exchange import TRANSFORMS
from polyfed.naming import did_you_mean


def seeds(text: str, option: str = "--seeds") -> tuple[int, ...]:
    """Seeds, or other integers from 0 on, and ranges of them.

    >>> seeds("0-3,7")
    (0, 1, 2, 3, 7)
    """
    found: list[int] = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", piece)
        if not match:
            raise ValueError(
                f"{option} {text} cannot be read at {piece!r}: give integers and ranges, e.g. 0-9 or 0,3,7."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first > 10_000:
            raise ValueError(f"{option} {text} has a range of no or too many numbers, {piece!r}: give e.g. 0-9.")
        found.extend(range(first, last + 1))
    return tuple(found)


def numbers(text: str, kind: type) -> Any:
    """One number, or one per client separated by commas.

    >>> numbers("1e-3,5e-4", float)
    (0.001, 0.0005)
    """
    try:
        values = tuple(kind(piece) for piece in text.split(","))
    except ValueError:
        example = "10, or one per client, 10,20,30" if kind is int else "1e-3, or one per client, 1e-3,5e-4,1e-3"
        raise ValueError(f"{text!r} is not a{' whole' * (kind is int)} number, give e.g. {example}") from None
    return values[0] if len(values) == 1 else values


def world_values(texts: list[str]) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Quantities and their values.

    >>> world_values(["half_length=0.25,0.5", "force=5,10"])
    (('half_length', (0.25, 0.5)), ('force', (5.0, 10.0)))
    """
    pairs = []
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} names no values: write e.g. half_length=0.25,0.5,1.0.")
        try:
            levels = tuple(float(value) for value in values.split(","))
        except ValueError:
            raise ValueError(f"{text!r} is not a list of numbers: write e.g. half_length=0.25,0.5,1.0.") from None
        pairs.append((name.strip().replace("-", "_"), levels))
    return tuple(pairs)


def transform(text: str) -> Any:
    """A transform by its name, with its fields after a colon.

    >>> transform("clip-norm:max_norm=0.5")
    ClipNorm(max_norm=0.5)
    """
    return _part(text, "transform", TRANSFORMS)


def split(text: str) -> Any:
    """A split of a data set by its name, with its fields after a colon.

    >>> split("dirichlet:alpha=0.1,seed=3")
    Dirichlet(alpha=0.1, seed=3)
    """
    return _part(text, "split", SPLITS)


def _part(text: str, kind: str, parts: tuple[Any, ...]) -> Any:
    name, _, rest = text.partition(":")
    known: dict[str, Any] = {kebab(type(part).__name__): part for part in parts}
    if name not in known:
        raise ValueError(f"There is no {kind} {name!r}: {did_you_mean(name, known)}")
    part = known[name]
    fields: dict[str, Any] = {}
    for field in filter(None, rest.split(",")):
        key, _, value = field.partition("=")
        key = key.replace("-", "_")
        names = [f.name for f in dataclasses.fields(part)]
        if key not in names:
            raise ValueError(f"{name} has no field {key!r}: {did_you_mean(key, names) if names else 'it has none.'}")
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"{field!r} of {name} is not a number: write e.g. {name}:{key}=0.5.") from None
        whole = isinstance(getattr(part, key), int) and number.is_integer()
        fields[key] = int(number) if whole else number
    return dataclasses.replace(part, **fields)


def kebab(name: str) -> str:
    """`ClipNorm` as it is typed.

    >>> kebab("ClipNorm")
    'clip-norm'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
