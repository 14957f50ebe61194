"""QAvg, SoftPAvg, ProjPAvg and FedRQ around a centre environment: its value as the agents' environments move apart.

The series and the settings of the first three are those of the released code (Jin et al. 2022, `jin2022qavg`); FedRQ
(Hwang and Hong 2025, `hwang2025fedrq`) in this series, and its settings, are ours.
"""

from polyfed.studies.towards_the_centre import TowardsTheCentre

STUDY = TowardsTheCentre(name="tabular-kappa")
