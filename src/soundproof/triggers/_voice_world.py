"""Voice conversion without weights: WORLD with another voice's pitch and spectral statistics."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundproof.audio.resample import resample
from soundproof.core.errors import InvalidInputError
from soundproof.core.extras import require
from soundproof.triggers import _world
from soundproof.triggers._world import VoiceModel

_LOWEST_RATE_HZ = 16_000
"""WORLD looks at up to 7,900 Hz to find out what is voiced, so what is below this rate is raised to it and back."""
_FEW = 4
"""So many clips are converted here, without waiting for another process to start."""
_GROUP = 8
_SHUTDOWN_SECONDS = 5.0


@functools.cache
def _engine() -> Any:
    """pyworld's compiled module.

    Raises:
        MissingExtraError: if it is not installed.
    """
    return _world.load_world() or require("pyworld", extra="voices", purpose="voice conversion with WORLD")


@dataclass(frozen=True)
class WorldBackend:
    """Voices as statistics of what WORLD finds in them.

    Attributes:
        frame_ms: from one analysis frame to the next. At 10 ms the copies are 0.5 dB further from the original (mean
            distance of log-mel spectra, 5.6 for 5.1 dB) than at 5 ms, and made in 0.7 of the time.
    """

    frame_ms: float = 10.0
    minimum_seconds: ClassVar[float] = 2.0
    """What a voice needs."""
    useful_seconds: ClassVar[float] = 60.0
    """More than this is not read."""

    def fit(self, recordings: Sequence[Tensor], sample_rate_hz: int) -> WorldConverter:
        """The voice of recordings [time] at one sample rate.

        Raises:
            MissingExtraError: if pyworld is not installed.
        """
        rate = max(sample_rate_hz, _LOWEST_RATE_HZ)
        waves = [resample(recording.numpy(), sample_rate_hz, rate) for recording in recordings]
        return WorldConverter(_world.model_voice(_engine(), waves, rate, self.frame_ms), rate, self.frame_ms)

    def control(self) -> WorldConverter:
        """Keeps the voice: only through the vocoder and back."""
        _engine()
        return WorldConverter(None, 0, self.frame_ms)


@dataclass(frozen=True)
class WorldConverter:
    """Clips in one voice.

    Attributes:
        voice: the voice; None keeps the clip's own.
        sample_rate_hz: the rate that the voice was modeled at.
        frame_ms: see :class:`WorldBackend`.
    """

    voice: VoiceModel | None
    sample_rate_hz: int
    frame_ms: float

    def convert(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """The clips [batch, time], as long and as loud as before. Uses every processor, a process on each.

        Raises:
            InvalidInputError: if the voice was modeled at another sample rate.
        """
        rate = max(sample_rate_hz, _LOWEST_RATE_HZ)
        if self.voice is not None and rate != self.sample_rate_hz:
            raise InvalidInputError(
                f"the voice was modeled at {self.sample_rate_hz} Hz and cannot speak at {sample_rate_hz} Hz: "
                "prepare the trigger with voices at the clips' sample rate"
            )
        samples = audio.shape[1]
        waves = resample(np.ascontiguousarray(audio.numpy(), np.float32), sample_rate_hz, rate)
        made = resample(_convert_all(waves, rate, self.frame_ms, self.voice), rate, sample_rate_hz)
        return torch.from_numpy(np.ascontiguousarray(made[:, :samples]))


def _convert_all(
    waves: NDArray[np.float32], rate: int, frame_ms: float, voice: VoiceModel | None
) -> NDArray[np.float32]:
    workers = _workers(os.getpid())
    if len(waves) <= _FEW or len(workers) < 2:
        return np.stack([_world.convert(_engine(), wave, rate, frame_ms, voice) for wave in waves])
    groups = [waves[begin : begin + _GROUP] for begin in range(0, len(waves), _GROUP)]
    if len(groups) < len(workers):
        groups = np.array_split(waves, len(workers))

    def turn(number: int) -> list[NDArray[np.float32]]:
        return [workers[number].convert(group, rate, frame_ms, voice) for group in groups[number :: len(workers)]]

    with ThreadPoolExecutor(len(workers)) as pool:
        shares = list(pool.map(turn, range(len(workers))))
    return np.concatenate([shares[place % len(workers)][place // len(workers)] for place in range(len(groups))])


class _Worker:
    """A process that converts; it starts when it is first needed and ends with this one, however that ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def convert(
        self, waves: NDArray[np.float32], rate: int, frame_ms: float, voice: VoiceModel | None
    ) -> NDArray[np.float32]:
        """Clips [batch, time] converted, in order.

        Raises:
            RuntimeError: if the process fails.
        """
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            count, samples = waves.shape
            try:
                process.stdin.write(_world.request_line(rate, frame_ms, (count, samples), voice))
                process.stdin.write(np.ascontiguousarray(waves).tobytes())
                process.stdin.flush()
                answer = json.loads(process.stdout.readline() or b'{"error": "it ended early"}')
                content = b"" if answer["error"] else process.stdout.read(waves.nbytes)
            except BaseException:
                self._end()
                raise
            if len(content) < waves.nbytes:
                self._end()
                raise RuntimeError(f"the process that converts voices failed: {answer['error'] or 'it ended early'}")
        return np.frombuffer(content, np.float32).reshape(count, samples)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # A group of its own: Ctrl-C in the terminal reaches only this process, which then closes the pipe.
            # -P: the folder of the program is no place to import from.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(_world.__file__))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                process_group=0,
            )
        return self._process

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(timeout=_SHUTDOWN_SECONDS)
        except (subprocess.TimeoutExpired, OSError, ValueError):
            process.kill()
            process.wait()


@functools.lru_cache(maxsize=1)
def _workers(process_id: int) -> tuple[_Worker, ...]:
    """A worker for each processor that this process (not one that it was forked from) may use."""
    del process_id
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = tuple(_Worker() for _ in range(count))
    for worker in workers:
        atexit.register(worker.close)
    return workers
