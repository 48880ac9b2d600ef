"""Node functions of the training: classical finders, the sweep and the final network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from skyloom import tracking
from skyloom.compute import ClusterParameters
from skyloom.evaluation.detection import (
    STAR_COLUMNS,
    completeness_at_purity,
    detection_table,
    f1_over_fields,
    fit_ranking,
    largest_f1,
)
from skyloom.images.stars import FINDERS, NormalisedImage, measure_fwhm
from skyloom.learning.comparison import Comparison, compare_configurations
from skyloom.learning.final import fit_final, untrained
from skyloom.learning.results import scorer
from skyloom.learning.tasks import ResultStore
from skyloom.pipelines.star_fields.augmentation import made_up_distribution, made_up_tiles
from skyloom.pipelines.star_fields.features import (
    draw_targets,
    filter_tiles,
    light_range,
    prepare_images,
    stars_of_tiles,
)
from skyloom.pipelines.star_fields.fitting import (
    INPUTS,
    build_network,
    fit_network,
    fit_settings,
    fit_task,
    measure_of,
    training_data,
    with_filtered,
)
from skyloom.pipelines.star_fields.parameters import (
    BaselineParameters,
    Configuration,
    IngestionParameters,
    SimulationParameters,
    Sweep,
)

REFERENCE = "SEP, tuned"
_FEWEST = 6  # made-up tiles, of which one sets the threshold and one is tested
FINDER_NAMES = {"SEP": REFERENCE, "DAO": "DAOFIND, tuned", "IRAF": "IRAF starfind, tuned"}


def fit_baselines(
    sample: pd.DataFrame,
    stars: pd.DataFrame,
    pixels: np.ndarray,
    split_manifest: pd.DataFrame,
    ingestion: IngestionParameters,
    baselines: BaselineParameters,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Classical finders, tuned on the training and validation tiles of each fold.

    Returns
    -------
    predictions : pandas.DataFrame
        ``configuration``, ``seed``, ``fold``, ``id`` and the columns of the measure's table.
    settings : pandas.DataFrame
        ``fold``, ``finder``, ``f1`` on the tiles it was tuned on, and ``settings`` as JSON.
    """
    truth = stars_of_tiles(sample, stars, ingestion.tile)
    row_of = pd.Series(np.arange(len(sample)), index=sample["id"])
    tables, chosen = [], []
    split = split_manifest[split_manifest["inner"] == 0]
    for fold, part in split.groupby("fold"):
        once = part[part["seed"] == part["seed"].iloc[0]]
        seen, tested = (
            row_of[once.loc[once["role"].isin(roles), "id"]].to_numpy()
            for roles in (("train", "validation"), ("test",))
        )
        for finder in FINDERS:
            best = tune_finder(
                finder, pixels[seen], truth[seen], ingestion,
                np.random.default_rng([baselines.seed, int(fold)]), baselines.n_trials,
            )  # fmt: skip
            settings = best.pop("settings")
            chosen.append({"fold": fold, "finder": finder, **best, "settings": str(settings)})
            for row in tested:
                table = find_and_match(finder, settings, pixels[row], truth[row], ingestion)
                about = {"configuration": FINDER_NAMES[finder], "fold": fold}
                table = table.assign(**about, id=sample["id"].iloc[row])
                tables += [table.assign(seed=seed) for seed in sorted(part["seed"].unique())]
    columns = ["configuration", "seed", "fold", "id", *measure_of(ingestion).table_columns]
    found = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    return found[columns], pd.DataFrame(chosen, columns=["fold", "finder", "f1", "settings"])


def tune_finder(
    finder: str,
    pixels: np.ndarray,
    truth: np.ndarray,
    ingestion: IngestionParameters,
    rng: np.random.Generator,
    n_trials: int,
) -> dict[str, Any]:
    """Search the settings of a classical finder at random.

    Parameters
    ----------
    finder : str
        Of `skyloom.images.stars.FINDERS`.
    pixels : numpy.ndarray, shape (n, height, width)
        Tiles in units of the noise; NaN where nothing was observed.
    truth : numpy.ndarray of object, shape (n,)
        Their stars.
    ingestion : IngestionParameters
        ``star_fields.ingestion``.
    rng : numpy.random.Generator
        Of the search.
    n_trials : int
        How many settings are tried.

    Returns
    -------
    dict
        ``settings``, and the ``f1`` that they reach.
    """
    best = {"settings": None, "f1": -1.0}
    for _ in tqdm(range(n_trials), desc=f"tuning {finder}", unit="trial", leave=False):
        settings = {name: _draw(axis, rng) for name, axis in FINDERS[finder][1].items()}
        table = pd.concat(
            [
                find_and_match(finder, settings, tile, stars, ingestion)
                for tile, stars in zip(pixels, truth, strict=True)
            ]
        )
        reached = largest_f1(table)
        if reached > best["f1"]:
            best = {"settings": settings, "f1": reached}
    return best


def _draw(axis, rng):
    """A value of an axis of the search."""
    if isinstance(axis, list):
        return axis[rng.integers(len(axis))]
    low, high = axis["low"], axis["high"]
    if axis.get("log"):
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))
    value = rng.uniform(low, high)
    return round(value) if isinstance(low, int) else float(value)


def find_and_match(
    finder: str,
    settings: dict[str, Any],
    tile: np.ndarray,
    stars: np.ndarray,
    ingestion: IngestionParameters,
) -> pd.DataFrame:
    """What a classical finder says of a tile, beside its stars.

    Returns
    -------
    pandas.DataFrame
        From `skyloom.evaluation.detection.detection_table`.
    """
    observed = np.isfinite(tile)
    flat = np.ones(tile.shape, np.float32)
    image = NormalisedImage(np.nan_to_num(tile), 0 * flat, flat, observed)
    found = FINDERS[finder][0](image, **settings)
    return detection_table(
        pd.DataFrame(stars, columns=list(STAR_COLUMNS)), found, radius=ingestion.radius,
        limit=ingestion.limit, doubtful=ingestion.doubtful,
    )  # fmt: skip


def run_sweep(
    sample: pd.DataFrame,
    stars: pd.DataFrame,
    split_manifest: pd.DataFrame,
    inputs: dict[str, Callable[[], np.ndarray]],
    targets: dict[str, Callable[[], np.ndarray]],
    filtered: np.ndarray,
    made_up_tiles: dict[str, Callable[[], np.ndarray]],
    baseline_predictions: pd.DataFrame,
    sweep: Sweep,
    ingestion: IngestionParameters,
    finished_fits: ResultStore,
    cluster: ClusterParameters,
) -> Comparison:
    """Train every configuration on every split.

    Returns
    -------
    Comparison
    """
    measure = measure_of(ingestion)
    return compare_configurations(
        sweep,
        split_manifest,
        sample["id"].to_numpy(),
        _shared(inputs, targets, filtered, made_up_tiles),
        fit_settings,
        fit_task,
        finished_fits,
        cluster,
        inputs=INPUTS,
        measure=measure,
        truth=stars_of_tiles(sample, stars, ingestion.tile),
        score=scorer(baseline_predictions, REFERENCE, measure),
        log=tracking.log_child,
    )


def _shared(inputs, targets, filtered, made_up_tiles):
    """What the fits read, by name."""
    shared = {f"inputs {name}": np.asarray(load()) for name, load in inputs.items()}
    shared |= {f"targets {name}": np.asarray(load()) for name, load in targets.items()}
    shared |= {name: np.asarray(load()) for name, load in made_up_tiles.items()}
    return shared | {"filtered": np.asarray(filtered)}


def fit_final_network(
    sample: pd.DataFrame,
    fields: pd.DataFrame,
    pixels: np.ndarray,
    inputs: dict[str, Callable[[], np.ndarray]],
    targets: dict[str, Callable[[], np.ndarray]],
    filtered: np.ndarray,
    made_up_tiles: dict[str, Callable[[], np.ndarray]],
    validation_predictions: pd.DataFrame,
    outcome: dict[str, Any],
    sweep: Sweep,
) -> tuple[Any, dict[str, Any], np.ndarray]:
    """Fit the chosen configuration to every tile whose stars are known.

    Returns
    -------
    network : keras.Model
        Untrained where there was nothing to train on.
    description : dict
        ``trained``, ``configuration``, ``ranking`` (set on validation tiles), ``light_range``
        and ``fwhm_range`` of the fields it was trained on, pixels.
    example : numpy.ndarray of float32
        One input.
    """
    features = sweep.base.features
    if outcome["chosen"] is None:
        network = build_network(sweep.base.network, features.n_channels, 0)
        return untrained(network, (features.size, features.size, features.n_channels))
    chosen = Configuration.model_validate(outcome["chosen"])
    rows = np.arange(len(sample))
    shared = _shared(inputs, targets, filtered, made_up_tiles)
    settings = fit_settings([chosen], 0, sweep.parameters.seed)

    def fit(settings, shared, train, validation):
        return fit_network(settings, shared, train, validation, rows)

    network, example, *_ = fit_final(
        settings, shared, rows, rows, training_data=training_data, fit_network=fit
    )
    # Its loss is of no use to whoever loads it, and cannot be saved.
    plain = build_network(chosen.network, chosen.features.n_channels, 0)
    plain.set_weights(network.get_weights())
    widths = fields.loc[fields["usable"], "fwhm"].dropna()
    description = {
        "trained": True,
        "configuration": outcome["chosen"],
        "ranking": fit_ranking(validation_predictions)._asdict(),
        "fwhm_range": [float(value) for value in widths.quantile([0.05, 0.95])],
        # What the published stretch was of, for images to come.
        "light_range": light_range(pixels),
        "n_objects": len(rows),
    }
    return plain, description, example


def measure_gap(
    sample: pd.DataFrame,
    stars: pd.DataFrame,
    inputs: dict[str, Callable[[], np.ndarray]],
    filtered: np.ndarray,
    measurements: pd.DataFrame,
    split_manifest: pd.DataFrame,
    sweep: Sweep,
    ingestion: IngestionParameters,
    simulation: SimulationParameters,
) -> pd.DataFrame:
    """What a network that saw nothing but made-up tiles loses on observed ones.

    Returns
    -------
    pandas.DataFrame
        ``tested_on``, ``n_tiles``, ``f1`` with ``f1_low``, ``f1_high`` (95 % over tiles) and
        ``completeness_at_90``: on made-up tiles, on observed ones, and the difference. Empty where
        no configuration is trained on made-up tiles, or fewer than six of them are usable.

    Notes
    -----
    The threshold is set on made-up tiles, which are neither trained nor tested on.
    """
    columns = ["tested_on", "n_tiles", "f1", "f1_low", "f1_high", "completeness_at_90"]
    if not sweep.uses_simulated or split_manifest.empty:
        return pd.DataFrame(columns=columns)
    base, augmentation, size = sweep.base, sweep.base.augmentation, ingestion.tile
    drawn = made_up_distribution(measurements, split_manifest, simulation)
    n = augmentation.n_simulated
    # Half as many again, a quarter of them to set the threshold and a quarter to test.
    pixels, known = made_up_tiles(3 * n // 2, augmentation, ingestion, drawn, first=n)
    if len(pixels) < _FEWEST:
        return pd.DataFrame(columns=columns)
    n_set = len(pixels) // 6
    n = len(pixels) - 2 * n_set
    widths = [measure_fwhm(tile) for tile in pixels]
    made_up = {
        "inputs": prepare_images(pixels, base.features),
        "filtered": filter_tiles(
            pd.DataFrame({"field": range(len(pixels))}),
            pd.DataFrame({"id": range(len(pixels)), "fwhm": widths}),
            pixels,
        ),
    }
    options = {"limit": ingestion.limit, "doubtful": ingestion.doubtful}
    targets = np.stack([draw_targets(each, size, base.features, **options) for each in known])
    settings = fit_settings([base], 0, augmentation.simulated_seed) | {"arm": "simulated"}
    # What comes after the training tiles stops it, and sets the threshold.
    train, valid, test = np.s_[:n], np.s_[n : n + n_set], np.s_[n + n_set :]
    model, snapshots, _ = fit_network(
        settings, {}, *((made_up["inputs"][part], targets[part]) for part in (train, valid))
    )
    model.set_weights(snapshots[-1].weights)
    measure = measure_of(ingestion)

    def table_of(truth, seen, names):
        said = with_filtered(model, seen)
        return measure.table(truth, said).assign(id=lambda table: np.array(names)[table.index])

    def of(part):
        seen = {name: array[part] for name, array in made_up.items()}
        return table_of(known[part], seen, range(n_set))

    ranking = fit_ranking(of(valid))
    truth = stars_of_tiles(sample, stars, size)
    seen = {"inputs": np.asarray(inputs[base.input_variant]()), "filtered": np.asarray(filtered)}
    rows = []
    for name, table in (
        ("made-up fields", of(test)), ("observed fields", table_of(truth, seen, sample["field"])),
    ):  # fmt: skip
        score = ranking.probability(table["score"], table["filtered"])
        named = (score >= ranking.threshold) & (score > 0)
        rows.append((name, table.assign(score=score, named=named, seed=0)))
    return pd.DataFrame(gap_rows(rows), columns=columns)


def gap_rows(tables: list[tuple[str, pd.DataFrame]]) -> list[dict[str, Any]]:
    """F1 of two samples of fields, and their difference, with intervals over fields.

    Parameters
    ----------
    tables : list of (str, pandas.DataFrame)
        What each is called, and ``id``, ``seed``, ``star``, ``score``, ``named``.

    Returns
    -------
    list of dict
        Three of them.
    """
    rows, draws = [], []
    for name, table in tables:
        f1, drawn = f1_over_fields(table, np.random.default_rng(0))
        low, high = np.percentile(drawn, [2.5, 97.5])
        rows.append(
            {
                "tested_on": name, "n_tiles": table["id"].nunique(), "f1": f1, "f1_low": low,
                "f1_high": high, "completeness_at_90": completeness_at_purity(table),
            }
        )  # fmt: skip
        draws.append(drawn)
    # Two samples, drawn apart from each other.
    low, high = np.percentile(draws[1] - draws[0][::-1], [2.5, 97.5])
    lost = {name: rows[1][name] - rows[0][name] for name in ("f1", "completeness_at_90")}
    gap = {"tested_on": "observed less made-up", "n_tiles": "", "f1_low": low, "f1_high": high}
    return [*rows, gap | lost]
