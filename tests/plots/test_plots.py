"""Every figure: labelled, never shown, and drawn also where there is nothing to draw."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from skyloom.evaluation.scores import confusion_table
from skyloom.plots import classification, hi_profiles
from skyloom.spectra.busy_function import PARAMETER_NAMES

NAMES = ("symmetric", "lopsided")


def png(figure):
    """Draw the figure, as saving does; warnings of a bad layout are errors."""
    assert isinstance(figure, Figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


def visible(figure):
    return [axis for axis in figure.axes if axis.axison]


def assert_labelled(figure):
    axes = visible(figure)
    assert axes
    for axis in axes:
        assert axis.get_xlabel() or axis.get_label() == "<colorbar>", axis
        assert axis.get_ylabel(), axis


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def scores_of(n=3):
    names = [f"configuration {i}" for i in range(n)]
    rate = np.linspace(0.6, 0.8, n)
    kinds = (["network", "baseline"] * n)[:n]
    return pd.DataFrame(
        {
            "configuration": names,
            "kind": kinds,
            "success_rate": rate,
            "success_low": rate - 0.05,
            "success_high": rate + 0.04,
            "chance_level": 0.55,
        }
    )


def curves_of(names=("narrow", "wide"), loss=0.5):
    return pd.DataFrame(
        [
            (name, 0, fold, epoch, loss / epoch, 0.6, loss, 0.5)
            for name in names
            for fold in (0, 1)
            for epoch in (1, 2, 3)
        ],
        columns=[
            "configuration", "seed", "fold", "epoch", "loss", "accuracy", "val_loss",
            "val_accuracy",
        ],
    )  # fmt: skip


def predictions_of(n=40, names=("narrow", "wide")):
    rng = np.random.default_rng(0)
    tables = []
    for name in names:
        p = rng.uniform(0, 1, n)
        truth = (rng.random(n) < p).astype(int)
        table = pd.DataFrame({"configuration": name, "class": truth, "predicted": p > 0.5})
        tables.append(table.assign(probability_0=1 - p, probability_1=p))
    return pd.concat(tables, ignore_index=True).astype({"predicted": int})


# --- classification -------------------------------------------------------------------------------


def test_success_rates_stand_beside_the_chance_level_and_each_bar_is_named():
    scores = scores_of()
    figure = classification.success_rate_figure(scores)
    png(figure)
    (axis,) = visible(figure)
    assert "success rate" in axis.get_xlabel()
    # The vertical axis counts nothing: its ticks are the names.
    named = dict(
        zip(axis.get_yticks(), [t.get_text() for t in axis.get_yticklabels()], strict=True)
    )
    bars = {
        named[patch.get_y() + patch.get_height() / 2]: patch.get_width() for patch in axis.patches
    }
    assert bars == pytest.approx(dict(scores[["configuration", "success_rate"]].to_numpy()))
    legend = [text.get_text() for text in axis.get_legend().get_texts()]
    assert "chance level 0.55" in legend
    lines = [line.get_xdata()[0] for line in axis.lines if len(set(line.get_xdata())) == 1]
    assert 0.55 in lines


def test_learning_curves_have_a_line_for_each_fold_and_labels_at_the_edges_of_the_grid():
    figure = classification.learning_curves_figure(curves_of())
    png(figure)
    grid = np.array(figure.axes).reshape(2, 2)
    assert [axis.get_xlabel() for axis in grid[1]] == ["epoch", "epoch"]
    assert [axis.get_ylabel() for axis in grid[:, 0]] == ["loss", "accuracy"]
    assert [axis.get_title() for axis in grid[0]] == ["narrow", "wide"]
    assert all(len(axis.lines) == 4 for axis in grid.ravel())


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_learning_curves_of_a_diverged_network_can_be_drawn(loss):
    png(classification.learning_curves_figure(curves_of(loss=loss)))
    one_good = pd.concat([curves_of(("good",)), curves_of(("bad",), loss=loss)])
    figure = classification.learning_curves_figure(one_good)
    png(figure)
    assert 0.4 < figure.axes[0].get_ylim()[1] < 1


@pytest.mark.parametrize("n", [1, 2, 4])
def test_confusion_matrices_are_labelled_and_hold_their_values(n):
    table = pd.DataFrame({"class": [0, 0, 0, 1], "predicted": [0, 0, 1, 1]})
    matrices = {f"network {i}": confusion_table(table, 2) for i in range(n)}
    figure = classification.confusion_figure(matrices, NAMES)
    png(figure)
    assert_labelled(figure)
    matrix_axes = [axis for axis in visible(figure) if axis.get_label() != "<colorbar>"]
    assert len(matrix_axes) == n
    for axis in matrix_axes:
        assert [t.get_text() for t in axis.get_yticklabels()] == list(NAMES)
        assert [t.get_text() for t in axis.texts] == ["0.67", "0.33", "0.00", "1.00"]


def test_examples_have_their_titles_and_wrong_ones_stand_out():
    images = np.random.default_rng(0).normal(size=(8, 6, 6, 1))
    titles = [(f"g{i}", i != 3) for i in range(8)]
    figure = classification.sample_images_figure(
        images, titles, lambda axis, image: hi_profiles.show_image(axis, image, 2)
    )
    png(figure)
    drawn = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in drawn] == [f"g{i}" for i in range(8)]
    colours = [axis.title.get_color() for axis in drawn]
    assert colours[3] not in (set(colours[:3]) | set(colours[4:]))


def test_reliability_has_a_line_for_each_network_and_the_diagonal():
    figure = classification.reliability_figure(predictions_of(), n_bins=4)
    png(figure)
    assert_labelled(figure)
    (axis,) = figure.axes
    assert [line.get_label() for line in axis.lines] == ["narrow", "wide", "calibrated"]
    assert all(len(line.get_xdata()) == 4 for line in axis.lines[:2])


def test_reliability_of_fewer_galaxies_than_bins_is_no_error():
    png(classification.reliability_figure(predictions_of(3), n_bins=8))


def test_figures_of_nothing_say_that_nothing_was_trained():
    empty = [
        classification.success_rate_figure(pd.DataFrame(columns=["configuration", "kind"])),
        classification.learning_curves_figure(curves_of()[:0]),
        classification.confusion_figure({}, NAMES),
        classification.sample_images_figure(np.zeros((0, 6, 6, 1)), [], hi_profiles.show_image),
        classification.reliability_figure(predictions_of()[:0]),
    ]
    for figure in empty:
        png(figure)
        assert texts(figure) == ["no network was trained"]
        assert not visible(figure)


# --- profiles and rings ---------------------------------------------------------------------------


def line_of(n=2, m=40):
    velocity = 1000 + 5.0 * np.arange(m)
    return {
        "flux": np.tile(np.exp(-(((velocity - 1100) / 30) ** 2)), (n, 1)),
        "n_channels": np.full(n, m - 4),
        "centre": np.full(n, 1100.0),
        "half_width": np.full(n, 50.0),
    }


@pytest.mark.parametrize("flux", [np.sin(np.arange(30)), np.zeros(8), np.arange(9.0)])
def test_halves_of_any_profile_are_drawn_and_labelled(flux):
    figure = hi_profiles.halves_figure("CIG0001", flux)
    png(figure)
    assert_labelled(figure)
    assert figure.axes[0].get_title() == "CIG0001"


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_pages_have_a_panel_for_each_galaxy_also_for_none(n):
    ids = [f"g{i}" for i in range(n)]
    spectra = hi_profiles.spectra_page(ids, line_of(n), left_out=5)
    images = np.zeros((n, 8, 8, 1))
    for figure in (spectra, *(hi_profiles.images_page(ids, images, k) for k in (1, 2, 3))):
        png(figure)
        (page,) = figure.axes
        assert [text.get_text() for text in page.texts] == ids
        assert not visible(figure)
    (lines,) = spectra.axes[0].collections
    assert len(lines.get_segments()) == n
    assert "5 more not shown" in spectra.get_suptitle()


@pytest.mark.parametrize(("model", "low"), [(1, 0), (2, -1), (3, -1)])
def test_ring_images_share_a_fixed_range_of_colours(model, low):
    axis = Figure().subplots()
    drawn = hi_profiles.show_image(axis, np.full((4, 4, 1), 0.3), model)
    assert drawn.get_clim() == (low, 1)
    assert drawn.get_cmap().name == "RdBu"


def test_colours_are_shown_as_they_are():
    image = np.random.default_rng(0).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    drawn = hi_profiles.show_image(Figure().subplots(), image, 2)
    np.testing.assert_array_equal(drawn.get_array(), image)


@pytest.mark.parametrize(("axis_kind", "unit"), [("velocity", "km/s"), ("channel", "channels")])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_panel_of_a_galaxy_is_labelled_with_units(axis_kind, unit, channels):
    profile = pd.Series(
        {"id": "g0", "velocity_start": 1000.0, "channel_width": 5.0, "axis": axis_kind, "snr": 20.0}
    )
    fit = pd.Series(dict(zip(PARAMETER_NAMES, (1, 0.1, 0.1, 0, 1100, 1100, 50, 2), strict=True)))
    fit = pd.concat([fit, pd.Series({"low_edge": 1050, "high_edge": 1150, "status": "good"})])
    images = np.zeros((3, 8, 8, channels), np.uint8 if channels == 3 else np.float32)
    figure = hi_profiles.galaxy_panel(
        profile,
        line_of(1),
        fit,
        pd.Series({"a_flux": 1.12, "a_flux_error": 0.03}),
        images,
        extent=1.3,
        rendering="corrected",
    )
    png(figure)
    spectrum, fold, *pictures = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    assert spectrum.get_xlabel() == f"velocity ({unit})"
    assert fold.get_xlabel() == f"distance from the fold ({unit})"
    assert spectrum.get_ylabel() == fold.get_ylabel() == "flux density (mJy)"
    assert len(pictures) == 3
    assert [axis.get_xlabel() for axis in pictures] == ["pixel"] * 3
    assert pictures[0].get_ylabel() == "pixel"  # the others stand beside it
    assert all(axis.get_title().startswith(f"model {k + 1}") for k, axis in enumerate(pictures))
    assert "A_flux 1.12 ± 0.03" in fold.get_title()


@pytest.mark.parametrize(
    "a_flux", [[1.1, 1.3, 5.0], [1.1, np.nan], [np.nan, np.nan], []], ids=["3", "1", "nan", "none"]
)
def test_distribution_of_a_flux_leaves_out_what_was_not_measured(a_flux):
    a_flux = np.array(a_flux, float)
    figure = hi_profiles.a_flux_figure(a_flux, np.full(len(a_flux), 0.05))
    png(figure)
    assert_labelled(figure)
    count = np.isfinite(a_flux).sum()
    assert sum(patch.get_height() for patch in figure.axes[0].patches) == count
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert any(f"measured ({count};" in label for label in labels)


# --- import ---------------------------------------------------------------------------------------


def test_drawing_and_saving_never_imports_pyplot():
    code = """
import io, sys
import numpy as np, pandas as pd
from skyloom.plots import classification, hi_profiles
assert "matplotlib" not in sys.modules, "slow import"
figures = [
    classification.success_rate_figure(pd.DataFrame(columns=["configuration", "kind"])),
    hi_profiles.halves_figure("a", np.arange(16.0)),
    hi_profiles.a_flux_figure(np.array([1.1]), np.array([0.1])),
    hi_profiles.images_page(["a"], np.zeros((1, 4, 4, 1)), 2),
]
for figure in figures:
    figure.savefig(io.BytesIO(), format="png", dpi=30)
assert "matplotlib.pyplot" not in sys.modules
print("drawn")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "drawn\n", done.stderr
