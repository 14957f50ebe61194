"""What a site takes from a server, and what not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from polyfed.agents.foreign import Made
from polyfed.deployment.trusted import check_trusted
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.environments.idx import IdxFolder
from polyfed.experiment import Experiment
from polyfed.experiments import load, titles


def test_the_experiments_of_polyfed_are_trusted_unless_they_reach_out() -> None:
    refused = {}
    for name in titles():
        try:
            check_trusted(load(name))
        except ValueError as error:
            refused[name] = str(error)
    assert "cartpole-poles" not in refused
    assert all("give the experiment to `polyfed join` yourself" in said for said in refused.values())


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (Gymnasium("evil:Env-v0"), "imports code"),
        (Gymnasium("LunarLander-v3", modules=True), "arguments, wrappers or modules"),
        (Gymnasium("LunarLander-v3", arguments=("a=1",)), "arguments, wrappers or modules"),
        (Gymnasium("LunarLander-v3", wrappers=("RecordVideo(folder='/')",)), "arguments, wrappers or modules"),
        (IdxFolder("/etc"), "names a path, folder = '/etc'"),
    ],
)
def test_what_would_run_code_or_read_files_is_refused(
    tiny: Callable[..., Experiment], environment: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        check_trusted(dataclasses.replace(tiny(), environment=environment))  # wherever it stands in it


def test_agents_made_elsewhere_are_refused(tiny: Callable[..., Experiment]) -> None:
    with pytest.raises(ValueError, match="made elsewhere"):
        check_trusted(dataclasses.replace(tiny(), agent=Made(print)))
