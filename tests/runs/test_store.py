from __future__ import annotations

import dataclasses
import datetime
import getpass
import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from safetensors.numpy import load_file

from polyfed import recipes
from polyfed.environments import CartPole, Environment
from polyfed.errors import BusyError, DamagedError
from polyfed.experiment import Experiment
from polyfed.record import digest
from polyfed.runs import run, store
from polyfed.simulation.simulate import Simulation


def ignore(progress: Any) -> None:
    """Watch a run and say nothing."""


def strict(text: str) -> Any:
    """JSON as every reader of JSON takes it: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


# What lies where


def test_a_run_folder_holds_what_it_says_and_nothing_else(finished: Path) -> None:
    weights = [f"weights/seed-0/{name}.safetensors" for name in ("client-0", "client-1", "client-2")]
    checkpoints = [f"checkpoints/round-0000000{r}/{f}" for r in (4, 6) for f in ("manifest.json", "state.safetensors")]
    each = [*weights, *checkpoints, "metrics.jsonl", "evaluation.jsonl", "done.json"]
    expected = {"run.json", "lock", "arms/fedavg/weights/seed-0/global.safetensors"}
    expected |= {f"arms/{arm}/{name}" for arm in ("fedavg", "local_only") for name in each}
    assert {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file()} == expected


def test_all_its_json_is_json_and_its_lines_are_in_order(finished: Path) -> None:
    for path in finished.rglob("*.json"):
        strict(path.read_text())
    for arm in (finished / "arms").iterdir():
        rows = [strict(line) for line in (arm / "metrics.jsonl").read_text().splitlines()]
        assert [(row["round"], row["seed"]) for row in rows] == [(r, 0) for r in range(1, 7)]
        assert all(len(values) == 3 for row in rows for values in row["clients"].values())
        points = [strict(line) for line in (arm / "evaluation.jsonl").read_text().splitlines()]
        assert [point["round"] for point in points] == [0, 2, 4, 6]


def test_the_name_of_a_folder_is_time_and_hash_of_the_settings(finished: Path, experiment: Experiment) -> None:
    record = strict((finished / "run.json").read_text())
    date, time, short = finished.name.split("-")
    datetime.datetime.strptime(f"{date}-{time}", "%Y%m%d-%H%M%S")
    assert finished.parent.name == "tiny"
    assert short == digest([record["experiment"], [0]])[:8]
    assert store.read_experiment(record) == (experiment, (0,))


def test_the_record_names_no_host_user_or_folder(finished: Path) -> None:
    text = (finished / "run.json").read_text()
    record = json.loads(text)
    assert record["versions"]["jax"]
    assert record["command"] == "polyfed run tiny.py --seeds 0"
    for secret in (f'"{socket.gethostname()}"', f"{Path.home()}/", str(finished.parent)):
        assert secret not in text
    assert f'"{getpass.getuser()}"' not in text


def test_two_runs_in_one_second_have_folders_of_their_own(tmp_path: Path, experiment: Experiment) -> None:
    folders = [store.create(tmp_path, experiment, (0,), "") for _ in range(3)]
    assert len(set(folders)) == 3
    assert all((folder / "run.json").is_file() for folder in folders)


# Figures


def test_every_float32_is_written_as_a_decimal_that_reads_back_as_the_same_bits() -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 20_000, dtype=np.uint32)
    values = np.concatenate([bits.view(np.float32), np.float32([0.0, -0.0, 1e-45, 3.4028235e38, 0.1, 16777217.0])])
    texts = json.dumps([store._number(value) for value in values])
    read = [np.nan if x is None else x for x in strict(texts)]
    finite = np.isfinite(values)
    assert np.array(read, np.float32)[finite].tobytes() == values[finite].tobytes()
    assert np.isnan(np.array(read)[~finite]).all()


def test_figures_come_back_as_they_were_measured(finished: Path, experiment: Experiment) -> None:
    simulation = Simulation(recipes.arms(experiment)["fedavg"], (0,))
    federation = simulation.init()
    returns, metrics = [simulation.evaluate(federation)], []
    for _ in range(3):
        federation, found = simulation.advance(federation, 2)
        metrics.append(found)
        returns.append(simulation.evaluate(federation))
    arm = store.load_run(finished).arms["fedavg"]
    assert arm.returns.astype(np.float32).tobytes() == np.stack(returns).tobytes()
    for name in metrics[0]:
        measured = np.concatenate([m[name] for m in metrics])
        read = arm.metrics[name].astype(np.float32)
        assert read.shape == measured.shape
        assert np.array_equal(np.isnan(read), np.isnan(measured))
        filled = np.where(np.isnan(measured), 0, measured).astype(np.float32)
        assert np.where(np.isnan(read), np.float32(0), read).tobytes() == filled.tobytes()


def test_a_run_is_read_with_its_axes_and_its_accounts(finished: Path, experiment: Experiment) -> None:
    result = store.load_run(finished)
    weights = 4 * (4 * 16 + 16 + 16 * 2 + 2)
    assert (result.name, result.title) == ("tiny", "tiny")
    assert list(result.arms) == ["fedavg", "local_only"]
    assert result.worlds == {"half_length": [0.25, 0.5, 1.0, 0.35]}
    assert result.units == {"half_length": "m"}
    fedavg, alone = result.arms["fedavg"], result.arms["local_only"]
    assert (fedavg.baseline, alone.baseline, fedavg.personal, alone.personal) == (False, True, False, True)
    np.testing.assert_array_equal(fedavg.rounds, [0, 2, 4, 6])
    np.testing.assert_array_equal(fedavg.steps, np.array([0, 2, 4, 6]) * 20)
    np.testing.assert_array_equal(fedavg.bytes, np.array([0, 2, 4, 6]) * 3 * 2 * weights)
    np.testing.assert_array_equal(alone.bytes, np.zeros(4))
    assert fedavg.returns.shape == (4, 1, 4, 4)
    assert alone.returns.shape == (4, 1, 3, 4)
    assert {m.shape for m in fedavg.metrics.values()} == {(6, 1, 3)}
    assert np.all(fedavg.metrics["bytes_up"] == weights)
    assert fedavg.experiment["num_rounds"] == experiment.num_rounds
    assert fedavg.deployed().shape == (4, 1, 4)
    np.testing.assert_array_equal(fedavg.returns[0, 0, 0], alone.returns[0, 0, 0])  # all arms start from one network


def test_several_seeds_are_read_apart(tmp_path: Path) -> None:
    metrics = {
        "loss": np.arange(12, dtype=np.float32).reshape(2, 2, 3),
        "drift": np.arange(4, dtype=np.float32).reshape(2, 2),
    }
    store.log_rounds(tmp_path, 1, metrics, (7, 3))
    store.log_rounds(tmp_path, 3, {n: v + 100 for n, v in metrics.items()}, (7, 3))
    store.log_evaluation(tmp_path, 0, np.arange(8, dtype=np.float32).reshape(2, 2, 2))
    read, rounds, returns = store._read_logs(tmp_path)
    for name, values in metrics.items():
        np.testing.assert_array_equal(read[name], np.concatenate([values, values + 100]))
    np.testing.assert_array_equal(rounds, [0])
    np.testing.assert_array_equal(returns, np.arange(8).reshape(1, 2, 2, 2))
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1])
    assert first == {"round": 1, "seed": 3, "clients": {"loss": [3.0, 4.0, 5.0]}, "server": {"drift": 1.0}}


def test_weights_are_those_of_the_last_round_under_the_names_of_their_layers(
    finished: Path, experiment: Experiment
) -> None:
    simulation = Simulation(recipes.arms(experiment)["fedavg"], (0,))
    federation, _ = simulation.advance(simulation.init(), 2)
    for _ in range(2):
        federation, _ = simulation.advance(federation, 2)
    folder = finished / "arms" / "fedavg" / "weights" / "seed-0"
    weights = load_file(folder / "global.safetensors")
    assert {name: x.shape for name, x in weights.items()} == {
        "layers.0.weight": (16, 4),
        "layers.0.bias": (16,),
        "layers.1.weight": (2, 16),
        "layers.1.bias": (2,),
    }
    np.testing.assert_array_equal(weights["layers.0.weight"], federation.server.broadcast.layers[0].weight[0])
    for c in range(3):
        own = load_file(folder / f"client-{c}.safetensors")["layers.1.weight"]
        np.testing.assert_array_equal(own, federation.clients[0].agent.online.layers[1].weight[c])
    recorded = store.read_done(finished / "arms" / "fedavg")["weights"]
    assert recorded == {
        f"seed-0/{path.stem}": hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()
    }


# Runs that are not whole


def test_a_run_that_is_not_finished_can_be_read_as_far_as_it_went(halfway: Path) -> None:
    result = store.load_run(halfway)
    assert list(result.arms) == ["fedavg"]
    assert result.arms["fedavg"].rounds.tolist() == [0, 2, 4]
    assert result.arms["fedavg"].seconds == 0.0


def test_a_run_without_an_evaluation_says_so(tmp_path: Path, experiment: Experiment) -> None:
    folder = store.create(tmp_path, experiment, (0,), "")
    with pytest.raises(ValueError, match="holds no evaluation yet"):
        store.load_run(folder)


@pytest.mark.parametrize("path", [".", "nowhere", "file"])
def test_a_folder_that_is_no_run(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is not a run folder"):
        store.load_run(tmp_path / path)


@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluation.jsonl"])
@pytest.mark.parametrize("damage", ["a digit", "a line", "cut"])
def test_figures_that_were_edited_are_not_reported(
    name: str, damage: str, finished: Path, copied: Callable[[Path], Path]
) -> None:
    folder = copied(finished)
    path = folder / "arms" / "fedavg" / name
    lines = path.read_text().splitlines(keepends=True)
    if damage == "a digit":
        lines[1] = lines[1].replace("1", "2", 1) if "1" in lines[1] else lines[1].replace("0", "1", 1)
    elif damage == "a line":
        del lines[1]
    else:
        lines[-1] = lines[-1][:20]
    path.write_text("".join(lines))
    with pytest.raises(DamagedError, match="cut or edited"):
        store.load_run(folder)


@pytest.mark.parametrize("line", ["{", "[]", '{"round": 1}', "7", '{"round": 2, "returns": [[1], 2]}'])
def test_logs_of_an_unfinished_run_that_cannot_be_read(
    line: str, halfway: Path, copied: Callable[[Path], Path]
) -> None:
    folder = copied(halfway)
    with (folder / "arms" / "fedavg" / "evaluation.jsonl").open("a") as file:
        file.write(line)
    with pytest.raises(DamagedError, match="cannot be read"):
        store.load_run(folder)


def test_damage_to_the_record_is_detected_or_harmless(finished: Path, tmp_path: Path) -> None:
    whole = (finished / "run.json").read_bytes()
    expected, random, refused = json.loads(whole), np.random.default_rng(5), 0
    for i in range(240):
        place = int(random.integers(len(whole)))
        flip = bytes([whole[place] ^ int(random.integers(1, 256))])
        damaged = whole[:place] if i % 6 == 0 else whole[:place] + flip + whole[place + 1 :]
        (tmp_path / "run.json").write_bytes(damaged)
        try:
            assert store.read_record(tmp_path) == expected
        except DamagedError:
            refused += 1
    assert refused > 150


def test_damage_to_what_marks_an_arm_as_complete_is_detected_or_harmless(finished: Path, tmp_path: Path) -> None:
    whole = (finished / "arms" / "fedavg" / "done.json").read_bytes()
    (tmp_path / "done.json").write_bytes(whole)
    expected, random, refused = store.read_done(tmp_path), np.random.default_rng(6), 0
    for i in range(240):
        place = int(random.integers(len(whole)))
        flip = bytes([whole[place] ^ int(random.integers(1, 256))])
        damaged = whole[:place] if i % 6 == 0 else whole[:place] + flip + whole[place + 1 :]
        (tmp_path / "done.json").write_bytes(damaged)
        try:
            assert store.read_done(tmp_path) == expected
        except DamagedError:
            refused += 1
    assert refused > 150


@pytest.mark.parametrize("content", ["", "[]", "null", "7", "{}", "\xff", '{"format": 1}'])
def test_a_record_that_is_anything_else_is_damaged(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DamagedError):
        store.read_record(tmp_path)
    (tmp_path / "done.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DamagedError):
        store.read_done(tmp_path)


# What is refused before anything is written


class Mine(Environment):
    """A family that polyfed does not have."""

    params_class: ClassVar[type] = CartPole.params_class

    max_steps: int = 5

    @property
    def observation_space(self) -> Any:
        return CartPole().observation_space

    @property
    def action_space(self) -> Any:
        return CartPole().action_space

    def reset(self, key: Any, params: Any) -> Any:
        return CartPole().reset(key, params)

    def step(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        return CartPole().step(key, state, action, params)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_rounds": 0}, "num_rounds = 0"),
        ({"compare": ("fedvg",)}, "did you mean 'fedavg'"),
        ({"agent": {"learning_rate": (1e-3, 1e-4, 1e-5)}, "compare": ("pooled",)}, "drop pooled from compare"),
        ({"environment": Mine()}, "is not a part of polyfed"),
        ({"name": "../elsewhere"}, "cannot name a folder"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_anything_is_written(
    changes: dict[str, Any], sentence: str, tiny: Callable[..., Experiment], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=sentence):
        run.create(tmp_path / "runs", tiny(**changes), (0,))
    assert not (tmp_path / "runs").exists()


# One process at a time


def test_a_second_process_is_refused_and_the_next_one_is_not(tmp_path: Path) -> None:
    with store.locked(tmp_path):
        with pytest.raises(BusyError, match="another process") as caught, store.locked(tmp_path):
            pass
        assert caught.value.exit_code == 7
    with store.locked(tmp_path):
        pass


def test_a_failure_inside_is_not_taken_for_one_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError), store.locked(tmp_path):
        raise BrokenPipeError
    with store.locked(tmp_path):  # and the lock is free again
        pass


def test_a_busy_folder_is_not_written_to(halfway: Path, copied: Callable[[Path], Path]) -> None:
    folder = copied(halfway)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with store.locked(folder), pytest.raises(BusyError):
        run.go_on(folder, ignore)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_titles_of_named_experiments_come_from_their_files(tiny: Callable[..., Experiment]) -> None:
    assert store.title(tiny(name="cartpole-poles")).startswith("Three cart-poles")
    assert store.title(dataclasses.replace(tiny(), name="mine")) == "mine"
