"""Any module, with or without a front end, goes through repair and evaluation as a victim does."""

from __future__ import annotations

from collections.abc import Callable
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
from soundproof.models import Adapted, find_units, masked
from soundproof.testing import tiny_clips
from soundproof.triggers import Trigger

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


def test_evaluate_is_what_the_command_measures() -> None:
    model, clips = adapted("preset"), tiny_clips(4, seconds=0.4)
    clean = soundproof.evaluate(model, clips)
    assert clean == examine_model(model, clips).records[0].model_copy(
        update={"peak_memory_bytes": clean.peak_memory_bytes}
    )
    assert set(clean.metrics) == {"clean_accuracy"}
    table = {"name": "ultrasonic", "frequency_hz": 7000.0}
    triggered = [
        soundproof.evaluate(model, clips, trigger=cue, target="up")
        for cue in (table, cast("Trigger", registry.from_spec("triggers", table)))
    ]
    assert {"attack_success_rate", "robust_accuracy"} <= set(triggered[0].metrics)
    assert triggered[0].metrics == triggered[1].metrics
    assert triggered[0].metrics["clean_accuracy"] == clean.metrics["clean_accuracy"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"trigger": "ultrasonic"}, "trigger and target go together"),
        ({"voices": "voices"}, "sounds and voices are what a trigger is made of: give the trigger, too"),
        ({"trigger": "ultrasnic", "target": "up"}, "did you mean 'ultrasonic'"),
        ({"trigger": "audio_badnets", "target": "upp"}, "did you mean 'up'"),
        ({"clips": tiny_clips(1, classes=("a", "b"))}, r"the clips' classes \('a', 'b'\) are not the model's"),
        ({"clips": tiny_clips(1, sample_rate_hz=8_000)}, "the clips have 8000 Hz, the model hears 16000 Hz"),
        ({"model": Pool()}, r"hears recordings, got a Pool: wrap a module with soundproof\.adapt"),
    ],
)
def test_what_evaluate_cannot_measure_is_one_sentence(fields: dict[str, Any], problem: str) -> None:
    given: dict[str, Any] = {"model": adapted("preset"), "clips": tiny_clips(1, seconds=0.4), **fields}
    with pytest.raises(InvalidInputError, match=problem):
        soundproof.evaluate(given.pop("model"), given.pop("clips"), **given)


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


def named_features(audio: Tensor) -> Any:
    return {"mfcc": audio}


class Answering(Pool):
    """Gives what ``answer`` makes of the logits."""

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, features: Tensor) -> Any:
        return self.answer(super().forward(features))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"frontend": "mfcc40_16k", "classes": ("a", "b")}, r"must give logits \[batch, 2\]"),
        ({"frontend": "mfcc40_16k", "sample_rate_hz": 8000}, "has 16000 Hz, not 8000 Hz"),
        ({"frontend": nn.Identity()}, "say which sample rate"),
        (
            {"frontend": nn.Identity(), "sample_rate_hz": float("nan")},
            "say which sample rate .* a whole number above 0",
        ),
        ({"frontend": "mfcc40_16k", "embed": "haed"}, "no submodule 'haed'"),
        ({"frontend": "mfcc40_16k", "units": ["hiden"]}, "no submodule 'hiden' whose units could count"),
        ({"frontend": "mfcc40_16k", "units": "hidden"}, r"units must name the layers that count"),
        ({"frontend": "mfcc40_16k", "units": ["norm"]}, r"units of the layer 'norm' are is not known: say it"),
        ({"frontend": "mfcc40_16k", "units": {"hidden": "conv channels"}}, None),
        ({"frontend": "mfcc40_16k", "units": {"hidden": "recurrent units"}}, "no tensor that has recurrent units"),
        (
            {"frontend": "mfcc40_16k", "units": {"hidden": "attention heads"}},
            "'hidden' puts out no tensor that has attention",
        ),
        ({"frontend": 3, "sample_rate_hz": 16_000}, "must be a preset's name, a function or a module, got a int"),
        ({"frontend": named_features, "sample_rate_hz": 16_000}, "one tensor of features, it gave a dict"),
        (
            {"frontend": "logmel"},
            r"the module cannot take \(2, 101, 64\), which is clips of 1 s .* through the front end",
        ),
        ({"frontend": "kwt_mfcc40", "clip_seconds": 0.01}, r"cannot take clips of 0\.01 s \(160 samples\) .*one frame"),
        ({"frontend": "mfcc40_16k", "clip_seconds": -1}, "clip_seconds must be above 0 and at most 60, got -1"),
        ({"frontend": "mfcc40_16k", "clip_seconds": float("nan")}, "clip_seconds must be above 0 .* got nan"),
        ({"frontend": "mfcc40_16k", "classes": ("a",)}, "at least two classes, got 1"),
        ({"frontend": "mfcc40_16k", "classes": ("a", "b", "a")}, "the class 'a' is there twice"),
        ({"frontend": "mfcc40_16k", "classes": "abc"}, "classes must be a list of names, got 'abc'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(fields: dict[str, Any], problem: str | None) -> None:
    given: dict[str, Any] = {"classes": CLASSES, **fields}
    if problem is None:  # any layer may be said to be anything that its output allows
        assert soundproof.adapt(Pool(), **given).classes == CLASSES
        return
    with pytest.raises(InvalidInputError, match=problem) as caught:
        soundproof.adapt(Pool(), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "problem"),
    [
        (lambda audio: audio, "must be a torch.nn.Module, got a function: wrap it in one"),  # pyright: ignore[reportUnknownLambdaType]
        (
            Answering(lambda logits: {"logits": logits}),
            r"logits \[batch, 3\] for these classes, it gave a dict: wrap it",
        ),
        (Answering(lambda logits: (logits,)), "it gave a tuple: wrap it"),
        (Answering(lambda logits: logits[:1]), r"it gave \(1, 3\) for a batch of 2"),
        (Answering(lambda logits: logits * torch.nan), "gives NaN or infinite logits for noise"),
    ],
    ids=["function", "dict", "tuple", "one row", "NaN"],
)
def test_a_module_that_names_no_classes_is_one_sentence(module: Any, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        soundproof.adapt(module, classes=CLASSES, frontend="mfcc40_16k")


def test_a_clip_shorter_than_the_receptive_field_is_one_sentence() -> None:
    with pytest.raises(
        InvalidInputError, match=r"the module cannot take \(2, 32\), which is clips of 0\.002 s"
    ) as caught:
        soundproof.adapt(Wave(), classes=CLASSES, sample_rate_hz=16_000, clip_seconds=0.002)
    assert "\n" not in str(caught.value)


def test_an_unknown_front_end_is_named() -> None:
    with pytest.raises(UnknownNameError, match="no front end 'mfcc'"):
        soundproof.adapt(Pool(), classes=CLASSES, frontend="mfcc")


@pytest.mark.parametrize("kind", ["preset", "function", "waveforms"])
@pytest.mark.parametrize("shape", [(0, 6400), (6400,), (1, 1, 6400)])
def test_what_is_no_batch_of_waveforms_is_refused_whoever_hears_it(kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"audio must be \[batch, time\] with at least one clip, got"):
        adapted(kind)(torch.zeros(shape))


@pytest.mark.parametrize("units", [["hidden"], {"hidden": "linear units"}])
def test_the_units_that_were_named_are_those_that_count(units: Any) -> None:
    model = soundproof.adapt(Pool(), frontend="mfcc40_16k", classes=CLASSES, units=units)
    features = model.features(tiny_clips(1).batch()[0])
    found = find_units(cast("nn.Module", model.network), features)
    assert [(one.layer, one.kind, one.count) for one in found] == [
        ("module.hidden", "linear units", 16),
        ("module.head", "classifier inputs", 16),
    ]
    only = soundproof.adapt(Pool(), frontend="mfcc40_16k", classes=CLASSES, units={"norm": "conv channels"})
    found = find_units(cast("nn.Module", only.network), features)
    assert [(one.layer, one.count) for one in found] == [("module.norm", 40), ("module.head", 16)]
    pooled = cast("Pool", only.module)
    with torch.no_grad(), masked(cast("nn.Module", only.network), found[0], range(40)):
        expected = pooled.head(pooled.hidden(torch.zeros(1, 40)).relu()).expand(3, 3)
        torch.testing.assert_close(only.network(features), expected)


def test_a_trigger_in_features_needs_a_front_end_of_ours() -> None:
    clips = tiny_clips(4, seconds=0.4)
    record = soundproof.evaluate(adapted("preset"), clips, trigger="audio_badnets", target="up")
    assert record.metrics["attack_success_rate"].denominator == 8
    for kind in ("function", "waveforms"):
        with pytest.raises(InvalidInputError, match="lives in features, and this model has none of Soundproof's"):
            soundproof.evaluate(adapted(kind), clips, trigger="audio_badnets", target="up")
