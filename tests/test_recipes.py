"""Published methods are the combinations that they say they are, and leave everything else alone."""

import dataclasses

import numpy as np
import pytest

from polyfed.agents import (
    DDPG,
    DQN,
    Distillation,
    Embedding,
    Group,
    HardUpdate,
    Mixed,
    Proximal,
    QLearning,
    Survival,
    WorstCase,
)
from polyfed.aggregation import (
    AlignedMean,
    Consensus,
    LocalOnly,
    NestedMean,
    ServerAdam,
    ServerMomentum,
    ServerSGD,
    ServerYogi,
    Switch,
    WassersteinBarycenter,
    WeightedMean,
)
from polyfed.aggregation.shared_walk import SharedWalk
from polyfed.environments import Pendulum, Uniform
from polyfed.environments.public_states import UniformStates
from polyfed.exchange import ClipNorm, HalfPrecision, Nothing, Parameters, PartialParameters, Predictions
from polyfed.exchange.server_walk import ServerStates
from polyfed.experiment import Variant
from polyfed.experiments import load
from polyfed.recipes import BASELINES, RECIPES, arms
from polyfed.record import from_data, to_data
from polyfed.simulation import simulate

NAMED = load("cartpole-poles")
BASE = dataclasses.replace(NAMED, agent=dataclasses.replace(NAMED.agent, n_step=1))  # a worst case is of one step
PENDULUM = dataclasses.replace(BASE, environment=Pendulum(), variation=Uniform(["mass"]), agent=DDPG())
PENDULUM = dataclasses.replace(PENDULUM, evaluation=dataclasses.replace(PENDULUM.evaluation, num_held_out=0))
PREDICTIVE = ("fedhpd", "fedhql", "dpa_fedrl")  # clients send predictions, and each begins with parameters of its own
SENT = {"fedper": PartialParameters(), "fedhpd": Predictions(), "fedhql": Predictions(), "dpa_fedrl": ServerStates()}
METHOD_PARTS = {"local_terms", "worst_case", "embedding", "shared"}  # what makes a federated method of a learner


def base_of(name):
    """An experiment whose learner the recipe is for."""
    return PENDULUM if "ddpg" in name else BASE


PARTS = {  # method: rule, server optimizer
    "fedavg": (WeightedMean(), ServerSGD()),
    "fedwb": (WassersteinBarycenter.safe(), ServerSGD()),
    "fedwb_paper_exact": (WassersteinBarycenter.paper_exact(), ServerSGD()),
    "fedwb_paper": (WassersteinBarycenter.paper(), ServerSGD()),
    "fedwb_lp": (WassersteinBarycenter.lp(), ServerSGD()),
    "fedwb_values": (WassersteinBarycenter.values(), ServerSGD()),
    "fedwb_geometric": (WassersteinBarycenter.geometric(), ServerSGD()),
    "otfusion": (AlignedMean(), ServerSGD()),
    "heterofl": (NestedMean(), ServerSGD()),
    "fedavgm": (WeightedMean(), ServerMomentum()),
    "fedadam": (WeightedMean(), ServerAdam()),
    "fedyogi": (WeightedMean(), ServerYogi()),
    "fedprox": (WeightedMean(), ServerSGD()),
    "fedper": (WeightedMean(), ServerSGD()),
    "dqnavg": (WeightedMean(), ServerSGD()),
    "ddpgavg": (WeightedMean(), ServerSGD()),
    "fedrdqn": (WeightedMean(), ServerSGD()),
    "fedrddpg": (WeightedMean(), ServerSGD()),
    "perdqnavg": (WeightedMean(), ServerSGD()),
    "perddpgavg": (WeightedMean(), ServerSGD()),
    "fedhpd": (Consensus(), ServerSGD()),
    "fedhql": (Consensus("upper"), ServerSGD()),
    "dpa_fedrl": (SharedWalk(BASE.environment), ServerSGD()),
    "local_only": (LocalOnly(), ServerSGD()),
    "pooled": (WeightedMean(), ServerSGD()),
}


def test_every_recipe_is_tested_here():
    assert list(RECIPES) == list(PARTS)
    assert set(BASELINES) == {"local_only", "pooled"}
    assert all(recipe.__doc__ for recipe in RECIPES.values())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_its_parts_and_passes(name):
    base = base_of(name)
    if name == "heterofl":  # it is about widths
        base = dataclasses.replace(BASE, agent=dataclasses.replace(BASE.agent, width=(32, 48, 64)))
    made = RECIPES[name](base)
    made.check()
    assert (made.rule, made.server_optimizer) == PARTS[name]
    assert made.method == name
    assert made.pooled == (name == "pooled")
    assert made.payload == SENT.get(name, Parameters())
    assert made.common_start == (name not in PREDICTIVE)
    assert made.agent.local_terms == ((Proximal(),) if name == "fedprox" else ())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_leaves_worlds_learner_and_budget_alone(name):
    base = base_of(name)
    made = RECIPES[name](base)
    for field in ("name", "environment", "variation", "num_clients", "num_rounds", "local_steps", "evaluation"):
        assert getattr(made, field) == getattr(base, field)
    of_method = METHOD_PARTS | {"survival"} if name in BASELINES else METHOD_PARTS
    of_method |= {"updates_per_step", "replay_capacity"} if name == "pooled" else set()
    for field in dataclasses.fields(base.agent):
        if field.name not in of_method:
            assert getattr(made.agent, field.name) == getattr(base.agent, field.name), field.name


@pytest.mark.parametrize("first", [name for name in RECIPES if name != "pooled"])
@pytest.mark.parametrize("then", RECIPES)
def test_a_recipe_undoes_what_another_method_added(first, then):
    """So an arm does not depend on which method the experiment was written down with; but see `local_only`."""
    base = PENDULUM if "ddpg" in first + then else BASE
    if base is PENDULUM and ("dqn" in first + then or "fedhql" in (first, then)):
        return  # no experiment is for both
    through = RECIPES[then](RECIPES[first](base))
    direct = RECIPES[then](base)
    if first == "local_only":  # it forgets what survived and what was compared
        agent = dataclasses.replace(direct.agent, survival=Survival.everything())
        direct = dataclasses.replace(direct, agent=agent, compare=through.compare)
    if first in PREDICTIVE:  # it says how clients begin, in all arms alike
        payload = Nothing() if then == "local_only" else direct.payload
        direct = dataclasses.replace(direct, common_start=False, payload=payload)
    assert through == direct


def test_fedprox_adds_its_term_once():
    assert RECIPES["fedprox"](RECIPES["fedprox"](BASE)).agent.local_terms == (Proximal(),)


def test_local_only_keeps_everything_and_sends_nothing():
    base = dataclasses.replace(BASE, transforms=(ClipNorm(), HalfPrecision()))
    alone = RECIPES["local_only"](base)
    assert alone.agent.survival == Survival.everything()
    assert alone.transforms == ()
    assert not alone.rule.exchanges
    alone.check()
    assert RECIPES["fedavg"](base).transforms == base.transforms
    assert RECIPES["fedavg"](base).agent.survival == base.agent.survival


def test_pooled_is_one_agent_in_all_worlds_with_the_budget_of_the_fleet():
    made = RECIPES["pooled"](BASE)
    assert (made.num_agents, made.worlds_per_agent) == (1, 3)
    assert made.agent.updates_per_step == 3 * BASE.agent.updates_per_step
    assert made.agent.replay_capacity == 3 * BASE.agent.replay_capacity
    simulation = simulate.Simulation(made, seeds=(0,))
    assert np.ravel(simulation.homes.params.half_length).tolist() == [0.25, 0.5, 1.0]  # it sees every world
    assert simulation.policy_names == ("global",)


def test_nothing_is_derived_from_a_pooled_agent():
    """FedAvg whose clients each took the whole fleet's gradient steps would be no comparison."""
    made = RECIPES["pooled"](BASE)
    for recipe in RECIPES.values():
        with pytest.raises(
            ValueError, match="cannot be made from a pooled agent, which has the updates and the replay"
        ):
            recipe(made)


def test_baselines_run_alone():
    """As a start they compare with nothing: what they forgot (survival, transforms) an arm would need."""
    assert BASE.compare
    for name in BASELINES:
        made = RECIPES[name](BASE)
        assert made.compare == ()
        assert arms(made) == {name: made}


def test_arms_are_the_experiment_first_and_then_what_it_is_compared_with():
    found = arms(BASE)
    assert list(found) == ["fedwb", "fedavg", "local_only", "pooled"]
    assert found["fedwb"] == dataclasses.replace(BASE, compare=())
    for name in ("fedavg", "local_only", "pooled"):
        assert found[name] == RECIPES[name](dataclasses.replace(BASE, compare=()))
    for name, arm in found.items():
        assert arm.method == name
        assert arm.compare == ()
        arm.check()


def test_the_experiment_itself_is_not_made_again():
    """Its own settings stay, although its method is compared too."""
    own = dataclasses.replace(BASE, server_optimizer=ServerMomentum(learning_rate=0.3), compare=("fedwb", "fedavg"))
    found = arms(own)
    assert list(found) == ["fedwb", "fedavg"]
    assert found["fedwb"].server_optimizer == ServerMomentum(learning_rate=0.3)
    assert found["fedavg"].server_optimizer == ServerSGD()


def test_arms_share_the_learner_of_the_experiment():
    agent = dataclasses.replace(BASE.agent, target_update=HardUpdate(9), discount=0.5, survival=Survival.nothing())
    base = dataclasses.replace(BASE, agent=agent, variation=Uniform(["force"]))
    for arm in arms(base).values():
        assert (arm.agent.target_update, arm.agent.discount) == (HardUpdate(9), 0.5)
        assert arm.variation == base.variation
    assert arms(base)["fedavg"].agent.survival == Survival.nothing()


def test_a_misspelt_comparison_is_refused():
    with pytest.raises(ValueError, match=r"compare = 'fedvag' is not known: did you mean 'fedavg'\?"):
        arms(dataclasses.replace(BASE, compare=("fedvag",)))


VARIED = dataclasses.replace(
    BASE,
    variants=(
        Variant("mine", Switch(WeightedMean(), WassersteinBarycenter(), at_round=2)),
        Variant("unused", WeightedMean()),
    ),
    compare=("mine", "local_only"),
)


def test_a_variant_is_the_experiment_with_another_rule():
    found = arms(VARIED)
    assert list(found) == ["fedwb", "mine", "local_only"]
    alone = dataclasses.replace(VARIED, compare=(), variants=())
    assert found["mine"] == dataclasses.replace(alone, method="mine", rule=VARIED.variants[0].rule)
    assert from_data(to_data(VARIED)) == VARIED


def test_a_comparison_with_neither_recipe_nor_variant_is_refused():
    with pytest.raises(ValueError, match="did you mean 'mine'"):
        arms(dataclasses.replace(VARIED, compare=("minee",)))


def test_a_variant_needs_a_name_for_its_folder():
    with pytest.raises(ValueError, match="cannot name a folder"):
        dataclasses.replace(BASE, variants=(Variant("a b", WeightedMean()),)).check()


# Robust and personal


def test_fedrdqn_keeps_the_omega_that_it_finds():
    agent = dataclasses.replace(BASE.agent, worst_case=WorstCase(omega=0.7), shared=("online", "target"))
    made = RECIPES["fedrdqn"](dataclasses.replace(BASE, agent=agent))
    assert made.agent.worst_case == WorstCase(omega=0.7)
    assert made.agent.shared == ("online", "target", "worst_case")
    assert RECIPES["dqnavg"](made).agent == dataclasses.replace(agent, worst_case=None)


def test_an_embedding_has_the_published_size():
    assert [Embedding.for_clients(n).size for n in (1, 2, 3, 4, 5, 10)] == [1, 1, 2, 2, 3, 4]
    assert RECIPES["perdqnavg"](BASE).agent.embedding == Embedding(2)


@pytest.mark.parametrize(("name", "base"), [("fedrdqn", PENDULUM), ("fedrddpg", BASE)])
def test_a_method_for_another_learner_is_refused(name, base):
    with pytest.raises(ValueError, match=f"{name} is made of DD?[PQ][GN], but the learner of cartpole-poles is"):
        RECIPES[name](base)


def test_a_variant_may_have_other_numbers():
    base = dataclasses.replace(RECIPES["fedrdqn"](BASE), compare=("wary", "dqnavg"))
    wary = Variant("wary", numbers=(("agent.worst_case.omega", 0.9), ("agent.learning_rate", 1e-4)))
    found = arms(dataclasses.replace(base, variants=(wary,)))
    assert (found["wary"].agent.worst_case.omega, found["wary"].agent.learning_rate) == (0.9, 1e-4)
    assert found["fedrdqn"].agent.worst_case.omega == 0.2
    assert from_data(to_data(wary)) == wary
    with pytest.raises(ValueError, match="DQN has no field learning_rat"):
        Variant("slow", numbers=(("agent.learning_rat", 1e-4),))(base)


def test_a_table_has_no_loss_for_fedprox():
    base = dataclasses.replace(BASE, agent=QLearning())
    with pytest.raises(ValueError, match="fedprox adds a term to a loss, but QLearning has none"):
        RECIPES["fedprox"](base)


# Predictions


def test_fedhpd_and_fedhql_keep_public_states_and_distillation_but_each_its_consensus():
    payload = Predictions(UniformStates(num=10), Distillation(chunks=5))
    own = dataclasses.replace(BASE, payload=payload, rule=Consensus("median"), common_start=False)
    assert RECIPES["fedhpd"](own).rule == Consensus("median")
    assert RECIPES["fedhql"](own).rule == Consensus("upper")
    assert RECIPES["fedhpd"](RECIPES["fedhql"](own)).rule == Consensus()
    assert RECIPES["fedhql"](dataclasses.replace(own, rule=Consensus("upper", bonus=0.5))).rule.bonus == 0.5
    assert {RECIPES[name](own).payload for name in ("fedhpd", "fedhql")} == {payload}


FLEET = Mixed((Group(DQN(hidden=(4,))), Group(DQN(hidden=(8,)), num_clients=2)))
MIXED = dataclasses.replace(BASE, agent=FLEET, common_start=False, compare=())


def test_a_fleet_of_different_make_federates_by_predictions_or_learns_alone():
    for name in ("fedhpd", "fedhql"):
        RECIPES[name](MIXED).check()
    alone = RECIPES["local_only"](RECIPES["fedhpd"](MIXED))
    alone.check()
    assert alone.payload == Nothing()
    assert all(group.agent.survival == Survival.everything() for group in alone.groups)


@pytest.mark.parametrize("name", ["fedavg", "fedrdqn", "perdqnavg", "fedwb"])
def test_parameters_of_a_fleet_of_different_make_cannot_be_merged(name):
    with pytest.raises(ValueError, match=r"send messages of different shapes, which nothing can merge: .*\.$"):
        RECIPES[name](MIXED).check()


def test_a_fleet_of_different_make_cannot_be_pooled():
    with pytest.raises(ValueError, match=r"the agents of this fleet are made differently: drop pooled from compare\.$"):
        RECIPES["pooled"](MIXED).check()
