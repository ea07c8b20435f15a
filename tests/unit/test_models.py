"""Models, and what they say about clips, files and triggers that do not fit them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from soundproof.core import registry
from soundproof.core.errors import BadDataError, InvalidInputError, ModelMismatchError
from soundproof.core.seeds import Rng
from soundproof.models import Applied, Model, Victim
from soundproof.models._attention import Attention, Block, _attend
from soundproof.models.eat import _filtered
from soundproof.testing import tiny_clips
from soundproof.training import ClipExamples, load_model, load_victim, save_victim
from soundproof.triggers import Stamp, Trigger

NEW = ("eat", "kwt", "large_cnn", "lstm")


def _victim(name: str, seconds: float = 0.6, **fields: str) -> Victim:
    model = cast("Model", registry.from_spec("models", {"name": name, **fields}))
    return Victim.create(model, ("down", "go", "up"), Rng(0), clip_seconds=seconds).eval()


@pytest.mark.parametrize(
    ("name", "seconds", "message"),
    [
        ("eat", 0.3, "EAT-S needs more than 7168 samples"),
        ("kwt", 0.02, "clips of 0.02 s are shorter than one frame of 'kwt_mfcc40'"),
        ("large_cnn", 0.1, "the Large CNN needs at least 12 frames"),
        ("lstm", 0.0, "clips of 0 s are shorter than one frame"),
    ],
)
def test_clips_that_are_too_short_are_refused(name: str, seconds: float, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        _victim(name, seconds)


@pytest.mark.parametrize("name", NEW)
def test_an_empty_batch_and_a_wrong_sample_rate_are_refused(name: str) -> None:
    victim = _victim(name)
    with pytest.raises(InvalidInputError, match="at least one clip"):
        victim(torch.zeros(0, victim.clip_samples))
    with pytest.raises(BadDataError, match="the clips have 8000 Hz, the model hears 16000 Hz"):
        ClipExamples(victim, tiny_clips(1, sample_rate_hz=8_000))


@pytest.mark.parametrize(
    ("name", "saved", "asked"),
    [
        ("kwt", "kwt1", "kwt2"),
        ("kwt", "kwt1", "kwt1_prenorm_logmel"),
        ("lstm", "lstm_2x64", "rnn_2x128"),
    ],
)
def test_weights_of_another_variant_are_refused(tmp_path: Path, name: str, saved: str, asked: str) -> None:
    save_victim(_victim(name, variant=saved), tmp_path / "victim")
    file = tmp_path / "victim" / "victim.json"
    spec: dict[str, Any] = json.loads(file.read_text())
    spec["model"]["variant"] = asked
    file.write_text(json.dumps(spec))
    with pytest.raises(ModelMismatchError, match=r"victim\.json (asks for|does not know)") as caught:
        load_victim(tmp_path / "victim")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    victim = _victim("small_cnn")
    with torch.no_grad():
        next(iter(victim.network.backbone.parameters())).view(-1)[3] = value
    save_victim(victim, tmp_path / "victim")
    with pytest.raises(BadDataError, match=r"weights\.safetensors: 'backbone\..*' holds NaN or infinite numbers"):
        load_model(tmp_path / "victim")


@pytest.mark.parametrize("seconds", ["0", "-1", "NaN", "Infinity", "1e9", "[]"])
def test_a_clip_length_that_no_model_has_is_refused(tmp_path: Path, seconds: str) -> None:
    save_victim(_victim("small_cnn"), tmp_path / "victim")
    file = tmp_path / "victim" / "victim.json"
    file.write_text(re.sub(r'("clip_seconds": )[\d.]+', rf"\g<1>{seconds}", file.read_text()))
    with pytest.raises(BadDataError, match=r"victim\.json"):
        load_victim(tmp_path / "victim")


def test_a_specification_without_end_is_refused(tmp_path: Path) -> None:
    save_victim(_victim("small_cnn"), tmp_path / "victim")
    (tmp_path / "victim" / "victim.json").write_text("[" * 100_000)
    with pytest.raises(BadDataError, match=r"victim\.json is not a victim's specification"):
        load_victim(tmp_path / "victim")


@pytest.mark.parametrize(("name", "frames", "coefficients"), [("kwt", 50, 40), ("eat", 20_000, 1)])
def test_other_lengths_than_the_built_one_are_refused(name: str, frames: int, coefficients: int) -> None:
    with pytest.raises(InvalidInputError, match="give clips of the length that it was built for"):
        _victim(name).network(torch.zeros(1, frames, coefficients))


def test_waveform_models_take_waveforms_and_the_others_do_not() -> None:
    with pytest.raises(InvalidInputError, match=r"models/eat hears the waveform itself, .* use raw16k"):
        registry.from_spec("models", {"name": "eat", "frontend": "mfcc40_16k"})
    with pytest.raises(InvalidInputError, match=r"models/lstm hears features, not the waveform.* use mfcc40_16k"):
        registry.from_spec("models", {"name": "lstm", "frontend": "raw16k"})


def test_a_trigger_in_the_features_is_refused_by_a_waveform_model() -> None:
    victim = _victim("eat")
    clips = tiny_clips(1)
    trigger = cast("Trigger", registry.from_spec("triggers", "audio_badnets"))
    audio, _ = clips.batch(samples=victim.clip_samples)
    with pytest.raises(InvalidInputError, match="audio_badnets lives in features, and eat hears the waveform itself"):
        victim.features(audio, [Applied(Stamp(trigger), Rng(0).draws(clips.keys))])


def test_the_waveform_models_hear_clips_at_any_level_alike() -> None:
    victim = _victim("eat")
    audio, _ = tiny_clips(1).batch(samples=victim.clip_samples)
    with torch.no_grad():
        torch.testing.assert_close(victim(0.1 * audio), victim(audio), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_block_is_torchs_transformer_layer(norm_first: bool) -> None:
    theirs = nn.TransformerEncoderLayer(
        16, 4, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
    )
    ours = Block(Attention(16, 4, input_bias=True), 16, 32, norm_first=norm_first)
    said = theirs.self_attn
    pairs: list[tuple[Any, Any]] = [
        (ours.attention.output, said.out_proj),
        (ours.network[0], theirs.linear1),
        (ours.network[3], theirs.linear2),
        (ours.norm1, theirs.norm1),
        (ours.norm2, theirs.norm2),
    ]
    with torch.no_grad():
        ours.attention.inputs.weight.copy_(said.in_proj_weight)
        ours.attention.inputs.bias.copy_(said.in_proj_bias)
        for mine, other in pairs:
            mine.load_state_dict(other.state_dict())
        x = torch.randn(2, 5, 16, generator=Rng(0).torch())
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 3), (4, 1), (2, 1)])
def test_filters_of_each_channel_have_the_gradients_of_convolutions(stride: int, dilation: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 1, 24 + 8 * dilation, generator=generator, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(3, 1, 1, 9, generator=generator, dtype=torch.float64, requires_grad=True)
    plain = nn.functional.conv2d(x, kernel, stride=(1, stride), dilation=(1, dilation), groups=3)
    found = _filtered(x, kernel, stride=stride, dilation=dilation)
    torch.testing.assert_close(found, plain)
    towards = torch.randn(plain.shape, generator=generator, dtype=torch.float64)
    expected = torch.autograd.grad(plain, (x, kernel), towards)
    torch.testing.assert_close(torch.autograd.grad(found, (x, kernel), towards), expected)
    last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad(_filtered(last, kernel, stride=stride, dilation=dilation), last, towards)
    torch.testing.assert_close(gradient, expected[0])

    def run(one: Tensor, other: Tensor) -> Tensor:
        return _filtered(one, other, stride=stride, dilation=dilation)

    assert torch.autograd.gradgradcheck(run, (x, kernel), atol=1e-6)


def test_attention_in_half_precision_is_close_to_the_fused_kernel() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 30, 16, generator=generator).unbind()
    expected = nn.functional.scaled_dot_product_attention(query, key, value)
    found = _attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), 0.0)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(_attend(query, key, value, 0.0), expected)
