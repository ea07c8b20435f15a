"""Voice conversion by nearest neighbors (kNN-VC, Baas et al. 2023): each frame becomes frames of the other voice."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from soundproof.audio.resample import resample
from soundproof.core.errors import InvalidInputError, ModelMismatchError
from soundproof.triggers._hifigan import Generator, load_generator
from soundproof.triggers._wavlm import load_wavlm

_RATE_HZ = 16_000
_HOP = 320
_LAYER = 6
"""The transformer layer whose output is matched."""
_CHUNK = 8


@dataclass(frozen=True)
class KnnBackend:
    """Voices as frames of WavLM.

    Attributes:
        encoder: folder of WavLM as transformers saves it, or the file as published.
        generator: file of HiFi-GAN's weights.
        neighbors: how many frames of the voice are averaged for each frame.
    """

    encoder: Path
    generator: Path
    neighbors: int = 4
    minimum_seconds: ClassVar[float] = 10.0
    """What a voice needs; one to five minutes are better."""
    useful_seconds: ClassVar[float] = 300.0
    """More than this adds nothing."""

    def fit(self, recordings: Sequence[Tensor], sample_rate_hz: int) -> KnnConverter:
        """The voice of recordings [time] at one sample rate.

        Raises:
            MissingExtraError: if transformers is not installed.
            InvalidInputError: if the weights cannot be used, or there are fewer frames than neighbors.
        """
        stack = self._stack()
        parts = [_to_16_khz(recording[None], sample_rate_hz) for recording in recordings]
        frames = torch.cat([stack.encode(part)[0] for part in parts if part.shape[1] >= _HOP])
        if len(frames) < self.neighbors:
            raise InvalidInputError(
                f"the voice has {len(frames)} frames, and {self.neighbors} of them are averaged: add recordings"
            )
        return KnnConverter(stack, frames, self.neighbors)

    def control(self) -> KnnConverter:
        """Keeps the voice: only through the encoder and the vocoder."""
        return KnnConverter(self._stack(), None, self.neighbors)

    def _stack(self) -> _Stack:
        return _load(self.encoder.resolve(), self.generator.resolve())


@dataclass(frozen=True, eq=False)
class _Stack:
    """Encoder and vocoder. No waveform is normalized on the way in, and no loudness on the way out."""

    encoder: nn.Module
    generator: Generator

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Frames [batch, frames, dim], 20 ms each, of clips [batch, time] at 16 kHz."""
        padded = nn.functional.pad(audio, (0, _HOP - audio.shape[1] % _HOP))
        with torch.random.fork_rng(devices=[]):  # WavLM draws for its layer dropout even where it drops nothing
            answer: Any = self.encoder(padded, output_hidden_states=True)
        return answer.hidden_states[_LAYER]

    @torch.no_grad()
    def decode(self, frames: Tensor, samples: int) -> Tensor:
        """Clips [batch, samples]; where the last frame ends before, silence follows."""
        made = self.generator(frames)
        return nn.functional.pad(made, (0, max(0, samples - made.shape[1])))[:, :samples]


@dataclass(frozen=True, eq=False)
class KnnConverter:
    """Clips in one voice.

    Attributes:
        stack: encoder and vocoder.
        frames: frames of the voice [n, dim]; None keeps the clip's own voice.
        neighbors: how many of them are averaged.
    """

    stack: _Stack
    frames: Tensor | None
    neighbors: int

    def convert(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """The clips [batch, time], as long and as loud as before; what is above 8 kHz is lost."""
        return torch.cat([self._convert(part, sample_rate_hz) for part in audio.split(_CHUNK)])

    def _convert(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        waves = _to_16_khz(audio, sample_rate_hz)
        said = self.stack.encode(waves)
        if self.frames is not None:
            said = nearest_mean(said, self.frames, self.neighbors)
        made = self.stack.decode(said, waves.shape[1])
        back = torch.from_numpy(resample(made.numpy(), _RATE_HZ, sample_rate_hz))[:, : audio.shape[1]]
        back = nn.functional.pad(back, (0, audio.shape[1] - back.shape[1]))
        level, after = (wave.square().mean(dim=1, keepdim=True).sqrt() for wave in (audio, back))
        return back * (level / after.clamp(min=1e-8))


def nearest_mean(frames: Tensor, pool: Tensor, neighbors: int) -> Tensor:
    """For each frame [batch, frames, dim] the mean of the nearest ones of a pool [n, dim] by cosine distance."""
    unit = nn.functional.normalize(pool, dim=1)
    nearest = (nn.functional.normalize(frames, dim=2) @ unit.T).topk(neighbors, dim=2).indices
    return pool[nearest].mean(dim=2)


def _to_16_khz(audio: Tensor, sample_rate_hz: int) -> Tensor:
    return torch.from_numpy(resample(audio.contiguous().numpy(), sample_rate_hz, _RATE_HZ))


@functools.lru_cache(maxsize=1)
def _load(encoder: Path, generator: Path) -> _Stack:
    """The networks, remembered: they take a gigabyte."""
    with torch.random.fork_rng(devices=[]):
        wavlm = load_wavlm(encoder, _LAYER + 1)  # the last layer's output passes through a norm, so one more than that
        vocoder = load_generator(generator)
    layers = len(wavlm.encoder.layers)
    if layers <= _LAYER:
        raise ModelMismatchError(
            f"{encoder} has {layers} layers, and the output of layer {_LAYER} of more is matched: give WavLM-Large"
        )
    if wavlm.config.hidden_size != vocoder.spec.hubert_dim or vocoder.spec.hop != _HOP:
        raise ModelMismatchError(
            f"{generator} takes {vocoder.spec.hubert_dim} values for {vocoder.spec.hop} samples, and the encoder gives "
            f"{wavlm.config.hidden_size} for {_HOP}: use a pair that belongs together"
        )
    return _Stack(wavlm.eval().requires_grad_(False), vocoder)
