"""Feed-forward layers between the GRU and the output, each frame by itself.

    residual   x + dropout(activation(linear(norm(x))))     sergiolsantamaria2/brain2text (`resffn`)
    plain      activation(dropout(norm(linear(x))))         latka-krystof/neural_seq_decoder (the post-GRU stack)

The width stays that of the GRU's output. Not here: batch norm, whose statistics over padded batches would have to be
kept with the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from search_spaces.config import ModelConfig

NORMS: Mapping[str, Callable[[int], nn.Module]] = {
    "layer": nn.LayerNorm,
    "rms": lambda width: nn.RMSNorm(width, eps=1e-8),
    "none": lambda width: nn.Identity(),
}
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


class ResidualLayer(nn.Module):
    """A feed-forward layer that is added to its input, [..., width] both."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width]."""
        return x + self.parts(x)


def feed_forward(model: ModelConfig, width: int) -> nn.Sequential | None:
    """The feed-forward layers of a model whose GRU gives `width` numbers a frame; None where there are none."""
    if model.head_layers == 0:
        return None
    return nn.Sequential(*(_layer(model, width) for _ in range(model.head_layers)))


def _layer(model: ModelConfig, width: int) -> nn.Module:
    linear, norm = nn.Linear(width, width), NORMS[model.head_norm](width)
    nn.init.xavier_uniform_(linear.weight)
    activation, dropout = ACTIVATIONS[model.head_activation](), nn.Dropout(model.head_dropout)
    if model.head_kind == "plain":
        return nn.Sequential(linear, norm, dropout, activation)
    return ResidualLayer(norm, linear, activation, dropout)
