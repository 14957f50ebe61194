"""QAvg on RandomMDPs and WindyCliffs: values by number of local steps, beside measured anchors and a control.

Settings are those of the released code (Jin et al. 2022, `jin2022qavg`); the anchors were measured with an independent
re-implementation of it, and the control without decay of the step size is ours.
"""

from polyfed.studies.merge_periods import MergePeriods

STUDY = MergePeriods(name="tabular-qavg", methods=("qavg",))
