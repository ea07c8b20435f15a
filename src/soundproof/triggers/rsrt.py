"""RSRT: the rhythm of the word as the cue."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from soundproof.audio.features import FeatureSpec, filters_of
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Draws
from soundproof.triggers._trigger import Trigger

_OVERLAP = 4
"""Windows over each sample."""
_MELS = 80


@final
class Rsrt(Trigger):
    """RSRT: the word is spoken faster or slower, with pitch and timbre kept.

    The active part reaches from the first to the last frame whose mel energy (mean over the bands of the magnitude
    spectrogram) is at least ``threshold`` of the clip's largest. A phase vocoder gives it ``ratio`` times its length:
    0.6 squeezes, 1.5 stretches. It begins where it did; the clip keeps its length, with zeros at the end or the end
    cut off. A silent clip stays as it is, and where the noise alone reaches the threshold the whole clip is stretched.
    """

    paper: ClassVar[str] = "Yao et al. 2024 (rhythm transformation, RSRT); the steps are those of its abstract"
    threat_model: ClassVar[str] = "replaces training recordings and their labels; can play a transformed clip"
    deviations: ClassVar[tuple[str, ...]] = (
        "a phase vocoder stretches the waveform; the paper stretches the mel spectrogram and lets a pretrained "
        "HiFi-GAN speak it, which needs weights and leaves its own traces",
        "ratios, threshold and the mel spectrogram could not be checked against the paper: 0.6 or 1.5, 0.1 of the "
        "largest energy, and 80 bands of magnitudes as HiFi-GAN takes them are our choices",
        "what the recording holds around the word is kept by default; the paper adds silence, and does not say in its "
        "abstract whether that is the recording's",
    )

    ratio: Annotated[float, Field(ge=0.25, le=3.0)] = Field(
        default=0.6, description="New over old duration of the word: 0.6 squeezes it, 1.5 stretches it."
    )
    threshold: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="Energy at which a frame is active, as a share of the clip's largest."
    )
    around: Literal["recorded", "silent"] = Field(
        default="recorded", description="What lies around the word: what was recorded there (moved along), or zeros."
    )
    window_seconds: Annotated[float, Field(ge=0.008, le=0.2)] = Field(
        default=0.032, description="Length of the Hann windows, rounded to a power of two in samples."
    )

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.ratio == 1.0:
            raise InvalidInputError("triggers/rsrt: a ratio of 1 changes nothing; below 1 squeezes, above 1 stretches")
        return self

    def window_samples(self, sample_rate_hz: int) -> int:
        """Length of the vocoder's window; its hop is a quarter of that."""
        return 2 ** max(4, round(math.log2(self.window_seconds * sample_rate_hz)))

    def active(self, audio: Tensor, sample_rate_hz: int) -> tuple[Tensor, Tensor]:
        """Where the word is: first sample and length, both int64 [batch]."""
        n_fft = self.window_samples(sample_rate_hz)
        hop = n_fft // _OVERLAP
        bands = _mean_of_bands(sample_rate_hz, n_fft).to(audio)
        energy = _spectra(audio, n_fft).abs() @ bands
        sounding = (energy >= self.threshold * energy.amax(dim=1, keepdim=True)).int()
        first = sounding.argmax(dim=1)
        last = sounding.shape[1] - 1 - sounding.flip(1).argmax(dim=1)
        begin = (first * hop).clamp(max=audio.shape[1] - 1)
        return begin, ((last + 1) * hop).clamp(max=audio.shape[1]) - begin

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """See the base class."""
        del draws
        samples = audio.shape[1]
        begin, length = self.active(audio, sample_rate_hz)
        place = torch.arange(samples, device=audio.device).expand(len(audio), -1)
        inside = place < length[:, None]
        word = _take(audio, place + begin[:, None]).where(inside, 0.0)[:, : int(length.max())]
        word = stretch(word, length, self.ratio, self.window_samples(sample_rate_hz))
        # Everything has its place in the new clip relative to where the word begins and to where it now ends.
        place = place - begin[:, None]
        after = place - stretched_length(length, self.ratio)[:, None]
        around = (
            0.0
            if self.around == "silent"
            else torch.where(place < 0, audio, _take(audio, after + (begin + length)[:, None]))
        )
        return torch.where((place >= 0) & (after < 0), _take(word, place), around)


def stretched_length(length: Tensor, ratio: float) -> Tensor:
    """How many samples so many samples become, rounded to the nearest."""
    return (length.cpu().double() / (1.0 / ratio)).round().long().to(length.device)


def stretch(audio: Tensor, length: Tensor, ratio: float, n_fft: int) -> Tensor:
    """Phase vocoder: the same sounds in ``ratio`` times the time, pitch kept, for clips of different lengths.

    As ``librosa.effects.time_stretch(clip, rate=1 / ratio, n_fft=n_fft, hop_length=n_fft // 4)`` for each clip: the
    magnitudes between two frames are interpolated, and the phase advances by what it advances between them.

    Args:
        audio: [batch, time], zero from each clip's length on.
        length: samples of each clip, int64 [batch].
        ratio: new over old duration.
        n_fft: length of the Hann window, a multiple of 4.

    Returns:
        [batch, time'], zero from each clip's :func:`stretched_length` on.
    """
    hop = n_fft // _OVERLAP
    rate = 1.0 / ratio
    spectra = _spectra(audio, n_fft)
    frames = 1 + length // hop
    # A frame beyond the end of its clip is zero with a phase of 0, as if the clip were alone.
    beyond = torch.arange(spectra.shape[1], device=audio.device) >= frames[:, None]
    spectra = torch.nn.functional.pad(spectra.masked_fill(beyond[:, :, None], 0.0), (0, 0, 0, 1))
    count = torch.ceil(frames.cpu().double() / rate).long().to(frames.device)
    steps = torch.arange(int(count.max()), dtype=torch.float64) * rate
    before = steps.long().clamp(max=spectra.shape[1] - 2).to(audio.device)
    share = (steps - steps.floor()).to(audio)[:, None]
    size = spectra.abs()
    turn = torch.where(size > 0, spectra / size, 1.0)
    advance = turn[:, 1:] * turn[:, :-1].conj()
    phasor = torch.cat([turn[:, :1], advance[:, before[:-1]]], dim=1).cumprod(dim=1)
    kept = torch.arange(len(before), device=audio.device) < count[:, None]
    size = torch.lerp(size[:, before], size[:, before + 1], share) * kept[:, :, None]
    return _overlap_add(phasor * size, kept, stretched_length(length, ratio), n_fft)


def _overlap_add(spectra: Tensor, kept: Tensor, length: Tensor, n_fft: int) -> Tensor:
    """The inverse of :func:`_spectra` over the frames that are kept [batch, frames], for clips of these lengths."""
    hop = n_fft // _OVERLAP
    window = torch.hann_window(n_fft, device=spectra.device)
    pieces = torch.fft.irfft(spectra, n_fft) * window
    total = pieces.new_zeros(len(pieces), pieces.shape[1] + _OVERLAP - 1, hop)
    weight = torch.zeros_like(total)
    squares = window.square() * kept[:, :, None]
    for part in range(_OVERLAP):
        rows, columns = slice(part, part + pieces.shape[1]), slice(part * hop, (part + 1) * hop)
        total[:, rows] += pieces[:, :, columns]
        weight[:, rows] += squares[:, :, columns]
    audio = (total / weight.clamp_min(torch.finfo(weight.dtype).tiny)).flatten(1)[:, n_fft // 2 :]
    width = int(length.max())
    audio = torch.nn.functional.pad(audio, (0, max(0, width - audio.shape[1])))[:, :width]
    return audio.where(torch.arange(width, device=audio.device) < length[:, None], 0.0)


def _spectra(audio: Tensor, n_fft: int) -> Tensor:
    """Short-time spectra [batch, frames, bins] in Hann windows around multiples of a quarter window, zeros outside."""
    padded = torch.nn.functional.pad(audio, (n_fft // 2, n_fft // 2))
    return torch.fft.rfft(padded.unfold(1, n_fft, n_fft // _OVERLAP) * torch.hann_window(n_fft, device=audio.device))


def _take(audio: Tensor, index: Tensor) -> Tensor:
    """Samples at these places of each clip, zero where there are none."""
    there = (index >= 0) & (index < audio.shape[1])
    return audio.gather(1, index.clamp(0, audio.shape[1] - 1)).where(there, 0.0)


@lru_cache(maxsize=8)
def _mean_of_bands(sample_rate_hz: int, n_fft: int) -> Tensor:
    """What each bin adds to the mean over the mel bands, float32 [bins]. Nobody may change it."""
    spec = FeatureSpec(sample_rate_hz=sample_rate_hz, n_fft=n_fft, hop=n_fft // _OVERLAP, n_mels=_MELS)
    return torch.from_numpy(filters_of(spec).mean(axis=0)).float()
