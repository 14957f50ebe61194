from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyfed.cli import COMMANDS, main
from polyfed.errors import EXIT_CODES
from polyfed.experiment import Experiment
from polyfed.experiments import load, studies, titles
from polyfed.options import overrides
from polyfed.runs import store

COINS = Path(__file__).parent / "studies" / "coins.py"


@dataclasses.dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line on standard error with which a command was refused."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("polyfed: ")
        return lines[0].removeprefix("polyfed: ")


def polyfed(*words: Any) -> Ended:
    """A command, in this process; it ends one."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def process(*words: Any, **how: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, timeout=120, **how)


@pytest.fixture(scope="module")
def file(tiny: Callable[..., Experiment], tiny_file: Callable[..., Path]) -> Path:
    """A user's experiment of four rounds."""
    return tiny_file(tiny(num_rounds=4))


@pytest.fixture(scope="module")
def ran(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """The folder of a run made by the command line, and how the command ended."""
    out = tmp_path_factory.mktemp("runs")
    ended = polyfed(
        "run",
        file,
        "--seeds",
        0,
        "--out",
        out,
        "--checkpoint-seconds",
        0,
        "--no-report",
        "--log",
        "tensorboard",
        "--json",
    )
    assert ended.code == 0, ended.err
    return Path(json.loads(ended.out)["run"]), ended


@pytest.fixture
def run_copy(ran: tuple[Path, Ended], tmp_path: Path) -> Path:
    return Path(shutil.copytree(ran[0], tmp_path / "copy"))


def recorded(folder: Path) -> Experiment:
    return store.read_experiment(store.read_record(folder))[0]


# Help and lists


def test_help_and_lists_answer_at_once_and_without_jax() -> None:
    code = (
        "import sys; from polyfed.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'jax', 'jaxlib', 'equinox', 'optax', 'gymnasium', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for words in (["--help"], ["list"], ["list", "--json"], ["--version"], ["lits"]):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = process("-c", code, *words) if words != ["lits"] else process("-m", "polyfed", *words)
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert ended.returncode == (2 if words == ["lits"] else 0), ended.stderr
        seconds = spent.ru_utime + spent.ru_stime - began.ru_utime - began.ru_stime
        assert seconds < 0.5, f"{words} took {seconds:.2f} s"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]], ids=str)
def test_help_names_every_command_and_every_exit_code(words: list[str]) -> None:
    ended = polyfed(*words)
    assert ended.code == 0
    for name in COMMANDS:
        assert f"polyfed {name}" in ended.out
    for code, meaning in EXIT_CODES.items():
        assert re.search(rf"^ +{code} +{re.escape(meaning)}$", ended.out, re.MULTILINE)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    ended = polyfed(name, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"usage: polyfed {name}" in ended.out
    assert "--json" in ended.out


def test_help_of_an_experiment_shows_its_fields_with_defaults_and_units() -> None:
    ended = polyfed("run", "cartpole-poles", "--help")
    assert ended.code == 0
    assert ended.err == ""
    for words in (
        "--agent.learning-rate FLOAT[,...]",
        "--variation.values",
        "half_length=0.25,0.5,1.0",
        "--num-rounds INT",
        "--environment.max-steps",
        "--agent.exploration.steps",
        "local steps",
        "0 to 1",
        "Three cart-poles",
    ):
        assert words in ended.out, words
    assert ">>>" not in ended.out  # examples are for the documentation


def test_list_names_every_experiment_and_every_study() -> None:
    plain, data = polyfed("list"), polyfed("list", "--json")
    everything = {**titles(), **studies()}
    assert json.loads(data.out) == everything
    assert [line.split()[0] for line in plain.out.splitlines()] == sorted(everything)
    assert len(everything) == len(titles()) + len(studies())
    assert all(title for title in everything.values())


def test_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", polyfed("--version").out)


def test_a_reader_that_goes_away_is_no_failure() -> None:
    ended = subprocess.run(
        f"{sys.executable} -m polyfed list | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


# Wrong input


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rn"], r"There is no command 'rn': did you mean 'run'\?"),
        (["list", "--jsn"], r"--jsn; did you mean --json\?"),
        (["run"], r"No experiment was named"),
        (["run", "cartpole-pols"], r"did you mean 'cartpole-poles'\?"),
        (["run", "nowhere.py"], r"There is no file nowhere\.py"),
        (["run", "--seeds", "0", "cartpole-poles"], r"experiment comes before its options: type `polyfed run cartp"),
        (["run", "FILE", "cartpole-poles"], r"'cartpole-poles' is one word too many"),
        (["run", "FILE", "--num-ronds", "3"], r"--num-ronds, 3; did you mean --num-rounds\?"),
        (["run", "FILE", "--agent.exploration.stat", "1"], r"did you mean --agent\.exploration\.start\?"),
        (["run", "FILE", "--num-rounds", "many"], r"--num-rounds: 'many' is not a whole number"),
        (["run", "FILE", "--num-rounds", "3,4"], r"num_rounds = \(3, 4\) is not one whole number"),
        (["run", "FILE", "--num-rounds"], r"Missing value for argument '--num-rounds'"),
        (["run", "FILE", "--num-rounds", "0"], r"num_rounds = 0"),
        (["run", "FILE", "--num-rounds", "1"], r"evaluation\.every = 2 rounds is out of range"),
        (["run", "FILE", "--agent.learning-rate", "1e-3,x"], r"'1e-3,x' is not a number"),
        (["run", "FILE", "--agent.learning-rate", "-1"], r"agent\.learning_rate = -1 is out of range"),
        (["run", "FILE", "--agent.learning-rate", "1e-3,1e-4"], r"agent\.learning_rate has 2 values for 3 clients"),
        (["run", "FILE", "--agent.discount", "1.5"], r"agent\.discount = 1\.5 is out of range"),
        (["run", "FILE", "--agent.activation", "rleu"], r"did you mean 'relu'\?"),
        (["run", "FILE", "--num-clients", "4"], r"3 values of half_length to 4 clients"),
        (["run", "FILE", "--world", "CartPole-v7"], r"did you mean 'CartPole-v"),
        (["run", "FILE", "--world", "a_module:Env-v0"], r"would import a_module.*environment\.modules"),
        (["run", "FILE", "--variation.values", "half_lenght=1,2,3"], r"did you mean 'half_length'\?"),
        (["run", "FILE", "--variation.values", "half_length=1,2"], r"2 values of half_length to 3 clients"),
        (["run", "FILE", "--variation.values", "half_length=1,2,-3"], r"half_length = -3 m at client 2"),
        (["run", "FILE", "--variation.values", "half_length=1,b,3"], r"is not a list of numbers"),
        (["run", "FILE", "--variation.values", "half_length"], r"names no values"),
        (["run", "FILE", "--recipe", "fedwbb"], r"recipe = 'fedwbb' is not known: did you mean 'fedwb'\?"),
        (["run", "FILE", "--compare", "fedvg"], r"compare = 'fedvg' is not known: did you mean 'fedavg'\?"),
        (["run", "FILE", "--compare", "pooled", "--agent.learning-rate", "1,2,3"], r"drop pooled from compare"),
        (["run", "FILE", "--seeds", "0-x"], r"--seeds 0-x cannot be read at '0-x'"),
        (["run", "FILE", "--seeds", "5-3"], r"range of no or too many numbers"),
        (["run", "FILE", "--seeds", "1,1"], r"names one seed twice"),
        (["run", "FILE", "--seeds", ""], r"--seeds .* cannot be read"),
        (["run", "FILE", "--transforms", "clip-nrm"], r"There is no transform 'clip-nrm': did you mean 'clip-norm'\?"),
        (
            ["run", "FILE", "--transforms", "clip-norm:max=1"],
            r"clip-norm has no field 'max': choose one of: max_norm\.",
        ),
        (["run", "FILE", "--transforms", "clip-norm:max_norm=x"], r"'max_norm=x' of clip-norm is not a number"),
        (["run", "FILE", "--transforms", "clip-norm:max_norm=-1"], r"max_norm = -1 is out of range"),
        (["run", "FILE", "--transforms", "clip-norm half-precision"], r"put HalfPrecision before ClipNorm"),
        (["run", "FILE", "--recipe", "local_only", "--transforms", "clip-norm"], r"LocalOnly sends no message"),
        (["run", "FILE", "--name", "../x"], r"name = '\.\./x' cannot name a folder"),
        (["run", "FILE", "--log", "paper"], r"invalid choice 'paper' for argument '--log'"),
        (["run", "FILE", "--resume", "there"], r"--resume there goes on with the experiment recorded there"),
        (["run", "--resume", "nowhere"], r"nowhere is not a run folder"),
        (["run", "tabular-qvag"], r"did you mean 'tabular-qavg'\?"),
        (["run", "--seeds", "0", "tabular-qavg"], r"experiment comes before its options: type `polyfed run tabular-q"),
        (["run", "COINS", "--thrws", "3"], r"--thrws, 3; did you mean --throws\?"),
        (["run", "COINS", "--throws", "0"], r"throws = 0 is out of range"),
        (["run", "COINS", "--throws", "3,4"], r"throws = \(3, 4\) is not one whole number"),
        (
            ["run", "COINS", "--biases", "x"],
            r"Error parsing --biases: Could not find valid parse for arguments: \['x'\]",
        ),
        (["run", "COINS", "--seeds", "1,1"], r"names one seed twice"),
        (["run", "COINS", "--seeds", "5-3"], r"range of no or too many numbers"),
        (["run", "COINS", "--name", "../x"], r"name = '\.\./x' cannot name a folder"),
        (["run", "COINS", "--recipe", "fedavg"], r"Unrecognized options: --recipe"),
        (["run", "COINS", "tabular-qavg"], r"'tabular-qavg' is one word too many"),
        (["report"], r"No run was given"),
        (["report", "."], r"\. is not a run folder"),
        (["play", "."], r"\. is not a run folder"),
        (["play", ".", "--policy", "mine"], r"invalid choice 'mine' for argument '--policy'"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    words: list[str], sentence: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"FILE": str(file), "COINS": str(COINS)}
    ended = polyfed(*[files.get(word, word) for word in words])
    assert re.search(sentence, ended.sentence), ended.sentence
    assert ended.code == 2
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []  # nothing was written


class Output(io.StringIO):
    """A terminal, or a file, with an encoding."""

    def __init__(self, encoding: str, terminal: bool):
        super().__init__()
        self._encoding, self._terminal = encoding, terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize("columns", ["40", "200"])
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "file"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_complaints_are_the_same_line_wherever_they_are_read(
    encoding: str, terminal: bool, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    for words, sentence in (
        ("list --jsn", "Unrecognized options: --jsn; did you mean --json? `polyfed list --help` shows all options."),
        (
            "play --fps x",
            "Error parsing --fps: invalid literal for int() with base 10: 'x': see `polyfed play --help`.",
        ),
    ):
        complaint = Output(encoding, terminal)
        monkeypatch.setattr(sys, "stdout", Output(encoding, terminal))
        monkeypatch.setattr(sys, "stderr", complaint)
        with pytest.raises(SystemExit) as ended:
            main(words.split())
        assert ended.value.code == 2
        assert complaint.getvalue() == f"polyfed: {sentence}\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("EXPERIMENT = 3", "defines no EXPERIMENT"),
        ("", "defines no EXPERIMENT"),
        (
            "import dataclasses\nEXPERIMENT = dataclasses.replace(EXPERIMENT, environment=Pendulum(), "
            "variation=Explicit({'mass': (1.0, 2.0, 3.0)}), evaluation=Evaluation(every=2))",
            "DQN chooses among a finite set of actions, but Pendulum takes continuous ones",
        ),
    ],
    ids=["a number", "nothing", "continuous actions"],
)
def test_a_users_file_that_cannot_be_run(text: str, sentence: str, file: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text((file.read_text() if "replace" in text else "") + "\n" + text)
    ended = polyfed("run", mine, "--out", tmp_path / "runs")
    assert sentence in ended.sentence
    assert ended.code == 2
    assert not (tmp_path / "runs").exists()


# Runs


def test_a_run_says_where_it_is_and_writes_a_line_per_block(ran: tuple[Path, Ended]) -> None:
    folder, ended = ran
    lines = ended.err.splitlines()
    assert lines[0] == f"run folder: {folder}"
    assert [re.findall(r"round (\d)/4", line) for line in lines[1:]] == [["0"], ["2"], ["4"]]
    assert all(word in lines[-1] for word in ("fedavg", "average", "worst", "sent", "steps/s", "left 0 s"))
    assert "\x1b" not in ended.err
    assert json.loads(ended.out) == {"run": str(folder)}


def test_the_recorded_command_makes_the_run_again(ran: tuple[Path, Ended], file: Path) -> None:
    folder, _ = ran
    words = store.read_record(folder)["command"].split()
    assert words[:3] == ["polyfed", "run", str(file)]
    assert words[3:5] == ["--seeds", "0"]


def test_fields_of_parts_are_set_from_the_command_line(file: Path, tmp_path: Path) -> None:
    ended = polyfed(
        *("run", file, "--seeds", "3", "--out", tmp_path, "--no-report", "--json", "--quiet"),
        *("--agent.learning-rate", "1e-3,5e-4,1e-3", "--agent.learning-starts", "10,11,12"),
        *("--variation.values", "half_length=0.25,0.5,0.75", "force=5,10,20"),
        *("--transforms", "half-precision clip-norm:max_norm=0.5", "--num-rounds", "2"),
    )
    assert ended.code == 0, ended.err
    folder = Path(json.loads(ended.out)["run"])
    assert ended.err.splitlines() == [f"run folder: {folder}"]
    found = recorded(folder)
    assert found.agent.learning_rate == (1e-3, 5e-4, 1e-3)
    assert found.agent.learning_starts == (10, 11, 12)
    assert dict(found.variation.values) == {"half_length": (0.25, 0.5, 0.75), "force": (5.0, 10.0, 20.0)}
    assert [type(t).__name__ for t in found.transforms] == ["HalfPrecision", "ClipNorm"]
    assert found.transforms[1].max_norm == 0.5
    assert found.num_rounds == 2
    result = store.load_run(folder)
    arm = result.arms["fedavg"]
    assert result.record["seeds"] == [3]
    assert np.all(arm.metrics["bytes_up"] * 2 == arm.metrics["bytes_down"])


@pytest.mark.parametrize("name", ["cartpole-poles", "lander-winds"])  # one quantity, and two
def test_the_values_of_a_fleet_are_typed_the_same_way_however_many_quantities_it_has(name: str) -> None:
    _, experiment = overrides([name, "--variation.values", "gravity=7,9"], load(name))
    assert experiment.variation.values == (("gravity", (7.0, 9.0)),)


def test_another_recipe_takes_the_place_of_the_experiments_own(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("polyfed.runs.run.create", lambda out, experiment, *_: seen.append(experiment))
    monkeypatch.setattr("polyfed.runs.run.go_on", lambda *_, **_names: None)
    monkeypatch.setattr("polyfed.cli._outcome", lambda *_: 0)
    for words in (["--recipe", "fedadam"], ["--recipe=fedadam", "--server-optimizer.learning-rate", "0.5"]):
        assert polyfed("run", file, *words).code == 0
    assert [e.method for e in seen] == ["fedadam", "fedadam"]
    assert [e.server_optimizer.learning_rate for e in seen] == [0.01, 0.5]


def test_a_world_of_gymnasium_takes_the_place_of_the_experiments_own(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("polyfed.runs.run.create", lambda out, experiment, *_: seen.append(experiment))
    monkeypatch.setattr("polyfed.runs.run.go_on", lambda *_, **_names: None)
    monkeypatch.setattr("polyfed.cli._outcome", lambda *_: 0)
    words = ["--world", "CartPole-v1", "--environment.workers", "2", "--environment.varied", "masscart"]
    assert polyfed("run", file, *words).code == 0
    (world,) = [experiment.environment for experiment in seen]
    assert (world.id, world.workers, world.varied) == ("CartPole-v1", 2, ("masscart",))


def test_a_run_ends_with_a_report_in_its_folder(file: Path, tmp_path: Path) -> None:
    ended = polyfed("run", file, "--seeds", "0", "--out", tmp_path, "--num-rounds", "2", "--quiet")
    assert ended.code == 0, ended.err
    report = next(tmp_path.glob("tiny/*/report.html"))
    assert f"report: {report}" in ended.out
    assert "fedavg" in report.read_text()
    assert list(report.parent.glob("figures/*.svg"))


def test_resuming_a_complete_run_changes_nothing(run_copy: Path) -> None:
    before = {p: p.read_bytes() for p in run_copy.rglob("*") if p.is_file()}
    ended = polyfed("run", "--resume", run_copy, "--no-report")
    assert (ended.code, ended.out) == (0, f"run: {run_copy}\n")
    assert {p: p.read_bytes() for p in run_copy.rglob("*") if p.is_file()} == before


def test_an_interrupted_run_can_be_resumed(
    file: Path, tmp_path: Path, ran: tuple[Path, Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    from polyfed.console import Monitor

    def stop(self: Monitor, progress: Any) -> None:
        if progress.round == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "__call__", stop)
        ended = polyfed("run", file, "--seeds", 0, "--out", tmp_path, "--checkpoint-seconds", 0, "--no-report")
    assert ended.code == 130
    assert ended.err.splitlines()[-1].startswith("polyfed: Interrupted; go on with `polyfed run --resume`")
    folder = next(tmp_path.glob("tiny/*"))
    ended = polyfed("run", "--resume", folder, "--no-report", "--json")
    assert ended.code == 0, ended.err
    assert [re.findall(r"round (\d)/4", line) for line in ended.err.splitlines()] == [["4"]]
    for name in ("metrics.jsonl", "evaluation.jsonl", "weights/seed-0/global.safetensors"):
        assert (folder / "arms/fedavg" / name).read_bytes() == (ran[0] / "arms/fedavg" / name).read_bytes()


def test_a_debug_run_prints_its_stages_or_names_the_one_that_failed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polyfed.simulation import debug

    asked = []

    def rounds(simulation: Any, num_rounds: int) -> Any:
        asked.append((simulation.seeds, num_rounds))
        yield "round 1, client-0: loss 1"
        if len(asked) > 1:
            raise debug.StageError("round 1, client-1, stage 'learn': KeyError: 'x'")

    monkeypatch.setattr(debug, "debug_rounds", rounds)
    ended = polyfed("run", file, "--debug", "--seeds", "4-6", "--out", tmp_path)
    assert (ended.code, ended.out) == (0, "round 1, client-0: loss 1\n")
    assert asked == [((4,), 2)]
    ended = polyfed("run", file, "--debug", "--out", tmp_path)
    assert ended.code == 1 in EXIT_CODES
    assert ended.err.splitlines()[-1] == "polyfed: round 1, client-1, stage 'learn': KeyError: 'x'"
    assert list(tmp_path.iterdir()) == []


# Exit codes


def test_other_versions_end_with_4_unless_forced(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from polyfed.runs import versions

    now = versions.versions()
    monkeypatch.setattr(versions, "versions", lambda: {**now, "numpy": "1.0"})
    ended = polyfed("run", "--resume", run_copy, "--no-report")
    assert ended.code == 4
    assert re.search(r"numpy \S+, now 1\.0", ended.sentence)
    assert polyfed("run", "--resume", run_copy, "--no-report", "--force").code == 0


@pytest.mark.parametrize("out", ["file/runs", "/dev/null/runs"])
def test_a_disk_that_refuses_ends_with_5(out: str, file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = polyfed("run", file, "--out", tmp_path / out)
    assert ended.code == 5
    assert "could not be written because a part of the path is a file" in ended.sentence


def test_a_file_that_may_not_be_read_ends_with_5(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(run_copy))

    monkeypatch.setattr(store, "load_run", refuse)
    ended = polyfed("report", run_copy)
    assert ended.code == 5
    assert ended.sentence == f"{run_copy} could not be read or written: Permission denied."


@pytest.mark.parametrize("name", ["run.json", "arms/fedavg/done.json", "arms/fedavg/evaluation.jsonl"])
def test_a_damaged_run_ends_with_6(name: str, run_copy: Path, tmp_path: Path) -> None:
    path = run_copy / name
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    ended = polyfed("report", run_copy, "-o", tmp_path / "report.html")
    assert ended.code == 6
    assert str(path) in ended.sentence
    assert not (tmp_path / "report.html").exists()


def test_a_busy_run_ends_with_7(run_copy: Path) -> None:
    code = (
        f"import sys, time; from pathlib import Path; from polyfed.runs.store import locked\n"
        f"with locked(Path({str(run_copy)!r})):\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        ended = polyfed("run", "--resume", run_copy, "--no-report")
        holder.kill()
    assert ended.code == 7
    assert "in use by another process" in ended.sentence
    assert polyfed("run", "--resume", run_copy, "--no-report").code == 0  # a dead process holds nothing


# Report, film, check, TensorBoard


def test_a_report_is_written_where_it_was_asked_for(ran: tuple[Path, Ended], tmp_path: Path) -> None:
    ended = polyfed("report", ran[0], "-o", tmp_path / "deep" / "page.html", "--json")
    assert ended.code == 0, ended.err
    outcome = json.loads(ended.out)
    assert outcome == {"report": str(tmp_path / "deep/page.html"), "figures": str(tmp_path / "deep/page-figures")}
    assert Path(outcome["report"]).read_text().startswith("<!DOCTYPE html>")
    assert list(Path(outcome["figures"]).glob("*.png"))


@pytest.mark.parametrize("policy", ["global", "own"])
def test_a_film_has_a_frame_for_every_state(policy: str, ran: tuple[Path, Ended], tmp_path: Path) -> None:
    from PIL import Image

    film = tmp_path / "films" / "play.gif"
    words = ["play", ran[0], "--client", "2", "--policy", policy, "--start", "5", "--fps", "25", "-o", film, "--json"]
    ended = polyfed(*words)
    assert ended.code == 0, ended.err
    outcome = json.loads(ended.out)
    assert outcome["film"] == str(film)
    assert (outcome["arm"], outcome["client"]) == ("fedavg", 2)
    assert outcome["policy"] == ("global" if policy == "global" else "client-2")
    assert outcome["return"] == outcome["steps"] > 3
    with Image.open(film) as image:
        durations = []
        for frame in range(image.n_frames):
            image.seek(frame)
            durations.append(image.info["duration"])
    assert sum(durations) == 40 * (outcome["steps"] + 1)  # ms; equal neighbours are shown as one, for longer
    assert len(durations) > outcome["steps"] // 2
    assert polyfed(*words[:-1]).out.splitlines()[0] == f"film: {film}"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--client", "3"], "--client = 3 is out of range: give a number from 0 to 2"),
        (["--arm", "fedvg"], "did you mean 'fedavg'?"),
        (["--seed", "8"], "no weights 'seed-8/global': it has seed-0/client-0"),
        (["--fps", "0"], "--fps = 0 frames per second is out of range"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_a_film_that_cannot_be_made(words: list[str], sentence: str, ran: tuple[Path, Ended], tmp_path: Path) -> None:
    ended = polyfed("play", ran[0], *words, "-o", tmp_path / "x.gif")
    assert ended.code == 2
    assert sentence in ended.sentence
    assert not list(tmp_path.iterdir())


def test_films_of_all_clients_lie_in_the_run_folder_and_in_its_report(
    run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blank(figure: Any, file: Any, format: str, **how: Any) -> None:
        file.write(b"" if format == "png" else '<svg viewBox="0 0 1 1"></svg>')

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", blank)  # films are looked at, not figures
    page = tmp_path / "page.html"
    assert polyfed("report", run_copy, "-o", page).code == 0
    assert 'id="films"' not in page.read_text()
    ended = polyfed("play", run_copy, "--clients", "0,2", "--arm", "fedavg", "--policy", "own", "--json")
    assert ended.code == 0, ended.err
    names = [f"fedavg-seed-0-client-{client}-in-client-{client}" for client in (0, 2)]
    folder = run_copy / "videos"
    assert json.loads(ended.out) == {"videos": str(folder), "films": [str(folder / f"{name}.gif") for name in names]}
    assert polyfed("play", run_copy, "--clients", "all").code == 0
    names += [f"fedavg-seed-0-global-in-client-{client}" for client in range(3)]
    assert {p.name for p in folder.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("gif", "json")}
    assert polyfed("report", run_copy, "-o", page).code == 0
    text = page.read_text()
    assert text.count('src="data:image/gif;base64,') == 5
    assert "img-src data:" in text
    told = json.loads((folder / f"{names[0]}.json").read_text())
    assert f"fedavg, seed 0, policy of client-0 in the world of client 0: return {told['score']:.5g} in" in text
    (folder / f"{names[0]}.json").write_text("{")
    damaged = polyfed("report", run_copy, "-o", page)
    assert damaged.code == 6
    assert "film it again, or delete it" in damaged.sentence


def test_clients_that_are_not_there_are_not_filmed(ran: tuple[Path, Ended]) -> None:
    ended = polyfed("play", ran[0], "--clients", "0-3")
    assert ended.code == 2
    assert "--clients = 3 is out of range: give a number from 0 to 2" in ended.sentence
    assert not (ran[0] / "videos").exists()


def test_an_export_prints_its_parity(ran: tuple[Path, Ended], tmp_path: Path) -> None:
    ended = polyfed("export", ran[0], "--client", "client-1", "--out", tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[0] == f"file: {tmp_path / 'policy.onnx'}"
    assert "parity: largest difference over 10000 observations: values " in ended.out
    refused = polyfed("export", ran[0], "--client", "client-9", "--out", tmp_path)
    assert refused.code == 2
    assert "has no weights 'seed-0/client-9'" in refused.sentence


def test_damage_to_weights_is_detected_before_they_are_played(ran: tuple[Path, Ended], run_copy: Path) -> None:
    from polyfed.errors import DamagedError
    from polyfed.runs.learned import read_learned

    path = run_copy / "arms" / "fedavg" / "weights" / "seed-0" / "global.safetensors"
    whole, random = path.read_bytes(), np.random.default_rng(9)
    read_learned(run_copy)
    for i in range(200):
        place = int(random.integers(len(whole)))
        flip = bytes([whole[place] ^ int(random.integers(1, 256))])
        path.write_bytes(whole[:place] if i % 10 == 0 else whole[:place] + flip + whole[place + 1 :])
        with pytest.raises(DamagedError, match="was cut or edited"):
            read_learned(run_copy)
    ended = polyfed("play", run_copy)
    assert ended.code == 6
    assert "global.safetensors was cut or edited" in ended.sentence


def test_check_says_what_is_here(tmp_path: Path) -> None:
    ended = polyfed("check", "--out", tmp_path / "not" / "yet", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["write access"] == "yes"
    assert found["report"] == found["play"] == found["tensorboard"] == "installed"
    assert len(found["devices"]) == found["cores"] or "POLYFED_DEVICES" in os.environ
    assert {"polyfed", "python", "jax", "jaxlib", "processor"} <= set(found)
    plain = polyfed("check", "--out", tmp_path)
    assert [line.partition(":")[0] for line in plain.out.splitlines()] == list(found)
    assert not (tmp_path / "not").exists()


def test_check_ends_with_5_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = polyfed("check", "--out", tmp_path / "file" / "runs", "--json")
    assert ended.code == 5
    assert json.loads(ended.out)["write access"] == f"no: {tmp_path / 'file'}"


def test_an_environment_is_checked_before_a_fleet_lives_there() -> None:
    ended = polyfed("env", "check", "CartPole-v1")
    assert ended.code == 0, ended.err
    assert "yes  seeding: " in ended.out
    found = json.loads(polyfed("env", "check", "CartPole-v1", "--json").out)
    assert {"question", "good", "answer", "needed"} == set(found[0])
    for id_, words in (("CartPole-v7", "did you mean"), ("a_module:Env-v0", "allow that")):
        refused = polyfed("env", "check", id_)
        assert refused.code == 2
        assert words in refused.sentence


def test_tensorboard_reads_what_was_measured(ran: tuple[Path, Ended]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = ran[0]
    events = EventAccumulator(str(folder / "tensorboard" / "fedavg" / "seed-0"))
    events.Reload()
    arm = store.load_run(folder).arms["fedavg"]
    for p, policy in enumerate(arm.policies):
        for m, environment in enumerate(arm.environments):
            points = events.Scalars(f"return/{policy}/{environment}")
            assert [point.step for point in points] == [0, 2, 4]
            np.testing.assert_allclose([point.value for point in points], arm.returns[:, 0, p, m], rtol=1e-6)
    for c in range(3):
        points = events.Scalars(f"loss/client-{c}")
        assert [point.step for point in points] == [1, 2, 3, 4]
        np.testing.assert_allclose([point.value for point in points], arm.metrics["loss"][:, 0, c], rtol=1e-6)
        ended = arm.metrics["return"][:, 0, c]
        points = events.Scalars(f"return/client-{c}")
        assert [point.step for point in points] == (np.flatnonzero(np.isfinite(ended)) + 1).tolist()


# What is not installed


@pytest.mark.parametrize(
    ("missing", "words", "sentence"),
    [
        ("matplotlib", ["run", "FILE"], 'pip install "polyfed[report]", or run with --no-report.'),
        ("matplotlib", ["report", "RUN"], 'pip install "polyfed[report]"'),
        (
            "tensorboard",
            ["run", "FILE", "--log", "tensorboard"],
            'pip install "polyfed[tensorboard]", or leave it out.',
        ),
        ("PIL", ["play", "RUN"], 'pip install "polyfed[play]"'),
        ("pygame", ["play", "RUN"], 'pip install "polyfed[play]"'),
        ("onnx", ["export", "RUN"], 'pip install "polyfed[export]", or export to safetensors.'),
        ("onnxruntime", ["export", "RUN"], 'pip install "polyfed[export]", or export to safetensors.'),
    ],
    ids=lambda x: x if isinstance(x, str) and " " not in x else "",
)
def test_an_extra_that_is_missing_is_named_with_the_command_that_installs_it(
    missing: str,
    words: list[str],
    sentence: str,
    file: Path,
    ran: tuple[Path, Ended],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [n for n in sys.modules if n == missing or n.startswith((f"{missing}.", "polyfed.report"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.chdir(tmp_path)
    names = {"FILE": str(file), "RUN": str(ran[0])}
    ended = polyfed(*[names.get(word, word) for word in words])
    assert ended.code == 2
    assert sentence in ended.sentence
    assert list(tmp_path.iterdir()) == []
    check = json.loads(polyfed("check", "--json").out)
    extra = re.findall(r"polyfed\[(\w+)\]", sentence)[0]
    assert check[extra] == f'missing: pip install "polyfed[{extra}]"'


# Studies


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    out = tmp_path_factory.mktemp("studies")
    ended = polyfed("run", COINS, "--seeds", "0,3", "--biases", "0.2", "0.7", "--throws", 50, "--out", out, "--json")
    assert ended.code == 0, ended.err
    return Path(json.loads(ended.out)["run"]), ended


def test_help_of_a_study_shows_its_fields() -> None:
    ended = polyfed("run", COINS, "--help")
    assert (ended.code, ended.err) == (0, "")
    for words in ("--throws INT", "per seed, 1 to 10^6", "--biases", "(default: 0.5 0.9)", "names the folder"):
        assert words in ended.out, words
    assert "--resume" not in ended.out


def test_a_study_is_run_recorded_and_reported(studied: tuple[Path, Ended], tmp_path: Path) -> None:
    folder, ended = studied
    assert ended.err.splitlines() == [f"run folder: {folder}", " 50 %  bias 0.2", "100 %  bias 0.7"]
    names = {path.name for path in folder.iterdir()}
    assert names == {"run.json", "findings.json", "report.html", "figures", "lock"}
    record = store.read_record(folder)
    assert record["study"]["biases"] == [0.2, 0.7]
    assert record["seeds"] == [0, 3]
    assert record["command"].split()[-2:] == [str(folder.parent.parent), "--json"]
    again = polyfed("report", folder, "-o", tmp_path / "again.html")
    assert again.code == 0
    assert (tmp_path / "again.html").read_text() == (folder / "report.html").read_text()


def test_a_study_says_its_verdict_and_is_silent_if_asked(tmp_path: Path) -> None:
    ended = polyfed("run", COINS, "--seeds", "0", "--out", tmp_path, "--quiet", "--no-report")
    assert ended.out.splitlines()[0] == "Coins fell <as> they should in 100 throws."
    assert len(ended.err.splitlines()) == 1
    assert not list(tmp_path.rglob("report.html"))


def test_what_a_study_cannot_do_is_one_sentence(studied: tuple[Path, Ended], ran: tuple[Path, Ended]) -> None:
    folder, _ = studied
    for words, sentence in (
        (("run", "--resume", folder), "cannot be resumed: run the study again"),
        (("play", folder), "cannot be filmed"),
        (("export", folder), "cannot be exported"),
        (("report", folder, ran[0]), "A study has a page of its own"),
        (("report", folder, folder), "A study has a page of its own"),
    ):
        ended = polyfed(*words)
        assert sentence in ended.sentence
        assert ended.code == 2


def test_a_study_that_was_interrupted_says_that_it_starts_anew(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(COINS.read_text().replace("        rows, lines = [], []", "        raise KeyboardInterrupt"))
    ended = polyfed("run", mine, "--out", tmp_path / "runs")
    assert ended.code == 130
    assert ended.err.splitlines()[-1] == "polyfed: Interrupted; a study is not resumed, so run it again."
    (folder,) = (tmp_path / "runs" / "coins").iterdir()
    assert "was not completed: run it again" in polyfed("report", folder).sentence
