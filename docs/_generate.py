"""Build hook of the documentation: one page for each method of the registry, with sound and pictures for triggers."""

from __future__ import annotations

import functools
import io
import re
from dataclasses import replace
from typing import cast

import matplotlib as mpl
import numpy as np
import soundfile
from matplotlib.figure import Figure
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from numpy.typing import NDArray

from soundproof.attacks import AttackerView
from soundproof.cli._describe import Description, describe
from soundproof.core import registry
from soundproof.core.errors import InvalidInputError, MissingExtraError
from soundproof.core.recipe import Augmentation
from soundproof.core.seeds import Rng
from soundproof.data import Clips, Dataset
from soundproof.models import Victim
from soundproof.models.small_cnn import SmallCnn
from soundproof.report._cards import stealth_rows
from soundproof.report.listening import Audition, Heard, Listener, every_trigger, render_listening
from soundproof.testing import tiny_clips
from soundproof.training import fit_victim
from soundproof.triggers import Surrogate

TITLES = {
    "data": "Corpora",
    "triggers": "Triggers",
    "attacks": "Attacks",
    "models": "Models",
    "defenses/repair": "Repairs",
    "metrics": "Metrics",
}
QUIET = {"noise_snr_db": (40.0, 40.0), "room_probability": 0.0, "validation_clips": 0}
"""Synthetic speech without noise and rooms, so that the cue is what one hears."""
MEASURED = 9
"""Clips that stealth is measured on."""


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
    made: dict[str, str | bytes] = {
        "methods/index.md": _index(),
        "methods/listen.html": render_listening(_audition()),
    }
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
    lines += ["[Listen to the triggers](listen.html): one page with all of them, heard, seen and measured.", ""]
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


@functools.cache
def _audition() -> Audition:
    """Every trigger on the same clips of synthetic speech, as ``soundproof listen`` has them."""
    heard = Listener(_view, count=1, measured=MEASURED).audition(every_trigger())
    summary = {"Recordings": "single words spoken by espeak-ng, in clean conditions; voices are of the same make"}
    return replace(heard, summary=summary)


@functools.cache
def _view(rate: int) -> AttackerView:
    """What the attacker reaches here: a few synthetic clips, the same as voices, and a small model; no sounds."""
    clips = _speech(rate, 24)
    names, speakers = np.unique(clips.speakers, return_inverse=True)
    voices = replace(clips, classes=tuple(names.tolist()), labels=speakers)
    return AttackerView(clips, lambda: _surrogate(rate), voices=voices)


def _speech(rate: int, count: int) -> Clips:
    """Synthetic speech, or tones where there is none."""
    try:
        fields = {"words": ("up", "down", "left"), "train_clips": count, "test_clips": 3, "speakers": 8}
        corpus = cast("Dataset", registry.from_spec("data", {"name": "synthetic", **fields, **QUIET}))
        return corpus.load(rate).train
    except (InvalidInputError, MissingExtraError):
        return tiny_clips(8, sample_rate_hz=rate)


@functools.cache
def _surrogate(rate: int) -> Surrogate:
    """A model that has heard enough for a cue to be chosen or optimized on it, trained in a few seconds."""
    model = SmallCnn(frontend="mfcc13_16k")
    if rate != model.features.sample_rate_hz:
        raise InvalidInputError(f"the model of these pages hears {model.features.sample_rate_hz} Hz")
    clips = _speech(rate, 240)
    victim = Victim.create(model, clips.classes, Rng(0))
    recipe = type(model).recipe.override({"epochs": 8, "augmentation": Augmentation()})
    fit_victim(victim, clips, recipe, Rng(0).child("training"))
    return victim.eval().requires_grad_(False)


def _listen(name: str) -> tuple[str, dict[str, bytes]]:
    """The section of a trigger's page to listen to and look at, and the files that it needs."""
    lines = ["", "## Listen", ""]
    audition = _audition()
    heard = next((one for one in audition.heard if one.trigger.short_name() == name), None)
    if heard is None:
        return "\n".join([*lines, f"Not shown here: {audition.left_out[f'triggers/{name}']}.", ""]), {}
    example = heard.examples[0]
    extras = {f"{name}.png": _picture(heard)}
    if heard.stamp.in_features:
        lines += ["This cue lives in the features and is in no recording, so there is nothing to hear.", ""]
    else:
        assert example.triggered is not None
        for title, audio in (("clean", example.clean), ("triggered", example.triggered)):
            extras[f"{name}-{title}.wav"] = _wav(audio, example.sample_rate_hz)
            lines += [f'{title}: <audio controls preload="none" src="{name}-{title}.wav"></audio>', ""]
    rate = f"{example.sample_rate_hz / 1000:g} kHz"
    lines += [f"A synthetic voice says “{example.label}”, at {rate}. [All triggers on one page](../listen.html)", ""]
    lines += [f"![The clip without and with the cue, and the difference]({name}.png)", "", *_stealth(heard)]
    return "\n".join(lines), extras


def _stealth(heard: Heard) -> list[str]:
    """What could give the trigger away, as a table."""
    rows = [row for row in stealth_rows(heard.stealth) if not row.reason]
    if not rows:
        return []
    lines = ["## What could give it away", "", "| measure | mean | 5 % to 95 % of clips |", "|---|--:|--:|"]
    lines += [f"| {row.measure.title} | {row.mean} | {row.spread} |" for row in rows]
    about = f"Over {heard.stealth.clips} synthetic clips. What the measures mean stands below"
    return [
        *lines,
        "",
        f"{about} [the listening page](../listen.html); `soundproof listen` measures your own clips.",
        "",
    ]


def _wav(audio: NDArray[np.float32], rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _picture(heard: Heard) -> bytes:
    """Clean, triggered and the difference side by side, as PNG."""
    mpl.use("Agg")
    example = heard.examples[0]
    assert example.triggered is not None
    assert example.triggered_features is not None
    if heard.stamp.in_features:
        figure = Figure(figsize=(9.0, 2.6), layout="constrained")
        axes = figure.subplots(1, 3, sharex=True, sharey=True)
        change = example.triggered_features - example.clean_features
        for axis, values in zip(axes, (example.clean_features, example.triggered_features, change), strict=True):
            axis.imshow(values.T, origin="lower", aspect="auto", interpolation="nearest")
            axis.set_xlabel("frame")
        axes[0].set_ylabel("coefficient")
        titled = axes
    else:
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        (above, below) = figure.subplots(2, 3, sharex=True, height_ratios=(1, 2))
        seconds = np.arange(len(example.clean)) / example.sample_rate_hz
        for wave, map_, audio in zip(
            above, below, (example.clean, example.triggered, example.triggered - example.clean), strict=True
        ):
            wave.plot(seconds, audio, linewidth=0.4)
            padded = np.concatenate([audio, np.zeros(512, np.float32)])
            map_.specgram(padded + 1e-6, NFFT=512, Fs=example.sample_rate_hz, noverlap=384, vmin=-140.0, vmax=-30.0)
            map_.set_xlabel("seconds")
        below[0].set_ylabel("Hz")
        titled = above
    for axis, title in zip(titled, ("clean", "triggered", "difference"), strict=True):
        axis.set_title(title, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
