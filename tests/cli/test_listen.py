"""``soundproof listen``: one file with every trigger that can be heard, and the reason for those that cannot."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile
from cli_corpus import WORDS, Run, tree, write_wavs

from soundproof.attacks import AttackerView
from soundproof.cli import main
from soundproof.core import registry
from soundproof.core.errors import InvalidInputError, StorageError
from soundproof.core.seeds import Rng
from soundproof.models import Model, Victim
from soundproof.report.listening import Listener, every_trigger
from soundproof.testing import tiny_clips
from soundproof.training.checkpoint import save_victim


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_wavs(tiny_clips(2, classes=WORDS, seconds=0.5), folder)
    return folder


def sounds_of(html: str) -> list[tuple[Any, int]]:
    found = re.findall(r'<audio[^>]* src="data:audio/wav;base64,([^"]+)"', html)
    return [soundfile.read(io.BytesIO(base64.b64decode(text))) for text in found]


def test_a_trigger_is_heard_at_the_level_that_it_has(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "listen.html"
    assert main(["listen", "ultrasonic", "--data", str(clips), "--out", str(page), "--clips", "3"]) == 0
    assert str(page) in capsys.readouterr().out
    html = page.read_text()
    sounds = sounds_of(html)
    assert len(sounds) == 6
    assert {rate for _, rate in sounds} == {44_100}  # the tone does not exist at 16 kHz
    assert "e+" not in "".join(re.findall(r"drawn (.*?) × larger", html))
    for clean, marked in zip(sounds[::2], sounds[1::2], strict=True):
        added = marked[0] - clean[0]
        assert np.abs(added).max() == pytest.approx(10 ** (-10 / 20), rel=0.01)
    for word in ("Koffas et al. 2022", "adds recordings with wrong labels", "frequency_hz", "Log-spectral distance"):
        assert word in html


def test_all_triggers_stand_on_the_page_or_are_left_out_with_a_reason(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "listen.html"
    assert main(["listen", "--data", str(clips), "--out", str(page), "--clips", "1"]) == 0
    html, said = page.read_text(), capsys.readouterr().out
    for name in registry.names("triggers"):
        assert f"triggers/{name}" in html
    left_out = re.findall(r"left out: (triggers/\w+): (.+)", said)
    assert html.count('<section class="trigger"') == len(registry.names("triggers")) - len(left_out)
    assert "exists in no recording" in html  # Audio BadNets


def test_a_file_of_a_trigger_and_a_model_at_its_rate(
    clips: Path, finished_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "block.toml").write_text('name = "audio_badnets"\nframes = 9\n')
    page, model = tmp_path / "listen.html", finished_run.folder / "models" / "victim"
    command = ["listen", str(tmp_path / "block.toml"), "--data", str(clips), "--out", str(page)]
    assert main([*command, "--model", str(model)]) == 0
    html = page.read_text()
    assert re.search(r"<code>frames</code></th><td>9</td>", html)
    assert "16 kHz" in html
    command[1] = "ultrasonic"
    assert main([*command, "--model", str(model)]) == 2
    assert "21000 Hz does not exist at 16000 Hz" in capsys.readouterr().err


def test_only_what_one_trigger_lacks_is_left_out() -> None:
    listener = Listener(lambda rate: AttackerView(tiny_clips(1, sample_rate_hz=rate)), count=1, measured=1)
    stamps = {name: every_trigger()[name] for name in ("triggers/ultrasonic", "triggers/daba")}
    audition = listener.audition(stamps)
    assert [heard.trigger.short_name() for heard in audition.heard] == ["ultrasonic"]
    assert re.search(r"needs a model of the attacker's own", audition.left_out["triggers/daba"])
    with pytest.raises(InvalidInputError, match=r"not one trigger can be heard \(triggers/daba: .*own"):
        listener.audition({"triggers/daba": stamps["triggers/daba"]})

    def full(rate: int) -> AttackerView:
        if rate == 16_000:
            return AttackerView(tiny_clips(1, sample_rate_hz=rate))
        raise StorageError("the disk is full")

    with pytest.raises(StorageError, match="the disk is full"):
        replace(listener, view_at=full).audition(stamps)


def test_numbers_are_of_as_many_clips_as_asked_for_and_go_to_a_file(clips: Path, tmp_path: Path) -> None:
    page, table = tmp_path / "listen.html", tmp_path / "numbers.json"
    command = ["listen", "ultrasonic", "piba", "--data", str(clips), "--out", str(page), "--clips", "1"]

    def read(*more: str) -> list[dict[str, Any]]:
        assert main([*command, "--json", str(table), *more]) == 0
        return json.loads(table.read_text())["triggers"]

    every, few = read("--measured", "0"), read("--measured", "4")
    assert [one["trigger"]["name"] for one in every] == ["ultrasonic", "piba"]
    assert [one["clips"] for one in (*every, *few)] == [6, 6, 4, 4]
    snr = every[0]["readings"]["snr_db"]
    assert snr["clips"] == 6
    assert snr["sd"] > 0.0
    assert every[0]["readings"]["clean_model_accuracy"]["reason"]
    assert every[1]["readings"]["snr_db"]["mean"] == pytest.approx(20.0, abs=0.5)  # what the trigger is made for


def test_broken_recordings_are_left_out_on_demand(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sounds").mkdir()
    whole = sorted(clips.rglob("*.wav"))[0].read_bytes()
    (tmp_path / "sounds" / "bell.wav").write_bytes(whole)
    (tmp_path / "sounds" / "torn.wav").write_bytes(whole[:1000])
    (tmp_path / "daba.toml").write_text('name = "daba"\nsound = "bell.wav"\n')
    command = ["listen", str(tmp_path / "daba.toml"), "--data", str(clips), "--out", str(tmp_path / "a.html")]
    command += ["--clips", "1", "--measured", "1", "--sounds", str(tmp_path / "sounds")]
    assert main(command) == 2
    assert re.search(r"torn\.wav is truncated", capsys.readouterr().err)
    assert main([*command, "--skip-broken"]) == 0
    assert re.search(r"left out: .*torn\.wav is truncated", capsys.readouterr().out)


def kept_model(folder: Path, seed: int, classes: tuple[str, ...] = WORDS, frontend: str = "mfcc13_16k") -> str:
    architecture = cast("Model", registry.from_spec("models", {"name": "small_cnn", "frontend": frontend}))
    save_victim(Victim.create(architecture, classes, Rng(seed), clip_seconds=0.5), folder)
    return str(folder)


def test_only_a_model_that_no_trigger_was_made_with_names_the_clips(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "listen.html"
    judge, own = kept_model(tmp_path / "judge", 1), kept_model(tmp_path / "own", 2)

    def recognized(*models: str) -> str:
        command = ["listen", "daba", "--data", str(clips), "--out", str(page), "--clips", "1"]
        assert main([*command, *models]) == 0
        row = re.search(r"Still recognized</th>(.*?)</tr>", page.read_text(), re.S)
        assert row
        return re.sub(r"<[^>]*>|\s+", " ", row[1])

    assert re.search(r"\d %", recognized("--model", judge, "--surrogate", own))
    html = page.read_text()
    assert f"{clips}, all 6" in html
    assert re.search(r"<dt>Cue</dt>\s*<dd>sound: [a-z]+-\d", html)
    assert "no model was given to name the clips" in recognized("--surrogate", own)
    assert "is the attacker&#39;s own" in recognized("--model", own, "--surrogate", own)
    assert main(["listen", "daba", "--data", str(clips), "--out", str(page), "--model", judge]) == 2
    assert re.search(r"needs a model of the attacker's own: .*--surrogate", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("classes", "frontend", "pattern"),
    [
        (WORDS[::-1], "mfcc13_16k", r"knows the labels up, go, down .* same order"),
        (WORDS, "mfcc40_44k", r"16000 Hz .* 44100 Hz"),
    ],
)
def test_two_models_must_be_alike(
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    classes: tuple[str, ...],
    frontend: str,
    pattern: str,
) -> None:
    models = ["--model", kept_model(tmp_path / "judge", 1), "--surrogate"]
    models.append(kept_model(tmp_path / "own", 2, classes, frontend))
    assert main(["listen", "daba", "--data", str(clips), "--out", str(tmp_path / "a.html"), *models]) == 2
    assert re.search(pattern, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["listen", "ultrasonc", "--data", "@clips", "--out", "@a.html"], r"no 'ultrasonc'.*did you mean 'ultrasonic'"),
        (["listen", "@none.toml", "--data", "@clips", "--out", "@a.html"], r"cannot read .*none\.toml"),
        (["listen", "ultrasonic", "--data", "@none", "--out", "@a.html"], r"no folder .*none"),
        (["listen", "--data", "@clips", "--out", "@clips"], r"is no page to write: .*\.html"),
        (["listen", "--data", "@clips", "--out", "@page.pdf"], r"is no page to write: .*\.html"),
        (["listen", "--data", "@clips", "--out", "@a.html", "--clips", "0"], r"--clips"),
        (["listen", "--data", "@clips", "--out", "@a.html", "--measured", "-1"], r"--measured"),
        (["listen", "--data", "@clips", "--out", "@a.html", "--json", "@clips"], r"clips: it is a folder"),
        (["listen", "--data", "@clips", "--out", "@a.html", "--model", "@none"], r"no model folder"),
        (["listen", "ultrasonic", "--data", "@clips", "--out", "@a.html", "--sounds", "@none"], r"no folder .*none"),
        (["listen", "ultrasonic", "--data", "@clips", "--out", "@a.html", "--target", "upp"], r"no label 'upp'"),
        (["listen", "ultrasonic", "--data", "@empty", "--out", "@a.html"], r"empty"),
        (["listen", "--data", "@none", "--out", "@a.html"], r"no folder .*none"),
        (["listen", "--data", "@empty", "--out", "@a.html"], r"empty"),
        (["listen", "--data", "@clips", "--out", "@a.html", "--sounds", "@none"], r"no folder .*none"),
        (["listen", "--data", "@clips", "--out", "@a.html", "--voices", "@none"], r"no folder .*none"),
        (["listen", "--data", "@clips", "--out", "@a.html", "--target", "upp"], r"no label 'upp'.*did you mean 'up'"),
    ],
)
def test_bad_input(
    arguments: list[str], pattern: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clips").symlink_to(clips)
    (tmp_path / "empty").mkdir()
    before = tree(tmp_path)
    assert main([argument.replace("@", f"{tmp_path}/") for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert re.search(pattern, said), said
    assert tree(tmp_path) == before
