"""Node functions of the reporting: networks beside classical finders, figures, report, MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.detection import ranked, with_thresholds
from skyloom.evaluation.report import Panel, data_fingerprint, render_report, summary_text
from skyloom.learning.results import NESTED, score_comparison, scorer
from skyloom.learning.runs import describe_children, describe_run
from skyloom.pipelines.star_fields.fitting import measure_of
from skyloom.pipelines.star_fields.parameters import (
    Configuration,
    IngestionParameters,
    ReportingParameters,
    Sweep,
)
from skyloom.pipelines.star_fields.training import REFERENCE
from skyloom.plots import classification as class_plots
from skyloom.plots import star_fields as plots

_N_SHOWN = 6
_CUT_OUT = 12  # pixels to each side


def score_configurations(
    network_predictions: pd.DataFrame,
    inner_scores: pd.DataFrame,
    permutations: pd.DataFrame,
    baseline_predictions: pd.DataFrame,
    ingestion: IngestionParameters,
    reporting: ReportingParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Score every configuration and the classical finders on the same fields.

    Returns
    -------
    success_rates, predictions, selection : pandas.DataFrame
        From `skyloom.learning.results.score_comparison`; ``named`` says which stars and which
        detections reach the threshold that was set on other fields.
    """
    measure = measure_of(ingestion)
    scores, predictions, selection = score_comparison(
        network_predictions, inner_scores, permutations, baseline_predictions,
        measure=measure,
        score=scorer(baseline_predictions, REFERENCE, measure, reporting.seed),
        label_source="catalogues",
    )  # fmt: skip
    named = [with_thresholds(part) for _, part in predictions.groupby("configuration", sort=False)]
    return scores, pd.concat(named) if named else predictions.assign(named=False), selection


def sort_false_detections(
    predictions: pd.DataFrame, sample: pd.DataFrame, fields: pd.DataFrame, stars: pd.DataFrame
) -> pd.DataFrame:
    """What is named and no star of the catalogue, sorted by what it may be.

    Returns
    -------
    pandas.DataFrame
        ``configuration``, ``kind`` (``near a bright star``, ``near a doubtful star``,
        ``at the edge``, ``nothing known``), ``number`` (mean over the seeds) and
        ``per_square_degree``.
    """
    wrong = predictions[~predictions["star"].astype(bool) & predictions["named"].astype(bool)]
    columns = ["configuration", "kind", "number", "per_square_degree"]
    if wrong.empty:
        return pd.DataFrame(columns=columns)
    tiles = sample.set_index("id")
    place = wrong.join(tiles[["field", "x0", "y0"]], on="id")
    place["x_field"], place["y_field"] = place["x"] + place["x0"], place["y"] + place["y0"]
    about = fields.set_index("id")
    kinds = []
    for field, part in place.groupby("field"):
        kinds.append(_kinds_of(part, stars[stars["field"] == field], about.loc[field]))
    place["kind"] = pd.concat(kinds)
    n_seeds = predictions["seed"].nunique()
    tested = predictions["id"].unique()
    scale = tiles.loc[tested, "field"].map(about["pixel_scale"]).fillna(0.0) / 3600
    size = float(tiles["x0"].diff().abs().replace(0, np.nan).min() or 0)
    size = size if np.isfinite(size) and size else float(about["height"].min())
    area = float(((size * scale) ** 2).sum())
    counts = place.groupby(["configuration", "kind"], sort=False).size() / n_seeds
    table = counts.rename("number").reset_index()
    table["per_square_degree"] = table["number"] / area if area else np.nan
    return table[columns]


def _kinds_of(detections, stars, field):
    """What false detections of a field may be."""
    from scipy.spatial import KDTree

    places = detections[["x_field", "y_field"]].to_numpy()
    fwhm = field["fwhm"] if np.isfinite(field["fwhm"]) else 3.0
    kind = np.full(len(detections), "nothing known", dtype=object)
    edge = 2 * fwhm
    at_edge = (places < edge).any(axis=1)
    at_edge |= (places > np.array([field["width"], field["height"]]) - 1 - edge).any(axis=1)
    for name, chosen, reach in (
        ("near a doubtful star", stars["snr"] <= 5, 2 * fwhm),
        ("near a bright star", stars["snr"] > 100, 8 * fwhm),
    ):
        known = stars.loc[chosen, ["x", "y"]].to_numpy()
        if len(known):
            apart, _ = KDTree(known).query(places)
            kind[apart < reach] = name
    kind[at_edge] = "at the edge"
    return pd.Series(kind, index=detections.index)


def model_info(
    fields: pd.DataFrame,
    sample: pd.DataFrame,
    rejected: pd.DataFrame,
    split_manifest: pd.DataFrame,
    baseline_settings: pd.DataFrame,
    sweep: Sweep,
    outcome: dict[str, Any],
) -> dict[str, str]:
    """The model info sheet: data, split, leakage checks, selection, metrics, known limits.

    Returns
    -------
    dict of str to str
    """
    usable = fields[fields["usable"]]
    roles = split_manifest.drop_duplicates(["id", "role"])["role"].value_counts().to_dict()
    training, augmentation = sweep.base.training, sweep.base.augmentation
    failed = f" {len(outcome['failed'])} failed or were pruned." if outcome["failed"] else ""
    tuned = "; ".join(
        f"{row.finder}: {row.settings} (F1 {row.f1:.3f} where it was tuned)"
        for row in baseline_settings.drop_duplicates("finder").itertuples()
    )
    excess = usable["excess"].median() if len(usable) else np.nan
    return {
        "Data": f"{len(usable)} fields whose stars are known of {len(fields)} read, {len(sample)} "
        f"tiles; {len(rejected)} files rejected. Fingerprint {data_fingerprint(fields)[:16]}.",
        "Truth": "Catalogues, laid on the images by a measured offset (median "
        f"{np.hypot(usable['dx'], usable['dy']).median():.2f} pixels). Of the stars that must be "
        f"seen, {excess:.0%} more match than of a shifted catalogue. Stars of S/N between the two "
        "limits may be found or not.",
        "Split": f"{augmentation.split}; tiles by role: {roles}; the same for every seed. Tiles "
        "of one field, of fields that overlap and of one plate stay on one side.",
        "Leakage checks": "Background and noise are each tile's own. Made-up tiles are of other "
        "seeds than any sample. Thresholds are set on other fields than those they are used on.",
        "Selection": f"{len(sweep.configurations)} configurations.{failed} The first row selects "
        "one by the F1 of the validation tiles.",
        "Training": f"{training.epochs} times {training.steps_per_epoch} gradient steps of "
        f"{training.batch_size} squares of {training.crop} pixels for every arm.",
        "Classical finders": f"Tuned on the training and validation tiles. {tuned}.",
        "Metrics": "One-to-one matches within a radius; F1 with a 95 % interval over fields.",
        "Known limits": "A catalogue that is not as deep as its image makes right detections "
        "wrong; those fainter than its end do not count.",
    }


def write_report(
    fields: pd.DataFrame,
    sample: pd.DataFrame,
    pixels: np.ndarray,
    rejected: pd.DataFrame,
    success_rates: pd.DataFrame,
    predictions: pd.DataFrame,
    false_detections: pd.DataFrame,
    learning_curves: pd.DataFrame,
    selection: pd.DataFrame,
    outcome: dict[str, Any],
    model_info: dict[str, str],
    ingestion: IngestionParameters,
    reporting: ReportingParameters,
) -> dict[str, Any]:
    """Draw the figures and write the self-contained report and the table for the terminal.

    Returns
    -------
    dict
        The figures by name, ``report`` and ``summary``.
    """
    measure = measure_of(ingestion)
    shown = [name for name in success_rates["configuration"] if name != NESTED][:_N_SHOWN]
    by_name = dict(iter(predictions.groupby("configuration")))
    panels = {
        "f1_figure": Panel("F1 beside classical finders", plots.f1_figure(success_rates)),
        "purity_figure": Panel(
            "Purity against completeness",
            plots.curves_figure({name: ranked(by_name[name]) for name in shown}),
            bool(shown),
        ),
        "completeness_figure": Panel(
            "Completeness against S/N",
            plots.completeness_figure(predictions, shown),
            bool(shown),
        ),
        "overlay_figure": Panel(
            "Known and predicted stars", _overlays(sample, pixels, predictions, reporting),
            bool(shown),
        ),
        "unknown_figure": Panel(
            "The surest detections that no catalogue has",
            _unknown(sample, pixels, predictions),
            bool(shown),
        ),
        "learning_curves_figure": Panel(
            "Learning curves", class_plots.learning_curves_figure(learning_curves),
            not learning_curves.empty,
        ),
    }  # fmt: skip
    head = (
        f"{int(fields['usable'].sum())} fields with known stars of {len(fields)} read, "
        f"{len(rejected)} files rejected"
    )
    unused = fields.loc[~fields["usable"], ["id", "reason"]]
    report = render_report(
        Path(__file__).parent / "report.html.jinja", panels, scores=success_rates, measure=measure,
        reference=REFERENCE, rejected=rejected, unused=unused, info=model_info,
        selection=selection, failed=outcome["failed"], false_detections=false_detections,
    )  # fmt: skip
    summary = summary_text(success_rates, measure, head, "fields", REFERENCE)
    figures = {name: panel.figure for name, panel in panels.items()}
    return figures | {"report": report, "summary": summary}


def _of_first_seed(predictions):
    """Predictions of the best network of all, by the first seed."""
    networks = predictions[predictions["kind"] == "network"]
    if networks.empty:
        return networks
    name = networks["configuration"].iloc[0]
    own = networks[networks["configuration"] == name]
    return own[own["seed"] == own["seed"].min()]


def _overlays(sample, pixels, predictions, reporting):
    own = _of_first_seed(predictions)
    row_of = pd.Series(np.arange(len(sample)), index=sample["id"])
    chosen = list(dict.fromkeys(own["id"]))[: reporting.n_overlays] if len(own) else []
    return plots.overlay_figure(
        [pixels[row_of[name]] for name in chosen],
        [own[own["id"] == name] for name in chosen],
        [str(name) for name in chosen],
    )


def _unknown(sample, pixels, predictions):
    """Cut-outs of what the network is surest of and no catalogue has."""
    own = _of_first_seed(predictions)
    wrong = own[~own["star"].astype(bool)] if len(own) else own
    wrong = wrong.sort_values("score", ascending=False).head(16)
    row_of = pd.Series(np.arange(len(sample)), index=sample["id"])
    cuts, titles = [], []
    for row in wrong.itertuples():
        tile = np.pad(pixels[row_of[row.id]], _CUT_OUT, constant_values=np.nan)
        x, y = round(row.x), round(row.y)
        cuts.append(tile[y : y + 2 * _CUT_OUT + 1, x : x + 2 * _CUT_OUT + 1])
        titles.append(f"{row.id} ({x}, {y})\np = {row.score:.2f}")
    return plots.cut_outs_figure(cuts, titles)


def describe_runs(
    fields: pd.DataFrame,
    split_manifest: pd.DataFrame,
    success_rates: pd.DataFrame,
    predictions: pd.DataFrame,
    inner_scores: pd.DataFrame,
    learning_curves: pd.DataFrame,
    sweep: Sweep,
    outcome: dict[str, Any],
    summary: str,
    ingestion: IngestionParameters,
) -> dict[str, Any]:
    """What MLflow is told."""
    measure = measure_of(ingestion)
    children = describe_children(
        Configuration, measure, success_rates, inner_scores, learning_curves, outcome
    )
    return describe_run(
        "star_fields", sweep, fields, split_manifest, measure, success_rates, predictions,
        summary=summary, params={}, children=children,
    )  # fmt: skip
