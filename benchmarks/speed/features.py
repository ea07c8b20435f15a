"""MFCCs in batches against librosa's, clip by clip."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import librosa
import numpy as np
import torch

from benchmarks.speed._measure import Row, Size, interleaved, ratio, scaled
from soundproof.audio.features import FrontEnd, preset


def rows(size: Size) -> Iterator[Row]:
    """4,000 one-second clips at 16 kHz."""
    count, sample = size.of(4000, 200), size.of(200, 20)
    waves = torch.from_numpy(np.random.default_rng(0).standard_normal((count, 16_000), np.float32) * 0.1)
    frontend = FrontEnd(preset("mfcc40_16k")).to(size.device)
    near = waves.to(size.device)

    def ours() -> None:
        with torch.inference_mode():
            frontend(near)

    def theirs() -> None:
        for wave in waves[:sample].numpy():
            librosa.feature.mfcc(y=wave, sr=16_000, n_mfcc=40, n_fft=400, hop_length=160)

    mine, peer = interleaved(size.of(7, 1), ours, theirs)
    peer = scaled(peer, count / sample)
    yield Row(
        "features",
        f"MFCCs of {count:,} one-second clips",
        mine,
        "s",
        ratio(peer, mine),
        peer=f"librosa.feature.mfcc, clip by clip (measured on {sample}, scaled)",
        peers=peer,
        target=30.0,
        note="times faster",
    )
    yield Row(
        "features",
        f"MFCCs of {count:,} one-second clips, seconds",
        mine,
        "s",
        statistics.median(mine),
        value_unit="s",
        target=2.0 * count / 4000,
        better="at most",
    )
