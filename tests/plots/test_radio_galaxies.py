import numpy as np
import pytest

from skyloom.plots.radio_galaxies import contact_sheets


@pytest.mark.parametrize(("n", "pages"), [(0, 0), (1, 1), (6, 1), (7, 2), (13, 3)])
def test_every_image_is_on_a_page_with_its_caption(n, pages):
    images = np.random.default_rng(0).random((n, 12, 12), np.float32)
    captions = [f"source {k}" for k in range(n)]
    figures = list(contact_sheets(images, captions, columns=3, rows=2, title="FRI"))
    assert len(figures) == pages
    shown = [text.get_text() for figure in figures for text in figure.axes[0].texts]
    assert shown == captions
    for number, figure in enumerate(figures, 1):
        assert figure.axes[0].get_title() == f"FRI {number} of {pages}"


def test_thumbnails_are_upright_and_beside_each_other():
    images = np.zeros((2, 10, 10), np.float32)
    images[0, 9, 0], images[1, 0, 9] = 1, 1  # upper left, and lower right
    (figure,) = contact_sheets(images, ["a", "b"], columns=2, rows=1)
    canvas = figure.axes[0].images[0].get_array()
    assert [tuple(place) for place in np.argwhere(canvas == 1)] == [(0, 0), (9, 23)]
