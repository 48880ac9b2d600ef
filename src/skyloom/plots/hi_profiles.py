"""Figures of line profiles and their ring images."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from skyloom.images.rings import published_halves
from skyloom.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, RED, legend_above, new_figure
from skyloom.spectra.hi.busy_function import PARAMETER_NAMES, busy_function

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHEET_CHANNELS = 400  # of a spectrum on a contact sheet, at least
_MODEL_TITLES = {
    1: "model 1: profile along radius",
    2: "model 2: right minus left",
    3: "model 3: model 2, own range",
}


def halves_figure(identifier: str, flux: np.ndarray) -> Figure:
    """The published figure of one galaxy: normalised profile and its halves.

    Parameters
    ----------
    identifier : str
        Title.
    flux : numpy.ndarray, shape (m,)
        Fluxes of the painted channels.

    Returns
    -------
    matplotlib.figure.Figure
    """
    right, left, combined = published_halves(flux)
    figure = new_figure(7, 3)
    whole, halves = figure.subplots(1, 2)
    normalised = (flux - flux.min()) / (np.ptp(flux) or 1.0)
    whole.plot(normalised, color=BLACK, lw=1)
    whole.axvline(len(flux) // 2, color=GREY, ls=":", lw=1)
    whole.set(xlabel="channel", ylabel="normalised flux", title=identifier)
    halves.plot(right, color=RED, lw=1, label="right")
    halves.plot(left, color=BLUE, lw=1, ls="--", label="left, mirrored, negative")
    halves.plot(combined, color=BLACK, lw=1.3, label="combined")
    halves.axvspan(0, len(flux) // 4, color=GREY, alpha=0.2, lw=0, label="painted quarter")
    halves.set(xlabel="channels from the middle", ylabel="normalised flux")
    legend_above(halves, 2)
    return figure


def _page(n: int, title: str) -> tuple[Figure, Axes, np.ndarray]:
    """Page with one axis that holds ``n`` unit cells, and the upper left corner of each."""
    columns = max(1, int(np.ceil(np.sqrt(max(n, 1) * 0.75))))
    rows = max(1, int(np.ceil(n / columns)))
    figure = new_figure(8.3, 11.0)
    figure.suptitle(title, fontsize=9)
    axis = figure.subplots()
    axis.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal")
    axis.set_axis_off()
    row, column = np.divmod(np.arange(n), columns)
    return figure, axis, np.stack([column, row], axis=1)


def _name_cells(axis: Axes, ids: list[str], corners: np.ndarray) -> None:
    size = float(np.clip(60 / np.sqrt(max(len(ids), 1)), 2.0, 8.0))
    for name, (x, y) in zip(ids, corners, strict=True):
        axis.text(x + 0.5, y + 0.1, name, ha="center", va="center", fontsize=size)


def _page_title(title: str, left_out: int) -> str:
    return title + (f" ({left_out} more not shown)" if left_out else "")


def spectra_page(ids: list[str], line: dict[str, np.ndarray], left_out: int = 0) -> Figure:
    """All spectra on one page, each from zero to its own peak.

    Parameters
    ----------
    ids : list of str
        Names.
    line : dict
        Fluxes and geometry, as the features stage makes them.
    left_out : int
        Galaxies that did not fit on the page.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.collections import LineCollection

    title = _page_title("spectra: flux against velocity, each scaled to its range", left_out)
    figure, axis, corners = _page(len(ids), title)
    lines = []
    for corner, row, n in zip(corners, line["flux"], line["n_channels"], strict=True):
        flux = row[:n]
        height = (flux - flux.min()) / (np.ptp(flux) or 1.0)
        x = corner[0] + np.linspace(0.06, 0.94, n)
        lines.append(np.stack([x, corner[1] + 0.96 - 0.76 * height], axis=1))
    axis.add_collection(LineCollection(lines, colors=BLACK, linewidths=0.4))
    _name_cells(axis, ids, corners)
    return figure


def spectra_sheets(
    spectra: Iterable[tuple[np.ndarray, np.ndarray, tuple[float, float] | None, str]],
    *,
    columns: int = 2,
    rows: int = 7,
) -> Iterator[Figure]:
    """Pages of whole spectra with the windows of their lines, to be looked through by eye.

    Parameters
    ----------
    spectra : iterable of tuple
        Velocity (m,) in km/s or channels, flux (m,) in mJy, the ends of the window or None, and a
        caption.
    columns, rows : int
        Of a page.

    Yields
    ------
    matplotlib.figure.Figure
        One page at a time; none where there are no spectra.
    """
    spectra = iter(spectra)
    while page := list(islice(spectra, columns * rows)):
        figure = new_figure(8.3, 11.7)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes[len(page) :]:
            axis.set_axis_off()
        for axis, (velocity, flux, window, caption) in zip(axes, page, strict=False):
            k = max(1, len(flux) // _SHEET_CHANNELS)
            n = len(flux) // k * k
            blocks = np.ma.masked_invalid(flux[:n]).reshape(-1, k).mean(axis=1).filled(np.nan)
            axis.step(
                velocity[:n].reshape(-1, k).mean(axis=1), blocks, color=BLACK, lw=0.4, where="mid"
            )
            # The ends of a band and Galactic hydrogen are far brighter than a line.
            inner = blocks[len(blocks) // 10 : -(len(blocks) // 10) or None]
            if np.isfinite(inner).any():
                low, high = np.nanpercentile(inner, [0.5, 99.5])
                axis.set_ylim(low - 0.3 * (high - low), high + 0.3 * (high - low))
            if window is not None:
                axis.axvspan(*window, color=ORANGE, alpha=0.25, lw=0)
            axis.set_title(textwrap.fill(caption, 70), fontsize=5)
            axis.tick_params(labelsize=5)
        yield figure


def images_page(ids: list[str], images: np.ndarray, model: int, left_out: int = 0) -> Figure:
    """One image model of all galaxies on one page.

    Parameters
    ----------
    ids : list of str
        Names.
    images : numpy.ndarray, shape (n, size, size, channels)
        One channel, or three colours.
    model : {1, 2, 3}
        For the title and the range of the colour map.
    left_out : int
        Galaxies that did not fit on the page.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axis, corners = _page(len(ids), _page_title(_MODEL_TITLES[model], left_out))
    if len(ids):
        size = images.shape[1]
        edge = size // 4  # white rim of a cell, wider above for the name
        cell = size + edge
        columns, rows = corners.max(axis=0) + 1
        blank = np.full((rows * cell, columns * cell, images.shape[3]), np.nan)
        for image, (column, row) in zip(images, corners, strict=True):
            x, y = column * cell + edge // 2, row * cell + edge
            blank[y : y + size, x : x + size] = image
        if images.dtype == np.uint8:
            blank = np.where(np.isnan(blank), 255, blank).astype(np.uint8)
        drawn = show_image(axis, blank, model)
        drawn.set_extent((0, columns, rows, 0))
    _name_cells(axis, ids, corners)
    return figure


def show_image(axis: Axes, image: np.ndarray, model: int) -> object:
    """Draw one ring image in the RdBu colour map with a fixed range.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        Where.
    image : numpy.ndarray, shape (size, size, channels)
        One channel, or three colours.
    model : {1, 2, 3}
        Sets the range: -1 to 1, and 0 to 1 for model 1.

    Returns
    -------
    matplotlib.image.AxesImage
    """
    if image.shape[-1] == 3:
        return axis.imshow(image, interpolation="nearest")
    low = 0 if model == 1 else -1
    return axis.imshow(image[..., 0], cmap="RdBu", vmin=low, vmax=1, interpolation="nearest")


def galaxy_panel(
    profile: pd.Series,
    line: dict[str, np.ndarray],
    fit: pd.Series,
    asymmetry: pd.Series,
    images: np.ndarray,
    *,
    extent: float,
    rendering: str,
) -> Figure:
    """One galaxy in detail: spectrum with fit and edges, fold, and its three images.

    Parameters
    ----------
    profile, fit, asymmetry : pandas.Series
        The galaxy's rows of the tables.
    line : dict
        Its fluxes and geometry (one row).
    images : numpy.ndarray, shape (3, size, size, channels)
        Whole images.
    extent : float
        Velocity of the images' edge in units of half of W20.
    rendering : str
        For the title.

    Returns
    -------
    matplotlib.figure.Figure
    """
    n = int(line["n_channels"][0])
    velocity = profile["velocity_start"] + profile["channel_width"] * np.arange(n)
    flux = line["flux"][0, :n]
    unit = "km/s" if profile["axis"] == "velocity" else "channels"
    figure = new_figure(9.5, 6.5)
    grid = figure.add_gridspec(2, 6)
    spectrum = figure.add_subplot(grid[0, :3])
    spectrum.step(velocity, flux, where="mid", color=GREY, lw=0.8, label="observed")
    model = busy_function(velocity, fit[list(PARAMETER_NAMES)].to_numpy(float))
    spectrum.plot(velocity, model, color=RED, lw=1.5, label="busy function")
    for edge in ("low_edge", "high_edge"):
        spectrum.axvline(fit[edge], color=BLUE, ls=":", lw=1)
    spectrum.axvline(line["centre"][0], color=BLUE, ls="--", lw=1, label="fold, 20 % edges")
    spectrum.axhline(0, color=BLACK, lw=0.5)
    spectrum.set(xlabel=f"velocity ({unit})", ylabel="flux density (mJy)")
    spectrum.set_title(profile["id"], pad=20)
    legend_above(spectrum, 3)

    fold = figure.add_subplot(grid[0, 3:])
    reach = extent * line["half_width"][0]
    offset = np.linspace(0, reach, 200)
    for source, alpha, lw in ((flux, 0.5, 0.8), (model, 1.0, 1.5)):
        right = np.interp(line["centre"][0] + offset, velocity, source)
        left = np.interp(line["centre"][0] - offset, velocity, source)
        labels = (
            ("high-velocity side", "low-velocity side", "difference") if alpha == 1 else [None] * 3
        )
        fold.plot(offset, right, color=RED, lw=lw, alpha=alpha, label=labels[0])
        fold.plot(offset, left, color=BLUE, lw=lw, alpha=alpha, ls="--", label=labels[1])
        fold.plot(offset, right - left, color=GREEN, lw=lw, alpha=alpha, label=labels[2])
    fold.axhline(0, color=BLACK, lw=0.5)
    fold.set(xlabel=f"distance from the fold ({unit})", ylabel="flux density (mJy)")
    fold.set_title(
        f"A_flux {asymmetry['a_flux']:.2f} ± {asymmetry['a_flux_error']:.2f},  "
        f"S/N {profile['snr']:.0f},  fit {fit['status']}",
        fontsize=8,
        pad=20,
    )
    legend_above(fold, 3)
    for k, image in enumerate(images):
        axis = figure.add_subplot(grid[1, 2 * k : 2 * k + 2])
        drawn = show_image(axis, image, k + 1)
        axis.set_title(_MODEL_TITLES[k + 1], fontsize=8)
        axis.set(xlabel="pixel", ylabel="pixel" if k == 0 else "")
        if image.shape[-1] == 1:
            label = "stretched" if k == 2 else "flux / peak"
            figure.colorbar(drawn, ax=axis, shrink=0.8, label=label)
    figure.suptitle(f"{rendering} rendering", fontsize=8)
    return figure


def explanations_figure(
    lines: list[dict[str, np.ndarray]], panels: list[tuple[str, str, pd.DataFrame]]
) -> Figure:
    """Profiles with what counted for the network: darker where symmetry would change its mind.

    Parameters
    ----------
    lines : list of dict
        Fluxes and geometry of each galaxy (one row); may be empty.
    panels : list of (str, str, pandas.DataFrame)
        Title, note, and ``low``, ``high`` (distances from the mid-velocity) and ``importance``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = min(3, max(len(lines), 1))
    rows = int(np.ceil(max(len(lines), 1) / columns))
    figure = new_figure(3.2 * columns, 2.1 * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(lines) :]:
        axis.set_axis_off()
    if not lines:
        axes[0].set_axis_off()
        axes[0].text(0.5, 0.5, "no network was trained", ha="center", transform=axes[0].transAxes)
        return figure
    reach = max(float(table["importance"].abs().max()) for _, _, table in panels)
    drawn = None
    for axis, line, (title, note, table) in zip(axes, lines, panels, strict=False):
        n, centre = int(line["n_channels"][0]), line["centre"][0]
        offset = line["velocity_start"][0] + line["channel_width"][0] * np.arange(n) - centre
        flux = line["flux"][0, :n]
        low, high = table["low"].to_numpy(), table["high"].to_numpy()
        for sign in (1, -1):
            edges = sign * np.append(low, high[-1])
            drawn = axis.pcolormesh(
                edges, [flux.min() * 1.1, flux.max() * 1.15], table["importance"].to_numpy()[None],
                cmap="PuOr_r", vmin=-max(reach, 1e-6), vmax=max(reach, 1e-6),
            )  # fmt: skip
        axis.step(offset, flux, where="mid", color=BLACK, lw=0.8)
        axis.axvline(0, color=GREY, ls=":", lw=0.8)
        axis.set_xlim(-high[-1] * 1.05, high[-1] * 1.05)
        axis.set_title(title, fontsize=7)
        axis.text(0.02, 0.95, note, fontsize=6, va="top", transform=axis.transAxes)
        axis.tick_params(labelsize=6)
    for axis in axes[::columns]:
        axis.set_ylabel("flux (mJy)", fontsize=7)
    for axis in axes[max(0, len(lines) - columns) : len(lines)]:
        axis.set_xlabel("velocity from the middle (km/s)", fontsize=7)
    bar = figure.colorbar(drawn, ax=list(axes), shrink=0.6)
    bar.set_label("fall of the probability if symmetric there", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    return figure


def a_flux_figure(a_flux: np.ndarray, error: np.ndarray, sigma: float = 0.13) -> Figure:
    """Distribution of A_flux with the half-Gaussian of isolated galaxies.

    Parameters
    ----------
    a_flux, error : numpy.ndarray
        Measured values with their noise, and their errors; NaN is left out.
    sigma : float
        Of the half-Gaussian of A_flux - 1 (Espada et al. 2011).

    Returns
    -------
    matplotlib.figure.Figure
    """
    from scipy.stats import halfnorm

    good = np.isfinite(a_flux)
    figure = new_figure(6, 4)
    axis = figure.subplots()
    shown = np.clip(a_flux[good], 1, 2)
    bins = np.linspace(1, 2, 41)
    axis.hist(shown, bins, color=BLUE, alpha=0.6, label=f"measured ({good.sum()}; beyond 2 at 2)")
    x = np.linspace(1, 2, 200)
    width = bins[1] - bins[0]
    expected = good.sum() * width * halfnorm.pdf(x - 1, scale=sigma)
    axis.plot(x, expected, color=ORANGE, lw=2, label=f"half-Gaussian, σ = {sigma:g}")
    if good.any():
        typical = np.median(error[good])
        observed = good.sum() * width * halfnorm.pdf(x - 1, scale=np.hypot(sigma, typical))
        axis.plot(
            x, observed, color=RED, ls="--", label=f"the same with the median error {typical:.2f}"
        )
    axis.set(xlabel="A_flux as measured, noise included", ylabel="galaxies")
    legend_above(axis, 2, font_size=8)
    return figure
