"""Node functions of the reporting: arms beside each other and baselines, figures, report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.measures import classification, classification_of
from skyloom.evaluation.report import (
    Panel,
    data_fingerprint,
    differences,
    render_report,
    results_table,
    summary_text,
)
from skyloom.evaluation.synthetic import judge_images
from skyloom.learning.results import (
    ARM_COLUMNS,
    NESTED,
    along_axis,
    compare_arms,
    score_comparison,
    scorer,
    workbooks_of,
)
from skyloom.learning.runs import describe_children, describe_run
from skyloom.learning.splitting import split_in_words
from skyloom.nets.alhassan import FEATURES
from skyloom.pipelines.radio_galaxies.augmentation import LEAST_DIVERSE, MOST_UNLIKE
from skyloom.pipelines.radio_galaxies.features import class_names
from skyloom.pipelines.radio_galaxies.fitting import ANGLES
from skyloom.pipelines.radio_galaxies.parameters import (
    Configuration,
    ReportingParameters,
    Sweep,
)
from skyloom.pipelines.radio_galaxies.training import (
    FOREST_BASELINE,
    MAJORITY_BASELINE,
    angle_child,
    best_angle_baseline,
)
from skyloom.plots import classification as class_plots
from skyloom.plots import radio_galaxies as plots
from skyloom.plots.generators import generators_figure

HISTOGRAMS = ("pixel", "flux", "area", "spread")
QUALITY_COLUMNS = (
    "pool", "fold", "n_images", *(f"{name}_error" for name in HISTOGRAMS), "kernel_distance",
    "diversity", "share_of_copies",
)  # fmt: skip
HISTOGRAM_COLUMNS = ("images", "quantity", "low", "high", "share")
_MEASURES = {
    "histogram_error": ("error of the histograms (0 to 2)", MOST_UNLIKE),
    "diversity": ("diversity, training images = 1", LEAST_DIVERSE),
}
_N_SHOWN = 8  # configurations in the figures with a panel or a line for each


def score_configurations(
    split_manifest: pd.DataFrame,
    sample: pd.DataFrame,
    network_predictions: pd.DataFrame,
    inner_scores: pd.DataFrame,
    permutations: pd.DataFrame,
    baseline_predictions: pd.DataFrame,
    outcome: dict[str, Any],
    reporting: ReportingParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Score every configuration and the baselines on the same sources.

    Returns
    -------
    success_rates, predictions, selection : pandas.DataFrame
        From `skyloom.learning.results.score_comparison`; the scores with the intervals of each
        recall.
    arms : pandas.DataFrame
        From `skyloom.learning.results.compare_arms`.
    """
    measure = classification_of(split_manifest)
    success_rates, predictions, selection = score_comparison(
        network_predictions, inner_scores, permutations, baseline_predictions,
        measure=measure,
        score=scorer(baseline_predictions, FOREST_BASELINE, measure, reporting.seed),
        label_source=", ".join(
            sorted(sample.loc[sample["class"] != "", "label_source"].unique())
        ),
    )  # fmt: skip
    if success_rates.empty:
        return success_rates, predictions, selection, pd.DataFrame(columns=list(ARM_COLUMNS))
    success_rates, arms = compare_arms(
        success_rates, predictions, outcome["configurations"], reporting.seed
    )
    return success_rates, predictions, selection, arms


def score_bending_angles(
    angle_predictions: pd.DataFrame,
    angle_baseline_predictions: pd.DataFrame,
    angle_inner_scores: pd.DataFrame,
    sample: pd.DataFrame,
    reporting: ReportingParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Errors of the bending angles beside the baselines, and what is said of unmeasured sources.

    Returns
    -------
    scores : pandas.DataFrame
        From `skyloom.learning.results.score_comparison`, in deg; differences are to the better
        baseline.
    angles : pandas.DataFrame
        Predictions of all of them, with ``kind``.
    unmeasured : pandas.DataFrame
        ``id``, ``class`` (name), ``configuration``, ``predicted`` (mean over seeds, deg) of sources
        whose angle is not known.
    """
    reference = best_angle_baseline(angle_baseline_predictions)
    scores, angles, _ = score_comparison(
        angle_predictions,
        angle_inner_scores,
        pd.DataFrame(),
        angle_baseline_predictions,
        measure=ANGLES,
        score=scorer(angle_baseline_predictions, reference, ANGLES, reporting.seed),
        label_source="label table",
    )
    others = angles[
        angles["target"].isna() & angles["predicted"].notna() & (angles["kind"] != "nested")
    ]
    keys = ["configuration", "id"]
    mean = others.groupby(keys, as_index=False, sort=False)["predicted"].mean()
    columns = ["id", "class", "configuration", "predicted"]
    return scores, angles, mean.merge(sample[["id", "class"]], on="id")[columns]


def measure_synthetic_quality(
    sample: pd.DataFrame,
    split_manifest: pd.DataFrame,
    images: dict[str, Callable[[], np.ndarray]],
    synthetic_images: dict[str, Callable[[], np.ndarray]],
    synthetic: pd.DataFrame,
    classifier: Any,
    classifier_description: dict[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How good the synthetic images are, in the space of the classifier's features.

    Returns
    -------
    quality : pandas.DataFrame
        `QUALITY_COLUMNS`, first a row for the held-out observed images of each fold, with which
        the others are to be compared, see `skyloom.evaluation.synthetic.judge_images`.
    histograms : pandas.DataFrame
        From `skyloom.evaluation.synthetic.image_histograms`, the training images first; of the
        first fold.
    """
    if not classifier_description["trained"] or synthetic.empty:
        nothing = (pd.DataFrame(columns=list(c)) for c in (QUALITY_COLUMNS, HISTOGRAM_COLUMNS))
        return tuple(nothing)
    import keras

    from skyloom.images.orientations import orientations
    from skyloom.learning.fitting import predict

    variant = Configuration.model_validate(classifier_description["configuration"]).input_variant
    space = keras.Model(classifier.inputs, classifier.get_layer(FEATURES).output)
    pictures = np.asarray(images[variant]())
    row_of = pd.Series(np.arange(len(sample)), index=sample["id"])
    first = split_manifest[split_manifest["seed"] == split_manifest["seed"].iloc[0]]
    tables, histograms = [], []
    for fold, objects in first.groupby("fold"):
        train, held_out = (
            (pictures[row_of.loc[part["id"]]], part["class"].to_numpy())
            for part in (objects[objects["role"] == "train"], objects[objects["role"] != "train"])
        )
        of_fold = synthetic[(synthetic["fold"] == fold) & (synthetic["variant"] == variant)]
        made = {
            kind: (np.asarray(synthetic_images[pool]()), part["class"].to_numpy(int))
            for (pool, kind), part in of_fold.groupby(["pool", "kind"], sort=False)
        }
        quality, shares = judge_images(
            train, {"observed, held out": held_out} | made, partial(predict, space), orientations
        )
        tables.append(quality.assign(fold=fold))
        histograms.append(shares)
    quality = pd.concat(tables, ignore_index=True).rename(columns={"images": "pool"})
    shown = next((table for table in histograms if len(table)), None)
    return (
        quality[list(QUALITY_COLUMNS)],
        pd.DataFrame(columns=list(HISTOGRAM_COLUMNS)) if shown is None else shown,
    )


def write_workbooks(
    sample: pd.DataFrame, predictions: pd.DataFrame, measurements: pd.DataFrame
) -> dict[str, dict[str, pd.DataFrame]]:
    """One workbook a configuration: predictions, and their merge with labels and measurements.

    Returns
    -------
    dict of str to dict of str to pandas.DataFrame
        From `skyloom.learning.results.workbooks_of`.
    """
    about = sample[["id", "ra", "dec", "role", "label_source"]]
    about = about.assign(class_name=sample["class"]).merge(measurements, on="id")
    return workbooks_of(predictions, sample[["id", "file"]], about)


def model_info(
    sample: pd.DataFrame,
    rejected: pd.DataFrame,
    split_manifest: pd.DataFrame,
    angle_split_manifest: pd.DataFrame,
    synthetic_sources: pd.DataFrame,
    synthetic: pd.DataFrame,
    generator_history: pd.DataFrame,
    sweep: Sweep,
    outcome: dict[str, Any],
) -> dict[str, str]:
    """The model info sheet: data, split, leakage checks, selection, metrics, known limits.

    Returns
    -------
    dict of str to str
    """
    augmentation = sweep.base.augmentation
    kept = sample[sample["keep"]]
    counts = kept.loc[kept["class"] != "", "class"].value_counts().to_dict()
    dropped = sample.loc[~sample["keep"], "reason"].value_counts().to_dict()
    roles = split_manifest.drop_duplicates(["id", "role"])["role"].value_counts().to_dict()
    search = sweep.parameters.search
    extent = (
        f"{len(sweep.configurations)} configurations in a grid"
        if search is None
        else f"{search.n_trials} configurations searched in each outer fold and seed"
    )
    failed = f" {len(outcome['failed'])} failed or were pruned." if outcome["failed"] else ""
    fitted = (
        synthetic_sources.get("n_fitted", pd.Series([0])).max() if len(synthetic_sources) else 0
    )
    bad = generator_history.loc[
        generator_history["chosen"].astype(bool) & (generator_history["verdict"] != "")
    ]
    verdicts = "; ".join(f"{row.kind} ({row['class']}): {row.verdict}" for _, row in bad.iterrows())
    training = sweep.base.training
    asked = sweep.parameters
    split = split_in_words(
        augmentation, asked.test_catalogues, asked.train_catalogues, "the other catalogues"
    )
    return {
        "Data": f"{len(kept)} cut-outs kept of {len(sample)} read ({dropped or 'none dropped'}), "
        f"{len(rejected)} rejected or left out. Fingerprint {data_fingerprint(sample)[:16]}.",
        "Labels": f"{', '.join(sorted(kept['label_source'].unique()))}; by class: {counts}.",
        "Split": f"{split}; sources by role: {roles}; the same for every seed "
        f"({sorted(int(seed) for seed in split_manifest['seed'].unique())}), which stands for "
        "initial weights, batches and rotations; made before augmentation and written down.",
        "Bending angles": _about_angles(kept, angle_split_manifest, sweep.parameters.bending),
        "Leakage checks": "Entries closer than the duplicate radius and identical files are one "
        "source, of which one entry is kept; no source on two sides of the split. Copies are made "
        "of training images only; simulated distributions and generators are fitted to the "
        "training part of their fold only; no synthetic image is validated or tested on. In a "
        "learning curve they are made from the whole training part, and the validation part stays "
        "whole.",
        "Synthetic images": f"{len(synthetic)} in all; the geometric ones drawn from distributions "
        + (f"fitted to {fitted} training sources." if fitted else "given by the parameters.")
        + (f" Warning: {verdicts}." if verdicts else ""),
        "Selection": f"{extent}.{failed} The first row selects one by the balanced accuracy of the "
        "validation sources. The other rows select nothing but the epoch; taking the best of them "
        "afterwards is optimistic.",
        "Training": f"{training.epochs} times {training.steps_per_epoch} gradient steps of "
        f"{training.batch_size} images for every arm, whatever it is trained on; validation "
        "sources are observed ones, also for arms that are trained on synthetic images alone.",
        "Metrics": "Success rate over test sources, mean over seeds, 95 % Wilson interval over "
        "sources; macro-F1 and paired differences bootstrapped over sources. Intervals hold for "
        "this split: they do not contain the luck of the split itself.",
        "Known limits": "Classes are morphologies of single cut-outs at one resolution and depth. "
        "Where a catalogue's authors kept clear sources only, success rates are those of clear "
        "sources.",
    }


def _about_angles(kept, manifest, bending):
    """Whose angle is known, and on which side of the split they are."""
    if not bending:
        return "Not learnt in this sweep."
    known = kept.loc[kept["bending_angle"].notna(), "id"]
    roles = manifest[manifest["id"].isin(known)].drop_duplicates(["id", "role"])["role"]
    extra = manifest.loc[manifest["class"] < 0, "id"].nunique()
    return (
        f"Known of {len(known)} sources, from the label table; by role: "
        f"{roles.value_counts().to_dict()}. {extra} of them have no class and were added to the "
        "split in the order of their angles."
    )


def write_report(
    sample: pd.DataFrame,
    split_manifest: pd.DataFrame,
    rejected: pd.DataFrame,
    images: dict[str, Callable[[], np.ndarray]],
    success_rates: pd.DataFrame,
    arms: pd.DataFrame,
    predictions: pd.DataFrame,
    learning_curves: pd.DataFrame,
    selection: pd.DataFrame,
    generator_history: pd.DataFrame,
    synthetic_quality: pd.DataFrame,
    synthetic_histograms: pd.DataFrame,
    angles: pd.DataFrame,
    angle_scores: pd.DataFrame,
    angle_curves: pd.DataFrame,
    angles_of_unmeasured: pd.DataFrame,
    angle_outcome: dict[str, Any],
    sweep: Sweep,
    outcome: dict[str, Any],
    model_info: dict[str, str],
    reporting: ReportingParameters,
) -> dict[str, Any]:
    """Draw the figures and write the self-contained report and the table for the terminal.

    Returns
    -------
    dict
        The figures by name, ``report`` (HTML with everything embedded) and ``summary`` (the
        result table as text).
    """
    names = class_names(sample, split_manifest)
    measure = classification(len(names))
    networks = success_rates.loc[success_rates["kind"] == "network", "configuration"]
    shown = networks.tolist()[:_N_SHOWN]
    along, axis = along_axis(arms, sweep, outcome["configurations"])
    panels = class_plots.class_panels(
        success_rates, arms, predictions, learning_curves, names,
        objects="sources", shown=shown, hidden=(MAJORITY_BASELINE, NESTED),
    )  # fmt: skip
    panels |= {
        "axis_figure": Panel(
            "Along the axis of the sweep", class_plots.axis_figure(along, axis), not along.empty
        ),
        "examples_figure": Panel(
            "Examples of the network's input with true and predicted class",
            _examples(sample, images, predictions, names, reporting.n_sample_images),
        ),
        "generators_figure": Panel(
            "Networks that make images",
            generators_figure(generator_history, _MEASURES),
            not generator_history.empty,
        ),
        "histograms_figure": Panel(
            "Histograms of synthetic images",
            plots.histograms_figure(synthetic_histograms),
            not synthetic_histograms.empty,
        ),
    }
    panels |= _panels_of_angles(angles, angle_scores, angle_curves, angles_of_unmeasured, names)
    n_kept = int(sample["keep"].sum())
    head = f"{n_kept} cut-outs kept of {len(sample)} read, {len(rejected)} rejected or left out"
    words = _words(angle_scores, generator_history)
    unused = sample.loc[~sample["keep"], ["id", "reason", "value"]]
    report = render_report(
        Path(__file__).parent / "report.html.jinja",
        panels,
        scores=success_rates,
        measure=measure,
        names=names,
        reference=FOREST_BASELINE,
        arms=arms,
        rejected=rejected,
        unused=unused.assign(reason=unused["reason"] + ": " + unused["value"].astype(str)),
        info=model_info,
        selection=selection,
        failed=outcome["failed"]
        | {f"bending angle: {name}": error for name, error in angle_outcome["failed"].items()},
        quality=synthetic_quality,
        angles=_angles_as_shown(angle_scores),
    )
    return {
        **{name: panel.figure for name, panel in panels.items()},
        "report": report,
        "summary": summary_text(success_rates, measure, head, "sources", FOREST_BASELINE, words),
    }


def _panels_of_angles(predictions, scores, curves, unmeasured, names):
    """Figures of the bending angles."""
    measured = predictions[predictions["target"].notna()]
    single = scores[scores["kind"] != "nested"]  # which is one of the networks
    return {
        "angles_figure": Panel(
            "Bending angles of test sources",
            plots.angles_figure(measured, single),
            not measured.empty,
        ),
        "angle_curves_figure": Panel(
            "Errors of the bending angle by epoch",
            plots.angle_curves_figure(curves),
            not curves.empty,
        ),
        "angles_by_class_figure": Panel(
            "Predicted bending angles of sources without a measured one",
            plots.angles_by_class_figure(unmeasured, names),
            not unmeasured.empty,
        ),
    }


def _angles_as_shown(scores):
    """Table of the bending angles, the better baseline beside each row."""
    if scores.empty:
        return scores
    table = results_table(scores, ANGLES)
    table["minus the better baseline (deg, 95 %)"] = differences(scores, ANGLES)
    return table.assign(sources=scores["n_objects"].astype(str))


def _words(angles, generators):
    """What the terminal says of bending angles and generators."""
    words = []
    if len(angles):
        single = angles[(angles["kind"] != "nested") & angles["mae"].notna()].sort_values("mae")
        parts = [f"{row.configuration} {row.mae:.1f}" for row in single.itertuples()]
        if parts:
            words.append(f"Bending angle, mean absolute error (deg): {', '.join(parts)}.")
    chosen = generators[generators["chosen"].astype(bool)]
    bad = chosen[chosen["verdict"] != ""]
    words += [f"Warning, {row.kind} of fold {row.fold}: {row.verdict}." for row in bad.itertuples()]
    return " ".join(words)


def _examples(sample, images, predictions, names, n):
    """Grid of test sources, classes in turn."""

    def show(axis, image):
        axis.imshow(image, cmap="magma", vmin=0, vmax=1, origin="lower")

    nested = predictions[predictions["kind"] == "nested"]
    rows, titles = class_plots.choose_examples(nested, sample["id"], names, n)
    pictures = next(iter(images.values()))()
    return class_plots.sample_images_figure(np.asarray(pictures[rows, :, :, 0]), titles, show)


def describe_runs(
    sample: pd.DataFrame,
    split_manifest: pd.DataFrame,
    success_rates: pd.DataFrame,
    predictions: pd.DataFrame,
    inner_scores: pd.DataFrame,
    learning_curves: pd.DataFrame,
    angle_scores: pd.DataFrame,
    angle_inner_scores: pd.DataFrame,
    angle_curves: pd.DataFrame,
    angle_outcome: dict[str, Any],
    sweep: Sweep,
    outcome: dict[str, Any],
    summary: str,
) -> dict[str, Any]:
    """What MLflow is told: the run, and a child for each configuration and baseline.

    Returns
    -------
    dict
        From `skyloom.learning.runs.describe_run`.
    """
    measure = classification_of(split_manifest)
    children = describe_children(
        Configuration, measure, success_rates, inner_scores, learning_curves, outcome
    )
    of_angles = describe_children(
        Configuration, ANGLES, angle_scores, angle_inner_scores, angle_curves, angle_outcome
    )
    return describe_run(
        "radio_galaxies",
        sweep,
        sample,
        split_manifest,
        measure,
        success_rates,
        predictions,
        summary=summary,
        params={"split": sweep.base.augmentation.split},
        children=children + [angle_child(child) for child in of_angles],
    )
