"""The number of weights of a configuration's decoder, by formula: known before training, and without torch."""

from __future__ import annotations

from search_spaces.config import EMAConfig, RunConfig
from search_spaces.parsing.feature_choice import number_of_features


def state_bytes(config: RunConfig, features: int, classes: int, days: int) -> int:
    """About the bytes of a run's state: float32 weights, the moments of the optimizer, and the averaged weights."""
    moments = 1 if config.optimizer.kind == "sgd" else 2
    averaging = config.averaging
    decays = averaging.decays if isinstance(averaging, EMAConfig) else None
    averages = len(decays) if decays else int(averaging.kind != "none")
    return 4 * (1 + moments + averages) * parameters(config, features, classes, days)


def parameters(config: RunConfig, features: int, classes: int, days: int) -> int:
    """Trainable weights of the decoder (`trainable/model.py`) for data with these numbers of features, classes, days.

    `features` are those of the data, of which `data.features` may choose some; `classes` counts the CTC blank. A GRU
    layer has three gates, each with an input, a recurrent matrix and two biases.
    """
    model = config.model
    features = number_of_features(config.data.features, features)
    directions = 2 if model.bidirectional else 1
    width = model.hidden * directions
    inputs = [features * model.kernel] + [width] * (model.layers - 1)
    gru = sum(directions * 3 * model.hidden * (size + model.hidden + 2) for size in inputs)
    norms = 2 * width * model.layers if model.layer_norm else 0
    day_layers = days * features * (features + 1) if model.day_layers else 0
    start = model.hidden if model.learned_start else 0
    head = model.head_layers * (width * (width + 1) + {"layer": 2, "rms": 1, "none": 0}[model.head_norm] * width)
    return gru + norms + day_layers + start + head + (width + 1) * classes
