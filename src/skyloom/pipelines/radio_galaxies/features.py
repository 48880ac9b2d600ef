"""Node functions of the features: what a network sees, and what is measured without one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom.images.cutouts import (
    as_picture,
    clip_background,
    cut,
    remove_specks,
    resize,
    source_centres,
    stretch,
)
from skyloom.images.moments import measure_images, moment_features
from skyloom.pipelines.radio_galaxies.parameters import FeatureParameters, Sweep
from skyloom.simulate.radio_galaxies import CLASSES, PIXEL_SCALE

_CHUNK = 128
_N_SHOWN = 56  # images on the page of the sample


def prepare_images(
    cutouts: np.ndarray, features: FeatureParameters, *, offset: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Cut-outs as a network takes them.

    Parameters
    ----------
    cutouts : numpy.ndarray, shape (n, height, width)
        As observed; NaN where nothing was. May be memory-mapped.
    features : FeatureParameters
        ``radio_galaxies.features``.
    offset : tuple of int
        Rows and columns from the centre to the pixel that becomes the middle.

    Returns
    -------
    numpy.ndarray of float32, shape (n, size, size, 1)
        Clipped, centred, cropped, resized and stretched from 0 to 1, as far as it is asked for.
    """
    prepared = np.empty((len(cutouts), features.size, features.size, 1), np.float32)
    for first in range(0, len(cutouts), _CHUNK):
        part = np.asarray(cutouts[first : first + _CHUNK])
        clipped = _clipped(part, features)
        centres = source_centres(clipped, features.centre)
        light = clipped if features.clip else np.nan_to_num(part)
        light = resize(cut(light, centres + np.array(offset), features.crop), features.size)
        prepared[first : first + _CHUNK, :, :, 0] = stretch(light, features.stretch)
    return prepared


def _clipped(part, features):
    """Some cut-outs without background and specks, as pictures if that is asked for."""
    clipped, noise = clip_background(
        part, n_sigma=features.clip_sigma, max_iterations=features.clip_iterations
    )
    if features.eight_bits:
        clipped = as_picture(clipped, features.clip_sigma * noise)
    if features.min_pixels:
        clipped = remove_specks(clipped, min_pixels=features.min_pixels)
    return clipped


def class_names(sample: pd.DataFrame, split_manifest: pd.DataFrame) -> list[str]:
    """Names of the classes of the split, in the order of their numbers.

    Parameters
    ----------
    sample, split_manifest : pandas.DataFrame
        The sample, and its split; where that is empty all classes of the sample count.

    Returns
    -------
    list of str
    """
    used = sample["keep"] if split_manifest.empty else sample["id"].isin(split_manifest["id"])
    present = set(sample.loc[used, "class"])
    return [name for name in CLASSES if name in present]


def draw_images(cutouts: np.ndarray, sweep: Sweep) -> dict[str, Callable[[], np.ndarray]]:
    """Prepare the images of every variant that the sweep compares.

    Returns
    -------
    dict of str to callable
        Function that returns the images (n, size, size, 1), by variant.
    """
    return {
        variant: partial(prepare_images, cutouts, member.features)
        for variant, member in sweep.input_variants.items()
    }


def measure_sample(
    sample: pd.DataFrame, cutouts: np.ndarray, features: FeatureParameters
) -> pd.DataFrame:
    """Sizes, asymmetries and bending angles from image moments: the classical way.

    They are measured on the part of the cut-out that a network sees, always clipped at three
    times the noise and without specks.

    Returns
    -------
    pandas.DataFrame
        ``id`` and the columns of `skyloom.images.moments.measure_images`, with
        ``concentration``: peak by total brightness.
    """
    scale = sample["pixel_scale"].fillna(PIXEL_SCALE).to_numpy()
    parts = []
    for first in range(0, len(sample), _CHUNK):
        part = np.asarray(cutouts[first : first + _CHUNK])
        # The middle of the image is known without a look at it.
        lit = part if features.centre == "image" else _clipped(part, features)
        centres = source_centres(lit, features.centre)
        seen = cut(part, centres, min(features.crop, *part.shape[1:]))
        parts.append(measure_images(seen, pixel_scale=1.0))
    table = pd.concat(parts, ignore_index=True)
    lengths = ["major", "minor", "length_1", "length_2"]
    table[lengths] = table[lengths].mul(scale, axis=0)
    table["concentration"] = table["peak_flux"] / table["total"]
    table.insert(0, "id", sample["id"].to_numpy())
    return table


def draw_sample_page(sample: pd.DataFrame, images: dict[str, Callable[[], np.ndarray]]) -> Any:
    """Some images of each class as the network sees them.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from skyloom.plots.radio_galaxies import contact_sheets

    kept = sample[sample["keep"]]
    per_class = _N_SHOWN // max(1, kept["class"].nunique())
    rows = kept.groupby("class", sort=True).head(per_class).sort_values("class", kind="stable")
    pictures = next(iter(images.values()))()
    captions = (rows["id"] + " " + rows["class"]).tolist()
    title = "What the network sees, page"
    return next(contact_sheets(np.asarray(pictures[rows.index, :, :, 0]), captions, title=title))


def likeness_features(measurements: pd.DataFrame) -> pd.DataFrame:
    """What decides whether a source is like those of the training sample.

    Those of `skyloom.images.moments.moment_features` that every source has, indexed by ``id``.
    """
    return moment_features(measurements)[["major", "minor", "concentration", "elongation"]]
