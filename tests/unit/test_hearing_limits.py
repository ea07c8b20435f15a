"""Hearing limits: what clean clips hold passes, what lies outside of it is moved to its edge, and models keep them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from flat_network import backdoored_network
from torch import Tensor, nn

import soundproof
from soundproof.bench import passes
from soundproof.core import registry
from soundproof.core.errors import InvalidInputError, ModelMismatchError
from soundproof.core.registry import from_spec
from soundproof.core.seeds import Rng
from soundproof.defenses import DefenderView, Repairer
from soundproof.models import Limits, Victim, adapt
from soundproof.testing import tiny_clips
from soundproof.training import TensorExamples, accuracy, load_victim, save_victim

CLASSES, FRAMES, COEFFICIENTS, TARGET = 3, 8, 6, 0


def frames(count: int, seed: int = 0) -> Tensor:
    """Clean frames whose last two coefficients are always nearly the same."""
    made = torch.randn(count, COEFFICIENTS, generator=Rng(seed).torch())
    made[:, 5] = made[:, 4] + 0.01 * made[:, 5]
    return made


def examples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Clips [count, frames, coefficients] whose class is which of the first coefficients is high."""
    labels = torch.arange(count) % CLASSES
    inputs = frames(count * FRAMES, seed).view(count, FRAMES, COEFFICIENTS)
    inputs[torch.arange(count), :, labels] += 1.5
    return inputs, labels


def beyond(inputs: Tensor) -> Tensor:
    """A block far from all clean values."""
    inputs = inputs.clone()
    inputs[:, -2:, 3:] = -30.0
    return inputs


def apart(inputs: Tensor) -> Tensor:
    """Two coefficients that differ as they never do on clean clips, each within its own range."""
    inputs = inputs.clone()
    inputs[:, :, 4], inputs[:, :, 5] = 1.0, -1.0
    return inputs


def backdoored(trigger: Any) -> nn.Sequential:
    """A network that names the classes, and the target where it hears the trigger."""
    return backdoored_network(*examples(300, 1), trigger, TARGET, steps=150)


def measured(network: nn.Module, trigger: Any) -> tuple[float, float, float]:
    """Accuracy on clean clips, share of triggered ones that are called the target, and share named right still."""
    inputs, labels = examples(300, 2)
    others = labels != TARGET
    marked = trigger(inputs[others])
    wanted = torch.full_like(labels[others], TARGET)
    return (
        accuracy(network, TensorExamples(inputs, labels)),
        accuracy(network, TensorExamples(marked, wanted)),
        accuracy(network, TensorExamples(marked, labels[others])),
    )


def repairer(**fields: Any) -> Repairer:
    return cast("Repairer", registry.from_spec("defenses/repair", {"name": "hearing_limits", **fields}))


@pytest.mark.parametrize("trigger", [beyond, apart])
def test_a_trigger_outside_of_clean_speech_is_not_heard(trigger: Any) -> None:
    network = backdoored(trigger)
    clean, success, right = measured(network, trigger)
    assert clean > 0.9
    assert success > 0.95
    assert right < 0.1
    result = repairer().repair(DefenderView(network, TensorExamples(*examples(120, 3))), Rng(0))
    repaired, left, named = measured(result.network, trigger)
    assert repaired >= clean - 0.03
    assert left < 0.2
    assert named > 0.6
    pairs = zip(network.parameters(), result.network.parameters(), strict=True)
    assert all(torch.equal(before, after) for before, after in pairs), "no weight may change"
    assert "no weight was changed" in result.notes[0]


def test_what_lies_within_passes_to_the_last_bit() -> None:
    clean = frames(400)
    limits = Limits.around(clean, 0.0)
    inner = clean[(clean.abs() < 1.0).all(1)]
    assert len(inner) > 40
    assert torch.equal(limits(inner[None])[0], inner)
    outer = torch.full((1, 1, COEFFICIENTS), 50.0)
    assert limits(outer).max() <= 2.0 * clean.abs().max()
    assert torch.equal(limits(outer), limits(2.0 * outer))


def test_the_share_is_that_of_the_frames_beyond_each_bound() -> None:
    clean = frames(1001)
    bounds = Limits.around(clean, 0.01).coefficient_bounds
    assert (clean < bounds[0]).sum(0).tolist() == [10] * COEFFICIENTS
    assert (clean > bounds[1]).sum(0).tolist() == [10] * COEFFICIENTS


def test_the_strongest_share_within_the_tolerance_is_taken() -> None:
    view = DefenderView(backdoored(beyond), TensorExamples(*examples(120, 3)))
    greedy = repairer(shares=(0.49, 0.01), rule={"tolerance": 0.02}).repair(view, Rng(0))
    assert [(trial.settings["share"], trial.accepted) for trial in greedy.trials] == [(0.01, True), (0.49, False)]
    assert greedy.trials[greedy.chosen].settings == {"share": 0.01}


def test_another_repair_goes_on_within_the_limits() -> None:
    network = backdoored(beyond)
    both = repairer(then={"name": "gn_ft", "selection": {"learning_rates": [0.002], "min_steps": 4}})
    assert both.label == "hearing_limits+gn_ft"
    result = both.repair(DefenderView(network, TensorExamples(*examples(120, 3))), Rng(0))
    assert measured(result.network, beyond)[1] < 0.2
    assert "learning_rate" in result.trials[result.chosen].settings
    assert "share" in result.trials[0].settings
    assert not any("no weight was changed" in note for note in result.notes)
    assert result.notes[-1].startswith("in all, accuracy on the 24 held-out clean examples changed by")
    before = list(network.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(before, result.network.parameters(), strict=True))
    assert repairer(then={"name": "gn_sd"}).takes == {"unlabelled", "synthetic"}
    assert not repairer().takes


def victim() -> Victim:
    return Victim.create(
        cast("Any", from_spec("models", "small_cnn")), ("down", "go", "up"), Rng(0), clip_seconds=0.4
    ).eval()


def repaired() -> tuple[Victim, Victim]:
    suspect = victim()
    result = soundproof.repair(
        suspect, tiny_clips(8, seconds=0.4), "hearing_limits", shares=(0.2,), rule={"tolerance": 0.9}
    )
    return suspect, cast("Victim", result.module)


def test_a_model_keeps_its_limits_on_disk_and_when_exported(tmp_path: Path) -> None:
    suspect, limited = repaired()
    audio = 4.0 * tiny_clips(8, seconds=0.4).batch(samples=suspect.clip_samples)[0]
    with torch.no_grad():
        expected = limited(audio)
        assert not torch.equal(expected, suspect(audio)), "the limits must change what is far from the clips"
        save_victim(limited, tmp_path / "model")
        assert torch.equal(load_victim(tmp_path / "model")(audio), expected)
        soundproof.export(limited, tmp_path / "model.pt2", "torch_export")
        program = torch.export.load(tmp_path / "model.pt2").module()
        assert torch.allclose(cast("Any", program)(audio), expected, atol=1e-4)
    assert "limited" not in suspect.to_spec()
    spec = json.loads((tmp_path / "model" / "victim.json").read_text())
    assert spec.pop("limited") is True
    (tmp_path / "model" / "victim.json").write_text(json.dumps(spec))
    with pytest.raises(ModelMismatchError, match=r"holds 'limits\.center' that victim\.json does not know"):
        load_victim(tmp_path / "model")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_onnx_holds_the_limits(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    _, limited = repaired()
    soundproof.export(limited, tmp_path / "model.onnx", "onnx")  # checks itself, or raises
    assert (tmp_path / "model.onnx").stat().st_size > 0


def test_where_limits_have_no_place() -> None:
    waves = TensorExamples(torch.randn(12, 400), torch.arange(12) % 2)
    network = nn.Sequential(nn.Linear(400, 2))
    for method in ("hearing_limits", "even_hearing"):
        refused = (
            rf"^{method} is defined for .* hear features \[batch, frames, coefficients\], and this one takes \[400\]"
        )
        with pytest.raises(InvalidInputError, match=refused):
            cast("Repairer", from_spec("defenses/repair", method)).repair(DefenderView(network, waves), Rng(0))
    clips = tiny_clips(8, seconds=0.4)
    module = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    adapted = adapt(module, classes=clips.classes, frontend="mfcc40_16k", clip_seconds=0.4)
    with pytest.raises(InvalidInputError, match="a model of others has no place that keeps hearing limits"):
        soundproof.repair(adapted, clips, "hearing_limits")


def test_a_plan_times_the_repair_that_follows_in_small() -> None:
    both, alone = repairer(then={"name": "gn_ft"}), cast("Repairer", from_spec("defenses/repair", "gn_ft"))
    short: Any = passes.shortened(both)
    assert short.then.recipe.epochs == 1
    assert len(short.then.selection.learning_rates) == 1
    assert passes.steps_of(both, 900) == passes.steps_of(alone, 900)
