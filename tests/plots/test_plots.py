"""Every figure: labelled, never shown, and drawn also where there is nothing to draw."""

import ast
import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from skyloom.evaluation.scores import confusion_table
from skyloom.plots import classification, hi_profiles
from skyloom.spectra.hi.busy_function import PARAMETER_NAMES

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
    kinds = ["nested", *["network", "baseline"] * n][:n]
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
            (name, 0, fold, inner, epoch, loss / epoch, 0.6, loss, 0.5)
            for name in names
            for fold in (0, 1)
            for inner in (0, 1, 2)
            for epoch in (1, 2, 3)
        ],
        columns=[
            "configuration", "seed", "fold", "inner", "epoch", "loss", "accuracy", "val_loss",
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
    assert set(legend) == {"nested", "network", "baseline", "chance level 0.55"}
    colours = {
        bar.get_label(): {patch.get_facecolor() for patch in bar} for bar in axis.containers[1::2]
    }
    assert all(len(colour) == 1 for colour in colours.values())
    assert len(set.union(*colours.values())) == len(colours) == 3
    lines = [line.get_xdata()[0] for line in axis.lines if len(set(line.get_xdata())) == 1]
    assert 0.55 in lines


def test_many_configurations_fit_on_the_success_rate_figure():
    sizes = [classification.success_rate_figure(scores_of(n)).get_size_inches()[1] for n in (3, 60)]
    assert sizes[0] < sizes[1] < 20


def test_learning_curves_have_a_line_for_each_inner_fold_and_labels_at_the_edges_of_the_grid():
    figure = classification.learning_curves_figure(curves_of())
    png(figure)
    grid = np.array(figure.axes).reshape(2, 2)
    assert [axis.get_xlabel() for axis in grid[1]] == ["epoch", "epoch"]
    assert [axis.get_ylabel() for axis in grid[:, 0]] == ["loss", "accuracy"]
    assert [axis.get_title() for axis in grid[0]] == ["narrow", "wide"]
    assert all(len(axis.lines) == 2 * 2 * 3 for axis in grid.ravel())
    # Joined over inner folds, the epochs of a line would run back.
    assert all(
        line.get_xdata().tolist() == [1, 2, 3] for axis in grid.ravel() for line in axis.lines
    )


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


KINDS = {"random": "random labels", "true": "true labels", "shuffled": "shuffled labels"}


def audit_of(kinds=("random", "true", "shuffled"), best=0.62):
    rng = np.random.default_rng(1)
    fits, null = [], []
    for kind in kinds:
        rates = np.append(rng.uniform(0.4, 0.5, 11), best if kind == "true" else 0.55)
        rates[0] = np.nan  # one class only
        fits.append(pd.DataFrame({"labels": kind, "relabeled_success_rate": rates}))
        for relabeled in (False, True):
            one = rng.uniform(0.3, 0.5, 200) if relabeled else np.full(200, 0.9)
            shuffled = {"labels": kind, "relabeled": relabeled, "one": one, "best": one + 0.05}
            null.append(pd.DataFrame(shuffled))
    return pd.concat(fits, ignore_index=True), pd.concat(null, ignore_index=True)


def test_the_audit_shows_random_and_true_labels_beside_what_shuffled_classes_give():
    fits, null = audit_of()
    figure = classification.audit_figure(fits, null, KINDS, 3)
    png(figure)
    random, true = visible(figure)
    assert [axis.get_title() for axis in (random, true)] == ["random labels", "true labels"]
    assert [axis.get_xlabel() for axis in (random, true)] == [
        "success rate after the best relabeling"
    ] * 2
    assert random.get_ylabel() == "share of the fits"  # the other stands beside it
    legend = [text.get_text() for text in true.get_legend().get_texts()]
    assert "one in 3" in legend
    assert any("fits, true classes (11)" in text for text in legend)
    assert any("(200 shuffles)" in text for text in legend)
    assert any("best of the grid, true classes: 0.620" in text for text in legend)
    upright = [line.get_xdata()[0] for line in true.lines]
    relabeled = null[(null["labels"] == "true") & null["relabeled"]]
    assert upright == pytest.approx([relabeled["best"].median(), 0.62, 1 / 3])


def test_shares_of_the_audit_add_up_to_one():
    figure = classification.audit_figure(*audit_of(), KINDS, 3)
    for axis in visible(figure):
        for bars in axis.containers:
            assert sum(patch.get_height() for patch in bars) == pytest.approx(1)


@pytest.mark.parametrize("kinds", [("true",), ("random", "shuffled")])
def test_an_audit_of_fewer_kinds_has_fewer_panels(kinds):
    figure = classification.audit_figure(*audit_of(kinds), KINDS, 2)
    png(figure)
    assert len(visible(figure)) == 1


def test_an_audit_in_which_every_fit_named_one_class_can_be_drawn():
    fits, null = audit_of()
    figure = classification.audit_figure(
        fits.assign(relabeled_success_rate=np.nan), null.assign(one=np.nan, best=np.nan), KINDS, 3
    )
    png(figure)
    assert len(visible(figure)) == 2


def test_the_audit_read_back_from_disk_is_the_same(tmp_path):
    fits, null = audit_of()
    fits.to_csv(tmp_path / "fits.csv", index=False)
    null.to_csv(tmp_path / "null.csv", index=False)
    again = pd.read_csv(tmp_path / "fits.csv"), pd.read_csv(tmp_path / "null.csv")
    assert png(classification.audit_figure(*again, KINDS, 3)) == png(
        classification.audit_figure(fits, null, KINDS, 3)
    )


@pytest.mark.parametrize("n", [1, 20, 500])
def test_the_whole_procedure_stands_beside_its_shuffles(n):
    null = np.random.default_rng(0).normal(0.5, 0.03, n)
    figure = classification.permutation_figure(0.7, null, 2)
    png(figure)
    assert_labelled(figure)
    (axis,) = visible(figure)
    assert axis.get_xlabel() == "balanced accuracy of the nested procedure"
    assert sum(patch.get_height() for patch in axis.patches) == n
    assert [line.get_xdata()[0] for line in axis.lines] == [0.7, 0.5]
    legend = {text.get_text() for text in axis.get_legend().get_texts()}
    assert legend == {f"{n} shuffles", "true classes: 0.700", "one in 2"}


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (
            classification.audit_figure(*(table[:0] for table in audit_of()), KINDS, 3),
            "the published protocol was not run",
        ),
        (classification.permutation_figure(0.6, np.array([]), 3), "no shuffles were asked for"),
        (classification.permutation_figure(np.nan, np.array([]), 3), "no shuffles were asked for"),
    ],
)
def test_figures_of_what_was_not_run_say_so(figure, words):
    png(figure)
    (text,) = texts(figure)
    assert text.startswith(words)
    assert not visible(figure)


def test_figures_of_nothing_say_that_nothing_was_trained():
    empty = [
        classification.success_rate_figure(pd.DataFrame(columns=["configuration", "kind"])),
        classification.learning_curves_figure(curves_of()[:0]),
        classification.confusion_figure({}, NAMES),
        classification.sample_images_figure(np.zeros((0, 6, 6, 1)), [], hi_profiles.show_image),
        classification.reliability_figure(predictions_of()[:0]),
        hi_profiles.explanations_figure([], []),
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
        "velocity_start": np.full(n, 1000.0),
        "channel_width": np.full(n, 5.0),
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


def explained(n, importance=(0.0, 0.3, -0.1)):
    edges = np.linspace(0, 65, len(importance) + 1)
    table = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "importance": importance})
    lines = [line_of(1) for _ in range(n)]
    return lines, [(f"g{i}: lopsided (0.90)", "label: symmetric", table) for i in range(n)]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 12])
def test_explanations_have_a_panel_for_each_galaxy_with_units_at_the_edges(n):
    figure = hi_profiles.explanations_figure(*explained(n))
    png(figure)
    panels = [axis for axis in visible(figure) if axis.get_label() != "<colorbar>"]
    (bar,) = (axis for axis in visible(figure) if axis.get_label() == "<colorbar>")
    assert [axis.get_title() for axis in panels] == [f"g{i}: lopsided (0.90)" for i in range(n)]
    assert [axis.texts[0].get_text() for axis in panels] == ["label: symmetric"] * n
    left, lowest = panels[::3], panels[-min(n, 3) :]
    assert {axis.get_ylabel() for axis in left} == {"flux (mJy)"}
    assert {axis.get_xlabel() for axis in lowest} == {"velocity from the middle (km/s)"}
    assert bar.get_ylabel() == "fall of the probability if symmetric there"


def test_explanations_shade_both_sides_alike_and_one_scale_holds_for_all():
    lines, panels = explained(2)
    title, note, table = panels[1]
    panels[1] = (title, note, table.assign(importance=table["importance"] / 10))
    figure = hi_profiles.explanations_figure(lines, panels)
    png(figure)
    axes = figure.axes[:2]
    for axis, (_, _, shown) in zip(axes, panels, strict=True):
        right, left = axis.collections
        for mesh, sign in ((right, 1), (left, -1)):
            np.testing.assert_allclose(mesh.get_array().ravel(), shown["importance"])
            reach = sign * mesh.get_coordinates()[0, :, 0]
            np.testing.assert_allclose(reach, np.linspace(0, 65, 4))
            assert mesh.get_clim() == (-0.3, 0.3)
        profile = axis.lines[0]
        peak = profile.get_xdata()[np.argmax(profile.get_ydata())]
        assert peak == pytest.approx(0, abs=2.5)  # the line is about the middle


def test_explanations_that_explain_nothing_can_be_drawn():
    png(hi_profiles.explanations_figure(*explained(2, importance=(0.0, 0.0))))


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
    hi_profiles.explanations_figure([], []),
    classification.permutation_figure(0.6, np.array([0.5]), 2),
]
for figure in figures:
    figure.savefig(io.BytesIO(), format="png", dpi=30)
assert "matplotlib.pyplot" not in sys.modules
print("drawn")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "drawn\n", done.stderr


def code_of(root):
    for folder in ("src", "benchmarks"):
        for path in sorted((root / folder).rglob("*.py")):
            yield path, path.read_text(encoding="utf-8")
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            lines = [line for line in cell["source"] if not line.startswith(("%", "!"))]
            if cell["cell_type"] == "code":
                yield path, "".join(lines)


def test_every_legend_has_its_place(root):
    """The best place is searched for by the clock: a slow machine warns of it."""
    n_legends = 0
    for path, code in code_of(root):
        for call in ast.walk(ast.parse(code)):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "legend":
                n_legends += 1
                places = [k.value for k in call.keywords if k.arg == "loc"]
                where = f"{path}: {ast.unparse(call)}"
                assert places, where
                assert isinstance(places[0], ast.Constant), where
                assert places[0].value not in ("best", 0), where
    assert n_legends > 5
