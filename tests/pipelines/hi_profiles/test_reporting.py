"""Scores, audit, explanations, report, workbooks, model info sheet and what MLflow is told."""

import io
import json
import re

import numpy as np
import openpyxl
import pandas as pd
import pytest
from matplotlib.figure import Figure

from skyloom.evaluation.baselines import predictions_table
from skyloom.evaluation.measures import classification
from skyloom.evaluation.report import data_fingerprint, summary_text
from skyloom.evaluation.scores import score_predictions
from skyloom.learning.comparison import no_comparison
from skyloom.learning.results import NESTED
from skyloom.pipelines.hi_profiles import reporting
from skyloom.pipelines.hi_profiles.audit import AUDIT_COLUMNS
from skyloom.pipelines.hi_profiles.augmentation import choose_classes, make_split, plan_copies
from skyloom.pipelines.hi_profiles.ingestion import configure_sweep
from skyloom.pipelines.hi_profiles.parameters import (
    AugmentationParameters,
    FeatureParameters,
    NetworkParameters,
    ReportingParameters,
    SweepsParameters,
    TrainingParameters,
)
from skyloom.pipelines.hi_profiles.pipeline import FIGURES
from skyloom.pipelines.hi_profiles.training import (
    A_FLUX_BASELINE,
    ALL_INDICES_BASELINE,
    MAJORITY_BASELINE,
    fit_baselines,
)
from skyloom.spectra.hi.busy_function import PARAMETER_NAMES

AUGMENTATION = AugmentationParameters(n_folds=3, n_inner_folds=2, seeds=(0, 1))
REPORTING = ReportingParameters(class_names=("symmetric", "lopsided"), n_sample_images=4)
BASELINES = [A_FLUX_BASELINE, ALL_INDICES_BASELINE, MAJORITY_BASELINE]
HEAD = "24 spectra accepted, 2 rejected"
NARROW, WIDE, BROKEN = "01 4", "02 8", "03 2"
FIGURES = FIGURES.split()
MEASURE = classification(2)
NOTHING = no_comparison(MEASURE)


def sweep_of(**extent):
    extent = extent or {"grid": {"network.widths": [[4], [8], [2]]}}
    return configure_sweep(
        SweepsParameters(chosen="default", named={"default": extent}),
        FeatureParameters(size=8),
        AUGMENTATION,
        NetworkParameters(widths=(4,)),
        TrainingParameters(start="scratch"),
    )


SWEEP = sweep_of()
KNOWN = {each.name: each.model_dump(mode="json") for each in SWEEP.configurations}


def lines(ratio, m=64):
    """Fluxes, profiles and fits of lines whose high-velocity side is stronger by a factor."""
    n = len(ratio)
    velocity = 1000 + 5.0 * np.arange(m)
    flux = np.exp(-(((velocity - 1160) / 50) ** 2)) * np.ones((n, 1))
    flux[:, velocity > 1160] *= np.exp(ratio)[:, None]
    where = {"velocity_start": 1000.0, "channel_width": 5.0, "noise": 0.02}
    measured = {
        "status": "good", "usable": True, "w20": 160.0, "w50": 120.0, "low_edge": 1080.0,
        "high_edge": 1240.0, "peak_flux": 1.0,
    }  # fmt: skip
    fit = (1.0, 0.05, 0.05, 0.0, 1160.0, 1160.0, 60.0, 2.0)
    return flux, where, measured | dict(zip(PARAMETER_NAMES, fit, strict=True))


class Sample:
    """Everything that the reporting stage is given, made up; tables of 24 galaxies."""

    def __init__(self, n=24, *, labelled=True, trained=True, n_permutations=0, audited=True):
        rng = np.random.default_rng(0)
        truth = np.arange(n) % 2
        ids = [f"g{i:02d}" for i in range(n)]
        ratio = np.where(truth == 1, 0.4, 0.02) + rng.normal(0, 0.01, n)
        self.flux, where, measured = lines(ratio)
        self.profiles = pd.DataFrame(
            {
                "id": ids,
                "number": pd.array(range(n), dtype="Int64"),
                "file": [f"{i}.fits" for i in ids],
                "sha256": [f"{i:064x}" for i in range(n)],
                "axis": "velocity",
                "object": "",
                "line_centre": 5000.0,
                "snr": rng.uniform(10, 50, n),
                "class": pd.array(truth if labelled else [pd.NA] * n, dtype="Int64"),
                "class_value": pd.array(truth if labelled else [pd.NA] * n, dtype="Int64"),
                "label_source": "label table" if labelled else "no label table",
                **where,
            }
        )
        self.fits = pd.DataFrame({"id": ids} | measured)
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
                "mid_velocity_error": 2.0,
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
        self.sweep = SWEEP
        self.copies = plan_copies(self.profiles, self.asymmetry, self.classes, SWEEP)
        pictures = rng.normal(0, 0.3, (n, 3, 8, 8, 1)).astype(np.float32)
        self.images = {"8px-0": lambda: pictures}
        self.network_predictions, self.inner, self.curves = self._results(rng)
        self.permutations = pd.DataFrame(
            {
                "permutation": np.arange(1, n_permutations + 1),
                "balanced_accuracy": rng.uniform(0.35, 0.65, n_permutations),
            }
        )
        self.outcome = NOTHING.outcome
        if trained:
            failed = {BROKEN: "ValueError: 8 <pixels> are too few"}
            self.outcome = {"chosen": KNOWN[WIDE], "configurations": KNOWN, "failed": failed}
        self.audit_fits, self.audit_null, self.audit_predictions = audit_of(rng, audited)
        self.baselines = fit_baselines(
            self.profiles, self.fits, self.asymmetry, self.manifest, AUGMENTATION
        )
        self.scores, self.predictions, self.selection = self.score()
        self.audit, self.sentences = reporting.summarise_audit(
            self.audit_fits, self.audit_null, self.classes
        )
        self.explanations = self.explain({"trained": False})

    def _results(self, rng):
        """Predictions, inner scores and learning curves: the wide network is better."""
        tables, inner, curves = [], [], []
        for k, name in enumerate((NARROW, WIDE)):
            for (seed, fold), part in self.manifest.groupby(["seed", "fold"]):
                test = part[(part["role"] == "test") & (part["inner"] == 0)]
                signal = (0.2, 0.6)[k] * (test["class"] - 0.5)
                one = np.clip(0.5 + signal + rng.normal(0, 0.2, len(test)), 0, 1)
                probability = np.stack([1 - one, one], axis=1)
                table = predictions_table(seed, fold, test, probability)
                table.insert(0, "configuration", name)
                tables.append(table)
                # In the last fold of the second seed the inner folds like the narrow one better.
                odd = (seed, fold) == (1, 2)
                score = 0.6 + 0.2 * (k if not odd else 1 - k)
                for number in (0, 1):
                    inner.append((name, seed, fold, number, score, 2 + fold))
                    curves += [
                        (name, seed, fold, number, epoch, k + 1 / epoch, *[0.5] * 3, 2 + fold)
                        for epoch in range(1, 3 + fold)
                    ]
        return (
            pd.concat(tables, ignore_index=True) if tables else NOTHING.predictions,
            pd.DataFrame(inner, columns=NOTHING.inner.columns),
            pd.DataFrame(curves, columns=NOTHING.curves.columns),
        )

    def score(self, **changes):
        given = {
            "classes": self.classes, "split_manifest": self.manifest,
            "network_predictions": self.network_predictions, "inner_scores": self.inner,
            "permutations": self.permutations, "baseline_predictions": self.baselines,
            "reporting": REPORTING,
        }  # fmt: skip
        return reporting.score_configurations(**(given | changes))

    def explain(self, description, network=None):
        return reporting.explain_predictions(
            self.profiles, self.flux, self.fits, self.classes, network, description
        )

    def info(self, sweep=None):
        return reporting.model_info(
            self.profiles, self.rejected, self.classes, self.manifest, self.copies,
            sweep or self.sweep, self.outcome, self.permutations,
        )  # fmt: skip

    def report(self, **changes):
        given = {
            "profiles": self.profiles, "profile_flux": self.flux, "fits": self.fits,
            "images": self.images, "asymmetry": self.asymmetry, "rejected": self.rejected,
            "classes": self.classes, "success_rates": self.scores, "predictions": self.predictions,
            "learning_curves": self.curves, "selection": self.selection,
            "permutations": self.permutations, "audit_fits": self.audit_fits,
            "audit_null": self.audit_null, "audit_summary": self.audit,
            "audit_sentences": self.sentences, "outcome": self.outcome,
            "explanations": self.explanations, "model_info": self.info(), "reporting": REPORTING,
        }  # fmt: skip
        return reporting.write_report(**(given | changes))

    def runs(self, outcome=None):
        return reporting.describe_runs(
            self.profiles, self.manifest, self.scores, self.predictions, self.inner,
            self.curves, self.sweep, outcome or self.outcome, self.audit, "one\ntwo\n",
        )  # fmt: skip


def audit_of(rng, audited=True):
    """Fits of the published protocol, shuffles and predictions, as the training stage makes them.

    True labels are found in one fit, random ones are not.
    """
    if not audited:
        null = pd.DataFrame(columns=["labels", "relabeled", "best", "one"])
        return pd.DataFrame(columns=list(AUDIT_COLUMNS)), null, pd.DataFrame(columns=KEYS)
    fits, null, predictions = [], [], []
    for kind, best in (("random", 0.6), ("true", 0.95), ("shuffled", 0.55)):
        for epochs, rate in ((10, np.nan), (20, 0.5), (30, best)):
            key = dict(zip(KEYS, (kind, 0.5, 42, epochs, "4-8"), strict=True))
            truth, guess = np.arange(12) % 2, rng.integers(0, 2, 12)
            named = np.where(rng.random(12) < rate, 1 - truth, guess)
            predictions.append(
                pd.DataFrame(
                    key | {"id": [f"g{i:02d}" for i in range(12)], "predicted": named}
                ).assign(probability_0=1.0 - named, probability_1=1.0 * named, **{"class": truth})
            )
            row = key | {"n_test": 12, "n_predicted_classes": 2, "is_winner": epochs == 30}
            row |= {"relabeled_success_rate": rate, "success_rate": rate - 0.1}
            fits.append(row | {"refitted": 0.52 if epochs == 30 else np.nan})
        for relabeled in (False, True):
            shuffled = 0.5 + 0.1 * relabeled + np.linspace(-0.05, 0.05, 101)
            null.append(
                pd.DataFrame(
                    {"labels": kind, "relabeled": relabeled, "best": shuffled, "one": 0.45}
                )
            )
    return (
        pd.DataFrame(fits)[list(AUDIT_COLUMNS)],
        pd.concat(null, ignore_index=True),
        pd.concat(predictions, ignore_index=True),
    )


KEYS = list(AUDIT_COLUMNS[:5])


@pytest.fixture(scope="module")
def sample():
    return Sample()


@pytest.fixture(scope="module")
def permuted():
    return Sample(n_permutations=19)


@pytest.fixture(scope="module")
def measured():
    return Sample(labelled=False)


@pytest.fixture(scope="module")
def untrained():
    return Sample(trained=False, audited=False)


@pytest.fixture(scope="module")
def report(sample):
    return sample.report()


@pytest.fixture
def quick(monkeypatch):
    """Reports without drawn pictures, for tests of their words: drawing takes seconds."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **options: file.write(b"picture"))


# --- scores ---------------------------------------------------------------------------------------


def test_the_nested_procedure_comes_first_then_networks_and_baselines(sample):
    assert sample.scores["configuration"].tolist() == [NESTED, NARROW, WIDE, *BASELINES]
    assert sample.scores["kind"].tolist() == ["nested", *["network"] * 2, *["baseline"] * 3]
    assert set(sample.scores["n_objects"]) == {24}
    assert set(sample.scores["n_seeds"]) == {2}


def test_all_are_scored_on_the_same_galaxies(sample):
    tested = sample.manifest.query("role == 'test' and inner == 0")
    tested = tested.set_index(["seed", "id"])["fold"].sort_index()
    for _, part in sample.predictions.groupby("configuration"):
        got = part.set_index(["seed", "id"])["fold"].sort_index()
        pd.testing.assert_series_equal(got, tested, check_dtype=False)


def test_the_nested_row_is_what_the_inner_folds_selected_in_each_outer_fold(sample):
    chosen = sample.selection.set_index(["seed", "fold"])["configuration"]
    expected = dict.fromkeys([(s, f) for s in (0, 1) for f in (0, 1, 2)], WIDE) | {(1, 2): NARROW}
    assert chosen.to_dict() == expected
    nested = sample.predictions[sample.predictions["kind"] == "nested"]
    sources = dict(list(sample.network_predictions.groupby(["seed", "fold", "configuration"])))
    for key, part in nested.groupby(["seed", "fold"]):
        source = sources[(*key, expected[key])]
        pd.testing.assert_frame_equal(
            part[["id", "predicted", "probability_1"]].reset_index(drop=True),
            source[["id", "predicted", "probability_1"]].reset_index(drop=True),
        )


def test_test_galaxies_do_not_select(sample):
    # Perfect where it counts not: in the outer test parts.
    flattered = sample.network_predictions.copy()
    mine = flattered["configuration"] == NARROW
    flattered.loc[mine, "predicted"] = flattered.loc[mine, "class"]
    scores, _, selection = sample.score(network_predictions=flattered)
    pd.testing.assert_frame_equal(selection, sample.selection)
    rates = scores.set_index("configuration")["success_rate"]
    assert rates[NARROW] == 1 > rates[NESTED]


def test_inner_scores_stand_beside_the_outer_ones(sample):
    inner = sample.scores.set_index("configuration")["inner_score"]
    assert inner[WIDE] == pytest.approx(0.8 - 0.2 / 6)
    assert inner[NARROW] == pytest.approx(0.6 + 0.2 / 6)
    assert inner[NESTED] == pytest.approx(0.8)
    assert inner[BASELINES].isna().all()


def test_baselines_find_what_is_in_their_features(sample):
    rates = sample.scores.set_index("configuration")["success_rate"]
    assert rates[A_FLUX_BASELINE] == 1.0
    assert rates[MAJORITY_BASELINE] <= 0.5
    text = ["configuration", "kind", "label_source", "p_value_of", "inner_score"]
    assert not sample.scores.drop(columns=text).isna().any(axis=None)


def test_the_difference_to_the_a_flux_baseline_is_that_of_the_success_rates(sample):
    scores = sample.scores.set_index("configuration")
    expected = scores["success_rate"] - scores.loc[A_FLUX_BASELINE, "success_rate"]
    np.testing.assert_allclose(scores["minus_baseline"], expected)
    assert (scores["minus_baseline_low"] <= scores["minus_baseline"]).all()
    assert (scores["minus_baseline"] <= scores["minus_baseline_high"]).all()
    assert scores.loc[A_FLUX_BASELINE, ["minus_baseline_low", "minus_baseline_high"]].eq(0).all()


def test_scores_are_the_same_every_time(sample):
    pd.testing.assert_frame_equal(sample.scores, Sample().scores)


def test_without_shuffles_every_p_value_is_of_the_predictions_alone(sample):
    assert set(sample.scores["p_value_of"]) == {"these predictions"}
    nested = sample.predictions[sample.predictions["kind"] == "nested"]
    own = score_predictions(nested, 2, np.random.default_rng(0))["p_value"]
    assert sample.scores["p_value"].iloc[0] == own


def test_with_shuffles_the_first_p_value_is_of_the_whole_procedure(permuted, sample):
    first, *others = permuted.scores.to_dict("records")
    assert first["p_value_of"] == "the whole procedure, 19 shuffles"
    assert first["balanced_accuracy"] > permuted.permutations["balanced_accuracy"].max()
    assert first["p_value"] == pytest.approx(1 / 20)
    for row, before in zip(others, sample.scores.to_dict("records")[1:], strict=True):
        assert row["p_value_of"] == "these predictions"
        assert row["p_value"] == before["p_value"]


def test_shuffles_as_good_as_the_true_classes_make_the_p_value_large(permuted):
    null = permuted.permutations.assign(balanced_accuracy=1.0)
    scores, _, _ = permuted.score(permutations=null)
    assert scores["p_value"].iloc[0] == 1


def test_nothing_trained_gives_an_empty_score_table(untrained):
    assert untrained.scores.empty
    assert list(untrained.scores) == ["configuration", "kind"]
    assert untrained.predictions.empty
    assert "kind" in untrained.predictions
    assert untrained.selection.empty


def test_a_search_is_scored_as_a_whole_though_each_configuration_saw_one_fold_only(sample):
    def own(table):
        name = "0." + table["seed"].astype(str) + "." + table["fold"].astype(str)
        return table.assign(configuration=name)

    one = sample.network_predictions["configuration"] == NARROW
    inner = sample.inner[sample.inner["configuration"] == NARROW]
    scores, predictions, selection = sample.score(
        network_predictions=own(sample.network_predictions[one]), inner_scores=own(inner)
    )
    assert len(selection) == 6
    assert scores["configuration"].iloc[0] == NESTED
    assert scores["n_objects"].iloc[0] == 24
    networks = scores[scores["kind"] == "network"]
    assert set(networks["n_objects"]) == {8}
    nested = predictions[predictions["kind"] == "nested"]
    assert len(nested) == 48


# --- the published protocol -----------------------------------------------------------------------


def test_the_audit_has_a_row_for_each_choice_and_kind_of_labels(sample):
    rows = sample.audit.set_index(["labels", "choice"])["success_rate"]
    assert len(rows) == 3 * 5
    true = rows["true"]
    assert true["mean of the grid, no choice"] == pytest.approx((0.4 + 0.85) / 2)
    assert true["mean of the grid, best relabeling"] == pytest.approx((0.5 + 0.95) / 2)
    assert true["best of the grid"] == pytest.approx(0.85)
    assert true["best of the grid and relabeling"] == pytest.approx(0.95)
    assert true["the winner, fitted again"] == pytest.approx(0.52)


def test_the_audit_compares_each_choice_with_the_same_on_shuffled_classes(sample):
    table = sample.audit.set_index(["labels", "choice"])
    best = table.xs("best of the grid and relabeling", level="choice")
    assert best["shuffled_median"].tolist() == pytest.approx([0.6] * 3)
    assert best["shuffled_low"].tolist() == pytest.approx([0.555] * 3)
    assert best["shuffled_high"].tolist() == pytest.approx([0.645] * 3)
    assert best["p_value"].to_dict() == pytest.approx(
        {"random": 52 / 102, "true": 1 / 102, "shuffled": 102 / 102}
    )
    plain = table.xs("best of the grid", level="choice")
    assert plain["shuffled_median"].tolist() == pytest.approx([0.5] * 3)
    others = table.drop(index=["best of the grid", "best of the grid and relabeling"], level=1)
    assert others[["shuffled_median", "p_value"]].isna().all(axis=None)


def test_the_sentences_say_how_much_comes_from_the_protocol_alone(sample):
    random, true = re.split(r" (?=With true)", sample.sentences)
    assert random == (
        "With random training labels, as published, the published protocol gives 0.600 as the best "
        "of 3 fits; on classes shuffled at random the same fits give 0.600 (5-95 %: 0.555 to "
        "0.645). Of the +0.100 above one in 2, +0.100 come from the protocol alone (p = 0.510)."
    )
    assert "With true training labels, the published protocol gives 0.950" in true
    assert "Of the +0.450 above one in 2, +0.100 come from the protocol alone (p = 0.010)" in true


def test_without_an_audit_there_are_no_sentences(untrained):
    assert untrained.sentences == ""
    assert untrained.audit.empty
    assert "success_rate" in untrained.audit


def test_an_audit_in_which_every_fit_named_one_class_says_so(sample):
    rates = ["success_rate", "relabeled_success_rate", "refitted"]
    fits = sample.audit_fits.assign(**dict.fromkeys(rates, np.nan))
    null = sample.audit_null.assign(best=np.nan, one=np.nan)
    table, sentences = reporting.summarise_audit(fits, null, sample.classes)
    assert sentences == (
        "With random training labels, as published every fit named one class only. "
        "With true training labels every fit named one class only."
    )
    assert table["p_value"].isna().all()


def test_the_audit_read_back_from_disk_is_the_same(sample, tmp_path):
    for name in ("audit_fits", "audit_null"):
        getattr(sample, name).to_csv(tmp_path / f"{name}.csv", index=False)
    fits, null = (pd.read_csv(tmp_path / f"{n}.csv") for n in ("audit_fits", "audit_null"))
    table, sentences = reporting.summarise_audit(fits, null, sample.classes)
    pd.testing.assert_frame_equal(table, sample.audit)
    assert sentences == sample.sentences


def test_workbooks_of_the_audit_have_the_published_names_and_sheets(sample):
    books = reporting.write_audit_workbooks(sample.profiles, sample.audit_predictions)
    names = [
        f"{what}_results_{kind}_0.5_42_{epochs}_4-8.xlsx"
        for kind in ("random", "true", "shuffled")
        for epochs in (10, 20, 30)
        for what in ("classification", "transformation")
    ]
    assert list(books) == names
    for name, sheets in books.items():
        published = {
            "classification": ["Classification"],
            "transformation": ["Transformation_Summary", "Merged_Data"],
        }
        assert list(sheets) == published[name.partition("_")[0]]


def test_a_workbook_of_the_audit_shows_what_relabeling_does(sample):
    books = reporting.write_audit_workbooks(sample.profiles, sample.audit_predictions)
    sheets = books["transformation_results_true_0.5_42_30_4-8.xlsx"]
    summary, merged = sheets["Transformation_Summary"], sheets["Merged_Data"]
    assert summary["Transformation"].tolist() == ["0 -> 0, 1 -> 1", "0 -> 1, 1 -> 0"]
    part = sample.audit_predictions.query("labels == 'true' and epochs == 30")
    right = (part["class"] == part["predicted"]).mean()
    assert summary["Success_Rate"].tolist() == pytest.approx([right, 1 - right])
    assert right < 0.5  # made up so that renaming helps
    assert (merged["transformed"] == 1 - merged["predicted"]).all()
    assert merged["match"].mean() == pytest.approx(1 - right)
    assert (merged["match"] == (merged["transformed"] == merged["class"])).all()
    assert {"id", "file", "object", "probability_0", "probability_1"} <= set(merged)
    answers = books["classification_results_true_0.5_42_30_4-8.xlsx"]["Classification"]
    assert "class" not in answers
    assert len(answers) == len(merged) == 12


def test_workbooks_of_the_audit_can_be_written_as_excel_also_of_none(sample, untrained):
    assert reporting.write_audit_workbooks(sample.profiles, untrained.audit_predictions) == {}
    books = reporting.write_audit_workbooks(sample.profiles, sample.audit_predictions)
    buffer = io.BytesIO()
    with pd.ExcelWriter(buffer, engine="openpyxl") as writer:
        for name, table in books["transformation_results_true_0.5_42_30_4-8.xlsx"].items():
            table.to_excel(writer, sheet_name=name, index=False)
    assert openpyxl.load_workbook(buffer).sheetnames == ["Transformation_Summary", "Merged_Data"]


# --- what the network looks at --------------------------------------------------------------------


class RadialNetwork:
    """Is the surer of class 1, the more the sides differ within a range of radii."""

    output_shape = (None, 2)

    def __init__(self, low=0, high=8):
        self.rows = slice(low, high)

    def predict_on_batch(self, inputs):
        # The first row of a quadrant is the profile along the radius.
        radius = inputs if inputs.ndim == 3 else inputs[:, 0]
        signal = np.abs(radius[:, self.rows, 0]).sum(axis=1)
        one = 1 / (1 + np.exp(1 - signal / 4))
        return np.column_stack([1 - one, one]).astype(np.float32)


def description_of(**changes):
    base = SWEEP.base
    features = {"features.size": 16, "network.input_scale": 4.0}
    chosen = base.changed("chosen", features | changes)
    return {"trained": True, "configuration": chosen.model_dump(mode="json")}


def lopsided_at(distance, width=15.0, w20=160.0):
    """Symmetric lines but for one side, within a range of distances from the middle in km/s."""
    sample = Sample(6)
    flux, where, _ = lines(np.zeros(6))
    offset = where["velocity_start"] + where["channel_width"] * np.arange(64) - 1160
    flux[:, np.abs(offset - distance) < width] += 0.5
    sample.flux = flux
    sample.fits["w20"] = w20
    return sample


@pytest.mark.parametrize("distance", [30.0, 60.0, 80.0])
@pytest.mark.parametrize("side", [1, -1])
def test_a_profile_lopsided_in_one_range_has_its_importance_there(distance, side):
    table = lopsided_at(side * distance).explain(description_of(), RadialNetwork(0, 16))
    assert (table["predicted"] == 1).all()
    for _, part in table.groupby("id"):
        inside = (part["high"] > distance - 15) & (part["low"] < distance + 15)
        most = part["importance"].max()
        assert most > 0.01
        assert part.loc[inside, "importance"].max() == most
        assert part.loc[inside, "importance"].sum() > 0.95 * part["importance"].sum()
        assert (part.loc[~inside, "importance"].abs() < 0.2 * most).all()


@pytest.mark.parametrize("w20", [80.0, 120.0, 300.0])
def test_no_distance_at_which_a_line_is_lopsided_is_left_out_however_narrow_it_is(w20):
    sample = lopsided_at(0.0, 0.0, w20)
    sample.flux[:, 33:] *= 1.5  # the whole of the high-velocity side
    table = sample.explain(description_of(), RadialNetwork(0, 16))
    bright = table[(table["low"] > 6) & (table["high"] < 60)]  # where there is flux
    assert (bright["importance"] > 1e-4).all()


def test_what_the_network_does_not_see_has_no_importance():
    table = lopsided_at(75.0).explain(description_of(), RadialNetwork(0, 4))
    # Four of sixteen pixels reach to a quarter of 1.3 times half of W20.
    assert table.loc[table["low"] > 0.35 * 104, "importance"].abs().max() == 0


def test_every_galaxy_in_use_is_explained_at_sixteen_distances_without_gaps():
    sample = lopsided_at(40.0)
    sample.classes.loc[[1, 4], "used"] = False
    table = sample.explain(description_of(), RadialNetwork())
    assert list(table) == ["id", "predicted", "probability", "low", "high", "importance"]
    assert table["id"].unique().tolist() == ["g00", "g02", "g03", "g05"]
    assert (table.groupby("id").size() == 16).all()
    for _, part in table.groupby("id"):
        assert part["low"].iloc[0] == 0
        np.testing.assert_allclose(part["low"].iloc[1:], part["high"].iloc[:-1])
        assert part["high"].iloc[-1] == pytest.approx(1.3 * 80)
        assert np.ptp(part["probability"]) == 0


def test_the_importance_is_the_fall_of_the_predicted_class_also_of_class_0():
    class Contrary(RadialNetwork):
        def predict_on_batch(self, inputs):
            return super().predict_on_batch(inputs)[:, ::-1]

    sample = lopsided_at(40.0)
    one = sample.explain(description_of(), RadialNetwork(0, 16))
    other = sample.explain(description_of(), Contrary(0, 16))
    assert set(one["predicted"]) == {1}
    assert set(other["predicted"]) == {0}
    np.testing.assert_allclose(one["importance"], other["importance"], atol=1e-6)
    np.testing.assert_allclose(one["probability"], other["probability"], atol=1e-6)


def test_a_symmetric_profile_has_nothing_to_explain():
    sample = lopsided_at(0.0)
    table = sample.explain(description_of(), RadialNetwork())
    assert table["importance"].abs().max() < 0.005


@pytest.mark.parametrize(
    "changes",
    [
        {"network.architecture": "folded_cnn"},
        {"network.image_models": (2, 1)},
        {"features.size": 8},
    ],
)
def test_images_are_drawn_as_the_network_was_trained_on(changes):
    table = lopsided_at(55.0).explain(description_of(**changes), RadialNetwork(0, 16))
    part = table[table["id"] == "g00"]
    # With half as many pixels it is less sure, and may name the other class.
    most = part.loc[part["importance"].abs().idxmax()]
    assert most["low"] - 15 <= 55 <= most["high"] + 15


def test_more_galaxies_than_are_explained_at_a_time_keep_their_names():
    sample = lopsided_at(55.0)
    sample.flux[3] = lopsided_at(0.0).flux[0]
    which = np.tile(np.arange(6), 100)[:513]
    sample.profiles = sample.profiles.iloc[which].reset_index(drop=True)
    sample.profiles["id"] = [f"m{i}" for i in range(513)]
    sample.fits, sample.flux = sample.fits.iloc[which], sample.flux[which]
    sample.classes = pd.DataFrame({"used": [True] * 513})
    table = sample.explain(description_of(), RadialNetwork(0, 16))
    most = table.groupby("id", sort=False)["importance"].max()
    assert most.index.tolist() == sample.profiles["id"].tolist()
    assert (most.to_numpy() < 0.005).tolist() == (which == 3).tolist()


def test_an_untrained_network_explains_nothing(sample):
    table = sample.explain({"trained": False})
    assert table.empty
    assert list(table) == ["id", "predicted", "probability", "low", "high", "importance"]


# --- summary --------------------------------------------------------------------------------------


def test_the_summary_shows_rate_interval_chance_and_baseline_of_every_configuration(sample):
    text = summary_text(sample.scores, MEASURE, HEAD, "galaxies", A_FLUX_BASELINE)
    head, _, title, *rows, blank, last = text.splitlines()
    assert (blank, last) == ("", "The first p-value is of these predictions.")
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


def test_the_summary_says_what_the_first_p_value_is_of(permuted):
    text = summary_text(permuted.scores, MEASURE, HEAD, "galaxies", A_FLUX_BASELINE)
    assert text.endswith("\nThe first p-value is of the whole procedure, 19 shuffles.\n")


def test_the_summary_ends_with_the_audit(sample):
    text = summary_text(sample.scores, MEASURE, HEAD, "galaxies", A_FLUX_BASELINE, sample.sentences)
    assert " ".join(text.split()).endswith(f"these predictions. {sample.sentences}")


def test_the_summary_of_nothing_trained_says_why():
    text = summary_text(
        pd.DataFrame(columns=["configuration", "kind"]),
        MEASURE,
        "3 spectra accepted, 1 rejected",
        "galaxies",
        "",
    )
    assert text == (
        "3 spectra accepted, 1 rejected; too few labelled galaxies to train and test a classifier\n"
    )


# --- report ---------------------------------------------------------------------------------------


def test_every_figure_is_returned_and_embedded(report):
    html = report["report"]
    assert set(report) == {*FIGURES, "report", "summary"}
    assert all(isinstance(report[name], Figure) for name in FIGURES)
    pictures = re.findall(r'<img alt="[^"]+" src="data:image/png;base64,([^"]+)"', html)
    assert len(pictures) == html.count("<img") == len(FIGURES)
    assert len(set(pictures)) == len(FIGURES)
    assert all(len(picture) > 2000 for picture in pictures)


def test_figures_that_need_what_was_not_asked_for_say_so(report):
    empty = (report["permutation_figure"], report["explanations_figure"])
    words = [figure.axes[0].texts[0].get_text() for figure in empty]
    assert words == [
        "no shuffles were asked for (sweep.n_permutations)", "no network was trained",
    ]  # fmt: skip


def test_figures_of_shuffles_and_explanations_are_drawn_where_they_were_made(permuted):
    explanations = permuted.explain(description_of(), RadialNetwork(0, 16))
    drawn = permuted.report(explanations=explanations)
    permutation, explanation = drawn["permutation_figure"], drawn["explanations_figure"]
    legend = {text.get_text() for text in permutation.axes[0].get_legend().get_texts()}
    assert "19 shuffles" in legend
    panels = [axis for axis in explanation.axes if axis.get_label() != "<colorbar>" and axis.axison]
    assert len(panels) == REPORTING.n_sample_images
    titles = [axis.get_title() for axis in panels]
    assert all(re.fullmatch(r"g\d\d: (symmetric|lopsided) \(\d\.\d\d\)", t) for t in titles)
    for axis, title in zip(panels, titles, strict=True):
        truth = ("symmetric", "lopsided")[int(title[1:3]) % 2]
        assert axis.texts[0].get_text() == f"label: {truth}"


@pytest.mark.parametrize("from_disk", [True, False])
def test_galaxies_without_a_class_are_no_obstacle_to_the_report(
    permuted, quick, from_disk, tmp_path
):
    classes = permuted.classes.copy()
    without = ["class", "class_value", "used", "reason"]
    classes.loc[[0, 7], without] = [pd.NA, pd.NA, False, "not in the label table"]
    if from_disk:
        classes.to_csv(tmp_path / "classes.csv", index=False)
        whole = {"class": "Int64", "class_value": "Int64"}
        options = {"keep_default_na": False, "na_values": [""]}
        classes = pd.read_csv(tmp_path / "classes.csv", dtype=whole, **options)
    explanations = reporting.explain_predictions(
        permuted.profiles, permuted.flux, permuted.fits, classes, RadialNetwork(0, 16),
        description_of(),
    )  # fmt: skip
    drawn = permuted.report(classes=classes, explanations=explanations)
    notes = [axis.texts[0].get_text() for axis in drawn["explanations_figure"].axes if axis.texts]
    assert len(notes) == REPORTING.n_sample_images
    assert set(notes) <= {"label: symmetric", "label: lopsided"}
    assert "Accepted but not used for training (2)" in drawn["report"]


def test_a_few_networks_are_shown_where_there_are_many(sample, quick):
    def copies(table):
        mine = table[table["configuration"] == WIDE]
        return pd.concat([mine.assign(configuration=f"{i:02d} many") for i in range(9)])

    predictions = copies(sample.network_predictions)
    inner = copies(sample.inner)
    better = {"05 many": 0.09, "02 many": 0.08}
    inner["score"] += inner["configuration"].map(better).fillna(0.0)
    scores, everything, selection = sample.score(
        network_predictions=predictions, inner_scores=inner
    )
    drawn = sample.report(
        success_rates=scores, predictions=everything, selection=selection,
        learning_curves=copies(sample.curves),
    )  # fmt: skip
    names = ("learning_curves_figure", "confusion_figure", "reliability_figure")
    curves, confusion, reliability = (drawn[name] for name in names)
    titles = [axis.get_title() for axis in curves.axes if axis.get_title()]
    assert len(titles) == 6
    assert {"05 many", "02 many"} < set(titles)
    shown = [axis.get_title() for axis in confusion.axes if axis.axison and axis.get_title()]
    assert shown[0] == NESTED
    assert set(shown) == {NESTED, *titles, *BASELINES} - {MAJORITY_BASELINE}
    labels = [line.get_label() for line in reliability.axes[0].lines]
    assert {"05 many", "02 many"} & set(labels)
    assert drawn["report"].count("many (network)") == 9  # the table holds all of them


def test_the_report_needs_no_other_file_and_no_network(report):
    html = report["report"]
    assert html.startswith("<!doctype html>")
    without_pictures = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    for link in ("http://", "https://", "file:", "//cdn", "url(", "@import", "<link", "<script"):
        assert link not in without_pictures
    assert set(re.findall(r'(?:src|href)="([^"]*)"', without_pictures)) == {"data:image/png;"}


def test_rejected_files_are_listed_and_cannot_inject_html(report):
    html = report["report"]
    assert "Rejected files (2)" in html
    assert "<td>&lt;script&gt;x.fits</td><td>no line</td><td>S/N 2 &lt; 6.5</td>" in html
    assert "<td>b&amp;b.fits</td><td>a &#34;quote&#34;</td>" in html
    assert "<script>x" not in html


def test_galaxies_that_were_not_used_are_listed_with_the_reason_also_escaped(quick):
    sample = Sample()
    sample.classes.loc[0, ["id", "used", "reason"]] = ["<b>g", False, "fit: too <few"]
    html = sample.report()["report"]
    assert "Accepted but not used for training (1)" in html
    assert "<td>&lt;b&gt;g</td><td>fit: too &lt;few</td>" in html


def test_the_report_shows_every_score_and_where_the_classes_come_from(sample, report):
    html = report["report"]
    assert "Classes come from: <strong>label table</strong>" in html
    assert "<th>adjusted Rand</th><th>mutual information</th>" in html
    assert "The first p-value is of these predictions;" in html
    assert "<th>recall, symmetric</th><th>recall, lopsided</th>" in html
    for _, row in sample.scores.iterrows():
        assert f"<td>{row['configuration']} ({row['kind']})</td>" in html
        assert f"<td>{MEASURE.in_words(row)}</td>" in html
        interval = f"({row['success_low']:.3f}-{row['success_high']:.3f})"
        assert f"<td>{row['success_rate']:.3f} {interval}</td>" in html
    for key, value in sample.info().items():
        assert f"<th>{key}</th>" in html
        assert value[:20] in html


def test_the_report_says_what_each_outer_fold_selected(sample, report):
    table = report["report"].partition("What each outer fold selected")[2].partition("</table>")[0]
    rows = re.findall(r"<tr><td>(.*?)</td><td>(\d)</td><td>(\d)</td><td>([\d.]+)</td>", table)
    expected = [
        (row.configuration, str(row.seed), str(row.fold), f"{row.score:.3f}")
        for row in sample.selection.itertuples()
    ]
    assert rows == expected


def test_configurations_without_a_result_are_listed_with_the_reason_also_escaped(report):
    html = report["report"]
    assert "Configurations without a result (1)" in html
    assert f"<td>{BROKEN}</td><td>ValueError: 8 &lt;pixels&gt; are too few</td>" in html


def test_nothing_is_said_of_configurations_without_a_result_where_there_are_none(sample, quick):
    html = sample.report(outcome=sample.outcome | {"failed": {}})["report"]
    assert "Configurations without a result" not in html


def test_the_audit_is_in_the_report_with_every_number_and_apart_from_the_results(sample, report):
    html = report["report"]
    section = html.partition("Audit: the published protocol")[2].partition("<figure>")[0]
    assert sample.sentences.replace("+", "&#43;")[:60] in section.replace("+", "&#43;")
    assert "No figure of this section says how well the network" in section
    rows = section.count("<tr><td>")
    assert rows == len(sample.audit) == 15
    assert "<td>best of the grid and relabeling</td><td>0.950</td>" in section
    assert "0.600 (0.555–0.645)" in section
    assert html.index("success rate (95 %)") < html.index("Audit: the published protocol")


def test_without_an_audit_the_report_has_no_section_of_it(sample, untrained, quick):
    nothing = {
        "audit_fits": untrained.audit_fits, "audit_null": untrained.audit_null,
        "audit_summary": untrained.audit, "audit_sentences": "",
    }  # fmt: skip
    drawn = sample.report(**nothing)
    assert "Audit: the published protocol" not in drawn["report"]
    assert "Audit" not in drawn["summary"]
    assert set(FIGURES) < set(drawn)


def test_class_names_follow_the_label_table_also_where_a_class_is_left_out(sample, quick):
    classes = sample.classes.assign(class_value=sample.classes["class"] * 2)  # values 0 and 2
    names = ReportingParameters(class_names=("zero", "one", "two"), n_sample_images=4)
    html = sample.report(classes=classes, reporting=names)["report"]
    assert "<th>recall, zero</th><th>recall, two</th>" in html
    few = ReportingParameters(class_names=("zero",), n_sample_images=4)
    html = sample.report(classes=classes, reporting=few)["report"]
    assert "<th>recall, zero</th><th>recall, class 2</th>" in html


def test_examples_are_predictions_of_unseen_galaxies_with_classes_in_turn(report):
    figure = report["sample_images_figure"]
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    assert len(titles) == 4
    classes = [re.search(r"true: (\w+)", title)[1] for title in titles]
    assert classes == ["symmetric", "lopsided"] * 2


def test_the_report_can_be_written_with_nothing_trained_and_nothing_rejected(untrained):
    drawn = untrained.report(rejected=untrained.rejected[:0])
    html, summary = drawn["report"], drawn["summary"]
    assert set(FIGURES) < set(drawn)
    assert "Too few labelled galaxies" in html
    assert "Rejected files (0)" in html
    assert html.count("data:image/png;base64,") == len(FIGURES)
    assert "too few labelled galaxies" in summary


def test_tables_read_back_from_disk_give_the_same_report(sample, tmp_path, quick):
    def through_csv(table, **options):
        table.to_csv(tmp_path / "table.csv", index=False)
        return pd.read_csv(tmp_path / "table.csv", **options)

    whole = {"dtype": {"class": "Int64", "class_value": "Int64"}, "keep_default_na": False}
    again = sample.report(
        classes=through_csv(sample.classes, na_values=[""], **whole),
        success_rates=through_csv(sample.scores),
        predictions=through_csv(sample.predictions),
        learning_curves=through_csv(sample.curves),
        selection=through_csv(sample.selection),
        permutations=through_csv(sample.permutations),
        audit_fits=through_csv(sample.audit_fits),
        audit_null=through_csv(sample.audit_null),
        audit_summary=through_csv(sample.audit),
        explanations=through_csv(sample.explanations),
    )
    before = sample.report()
    assert again["summary"] == before["summary"]
    tables = [re.sub(r"<figure>.*?</figure>", "", page["report"]) for page in (again, before)]
    assert tables[0] == tables[1].replace("<td>nan</td>", "<td></td>")


# --- fingerprint, workbooks, info sheet -----------------------------------------------------------


def test_the_fingerprint_depends_on_ids_and_files_and_not_on_their_order(sample):
    profiles = sample.profiles
    fingerprint = data_fingerprint(profiles)
    assert re.fullmatch("[0-9a-f]{64}", fingerprint)
    shuffled = profiles.sample(frac=1, random_state=3)
    assert data_fingerprint(shuffled) == fingerprint
    assert data_fingerprint(profiles.assign(snr=1.0)) == fingerprint
    other = profiles.copy()
    other.loc[5, "sha256"] = "f" * 64
    swapped = profiles.assign(sha256=profiles["sha256"].to_numpy()[::-1])
    for changed in (other, swapped, profiles[1:], profiles.assign(id="x" + profiles["id"])):
        assert data_fingerprint(changed) != fingerprint


def test_each_configuration_has_a_workbook_with_its_predictions_merge_and_confusion(sample):
    workbooks = reporting.write_workbooks(sample.profiles, sample.predictions, sample.asymmetry)
    assert len(workbooks) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+\.xlsx", name) for name in workbooks)
    sheets = workbooks["01_4.xlsx"]
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
        for name, table in sheets["02_8.xlsx"].items():
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
    assert data_fingerprint(sample.profiles)[:16] in info["Data"]
    assert info["Split"].startswith("3 outer folds that report, 2 inner folds that stop")
    assert "seeds [0, 1]" in info["Split"]
    assert info["Selection"].startswith("3 configurations in a grid. 1 failed or were pruned.")
    assert f"({len(sample.copies)} copies of 24 galaxies)" in info["Leakage checks"]
    assert "for no shuffles were asked for" in info["Metrics"]
    assert "Pre-trained" not in info["Leakage checks"]
    assert json.loads(json.dumps(info)) == info


def test_the_info_sheet_says_how_much_was_searched_shuffled_and_pretrained(permuted):
    assert "from 19 reruns of the whole procedure, selection included" in permuted.info()["Metrics"]
    space = {"training.epochs": {"low": 2, "high": 9}, "training.start": ["scratch", "frozen"]}
    info = permuted.info(sweep_of(search={"space": space, "n_trials": 7}))
    assert info["Selection"].startswith("7 configurations searched in each outer fold.")
    assert "Pre-trained networks saw simulated profiles only" in info["Leakage checks"]


def test_the_info_sheet_warns_of_a_circle_only_if_classes_come_from_the_measured_a_flux(
    sample, measured, quick
):
    assert set(measured.scores["label_source"]) == {"measured A_flux"}
    labels = measured.info()["Labels"]
    assert labels.startswith("measured A_flux;")
    assert "recovers A_flux" in labels
    assert "not independent" in labels
    assert "recovers A_flux" not in sample.info()["Labels"]
    assert "not independent" in measured.report()["report"]


def test_the_info_sheet_can_be_written_with_nothing_trained(untrained):
    info = untrained.info()
    assert info["Split"].startswith("0 outer folds")
    assert json.loads(json.dumps(info)) == info


# --- MLflow ---------------------------------------------------------------------------------------


def test_every_child_can_be_compared_with_every_other(sample):
    children = sample.runs()["children"]
    assert [child["name"] for child in children] == [NESTED, NARROW, WIDE, *BASELINES, BROKEN]
    assert len({frozenset(child["params"]) for child in children}) == 1
    wanted = {"success_rate", "chance_level", "balanced_accuracy", "macro_f1", "p_value"}
    for child in children[:-1]:
        assert wanted <= set(child["metrics"])
    rates = [child["metrics"]["success_rate"] for child in children[:-1]]
    assert rates == pytest.approx(sample.scores["success_rate"].tolist())
    kinds = ["nested", *["network"] * 2, *["baseline"] * 3, "network"]
    assert [child["params"]["kind"] for child in children] == kinds
    widths = ["none", "4", "8", *["none"] * 3, "2"]
    assert [child["params"]["widths"] for child in children] == widths


def test_networks_are_told_with_their_inner_score_and_their_learning_curves(sample):
    _, narrow, _, baseline, *_ = sample.runs()["children"]
    inner = sample.inner.loc[sample.inner["configuration"] == NARROW, "score"].mean()
    assert narrow["metrics"]["inner_score"] == pytest.approx(inner)
    mean = {name for name in narrow["curves"] if name.startswith("epoch_")}
    assert mean == {"epoch_loss", "epoch_accuracy", "epoch_val_loss", "epoch_val_accuracy"}
    assert narrow["curves"]["epoch_loss"] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    by_fold = {name: len(c) for name, c in narrow["curves"].items() if name.startswith("fold_")}
    assert by_fold == {
        f"fold_{seed}.{fold}_val_accuracy": 2 + fold for seed in (0, 1) for fold in (0, 1, 2)
    }
    assert baseline["curves"] == {}


def test_a_configuration_without_a_result_is_told_with_the_reason(sample):
    broken = sample.runs()["children"][-1]
    assert broken["tags"] == {"error": "ValueError: 8 <pixels> are too few"}
    assert broken["status"] == "FAILED"
    assert broken["metrics"] == broken["curves"] == {}
    pruned = sample.runs(sample.outcome | {"failed": {BROKEN: "pruned"}})["children"][-1]
    assert pruned["status"] == "FINISHED"
    assert pruned["tags"] == {"error": "pruned"}


def test_values_that_did_not_go_together_are_told_without_parameters(sample):
    outcome = sample.outcome | {
        "configurations": KNOWN | {"0.0.01": None},
        "failed": {"0.0.01": "ValueError: no"},
    }
    broken = sample.runs(outcome)["children"][-1]
    assert broken["name"] == broken["params"]["configuration"] == "0.0.01"
    assert broken["params"]["widths"] == "none"


def test_no_metric_is_nan_which_a_database_would_refuse(sample, permuted):
    for runs in (sample.runs(), permuted.runs()):
        for child in runs["children"]:
            assert np.isfinite(list(child["metrics"].values())).all(), child["name"]


def test_the_run_says_which_data_and_labels_it_used_and_survives_json(sample):
    runs = sample.runs()
    assert json.loads(json.dumps(runs)) == runs
    assert runs["tags"]["data_fingerprint"] == data_fingerprint(sample.profiles)
    assert runs["tags"]["label_source"] == "label table"
    assert runs["params"]["n_in_split"] == 24
    assert (runs["params"]["n_folds"], runs["params"]["n_inner_folds"]) == (3, 2)
    assert runs["params"]["seeds"] == [0, 1]
    best = {name: value for name, value in runs["params"].items() if name.startswith("audit")}
    assert best == {
        "audit_best_random": 0.6, "audit_best_true": 0.95, "audit_best_shuffled": 0.55,
    }  # fmt: skip
    workbooks = reporting.write_workbooks(sample.profiles, sample.predictions, sample.asymmetry)
    files = {f"{child['file']}.xlsx" for child in runs["children"]}
    assert files == set(workbooks) | {"03_2.xlsx"}


def test_a_run_with_nothing_trained_has_no_children(untrained):
    runs = untrained.runs()
    assert runs["children"] == []
    assert runs["params"]["n_folds"] == 0
    assert not any(name.startswith("audit") for name in runs["params"])
