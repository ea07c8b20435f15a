"""The listening page in a real browser: it loads without a complaint, every picture shows and every clip plays."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from soundproof.attacks import AttackerView
from soundproof.report.listening import Listener, every_trigger, write_listening
from soundproof.testing import tiny_clips
from soundproof.testing._toys import tiny_sources

PROBE = """
<script>
window.complaints = [];
// Headless time runs ahead of what decodes sound and pictures; work in small steps holds it back until they are done.
const hold = () => {
  for (let step = 0, sum = 0; step < 3e6; step++) sum += step;
  if (!document.body || !document.body.hasAttribute("data-found")) setTimeout(hold, 4);
};
hold();
addEventListener("error", event => window.complaints.push(String(event.message || event.target.tagName)), true);
addEventListener("securitypolicyviolation", event => window.complaints.push(event.violatedDirective));
addEventListener("load", async () => {
  const sizes = await Promise.all([...document.querySelectorAll("svg image")].map(async node => {
    const image = new Image();
    image.src = node.href.baseVal;
    await image.decode().catch(() => null);
    const box = node.getBoundingClientRect();
    return [image.naturalWidth, image.naturalHeight, box.width, box.height];
  }));
  const seconds = [...document.querySelectorAll("audio")].map(node => node.duration);
  const page = document.documentElement;
  const wide = [...document.querySelectorAll("section, h1, h2, p, dd")].filter(
    node => node.getBoundingClientRect().right > innerWidth + 1).length;
  const found = { sizes, seconds, complaints: window.complaints, over: page.scrollWidth - innerWidth, wide };
  document.body.setAttribute("data-found", JSON.stringify(found));
});
</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    """A Chromium, or the reason why there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if found is None:
        pytest.skip("no Chromium is installed; this test looks at the page in a browser")
    return found


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


def look(browser: str, page: Path, folder: Path, width: int) -> tuple[dict[str, Any], str]:
    """What a script finds in a copy of the page, and what the browser logged."""
    html = page.read_text()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', html)
    assert policy
    open_to_scripts = policy[0].replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
    framed = html.replace(policy[0], open_to_scripts + PROBE)
    copy = folder / f"copy{width}.html"
    copy.write_text(framed)
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--v=0",
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},1000",
        "--virtual-time-budget=60000",
        "--dump-dom",
        copy.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(unescape(found[1])), done.stderr


@pytest.mark.parametrize("width", [1280, 500])
def test_everything_on_the_page_works(width: int, browser: str, page: Path, tmp_path: Path) -> None:
    found, log = look(browser, page, tmp_path, width)
    assert found["complaints"] == []
    assert ":CONSOLE" not in log
    assert len(found["sizes"]) == 2 * 3 * 2  # three maps of each trigger, each with its scale
    assert all(min(size) > 0 for size in found["sizes"]), found["sizes"]
    assert len(found["seconds"]) == 3
    assert found["seconds"] == pytest.approx([1.0] * 3, abs=0.05)
    assert found["over"] <= 0
    assert found["wide"] == 0


def test_the_probe_sees_what_is_broken(browser: str, page: Path, tmp_path: Path) -> None:
    html = page.read_text()
    broken = tmp_path / "broken.html"
    picture = re.search(r'href="(data:image/png;base64,[^"]{200,})"', html)
    assert picture
    ruined = html.replace(picture[1], "data:image/png;base64,AAAA", 1)
    sound = re.search(r'src="(data:audio/wav;base64,[^"]+)"', ruined)
    assert sound
    broken.write_text(ruined.replace(sound[1], "data:audio/wav;base64,AAAA", 1))
    found, _ = look(browser, broken, tmp_path, 1280)
    assert min(size[0] for size in found["sizes"]) == 0
    assert None in found["seconds"]  # NaN in JSON
