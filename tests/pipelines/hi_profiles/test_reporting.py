"""Scores, report, workbooks, model info sheet and what MLflow is told."""

import io
import json
import re

import numpy as np
import openpyxl
import pandas as pd
import pytest
from matplotlib.figure import Figure

from skyloom.evaluation.baselines import predictions_table
from skyloom.pipelines.hi_profiles import reporting
from skyloom.pipelines.hi_profiles.augmentation import choose_classes, make_split, plan_copies
from skyloom.pipelines.hi_profiles.parameters import (
    AugmentationParameters,
    FeatureParameters,
    ReportingParameters,
    TrainingParameters,
)

FEATURES = FeatureParameters(size=8)
TRAINING = TrainingParameters(
    configurations=(
        {"name": "narrow", "widths": [4]},
        {"name": "wide", "widths": [8], "image_models": [1, 2]},
    )
)
AUGMENTATION = AugmentationParameters(n_folds=3, seeds=(0, 1))
REPORTING = ReportingParameters(class_names=("symmetric", "lopsided"), n_sample_images=4)
BASELINES = [
    reporting.A_FLUX_BASELINE,
    reporting.ALL_INDICES_BASELINE,
    reporting.MAJORITY_BASELINE,
]


class Sample:
    """Everything that the reporting stage is given, made up; tables of 24 galaxies."""

    def __init__(self, n=24, *, labelled=True, trained=True):
        rng = np.random.default_rng(0)
        truth = np.arange(n) % 2
        ids = [f"g{i:02d}" for i in range(n)]
        ratio = np.where(truth == 1, 0.4, 0.02) + rng.normal(0, 0.01, n)
        self.profiles = pd.DataFrame(
            {
                "id": ids,
                "number": pd.array(range(n), dtype="Int64"),
                "file": [f"{i}.fits" for i in ids],
                "sha256": [f"{i:064x}" for i in range(n)],
                "axis": "velocity",
                "object": "",
                "snr": rng.uniform(10, 50, n),
                "class": pd.array(truth if labelled else [pd.NA] * n, dtype="Int64"),
                "class_value": pd.array(truth if labelled else [pd.NA] * n, dtype="Int64"),
                "label_source": "label table" if labelled else "no label table",
            }
        )
        self.fits = pd.DataFrame(
            {
                "id": ids,
                "status": "good",
                "usable": True,
                "w20": 200.0,
                "low_edge_error": 2.0,
                "high_edge_error": 2.0,
            }
        )
        names = ("lopsidedness", "channel_asymmetry", "c_v")
        self.asymmetry = pd.DataFrame(
            {
                "id": ids,
                "a_flux": np.exp(np.abs(ratio)),
                "a_flux_error": 0.02,
                "ln_flux_ratio": ratio,
                "ln_flux_ratio_error": 0.02,
                **{name: rng.normal(size=n) for name in names},
                "a_f": rng.uniform(1, 2, n),
                "a_c": rng.uniform(1, 2, n),
                "equality_velocity": rng.normal(1000, 5, n),
                "mid_velocity": 1000.0,
            }
        )
        self.rejected = pd.DataFrame(
            [("<script>x.fits", "no line", "S/N 2 < 6.5"), ("b&b.fits", 'a "quote"', "1")],
            columns=["file", "reason", "value"],
        )
        self.classes = choose_classes(self.profiles, self.fits, self.asymmetry, AUGMENTATION)
        self.manifest = make_split(self.classes, AUGMENTATION)
        if not trained:
            self.manifest = self.manifest[:0]
        self.copies = plan_copies(self.profiles, self.fits, self.manifest, AUGMENTATION)
        self.images = rng.normal(0, 0.3, (n, 3, 8, 8, 1)).astype(np.float32)
        tables, curves = [], []
        for k, configuration in enumerate(TRAINING.configurations):
            for (seed, fold), part in self.manifest.groupby(["seed", "fold"]):
                test = part[part["role"] == "test"]
                one = np.clip(
                    0.5 + 0.3 * (test["class"] - 0.5) + rng.normal(0, 0.2, len(test)), 0, 1
                )
                probability = np.stack([1 - one, one], axis=1)
                table = predictions_table(seed, fold, test, probability)
                table.insert(0, "configuration", configuration.name)
                tables.append(table)
                curves += [
                    (configuration.name, seed, fold, epoch, k + 1 / epoch)
                    for epoch in range(1, 3 + fold)
                ]
        columns = ["configuration", "seed", "fold", "id", "class", "predicted"]
        self.network_predictions = (
            pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
        )
        columns = ["configuration", "seed", "fold", "epoch", "loss"]
        self.curves = pd.DataFrame(curves, columns=columns)
        for name in ("accuracy", "val_loss", "val_accuracy"):
            self.curves[name] = self.curves["loss"] / 3
        self.scores, self.predictions = reporting.score_configurations(
            self.profiles, self.fits, self.asymmetry, self.classes, self.manifest,
            self.network_predictions, REPORTING,
        )  # fmt: skip

    def info(self):
        return reporting.model_info(
            self.profiles, self.rejected, self.classes, self.manifest, self.copies,
            FEATURES, TRAINING, AUGMENTATION,
        )  # fmt: skip

    def report(self, **changes):
        given = {
            "profiles": self.profiles, "images": self.images, "asymmetry": self.asymmetry,
            "rejected": self.rejected, "classes": self.classes, "scores": self.scores,
            "predictions": self.predictions, "curves": self.curves, "info": self.info(),
            "parameters": REPORTING,
        }  # fmt: skip
        return reporting.write_report(**(given | changes))

    def runs(self):
        return reporting.describe_runs(
            self.profiles, self.classes, self.manifest, self.scores, self.curves,
            FEATURES, TRAINING, AUGMENTATION,
        )  # fmt: skip


@pytest.fixture(scope="module")
def sample():
    return Sample()


@pytest.fixture(scope="module")
def measured():
    return Sample(labelled=False)


@pytest.fixture(scope="module")
def untrained():
    return Sample(trained=False)


@pytest.fixture(scope="module")
def report(sample):
    return sample.report()


# --- scores ---------------------------------------------------------------------------------------


def test_networks_come_first_and_baselines_are_scored_on_the_same_galaxies(sample):
    assert sample.scores["configuration"].tolist() == ["narrow", "wide", *BASELINES]
    assert sample.scores["kind"].tolist() == ["network"] * 2 + ["baseline"] * 3
    assert set(sample.scores["n_objects"]) == {24}
    assert set(sample.scores["n_seeds"]) == {2}
    tested = sample.manifest.query("role == 'test'").set_index(["seed", "id"])["fold"].sort_index()
    for _, part in sample.predictions.groupby("configuration"):
        got = part.set_index(["seed", "id"])["fold"].sort_index()
        pd.testing.assert_series_equal(got, tested, check_dtype=False)


def test_baselines_find_what_is_in_their_features(sample):
    rates = sample.scores.set_index("configuration")["success_rate"]
    assert rates[reporting.A_FLUX_BASELINE] == 1.0
    assert rates[reporting.MAJORITY_BASELINE] <= 0.5
    assert (
        not sample.scores.drop(columns=["configuration", "kind", "label_source"])
        .isna()
        .any(axis=None)
    )


def test_the_difference_to_the_a_flux_baseline_is_that_of_the_success_rates(sample):
    scores = sample.scores.set_index("configuration")
    expected = scores["success_rate"] - scores.loc[reporting.A_FLUX_BASELINE, "success_rate"]
    np.testing.assert_allclose(scores["minus_a_flux"], expected)
    assert (scores["minus_a_flux_low"] <= scores["minus_a_flux"]).all()
    assert (scores["minus_a_flux"] <= scores["minus_a_flux_high"]).all()
    assert (
        scores.loc[reporting.A_FLUX_BASELINE, ["minus_a_flux_low", "minus_a_flux_high"]].eq(0).all()
    )


def test_scores_are_the_same_every_time(sample):
    pd.testing.assert_frame_equal(sample.scores, Sample().scores)


def test_the_a_flux_baseline_sees_a_flux_only(sample):
    a_flux, indices = reporting.baseline_features(sample.profiles, sample.fits, sample.asymmetry)
    assert list(a_flux) == ["a_flux"]
    np.testing.assert_allclose(a_flux["a_flux"], np.log(sample.asymmetry["a_flux"]))
    assert a_flux.index.tolist() == sample.profiles["id"].tolist()
    expected = (sample.asymmetry["equality_velocity"] - 1000).abs() / 200
    np.testing.assert_allclose(indices["equality_offset"], expected)


def test_nothing_trained_gives_an_empty_score_table(untrained):
    assert untrained.scores.empty
    assert list(untrained.scores) == ["configuration", "kind"]
    assert untrained.predictions.empty
    assert "kind" in untrained.predictions


# --- summary --------------------------------------------------------------------------------------


def test_the_summary_shows_rate_interval_chance_and_baseline_of_every_configuration(sample):
    text = reporting.summary_text(sample.scores, 24, 2)
    head, _, title, *rows = text.splitlines()
    assert head == "24 spectra accepted, 2 rejected; 24 galaxies tested, classes from: label table"
    assert re.search(
        r"success rate \(95 %\) +chance +A_flux baseline +balanced acc. +p-value", title
    )
    assert len(rows) == len(sample.scores)
    for row, (_, score) in zip(rows, sample.scores.iterrows(), strict=True):
        assert row.startswith(score["configuration"])
        numbers = re.findall(r"\d\.\d+", row.removeprefix(score["configuration"]))
        names = ("success_rate", "success_low", "success_high", "chance_level")
        expected = [score[n] for n in names] + [1.0, score["balanced_accuracy"], score["p_value"]]
        assert [float(n) for n in numbers] == pytest.approx(expected, abs=6e-4)


def test_the_summary_of_nothing_trained_says_why():
    text = reporting.summary_text(pd.DataFrame(columns=["configuration", "kind"]), 3, 1)
    assert text == (
        "3 spectra accepted, 1 rejected; too few labelled galaxies to train and test a network\n"
    )


# --- report ---------------------------------------------------------------------------------------


def test_every_figure_is_returned_and_embedded(report):
    *figures, html, _ = report
    assert len(figures) == 6
    assert all(isinstance(figure, Figure) for figure in figures)
    pictures = re.findall(r'<img alt="[^"]+" src="data:image/png;base64,([^"]+)"', html)
    assert len(pictures) == html.count("<img") == 6
    assert len(set(pictures)) == 6
    assert all(len(picture) > 2000 for picture in pictures)


def test_the_report_needs_no_other_file_and_no_network(report):
    html = report[-2]
    assert html.startswith("<!doctype html>")
    without_pictures = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    for link in ("http://", "https://", "file:", "//cdn", "url(", "@import", "<link", "<script"):
        assert link not in without_pictures
    assert set(re.findall(r'(?:src|href)="([^"]*)"', without_pictures)) == {"data:image/png;"}


def test_rejected_files_are_listed_and_cannot_inject_html(report):
    html = report[-2]
    assert "Rejected files (2)" in html
    assert "<td>&lt;script&gt;x.fits</td><td>no line</td><td>S/N 2 &lt; 6.5</td>" in html
    assert "<td>b&amp;b.fits</td><td>a &#34;quote&#34;</td>" in html
    assert "<script>x" not in html


def test_galaxies_that_were_not_used_are_listed_with_the_reason_also_escaped():
    sample = Sample()
    sample.classes.loc[0, ["id", "used", "reason"]] = ["<b>g", False, "fit: too <few"]
    html = sample.report()[-2]
    assert "Accepted but not used for training (1)" in html
    assert "<td>&lt;b&gt;g</td><td>fit: too &lt;few</td>" in html


def test_the_report_shows_every_score_and_where_the_classes_come_from(sample, report):
    html = report[-2]
    assert "Classes come from: <strong>label table</strong>" in html
    assert "<th>recall, symmetric</th><th>recall, lopsided</th>" in html
    for _, row in sample.scores.iterrows():
        assert f"<td>{row['configuration']} ({row['kind']})</td>" in html
        assert f"<strong>{row['success_rate']:.3f}</strong>" in html
        assert f"{row['success_low']:.3f}–{row['success_high']:.3f}" in html
    for key, value in sample.info().items():
        assert f"<th>{key}</th>" in html
        assert value[:20] in html


def test_class_names_follow_the_label_table_also_where_a_class_is_left_out(sample):
    classes = sample.classes.assign(class_value=sample.classes["class"] * 2)  # values 0 and 2
    names = ReportingParameters(class_names=("zero", "one", "two"), n_sample_images=4)
    html = sample.report(classes=classes, parameters=names)[-2]
    assert "<th>recall, zero</th><th>recall, two</th>" in html
    few = ReportingParameters(class_names=("zero",), n_sample_images=4)
    html = sample.report(classes=classes, parameters=few)[-2]
    assert "<th>recall, zero</th><th>recall, class 2</th>" in html


def test_examples_are_predictions_of_unseen_galaxies_with_classes_in_turn(report):
    figure = report[3]
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    assert len(titles) == 4
    classes = [re.search(r"true: (\w+)", title)[1] for title in titles]
    assert classes == ["symmetric", "lopsided"] * 2


def test_the_report_can_be_written_with_nothing_trained_and_nothing_rejected(untrained):
    *figures, html, summary = untrained.report(rejected=untrained.rejected[:0])
    assert len(figures) == 6
    assert "Too few labelled galaxies" in html
    assert "Rejected files (0)" in html
    assert html.count("data:image/png;base64,") == 6
    assert "too few labelled galaxies" in summary


def test_tables_read_back_from_disk_give_the_same_report(sample, tmp_path):
    def through_csv(table, **options):
        table.to_csv(tmp_path / "table.csv", index=False)
        return pd.read_csv(tmp_path / "table.csv", **options)

    whole = {"dtype": {"class": "Int64", "class_value": "Int64"}, "keep_default_na": False}
    again = sample.report(
        classes=through_csv(sample.classes, na_values=[""], **whole),
        scores=through_csv(sample.scores),
        predictions=through_csv(sample.predictions),
        curves=through_csv(sample.curves),
    )
    assert again[-1] == sample.report()[-1]
    tables = [
        re.sub(r"<figure>.*?</figure>", "", html) for html in (again[-2], sample.report()[-2])
    ]
    assert tables[0] == tables[1].replace("<td>nan</td>", "<td></td>")


# --- fingerprint, workbooks, info sheet -----------------------------------------------------------


def test_the_fingerprint_depends_on_ids_and_files_and_not_on_their_order(sample):
    profiles = sample.profiles
    fingerprint = reporting.data_fingerprint(profiles)
    assert re.fullmatch("[0-9a-f]{64}", fingerprint)
    shuffled = profiles.sample(frac=1, random_state=3)
    assert reporting.data_fingerprint(shuffled) == fingerprint
    assert reporting.data_fingerprint(profiles.assign(snr=1.0)) == fingerprint
    other = profiles.copy()
    other.loc[5, "sha256"] = "f" * 64
    swapped = profiles.assign(sha256=profiles["sha256"].to_numpy()[::-1])
    for changed in (other, swapped, profiles[1:], profiles.assign(id="x" + profiles["id"])):
        assert reporting.data_fingerprint(changed) != fingerprint


def test_each_configuration_has_a_workbook_with_its_predictions_merge_and_confusion(sample):
    workbooks = reporting.write_workbooks(sample.profiles, sample.predictions, sample.asymmetry)
    assert len(workbooks) == 5
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+\.xlsx", name) for name in workbooks)
    sheets = workbooks["narrow.xlsx"]
    assert list(sheets) == ["predictions", "merged", "confusion"]
    assert len(sheets["predictions"]) == 2 * 24
    for column in ("file", "id", "fold", "class", "predicted", "probability_1"):
        assert column in sheets["predictions"]
    by_id = sheets["merged"].drop_duplicates("id").set_index("id")
    expected = sample.asymmetry.set_index("id")["a_flux"]
    np.testing.assert_allclose(by_id.loc[expected.index, "a_flux"], expected)
    assert (by_id["class_value"] == by_id["class"]).all()
    np.testing.assert_allclose(sheets["confusion"].sum(axis=1), 1)


def test_workbooks_can_be_written_as_excel(sample):
    sheets = reporting.write_workbooks(sample.profiles, sample.predictions, sample.asymmetry)
    buffer = io.BytesIO()
    with pd.ExcelWriter(buffer, engine="openpyxl") as writer:
        for name, table in sheets["wide.xlsx"].items():
            table.to_excel(writer, sheet_name=name)
    book = openpyxl.load_workbook(buffer)
    assert book.sheetnames == ["predictions", "merged", "confusion"]
    assert book["predictions"].max_row == 1 + 2 * 24


def test_nothing_trained_gives_no_workbooks(untrained):
    tables = untrained.profiles, untrained.predictions, untrained.asymmetry
    assert reporting.write_workbooks(*tables) == {}


def test_the_info_sheet_names_the_label_source_and_counts(sample):
    info = sample.info()
    assert info["Labels"].startswith("label table; galaxies by class: {0: 12, 1: 12}")
    assert "24 spectra accepted, 2 rejected" in info["Data"]
    assert reporting.data_fingerprint(sample.profiles)[:16] in info["Data"]
    assert info["Split"].startswith("3 folds, seeds [0, 1]")
    assert "None: 2 configurations" in info["Selection"]
    assert f"{len(sample.copies)} images from" in info["Leakage checks"]
    assert json.loads(json.dumps(info)) == info


def test_the_info_sheet_warns_of_a_circle_only_if_classes_come_from_the_measured_a_flux(
    sample, measured
):
    assert set(measured.scores["label_source"]) == {"measured A_flux"}
    labels = measured.info()["Labels"]
    assert labels.startswith("measured A_flux;")
    assert "recovers A_flux" in labels
    assert "not independent" in labels
    assert "recovers A_flux" not in sample.info()["Labels"]
    assert "not independent" in measured.report()[-2]


def test_the_info_sheet_can_be_written_with_nothing_trained(untrained):
    assert "0 images from 0 galaxies" in untrained.info()["Leakage checks"]


# --- MLflow ---------------------------------------------------------------------------------------


def test_every_child_has_the_same_parameters_and_metrics_so_that_runs_can_be_compared(sample):
    children = sample.runs()["children"]
    assert [child["name"] for child in children] == ["narrow", "wide", *BASELINES]
    assert len({frozenset(child["metrics"]) for child in children}) == 1
    assert len({frozenset(child["params"]) for child in children}) == 1
    wanted = {"success_rate", "chance_level", "balanced_accuracy", "macro_f1", "p_value"}
    assert wanted <= set(children[0]["metrics"])
    rates = [child["metrics"]["success_rate"] for child in children]
    assert rates == pytest.approx(sample.scores["success_rate"].tolist())
    assert [child["params"]["widths"] for child in children] == ["4", "8", *["none"] * 3]
    assert [child["params"]["kind"] for child in children] == ["network"] * 2 + ["baseline"] * 3


def test_networks_have_mean_learning_curves_and_baselines_have_none(sample):
    narrow, _, baseline, *_ = sample.runs()["children"]
    assert set(narrow["curves"]) == {
        "epoch_loss", "epoch_accuracy", "epoch_val_loss", "epoch_val_accuracy",
    }  # fmt: skip
    assert narrow["curves"]["epoch_loss"] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert all(len(curve) == 0 for curve in baseline["curves"].values())


def test_the_run_says_which_data_and_labels_it_used_and_survives_json(sample):
    runs = sample.runs()
    assert json.loads(json.dumps(runs)) == runs
    assert runs["tags"]["data_fingerprint"] == reporting.data_fingerprint(sample.profiles)
    assert runs["tags"]["label_source"] == "label table"
    assert runs["params"]["n_objects"] == 24
    assert runs["params"]["n_folds"] == 3
    workbooks = reporting.write_workbooks(sample.profiles, sample.predictions, sample.asymmetry)
    assert {f"{child['file']}.xlsx" for child in runs["children"]} == set(workbooks)


def test_a_run_with_nothing_trained_has_no_children(untrained):
    runs = untrained.runs()
    assert runs["children"] == []
    assert runs["params"]["n_folds"] == 0
