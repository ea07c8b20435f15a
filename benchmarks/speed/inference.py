"""Naming clips: every model with its front end, in batches and clip by clip."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
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


def rows(size: Size) -> Iterator[Row]:
    """Each architecture as it is by default, untrained: what it says does not change how long it takes."""
    batches = size.of(2, 1)
    for name in registry.names("models"):
        whole = victim(cast("Model", registry.from_spec("models", name))).eval()
        audio, _ = noise_clips(batches * BATCH, whole.sample_rate_hz).batch(samples=whole.clip_samples)
        yield from _throughput(name, whole, audio, size)
        yield _latency(name, whole, audio, size)


def _throughput(name: str, whole: Victim, audio: Tensor, size: Size) -> Iterator[Row]:
    def ours() -> None:
        with torch.inference_mode():
            for part in audio.split(BATCH):
                whole(part)

    calls: list[Callable[[], object]] = [ours]
    spec = whole.frontend.spec
    sample = size.of(64, 8)
    if isinstance(spec, FeatureSpec):
        calls.append(lambda: _clip_by_clip(whole, spec, audio[:sample]))
    mine, *peer = interleaved(size.of(4, 1), *calls)
    theirs = scaled(peer[0], len(audio) / sample) if peer else []
    yield Row(
        "inference",
        f"{name}: clips of one second, batches of {BATCH}",
        [len(audio) / seconds for seconds in mine],
        "clips/s",
        ratio(theirs, mine) if theirs else len(audio) / statistics.median(mine),
        value_unit="x" if theirs else "clips/s",
        peer="the same network on librosa's features, clip by clip" if theirs else "",
        peers=[len(audio) / seconds for seconds in theirs],
        note="times faster; front end included" if theirs else "it takes the waveform, so there is nothing to compare",
    )


def _latency(name: str, whole: Victim, audio: Tensor, size: Size) -> Row:
    clips = itertools.cycle(audio.split(1))

    def one() -> None:
        with torch.inference_mode():
            whole(next(clips))

    (taken,) = interleaved(size.of(200, 5), one)
    slowest = 1e3 * float(np.percentile(taken, 99))
    return Row(
        "inference",
        f"{name}: one clip at a time",
        scaled(taken, 1e3),
        "ms",
        1e3 * statistics.median(taken),
        value_unit=f"ms; 99th percentile {slowest:.3g}",
        better="at most",
        note="median; front end included",
    )


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
            whole.network(torch.from_numpy(features.T[None].astype(np.float32)))
