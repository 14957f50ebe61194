"""SoftPAvg and ProjPAvg on RandomMDPs and WindyCliffs: values by number of local steps, beside anchors and a control.

Settings are those of the released code (Jin et al. 2022, `jin2022qavg`); the anchors were measured with an independent
re-implementation of it, and the control without decay of the step size is ours.
"""

from polyfed.studies.merge_periods import MergePeriods

STUDY = MergePeriods(name="tabular-pavg", methods=("soft_pavg", "proj_pavg"), random_instances=40, windy_instances=10)
