"""What cannot be deployed is refused in a sentence, before anybody is asked for anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from polyfed.agents import Group, Mixed
from polyfed.agents.foreign_sb3 import SB3
from polyfed.deployment.deployable import check_deployable
from polyfed.exchange import CentralNoise, ClipNorm, Int8, LocalNoise, LoseMessages, Quorum, SecureSum
from polyfed.experiment import Experiment


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"compare": ("local_only",)}, "runs one method, but compare names others"),
        ({"pooled": True}, "A pooled agent lives in all worlds at once"),
        ({"agent": Mixed((Group(SB3("PPO"), 3),))}, "Agents made elsewhere are not deployed yet"),
        (
            {"transforms": (LoseMessages(), SecureSum())},
            "LoseMessages acts at the server, which sees their sum alone: drop LoseM",
        ),
        ({"transforms": (SecureSum(),), "joins": (1, 1, 3)}, "SecureSum needs 3 clients, but 2 take part in the first"),
        ({"transforms": (LocalNoise(),)}, "LocalNoise hides .* evaluation.own would tell .* evaluation.own = False"),
        ({"transforms": (Quorum(), LocalNoise())}, "LocalNoise hides .* put LocalNoise before Quorum"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else None,
)
def test_what_cannot_be_deployed_is_refused(
    tiny: Callable[..., Experiment], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_deployable(dataclasses.replace(tiny(), **changes), (0,))


@pytest.mark.parametrize(
    "transforms",
    [(CentralNoise(),), (SecureSum(),), (ClipNorm(), SecureSum())],
    ids=lambda x: " ".join(type(part).__name__ for part in x),
)
def test_noise_of_a_trusted_server_and_secure_sums_are_deployed(
    tiny: Callable[..., Experiment], transforms: Any
) -> None:
    check_deployable(dataclasses.replace(tiny(), transforms=transforms), (0,))


def test_noise_of_sites_is_deployed_where_nothing_else_tells(tiny: Callable[..., Experiment]) -> None:
    silent = dataclasses.replace(tiny().evaluation, own=False)
    check_deployable(tiny(transforms=(LocalNoise(), Int8(), Quorum()), evaluation=silent), (0,))
