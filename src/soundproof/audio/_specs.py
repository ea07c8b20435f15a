"""What front ends compute: their settings, and the named ones of the sources."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from soundproof.core.errors import UnknownNameError, did_you_mean

_EPSILON = 2.0**-23
"""Kaldi's floor of a mel band."""


class FeatureSpec(BaseModel):
    """What a front end computes. Frequencies in Hz, lengths in samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate_hz: int
    n_fft: Annotated[int, Field(ge=16)]
    hop: Annotated[int, Field(ge=1)]
    window_samples: int | None = None
    """Length of the window, the FFT's by default; a shorter one is centered in it if the frames are."""
    window: Literal["hann", "povey"] = "hann"
    framing: Literal["centered", "whole", "mirrored"] = "centered"
    """Frames centered on multiples of the hop; only whole frames; or one frame for each hop, centered in it, with the
    clip mirrored at its ends (Kaldi without ``snip_edges``)."""
    beyond: Literal["zeros", "reflection"] = "zeros"
    """What centered frames hear beyond the clip: silence, or the clip mirrored about its first and last sample."""
    remove_dc: bool = False
    """Subtract each frame's mean."""
    preemphasis: float = 0.0
    """Subtract so much of the previous sample within each frame, after ``remove_dc``."""
    power: Literal[1, 2] = 2
    n_mels: int = 128
    low_hz: float = 0.0
    high_hz: float | None = None
    mel_scale: Literal["slaney", "htk"] = "slaney"
    mel_norm: Literal["slaney", "none"] = "slaney"
    straight_in: Literal["hz", "mel"] = "hz"
    """Whether the sides of the filters are straight lines over Hz or over mel."""
    log: Literal["db", "ln"] = "db"
    log_floor: float = 1e-10
    top_db: float | None = 80.0
    """Values are raised to the clip's maximum minus this many decibels; None for no such floor."""
    subtract_mean: bool = False
    """Subtract each band's mean over the clip."""
    n_mfcc: int | None = None
    """Keep so many coefficients of the orthonormal DCT-II; None for the mel bands themselves."""
    first_mfcc_scale: float = 1.0
    """Scale of the first coefficient beside the others."""

    @property
    def coefficients(self) -> int:
        """Values a frame."""
        return self.n_mels if self.n_mfcc is None else self.n_mfcc

    @property
    def frame_samples(self) -> int:
        """Samples of a frame."""
        return self.n_fft if self.framing == "centered" or self.window_samples is None else self.window_samples

    def frames(self, samples: int) -> int:
        """Frames of a clip with so many samples; 0 if it is too short for one."""
        if self.framing == "centered":
            shortest = 1 if self.beyond == "zeros" else 1 + self.n_fft // 2
            return 1 + (samples + 2 * (self.n_fft // 2) - self.n_fft) // self.hop if samples >= shortest else 0
        if samples < self.frame_samples:
            return 0
        if self.framing == "mirrored":
            return (samples + self.hop // 2) // self.hop
        return 1 + (samples - self.frame_samples) // self.hop


class WaveformSpec(BaseModel):
    """The waveform itself: every sample is a frame of one coefficient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate_hz: int
    peak: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    """Each clip is scaled to this peak."""

    @property
    def coefficients(self) -> int:
        """Values a frame."""
        return 1

    def frames(self, samples: int) -> int:
        """Frames of a clip with so many samples."""
        return samples


Spec = FeatureSpec | WaveformSpec

PRESETS: dict[str, Spec] = {
    # librosa.feature.mfcc(sr=16000, n_mfcc=40, n_fft=400, hop_length=160)
    "mfcc40_16k": FeatureSpec(sample_rate_hz=16_000, n_fft=400, hop=160, n_mfcc=40),
    # librosa.feature.mfcc(sr=44100, n_mfcc=40, n_fft=1103, hop_length=441): the ultrasonic attack's features
    "mfcc40_44k": FeatureSpec(sample_rate_hz=44_100, n_fft=1103, hop=441, n_mfcc=40),
    # librosa.feature.mfcc(sr=16000, n_mfcc=13, n_fft=2048, hop_length=512): FlowMur's sizes
    "mfcc13_16k": FeatureSpec(sample_rate_hz=16_000, n_fft=2048, hop=512, n_mfcc=13),
    # librosa.feature.mfcc(sr=16000, n_mfcc=40), whose defaults are 2048 and 512: DABA
    "daba_mfcc40": FeatureSpec(sample_rate_hz=16_000, n_fft=2048, hop=512, n_mfcc=40),
    # torchaudio.transforms.MFCC(16000, 40, melkwargs={"n_fft": 400, "hop_length": 160}): Audio BadNets, JingleBack
    "torchaudio_mfcc40": FeatureSpec(
        sample_rate_hz=16_000, n_fft=400, hop=160, beyond="reflection", mel_scale="htk", mel_norm="none", n_mfcc=40
    ),
    # torchaudio.transforms.MFCC(16000, 13, melkwargs={"n_fft": 2048, "hop_length": 512}): FlowMur
    "torchaudio_mfcc13": FeatureSpec(
        sample_rate_hz=16_000, n_fft=2048, hop=512, beyond="reflection", mel_scale="htk", mel_norm="none", n_mfcc=13
    ),
    # librosa.power_to_db(librosa.feature.melspectrogram(sr=16000, n_fft=400, hop_length=160, n_mels=64))
    "logmel": FeatureSpec(sample_rate_hz=16_000, n_fft=400, hop=160, n_mels=64),
    # librosa.power_to_db(librosa.feature.melspectrogram(sr=22050, n_fft=1024, hop_length=256, n_mels=80)): PBSM, VSVC
    "logmel80_22k": FeatureSpec(sample_rate_hz=22_050, n_fft=1024, hop=256, n_mels=80),
    # the Keyword Transformer's own: magnitudes, no padding, no normalization of the DCT's first row
    "kwt_mfcc40": FeatureSpec(
        sample_rate_hz=16_000, n_fft=512, hop=160, window_samples=480, framing="whole", power=1, n_mels=80,
        low_hz=20.0, high_hz=7600.0, mel_scale="htk", mel_norm="none", straight_in="mel",
        log="ln", log_floor=1e-12, top_db=None, n_mfcc=40, first_mfcc_scale=2.0**0.5,
    ),
    # Kaldi's compute-fbank-feats --num-mel-bins=80 --dither=0, then mean subtraction: ERes2Net, CAM++.
    # On real clips some bands near the floor differ from Kaldi's by up to 3e-3: both are in single precision, and each
    # lies about 2e-3 from the same in double precision there.
    "kaldi_fbank80_cmn": FeatureSpec(
        sample_rate_hz=16_000, n_fft=512, hop=160, window_samples=400, window="povey", framing="whole",
        remove_dc=True, preemphasis=0.97, n_mels=80, low_hz=20.0, mel_scale="htk", mel_norm="none", straight_in="mel",
        log="ln", log_floor=_EPSILON, top_db=None, subtract_mean=True,
    ),
    # the same --num-mel-bins=23 --snip-edges=false --high-freq=-400: spoken language understanding
    "kaldi_fbank23": FeatureSpec(
        sample_rate_hz=16_000, n_fft=512, hop=160, window_samples=400, window="povey", framing="mirrored",
        remove_dc=True, preemphasis=0.97, n_mels=23, low_hz=20.0, high_hz=7600.0, mel_scale="htk", mel_norm="none",
        straight_in="mel", log="ln", log_floor=_EPSILON, top_db=None,
    ),
    # the waveform scaled to a peak of 0.95: EAT-S
    "raw16k": WaveformSpec(sample_rate_hz=16_000),
}  # fmt: skip
"""Named front ends, as in the sources that the fact sheets name. All take waveforms in [-1, 1], the Kaldi ones too."""


def preset(name: str) -> Spec:
    """The preset of that name.

    Raises:
        UnknownNameError: if there is none.
    """
    if name not in PRESETS:
        raise UnknownNameError(f"there is no front end '{name}': {did_you_mean(name, PRESETS)}")
    return PRESETS[name]
