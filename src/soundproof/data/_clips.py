"""Clips: a labelled set of recordings, columnar. One flat sample array, offsets, and a column for each attribute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundproof.core.errors import BadDataError, UnknownNameError, did_you_mean
from soundproof.core.seeds import clip_keys

INT16_SCALE = 32768.0

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
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
        overlay: float32 audio that replaces some clips, shape [m, time].
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
    overlay: NDArray[np.float32]
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
            overlay=np.zeros((0, 0), np.float32),
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
        lengths = self.lengths[picked]
        width = int(lengths.max(initial=0)) if samples is None else samples
        reach = min(width, int(lengths.max(initial=0)))
        window = np.lib.stride_tricks.sliding_window_view(self.samples, reach)[self.starts[picked]] if reach else None
        audio = torch.zeros(len(picked), width)
        if window is not None:
            audio[:, :reach] = torch.from_numpy(window).to(torch.float32).mul_(1.0 / INT16_SCALE)
        if len(lengths) and int(lengths.min()) < reach:
            audio *= torch.arange(width) < torch.from_numpy(lengths)[:, None]
        placed = self.overlay_rows[picked]
        if (placed >= 0).any():
            fits = min(width, self.overlay.shape[1])
            where = torch.from_numpy(np.flatnonzero(placed >= 0))
            audio[where] = 0.0
            audio[where, :fits] = torch.from_numpy(self.overlay[placed[placed >= 0], :fits])
        return audio, torch.from_numpy(np.minimum(lengths, width))

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

    def replace(
        self, rows: Rows, audio: Tensor | NDArray[np.float32] | None = None, labels: Rows | None = None
    ) -> Clips:
        """The same clips with other audio and/or labels at ``rows``; nothing else is copied.

        Args:
            rows: distinct clip indices, shape [m].
            audio: float32 [m, time]; it keeps values beyond [-1, 1] (see the attack's clipping policy).
            labels: class indices, shape [m].
        """
        changed = self
        if labels is not None:
            column = self.labels.copy()
            column[rows] = labels
            changed = replace(changed, labels=column)
        if audio is not None:
            fresh = np.asarray(audio, dtype=np.float32)
            kept = self.overlay
            width = max(kept.shape[1], fresh.shape[1])
            stacked = np.zeros((len(kept) + len(fresh), width), np.float32)
            stacked[: len(kept), : kept.shape[1]] = kept
            stacked[len(kept) :, : fresh.shape[1]] = fresh
            places = self.overlay_rows.copy()
            places[rows] = np.arange(len(kept), len(stacked))
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

    def counts(self) -> dict[str, int]:
        """How many clips each class has."""
        totals = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(total) for name, total in zip(self.classes, totals, strict=True)}


def to_int16(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    """Float audio as 16-bit samples, rounded and saturated as a WAV file would be."""
    return np.clip(np.rint(audio * INT16_SCALE), -32768, 32767).astype(np.int16)
