"""What refuses an experiment in a sentence before anything compiles: its numbers, learners and evaluation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from polyfed.agents import Group, Mixed
from polyfed.agents.foreign import Foreign
from polyfed.agents.masking import mask_of
from polyfed.checks import whole_in_range
from polyfed.environments import Environment, Perturbed
from polyfed.environments.schedule import check_schedule
from polyfed.exchange import Parameters, PartialParameters
from polyfed.leaves import check_leaves, differing
from polyfed.membership import check_joins
from polyfed.message_checks import check_fit, check_messages, check_payload, check_widths

if TYPE_CHECKING:
    from polyfed.experiment import Experiment


def check_experiment(experiment: Experiment) -> None:
    """Raise `ValueError` in one sentence if the experiment cannot run as it stands."""
    _check_names(experiment)
    whole_in_range("num_clients", experiment.num_clients, 1, 10**6)
    whole_in_range("num_rounds", experiment.num_rounds, 1, 10**9)
    whole_in_range("local_steps", experiment.local_steps, 1, 10**9)
    whole_in_range("num_envs", experiment.num_envs, 1, 10**6)
    experiment.environment.check()
    experiment.variation.check(experiment.environment, experiment.num_clients)
    check_schedule(
        experiment.schedule, experiment.environment, experiment.variation, experiment.num_clients, experiment.num_rounds
    )
    check_joins(experiment.joins, experiment.num_clients, experiment.num_rounds)
    if isinstance(experiment.agent, Mixed):
        _check_mixed(experiment, experiment.agent)
    for name, group in experiment.named_groups():
        group.agent.check(experiment.environment)
        _check_mask(experiment, name, group.agent)
        if experiment.pooled and (several := differing(name, group.agent)):
            raise ValueError(
                f"pooled trains one agent in the worlds of all clients, but {several[0]} has a number for each of "
                "them: give one number, or drop pooled from compare."
            )
        check_leaves(name, group.agent, group.num_clients)
        if isinstance(group.agent, Foreign):
            _check_foreign(experiment, name)
        else:
            _check_lengths(experiment, name, group)
    check_payload(experiment)
    transforms = [(f"transforms[{i}]", transform) for i, transform in enumerate(experiment.transforms)]
    for name, part in (("rule", experiment.rule), ("server_optimizer", experiment.server_optimizer), *transforms):
        part.check()
        check_leaves(name, part, num_clients=None)
    for transform in experiment.transforms:
        transform.check_clients(experiment.num_clients)
    _check_evaluation(experiment)
    check_widths(experiment)
    check_fit(experiment)
    check_messages(experiment)


def _check_names(experiment: Experiment) -> None:
    variants = [("variants.method", variant.method, "_") for variant in experiment.variants]
    for field, value, joint in (("name", experiment.name, "-"), ("method", experiment.method, "_"), *variants):
        if not re.fullmatch(f"[a-z0-9]+({joint}[a-z0-9]+)*", value):
            raise ValueError(
                f"{field} = {value!r} cannot name a folder: use lower case and digits, words joined by {joint!r}."
            )


def _check_mixed(experiment: Experiment, fleet: Mixed) -> None:
    fleet.check(experiment.num_clients)
    if experiment.pooled:
        raise ValueError(
            "pooled trains one agent in the worlds of all clients, but the agents of this fleet are made "
            "differently: drop pooled from compare."
        )


def _check_mask(experiment: Experiment, name: str, agent: Any) -> None:
    if mask_of(experiment.environment) is not None and not agent.heeds_masks:
        raise ValueError(
            f"{type(experiment.environment).__name__} allows but some of its actions in a state, and {name} is a "
            f"{type(agent).__name__}, which would take and count on the others: use DQN, REINFORCE, A2C or PPO."
        )


def _check_foreign(experiment: Experiment, name: str) -> None:
    if isinstance(experiment.payload, Parameters | PartialParameters):
        raise ValueError(
            f"{name} was made elsewhere and shows nobody its parameters: let clients send Predictions, as fedhpd "
            "does, or nothing."
        )
    if experiment.schedule.stations:
        raise ValueError(
            f"{name} was made elsewhere and is given its world once, so {type(experiment.schedule).__name__} would not "
            "reach it: leave the schedule out, or use a learner of ours."
        )
    if experiment.payload.walks:
        raise ValueError(
            f"{name} was made elsewhere and answers on public states that are fixed, but ServerStates change every "
            "round: let clients send Predictions."
        )


def _check_lengths(experiment: Experiment, name: str, group: Group) -> None:
    agent, local_steps = group.agent, group.local_steps or 0
    if local_steps % agent.rollout_length:
        raise ValueError(
            f"local_steps = {local_steps} cannot be cut into rollouts of {agent.rollout_length} steps: "
            f"make local_steps a multiple of {agent.rollout_length}."
        )
    if agent.episodic and not isinstance(experiment.environment, Environment):
        raise ValueError(
            f"{type(agent).__name__} learns from whole episodes, but {type(experiment.environment).__name__} has none: "
            "use another learner."
        )
    capacity = getattr(agent, "replay_capacity", 0)  # a learner may have no replay
    if capacity % experiment.worlds_per_agent:
        raise ValueError(
            f"{name}.replay_capacity = {capacity} cannot be shared evenly by "
            f"{experiment.worlds_per_agent} environments: make it a multiple of {experiment.worlds_per_agent}."
        )
    length, n_step = capacity // experiment.worlds_per_agent, getattr(agent, "n_step", 1)
    if capacity and length < n_step:
        raise ValueError(
            f"{name}.replay_capacity = {capacity} leaves each of {experiment.worlds_per_agent} environments {length} "
            f"steps, fewer than {name}.n_step = {n_step}: give at least {n_step * experiment.worlds_per_agent}."
        )
    starts = np.ravel(getattr(agent, "learning_starts", 0))
    forgets = not getattr(getattr(agent, "survival", None), "replay", True)
    if forgets and np.any(late := starts > local_steps):
        raise ValueError(
            f"{name}.learning_starts = {starts[late][0]} is more than local_steps = {local_steps}, but the "
            "replay is emptied every round, so nothing would ever be learned: start earlier, take more local "
            f"steps, or let {name}.survival.replay be kept."
        )


def _check_evaluation(experiment: Experiment) -> None:
    whole_in_range("evaluation.every", experiment.evaluation.every, 1, experiment.num_rounds, "rounds")
    whole_in_range("evaluation.episodes", experiment.evaluation.episodes, 1, 10**6)
    whole_in_range("evaluation.seed", experiment.evaluation.seed, 0, 2**32 - 1)
    whole_in_range("evaluation.num_held_out", experiment.evaluation.num_held_out, 0, 10**6)
    held_out = experiment.evaluation.held_out
    if isinstance(held_out, Perturbed) and not experiment.evaluation.num_held_out:
        raise ValueError(
            "evaluation.held_out is a Perturbed, but evaluation.num_held_out is 0, so nothing would be tested: set "
            f"it to {held_out.num_worlds}."
        )
    if experiment.evaluation.num_held_out:
        experiment.evaluation.held_out.check(experiment.environment, experiment.evaluation.num_held_out)
