"""FedRQ and the robust fixed point: whether it is reached with known and with drawn transitions, and at what rate.

The update and the fixed point are those of FedRQ (Hwang and Hong 2025, `hwang2025fedrq`), with QAvg (Jin et al. 2022,
`jin2022qavg`) beside it; environments, step sizes and budgets are ours.
"""

from polyfed.studies.fixed_point import FixedPoint

STUDY = FixedPoint(name="fedrq-fixed-point")
