"""Self-attention whose heads can be measured and masked, which torch's own fused layer does not allow."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Heads(nn.Module):
    """Passes on what the heads found, [batch, tokens, heads, width]: a place to hook into."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        """The same."""
        return x


def is_attentive(network: nn.Module) -> bool:
    """Whether something in the network attends: our own heads, torch's layer, or what its class calls attention.

    >>> is_attentive(nn.TransformerEncoderLayer(4, 2)), is_attentive(nn.Sequential(nn.Linear(4, 2)))
    (True, False)
    """
    known = (Heads, nn.MultiheadAttention)
    return any(isinstance(one, known) or "Attention" in type(one).__name__ for one in network.modules())


def projections_of(network: nn.Module) -> dict[str, int]:
    """The linear layers that take what heads found, side by side, and how many heads there are, by qualified name.

    Those of attentions as ``transformers`` writes them: modules that say how many heads they have, with an ``out_proj``
    or ``o_proj``.
    """
    found: dict[str, int] = {}
    for name, layer in network.named_modules():
        if "Attention" not in type(layer).__name__ or isinstance(layer, (Attention, nn.MultiheadAttention)):
            continue
        said: Any = layer
        heads: int | None = getattr(said, "num_heads", None) or getattr(said, "num_attention_heads", None)
        for child, part in layer.named_children():
            fits = isinstance(part, nn.Linear) and isinstance(heads, int) and part.in_features % heads == 0
            if fits and heads and child in ("out_proj", "o_proj"):
                found[f"{name}.{child}" if name else child] = heads
    return found


def head_outputs(layer: nn.MultiheadAttention, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> Tensor:
    """What the heads of torch's layer found, side by side, [..., width]: its output with nothing to mix them."""
    joint = nn.Linear(layer.embed_dim, layer.embed_dim).to(layer.out_proj.weight)
    with torch.no_grad():
        nn.init.eye_(joint.weight)
        nn.init.zeros_(joint.bias)
    unmixed = copy.copy(layer)
    unmixed.__dict__["_modules"] = {**layer._modules, "out_proj": joint}
    return unmixed.forward(*inputs, **keywords)[0]


class Attention(nn.Module):
    """Multi-head self-attention over [batch, tokens, width].

    Args:
        width: of a token.
        heads: how many heads share it.
        input_bias: whether queries, keys and values have biases.
        project: whether a linear layer mixes the heads; without it their outputs are just joined.
        dropout: of the attention weights.
    """

    def __init__(self, width: int, heads: int, *, input_bias: bool, project: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.inputs = nn.Linear(width, 3 * width, bias=input_bias)
        self.heads = Heads(heads)
        self.output = nn.Linear(width, width) if project else nn.Identity()
        self._dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """What each token gathers from all, [batch, tokens, width]."""
        query, key, value = self.inputs(x).unflatten(-1, (3, self.heads.count, -1)).permute(2, 0, 3, 1, 4)
        dropout = self._dropout if self.training else 0.0
        found = _attend(query, key, value, dropout)
        return self.output(self.heads(found.transpose(1, 2)).flatten(2))


def _attend(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Each token's mean of the values, weighted by how its query meets the keys, [batch, heads, tokens, width].

    On processors torch's fused kernel takes three times as long forth and back in bfloat16 as the plain products.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    weights = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1)
    return nn.functional.dropout(weights, dropout).to(value.dtype) @ value


class Block(nn.Module):
    """Attention and a two-layer network, each beside a shortcut: normalized after the sum, or before each of the two.

    Args:
        attention: over tokens [batch, tokens, width].
        width: of a token.
        hidden: width of the hidden layer.
        norm_first: normalize what goes into each part, not the sums.
        norm_eps: of the layer normalizations.
        dropout: after each part, and in the hidden layer.
    """

    def __init__(
        self,
        attention: Attention,
        width: int,
        hidden: int,
        *,
        norm_first: bool = False,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.network = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width))
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.drop = nn.Dropout(dropout)
        self._norm_first = norm_first

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [batch, tokens, width]."""
        if self._norm_first:
            x = x + self.drop(self.attention(self.norm1(x)))
            return x + self.drop(self.network(self.norm2(x)))
        x = self.norm1(x + self.drop(self.attention(x)))
        return self.norm2(x + self.drop(self.network(x)))
