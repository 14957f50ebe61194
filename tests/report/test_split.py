import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from polyfed.report import figures
from polyfed.report.split import describe, distance_from_whole, split_figure


def texts(drawing):
    nodes = ET.fromstring(drawing.svg).iter()
    return ["".join(node.itertext()).strip() for node in nodes if node.tag.endswith("}text")]


WIDE = [pytest.param(*n, marks=pytest.mark.slow) for n in ((2, 10), (24, 10), (100, 10), (30, 62))]


@pytest.mark.parametrize(("clients", "labels"), [(1, 2), (10, 10), (250, 10), *WIDE])
def test_any_number_of_clients_fits(clients, labels):
    counts = np.random.default_rng(0).integers(0, 90, size=(clients, labels))
    drawing = split_figure(counts, "split", "mnist")
    assert len(texts(drawing)) < 600
    assert "all" in texts(drawing)
    height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', drawing.svg)[1])
    assert height < 620
    assert drawing.width <= figures.WIDE


def test_every_count_and_total_is_printed_where_there_is_room():
    counts = np.array([[400, 0, 7], [1, 1203, 0]])
    shown = texts(split_figure(counts, "split", "mnist"))
    for text in ("client-0", "client-1", "label", "400", "7", "1", "1203", "407", "1204"):
        assert text in shown
    assert shown.count("·") == 2  # what a client does not have


def test_the_figure_is_told_in_words():
    counts = np.array([[400, 0, 7], [1, 1203, 0], [0, 0, 0]])
    assert describe(counts).endswith("A client has 0 to 1204 samples, 0 to 2 of the 3 labels, and 1203 of one at most.")
    assert split_figure(counts, "split", "mnist").description == describe(counts)


def test_the_distance_is_that_of_a_naive_loop():
    counts = np.random.default_rng(1).integers(0, 50, size=(6, 4))
    counts[2] = 0
    whole = [sum(row[label] for row in counts) / counts.sum() for label in range(4)]
    distances = [sum(abs(row[label] / sum(row) - whole[label]) for label in range(4)) / 2 for row in counts if sum(row)]
    assert distance_from_whole(counts) == pytest.approx(sum(distances) / len(distances))
    assert np.isnan(distance_from_whole(np.zeros((2, 3), int)))
