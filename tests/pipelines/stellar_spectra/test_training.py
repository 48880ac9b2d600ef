"""What a fit is given, what the published network does, and made spectra as files."""

import numpy as np
import pandas as pd
import pytest

from skyloom.learning.fitting import TrainingParameters
from skyloom.learning.tasks import imported_modules
from skyloom.pipelines.stellar_spectra import fitting
from skyloom.pipelines.stellar_spectra.audit import (
    AUDIT_COLUMNS,
    audit_in_words,
    published_fit_task,
)
from skyloom.pipelines.stellar_spectra.features import likeness_features
from skyloom.pipelines.stellar_spectra.fitting import (
    fit_settings,
    fit_task,
    train_generator_task,
    training_data,
)
from skyloom.pipelines.stellar_spectra.generation import make_spectra
from skyloom.pipelines.stellar_spectra.ingestion import configure_sweep
from skyloom.pipelines.stellar_spectra.parameters import (
    AuditParameters,
    AugmentationParameters,
    Configuration,
    FeatureParameters,
    GenerationParameters,
    NetworkParameters,
    SweepsParameters,
)
from skyloom.pipelines.stellar_spectra.training import (
    fit_baselines,
    fit_final_network,
)
from skyloom.spectra.optical.line_indices import LINE_INDICES

FEATURES = FeatureParameters(low=4000, high=5000, step=1e-3, height=4)
N = FEATURES.n_pixels
RNG = np.random.default_rng(0)
CLASSES = np.repeat([0, 1, 2], [3, 20, 30]).astype(np.int32)


def stars(classes, noise=0.05):
    """Departures from the continuum with one line for each class."""
    place = np.array([20, 50, 80])[classes][:, None]
    line = -0.5 * np.exp(-0.5 * ((np.arange(N) - place) / 2) ** 2)
    return (line + noise * RNG.standard_normal(line.shape)).astype(np.float32)


def configuration(arm="none", **changes):
    return Configuration(
        name="a", features=FEATURES, augmentation=AugmentationParameters(arm=arm),
        network=NetworkParameters(widths=(4, 8), dense=16, dropout=0.0),
        training=TrainingParameters(epochs=6, steps_per_epoch=20) , **changes,
    )  # fmt: skip


def settings_of(arm, pools=()):
    return fit_settings([configuration(arm)], 1, 7, n_classes=3, rare=0, pools=pools)


def pool_of(arm):
    return f"{arm}_fold_1_{FEATURES.prepared}"


def test_made_spectra_fill_the_rare_class_up_to_the_median():
    settings = settings_of("gan", [pool_of("gan")])
    made = np.full((5, N), 1.25, np.float32)
    shared = {settings["spectra"]: stars(CLASSES)[..., None], pool_of("gan"): made}
    inputs, classes = training_data(settings, shared, np.arange(len(CLASSES)), CLASSES)
    assert np.bincount(classes).tolist() == [20, 20, 30]
    assert inputs.shape == (70, N, 1)
    # Given as the observed ones are: as departures from the continuum.
    np.testing.assert_array_equal(inputs[53:], 0.25)
    assert (classes[53:] == 0).all()


@pytest.mark.parametrize("arm", ["none", "class weights"])
def test_other_arms_are_trained_on_observed_spectra_only(arm):
    settings = settings_of(arm, [pool_of("gan")])
    assert settings["synthetic"] is None
    assert settings["balance"] == (arm == "class weights")
    shared = {settings["spectra"]: stars(CLASSES)[..., None]}
    inputs, classes = training_data(settings, shared, np.arange(53), CLASSES)
    np.testing.assert_array_equal(classes, CLASSES)
    assert len(inputs) == 53


def test_a_fold_sees_no_pool_of_another():
    other = pool_of("gan").replace("fold_1", "fold_2")
    assert settings_of("gan", [other])["synthetic"] is None


def test_a_fit_learns_lines_and_comes_out_the_same_twice():
    settings = settings_of("class weights")
    classes = np.tile([0, 1, 2], 40).astype(np.int32)
    shared = {settings["spectra"]: stars(classes)[..., None]}
    arrays = {
        "train": np.arange(60), "validation": np.arange(60, 90), "test": np.arange(90, 120),
        "train_targets": classes[:60], "validation_targets": classes[60:90],
    }  # fmt: skip
    first, second = (fit_task(settings, arrays, shared, threads=1) for _ in range(2))
    named = first["test_prediction"][0].argmax(axis=1)
    assert (named == classes[90:]).mean() > 0.9
    np.testing.assert_array_equal(first["test_prediction"], second["test_prediction"])


def test_a_fit_runs_no_code_that_is_not_in_its_key(code_of):
    settings = settings_of("class weights") | {"epochs": [1]}
    classes = np.tile([0, 1, 2], 20).astype(np.int32)
    rows = {"train": np.arange(30), "validation": np.arange(30, 45), "test": np.arange(45, 60)}
    told = {f"{role}_targets": classes[rows[role]] for role in ("train", "validation")}
    shared = {settings["spectra"]: stars(classes)[..., None]}
    modules = code_of(fit_task, settings, rows | told, shared)
    assert "skyloom.nets.star_cnn" in modules
    assert modules <= imported_modules(fitting.__name__)


def generator_settings(**changes):
    return {
        "images": "O", "kind": "spectral_gan", "n_classes": 1, "size": N, "latent": 4, "width": 16,
        "learning_rate": 5e-4, "kl_weight": 1.0, "batch_size": 8, "rotate": False, "seed": 0,
        "first": 0, "last": 2,
    } | changes  # fmt: skip


def test_a_generator_taken_up_again_goes_on_as_if_it_had_not_stopped():
    shared = {"O": 1 + stars(np.zeros(24, int))[..., None]}
    classes = {"classes": np.zeros(24, np.int32)}
    whole = train_generator_task(generator_settings(last=3), classes, shared, threads=1)
    part = train_generator_task(generator_settings(last=1), classes, shared, threads=1)
    state = {name: value for name, value in part.items() if name.startswith("state_")}
    rest = train_generator_task(
        generator_settings(first=1, last=3), classes | state, shared, threads=1
    )
    np.testing.assert_allclose(rest["frame"], whole["frame"], atol=1e-4)
    np.testing.assert_allclose(rest["history"], whole["history"][1:], rtol=1e-3)
    assert whole["frame"].shape == (6, N)
    assert float(whole["spectrum_error"]) > 0
    assert float(whole["diversity"]) > 0


def test_a_generator_runs_no_code_that_is_not_in_its_key(code_of):
    shared = {"O": 1 + stars(np.zeros(24, int))[..., None]}
    classes = {"classes": np.zeros(24, np.int32)}
    settings = generator_settings(last=1, width=24)  # compiled anew
    modules = code_of(train_generator_task, settings, classes, shared)
    assert "skyloom.nets.spectral_gan" in modules
    assert modules <= imported_modules(fitting.__name__)


def test_made_spectra_are_drawn_from_all_folds_in_turn():
    from skyloom.nets.spectral_gan import generator

    makers = {f"fold_{k}": (lambda k=k: generator(N, 1, latent=4, width=16, seed=k))
              for k in range(2)}  # fmt: skip
    parameters = GenerationParameters(n_spectra=5)
    files, table = make_spectra(makers, FEATURES, AugmentationParameters(), parameters)
    assert list(files) == [f"made_O_{k:05d}.fits" for k in range(5)]
    assert table.shape == (N, 6)
    hdu = files["made_O_00003.fits"]()
    np.testing.assert_allclose(hdu.data, table["made_O_00003"], rtol=1e-6)
    again, _ = make_spectra(makers, FEATURES, AugmentationParameters(), parameters)
    np.testing.assert_array_equal(again["made_O_00003.fits"]().data, hdu.data)


def test_without_a_generator_nothing_is_made():
    with pytest.raises(ValueError, match="no generator was trained"):
        make_spectra({}, FEATURES, AugmentationParameters(), GenerationParameters())


def test_generators_of_other_features_are_refused():
    from skyloom.nets.spectral_gan import generator

    makers = {"fold_0": lambda: generator(N + 8, 1, latent=4, width=16, seed=0)}
    with pytest.raises(ValueError, match=rf"of {N + 8} pixels, and features ask for {N}"):
        make_spectra(makers, FEATURES, AugmentationParameters(), GenerationParameters())


# --- baselines ------------------------------------------------------------------------------------


def test_baselines_see_line_indices_and_do_without_missing_ones():
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {name: rng.normal(size=60) for name in LINE_INDICES}, index=[f"s{k}" for k in range(60)]
    )
    classes = np.tile([0, 1, 2], 20)
    table["H beta"] += 20.0 * classes
    table.loc["s5", "H beta"] = np.nan
    table["TiO 7050"] = np.nan  # measured in no spectrum
    manifest = pd.DataFrame({"id": table.index, "class": classes}).assign(
        seed=0, fold=0, inner=0, role=np.where(np.arange(60) < 40, "train", "test")
    )
    measurements = table.rename_axis("id").reset_index()
    found = fit_baselines(measurements, manifest)
    right = found["class"] == found["predicted"]
    by_name = right.groupby(found["configuration"]).mean()
    assert by_name["line indices, random forest"] > 0.85
    assert by_name["indices, logistic regression"] > 0.5  # of forty stars, by 21 numbers
    assert by_name["majority class"] < 0.5
    assert "H beta" in likeness_features(measurements).columns


# --- audit ----------------------------------------------------------------------------------------


def audit_settings(**changes):
    return {
        "kernel_size": 3, "seed": 1, "epochs": 12, "batch_size": 16, "n_classes": 3, "rare": 0,
        "test_share": 0.3, "made": "made true",
    } | changes  # fmt: skip


def test_made_spectra_are_told_apart_even_where_there_is_nothing_to_learn():
    """What the published protocol gives with classes that no spectrum can tell."""
    rng = np.random.default_rng(5)
    shared = {
        "spectra": rng.normal(0.5, 0.1, (90, 60)).astype(np.float32),
        "made true": rng.normal(0.9, 0.02, (30, 60)).astype(np.float32),  # a texture of its own
    }
    arrays = {"classes": np.tile([0, 1, 2], 30).astype(np.int32)}
    result = published_fit_task(audit_settings(), arrays, shared, threads=1)
    assert set(result) == set(AUDIT_COLUMNS[3:])
    assert result["n_train"] + result["n_test"] == 120
    assert result["n_test"] == 36
    assert result["success_rate"] > result["success_rate_of_real"] + 0.1
    assert result["success_rate_of_real"] < 0.65
    assert result["taps_used"] == 1
    again = published_fit_task(audit_settings(), arrays, shared, threads=1)
    assert {name: float(value) for name, value in again.items()} == {
        name: float(value) for name, value in result.items()
    }


def test_the_audit_says_what_its_table_says():
    row = dict.fromkeys(AUDIT_COLUMNS[3:], 0.5) | {"n_test": 100, "n_made_in_test": 11}
    table = pd.DataFrame(
        [
            {"labels": "true", "kernel_size": 2, "repeat": 0} | row | {"success_rate": 0.7},
            {"labels": "true", "kernel_size": 3, "repeat": 0} | row | {"success_rate": 0.8},
            {"labels": "shuffled", "kernel_size": 3, "repeat": 0} | row | {"success_rate": 0.25},
        ]
    )
    words = audit_in_words(table, "O", AuditParameters(epochs=9))
    # Of the same kernel size.
    assert "gives 0.800, and 0.250 where the classes" in words
    assert "always naming the largest class: 0.500" in words
    assert "Run with 9 epochs (published: 140)" in words
    assert "11% of its test spectra are made ones" in words
    assert "2: 0.700 (0.700-0.700), 3: 0.800 (0.800-0.800)" in words


def test_a_window_without_the_usual_lines_still_has_a_final_network():
    red = FeatureParameters(low=6600, high=7200, step=5e-4, height=8)
    sweeps = SweepsParameters(chosen="a", named={"a": {"grid": {"augmentation.arm": ["none"]}}})
    sweep = configure_sweep(
        sweeps, red, AugmentationParameters(), NetworkParameters(widths=(4,), dense=4),
        TrainingParameters(epochs=1, steps_per_epoch=2),
    )  # fmt: skip
    ids = [f"s{k}" for k in range(12)]
    sample = pd.DataFrame({"id": ids, "class": ["A", "G"] * 6, "survey": "s", "label_source": "x"})
    manifest = pd.DataFrame({"id": ids, "class": [0, 1] * 6, "fold": 0, "seed": 0, "role": "train"})
    measurements = pd.DataFrame({"id": ids} | dict.fromkeys(LINE_INDICES, np.nan))
    (variant,) = sweep.input_variants
    inputs = RNG.normal(size=(12, *red.input_shape)).astype(np.float32)
    validation = pd.DataFrame(
        {"class": [0, 1], "probability_0": [0.6, 0.4], "probability_1": [0.4, 0.6]}
    )
    network, description, example = fit_final_network(
        sample, measurements, manifest, {variant: lambda: inputs}, {}, validation,
        {"chosen": sweep.configurations[0].model_dump(mode="json")}, sweep,
    )  # fmt: skip
    assert description["sample"] is None  # no line tells whether a star is like these
    assert description["class_names"] == ["A", "G"]
    assert network.predict_on_batch(example).shape == (1, 2)
