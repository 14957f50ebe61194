"""A classifier that learns from labelled samples: gradient steps on the cross-entropy (McMahan et al. 2017, sec. 3).

References: mcmahan2017fedavg, li2020fedprox.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.agents.adam import adam
from polyfed.agents.agent import Agent
from polyfed.agents.local_terms import Proximal
from polyfed.agents.networks import ACTIVATIONS, CNN, MLP
from polyfed.checks import in_range, one_of, whole_in_range
from polyfed.environments.dataset import Dataset
from polyfed.environments.spaces import Box, Discrete
from polyfed.environments.world import World
from polyfed.types import Metrics, Nested, Payload, Trajectory

NETWORKS = ("mlp", "cnn")
OPTIMIZERS = ("sgd", "adam")


def cross_entropy(logits: Float[Array, "B n"], labels: Int[Array, " B"]) -> Float[Array, ""]:
    """Mean of `log sum_k exp(z_k) - z_label` over a batch.

    >>> float(cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 3, 1]))), float(jnp.log(4.0))
    (1.3862943649291992, 1.3862943649291992)
    """
    right = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - jnp.sum(logits * right, axis=-1))


class ClassifierState(eqx.Module):
    """What changes while a classifier learns; see `Classifier`."""

    network: Any
    optimizer: Any
    anchor: Any  # the last broadcast, if a local term needs it


class Classifier(Agent):
    """A network from images to classes, trained by minibatch gradient descent in a `Dataset`.

    A local step is one sample, and every `batch_size` of them make a gradient step. Where a client has several shards,
    as a pooled agent has, a local step is one sample of each; `minibatches` cuts what comes together into as many
    gradient steps of equal size. The metric `return` is the accuracy on a minibatch before its step.

    >>> from polyfed.environments.digits import Digits
    >>> agent = Classifier(hidden=(32,), optimizer="adam", learning_rate=1e-3)
    >>> agent.check(Dataset(Digits()))
    >>> agent.rollout_length
    32
    """

    network: str = eqx.field(default="mlp", static=True)  # mlp or cnn
    hidden: tuple[int, ...] = eqx.field(default=(128,), static=True)  # units per hidden layer; cnn: after the stages
    channels: tuple[int, ...] = eqx.field(default=(16, 32), static=True)  # cnn: per stage, each halves the image
    activation: str = eqx.field(default="relu", static=True)  # relu, tanh or elu
    optimizer: str = eqx.field(default="sgd", static=True)  # sgd or adam
    learning_rate: float = 0.1  # step size; Adam wants about 1e-3
    momentum: float | None = None  # sgd: share of the last step that goes on, 0 to 1; none: plain
    batch_size: int = eqx.field(default=32, static=True)  # samples of a shard between two gradient steps
    minibatches: int = eqx.field(default=1, static=True)  # gradient steps on what was read since the last
    keep_optimizer: bool = eqx.field(default=True, static=True)  # momentum and Adam's moments survive a merge
    local_terms: tuple[Proximal, ...] = ()
    width: int | tuple[int, ...] | None = None  # units held of each hidden layer, messages `Nested`; none: all

    @property
    def rollout_length(self) -> int:
        """Local steps between two gradient steps."""
        return self.batch_size

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the environment does not fit."""
        if not isinstance(environment, Dataset):
            name = type(environment).__name__
            raise ValueError(
                f"Classifier imitates labelled samples, but {name} shows none: live in a Dataset, or act in {name} "
                "with DQN."
            )
        one_of("agent.network", self.network, NETWORKS)
        one_of("agent.activation", self.activation, ACTIVATIONS)
        one_of("agent.optimizer", self.optimizer, OPTIMIZERS)
        for units in self.hidden:
            whole_in_range("agent.hidden", units, 1, 2**20, "units")
        in_range("agent.learning_rate", self.learning_rate, 0.0, 1e3)
        whole_in_range("agent.batch_size", self.batch_size, 1, 2**20, "samples")
        whole_in_range("agent.minibatches", self.minibatches, 1, 2**20)
        if self.momentum is not None:
            in_range("agent.momentum", self.momentum, 0.0, 1.0)
            if self.optimizer == "adam":
                raise ValueError(
                    'agent.momentum is of SGD, but agent.optimizer is "adam", which has moments of its own: leave '
                    "momentum out."
                )
        if self.network == "cnn":
            self._check_stages(environment.observation_space.shape or ())
        if self.width is not None:
            self._check_width()
        for term in self.local_terms:
            term.check()

    def init(self, key: PRNGKeyArray, environment: World, num_envs: int) -> ClassifierState:
        """A fresh network; raises `ValueError` if the samples of a gradient step cannot be cut into minibatches."""
        if self.batch_size * num_envs % self.minibatches:
            raise ValueError(
                f"agent.batch_size = {self.batch_size} samples of {num_envs} shards cannot be cut into "
                f"agent.minibatches = {self.minibatches} of equal size: make their product a multiple of it."
            )
        space, classes = environment.observation_space, environment.action_space
        assert isinstance(space, Box)
        assert isinstance(classes, Discrete)
        form: dict[str, Any] = {"hidden": self.hidden, "activation": self.activation, "key": key}
        network = (
            CNN(space.shape or (), classes.n, channels=self.channels, **form)
            if self.network == "cnn"
            else MLP(space.size, classes.n, **form)
        )
        return ClassifierState(network, self._optimizer().init(network), network if self.local_terms else ())

    def act(self, state: ClassifierState, observation: Float[Array, "E D"], key: PRNGKeyArray) -> Int[Array, " E"]:
        """The class of largest logit: in a data set there is nothing to explore."""
        del key
        return self.policy(state, observation)

    def policy(self, state: ClassifierState, observation: Float[Array, "N D"]) -> Int[Array, " N"]:
        """The class of largest logit."""
        return jnp.argmax(self._logits(state.network, observation), axis=-1).astype(jnp.int32)

    def learn(
        self, state: ClassifierState, trajectory: Trajectory, key: PRNGKeyArray
    ) -> tuple[ClassifierState, Metrics]:
        """`minibatches` gradient steps on the samples of the trajectory, in the order in which they were seen."""
        del key
        parts = jax.tree.map(
            lambda x: x.reshape(self.minibatches, -1, *x.shape[2:]), (trajectory.observation, trajectory.action)
        )
        if self.minibatches == 1:
            return self._gradient_step(state, jax.tree.map(lambda x: x[0], parts))
        state, metrics = jax.lax.scan(lambda state, part: self._gradient_step(state, part), state, parts)
        return state, jax.tree.map(jnp.mean, metrics)

    def share(self, state: ClassifierState) -> Payload:
        """The network, with its width where clients differ in that."""
        return state.network if self.width is None else Nested(state.network, jnp.asarray(self.width, jnp.int32))

    def absorb(self, state: ClassifierState, broadcast: Payload) -> ClassifierState:
        """Take the broadcast as the network; `keep_optimizer` says whether the optimizer goes on or starts anew."""
        network = broadcast if self.width is None else broadcast.network
        optimizer = state.optimizer if self.keep_optimizer else self._optimizer().init(network)
        return ClassifierState(network, optimizer, network if self.local_terms else ())

    def plain(self) -> Classifier:
        """Without local terms."""
        return dataclasses.replace(self, local_terms=())

    def alone(self) -> Classifier:
        """Nothing is ever reset."""
        return dataclasses.replace(self, keep_optimizer=True)

    def pooled(self, num_clients: int) -> Classifier:
        """As many gradient steps, on as many samples each, as `num_clients` take together."""
        return dataclasses.replace(self, minibatches=self.minibatches * num_clients)

    def whole(self) -> Classifier:
        """Every unit of the hidden layers."""
        return self if self.width is None else dataclasses.replace(self, width=jnp.int32(max(self.hidden)))

    def _optimizer(self) -> optax.GradientTransformation:
        return adam(self.learning_rate) if self.optimizer == "adam" else optax.sgd(self.learning_rate, self.momentum)

    def _logits(self, network: Any, observation: Float[Array, "N D"]) -> Float[Array, "N n"]:
        return network(observation) if self.width is None else network(observation, self.width)

    def _gradient_step(self, state: ClassifierState, samples: tuple[Array, Array]) -> tuple[ClassifierState, Metrics]:
        (_, metrics), gradient = jax.value_and_grad(self._loss, has_aux=True)(state.network, state.anchor, *samples)
        updates, optimizer = self._optimizer().update(gradient, state.optimizer, state.network)
        return ClassifierState(optax.apply_updates(state.network, updates), optimizer, state.anchor), metrics

    def _loss(self, network: Any, anchor: Any, images: Array, labels: Array) -> tuple[Float[Array, ""], Metrics]:
        logits = self._logits(network, images)
        loss = cross_entropy(logits, labels)
        terms = sum((term(network, anchor) for term in self.local_terms), start=jnp.zeros((), loss.dtype))
        right = jnp.argmax(logits, axis=-1) == labels
        return loss + terms, {"loss": loss, "return": jnp.mean(right, dtype=jnp.float32)}

    def _check_stages(self, image_shape: tuple[int, ...]) -> None:
        """A `cnn` halves images of two or three dimensions, and has no widths."""
        for channels in self.channels:
            whole_in_range("agent.channels", channels, 1, 2**16)
        shape = " x ".join(map(str, image_shape)) or "no shape"
        if len(image_shape) not in (2, 3) or min(image_shape[:2]) < 2 ** len(self.channels):
            raise ValueError(
                f"agent.channels = {self.channels} halves rows and columns {len(self.channels)} times, but the images "
                f'have {shape}: give fewer channels, or use agent.network = "mlp".'
            )
        if self.width is not None:
            raise ValueError(
                'agent.width counts units of a perceptron, but agent.network is "cnn", which has no nested widths: use '
                '"mlp", or leave agent.width out.'
            )

    def _check_width(self) -> None:
        if not self.hidden:
            raise ValueError("agent.width counts units of hidden layers, but agent.hidden = (): give one, or no width.")
        in_range("agent.width", self.width, 1, min(self.hidden), "units")
