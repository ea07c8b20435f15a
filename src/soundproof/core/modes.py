"""Training and evaluation mode of a network's layers."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from torch import nn


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Generator[None]:
    """Within it the network is in evaluation mode; afterwards every layer is in the mode that it was in before."""
    modes = [(layer, layer.training) for layer in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode
