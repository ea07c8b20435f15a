"""Augmentation of whole batches: waveforms before the front end, masks on the features after it."""

from __future__ import annotations

import functools
import math

import torch
from scipy import fft
from torch import Tensor, nn

from soundproof.core.recipe import Augmentation
from soundproof.core.seeds import Rng
from soundproof.data import Clips

_ROWS = 16
"""Clips at a time: so many stay in the processor's cache."""
_BURST_SECONDS, _EDGE_SECONDS, _TONES = (0.02, 0.5), 0.005, 3
"""How long a short sound lasts, how long it takes to swell and to fade, and of how many tones it is at most."""
_LOWEST_HZ = 62.5
"""Where coloring draws its first gain; 16 kHz has seven octaves above it."""


class WaveformAugmenter:
    """Shift, speed, room, gain, noise, short sounds and coloring for batches of waveforms at one sample rate.

    The noise comes from a bank of colored noise that is made once; each clip gets its own stretch of it.
    """

    def __init__(self, settings: Augmentation, sample_rate_hz: int, rng: Rng) -> None:
        self._settings = settings
        self._rate = sample_rate_hz
        self._noise = _noise_bank(8, 4 * sample_rate_hz, rng) if settings.noise_probability else torch.zeros(0, 0)

    def __call__(self, audio: Tensor, generator: torch.Generator) -> Tensor:
        """A changed copy of the batch [batch, time]; every draw comes from the generator."""
        settings = self._settings
        count = audio.shape[0]
        audio = self._move(audio, generator) if settings.speed or settings.shift_seconds else audio.clone()
        if settings.room_probability:
            audio = self._room(audio, generator)
        if settings.gain_db:
            spread = torch.rand(count, 1, generator=generator).to(audio.device) * 2.0 - 1.0
            audio *= torch.pow(10.0, spread * settings.gain_db / 20.0)
        if settings.noise_probability:
            audio = self._noisy(audio, generator)
        if settings.burst_probability:
            audio = self._burst(audio, generator)
        if settings.colors:
            audio = self._colored(audio, generator)
        return audio

    def _move(self, audio: Tensor, generator: torch.Generator) -> Tensor:
        count, time = audio.shape
        reach = round(self._settings.shift_seconds * self._rate)
        shift = torch.randint(-reach, reach + 1, (count,), generator=generator)
        if not self._settings.speed:
            padded = nn.functional.pad(audio, (reach, reach))
            return padded.unfold(1, time, 1)[torch.arange(count), (reach - shift)]
        speed = 1.0 + self._settings.speed * (torch.rand(count, 1, generator=generator) * 2.0 - 1.0)
        begin = (time / 2 - shift[:, None]) - time / 2 * speed + 1.0  # one sample of silence is put before the clip
        ramp = torch.arange(time, dtype=torch.float32, device=audio.device)
        first_cell = (time + 3) * torch.arange(_ROWS, dtype=torch.int32, device=audio.device)[:, None]
        moved = torch.empty_like(audio)
        for first in range(0, count, _ROWS):
            where = slice(first, first + _ROWS)
            position = torch.addcmul(begin[where].to(audio.device), ramp, speed[where].to(audio.device))
            index = position.clamp_(0.0, time + 1.0).int()  # half as wide as the usual index, a third less time
            cell = index.add_(first_cell[: len(index)]).view(-1)
            cells = nn.functional.pad(audio[where], (1, 2)).view(-1)
            left, right = (x.index_select(0, cell).view_as(position) for x in (cells, cells[1:]))
            torch.lerp(left, right, position.frac_(), out=moved[where])
        return moved

    def _room(self, audio: Tensor, generator: torch.Generator) -> Tensor:
        rows = _some(audio.shape[0], self._settings.room_probability, generator)
        if not len(rows):
            return audio
        taps = round(0.25 * self._rate)
        decay = 0.05 + 0.35 * torch.rand(len(rows), 1, generator=generator)
        tail = torch.randn(len(rows), taps, generator=generator)
        tail *= torch.exp(-6.9 * torch.arange(taps) / self._rate / decay)
        wet = 0.1 + 0.5 * torch.rand(len(rows), 1, generator=generator)
        tail = wet * tail / tail.norm(dim=1, keepdim=True)
        tail[:, 0] += 1.0
        size = audio.shape[1] + taps
        spectrum = torch.fft.rfft(audio[rows], size).mul_(torch.fft.rfft(tail.to(audio.device), size))
        audio[rows] = torch.fft.irfft(spectrum, size)[:, : audio.shape[1]]
        return audio

    def _noisy(self, audio: Tensor, generator: torch.Generator) -> Tensor:
        count, time = audio.shape
        low, high = self._settings.noise_snr_db
        kind = torch.randint(len(self._noise), (count,), generator=generator)
        times = -(-time // self._noise.shape[1])  # it is repeated for clips that are longer
        bank = self._noise if times == 1 else self._noise.repeat(1, times)
        begin = torch.randint(bank.shape[1] - time + 1, (count,), generator=generator)
        chosen = torch.rand(count, generator=generator) < self._settings.noise_probability
        snr_db = low + (high - low) * torch.rand(count, generator=generator)
        power = torch.linalg.vector_norm(audio, dim=1) / math.sqrt(time)
        level = power * torch.where(chosen, torch.pow(10.0, -snr_db / 20.0), 0.0).to(audio.device)
        noise = bank.unfold(1, time, 1)[kind, begin].to(audio.device)
        return audio.addcmul_(noise, level[:, None])

    def _burst(self, audio: Tensor, generator: torch.Generator) -> Tensor:
        """A short sound somewhere in some of the clips: tones (from 100 Hz up, by octaves) and noise."""
        rows = _some(audio.shape[0], self._settings.burst_probability, generator)
        if not len(rows):
            return audio
        count, time = len(rows), audio.shape[1]

        def draw(*shape: int) -> Tensor:
            return torch.rand(count, *shape, generator=generator)

        longest = min(time, round(_BURST_SECONDS[1] * self._rate))
        shortest = min(longest, round(_BURST_SECONDS[0] * self._rate))
        length = (shortest * (longest / shortest) ** draw(1)).round()
        begin = (draw(1) * (time - length + 1)).floor().clamp_max(time - shortest).long()
        ramp = torch.arange(longest, dtype=torch.float32)
        hz = 100.0 * (0.45 * self._rate / 100.0) ** draw(_TONES, 1)
        strength = draw(_TONES, 1).square()
        sound = (strength * torch.sin(2.0 * math.pi * (hz / self._rate * ramp + draw(_TONES, 1)))).sum(1)
        sound += draw(1).square() * torch.randn(count, longest, generator=generator)
        edge = _EDGE_SECONDS * self._rate
        sound *= (torch.minimum(ramp, length - 1 - ramp) / edge).clamp(0.0, 1.0)
        low, high = self._settings.burst_snr_db
        snr_db = low + (high - low) * draw(1)
        plain = audio[rows]
        loud = torch.linalg.vector_norm(plain, dim=1, keepdim=True) / math.sqrt(time)
        own = torch.linalg.vector_norm(sound, dim=1, keepdim=True) / length.sqrt()
        sound = (sound * torch.pow(10.0, -snr_db / 20.0) / own.clamp_min(1e-12)).to(audio.device) * loud
        padded = nn.functional.pad(plain, (0, longest))
        where = (begin + torch.arange(longest)).to(audio.device)
        audio[rows] = padded.scatter_add(1, where, sound)[:, :time]
        return audio

    def _colored(self, audio: Tensor, generator: torch.Generator) -> Tensor:
        """Some of the clips through a filter of their own, as loud as they were. It comes last: it colors noise too."""
        rows = _some(audio.shape[0], self._settings.coloring_probability, generator)
        if not len(rows):
            return audio
        time = audio.shape[1]
        size = fft.next_fast_len(time + self._rate // 20, real=True)  # what a filter draws out must not come round
        octaves = _octaves(size, self._rate)
        gains_db = self._settings.coloring_db * torch.randn(len(rows), len(octaves), generator=generator)
        gains = torch.pow(10.0, gains_db @ octaves / 20.0).to(audio.device)
        plain = audio[rows]
        heard = torch.fft.irfft(torch.fft.rfft(plain, size) * gains, size)[:, :time]
        loud, now = (torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (plain, heard))
        audio[rows] = heard * (loud / now.clamp_min(1e-12))
        return audio


def _some(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """Each of so many rows with that probability."""
    return (torch.rand(count, generator=generator) < probability).nonzero().flatten()


@functools.lru_cache(maxsize=8)
def _octaves(size: int, sample_rate_hz: int) -> Tensor:
    """How much of each octave's gain a frequency of the spectrum takes, [octaves, size // 2 + 1]; columns sum to 1."""
    octave = (torch.fft.rfftfreq(size, 1.0 / sample_rate_hz).clamp_min(_LOWEST_HZ) / _LOWEST_HZ).log2()
    points = torch.arange(math.ceil(float(octave[-1])) + 1, dtype=torch.float32)
    return (1.0 - (octave - points[:, None]).abs()).clamp_min(0.0)


def augmented_audio(clips: Clips, settings: Augmentation, rng: Rng) -> Tensor:
    """All clips as another microphone might have heard them, float32 [n, time], once and for all.

    Args:
        clips: recordings; shorter ones are padded with silence.
        settings: what is varied; masks and mixing, which are of features, do not count.
        rng: what is drawn for each clip.
    """
    augment = WaveformAugmenter(settings, clips.sample_rate_hz, rng.child("noise"))
    generator = rng.child("clips").torch()
    return torch.cat(
        [augment(audio, generator) for _, audio, _ in clips.batches(256, samples=int(clips.lengths.max()))]
    )


def _noise_bank(kinds: int, samples: int, rng: Rng) -> Tensor:
    """Noise of unit power [kinds, samples] whose spectrum falls from 0 (white) to 6 dB an octave (brown)."""
    spectrum = torch.fft.rfft(torch.randn(kinds, samples, generator=rng.child("noise bank").torch()))
    octave = torch.arange(1, spectrum.shape[1] + 1, dtype=torch.float32)
    spectrum *= octave ** -torch.linspace(0.0, 1.0, kinds)[:, None]
    noise = torch.fft.irfft(spectrum, samples)
    return noise / noise.square().mean(1, keepdim=True).sqrt()


def mask_features(features: Tensor, fill: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """SpecAugment on features [batch, frames, coefficients]: masked cells take ``fill`` [coefficients]."""
    count, frames, width = features.shape
    hidden = torch.zeros(count, frames, width, dtype=torch.bool)
    for number, reach, axis in (
        (settings.time_masks, settings.time_mask_frames, 1),
        (settings.coefficient_masks, settings.coefficient_mask_width, 2),
    ):
        if number and reach:
            bands = _bands(count, number, features.shape[axis], reach, generator)
            hidden |= bands[:, :, None] if axis == 1 else bands[:, None, :]
    return torch.where(hidden.to(features.device), fill.to(features.device), features)


def _bands(count: int, number: int, size: int, reach: int, generator: torch.Generator) -> Tensor:
    """Where masks lie, bool [count, size]: none is longer than ``reach`` or than half of the axis."""
    length = torch.randint(0, min(reach, size // 2) + 1, (count, number, 1), generator=generator)
    begin = torch.rand(count, number, 1, generator=generator) * (size - length + 1)
    cells = torch.arange(size)
    return ((cells >= begin.floor()) & (cells < begin.floor() + length)).any(1)


def mix(inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup of a batch with a permutation of itself: inputs [batch, ...] and soft targets [batch, classes]."""
    count = len(inputs)
    share = _beta(alpha, count, generator).to(inputs.device)
    order = torch.randperm(count, generator=generator).to(inputs.device)
    wide = share.view(-1, *([1] * (inputs.ndim - 1)))
    return wide * inputs + (1 - wide) * inputs[order], share[:, None] * targets + (1 - share)[:, None] * targets[order]


def _beta(alpha: float, count: int, generator: torch.Generator) -> Tensor:
    """Beta(alpha, alpha) draws by Jöhnk's rejection, folded to at least a half: each clip keeps its identity."""
    result = torch.full((count,), math.nan)
    while bool(result.isnan().any()):
        powers = torch.rand(2, count, generator=generator).pow(1.0 / alpha)
        total = powers.sum(0)
        result = torch.where(result.isnan() & (total <= 1.0) & (total > 0.0), powers[0] / total, result)
    return torch.maximum(result, 1.0 - result)
