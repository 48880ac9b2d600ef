"""Node functions of the reporting: scores beside chance and baselines, figures, report, MLflow."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import skyloom
from skyloom.evaluation.baselines import cross_predict, logistic_regression, majority
from skyloom.evaluation.scores import confusion_table, paired_difference, score_predictions
from skyloom.pipelines.hi_profiles.parameters import (
    AugmentationParameters,
    FeatureParameters,
    ReportingParameters,
    TrainingParameters,
)
from skyloom.plots import classification
from skyloom.plots import hi_profiles as plots

# MLflow cuts names to ten characters in its plots: they differ before that.
A_FLUX_BASELINE = "A_flux, logistic regression"
ALL_INDICES_BASELINE = "all indices and S/N, logistic regression"
MAJORITY_BASELINE = "majority class"


def baseline_features(
    profiles: pd.DataFrame, fits: pd.DataFrame, asymmetry: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features of the two logistic regressions.

    Parameters
    ----------
    profiles, fits, asymmetry : pandas.DataFrame
        Tables of the accepted galaxies.

    Returns
    -------
    a_flux, indices : pandas.DataFrame
        Indexed by ``id``: A_flux alone; and all asymmetry indices with the S/N. Ratios are
        logarithms, the velocity of equality is its distance from V_m in units of W20.
    """
    offset = (asymmetry["equality_velocity"] - asymmetry["mid_velocity"]).abs()
    indices = pd.DataFrame(
        {
            "a_flux": np.log(asymmetry["a_flux"]),
            "lopsidedness": asymmetry["lopsidedness"],
            "channel_asymmetry": asymmetry["channel_asymmetry"],
            "a_f": np.log(asymmetry["a_f"]),
            "a_c": np.log(asymmetry["a_c"]),
            "c_v": asymmetry["c_v"],
            "equality_offset": offset / fits["w20"],
            "snr": np.log(profiles["snr"]),
        }
    )
    indices.index = pd.Index(profiles["id"], name="id")
    return indices[["a_flux"]], indices


def score_configurations(
    profiles: pd.DataFrame,
    fits: pd.DataFrame,
    asymmetry: pd.DataFrame,
    classes: pd.DataFrame,
    manifest: pd.DataFrame,
    predictions: pd.DataFrame,
    parameters: ReportingParameters,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score the networks and the baselines on the same unseen galaxies.

    Parameters
    ----------
    profiles, fits, asymmetry, classes, manifest, predictions : pandas.DataFrame
        Tables of the earlier stages.
    parameters : ReportingParameters
        ``hi_profiles.reporting``.

    Returns
    -------
    scores : pandas.DataFrame
        One row a configuration: ``configuration``, ``kind`` (network or baseline), the scores of
        `skyloom.evaluation.scores.score_predictions`, the paired difference of the success rate
        to the A_flux baseline with its 95 % interval, and ``label_source``.
    all_predictions : pandas.DataFrame
        Of networks and baselines, with ``kind``.
    """
    if manifest.empty:
        return pd.DataFrame(columns=["configuration", "kind"]), predictions.assign(kind=[])
    n_classes = int(manifest["class"].max()) + 1
    a_flux, indices = baseline_features(profiles, fits, asymmetry)
    tables = {
        name: cross_predict(classifier, features, manifest, n_classes)
        for name, classifier, features in (
            (A_FLUX_BASELINE, logistic_regression(), a_flux),
            (ALL_INDICES_BASELINE, logistic_regression(), indices),
            (MAJORITY_BASELINE, majority(), a_flux),
        )
    }
    networks = {
        name: part.drop(columns="configuration")
        for name, part in predictions.groupby("configuration", sort=False)
    }
    rows, parts = [], []
    source = classes["label_source"].iloc[0]
    for kind, group in (("network", networks), ("baseline", tables)):
        for name, table in group.items():
            rng = np.random.default_rng(parameters.seed)
            scores = score_predictions(table, n_classes, rng)
            names = ("minus_a_flux", "minus_a_flux_low", "minus_a_flux_high")
            difference = dict(
                zip(names, paired_difference(table, tables[A_FLUX_BASELINE], rng), strict=True)
            )
            rows.append(
                {
                    "configuration": name,
                    "kind": kind,
                    **scores,
                    **difference,
                    "label_source": source,
                }
            )
            parts.append(table.assign(configuration=name, kind=kind))
    return pd.DataFrame(rows), pd.concat(parts, ignore_index=True)


def write_workbooks(
    profiles: pd.DataFrame, predictions: pd.DataFrame, asymmetry: pd.DataFrame
) -> dict[str, dict[str, pd.DataFrame]]:
    """One workbook a configuration: predictions, and their merge with labels and indices.

    Parameters
    ----------
    profiles, predictions, asymmetry : pandas.DataFrame
        Tables of the earlier stages.

    Returns
    -------
    dict of str to dict of str to pandas.DataFrame
        Sheets ``predictions`` (file, id, class, probabilities, fold), ``merged`` and
        ``confusion`` by configuration.
    """
    workbooks = {}
    for name, part in predictions.groupby("configuration", sort=False):
        files = profiles[["id", "file"]]
        table = files.merge(part.drop(columns=["kind", "configuration"]), on="id", how="inner")
        about = profiles[["id", "number", "object", "snr", "class_value", "label_source"]]
        n_classes = sum(column.startswith("probability_") for column in part.columns)
        workbooks[f"{_file_name(name)}.xlsx"] = {
            "predictions": table,
            "merged": table.merge(about, on="id").merge(asymmetry, on="id"),
            "confusion": confusion_table(part, n_classes),
        }
    return workbooks


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def model_info(
    profiles: pd.DataFrame,
    rejected: pd.DataFrame,
    classes: pd.DataFrame,
    manifest: pd.DataFrame,
    copies: pd.DataFrame,
    features: FeatureParameters,
    training: TrainingParameters,
    augmentation: AugmentationParameters,
) -> dict[str, str]:
    """The model info sheet: data, split, leakage checks, selection, metrics, known limits.

    Parameters
    ----------
    profiles, rejected, classes, manifest, copies : pandas.DataFrame
        Tables of the earlier stages.
    features, training, augmentation
        Parameters of the stages.

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
    return {
        "Data": f"{len(profiles)} spectra accepted, {len(rejected)} rejected; axis: {axes}. "
        f"Fingerprint {data_fingerprint(profiles)[:16]}.",
        "Labels": f"{source}; galaxies by class: {counts}; {len(classes) - len(used)} accepted "
        f"galaxies without a usable class or fit.{circular}",
        "Split": f"{manifest['fold'].nunique()} folds, seeds {list(augmentation.seeds)}, "
        "stratified by class, grouped by galaxy; made before augmentation and training, and "
        "written down.",
        "Leakage checks": "No galaxy on two sides of a split; identical files (SHA-256) are one "
        "galaxy; every galaxy tested once a seed; only training profiles are augmented "
        f"({len(copies)} images from {copies['id'].nunique()} galaxies); scalers and baselines are "
        "fitted on training folds only.",
        "Selection": f"None: {len(training.configurations)} configurations are reported, none is "
        "chosen by its success rate. Picking the best of the table afterwards is optimistic.",
        "Network": f"ring CNN, {features.size} x {features.size} pixels, {features.rendering} "
        f"rendering{', one quadrant' if features.quadrant else ''}, padding {training.padding}, "
        f"at most {training.epochs} epochs, "
        + (
            f"best validation epoch (patience {training.patience})."
            if training.patience
            else "last epoch."
        ),
        "Metrics": "Success rate over galaxies never trained on, 95 % Wilson interval; chance "
        "level is the share of the largest class; balanced accuracy is compared with one over the "
        "number of classes; the p-value permutes classes within folds, for each configuration "
        "alone.",
        "Known limits": "Noise is taken as independent between channels. A busy function cannot "
        "describe every line; such lines keep their edges but are marked. Intervals are for "
        "galaxies like these, not for other samples or noise levels.",
    }


def data_fingerprint(profiles: pd.DataFrame) -> str:
    """SHA-256 of the accepted ids and file hashes, whatever their order."""
    lines = sorted(profiles["id"] + " " + profiles["sha256"])
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_report(
    profiles: pd.DataFrame,
    images: np.ndarray,
    asymmetry: pd.DataFrame,
    rejected: pd.DataFrame,
    classes: pd.DataFrame,
    scores: pd.DataFrame,
    predictions: pd.DataFrame,
    curves: pd.DataFrame,
    info: dict[str, str],
    parameters: ReportingParameters,
) -> tuple[Any, ...]:
    """Draw the figures and write the self-contained report and the table for the terminal.

    Parameters
    ----------
    profiles, images, asymmetry, rejected, classes, scores, predictions, curves
        Results of the earlier stages.
    info : dict of str to str
        Model info sheet.
    parameters : ReportingParameters
        ``hi_profiles.reporting``.

    Returns
    -------
    success_rates, learning_curves, confusion, sample_images, a_flux, reliability : Figure
    report : str
        HTML with everything embedded.
    summary : str
        The result table as text.
    """
    values = classes.loc[classes["used"]].groupby("class")["class_value"].first()
    names = [
        parameters.class_names[v] if v < len(parameters.class_names) else f"class {v}"
        for v in values
    ]
    networks = predictions[predictions["kind"] == "network"]
    matrices = {
        name: confusion_table(part, len(names))
        for name, part in predictions.groupby("configuration", sort=False)
        if name != MAJORITY_BASELINE
    }
    figures = {
        "Success rates": classification.success_rate_figure(scores),
        "Learning curves": classification.learning_curves_figure(curves),
        "Confusion matrices, normalised by true class": classification.confusion_figure(
            matrices, names
        ),
        "Examples of the network's input (model 2) with true and predicted class": _examples(
            profiles, images, networks, names, parameters.n_sample_images
        ),
        "Distribution of A_flux": plots.a_flux_figure(
            np.exp(asymmetry["ln_flux_ratio"].abs()).to_numpy(),
            asymmetry["a_flux_error"].to_numpy(),
        ),
        "Reliability of the networks' probabilities": classification.reliability_figure(networks),
    }
    summary = summary_text(scores, len(profiles), len(rejected))
    report = _render(
        figures=figures,
        scores=scores,
        rejected=rejected,
        unused=classes[~classes["used"]],
        info=info,
        names=names,
    )
    return (*figures.values(), report, summary)


def _examples(profiles, images, predictions, names, n):
    """Grid of test galaxies of the first configuration, classes in turn."""
    if predictions.empty:
        return classification.sample_images_figure(images[:0, 0], [], plots.show_image)
    first = predictions[predictions["configuration"] == predictions["configuration"].iloc[0]]
    first = first[first["seed"] == first["seed"].iloc[0]]
    turn = first.groupby("class").cumcount()
    chosen = first.assign(turn=turn).sort_values(["turn", "class"]).head(n)
    rows = pd.Series(np.arange(len(profiles)), index=profiles["id"]).loc[chosen["id"]].to_numpy()
    titles = [
        (
            f"{row['id']}\ntrue: {names[row['class']]}\nis: {names[row['predicted']]}",
            row["class"] == row["predicted"],
        )
        for _, row in chosen.iterrows()
    ]
    return classification.sample_images_figure(
        np.asarray(images[rows, 1]), titles, lambda axis, image: plots.show_image(axis, image, 2)
    )


def summary_text(scores: pd.DataFrame, n_accepted: int, n_rejected: int) -> str:
    """The result table as it ends a run in the terminal.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `score_configurations`.
    n_accepted, n_rejected : int
        Spectra.

    Returns
    -------
    str
    """
    head = f"{n_accepted} spectra accepted, {n_rejected} rejected"
    if scores.empty:
        return f"{head}; too few labelled galaxies to train and test a network\n"
    first = scores.iloc[0]
    a_flux = scores.loc[scores["configuration"] == A_FLUX_BASELINE, "success_rate"].iloc[0]
    width = max(len(name) for name in scores["configuration"])
    lines = [
        f"{head}; {first['n_objects']} galaxies tested, classes from: {first['label_source']}",
        "",
        f"{'configuration':<{width}}  success rate (95 %)    chance  A_flux baseline  "
        "balanced acc.  p-value",
    ]
    lines += [
        f"{row['configuration']:<{width}}  {row['success_rate']:.3f} "
        f"({row['success_low']:.3f}-{row['success_high']:.3f})    {row['chance_level']:.3f}  "
        f"{a_flux:>15.3f}  {row['balanced_accuracy']:>13.3f}  {row['p_value']:>7.4f}"
        for _, row in scores.iterrows()
    ]
    return "\n".join(lines) + "\n"


def _render(**content: Any) -> str:
    from jinja2 import Environment

    template = (Path(__file__).parent / "report.html.jinja").read_text(encoding="utf-8")
    pictures = {}
    for title, figure in content.pop("figures").items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        pictures[title] = base64.b64encode(buffer.getvalue()).decode()
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        pictures=pictures, version=skyloom.__version__, **content
    )


def describe_runs(
    profiles: pd.DataFrame,
    classes: pd.DataFrame,
    manifest: pd.DataFrame,
    scores: pd.DataFrame,
    curves: pd.DataFrame,
    features: FeatureParameters,
    training: TrainingParameters,
    augmentation: AugmentationParameters,
) -> dict[str, Any]:
    """What MLflow is told: the run, and a child for each configuration and baseline.

    Parameters
    ----------
    profiles, classes, manifest, scores, curves : pandas.DataFrame
        Results of the earlier stages.
    features, training, augmentation
        Parameters of the stages.

    Returns
    -------
    dict
        ``tags`` and ``params`` of the parent; ``children``, each with ``name``, ``params``,
        ``metrics`` (the same keys in every child) and ``curves`` (metric name to a list over
        epochs, mean over folds).
    """
    used = classes[classes["used"]]
    shared = {
        "n_objects": len(used),
        "n_classes": int(used["class"].nunique()),
        "n_folds": int(manifest["fold"].nunique()),
        "seeds": list(augmentation.seeds),
        "label_source": classes["label_source"].iloc[0],
        "rendering": features.rendering,
        "size": features.size,
        "quadrant": features.quadrant,
        "n_copies": augmentation.n_copies,
        "epochs": training.epochs,
        "learning_rate": training.learning_rate,
    }
    by_name = {configuration.name: configuration for configuration in training.configurations}
    text = ("configuration", "kind", "label_source")
    children = []
    for _, row in scores.iterrows():
        configuration = by_name.get(row["configuration"])
        own = {
            "configuration": row["configuration"],
            "kind": row["kind"],
            "widths": "-".join(map(str, configuration.widths)) if configuration else "none",
            "image_models": "+".join(map(str, configuration.image_models))
            if configuration
            else "none",
        }
        part = curves[curves["configuration"] == row["configuration"]]
        means = part.groupby("epoch")[["loss", "accuracy", "val_loss", "val_accuracy"]].mean()
        children.append(
            {
                "name": row["configuration"],
                "file": _file_name(row["configuration"]),
                "params": own | shared,
                "metrics": {k: float(v) for k, v in row.items() if k not in text},
                "curves": {f"epoch_{k}": means[k].tolist() for k in means},
            }
        )
    return {
        "name": "hi_profiles",
        "tags": {
            "data_fingerprint": data_fingerprint(profiles),
            "label_source": shared["label_source"],
            "skyloom_version": skyloom.__version__,
        },
        "params": shared,
        "children": children,
    }
