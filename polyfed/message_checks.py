"""What refuses messages that nobody can send or merge, and ways for them that contradict each other, in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp

from polyfed.agents import Group, Mixed
from polyfed.agents.foreign import Foreign
from polyfed.aggregation import ServerSGD
from polyfed.environments import Box
from polyfed.exchange import Nothing, Parameters, Predictions
from polyfed.exchange.combinations import check_late, check_sums
from polyfed.exchange.ledger import check_order
from polyfed.leaves import check_leaves, stacked
from polyfed.types import Update

if TYPE_CHECKING:
    from polyfed.experiment import Experiment


def check_payload(experiment: Experiment) -> None:
    """Refuse what cannot be sent, and a rule or server optimizer that is not made for it."""
    experiment.payload.check(experiment.environment)
    check_leaves("payload", experiment.payload, None if isinstance(experiment.agent, Mixed) else experiment.num_agents)
    payload, exchanges = experiment.payload, experiment.rule.exchanges
    rule, sends = type(experiment.rule).__name__, payload.predictive
    if isinstance(payload, Nothing) == exchanges and not isinstance(payload, Parameters):
        raise ValueError(
            f"payload = {type(payload).__name__} and rule = {rule} disagree on whether clients send anything: "
            "use Nothing with LocalOnly, or another of both."
        )
    if sends != experiment.rule.predictive and exchanges:
        remedy = "Consensus" if sends else "WeightedMean, or the payload Predictions"
        raise ValueError(
            f"{rule} cannot merge what clients send, which are {'predictions' if sends else 'parameters'}: "
            f"use {remedy}."
        )
    if exchanges:
        _check_walk(experiment)
    if sends and experiment.common_start:
        raise ValueError(
            "common_start = True would begin with one set of parameters for all, but clients that send predictions "
            "show nobody their parameters: give common_start=False."
        )
    if isinstance(experiment.agent, Mixed) and experiment.common_start:
        raise ValueError(
            "common_start = True would begin with one set of parameters for all, but the agents of this fleet are "
            "made differently: give common_start=False."
        )
    clients = getattr(experiment.rule, "check_clients", None)
    if clients is not None:
        clients(experiment.num_clients)


def _check_walk(experiment: Experiment) -> None:
    """Refuse a server that walks where nobody follows, or the other way round, and what would bend its way."""
    rule, payload, server = experiment.rule, type(experiment.payload).__name__, experiment.server_optimizer
    if experiment.payload.walks != rule.walks:
        who = "tells clients" if rule.walks else "does not tell clients"
        remedy = "the payload ServerStates, or Consensus" if rule.walks else "SharedWalk, or the payload Predictions"
        raise ValueError(
            f"{type(rule).__name__} {who} where to predict next, which does not fit {payload}: use {remedy}."
        )
    if rule.walks and (not isinstance(server, ServerSGD) or server.learning_rate != 1):
        raise ValueError(
            f"{type(server).__name__} would move the state at which {type(rule).__name__} stands: use "
            "ServerSGD(learning_rate=1)."
        )


def check_widths(experiment: Experiment) -> None:
    """Refuse messages of networks of different widths at a rule that merges position by position."""
    widths = [name for name, group in experiment.named_groups() if getattr(group.agent, "width", None) is not None]
    if widths and not experiment.rule.nested:
        rule = type(experiment.rule).__name__
        raise ValueError(
            f"{widths[0]}.width gives clients networks of different widths, but {rule} merges networks of one "
            "shape: use NestedMean or AlignedMean(own=True), or leave the width out."
        )


def check_messages(experiment: Experiment) -> None:
    """Refuse learners that cannot send what they should, and a rule that cannot merge it, by merging shapes."""
    space = experiment.environment.observation_space
    num_states = getattr(getattr(experiment.payload, "distillation", None), "chunks", 0)  # the fewest that will do
    public = jnp.zeros((num_states, space.size if isinstance(space, Box) else 1))

    def messages(group: Group) -> Any:
        """`[clients, ...]`."""
        first = lambda part: jax.tree.map(lambda x: x[0], stacked(part, group.num_clients))  # noqa: E731
        agent = first(experiment.payload).of(first(group.agent), public)
        payload = agent.share(agent.init(jax.random.key(0), experiment.environment, experiment.worlds_per_agent))
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (group.num_clients, *jnp.shape(x))), payload)

    def merge(payload: Any) -> Any:
        one, rule = jax.tree.map(lambda x: x[0], payload), cast(Any, experiment.rule)
        for transform in experiment.transforms:
            transform.init(one, experiment.num_agents)
        return rule.aggregate(rule.init(one), Update(payload, jnp.ones(experiment.num_agents, jnp.float32)))[0]

    groups = [(name, g) for name, g in experiment.named_groups() if not isinstance(g.agent, Foreign)]
    if not groups:
        return
    if isinstance(experiment.payload, Predictions):
        for _, group in groups:
            experiment.payload.of(group.agent, public).check(experiment.environment)
    (_, first), *others = groups
    payload = jax.eval_shape(lambda: messages(first))
    for name, group in others:
        other = jax.eval_shape(lambda group=group: messages(group))
        if _form_of_one(other) != _form_of_one(payload):
            raise ValueError(
                f"The clients of {groups[0][0]} and of {name} send messages of different shapes, which nothing can "
                "merge: let them send Predictions of one kind, as fedhpd does, or nothing."
            )
    whole = jax.tree.map(lambda x: jax.ShapeDtypeStruct((experiment.num_agents, *x.shape[1:]), x.dtype), payload)
    jax.eval_shape(merge, whole)


def _check_silent(experiment: Experiment, who: str) -> None:
    """Refuse what would act on messages where there are none."""
    remedy = "do not pool" if experiment.pooled else "use a rule that exchanges"
    for transform in experiment.transforms:
        name = type(transform).__name__
        raise ValueError(f"{who} sends no message, so {name} would never act: drop {name}, or {remedy}.")
    server = experiment.server_optimizer
    if not isinstance(server, ServerSGD) or server.learning_rate != 1:
        raise ValueError(
            f"{who} sends no message, so {type(server).__name__} would only change what a client has learned by "
            f"itself: use ServerSGD(learning_rate=1), or {remedy}."
        )


def check_fit(experiment: Experiment) -> None:
    """Refuse combinations of rule and transforms that contradict each other, from their declared facts."""
    bounded = None
    if experiment.pooled or not experiment.rule.exchanges:
        _check_silent(experiment, "A pooled agent" if experiment.pooled else type(experiment.rule).__name__)
    check_sums(experiment.transforms, experiment.rule, judges_own=experiment.evaluation.own and not experiment.personal)
    check_late(experiment.transforms, experiment.payload)
    if experiment.joins and isinstance(experiment.payload, Predictions) and experiment.payload.distillation.in_parts:
        raise ValueError(
            "A client that joins late does not know whose turn among the parts of the public states it is: use "
            'distillation.refresh = "event", or leave joins out.'
        )
    for transform in experiment.transforms:
        name = type(transform).__name__
        if transform.loses and isinstance(experiment.payload, Predictions) and experiment.payload.distillation.in_parts:
            raise ValueError(
                f"{name} may lose every message of an exchange, after which clients would take the consensus on "
                f'one part of the public states for that on the next: use distillation.refresh = "event", or drop '
                f"{name}."
            )
        if bounded and not transform.keeps_norm and transform.hides != "local":
            raise ValueError(
                f"{name} after {bounded} may enlarge a message that was clipped, so the bound would no longer "
                f"hold: put {name} before {bounded}."
            )
        bounded = name if transform.bounds_norm else None if transform.hides == "local" else bounded
    check_order(experiment.transforms, experiment.rule, not getattr(experiment.variation, "even", True))
    _check_budget(experiment)


def _check_budget(experiment: Experiment) -> None:
    """Refuse a budget that not even one round stays within."""
    if experiment.last_round < 1 and (first := experiment.guarantee(1)) is not None:
        raise ValueError(
            f"The first round would spend epsilon = {first.epsilon:.4g} at delta = {first.delta:g}, beyond the "
            f"budget of {first.budget:g}: raise transforms.noise_multiplier = {first.noise_multiplier:g}, or the "
            "budget."
        )


def _form_of_one(payload: Any) -> Any:
    """Structure, shapes and types of one client's message."""
    leaves, structure = jax.tree.flatten(payload)
    return structure, [(leaf.shape[1:], leaf.dtype) for leaf in leaves]
