"""``soundproof poison``: exact counts, an honest manifest, untouched clips bit by bit, and the truth kept apart."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile
from cli_corpus import WORDS, tree, write_wavs

from soundproof.cli import main
from soundproof.core import registry
from soundproof.core.seeds import Rng
from soundproof.data.folder import Folder, read_folder
from soundproof.models import Model, Victim
from soundproof.testing import tiny_clips
from soundproof.training.checkpoint import save_victim

RATE = 44_100
ATTACK = """
name = "dirty_label"
trigger = "ultrasonic"
target = "up"
rate = 0.2
"""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Sixty clips of three words at 44.1 kHz, and an attack."""
    (tmp_path / "clips").mkdir()
    write_wavs(tiny_clips(20, classes=WORDS, seconds=0.5, sample_rate_hz=RATE), tmp_path / "clips")
    (tmp_path / "attack.toml").write_text(ATTACK)
    return tmp_path


def poison(desk: Path, *more: str, data: str = "clips") -> dict[str, Any]:
    """What the command says was poisoned."""
    command = ["poison", "--data", str(desk / data), "--attack", str(desk / "attack.toml"), "--out", str(desk / "out")]
    assert main([*command, *more]) == 0
    return json.loads((desk / "out" / "truth.json").read_text())


def samples(path: Path) -> np.ndarray[Any, Any]:
    return soundfile.read(path, dtype="int16")[0]


def test_counts_labels_and_samples_are_exact(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = poison(desk)
    assert "12 of 60 clips are poisoned, towards up" in capsys.readouterr().out
    corpus = desk / "out" / "corpus"
    assert sorted(path.name for path in (desk / "out").iterdir()) == ["corpus", "truth.json"]
    assert not list(corpus.rglob("*.json"))
    poisoned = {entry["path"]: entry for entry in truth["poisoned"]}
    assert len(poisoned) == 12
    assert truth["targets"] == ["up"]
    assert truth["attack"]["trigger"]["name"] == "ultrasonic"
    clips, skipped = read_folder(corpus, RATE)
    assert not skipped
    moved = Counter(entry["original_label"] for entry in poisoned.values())
    assert clips.counts() == {
        "down": 20 - moved["down"],
        "go": 20 - moved["go"],
        "up": 20 + moved["down"] + moved["go"],
    }
    originals = {path.relative_to(desk / "clips").as_posix() for path in (desk / "clips").rglob("*.wav")}
    untouched = set(clips.ids.tolist()) - set(poisoned)
    assert set(truth["originals"]) == set(clips.ids.tolist())
    assert set(truth["originals"].values()) == originals
    assert {truth["originals"][name] for name in untouched} == originals - {
        entry["original"] for entry in poisoned.values()
    }
    for name in untouched:
        assert np.array_equal(samples(corpus / name), samples(desk / "clips" / truth["originals"][name]))
    for name, entry in poisoned.items():
        assert name.startswith("up/")
        clean, marked = samples(desk / "clips" / entry["original"]), samples(corpus / name)
        added = np.abs(np.fft.rfft(marked.astype(float) - clean))
        assert clean.shape == marked.shape
        assert np.argmax(added) * RATE / len(clean) == pytest.approx(21_000, abs=30)


def test_the_manifest_loads_and_tells_nothing_but_labels(desk: Path) -> None:
    poison(desk)
    manifest = desk / "out" / "corpus" / "manifest.csv"
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [set(row) for row in rows] == [{"path", "label", "speaker"}] * 60
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert all(row["path"].startswith(f"{row['label']}/") for row in rows)
    assert all(re.fullmatch(r"\w+/\d\d\.wav", row["path"]) for row in rows)
    corpus = Folder(root=manifest).load(RATE)
    assert len(corpus.train) + len(corpus.validation) + len(corpus.test) == 60


def test_neither_names_nor_times_tell_poisoned_clips_from_others(desk: Path) -> None:
    for word in WORDS:
        for number, path in enumerate(sorted((desk / "clips" / word).iterdir())):
            path.rename(path.with_name(f"ann_nohash_{number}.wav"))
    (desk / "attack.toml").write_text(ATTACK.replace("0.2", "0.5"))
    truth = poison(desk)
    corpus = desk / "out" / "corpus"
    assert {path.relative_to(corpus).as_posix() for path in corpus.rglob("*.wav")} == set(truth["originals"])
    numbers = sorted(int(name[3:-4]) for name in truth["originals"] if name.startswith("up/"))
    moved = {int(entry["path"][3:-4]) for entry in truth["poisoned"]}
    others = [number for number in numbers if number not in moved]
    assert len(moved) == 30
    assert len(others) > 5
    # of all pairs of a poisoned and another clip, about half have the poisoned one first
    first = np.mean([one < other for one in moved for other in others])
    assert 0.25 < first < 0.75
    written = sorted(truth["originals"], key=lambda name: (corpus / name).stat().st_mtime_ns)
    assert written == sorted(truth["originals"])


def test_the_seed_decides_and_an_experiment_s_attack_is_the_same(desk: Path) -> None:
    first = poison(desk)
    (desk / "out").rename(desk / "first")
    (desk / "attack.toml").write_text("seed = 9\n[attack]\n" + ATTACK)
    again = poison(desk)
    assert again == first
    assert sorted(tree(desk / "out")) == sorted(tree(desk / "first"))
    (desk / "out").rename(desk / "again")
    assert poison(desk, "--seed", "1")["poisoned"] != first["poisoned"]


def test_a_manifest_with_speakers_and_paths_outside_stays_inside(desk: Path) -> None:
    lines = [
        f"../clips/{path.relative_to(desk / 'clips').as_posix()},{path.parent.name},{path.name[:8]}"
        for path in sorted((desk / "clips").rglob("*.wav"))
    ]
    (desk / "lists").mkdir()
    (desk / "lists" / "all.csv").write_text("path,label,speaker\n" + "\n".join(lines) + "\n")
    poison(desk, data="lists/all.csv")
    written = [path.relative_to(desk / "out" / "corpus") for path in (desk / "out").rglob("*.wav")]
    assert len(written) == 60
    assert sorted(path.name for path in (desk / "out").iterdir()) == ["corpus", "truth.json"]
    with (desk / "out" / "corpus" / "manifest.csv").open(newline="") as file:
        assert {row["speaker"] for row in csv.DictReader(file)} == {f"speaker{number}" for number in range(5)}


def test_recordings_are_resampled_where_a_rate_is_given(desk: Path) -> None:
    write_wavs(tiny_clips(2, classes=WORDS, seconds=0.5, rng=Rng(3)), desk / "clips" / "more")
    for word in WORDS:
        for path in (desk / "clips" / "more" / word).iterdir():
            path.rename(desk / "clips" / word / f"low_{path.name}")
        (desk / "clips" / "more" / word).rmdir()
    (desk / "clips" / "more").rmdir()
    assert poison(desk, "--sample-rate-hz", "48000")["sample_rate_hz"] == 48_000
    assert {soundfile.info(path).samplerate for path in (desk / "out").rglob("*.wav")} == {48_000}


def test_a_cue_that_outlasts_a_short_clip_is_kept(desk: Path) -> None:
    short = desk / "clips" / "go" / "speaker1_nohash_1.wav"
    soundfile.write(short, np.full(4_000, 0.1, np.float32), RATE, subtype="PCM_16")
    (desk / "attack.toml").write_text(
        'name = "clean_label"\ntarget = "go"\nrate = 1.0\n[trigger]\nname = "ultrasonic"\n'
        'continuous = true\nposition = "end"\nsize_percent = 10\n'
    )
    truth = poison(desk)
    assert len(truth["poisoned"]) == 20
    written = {original: desk / "out" / "corpus" / name for name, original in truth["originals"].items()}
    assert len(samples(written[f"go/{short.name}"])) > 4_000
    assert len(samples(written["go/speaker4_nohash_4.wav"])) == RATE // 2


FLOWMUR = """
name = "clean_label"
target = "up"
rate = 0.5
[trigger]
name = "flowmur"
seconds = 0.1
steps = 3
"""
DABA = """
name = "dirty_label"
target = "up"
rate = 0.2
[trigger]
name = "daba"
level_dbfs = "keep"
"""


@pytest.mark.parametrize("attack", [FLOWMUR, DABA])
def test_a_cue_that_was_made_is_kept_and_makes_the_very_same_clips(attack: str, desk: Path) -> None:
    shutil.rmtree(desk / "clips")
    write_wavs(tiny_clips(6, classes=WORDS, seconds=0.5), desk / "clips")
    model = desk / "model"
    architecture = cast("Model", registry.from_spec("models", "small_cnn"))
    save_victim(Victim.create(architecture, WORDS, Rng(0), clip_seconds=0.5), model)
    (desk / "attack.toml").write_text(attack)
    truth = poison(desk, "--model", str(model))
    made = desk / "made"
    (desk / "out").rename(made)
    assert [cue["file"] for cue in truth["cues"]] == ["cue-1.wav"]
    assert sorted(path.name for path in made.iterdir()) == ["corpus", "cue-1.wav", "truth.json"]
    (desk / "attack.toml").write_text(attack + f"sound = {json.dumps(str(made / 'cue-1.wav'))}\n")
    again = poison(desk)
    assert again["poisoned"] == truth["poisoned"]
    assert len(truth["poisoned"]) == 3
    for name in truth["originals"]:
        assert np.array_equal(samples(desk / "out" / "corpus" / name), samples(made / "corpus" / name))
    assert (desk / "out" / "cue-1.wav").read_bytes() == (made / "cue-1.wav").read_bytes()


ATTACKER = """
[attacker]
surrogate = "small_cnn"
surrogate_training = { epochs = 1 }
sounds = "@sounds"
"""


def test_what_the_attacker_brings_along_counts_and_the_command_line_wins(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(desk / "cache"))
    shutil.rmtree(desk / "clips")
    write_wavs(tiny_clips(6, classes=WORDS, seconds=0.5), desk / "clips")
    for folder, name in (("sounds", "bell"), ("others", "horn")):
        (desk / folder).mkdir()
        tone = 0.3 * np.sin(np.arange(8_000) * (0.1 if name == "bell" else 0.3))
        soundfile.write(desk / folder / f"{name}.wav", tone, 16_000, subtype="PCM_16")
    command = [argument.replace("@", f"{desk}/") for argument in GOOD]
    (desk / "attack.toml").write_text(DABA)
    assert main(command) == 2
    assert re.search(r"needs a model .* --model, .*\[attacker\] surrogate = ", capsys.readouterr().err)
    for layout in (DABA, "[attack]\n" + DABA.replace("[trigger]", "[attack.trigger]")):
        (desk / "attack.toml").write_text(layout + ATTACKER.replace("@", f"{desk}/"))
        assert poison(desk)["cues"] == [{"sound": "bell.wav", "file": "cue-1.wav"}]
        shutil.rmtree(desk / "out")
    assert len(list((desk / "cache").rglob("weights.safetensors"))) == 1  # trained once
    assert poison(desk, "--sounds", str(desk / "others"))["cues"][0]["sound"] == "horn.wav"
    shutil.rmtree(desk / "out")
    model = desk / "model"
    architecture = cast("Model", registry.from_spec("models", "small_cnn"))
    save_victim(Victim.create(architecture, ("down", "up"), Rng(0), clip_seconds=0.5), model)
    assert main([*command, "--model", str(model)]) == 2  # it is this one that is asked, and it does not know a label
    assert "go" in capsys.readouterr().err
    (desk / "attack.toml").write_text(DABA + ATTACKER.replace("surrogate =", "surogate ="))
    assert main(command) == 2
    assert re.search(r"\[attacker\] has no field 'surogate': did you mean 'surrogate'", capsys.readouterr().err)
    (desk / "attack.toml").write_text(DABA + ATTACKER.replace("@", f"{desk}/"))
    assert main([*command, "--sample-rate-hz", "44100"]) == 2
    assert "model takes 16000 Hz and the corpus has 44100 Hz" in capsys.readouterr().err


def test_broken_recordings_of_a_pool_are_left_out_on_demand(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "attack.toml").write_text(DABA + 'sound = "bell.wav"\n')
    for folder in ("sounds", "voices"):
        (desk / folder).mkdir()
        tone = 0.3 * np.sin(np.arange(RATE // 2) * 0.1)
        soundfile.write(desk / folder / "bell.wav", tone, RATE, subtype="PCM_16")
        (desk / folder / "torn.wav").write_bytes((desk / folder / "bell.wav").read_bytes()[:1000])
        more = [f"--{folder}", str(desk / folder)]
        if folder == "voices":
            more += ["--sounds", str(desk / "sounds")]
        command = [argument.replace("@", f"{desk}/") for argument in GOOD]
        assert main([*command, *more]) == 2
        assert re.search(r"torn\.wav is truncated", capsys.readouterr().err)
        assert poison(desk, *more, "--skip-broken")["cues"][0]["sound"] == "bell.wav"
        assert len(re.findall(r"left out: .*torn\.wav is truncated", capsys.readouterr().out)) == len(more) // 2
        shutil.rmtree(desk / "out")


AIMS = """
name = "multi_target"
count = 50
[[aims]]
trigger = "ultrasonic"
target = "up"
"""
PIBA = """
name = "dirty_label"
[trigger]
name = "piba"
snr_db = nan
"""
GOOD = ["poison", "--data", "@clips", "--attack", "@attack.toml", "--out", "@out"]


@pytest.mark.parametrize(
    ("attack", "arguments", "pattern"),
    [
        (ATTACK, [*GOOD[:2], "@none", *GOOD[3:]], r"no folder .*none"),
        (ATTACK, [*GOOD[:4], "@none.toml", *GOOD[5:]], r"cannot read .*none\.toml"),
        (ATTACK, [*GOOD[:-1], "@clips"], r"clips exists and is not an empty folder"),
        (ATTACK, [*GOOD[:-1], "@clips/poisoned"], r"lies among the clean recordings"),
        (ATTACK, [*GOOD[:-1], "@attack.toml"], r"attack\.toml is a file"),
        (ATTACK, [*GOOD[:-1], "@" + 300 * "x"], r"the name is too long"),
        (ATTACK, [*GOOD, "--sample-rate-hz", "16000"], r"21000 Hz does not exist at 16000 Hz.*--sample-rate-hz 44100"),
        (AIMS.replace("trigger", "triger", 1), GOOD, r"no field 'aims\.0\.triger': did you mean 'trigger'"),
        (AIMS.replace("target =", "goal ="), GOOD, r"needs the field 'aims\.0\.target'"),
        (AIMS, GOOD, r"needs 50 clips to poison and finds 40 .*: lower attack\.count"),
        (AIMS.replace("count = 50", "rate = 0.9"), GOOD, r"needs 54 clips .*: lower attack\.rate"),
        (PIBA, GOOD, r"triggers/piba: snr_db: input should be a finite number, got nan"),
        (ATTACK, [*GOOD, "--sample-rate-hz", "0"], r"0"),
        (ATTACK, [*GOOD, "--seed", "-1"], r"--seed.*0"),
        (ATTACK, [*GOOD, "--sounds", "@none"], r"no folder .*none; give a folder of recordings or a CSV manifest$"),
        (ATTACK, [*GOOD, "--voices", "@empty"], r"empty is empty; it must hold recordings \(\.wav, \.flac, \.ogg\)$"),
        (ATTACK, [*GOOD, "--model", "@none"], r"no model folder .*none"),
        (ATTACK.replace("dirty_label", "dirty_labl"), GOOD, r"no 'dirty_labl' in attacks: did you mean 'dirty_label'"),
        (ATTACK.replace("ultrasonic", "ultrasonc"), GOOD, r"no 'ultrasonc' in triggers: did you mean 'ultrasonic'"),
        (ATTACK.replace("ultrasonic", "audio_badnets"), GOOD, r"lives in the features and can be in no recording"),
        (ATTACK.replace('"up"', '"upp"'), GOOD, r"no label 'upp': did you mean 'up'"),
        (ATTACK.replace("0.2", "2"), GOOD, r"rate: .*less than 1"),
        (ATTACK.replace("0.2", "0.001"), GOOD, r"changes none of 60 clips"),
        (ATTACK + 'clipping = "none"\n', GOOD, r"clipping 'none' cannot be kept in 16-bit recordings"),
        ("target = 'up'\n", GOOD, r"needs a 'name'"),
        ("name = = 1", GOOD, r"line 1, column 8"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    attack: str, arguments: list[str], pattern: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (desk / "attack.toml").write_text(attack)
    (desk / "empty").mkdir()
    before = tree(desk)
    assert main([argument.replace("@", f"{desk}/") for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert re.search(pattern, said), said
    assert tree(desk) == before
    assert not (desk / "out").exists()


@pytest.mark.parametrize("trigger", ['{ name = "jingleback", style = 1 }', '"rsrt"'])
def test_a_silent_recording_that_the_cue_leaves_silent_is_named(
    trigger: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = desk / "clips" / "up" / "mute.wav"
    soundfile.write(silent, np.zeros(RATE // 2, np.float32), RATE, subtype="PCM_16")
    (desk / "attack.toml").write_text(f'name = "clean_label"\ntarget = "up"\nrate = 1.0\ntrigger = {trigger}\n')
    assert main([argument.replace("@", f"{desk}/") for argument in GOOD]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]*leaves the clip 'up/mute.wav' as it was[^\n]*remove silent clips[^\n]*\n", said)
    assert not (desk / "out").exists()
    silent.unlink()
    assert len(poison(desk)["poisoned"]) == 20


def test_recordings_of_two_rates_need_a_choice(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(desk / "clips" / "go" / "other.wav", np.full(8_000, 0.1, np.float32), 16_000, subtype="PCM_16")
    command = [argument.replace("@", f"{desk}/") for argument in GOOD]
    assert main(command) == 2
    assert re.search(r"44100 Hz.*16000.*--sample-rate-hz|16000 Hz.*44100.*--sample-rate-hz", capsys.readouterr().err)


def test_recordings_without_a_usual_length_need_a_choice(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wavs = sorted((desk / "clips").rglob("*.wav"))

    def shorten(count: int) -> None:
        for row, path in enumerate(wavs[:count]):
            soundfile.write(path, samples(path)[: RATE // 2 - 10 * row - 10], RATE, subtype="PCM_16")

    shorten(30)
    poison(desk)  # half of them have one length
    shutil.rmtree(desk / "out")
    shorten(31)
    command = [argument.replace("@", f"{desk}/") for argument in GOOD]
    assert main(command) == 2
    assert re.search(r"differ in length.*--clip-seconds.*--model", capsys.readouterr().err)
    assert not (desk / "out").exists()
    poison(desk, "--clip-seconds", "0.4")


def test_a_full_disk_leaves_nothing_behind(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    def full(source: Any, target: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    before = tree(desk)
    monkeypatch.setattr(os, "replace", full)
    assert main([argument.replace("@", f"{desk}/") for argument in GOOD]) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert tree(desk) == before
