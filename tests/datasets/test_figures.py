"""FigurePagesDataset."""

import re

import pytest
from kedro.io import DatasetError
from matplotlib.figure import Figure

from skyloom.datasets import FigurePagesDataset


def figures(n):
    pages = [Figure(figsize=(2, 1 + i)) for i in range(n)]
    for page in pages:
        page.subplots().plot([1, 2])
    return pages


def heights(pdf):
    """Heights of the pages in inches."""
    boxes = re.findall(rb"/MediaBox \[ 0 0 [\d.]+ ([\d.]+) \]", pdf)
    return [float(height) / 72 for height in boxes]


@pytest.mark.parametrize("n", [1, 3])
def test_each_figure_is_a_page_in_order(tmp_path, n):
    path = tmp_path / "plots" / "pages.pdf"
    FigurePagesDataset(filepath=path).save(figures(n))
    pdf = path.read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert heights(pdf) == [1 + i for i in range(n)]


def test_saved_pages_replace_those_before(tmp_path):
    dataset = FigurePagesDataset(filepath=tmp_path / "pages.pdf")
    dataset.save(figures(3))
    dataset.save(figures(1))
    assert heights((tmp_path / "pages.pdf").read_bytes()) == [1]


def test_other_file_systems(memory):
    FigurePagesDataset(filepath="memory:///pages.pdf").save(figures(2))
    assert heights(memory.cat("/pages.pdf")) == [1, 2]


def test_failed_save_leaves_the_old_pages(tmp_path):
    dataset = FigurePagesDataset(filepath=tmp_path / "pages.pdf")
    dataset.save(figures(2))
    with pytest.raises(DatasetError):
        dataset.save([*figures(1), "no figure"])
    assert heights((tmp_path / "pages.pdf").read_bytes()) == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["pages.pdf"]


def test_pages_are_not_loaded(tmp_path):
    dataset = FigurePagesDataset(filepath=tmp_path / "pages.pdf")
    dataset.save(figures(1))
    with pytest.raises(DatasetError, match="can only be saved"):
        dataset.load()
