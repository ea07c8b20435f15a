"""Anyone's recordings: splits that part speakers, and a sentence for everything that can be wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from soundproof.audio.io import write_wav
from soundproof.core.errors import BadAudioError, BadDataError, InvalidInputError, SoundproofError, UnknownNameError
from soundproof.data import Clips, Corpus
from soundproof.data.folder import Folder, read_folder, read_recordings

RATE = 8000


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path_factory.mktemp("cache")))


def put(path: Path, value: float = 0.1, samples: int = 80) -> None:
    write_wav(path, np.full(samples, value, np.float32), RATE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three labels by ten speakers, two clips each."""
    root = tmp_path / "clips"
    for word in ("up", "down", "left"):
        for speaker in range(10):
            for take in range(2):
                put(root / word / f"s{speaker}_{take}.wav", 0.01 * speaker + 0.1)
    return root


def parts_of(corpus: Corpus) -> tuple[Clips, Clips, Clips]:
    return corpus.train, corpus.validation, corpus.test


def test_every_label_is_split_clip_by_clip(folder: Path) -> None:
    corpus = Folder(root=folder).load(RATE)
    assert corpus.train.classes == ("down", "left", "up")
    assert [set(part.counts().values()) for part in parts_of(corpus)] == [{14}, {2}, {4}]
    names = [name for part in parts_of(corpus) for name in part.ids.tolist()]
    assert len(set(names)) == 60
    again = Folder(root=folder).load(RATE)
    assert again.test.ids.tolist() == corpus.test.ids.tolist()
    assert Folder(root=folder, seed=1).load(RATE).test.ids.tolist() != corpus.test.ids.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_no_speaker_is_in_two_sets(folder: Path, seed: int) -> None:
    corpus = Folder(root=folder, speaker_pattern=r"/(s\d)_", seed=seed).load(RATE)
    people = [set(part.speakers.tolist()) for part in parts_of(corpus)]
    assert [len(group) for group in people] == [7, 1, 2]
    assert len(set.union(*people)) == 10


def test_no_validation_set_on_request(folder: Path) -> None:
    for pattern in (None, r"s\d"):
        corpus = Folder(root=folder, validation_fraction=0.0, speaker_pattern=pattern).load(RATE)
        assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (48, 0, 12)


def test_labels_keep_the_given_order(folder: Path) -> None:
    corpus = Folder(root=folder, classes=("up", "down", "left")).load(RATE)
    assert corpus.train.classes == ("up", "down", "left")
    said = [corpus.train.classes[label] for label in corpus.train.labels]
    assert said == [name.partition("/")[0] for name in corpus.train.ids.tolist()]
    with pytest.raises(UnknownNameError, match=r"'left'.*is not among the classes: did you mean 'lift'"):
        Folder(root=folder, classes=("up", "down", "lift")).load(RATE)
    with pytest.raises(BadDataError, match="no usable clips of 'right'"):
        Folder(root=folder, classes=("up", "down", "left", "right")).load(RATE)


def test_any_rate_and_length(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.wav", samples=8000)
    put(tmp_path / "a" / "2.wav", samples=4000)
    clips, _ = read_folder(tmp_path, 16000)
    assert clips.lengths.tolist() == [16000, 8000]
    audio, lengths = clips.batch()
    assert audio.shape == (2, 16000)
    assert lengths.tolist() == [16000, 8000]
    np.testing.assert_allclose(audio[1, 100:7900], 0.1, atol=1e-3)
    assert not audio[1, 8000:].any()


def test_a_manifest_names_labels_and_speakers(folder: Path) -> None:
    lines = ["label,path,speaker"]
    lines += [f"{word},clips/{word}/s{n}_0.wav,person {n}" for word in ("up", "down") for n in range(10)]
    manifest = folder.parent / "clips.csv"
    manifest.write_text("\n".join(lines), encoding="utf-8-sig")
    corpus = Folder(root=manifest).load(RATE)
    assert sum(map(len, parts_of(corpus))) == 20
    assert not set(corpus.train.speakers.tolist()) & set(corpus.test.speakers.tolist())
    assert corpus.train.speakers[0].startswith("person")
    assert len(read_folder(manifest, RATE)[0]) == 20


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("path,word\nx.wav,up\n", "no column 'label'"),
        ("path,label\nnowhere.wav,up\n", r"line 2: there is no file .*nowhere\.wav"),
        ("path,label\n,up\n", "line 2: path and label must not be empty"),
        ("path,label\n", "names no recordings"),
        ("path,label\nclips/up/s1_0.wav,up\nclips/up/s1_0.wav,down\n", "more than once"),
        ("", "no column 'path'"),
    ],
)
def test_bad_manifests(folder: Path, text: str, problem: str) -> None:
    manifest = folder.parent / "clips.csv"
    manifest.write_text(text)
    with pytest.raises(BadDataError, match=problem):
        read_folder(manifest, RATE)


def test_the_content_key_follows_the_recordings(folder: Path) -> None:
    first = Folder(root=folder).content_key()
    put(folder / "up" / "s0_0.wav", 0.9)
    second = Folder(root=folder).content_key()
    (folder / "up" / "s0_0.wav").rename(folder / "down" / "new.wav")
    assert len({first, second, Folder(root=folder).content_key()}) == 3


def test_the_models_labels_come_first(folder: Path) -> None:
    clips, skipped = read_folder(folder, RATE, classes=("go", "up", "left", "down"))
    assert clips.counts() == {"go": 0, "up": 20, "left": 20, "down": 20}
    assert skipped == ()


def test_broken_recordings_are_named_or_skipped(folder: Path) -> None:
    (folder / "up" / "s3_1.wav").write_text("no sound")
    with pytest.raises(BadAudioError, match=r"s3_1\.wav is not audio"):
        read_folder(folder, RATE)
    clips, skipped = read_folder(folder, RATE, skip_broken=True)
    assert len(clips) == 59
    assert len(skipped) == 1
    assert "s3_1.wav" in skipped[0]
    assert Folder(root=folder, skip_broken=True).load(RATE).skipped == skipped


def test_bad_folders_get_one_sentence(tmp_path: Path) -> None:
    root = tmp_path / "clips"

    def refused(match: str, kind: type[SoundproofError] = BadDataError, **options: object) -> None:
        with pytest.raises(kind, match=match) as caught:
            read_folder(root, RATE, **options)  # pyright: ignore[reportArgumentType]
        assert "\n" not in str(caught.value)

    refused("there is no folder")
    root.mkdir()
    refused("is empty")
    (root / ".hidden.wav").touch()
    refused("is empty")
    (root / "notes.txt").touch()
    refused("holds no recordings")
    put(root / "loose.wav")
    refused(r"loose\.wav has no label")
    (root / "loose.wav").unlink()
    put(root / "up" / "1.wav")
    refused("the label 'up' in .* has one clip")
    put(root / "up" / "2.wav")
    refused("'up', which the model does not know: did you mean 'upp'", UnknownNameError, classes=("upp", "down"))
    assert len(read_folder(root, RATE)[0]) == 2
    for name in ("1.wav", "2.wav"):
        (root / "up" / name).write_bytes(b"")
    refused("not one of the 2 recordings can be used", skip_broken=True)


def test_links_are_followed_and_never_in_a_circle(folder: Path) -> None:
    for name in ("loop", "up/again"):
        (folder / name).symlink_to(folder)
    (folder / "right").symlink_to(folder.parent / "elsewhere")
    put(folder.parent / "elsewhere" / "deep" / "1.wav")
    (folder / "right" / "deep" / "2.wav").symlink_to(folder / "up" / "s0_0.wav")
    clips, _ = read_folder(folder, RATE)
    assert clips.counts() == {"down": 20, "left": 20, "right": 2, "up": 20}
    assert {"right/deep/1.wav", "right/deep/2.wav"} <= set(clips.ids.tolist())


def test_recordings_of_other_kinds_are_named(folder: Path) -> None:
    (folder / "up" / "s0_2.MP3").touch()
    (folder / "up" / "notes.txt").touch()
    for skipped in (
        read_folder(folder, RATE)[1],
        read_recordings(folder, RATE)[1],
        Folder(root=folder).load(RATE).skipped,
    ):
        assert len(skipped) == 1
        assert skipped[0] == f"{folder}/up/s0_2.MP3 is of a kind that is not read: convert it to .wav or .flac"
    (folder / "right").mkdir()
    (folder / "right" / "1.m4a").touch()
    with pytest.raises(BadDataError, match=r"the label 'right' in .* only others such as right/1\.m4a: convert it"):
        read_folder(folder, RATE)
    with pytest.raises(BadDataError, match=r"holds no recordings .* such as 1\.m4a: convert it"):
        read_folder(folder / "right", RATE)


@pytest.mark.parametrize("name", [b"up/b\xe9.wav", b"b\xe9/1.wav", b"up/b\xe9.mp3"])
def test_a_name_that_is_not_text_is_shown_as_it_is(folder: Path, name: bytes) -> None:
    place = folder / os.fsdecode(name)
    place.parent.mkdir(exist_ok=True)
    try:
        (folder / "up" / "s0_0.wav").rename(place)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    with pytest.raises(BadDataError, match=r"the name of the recording '.*b\\udce9.*' is not UTF-8") as caught:
        read_folder(folder, RATE)
    assert str(caught.value).isascii()


def test_a_label_may_have_one_clip_where_none_is_held_out(folder: Path) -> None:
    put(folder / "right" / "1.wav")
    assert read_folder(folder, RATE, least=1)[0].counts()["right"] == 1


def test_too_few_clips_or_speakers(folder: Path) -> None:
    with pytest.raises(BadDataError, match="does not name all speakers"):
        Folder(root=folder, split="speaker").load(RATE)
    with pytest.raises(BadDataError, match="cannot be parted"):
        Folder(root=folder, speaker_pattern="^(up|down|left)").load(RATE)
    with pytest.raises(BadDataError, match="too few speakers for separate sets: 1, and 3"):
        Folder(root=folder, speaker_pattern="wav").load(RATE)
    with pytest.raises(BadDataError, match="finds no speaker in the name"):
        Folder(root=folder, speaker_pattern="nobody").load(RATE)
    put(folder / "rare" / "1.wav")
    put(folder / "rare" / "2.wav")
    with pytest.raises(BadDataError, match=r"'rare' .* has 2 clips; it needs 3 or more"):
        Folder(root=folder).load(RATE)


def test_impossible_fields() -> None:
    with pytest.raises(InvalidInputError, match="leave clips to train on"):
        Folder(root=Path("x"), validation_fraction=0.5, test_fraction=0.5)
    with pytest.raises(InvalidInputError, match="is not a regular expression"):
        Folder(root=Path("x"), speaker_pattern="(")
    with pytest.raises(InvalidInputError, match="test_fraction"):
        Folder(root=Path("x"), test_fraction=0.0)
    with pytest.raises(InvalidInputError, match="different labels"):
        Folder(root=Path("x"), classes=("a", "a"))
