"""The server's command: an app that Flower ended is started again, and goes on."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polyfed.deployment import serve
from polyfed.deployment.app_folder import Settings
from polyfed.errors import BusyError, PolyfedError


@pytest.fixture
def ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`ends(outcome, outcome, ...)`: serve runs whose apps end so; None ends without one. What was said, the result."""

    def play(*outcomes: Any) -> tuple[list[str], Any]:
        said: list[str] = []
        left = list(outcomes)

        def start(home: Path, app: Path) -> str:
            outcome = left.pop(0)
            if outcome is not None:
                (tmp_path / "served.json").write_text(json.dumps(outcome))
            return "run"

        link = SimpleNamespace(poll=lambda: None)
        monkeypatch.setattr(serve, "linked", lambda *args: contextlib.nullcontext((tmp_path, link)))
        monkeypatch.setattr(serve, "start", start)
        monkeypatch.setattr(serve, "_is_over", lambda *args: True)
        monkeypatch.setattr(serve, "LOOK_S", 0.0)
        monkeypatch.setattr(serve, "PAUSE_S", 0.0)
        settings = Settings(str(tmp_path), ("ann",))
        return said, serve.serve(serve.Address("127.0.0.1", 1, None), settings, said.append)

    return play


DONE = {"code": 0, "sentence": "", "audit": "digest"}


def test_a_run_that_ends_well_gives_the_audit_logs_last_digest(ends: Any) -> None:
    assert ends(DONE) == ([], "digest")


def test_an_app_that_flower_ended_goes_on_from_its_last_round(ends: Any) -> None:
    said, last = ends(None, {"code": 1, "sentence": "401"}, {"code": 7, "sentence": "busy"}, DONE)
    assert last == "digest"
    assert [sentence.endswith("It goes on from its last round.") for sentence in said] == [True] * 3
    assert "401" in said[1]


def test_a_run_that_lacks_its_quorum_ends_with_its_code(ends: Any) -> None:
    with pytest.raises(PolyfedError, match="too few") as caught:
        ends({"code": 3, "sentence": "too few"})
    assert caught.value.exit_code == 3


def test_an_app_that_never_lives_long_is_given_up(ends: Any) -> None:
    with pytest.raises(serve.AppEndedError, match="a fault"):
        ends(*[{"code": 1, "sentence": "a fault"}] * serve.STARTS)


def test_a_second_server_on_one_folder_is_refused(tmp_path: Path) -> None:
    with serve._alone(tmp_path), pytest.raises(BusyError, match="served by another process"), serve._alone(tmp_path):
        pass
