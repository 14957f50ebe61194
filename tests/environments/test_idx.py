import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from polyfed.environments.idx import IdxFolder, held_out, read_idx
from polyfed.record import from_data, to_data

MNIST = Path(__file__).parents[2] / "../shared/data/mnist"


def idx(array):
    """The bytes of an IDX file."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def images(num, first=0):
    return (np.arange(num * 6).reshape(num, 2, 3) + first) % 256


def write(folder, part, num, first=0, compress=True):
    """A pair of files with labels 0, 1, 2, 0, ..."""
    end, pack = (".gz", gzip.compress) if compress else ("", bytes)
    (folder / f"{part}-images-idx3-ubyte{end}").write_bytes(pack(idx(images(num, first))))
    (folder / f"{part}-labels-idx1-ubyte{end}").write_bytes(pack(idx(np.arange(num) % 3)))


@pytest.mark.parametrize("compress", [True, False])
def test_reads_what_was_written(tmp_path, compress):
    write(tmp_path, "t10k", 5, compress=compress)
    end = ".gz" if compress else ""
    read = read_idx(tmp_path / f"t10k-images-idx3-ubyte{end}")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, images(5))


def test_the_format_is_big_endian_with_its_dimensions_in_front(tmp_path):
    (tmp_path / "labels").write_bytes(b"\x00\x00\x08\x01\x00\x00\x01\x00" + bytes(range(256)))
    np.testing.assert_array_equal(read_idx(tmp_path / "labels"), np.arange(256))


def test_a_folder_with_both_pairs_is_used_as_distributed(tmp_path):
    write(tmp_path, "train", 7)
    write(tmp_path, "t10k", 4, first=100, compress=False)
    samples = IdxFolder(str(tmp_path), num_test=99).load()
    np.testing.assert_array_equal(samples.images, np.concatenate([images(7), images(4, 100)]).reshape(11, 6))
    np.testing.assert_array_equal(samples.labels, [0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 0])
    assert samples.labels.dtype == np.int32
    assert (samples.image_shape, samples.num_classes) == ((2, 3), 3)
    np.testing.assert_array_equal(samples.train, range(7))
    np.testing.assert_array_equal(samples.test, range(7, 11))


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_one_pair_is_cut_into_training_and_test(tmp_path, part):
    write(tmp_path, part, 10)
    samples = IdxFolder(str(tmp_path), num_test=4).load()
    np.testing.assert_array_equal(samples.train, range(6))
    np.testing.assert_array_equal(samples.test, range(6, 10))
    drawn = [IdxFolder(str(tmp_path), num_test=4, seed=seed).load() for seed in (0, 0, 1)]
    for cut in drawn:
        np.testing.assert_array_equal(np.sort(np.concatenate([cut.train, cut.test])), range(10))
        assert len(cut.test) == 4
    np.testing.assert_array_equal(drawn[0].test, drawn[1].test)
    assert set(drawn[0].test) != set(drawn[2].test)


@pytest.mark.skipif(not MNIST.is_dir(), reason="the 10,000 images of MNIST are not beside the checkout")
def test_the_ten_thousand_images_of_mnist():
    samples = IdxFolder(str(MNIST)).load()
    assert (samples.images.shape, samples.image_shape, samples.num_classes) == ((10_000, 784), (28, 28), 10)
    assert samples.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert (len(samples.train), len(samples.test), samples.test[0]) == (8000, 2000, 8000)


def test_a_folder_is_a_value_that_can_be_recorded(tmp_path):
    folder = IdxFolder(str(tmp_path), num_test=3, seed=1)
    assert from_data(to_data(folder)) == folder
    assert folder != IdxFolder(str(tmp_path), num_test=4, seed=1)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (idx(np.arange(9))[:-1], "ends early: it announces 9 = 9 entries and holds 8: download it again"),
        (idx(images(2)) + b"x", "holds too much: it announces 2 x 2 x 3 = 12 entries and holds 13"),
        (idx(images(2))[:10], "ends within its header of 16 bytes"),
        (b"\0\0\x0d\x01\0\0\0\0", r"begins with bytes \[0, 0, 13, 1\], but an IDX file of unsigned bytes"),
        (b"<html>404</html>", r"begins with bytes \[60, 104, 116, 109\]"),
        (b"", r"begins with bytes \[\]"),
        (b"\0\0\x08\0", r"begins with bytes \[0, 0, 8, 0\]"),
    ],
)
def test_refuses_a_file_that_is_not_what_it_should_be(tmp_path, content, sentence):
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_idx(tmp_path / "labels")


@pytest.mark.parametrize("cut", [5, 20, -9, -4])
def test_refuses_a_compressed_file_that_was_cut(tmp_path, cut):
    (tmp_path / "labels.gz").write_bytes(gzip.compress(idx(np.arange(9)))[:cut])
    with pytest.raises(ValueError, match=r"labels\.gz cannot be decompressed .*: download it again"):
        read_idx(tmp_path / "labels.gz")


def test_refuses_what_only_calls_itself_compressed(tmp_path):
    (tmp_path / "labels.gz").write_bytes(idx(np.arange(9)))
    with pytest.raises(ValueError, match=r"labels\.gz cannot be decompressed"):
        read_idx(tmp_path / "labels.gz")


def test_refuses_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="labels is not there: give the path of an IDX file"):
        read_idx(tmp_path / "labels")


def test_refuses_a_folder_that_is_missing_or_empty(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere' is no folder: give one that holds IDX files"):
        IdxFolder(str(tmp_path / "nowhere")).load()
    with pytest.raises(ValueError, match=r"holds no IDX files: put train-images-idx3-ubyte\.gz"):
        IdxFolder(str(tmp_path)).load()


@pytest.mark.parametrize("missing", ["images-idx3", "labels-idx1"])
def test_refuses_half_a_pair(tmp_path, missing):
    write(tmp_path, "train", 5)
    (tmp_path / f"train-{missing}-ubyte.gz").unlink()
    with pytest.raises(ValueError, match=rf"has no train-{missing}-ubyte\.gz beside its other half"):
        IdxFolder(str(tmp_path)).load()


def test_refuses_images_and_labels_that_were_exchanged(tmp_path):
    write(tmp_path, "train", 5)
    pictures, labels = tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "train-labels-idx1-ubyte.gz"
    content = pictures.read_bytes()
    pictures.write_bytes(labels.read_bytes())
    with pytest.raises(ValueError, match=r"images-idx3-ubyte\.gz holds 1-dimensional entries.* exchanged\?"):
        IdxFolder(str(tmp_path)).load()
    pictures.write_bytes(content)
    labels.write_bytes(content)
    with pytest.raises(ValueError, match=r"labels-idx1-ubyte\.gz holds 3-dimensional entries.* labels have one dim"):
        IdxFolder(str(tmp_path)).load()


def test_refuses_counts_that_differ(tmp_path):
    write(tmp_path, "train", 5)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(4))))
    with pytest.raises(ValueError, match="has 5 train images and 4 train labels, but every image needs one"):
        IdxFolder(str(tmp_path)).load()


def test_refuses_training_and_test_images_of_two_data_sets(tmp_path):
    write(tmp_path, "train", 5)
    write(tmp_path, "t10k", 5)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros((5, 4, 4)))))
    with pytest.raises(ValueError, match="trains on images of 2 x 3 and tests on 4 x 4"):
        IdxFolder(str(tmp_path)).load()


@pytest.mark.parametrize("num_test", [0, -1, 10, 11])
def test_refuses_to_hold_out_all_or_nothing(num_test):
    with pytest.raises(ValueError, match=f"num_test = {num_test} of the 10 samples in here .* a number from 1 to 9"):
        held_out(10, num_test, 0, "here")
