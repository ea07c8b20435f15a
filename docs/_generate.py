"""Build hook of the documentation: one page for each method of the registry, with sound and pictures for triggers."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import soundfile
import torch
from matplotlib.figure import Figure
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from torch import Tensor

from soundproof.audio.features import PRESETS, FrontEnd
from soundproof.cli._describe import Description, describe
from soundproof.core import registry
from soundproof.core.errors import InvalidInputError, MissingExtraError
from soundproof.core.seeds import Draws, Rng
from soundproof.data import Clips, Dataset
from soundproof.testing import samples, tiny_clips
from soundproof.triggers import Stamp, Trigger

TITLES = {
    "data": "Corpora",
    "triggers": "Triggers",
    "attacks": "Attacks",
    "models": "Models",
    "defenses/repair": "Repairs",
    "metrics": "Metrics",
}
RATES_HZ = (16_000, 44_100)
"""Triggers are shown at the first rate at which they exist."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give the methods their place in the navigation."""
    groups = [
        {TITLES.get(group, group): [{name: f"methods/{group}/{name}.md"} for name in registry.names(group)]}
        for group in registry.GROUPS
        if registry.names(group)
    ]
    config.nav = [*(config.nav or []), {"Methods": ["methods/index.md", *groups]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, clips and pictures."""
    made: dict[str, str | bytes] = {"methods/index.md": _index()}
    for group in registry.GROUPS:
        for name in registry.names(group):
            page = _page(describe(registry.get(group, name)))
            if group == "triggers":
                shown, extras = _listen(name)
                page += shown
                made |= {f"methods/triggers/{file}": content for file, content in extras.items()}
            made[f"methods/{group}/{name}.md"] = page
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def _index() -> str:
    lines = ["# Methods", "", "Made from the code; `soundproof list` and `soundproof show` say the same.", ""]
    for group in registry.GROUPS:
        rows = registry.summaries(group)
        if rows:
            lines += [f"## {TITLES.get(group, group)}", "", "| name | what it is |", "|---|---|"]
            lines += [f"| [`{name}`]({group}/{name}.md) | {_cell(text)} |" for name, text in rows.items()]
            lines.append("")
    return "\n".join(lines)


def _page(method: Description) -> str:
    lines = [f"# {method.name.rpartition('/')[2]}", "", f"`{method.name}`", "", _markdown(method.text), ""]
    for title, text in method.facts.items():
        title = {"licence": "license"}.get(title, title)
        lines += [f"**{title.capitalize()}:** {_markdown(text)}", ""]
    if method.fields:
        lines += ["## Fields", "", "| field | unit | default | allowed | meaning |", "|---|---|---|---|---|"]
        for field in method.fields:
            cells = (f"`{field.name}`", field.unit, _code(field.default), _code(field.allowed), _cell(field.text))
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _markdown(text: str) -> str:
    """Docstring markup (roles, double backticks) as Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`")


def _cell(text: str) -> str:
    return " ".join(_markdown(text).split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


@dataclass(frozen=True)
class _Shown:
    """A trigger on one clip."""

    rate_hz: int
    clean: Tensor
    marked: Tensor
    clean_features: Tensor
    marked_features: Tensor


def _listen(name: str) -> tuple[str, dict[str, bytes]]:
    """The section of a trigger's page to listen to and look at, and the files that it needs."""
    trigger = next(samples(registry.get("triggers", name)))
    assert isinstance(trigger, Trigger)
    shown = _show(trigger)
    lines = ["", "## What it does", ""]
    extras = {f"{name}.png": _picture(shown, in_features=trigger.domain == "features")}
    if trigger.domain == "features":
        lines += ["This cue lives in the features and is in no recording, so there is nothing to hear.", ""]
    else:
        for title, audio in (("clean", shown.clean), ("triggered", shown.marked)):
            extras[f"{name}-{title}.wav"] = _wav(audio, shown.rate_hz)
            lines += [f'{title}: <audio controls preload="none" src="{name}-{title}.wav"></audio>', ""]
        snr = 10.0 * torch.log10(shown.clean.square().sum() / (shown.marked - shown.clean).square().sum())
        lines += [f"One clip at {shown.rate_hz / 1000:g} kHz; speech over cue: {float(snr):.1f} dB.", ""]
    lines += [f"![The clip without and with the cue]({name}.png)", ""]
    return "\n".join(lines), extras


def _show(trigger: Trigger) -> _Shown:
    for rate in RATES_HZ:
        clips = _speech(rate)
        draws = Rng(0).child("docs").draws(clips.keys)
        try:
            return _apply(trigger, clips, draws, rate)
        except InvalidInputError:
            continue
    raise InvalidInputError(f"{trigger!r} exists at none of {RATES_HZ} Hz")


def _apply(trigger: Trigger, clips: Clips, draws: Draws, rate: int) -> _Shown:
    stamp = Stamp(trigger)
    front = FrontEnd(next(spec for spec in PRESETS.values() if spec.sample_rate_hz == rate))
    audio, _ = clips.batch()
    marked = stamp.on_audio(audio, rate, draws)
    clean_features, marked_features = front(audio), stamp.on_features(front(marked), rate, draws)
    return _Shown(rate, audio[0], marked[0], clean_features[0], marked_features[0])


def _speech(rate: int) -> Clips:
    """One clip: a synthetic word where the extra is installed, else a chord."""
    try:
        fields = {"words": ("up", "down"), "train_clips": 2, "validation_clips": 0, "test_clips": 2, "speakers": 3}
        quiet = {"noise_snr_db": (40.0, 40.0), "room_probability": 0.0}
        corpus = registry.from_spec("data", {"name": "synthetic", **fields, **quiet})
        assert isinstance(corpus, Dataset)
        return corpus.load(rate).test.select([0])
    except (InvalidInputError, MissingExtraError):
        return tiny_clips(1, sample_rate_hz=rate).select([0])


def _wav(audio: Tensor, rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.numpy(), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _picture(shown: _Shown, *, in_features: bool) -> bytes:
    """Clean and triggered side by side, as PNG."""
    mpl.use("Agg")
    figure = Figure(figsize=(9.0, 3.0), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    pairs = (("clean", shown.clean, shown.clean_features), ("triggered", shown.marked, shown.marked_features))
    for axis, (title, audio, features) in zip(axes, pairs, strict=True):
        axis.set_title(title, fontsize=10)
        if in_features:
            axis.imshow(features.T.numpy(), origin="lower", aspect="auto", interpolation="nearest")
            axis.set_xlabel("frame")
        else:
            padded = np.concatenate([audio.numpy(), np.zeros(512, np.float32)])
            axis.specgram(padded + 1e-6, NFFT=512, Fs=shown.rate_hz, noverlap=384, vmin=-140.0, vmax=-30.0)
            axis.set_xlabel("seconds")
    axes[0].set_ylabel("coefficient" if in_features else "Hz")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
