"""Real cut-outs of the FIRST survey, where they lie beside the repository."""

import numpy as np
import pandas as pd
import pytest

from skyloom.datasets import ObservationsDataset
from skyloom.pipelines.radio_galaxies.features import measure_sample, prepare_images
from skyloom.pipelines.radio_galaxies.ingestion import ingest_cut_outs, select_sample
from skyloom.pipelines.radio_galaxies.parameters import FeatureParameters, IngestionParameters

FITS_NAMES = IngestionParameters(
    file_pattern=r"(?P<id>(?P<class>\d+)_(?P<ra>[\d.]+)(?P<dec>[+-][\d.]+)_[^/]*)\.fits$",
    class_values={"FRI": ("100",), "FRII": ("200", "201"), "bent": ("102", "104", "112")},
)


@pytest.fixture(scope="module")
def folder(real_observations):
    found = real_observations.parent / "radio_galaxies"
    if not found.is_dir():
        pytest.skip(f"real cut-outs are not in {found}")
    return found


@pytest.fixture(scope="module")
def fits_sample(folder):
    files = ObservationsDataset(path=str(folder / "first_fits")).load()
    names = [name for name in files if name.endswith(".fits")]
    sources, cutouts, rejected = ingest_cut_outs(
        {name: files[name] for name in names}, pd.DataFrame(), FITS_NAMES
    )
    return len(names), sources, cutouts.compute(), rejected


def test_names_of_real_files_tell_class_and_position(fits_sample):
    n_files, sources, _, rejected = fits_sample
    assert len(sources) == n_files == 54
    assert rejected.empty
    assert set(sources["class"]) == {"FRI", "FRII", "bent", ""}
    # Hybrid sources have no class among ours.
    without = sources[sources["class"] == ""]
    assert without["label_source"].str.startswith("class '300' is none of").all()
    np.testing.assert_allclose(sources["pixel_scale"], 1.8, rtol=1e-3)


def test_real_sources_are_kept_measured_and_prepared(fits_sample):
    _, sources, cutouts, _ = fits_sample
    sample, _, sheets, _ = select_sample(sources, cutouts, pd.DataFrame(), FITS_NAMES)
    assert sample["keep"].mean() > 0.6
    assert (sample["reason"] != "")[~sample["keep"]].all()
    assert len(list(sheets)) == 1
    measured = measure_sample(sample, cutouts, FeatureParameters())[sample["keep"]]
    assert measured["major"].between(2, 100).all()
    bent = sample.loc[sample["keep"], "class"] == "bent"
    assert (
        measured.loc[bent, "bending_angle"].median() > measured.loc[~bent, "bending_angle"].median()
    )
    images = prepare_images(cutouts, FeatureParameters(size=32))
    assert images.max() == 1


def test_the_published_archive_has_its_split(folder, root):
    import yaml

    text = (root / "conf/real/radio_galaxies/parameters.yml").read_text()
    values = yaml.safe_load(text)["radio_galaxies"]["ingestion"]
    files = ObservationsDataset(path=str(folder / "first_png")).load()
    archive = {name: load for name, load in files.items() if name.endswith(".zip")}
    # A tenth of it, so that it takes no time: right ascensions that end in 1.
    values["file_pattern"] = (
        values["file_pattern"]
        .replace(r"(?P<ra>\d+\.\d+)_", r"(?P<ra>\d+\.\d*1)_")
        .replace(r"\w*))?))?[^/]+?)", r"\w*))?))[^/]+?)")
    )
    sources, cutouts, rejected = ingest_cut_outs(
        archive, pd.DataFrame(), IngestionParameters(**values)
    )
    assert 150 < len(sources) < 300
    assert set(sources["role"]) == {"train", "validation", "test"}
    assert set(sources["class"]) == {"FRI", "FRII", "bent", "compact"}
    assert {"MiraBest", "Gendre", "Proctor_Tab1"} < set(sources["catalogue"])
    assert "" not in set(sources["catalogue"])
    assert len(cutouts) == len(sources)
    assert set(rejected["reason"]) <= {"left out by file_pattern", "empty image"}
