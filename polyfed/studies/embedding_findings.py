"""What embeddings were worth in training and in worlds that nobody trained in, as tables, figures and sentences."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from polyfed.studies.embedding_arms import PERSONAL, PLAIN
from polyfed.study import Curves, Findings, Line, Table, Value

MEANS = {
    "Exp-1": "embedding",
    "Exp-2": "embedding and network",
    "Ctr-1": "network",
    "Ctr-2": "nothing",
    "Exp-1, random": "embedding, begun at random",
    "Exp-2, random": "embedding and network, begun at random",
}
CONTROL = PLAIN[0].name  # trains the network without an embedding
Row = tuple[str | Value, ...]


@dataclasses.dataclass
class Found:
    """Mean returns of every seed."""

    study: Any
    training: dict[str, tuple[np.ndarray, ...]] = dataclasses.field(default_factory=dict)  # [S, R, C], [S, R, W]
    adaptation: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # [S, points + 1, W]


def findings(found: Found, seeds: tuple[int, ...]) -> Findings:
    """Everything."""
    study = found.study
    experiment, agent = study.experiment, study.experiment.agent
    lived = experiment.num_rounds * experiment.local_steps
    facts = (
        ("seeds", str(len(seeds))),
        ("worlds of training, unseen", f"{experiment.num_clients}, {study.num_unseen}"),
        ("local steps per client", f"{lived}, merged every {experiment.local_steps}"),
        ("local steps in an unseen world", str(study.adaptation_steps)),
        ("numbers of an embedding", str(study.training_embedding.size)),
        ("discount", f"{agent.discount:g}"),
    )
    tables = (_training(found), _adaptation(found), _worlds(found))
    return Findings(
        _verdict(found), tables, (*_training_curves(found), *_adaptation_curves(found)), facts, _notes(found)
    )


def measures(returns: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """What is compared of a training, `[S]` each.

    >>> measures((np.array([[[1.0, 3.0], [5.0, 7.0]]]), np.array([[[0.0], [2.0]]])))["own worlds, worst"].tolist()
    [5.0]
    """
    own, unseen = returns
    return {
        "own worlds": own[:, -1].mean(-1),
        "own worlds, worst": own[:, -1].min(-1),
        "own worlds, all merges": own.mean((1, 2)),
        "unseen worlds": unseen[:, -1].mean(-1),
        "unseen worlds, worst": unseen[:, -1].min(-1),
        "unseen worlds, all merges": unseen.mean((1, 2)),
    }


def _training(found: Found) -> Table:
    all_of = {name: measures(returns) for name, returns in found.training.items()}
    rows: list[Row] = [(name, *map(Value.interval, numbers.values())) for name, numbers in all_of.items()]
    personal, plain = found.study.learner.names
    apart = [Value.interval(all_of[personal][key] - all_of[plain][key]) for key in all_of[plain]]
    note = (
        f"Mean return after the last merge, or over all merges; worst: of the worst world. {personal} has each "
        "client’s vector in its own world, and the mean of the vectors in unseen ones. Differences are paired by seed."
    )
    head = ("Method", *all_of[plain])
    return Table("Training", head, (*rows, ("difference", *apart)), note, section="Training")


def _adaptation(found: Found) -> Table:
    rows: list[Row] = []
    means = _means(found)
    for name, returns in found.adaptation.items():
        before, after, control = returns[:, 0], returns[:, -1], found.adaptation[CONTROL]
        way = returns[:, 1:].mean((1, 2))
        cells = [before.mean(-1), after.mean(-1), after.min(-1), way, after.mean(-1) - before.mean(-1)]
        apart = [after.mean(-1) - control[:, -1].mean(-1), way - control[:, 1:].mean((1, 2))]
        same = name == CONTROL
        shown: list[str | Value] = ["–" if same else Value.interval(one) for one in apart]
        rows.append((f"{name}: {means[name]}", *map(Value.interval, cells), *shown))
    states = ("before", "after", "after, worst", "on the way")
    head = ("Trained on", *states, "after − before", "after − Ctr-3", "way − Ctr-3")
    note = "Mean return over unseen worlds; worst: of the worst world. Differences are paired by seed."
    return Table("Adaptation to unseen worlds", head, tuple(rows), note, section="Adaptation")


def _worlds(found: Found) -> Table:
    study = found.study
    rows: list[Row] = [(name, *map(Value.interval, returns[:, -1].T)) for name, returns in found.adaptation.items()]
    head = ("Trained on", *(f"{value:.2f}" for value in study.unseen_values))
    caption = f"After adaptation, by {study.quantity.replace('_', ' ')}"
    return Table(caption, head, tuple(rows), "Mean return.", section="Adaptation")


def _training_curves(found: Found) -> list[Curves]:
    experiment = found.study.experiment
    steps = experiment.local_steps * np.arange(1, experiment.num_rounds + 1)
    figures = []
    for place, (name, worlds) in enumerate((("own", "worlds of training"), ("unseen", "unseen worlds"))):
        lines = [Line.over(m, steps, returns[place].mean(-1)) for m, returns in found.training.items()]
        lines += [Line.over(f"{m}, worst", steps, r[place].min(-1)) for m, r in found.training.items()]
        figures.append(
            Curves(f"training-{name}", f"Return, {worlds}", "local steps per client", tuple(lines), section="Training")
        )
    return figures


def _adaptation_curves(found: Found) -> list[Curves]:
    study = found.study
    steps = np.linspace(0, study.adaptation_steps, study.adaptation_points + 1)
    figures = []
    kinds = (("mean", "mean over unseen worlds", np.mean), ("worst", "worst unseen world", np.min))
    for name, title, of in kinds:
        lines = tuple(Line.over(arm, steps, of(returns, axis=-1)) for arm, returns in found.adaptation.items())
        along = "local steps in the unseen world"
        figures.append(Curves(f"adaptation-{name}", f"Return, {title}", along, lines, section="Adaptation"))
    lines = tuple(Line.over(arm, study.unseen_values, returns[:, -1]) for arm, returns in found.adaptation.items())
    along = study.quantity.replace("_", " ")
    figures.append(Curves("adaptation-worlds", "Return after adaptation", along, lines, section="Adaptation"))
    return figures


def _verdict(found: Found) -> tuple[str, ...]:
    names = found.study.learner.names
    personal, plain = (measures(found.training[name]) for name in names)
    apart = {key: Value.interval(personal[key] - plain[key]) for key in plain}
    always = apart["own worlds, all merges"]
    said = [
        f"Embeddings improve training: {_seen(always)}, by {_say(always)} over all merges and "
        f"{_say(apart['own worlds'])} after the last, in the clients’ own worlds.",
        f"In unseen worlds, before any step there, the mean embedding gives {_say(apart['unseen worlds'])} against the "
        f"networks of {names[1]} after the last merge, and {_say(apart['unseen worlds, worst'])} in the worst world.",
    ]
    control, means = found.adaptation[CONTROL], _means(found)
    parts = []
    for name in ("Exp-1", "Exp-2", "Ctr-1", "Ctr-2"):
        after = found.adaptation[name][:, -1].mean(-1) - control[:, -1].mean(-1)
        parts.append(f"{name} ({means[name]}) {_say(Value.interval(after))}")
    best = Value.interval(found.adaptation["Exp-2"][:, -1].mean(-1) - control[:, -1].mean(-1))
    said.append(
        f"They generalise better to unseen worlds: {_seen(best)}. After adaptation, against Ctr-3: {'; '.join(parts)}."
    )
    gains = [
        f"{name} {_say(Value.interval((returns[:, -1] - returns[:, 0]).mean(-1)))}"
        for name, returns in found.adaptation.items()
        if name not in ("Ctr-2",)
    ]
    said.append(f"What adaptation changed: {'; '.join(gains)}.")
    return tuple(said)


def _seen(value: Value) -> str:
    low, high = (0.0 if bound is None else bound for bound in (value.low, value.high))
    return "seen" if low > 0 else "the opposite is seen" if high < 0 else "not shown"


def _say(value: Value) -> str:
    bounds = "" if value.low is None else f" [{value.low:.0f}, {value.high:.0f}]"
    return f"{value.value:+.0f}{bounds}".replace("-", "−")


def _means(found: Found) -> dict[str, str]:
    return {**MEANS, CONTROL: f"network of {found.study.learner.names[1]}"}


def _notes(found: Found) -> tuple[str, ...]:
    means = _means(found)
    return (
        "Arms, settings of training and of adaptation follow the released code of Jin et al. (2022) where they are not "
        "said to be ours: "
        + "; ".join(f"{arm.name} trains {means[arm.name]}" for arm in (*PERSONAL[:4], *PLAIN))
        + ". A vector begins at the mean of the trained ones, or, where random, uniform in (−1, 1).",
        *found.study.learner.notes,
        "The mean of the trained embeddings is the one thing by which embeddings leave their clients, as a sum over "
        "all of them; it is not needed where a newcomer begins at random.",
    )
