"""Any module, with or without a front end, goes through repair and evaluation as a victim does."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import soundproof
from soundproof.audio.features import FrontEnd, preset
from soundproof.bench.checkup import build_repair, examine_model, repair_model
from soundproof.core import registry
from soundproof.core.errors import BadDataError, InvalidInputError, UnknownNameError
from soundproof.core.seeds import Rng
from soundproof.defenses import Repairer
from soundproof.models import Adapted
from soundproof.testing import tiny_clips

CLASSES = ("down", "go", "up")
QUICK: dict[str, Any] = {"recipe": {"epochs": 2}, "selection": {"learning_rates": [0.01], "min_steps": 4}}


class Pool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(40)
        self.hidden = nn.Linear(40, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, features: Tensor) -> Tensor:
        pooled = self.norm(features.transpose(1, 2)).mean(-1)
        return self.head(self.hidden(pooled).relu())


class Wave(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(1, 16, 64, stride=16)
        self.head = nn.Linear(16, 3)

    def forward(self, audio: Tensor) -> Tensor:
        return self.head(self.front(audio[:, None]).relu().mean(-1))


def adapted(kind: str) -> Adapted:
    with Rng(0).scope():
        if kind == "preset":
            return soundproof.adapt(Pool(), frontend="mfcc40_16k", classes=CLASSES, embed="head", clip_seconds=0.4)
        if kind == "function":
            front = FrontEnd(preset("mfcc40_16k"))
            return soundproof.adapt(
                Pool(), frontend=lambda audio: front(audio), classes=CLASSES, sample_rate_hz=16_000, clip_seconds=0.4
            )
        return soundproof.adapt(Wave(), classes=CLASSES, sample_rate_hz=16_000, clip_seconds=0.4)


@pytest.mark.parametrize("kind", ["preset", "function", "waveforms"])
def test_an_adapted_module_is_repaired_and_evaluated(kind: str) -> None:
    model = adapted(kind)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    clips, others = tiny_clips(8, seconds=0.4), tiny_clips(4, seconds=0.5, rng=Rng(1))
    result = soundproof.repair(model, clips, "fine_tuning", **QUICK)
    repaired = cast("Adapted", result.module)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.module.state_dict().items())
    assert type(repaired.module) is type(model.module)
    assert any(not torch.equal(before[name], tensor) for name, tensor in repaired.module.state_dict().items())
    assert repaired(others.batch()[0]).shape == (12, 3)
    record = examine_model(repaired, others).records[0]
    heard = repaired(others.batch(samples=repaired.clip_samples)[0]).argmax(1).numpy()
    assert record.metrics["clean_accuracy"].value == pytest.approx(float((heard == others.labels).mean()))


def test_the_command_lines_repair_takes_it() -> None:
    model = adapted("preset")
    changes = ["recipe.epochs=1", "selection.min_steps=2", "selection.learning_rates=[0.01]"]
    defense = build_repair("fine_tuning", changes)
    result = repair_model(model, tiny_clips(8, seconds=0.4), tiny_clips(4, seconds=0.4, rng=Rng(1)), defense)
    assert [record.defense for record in result.records] == ["none", "fine_tuning"]
    assert isinstance(result.repaired["fine_tuning"], Adapted)
    assert result.victim.title == "Pool"


def test_classes_without_a_clean_clip_are_noted_once_whoever_asks() -> None:
    model, clips = adapted("preset"), tiny_clips(8, seconds=0.4)
    some = clips.select(clips.labels != 1)
    note = "no clean clips of go: the repaired model may forget them"
    assert soundproof.repair(model, some, "fine_tuning", **QUICK).report["notes"].count(note) == 1
    defense = cast("Repairer", registry.from_spec("defenses/repair", {"name": "fine_tuning", **QUICK}))
    done = repair_model(model, some, tiny_clips(4, seconds=0.4, rng=Rng(1)), defense)
    assert done.notes.count(note) == done.records[1].details["notes"].count(note) == 1


def test_what_gives_no_logits_is_one_sentence() -> None:
    class Output(dict[str, Tensor]):
        pass

    class Wrapped(Pool):
        def forward(self, features: Tensor) -> Any:
            return Output(logits=super().forward(features))

    with pytest.raises(BadDataError, match=r"must give logits \[batch, classes\], it gave a Output: wrap it"):
        soundproof.repair(Wrapped(), (torch.randn(12, 20, 40), torch.arange(12) % 3))


def test_adapting_leaves_every_layer_in_its_mode() -> None:
    module = Pool().train()
    module.norm.eval()
    soundproof.adapt(module, frontend="mfcc40_16k", classes=CLASSES)
    assert module.training
    assert module.head.training
    assert not module.norm.training


def test_penultimate_vectors() -> None:
    model = adapted("preset").eval()
    audio = tiny_clips(2, seconds=0.4).batch()[0]
    vectors = model.embed(audio)
    assert vectors.shape == (6, 16)
    assert torch.allclose(cast("Pool", model.module).head(vectors), model(audio))
    with pytest.raises(InvalidInputError, match="adapt it with embed="):
        adapted("waveforms").embed(audio)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"frontend": "mfcc40_16k", "classes": ("a", "b")}, r"must give logits \[batch, 2\]"),
        ({"frontend": "mfcc40_16k", "sample_rate_hz": 8000}, "has 16000 Hz, not 8000 Hz"),
        ({"frontend": nn.Identity()}, "say which sample rate"),
        ({"frontend": "mfcc40_16k", "embed": "haed"}, "no submodule 'haed'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(fields: dict[str, Any], problem: str) -> None:
    given: dict[str, Any] = {"classes": CLASSES, **fields}
    with pytest.raises(InvalidInputError, match=problem):
        soundproof.adapt(Pool(), **given)
    with pytest.raises(UnknownNameError, match="no front end 'mfcc'"):
        soundproof.adapt(Pool(), classes=CLASSES, frontend="mfcc")
