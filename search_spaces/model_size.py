"""The number of weights of a configuration's decoder, by formula: known before training, and without torch."""

from __future__ import annotations

from search_spaces.config import RunConfig


def parameters(config: RunConfig, features: int, classes: int, days: int) -> int:
    """Trainable weights of the decoder (`trainable/model.py`) for data with these numbers of features, classes, days.

    `classes` counts the CTC blank. A GRU layer has three gates, each with an input, a recurrent matrix and two biases.
    """
    model = config.model
    directions = 2 if model.bidirectional else 1
    width = model.hidden * directions
    inputs = [features * model.kernel] + [width] * (model.layers - 1)
    gru = sum(directions * 3 * model.hidden * (size + model.hidden + 2) for size in inputs)
    norms = 2 * width * model.layers if model.layer_norm else 0
    day_layers = days * features * (features + 1) if model.day_layers else 0
    return gru + norms + day_layers + (width + 1) * classes
