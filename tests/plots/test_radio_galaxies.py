import numpy as np
import pandas as pd
import pytest

from skyloom.evaluation.synthetic import image_histograms
from skyloom.plots import classification
from skyloom.plots import radio_galaxies as plots
from skyloom.plots.generators import generators_figure
from skyloom.plots.radio_galaxies import contact_sheets, film_frame, mosaic

HISTOGRAMS = image_histograms(
    {name: np.random.default_rng(0).random((5, 8, 8, 1)) for name in ("training", "vae")}
)


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


def test_a_mosaic_has_its_images_upright_with_gaps_between():
    images = np.zeros((3, 2, 2))
    images[2, 1, 0] = 0.5
    canvas = mosaic(images, 2, gap=1)
    assert canvas.shape == (6, 6)
    assert canvas[3, 0] == 0.5  # rows of an image go up
    assert (canvas[2] == 1).all()
    assert (canvas[:, 5] == 1).all()


def test_a_frame_says_what_it_is_of():
    images = np.zeros((4, 20, 20))
    one, other = (film_frame(images, text, columns=2) for text in ("epoch 1", "epoch 2"))
    assert one.shape == (14 + 44, 44)
    assert not np.array_equal(one, other)
    assert one[:14].max() > 0.9
    np.testing.assert_array_equal(one[14:], other[14:])


def labels_of(figure):
    return [(axis.get_xlabel(), axis.get_ylabel()) for axis in figure.axes if axis.axison]


ARMS = pd.DataFrame(
    {"configuration": ["01 a", "02 b"], "kind": "network", "success_rate": [0.7, 0.8],
     "success_rate_low": [0.6, 0.7], "success_rate_high": [0.8, 0.9], "macro_f1": [0.6, 0.7],
     "macro_f1_low": [0.5, 0.6], "macro_f1_high": [0.7, 0.8], "difference": [0, 0.1],
     "difference_low": [0, 0.05], "difference_high": [0, 0.15]}
)  # fmt: skip
ANGLES = pd.DataFrame(
    {"configuration": np.repeat(["real", "image moments"], 20), "id": np.tile(np.arange(20), 2),
     "target": np.tile(np.linspace(0, 90, 20), 2), "predicted": np.linspace(0, 90, 40)}
)  # fmt: skip
KINDS = pd.DataFrame({"configuration": ["real", "image moments"], "kind": ["network", "baseline"]})
MEASURES = {"histogram_error": ("error", 1.0), "diversity": ("diversity", 0.2)}
HISTORY = pd.DataFrame(
    {"kind": ["dcgan", "dcgan", "vae"], "fold": 0, "class": "all", "epoch": [1, 2, 1],
     "loss_1": 1.0, "loss_2": 2.0, "histogram_error": [np.nan, 0.5, 0.4],
     "diversity": [np.nan, 0.9, 0.8], "chosen": [False, True, True]}
)  # fmt: skip
CURVES = pd.DataFrame(
    {"configuration": "real", "epoch": [1, 2], "loss": [9.0, 4.0], "val_loss": [9.0, 5.0],
     "mae": [3.0, 2.0], "val_mae": [3.0, 2.2]}
)  # fmt: skip
UNMEASURED = pd.DataFrame(
    {"class": ["FRI", "bent", "bent"], "configuration": "geometric", "predicted": [5.0, 50.0, 70.0]}
)


@pytest.mark.parametrize(
    ("figure", "n_axes"),
    [
        (lambda: classification.arms_figure(ARMS, "01 a"), 2),
        (
            lambda: classification.axis_figure(
                ARMS.assign(value=[1, 2], series=""), "features.size"
            ),
            2,
        ),
        (lambda: plots.angles_figure(ANGLES, KINDS), 2),
        (lambda: generators_figure(HISTORY, MEASURES), 4),
        (lambda: plots.histograms_figure(HISTOGRAMS), 4),
        (lambda: plots.angle_curves_figure(CURVES), 2),
        (lambda: plots.angles_by_class_figure(UNMEASURED, ["FRI", "FRII", "bent"]), 1),
    ],
)
def test_every_axis_says_what_it_shows(figure, n_axes):
    drawn = figure()
    drawn.canvas.draw()
    found = labels_of(drawn)
    assert len(found) == n_axes
    assert all(x or y for x, y in found)


@pytest.mark.parametrize(
    "figure",
    [
        lambda: classification.arms_figure(ARMS[:0], ""),
        lambda: classification.axis_figure(ARMS[:0].assign(value=[], series=[]), ""),
        lambda: plots.angles_figure(ANGLES[:0], KINDS[:0]),
        lambda: generators_figure(HISTORY[:0], MEASURES),
        lambda: plots.histograms_figure(HISTOGRAMS[:0]),
        lambda: plots.angle_curves_figure(CURVES[:0]),
        lambda: plots.angles_by_class_figure(UNMEASURED[:0], ["FRI"]),
    ],
)
def test_nothing_to_show_is_a_figure_too(figure):
    figure().canvas.draw()


def test_a_class_without_an_unmeasured_source_has_no_place():
    figure = plots.angles_by_class_figure(UNMEASURED, ["compact", *UNMEASURED["class"].unique()])
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert shown == UNMEASURED["class"].unique().tolist()


def test_angles_stand_at_their_place():
    left, right = plots.angles_figure(ANGLES, KINDS, n_bins=2).axes
    first = left.lines[0]
    own = ANGLES[ANGLES["configuration"] == "real"]
    np.testing.assert_allclose(first.get_xdata(), own["target"])
    np.testing.assert_allclose(first.get_ydata(), own["predicted"])
    error = (own["predicted"] - own["target"]).abs()
    low = own["target"] < 45
    np.testing.assert_allclose(right.lines[0].get_ydata(), [error[low].mean(), error[~low].mean()])
