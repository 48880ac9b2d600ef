"""The sweep, pre-training and the final network on toy images with a strong signal."""

import json
import logging
from functools import partial

import numpy as np
import pandas as pd
import pytest

from skyloom import tracking
from skyloom.compute import ClusterParameters, connect
from skyloom.evaluation.baselines import cross_predict, majority
from skyloom.evaluation.calibration import apply_temperature
from skyloom.evaluation.novelty import distance_from_sample
from skyloom.learning.comparison import INNER_COLUMNS
from skyloom.learning.fitting import CURVES, Snapshot
from skyloom.learning.nested import nested_predictions, select_configurations
from skyloom.learning.tasks import ResultStore
from skyloom.pipelines.hi_profiles import fitting, training
from skyloom.pipelines.hi_profiles.augmentation import (
    choose_classes,
    make_split,
)
from skyloom.pipelines.hi_profiles.features import sample_features
from skyloom.pipelines.hi_profiles.fitting import network_input
from skyloom.pipelines.hi_profiles.ingestion import configure_sweep
from skyloom.pipelines.hi_profiles.parameters import (
    AugmentationParameters,
    FeatureParameters,
    NetworkParameters,
    PretrainingParameters,
    ReportingParameters,
    SweepsParameters,
    TrainingParameters,
)

HERE = ClusterParameters(n_workers=0)
NAMES = ("profiles", "manifest", "images", "copies", "augmented_images", "pretrained", "baselines")
PREDICTION_COLUMNS = ("configuration", "seed", "fold", "id", "class", "predicted")
CURVE_COLUMNS = ("configuration", "seed", "fold", "inner", "epoch", *CURVES, "best_epoch")


# --- a toy study ----------------------------------------------------------------------------------


def sweep_of(grid=None, *, search=None, seed=0, n_permutations=0, **sections):
    """A sweep of tiny networks on images of 8 pixels; `sections` change the base settings."""
    given = {
        "features": {"size": 8},
        "augmentation": {"n_folds": 2, "n_inner_folds": 2, "n_copies": 0},
        "network": {"widths": [4]},
        "training": {
            "epochs": 8,
            "batch_size": 4,
            "min_epochs": 4,
            "patience": 3,
            "learning_rate": 5e-3,
        },
    }
    given = {name: values | sections.get(name, {}) for name, values in given.items()}
    extent = {"grid": grid or {"training.epochs": [given["training"]["epochs"]]}}
    if search is not None:
        extent = {"search": search}
    extent |= {"seed": seed, "n_permutations": n_permutations}
    return configure_sweep(
        SweepsParameters(chosen="default", named={"default": extent}),
        FeatureParameters(**given["features"]),
        AugmentationParameters(**given["augmentation"]),
        NetworkParameters(**given["network"]),
        TrainingParameters(**given["training"]),
    )


def seeded(sweep, seed):
    parameters = sweep.parameters.model_copy(update={"seed": seed})
    return sweep.model_copy(update={"parameters": parameters})


def toy_images(truth, strength=1.0, seed=0):
    """Images whose first rows, in model 2 only, are bright for class 1."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.1, (len(truth), 3, 8, 8, 1)).astype(np.float32)
    images[truth == 1, 1, :4, 2:6] += strength
    return images


def toy(sweep, n=24, seeds=(0,), strength=1.0, n_classes=2):
    """Everything `run_sweep` is given but the sweep; the galaxies are not in the split's order."""
    truth = np.arange(n) % n_classes
    ids = [f"g{i}" for i in range(n)]
    classes = pd.DataFrame({"id": ids, "group": ids, "sha256": ids, "class": truth, "used": True})
    options = sweep.base.augmentation.model_copy(update={"seeds": seeds})
    manifest = make_split(classes.sample(frac=1, random_state=1), options)
    images = toy_images(truth, strength)
    parts, augmented = [], {}
    for variant, member in sweep.variants.items():
        profile = np.repeat(np.arange(n), member.augmentation.n_copies)
        if len(profile):
            parts.append(pd.DataFrame({"variant": variant, "profile": profile}))
            augmented[variant] = partial(np.copy, toy_images(truth[profile], strength, seed=1))
    copies = pd.concat(parts) if parts else pd.DataFrame({"variant": [], "profile": []})
    features = pd.DataFrame({"nothing": 0.0}, index=pd.Index(ids, name="id"))
    baselines = cross_predict(majority(), features, manifest, n_classes)
    return {
        "profiles": pd.DataFrame({"id": ids}),
        "manifest": manifest,
        "images": {name: partial(np.copy, images) for name in sweep.input_variants},
        "copies": copies,
        "augmented_images": augmented,
        "pretrained": {},
        "baselines": baselines.assign(configuration=training.A_FLUX_BASELINE),
    }


def run(sweep, sample, folder, cluster=HERE):
    given = [sample[name] for name in NAMES]
    tables = training.run_sweep(*given, sweep, ResultStore(folder), cluster)
    names = ("predictions", "inner", "curves", "permutations", "validation", "outcome")
    return dict(zip(names, tables, strict=True))


def n_fits(folder):
    return len(list(folder.rglob("*.npz")))


SEEING, BLIND = "01 2", "02 1"


@pytest.fixture(scope="module")
def sweep():
    return sweep_of({"network.image_models": [[2], [1]]}, augmentation={"n_copies": 1})


@pytest.fixture(scope="module")
def finished(sweep, tmp_path_factory):
    """A sweep of a network that sees the signal and one that does not; two seeds."""
    folder = tmp_path_factory.mktemp("fits")
    sample = toy(sweep, seeds=(0, 3))
    return sample, run(sweep, sample, folder), folder


def test_every_configuration_predicts_each_galaxy_once_a_seed_and_only_where_it_is_tested(finished):
    sample, result, _ = finished
    manifest, predictions = sample["manifest"], result["predictions"]
    tested = manifest[(manifest["role"] == "test") & (manifest["inner"] == 0)]
    keys = ["seed", "fold", "id", "class"]
    for name in (SEEING, BLIND):
        part = predictions[predictions["configuration"] == name]
        assert (part.groupby(["seed", "id"]).size() == 1).all()
        got = part[keys].sort_values(keys).reset_index(drop=True)
        expected = tested[keys].sort_values(keys).reset_index(drop=True)
        pd.testing.assert_frame_equal(got, expected, check_dtype=False)
    probability = predictions[["probability_0", "probability_1"]].to_numpy()
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
    assert (probability.argmax(axis=1) == predictions["predicted"]).all()


def test_a_strong_signal_is_found_by_the_network_that_sees_it_and_not_by_the_other(finished):
    predictions = finished[1]["predictions"]
    right = predictions["class"] == predictions["predicted"]
    rates = right.groupby(predictions["configuration"]).mean()
    assert rates[SEEING] > 0.9
    assert rates[BLIND] < 0.75


def test_the_inner_folds_select_the_network_that_sees(finished):
    result = finished[1]
    selected = select_configurations(result["inner"])
    assert set(selected["configuration"]) == {SEEING}
    nested = nested_predictions(result["predictions"], selected)
    assert (nested["class"] == nested["predicted"]).mean() > 0.9
    assert result["outcome"]["chosen"]["name"] == SEEING


def test_every_inner_fold_has_a_score_and_a_learning_curve_with_the_epoch_it_kept(finished):
    inner, curves = finished[1]["inner"], finished[1]["curves"]
    assert tuple(inner) == INNER_COLUMNS
    assert tuple(curves) == CURVE_COLUMNS
    keys = ["configuration", "seed", "fold", "inner"]
    assert len(inner) == 2 * 2 * 2 * 2
    assert not inner.duplicated(keys).any()
    assert inner["score"].between(0, 1).all()
    kept = inner.set_index(keys)["best_epoch"]
    fits = curves.groupby(keys)
    assert fits.ngroups == len(inner)
    for key, part in fits:
        assert part["epoch"].tolist() == list(range(1, len(part) + 1))
        settled = part[part["epoch"] >= 4].set_index("epoch")
        assert part["best_epoch"].unique() == [kept[key]] == [settled["val_loss"].idxmin()]


def test_the_validation_predictions_are_those_of_the_chosen_configuration(finished):
    sample, result, _ = finished
    manifest, validation = sample["manifest"], result["validation"]
    assert set(validation["configuration"]) == {SEEING}
    keys = ["seed", "fold", "inner", "id", "class"]
    expected = manifest.loc[manifest["role"] == "validation", keys]
    pd.testing.assert_frame_equal(
        validation[keys].sort_values(keys).reset_index(drop=True),
        expected.sort_values(keys).reset_index(drop=True),
        check_dtype=False,
    )
    scores = result["inner"].query("configuration == @SEEING").set_index(keys[:3])["score"]
    right = (validation["class"] == validation["predicted"]).groupby(
        [*(validation[k] for k in keys[:3]), validation["class"]]
    )
    np.testing.assert_allclose(right.mean().groupby(keys[:3]).mean(), scores)


def test_what_is_chosen_has_its_epochs_in_place_of_their_limit(finished):
    result = finished[1]
    chosen, limit = result["outcome"]["chosen"], result["outcome"]["configurations"][SEEING]
    mine = result["inner"].query("configuration == @SEEING")
    epochs = int(mine["best_epoch"].median())
    assert limit["training"]["epochs"] == 8
    assert chosen == limit | {"training": limit["training"] | {"epochs": epochs}}
    assert json.loads(json.dumps(result["outcome"])) == result["outcome"]


def test_a_second_run_fits_nothing_and_gives_the_same_tables(finished, sweep, monkeypatch):
    sample, result, folder = finished

    def nothing_is_to_be_fitted(*arguments, **options):
        raise AssertionError

    monkeypatch.setattr(fitting, "fit_classifier", nothing_is_to_be_fitted)
    before = n_fits(folder)
    again = run(sweep, sample, folder)
    assert n_fits(folder) == before == 16
    for name in ("predictions", "inner", "curves", "validation"):
        pd.testing.assert_frame_equal(result[name], again[name])


def test_a_sweep_that_was_stopped_goes_on_where_it_was(finished, sweep, tmp_path):
    sample, result, folder = finished
    done = sorted(folder.rglob("*.npz"))[:11]
    for path in done:
        target = tmp_path / path.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    again = run(sweep, sample, tmp_path)
    assert n_fits(tmp_path) == 16
    # Also fits made anew are the same, whatever was fitted before them in this process.
    for name in ("predictions", "inner", "curves"):
        pd.testing.assert_frame_equal(result[name], again[name], rtol=1e-4, atol=1e-6)


@pytest.fixture
def untrained(monkeypatch):
    """Fits that keep their initial weights: for tests of everything around them."""

    def keep(model, train, validation, *, epochs, **options):
        history = pd.DataFrame({name: np.ones(max(epochs)) for name in CURVES})
        return [Snapshot(model.get_weights(), n) for n in epochs], history

    monkeypatch.setattr(fitting, "fit_classifier", keep)


def test_other_images_classes_or_seeds_are_fitted_anew(sweep, tmp_path, untrained):
    sample = toy(sweep, n=12)
    run(sweep, sample, tmp_path)
    fits = n_fits(tmp_path)
    changed = {name: partial(np.copy, load() + 1) for name, load in sample["images"].items()}
    run(sweep, sample | {"images": changed}, tmp_path)
    assert n_fits(tmp_path) == 2 * fits
    manifest = sample["manifest"]
    renamed = manifest.assign(**{"class": 1 - manifest["class"]})
    run(sweep, sample | {"manifest": renamed}, tmp_path)
    assert n_fits(tmp_path) == 3 * fits
    run(seeded(sweep, 1), sample, tmp_path)
    assert n_fits(tmp_path) == 4 * fits


def test_two_connections_at_a_time_do_not_warn_of_each_other():
    with connect(HERE, 8), connect(HERE, 8):
        pass


# --- sweeps of other kinds ------------------------------------------------------------------------


def test_configurations_that_differ_in_their_epochs_share_a_training_run(tmp_path, untrained):
    sweep = sweep_of({"training.epochs": [2, 3, 5]}, training={"patience": None})
    sample = toy(sweep, n=12)
    result = run(sweep, sample, tmp_path)
    assert n_fits(tmp_path) == 2 * 2
    assert result["curves"].groupby("configuration")["epoch"].max().tolist() == [2, 3, 5]
    for name, epochs in zip(sorted(result["outcome"]["configurations"]), (2, 3, 5), strict=True):
        inner, predictions = result["inner"], result["predictions"]
        assert set(inner.loc[inner["configuration"] == name, "best_epoch"]) == {epochs}
        assert (predictions["configuration"] == name).sum() == 12


def test_a_failing_configuration_is_recorded_and_the_others_go_on(
    tmp_path, monkeypatch, caplog, untrained
):
    told = []
    monkeypatch.setattr(tracking, "log_child", told.append)
    sweep = sweep_of({"network.padding": ["same", "valid"]}, network={"widths": [4, 4, 4]})
    with caplog.at_level(logging.ERROR):
        result = run(sweep, toy(sweep, n=12), tmp_path)
    good, bad = "01 same", "02 valid"
    assert list(result["outcome"]["configurations"]) == [good, bad]
    assert list(result["outcome"]["failed"]) == [bad]
    assert "8 pixels are too few for 3 blocks" in result["outcome"]["failed"][bad]
    assert set(result["predictions"]["configuration"]) == {good}
    assert result["outcome"]["chosen"]["name"] == good
    by_name = {child["name"]: child for child in told}
    assert by_name[bad]["status"] == "FAILED"
    assert "8 pixels" in by_name[bad]["tags"]["error"]
    assert set(by_name[bad]["params"]) == set(by_name[good]["params"])
    assert by_name[good]["metrics"]["n_objects"] == 12


def test_a_sweep_in_which_everything_fails_is_an_error_that_says_why(tmp_path):
    sweep = sweep_of(network={"widths": [4, 4, 4], "padding": "valid"})
    with pytest.raises(RuntimeError, match=r"every configuration failed.*8 pixels are too few"):
        run(sweep, toy(sweep, n=12), tmp_path)


def test_a_failed_fit_is_tried_again_in_the_next_run(tmp_path, untrained, monkeypatch):
    sweep = sweep_of({"network.widths": [[4], [5]]})
    sample = toy(sweep, n=12)
    fit = fitting.fit_classifier

    def narrow_only(model, *arguments, **options):
        if model.layers[0].filters == 5:
            raise MemoryError("no memory")
        return fit(model, *arguments, **options)

    monkeypatch.setattr(fitting, "fit_classifier", narrow_only)
    first = run(sweep, sample, tmp_path)
    assert first["outcome"]["failed"] == {"02 5": "MemoryError: no memory"}
    monkeypatch.setattr(fitting, "fit_classifier", fit)
    second = run(sweep, sample, tmp_path)
    assert second["outcome"]["failed"] == {}
    assert n_fits(tmp_path) == 8


@pytest.fixture(scope="module")
def permuted(tmp_path_factory):
    """A strong signal, and the whole procedure on shuffled classes."""
    sweep = sweep_of({"network.image_models": [[2], [1]]}, n_permutations=3)
    sample = toy(sweep, strength=3.0)
    return sweep, sample, run(sweep, sample, tmp_path_factory.mktemp("fits"))


def test_the_whole_procedure_is_run_again_on_shuffled_classes(permuted):
    _, _, result = permuted
    null = result["permutations"]
    assert null["permutation"].tolist() == [1, 2, 3]
    assert null["balanced_accuracy"].between(0, 0.85).all()
    nested = nested_predictions(result["predictions"], select_configurations(result["inner"]))
    assert (nested["class"] == nested["predicted"]).mean() > null["balanced_accuracy"].max()


def test_shuffles_leave_the_results_of_the_true_classes_alone(permuted, tmp_path):
    sweep, sample, result = permuted
    parameters = sweep.parameters.model_copy(update={"n_permutations": 0})
    plain = run(sweep.model_copy(update={"parameters": parameters}), sample, tmp_path)
    for name in ("predictions", "inner", "validation"):
        pd.testing.assert_frame_equal(plain[name], result[name], rtol=1e-4, atol=1e-6)
    assert plain["permutations"].empty
    assert list(plain["permutations"]) == list(result["permutations"])


def test_a_search_tries_its_own_configurations_in_every_outer_fold(tmp_path, untrained):
    search = {
        "n_trials": 3, "n_parallel": 2, "n_startup": 1, "prune": False,
        "space": {
            "training.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
            "network.image_models": [[2], [1]],
        },
    }  # fmt: skip
    sweep = sweep_of(search=search)
    sample = toy(sweep)
    result = run(sweep, sample, tmp_path)
    names = list(result["outcome"]["configurations"])
    assert [name.partition(" ")[0] for name in names] == [
        f"0.{fold}.0{number}" for fold in (0, 1) for number in (1, 2, 3)
    ]
    selected = select_configurations(result["inner"])
    assert [name[:3] for name in selected["configuration"]] == ["0.0", "0.1"]
    nested = nested_predictions(result["predictions"], selected)
    assert sorted(nested["id"]) == sorted(sample["profiles"]["id"])
    again = run(sweep, sample, tmp_path)
    pd.testing.assert_frame_equal(result["predictions"], again["predictions"])


# The only test with a worker process: what it needs must survive pickling, and it starts in a
# fresh interpreter, which takes about as long as all fits of the other tests together.
def test_a_worker_process_returns_the_same_tables_as_this_process_would(tmp_path):
    sweep = sweep_of(augmentation={"n_copies": 1})
    sample = toy(sweep, n=12, strength=2.0)
    here = run(sweep, sample, tmp_path / "here")
    there = run(sweep, sample, tmp_path / "there", ClusterParameters(n_workers=1))
    for name in ("predictions", "inner", "curves"):
        pd.testing.assert_frame_equal(here[name], there[name], rtol=1e-3, atol=1e-4)


def test_large_seeds_are_as_good_as_small_ones(tmp_path, untrained):
    sweep = sweep_of(seed=2**32 - 1, training={"epochs": 1})
    result = run(sweep, toy(sweep, n=12, seeds=(2**32 - 1,)), tmp_path)
    assert set(result["predictions"]["seed"]) == {2**32 - 1}


def test_an_empty_split_gives_empty_tables(tmp_path):
    sweep = sweep_of()
    sample = toy(sweep, n=12)
    result = run(sweep, sample | {"manifest": sample["manifest"][:0]}, tmp_path)
    for name in ("predictions", "validation"):
        assert tuple(result[name]) == PREDICTION_COLUMNS
    assert tuple(result["inner"]) == INNER_COLUMNS
    assert tuple(result["curves"]) == CURVE_COLUMNS
    assert all(result[name].empty for name in result if name != "outcome")
    assert result["outcome"] == {"chosen": None, "configurations": {}, "failed": {}}


# --- pre-training ---------------------------------------------------------------------------------

TUNED = {"training.start": ["scratch", "frozen", "fine_tuned"]}


def pretraining_of(sweep, folder, n=64, **parameters):
    """Networks that learn how bright the first rows of toy images are."""
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(n, 2)).astype(np.float32)
    images = toy_images(np.zeros(n))
    images[:, 1, :4, 2:6] += targets[:, :1, None, None]
    loads = {name: partial(np.copy, images) for name in sweep.input_variants}
    given = {"n_profiles": n, "epochs": 20, "batch_size": 16} | parameters
    return training.pretrain_networks(
        loads, targets, sweep, ResultStore(folder), PretrainingParameters(**given), HERE
    )


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    sweep = sweep_of(TUNED)
    folder = tmp_path_factory.mktemp("fits")
    return sweep, folder, pretraining_of(sweep, folder)


def test_one_network_is_pretrained_for_all_that_start_from_it(pretrained):
    sweep, folder, networks = pretrained
    assert list(networks) == list(sweep.pretrained)
    assert len(networks) == n_fits(folder) == 1
    (load,) = networks.values()
    assert load().output_shape == (None, 2)
    for one, two in zip(load().get_weights(), load().get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_pretraining_learns_its_targets(pretrained):
    _, folder, networks = pretrained
    (path,) = folder.rglob("*.npz")
    history = ResultStore(folder).get(path.stem)["history"]
    assert history[-1] < 0.75 * history[0]
    (load,) = networks.values()
    bright, dark = (np.asarray(load()(4 * toy_images(np.full(8, k), seed=7)[:, 1])) for k in (1, 0))
    assert bright[:, 0].mean() > dark[:, 0].mean() + 0.3


def test_pretraining_is_not_repeated(pretrained, monkeypatch):
    import keras

    sweep, folder, networks = pretrained

    def nothing_is_to_be_fitted(*arguments, **options):
        raise AssertionError

    monkeypatch.setattr(keras.Model, "fit", nothing_is_to_be_fitted)
    again = pretraining_of(sweep, folder)
    for name, load in networks.items():
        for one, two in zip(load().get_weights(), again[name]().get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)


def test_nothing_is_pretrained_where_everything_starts_from_scratch(tmp_path):
    assert pretraining_of(sweep_of(), tmp_path) == {}
    assert n_fits(tmp_path) == 0


def test_a_pretraining_that_fails_is_an_error_that_names_the_network(tmp_path):
    sweep = sweep_of(TUNED, network={"widths": [4, 4, 4], "padding": "valid"})
    with pytest.raises(RuntimeError, match=r"pre-training, ring_cnn-.*: .*8 pixels"):
        pretraining_of(sweep, tmp_path)


def test_a_sweep_starts_from_the_pretrained_network(pretrained, tmp_path):
    _, _, networks = pretrained
    # Rates so small that random weights stay as they are, and only a new last layer learns.
    slow = {"learning_rate": 1e-6, "fine_tuned_learning_rate": 1e-6, "frozen_learning_rate": 0.1}
    sweep = sweep_of(TUNED, training=slow)
    sample = toy(sweep, strength=2.0) | {"pretrained": networks}
    result = run(sweep, sample, tmp_path)
    right = result["predictions"]["class"] == result["predictions"]["predicted"]
    rates = right.groupby(result["predictions"]["configuration"]).mean()
    assert list(rates.index) == ["01 scratch", "02 frozen", "03 fine_tuned"]
    assert rates["02 frozen"] > 0.85 > rates["03 fine_tuned"]
    assert rates["02 frozen"] > rates["01 scratch"]


def test_other_pretrained_weights_are_other_fits(pretrained, tmp_path, untrained):
    sweep, _, networks = pretrained
    sample = toy(sweep, n=12) | {"pretrained": networks}
    run(sweep, sample, tmp_path)
    assert n_fits(tmp_path) == 12
    others = pretraining_of(sweep, tmp_path / "others", epochs=1)
    run(sweep, sample | {"pretrained": others}, tmp_path)
    assert n_fits(tmp_path) - n_fits(tmp_path / "others") == 12 + 8  # from scratch they are known


# --- the network for new spectra ------------------------------------------------------------------


def tables(n=24, values=(0, 2)):
    """Profiles, fits, asymmetries and classes of galaxies, as the final network is given them."""
    rng = np.random.default_rng(0)
    ids = [f"g{i}" for i in range(n)]
    labels = pd.array(np.array(values)[np.arange(n) % len(values)], dtype="Int64")
    profiles = pd.DataFrame(
        {
            "id": ids,
            "sha256": ids,
            "object": "",
            "line_centre": 5000.0,
            "snr": rng.uniform(10, 50, n),
            "class": pd.array(np.arange(n) % len(values), dtype="Int64"),
            "class_value": labels,
            "label_source": "label table",
        }
    )
    fits = pd.DataFrame({"status": "good", "usable": True, "w20": rng.uniform(150, 400, n)})
    indices = ("lopsidedness", "channel_asymmetry", "c_v", "equality_velocity", "mid_velocity")
    asymmetry = pd.DataFrame({name: rng.normal(size=n) for name in indices})
    for name in ("a_flux", "a_f", "a_c"):
        asymmetry[name] = rng.uniform(1, 2, n)
    classes = choose_classes(profiles, fits, asymmetry, AugmentationParameters())
    return profiles, fits, asymmetry, classes


def final_of(sweep, sample, result, about=None, reporting=None):
    return training.fit_final_network(
        *(about or tables(len(sample["profiles"]))),
        sample["images"], sample["copies"], sample["augmented_images"], sample["pretrained"],
        result["validation"], result["outcome"], sweep, reporting or ReportingParameters(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def final(finished, sweep):
    sample, result, _ = finished
    network, description, example = final_of(sweep, sample, result)
    # The network belongs to the next fit of this process, too.
    import keras

    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    return copy, description, example


def test_the_final_network_finds_the_signal_in_new_galaxies(final):
    network, description, _ = final
    truth = np.arange(40) % 2
    configuration = NetworkParameters(**description["configuration"]["network"])
    inputs = network_input(toy_images(truth, seed=99), np.arange(40), configuration)
    probability = network.predict_on_batch(inputs)
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
    assert (probability.argmax(axis=1) == truth).mean() > 0.9


def test_the_description_says_what_is_needed_to_use_the_network(final, finished):
    _, description, example = final
    assert json.loads(json.dumps(description)) == description
    assert description["trained"] is True
    assert description["configuration"] == finished[1]["outcome"]["chosen"]
    assert description["n_objects"] == 24
    assert description["label_source"] == "label table"
    assert 0.1 <= description["temperature"] <= 10
    assert example.shape == (1, 8, 8, 1)
    assert example.dtype == np.float32


def test_classes_are_named_by_their_value_in_the_label_table(final, finished, sweep):
    description = final[1]
    assert description["class_values"] == [0, 2]
    assert description["class_names"] == ["symmetric", "strongly lopsided"]


def test_the_sample_of_the_training_is_described(final):
    profiles, fits, asymmetry, _ = tables()
    likeness = sample_features(profiles, fits, asymmetry)
    distance = distance_from_sample(likeness, final[1]["sample"])
    assert (distance > 1).sum() <= 1
    far = likeness.head(1).assign(snr=1e3)
    assert distance_from_sample(far, final[1]["sample"])[0] > 1


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_the_final_network_is_as_certain_as_its_validation_predictions_allow(
    finished, sweep, factor
):
    sample, result, _ = finished
    # Predictions of the inner folds that say less, or more, than they should.
    rng = np.random.default_rng(0)
    n = 4000
    p = rng.uniform(0.05, 0.95, n)
    truth = (rng.random(n) < p).astype(int)
    said = apply_temperature(np.column_stack([1 - p, p]), 1 / factor)
    validation = pd.DataFrame({"class": truth, "probability_0": said[:, 0]})
    validation["probability_1"] = said[:, 1]

    honest = validation.assign(probability_0=1 - p, probability_1=p)
    outputs, temperatures = [], []
    for table in (honest, validation):
        network, description, example = final_of(sweep, sample, result | {"validation": table})
        outputs.append(network.predict_on_batch(example))
        temperatures.append(description["temperature"])
        before, after = description["calibration_error"]
        assert after <= before + 0.01
        assert after < 0.03
    assert temperatures == pytest.approx([1, factor], rel=0.1)
    expected = apply_temperature(outputs[0], temperatures[1] / temperatures[0])
    np.testing.assert_allclose(outputs[1], expected, atol=1e-4)


def test_the_final_network_sees_every_labelled_galaxy_and_nothing_stops_it(
    finished, sweep, monkeypatch
):
    sample, result, _ = finished
    seen = {}
    fit = training.fit_network

    def spy(settings, shared, train, validation):
        seen.update(settings=settings, train=train, validation=validation)
        return fit(settings, shared, train, validation)

    monkeypatch.setattr(training, "fit_network", spy)
    final_of(sweep, sample, result)
    assert seen["validation"] is None
    assert len(seen["train"][1]) == 24 * 2  # and a copy of each
    assert seen["settings"]["epochs"] == [result["outcome"]["chosen"]["training"]["epochs"]]


def test_galaxies_without_a_class_are_not_trained_on(finished, sweep, monkeypatch):
    sample, result, _ = finished
    profiles, fits, asymmetry, _ = tables()
    profiles.loc[[1, 2, 3], ["class", "class_value"]] = pd.NA
    profiles.loc[[1, 2, 3], "label_source"] = "not in the label table"
    classes = choose_classes(profiles, fits, asymmetry, AugmentationParameters())
    seen = []
    fit = training.fit_network

    def spy(settings, shared, train, *others):
        seen.append(train)
        return fit(settings, shared, train, *others)

    monkeypatch.setattr(training, "fit_network", spy)
    _, description, _ = final_of(sweep, sample, result, (profiles, fits, asymmetry, classes))
    assert description["n_objects"] == 21
    assert len(seen[0][1]) == 21 * 2


@pytest.mark.parametrize("start", ["frozen", "fine_tuned"])
def test_a_final_network_on_a_pretrained_one_is_calibrated_and_can_be_saved(
    pretrained, tmp_path, start
):
    from skyloom.datasets import KerasModelDataset

    sweep, _, networks = pretrained
    sample = toy(sweep) | {"pretrained": networks}
    base = sweep.base
    chosen = base.changed("one", {"training.start": start, "training.epochs": 2})
    p = np.full(50, 0.9)
    truth = (np.arange(50) < 30).astype(int)
    validation = pd.DataFrame({"class": truth, "probability_0": 1 - p, "probability_1": p})
    result = {"validation": validation, "outcome": {"chosen": chosen.model_dump(mode="json")}}
    network, description, example = final_of(sweep, sample, result)
    assert description["temperature"] > 2
    dataset = KerasModelDataset(filepath=tmp_path / "classifier.keras")
    dataset.save(network)
    np.testing.assert_allclose(
        dataset.load().predict_on_batch(example), network.predict_on_batch(example), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("sections", "shape"),
    [
        ({"features": {"size": 16}}, (16, 16, 1)),
        ({"network": {"image_models": [1, 2, 3]}}, (8, 8, 3)),
        ({"features": {"rendering": "published", "quadrant": False}}, (8, 8, 3)),
        ({"network": {"architecture": "folded_cnn", "image_models": [1, 2]}}, (8, 2)),
    ],
)
def test_nothing_to_train_on_gives_an_untrained_network_to_look_at(sections, shape):
    sweep = sweep_of(**sections)
    nothing = {name: {} for name in ("images", "augmented_images", "pretrained")}
    result = {"validation": pd.DataFrame(), "outcome": {"chosen": None}}
    sample = {"profiles": range(24), "copies": pd.DataFrame()} | nothing
    network, description, example = final_of(sweep, sample, result)
    assert network.input_shape == (None, *shape)
    assert example.shape == (1, *shape)
    assert description == {"trained": False}


def test_the_final_network_takes_any_seed_a_sweep_takes(finished, sweep):
    sample, result, _ = finished
    assert final_of(seeded(sweep, 2**32 - 1), sample, result)[1]["trained"]


# --- baselines ------------------------------------------------------------------------------------


def baselines_of(**parameters):
    profiles, fits, asymmetry, classes = tables(60)
    asymmetry["a_flux"] = np.exp(0.1 + 0.4 * (np.arange(60) % 2))
    options = AugmentationParameters(n_folds=3, n_inner_folds=2, **parameters)
    manifest = make_split(classes, options)
    return manifest, training.fit_baselines(profiles, fits, asymmetry, manifest, options)


def test_baselines_predict_the_objects_of_the_outer_folds_once():
    manifest, table = baselines_of(seeds=(0, 1))
    assert table["configuration"].unique().tolist() == [
        training.A_FLUX_BASELINE, training.ALL_INDICES_BASELINE, training.MAJORITY_BASELINE,
    ]  # fmt: skip
    tested = manifest[(manifest["role"] == "test") & (manifest["inner"] == 0)]
    tested = tested.set_index(["seed", "id"])["fold"].sort_index()
    for _, part in table.groupby("configuration"):
        got = part.set_index(["seed", "id"])["fold"].sort_index()
        pd.testing.assert_series_equal(got, tested, check_dtype=False)


def test_baselines_find_what_is_in_their_features():
    table = baselines_of()[1]
    rates = (table["class"] == table["predicted"]).groupby(table["configuration"]).mean()
    assert rates[training.A_FLUX_BASELINE] == 1
    assert rates[training.MAJORITY_BASELINE] <= 0.5


def test_the_balance_of_the_baselines_is_that_of_the_networks(monkeypatch):
    asked = []
    regression = training.logistic_regression
    monkeypatch.setattr(
        training,
        "logistic_regression",
        lambda *, balanced: asked.append(balanced) or regression(balanced=balanced),
    )
    for balanced in (True, False):
        baselines_of(balance_classes=balanced)
    assert asked == [True, False]


def test_an_empty_split_has_no_baselines():
    profiles, fits, asymmetry, classes = tables(6)
    manifest = make_split(classes, AugmentationParameters(n_folds=3))[:0]
    table = training.fit_baselines(profiles, fits, asymmetry, manifest, AugmentationParameters())
    assert table.empty
    assert tuple(table) == PREDICTION_COLUMNS
