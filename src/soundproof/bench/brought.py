"""What an attacker brings along from outside the corpus: sounds and voices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from soundproof.bench.spec import Attacker
from soundproof.core import files
from soundproof.core.progress import SILENT, Progress
from soundproof.data import Clips
from soundproof.data.folder import read_recordings


@dataclass(frozen=True)
class Brought:
    """Recordings of the attacker's own, at the victim's sample rate."""

    sounds: Clips | None = None
    voices: Clips | None = None

    @property
    def digests(self) -> tuple[str, ...]:
        """A hash of each kind of recording that there is, so that results are not reused for others."""
        kinds = (("sounds", self.sounds), ("voices", self.voices))
        return tuple(f"{name}-{clips.digest()}" for name, clips in kinds if clips is not None)


def read_brought(attacker: Attacker, sample_rate_hz: int, progress: Progress = SILENT) -> Brought:
    """Read the folders that an attacker names.

    Raises:
        BadDataError: if a folder is missing or holds no recordings.
        BadAudioError: if a recording is broken.
    """
    read: dict[str, Clips | None] = {}
    for kind in ("sounds", "voices"):
        text: str | None = getattr(attacker, kind)
        if text is None:
            read[kind] = None
            continue
        read[kind], _ = read_recordings(files.expanded(Path(text)), sample_rate_hz, progress=progress)
    return Brought(**read)
