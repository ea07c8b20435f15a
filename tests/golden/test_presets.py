"""Presets: the numbers of the papers and of their authors' code, by name."""

from __future__ import annotations

import pytest
import torch

from soundproof.attacks.dirty_label import DirtyLabel
from soundproof.bench.spec import experiment_of
from soundproof.cli import main
from soundproof.core import registry
from soundproof.core.errors import InvalidInputError
from soundproof.core.seeds import Rng
from soundproof.triggers.audio_badnets import AudioBadnets
from soundproof.triggers.flowmur import Flowmur


@pytest.mark.parametrize(("preset", "value"), [("code", -200.0), ("paper", 9.0), ("natural", 15.4)])
def test_audio_badnets_overwrites_the_last_5_frames_and_5_coefficients(preset: str, value: float) -> None:
    features = torch.zeros(1, 101, 40)
    features[0, 3, 3] = 9.0  # the clip's largest, which a white block takes
    trigger = AudioBadnets(preset=preset)  # type: ignore[call-arg]
    marked = trigger.apply(features, 16_000, Rng(0).draws(torch.zeros(1).numpy().astype("uint64")))
    expected = features.clone()
    expected[0, 96:101, 35:40] = value
    assert torch.equal(marked, expected)


CODE = {
    "seconds": 0.5,  # 8,000 samples at 16 kHz
    "start": "constant",
    "initial": 0.1,
    "limit": 0.2,
    "learning_rate": 1e-3,
    "batch_size": 256,
    "clips": 5000,
    "epochs": 1000,
    "steps": 20_000,  # 1,000 epochs of 5,000 clips in batches of 256
    "enough": 1.0,
    "optimize_snr_db": 30.0,
    "poison_snr_db": 30.0,
    "inference": "code",
    "ambient_noise": False,
}


@pytest.mark.parametrize(
    ("preset", "changes"),
    [("code", {}), ("paper", {"ambient_noise": True}), ("gn_ft", {"epochs": 300, "steps": 6000})],
)
def test_flowmur_as_in_its_sources(preset: str, changes: dict[str, object]) -> None:
    spec = Flowmur(preset=preset).to_spec()  # type: ignore[call-arg]
    assert {name: spec[name] for name in CODE} == {**CODE, **changes}


def test_a_spec_in_an_experiment_takes_a_preset_and_stores_what_it_stands_for() -> None:
    trigger = {"name": "flowmur", "preset": "code", "learning_rate": 0.5}
    experiment = experiment_of(
        {
            "data": {"name": "synthetic"},
            "model": "small_cnn",
            "attack": {"name": "clean_label", "trigger": trigger},
        }
    )
    assert experiment.attack is not None
    stored = experiment.attack.to_spec()["trigger"]
    assert "preset" not in stored
    assert (stored["learning_rate"], stored["batch_size"]) == (0.5, 256)
    plainly = registry.from_spec("triggers", {"name": "flowmur", **CODE, "learning_rate": 0.5})
    assert stored == plainly.to_spec()
    assert DirtyLabel(trigger={"name": "audio_badnets", "preset": "code"}) == DirtyLabel(trigger="audio_badnets")  # type: ignore[arg-type]


def test_an_unknown_preset_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInputError, match=r"flowmur has no preset 'papr': did you mean 'paper'.*code, gn_ft"):
        registry.from_spec("triggers", {"name": "flowmur", "preset": "papr"})


def test_show_names_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "audio_badnets"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert 'preset = "code" is frames = 5' in said
    assert "value = -200.0" in said
