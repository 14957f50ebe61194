from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from polyfed.environments import Dirichlet, EqualSplit, LabelShards
from polyfed.exchange import TRANSFORMS, ClipNorm, HalfPrecision, LoseMessages
from polyfed.record import from_data, to_data
from polyfed.typed import kebab, numbers, seeds, split, transform, world_values


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", (0,)),
        ("0-3", (0, 1, 2, 3)),
        ("7-7", (7,)),
        ("0-1,5, 9-10", (0, 1, 5, 9, 10)),
        ("4294967295", (2**32 - 1,)),
        ("3,1,2", (3, 1, 2)),
    ],
)
def test_seeds(text: str, found: tuple[int, ...]) -> None:
    assert seeds(text) == found


@pytest.mark.parametrize("text", ["", " ", "a", "1,", "1-", "-1", "1.5", "0-1-2", "0..3", "5-3", "0-99999", "1;2"])
def test_seeds_that_cannot_be_read_are_quoted_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"--seeds .*give .*0-9") as caught:
        seeds(text)
    assert f"--seeds {text}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("1e-3", float, 1e-3),
        ("1e-3,5e-4,1e-3", float, (1e-3, 5e-4, 1e-3)),
        ("3", int, 3),
        ("3, 4", int, (3, 4)),
        ("5", float, 5.0),
        ("inf", float, float("inf")),
    ],
)
def test_numbers(text: str, kind: type, found: Any) -> None:
    assert numbers(text, kind) == found
    assert type(numbers(text, kind)) is type(found)


@pytest.mark.parametrize(("text", "kind"), [("", float), ("1,", float), ("x", float), ("1.5", int), ("1e3", int)])
def test_numbers_that_are_none(text: str, kind: type) -> None:
    with pytest.raises(ValueError, match="is not a whole number" if kind is int else "is not a number") as caught:
        numbers(text, kind)
    assert "one per client" in str(caught.value)


def test_values_of_worlds() -> None:
    assert world_values(["half-length=0.25,0.5", " force =5"]) == (("half_length", (0.25, 0.5)), ("force", (5.0,)))
    assert world_values([]) == ()


@pytest.mark.parametrize("text", ["half_length", "half_length:1", "half_length=", "half_length=a", "half_length=1,,2"])
def test_values_of_worlds_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"write e\.g\. half_length=0\.25,0\.5,1\.0"):
        world_values([text])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("half-precision", HalfPrecision()),
        ("clip-norm", ClipNorm()),
        ("clip-norm:max_norm=0.5", ClipNorm(max_norm=0.5)),
        ("clip-norm:max-norm=2", ClipNorm(max_norm=2.0)),
        ("lose-messages:probability=0.25", LoseMessages(probability=0.25)),
    ],
)
def test_transforms(text: str, found: Any) -> None:
    assert transform(text) == found


def test_every_transform_can_be_typed() -> None:
    for part in TRANSFORMS:
        fields = [f.name for f in dataclasses.fields(part)]
        text = kebab(type(part).__name__) + ":" + ",".join(f"{name}=0.125" for name in fields)
        found = transform(text)
        assert type(found) is type(part)
        assert all(getattr(found, name) == 0.125 for name in fields)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("clip", r"There is no transform 'clip'"),
        ("clip-nrm", r"did you mean 'clip-norm'\?"),
        ("ClipNorm", r"did you mean 'clip-norm'\?"),
        ("clip-norm:max_nrm=1", r"clip-norm has no field 'max_nrm': did you mean 'max_norm'\?"),
        ("half-precision:bits=8", r"half-precision has no field 'bits': it has none\."),
        ("clip-norm:max_norm", r"'max_norm' of clip-norm is not a number"),
        ("clip-norm:max_norm=much", r"write e\.g\. clip-norm:max_norm=0\.5"),
        ("", r"There is no transform ''"),
    ],
)
def test_transforms_that_there_are_not(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        transform(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("equal-split", EqualSplit()),
        ("label-shards:shards-per-client=1,seed=4", LabelShards(shards_per_client=1, seed=4)),
        ("dirichlet:alpha=0.1", Dirichlet(alpha=0.1)),
    ],
)
def test_splits(text: str, found: Any) -> None:
    assert split(text) == found
    assert from_data(to_data(split(text))) == found


def test_an_unknown_split_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^There is no split 'dirichlett': did you mean 'dirichlet'\?$"):
        split("dirichlett")


def test_names_as_they_are_typed() -> None:
    assert [kebab(name) for name in ("ClipNorm", "HalfPrecision", "Noise")] == ["clip-norm", "half-precision", "noise"]
