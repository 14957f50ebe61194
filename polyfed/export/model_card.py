"""A model card: what a policy is, how it was made, what it is worth and where it ends (Mitchell et al. 2019, sec. 4).

References: mitchell2019modelcards.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np

from polyfed.environments import Box, Environment
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.environments.spaces import Space
from polyfed.evaluation.results import ArmResult, RunResult
from polyfed.evaluation.statistics import CONFIDENCE, Estimate, estimate_iqm, estimate_worst_case, final_window
from polyfed.export.parity import MIN_EQUAL, TOLERANCE, Parity
from polyfed.recipes import RECIPES
from polyfed.runs.learned import Learned
from polyfed.simulation.worlds import fleet_values

MAX_ENTRIES = 32  # of an observation or action that are listed one by one


def model_card(run: RunResult, learned: Learned, file: str, parity: Parity, command: str) -> str:
    """The card as Markdown, under the headings of Mitchell et al. (2019).

    Args:
      run: The run folder as it was read.
      learned: The policy.
      file: What it was exported to: name, size and checksum.
      parity: How it compares with the original.
      command: What exported it.
    """
    sections = [
        ("Model details", _details(run, learned, file, command)),
        ("Intended use", _use(learned)),
        ("Factors", _factors(run, learned)),
        ("Metrics", _metrics(run, learned)),
        ("Evaluation data", _evaluation_data(learned)),
        ("Training data", _training_data(run, learned)),
        ("Quantitative analyses", [*_analyses(run, learned), "", f"Exported against original: {parity}."]),
        ("Ethical considerations", _ethics(learned)),
        ("Caveats and recommendations", _caveats(run, learned)),
    ]
    title = f"# {learned.experiment.method} on {run.name}: the policy {learned.name}\n"
    return title + "".join(f"\n## {name}\n\n" + "\n".join(lines) + "\n" for name, lines in sections)


def references(part: Any) -> list[str]:
    """Keys of `references.bib` that the file of a part names.

    >>> from polyfed.agents import SAC
    >>> references(SAC())
    ['haarnoja2018sac']
    """
    found = re.search(r"^References: ([^.]*)\.", sys.modules[type(part).__module__].__doc__ or "", re.MULTILINE)
    return re.split(r",\s*", found[1]) if found else []


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]


def _details(run: RunResult, learned: Learned, file: str, command: str) -> list[str]:
    experiment, record = learned.experiment, run.record
    recipe = RECIPES.get(experiment.method)
    method = f"`{experiment.method}`" + (f": {_first_line(recipe)}" if recipe else "")
    seeds = ", ".join(map(str, learned.seeds))
    keys = dict.fromkeys([*references(learned.agent), *references(experiment.rule)])
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return [
        f"- Experiment: `{run.name}`" + (f": {run.title}" if run.title != run.name else ""),
        f"- Method: {method}",
        f"- Learner: `{type(learned.agent).__name__}`: {_first_line(type(learned.agent))}",
        f"- Rule: `{type(experiment.rule).__name__}`: {_first_line(type(experiment.rule))}",
        f"- Papers, as keys of `references.bib`: {', '.join(keys) or 'none named'}",
        f"- Policy: `{learned.name}`, greedy; trained with seed {learned.seed} (seeds of the run: {seeds})",
        f"- Input: `observation`, float32 `[batch, {_size(learned)}]`; {_output(learned)}",
        f"- File: {file}",
        f"- Weights in the run folder: SHA-256 `{learned.weights_sha256}`; `run.json`: `{record['run_sha256']}`",
        f"- Trained {record['created']} by `{run.command}`" if run.command else f"- Trained {record['created']}",
        f"- Exported by `{command}`",
        f"- Versions of the training: {versions}",
    ]


def _size(learned: Learned) -> int:
    space = learned.experiment.environment.observation_space
    assert isinstance(space, Box)
    return space.size


def _output(learned: Learned) -> str:
    space = learned.experiment.environment.action_space
    if isinstance(space, Box):
        return f"output `action`, float32 `[batch, {space.size}]`"
    return f"output `action`, integers `[batch]` from 0 to {space.n - 1}"


def _environment(learned: Learned) -> str:
    environment = learned.experiment.environment
    return (
        f"`{environment.id}` of Gymnasium" if isinstance(environment, Gymnasium) else f"`{type(environment).__name__}`"
    )


def _use(learned: Learned) -> list[str]:
    return [
        f"- For research on federated reinforcement learning: to act in {_environment(learned)} as it is simulated, "
        "and to be compared.",
        "- Not for the control of anything real. It was trained and judged in simulation only, and nothing is claimed "
        "about its safety.",
        "- Outputs are greedy: no exploration, and no notice of an observation unlike those of training.",
    ]


def _factors(run: RunResult, learned: Learned) -> list[str]:
    lines = [f"- Environment: {_environment(learned)}: {_first_line(type(learned.experiment.environment))}"]
    differing = fleet_values(learned.experiment, learned.seed)
    if not differing:
        return [*lines, "- All clients live in one and the same world, or their worlds have no quantities."]
    lines.append("- The worlds of clients differ in:")
    for quantity, values in differing.items():
        mine = f"; of this policy's client: {values[learned.client]:g}" if learned.client is not None else ""
        each = ", ".join(f"{value:g}" for value in values)
        lines.append(f"  - `{quantity}` ({run.units[quantity]}): {each}{mine}")
    return lines


def _metrics(run: RunResult, learned: Learned) -> list[str]:
    return [
        f"- {run.measure.capitalize()} of the greedy policy, mean over {learned.experiment.evaluation.episodes} "
        "episodes, then over the last quarter of the evaluations.",
        f"- Over seeds: interquartile mean with its {100 * CONFIDENCE:.0f} % bootstrap interval "
        "(agarwal2021precipice); with one seed there is no interval.",
    ]


def _evaluation_data(learned: Learned) -> list[str]:
    evaluation = learned.experiment.evaluation
    return [
        f"- Episodes of evaluation seed {evaluation.seed}, the same for every policy, in the worlds of all clients"
        + (f" and in {evaluation.num_held_out} that no client trained in." if evaluation.num_held_out else ".")
    ]


def _training_data(run: RunResult, learned: Learned) -> list[str]:
    experiment, arm = learned.experiment, run.arms[learned.experiment.method]
    environment = experiment.environment
    return [
        f"- {experiment.num_clients} clients, {int(arm.rounds[-1])} rounds, {int(arm.steps[-1])} steps per client, "
        f"{int(arm.bytes[-1])} bytes on the wire in all.",
        "- Experience stayed at the clients; the settings are in `run.json` of the run folder.",
        f"- Observation: {_space(environment.observation_space)}",
        f"- Action: {_space(environment.action_space)}",
    ]


def _space(space: Space) -> str:
    if not isinstance(space, Box):
        return f"one of {space.n} choices."
    if space.size > MAX_ENTRIES:
        return f"{space.size} numbers from {min(space.low):g} to {max(space.high):g}."
    bounds = ", ".join(f"[{low + 0.0:g}, {high:g}]" for low, high in zip(space.low, space.high, strict=True))
    return f"{space.size} numbers within {bounds}."


def _analyses(run: RunResult, learned: Learned) -> list[str]:
    """Means per world, over clients, of the worst and held-out."""
    arm, num = run.arms[learned.experiment.method], learned.experiment.num_clients
    if learned.name not in arm.policies:
        return [f"- The run did not judge the policy {learned.name} (`evaluation.own`)."]
    scores = final_window(arm.rounds, arm.returns)[:, arm.policies.index(learned.name)]
    this = scores[learned.seeds.index(learned.seed)]
    rows = [(f"in {name}", this[m], estimate_iqm(scores[:, m : m + 1])) for m, name in enumerate(arm.environments)]
    if learned.client is not None:
        rows.insert(0, ("own world", *rows[learned.client][1:]))
    rows.insert(0, ("mean over the clients' worlds", this[:num].mean(), estimate_iqm(scores[:, :num])))
    rows.insert(1, ("worst of the clients' worlds", this[:num].min(), estimate_worst_case(scores[:, :num])))
    if scores.shape[1] > num:
        rows.insert(2, ("held-out worlds", this[num:].mean(), estimate_iqm(scores[:, num:])))
    head = [f"| {run.measure} | seed {learned.seed} | over {_seeds(arm)} |", "|---|---|---|"]
    return head + [f"| {name} | {value:.4g} | {_interval(estimate)} |" for name, value, estimate in rows]


def _seeds(arm: ArmResult) -> str:
    num = arm.returns.shape[1]
    return f"{num} seed{'s' * (num != 1)}"


def _interval(estimate: Estimate) -> str:
    value = f"{float(np.squeeze(estimate.value)):.4g}"
    if not estimate.has_interval:
        return value
    return f"{value} [{float(np.squeeze(estimate.low)):.4g}, {float(np.squeeze(estimate.high)):.4g}]"


def _ethics(learned: Learned) -> list[str]:
    simulated = isinstance(learned.experiment.environment, Environment)
    origin = "No data of people were used." if simulated else "Of whom the samples are, their data set says."
    return [
        f"- {origin} Weights can tell about the experience they were trained on: federation alone is no guarantee of "
        "privacy."
    ]


def _caveats(run: RunResult, learned: Learned) -> list[str]:
    num = len(learned.seeds)
    lines = [
        f"- The copy agrees with the original where that was checked: differences up to {TOLERANCE:g} times the "
        f"largest output (or 1) and {100 * (1 - MIN_EQUAL):.1g} % of other actions are accepted.",
        "- Worlds outside the ranges above were not tried.",
    ]
    if num < 5:
        lines.append(f"- {num} seed{'s' * (num != 1)} of training: too few to claim anything of the method.")
    return lines
