"""Node function of the generation: made spectra of the rare class, written as files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from skyloom.learning.fitting import prepare_process
from skyloom.pipelines.stellar_spectra.features import wavelengths
from skyloom.pipelines.stellar_spectra.parameters import (
    AugmentationParameters,
    FeatureParameters,
    GenerationParameters,
)
from skyloom.spectra.optical.one_dimensional import to_hdu


def make_spectra(
    generators: dict[str, Callable[[], Any]],
    features: FeatureParameters,
    augmentation: AugmentationParameters,
    generation: GenerationParameters,
) -> tuple[dict[str, Callable[[], Any]], pd.DataFrame]:
    """Draw spectra from the trained generators, in turn.

    Returns
    -------
    files : dict of str to callable
        Function that makes the HDU of a spectrum, by file name: one axis, which
        `skyloom.spectra.optical.readers` and others read.
    table : pandas.DataFrame
        ``wavelength`` (Angstrom, vacuum) and a column for each spectrum.

    Raises
    ------
    ValueError
        If there are no generators, or they make spectra of another length.
    """
    from skyloom.learning.generative import make_images

    if not generators:
        msg = "no generator was trained: run stellar_spectra with the arm gan before"
        raise ValueError(msg)
    prepare_process(0)
    rng = np.random.default_rng(generation.seed)
    share = -(-generation.n_spectra // len(generators))
    drawn = [
        make_images(load(), np.zeros(share, int), rng)[..., 0]
        for _, load in sorted(generators.items())
    ]
    flux = np.stack(drawn, axis=1).reshape(-1, drawn[0].shape[1])[: generation.n_spectra]
    wavelength = wavelengths(features)
    if len(wavelength) != flux.shape[1]:
        msg = (
            f"the generators make spectra of {flux.shape[1]} pixels, and features ask for "
            f"{len(wavelength)}: run stellar_spectra again"
        )
        raise ValueError(msg)
    kind = augmentation.rare_class
    unit = "continuum" if features.preparation == "corrected" else "lowest 0, highest 1"
    header = {"SPECTYPE": kind, "ORIGIN": "Skyloom generator", "BUNIT": unit}
    names = [f"made_{kind}_{number:05d}" for number in range(len(flux))]
    files = {
        f"{name}.fits": partial(to_hdu, wavelength, row, OBJECT=name, **header)
        for name, row in zip(names, flux, strict=True)
    }
    table = pd.DataFrame(flux.T, columns=names)
    table.insert(0, "wavelength", wavelength)
    return files, table
