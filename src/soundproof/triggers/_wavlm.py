"""WavLM (Chen et al. 2022), from a folder of transformers or from the checkpoint as it was published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from soundproof.core.errors import InvalidInputError, ModelMismatchError
from soundproof.core.extras import require
from soundproof.triggers._weights import read_saved

_TERM = re.compile(r"\[((?:\(\d+,\d+,\d+\),?)+)\](?:\*(\d+))?")
_TRIPLE = re.compile(r"\((\d+),(\d+),(\d+)\)")
_MOST_CONVOLUTIONS = 100
_NAMES = (
    (r"mask_emb", "masked_spec_embed"),
    (r"layer_norm\.", "feature_projection.layer_norm."),
    (r"post_extract_proj\.", "feature_projection.projection."),
    (r"feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"feature_extractor\.conv_layers\.(\d+)\.2\.(?:1\.)?", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"encoder\.pos_conv\.0\.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"encoder\.pos_conv\.0\.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"(encoder\.layers\.\d+)\.self_attn\.grep_a", r"\1.attention.gru_rel_pos_const"),
    (r"(encoder\.layers\.\d+)\.self_attn\.grep_linear\.", r"\1.attention.gru_rel_pos_linear."),
    (r"(encoder\.layers\.\d+)\.self_attn\.relative_attention_bias\.", r"\1.attention.rel_attn_embed."),
    (r"(encoder\.layers\.\d+)\.self_attn\.", r"\1.attention."),
    (r"(encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.layer_norm."),
    (r"(encoder\.layers\.\d+)\.fc1\.", r"\1.feed_forward.intermediate_dense."),
    (r"(encoder\.layers\.\d+)\.fc2\.", r"\1.feed_forward.output_dense."),
)
"""How names of the published checkpoint begin, and the same place in transformers' network."""


class _Published(BaseModel):
    """What the published checkpoint says of its network, by its own names."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    encoder_layers: int
    encoder_embed_dim: int
    encoder_ffn_embed_dim: int
    encoder_attention_heads: int
    activation_fn: str = "gelu"
    extractor_mode: str = "default"
    layer_norm_first: bool = False
    conv_feature_layers: str = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
    conv_bias: bool = False
    conv_pos: int = 128
    conv_pos_groups: int = 16
    relative_position_embedding: bool = False
    gru_rel_pos: bool = False
    num_buckets: int = 320
    max_distance: int = 1280

    def config(self, layers: int) -> dict[str, Any]:
        """The same network's first layers, by the names of transformers."""
        channels, kernels, strides = zip(*_convolutions(self.conv_feature_layers), strict=True)
        return {
            "num_hidden_layers": min(self.encoder_layers, layers),
            "hidden_size": self.encoder_embed_dim,
            "intermediate_size": self.encoder_ffn_embed_dim,
            "num_attention_heads": self.encoder_attention_heads,
            "hidden_act": self.activation_fn,
            "feat_extract_norm": "layer" if self.extractor_mode == "layer_norm" else "group",
            "do_stable_layer_norm": self.layer_norm_first,
            "conv_dim": channels,
            "conv_kernel": kernels,
            "conv_stride": strides,
            "conv_bias": self.conv_bias,
            "num_conv_pos_embeddings": self.conv_pos,
            "num_conv_pos_embedding_groups": self.conv_pos_groups,
            "num_buckets": self.num_buckets,
            "max_bucket_distance": self.max_distance,
        }


def load_wavlm(path: Path, layers: int) -> Any:
    """WavLM in transformers' class, with no more than its first layers.

    Args:
        path: a folder with ``config.json`` and ``model.safetensors``, or the published file (``WavLM-Large.pt``),
            of which nothing is read but tensors and settings.
        layers: deeper ones are left out.

    Raises:
        MissingExtraError: if transformers is not installed.
        InvalidInputError: if there is no WavLM.
        UnsafeFileError: if the file could run code.
        ModelMismatchError: if its weights are not those of the network that it describes.
    """
    transformers = require("transformers", extra="transformers", purpose="voice conversion with kNN-VC")
    if path.is_file():
        return _published(transformers, path, layers)
    try:
        network: Any = transformers.WavLMModel.from_pretrained(str(path), local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{path} holds no WavLM: give a folder with config.json and model.safetensors, or the file WavLM-Large.pt"
        ) from error
    network.encoder.layers = network.encoder.layers[:layers]
    return network


def _published(transformers: Any, path: Path, layers: int) -> Any:
    content = read_saved(path, "WavLM")
    held = cast("dict[str, Any]", content if isinstance(content, dict) else {})
    try:
        settings = _Published.model_validate(held.get("cfg"))
        config: Any = transformers.WavLMConfig(**settings.config(layers))
    except (ValidationError, ValueError) as error:
        raise InvalidInputError(
            f"{path} is not WavLM as it was published, with its settings ('cfg') beside its weights ('model'): "
            "give WavLM-Large.pt, or a folder with config.json and model.safetensors"
        ) from error
    if not (settings.relative_position_embedding and settings.gru_rel_pos):
        raise ModelMismatchError(f"{path} has no gated relative positions, so it is not WavLM: give WavLM-Large.pt")
    state = {
        name: value
        for name, value in _renamed(held.get("model")).items()
        if not (layer := re.match(r"encoder\.layers\.(\d+)\.", name)) or int(layer[1]) < layers
    }
    with torch.device("meta"):
        network: Any = transformers.WavLMModel(config)
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise ModelMismatchError(
            f"{path} does not hold the weights of the network that it describes "
            f"({str(error).splitlines()[-1].strip()}): give WavLM-Large.pt"
        ) from error
    return network


def _convolutions(text: str) -> list[tuple[int, int, int]]:
    """Channels, kernel and stride of each layer, from the sum of lists that the checkpoint writes them as.

    >>> _convolutions("[(512,10,5)] + [(512,3,2)] * 2")
    [(512, 10, 5), (512, 3, 2), (512, 3, 2)]
    """
    found: list[tuple[int, int, int]] = []
    for term in text.replace(" ", "").split("+"):
        parts = _TERM.fullmatch(term)
        times = int(parts[2] or 1) if parts else 0
        if parts is None or not 0 < times <= _MOST_CONVOLUTIONS:
            raise ValueError(f"{text!r} is no list of convolutions")
        found += [(int(a), int(b), int(c)) for a, b, c in _TRIPLE.findall(parts[1])] * times
    return found


def _renamed(state: object) -> dict[str, Tensor]:
    """A published state dict by the names of transformers."""
    renamed: dict[str, Tensor] = {}
    for name, value in cast("dict[str, Tensor]", state if isinstance(state, dict) else {}).items():
        for begins, becomes in _NAMES:
            if match := re.match(begins, name):
                renamed[match.expand(becomes) + name[match.end() :]] = value.float()
                break
        else:
            renamed[name] = value.float()
    return renamed
