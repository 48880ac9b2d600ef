"""Figures of stellar spectra can be drawn of full and of empty tables."""

import numpy as np
import pandas as pd
import pytest

from skyloom.plots import stellar_spectra as plots

GRID = np.linspace(3900, 7200, 200)
FLUX = np.random.default_rng(0).normal(1, 0.1, (5, 200))
ENDS = {f"{name}{end}": 0.5 for name in ("recall", "precision", "purity", "difference")
        for end in ("", "_low", "_high")}  # fmt: skip
RARE = pd.DataFrame([{"configuration": name, "minus": "01 a", **ENDS} for name in ("01 a", "b")])
SNR = pd.DataFrame(
    {"configuration": ["a", "a"], "snr": [5.0, 20.0], "n_spectra": 9, "success_rate": [0.5, 0.7],
     "success_rate_low": 0.4, "success_rate_high": 0.8}
)  # fmt: skip
OCCLUSION = pd.DataFrame(
    {"class": "A", "low": [3900.0, 5000.0], "high": [5000.0, 7200.0], "drop": [0.1, -0.01]}
)
LINES = pd.DataFrame(
    {"spectra": ["observed O", "gan"] * 2, "line": ["H beta", "H beta", "Mg b", "Mg b"],
     "median": [1.0, 1.1, 0.2, 0.1], "quarter": 0.0, "three_quarters": 1.5}
)  # fmt: skip
AUDIT = pd.DataFrame(
    {"labels": ["true", "true", "shuffled"], "kernel_size": [2, 3, 3], "initial_scale": 0.1,
     "success_rate": 0.7, "success_rate_of_real": 0.6, "rare_recall": 0.9,
     "rare_recall_of_real": [0.3, np.nan, 0.0]}
)  # fmt: skip


@pytest.mark.parametrize(
    ("draw", "n_axes"),
    [
        (lambda: plots.classes_figure(GRID, {"O": FLUX, "M": FLUX[:0]}), 2),
        (lambda: plots.made_figure(GRID, FLUX, FLUX, "O"), 2),
        (lambda: plots.rare_figure(RARE, "O"), 3),
        (lambda: plots.snr_figure(SNR), 1),
        (lambda: plots.occlusion_figure(GRID, {"A": FLUX[0], "F": FLUX[1]}, OCCLUSION), 4),
        (lambda: plots.lines_figure(LINES), 1),
        (lambda: plots.audit_figure(AUDIT, 7, "O"), 3),
    ],
)
def test_figures_have_their_panels_with_labels(draw, n_axes, tmp_path):
    figure = draw()
    assert len(figure.axes) == n_axes
    assert any(axis.get_xlabel() or axis.get_ylabel() for axis in figure.axes)
    figure.savefig(tmp_path / "figure.png")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.classes_figure(GRID, {}),
        lambda: plots.made_figure(GRID, FLUX[:0], FLUX[:0], "O"),
        lambda: plots.rare_figure(RARE[:0], "O"),
        lambda: plots.snr_figure(SNR[:0]),
        lambda: plots.occlusion_figure(GRID, {}, OCCLUSION[:0]),
        lambda: plots.lines_figure(LINES[:0]),
        lambda: plots.audit_figure(AUDIT[:0], 0, "O"),
    ],
)
def test_empty_tables_are_drawn(draw, tmp_path):
    draw().savefig(tmp_path / "figure.png")


def test_pages_hold_all_spectra():
    captions = [f"s{k}" for k in range(5)]
    pages = list(plots.spectra_pages(GRID, FLUX, captions, rows=2, title="Found"))
    assert len(pages) == 2
    shown = [axis.get_title() for page in pages for axis in page.axes if axis.get_title()]
    assert shown == captions
    assert not list(plots.spectra_pages(GRID, FLUX[:0], []))


def test_a_frame_is_a_grey_picture_with_its_text():
    one, other = (plots.film_frame(GRID, FLUX, text) for text in ("epoch 1", "epoch 2"))
    assert one.shape == other.shape
    assert one.min() >= 0
    assert one.max() <= 1
    assert (one != other).any()
