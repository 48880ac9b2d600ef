"""New spectra: classified with names and calibrated probabilities, or listed with the reason."""

import io

import numpy as np
import openpyxl
import pandas as pd
import pytest
from astropy.io import fits as astropy_fits

from skyloom.evaluation.novelty import describe_sample
from skyloom.evaluation.report import summarise_classes
from skyloom.pipelines.hi_profiles import prediction
from skyloom.pipelines.hi_profiles.features import measure_profiles, sample_features
from skyloom.pipelines.hi_profiles.parameters import (
    Configuration,
    FeatureParameters,
    IngestionParameters,
    PredictionParameters,
)
from skyloom.simulate.hi_profiles import draw_truth, to_hdu

NAMES = ["symmetric", "slightly lopsided", "strongly lopsided"]
INGESTION = IngestionParameters(id_pattern=r"CIG(\d+)")
AS_TRAINED = PredictionParameters()


def observed(n=16, seed=2):
    """Files as a telescope writes them, and one that holds nothing."""
    truth = draw_truth(n, np.random.default_rng(seed), snr_median=80.0)
    files = {"CIG000999.fits": lambda: b"not a spectrum"}
    for i, row in truth.iterrows():
        buffer = io.BytesIO()
        astropy_fits.HDUList([to_hdu(row, np.random.default_rng(i))]).writeto(buffer)
        files[f"{row['id']}.fits"] = buffer.getvalue
    return files


class FoldNetwork:
    """Three classes by the mean difference of the sides; remembers what it was shown."""

    def __init__(self):
        self.shown = []

    def predict_on_batch(self, inputs):
        self.shown.append(inputs)
        signal = 20 * np.abs(inputs[..., 0]).mean(axis=(1, 2))
        logits = np.column_stack([np.full(len(signal), 4.0), 2 + signal, 2 * signal])
        exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (exponential / exponential.sum(axis=1, keepdims=True)).astype(np.float32)


def description_of(sample, **features):
    base = Configuration.model_validate(
        {"name": "01", "features": {"size": 8} | features}
        | {section: {} for section in ("augmentation", "network", "training")}
    )
    return {
        "trained": True,
        "configuration": base.model_dump(mode="json"),
        "class_names": NAMES,
        "class_values": [0, 1, 3],
        "objects": "galaxies",
        "n_objects": 300,
        "temperature": 1.0,
        "sample": sample,
    }


@pytest.fixture(scope="module")
def sample():
    """Profiles, flux, fits and asymmetries; the second fit cannot be used."""
    profiles, flux, rejected = prediction.ingest_unlabelled_spectra(observed(), INGESTION)
    flux = np.array(flux)
    flux[1, 8:] = np.nan
    fits, asymmetry = measure_profiles(profiles, flux, FeatureParameters(n_realisations=8))
    return profiles, flux, fits, asymmetry, rejected


@pytest.fixture(scope="module")
def likeness(sample):
    profiles, _, fits, asymmetry, _ = sample
    return describe_sample(sample_features(profiles, fits, asymmetry))


@pytest.fixture(scope="module")
def classified(sample, likeness):
    network = FoldNetwork()
    table, figure, population = prediction.classify_profiles(
        *sample[:4], (network, description_of(likeness)), AS_TRAINED
    )
    return network, table, figure, population


def test_files_are_read_without_labels(sample):
    profiles, _, _, _, rejected = sample
    assert profiles["class"].isna().all()
    assert set(profiles["label_source"]) == {"no label table"}
    assert rejected["file"].tolist()[-1] == "CIG000999.fits"
    assert len(profiles) + len(rejected) == 17


def test_every_accepted_profile_has_a_row_in_its_order(sample, classified):
    table = classified[1]
    assert table["id"].tolist() == sample[0]["id"].tolist()
    assert table["file"].tolist() == sample[0]["file"].tolist()


def test_the_class_is_the_most_probable_one_by_name_and_by_value(classified):
    table = classified[1]
    done = table[table["not_classified"] == ""]
    columns = [f"probability_{name}" for name in NAMES]
    probability = done[columns].to_numpy()
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
    best = probability.argmax(axis=1)
    assert done["class"].tolist() == [NAMES[k] for k in best]
    assert done["class_value"].tolist() == [[0, 1, 3][k] for k in best]
    assert len(set(done["class"])) > 1  # else the test would show little


def test_probabilities_are_those_in_the_population(sample, classified, likeness):
    shares = dict(zip(NAMES, (0.6, 0.3, 0.1), strict=True))
    description = description_of(likeness) | {"trained_shares": [1 / 3] * 3}
    table, _, population = prediction.classify_profiles(
        *sample[:4], (FoldNetwork(), description), PredictionParameters(population=shares)
    )
    assert population == {"of": "given", "shares": shares}
    columns = [f"probability_{name}" for name in NAMES]
    expected = classified[1][columns] * [0.6, 0.3, 0.1]
    expected = expected.div(expected.sum(axis=1, min_count=3), axis=0)
    np.testing.assert_allclose(table[columns], expected, rtol=1e-5)


def test_lopsided_profiles_are_found_by_what_the_images_show(classified):
    table = classified[1]
    done = table[table["not_classified"] == ""]
    order = done["channel_asymmetry"].rank()
    mean = order.groupby(done["class_value"].astype(int)).mean()
    assert (np.diff(mean) > 0).all()


def test_a_fit_that_cannot_be_used_is_listed_with_the_reason(sample, classified):
    row = classified[1].iloc[1]
    assert sample[2]["status"].iloc[1] == "too few channels"
    assert row["not_classified"] == "fit: too few channels"
    assert row["class"] == ""
    assert row[["class_value", *(f"probability_{name}" for name in NAMES)]].isna().all()
    others = classified[1].drop(index=1)
    assert (others["not_classified"] == "").all()
    assert others["class_value"].notna().all()


def test_measures_stand_beside_the_class(sample, classified):
    profiles, _, fits, asymmetry, _ = sample
    table = classified[1]
    for name in ("w50", "w20", "integrated_flux"):
        pd.testing.assert_series_equal(table[name], fits[name])
    for name in ("a_flux", "a_flux_error", "channel_asymmetry", "lopsidedness_error"):
        pd.testing.assert_series_equal(table[name], asymmetry[name])
    pd.testing.assert_series_equal(table["snr"], profiles["snr"])


def test_images_are_drawn_as_the_network_was_trained_on(sample, likeness):
    network = FoldNetwork()
    description = description_of(likeness, size=12, extent=2.0)
    prediction.classify_profiles(*sample[:4], (network, description), AS_TRAINED)
    assert network.shown[0].shape == (15, 12, 12, 1)
    other = FoldNetwork()
    description = description_of(likeness, size=12)
    prediction.classify_profiles(*sample[:4], (other, description), AS_TRAINED)
    assert not np.allclose(network.shown[0], other.shown[0])


def test_a_folded_network_sees_the_same_of_whole_images_as_of_quadrants(sample, likeness):
    class Radial(FoldNetwork):
        def predict_on_batch(self, inputs):
            self.shown.append(inputs)
            return np.tile(np.float32([0.2, 0.3, 0.5]), (len(inputs), 1))

    shown = []
    for size, quadrant in ((8, True), (16, False)):
        description = description_of(likeness, size=size, quadrant=quadrant)
        description["configuration"]["network"]["architecture"] = "folded_cnn"
        network = Radial()
        prediction.classify_profiles(*sample[:4], (network, description), AS_TRAINED)
        shown.append(network.shown)
    for quadrant, whole in zip(*shown, strict=True):  # the first classifies, the others explain
        np.testing.assert_allclose(quadrant, whole, atol=1e-4)


def test_profiles_like_those_of_the_training_are_not_marked(classified):
    table = classified[1].drop(index=1)
    assert table["unlike_training"].sum() <= 1
    assert (table["unlike_training"] == (table["distance_from_training"] > 1)).all()


def test_a_profile_unlike_those_of_the_training_is_marked(sample, likeness):
    profiles, flux, fits, asymmetry, _ = sample
    odd = fits.copy()
    odd.loc[4, "w20"] *= 8
    table, *_ = prediction.classify_profiles(
        profiles, flux, odd, asymmetry, (FoldNetwork(), description_of(likeness)), AS_TRAINED
    )
    assert table["unlike_training"].iloc[4]
    assert table["distance_from_training"].iloc[4] > 1
    assert table["class"].iloc[4] in NAMES  # it has a class all the same


def test_the_first_galaxies_are_explained(sample, classified):
    figure = classified[2]
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    table = classified[1].drop(index=1)
    columns = [f"probability_{name}" for name in NAMES]
    assert titles == [
        f"{row['id']}: {row['class']} ({row[columns].max():.2f})"
        for _, row in table.head(12).iterrows()
    ]


def test_more_profiles_than_are_classified_at_a_time_keep_their_rows(sample, likeness, monkeypatch):
    monkeypatch.setattr(prediction, "_CHUNK", 4)
    network = FoldNetwork()
    description = description_of(likeness)
    table, *_ = prediction.classify_profiles(*sample[:4], (network, description), AS_TRAINED)
    monkeypatch.setattr(prediction, "_CHUNK", 512)
    whole, *_ = prediction.classify_profiles(*sample[:4], (FoldNetwork(), description), AS_TRAINED)
    assert [len(shown) for shown in network.shown[:4]] == [4, 4, 4, 3]
    pd.testing.assert_frame_equal(table, whole, rtol=1e-5)


def test_no_usable_profile_is_a_table_of_reasons(sample, likeness):
    profiles, flux, fits, asymmetry, rejected = sample
    spoiled = fits.assign(usable=False, status="edges not found")
    classifier = (FoldNetwork(), description_of(likeness))
    table, figure, population = prediction.classify_profiles(
        profiles, flux, spoiled, asymmetry, classifier, AS_TRAINED
    )
    assert set(table["not_classified"]) == {"fit: edges not found"}
    assert (table["class"] == "").all()
    assert [text.get_text() for text in figure.axes[0].texts]
    _, summary = summarise_classes(table, rejected, classifier, population)
    assert f"17 files: 0 classified, {len(profiles)} without a usable fit" in summary


# --- summary --------------------------------------------------------------------------------------


def through_csv(table, tmp_path):
    """The table as the catalog hands it on."""
    table.to_csv(tmp_path / "classes.csv", index=False)
    options = {"dtype": {"id": str, "class": str}, "keep_default_na": False, "na_values": [""]}
    return pd.read_csv(tmp_path / "classes.csv", **options)


@pytest.fixture(params=["from memory", "from disk"])
def summary(request, sample, classified, likeness, tmp_path):
    table, rejected = classified[1].copy(), sample[4]
    table.loc[[0, 5], "unlike_training"] = True
    table.loc[~table.index.isin([0, 1, 5]), "unlike_training"] = False
    if request.param == "from disk":
        table = through_csv(table, tmp_path)
    classifier = (None, description_of(likeness))
    return table, rejected, *summarise_classes(table, rejected, classifier, classified[3])


def test_the_summary_counts_every_file_once(summary):
    table, rejected, _, words = summary
    first, classes, *_ = words.splitlines()
    reasons = rejected["reason"].value_counts()
    assert first == (
        f"17 files: {len(table) - 1} classified, 1 without a usable fit, {len(rejected)} rejected "
        f"({', '.join(f'{n} {reason}' for reason, n in reasons.items())})."
    )
    counts = table.loc[table["class"].isin(NAMES), "class"].value_counts()
    assert classes == "Classes: " + ", ".join(f"{n} {name}" for name, n in counts.items()) + "."
    assert counts.sum() == len(table) - 1


def test_the_summary_counts_the_classified_galaxies_that_are_unlike_the_training(summary):
    # One without a usable fit has no probabilities that could mean little.
    assert "\n2 are unlike the 300 galaxies of the training" in summary[3]


def test_the_workbook_holds_classes_and_rejections(summary):
    table, rejected, workbook, _ = summary
    assert list(workbook) == ["classes", "rejected"]
    pd.testing.assert_frame_equal(workbook["classes"], table)
    pd.testing.assert_frame_equal(workbook["rejected"], rejected)
    buffer = io.BytesIO()
    with pd.ExcelWriter(buffer, engine="openpyxl") as writer:
        for name, sheet in workbook.items():
            sheet.to_excel(writer, sheet_name=name, index=False)
    book = openpyxl.load_workbook(buffer)
    assert book["classes"].max_row == 1 + len(table)


def test_nothing_rejected_is_said(sample, classified, likeness):
    classifier = (None, description_of(likeness))
    _, words = summarise_classes(classified[1], sample[4][:0], classifier, classified[3])
    assert "0 rejected (none)." in words
