"""`polyfed keys | serve | join | audit`: what they refuse, before anything is started."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyfed.cli import main
from polyfed.deployment.audit import Audit, Event
from polyfed.deployment.join import UnreachableError, await_server
from polyfed.deployment.processes import free_port


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`run(words) -> (exit code, standard output, standard error)`."""

    def call(*words: Any) -> Any:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words)])
        return ended.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve"], "No experiment was named"),
        (["serve", "cartpole-poles"], "A server needs keys"),
        (["serve", "cartpole-poles", "--keys", "nowhere"], "holds no keys of a fleet"),
        (["serve", "cartpole-poles", "--insecure", "--keys", "nowhere"], "contradict each other"),
        (["serve", "cartpole-poles", "--insecure", "--resume", "x"], "was named: leave one"),
        (["serve", "cartpole-poles", "--insecure", "--quorum", "4"], "give a number from 1 to 3 clients"),
        (["serve", "cartpole-pole", "--insecure"], "cartpole-poles"),
        (["serve", "expectile-audit", "--insecure"], "is a study"),
        (["join"], "needs --server HOST:PORT and --name"),
        (["join", "--server", "127.0.0.1:1", "--name", "ann"], "needs its --keys"),
        (["join", "--server", "127.0.0.1:1", "--name", "<b>", "--insecure"], "cannot name a client"),
        (["join", "--agent-only", "a.sock"], "needs --server HOST:PORT and --name"),
        (["keys", "folder", "--clients", "a/b", "--host", "x"], "cannot name a client"),
        (["keys", "folder", "--clients", "a"], "--host, the server's names: give both"),
        (["keys", "folder", "--sign"], "holds no authority/app.key"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    run: Callable[..., Any], words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("polyfed: ")


def test_an_audit_log_is_verified(run: Callable[..., Any], tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    audit = Audit(log)
    audit.note(Event("began"), Event("ended"))
    code, out, _ = run("audit", log, "--last", audit.last, "--json")
    assert (code, json.loads(out)) == (0, {"lines": 2, "last": audit.last})
    log.write_text(log.read_text().replace("began", "begun"))
    code, _, err = run("audit", log)
    assert (code, "changed at line 1" in err) == (6, True)


def test_a_server_that_does_not_answer_is_tried_again_and_then_there_is_a_sentence() -> None:
    said: list[str] = []
    with pytest.raises(UnreachableError, match="did not answer 3 times"):
        await_server(f"127.0.0.1:{free_port()}", 3, said.append, pause_s=0.01)
    assert len(said) == 2


def test_insecure_is_for_one_machine_alone(run: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("flwr")
    words = ["--name", "ann", "--insecure", "--site", tmp_path]
    code, _, err = run("join", "--server", "192.0.2.1:9092", *words)
    assert (code, "can be reached from outside" in err) == (2, True)
    code, _, err = run("serve", "cartpole-poles", "--insecure", "--host", "0.0.0.1", "--out", tmp_path)
    assert (code, "can be reached from outside" in err) == (2, True)


def test_the_app_alone_is_made_for_flowers_own_command(run: Callable[..., Any], tmp_path: Path) -> None:
    words = ["--insecure", "--out", tmp_path / "runs", "--app-only", tmp_path / "app", "--json"]
    code, out, _ = run("serve", "cartpole-poles", *words)
    assert code == 0
    text = (tmp_path / "app" / "pyproject.toml").read_text()
    assert json.dumps(json.loads(out)["run"]) in text
    assert 'names = "client-0,client-1,client-2"' in text
    assert "dependencies = []" in text


def test_server_and_site_mean_the_same_experiment_when_they_name_it() -> None:
    import dataclasses

    from polyfed.deployment.member import identity
    from polyfed.experiments import load
    from polyfed.options import serve_overrides

    named = load("cartpole-poles")
    _, served = serve_overrides(["cartpole-poles", "--insecure"], named)
    assert identity(served, 0) == identity(dataclasses.replace(named, compare=()), 0)
    _, changed = serve_overrides(["cartpole-poles", "--num-rounds", "7"], named)
    assert identity(changed, 0) != identity(served, 0)
