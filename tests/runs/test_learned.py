from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from polyfed.environments import Uniform
from polyfed.errors import DamagedError
from polyfed.runs import learned as door
from polyfed.runs.learned import read_learned

X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("arm", "name", "client"), [("", "global", None), ("fedavg", "client-2", 2), ("local_only", "client-0", 0)]
)
def test_a_policy_acts_with_the_weights_of_the_run_folder(
    arm: str, name: str, client: int | None, finished: Path
) -> None:
    learned = read_learned(finished, arm=arm, name=name)
    method = arm or "fedavg"
    weights = load_file(finished / f"arms/{method}/weights/seed-0/{name}.safetensors")
    hidden = np.maximum(X @ weights["layers.0.weight"].T + weights["layers.0.bias"], 0)
    values = hidden @ weights["layers.1.weight"].T + weights["layers.1.bias"]
    np.testing.assert_array_equal(learned.act(jnp.asarray(X)), values.argmax(axis=1))
    assert (learned.name, learned.client, learned.seed, learned.seeds) == (name, client, 0, (0,))
    assert learned.experiment.method == method
    done = json.loads((finished / f"arms/{method}/done.json").read_text())
    assert learned.weights_sha256 == done["weights"][f"seed-0/{name}"]
    assert set(learned.parameters()) == set(weights)
    for key, array in learned.parameters().items():
        np.testing.assert_array_equal(array, weights[key])


def test_other_parameters_make_another_policy_of_the_same_learner(finished: Path) -> None:
    one, two = (read_learned(finished, arm="local_only", name=f"client-{i}") for i in (0, 1))
    swapped = one.with_parameters(two.parameters(), Path("here"))
    np.testing.assert_array_equal(
        swapped.agent.predict(swapped.state, X).values, two.agent.predict(two.state, X).values
    )
    before = np.asarray(one.agent.predict(one.state, X).values)
    assert not np.array_equal(before, swapped.agent.predict(swapped.state, X).values)
    short = {name: x[:1] for name, x in two.parameters().items()}
    with pytest.raises(DamagedError):
        one.with_parameters(short, Path("here"))


def test_a_world_is_the_one_in_which_the_client_trained(finished: Path) -> None:
    learned = read_learned(finished)
    assert [float(learned.world(c).half_length) for c in range(3)] == [0.25, 0.5, 1.0]
    each = dataclasses.replace(learned.experiment, variation=Uniform(["half_length"], each_seed=True))
    one, other = (dataclasses.replace(learned, experiment=each, seed=seed) for seed in (0, 1))
    assert float(one.world(1).half_length) != float(other.world(1).half_length)
    assert all(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(one.world(1)))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"arm": "fedvg"}, "did you mean 'fedavg'"),
        ({"arm": "local_only"}, "has no weights 'seed-0/global'"),
        ({"name": "client-3"}, "has no weights 'seed-0/client-3'"),
        ({"name": "client-"}, "has no weights 'seed-0/client-'"),
        ({"name": "../../local_only/weights/seed-0/client-0"}, "has no weights"),
        ({"seed": 4}, "has no weights 'seed-4/global'"),
    ],
    ids=["arm", "none-global", "client", "no-number", "path", "seed"],
)
def test_what_was_not_learned_cannot_be_read(how: dict[str, str], sentence: str, finished: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_learned(finished, **how)  # type: ignore[arg-type]


def test_an_arm_that_is_not_complete_has_no_policy_yet(halfway: Path) -> None:
    with pytest.raises(ValueError, match="is not complete, so it has no final weights"):
        read_learned(halfway)


def test_weights_that_were_edited_are_noticed(finished: Path, copied: Callable[[Path], Path]) -> None:
    copy = copied(finished)
    weights = copy / "arms/fedavg/weights/seed-0"
    shutil.copy(weights / "client-1.safetensors", weights / "global.safetensors")
    with pytest.raises(DamagedError, match="was cut or edited"):
        read_learned(copy)


def test_what_was_made_elsewhere_stays_there(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = type(read_learned(finished, name="client-1").agent)
    monkeypatch.setattr(door, "Foreign", guest)
    with pytest.raises(ValueError, match="client-1 was made elsewhere, and polyfed knows only what it answers"):
        read_learned(finished, name="client-1")
