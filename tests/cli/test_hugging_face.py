"""Models of Hugging Face go through repair and evaluation, and come back as what their own pipeline serves."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_corpus import WORDS, write_wavs
from safetensors.torch import load_file, save_file

import soundproof
from soundproof.analysis import SpeakerModel
from soundproof.cli import main
from soundproof.core.errors import (
    BadDataError,
    InvalidInputError,
    MissingExtraError,
    ModelMismatchError,
    UnsafeFileError,
)
from soundproof.core.seeds import Rng
from soundproof.defenses._perturbing import input_scale
from soundproof.models import Applied, HuggingFace, _pretrained
from soundproof.testing import tiny_clips
from soundproof.training import ClipExamples, load_model
from soundproof.triggers import Stamp, Trigger
from soundproof.triggers.audio_badnets import AudioBadnets

transformers: Any = pytest.importorskip("transformers")

LABELS = {"id2label": dict(enumerate(WORDS)), "label2id": {word: number for number, word in enumerate(WORDS)}}
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
CONVOLUTIONS = {
    "conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (10, 8), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8,
}  # fmt: skip


def save(kind: str, folder: Path) -> None:
    """A tiny random model of the real class."""
    torch.manual_seed(0)
    waves = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    if kind == "ast":
        config = transformers.ASTConfig(**SMALL, **LABELS, max_length=64, num_mel_bins=32)
        model = transformers.ASTForAudioClassification(config)
        extractor = transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=32)
    elif kind == "whisper":
        config = transformers.WhisperConfig(
            d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=80, max_source_positions=50, classifier_proj_size=8,
            vocab_size=20, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3, **LABELS,
        )  # fmt: skip
        model = transformers.WhisperForAudioClassification(config)
        extractor = transformers.WhisperFeatureExtractor(chunk_length=1)
    else:
        name = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}[kind]
        config = getattr(transformers, f"{name}Config")(**SMALL, **CONVOLUTIONS, **LABELS)
        model, extractor = getattr(transformers, f"{name}ForSequenceClassification")(config), waves
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)


def save_encoder(folder: Path) -> None:
    """A tiny random speaker encoder of the real class."""
    torch.manual_seed(0)
    sizes = {"tdnn_dim": (8, 8, 8), "tdnn_kernel": (3, 1, 1), "tdnn_dilation": (1, 1, 1), "xvector_output_dim": 6}
    config = transformers.Wav2Vec2Config(**SMALL, **CONVOLUTIONS, **sizes)
    transformers.Wav2Vec2ForXVector(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)


def test_voices_are_compared_with_an_encoder_of_your_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_encoder(tmp_path / "encoder")
    encoder = SpeakerModel(tmp_path / "encoder")
    audio = tiny_clips(7).batch()[0]
    module: Any = transformers.Wav2Vec2ForXVector.from_pretrained(tmp_path / "encoder").eval()
    scaled = (audio - audio.mean(1, keepdim=True)) / (audio.var(1, keepdim=True, correction=0) + 1e-7).sqrt()
    with torch.inference_mode():
        assert torch.allclose(encoder(audio, 16_000), module(scaled).embeddings, atol=1e-4)
    assert encoder(audio[:, :100], 8_000).shape == (len(audio), 6)
    write_wavs(tiny_clips(1, classes=WORDS), tmp_path / "clips")
    command = ["listen", "piba", "--data", str(tmp_path / "clips"), "--out", str(tmp_path / "a.html"), "--clips", "1"]
    similar: list[float] = []
    for more in ([], ["--speaker-model", str(tmp_path / "encoder")]):
        assert main([*command, "--json", str(tmp_path / "a.json"), *more]) == 0
        readings = json.loads((tmp_path / "a.json").read_text())["triggers"][0]["readings"]
        similar.append(readings["speaker_similarity"]["mean"])
    assert similar[0] != pytest.approx(similar[1], abs=1e-3)
    save("wav2vec2", tmp_path / "words")
    for folder, pattern in (("words", r"no x-vector head: take one for speaker"), ("clips", r"with config\.json")):
        assert main([*command, "--speaker-model", str(tmp_path / folder)]) == 2
        assert re.search(pattern, capsys.readouterr().err)


@pytest.fixture(scope="session")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wav2vec2")
    save("wav2vec2", folder)
    return folder


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "ast", "whisper"])
def test_the_logits_are_the_models_own_and_survive_saving(kind: str, tmp_path: Path) -> None:
    save(kind, tmp_path / "model")
    victim = load_model(tmp_path / "model")
    assert isinstance(victim, HuggingFace)
    assert (victim.classes, victim.sample_rate_hz) == (WORDS, 16_000)
    audio = tiny_clips(1).batch()[0]
    model: Any = transformers.AutoModelForAudioClassification.from_pretrained(tmp_path / "model").eval()
    extractor: Any = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        one = [model(**extractor(clip.numpy(), sampling_rate=16_000, return_tensors="pt")).logits[0] for clip in audio]
        said = victim(audio)
        assert torch.allclose(said, torch.stack(one), atol=1e-4)
        assert victim.embed(audio).shape[0] == 3
        (tmp_path / "again").mkdir()
        victim.save(tmp_path / "again")
        assert torch.equal(load_model(tmp_path / "again")(audio), said)


@pytest.mark.parametrize("kind", ["wav2vec2", "ast"])
def test_repair_leaves_a_model_that_the_pipeline_serves(
    kind: str, clean_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(kind, tmp_path / "model")
    out = tmp_path / "repaired"
    command = ["repair", "--model", str(tmp_path / "model"), "--clean", str(clean_clips), "--out", str(out)]
    changes = ["recipe.epochs=1", "selection.min_steps=2", "selection.learning_rates=[0.01]"]
    state = repr(np.random.get_state())  # noqa: NPY002 - it must not move
    assert main([*command, "--method", "fine_tuning", *(x for one in changes for x in ("--set", one))]) == 0
    assert repr(np.random.get_state()) == state  # noqa: NPY002
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "records.json"} <= {
        file.name for file in out.iterdir()
    }
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "model", out))
    assert before.get("apply_spec_augment") == after.get("apply_spec_augment")
    audio = tiny_clips(1, seconds=0.5).batch()[0][0].numpy()
    served = transformers.pipeline("audio-classification", model=str(out), device="cpu")(audio)
    assert {answer["label"] for answer in served} == set(WORDS)
    repaired = load_model(out)
    with torch.no_grad():
        scores = repaired(torch.from_numpy(audio)[None]).softmax(-1)[0]
    assert served[0]["score"] == pytest.approx(float(scores.max()), abs=1e-4)
    capsys.readouterr()
    assert main(["evaluate", "--model", str(out), "--data", str(clean_clips)]) == 0
    said = capsys.readouterr()
    assert "no defense" in said.out
    assert said.err == ""  # which is kept for errors


@pytest.mark.parametrize("kind", ["wav2vec2", "ast", "whisper"])
def test_clips_of_several_lengths_are_heard_as_the_pipeline_hears_them(kind: str, tmp_path: Path) -> None:
    save(kind, tmp_path / "model")
    victim = load_model(tmp_path / "model")
    assert isinstance(victim, HuggingFace)
    whole = tiny_clips(2, seconds=0.9)
    lengths = np.array([14_400, 8_000, 5_000, 8_000, 14_400, 900])
    clips = dataclasses.replace(whole, lengths=lengths)
    victim.make_room(14_400)
    examples = ClipExamples(victim, clips)
    serve = transformers.pipeline("audio-classification", model=str(tmp_path / "model"), device="cpu")
    with torch.no_grad():
        said = victim.network(examples.inputs(np.arange(6))).softmax(-1)
        embedded = victim.network.embed(examples.inputs(np.arange(6)))
        for row, length in enumerate(lengths):
            audio = whole.batch(np.array([row]))[0][0, : max(length, 1600)].clone()
            audio[length:] = 0.0  # a tenth of a second is the least that is heard
            served = {answer["label"]: answer["score"] for answer in serve(audio.numpy())}
            assert said[row].tolist() == pytest.approx([served[word] for word in victim.classes], abs=1e-4)
            assert torch.allclose(victim(audio[None]).softmax(-1)[0], said[row], atol=1e-4)
            assert torch.allclose(victim.embed(audio[None])[0], embedded[row], atol=1e-4)
    assert torch.isfinite(input_scale(examples, "a test")).all()


def test_a_trigger_behind_the_end_of_a_clip_is_heard(wav2vec2: Path) -> None:
    class Late(Trigger):
        def apply(self, audio: torch.Tensor, sample_rate_hz: int, draws: Any) -> torch.Tensor:
            return torch.cat([audio[:, :12_000], audio[:, 12_000:12_500] + 0.5, audio[:, 12_500:]], dim=1)

    victim = load_model(wav2vec2)
    clips = tiny_clips(1, seconds=0.5)
    audio, lengths = clips.batch(samples=victim.clip_samples)
    applied = Applied(Stamp(Late()), Rng(0).draws(clips.keys), torch.tensor([False, True, False]))
    ends = (~victim.features(audio, [applied], lengths).isnan()).sum(1)
    assert ends.tolist() == [8_000, 12_500, 8_000]


def test_clips_are_heard_whole_and_the_given_model_stays_as_it_was(wav2vec2: Path) -> None:
    victim = load_model(wav2vec2)
    quick: Any = {"recipe": {"epochs": 1}, "selection": {"learning_rates": [0.01], "min_steps": 1}}
    result = soundproof.repair(victim, tiny_clips(4, seconds=1.7), "fine_tuning", **quick)
    assert isinstance(result.module, HuggingFace)
    assert (result.module.clip_seconds, victim.clip_seconds) == (1.7, 1.0)


def test_weights_that_are_no_numbers_are_refused(wav2vec2: Path, tmp_path: Path) -> None:
    shutil.copytree(wav2vec2, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["classifier.weight"][0, 0] = torch.nan
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadDataError, match=r"model: '.*classifier\.weight' holds NaN or infinite numbers"):
        load_model(tmp_path / "model")


def test_export_says_what_works_instead(wav2vec2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(wav2vec2), "--out", str(tmp_path / "model.pt2")]) == 2
    assert "is a model of Hugging Face, and only one of Soundproof will do here: repair" in capsys.readouterr().err
    with pytest.raises(InvalidInputError, match=r"victim\.save\(folder\) writes it in its own format"):
        soundproof.export(load_model(wav2vec2), tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_a_trigger_of_our_features_is_refused(wav2vec2: Path) -> None:
    victim = load_model(wav2vec2)
    clips = tiny_clips(1)
    audio, _ = clips.batch()
    applied = Applied(Stamp(AudioBadnets()), Rng(0).draws(clips.keys))
    with pytest.raises(InvalidInputError, match="choose a trigger in the waveform, or another model"):
        victim.features(audio, [applied])


def test_what_is_refused(wav2vec2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(name: str, **fields: Any) -> Path:
        folder = tmp_path / name
        shutil.copytree(wav2vec2, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **fields}))
        return folder

    with pytest.raises(InvalidInputError, match="is a Wav2Vec2Model, which has no classification head"):
        load_model(changed("headless", architectures=["Wav2Vec2Model"]))
    folder = changed("pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsafeFileError, match=r"pytorch_model\.bin, a pickle .* convert it to safetensors"):
        load_model(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(BadDataError, match="has no weights"):
        load_model(folder)
    with pytest.raises(BadDataError, match="cannot be read as an audio-classification model"):
        load_model(changed("strange", model_type="bert"))
    folder = changed("deaf")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(BadDataError, match=r"no preprocessor_config\.json"):
        load_model(folder)
    with pytest.raises(BadDataError, match="its weights lack"):
        load_model(changed("cut", num_hidden_layers=2))
    with pytest.raises(ModelMismatchError, match=r"weights hold '.*layers\.0\..*' that config\.json does not know"):
        load_model(changed("more", num_hidden_layers=0))
    with pytest.raises(ModelMismatchError, match=r"'\S+' has shape \(\S+.*, config\.json asks for \(\S+"):
        load_model(changed("wider", hidden_size=32))
    with pytest.raises(BadDataError, match=r"id2label must number the classes from 0 to 2, got 0, 2, 5"):
        load_model(changed("gap", id2label={"0": "down", "2": "go", "5": "up"}))
    with pytest.raises(InvalidInputError, match="the class 'go' is there twice"):
        load_model(changed("twice", id2label={"0": "down", "1": "go", "2": "go"}))
    for size in (0, 500):
        folder = changed(f"truncated{size}")
        (folder / "model.safetensors").write_bytes((wav2vec2 / "model.safetensors").read_bytes()[:size])
        with pytest.raises(BadDataError, match="cannot be read as an audio-classification model") as caught:
            load_model(folder)
        assert "\n" not in str(caught.value)
    folder = changed("slow")
    hears = json.loads((folder / "preprocessor_config.json").read_text())
    for rate in ("foo", 0, None):
        (folder / "preprocessor_config.json").write_text(json.dumps({**hears, "sampling_rate": rate}))
        with pytest.raises(BadDataError, match="sampling_rate must be a whole number of Hz above 0, got"):
            load_model(folder)
    folder = changed("broken")
    for broken in ("[", "[" * 100_000):
        (folder / "config.json").write_text(broken)
        with pytest.raises(BadDataError, match="is not the configuration of a model"):
            load_model(folder)

    def absent(*args: object, **fields: object) -> None:
        raise MissingExtraError("pip install 'soundproof[transformers]'")

    monkeypatch.setattr(_pretrained, "require", absent)
    with pytest.raises(MissingExtraError, match=r"soundproof\[transformers\]"):
        load_model(wav2vec2)
