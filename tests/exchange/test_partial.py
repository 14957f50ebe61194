"""Parameters of which some stay at home."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import DDPG, DQN
from polyfed.environments import CartPole, Pendulum
from polyfed.exchange import PartialParameters
from polyfed.exchange.partial import heads, kept_names
from polyfed.leaves import leaf_names
from polyfed.recipes import RECIPES
from polyfed.simulation.simulate import Simulation
from polyfed.testing.compare import same_bits

AGENT = DQN(hidden=(4, 4), batch_size=4, replay_capacity=20, learning_starts=4)


def test_a_head_is_the_last_layer_of_every_network():
    state = DDPG(hidden=(4,)).init(jax.random.key(0), Pendulum(), 1)
    names = leaf_names(DDPG(hidden=(4,)).share(state))
    assert heads(names) == [name for name in names if ".layers.1." in name]
    dueling = dataclasses.replace(AGENT, dueling=True)
    names = leaf_names(dueling.share(dueling.init(jax.random.key(0), CartPole(), 1)))
    assert heads(names) == ["value.weight", "value.bias", "advantage.weight", "advantage.bias"]


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [(("nose",), "names 'nose', but a client's arrays are a, b: name one"), (("*",), "keeps every array at home")],
)
def test_what_cannot_be_kept_is_refused(kept, sentence):
    with pytest.raises(ValueError, match=sentence):
        kept_names(["a", "b"], kept)


def test_what_is_kept_neither_leaves_nor_is_replaced():
    agent = PartialParameters().of(AGENT, ())
    state = agent.init(jax.random.key(0), CartPole(), 1)
    sent = agent.share(state)
    assert sorted(sent) == [f"layers.{i}.{part}" for i in range(2) for part in ("bias", "weight")]
    after = agent.absorb(state, {name: jnp.zeros_like(x) for name, x in sent.items()})
    before, network = AGENT.share(state), AGENT.share(after)
    assert all(not np.any(layer.weight) for layer in network.layers[:2])
    assert same_bits(network.layers[2], before.layers[2])
    assert same_bits(agent.parameters(state), before)


@pytest.mark.slow
def test_of_fedper_all_but_the_heads_become_one(tiny):
    experiment = RECIPES["fedper"](tiny(num_rounds=2))
    simulation = Simulation(experiment, seeds=(0,))
    federation, metrics = simulation.advance(simulation.init(), 1)
    learner = experiment.learner_of(0)
    networks = jax.vmap(learner.share)(jax.tree.map(lambda x: x[:3], federation.clients[0].agent))
    head = networks.layers[-1].weight
    assert not np.allclose(head[0], head[1])
    body = sum(x.size for layer in networks.layers[:-1] for x in jax.tree.leaves(layer)) // 3
    assert int(metrics["bytes_up"][0, 0, 0]) == 4 * body
    assert simulation.policy_names == ("client-0", "client-1", "client-2")
