"""How the messages of a round become one, and what the server makes of it.

A rule added to `RULES`, or a server optimizer to `SERVER_OPTIMIZERS`, is put through its contract by the tests.
"""

from polyfed.aggregation.alignment import AlignedMean
from polyfed.aggregation.barycenter import WassersteinBarycenter, fuse_rows
from polyfed.aggregation.centred_clipping import CentredClipping, NormBounding
from polyfed.aggregation.consensus import Consensus
from polyfed.aggregation.coordinates import CoordinateMedian, TrimmedMean
from polyfed.aggregation.entropic import entropic_barycenter_1d
from polyfed.aggregation.fedpg_filter import FedPGFilter
from polyfed.aggregation.geometric import geometric_mean
from polyfed.aggregation.geometric_median import GeometricMedian
from polyfed.aggregation.host import fuse_layer_on_host
from polyfed.aggregation.krum import Krum
from polyfed.aggregation.line import barycenter_1d, displacement
from polyfed.aggregation.local_only import LocalOnly
from polyfed.aggregation.mean import WeightedMean, weighted_mean
from polyfed.aggregation.rule import AggregationRule
from polyfed.aggregation.server_optimizer import ServerAdam, ServerMomentum, ServerOptimizer, ServerSGD, ServerYogi
from polyfed.aggregation.slices import NestedMean
from polyfed.aggregation.switch import Stalled, Switch
from polyfed.aggregation.values import fuse_values

RULES: tuple[AggregationRule, ...] = (
    WeightedMean(),
    LocalOnly(),
    WassersteinBarycenter.safe(),
    WassersteinBarycenter(grid="nearest"),
    WassersteinBarycenter(power=1),
    WassersteinBarycenter.paper_exact(),
    WassersteinBarycenter.lp(),
    WassersteinBarycenter.values(),
    WassersteinBarycenter.geometric(),
    Switch(WassersteinBarycenter(), WeightedMean(), at_round=1),
    NestedMean(),
    AlignedMean(),
    Consensus(),
    Consensus("median"),
    CoordinateMedian(),
    TrimmedMean(trim=2),
    GeometricMedian(),
    Krum(num_hostile=2),
    Krum(num_hostile=2, num_selected=5),
    CentredClipping(iterations=2),
    NormBounding(),
    FedPGFilter(sigma=30.0),
)

SERVER_OPTIMIZERS: tuple[ServerOptimizer, ...] = (ServerSGD(), ServerMomentum(), ServerAdam(), ServerYogi())

__all__ = [
    "RULES",
    "SERVER_OPTIMIZERS",
    "AggregationRule",
    "AlignedMean",
    "CentredClipping",
    "Consensus",
    "CoordinateMedian",
    "FedPGFilter",
    "GeometricMedian",
    "Krum",
    "LocalOnly",
    "NestedMean",
    "NormBounding",
    "ServerAdam",
    "ServerMomentum",
    "ServerOptimizer",
    "ServerSGD",
    "ServerYogi",
    "Stalled",
    "Switch",
    "TrimmedMean",
    "WassersteinBarycenter",
    "WeightedMean",
    "barycenter_1d",
    "displacement",
    "entropic_barycenter_1d",
    "fuse_layer_on_host",
    "fuse_rows",
    "fuse_values",
    "geometric_mean",
    "weighted_mean",
]
