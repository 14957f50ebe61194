"""The handwritten digits that come with scikit-learn, 1797 images of 8 x 8 (Alpaydin & Kaynak 1998).

They are the test part of the data set of that name in the UCI repository. This file is the door to scikit-learn.

References: alpaydin1998digits.
"""

from __future__ import annotations

import equinox as eqx
import numpy as np

from polyfed.environments.idx import Samples, held_out
from polyfed.errors import MissingExtraError


class Digits(eqx.Module):
    """scikit-learn's bundled digits: nothing is downloaded.

    The intensities 0 to 16 are stretched to whole numbers from 0 to 255, `round(255 v / 16)`, so that they are stored
    like any other image. `num_test` of the samples are held out: drawn from a `seed`, or without one the last.

    >>> samples = Digits(num_test=297, seed=0).load()
    >>> samples.images.shape, samples.image_shape, samples.num_classes, len(samples.train)
    ((1797, 64), (8, 8), 10, 1500)
    """

    num_test: int = eqx.field(default=297, static=True)  # samples held out
    seed: int | None = eqx.field(default=0, static=True)  # of the draw of the test samples; none: the last ones

    def load(self) -> Samples:
        """Read them from scikit-learn.

        Raises:
          MissingExtraError: scikit-learn is not installed.
          ValueError: `num_test` leaves nobody to learn or to judge.
        """
        try:
            from sklearn.datasets import load_digits
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                'The digits come with scikit-learn, which is not installed: pip install "polyfed[digits]".'
            ) from error
        images, labels = load_digits(return_X_y=True)
        train, test = held_out(len(labels), self.num_test, self.seed, "Digits")
        stretched = np.rint(np.asarray(images) * (255 / 16)).astype(np.uint8)
        return Samples(stretched, np.asarray(labels, np.int32), (8, 8), train, test)
