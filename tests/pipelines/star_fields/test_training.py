"""Networks beside classical finders, from tiles to a report and to new images; all tiny."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from skyloom.compute import ClusterParameters
from skyloom.evaluation.detection import STAR_COLUMNS
from skyloom.images.stars import match_detections
from skyloom.learning.tasks import ResultStore
from skyloom.pipelines.star_fields import augmentation, features, reporting, training
from skyloom.pipelines.star_fields.fitting import losses, measure_of, read_out
from skyloom.pipelines.star_fields.parameters import (
    AugmentationParameters,
    BaselineParameters,
    Configuration,
    DetectionParameters,
    FeatureParameters,
    IngestionParameters,
    NetworkParameters,
    ReportingParameters,
    SimulationParameters,
    Sweep,
    SweepParameters,
    TrainingParameters,
)
from skyloom.pipelines.star_fields.prediction import (
    DETECTION_COLUMNS,
    SUMMARY_COLUMNS,
    ds9_regions,
    find_stars,
)
from skyloom.simulate.star_fields import moffat

SIZE, N_FIELDS = 48, 9
INGESTION = IngestionParameters(tile=SIZE)
ARMS = ["observed", "simulated, then observed"]

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


def sky(places, *, size=SIZE, seed=0, peak=12.0):
    """Stars of the same brightness on noise of 1."""
    y, x = np.mgrid[:size, :size]
    image = np.random.default_rng(seed).normal(size=(size, size))
    top = moffat(np.zeros(1), np.zeros(1), 2.5, 3.5)
    for column, row in places:
        image += peak * moffat(x - column, y - row, 2.5, 3.5) / top
    return image.astype(np.float32)


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(1)
    places = [rng.uniform(4, SIZE - 4, (6, 2)) for _ in range(N_FIELDS)]
    ids = [f"f{k}" for k in range(N_FIELDS)]
    tiles = pd.DataFrame({"id": ids, "field": ids, "group": ids, "sha256": ids, "x0": 0, "y0": 0})
    stars = pd.concat(
        pd.DataFrame(place, columns=["x", "y"]).assign(field=name, snr=25.0, magnitude=15.0)
        for name, place in zip(ids, places, strict=True)
    )
    about = {"usable": True, "fwhm": 2.5, "noise_correlation": 0.0, "pixel_scale": 1.0}
    about |= {"width": SIZE, "height": SIZE, "excess": 0.9, "dx": 0.1, "dy": 0.0, "reason": ""}
    fields = pd.DataFrame({"id": ids, "sha256": ids, **about})
    pixels = np.stack([sky(place, seed=k) for k, place in enumerate(places)])
    return {"sample": tiles.assign(n_stars=6), "stars": stars, "fields": fields, "pixels": pixels}


@pytest.fixture(scope="module")
def sweep():
    base = Configuration(
        name="base",
        features=FeatureParameters(size=SIZE),
        augmentation=AugmentationParameters(seeds=(0, 1), n_simulated=4),
        network=NetworkParameters(widths=(6, 8)),
        training=TrainingParameters(
            crop=32, epochs=4, steps_per_epoch=12, batch_size=4, learning_rate=0.01
        ),
    )
    return Sweep.lay_out(SweepParameters(grid={"augmentation.arm": ARMS}), base)


@pytest.fixture(scope="module")
def run(sample, sweep, tmp_path_factory):
    """Everything from the split to the final network."""
    tiles, stars, fields, pixels = sample.values()
    manifest = augmentation.make_split(tiles, sweep.base.augmentation)
    made_up = augmentation.draw_training_tiles(
        tiles, fields, stars, pixels, features.measure_tiles(tiles, fields), manifest, sweep,
        INGESTION, SimulationParameters(),
    )  # fmt: skip
    inputs = features.draw_inputs(pixels, sweep)
    targets = features.draw_all_targets(tiles, stars, sweep, INGESTION)
    filtered = features.filter_tiles(tiles, fields, pixels)
    baselines, settings = training.fit_baselines(
        tiles, stars, pixels, manifest, INGESTION, BaselineParameters(n_trials=6)
    )
    store = ResultStore(tmp_path_factory.mktemp("fits"))
    log = pytest.MonkeyPatch()
    log.setattr(training.tracking, "log_child", lambda child: None)
    arguments = (tiles, stars, manifest, inputs, targets, filtered, made_up, baselines, sweep)
    compared = training.run_sweep(*arguments, INGESTION, store, ClusterParameters(n_workers=0))
    final = training.fit_final_network(
        tiles, fields, pixels, inputs, targets, filtered, made_up, compared.validation,
        compared.outcome, sweep,
    )  # fmt: skip
    log.undo()
    gap = training.measure_gap(
        tiles, stars, inputs, filtered, features.measure_tiles(tiles, fields), manifest, sweep,
        INGESTION, SimulationParameters(),
    )  # fmt: skip
    return {
        "gap": gap, "manifest": manifest, "baselines": baselines, "settings": settings,
        "compared": compared,
        "final": final,
    }  # fmt: skip


def test_every_finder_is_tuned_on_what_is_not_tested(run, sample):
    assert set(run["settings"]["finder"]) == {"SEP", "DAO", "IRAF"}
    assert run["settings"]["f1"].max() > 0.8
    tested = run["manifest"].loc[run["manifest"]["role"] == "test", "id"]
    assert set(run["baselines"]["id"]) <= set(tested)
    assert set(run["baselines"]["seed"]) == {0, 1}


def test_a_network_finds_the_stars_of_fields_that_it_has_not_seen(run):
    measure = measure_of(INGESTION)
    compared = run["compared"]
    names = compared.predictions["configuration"].unique()
    assert [name.partition(" ")[2] for name in names] == ARMS
    for name in names:
        own = compared.predictions[compared.predictions["configuration"] == name]
        assert set(own["id"]) <= set(run["manifest"].loc[run["manifest"]["role"] == "test", "id"])
        scores = measure.scores(own, np.random.default_rng(0))
        assert scores["f1"] > 0.8
        assert scores["chance_level"] < 0.3
        assert scores["scatter"] < 0.5


def test_arms_make_the_same_number_of_steps(run):
    epochs = run["compared"].curves.groupby("configuration")["epoch"].max()
    assert set(epochs) == {4}


def test_the_report_has_figures_and_a_table(run, sample, sweep):
    tiles, stars, fields, pixels = sample.values()
    compared = run["compared"]
    scores, predictions, selection = reporting.score_configurations(
        compared.predictions, compared.inner, compared.permutations, run["baselines"], INGESTION,
        ReportingParameters(),
    )  # fmt: skip
    assert scores["kind"].tolist() == ["nested", "network", "network", *["baseline"] * 3]
    assert predictions["named"].dtype == bool
    wrong = reporting.sort_false_detections(predictions, tiles, fields, stars, pixels, INGESTION)
    assert set(wrong["kind"]) <= set(reporting.KINDS)
    info = reporting.model_info(
        fields, tiles, pd.DataFrame({"file": []}), run["manifest"], run["settings"], sweep,
        compared.outcome,
    )  # fmt: skip
    report = reporting.write_report(
        fields, tiles, pixels, pd.DataFrame({"file": [], "reason": [], "value": []}), scores,
        predictions, wrong, run["gap"], compared.curves, selection, compared.outcome, info,
        INGESTION,
        ReportingParameters(n_overlays=2),
    )  # fmt: skip
    assert "SEP, tuned" in report["report"]
    assert "F1 (95 %)" in report["summary"]


def test_the_gap_between_made_up_and_observed_fields_is_a_number(run, sample):
    gap = run["gap"].set_index("tested_on")
    assert gap["n_tiles"].tolist() == [1, N_FIELDS, ""]
    lost = gap.loc["observed less made-up"]
    assert lost["f1"] == pytest.approx(np.subtract(*gap["f1"].iloc[[1, 0]]))
    assert (gap["f1_low"] <= gap["f1_high"]).all()


@pytest.mark.parametrize(
    ("kind", "draw"),
    [
        (3, lambda image, x, y: image + 30 * ((x == 24) & (y == 24))),
        (4, lambda image, x, y: image + 8 * (np.abs(x - y) < 2)),
        (5, lambda image, x, y: image + 8 * np.exp(-0.5 * ((x - 24) ** 2 + (y - 24) ** 2) / 9)),
        (6, lambda image, x, y: image + 9 * np.exp(-0.5 * ((x - 24) ** 2 + (y - 24) ** 2) / 1.6)),
    ],
)
def test_false_detections_are_sorted_by_what_they_are(kind, draw):
    y, x = np.mgrid[:SIZE, :SIZE]
    tile = draw(np.random.default_rng(0).normal(0, 0.3, (SIZE, SIZE)), x, y)
    place = pd.DataFrame({"x": [24.0], "y": [24.0]})
    far = np.array([[3.0, 3.0, 20.0, 15.0]])
    found = reporting.sort_by_kind(place, tile, far, 3.0, INGESTION)
    assert found.tolist() == [reporting.KINDS[kind]]
    halo = np.array([[30.0, 24.0, 500.0, 9.0]])
    assert reporting.sort_by_kind(place, tile, halo, 3.0, INGESTION).tolist() == [
        "in the halo of a bright star"
    ]


# --- prediction -----------------------------------------------------------------------------------
def as_file(image, header=None):
    import io

    stream = io.BytesIO()
    fits.PrimaryHDU(image, header).writeto(stream)
    return stream.getvalue


PLACES = np.array([[20.0, 30.0], [70.3, 40.6], [45.0, 90.2], [64.5, 64.0], [100.0, 20.0]])


@pytest.fixture(scope="module")
def found(run):
    network, description, _ = run["final"]
    image = sky(PLACES, size=120, seed=5)
    files = {
        "a.fits": as_file(image),
        "nan.fits": as_file(np.full((64, 64), np.nan, np.float32)),
        "small.fits": as_file(sky([(9.0, 9.0)], size=20, seed=6)),
        "text.fits": lambda: b"no image",
    }
    detection = DetectionParameters(tile=64, overlap=16)
    return find_stars(files, detection, INGESTION, (network, description))


def test_stars_of_a_new_image_are_where_they_are_also_at_the_edges_of_tiles(found):
    stars, fields, *_ = found
    assert tuple(stars.columns) == DETECTION_COLUMNS
    assert tuple(fields.columns) == SUMMARY_COLUMNS
    own = stars[stars["field"] == "a"].assign(score=lambda table: table["probability"])
    star, distance = match_detections(own, pd.DataFrame(PLACES, columns=["x", "y"]), 1.0)
    assert set(star[star >= 0]) == set(range(len(PLACES)))
    assert np.nanmax(distance) < 0.5
    # The middle of the first pixel is 0 here and 1 in FITS; none is found twice.
    np.testing.assert_array_equal(own["x_fits"] - own["x"], 1)
    near = own[np.hypot(own["x"] - 64.5, own["y"] - 64.0) < 3]
    assert len(near) == 1
    assert own["snr"].gt(5).sum() >= len(PLACES)


def test_every_image_has_a_row_and_nothing_raises(found):
    stars, fields, sheets, rejected = found
    assert fields["field"].tolist() == ["a", "nan", "small"]
    assert fields.set_index("field").loc["nan", "n_stars"] == 0
    assert "nothing was observed" in fields.set_index("field").loc["nan", "warning"]
    assert "no positions" in fields["warning"].iloc[0]
    assert rejected["file"].tolist() == ["text.fits"]
    assert len(list(sheets)) == 3
    assert stars.loc[stars["field"] == "small", "edge"].dtype == bool


def test_regions_are_those_of_ds9(found):
    stars, *_ = found
    lines = ds9_regions(stars).splitlines()
    assert len(lines) == len(stars) + 3
    assert lines[3].startswith(f"circle({stars['x_fits'].iloc[0]:.2f},")


def test_an_untrained_network_finds_nothing_and_says_why(run):
    with pytest.raises(ValueError, match="untrained"):
        find_stars({}, DetectionParameters(), INGESTION, (run["final"][0], {"trained": False}))


# --- pieces ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["bce + dice", "bce", "focal"])
def test_a_loss_is_least_where_the_prediction_is_right(kind):
    target = np.zeros((1, 8, 8, 2), np.float32)
    target[..., 1] = 1
    target[0, 3, 3, 0] = 1
    loss, accuracy = losses(kind, 4.0)
    right, wrong = target[..., :1], 1 - target[..., :1]
    assert (
        float(loss(target, right))
        < float(loss(target, 0.5 + 0 * right))
        < float(loss(target, wrong))
    )
    assert float(accuracy(target, right)) == 1
    # The published measure likes an empty prediction.
    assert float(accuracy(target, 0 * right)) > 0.98
    blind = target.copy()
    blind[..., 1] = 0
    blind[0, 3, 3, 1] = 1
    assert float(loss(blind, np.maximum(right, 0.9))) < float(loss(target, np.maximum(right, 0.9)))


def test_what_is_read_out_is_ranked_by_probability():
    prediction = np.zeros((20, 20, 2), np.float16)
    prediction[5, 6] = 0.9, 12
    prediction[15, 4] = 0.4, 30
    found = read_out(prediction)
    assert found["score"].tolist() == pytest.approx([0.9, 0.4], abs=1e-3)
    assert found["filtered"].tolist() == [12, 30]
    assert set(STAR_COLUMNS[:2]) <= set(found)
