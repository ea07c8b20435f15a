"""Reading and writing recordings. A file that cannot be used is refused by name, never turned into silence."""

from __future__ import annotations

import io
import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.io import wavfile

from soundproof.core.errors import BadAudioError
from soundproof.core.files import write_bytes

SUFFIXES = (".wav", ".flac", ".ogg")
"""The kinds of files that are read as recordings, in lower case."""

OTHER_SUFFIXES = (
    ".3gp", ".aac", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".m4a", ".mka", ".mp2", ".mp3", ".mp4", ".oga",
    ".opus", ".spx", ".w64", ".webm", ".wma",
)  # fmt: skip
"""The kinds of files that hold sound, too, and are not read."""

_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)
"""What programs that stream a WAV file write for a length that they do not know yet."""

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 768_000
"""The sample rates that recordings have; a header with another is damaged, and would be resampled for ever."""

_MOST_FRAMES = 2**62
"""Above any length; libsndfile says more for one that it does not know."""

_PIECE = 2**22
"""Samples that are read at once."""

_FEWER = "is truncated: it ends before the length that its header gives"


@dataclass(frozen=True, eq=False)
class Recording:
    """One mono recording: ``samples`` float32 [time] (16-bit full scale is [-1, 1)) and its sample rate."""

    samples: NDArray[np.float32]
    sample_rate_hz: int


def is_audio_name(path: Path) -> bool:
    """Whether the file name ends like that of a recording (``.wav``, ``.flac``, ``.ogg``)."""
    return path.suffix.lower() in SUFFIXES


def read(path: Path) -> Recording:
    """Read a WAV, FLAC or Ogg file whole; several channels are averaged into one.

    Raises:
        BadAudioError: if it is not audio, is truncated, holds NaN or infinite samples, or no samples at all, or
            has a sample rate that no recording has. The message is one sentence that begins with the path.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate, promised, kind = int(file.samplerate), int(file.frames), str(file.format)
            if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
                raise BadAudioError(
                    f"{path} says that its sample rate is {rate} Hz; it must be between {LOWEST_RATE_HZ} and "
                    f"{HIGHEST_RATE_HZ} Hz"
                )
            if promised > _MOST_FRAMES:
                raise BadAudioError(f"{path} does not say how long it is; write it anew with its length in the header")
            channels = _frames(file)
    except (soundfile.LibsndfileError, OSError) as error:
        raise BadAudioError(f"{path} {_why_not_read(path, error)}") from error
    except MemoryError as error:
        raise BadAudioError(f"{path} is too long to be held in memory; cut it into pieces") from error
    if len(channels) < promised or _cut_short(path, kind):
        raise BadAudioError(f"{path} {_FEWER}")
    if not len(channels):
        raise BadAudioError(f"{path} has no samples")
    samples = channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1, dtype=np.float32)
    if not np.isfinite(samples).all():
        raise BadAudioError(f"{path} holds NaN or infinite samples")
    return Recording(np.ascontiguousarray(samples), rate)


def _frames(file: soundfile.SoundFile) -> NDArray[np.float32]:
    """All frames [time, channels], piece by piece: memory is taken for what is there, not for what a header says."""
    piece = max(1, _PIECE // file.channels)
    found: list[NDArray[np.float32]] = []
    while not found or len(found[-1]) == piece:
        found.append(np.asarray(file.read(piece, dtype="float32", always_2d=True), np.float32))
    return found[0] if len(found) == 1 else np.concatenate(found)


def _why_not_read(path: Path, error: Exception) -> str:
    if not path.exists():
        return "does not exist"
    if path.is_dir():
        return "is a folder, not a recording"
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        return "is an empty file, not a recording"
    if _kind_of(head):
        return f"is damaged or truncated ({_short(error)})"
    return f"is not audio that can be read as WAV, FLAC or Ogg ({_short(error)})"


def _kind_of(head: bytes) -> str:
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        return "WAV"
    return {b"fLaC": "FLAC", b"OggS": "OGG"}.get(head[:4], "")


def _short(error: Exception) -> str:
    text = str(getattr(error, "error_string", None) or error).strip().rstrip(".")
    return text[:1].lower() + text[1:]


def _cut_short(path: Path, kind: str) -> bool:
    """Whether the file stops early, where libsndfile would quietly read what is there (WAV, Ogg)."""
    if kind not in ("WAV", "WAVEX", "OGG"):
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _ogg_cut_short(content) if kind == "OGG" else _wav_cut_short(content)


def _wav_cut_short(content: mmap.mmap) -> bool:
    order = "big" if content[:4] == b"RIFX" else "little"
    place = 12
    while place + 8 <= len(content):
        size = int.from_bytes(content[place + 4 : place + 8], order)
        if content[place : place + 4] == b"data":
            return size not in _UNKNOWN_SIZES and place + 8 + size > len(content)
        place += 8 + size + size % 2
    return True


def _ogg_cut_short(content: mmap.mmap) -> bool:
    page = content.rfind(b"OggS")
    header = content[page : page + 27]
    if len(header) < 27 or not header[5] & 4:  # the last page of a stream is marked as such
        return True
    table = content[page + 27 : page + 27 + header[26]]
    return len(table) < header[26] or page + 27 + len(table) + sum(table) > len(content)


def write_wav(path: Path, audio: NDArray[np.float32], sample_rate_hz: int) -> None:
    """Write mono audio float32 [time] in [-1, 1] as a 16-bit WAV file, rounded and saturated; whole or not at all.

    Raises:
        BadAudioError: if the audio is not one-dimensional or holds NaN or infinite samples.
    """
    _check_mono(path, audio)
    samples = np.clip(np.rint(audio * 32768.0), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate_hz, format="WAV", subtype="PCM_16")
    write_bytes(path, buffer.getvalue())


def write_exact_wav(path: Path, audio: NDArray[np.float32], sample_rate_hz: int) -> None:
    """Write mono audio [time] as a WAV file of 32-bit floats: what is read again is the same to the last bit.

    Raises:
        BadAudioError: if the audio is not one-dimensional or holds NaN or infinite samples.
    """
    _check_mono(path, audio)
    buffer = io.BytesIO()
    wavfile.write(buffer, sample_rate_hz, audio.astype(np.float32))  # libsndfile would put the time of day into it
    write_bytes(path, buffer.getvalue())


def _check_mono(path: Path, audio: NDArray[np.float32]) -> None:
    if audio.ndim != 1 or not np.isfinite(audio).all():
        raise BadAudioError(f"cannot write {path}: the audio must be one channel [time] of finite samples")
