"""Naming clips: every model with its front end, in batches and clip by clip."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from typing import Any, cast

import librosa
import numpy as np
import torch
from torch import Tensor

from benchmarks.speed._measure import Row, Size, interleaved, ratio, scaled
from benchmarks.speed._things import BATCH, noise_clips, victim
from soundproof.audio.features import FeatureSpec
from soundproof.core import registry
from soundproof.models import Model, Victim

_TURNS, _WARM = 5, 6
"""Single clips are timed in so many turns, and the first of each do not count."""


def rows(size: Size) -> Iterator[Row]:
    """Each architecture as it is by default, untrained: what it says does not change how long it takes."""
    batches = size.of(2, 1)
    for name in registry.names("models"):
        whole = victim(cast("Model", registry.from_spec("models", name)), size.device).eval()
        audio, _ = noise_clips(batches * BATCH, whole.sample_rate_hz).batch(samples=whole.clip_samples)
        yield _throughput(name, whole, audio, size)
        yield _latency(name, whole, audio, size)


def _throughput(name: str, whole: Victim, audio: Tensor, size: Size) -> Row:
    def ours() -> None:
        with torch.inference_mode():
            for part in audio.split(BATCH):
                whole(part.to(size.device))

    what, rounds, spec = f"{name}: clips of one second, batches of {BATCH}", size.of(4, 1), whole.frontend.spec
    if not isinstance(spec, FeatureSpec):
        (mine,) = interleaved(rounds, ours)
        speeds = [len(audio) / seconds for seconds in mine]
        note = "it takes the waveform, so there is nothing to compare"
        return Row("inference", what, speeds, "clips/s", statistics.median(speeds), value_unit="clips/s", note=note)
    sample = size.of(64, 8)
    mine, theirs = interleaved(rounds, ours, lambda: _clip_by_clip(whole, spec, audio[:sample]))
    theirs = scaled(theirs, len(audio) / sample)
    return Row(
        "inference",
        what,
        [len(audio) / seconds for seconds in mine],
        "clips/s",
        ratio(theirs, mine),
        peer="the same network on librosa's features, clip by clip",
        peers=[len(audio) / seconds for seconds in theirs],
        note="times faster; front end included",
    )


def _latency(name: str, whole: Victim, audio: Tensor, size: Size) -> Row:
    rounds, spec = size.of(200, 5) // _TURNS, whole.frontend.spec
    clips, peers_clips = itertools.cycle(audio.split(1)), itertools.cycle(audio.split(1))

    def one() -> None:
        with torch.inference_mode():
            whole(next(clips).to(size.device))

    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(_TURNS):  # call by call the threads of the one would still be spinning while the other is timed
        mine += interleaved(rounds, one, warm=_WARM)[0]
        if isinstance(spec, FeatureSpec):
            theirs += interleaved(rounds, lambda: _clip_by_clip(whole, spec, next(peers_clips)), warm=_WARM)[0]
    return Row(
        "inference",
        f"{name}: one clip at a time",
        scaled(mine, 1e3),
        "ms",
        1e3 * statistics.median(mine),
        value_unit="ms",
        peer="the same network on librosa's features" if theirs else "",
        peers=scaled(theirs, 1e3),
        better="at most",
        note="median; front end included",
        p99=_p99(mine),
        peers_p99=_p99(theirs) if theirs else None,
    )


def _p99(seconds: list[float]) -> float:
    """The 99th percentile, in ms."""
    return 1e3 * float(np.percentile(seconds, 99))


def _clip_by_clip(whole: Victim, spec: FeatureSpec, audio: Tensor) -> None:
    """For each clip librosa's nearest features, cut or padded to what the network takes, and a forward pass."""
    sizes: dict[str, Any] = {"sr": spec.sample_rate_hz, "n_fft": spec.n_fft, "hop_length": spec.hop}
    frames = spec.frames(audio.shape[1])
    with torch.inference_mode():
        for wave in audio.numpy():
            if spec.n_mfcc:
                made = librosa.feature.mfcc(y=wave, n_mfcc=spec.n_mfcc, n_mels=spec.n_mels, **sizes)
            else:
                made = librosa.power_to_db(librosa.feature.melspectrogram(y=wave, n_mels=spec.n_mels, **sizes))
            features = np.pad(made, ((0, 0), (0, max(0, frames - made.shape[1]))))[:, :frames]
            whole.network(torch.from_numpy(features.T[None].astype(np.float32)).to(whole.device))
