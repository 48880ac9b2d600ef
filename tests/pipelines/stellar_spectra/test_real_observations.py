"""Real spectra of LAMOST, MILES, STELIB and templates, where they lie beside the repository."""

import numpy as np
import pandas as pd
import pytest

from skyloom.datasets import ObservationsDataset
from skyloom.learning.fitting import TrainingParameters
from skyloom.pipelines.stellar_spectra.features import measure_stars
from skyloom.pipelines.stellar_spectra.ingestion import configure_sweep, ingest_spectra
from skyloom.pipelines.stellar_spectra.parameters import (
    AugmentationParameters,
    FeatureParameters,
    IngestionParameters,
    NetworkParameters,
    SweepsParameters,
)


@pytest.fixture(scope="module")
def ingested(real_observations):
    folder = real_observations.parent / "stellar_spectra"
    if not folder.is_dir():
        pytest.skip(f"real spectra are not in {folder}")
    files = ObservationsDataset(path=str(folder)).load()
    stars, spectra, rejected = ingest_spectra(files, pd.DataFrame(), IngestionParameters())
    return len(files), stars, spectra.compute(), rejected


def test_every_real_file_is_read_and_the_tables_are_found(ingested):
    n_files, stars, spectra, rejected = ingested
    assert n_files == 966  # with two tables
    assert len(stars) == 964
    assert rejected.empty
    assert len(spectra) == stars["n_pixels"].sum()
    sources = stars.groupby("survey")["label_source"].value_counts()
    assert sources["lamost", "table my_data3.csv"] == 96
    assert sources["miles", "table paramsMILES_v9.1.txt"] > 650
    kept = stars[stars["keep"]].groupby("survey")["class"].value_counts()
    assert kept["stelib", "O"] == 6
    assert kept["boss_templates", "O"] == 4
    assert (stars.loc[~stars["keep"], "reason"].str.len() > 3).all()


def test_stars_of_two_surveys_are_known_to_be_the_same(ingested):
    _, stars, _, _ = ingested
    surveys = stars.groupby("group")["survey"].nunique()
    assert (surveys > 1).sum() > 30


def test_lines_follow_the_classes_in_every_survey(ingested):
    _, stars, spectra, _ = ingested
    sweeps = SweepsParameters(chosen="a", named={"a": {"grid": {"features.form": ["spectrum"]}}})
    sweep = configure_sweep(
        sweeps, FeatureParameters(min_coverage=0.7), AugmentationParameters(),
        NetworkParameters(), TrainingParameters(),
    )  # fmt: skip
    sample, lines = measure_stars(stars, spectra, sweep)
    assert sample["keep"].sum() > 880
    table = lines.drop(columns="id").assign(survey=sample["survey"], kind=sample["class"])
    median = table[sample["keep"].to_numpy()].groupby(["survey", "kind"]).median()
    for survey in ("lamost", "miles", "stelib"):
        found = median.loc[survey]
        assert found["H beta"].idxmax() == "A"
        assert found.loc["K", "Mg b"] > found.loc["F", "Mg b"] > found.loc["A", "Mg b"]
    both = median.loc[["miles", "stelib", "boss_templates"]].xs("O", level="kind")
    assert (both["He II 4542"] > 0.2).all()
    assert np.isfinite(both["H beta"]).all()
