"""The network for new objects: fitted to everything, calibrated, described."""

import json

import numpy as np
import pandas as pd
import pytest

from skyloom.evaluation.calibration import apply_temperature
from skyloom.learning.final import (
    describe_classifier,
    fit_final,
    rows_and_classes,
    shares_of_training,
    untrained,
)
from skyloom.learning.fitting import fit_classifier


def network(seed=0):
    import keras

    layers = [keras.Input((3,)), keras.layers.Dense(2, activation="softmax")]
    model = keras.Sequential(layers)
    model.layers[-1].set_weights([np.random.default_rng(seed).normal(size=(3, 2)), np.zeros(2)])
    return model


def test_objects_of_a_split_are_rows_of_the_sample():
    sample = pd.DataFrame({"id": list("abcde")})
    manifest = pd.DataFrame({"id": list("dbd") + ["a"] * 2, "class": [1, 0, 1, 2, 2]})
    rows, classes = rows_and_classes(sample, manifest)
    assert rows.tolist() == [3, 1, 0]
    assert classes.tolist() == [1, 0, 2]
    assert classes.dtype == np.int32


def test_everything_is_trained_on_and_nothing_stops_it():
    rng = np.random.default_rng(0)
    shared = {"inputs": rng.normal(size=(20, 3)).astype(np.float32)}
    asked = {}

    def training_data(settings, shared, rows, targets):
        asked.update(settings=settings, rows=rows, targets=targets)
        return shared["inputs"][rows], targets

    def fit_network(settings, shared, train, validation):
        asked.update(validation=validation)
        model = network()
        model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        given = {"epochs": settings["epochs"], "batch_size": 8, "patience": 2, "min_epochs": 1}
        return model, *fit_classifier(model, train, validation, seed=3, **given)

    rows, targets = np.arange(4, 20), (np.arange(16) % 2).astype(np.int32)
    settings = {"epochs": [4]}
    model, example, learnt = fit_final(
        settings, shared, rows, targets, training_data=training_data, fit_network=fit_network
    )
    assert asked["settings"] is settings
    assert asked["validation"] is None
    np.testing.assert_array_equal(asked["rows"], rows)
    np.testing.assert_array_equal(asked["targets"], targets)
    np.testing.assert_array_equal(example, shared["inputs"][4:5])
    np.testing.assert_array_equal(learnt, targets)
    again, *_ = fit_final(
        settings, shared, rows, targets, training_data=training_data, fit_network=fit_network
    )
    assert model.predict_on_batch(example).tolist() == again.predict_on_batch(example).tolist()
    assert (model.predict_on_batch(example) != network().predict_on_batch(example)).any()


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_classifier_is_calibrated_and_described(factor):
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 4000)
    truth = (rng.random(4000) < p).astype(int)
    said = apply_temperature(np.column_stack([1 - p, p]), 1 / factor)
    validation = pd.DataFrame({"class": truth, "probability_0": said[:, 0]})
    validation["probability_1"] = said[:, 1]
    model, inputs = network(), rng.normal(size=(5, 3)).astype(np.float32)
    before = model.predict_on_batch(inputs)
    chosen = {"name": "01", "training": {"epochs": 7}}
    description = describe_classifier(
        model,
        {"chosen": chosen},
        validation,
        ["dark", "bright"],
        [0.5, 0.5],
        n_objects=12,
        sample={"limit": 3},
    )
    assert json.loads(json.dumps(description)) == description
    assert description["trained"] is True
    assert description["configuration"] == chosen
    assert description["class_names"] == ["dark", "bright"]
    assert description["trained_shares"] == [0.5, 0.5]
    assert (description["n_objects"], description["sample"]) == (12, {"limit": 3})
    assert description["temperature"] == pytest.approx(factor, rel=0.1)
    first, last = description["calibration_error"]
    assert last < 0.03 < first
    expected = apply_temperature(before, description["temperature"])
    np.testing.assert_allclose(model.predict_on_batch(inputs), expected, atol=1e-5)


def test_shares_of_a_training_are_those_that_the_network_saw():
    classes = np.array([0, 0, 0, 2])
    assert shares_of_training(classes, 3, balanced=False) == [0.75, 0.0, 0.25]
    assert shares_of_training(classes, 3, balanced=True) == [1 / 3] * 3


def test_what_stands_for_a_classifier_that_could_not_be_trained_says_so():
    model = network()
    same, description, example = untrained(model, (3,))
    assert same is model
    assert description == {"trained": False}
    assert example.shape == (1, 3)
    assert example.dtype == np.float32
    assert same.predict_on_batch(example).shape == (1, 2)
