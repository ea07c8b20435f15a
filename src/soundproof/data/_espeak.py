"""Speaks words with espeak-ng. Runs as a program of its own: espeak-ng keeps global state and may take a process down.

Its voices also drift with what was said before (flutter, breath), so one process speaks one fixed list from start to
end; that is what makes the result depend on the list alone. Only the standard library is imported, to start fast.

Standard input: JSON with ``library``, ``data`` (the folder that holds ``espeak-ng-data``) and ``utterances``, each
``[voice, text, words_per_minute, pitch, pitch_range]`` (the last two 0 to 100).
Standard output: for each utterance its number of samples (int32) and the samples (int16, 22,050 Hz).
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from typing import Any, Final

SAMPLE_RATE_HZ: Final = 22050
_SYNCHRONOUS, _UTF8 = 2, 1
_RATE, _PITCH, _RANGE = 1, 3, 4


def main() -> None:
    """Read the list, speak it, write the samples."""
    request = json.loads(sys.stdin.buffer.read())
    engine = ctypes.CDLL(request["library"])
    engine.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    engine.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    engine.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    rate = engine.espeak_Initialize(_SYNCHRONOUS, 0, request["data"].encode(), 0)
    if rate != SAMPLE_RATE_HZ:
        sys.exit(f"espeak-ng did not start (it answered {rate})")
    # The breath of some voices is drawn at random, from a seed that is the time of day unless it is set.
    engine.espeak_ng_SetRandSeed(ctypes.c_long(1))
    parts: list[bytes] = []

    def keep(samples: Any, count: int, _: Any) -> int:
        if count > 0 and samples:
            parts.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(keep)
    engine.espeak_SetSynthCallback(callback)
    current = ""
    for voice, text, words_per_minute, pitch, pitch_range in request["utterances"]:
        if voice != current and engine.espeak_SetVoiceByName(voice.encode()):
            sys.exit(f"espeak-ng has no voice {voice}")
        current = voice
        for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
            engine.espeak_SetParameter(parameter, int(value), 0)
        parts.clear()
        content = text.encode() + b"\0"
        engine.espeak_Synth(content, len(content), 0, 0, 0, _UTF8, None, None)
        spoken = b"".join(parts)
        sys.stdout.buffer.write(struct.pack("=i", len(spoken) // 2) + spoken)


if __name__ == "__main__":
    main()
