"""Initialisation of layers, for `model.apply(...)`."""

from torch import nn


def xavier_normal_initialization(module: nn.Module) -> None:
    """Xavier-normal weights for Embedding and Linear, zero biases (Glorot and Bengio, AISTATS 2010)."""
    if isinstance(module, nn.Embedding | nn.Linear):
        nn.init.xavier_normal_(module.weight)
    _zero_bias(module)


def xavier_uniform_initialization(module: nn.Module) -> None:
    """Xavier-uniform weights for Embedding and Linear, zero biases (Glorot and Bengio, AISTATS 2010)."""
    if isinstance(module, nn.Embedding | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
    _zero_bias(module)


def _zero_bias(module: nn.Module) -> None:
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
