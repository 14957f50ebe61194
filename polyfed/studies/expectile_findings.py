"""What the audit of an expectile network found, as tables, figures and sentences."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from polyfed.study import Curves, Findings, Line, Table, Value

HOPE = 0.9  # the published hope for the correlation
SOURCES = {
    "stored": "masked, Q′ fixed",
    "unmasked": "authors’ form, Q′ fixed",
    "every": "every successor, Q′ fixed",
}
WORLDS = {"random_mdps": "RandomMDPs, exact expectile", "windy_cliffs": "WindyCliffs, exact expectile"}
Row = tuple[str | Value, ...]
HEAD = ("Pearson", "Spearman", "D − minimum", "share of the gap")
NAMES = ("pearson", "spearman", "bias", "share")


@dataclasses.dataclass
class Audit:
    """Scores of every seed by network, arm and kind of states; see `least_value.scores`."""

    study: Any
    found: dict[Any, dict[str, list[dict[str, float]]]] = dataclasses.field(default_factory=dict)
    tabular: dict[str, dict[float, list[dict[str, float]]]] = dataclasses.field(default_factory=dict)

    def add(self, key: Any, kind: str, rows: list[dict[str, float]]) -> None:
        """Scores of all seeds."""
        self.found.setdefault(key, {})[kind] = rows

    def value(self, key: Any, kind: str, name: str) -> Value:
        """Mean over seeds, with the interval."""
        return interval(name, self.found[key][kind])

    def at(self, source: str, **changes: Any) -> Any:
        """The key of the own arm with numbers changed."""
        return source, dataclasses.replace(self.study.own, **changes)

    def series(self) -> dict[str, list[Any]]:
        """The networks whose order varies, as keys in the order of `taus`, by label."""
        taus = self.study.taus
        found = {
            "masked, while training": [self.at("trained", tau=tau) for tau in taus],
            "authors’ form, while training": [self.at("trained", tau=tau, masked=False) for tau in taus],
        }
        if self.study.fixed_steps:
            found |= {label: [self.at(source, tau=tau) for tau in taus] for source, label in SOURCES.items()}
        return found


def interval(name: str, rows: list[dict[str, float]]) -> Value:
    """Mean of a score with its interval, of correlations after Fisher's transform; NaN where there is none.

    >>> interval("bias", [{"bias": 1.0}, {"bias": float("nan")}]).value
    1.0
    >>> 0.99 < interval("pearson", [{"pearson": 0.99}, {"pearson": 0.999}]).high < 1
    True
    """
    known = np.array([row[name] for row in rows if math.isfinite(row[name])])
    if not known.size:
        return Value(math.nan)
    if not name.endswith(("pearson", "spearman", "plain")):
        return Value.interval(known)
    found = Value.interval(np.arctanh(np.clip(known, -1 + 1e-12, 1 - 1e-12)))
    low, high = (None if bound is None else math.tanh(bound) for bound in (found.low, found.high))
    return Value(math.tanh(found.value), low=low, high=high)


def findings(audit: Audit, seeds: tuple[int, ...]) -> Findings:
    """Everything."""
    tables = (_taus(audit, "visited"), _taus(audit, "box"), _coverage(audit), _stored(audit), *_tabular(audit))
    study, own = audit.study, audit.at("trained")
    mean = lambda name: f"{audit.value(own, 'visited', name).value:.3g}"  # noqa: E731
    facts = (
        ("seeds", str(len(seeds))),
        ("local steps per client", str(study.experiment.num_rounds * study.experiment.local_steps)),
        ("states of each kind per seed", str(study.num_states)),
        ("spread of the minimum over visited states (sd)", mean("spread")),
        ("mean minus minimum over the successors of a visited state", mean("gap")),
        ("visited states with a successor that ends the episode", mean("ends")),
    )
    return Findings(_verdict(audit), tables, _curves(audit), facts, NOTES)


def _taus(audit: Audit, kind: str) -> Table:
    names = {"visited": "states visited by another seed’s policy", "box": "states drawn from a box"}
    rows: tuple[Row, ...] = tuple(
        (f"{label}, τ = {key[1].tau:g}", *(audit.value(key, kind, name) for name in NAMES))
        for label, keys in audit.series().items()
        for key in keys
    )
    note = (
        "The minimum is over both actions in all clients’ worlds, 0 where the episode ends. Share of the gap: 0 at the "
        "mean over these successors, 1 at their minimum."
    )
    return Table(f"D(s) against the minimum, {names[kind]}", ("Network", *HEAD), rows, note, section="Order τ")


def _coverage(audit: Audit) -> Table:
    study = audit.study
    rows: list[Row] = []
    for source, said in (("trained", "while training"), ("stored", "Q′ fixed")):
        for arm in [arm for arm in study.arms() if arm.tau == study.own.tau and arm.masked]:
            if (source, arm) in audit.found:
                cells = [audit.value((source, arm), "visited", name) for name in (*NAMES, "near_pearson", "far")]
                rows.append((f"{arm.capacity} stored, ε = {arm.end:g}, {said}", *cells))
    head = ("Replay of a client", *HEAD, "Pearson, stored minimum", "nearest stored")
    note = (
        f"Masked, τ = {study.own.tau:g}, visited states. The stored minimum is over the {study.nearest} stored "
        "transitions nearest to a state, of all clients; the last column is the distance of the nearest, in standard "
        "deviations of what is stored."
    )
    return Table("Coverage of the replay", head, tuple(rows), note, section="Coverage")


def _stored(audit: Audit) -> Table:
    rows: list[Row] = []
    for label, keys in audit.series().items():
        for key in keys:
            names = ("near_pearson", "near_bias", "own_pearson", "own_bias")
            cells = [audit.value(key, "visited", name) for name in names]
            rows.append((f"{label}, τ = {key[1].tau:g}", *cells))
    head = ("Network", "Pearson, stored", "D − stored", "Pearson, unmasked", "D − unmasked")
    note = (
        "Stored: the minimum over the nearest stored transitions. Unmasked: the minimum over all successors where one "
        "that ends the episode counts with what the target network says of it, as in the authors’ form."
    )
    return Table("D(s) against other minima, visited states", head, tuple(rows), note, section="Order τ")


def _tabular(audit: Audit) -> tuple[Table, ...]:
    rows: list[Row] = [
        (f"{WORLDS[family]}, τ = {tau:g}", *(interval(name, found) for name in (*NAMES, "rarest")))
        for family, by_tau in audit.tabular.items()
        for tau, found in by_tau.items()
    ]
    note = (
        "No network: the expectile itself, actions equally frequent. The last column is the median chance of the least "
        "successor."
    )
    return (Table("Finite environments", ("Environment", *HEAD, "chance"), tuple(rows), note, section="Finite"),)


def _curves(audit: Audit) -> tuple[Curves, ...]:
    taus = audit.study.taus
    if len(taus) < 2:
        return ()
    figures = []
    for name, title, note in (
        ("share", "Share of the gap", "0: the mean over successors; 1: their minimum."),
        ("pearson", "Correlation with the minimum", f"The published hope is {HOPE:g} and above."),
    ):
        lines = [
            _line(label, taus, [audit.value(key, "visited", name) for key in keys])
            for label, keys in audit.series().items()
        ]
        if name == "share":
            lines += [
                _line(WORLDS[family], taus, [interval(name, found[tau]) for tau in taus])
                for family, found in audit.tabular.items()
            ]
        figures.append(Curves(f"{name}-by-order", title, "order τ of the expectile", tuple(lines), note, log_x=True))
    return tuple(figures)


def _line(label: str, x: tuple[float, ...], values: list[Value]) -> Line:
    low, high = (tuple(getattr(one, side) for one in values) for side in ("low", "high"))
    bounded = None not in low
    y = tuple(one.value for one in values)
    return Line(label, tuple(map(float, x)), y, low if bounded else (), high if bounded else ())


def _verdict(audit: Audit) -> tuple[str, ...]:
    study, own = audit.study, audit.at("trained")
    said = [_hope(audit, own)]
    largest = max(study.taus)
    flat = audit.value(audit.at("trained", tau=largest), "visited", "pearson")
    plain = audit.value(own, "visited", "plain")
    empty = "is no sign of a minimum" if plain.value > HOPE else "tells a minimum from a mean"
    said.append(
        f"The correlation {empty}: with τ = {largest:g} it is {_say(flat)}, and the mean over the successors has "
        f"{_say(plain)} with their minimum."
    )
    said.append(
        f"From the mean over the successors to their minimum D goes {_say(audit.value(own, 'visited', 'share'))} of "
        f"the way while training; it lies {_say(audit.value(own, 'visited', 'bias'))} from the minimum, where mean and "
        f"minimum are {audit.value(own, 'visited', 'gap').value:.2g} apart."
    )
    if study.fixed_steps:
        ends = {source: audit.at(source, tau=study.own.tau) for source in ("stored", "every")}
        if all(key in audit.found for key in ends.values()):
            parts = [
                f"{_say(audit.value(key, 'visited', 'share'))} of the way ({_say(audit.value(key, 'visited', 'bias'))} "
                f"from the minimum) on {'what is stored' if source == 'stored' else 'every successor'}"
                for source, key in ends.items()
            ]
            said.append(f"With Q′ fixed and D trained on, it goes {' and '.join(parts)}.")
    for family, found in audit.tabular.items():
        if study.own.tau in found:
            rows = found[study.own.tau]
            share, chance = interval("share", rows), interval("rarest", rows)
            said.append(
                f"Exact expectiles on {WORLDS[family].partition(',')[0]} go {_say(share)} of the way at "
                f"τ = {study.own.tau:g}; the least successor has a chance of {chance.value:.2g}."
            )
    return tuple(said)


def _hope(audit: Audit, own: Any) -> str:
    visited, box = (audit.value(own, kind, "pearson") for kind in ("visited", "box"))

    def holds(value: Value) -> str:
        low, high = (value.value if bound is None else bound for bound in (value.low, value.high))
        return "holds" if low > HOPE else "does not hold" if high < HOPE else "is open"

    return (
        f"The hope that D(s) correlates above {HOPE:g} with the least next value {holds(visited)} on states that "
        f"another policy visits, {_say(visited)}, and {holds(box)} on states of a box, {_say(box)}."
    )


def _say(value: Value) -> str:
    if not math.isfinite(value.value):
        return "–"
    bounds = "" if value.low is None else f" [{value.low:.2g}, {value.high:.2g}]"
    return f"{value.value:.2g}{bounds}".replace("-", "−")


NOTES = (
    "FedRDQN is of Hwang and Hong (2025). The states, the arms with Q′ fixed and the finite environments are ours.",
    "Intervals are Student’s over seeds, of correlations after Fisher’s transform.",
    "Networks are those merged last. Held-out states are lived through by the policy of the next seed, with a random "
    "action in one of five steps, in this seed’s worlds; the box reaches to the limits of position and angle, and to "
    "2 m/s and 2 rad/s. All arms meet the same states.",
    "With Q′ fixed, D goes on from where training left it, on the transitions that all clients hold together, its step "
    "size falling to 0; “every successor” takes both actions in all worlds from every stored state. Orders vary on the "
    "experiment’s own training; coverage varies with the training.",
)
