"""The measures of stealth: what each is called, how to read it, and what computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from soundproof.analysis import _hearing, _pitch, _signal

Compare = Callable[[Tensor, Tensor, int], Tensor]
"""Clean and triggered clips [batch, time] and their sample rate in, one number for each clip out."""


@dataclass(frozen=True)
class Measure:
    """One way to look at a trigger.

    Attributes:
        name: its name in results.
        title: its name for people.
        unit: of its values; empty for a plain number.
        meaning: how to read it.
        compare: does it; none for what depends on more than two clips.
        nothing: why there is no value where no clip has one.
    """

    name: str
    title: str
    unit: str
    meaning: str
    compare: Compare | None
    nothing: str


_UNCHANGED = "the trigger changes no sample"
_SILENT = "the clips are silent"

MEASURES: tuple[Measure, ...] = (
    Measure(
        "snr_db",
        "SNR",
        "dB",
        "Energy of the clip over the energy of what the trigger changes, over the whole clip. Higher is quieter.",
        _signal.snr_db,
        _UNCHANGED,
    ),
    Measure(
        "local_snr_db",
        "SNR where it sounds",
        "dB",
        "The same over the stretches of 10 ms in which anything changes: what a short cue is like while it lasts.",
        _signal.local_snr_db,
        _UNCHANGED,
    ),
    Measure(
        "support_percent",
        "Share of the clip",
        "%",
        "How much of the clip those stretches are.",
        _signal.support_percent,
        _UNCHANGED,
    ),
    Measure(
        "peak_change_db",
        "Peak",
        "dB",
        "Change of the highest sample. Far from 0 stands out on a meter.",
        _signal.peak_change_db,
        _SILENT,
    ),
    Measure(
        "loudness_change_lu",
        "Loudness",
        "LU",
        "Change of the integrated loudness (ITU-R BS.1770). 1 LU is just noticeable. It counts ultrasound, "
        "which nobody hears.",
        _hearing.loudness_change_lu,
        "no clip has a stretch that is loud enough to have a loudness",
    ),
    Measure(
        "log_spectral_distance_db",
        "Log-spectral distance",
        "dB",
        "How far the short-time spectra are apart, on average; in speech coding 1 dB passes for no difference.",
        _signal.log_spectral_distance_db,
        _SILENT,
    ),
    Measure(
        "stoi",
        "STOI",
        "",
        "Intelligibility beside the clean clip, below 5 kHz: 1 is the same speech, below about 0.75 words get lost.",
        _hearing.stoi,
        "no clip has the 0.4 s of speech that it needs",
    ),
    Measure(
        "pesq",
        "PESQ",
        "MOS",
        "Quality beside the clean clip, as a mean opinion score from 1 (bad) to 4.6 (no difference), below 8 kHz.",
        _hearing.pesq,
        "it finds no utterance that is long enough in any clip",
    ),
    Measure(
        "pitch_shift_semitones",
        "Pitch",
        "semitones",
        "Shift of the fundamental frequency (YIN), median over frames that are voiced in both clips.",
        _pitch.pitch_shift_semitones,
        "no clip has a voiced stretch in both copies",
    ),
    Measure(
        "voiced_change_points",
        "Voiced frames",
        "points",
        "Change of the share of frames with a pitch.",
        _pitch.voiced_change_points,
        _SILENT,
    ),
)
SIMILARITY = Measure(
    "speaker_similarity",
    "Voice",
    "",
    "Cosine of the embeddings of the clean and the triggered voice: 1 is the same speaker.",
    None,
    _SILENT,
)
DNSMOS = Measure(
    "dnsmos_change",
    "DNSMOS",
    "MOS",
    "Change of the overall quality by a network that does not hear the clean clip (DNSMOS P.835). It was made for "
    "several seconds of speech.",
    None,
    "no DNSMOS model was given",
)
NISQA = Measure(
    "nisqa_change",
    "NISQA",
    "MOS",
    "Change of the overall quality by a network that does not hear the clean clip (NISQA 2.0). It was made for several "
    "seconds of speech.",
    None,
    "no NISQA model was given",
)
ACCURACY = Measure(
    "clean_model_accuracy",
    "Still recognized",
    "%",
    "Triggered clips that the given model names right: whether the word is still there, if that model never met the "
    "trigger and was not used to make it.",
    None,
    "no model was given to name the clips",
)
RATINGS = {measure.name: measure for measure in (DNSMOS, NISQA)}
"""Measures of networks that rate quality without the clean clip."""
ALL_MEASURES = (*MEASURES, SIMILARITY, *RATINGS.values(), ACCURACY)
"""Every measure in the order of results."""
