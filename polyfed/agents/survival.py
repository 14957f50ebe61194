"""What of a client's local state survives a merge: it changes results more than the rule does."""

from __future__ import annotations

import equinox as eqx


class Survival(eqx.Module):
    """Which parts of a value-based learner outlive the moment in which it takes in a broadcast.

    A part that does not survive starts anew: optimizer moments at zero, replay empty, target network equal to the
    merged network, exploration schedule at its first step.

    Keeping everything but the target is the default here. Jin et al. (2022) keep nothing; the code of Hwang and Hong
    (2025) keeps everything.

    >>> Survival.everything().target
    True
    """

    optimizer: bool = eqx.field(default=True, static=True)  # Adam's moments
    replay: bool = eqx.field(default=True, static=True)  # stored transitions
    target: bool = eqx.field(default=False, static=True)  # target network; False: a copy of the merged network
    exploration: bool = eqx.field(default=True, static=True)  # step of the epsilon schedule

    @staticmethod
    def everything() -> Survival:
        """Only the online network is replaced."""
        return Survival(optimizer=True, replay=True, target=True, exploration=True)

    @staticmethod
    def nothing() -> Survival:
        """Only the merged weights remain (Jin et al. 2022, released code)."""
        return Survival(optimizer=False, replay=False, target=False, exploration=False)
