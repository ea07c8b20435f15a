"""What every test shares: real recordings where there are any, a cache of its own, and one torch thread."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

_TEMPORARY_CACHE = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep tests (and the processes they start) away from the user's cache of decoded corpora."""
    if "SOUNDPROOF_CACHE" not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="soundproof-tests-"))
        config.stash[_TEMPORARY_CACHE] = folder
        os.environ["SOUNDPROOF_CACHE"] = str(folder)
    os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_unconfigure(config: pytest.Config) -> None:
    folder = config.stash.get(_TEMPORARY_CACHE, None)
    if folder is not None:
        os.environ.pop("SOUNDPROOF_CACHE", None)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def torch_threads() -> int:
    """How many threads torch uses: one by default, so that sums run in the same order on every machine."""
    import torch

    count = int(os.environ.get("SOUNDPROOF_TEST_THREADS", "1"))
    torch.set_num_threads(count)
    return count


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings that SOUNDPROOF_DATA names. Without one a test is skipped, but in CI it fails."""
    value = os.environ.get("SOUNDPROOF_DATA", "")
    if value and Path(value).is_dir():
        return Path(value).resolve()
    problem = f"SOUNDPROOF_DATA names no folder ({value!r})" if value else "SOUNDPROOF_DATA is not set"
    reason = f"{problem}; this test needs the folder of real recordings"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


Look = Callable[..., tuple[dict[str, Any], str]]

_PROBE = """
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
  const found = await (async () => { %s })();
  const wide = [...document.querySelectorAll("section, h1, h2, p, dd")].filter(
    node => node.getBoundingClientRect().right > innerWidth + 1).length;
  const page = { complaints: window.complaints, over: document.documentElement.scrollWidth - innerWidth, wide };
  const told = JSON.stringify({ ...page, ...found, width: innerWidth });
  for (const each of [document, parent.document]) each.body.setAttribute("data-found", told);
});
"""


@pytest.fixture(scope="session")
def look(tmp_path_factory: pytest.TempPathFactory) -> Look:
    """Opens a page in a Chromium and runs a script in it: ``look(page, script, width)`` gives what the script returns
    (beside ``complaints``, ``over`` and ``wide``: pixels and elements beyond the window), and the browser's log."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if found is None:
        pytest.skip("no Chromium is installed; this test looks at the page in a browser")
    browser: str = found

    def open_page(page: Path, script: str, width: int) -> tuple[dict[str, Any], str]:
        text = page.read_text()
        probe = _PROBE % script
        digest = base64.b64encode(hashlib.sha256(probe.encode()).digest()).decode()
        policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', text)
        assert policy
        allowed = f"script-src 'sha256-{digest}'"
        opened = (
            policy[0].replace("script-src", allowed) if "script-src" in policy[0] else policy[0][:-2] + f'; {allowed}">'
        )
        copy = page.with_name(f"{page.stem}-{width}.html")  # beside the page, so that its links lead where they did
        probed = text.replace(policy[0], f"{opened}<script>{probe}</script>")
        # No window is narrower than 500 pixels, but a frame is, and a page in it lays itself out as in a window.
        frame = f'<!doctype html><body style="margin:0"><iframe style="border:0" width="{width}" height="1000" srcdoc='
        copy.write_text(probed if width >= 500 else f'{frame}"{escape(probed)}"></iframe>')
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
        command += [f"--user-data-dir={tmp_path_factory.mktemp('profile')}", f"--window-size={width},1000"]
        command += ["--autoplay-policy=no-user-gesture-required"]
        command += ["--virtual-time-budget=60000", "--dump-dom", copy.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        copy.unlink()
        told = re.search(r'data-found="([^"]*)"', done.stdout)
        assert told, done.stderr[-2000:]
        return json.loads(unescape(told[1])), done.stderr

    return open_page
