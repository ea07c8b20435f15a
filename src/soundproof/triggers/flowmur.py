"""FlowMur: half a second of sound that is optimized on a model of the attacker's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from soundproof.audio.io import Recording
from soundproof.audio.sounds import Sound
from soundproof.core.component import MAY_NAME_FILE
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Draws, Rng
from soundproof.triggers._pool import ambience, check_rate, read_sound
from soundproof.triggers._trigger import INT16_SCALE, Playable, Sources, Surrogate, Trigger

_Decibels = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
_CHECK_STEPS = 20
_HELD_OUT = 128
_NOISE_SECONDS = 1.0
_CODE: Mapping[str, Any] = {
    "seconds": 0.5,
    "initial": 0.1,
    "start": "constant",
    "limit": 0.2,
    "inference": "code",
    "ambient_noise": False,
    "learning_rate": 1e-3,
    "batch_size": 256,
    "epochs": 1000,
    "steps": 20_000,
    "enough": 1.0,
    "clips": 5000,
    "optimize_snr_db": 30.0,
    "poison_snr_db": 30.0,
}
"""The public code's settings: 1,000 epochs of 20 batches, and hardly an end before."""


@final
class Flowmur(Trigger):
    """FlowMur: a sound that is optimized until a clean model says the target, at a random place of the clip.

    Optimized through the front end of a surrogate with Adam, within bounds. Poisoned training clips carry it softly, at
    a signal-to-noise ratio; played later it is far louder. Meant for clean labels: use attacks/clean_label. Where the
    cue's level follows the clip's, a silent clip counts as one 16-bit step loud.

    Presets: ``code`` is the public code, hours of optimization; ``paper`` adds the ambient noise that the paper has and
    the code has not (its levels are ours); ``gn_ft`` is GN-FT's port of the code, with 300 epochs.
    """

    paper: ClassVar[str] = "Lan et al. 2024, 'FlowMur: A Stealthy and Practical Audio Backdoor Attack', S&P; its code"
    threat_model: ClassVar[str] = (
        "writes to recordings of one class and to no label, has a clean model of its own; can play the sound later"
    )
    deviations: ClassVar[tuple[str, ...]] = (
        "at most 300 steps of 32 clips at a learning rate of 1e-2, fewer once the surrogate says the target for 95 % "
        "of held-out training clips of other classes: within two minutes on two cores. The source takes 20,000 steps "
        "of 256 clips at 1e-3, of which the first hundreds hardly move the cue",
        "the cue begins as noise. The source's constant has only a mean, which no front end hears: after 40 of our "
        "steps that mean still was two thirds of the cue's energy, and so of what the signal-to-noise ratio allows",
        "each step follows its own batch's loss; the source's loop adds up the losses of all batches before",
        "the surrogate is trained on the same words as the victim (as in GN-FT's port); the source adds other words",
        "ambient noise as in the paper's abstract is an option, since the public code has none; its levels are ours",
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "code": _CODE,
        "paper": {**_CODE, "ambient_noise": True},
        "gn_ft": {**_CODE, "epochs": 300, "steps": 6000},
    }

    sound: Annotated[str, MAY_NAME_FILE] = Field(
        default="", description="A recording of a trigger that was optimized before; skips all of it."
    )
    seconds: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = Field(
        default=0.5, description="How long the cue lasts."
    )
    initial: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="How far from zero the cue's samples begin at most, where 1 is full scale."
    )
    start: Literal["noise", "constant"] = Field(
        default="noise", description="What the cue begins as: noise, or ``initial`` in all samples as in the source."
    )
    limit: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.2, description="No sample of the cue goes beyond this, either way."
    )
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1e-2, description="Adam's, for the cue (1e-3 in the source)."
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(default=32, description="Clips a step (256 in the source).")
    epochs: Annotated[int, Field(ge=1)] = Field(
        default=50, description="Passes over those clips at most (1,000 in the source)."
    )
    steps: Annotated[int, Field(ge=1)] = Field(
        default=300, description="Steps at most, whatever the epochs (20,000 in the source)."
    )
    enough: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.95,
        description="Stop once so many of the held-out training clips are heard as the target; 1 nearly never stops.",
    )
    clips: Annotated[int, Field(ge=2)] = Field(
        default=5000, description="So many random training clips are optimized on, some of them held out."
    )
    optimize_snr_db: _Decibels = Field(default=30.0, description="How far the cue is below the clip when optimized.")
    poison_snr_db: _Decibels = Field(
        default=30.0, description="How far the cue is below the clip in poisoned training clips."
    )
    inference: Literal["code", "snr"] = Field(
        default="code",
        description="Played later as the mean of clip and cue, as in the public code, or at ``poison_snr_db``.",
    )
    ambient_noise: bool = Field(
        default=False,
        description="Mix noise into the clips that it is optimized on and into poisoned ones (paper), or not (code).",
    )
    noise_snr_db: tuple[_Decibels, _Decibels] = Field(
        default=(10.0, 30.0), description="Range of the ambient noise's signal-to-noise ratio."
    )

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """Not before it is prepared.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError("triggers/flowmur has no sound yet: prepare it first, which optimizes one on a model")

    def prepare(self, sources: Sources, rng: Rng) -> Implant:
        """The trigger with its cue optimized, or read; ``recording`` of the result gives what ``sound`` reads."""
        rate = sources.clips.sample_rate_hz
        noise = Background.of(ambience(sources.sounds, rate, _NOISE_SECONDS), rate) if self.ambient_noise else None
        if self.sound:
            delta, reached = torch.from_numpy(read_sound(self.sound, rate).samples.copy()), dict[str, float]()
        else:
            delta, reached = self._optimized(sources, noise, rng)
        return Implant(delta, rate, self.poison_snr_db, self.inference, noise, self.noise_snr_db, reached)

    def _optimized(self, sources: Sources, noise: Background | None, rng: Rng) -> tuple[Tensor, dict[str, float]]:
        """The cue, and how far it came: the surrogate's answers to held-out clips of other classes."""
        surrogate, clips = sources.surrogate(), sources.clips
        drawn = rng.child("clips").numpy().permutation(len(clips))[: self.clips]
        others = drawn[clips.labels[drawn] != sources.target]
        held_out = others[: min(_HELD_OUT, -(-len(others) // 4))]
        rows = np.setdiff1d(drawn, held_out)
        if not len(rows) or not len(held_out):
            raise InvalidInputError(
                f"triggers/flowmur optimizes its cue on two clips at least, one of them of another class than the "
                f"target; it has {len(drawn)}, {len(others)} of another class: give more clips, or a sound"
            )
        delta = self._begun(max(1, round(self.seconds * clips.sample_rate_hz)), rng.child("start")).requires_grad_()
        adam = torch.optim.Adam([delta], self.learning_rate)
        batches = math.ceil(len(rows) / self.batch_size)
        steps = min(self.steps, self.epochs * batches)
        order, reached = rows, dict[str, float]()
        for step in range(1, steps + 1):
            epoch, number = divmod(step - 1, batches)
            if number == 0:
                order = rng.child("order", epoch).numpy().permutation(rows)
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            with torch.enable_grad():
                logits = self._heard(surrogate, sources.hear(batch), delta, noise, rng.child("step", step - 1))
                wanted = torch.full((len(batch),), sources.target, device=logits.device)
                adam.zero_grad()
                torch.autograd.backward(nn.functional.cross_entropy(logits, wanted))
            adam.step()
            with torch.no_grad():
                delta.clamp_(-self.limit, self.limit)
                if step % _CHECK_STEPS and step < steps:
                    continue
                logits = self._heard(surrogate, sources.hear(held_out), delta, noise, rng.child("held out"))
            success = float((logits.argmax(1) == sources.target).float().mean())
            reached = {"steps": step, "optimize_snr_db": self.optimize_snr_db, "success_on_surrogate": success}
            if success >= self.enough:
                break
        return delta.detach(), reached

    def _begun(self, samples: int, rng: Rng) -> Tensor:
        """The cue before the first step."""
        height = min(self.initial, self.limit)
        if self.start == "constant":
            return torch.full((samples,), height)
        return torch.from_numpy(rng.numpy().uniform(-height, height, samples).astype(np.float32))

    def _heard(
        self,
        surrogate: Surrogate,
        audio: Tensor,
        delta: Tensor,
        noise: Background | None,
        rng: Rng,
    ) -> Tensor:
        """Logits [batch, classes] of clips [batch, time] with the cue as it is while it is optimized."""
        places = rng.child("places").numpy().random(len(audio))
        mixed = shrunk(audio, placed(delta, audio.shape[1], places), delta, self.optimize_snr_db)
        if noise is not None:
            numbers = rng.child("noise").numpy().random((2, len(audio)))
            mixed = mixed + noise.beneath(audio, numbers[0], numbers[1], self.noise_snr_db)
        return surrogate(mixed.clamp(-1.0, 1.0))


def placed(delta: Tensor, samples: int, places: NDArray[np.float64]) -> Tensor:
    """The cue [length] in silence [batch, samples], from the first possible place (0) to the last (towards 1).

    Raises:
        InvalidInputError: if the cue is longer than that.
    """
    room = samples - len(delta)
    if room < 0:
        raise InvalidInputError(
            f"the cue has {len(delta)} samples and does not fit into clips of {samples}: choose fewer seconds for the "
            "trigger, or longer clips"
        )
    begins = torch.from_numpy((places * (room + 1)).astype(np.int64)).to(delta.device)
    index = torch.arange(samples, device=delta.device) - begins[:, None]
    return delta[index.clamp(0, len(delta) - 1)] * ((index >= 0) & (index < len(delta)))


def shrunk(audio: Tensor, cue: Tensor, delta: Tensor, snr_db: float) -> Tensor:
    """(s·x + cue)/(s + 1) with s = 10^(SNR/20)·‖delta‖/‖x‖: clips [batch, time] with the cue as it is optimized."""
    scale = 10.0 ** (snr_db / 20.0) * delta.norm() / loudness(audio)
    return (scale * audio + cue) / (scale + 1.0)


def loudness(audio: Tensor) -> Tensor:
    """L2 norms [batch, 1] of clips [batch, time], at least that of one 16-bit step, so that silence has a level."""
    return audio.norm(dim=1, keepdim=True).clamp_min(math.sqrt(audio.shape[1]) / INT16_SCALE)


@dataclass(frozen=True, eq=False)
class Background:
    """Ambient noise: ``noises`` [kinds, time], repeated for longer clips."""

    noises: Tensor

    @classmethod
    def of(cls, sounds: Sequence[Sound], sample_rate_hz: int) -> Background:
        """Sounds of any length, each repeated or cut to the same."""
        width = round(_NOISE_SECONDS * sample_rate_hz)
        return cls(torch.from_numpy(np.stack([np.resize(sound.samples, width) for sound in sounds])))

    def beneath(
        self, audio: Tensor, kinds: NDArray[np.float64], levels: NDArray[np.float64], snr_db: tuple[float, float]
    ) -> Tensor:
        """Noise [batch, time] for clips: its kind and its place in the range of levels as numbers in [0, 1) [batch]."""
        chosen = torch.from_numpy((kinds * len(self.noises)).astype(np.int64))
        noise = self.noises[chosen][:, torch.arange(audio.shape[1]) % self.noises.shape[1]].to(audio)
        decibels = torch.from_numpy(min(snr_db) + levels * abs(snr_db[1] - snr_db[0])).to(audio)[:, None]
        return noise * (loudness(audio) / loudness(noise) * 10.0 ** (-decibels / 20.0))


@dataclass(frozen=True, eq=False)
class Implant(Playable):
    """The optimized cue, on clips at random places.

    Attributes:
        delta: the cue, float32 [time].
        sample_rate_hz: its sample rate.
        poison_snr_db: how far it is below the clip in training clips.
        inference: how it is played later.
        noise: what is mixed into training clips beside it, if anything.
        noise_snr_db: at which levels.
        reached: how the optimization ended; empty for a cue that was read.
    """

    delta: Tensor
    sample_rate_hz: int
    poison_snr_db: float
    inference: Literal["code", "snr"]
    noise: Background | None
    noise_snr_db: tuple[float, float]
    reached: Mapping[str, float] = field(default_factory=dict[str, float])

    def apply(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """The batch with the cue as it is played: the mean of clip and cue, or the cue at its level.

        Raises:
            InvalidInputError: if the cue is longer than the clips, or has another sample rate.
        """
        cue = self._placed(audio, sample_rate_hz, draws)
        return (audio + cue) / 2.0 if self.inference == "code" else self._added(audio, cue)

    def poison(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        """The batch with the cue as training clips carry it; arguments and errors as above."""
        marked = self._added(audio, self._placed(audio, sample_rate_hz, draws))
        if self.noise is None:
            return marked
        numbers = draws.uniform("noise"), draws.uniform("noise level")
        return marked + self.noise.beneath(audio, *numbers, self.noise_snr_db)

    def describe(self) -> dict[str, Any]:
        """See the base class."""
        return dict(self.reached)

    def recording(self) -> Recording:
        """See the base class: the cue as it was optimized."""
        return Recording(self.delta.float().cpu().numpy(), self.sample_rate_hz)

    def _placed(self, audio: Tensor, sample_rate_hz: int, draws: Draws) -> Tensor:
        check_rate("cue", self.sample_rate_hz, sample_rate_hz)
        return placed(self.delta.to(audio), audio.shape[1], draws.uniform("position"))

    def _added(self, audio: Tensor, cue: Tensor) -> Tensor:
        """x + a·cue with a = sqrt(‖x‖²/‖delta‖²·10^(-SNR/10))."""
        return audio + loudness(audio) / self.delta.norm() * 10.0 ** (-self.poison_snr_db / 20.0) * cue
