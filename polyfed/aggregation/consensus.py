"""Consensus: the predictions of clients that differ become one that all can learn from (Jiang et al. 2025).

References: jiang2025fedhpd, fan2023fedhql, yin2018median.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from polyfed.aggregation.door import PREDICTIONS, OnInvalid, admitted
from polyfed.aggregation.mean import weighted_mean
from polyfed.aggregation.predictions import (
    among,
    log_mean,
    moment_matched,
    on_simplex,
    product_of_experts,
    trimmed_mean,
    upper_values,
)
from polyfed.aggregation.rule import AggregationRule
from polyfed.checks import in_range, one_of, whole_in_range
from polyfed.errors import DivergedError
from polyfed.types import ActionValues, Gaussians, Logits, Metrics, Payload, Prediction, Probabilities, Update

Kind = Literal["mean", "median", "trimmed_mean", "log_mean", "moments", "upper"]

UNDERSTOOD: dict[str, tuple[type, ...]] = {
    "mean": PREDICTIONS,
    "median": PREDICTIONS,
    "trimmed_mean": PREDICTIONS,
    "log_mean": (Probabilities, Logits, Gaussians),
    "moments": (Gaussians,),
    "upper": (ActionValues,),
}
"""Which predictions each kind of consensus can merge."""


def _came_equally(weight: Array) -> Array:
    """One vote for everybody who came."""
    return (weight > 0).astype(jnp.float32)


def _trimmed(payload: Prediction, weight: Array, trim: int) -> Prediction:
    """Entry by entry `trimmed_mean`; probabilities are brought back to the simplex."""
    if isinstance(payload, Logits):
        payload = Logits(jax.nn.log_softmax(payload.logits, axis=-1))
    cut = jax.tree.map(lambda leaf: trimmed_mean(leaf, weight, trim), payload)
    if isinstance(payload, Probabilities):
        plain = weighted_mean(payload.probabilities, _came_equally(weight))
        return Probabilities(on_simplex(cut.probabilities, plain))
    return cut


def _geometric(payload: Prediction, weight: Array) -> Prediction:
    """The normalised geometric mean of distributions."""
    if isinstance(payload, Gaussians):
        return Gaussians(*product_of_experts(payload.mean, payload.scale, weight))
    if isinstance(payload, Logits):
        own = jax.nn.log_softmax(payload.logits, axis=-1)
        return Logits(jax.nn.log_softmax(weighted_mean(own, weight), axis=-1))
    assert isinstance(payload, Probabilities)
    return Probabilities(log_mean(payload.probabilities, weight))


def _kept(merged: Prediction, payload: Prediction, weight: Array) -> Prediction:
    """`merged`, but the clients' own row, bit for bit, of a state on which all that came agree; 0 if nobody came."""
    first, anybody = jnp.argmax(weight > 0), jnp.any(weight > 0)
    leaves = jax.tree.leaves(payload)
    same = [jnp.all((leaf == leaf[first]) | ~among(weight, leaf), axis=(0, -1)) for leaf in leaves]
    agree = jnp.all(jnp.stack(same), axis=0)[..., None]

    def pick(new: Array, leaf: Array) -> Array:
        return jnp.where(anybody, jnp.where(agree, leaf[first], new.astype(leaf.dtype)), 0)

    return jax.tree.map(pick, merged, payload)


class Consensus(AggregationRule):
    """One prediction from those of all clients, state by state.

    - "mean": the weighted mean of the numbers (probabilities, logits, means and scales, values), as FedHPD releases it.
    - "median": entry by entry the median of those who came.
    - "trimmed_mean": entry by entry the mean of those who came without the `trim` lowest and highest.
    - "log_mean": the normalised geometric mean of the distributions, see `log_mean` and `product_of_experts`.
    - "moments": of normal distributions, mean and variance of their mixture, see `moment_matched`.
    - "upper": of action values, their mean and `bonus` standard deviations over the clients, see `upper_values`.

    "upper" favours what clients are unsure about, after FedHQL (Fan et al. 2023); its exact form is ours. Logits are
    known up to a number per state: their mean is the "log_mean" of the distributions, up to such a number; the median
    and the trimmed mean are of the log-probabilities.

    Medians and trimmed means of probabilities are divided by their sum; where it is 0, because no action has the votes
    of enough clients, it is the plain mean. They count every client that came once, whatever its weight. With
    `2 trim` clients or fewer in a round, the trimmed mean is the median. A median of two clients is their mean and
    protects from neither.

    What every client agrees on comes back bit for bit. Of probabilities that were rounded below 0 on the way, the
    result is 0. What is no prediction, see `valid`, is refused or left out. Metrics, scalars: `refused` and `heard`,
    clients that came with none, and with one. If "drop" leaves nobody of those who came, the result is zeros, `heard`
    is NaN, and the run is ended.

    Example:
      >>> payload = Probabilities(jnp.array([[[0.5, 0.5]], [[0.25, 0.75]]]))
      >>> merged, _, metrics = Consensus().aggregate((), Update(payload=payload, weight=jnp.ones(2)))
      >>> merged.probabilities.tolist(), float(metrics["heard"])
      ([[0.375, 0.625]], 2.0)
    """

    kind: Kind = eqx.field(default="mean", static=True)
    trim: int = eqx.field(default=1, static=True)  # trimmed_mean: clients left out at each end
    bonus: float = 1.0  # upper: standard deviations over clients
    on_invalid: OnInvalid = eqx.field(default="raise", static=True)  # what is no prediction: an error, or absent

    @property
    def linear(self) -> bool:
        """The mean is, of clients that all sent predictions."""
        return self.kind == "mean"

    @property
    def predictive(self) -> bool:
        """Nothing but predictions."""
        return True

    def check(self) -> None:
        """Raises `ValueError` where a field is outside its range."""
        one_of("rule.kind", self.kind, get_args(Kind))
        one_of("rule.on_invalid", self.on_invalid, get_args(OnInvalid))
        whole_in_range("rule.trim", self.trim, 0, 10**6, "clients")
        in_range("rule.bonus", self.bonus, 0.0, 1e6, "standard deviations")

    def check_clients(self, num_clients: int) -> None:
        """Raises `ValueError` where so many clients can never be enough for the rule.

        Example:
          >>> Consensus("trimmed_mean", trim=2).check_clients(4)
          Traceback (most recent call last):
          ValueError: A mean without the 2 lowest and the 2 highest of 4 clients has nothing left: use a trim of 1 or \
less, or kind="median".
        """
        if self.kind == "trimmed_mean" and 2 * self.trim >= num_clients:
            raise ValueError(
                f"A mean without the {self.trim} lowest and the {self.trim} highest of {num_clients} clients has "
                f'nothing left: use a trim of {max(num_clients - 1, 0) // 2} or less, or kind="median".'
            )

    def check_payload(self, payload: Payload) -> None:
        """Raises `ValueError` unless it is a prediction that this kind of consensus can merge.

        Example:
          >>> Consensus("upper").check_payload(Probabilities(jnp.array([[0.5, 0.5]])))
          Traceback (most recent call last):
          ValueError: A consensus of kind "upper" is for ActionValues, but clients share Probabilities: use "mean", \
"median", "trimmed_mean" or "log_mean".
        """
        name = type(payload).__name__
        if not isinstance(payload, PREDICTIONS):
            raise ValueError(
                f"Consensus merges predictions, but clients share a {name}: share predictions, or use WeightedMean."
            )
        if not isinstance(payload, UNDERSTOOD[self.kind]):
            wanted = " or ".join(kind.__name__ for kind in UNDERSTOOD[self.kind])
            *others, last = (f'"{kind}"' for kind, types in UNDERSTOOD.items() if isinstance(payload, types))
            raise ValueError(
                f'A consensus of kind "{self.kind}" is for {wanted}, but clients share {name}: use '
                f"{', '.join(others)} or {last}."
            )

    def init(self, payload: Payload) -> Any:
        """Nothing to remember; see `check_payload` for what it raises."""
        self.check_payload(payload)
        return ()

    def refuse(self, metrics: dict[str, np.ndarray]) -> None:
        """Raises `DivergedError` where what came was no prediction and may not, or cannot, be left out."""
        refused = np.nan_to_num(metrics.get("refused", np.zeros(())))
        if self.on_invalid == "drop":
            refused = np.where(np.nan_to_num(metrics.get("heard", np.ones(()))) > 0, 0, refused)
        if refused.any():
            first, most = np.argwhere(refused)[0][0] + 1, math.ceil(refused.max())
            who = "All" if self.on_invalid == "drop" else f"{most}"
            remedy = "" if self.on_invalid == "drop" else ", or leave such clients out with --rule.on-invalid drop"
            raise DivergedError(
                f"{who} of the clients that came in round {first} of this block sent what is no prediction (numbers "
                "that are not finite, no probabilities, or a scale of 0 or less), so it cannot be merged: lower the "
                f"learning rate{remedy}. What was run before is kept."
            )

    def aggregate(self, state: Any, update: Update) -> tuple[Payload, Any, Metrics]:
        """`(prediction without the client axis, state, metrics)`."""
        self.check_payload(update.payload)
        weight, refused, heard = admitted(update, self.on_invalid)
        payload = jax.tree.map(jnp.asarray, update.payload)
        heard = jnp.where((heard == 0) & (refused > 0), jnp.nan, heard)  # a mean over exchanges must not hide it
        return self._merged(payload, weight), state, {"refused": refused, "heard": heard}

    def _merged(self, payload: Any, weight: Array) -> Prediction:
        """By its kind."""
        if self.kind == "mean":
            mean = weighted_mean(payload, weight)
            return jax.tree.map(lambda p: jnp.maximum(p, 0), mean) if isinstance(payload, Probabilities) else mean
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(leaf, jnp.float32)), payload)
        merged: Prediction
        if self.kind in ("median", "trimmed_mean"):
            merged = _trimmed(wide, weight, self.trim if self.kind == "trimmed_mean" else len(weight))
        elif self.kind == "log_mean":
            merged = _geometric(wide, weight)
        elif self.kind == "moments":
            merged = Gaussians(*moment_matched(wide.mean, wide.scale, weight))
        else:
            merged = ActionValues(upper_values(wide.values, weight, self.bonus))
        return _kept(merged, payload, weight)
