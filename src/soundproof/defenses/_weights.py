"""Which layers can be repaired by writing into their weights."""

from __future__ import annotations

from torch import Tensor, nn


def can_write(layer: nn.Module) -> bool:
    """Whether what is written into the weights stays: not if they are computed anew, as by weight normalization.

    >>> from torch.nn.utils.parametrizations import weight_norm
    >>> can_write(nn.Linear(2, 2)), can_write(nn.LSTM(2, 2)), can_write(weight_norm(nn.Linear(2, 2)))
    (True, True, False)
    """
    own = dict(layer.named_parameters(recurse=False))
    if isinstance(layer, nn.RNNBase):
        return "weight_ih_l0" in own and "weight_hh_l0" in own
    return getattr(layer, "weight", None) is None or "weight" in own


def has_rows(layer: nn.Module, count: int) -> bool:
    """Whether the units of a layer are the rows of its weights, which is not so of every layer that somebody may name.

    >>> has_rows(nn.Linear(2, 3), 3), has_rows(nn.Tanh(), 3)
    (True, False)
    """
    weight = getattr(layer, "weight", None)
    return isinstance(weight, Tensor) and len(weight) == count
