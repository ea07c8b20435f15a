"""Hundreds of synthetic speakers: who they are, and their words as espeak-ng says them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from soundproof.core.errors import BadDataError
from soundproof.core.extras import require
from soundproof.core.seeds import Rng
from soundproof.data._espeak import SAMPLE_RATE_HZ as SAMPLE_RATE_HZ

ACCENTS: Final = (
    "en",
    "en-us",
    "en-us-nyc",
    "en-029",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
)
"""English of Great Britain, America, New York, the Caribbean, Scotland, RP, Lancaster and the West Midlands."""

VARIANTS: Final = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5"),
    *(
        "Alex",
        "Alicia",
        "Andrea",
        "Andy",
        "Annie",
        "Denis",
        "Diogo",
        "Gene",
        "Hugo",
        "Jacky",
        "Lee",
        "Mario",
        "Michael",
    ),
    *("Mike", "Nguyen", "aunty", "belinda", "boris", "ed", "edward", "grandma", "grandpa", "iven", "klatt", "klatt4"),
    *("linda", "marcelo", "max", "norbert", "pablo", "paul", "quincy", "rob", "steph", "travis", "victor", "zac"),
)
"""Voices that differ to the ear and still sound like a person."""

MAX_SPEAKERS: Final = len(ACCENTS) * len(VARIANTS)

Made = TypeVar("Made")

_CHUNK: Final = 160  # utterances to a process; part of what the samples depend on
_TIMEOUT_SECONDS: Final = 300


@dataclass(frozen=True)
class Speaker:
    """A voice with its own pace (words a minute) and pitch (0 to 100)."""

    voice: str
    words_per_minute: int
    pitch: int


@dataclass(frozen=True)
class Utterance:
    """What is said, and how: ``pitch`` and ``pitch_range`` from 0 to 100."""

    voice: str
    text: str
    words_per_minute: int
    pitch: int
    pitch_range: int


def speakers(count: int, rng: Rng) -> list[Speaker]:
    """So many different speakers, in random order; every accent is there from eight on."""
    draw = rng.child("speakers").numpy()
    variants = [draw.permutation(len(VARIANTS)) for _ in ACCENTS]
    chosen: list[Speaker] = []
    for number in range(count):
        turn, accent = divmod(number, len(ACCENTS))
        voice = f"{ACCENTS[accent]}+{VARIANTS[int(variants[accent][turn])]}"
        chosen.append(Speaker(voice, int(draw.integers(130, 200)), int(draw.integers(25, 75))))
    return [chosen[row] for row in draw.permutation(count).tolist()]


def engine_version() -> str:
    """The version of the package that brings espeak-ng.

    Raises:
        MissingExtraError: if it is not installed.
    """
    from importlib.metadata import version

    require("espeakng_loader", extra="synthetic", purpose="the synthetic corpus")
    return version("espeakng-loader")


def speak(utterances: Sequence[Utterance], finish: Callable[[int, list[NDArray[np.int16]]], Made]) -> Iterator[Made]:
    """The utterances in order, a few at a time; several processes speak at once.

    Args:
        utterances: what is said.
        finish: makes the result for one group, from the group's number and its utterances, each int16 [time] at
            ``SAMPLE_RATE_HZ`` without silence around it. It runs in parallel.

    Raises:
        MissingExtraError: if espeak-ng is not installed.
        BadDataError: if espeak-ng fails, or has nothing to say for a text.
    """
    loader = require("espeakng_loader", extra="synthetic", purpose="the synthetic corpus")
    library, data = str(loader.get_library_path()), str(Path(loader.get_data_path()).parent)

    def one(number: int, chunk: Sequence[Utterance]) -> Made:
        lines = [[said.voice, said.text, said.words_per_minute, said.pitch, said.pitch_range] for said in chunk]
        request = json.dumps({"library": library, "data": data, "utterances": lines})
        # -I -S: neither the folder of the program nor any installed package is importable there, none is needed.
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("_espeak.py"))]
        done = subprocess.run(
            command, input=request.encode(), capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
        )
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise BadDataError(f"espeak-ng could not speak the synthetic corpus: {reason[0]}")
        return finish(number, _parse(done.stdout, chunk))

    chunks = [utterances[begin : begin + _CHUNK] for begin in range(0, len(utterances), _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(one, range(len(chunks)), chunks)


def _parse(content: bytes, chunk: Sequence[Utterance]) -> list[NDArray[np.int16]]:
    samples: list[NDArray[np.int16]] = []
    place = 0
    for said in chunk:
        length = int.from_bytes(content[place : place + 4], sys.byteorder)
        part = np.frombuffer(content, np.int16, length, place + 4)
        place += 4 + 2 * length
        loud = np.flatnonzero(np.abs(part.astype(np.int32)) > 64)
        if not len(loud):
            raise BadDataError(f"espeak-ng has nothing to say for '{said.text}'; choose words that can be spoken")
        samples.append(part[loud[0] : loud[-1] + 1])
    return samples
