"""DNSMOS: the quality of speech as a network rates it, without the clean recording beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundproof.audio.resample import resample
from soundproof.core.errors import InvalidInputError
from soundproof.core.extras import require

SAMPLE_RATE_HZ = 16_000
WINDOW = 144_160
"""Samples that the network hears at once: 9.01 s."""
_CALIBRATION = np.array([[-0.08397, 1.22083, 0.00524], [-0.13167, 1.60915, -0.39605], [-0.06766, 1.11546, 0.04603]])
"""Squared, linear and constant term for signal, background and overall quality."""


class Dnsmos:
    """DNSMOS P.835 with published weights of your own (``sig_bak_ovr.onnx``, from Microsoft's DNS challenge).

    A clip is doubled until it fills the network's window of 9.01 s, which moves on by a second at a time; ratings are
    calibrated and averaged over windows. Windows that sound the same, as all of a one-second clip do, are rated once.
    The network was made for several seconds of speech: between clips of a word, compare, and take no rating by itself.

    Source: Reddy, Gopal and Cutler 2022, "DNSMOS P.835", and the scoring script beside the weights.
    """

    measure: ClassVar[str] = "dnsmos_change"

    def __init__(self, path: Path) -> None:
        """Load the weights.

        Raises:
            MissingExtraError: if onnxruntime is not installed.
            InvalidInputError: if the file is no such network.
        """
        runtime: Any = require("onnxruntime", extra="onnx", purpose="rating quality with DNSMOS")
        if not path.is_file():
            raise InvalidInputError(f"there is no DNSMOS model at {path}: give the file sig_bak_ovr.onnx")
        try:
            self._session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has an exception for every way in which a file can be wrong
            reason = str(error).partition("\n")[0]
            raise InvalidInputError(f"{path} is no ONNX model that can be read: {reason}") from error
        inputs = self._session.get_inputs()
        taken = [one.shape for one in inputs]
        if len(taken) != 1 or len(taken[0]) != 2 or (isinstance(taken[0][1], int) and taken[0][1] != WINDOW):
            raise InvalidInputError(
                f"{path} is no DNSMOS P.835 model: it should take audio [clips, {WINDOW}], "
                f"but takes {', '.join(map(str, taken))}"
            )
        self._input: str = inputs[0].name
        self._one_by_one = isinstance(taken[0][0], int)

    def __call__(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """Mean opinion scores from 1 to 5 [batch, 3] of clips [batch, time]: signal, background, overall.

        Raises:
            InvalidInputError: if the clips are empty.
        """
        if not audio.numel():
            raise InvalidInputError("DNSMOS rates clips, and these are empty")
        waves = resample(np.ascontiguousarray(audio.cpu().numpy(), np.float32), sample_rate_hz, SAMPLE_RATE_HZ)
        period = waves.shape[1]
        doubled = period
        while doubled < WINDOW:
            doubled *= 2
        count = max(1, int(doubled // SAMPLE_RATE_HZ - WINDOW / SAMPLE_RATE_HZ) + 1)
        begins, times = np.unique(np.arange(count) * SAMPLE_RATE_HZ % period, return_counts=True)
        total = np.zeros((len(waves), 3))
        for begin, weight in zip(begins.tolist(), times.tolist(), strict=True):
            window = np.take(waves, np.arange(begin, begin + WINDOW), axis=1, mode="wrap")
            total += weight * self._rate(window)
        return torch.from_numpy(total / count)

    def overall(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """The overall score alone [batch]."""
        return self(audio, sample_rate_hz)[:, 2]

    def _rate(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated ratings [batch, 3] of windows [batch, WINDOW]."""
        parts = np.split(windows, len(windows)) if self._one_by_one else [windows]
        raw = np.concatenate([self._session.run(None, {self._input: part})[0] for part in parts]).astype(np.float64)
        if raw.shape != (len(windows), 3):
            raise InvalidInputError(f"a DNSMOS P.835 model gives three ratings for a clip, this one {raw.shape[1:]}")
        squared, linear, constant = _CALIBRATION.T
        return squared * raw**2 + linear * raw + constant
