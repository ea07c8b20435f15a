"""The listening page in a real browser: it loads without a complaint, every picture shows and every clip plays."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from soundproof.attacks import AttackerView
from soundproof.report.listening import Listener, every_trigger, write_listening
from soundproof.testing import tiny_clips
from soundproof.testing._toys import tiny_sources

SCRIPT = """
  const sizes = await Promise.all([...document.querySelectorAll("svg image")].map(async node => {
    const image = new Image();
    image.src = node.href.baseVal;
    await image.decode().catch(() => null);
    const box = node.getBoundingClientRect();
    return [image.naturalWidth, image.naturalHeight, box.width, box.height];
  }));
  const played = [];
  for (const audio of document.querySelectorAll("audio")) {
    const moved = new Promise(done => audio.addEventListener("timeupdate", () => audio.currentTime > 0 && done()));
    const stuck = new Promise(done => setTimeout(done, 10000));
    await audio.play().then(() => Promise.race([moved, stuck])).catch(() => null);
    audio.pause();
    played.push(audio.currentTime);
  }
  return { sizes, played, seconds: [...document.querySelectorAll("audio")].map(node => node.duration) };
"""
Look = Callable[..., tuple[dict[str, Any], str]]


def _view(rate: int) -> AttackerView:
    sources: Any = tiny_sources(rate)
    return AttackerView(tiny_clips(2, sample_rate_hz=rate), sources.surrogate, sources.sounds, sources.voices)


def _embed(audio: Tensor, sample_rate_hz: int) -> Tensor:
    del sample_rate_hz
    return torch.fft.rfft(audio).abs()[:, :512]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with two triggers: one to hear, one in the features; and one that is left out."""
    triggers = {name: every_trigger()[name] for name in ("triggers/ultrasonic", "triggers/audio_badnets")}
    listener = Listener(_view, count=1, measured=1, embed=_embed)
    audition = listener.audition({**triggers, "triggers/other": "it needs <a model> & more"})
    assert len(audition.heard) == 2
    path = tmp_path_factory.mktemp("page") / "listen.html"
    write_listening(audition, path)
    return path


@pytest.mark.parametrize("width", [1280, 400])
def test_everything_on_the_page_works(width: int, look: Look, page: Path) -> None:
    found, log = look(page, SCRIPT, width)
    assert found["width"] == width
    assert found["complaints"] == []
    assert ":CONSOLE" not in log
    assert len(found["sizes"]) == 2 * 3 * 2  # three maps of each trigger, each with its scale
    assert all(min(size) > 0 for size in found["sizes"]), found["sizes"]
    assert len(found["seconds"]) == 3
    assert found["seconds"] == pytest.approx([1.0] * 3, abs=0.05)
    assert min(found["played"]) > 0.0
    assert found["over"] <= 0
    assert found["wide"] == 0


def test_the_probe_sees_what_is_broken(look: Look, page: Path, tmp_path: Path) -> None:
    html = page.read_text()
    broken = tmp_path / "broken.html"
    picture = re.search(r'href="(data:image/png;base64,[^"]{200,})"', html)
    assert picture
    ruined = html.replace(picture[1], "data:image/png;base64,AAAA", 1)
    sound = re.search(r'src="(data:audio/wav;base64,[^"]+)"', ruined)
    assert sound
    broken.write_text(ruined.replace(sound[1], "data:audio/wav;base64,AAAA", 1))
    found, _ = look(broken, SCRIPT, 1280)
    assert min(size[0] for size in found["sizes"]) == 0
    assert None in found["seconds"]  # NaN in JSON
    assert 0 in found["played"]
