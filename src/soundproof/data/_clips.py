"""Clips: a labelled set of recordings, columnar. One flat sample array, offsets, and a column for each attribute."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundproof.core.errors import BadDataError, UnknownNameError, did_you_mean
from soundproof.core.seeds import clip_keys

INT16_SCALE = 32768.0

Rows = NDArray[np.int64]
Audio = NDArray[np.int16 | np.float32]
"""Samples as 16-bit numbers, or as floats in [-1, 1]."""


@dataclass(frozen=True, eq=False, repr=False)
class Clips:
    """A labelled set of mono recordings at one sample rate.

    Samples stay where they are (often a memory map of the cache); selecting rows and replacing the audio of a few of
    them are views that copy nothing else.

    Attributes:
        samples: flat int16 samples of all clips, shape [total]; the last clip is followed by at least as many
            samples as the longest clip has, so that a batch is one gather.
        starts: where each clip begins in ``samples``, shape [n].
        lengths: how many samples each clip has, shape [n].
        labels: class index of each clip, shape [n].
        classes: class names; a label is an index into them.
        speakers: speaker name of each clip, shape [n]; empty text where unknown.
        ids: unique name of each clip, shape [n], such as ``up/0c40e715_nohash_0.flac``.
        sample_rate_hz: sample rate of all clips.
        overlay: audio that replaces some clips, shape [m, time]; int16 like the samples, or float32 where it must hold
            what 16 bits cannot.
        overlay_rows: index into ``overlay`` for each clip, -1 where the samples count, shape [n].
    """

    samples: NDArray[np.int16]
    starts: Rows
    lengths: Rows
    labels: Rows
    classes: tuple[str, ...]
    speakers: NDArray[np.str_]
    ids: NDArray[np.str_]
    sample_rate_hz: int
    overlay: Audio
    overlay_rows: Rows

    @classmethod
    def of(
        cls,
        samples: NDArray[np.int16],
        starts: Rows,
        lengths: Rows,
        labels: Rows,
        *,
        classes: Sequence[str],
        ids: Sequence[str] | NDArray[np.str_],
        sample_rate_hz: int,
        speakers: Sequence[str] | NDArray[np.str_] | None = None,
    ) -> Clips:
        """Clips over an existing flat array (see the class for shapes). Pads the array if it ends too early."""
        longest = int(lengths.max(initial=0))
        missing = int((starts + longest).max(initial=0)) - len(samples)
        if missing > 0:
            samples = np.concatenate([samples, np.zeros(missing, np.int16)])
        return cls(
            samples=samples,
            starts=starts.astype(np.int64),
            lengths=lengths.astype(np.int64),
            labels=labels.astype(np.int64),
            classes=tuple(classes),
            speakers=np.asarray([""] * len(starts) if speakers is None else speakers, dtype=np.str_),
            ids=np.asarray(ids, dtype=np.str_),
            sample_rate_hz=sample_rate_hz,
            overlay=np.zeros((0, 0), np.int16),
            overlay_rows=np.full(len(starts), -1, np.int64),
        )

    @classmethod
    def from_audio(
        cls,
        audio: Tensor | NDArray[np.float32],
        labels: Sequence[int] | Rows,
        *,
        classes: Sequence[str],
        sample_rate_hz: int,
        lengths: Sequence[int] | Rows | None = None,
        ids: Sequence[str] | None = None,
        speakers: Sequence[str] | None = None,
    ) -> Clips:
        """Clips from a padded batch in memory: ``audio`` [n, time] in [-1, 1], quantized to int16.

        Raises:
            BadDataError: if shapes do not fit, or the audio holds NaN.
        """
        waves = np.asarray(audio, dtype=np.float32)
        if waves.ndim != 2 or len(waves) != len(labels):
            raise BadDataError(
                f"audio must be [clips, samples], a label each, got {waves.shape} and {len(labels)} labels"
            )
        if not np.isfinite(waves).all():
            raise BadDataError("the audio holds NaN or infinite samples")
        count, width = waves.shape
        return cls.of(
            to_int16(waves).reshape(-1),
            np.arange(count, dtype=np.int64) * width,
            np.full(count, width, np.int64) if lengths is None else np.asarray(lengths, np.int64),
            np.asarray(labels, np.int64),
            classes=classes,
            ids=[f"clip{row:06d}" for row in range(count)] if ids is None else ids,
            sample_rate_hz=sample_rate_hz,
            speakers=speakers,
        )

    def __len__(self) -> int:
        return len(self.starts)

    def __repr__(self) -> str:
        return f"Clips({len(self)} clips, {len(self.classes)} classes, {self.sample_rate_hz} Hz)"

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """One 64-bit key per clip, from its id: what is drawn for a clip does not depend on its neighbors."""
        return clip_keys(self.ids)

    def batch(self, rows: Rows | slice | None = None, *, samples: int | None = None) -> tuple[Tensor, Tensor]:
        """Audio float32 [batch, time] in [-1, 1], zero-padded, and lengths int64 [batch].

        Args:
            rows: which clips, all by default.
            samples: pad or cut every clip to so many samples; the longest of the batch by default.
        """
        every = np.arange(len(self))
        picked = every if rows is None else every[rows] if isinstance(rows, slice) else rows
        audio = _as_float(self.stored(picked, samples=samples))
        return audio, torch.from_numpy(np.minimum(self.lengths[picked], audio.shape[1]))

    def stored(self, rows: Rows, *, samples: int | None = None) -> Audio:
        """The audio of some clips as it is kept, a fresh array [batch, time], zero-padded.

        Int16, unless one of the clips was replaced by audio in float32.

        Args:
            rows: which clips.
            samples: pad or cut every clip to so many samples; the longest of the batch by default.
        """
        lengths = self.lengths[rows]
        longest = int(lengths.max(initial=0))
        width = longest if samples is None else samples
        reach = min(width, longest)
        audio = np.lib.stride_tricks.sliding_window_view(self.samples, reach)[self.starts[rows]]
        if len(lengths) and int(lengths.min()) < reach:
            audio *= np.arange(reach) < lengths[:, None]
        if reach < width:
            audio = np.concatenate([audio, np.zeros((len(audio), width - reach), np.int16)], axis=1)
        placed = self.overlay_rows[rows]
        where = np.flatnonzero(placed >= 0)
        if not len(where):
            return audio
        if self.overlay.dtype != audio.dtype:
            audio = _as_float(audio).numpy()
        fits = min(width, self.overlay.shape[1])
        audio[where] = 0
        audio[where, :fits] = self.overlay[placed[where], :fits]
        return audio

    def batches(self, size: int, *, samples: int | None = None) -> Iterator[tuple[Rows, Tensor, Tensor]]:
        """Rows, audio and lengths of consecutive batches."""
        for begin in range(0, len(self), size):
            rows = np.arange(begin, min(begin + size, len(self)))
            yield rows, *self.batch(rows, samples=samples)

    def select(self, rows: Rows | NDArray[np.bool_] | Sequence[int]) -> Clips:
        """A view of some clips, in the given order."""
        picked = np.asarray(rows)
        if picked.dtype == np.bool_:
            picked = np.flatnonzero(picked)
        picked = picked.astype(np.int64)
        return replace(
            self,
            starts=self.starts[picked],
            lengths=self.lengths[picked],
            labels=self.labels[picked],
            speakers=self.speakers[picked],
            ids=self.ids[picked],
            overlay_rows=self.overlay_rows[picked],
        )

    def pieces(self, samples: int) -> Clips:
        """Each recording cut into pieces of so many samples, one after the other; what is left at the end goes.

        A recording that is shorter stays as it is, as long as it has half of that. The samples are not copied.

        Raises:
            BadDataError: if no recording is long enough.
        """
        counts = np.maximum(self.lengths // samples, (2 * self.lengths >= samples).astype(np.int64))
        rows = np.repeat(np.arange(len(self)), counts)
        number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        if not len(rows):
            raise BadDataError(
                f"none of the {len(self)} recordings has {samples / self.sample_rate_hz / 2:g} s, half of what the "
                "model hears at once; give longer ones"
            )
        if (self.overlay_rows >= 0).any():
            raise BadDataError("recordings whose audio was replaced cannot be cut")
        whole = self.select(rows)
        return replace(
            whole,
            starts=whole.starts + number * samples,
            lengths=np.minimum(whole.lengths, samples),
            ids=np.array([f"{name}#{part}" for name, part in zip(whole.ids.tolist(), number.tolist(), strict=True)]),
        )

    def replace(
        self,
        rows: Rows,
        audio: Tensor | Audio | None = None,
        labels: Rows | None = None,
    ) -> Clips:
        """The same clips with other audio and/or labels at ``rows``; nothing else is copied.

        Args:
            rows: distinct clip indices, shape [m].
            audio: [m, time], float32 in [-1, 1] (values beyond are kept; see the attack's clipping policy) or int16. It
                is taken over without a copy where it can be: do not change it afterwards.
            labels: class indices, shape [m].
        """
        changed = self
        if labels is not None:
            column = self.labels.copy()
            column[rows] = labels
            changed = replace(changed, labels=column)
        if audio is not None:
            stacked = _stack(self.overlay, np.asarray(audio))
            places = self.overlay_rows.copy()
            places[rows] = np.arange(len(self.overlay), len(stacked))
            changed = replace(changed, overlay=stacked, overlay_rows=places)
        return changed

    def label_of(self, name: str) -> int:
        """The index of a class name.

        Raises:
            UnknownNameError: if there is no such class.
        """
        if name not in self.classes:
            raise UnknownNameError(f"there is no label '{name}': {did_you_mean(name, self.classes)}")
        return self.classes.index(name)

    def digest(self) -> str:
        """A hash of all samples, labels and ids; reads everything, so it is for small sets."""
        whole = hashlib.sha256("\n".join([*self.classes, *self.ids.tolist()]).encode())
        whole.update(self.labels.tobytes())
        for row in range(len(self)):
            whole.update(self.stored(np.array([row])).tobytes())
        return whole.hexdigest()[:16]

    def counts(self) -> dict[str, int]:
        """How many clips each class has."""
        totals = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(total) for name, total in zip(self.classes, totals, strict=True)}


def _as_float(audio: Audio) -> Tensor:
    """Samples as float32 in [-1, 1]; float samples as they are."""
    tensor = torch.from_numpy(audio)
    return tensor.float().mul_(1.0 / INT16_SCALE) if tensor.dtype == torch.int16 else tensor


def _stack(kept: Audio, fresh: NDArray[np.generic]) -> Audio:
    """Two overlays below each other, the shorter clips padded with zeros; int16 if both are, else float32."""
    if fresh.dtype != np.int16:
        fresh = fresh.astype(np.float32, copy=False)
    if not len(kept):
        return cast("Audio", fresh)
    if kept.dtype != fresh.dtype:
        kept, fresh = (_as_float(cast("Audio", part)).numpy() for part in (kept, fresh))
    stacked = np.zeros((len(kept) + len(fresh), max(kept.shape[1], fresh.shape[1])), kept.dtype)
    stacked[: len(kept), : kept.shape[1]] = kept
    stacked[len(kept) :, : fresh.shape[1]] = fresh
    return stacked


def to_int16(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    """Float audio as 16-bit samples, rounded and saturated as a WAV file would be."""
    return np.clip(np.rint(audio * INT16_SCALE), -32768, 32767).astype(np.int16)
