"""Exported models say what the victim says, front end included, whatever the batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast, get_args

import numpy as np
import pytest
import torch
from safetensors import safe_open

import soundproof
from soundproof.audio._matrices import MatrixFrontEnd
from soundproof.audio.features import PRESETS, FrontEnd
from soundproof.core import extras, registry
from soundproof.core.errors import BadDataError, InvalidInputError, MissingExtraError, ModelMismatchError
from soundproof.core.seeds import Rng
from soundproof.models import Model, Victim, kwt
from soundproof.testing import tiny_clips
from soundproof.training import _export


def victim(name: str = "small_cnn") -> Victim:
    model = cast("Model", registry.from_spec("models", name))
    return Victim.create(model, ("down", "go", "up"), Rng(0), clip_seconds=0.4).eval()


def audio(model: Victim, count: int = 2) -> torch.Tensor:
    return tiny_clips(count, seconds=0.4).batch(samples=model.clip_samples)[0]


@pytest.mark.parametrize("name", ["small_cnn", "attention_lstm"])
def test_a_torch_program_needs_no_soundproof_and_takes_any_batch(name: str, tmp_path: Path) -> None:
    model, file = victim(name).train(), tmp_path / "model.pt2"
    assert soundproof.export(model, file) <= 1e-4
    assert model.training
    model.eval()
    extra = {"victim.json": ""}
    program = torch.export.load(file, extra_files=extra).module()
    for count in (1, 3):
        heard = audio(model, count)
        assert torch.allclose(program(heard), model(heard), atol=1e-4)
    known = json.loads(extra["victim.json"])
    assert (known["classes"], known["sample_rate_hz"]) == (["down", "go", "up"], 16_000)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_safetensors_hold_weights_front_end_and_specification(tmp_path: Path) -> None:
    model, file = victim(), tmp_path / "model.safetensors"
    assert soundproof.export(model, file, "safetensors", clips=tiny_clips(2, seconds=0.4)) == 0.0
    with safe_open(file, "pt") as read:
        assert torch.equal(
            read.get_tensor("frontend.compute.window"), dict(model.frontend.named_buffers())["compute.window"]
        )
        names = {name for name in read.keys() if name.startswith("network.")}  # noqa: SIM118
        assert json.loads(read.metadata()["victim"])["model"]["name"] == "small_cnn"
    assert names == {f"network.{name}" for name in model.network.state_dict()}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_matrices_give_the_front_ends_features(name: str) -> None:
    frontend = FrontEnd(PRESETS[name])
    clips = tiny_clips(2, seconds=0.4, sample_rate_hz=frontend.spec.sample_rate_hz).batch()[0]
    clips = torch.cat([clips, torch.zeros_like(clips[:1])])
    assert torch.allclose(MatrixFrontEnd(frontend)(clips), frontend(clips), atol=2e-3)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of torch's own exporter
@pytest.mark.parametrize("format", get_args(_export.Format))
@pytest.mark.parametrize(
    "spec",
    [
        *({"name": name} for name in registry.names("models")),
        {"name": "kwt", "variant": "kwt1_prenorm_logmel", "frontend": "logmel80_22k"},
    ],
    ids=lambda spec: str(spec.get("variant", spec["name"])),
)
def test_every_model_leaves_in_every_format_and_says_the_same(
    spec: dict[str, str], format: _export.Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    monkeypatch.setattr(kwt, "_DEPTH", 2)  # of twelve equal blocks
    model = Victim.create(
        cast("Model", registry.from_spec("models", spec)), ("down", "go", "up"), Rng(0), clip_seconds=0.5
    )
    clips = tiny_clips(1, seconds=0.5, sample_rate_hz=model.sample_rate_hz)
    assert soundproof.export(model.eval(), tmp_path / "model", format, clips=clips) <= 1e-4


def test_an_exporter_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: Victim, file: Path) -> _export.Run:
        file.write_bytes(b"half")
        raise RuntimeError("\nConstraints violated (batch)!\n  - Not all values ...\nlong story")

    monkeypatch.setitem(_export._WRITERS, "onnx", broken)
    with pytest.raises(InvalidInputError, match=r"exported as onnx \(Constraints violated \(batch\)!\): try") as caught:
        soundproof.export(victim(), tmp_path / "model.onnx", "onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_onnx_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    model = victim()
    monkeypatch.setattr(extras.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"needs the package 'onnx': pip install 'soundproof\[onnx\]'"):
        _export.export(model, tmp_path / "model.onnx", "onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_disagrees_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: Victim, file: Path) -> _export.Run:
        file.write_bytes(b"wrong")
        return lambda heard: model(heard) + 0.01

    monkeypatch.setitem(_export._WRITERS, "onnx", wrong)
    with pytest.raises(ModelMismatchError, match=r"off by 0\.01, at most 0\.0001 is allowed; it was not kept"):
        soundproof.export(victim(), tmp_path / "model.onnx", "onnx")
    assert not list(tmp_path.iterdir())


def test_the_clips_to_check_on_are_of_all_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[torch.Tensor] = []

    def listening(model: Victim, file: Path) -> _export.Run:
        file.write_bytes(b"")

        def run(audio: torch.Tensor) -> torch.Tensor:
            heard.append(audio)
            return model(audio)

        return run

    monkeypatch.setitem(_export._WRITERS, "onnx", listening)
    clips = tiny_clips(40, seconds=0.4)
    clips = clips.select(np.argsort(clips.labels, kind="stable"))
    assert soundproof.export(victim(), tmp_path / "model", "onnx", clips=clips) == 0.0
    (checked,), (everything, _) = heard, clips.batch()
    rows = [int((everything == one).all(1).nonzero()) for one in checked]
    assert len(set(rows)) == 64
    assert sorted(np.bincount(clips.labels[rows])) == [21, 21, 22]


def test_clips_that_cannot_be_checked_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="the clips have 8000 Hz, the model hears 16000 Hz: resample them"):
        soundproof.export(victim(), tmp_path / "model", clips=tiny_clips(1, sample_rate_hz=8_000))
    with pytest.raises(BadDataError, match="there are no clips to check the file on"):
        soundproof.export(victim(), tmp_path / "model", clips=tiny_clips(1).select([]))


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(InvalidInputError, match="exists: choose another file"):
        soundproof.export(victim(), tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(InvalidInputError, match="one of safetensors, torch_export, onnx"):
        soundproof.export(victim(), tmp_path / "new", "tflite")  # pyright: ignore[reportArgumentType]
    assert set(get_args(_export.Format)) == set(_export._WRITERS)
