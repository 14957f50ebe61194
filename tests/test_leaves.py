import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import AGENTS, DQN, HardUpdate, LinearDecay, Proximal
from polyfed.aggregation import SERVER_OPTIMIZERS, ServerAdam
from polyfed.exchange import TRANSFORMS, ClipNorm
from polyfed.leaves import check_leaves, differing, dynamic_fields, is_part, stacked

AGENT = DQN(
    learning_rate=(1e-3, 2e-3, 3e-3),
    discount=0.9,
    learning_starts=(10, 20, 30),
    target_update=HardUpdate(period=(1, 2, 3)),
    exploration=LinearDecay(start=(1.0, 0.5, 0.1)),
    local_terms=(Proximal(strength=(0.1, 0.2, 0.3)),),
)


def test_every_number_becomes_one_per_client():
    agent = stacked(AGENT, 3)
    known = {
        "learning_rate": (agent.learning_rate, [1e-3, 2e-3, 3e-3], jnp.float32),
        "discount": (agent.discount, [0.9] * 3, jnp.float32),
        "learning_starts": (agent.learning_starts, [10, 20, 30], jnp.int32),
        "period": (agent.target_update.period, [1, 2, 3], jnp.int32),
        "start": (agent.exploration.start, [1.0, 0.5, 0.1], jnp.float32),
        "steps": (agent.exploration.steps, [2000] * 3, jnp.int32),
        "strength": (agent.local_terms[0].strength, [0.1, 0.2, 0.3], jnp.float32),
    }
    for name, (leaf, values, dtype) in known.items():
        assert (leaf.shape, leaf.dtype) == ((3,), dtype), name
        np.testing.assert_allclose(leaf, values, rtol=1e-6)


def test_what_fixes_a_shape_stays_as_it_is():
    agent = stacked(AGENT, 3)
    static = [f.name for f in dataclasses.fields(DQN) if f.name not in dynamic_fields(AGENT)]
    assert {"hidden", "batch_size", "replay_capacity", "n_step", "double"} <= set(static)
    assert all(getattr(agent, name) == getattr(AGENT, name) for name in static)
    assert agent.survival == AGENT.survival
    assert AGENT.learning_rate == (1e-3, 2e-3, 3e-3)  # the part itself is not touched


@pytest.mark.parametrize("part", [*AGENTS, *TRANSFORMS, *SERVER_OPTIMIZERS], ids=repr)
def test_a_part_in_common_has_scalars(part):
    common = stacked(part, None)
    assert type(common) is type(part)
    for name in dynamic_fields(part):
        value = getattr(common, name)
        assert value is None or is_part(value) or isinstance(value, tuple) or value.shape == (), name


def test_tuples_of_parts_and_absent_numbers():
    first, second = stacked((ClipNorm(2.0), ServerAdam()), None)
    assert float(first.max_norm) == 2.0
    assert second.learning_rate.dtype == jnp.float32
    assert stacked(DQN(max_grad_norm=None), 2).max_grad_norm is None
    assert stacked(DQN(), 2).local_terms == ()


def test_is_part():
    assert is_part(ClipNorm())
    assert not any(map(is_part, (ClipNorm, 1.0, (ClipNorm(),), "ClipNorm", None)))


@pytest.mark.parametrize("num_clients", [None, 1, 3])
def test_accepts_one_number_or_one_for_each(num_clients):
    check_leaves("agent", DQN(), num_clients)
    check_leaves("agent", DQN(max_grad_norm=None), num_clients)
    if num_clients:
        each = tuple([0.5] * num_clients)
        check_leaves("agent", DQN(learning_rate=each, exploration=LinearDecay(end=each)), num_clients)


@pytest.mark.parametrize(
    ("agent", "num_clients", "sentence"),
    [
        (
            DQN(learning_rate=(0.1, 0.2)),
            3,
            "agent.learning_rate has 2 values for 3 clients, but every client needs its own: "
            "give one number for all, or 3.",
        ),
        (
            DQN(exploration=LinearDecay(end=(0.1, 0.2, 0.3))),
            2,
            "agent.exploration.end has 3 values for 2 clients, but every client needs its own: "
            "give one number for all, or 2.",
        ),
        (
            DQN(local_terms=(Proximal(), Proximal((0.1, 0.2)))),
            3,
            "agent.local_terms[1].strength has 2 values for 3 clients, but every client needs its own: "
            "give one number for all, or 3.",
        ),
        (
            DQN(discount=np.full((3, 1), 0.9)),
            3,
            "agent.discount has an array of shape (3, 1) for 3 clients, but every client needs its own: "
            "give one number for all, or 3.",
        ),
        (DQN(discount="high"), 3, "agent.discount = 'high' is not a number: give one, or one per client."),
        (DQN(discount="0.9"), 3, "agent.discount = '0.9' is not a number: give one, or one per client."),
        (
            DQN(discount=(0.9, 0.8)),
            None,
            "agent.discount has 2 values, but all clients have it in common: give one number.",
        ),
    ],
)  # fmt: skip
def test_refuses_wrong_lengths_in_a_sentence(agent, num_clients, sentence):
    with pytest.raises(ValueError, match="agent") as refusal:
        check_leaves("agent", agent, num_clients)
    assert str(refusal.value) == sentence


def test_differing_names_what_clients_do_not_share():
    assert differing("agent", DQN()) == []
    assert differing("agent", AGENT) == [
        "agent.learning_rate",
        "agent.learning_starts",
        "agent.target_update.period",
        "agent.exploration.start",
        "agent.local_terms[0].strength",
    ]
