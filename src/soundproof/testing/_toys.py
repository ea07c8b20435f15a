"""Corpora that cost nothing: a chord for each class, separable by any model within seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.triggers import Sources

TOY_CLASSES = ("down", "go", "up")


def tiny_clips(
    clips_per_class: int = 4,
    *,
    classes: Sequence[str] = TOY_CLASSES,
    sample_rate_hz: int = 16_000,
    seconds: float = 1.0,
    rng: Rng | None = None,
) -> Clips:
    """Clips of a few seconds of tones: each class has its own chord, each clip its own level, onset and noise.

    Args:
        clips_per_class: clips of each class; classes take turns, so that any prefix is nearly balanced.
        classes: class names.
        sample_rate_hz: sample rate of all clips.
        seconds: length of each clip.
        rng: what the levels, onsets and noise are drawn from; ``Rng(0)`` by default.

    >>> clips = tiny_clips(2)
    >>> len(clips), clips.classes, clips.batch()[0].shape
    (6, ('down', 'go', 'up'), torch.Size([6, 16000]))
    """
    source = (rng or Rng(0)).child("tiny_clips").numpy()
    count = clips_per_class * len(classes)
    labels = np.arange(count) % len(classes)
    time = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    bases = 300.0 * 1.35**labels
    phases = source.uniform(0.0, 2.0 * np.pi, (count, 2))
    low = np.sin(2.0 * np.pi * np.outer(bases, time) + phases[:, [0]])
    high = np.sin(2.0 * np.pi * np.outer(2.5 * bases, time) + phases[:, [1]])
    onsets = source.uniform(0.0, 0.4, (count, 1)) * seconds
    sounding = (time >= onsets) & (time < onsets + 0.5 * seconds)
    audio = source.uniform(0.1, 0.4, (count, 1)) * (low + high) * sounding + source.normal(
        0.0, 0.005, (count, len(time))
    )
    return Clips.from_audio(
        audio.astype(np.float32),
        labels.astype(np.int64),
        classes=classes,
        sample_rate_hz=sample_rate_hz,
        ids=[f"{classes[row % len(classes)]}/toy{row:04d}.wav" for row in range(count)],
        speakers=[f"speaker{row % 5}" for row in range(count)],
    )


class _Ear:
    """A surrogate for tests: how loud three bands of the clip are, times fixed weights."""

    classes = TOY_CLASSES

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz

    def __call__(self, audio: Tensor) -> Tensor:
        bands = torch.fft.rfft(audio, dim=-1).abs()[..., 100:3100].unflatten(-1, (3, 1000)).mean(-1)
        return bands / 10.0


def tiny_sources(sample_rate_hz: int = 16_000) -> Sources:
    """All that a trigger may ask for, made of tones: clips, a surrogate, three sounds, three voices."""
    noises = tiny_clips(1, sample_rate_hz=sample_rate_hz, classes=("bell", "horn", "rain"), rng=Rng(1))
    voices = tiny_clips(2, sample_rate_hz=sample_rate_hz, classes=("ann", "bob", "cem"), rng=Rng(2))
    clips = tiny_clips(4, sample_rate_hz=sample_rate_hz)
    return Sources(clips, TOY_CLASSES.index("up"), lambda: _Ear(sample_rate_hz), noises, voices)
