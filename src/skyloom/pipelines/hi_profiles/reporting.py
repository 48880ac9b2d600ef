"""Node functions of the reporting: scores beside chance and baselines, figures, report, MLflow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.audit import best_of, published_workbooks
from skyloom.evaluation.measures import classification, classification_of
from skyloom.evaluation.report import Panel, data_fingerprint, render_report, summary_text
from skyloom.learning.nested import nested_statistic, procedure_p_value
from skyloom.learning.results import NESTED, score_comparison, scorer, workbooks_of
from skyloom.learning.runs import describe_children, describe_run
from skyloom.pipelines.hi_profiles.audit import AUDIT_LABELS
from skyloom.pipelines.hi_profiles.augmentation import class_names
from skyloom.pipelines.hi_profiles.explanation import explain_lines
from skyloom.pipelines.hi_profiles.parameters import Configuration, ReportingParameters, Sweep
from skyloom.pipelines.hi_profiles.training import A_FLUX_BASELINE, MAJORITY_BASELINE
from skyloom.plots import classification as figures
from skyloom.plots import hi_profiles as plots
from skyloom.spectra.hi.lines import line_geometry

BEST = "best of the grid and relabeling"
_N_SHOWN = 6  # configurations in the figures with a panel or a line for each


def score_configurations(
    classes: pd.DataFrame,
    split_manifest: pd.DataFrame,
    network_predictions: pd.DataFrame,
    inner_scores: pd.DataFrame,
    permutations: pd.DataFrame,
    baseline_predictions: pd.DataFrame,
    reporting: ReportingParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Score the nested procedure, every configuration and the baselines on the same galaxies.

    Returns
    -------
    success_rates, predictions, selection : pandas.DataFrame
        From `skyloom.learning.results.score_comparison`.
    """
    measure = classification_of(split_manifest)
    return score_comparison(
        network_predictions,
        inner_scores,
        permutations,
        baseline_predictions,
        measure=measure,
        score=scorer(baseline_predictions, A_FLUX_BASELINE, measure, reporting.seed),
        label_source=classes["label_source"].iloc[0],
    )


def summarise_audit(
    audit_fits: pd.DataFrame, audit_null: pd.DataFrame, classes: pd.DataFrame
) -> tuple[pd.DataFrame, str]:
    """How much of a published-style success rate comes from its protocol alone.

    Returns
    -------
    audit_summary : pandas.DataFrame
        One row a kind of training labels and a choice: ``labels``, ``choice``, ``success_rate``,
        median, 5th and 95th percentile of the same on shuffled classes, and ``p_value``, where
        there are shuffles.
    audit_sentences : str
        In words; empty without an audit.
    """
    table = _beside_shuffles(audit_fits, audit_null)
    if audit_fits.empty:
        return table, ""
    n_classes = classes.loc[classes["used"], "class"].nunique()
    sentences = []
    last = table[table["choice"] == BEST].set_index("labels")
    for kind in ("random", "true"):
        row = last.loc[kind]
        if not np.isfinite(row["success_rate"]) or not np.isfinite(row["shuffled_median"]):
            sentences.append(f"With {AUDIT_LABELS[kind]} every fit named one class only.")
            continue
        above, alone = row[["success_rate", "shuffled_median"]] - 1 / n_classes
        n_fits = (audit_fits["labels"] == kind).sum()
        sentences.append(
            f"With {AUDIT_LABELS[kind]}, the published protocol gives {row['success_rate']:.3f} "
            f"as the best of {n_fits} fits; on classes shuffled at random "
            f"the same fits give {row['shuffled_median']:.3f} (5-95 %: {row['shuffled_low']:.3f} "
            f"to {row['shuffled_high']:.3f}). Of the {above:+.3f} above one in {n_classes}, "
            f"{alone:+.3f} come from the protocol alone (p = {row['p_value']:.3f})."
        )
    return table, " ".join(sentences)


def _beside_shuffles(fits, null):
    """What can be chosen of a grid of fits, beside the same on shuffled classes."""

    def best(kind, rates, relabeled):
        rate = float(best_of(rates.to_numpy()))
        chosen = null[(null["labels"] == kind) & (null["relabeled"] == relabeled)]
        shuffled = chosen["best"].dropna().to_numpy()
        if not len(shuffled):
            return (rate,)
        low, median, high = np.percentile(shuffled, [5, 50, 95])
        return rate, median, low, high, procedure_p_value(rate, shuffled)

    rows = []
    for kind, part in fits.groupby("labels", sort=False):
        plain, relabeled = part["success_rate"], part["relabeled_success_rate"]
        rows += [
            (kind, "mean of the grid, no choice", plain.mean()),
            (kind, "mean of the grid, best relabeling", relabeled.mean()),
            (kind, "best of the grid", *best(kind, plain, False)),
            (kind, BEST, *best(kind, relabeled, True)),
            (kind, "the winner, fitted again", part["refitted"].dropna().mean()),
        ]
    ends = ("shuffled_median", "shuffled_low", "shuffled_high", "p_value")
    columns = ["labels", "choice", "success_rate", *ends]
    rows = [row + (np.nan,) * (len(columns) - len(row)) for row in rows]
    return pd.DataFrame(rows, columns=columns)


def write_audit_workbooks(
    profiles: pd.DataFrame, audit_predictions: pd.DataFrame
) -> dict[str, dict[str, pd.DataFrame]]:
    """Excel files of the published protocol, under their published names.

    Returns
    -------
    dict of str to dict of str to pandas.DataFrame
        From `skyloom.evaluation.audit.published_workbooks`.
    """
    return published_workbooks(audit_predictions, profiles[["id", "file", "object"]])


def write_workbooks(
    profiles: pd.DataFrame, predictions: pd.DataFrame, asymmetry: pd.DataFrame
) -> dict[str, dict[str, pd.DataFrame]]:
    """One workbook a configuration: predictions, and their merge with labels and indices.

    Returns
    -------
    dict of str to dict of str to pandas.DataFrame
        Sheets ``predictions`` (file, id, class, probabilities, fold), ``merged`` and
        ``confusion`` by configuration.
    """
    about = profiles[["id", "number", "object", "snr", "class_value", "label_source"]]
    return workbooks_of(predictions, profiles[["id", "file"]], about.merge(asymmetry, on="id"))


def model_info(
    profiles: pd.DataFrame,
    rejected: pd.DataFrame,
    classes: pd.DataFrame,
    split_manifest: pd.DataFrame,
    augmentation_manifest: pd.DataFrame,
    sweep: Sweep,
    outcome: dict[str, Any],
    permutations: pd.DataFrame,
) -> dict[str, str]:
    """The model info sheet: data, split, leakage checks, selection, metrics, known limits.

    Returns
    -------
    dict of str to str
    """
    used = classes[classes["used"]]
    counts = used["class_value"].astype(int).value_counts().sort_index().to_dict()
    source = classes["label_source"].iloc[0]
    axes = profiles["axis"].value_counts().to_dict()
    circular = (
        " The classes come from the measured A_flux itself: success says how well the network "
        "recovers A_flux, and the A_flux baseline is not independent."
        if source == "measured A_flux"
        else ""
    )
    search = sweep.parameters.search
    extent = (
        f"{len(sweep.configurations)} configurations in a grid"
        if search is None
        else f"{search.n_trials} configurations searched in each outer fold"
    )
    pretraining = (
        " Pre-trained networks saw simulated profiles only, drawn as the simulated sample is; on "
        "real spectra their gain depends on how alike the two are."
        if sweep.pretrained
        else ""
    )
    seeds = sorted(int(seed) for seed in split_manifest["seed"].unique())
    n_copies, n_copied = len(augmentation_manifest), augmentation_manifest["id"].nunique()
    failed = f" {len(outcome['failed'])} failed or were pruned." if outcome["failed"] else ""
    return {
        "Data": f"{len(profiles)} spectra accepted, {len(rejected)} rejected; axis: {axes}. "
        f"Fingerprint {data_fingerprint(profiles)[:16]}.",
        "Labels": f"{source}; galaxies by class: {counts}; {len(classes) - len(used)} accepted "
        f"galaxies without a usable class or fit.{circular}",
        "Split": f"{split_manifest['fold'].nunique()} outer folds that report, "
        f"{split_manifest['inner'].nunique()} inner folds that stop the training and select, seeds "
        f"{seeds}; stratified by class, grouped by galaxy; made before augmentation and training, "
        "and written down.",
        "Leakage checks": "No galaxy on two sides of a split; identical files (SHA-256) are one "
        "galaxy; every galaxy tested once a seed; a copy is made from one galaxy and trained on "
        f"only where that galaxy is ({n_copies} copies of {n_copied} galaxies); "
        "scalers and baselines are fitted on training folds only." + pretraining,
        "Selection": f"{extent}.{failed} The first row selects one anew in each outer fold by the "
        "balanced accuracy of the inner folds. The other rows select nothing; taking the best of "
        "them afterwards is optimistic.",
        "Network": "published layers, on the ring image or along its radius; the prediction for a "
        "test galaxy is the mean probability of the networks of its inner folds.",
        "Metrics": "Success rate over galaxies never trained on, 95 % Wilson interval; chance "
        "level is the share of the largest class; balanced accuracy is compared with one over the "
        "number of classes. The p-value of the first row is "
        + (
            f"from {len(permutations)} reruns of the whole procedure, selection included, on "
            "shuffled classes"
            if len(permutations)
            else "of its predictions alone, for no shuffles were asked for"
        )
        + "; the others permute classes within folds with predictions fixed, which neglects that "
        "folds share training objects.",
        "Known limits": "Noise is taken as independent between channels. A busy function cannot "
        "describe every line; such lines keep their edges but are marked. Intervals are for "
        "galaxies like these, not for other samples or noise levels.",
    }


def explain_predictions(
    profiles: pd.DataFrame,
    profile_flux: np.ndarray,
    fits: pd.DataFrame,
    classes: pd.DataFrame,
    classifier: Any,
    classifier_description: dict[str, Any],
) -> pd.DataFrame:
    """What the final network looks at, galaxy by galaxy.

    Returns
    -------
    pandas.DataFrame
        ``id``, ``predicted``, ``probability``, ``low`` and ``high`` (distances from the
        mid-velocity, km/s) and ``importance``, see
        `skyloom.pipelines.hi_profiles.explanation.explain_lines`; for galaxies in use.
    """
    columns = ["id", "predicted", "probability", "low", "high", "importance"]
    if not classifier_description["trained"]:
        return pd.DataFrame(columns=columns)
    configuration = Configuration.model_validate(classifier_description["configuration"])
    rows = np.flatnonzero(classes["used"])
    parts = []
    for start in range(0, len(rows), 512):
        chosen = rows[start : start + 512]  # images of a large sample would not fit into memory
        line = line_geometry(profiles, profile_flux, fits, chosen)
        table = explain_lines(line, classifier, configuration)
        table.insert(0, "id", profiles["id"].to_numpy()[chosen][table.pop("row")])
        parts.append(table)
    return pd.concat(parts, ignore_index=True)[columns]


def write_report(
    profiles: pd.DataFrame,
    profile_flux: np.ndarray,
    fits: pd.DataFrame,
    images: dict[str, Callable[[], np.ndarray]],
    asymmetry: pd.DataFrame,
    rejected: pd.DataFrame,
    classes: pd.DataFrame,
    success_rates: pd.DataFrame,
    predictions: pd.DataFrame,
    learning_curves: pd.DataFrame,
    selection: pd.DataFrame,
    permutations: pd.DataFrame,
    audit_fits: pd.DataFrame,
    audit_null: pd.DataFrame,
    audit_summary: pd.DataFrame,
    audit_sentences: str,
    outcome: dict[str, Any],
    explanations: pd.DataFrame,
    model_info: dict[str, str],
    reporting: ReportingParameters,
) -> dict[str, Any]:
    """Draw the figures and write the self-contained report and the table for the terminal.

    Returns
    -------
    dict
        The figures by name; ``report`` (HTML with everything embedded) and ``summary`` (the table
        of results as text).
    """
    names = class_names(classes, reporting.class_names)
    measure = classification(len(names))
    nested = predictions[predictions["kind"] == "nested"]
    n_shown = reporting.n_sample_images
    panels = _score_panels(success_rates, predictions, learning_curves, names) | {
        "sample_images_figure": Panel(
            "Examples of the network's input (model 2) with true and predicted class",
            _examples(profiles, images, nested, names, n_shown),
        ),
        "a_flux_figure": Panel(
            "Distribution of A_flux",
            plots.a_flux_figure(
                np.exp(asymmetry["ln_flux_ratio"].abs()).to_numpy(),
                asymmetry["a_flux_error"].to_numpy(),
            ),
        ),
        "audit_figure": Panel(
            "The published protocol on true and on shuffled classes",
            figures.audit_figure(audit_fits, audit_null, AUDIT_LABELS, len(names)),
        ),
        "permutation_figure": Panel(
            "The whole procedure on shuffled classes",
            figures.permutation_figure(
                nested_statistic(nested, measure) if len(nested) else np.nan,
                permutations[measure.name].to_numpy(),
                len(names),
            ),
        ),
        "explanations_figure": Panel(
            "What the final network looks at",
            _explanations_figure(
                profiles, profile_flux, fits, classes, explanations, names, n_shown
            ),
        ),
    }
    report = render_report(
        Path(__file__).parent / "report.html.jinja",
        panels,
        scores=success_rates,
        measure=measure,
        names=names,
        reference="A_flux baseline",
        rejected=rejected,
        unused=classes[~classes["used"]],
        info=model_info,
        selection=selection,
        failed=outcome["failed"],
        audit=audit_summary,
        audit_labels=AUDIT_LABELS,
        audit_sentences=audit_sentences,
    )
    head = f"{len(profiles)} spectra accepted, {len(rejected)} rejected"
    words = f"Audit. {audit_sentences}" if audit_sentences else ""
    summary = summary_text(success_rates, measure, head, "galaxies", A_FLUX_BASELINE, words)
    drawn = {name: panel.figure for name, panel in panels.items()}
    return drawn | {"report": report, "summary": summary}


def _score_panels(scores, predictions, curves, names):
    """Figures of the networks with the highest inner scores, and of the baselines."""
    networks = scores[scores["kind"] == "network"]
    if len(networks):
        networks = networks.sort_values("inner_score", ascending=False, kind="stable")
    best = networks["configuration"].tolist()[:_N_SHOWN]
    return figures.class_panels(
        scores, None, predictions, curves, names,
        objects="galaxies", shown=[NESTED, *best], hidden=(MAJORITY_BASELINE,),
    )  # fmt: skip


def _examples(profiles, images, predictions, names, n):
    """Grid of test galaxies, classes in turn."""
    rows, titles = figures.choose_examples(predictions, profiles["id"], names, n)
    pictures = next(iter(images.values()))() if len(rows) else np.zeros((0, 3, 1, 1, 1))
    return figures.sample_images_figure(
        np.asarray(pictures[rows, 1]), titles, lambda axis, image: plots.show_image(axis, image, 2)
    )


def _explanations_figure(profiles, flux, fits, classes, explanations, names, n):
    """Profiles of some galaxies, predicted classes in turn, shaded by what counted."""
    if explanations.empty:
        return plots.explanations_figure([], [])
    objects = explanations.drop_duplicates("id")
    turn = objects.groupby("predicted").cumcount()
    chosen = objects.assign(turn=turn).sort_values(["turn", "predicted"]).head(n)
    rows = pd.Series(np.arange(len(profiles)), index=profiles["id"]).loc[chosen["id"]].to_numpy()
    truth = classes["class"].to_numpy()[rows]
    lines = [line_geometry(profiles, flux, fits, [row]) for row in rows]
    panels = [
        (
            f"{row['id']}: {names[row['predicted']]} ({row['probability']:.2f})",
            "no label" if pd.isna(label) else f"label: {names[int(label)]}",
            explanations[explanations["id"] == row["id"]],
        )
        for (_, row), label in zip(chosen.iterrows(), truth, strict=True)
    ]
    return plots.explanations_figure(lines, panels)


def describe_runs(
    profiles: pd.DataFrame,
    split_manifest: pd.DataFrame,
    success_rates: pd.DataFrame,
    predictions: pd.DataFrame,
    inner_scores: pd.DataFrame,
    learning_curves: pd.DataFrame,
    sweep: Sweep,
    outcome: dict[str, Any],
    audit_summary: pd.DataFrame,
    summary: str,
) -> dict[str, Any]:
    """What MLflow is told: the run, and a child for each configuration and baseline.

    Returns
    -------
    dict
        From `skyloom.learning.runs.describe_run`.
    """
    measure = classification_of(split_manifest)
    best = audit_summary[audit_summary["choice"] == BEST]
    return describe_run(
        "hi_profiles",
        sweep,
        profiles,
        split_manifest,
        measure,
        success_rates,
        predictions,
        summary=summary,
        params={
            f"audit_best_{row.labels}": round(row.success_rate, 4) for row in best.itertuples()
        },
        children=describe_children(
            Configuration, measure, success_rates, inner_scores, learning_curves, outcome
        ),
    )
