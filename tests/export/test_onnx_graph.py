from __future__ import annotations

import builtins
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import A2C, DDPG, DQN, PPO, REINFORCE, SAC, Agent, Classifier, Embedding, QLearning
from polyfed.agents.observation_statistics import ObservationStatistics
from polyfed.environments import CartPole, Dataset, Pendulum, TabularMDP, World
from polyfed.environments.digits import Digits
from polyfed.errors import MissingExtraError
from polyfed.export import onnx_graph
from polyfed.export.onnx_graph import run_onnx, to_onnx

HIDDEN: dict[str, Any] = {"hidden": (8, 8)}
LEARNERS: dict[str, tuple[Agent, World]] = {
    "dqn": (DQN(**HIDDEN), CartPole()),
    "dueling-elu-embedding": (DQN(dueling=True, activation="elu", embedding=Embedding(), **HIDDEN), CartPole()),
    "nested": (DQN(width=5, **HIDDEN), CartPole()),
    "ddpg": (DDPG(**HIDDEN), Pendulum()),
    "td3": (DDPG.td3(), Pendulum()),
    "reinforce": (REINFORCE(**HIDDEN), CartPole()),
    "a2c": (A2C(**HIDDEN), CartPole()),
    "ppo-continuous-statistics": (PPO(statistics=ObservationStatistics(), **HIDDEN), Pendulum()),
    "ppo": (PPO(**HIDDEN), CartPole()),
    "sac": (SAC(**HIDDEN), Pendulum()),
    "q-learning": (QLearning(), TabularMDP()),
    "cnn": (Classifier(network="cnn", hidden=(8,), channels=(2, 2)), Dataset(Digits())),
}


def outputs_of(agent: Agent, environment: World) -> Any:
    state = agent.init(jax.random.key(0), environment, 1)

    def outputs(observation: Any) -> dict[str, Any]:
        found = {"action": agent.policy(state, observation)}
        try:
            prediction = agent.predict(state, observation)
        except ValueError:
            return found
        return found | {f.name: getattr(prediction, f.name) for f in dataclasses.fields(prediction)}

    return outputs


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_does_the_same_as_onnx_in_batches_of_any_size(name: str) -> None:
    agent, environment = LEARNERS[name]
    outputs, size = outputs_of(agent, environment), environment.observation_space.size
    model = to_onnx(outputs, size, {"learner": name})
    observations = np.random.default_rng(0).normal(size=(500, size)).astype(np.float32)
    expected = jax.jit(outputs)(observations)
    for num in (1, 7, 500):
        found = run_onnx(model, observations[:num])
        assert set(found) == set(expected)
        for key, array in found.items():
            assert array.dtype == expected[key].dtype
            assert array.shape == (num, *expected[key].shape[1:])
            np.testing.assert_allclose(array, expected[key][:num], rtol=1e-5, atol=1e-5)


def test_what_action_and_scores_share_is_stored_once() -> None:
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(4, 1000)), jnp.float32)
    one = to_onnx(lambda x: {"a": x @ weight}, 4, {})
    two = to_onnx(lambda x: {"a": x @ weight, "b": jnp.argmax(x @ weight, axis=1)}, 4, {})
    assert len(two) < len(one) + 1000


def test_the_model_says_what_it_is() -> None:
    onnx, _ = onnx_graph.load()
    model = onnx.load_from_string(to_onnx(lambda x: {"y": x}, 3, {"experiment": "tiny"}))
    assert {p.key: p.value for p in model.metadata_props} == {"experiment": "tiny"}
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_value) == ("batch", 3)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_onnx_the_command_that_installs_it_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r'pip install "polyfed\[export\]", or export to safetensors'):
        to_onnx(lambda x: {"y": x}, 1, {})
