from __future__ import annotations

import dataclasses
import io
import re
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from polyfed import console, recipes
from polyfed.aggregation import Switch, WassersteinBarycenter, WeightedMean
from polyfed.console import (
    Monitor,
    deployed_returns,
    diverged,
    readable_bytes,
    readable_score,
    readable_seconds,
    scrambled,
)
from polyfed.experiment import Experiment
from polyfed.runs.run import Progress
from polyfed.simulation.simulate import Simulation

RETURNS = np.arange(2 * 4 * 4, dtype=float).reshape(2, 4, 4)  # [S, P, M]: global, three clients; one held out


@pytest.fixture
def progress(tiny: Callable[..., Experiment]) -> Callable[..., Progress]:
    """`progress(round=4, method="local_only")`: what a monitor is told after a block."""
    simulations = {m: Simulation(recipes.RECIPES[m](tiny()), (0, 1)) for m in ("fedavg", "local_only")}

    def make(method: str = "fedavg", **changes: Any) -> Progress:
        returns = RETURNS if method == "fedavg" else RETURNS[:, 1:]
        fields = {"round": 3, "num_rounds": 6, "returns": returns, "metrics": {}, **changes}
        return Progress(arm=method, arms=("fedavg", "local_only"), simulation=simulations[method], **fields)

    return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`clock(10.0)`: ten seconds pass."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_one_plain_line_per_block_where_there_is_no_terminal(
    progress: Callable[..., Progress], clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with Monitor() as monitor:
        monitor(progress(round=0))
        clock(10)
        progress().simulation.seconds = 2.0
        monitor(progress(round=3, metrics={"steps": np.full((3, 2, 3), 20)}))
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    assert "\x1b" not in err
    weights = 4 * (4 * 16 + 16 + 16 * 2 + 2)
    words = lines[1].split("  ")
    assert words[0].strip() == "fedavg"
    assert "round 3/6" in lines[1]
    assert f"average {RETURNS[:, 0, :3].mean():.0f}" in lines[1]
    assert f"worst {RETURNS[:, 0, 0].mean():.0f} (client-0)" in lines[1]
    assert f"sent {readable_bytes(3 * 3 * 2 * weights)}" in lines[1]
    assert f"steps/s {3 * 20 * 3 * 2 / 2.0:,.0f}" in lines[1]  # rounds, local steps, clients, seeds, seconds
    assert "left 30 s" in lines[1]  # a quarter of both arms took ten seconds


def test_lines_stay_whole_however_long(progress: Callable[..., Progress], capsys: pytest.CaptureFixture[str]) -> None:
    with Monitor() as monitor:
        monitor(progress(returns=RETURNS * 1e30))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_time_left_of_a_resumed_run_counts_only_what_was_done_now(
    progress: Callable[..., Progress], clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = np.zeros((2, 0, 0))
    with Monitor() as monitor:
        monitor(
            progress("local_only", round=0, returns=nothing, message=f"{'long/' * 30}round-00000002 was cut or edited.")
        )
        clock(10)
        monitor(progress("local_only", round=3))  # from a half to three quarters of the run
    message, line = capsys.readouterr().err.splitlines()
    assert "was cut or edited" in message
    assert "left 10 s" in line


def test_the_worst_client_is_that_of_its_own_policy_under_a_personal_rule(progress: Callable[..., Progress]) -> None:
    np.testing.assert_array_equal(deployed_returns(progress("fedavg")), RETURNS[:, 0, :3])
    own = RETURNS[:, 1:]
    expected = np.stack([own[:, c, c] for c in range(3)], axis=-1)
    np.testing.assert_array_equal(deployed_returns(progress("local_only")), expected)


def test_a_client_that_diverged_is_named(progress: Callable[..., Progress], capsys: pytest.CaptureFixture[str]) -> None:
    loss = np.ones((2, 2, 3))
    loss[1, 0, 2] = np.inf
    bad = progress(metrics={"loss": loss})
    assert diverged(bad) == [2]
    assert diverged(progress(metrics={"loss": np.ones((2, 2, 3))})) == []
    assert diverged(progress()) == []
    with Monitor() as monitor:
        monitor(bad)
    assert "fedavg: client-2 diverged" in capsys.readouterr().err


def test_who_tells_no_loss_has_not_diverged(progress: Callable[..., Progress]) -> None:
    loss = np.ones((2, 2, 3))
    loss[..., 1:] = np.nan
    made_elsewhere = SimpleNamespace(guests=SimpleNamespace(clients=[2]))
    assert diverged(dataclasses.replace(progress(metrics={"loss": loss}), simulation=made_elsewhere)) == [1]


def moving(**rows: list[float]) -> dict[str, np.ndarray]:
    """Metrics of two rounds of one seed, layer by layer, scrambled beyond 8 positions."""
    moved = {name: np.array(row)[:, None] for name, row in rows.items()}
    hit = {f"scrambled/{name}": np.where(np.isnan(row), np.nan, row > 8) for name, row in moved.items()}
    return {**hit, **{f"displacement/{name}": row for name, row in moved.items()}}


def test_a_scrambled_network_is_told_of_once_per_arm(
    progress: Callable[..., Progress], capsys: pytest.CaptureFixture[str]
) -> None:
    with Monitor() as monitor:
        monitor(progress(metrics=moving(weight=[2.0, 8.0], bias=[1.0, np.nan])))
        assert "moved" not in capsys.readouterr().err
        for _ in range(3):
            monitor(progress(metrics=moving(weight=[2.0, 37.0], bias=[12.0, np.nan])))
        monitor(progress("local_only", metrics=moving(weight=[9.0, 1.0])))
    said = [line for line in capsys.readouterr().err.splitlines() if "moved" in line]
    assert said == [
        f"{arm}: layer weight moved {far} positions (more than its rule allows): "
        "the fused network may no longer compute what any client computed."
        for arm, far in (("fedavg", 37), ("local_only", 9))
    ]


@pytest.mark.parametrize("switched", [False, True])
def test_what_was_done_about_a_scrambled_layer_is_told(
    tiny: Callable[..., Experiment], progress: Callable[..., Progress], switched: bool
) -> None:
    rule: Any = WassersteinBarycenter(max_displacement=8.0, on_displacement="mean")
    rule = Switch(WeightedMean(), rule, at_round=1) if switched else rule
    told = dataclasses.replace(
        progress(metrics=moving(weight=[np.nan, 37.0])), simulation=Simulation(tiny(rule=rule), (0, 1))
    )
    assert scrambled(told) == "fedavg: layer weight moved 37 positions (more than 8): it was averaged instead."
    assert scrambled(progress()) == ""


@pytest.mark.parametrize(
    ("score", "measure", "text"), [(431.6, "return", "432"), (0.91349, "accuracy", "91.3 %"), (np.nan, "return", "nan")]
)
def test_scores_for_people(score: float, measure: str, text: str) -> None:
    assert readable_score(score, measure) == text


def test_quiet_says_nothing(progress: Callable[..., Progress], capsys: pytest.CaptureFixture[str]) -> None:
    with Monitor(quiet=True) as monitor:
        monitor(progress(message="[red]hm"))
    assert capsys.readouterr() == ("", "")


def test_a_sentence_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Monitor() as monitor:
        monitor.say("about [57] s")
    assert capsys.readouterr().err == "about [57] s\n"
    with Monitor(quiet=True) as monitor:
        monitor.say("about [57] s")
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_table_with_a_row_per_arm(
    progress: Callable[..., Progress], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Monitor() as monitor:
        monitor(progress(message="a [bracket]"))
        monitor(progress("local_only"))
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "a [bracket]" in shown
    last = shown[shown.rindex("method") :]
    assert "fedavg" in last
    assert "local_only" in last
    assert "3/6" in last


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (18_440, "18.4 kB"), (2.5e9, "2.5 GB"), (3e15, "3e+03 TB")],
)
def test_bytes_for_people(number: float, text: str) -> None:
    assert readable_bytes(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.7, "60 s"), (75, "1 min 15 s"), (3_900, "1 h 5 min")]
)
def test_seconds_for_people(seconds: float, text: str) -> None:
    assert readable_seconds(seconds) == text
