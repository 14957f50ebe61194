"""Labelled images in IDX files, the format in which MNIST is distributed (LeCun et al. 1998).

A file is a magic number (two zero bytes, a type, the number of dimensions), the dimensions as big-endian 32-bit
integers, and the entries in C order. MNIST, Fashion-MNIST, KMNIST and EMNIST come as `train-images-idx3-ubyte.gz`,
`train-labels-idx1-ubyte.gz`, and the same with `t10k-`.

References: lecun1998mnist.
"""

from __future__ import annotations

import dataclasses
import gzip
import math
import os
import zlib
from pathlib import Path

import equinox as eqx
import numpy as np

BYTE = 0x08  # the type of the entries: unsigned bytes, the only one that images and labels come in


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Labelled images, flattened in C order, and which of them are held out for testing.

    >>> images, labels = np.zeros((3, 4), np.uint8), np.array([0, 2, 1], np.int32)
    >>> Samples(images, labels, (2, 2), train=np.arange(2), test=np.array([2])).num_classes
    3
    """

    images: np.ndarray  # uint8 [N, D], 0 to 255
    labels: np.ndarray  # int32 [N], from 0
    image_shape: tuple[int, ...]  # rows, columns, and channels if there are any
    train: np.ndarray  # indices of the samples that clients may hold
    test: np.ndarray  # indices of those that nobody learns from

    @property
    def num_classes(self) -> int:
        """One more than the largest label, of training and test together."""
        return int(self.labels.max()) + 1


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file of unsigned bytes, compressed by gzip (`.gz`) or not.

    Args:
      path: The file.

    Returns:
      uint8, of the dimensions that the file names: `[N]` for labels, `[N, rows, columns]` for images.

    Raises:
      ValueError: There is no such file, it is not an IDX file of unsigned bytes, it ends early, or it holds more than
        it says.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "labels-idx1-ubyte")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1]) + bytes([0, 0, 0, 3]) + bytes([7, 0, 9]))
    ...     read_idx(path)
    array([7, 0, 9], dtype=uint8)
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not there: give the path of an IDX file, such as t10k-labels-idx1-ubyte.gz.")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be decompressed ({error}): download it again.") from error
    num_dims = data[3] if len(data) >= 4 else 0
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != BYTE or not num_dims:
        raise ValueError(
            f"{path} begins with bytes {list(data[:4])}, but an IDX file of unsigned bytes begins with 0, 0, {BYTE} "
            "and its number of dimensions: give the file as it was distributed."
        )
    start = 4 + 4 * num_dims
    if len(data) < start:
        raise ValueError(f"{path} ends within its header of {start} bytes: download it again.")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", num_dims, offset=4))
    if len(data) - start != math.prod(shape):
        verb = "ends early" if len(data) - start < math.prod(shape) else "holds too much"
        raise ValueError(
            f"{path} {verb}: it announces {' x '.join(map(str, shape))} = {math.prod(shape)} entries and holds "
            f"{len(data) - start}: download it again."
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


class IdxFolder(eqx.Module):
    """A folder of IDX files.

    Where training and test files lie side by side (`train-*` and `t10k-*`), they are used as distributed. Where there
    is one pair only, `num_test` of its samples are held out: the last ones, or, given a `seed`, drawn at random.

    >>> IdxFolder("../shared/data/mnist", num_test=2000)
    IdxFolder(folder='../shared/data/mnist', num_test=2000)
    """

    folder: str = eqx.field(static=True)  # where the files lie; relative to where the program is started
    num_test: int = eqx.field(default=2000, static=True)  # samples held out, where the folder has one pair of files
    seed: int | None = eqx.field(default=None, static=True)  # of the draw of the test samples; none: the last ones

    def load(self) -> Samples:
        """Read the files.

        Raises:
          ValueError: A file is missing, was cut, or is not what its name says, or too few samples would be left.
        """
        pairs = [pair for pair in (self._pair("train"), self._pair("t10k")) if pair is not None]
        if not pairs:
            raise ValueError(
                f"{self.folder!r} holds no IDX files: put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz and "
                "the same two of t10k there (MNIST as distributed), or one of the two pairs."
            )
        if len(pairs) == 1:
            images, labels = pairs[0]
            return _samples(images, labels, *held_out(len(labels), self.num_test, self.seed, repr(self.folder)))
        (images, labels), (test_images, test_labels) = pairs
        if images.shape[1:] != test_images.shape[1:]:
            raise ValueError(
                f"{self.folder!r} trains on images of {_by(images)} and tests on {_by(test_images)}: put files of "
                "one data set there."
            )
        both = np.concatenate([images, test_images]), np.concatenate([labels, test_labels])
        return _samples(*both, *np.split(np.arange(len(both[1])), [len(labels)]))

    def _pair(self, part: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Images and labels of one part, or None where neither is there."""
        if not Path(self.folder).expanduser().is_dir():
            raise ValueError(
                f"{self.folder!r} is no folder: give one that holds IDX files, such as "
                "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz."
            )
        images, labels = self._find(f"{part}-images", 3), self._find(f"{part}-labels", 1)
        if images is None and labels is None:
            return None
        for path, missing in ((images, f"{part}-images-idx3-ubyte"), (labels, f"{part}-labels-idx1-ubyte")):
            if path is None:
                raise ValueError(f"{self.folder!r} has no {missing}.gz beside its other half: put it there.")
        assert images is not None
        assert labels is not None
        pictures, classes = read_idx(images), read_idx(labels)
        if pictures.ndim < 3 or classes.ndim != 1:
            wrong, given, wanted = (
                (images, pictures, "images have 3 or more")
                if pictures.ndim < 3
                else (labels, classes, "labels have one")
            )
            raise ValueError(
                f"{wrong} holds {given.ndim}-dimensional entries, but {wanted} dimensions: were images and labels "
                "exchanged?"
            )
        if len(pictures) != len(classes):
            raise ValueError(
                f"{self.folder!r} has {len(pictures)} {part} images and {len(classes)} {part} labels, but every image "
                "needs one: put files of one data set there."
            )
        return pictures, classes

    def _find(self, stem: str, num_dims: int) -> Path | None:
        names = [f"{stem}{dot}idx{num_dims}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
        return next((path for name in names if (path := Path(self.folder).expanduser() / name).is_file()), None)


def held_out(num: int, num_test: int, seed: int | None, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices `(train, test)` of `num` samples: the last `num_test` are held out, or as many drawn from a seed.

    >>> held_out(5, 2, None, "five samples")
    (array([0, 1, 2]), array([3, 4]))
    """
    if not 1 <= num_test < num:
        raise ValueError(
            f"num_test = {num_test} of the {num} samples in {where} cannot be held out, for somebody must learn and "
            f"somebody judge: give a number from 1 to {num - 1}."
        )
    order = np.arange(num) if seed is None else np.random.default_rng(seed).permutation(num)
    return np.sort(order[:-num_test]), np.sort(order[-num_test:])


def _samples(images: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> Samples:
    return Samples(images.reshape(len(images), -1), labels.astype(np.int32), images.shape[1:], train, test)


def _by(images: np.ndarray) -> str:
    return " x ".join(map(str, images.shape[1:]))
