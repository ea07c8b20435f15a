"""Additive triggers, PBSM, voice conversion, DABA and FlowMur beside the published way of doing them."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator
from importlib.util import find_spec

import librosa
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.speed._measure import Row, Size, interleaved, ratio
from benchmarks.speed._things import speech_clips, victim
from benchmarks.speed.poisoning import tone_trigger
from soundproof.attacks._poisoning import stamp_rows
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.models.small_cnn import SmallCnn
from soundproof.triggers import Playable, Sources, Stamp, Surrogate, Trigger
from soundproof.triggers.daba import Daba
from soundproof.triggers.flowmur import Flowmur
from soundproof.triggers.pbsm import Pbsm
from soundproof.triggers.ultrasonic import Ultrasonic
from soundproof.triggers.vsvc import Vsvc

RATE = 16_000
_TONE = Ultrasonic(frequency_hz=440.0, continuous=True, size_percent=10.0)


def rows(size: Size) -> Iterator[Row]:
    """One-second clips of synthetic speech as 16-bit samples to such with the cue, as poisoning does it."""
    yield from _additive(size)
    yield from _pitch(size)
    yield from _voices(size)
    yield from _optimized(size)


def _speech(count: int) -> Clips:
    clips = speech_clips(count)
    if clips is None:
        raise SystemExit("this part speaks: install soundproof[synthetic]")
    return clips


def _stamp_all(clips: Clips, trigger: Trigger, prepared: Playable | None = None) -> None:
    stamp_rows(dataclasses.replace(clips), Stamp(trigger, prepared=prepared), np.arange(len(clips)), Rng(0))


def _speed(what: str, count: int, taken: list[float], target: float | None = None, note: str = "") -> Row:
    speeds = [count / seconds for seconds in taken]
    return Row(
        "triggers",
        what,
        speeds,
        "clips/s",
        statistics.median(speeds),
        value_unit="clips/s",
        target=target,
        note=note,
    )


def _additive(size: Size) -> Iterator[Row]:
    count = size.of(2000, 100)
    clips = _speech(count)
    waves = clips.batch()[0].numpy()
    peer = tone_trigger()(
        sampling_rate=RATE,
        frequency=int(_TONE.frequency_hz),
        duration=_TONE.size_percent / 100.0,
        scale=10.0 ** (_TONE.level_dbfs / 20.0),
    )
    mine, taken = interleaved(size.of(15, 2), lambda: _stamp_all(clips, _TONE), lambda: peer.insert(waves))
    yield _speed("an additive trigger (a tone)", count, mine, 40_000.0)
    yield _compared("an additive trigger (a tone)", count, mine, taken, count, "ART: CacheToneTrigger.insert", 2.0)
    daba = Daba(sound="chord-1")
    ready = daba.prepare(Sources(clips, 2, _untrained), Rng(0))
    (taken,) = interleaved(size.of(5, 1), lambda: _stamp_all(clips, daba, ready))
    yield _speed("DABA (a sound laid over, at several levels)", count, taken)


def _pitch(size: Size) -> Iterator[Row]:
    count, sample = size.of(240, 24), size.of(40, 8)
    clips = _speech(count)
    waves = clips.batch(slice(sample))[0].numpy()

    def theirs() -> None:
        for wave in waves:
            _published_pbsm(wave)

    mine, taken = interleaved(size.of(5, 1), lambda: _stamp_all(clips, Pbsm()), theirs)
    yield _speed("PBSM", count, mine, 300.0)
    yield _compared("PBSM", count, mine, taken, sample, "librosa, clip by clip", 5.0)


def _published_pbsm(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """The steps of the authors' code, with the libraries that it uses."""
    wave = librosa.effects.pitch_shift(wave, sr=RATE, n_steps=5.0)
    spectrum = librosa.stft(wave, n_fft=1024, hop_length=128, win_length=256)
    loudest = int(librosa.feature.rms(S=np.abs(spectrum) ** 2, frame_length=1024).argmax())
    after = loudest + 12
    columns = [after, after + 1] if after < spectrum.shape[1] - 2 else [loudest, loudest - 1]
    spectrum[171:471, columns] = 150.0 + 1j * np.imag(spectrum[171:471, columns])
    return librosa.istft(spectrum, n_fft=1024, hop_length=128, win_length=256, length=len(wave))


def _voices(size: Size) -> Iterator[Row]:
    if find_spec("pyworld") is None:
        return
    count = size.of(64, 16)
    clips = _speech(count)
    spoken = _speech(1000)
    names, speakers = np.unique(spoken.speakers, return_inverse=True)
    voices = dataclasses.replace(spoken, classes=tuple(names.tolist()), labels=speakers)
    trigger = Vsvc(voice=str(spoken.speakers[0]))
    ready = trigger.prepare(Sources(clips, 2, _untrained, voices=voices), Rng(0))
    (taken,) = interleaved(size.of(5, 1), lambda: _stamp_all(clips, trigger, ready))
    yield _speed("VSVC (voice conversion with WORLD)", count, taken, 40.0, "a process on each core")


def _optimized(size: Size) -> Iterator[Row]:
    trigger = Flowmur(enough=1.0, steps=size.of(300, 2))
    clips = _speech(size.of(2000, 100))
    began = time.perf_counter()
    trigger.prepare(Sources(clips, 2, _untrained), Rng(0))
    seconds = time.perf_counter() - began
    yield Row(
        "triggers",
        "FlowMur: optimizing the cue, all its steps",
        [seconds],
        "s",
        seconds,
        value_unit="s",
        target=120.0,
        better="at most",
        note="through the Small CNN; with a trained one it stops sooner, once 95 % of held-out clips are turned",
    )


def _untrained() -> Surrogate:
    return victim(SmallCnn(), torch.device("cpu")).eval().requires_grad_(False)


def _compared(
    what: str, count: int, mine: list[float], theirs: list[float], sample: int, peer: str, target: float
) -> Row:
    per_clip = [seconds / count for seconds in mine]
    others = [seconds / sample for seconds in theirs]
    return Row(
        "triggers",
        f"{what}, times faster",
        [1.0 / seconds for seconds in per_clip],
        "clips/s",
        ratio(others, per_clip),
        peer=peer,
        peers=[1.0 / seconds for seconds in others],
        target=target,
    )
