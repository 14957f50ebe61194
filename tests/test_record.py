"""Parts go into JSON and come back the same; what is not a part of polyfed does not come back at all."""

import copy
import json

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.agents import (
    AGENTS,
    DQN,
    Embedding,
    ExponentialDecay,
    HardUpdate,
    LinearDecay,
    Proximal,
    SoftUpdate,
    Survival,
    WorstCase,
)
from polyfed.aggregation import RULES, SERVER_OPTIMIZERS
from polyfed.environments import (
    BODIES,
    CONTINUOUS_PROBES,
    FAMILIES,
    PROBES,
    CartPole,
    Explicit,
    Grid,
    Perturbed,
    Uniform,
)
from polyfed.exchange import TRANSFORMS, ClipNorm
from polyfed.experiment import Evaluation, Experiment
from polyfed.experiments import load, titles
from polyfed.recipes import RECIPES, arms
from polyfed.record import canonical, digest, from_data, to_data

PARTS = [
    *RULES,
    *TRANSFORMS,
    *AGENTS,
    *FAMILIES,
    *SERVER_OPTIMIZERS,
    *PROBES,
    *CONTINUOUS_PROBES,
    *BODIES,
    CartPole(max_steps=7),
    DQN(shared=("online", "worst_case"), worst_case=WorstCase(omega=(0.1, 0.2)), embedding=Embedding(3)),
    Perturbed(("force", "half_length+mass_pole"), points=3),
    DQN(
        hidden=(8, 16, 32),
        dueling=True,
        learning_rate=(1e-3, 1e-4, 1 / 3),
        learning_starts=(5, 6, 7),
        max_grad_norm=None,
        target_update=SoftUpdate(rate=(0.1, 0.2, 0.3)),
        exploration=ExponentialDecay(steps=(10, 20, 30)),
        survival=Survival.nothing(),
        local_terms=(Proximal(0.1), Proximal((0.1, 0.2, 0.3))),
    ),
    DQN(max_grad_norm=float("inf"), exploration=LinearDecay(start=(1.0, 0.5)), target_update=HardUpdate((1, 2))),
    ClipNorm(max_norm=0.1 + 0.2),
    Explicit({"half_length": (0.25, 0.5), "force": (1e-3, 10)}),
    Grid({"half_length": (0.25, 0.5)}),
    Uniform(["half_length", ("mass_pole", "mass_cart")], rho=0.3, seed=7),
    Evaluation(every=3, held_out=Uniform(["force"]), num_held_out=2),
    (ClipNorm(), ClipNorm(2.0)),
]


LEARNERS = ("dqn", "ddpg")  # some methods are for one learner


def through_json(value):
    return from_data(json.loads(canonical(to_data(value))))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_a_part_comes_back(part):
    again = through_json(part)
    assert again == part
    assert type(again) is type(part)
    assert canonical(to_data(again)) == canonical(to_data(part))


@pytest.mark.parametrize("name", titles())
def test_a_named_experiment_comes_back_and_so_do_its_arms(name):
    experiment = load(name)
    assert through_json(experiment) == experiment
    if isinstance(experiment, Experiment):
        learner = type(experiment.agent).__name__.lower()
        others = [name for name in LEARNERS if name != learner]
        fitting = [recipe for method, recipe in RECIPES.items() if not any(name in method for name in others)]
        if learner != "dqn":
            fitting.remove(RECIPES["fedhql"])
        if not hasattr(experiment.agent, "local_terms"):
            fitting.remove(RECIPES["fedprox"])
        if learner == "mixed":  # of which methods that average networks are refused
            fitting = [RECIPES[name] for name in ("fedhpd", "dpa_fedrl", "local_only")]
        for arm in (*arms(experiment).values(), *(recipe(experiment) for recipe in fitting)):
            assert through_json(arm) == arm


def test_numbers_keep_their_kind():
    data = json.loads(canonical(to_data(DQN(learning_rate=1.0, learning_starts=500))))
    assert (type(data["learning_rate"]), type(data["learning_starts"])) == (float, int)
    assert through_json((1, 1.0, True, None, "x", 5e-324, float("inf"))) == (1, 1.0, True, None, "x", 5e-324, np.inf)


def test_arrays_are_recorded_as_the_numbers_they_hold():
    assert to_data(ClipNorm(np.float32(0.5)))["max_norm"] == 0.5
    assert to_data(ClipNorm(jnp.array([1.0, 2.0])))["max_norm"] == [1.0, 2.0]
    assert to_data(np.int64(3)) == 3
    assert type(to_data(np.bool_(True))) is bool


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", lambda: None, ClipNorm, 1j, {"a": 1}])
def test_what_is_no_data_cannot_be_recorded(value):
    with pytest.raises(
        ValueError, match=r"cannot be recorded as data: use numbers|is code, which a record cannot hold"
    ):
        to_data((1.0, value))


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "polyfedx.agents.DQN",
        "tests.test_record.Foreign",
        "polyfed.agents.dqn.jax",
        "polyfed.agents.dqn.in_range",
        "polyfed.agents.dqn.DQN.check",
        "polyfed.agents.nowhere.DQN",
        "polyfed.agents.dqn.DQNN",
        "polyfed.agents.DQN",  # where it is imported, not where it lives: two paths would be two digests
        "polyfed..os.system",
        "polyfed",
        "DQN",
        "",
        None,
        7,
        ["polyfed.agents.dqn.DQN"],
        "polyfed.record.dataclasses.Field",
        "polyfed.agents.agent.Agent",
        "polyfed.agents.networks.MLP",
    ],
)
def test_only_parts_of_polyfed_are_read(path):
    with pytest.raises(ValueError, match=r"polyfed|cannot be made"):
        from_data({"part": path})
    with pytest.raises(ValueError, match=r"polyfed|cannot be made"):
        from_data([{"part": "polyfed.agents.dqn.DQN", "target_update": {"part": path}}])


def test_a_record_without_a_part_is_refused():
    with pytest.raises(ValueError, match="a record names parts of polyfed only"):
        from_data({"max_norm": 1.0})


def test_unknown_and_missing_fields_are_refused_in_a_sentence():
    data = to_data(ClipNorm())
    with pytest.raises(ValueError, match="ClipNorm has no field 'maximum': the record was edited, or written by"):
        from_data({**data, "maximum": 3.0})
    data = to_data(load("cartpole-poles"))
    del data["name"]
    with pytest.raises(ValueError, match=r"Experiment cannot be made from .*: the record was edited, or written by"):
        from_data(data)


EXPERIMENT = to_data(load("cartpole-poles"))


def places(data, path=()):
    """Every place in nested data."""
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("part"), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(list(places(EXPERIMENT))[1:]),
    json_data,
    st.sampled_from(["replace", "delete", "rename"]),
)
def test_an_edited_record_is_read_or_refused_in_a_sentence(place, new, how):
    """Never another exception, which would be a traceback at the command line."""
    data = copy.deepcopy(EXPERIMENT)
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    if how == "replace":
        inner[place[-1]] = new
    else:
        old = inner.pop(place[-1])
        if how == "rename" and isinstance(inner, dict):
            inner[f"{place[-1]}x"] = old
    try:
        experiment = from_data(data)
    except ValueError as refusal:
        assert str(refusal).endswith(".")  # noqa: PT017
    else:
        to_data(experiment)


@given(json_data)
def test_canonical_text_is_one_for_equal_data(data):
    shuffled = dict(reversed(data.items())) if isinstance(data, dict) else data
    assert canonical(shuffled) == canonical(data)
    assert digest(shuffled) == digest(data)


def test_digests_are_stable():
    """Pinned: a change here makes every old run folder look damaged."""
    assert canonical({"b": [1, 2.5, None], "a": "ä"}) == '{"a":"\\u00e4","b":[1,2.5,null]}'
    assert digest(to_data(HardUpdate(period=10))) == digest({"period": 10, "part": "polyfed.agents.target.HardUpdate"})
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    assert len({digest(to_data(part)) for part in PARTS}) == len(PARTS)
