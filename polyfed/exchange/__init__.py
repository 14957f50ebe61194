"""What clients send, and what happens to a message between a client and the server."""

from polyfed.exchange.clipping import ClipNorm
from polyfed.exchange.compression import HalfPrecision, Int8, TopK
from polyfed.exchange.faults import LoseMessages
from polyfed.exchange.hostile import Hostile, PoisonedPredictions
from polyfed.exchange.partial import PartialParameters
from polyfed.exchange.payload import Nothing, Parameters, Predictions
from polyfed.exchange.privacy import CentralNoise, LocalNoise
from polyfed.exchange.transform import Transform, WireSize

TRANSFORMS = (
    ClipNorm(), HalfPrecision(), Int8(), TopK(), LoseMessages(), Hostile(), PoisonedPredictions(), CentralNoise(),
    LocalNoise(),
)  # fmt: skip
"""One of each; the contract checks run over all."""

__all__ = [
    "TRANSFORMS",
    "CentralNoise",
    "ClipNorm",
    "HalfPrecision",
    "Hostile",
    "Int8",
    "LocalNoise",
    "LoseMessages",
    "Nothing",
    "Parameters",
    "PartialParameters",
    "PoisonedPredictions",
    "Predictions",
    "TopK",
    "Transform",
    "WireSize",
]
