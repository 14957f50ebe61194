"""PyTorch under agents made elsewhere: chance, divergences, imitation, weights as arrays (the door to `torch`).

PyTorch is imported when such an agent is first made. The divergence is that of `polyfed.agents.divergence`, in tensors.

References: kullback1951information, hinton2015distilling.
"""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from polyfed.errors import MissingExtraError
from polyfed.types import Gaussians, Logits, Prediction, Probabilities

if TYPE_CHECKING:
    import torch

Output = Any
"""What a policy gives for `M` states: logits `[M, A]`, or a pair `(mean, scale)`, each `[M, size]`; tensors."""


@functools.cache
def load_torch() -> Any:
    """The package `torch`, on one thread: clients share the cores.

    Raises:
      MissingExtraError: It is not installed.

    >>> load_torch().get_num_threads()  # doctest: +SKIP
    1
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'This agent is made of PyTorch, which is not installed: pip install "polyfed[torch]".'
        ) from error
    torch.set_num_threads(1)
    return torch


class Chance:
    """Random numbers of one's own from generators that the whole process shares: PyTorch's, NumPy's, Python's.

    What a client draws depends on its seed alone, not on who was called before, and nothing outside is disturbed. Call
    one agent at a time: threads share the generators.

    >>> first = Chance(seed=0)  # doctest: +SKIP
    >>> with first.inside():  # doctest: +SKIP
    ...     torch.rand(1)
    tensor([0.4963])
    """

    def __init__(self, seed: int):
        torch, before = load_torch(), self._now()
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        self._state = self._now()
        self._put(before)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Draw one's own numbers."""
        before = self._now()
        self._put(self._state)
        try:
            yield
        finally:
            self._state = self._now()
            self._put(before)

    @staticmethod
    def _now() -> tuple[Any, Any, Any]:
        return load_torch().get_rng_state(), np.random.get_state(), random.getstate()

    @staticmethod
    def _put(state: tuple[Any, Any, Any]) -> None:
        load_torch().set_rng_state(state[0])
        np.random.set_state(state[1])
        random.setstate(state[2])


def as_prediction(output: Output) -> Prediction:
    """What a policy gives, as everybody reads it: `Probabilities` or `Gaussians` in NumPy, float32."""
    in_numpy = lambda tensor: tensor.detach().numpy().astype(np.float32)  # noqa: E731
    if isinstance(output, tuple):
        return Gaussians(*(in_numpy(tensor) for tensor in output))
    return Probabilities(in_numpy(load_torch().log_softmax(output.double(), dim=-1).exp()))


def kl_from(target: Prediction, output: Output) -> torch.Tensor:
    """`KL(target, own)`, mean over states, and over the entries of an action; see `polyfed.agents.divergence`.

    A state on which both agree to the last bit of float32 has no gradient: Adam would turn what rounding leaves of one
    into whole steps.

    Raises:
      ValueError: The target is of another kind than the output.
    """
    torch = load_torch()
    tensor = lambda leaf: torch.tensor(np.asarray(leaf, np.float32))  # noqa: E731
    if isinstance(output, tuple) and isinstance(target, Gaussians):
        (mean, scale), wanted, width = output, tensor(target.mean), tensor(target.scale)
        ratio, apart = width / scale, (wanted - mean) / scale
        return torch.mean(0.5 * (ratio**2 + apart**2 - 1) - torch.log(ratio))
    if isinstance(output, tuple) or not isinstance(target, Probabilities | Logits):
        own = "Gaussians" if isinstance(output, tuple) else "Probabilities or Logits"
        raise ValueError(
            f"This agent imitates {own}, but the consensus is {type(target).__name__}: let all agents share one kind."
        )
    second = torch.log_softmax(output.double(), dim=-1)
    if isinstance(target, Logits):
        return torch.mean(_categorical_kl(torch.log_softmax(tensor(target.logits).double(), dim=-1), second))
    wanted = tensor(target.probabilities)
    agree = torch.all(second.exp().float() == wanted, dim=-1)
    first = torch.log_softmax(wanted.double().clamp(1e-30).log(), dim=-1)
    return torch.mean(torch.where(agree, 0.0, _categorical_kl(first, second)))


def _categorical_kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """`[M]`, of logarithms of probabilities."""
    return (first.exp() * (first - second)).sum(dim=-1)


def imitate(
    policy: Callable[[torch.Tensor], Output],
    optimizer: torch.optim.Optimizer,
    observations: Float[np.ndarray, "M D"],
    target: Prediction,
    *,
    num_steps: int,
    weight: float,
) -> None:
    """Gradient steps on `weight * KL(target, own)`. Parameters that it does not depend on stay as they are.

    Raises:
      ValueError: The divergence is no number; nothing is changed by that step.
    """
    states = load_torch().tensor(np.asarray(observations, np.float32))
    for _ in range(num_steps if weight else 0):
        loss = weight * kl_from(target, policy(states))
        if not math.isfinite(loss.item()):
            raise ValueError("The divergence from the consensus is not finite: lower the agent's learning rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def flat_arrays(tree: Any, path: str = "") -> dict[str, np.ndarray]:
    """The tensors in nested dictionaries, by their paths; all else is left out.

    >>> flat_arrays({"momentum": 0.9})
    {}
    """
    if isinstance(tree, Mapping):
        parts = [flat_arrays(value, f"{path}/{name}" if path else str(name)) for name, value in tree.items()]
        return {name: array for part in parts for name, array in part.items()}
    return {path: tree.detach().cpu().numpy().copy()} if hasattr(tree, "detach") else {}


def with_arrays(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """A `state_dict`, of a module or of an optimizer, with other tensors; what is no tensor stays.

    Raises:
      ValueError: A module has other weights than these.
    """
    torch = load_torch()
    tensor = lambda array: torch.tensor(np.asarray(array))  # noqa: E731
    if "param_groups" in tree:  # the moments of a fresh optimizer are not there yet
        moments: dict[int, dict[str, Any]] = {}
        for name, array in arrays.items():
            _, index, moment = name.split("/")
            moments.setdefault(int(index), {})[moment] = tensor(array)
        return {**tree, "state": moments}
    known = {name: tuple(value.shape) for name, value in tree.items()}
    if known != {name: np.shape(array) for name, array in arrays.items()}:
        odd = sorted(set(known) ^ set(arrays)) or [n for n in known if known[n] != np.shape(arrays[n])]
        raise ValueError(f"{odd[0]} is not the same in what was saved and in this agent: load it into an equal one.")
    return {name: tensor(array) for name, array in arrays.items()}


def under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose path begins so, without that beginning.

    >>> under({"policy/weight": np.ones(2), "steps": np.ones(())}, "policy")
    {'weight': array([1., 1.])}
    """
    start = f"{prefix}/"
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
