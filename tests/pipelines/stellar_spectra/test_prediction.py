"""New spectra: what their flags and warnings say, whatever the network thinks of them."""

import numpy as np
import pytest

from skyloom.evaluation.novelty import describe_sample
from skyloom.learning.fitting import TrainingParameters
from skyloom.pipelines.stellar_spectra.features import likeness_features, measure_all
from skyloom.pipelines.stellar_spectra.parameters import (
    AugmentationParameters,
    Configuration,
    FeatureParameters,
    IngestionParameters,
    NetworkParameters,
    PredictionParameters,
)
from skyloom.pipelines.stellar_spectra.prediction import (
    classify_spectra,
    ingest_unlabelled_spectra,
)
from skyloom.simulate.stellar_spectra import draw_truth, observe, to_hdu, wavelength_grid

POPULATION = {"A": 0.2, "F": 0.8}
RED = 5500  # Angstrom: some spectra end here
FEATURES = FeatureParameters(min_coverage=0.3)
TYPES = {
    "wd": "DA", "carbon": "Carbon", "emission": "EM", "cv": "CVstar", "two": "DoubleStar",
    "galaxy": "GALAXY", "unknown": "Non", "range": "G8/K0III", "plain": "A1V",
}  # fmt: skip


class Network:
    """Names the first class, always."""

    def predict_on_batch(self, inputs):
        return np.tile(np.float32([0.9, 0.1]), (len(inputs), 1))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Many plain spectra, some that end early, and some whose header has another type."""
    truth = draw_truth(80, np.random.default_rng(1), snr=(40.0, 60.0))
    flux, weight = observe(truth, np.random.default_rng(2))
    names = [f"star{k}" for k in range(61)] + [f"short{k}" for k in range(10)] + list(TYPES)
    folder, contents = tmp_path_factory.mktemp("spectra"), {}
    for (_, row), name, one, ivar in zip(truth.iterrows(), names, flux, weight, strict=True):
        if name.startswith("short"):
            ivar = np.where(wavelength_grid() > RED, 0, ivar)
        hdu = to_hdu(row, one, ivar)
        hdu.header["SUBCLASS"] = TYPES.get(name, hdu.header["SUBCLASS"])
        hdu.writeto(folder / f"{name}.fits")
        contents[f"{name}.fits"] = (folder / f"{name}.fits").read_bytes
    return contents


@pytest.fixture(scope="module")
def table(files):
    stars, spectra, _ = ingest_unlabelled_spectra(files, IngestionParameters())
    spectra = spectra.compute()
    plain = stars["id"].str.startswith("star").to_numpy()
    likeness = likeness_features(measure_all(stars, spectra, [FEATURES])[0])
    configuration = Configuration(
        name="one", features=FEATURES, augmentation=AugmentationParameters(),
        network=NetworkParameters(), training=TrainingParameters(),
    )  # fmt: skip
    description = {
        "configuration": configuration.model_dump(mode="json"),
        "class_names": ["A", "F"],
        "trained_shares": [0.5, 0.5],
        "sample": describe_sample(likeness[plain]),
    }
    classes, pages, described = classify_spectra(
        stars, spectra, (Network(), description), PredictionParameters(population=POPULATION)
    )
    assert pages is not None
    assert described == {"of": "given", "shares": POPULATION}
    return classes.set_index("id")


def test_probabilities_are_those_in_the_population(table):
    np.testing.assert_allclose(table["probability_A"], 0.9 * 0.2 / (0.9 * 0.2 + 0.1 * 0.8))
    np.testing.assert_allclose(table["probability_A"] + table["probability_F"], 1)


def test_spectra_that_end_early_are_compared_by_the_lines_they_have(table):
    short = table[table.index.str.startswith("short")]
    assert len(short) == 10
    assert np.isfinite(short["distance_from_training"]).all()
    assert short["unlike_training"].sum() <= 3
    assert (short["not_covered"] == "Na D, TiO 6200").all()
    whole = table[table.index.str.startswith("star")]
    assert (whole["not_covered"] == "").all()


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("wd", "white dwarf: DA"),
        ("carbon", "carbon star: Carbon"),
        ("emission", "emission-line object: EM"),
        ("cv", "emission-line object: CVstar"),
        ("two", "two stars: DoubleStar"),
        ("galaxy", "no star: GALAXY"),
        ("unknown", ""),
        ("range", ""),
        ("plain", ""),
    ],
)
def test_a_star_that_is_none_of_the_classes_is_warned_of(table, name, warning):
    assert table.loc[name, "warning"] == warning
    assert table.loc[name, "spectral_type"] == TYPES[name]
    assert table.loc[name, "class"] == "A"
