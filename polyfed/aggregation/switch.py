"""One rule first, another then: a hybrid schedule (the open question 1 of Pereira & Amini 2025).

References: pereira2025fedwb.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from polyfed.aggregation.rule import AggregationRule
from polyfed.checks import in_range, whole_in_range
from polyfed.types import Metrics, Payload, Update


class Stalled(eqx.Module):
    """When the global model no longer comes to rest: its movement stops falling.

    The movement of a round is the Euclidean length of what the merge changed in the global model. While training
    converges it falls from round to round; a rule that adds its own disturbance holds it up. Stalled is a run of
    `patience` rounds whose movements all stay above `(1 - tolerance)` times the smallest one before. The criterion is
    ours: the server of a federation sees models, not accuracies.
    """

    patience: int = 3  # rounds
    tolerance: float = 0.02  # of the smallest movement so far, 0 to 1

    def check(self) -> None:
        """Raises `ValueError` where a field is out of range."""
        whole_in_range("when_stalled.patience", self.patience, 1, 10**6, "rounds")
        in_range("when_stalled.tolerance", self.tolerance, 0.0, 1.0)


class Watch(eqx.Module):
    """What is remembered to tell whether the global model stalls."""

    last: Payload
    smallest: Float[Array, ""]
    since: Int[Array, ""]


class SwitchState(eqx.Module):
    """The memory of both rules, and where the schedule stands."""

    first: Any
    then: Any
    round: Int[Array, ""]
    switched: Bool[Array, ""]
    watch: Watch | None


class Switch(AggregationRule):
    """`first` merges up to and including round `at_round`, or until the model stalls; `then` merges from there on.

    Any two rules will do, switches among them, as long as both give one result, or both give one per client. The
    metric `then` says which one merged (0 or 1); metrics of the rule that rests are NaN.

    Example:
      >>> from polyfed.aggregation import WassersteinBarycenter, WeightedMean
      >>> rule = Switch(WassersteinBarycenter(), WeightedMean(), at_round=1)
      >>> payload = jnp.array([[[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]])
      >>> update, state = Update(payload, jnp.ones(2)), rule.init(payload[0])
      >>> merged, state, _ = rule.aggregate(state, update)
      >>> merged.tolist(), rule.aggregate(state, update)[0].tolist()
      ([[0.0, 0.5, 0.5]], [[0.0, 0.5, 0.5]])
    """

    first: AggregationRule
    then: AggregationRule
    at_round: int | None = None  # the last round of `first`; 0: `then` from the start
    when_stalled: Stalled | None = None  # switch earlier, when the model stalls

    @property
    def linear(self) -> bool:
        """If both are."""
        return self.first.linear and self.then.linear

    @property
    def personal(self) -> bool:
        """If both are; `check` refuses two that differ."""
        return self.first.personal

    @property
    def exchanges(self) -> bool:
        """If one of the two does."""
        return self.first.exchanges or self.then.exchanges

    @property
    def nested(self) -> bool:
        """If both can."""
        return self.first.nested and self.then.nested

    def check(self) -> None:
        """Raises `ValueError` where the schedule cannot run."""
        self.first.check()
        self.then.check()
        first, then = type(self.first).__name__, type(self.then).__name__
        if self.first.personal != self.then.personal:
            raise ValueError(
                f"Switch cannot go from {first} to {then}, for one gives every client its own model and the other one "
                "model to all: use two rules of one kind, e.g. AlignedMean(own=True) beside LocalOnly."
            )
        if self.at_round is None and self.when_stalled is None:
            raise ValueError("Switch was told no moment, so it would never switch: give at_round or when_stalled.")
        if self.at_round is not None:
            whole_in_range("rule.at_round", self.at_round, 0, 10**9, "rounds")
        if self.when_stalled is not None:
            self.when_stalled.check()
            if self.personal:
                raise ValueError(
                    f"Switch watches the one global model to see it stall, but {first} and {then} keep one per client: "
                    "give at_round in place of when_stalled."
                )

    def refuse(self, metrics: dict[str, Any]) -> None:
        """What either refuses."""
        self.first.refuse(metrics)
        self.then.refuse(metrics)

    def init(self, payload: Payload) -> SwitchState:
        """Both rules before their first round."""
        zero = jnp.zeros((), jnp.int32)
        watch = None if self.when_stalled is None else Watch(payload, jnp.full((), jnp.inf, jnp.float32), zero)
        return SwitchState(self.first.init(payload), self.then.init(payload), zero, jnp.zeros((), bool), watch)

    def aggregate(self, state: SwitchState, update: Update) -> tuple[Payload, SwitchState, Metrics]:
        """`(merged, state, metrics of both and "then")`."""
        switched = state.switched
        if self.at_round is not None:
            switched = switched | (state.round >= self.at_round)

        def run(which: str, rule: AggregationRule) -> Any:
            merged, memory, metrics = rule.aggregate(getattr(state, which), update)
            return merged, {"first": state.first, "then": state.then, which: memory}, metrics

        names = {**self._metrics("first", state, update), **self._metrics("then", state, update)}
        resting = {name: jnp.full(spec.shape, jnp.nan, jnp.float32) for name, spec in names.items()}

        def padded(which: str, rule: AggregationRule) -> Any:
            merged, memory, metrics = run(which, rule)
            told = {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
            return merged, memory, {**resting, **told}

        merged, memory, metrics = jax.lax.cond(
            switched, lambda: padded("then", self.then), lambda: padded("first", self.first)
        )
        watch, stalls = self._watched(state.watch, merged)
        after = SwitchState(memory["first"], memory["then"], state.round + 1, switched | stalls, watch)
        return merged, after, {**metrics, "then": switched.astype(jnp.float32)}

    def _metrics(self, which: str, state: SwitchState, update: Update) -> dict[str, jax.ShapeDtypeStruct]:
        rule: AggregationRule = getattr(self, which)
        return jax.eval_shape(lambda s, u: rule.aggregate(s, u)[2], getattr(state, which), update)

    def _watched(self, watch: Watch | None, merged: Payload) -> tuple[Watch | None, Bool[Array, ""]]:
        """The watch after a round, and whether the model has stalled."""
        if watch is None or self.when_stalled is None:
            return watch, jnp.zeros((), bool)
        pairs = zip(jax.tree.leaves(merged), jax.tree.leaves(watch.last), strict=True)
        moved = jnp.sqrt(sum((jnp.sum((a - b).astype(jnp.float32) ** 2) for a, b in pairs), start=jnp.float32(0)))
        falls = moved < (1 - self.when_stalled.tolerance) * watch.smallest
        since = jnp.where(falls, 0, watch.since + 1)
        return Watch(merged, jnp.minimum(moved, watch.smallest), since), since >= self.when_stalled.patience
