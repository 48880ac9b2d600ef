"""Node functions of the augmentation: the split, then spectra of the rare class."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from skyloom.learning.splitting import FEWEST_OF_A_CLASS, split_once
from skyloom.pipelines.stellar_spectra.features import prepare_spectra
from skyloom.pipelines.stellar_spectra.parameters import (
    AugmentationParameters,
    FeatureParameters,
    JitterParameters,
    SyntheticParameters,
)
from skyloom.simulate.stellar_spectra import draw_truth, observe, wavelength_grid
from skyloom.spectra.spectral_types import CLASSES
from skyloom.spectra.stellar_readers import SPEED_OF_LIGHT, StellarSpectrum

logger = logging.getLogger(__name__)


def make_split(sample: pd.DataFrame, parameters: AugmentationParameters) -> pd.DataFrame:
    """Split the stars once, before anything is augmented, synthesised or trained.

    Parameters
    ----------
    sample : pandas.DataFrame
        From `skyloom.pipelines.stellar_spectra.features.measure_stars`.
    parameters : AugmentationParameters
        ``stellar_spectra.augmentation``.

    Returns
    -------
    pandas.DataFrame
        As of `skyloom.learning.splitting.split_once`; all spectra of one star are on one side.
        Where it is by survey, a star of both sides is left out of the training.

    Raises
    ------
    ValueError
        If a survey that is to be tested is not there, or none is left to train on.
    """
    used = sample[sample["keep"] & (sample["class"] != "")]
    counts = used.groupby("class")["group"].nunique()
    few = counts[counts < FEWEST_OF_A_CLASS]
    for name, count in few.items():
        logger.warning(
            "class %s has %d stars, %d are needed: it is left out", name, count, FEWEST_OF_A_CLASS
        )
    used = used[~used["class"].isin(few.index)]
    present = [name for name in CLASSES if name in set(used["class"])]
    objects = used[["id", "group", "sha256", "survey"]].assign(
        role="", **{"class": used["class"].map(present.index).astype(int)}
    )
    if parameters.split != "surveys":
        return split_once(objects, parameters)
    surveys = set(objects["survey"])
    unknown = set(parameters.test_surveys) - surveys
    if unknown or not parameters.test_surveys or surveys <= set(parameters.test_surveys):
        msg = (
            f"augmentation.test_surveys must be some of {sorted(surveys)} and leave one to train "
            f"on, got {list(parameters.test_surveys)}"
        )
        raise ValueError(msg)
    tested = objects["survey"].isin(parameters.test_surveys)
    both = ~tested & objects["group"].isin(objects.loc[tested, "group"])
    objects["role"] = np.where(tested, "test", "train")
    given = parameters.model_copy(update={"split": "given"})
    return split_once(objects[~both], given)


def class_names(sample: pd.DataFrame, manifest: pd.DataFrame) -> list[str]:
    """Names of the classes of a split, in the order of their numbers.

    Parameters
    ----------
    sample : pandas.DataFrame
        The sample.
    manifest : pandas.DataFrame
        From `make_split`.

    Returns
    -------
    list of str
    """
    known = sample.set_index("id")["class"]
    first = manifest.drop_duplicates("class").sort_values("class")["id"]
    return known.loc[first].tolist()


def jitter(
    flux: np.ndarray, n: int, parameters: JitterParameters, step: float, rng: np.random.Generator
) -> np.ndarray:
    """Changed copies of prepared spectra.

    Parameters
    ----------
    flux : numpy.ndarray, shape (k, m)
        In units of their continuum, on a logarithmic grid.
    n : int
        Copies.
    parameters : JitterParameters
        How much is changed.
    step : float
        Pixel of the grid, in log10(wavelength).
    rng : numpy.random.Generator
        Draws the changes.

    Returns
    -------
    numpy.ndarray of float32, shape (n, m)
        Each of one spectrum, in turn: shifted, tilted and noisier.
    """
    m = flux.shape[1]
    chosen = flux[np.resize(rng.permutation(len(flux)), n)]
    shift = parameters.velocity * rng.standard_normal((n, 1)) / SPEED_OF_LIGHT / np.log(10) / step
    place = np.clip(np.arange(m) - shift, 0, m - 1.001)
    whole = place.astype(int)
    left, right = (np.take_along_axis(chosen, whole + k, axis=1) for k in (0, 1))
    moved = left + (place - whole) * (right - left)
    tilt = 1 + parameters.tilt * rng.standard_normal((n, 1)) * np.linspace(-1, 1, m)
    return (moved * tilt + parameters.noise * rng.standard_normal((n, m))).astype(np.float32)


def simulate_rare(
    name: str, parameters: SyntheticParameters, features: FeatureParameters, seed: int
) -> np.ndarray:
    """Simulated spectra of one class, prepared as observed ones are.

    Parameters
    ----------
    name : str
        The class.
    parameters : SyntheticParameters
        ``stellar_spectra.synthetic``.
    features : FeatureParameters
        How they are prepared.
    seed : int
        Of the stars and the noise.

    Returns
    -------
    numpy.ndarray of float32, shape (n, *features.input_shape)
    """
    rng = np.random.default_rng([parameters.seed, seed])
    stars = parameters.stars.model_dump() | {
        "class_shares": tuple(float(each == name) for each in CLASSES)
    }
    truth = draw_truth(parameters.n_spectra, rng, **stars)
    flux, inverse_variance = observe(truth, rng)
    wavelength, nothing = wavelength_grid(), np.zeros(flux.shape[1], bool)
    spectra = [
        StellarSpectrum(
            wavelength, one.astype(float), weight.astype(float), nothing.copy(), "simulation",
            medium="vacuum", radial_velocity=velocity,
        )
        for one, weight, velocity in zip(flux, inverse_variance, truth["velocity"], strict=True)
    ]  # fmt: skip
    inputs, _ = prepare_spectra(spectra, np.full(len(spectra), np.nan), features)
    return inputs
