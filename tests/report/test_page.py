from __future__ import annotations

import base64
import dataclasses
import functools
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from report_samples import badnets_example, experiment, record, records, repair, speech, ultrasonic_example

from soundproof.report import Evidence, Example, render_page, write_page
from soundproof.report.page import TEMPLATES

VOID = {"meta", "link", "img", "br", "hr", "input", "source"}
HOSTILE = "\"><script>alert(1)</script><img src=http://evil.example/x onerror='alert(2)'>{{ 7*7 }}"


class Page(HTMLParser):
    """Checks that every element is closed in order, and keeps elements, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).replace("\u00a0", " ").split())

    def values(self, tag: str, name: str) -> list[str]:
        return [value for element, key, value in self.attributes if (element, key) == (tag, name)]


EVIDENCE = {"experiment": experiment, "repair": repair}


@functools.cache
def rendered(kind: str) -> str:
    return render_page(EVIDENCE[kind]())


@pytest.mark.parametrize("kind", EVIDENCE)
def test_the_page_is_well_formed_and_loads_nothing(kind: str) -> None:
    html = rendered(kind)
    page = Page(html)
    assert html.startswith("<!doctype html>")
    loading = {"src", "href", "srcset", "poster", "data", "action", "background", "xlink:href"}
    loaded = [value for _, name, value in page.attributes if name in loading]
    assert loaded
    assert all(value.startswith("data:") for value in loaded)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base"}
    styles = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert not re.search(r"url\(|@import|@font-face", " ".join(styles))
    (policy,) = (value for value in page.values("meta", "content") if "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_ids_are_unique_and_every_reference_finds_one() -> None:
    page = Page(rendered("experiment"))
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert set(page.values("svg", "aria-labelledby")) <= set(ids)


def test_every_defense_stands_there_with_its_numbers() -> None:
    text = Page(rendered("experiment")).text
    assert "GN-FT: attack success 99.4 % → 3.2 % (17 of 532), clean accuracy 91.0 % → 89.9 %" in text
    for name, numbers in {
        "no defense": ("91.0 %", "99.4 %", "539/592", "529/532"),
        "Fine-Tuning": ("90.4 %", "44.9 %", "239/532", "−54.5"),
        "Fine-Pruning": ("88.2 %", "34.0 %", "30.1–38.2", "−65.4"),
        "GN-FT": ("89.9 %", "3.2 %", "2.0–5.1", "17/532", "−96.2", "41.7", "812 MiB"),
    }.items():
        row = text.split("Peak memory", 1)[1].split("Seconds:", 1)[0].split(name, 1)[1][:260]
        assert all(number in row for number in numbers), (name, row)
    for other in experiment().records:
        assert other.fingerprint in text
    assert "★ chosen" in text
    assert "pruned 212 of 512 channels" in text
    assert "900 clean clips" in text


def test_curves_are_drawn_for_those_who_have_one() -> None:
    html = rendered("experiment")
    assert html.count("<polyline") == 2 * 4  # three defenses and the level of the victim, in two charts
    without = [other.model_copy(update={"details": {}}) for other in records()]
    assert "<polyline" not in render_page(Evidence("x", "experiment", without))


def test_the_players_give_the_clips_back() -> None:
    example = ultrasonic_example()
    assert example.triggered is not None
    players = Page(render_page(Evidence("x", "experiment", records(), [example]))).values("audio", "src")
    assert len(players) == 2
    for uri, wave in zip(players, (example.clean, example.triggered), strict=True):
        head, _, body = uri.partition(",")
        assert head == "data:audio/wav;base64"
        decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(body)), dtype="float32")
        assert rate == example.sample_rate_hz
        np.testing.assert_array_equal(decoded, wave)


def test_where_the_trigger_sits_is_said() -> None:
    text = Page(render_page(Evidence("x", "experiment", records(), [ultrasonic_example()]))).text
    assert "it lies at 21.0 kHz, where most adults hear nothing" in text


def test_a_trigger_in_the_features_is_shown_and_not_played() -> None:
    html = render_page(Evidence("x", "experiment", records(), [badnets_example()]))
    page = Page(html)
    assert len(page.values("audio", "src")) == 1
    assert "exists in no recording" in page.text
    assert "Spectrograms" not in page.text
    assert html.count('class="panel"') == 3


def test_what_each_model_says_is_judged() -> None:
    text = Page(render_page(Evidence("x", "experiment", records(), [ultrasonic_example()]))).text
    assert "no defense ✓ yes ⚑ up attack worked" in text
    assert "Fine-Pruning ✗ left wrong ✗ left wrong" in text
    assert "GN-FT ✓ yes ✓ yes" in text


def test_without_a_trigger_nothing_is_said_about_attacks() -> None:
    page = Page(rendered("repair"))
    for word in ("ASR", "attack success", "Attack success", "Robust accuracy", "DER", "Triggered", "triggered clip<"):
        assert word not in page.text, word
    assert "clean accuracy 91.0 % → 89.9 %" in page.text
    assert "No trigger was given" in page.text
    assert len(page.values("audio", "src")) == 1


def test_hostile_names_stay_text() -> None:
    wave = speech(16_000)
    grid = np.zeros((20, 10), np.float32)
    said = {"none": (HOSTILE, HOSTILE), HOSTILE: ("yes", HOSTILE)}
    example = Example(HOSTILE, HOSTILE, 16_000, wave, wave * 0.5, grid, grid + 1, said)
    bad = record(
        HOSTILE,
        500,
        20,
        notes=[HOSTILE],
        curve=[{"step": 0, "attack_success_rate": 1.0, "clean_accuracy": 0.9}],
        selection=[{"settings": {HOSTILE: HOSTILE}, "held_out_accuracy": 0.9, "seconds": 1.0, "accepted": True}],
    ).model_copy(update={"device": HOSTILE, "fingerprint": HOSTILE, "versions": {HOSTILE: HOSTILE}})
    bad = bad.model_copy(update={"spec": {"attack": {"target": HOSTILE}, HOSTILE: HOSTILE}})
    shown = [records()[0], bad]
    page = Page(render_page(Evidence(HOSTILE, "experiment", shown, [example], {HOSTILE: HOSTILE})))
    assert page.tags <= Page(rendered("experiment")).tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert all(value.startswith("data:") for _, name, value in page.attributes if name in ("src", "href"))
    assert page.text.count("<script>alert(1)</script>") >= 10
    assert "{{ 7*7 }}" in page.text


def test_the_same_evidence_gives_the_same_bytes(tmp_path: Path) -> None:
    write_page(experiment(), tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == rendered("experiment")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page.html"]


@pytest.mark.parametrize("samples", [0, 1, 300, 16_000 * 15])
def test_clips_of_any_length_can_be_shown(samples: int) -> None:
    wave = np.zeros(samples, np.float32)
    example = dataclasses.replace(ultrasonic_example(), clean=wave, triggered=wave + 0.1)
    html = render_page(Evidence("x", "experiment", records(), [example]))
    Page(html)
    assert len(html) < 4_000_000


def test_odd_numbers_do_not_break_the_page() -> None:
    empty = (
        records()[0]
        .metrics["attack_success_rate"]
        .model_copy(
            update={"value": float("nan"), "low": float("nan"), "high": float("nan"), "numerator": 0, "denominator": 0}
        )
    )
    odd = records()[0].model_copy(update={"metrics": {"attack_success_rate": empty}})
    text = Page(render_page(Evidence("x", "experiment", [odd]))).text
    assert "nan" not in text
    Page(render_page(Evidence("x", "experiment", [])))


def test_colors_can_be_read_in_light_and_dark() -> None:
    def luminance(color: str) -> float:
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})\b", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    for colors in schemes[:2]:
        for text in ("ink", "quiet", "good", "bad", "accent", *(f"s{number}" for number in range(7))):
            for back in ("surface", "faint") if not text.startswith("s") else ("surface",):
                bright, dark = sorted((luminance(colors[text]), luminance(colors[back])), reverse=True)
                assert (bright + 0.05) / (dark + 0.05) >= 4.5, (text, back, colors[text])


def test_importing_reports_does_not_bring_matplotlib() -> None:
    code = "import sys, soundproof.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("part", ["test", "validation"])
def test_the_page_says_which_clips_were_measured_on(part: str) -> None:
    measured = [one.model_copy(update={"spec": {**one.spec, "measure_on": part}}) for one in records()]
    text = Page(render_page(Evidence("A run", "experiment", measured))).text
    assert f"On {part} clips that no defense has seen." in text
    assert f"Measured on {part} clips, for you" in text
    other = {"test": "validation", "validation": "test"}[part]
    assert f"{other} clip" not in text
