"""Cues that an attack chose or optimized, kept as recordings: whoever has only the model could not make them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from soundproof.attacks import Backdoor
from soundproof.audio.io import write_exact_wav


def write_cues(backdoors: Sequence[Backdoor], folder: Path) -> list[str | None]:
    """Write the cue of the ``N``-th backdoor as ``cue-N.wav`` into a folder, where it is a sound that was made.

    ``sound = "cue-1.wav"`` in the trigger makes the very same cue of it.

    Returns:
        The name of each backdoor's file; None where the trigger's fields say it all.

    Raises:
        StorageError: if the disk is full or the folder cannot be written.
    """
    names: list[str | None] = []
    for number, backdoor in enumerate(backdoors, 1):
        recording = backdoor.stamp.cue.recording()
        names.append(None if recording is None else f"cue-{number}.wav")
        if recording is not None:
            write_exact_wav(folder / f"cue-{number}.wav", recording.samples, recording.sample_rate_hz)
    return names
