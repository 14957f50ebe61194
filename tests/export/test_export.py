from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from polyfed import recipes
from polyfed.agents import A2C
from polyfed.environments import Catch, Explicit, Recall
from polyfed.experiment import Evaluation, Experiment
from polyfed.export import FORMATS, export, onnx_graph
from polyfed.export.parity import NUM_OBSERVATIONS, sample_observations
from polyfed.runs import run
from polyfed.runs.files import sha256
from polyfed.runs.learned import read_learned

HEADINGS = (
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
)  # Mitchell et al. 2019, figure 1


@pytest.mark.parametrize("client", ["global", "client-2"])
@pytest.mark.parametrize("format", FORMATS)
def test_an_export_is_the_policy_and_says_so(format: str, client: str, folder: Path, tmp_path: Path) -> None:
    found = export(folder, tmp_path, format=format, client=client, seed=1)
    file = tmp_path / f"policy.{format}"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["MODEL_CARD.md", "export.json", file.name]
    assert found["observations"] == NUM_OBSERVATIONS
    assert found["differences"]["values"] < 1e-5
    assert found["equal_actions"] == 1.0
    assert "largest difference over 10000 observations: values " in found["parity"]
    card, told = (tmp_path / "MODEL_CARD.md").read_text(), json.loads((tmp_path / "export.json").read_text())
    assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == list(HEADINGS)
    for words in (sha256(file), found["parity"], "mcmahan2017fedavg", "`half_length` (m): 0.25, 0.5, 1", "| seed 1 |"):
        assert words in card
    assert ("own world" in card) == (client != "global")
    assert told["sha256"] == found["sha256"] == sha256(file)
    assert told["policy"] == client
    assert told["command"].endswith(f"--client {client} --seed 1 --format {format} --out {tmp_path}")


def test_a_file_of_onnx_acts_as_the_clients_own_policy(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path, client="client-1")
    learned = read_learned(folder, name="client-1")
    observations = sample_observations(learned, learned.world(1), seed=5)
    found = onnx_graph.run_onnx((tmp_path / "policy.onnx").read_bytes(), observations)
    np.testing.assert_array_equal(found["action"], learned.act(jnp.asarray(observations)))


def test_a_clients_own_policy_has_the_vector_that_never_left_it(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path, format="safetensors", client="client-1")
    arrays = load_file(tmp_path / "policy.safetensors")
    state = load_file(max((folder / "arms/fedavg/checkpoints").iterdir()) / "state.safetensors")
    np.testing.assert_array_equal(arrays["embedding.vector"], state["clients.0.agent.embedding.vector"][1])
    assert np.abs(arrays["embedding.vector"]).min() > 0
    export(folder, tmp_path / "global", format="safetensors")
    assert set(load_file(tmp_path / "global/policy.safetensors")) == set(arrays) - {"embedding.vector"}
    with safe_open(tmp_path / "policy.safetensors", "np") as file:
        assert file.metadata()["policy"] == "client-1"


def test_a_copy_that_differs_is_not_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read = FORMATS["onnx"]

    def wrong(*args: Any) -> Any:
        return {name: x + 1 for name, x in read(*args).items()}

    monkeypatch.setitem(FORMATS, "onnx", (write, wrong))
    with pytest.raises(ValueError, match="not the one that was trained, so nothing was written"):
        export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"client": "client-7"}, "has no weights 'seed-0/client-7'"),
        ({"client": "clint"}, "has no weights 'seed-0/clint'"),
        ({"seed": 9}, "has no weights 'seed-9/global'"),
        ({"arm": "fedwb"}, "--arm"),
        ({"format": "onx"}, "did you mean 'onnx'"),
    ],
    ids=["client", "word", "seed", "arm", "format"],
)
def test_what_cannot_be_exported(how: dict[str, Any], sentence: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        export(folder, tmp_path, **how)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_policy_of_images_is_exported_and_one_with_a_memory_is_refused(tmp_path: Path) -> None:
    form: Any = {"num_clients": 2, "num_envs": 2, "num_rounds": 1, "local_steps": 16}
    form["evaluation"] = Evaluation(every=1, episodes=2)
    homes = {"images": (Catch(), A2C(hidden=(8,), channels=(4,))), "memory": (Recall(), A2C(hidden=(8,), memory=4))}
    for name, (world, agent) in homes.items():
        experiment = recipes.fedavg(Experiment(name, world, Explicit({"scale": (1.0, 2.0)}), agent=agent, **form))
        run.go_on(run.create(tmp_path / name, experiment, (0,), "polyfed run it"), lambda progress: None)
    found = [next(path.parent for path in (tmp_path / name).rglob("arms")) for name in homes]
    assert export(found[0], tmp_path / "out")["equal_actions"] == 1.0
    learned = read_learned(found[1], name="client-1")
    assert not learned.private
    home = learned.agent.view(Recall())
    assert learned.act(jnp.zeros((1, home.observation_size))).memory.shape == (1, 8)
    with pytest.raises(ValueError, match="A policy with a memory needs what it noted"):
        export(found[1], tmp_path / "none")
