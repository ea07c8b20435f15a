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


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All thirty-five words by eight speakers (0-5 train, 6 validation, 7 test) and two noises, at 1000 Hz; each
    sample of a noise tells its place."""
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "corpus"
    for number, word in enumerate(THIRTY_FIVE):
        for speaker in range(8):
            write_wav(root / word / f"speaker{speaker}_nohash_0.wav", np.full(1000, number / 50, np.float32), 1000)
    for name, seconds in (("hiss", 30), ("short", 3), ("hum", 20)):
        ramp = np.arange(seconds * 1000, dtype=np.float32) / np.float32(32768)
        write_wav(root / "_background_noise_" / f"{name}.wav", ramp, 1000)
    for name, speaker in (("validation", 6), ("testing", 7)):
        text = "".join(f"{word}/speaker{speaker}_nohash_0.wav\n" for word in THIRTY_FIVE)
        (root / f"{name}_list.txt").write_text(text)
    return root


def test_twelve_classes_have_a_tenth_of_silence_and_of_unknown_words(whole: Path) -> None:
    found = SpeechCommands(root=whole, words="12").load(1000)
    words = dict.fromkeys(TEN, 6)
    assert found.train.counts() == {**words, "silence": 6, "unknown": 6}
    for part in (found.validation, found.test):
        assert part.counts() == {**dict.fromkeys(TEN, 1), "silence": 1, "unknown": 1}
    for part, people in ((found.train, range(6)), (found.validation, [6]), (found.test, [7])):
        spoken = part.labels != part.classes.index("silence")
        assert set(part.speakers[spoken].tolist()) <= {f"speaker{person}" for person in people}
        assert set(part.speakers[~spoken].tolist()) == {""}
        unknown = part.ids[part.labels == part.classes.index("unknown")].tolist()
        assert all(name.split("/")[0] in set(THIRTY_FIVE) - set(TEN) for name in unknown)
        assert len(set(part.ids.tolist())) == len(part)


def test_the_sets_cut_their_silence_from_different_stretches(whole: Path) -> None:
    found = SpeechCommands(root=whole, words="12").load(1000)
    for number, part in enumerate((found.train, found.validation, found.test)):
        rows = np.flatnonzero(part.labels == part.classes.index("silence"))
        for row in rows:
            seconds = 30 if "hiss" in str(part.ids[row]) else 20
            samples = part.stored(np.array([row]))[0]
            assert (np.diff(samples) == 1).all()  # one stretch of a ramp
            low, high = np.array([0.0, 0.8, 0.9, 1.0])[number : number + 2] * seconds * 1000
            assert low <= samples[0] < samples[-1] < high


def test_the_seed_decides_what_is_silence_and_unknown(whole: Path) -> None:
    def loaded(seed: int) -> tuple[list[str], str]:
        train = SpeechCommands(root=whole, words="12", seed=seed).load(1000).train
        return train.ids[train.labels == train.classes.index("unknown")].tolist(), train.digest()

    assert loaded(0) == loaded(0)
    assert loaded(0)[0] != loaded(1)[0]
    assert loaded(0)[1] != loaded(1)[1]
    data = SpeechCommands(root=whole, words="12")
    before = data.content_key()
    write_wav(whole / "_background_noise_" / "hum.wav", np.zeros(20_000, np.float32), 1000)
    assert data.content_key() != before


def test_thirty_five_words(whole: Path) -> None:
    found = SpeechCommands(root=whole, words="35").load(1000)
    assert found.train.counts() == dict.fromkeys(THIRTY_FIVE, 6)
    assert (len(found.validation), len(found.test)) == (35, 35)


def test_what_twelve_classes_lack_is_named(whole: Path) -> None:
    for name in ("hiss", "hum"):
        (whole / "_background_noise_" / f"{name}.wav").unlink()
    with pytest.raises(BadDataError, match="one of them must last ten seconds"):
        SpeechCommands(root=whole, words="12").load(1000)
    (whole / "_background_noise_" / "short.wav").unlink()
    with pytest.raises(BadDataError, match="no recordings in _background_noise_, which the twelve-class task needs"):
        SpeechCommands(root=whole, words="12").load(1000)


def test_the_address_of_a_corpus_stays_where_no_seed_is_given() -> None:
    assert "seed" not in SpeechCommands().to_spec()
    assert SpeechCommands(words="12", seed=1).to_spec()["seed"] == 1


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
