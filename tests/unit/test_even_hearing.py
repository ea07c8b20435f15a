"""Even hearing: what all frames of a recording have in common is taken off, as far as the clean clips allow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from flat_network import CLASSES, COEFFICIENTS, FRAMES, backdoored_network, measured_on, words
from torch import Tensor, nn

import soundproof
from soundproof.bench import passes
from soundproof.core import registry
from soundproof.core.errors import ModelMismatchError
from soundproof.core.registry import from_spec
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repairer
from soundproof.models import Evenness, Victim
from soundproof.testing import tiny_clips
from soundproof.training import TensorExamples, load_victim, save_victim

TARGET = 0
COLOR = torch.tensor([0.0, 0.0, 0.0, 0.9, -0.9, 0.9])
"""What a filter adds to every frame: less than a deviation, so within all limits."""


def levels(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Clips whose class is which coefficient is high throughout: all that there is to hear is the mean."""
    inputs = torch.randn(count, FRAMES, COEFFICIENTS, generator=Rng(seed).torch())
    labels = torch.arange(count) % CLASSES
    inputs[torch.arange(count), :, labels] += 2.0
    return inputs, labels


def colored(inputs: Tensor) -> Tensor:
    return inputs + COLOR


def backdoored(made: Any) -> nn.Sequential:
    """A network that names the classes, and the target where the clip is colored."""
    inputs, labels = made(600, 1)
    return backdoored_network(inputs, labels, colored, TARGET, steps=200)


def measured(network: nn.Module) -> tuple[float, float]:
    return measured_on(network, *words(600, 2), colored, TARGET)


def repairer(**fields: Any) -> Repairer:
    return cast("Repairer", registry.from_spec("defenses/repair", {"name": "even_hearing", **fields}))


def test_what_a_filter_adds_is_not_heard() -> None:
    network = backdoored(words)
    clean, success = measured(network)
    assert clean > 0.75
    assert success > 0.75
    view = DefenderView(network, TensorExamples(*words(300, 3)))
    limits = cast("Repairer", from_spec("defenses/repair", "hearing_limits")).repair(view, Rng(0))
    assert measured(limits.network)[1] > success - 0.1, "the color must lie within the limits"
    result = repairer().repair(view, Rng(0))
    assert result.trials[result.chosen].settings == {"strength": 1.0}
    even, left = measured(result.network)
    assert even > clean - 0.02
    assert left < 0.5 * success
    assert "no weight was changed" in result.notes
    weights = {name.removeprefix("2."): value for name, value in result.network.named_parameters()}
    assert all(torch.equal(value, weights[name]) for name, value in network.named_parameters())


def test_a_mean_that_says_the_word_is_left() -> None:
    network = backdoored(levels)
    result = repairer(rule={"tolerance": 0.1}).repair(DefenderView(network, TensorExamples(*levels(300, 3))), Rng(0))
    strengths = {trial.settings["strength"]: trial.accepted for trial in result.trials if "strength" in trial.settings}
    assert result.trials[result.chosen].settings["strength"] < 1.0
    assert strengths.get(1.0, False) is False
    assert result.reference_accuracy - result.trials[result.chosen].held_out_accuracy <= 0.1


def test_a_repair_of_the_weights_goes_on_from_there() -> None:
    network = backdoored(words)
    both = repairer(then={"name": "gn_ft", "selection": {"learning_rates": [0.002], "min_steps": 4}})
    assert both.label == "even_hearing+gn_ft"
    result = both.repair(DefenderView(network, TensorExamples(*words(300, 3))), Rng(0))
    assert [next(iter(trial.settings)) for trial in result.trials][-1] == "learning_rate"
    assert {"share", "strength"} <= {name for trial in result.trials for name in trial.settings}
    assert "no weight was changed" not in result.notes
    assert not any("no weight was changed" in note for note in result.notes)
    assert [note.startswith("in all, ") for note in result.notes].count(True) == 1
    assert measured(result.network)[1] < measured(network)[1]
    assert repairer(then={"name": "gn_sd"}).takes == {"unlabelled", "synthetic"}
    assert not repairer().takes
    alone = cast("Repairer", from_spec("defenses/repair", "gn_ft"))
    assert passes.steps_of(repairer(then={"name": "gn_ft"}), 900) == passes.steps_of(alone, 900)


def test_strength_is_how_far_the_mean_goes() -> None:
    features, _ = words(20, 4)
    center = torch.arange(float(COEFFICIENTS))
    for strength in (0.0, 0.5, 1.0):
        even = Evenness.around(center, strength)(features)
        assert torch.allclose(even.mean(1), torch.lerp(features.mean(1), center.expand(20, -1), strength), atol=1e-5)
        assert torch.allclose(even - even.mean(1, keepdim=True), features - features.mean(1, keepdim=True), atol=1e-5)
    one = Evenness.around(center, 1.0)
    assert torch.allclose(one(features[:1]), one(features)[:1]), "a clip must not depend on its neighbors"


def test_a_model_keeps_its_evenness_on_disk_and_when_exported(tmp_path: Path) -> None:
    clips = tiny_clips(8, seconds=0.4)
    model = cast("Any", from_spec("models", "small_cnn"))
    suspect = Victim.create(model, ("down", "go", "up"), Rng(0), clip_seconds=0.4).eval()
    result = soundproof.repair(suspect, clips, "even_hearing", rule={"tolerance": 0.9})
    even = cast("Victim", result.module)
    audio = clips.batch(samples=suspect.clip_samples)[0]
    with torch.no_grad():
        expected = even(audio)
        assert not torch.allclose(expected, suspect(audio), atol=1e-3)
        save_victim(even, tmp_path / "model")
        assert torch.equal(load_victim(tmp_path / "model")(audio), expected)
        soundproof.export(even, tmp_path / "model.pt2", "torch_export")
        program = torch.export.load(tmp_path / "model.pt2").module()
        assert torch.allclose(cast("Any", program)(audio), expected, atol=1e-4)
    spec = json.loads((tmp_path / "model" / "victim.json").read_text())
    assert spec["limited"] is True
    assert spec.pop("evened") is True
    (tmp_path / "model" / "victim.json").write_text(json.dumps(spec))
    with pytest.raises(ModelMismatchError, match=r"holds 'evenness\.center' that victim\.json does not know"):
        load_victim(tmp_path / "model")
