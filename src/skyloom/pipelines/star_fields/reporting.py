"""Node functions of the reporting: networks beside classical finders, figures, report, MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skyloom.evaluation.detection import ranked, with_thresholds
from skyloom.evaluation.report import Panel, data_fingerprint, render_report, summary_text
from skyloom.images.stars import USUAL_FWHM, measure_shapes
from skyloom.learning.results import NESTED, file_name, score_comparison, scorer
from skyloom.learning.runs import describe_children, describe_run
from skyloom.pipelines.star_fields.features import stars_of_tiles
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

KINDS = (
    "at the edge",
    "in the halo of a bright star",
    "beside a star below the limit",
    "sharper than a star: particle or bad pixel",
    "long: trail, scratch or blend",
    "wider than a star: galaxy or nebula",
    "like a star that no catalogue has",
)
"""What a detection may be that is no star of the catalogue."""
_BRIGHT = 100.0  # S/N of stars with a halo
_N_SHOWN = 6
_AROUND = 20.0  # pixels, of what counts as crowding
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
    predictions: pd.DataFrame,
    sample: pd.DataFrame,
    fields: pd.DataFrame,
    stars: pd.DataFrame,
    pixels: np.ndarray,
    ingestion: IngestionParameters,
) -> pd.DataFrame:
    """What is named and no star of the catalogue, sorted by what it may be.

    Returns
    -------
    pandas.DataFrame
        ``configuration``, ``kind`` (of `KINDS`), ``number`` (mean over the seeds) and
        ``per_square_degree``.
    """
    wrong = predictions[~predictions["star"].astype(bool) & predictions["named"].astype(bool)]
    columns = ["configuration", "kind", "number", "per_square_degree"]
    if wrong.empty:
        return pd.DataFrame(columns=columns)
    tiles, about = sample.set_index("id"), fields.set_index("id")
    row_of = pd.Series(np.arange(len(sample)), index=sample["id"])
    known = stars_of_tiles(sample, stars, ingestion.tile)
    kinds = []
    for name, part in wrong.groupby("id"):
        row, fwhm = row_of[name], about.loc[tiles.loc[name, "field"], "fwhm"]
        fwhm = fwhm if np.isfinite(fwhm) else USUAL_FWHM
        kinds.append(sort_by_kind(part, pixels[row], known[row], fwhm, ingestion))
    tested = predictions["id"].unique()
    scale = tiles.loc[tested, "field"].map(about["pixel_scale"]).fillna(0.0) / 3600
    observed = np.isfinite(pixels[row_of[tested].to_numpy()]).sum(axis=(1, 2))
    area = float((observed * scale**2).sum())
    counts = wrong.assign(kind=pd.concat(kinds)).groupby(["configuration", "kind"], sort=False)
    table = (counts.size() / predictions["seed"].nunique()).rename("number").reset_index()
    table["per_square_degree"] = table["number"] / area if area else np.nan
    return table[columns]


def sort_by_kind(
    detections: pd.DataFrame,
    tile: np.ndarray,
    stars: np.ndarray,
    fwhm: float,
    ingestion: IngestionParameters,
) -> pd.Series:
    """What detections may be that are no star of the catalogue.

    Parameters
    ----------
    detections : pandas.DataFrame
        ``x`` and ``y``, pixels of the tile.
    tile : numpy.ndarray, shape (size, size)
        In units of the noise; NaN where nothing was observed.
    stars : numpy.ndarray, shape (k, 4)
        `skyloom.evaluation.detection.STAR_COLUMNS`.
    fwhm : float
        Of a star, pixels.
    ingestion : IngestionParameters
        ``star_fields.ingestion``.

    Returns
    -------
    pandas.Series of str
        Of `KINDS`, the first one that holds.
    """
    from scipy.spatial import KDTree

    places = detections[["x", "y"]].to_numpy(float)
    shapes = measure_shapes(np.nan_to_num(tile), detections, fwhm)
    width, elongation = shapes["width"].to_numpy(), shapes["elongation"].to_numpy()

    def near(chosen, reach):
        if not chosen.any():
            return np.zeros(len(places), bool)
        return KDTree(stars[chosen][:, :2]).query(places)[0] < reach

    snr = stars[:, 2]
    edge = 2 * fwhm
    holds = (
        (places < edge).any(axis=1) | (places > len(tile) - 1 - edge).any(axis=1),
        near(snr > _BRIGHT, 8 * fwhm),
        near((snr > ingestion.doubtful) & (snr <= ingestion.limit), 2 * fwhm),
        width < 0.7 * fwhm,
        elongation > 1.6,
        width > 1.4 * fwhm,
    )
    return pd.Series(np.select(holds, KINDS[:-1], KINDS[-1]), index=detections.index)


def write_workbooks(
    predictions: pd.DataFrame,
    sample: pd.DataFrame,
    fields: pd.DataFrame,
    false_detections: pd.DataFrame,
) -> dict[str, dict[str, pd.DataFrame]]:
    """One workbook a configuration.

    Returns
    -------
    dict of str to dict of str to pandas.DataFrame
        Sheets ``stars`` (stars and detections of the first seed, in pixels of their field),
        ``fields`` (what was measured of each, with its mean number of stars, detections and right
        ones) and ``false detections``, by configuration.
    """
    workbooks = {}
    for name, part in predictions.groupby("configuration", sort=False):
        table = part.merge(sample[["id", "field", "x0", "y0"]], on="id")
        table["x"], table["y"] = table["x"] + table["x0"], table["y"] + table["y0"]
        right = table["star"].astype(bool) & table["named"].astype(bool)
        sums = table.assign(right=right).groupby(["field", "seed"])[["star", "named", "right"]]
        means = sums.sum().groupby("field").mean()
        means["completeness"] = means["right"] / means["star"].where(means["star"] > 0)
        means["purity"] = means["right"] / means["named"].where(means["named"] > 0)
        own = false_detections[false_detections["configuration"] == name]
        workbooks[f"{file_name(name)}.xlsx"] = {
            "stars": table[table["seed"] == table["seed"].min()].drop(columns=["x0", "y0"]),
            "fields": means.reset_index().merge(fields, left_on="field", right_on="id"),
            "false detections": own,
        }
    return workbooks


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
        "Metrics": "One-to-one matches within a radius; F1 with a 95 % interval over fields. "
        "Scores are probabilities of a star, calibrated on other fields.",
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
    simulation_gap: pd.DataFrame,
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
            "Completeness and purity against S/N, magnitude and crowding",
            plots.completeness_figure(with_crowding(predictions, ingestion.tile), shown),
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
        simulation_gap=simulation_gap,
    )  # fmt: skip
    summary = summary_text(success_rates, measure, head, "fields", REFERENCE)
    figures = {name: panel.figure for name, panel in panels.items()}
    return figures | {"report": report, "summary": summary}


def with_crowding(predictions: pd.DataFrame, tile: int) -> pd.DataFrame:
    """Predictions with the density of stars about each of them.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``configuration``, ``seed``, ``id``, ``star``, ``x``, ``y``.
    tile : int
        Pixels on a side.

    Returns
    -------
    pandas.DataFrame
        With ``crowding``: stars that must be found in 1000 pixels, within 20 pixels of the place
        and in the tile.
    """
    from scipy.spatial import KDTree

    parts = []
    for _, part in predictions.groupby(["configuration", "seed", "id"], sort=False):
        places = part[["x", "y"]].to_numpy(float)
        star = part["star"].to_numpy(bool)
        number = np.zeros(len(part))
        if star.any():
            number = KDTree(places[star]).query_ball_point(places, _AROUND, return_length=True)
        # The part of the circle that is in the tile, about.
        low, high = np.clip(places - _AROUND, 0, tile), np.clip(places + _AROUND, 0, tile)
        share = (high - low).prod(axis=1) / (2 * _AROUND) ** 2
        area = np.pi * _AROUND**2 * np.maximum(share, 0.1)
        parts.append(part.assign(crowding=1000 * (number - star) / area))
    return pd.concat(parts) if parts else predictions.assign(crowding=np.nan)


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
