"""What several parts of the benchmark measure with: networks, noise in place of speech, the training loop's loss."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.core import registry
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.data.synthetic import Synthetic
from soundproof.models import Model, Victim
from soundproof.models.attention_lstm import AttentionLstm
from soundproof.models.resnet import ResNet
from soundproof.models.small_cnn import SmallCnn
from soundproof.training.fit import autocasting, lay_out
from soundproof.training.steps import Loss, Term

BATCH = 64
_SPOKEN = 2000
CLASSES = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


def models() -> dict[str, Model]:
    """The networks that are timed, every architecture as it is by default, by the name in the table."""
    titled: dict[str, Model] = {
        "ResNet 16-32-64": ResNet(),
        "Small CNN": SmallCnn(),
        "attention-LSTM": AttentionLstm(),
    }
    there = {type(model).short_name() for model in titled.values()}
    others = [name for name in registry.names("models") if name not in there]
    return titled | {name: cast("Model", registry.from_spec("models", name)) for name in others}


def noise_clips(count: int, sample_rate_hz: int) -> Clips:
    """One-second clips of noise in memory; what they sound like does not change how long anything takes."""
    generator = np.random.default_rng(0)
    samples = (generator.standard_normal(count * sample_rate_hz, np.float32) * 1000.0).astype(np.int16)
    return Clips.of(
        samples,
        np.arange(count, dtype=np.int64) * sample_rate_hz,
        np.full(count, sample_rate_hz, np.int64),
        np.arange(count, dtype=np.int64) % len(CLASSES),
        classes=CLASSES,
        ids=[f"clip{row:06d}" for row in range(count)],
        sample_rate_hz=sample_rate_hz,
    )


def speech_clips(count: int) -> Clips | None:
    """Clips of synthetic speech at 16 kHz: 2,000 that are spoken once, again and again. None without espeak-ng."""
    if find_spec("espeakng_loader") is None:
        return None
    spoken = Synthetic(words=CLASSES, train_clips=_SPOKEN, validation_clips=0, test_clips=10).load(16_000).train
    clips = spoken.select(np.arange(count) % len(spoken))
    return dataclasses.replace(clips, ids=np.array([f"{row // len(spoken)}/{id}" for row, id in enumerate(clips.ids)]))


def victim(model: Model, device: torch.device) -> Victim:
    """An untrained victim in training mode, laid out as the training loop lays it out."""
    made = Victim.create(model, CLASSES, Rng(0)).to(device)
    lay_out(made.network)
    return made.train()


def loss_of(network: nn.Module, inputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Loss:
    """The training loop's loss of one batch, at the precision that it chooses here."""
    criterion = nn.CrossEntropyLoss(label_smoothing=smoothing)

    def loss(term: Term | None = None) -> Tensor:
        assert term is None  # no step that is timed adds one
        with autocasting("auto", inputs.device):
            logits = network(inputs)
        return criterion(logits.float(), labels)

    return loss
