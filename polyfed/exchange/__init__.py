"""What clients send, and what happens to a message between a client and the server."""

from polyfed.exchange.clipping import ClipNorm
from polyfed.exchange.compression import HalfPrecision, Int8, TopK
from polyfed.exchange.faults import DelayMessages, LoseMessages, PartialWork, Quorum, VanishAndReturn
from polyfed.exchange.hostile import Hostile, PoisonedPredictions
from polyfed.exchange.partial import PartialParameters
from polyfed.exchange.payload import Nothing, Parameters, Predictions
from polyfed.exchange.privacy import CentralNoise, LocalNoise
from polyfed.exchange.secure_sum import SecureSum
from polyfed.exchange.transform import Transform, WireSize

TRANSFORMS = (
    ClipNorm(),
    HalfPrecision(),
    Int8(),
    TopK(),
    LoseMessages(),
    DelayMessages(),
    VanishAndReturn(),
    PartialWork(),
    Quorum(),
    Hostile(),
    PoisonedPredictions(),
    CentralNoise(),
    LocalNoise(),
    SecureSum(),
)
"""One of each; the contract checks run over all."""

__all__ = [
    "TRANSFORMS",
    "CentralNoise",
    "ClipNorm",
    "DelayMessages",
    "HalfPrecision",
    "Hostile",
    "Int8",
    "LocalNoise",
    "LoseMessages",
    "Nothing",
    "Parameters",
    "PartialParameters",
    "PartialWork",
    "PoisonedPredictions",
    "Predictions",
    "Quorum",
    "SecureSum",
    "TopK",
    "Transform",
    "VanishAndReturn",
    "WireSize",
]
