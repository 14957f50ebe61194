from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from polyfed.agents import DQN, SAC
from polyfed.environments import Explicit, Uniform
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.export.model_card import MAX_ENTRIES, model_card, references
from polyfed.export.parity import Parity
from polyfed.runs import store
from polyfed.runs.learned import Learned, read_learned

PARITY = Parity(10_000, {"values": 1e-6}, {"values": 1e-5}, 1.0)


def card(folder: Path, learned: Learned, **changes: Any) -> str:
    run = dataclasses.replace(store.load_run(folder), **changes)
    return model_card(run, learned, "`policy.onnx`, 5 bytes, SHA-256 `abc`", PARITY, "polyfed export ...")


def changed(learned: Learned, **changes: Any) -> Learned:
    return dataclasses.replace(learned, experiment=dataclasses.replace(learned.experiment, **changes))


def part(text: str, heading: str) -> str:
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_scores_are_those_of_the_run(folder: Path) -> None:
    learned = read_learned(folder, seed=1, name="client-2")
    text = part(card(folder, learned), "Quantitative analyses")
    arm = store.load_run(folder).arms["fedavg"]
    mine = arm.returns[-1, 1, arm.policies.index("client-2")]
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    rows = {cells[0]: cells[1] for cells in table}
    assert float(rows["own world"]) == pytest.approx(mine[2], rel=1e-3)
    assert float(rows["in client-0"]) == pytest.approx(mine[0], rel=1e-3)
    assert float(rows["mean over the clients' worlds"]) == pytest.approx(mine[:3].mean(), rel=1e-3)
    assert float(rows["worst of the clients' worlds"]) == pytest.approx(mine[:3].min(), rel=1e-3)
    assert float(rows["held-out worlds"]) == pytest.approx(mine[3], rel=1e-3)
    assert "| return | seed 1 | over 2 seeds |" in text
    assert f"Exported against original: {PARITY}." in text


def test_what_was_not_judged_is_not_scored(folder: Path) -> None:
    run = store.load_run(folder)
    arm = dataclasses.replace(run.arms["fedavg"], policies=("global",))
    text = card(folder, read_learned(folder, name="client-0"), arms={"fedavg": arm})
    assert "- The run did not judge the policy client-0 (`evaluation.own`)." in text


def test_a_policy_of_gymnasium_names_its_environment_and_its_clients_worlds(folder: Path) -> None:
    lander = Gymnasium("LunarLander-v3")
    learned = changed(
        read_learned(folder, name="client-1"), environment=lander, variation=Explicit({"gravity": (7.0, 8.0, 11.5)})
    )
    text = card(folder, learned, units={"gravity": "m/s^2"})
    assert "- Environment: `LunarLander-v3` of Gymnasium: " in text
    assert "to act in `LunarLander-v3` of Gymnasium as it is simulated" in text
    assert "  - `gravity` (m/s^2): 7, 8, 11.5; of this policy's client: 8\n" in text
    assert "float32 `[batch, 8]`" in text
    assert "[-0" not in part(text, "Training data")


def test_where_every_seed_has_its_own_fleet_the_card_shows_this_seeds(folder: Path) -> None:
    learned = changed(read_learned(folder, seed=1), variation=Uniform(["half_length"], each_seed=True))

    def half_length(seed: int, client: int) -> float:
        return float(dataclasses.replace(learned, seed=seed).world(client).half_length)

    mine, others = (", ".join(f"{half_length(seed, c):g}" for c in range(3)) for seed in (1, 0))
    text = card(folder, learned)
    assert f"`half_length` (m): {mine}\n" in text
    assert others not in text


def test_worlds_that_do_not_differ_are_said_to_be_one(folder: Path) -> None:
    text = card(folder, changed(read_learned(folder), variation=Explicit()))
    assert "All clients live in one and the same world" in text


def test_many_entries_are_told_together(folder: Path) -> None:
    world = Gymnasium("FrozenLake8x8-v1")
    assert world.observation_space.size > MAX_ENTRIES
    text = card(folder, changed(read_learned(folder), environment=world, variation=Explicit()))
    assert "- Observation: 64 numbers from 0 to 1.\n" in text


def test_papers_are_those_that_a_parts_file_names(folder: Path) -> None:
    assert references(DQN()) == ["mnih2015dqn", "vanhasselt2016double", "wang2016dueling"]
    assert references(SAC()) == ["haarnoja2018sac"]
    assert references(PARITY) == []
    keys = set(Path(__file__).parents[2].joinpath("references.bib").read_text().split("{")[1:])
    assert all(any(entry.startswith(f"{key},") for entry in keys) for key in references(DQN()))
    assert "mnih2015dqn" in card(folder, read_learned(folder))
