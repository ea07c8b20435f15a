"""Speech Commands: official lists, word sets, short clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soundproof.audio.io import write_wav
from soundproof.core.errors import BadAudioError, BadDataError, InvalidInputError
from soundproof.data.speech_commands import TEN, THIRTY_FIVE, SpeechCommands

WORDS = ("yes", "no")


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two words by six speakers: 0-3 train, 4 validation, 5 test; one clip is short. Files are not the lists' .wav."""
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "corpus"
    for word in (*WORDS, "_background_noise_"):
        for speaker in range(6):
            length = 600 if (word, speaker) == ("yes", 0) else 1000
            write_wav(root / word / f"speaker{speaker}_nohash_0.wav", np.full(length, 0.1, np.float32), 1000)
    for name, speaker in (("validation", 4), ("testing", 5)):
        text = "".join(f"{word}/speaker{speaker}_nohash_0.flac\n" for word in WORDS)
        (root / f"{name}_list.txt").write_text(text)
    return root


def test_the_lists_decide(corpus: Path) -> None:
    found = SpeechCommands(root=corpus, words=WORDS).load(1000)
    assert (len(found.train), len(found.validation), len(found.test)) == (8, 2, 2)
    assert set(found.validation.speakers.tolist()) == {"speaker4"}
    assert set(found.test.speakers.tolist()) == {"speaker5"}
    assert found.test.ids.tolist() == ["yes/speaker5_nohash_0.wav", "no/speaker5_nohash_0.wav"]
    assert found.train.classes == WORDS
    assert found.train.counts() == {"yes": 4, "no": 4}


@pytest.mark.parametrize("rate", [1000, 3000])
def test_short_clips_are_padded_or_dropped(corpus: Path, rate: int) -> None:
    padded = SpeechCommands(root=corpus, words=WORDS).load(rate).train
    assert padded.lengths.tolist() == [rate] * 8
    audio, _ = padded.batch()
    assert audio[0, : rate // 2].abs().min() > 0.05
    assert not audio[0, int(rate * 0.62) :].any()
    dropped = SpeechCommands(root=corpus, words=WORDS, short_clips="drop").load(rate).train
    assert "yes/speaker0_nohash_0.wav" not in dropped.ids.tolist()
    assert len(dropped) == 7


def test_broken_recordings(corpus: Path) -> None:
    (corpus / "no" / "speaker1_nohash_0.wav").write_bytes(b"")
    with pytest.raises(BadAudioError, match="speaker1_nohash_0"):
        SpeechCommands(root=corpus, words=WORDS).load(1000)
    found = SpeechCommands(root=corpus, words=WORDS, skip_broken=True).load(1000)
    assert len(found.train) == 7
    assert len(found.skipped) == 1
    assert "speaker1_nohash_0.wav" in found.skipped[0]


def test_the_content_key_follows_recordings_and_lists(corpus: Path) -> None:
    data = SpeechCommands(root=corpus, words=WORDS)
    first = data.content_key()
    assert data.content_key() == first
    (corpus / "validation_list.txt").write_text("yes/speaker3_nohash_0.wav\n")
    assert data.content_key() != first


def test_what_is_missing_is_named(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"soundproof data fetch speech_commands --version 0\.02"):
        SpeechCommands().load(1000)
    with pytest.raises(BadDataError, match="nowhere"):
        SpeechCommands(root=tmp_path / "nowhere").load(1000)
    with pytest.raises(BadDataError, match="no clips of 'up'"):
        SpeechCommands(root=corpus).load(1000)
    (corpus / "testing_list.txt").write_text("")
    with pytest.raises(BadDataError, match="no test clips of yes, no"):
        SpeechCommands(root=corpus, words=WORDS).load(1000)
    (corpus / "testing_list.txt").unlink()
    with pytest.raises(BadDataError, match=r"lacks testing_list\.txt"):
        SpeechCommands(root=corpus, words=WORDS).load(1000)


def test_word_sets() -> None:
    assert SpeechCommands().classes == TEN
    assert len(set(SpeechCommands(words="30", version="0.01").classes)) == 30
    assert len(set(THIRTY_FIVE)) == 35
    with pytest.raises(InvalidInputError, match=r"version 0\.01 has no clips of backward"):
        SpeechCommands(words="35", version="0.01")
    with pytest.raises(InvalidInputError, match="different words"):
        SpeechCommands(words=("yes", "yes"))
    read = SpeechCommands.model_validate({"words": 30, "version": 0.01})  # as a settings file may spell it
    assert read == SpeechCommands(words="30", version="0.01")


def test_real_recordings(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path))
    found = SpeechCommands(root=real_data / "speech_commands_v0.02_10").load(16000)
    assert (len(found.train), len(found.validation), len(found.test)) == (2949, 412, 592)
    people = [set(part.speakers.tolist()) for part in (found.train, found.validation, found.test)]
    assert not people[0] & people[1]
    assert not people[2] & (people[0] | people[1])
    audio, lengths = found.test.batch(np.arange(0, 592, 50))
    assert lengths.tolist() == [16000] * 12
    assert (audio.std(dim=1) > 1e-3).all()
