"""Stealth: what people, listening machines and a look at the signal could notice of a trigger.

Each measure compares a clip with its triggered copy and is reported as its mean and its 5th and 95th percentile over
clips. A measure that says nothing about a trigger has no value and says why. A trigger that rebuilds the whole clip
(its pitch, its voice) has a low SNR by that alone: read intelligibility, quality and voice there.

Networks that rate quality without the clean clip take part if you have their weights, which are not ours to ship
(``Dnsmos``, ``Nisqa``). They are made for several seconds of speech, while most clips here last one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from soundproof.analysis._measures import ACCURACY, ALL_MEASURES, MEASURES, RATINGS, SIMILARITY, Measure
from soundproof.audio.speaker import embed_voice
from soundproof.core.errors import InvalidInputError, MissingExtraError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng, clip_keys
from soundproof.triggers import Recordings, Stamp

Embed = Callable[[Tensor, int], Tensor]
"""Clips [batch, time] and their sample rate in, one vector for each voice [batch, dimension] out."""
Classify = Callable[[Tensor], Tensor]
"""Clips [batch, time] in, logits [batch, classes] out."""
_SAMPLES = 1 << 20
"""Samples a pass."""
_CLIPS = 256
"""Clips that are held at once where nothing is computed on them."""
_FEATURES = "the trigger lives in the features and is in no recording"


class QualityRater(Protocol):
    """Rates the quality of speech without the clean recording beside it (``Dnsmos``, ``Nisqa``)."""

    measure: ClassVar[str]
    """What it gives: ``dnsmos_change`` or ``nisqa_change``."""

    def overall(self, audio: Tensor, sample_rate_hz: int) -> Tensor:
        """Mean opinion scores from 1 to 5 [batch] of clips [batch, time]; NaN for a clip that it cannot rate."""
        ...


@dataclass(frozen=True)
class Reading:
    """One measure of one trigger over all clips; without a value, ``reason`` says why.

    Attributes:
        unit: of the values.
        mean: over the clips that the measure applies to.
        low: 5th percentile; none for a share of clips.
        high: 95th percentile; none for a share of clips.
        clips: how many clips it applies to.
        reason: why there is no value.
        sd: standard deviation over those clips; none for fewer than two.
    """

    unit: str
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    clips: int = 0
    reason: str = ""
    sd: float | None = None


@dataclass(frozen=True)
class Stealth:
    """All measures of one trigger, by name."""

    sample_rate_hz: int
    clips: int
    readings: Mapping[str, Reading]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def measure_stealth(
    clips: Recordings,
    stamp: Stamp,
    rng: Rng,
    *,
    embed: Embed = embed_voice,
    classify: Classify | None = None,
    raters: Sequence[QualityRater] = (),
    progress: Progress = SILENT,
) -> Stealth:
    """How well a trigger hides in a set of clips.

    Args:
        clips: to put it on; padded with silence to the longest.
        stamp: the trigger, prepared, as it reaches a model.
        rng: what its per-clip draws come from (``Poisoned.rng``).
        embed: speaker embeddings.
        classify: a model that never met the trigger and was not used to make it, at the clips' sample rate, with the
            clips' classes.
        raters: networks that rate quality without the clean clip.
        progress: told about each pass.

    Raises:
        InvalidInputError: if there are no clips, or the trigger cannot exist in them.
    """
    if not len(clips):
        raise InvalidInputError("there are no clips to measure the stealth of a trigger on")
    if stamp.in_features:
        readings = {measure.name: Reading(measure.unit, reason=_FEATURES) for measure in ALL_MEASURES}
        return Stealth(clips.sample_rate_hz, len(clips), readings)
    gathered = _Gathered(clips.sample_rate_hz, embed, classify, raters)
    keys, width = clip_keys(clips.ids), _longest(clips)
    chunk = max(1, _SAMPLES // max(1, width))
    with progress.task(f"stealth of {stamp.trigger.short_name()}", len(clips)) as task:
        for begin in range(0, len(clips), chunk):
            rows = np.arange(begin, min(begin + chunk, len(clips)))
            audio, _ = clips.batch(rows, samples=width)
            marked = stamp.on_audio(audio, clips.sample_rate_hz, rng.draws(keys[rows]))
            gathered.add(audio, marked, torch.from_numpy(clips.labels[rows]))
            task.advance(len(rows))
    return gathered.result()


def _longest(clips: Recordings) -> int:
    """Samples of the longest clip; never all clips in memory."""
    parts = (slice(begin, begin + _CLIPS) for begin in range(0, len(clips), _CLIPS))
    return max(int(clips.batch(part)[1].max()) for part in parts)


def compare(
    clean: Tensor,
    triggered: Tensor,
    sample_rate_hz: int,
    *,
    labels: Tensor | None = None,
    embed: Embed = embed_voice,
    classify: Classify | None = None,
    raters: Sequence[QualityRater] = (),
) -> Stealth:
    """The measures of clean clips [batch, time] and their triggered copies.

    ``labels`` [batch] are what the clips say; ``classify`` needs them.

    Raises:
        InvalidInputError: if the two batches differ in shape, or are empty.
    """
    if clean.shape != triggered.shape or clean.ndim != 2 or not clean.numel():
        raise InvalidInputError(
            "stealth compares clean and triggered clips of one shape [batch, time], "
            f"got {tuple(clean.shape)} and {tuple(triggered.shape)}"
        )
    gathered = _Gathered(sample_rate_hz, embed, None if labels is None else classify, raters)
    gathered.add(clean, triggered, torch.zeros(len(clean), dtype=torch.int64) if labels is None else labels)
    return gathered.result()


class _Gathered:
    """Values of all measures, batch by batch."""

    def __init__(
        self, sample_rate_hz: int, embed: Embed, classify: Classify | None, raters: Sequence[QualityRater]
    ) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.embed = embed
        self.classify = classify
        self.raters = raters
        self.clips = 0
        self.values: dict[str, list[Tensor]] = {}
        self.missing: dict[str, str] = {}

    def add(self, clean: Tensor, triggered: Tensor, labels: Tensor) -> None:
        """Compare one batch."""
        self.clips += len(clean)
        with torch.inference_mode():
            for measure in MEASURES:
                if measure.compare is not None:
                    self._keep(measure, functools.partial(measure.compare, clean, triggered, self.sample_rate_hz))
            self._keep(SIMILARITY, lambda: self._similarity(clean, triggered))
            for rater in self.raters:
                gain = functools.partial(_gain, rater, clean, triggered, self.sample_rate_hz)
                self._keep(RATINGS[rater.measure], gain)
            if self.classify is not None:
                heard = self.classify(triggered).argmax(1).cpu()
                self._keep(ACCURACY, lambda: 100.0 * (heard == labels.cpu()))

    def _keep(self, measure: Measure, values: Callable[[], Tensor]) -> None:
        if measure.name in self.missing:
            return
        try:
            self.values.setdefault(measure.name, []).append(values().cpu().double())
        except MissingExtraError as error:  # an optional package, said in a sentence
            self.missing[measure.name] = str(error)

    def _similarity(self, clean: Tensor, triggered: Tensor) -> Tensor:
        return torch.cosine_similarity(
            self.embed(clean, self.sample_rate_hz), self.embed(triggered, self.sample_rate_hz)
        )

    def result(self) -> Stealth:
        """Means and percentiles of what was gathered."""
        return Stealth(
            self.sample_rate_hz, self.clips, {measure.name: self._reading(measure) for measure in ALL_MEASURES}
        )

    def _reading(self, measure: Measure) -> Reading:
        if measure.name in self.missing:
            return Reading(measure.unit, reason=self.missing[measure.name])
        every = torch.cat(self.values.get(measure.name, [torch.zeros(0)])).numpy()
        known = every[np.isfinite(every)]
        if not len(known):
            return Reading(measure.unit, reason=measure.nothing)
        low, high = (None, None) if measure is ACCURACY else map(float, np.percentile(known, (5.0, 95.0)))
        sd = float(known.std(ddof=1)) if len(known) > 1 else None
        return Reading(measure.unit, float(known.mean()), low, high, len(known), sd=sd)


def _gain(rater: QualityRater, clean: Tensor, triggered: Tensor, sample_rate_hz: int) -> Tensor:
    return rater.overall(triggered, sample_rate_hz) - rater.overall(clean, sample_rate_hz)
