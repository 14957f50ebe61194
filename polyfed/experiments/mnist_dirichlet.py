"""Ten agents whose digits and amounts differ as a Dirichlet distribution draws them (alpha 0.5).

The split is that of Yurochkin et al. (2019); an agent counts by its number of samples. Everything else is that of
`mnist-non-iid`.
"""

import dataclasses

from polyfed.environments import Dirichlet
from polyfed.experiments.mnist_non_iid import EXPERIMENT as NON_IID

EXPERIMENT = dataclasses.replace(NON_IID, name="mnist-dirichlet", variation=Dirichlet(alpha=0.5, min_size=64))
