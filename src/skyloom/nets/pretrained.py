"""A classifier on top of a network that was trained on simulated profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def classifier_on(backbone: keras.Model, n_classes: int, *, frozen: bool, seed: int) -> keras.Model:
    """Put a softmax layer on the outputs of a pre-trained network.

    Its dropout is off and its batch normalisation keeps the averages of the pre-training: a few
    hundred objects are too few to learn them anew.

    Parameters
    ----------
    backbone : keras.Model
        Pre-trained; becomes part of the result.
    n_classes : int
        Outputs of the softmax.
    frozen : bool
        Train the new layer only.
    seed : int
        Of its initial weights.

    Returns
    -------
    keras.Model
        Not compiled.
    """
    import keras
    from keras import layers

    backbone.trainable = not frozen
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
        elif isinstance(layer, layers.Dropout):
            layer.rate = 0
    image = keras.Input(backbone.input_shape[1:], name="image")
    probability = layers.Dense(
        n_classes,
        activation="softmax",
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        name="probability",
    )
    return keras.Model(image, probability(backbone(image)), name=f"{backbone.name}_pretrained")
