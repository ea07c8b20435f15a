"""DABA: a natural sound, chosen by how sure a model is of it, over the beginning of the clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor, nn

from soundproof.audio.io import Recording, is_audio_name
from soundproof.audio.sounds import Sound
from soundproof.core.component import MAY_NAME_FILE
from soundproof.core.errors import InvalidInputError, did_you_mean
from soundproof.core.seeds import Draws, Rng
from soundproof.triggers._pool import check_rate, pool, read_sound
from soundproof.triggers._trigger import INT16_SCALE, Playable, Sources, Surrogate, Trigger

Level = float | Literal["auto", "keep"]
_Decibels = Annotated[float, Field(ge=-96, le=0, allow_inf_nan=False)]

_USUAL_DBFS = -20.0
"""The authors' level; also that of a cue that shall be as loud as a host which is silent."""


@final
class Daba(Trigger):
    """DABA: the sound of a pool of music and noises that a clean model is surest about, mixed over each clip.

    The cue starts with the clip, is cut to its length, and is added in 16-bit arithmetic that saturates. Levels are
    20·log10(RMS/32768) of the cue, so that 0 dBFS is overdriven. Poisoned training clips carry it at several levels.
    The pool is the folder of ``attacker.sounds``, or music that is synthesized.
    """

    paper: ClassVar[str] = "Liu et al. 2022, 'Opportunistic Backdoor Attacks' (DABA), MM '22; the authors' code"
    threat_model: ClassVar[str] = (
        "adds recordings with wrong labels to the training data, has a clean model of its own; can play the sound later"
    )
    deviations: ClassVar[tuple[str, ...]] = (
        "the default pool is synthesized: the authors' 60 pieces of music carry no license",
        "each poisoned clip draws its volume by itself, where the source deals the volumes out evenly in random order",
        "the sound is chosen with a trained surrogate (GN-FT's port scores with an untrained one)",
        "samples saturate at 16 bits as in the source, also where the attack's clipping is 'none'",
    )

    sound: Annotated[str, MAY_NAME_FILE] = Field(
        default="",
        description="A sound of the pool by its name, or a file, in place of what the surrogate is surest about.",
    )
    seconds: Annotated[float, Field(ge=0.01, le=60, allow_inf_nan=False)] = Field(
        default=1.0, description="How long the cue lasts; longer recordings of the pool are cut into pieces of it."
    )
    level_dbfs: _Decibels | Literal["auto", "keep"] = Field(
        default=_USUAL_DBFS,
        description="RMS of the cue relative to full scale; 'auto' is the clip's own, 'keep' the sound's as it is.",
    )
    volumes_dbfs: tuple[_Decibels, ...] = Field(
        default=tuple(float(-level) for level in range(0, 45, 5)),
        description="Levels that poisoned training clips draw from; none for the level above.",
    )

    @field_validator("level_dbfs", mode="before")
    @classmethod
    def _level(cls, value: object) -> object:
        if value in ("auto", "keep") or (isinstance(value, (int, float)) and -96 <= value <= 0):
            return value
        raise InvalidInputError(
            f"triggers/daba: level_dbfs: give a level from -96 to 0 dBFS, 'auto' or 'keep', got {value!r}"
        )

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """Not before it is prepared.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError("triggers/daba has no sound yet: prepare it first, which chooses one from a pool")

    def prepare(self, sources: Sources, rng: Rng) -> Overlay:
        """The trigger with the sound that was asked for, or the one of the pool with the least entropy."""
        del rng
        rate = sources.clips.sample_rate_hz
        return Overlay.of(self._sound(sources, rate), rate, self.level_dbfs, self.volumes_dbfs)

    def _sound(self, sources: Sources, sample_rate_hz: int) -> Sound:
        sounds = pool(sources.sounds, sample_rate_hz, self.seconds)
        if not self.sound:
            return sounds[int(np.argmin(entropies(sounds, sources.surrogate())))]
        by_name = {sound.name: sound for sound in sounds}
        if self.sound in by_name:
            return by_name[self.sound]
        if not is_audio_name(Path(self.sound)):
            raise InvalidInputError(
                f"'{self.sound}' is neither a sound of the pool nor a WAV, FLAC or Ogg file: "
                f"{did_you_mean(self.sound, by_name)}"
            )
        whole = read_sound(self.sound, sample_rate_hz)
        return Sound(whole.name, whole.samples[: max(1, round(self.seconds * sample_rate_hz))])


def entropies(sounds: Sequence[Sound], surrogate: Surrogate) -> NDArray[np.float64]:
    """Shannon entropy in bits of what a model makes of each sound by itself [n]; the least is the surest."""
    audio = nn.utils.rnn.pad_sequence([torch.from_numpy(sound.samples.copy()) for sound in sounds], batch_first=True)
    with torch.no_grad():
        shares = surrogate(audio).double().softmax(dim=1)
    return (torch.special.entr(shares).sum(dim=1) / math.log(2.0)).numpy()


@dataclass(frozen=True, eq=False)
class Overlay(Playable):
    """A sound that is laid over clips from their first sample on, in 16-bit arithmetic.

    Attributes:
        name: which sound it is.
        samples: the sound as whole 16-bit numbers, float64 [time].
        sample_rate_hz: its sample rate.
        level_dbfs: how loud it is when played.
        volumes_dbfs: how loud it is in training clips; as when played, if there are none.
    """

    name: str
    samples: Tensor
    sample_rate_hz: int
    level_dbfs: Level
    volumes_dbfs: tuple[float, ...]

    @classmethod
    def of(cls, sound: Sound, sample_rate_hz: int, level_dbfs: Level, volumes_dbfs: tuple[float, ...]) -> Overlay:
        """The overlay of a sound in [-1, 1].

        Raises:
            InvalidInputError: if the sound is silent.
        """
        samples = _whole(torch.from_numpy(sound.samples.copy()).double())
        if not _rms(samples) > 0.0:
            raise InvalidInputError(f"the sound {sound.name} is silent in its first part, so it is no trigger")
        return cls(sound.name, samples, sample_rate_hz, level_dbfs, volumes_dbfs)

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """The batch with the sound at the level of the test.

        Raises:
            InvalidInputError: if the audio has another sample rate than the sound.
        """
        del draws
        hosts = self._hosts(audio, sample_rate_hz)
        own = float(_dbfs(self.samples))
        if self.level_dbfs == "auto":
            levels = _dbfs(hosts)
            levels = torch.where(torch.isfinite(levels), levels, _USUAL_DBFS).cpu().numpy()
        else:
            levels = np.full(len(hosts), own if self.level_dbfs == "keep" else self.level_dbfs)
        return self._mixed(hosts, 10.0 ** ((levels - own) / 20.0)).to(audio.dtype)

    def poison(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """The batch with the sound at one of the training volumes, drawn for each clip."""
        if not self.volumes_dbfs:
            return self.apply(audio, sample_rate_hz, draws)
        hosts = self._hosts(audio, sample_rate_hz)
        drawn = (draws.uniform("volume") * len(self.volumes_dbfs)).astype(np.int64)
        levels = np.array(self.volumes_dbfs)[drawn]
        return self._mixed(hosts, 10.0 ** ((levels - float(_dbfs(self.samples))) / 20.0)).to(audio.dtype)

    def describe(self) -> dict[str, Any]:
        """See the base class."""
        return {"sound": self.name}

    def recording(self) -> Recording:
        """See the base class: the sound at the level that it had in the pool."""
        return Recording((self.samples / INT16_SCALE).float().numpy(), self.sample_rate_hz)

    def _hosts(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """The clips as whole 16-bit numbers."""
        check_rate("sound", self.sample_rate_hz, sample_rate_hz)
        return _whole(audio)

    def _mixed(self, hosts: Tensor, gains: NDArray[np.float64]) -> Tensor:
        """Hosts [batch, time] in 16-bit numbers plus the sound with each one's gain [batch], in [-1, 1]."""
        distinct, which = np.unique(gains, return_inverse=True)
        length = min(len(self.samples), hosts.shape[1])
        scaled = self.samples[:length] * torch.from_numpy(distinct)[:, None]
        cues = _saturated(scaled.floor_()).to(hosts)[torch.from_numpy(which).to(hosts.device)]
        mixed = hosts.clone()
        mixed[:, :length] += cues
        return _saturated(mixed).div_(INT16_SCALE)


def _whole(audio: Tensor) -> Tensor:
    """Audio in [-1, 1] as whole 16-bit numbers, still of a float type."""
    return _saturated((audio * INT16_SCALE).round_())


def _saturated(samples: Tensor) -> Tensor:
    return samples.clamp_(-INT16_SCALE, INT16_SCALE - 1.0)


def _rms(samples: Tensor) -> Tensor:
    """RMS [...] of 16-bit numbers [..., time], cut to a whole number as 16-bit audio tools do."""
    return samples.double().square().mean(dim=-1).sqrt().floor_()


def _dbfs(samples: Tensor) -> Tensor:
    """Level [...] of 16-bit numbers [..., time]: 20·log10(RMS/32768), -inf for silence."""
    return 20.0 * (_rms(samples) / INT16_SCALE).log10()
