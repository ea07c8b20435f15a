"""Voices: the embedding that needs no weights, which voices are chosen, and the two ways of conversion."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from soundproof.audio.resample import resample
from soundproof.audio.speaker import cosine_distances, embed_voice, farthest_points
from soundproof.core.errors import InvalidInputError, ModelMismatchError, UnsafeFileError
from soundproof.triggers import _voice_world, _world
from soundproof.triggers._hifigan import Generator, GeneratorSpec, load_generator
from soundproof.triggers._voice_knn import KnnBackend, nearest_mean
from soundproof.triggers._voice_world import WorldBackend

RATE = 16_000
needs_world = pytest.mark.skipif(importlib.util.find_spec("pyworld") is None, reason="pyworld is not installed")


def vowel(pitch_hz: float, formants: tuple[float, ...], seconds: float = 1.0, rate: int = RATE) -> Tensor:
    """A voice that says one syllable: harmonics under formants, rising and falling a little, with some breath."""
    time = np.arange(int(seconds * rate)) / rate
    glide = pitch_hz * (1.0 + 0.08 * np.sin(2 * np.pi * 2.0 * time))
    phase = 2 * np.pi * np.cumsum(glide) / rate
    wave = np.zeros_like(time)
    for number in range(1, int(3_800 / (1.1 * pitch_hz))):
        gain = sum(1.0 / (1.0 + ((number * pitch_hz - formant) / 120.0) ** 2) for formant in formants)
        wave += gain * np.sin(number * phase)
    wave *= np.exp(-(((time - seconds / 2) / (0.3 * seconds)) ** 4))
    wave += 0.002 * np.random.default_rng(0).normal(size=len(time))
    return torch.from_numpy((0.3 * wave / np.abs(wave).max()).astype(np.float32))


LOW, HIGH = vowel(110.0, (600.0, 1_000.0, 2_500.0)), vowel(230.0, (350.0, 2_300.0, 3_000.0))


def median_pitch(audio: Tensor, rate: int = RATE) -> float:
    pitch = _world._pitch_and_envelope(_world.load_world(), audio.double().numpy(), rate, 5.0)[0]
    return float(np.median(pitch[pitch > 0])) if (pitch > 0).any() else float("nan")


# The embedding.


def test_loudness_padding_rate_and_neighbors_play_no_part() -> None:
    alone = embed_voice(LOW[None], RATE)
    together = embed_voice(torch.stack([HIGH, 0.1 * LOW]), RATE)[1]
    padded = embed_voice(torch.nn.functional.pad(LOW, (0, 8_000))[None], RATE)[0]
    faster = embed_voice(torch.from_numpy(resample(LOW[None].numpy(), RATE, 44_100)), 44_100)[0]
    other = cosine_distances(alone, embed_voice(HIGH[None], RATE)).item()
    assert torch.allclose(alone[0], together, atol=1e-2)
    for same in (padded, faster):
        assert cosine_distances(alone, same[None]).item() < 0.05 * other


def test_silence_has_an_embedding() -> None:
    assert embed_voice(torch.zeros(2, RATE), RATE).isfinite().all()


def test_a_rate_below_telephones_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"3,800 Hz.*4000"):
        embed_voice(torch.zeros(1, 4_000), 4_000)


def test_words_of_one_speaker_lie_closer_than_those_of_two(real_data: Path) -> None:
    words: dict[str, list[Path]] = {}
    for file in sorted((real_data / "speech_commands_v0.02_10").glob("*/*.flac")):
        words.setdefault(file.name.partition("_")[0], []).append(file)
    speakers = [files[:10] for files in words.values() if len(files) >= 10][:20]
    audio = torch.stack(
        [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for row in speakers for file in row]
    )
    vectors = embed_voice(audio, RATE).unflatten(0, (len(speakers), 10))
    distances = cosine_distances(vectors[:, ::2].mean(1), vectors[:, 1::2].mean(1))
    same, other = distances.diagonal(), distances[~torch.eye(len(speakers), dtype=torch.bool)]
    assert (same[:, None] < other).float().mean() > 0.95


def test_farthest_points_begin_with_the_farthest_pair() -> None:
    line = torch.tensor([0.0, 4.0, 10.0, 5.5])
    distances = (line[:, None] - line).abs()
    assert farthest_points(distances, 2) == [0, 2]
    assert farthest_points(distances, 3) == [0, 2, 3]
    assert sorted(farthest_points(distances, 4)) == [0, 1, 2, 3]
    assert farthest_points(distances, 1, torch.tensor([1.0, 9.0, 3.0, 2.0])) == [1]


@pytest.mark.parametrize("count", [0, 5])
def test_more_points_than_there_are_are_refused(count: int) -> None:
    with pytest.raises(InvalidInputError, match="4 candidates"):
        farthest_points(torch.zeros(4, 4), count)


def test_one_point_needs_a_reference() -> None:
    with pytest.raises(InvalidInputError, match="reference"):
        farthest_points(torch.zeros(4, 4), 1)


# WORLD.


@needs_world
@pytest.mark.parametrize("rate", [16_000, 44_100, 8_000])
def test_world_moves_pitch_and_timbre_and_keeps_length_and_level(rate: int) -> None:
    host, target = (
        torch.from_numpy(resample(wave[None].numpy(), RATE, rate)) for wave in (LOW, torch.cat([HIGH, HIGH]))
    )
    made = WorldBackend().fit([target[0]], rate).convert(host, rate)
    assert made.shape == host.shape
    assert made.square().mean().sqrt().item() == pytest.approx(host.square().mean().sqrt().item(), rel=0.02)
    if rate == RATE:
        assert median_pitch(made[0]) == pytest.approx(median_pitch(HIGH), rel=0.05)
    goal = embed_voice(target, rate)
    before, after = (cosine_distances(embed_voice(wave, rate), goal).item() for wave in (host, made))
    assert after < 0.5 * before


@needs_world
def test_world_moves_real_words_to_a_real_voice(real_data: Path) -> None:
    orders = sorted((real_data / "speech_to_intent" / "clean").glob("*.flac"))
    target = torch.from_numpy(soundfile.read(orders[0], dtype="float32")[0])
    words = sorted((real_data / "speech_commands_v0.02_10" / "yes").glob("*.flac"))[::100][:4]
    hosts = torch.stack([torch.from_numpy(soundfile.read(word, dtype="float32")[0]) for word in words])
    made = WorldBackend().fit([target], RATE).convert(hosts, RATE)
    goal = median_pitch(target)
    semitones = [abs(12 * np.log2(median_pitch(wave) / goal)) for wave in made]
    assert float(np.nanmedian(semitones)) < 1.5  # a whispered word has no pitch
    vector = embed_voice(target[None], RATE)
    before, after = (cosine_distances(embed_voice(batch, RATE), vector).mean().item() for batch in (hosts, made))
    assert after < 0.7 * before
    assert torch.allclose(made.square().mean(1), hosts.square().mean(1), rtol=0.05)


@needs_world
def test_the_control_keeps_the_voice() -> None:
    made = WorldBackend().control().convert(LOW[None], RATE)
    assert not torch.equal(made, LOW[None])
    assert median_pitch(made[0]) == pytest.approx(median_pitch(LOW), rel=0.03)
    voices = embed_voice(torch.stack([LOW, made[0], HIGH]), RATE)
    distances = cosine_distances(voices[:1], voices)[0]
    assert distances[1] < 0.1 * distances[2]


@needs_world
def test_a_voice_without_pitch_leaves_the_pitch() -> None:
    whisper = 0.1 * torch.randn(2 * RATE, generator=torch.Generator().manual_seed(0))
    converter = WorldBackend().fit([whisper], RATE)
    assert converter.voice is not None
    if converter.voice.pitch is None:
        assert median_pitch(converter.convert(LOW[None], RATE)[0]) == pytest.approx(median_pitch(LOW), rel=0.05)


@needs_world
def test_silent_and_tiny_clips_stay_finite_and_silent() -> None:
    converter = WorldBackend().fit([HIGH, HIGH], RATE)
    assert not converter.convert(torch.zeros(1, RATE), RATE).any()
    for samples in (1, 100, 3_000):
        made = converter.convert(0.1 * torch.ones(1, samples), RATE)
        assert made.shape == (1, samples)
        assert made.isfinite().all()


@needs_world
def test_processes_give_the_same_clips_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = torch.stack([LOW * (1 + number) / 8 for number in range(6)])[:, :6_000]
    converter = WorldBackend().fit([HIGH, HIGH], RATE)
    here = torch.cat([converter.convert(host[None], RATE) for host in hosts])
    pool = (_voice_world._Worker(), _voice_world._Worker())

    def _pool(process_id: int) -> tuple[_voice_world._Worker, ...]:
        del process_id
        return pool

    monkeypatch.setattr(_voice_world, "_workers", _pool)
    monkeypatch.setattr(_voice_world, "_FEW", 1)
    assert torch.equal(converter.convert(hosts, RATE), here)
    processes = [worker._process for worker in pool]
    assert all(process is not None and process.poll() is None for process in processes)
    for worker in pool:
        worker.close()
    assert all(process is not None and process.poll() == 0 for process in processes)


@needs_world
def test_a_worker_that_fails_says_so_and_the_next_request_starts_another() -> None:
    worker = _voice_world._Worker()
    wave = LOW[None, :4_000].numpy()
    with pytest.raises(RuntimeError, match="converts voices failed"):
        worker.convert(wave, 0, 5.0, None)
    assert worker.convert(wave, RATE, 10.0, None).shape == wave.shape
    worker.close()


@needs_world
def test_a_voice_of_another_rate_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"modeled at 16000 Hz and cannot speak at 44100 Hz"):
        WorldBackend().fit([HIGH, HIGH], RATE).convert(torch.zeros(1, 44_100), 44_100)


# kNN-VC, on tiny random networks of the same classes.

TINY = GeneratorSpec(
    hubert_dim=32,
    hifi_dim=16,
    upsample_initial_channel=32,
    resblock_kernel_sizes=(3,),
    resblock_dilation_sizes=((1, 3),),
)


def tiny_encoder(folder: Path, *, layers: int = 8, hidden: int = 32) -> Path:
    transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.WavLMConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=[8] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.WavLMModel(config).save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_generator(folder: Path) -> tuple[Path, Generator]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Generator(TINY)
        for name, value in network.named_parameters():
            value.data.mul_(0.01 if name.endswith("bias") else 2.0)  # so that the frames are heard, not the biases
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**TINY.model_dump(), "num_mels": 80}))
    save_file(network.state_dict(), folder / "generator.safetensors")
    return folder / "generator.safetensors", network


def test_the_published_size_is_the_default() -> None:
    assert GeneratorSpec().hop == 320
    with torch.device("meta"):
        network = Generator(GeneratorSpec())
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["lin_pre.weight"] == (512, 1024)
    assert shapes["ups.0.weight"] == (512, 256, 20)
    assert shapes["resblocks.11.convs1.2.weight"] == (32, 32, 11)
    assert shapes["conv_post.weight"] == (1, 32, 7)


def test_the_layout_of_the_published_checkpoint_gives_the_same_sound(tmp_path: Path) -> None:
    path, network = tiny_generator(tmp_path)
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        if name.endswith(".weight") and not name.startswith("lin_pre"):
            length = value.flatten(1).norm(dim=1).view(-1, 1, 1)
            state[f"{name}_g"], state[f"{name}_v"] = length, 3.0 * value
        else:
            state[name] = value
    torch.save({"generator": state}, tmp_path / "prematch_g.pt")
    frames = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    published, plain = load_generator(tmp_path / "prematch_g.pt"), load_generator(path)
    assert torch.allclose(published(frames), plain(frames), atol=1e-6)
    assert plain(frames).shape == (2, 5 * 320)


def _nonsense(path: Path) -> None:
    path.write_bytes(b"nonsense")


def _code(path: Path) -> None:
    torch.save({"generator": os.getpid}, path)


def _other(path: Path) -> None:
    torch.save({"generator": {"lin_pre.weight": torch.zeros(2, 2)}}, path)


def _nothing(path: Path) -> None:
    del path


def _list(path: Path) -> None:
    torch.save([1, 2], path)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (_nonsense, InvalidInputError, "weights"),
        (_code, UnsafeFileError, "could run code"),
        (_other, ModelMismatchError, r"does not hold the weights.*config.json"),
        (_list, InvalidInputError, "no state dict"),
        (_nothing, InvalidInputError, "is no file"),
    ],
)
def test_files_that_are_no_generator_are_refused(tmp_path: Path, make: Any, error: Any, sentence: str) -> None:
    tiny_generator(tmp_path)
    make(tmp_path / "bad.pt")
    with pytest.raises(error, match=sentence):
        load_generator(tmp_path / "bad.pt")


@pytest.mark.parametrize("content", ["not json", '{"upsample_rates": "many"}', '{"upsample_rates": [10, 32]}'])
def test_configurations_that_make_no_sense_are_refused(tmp_path: Path, content: str) -> None:
    path, _ = tiny_generator(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InvalidInputError, match=r"config\.json"):
        load_generator(path)


def test_the_mean_is_over_the_nearest_by_direction() -> None:
    pool = torch.tensor([[1.0, 0.0], [10.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
    frames = torch.tensor([[[2.0, 0.1], [0.0, 5.0]]])
    assert torch.allclose(nearest_mean(frames, pool, 2)[0, 0], torch.tensor([5.5, 0.5]))
    assert torch.allclose(nearest_mean(frames, pool, 1)[0, 1], torch.tensor([0.0, 1.0]))


@pytest.fixture(scope="module")
def knn(tmp_path_factory: pytest.TempPathFactory) -> KnnBackend:
    folder = tmp_path_factory.mktemp("knn")
    return KnnBackend(tiny_encoder(folder / "wavlm"), tiny_generator(folder / "hifigan")[0])


@pytest.mark.parametrize(("samples", "frames"), [(16_000, 50), (15_999, 49), (16_100, 50), (320, 1)])
def test_clips_are_padded_to_whole_frames(knn: KnnBackend, samples: int, frames: int) -> None:
    assert knn._stack().encode(torch.zeros(1, samples)).shape == (1, frames, 32)


@pytest.mark.parametrize("rate", [16_000, 44_100, 8_000])
def test_knn_keeps_length_and_level_and_the_global_random_state(knn: KnnBackend, rate: int) -> None:
    wave: NDArray[Any] = resample(torch.stack([LOW, HIGH])[:, :8_000].numpy(), RATE, rate)
    hosts, before = torch.from_numpy(wave), torch.get_rng_state()
    converter = knn.fit([torch.from_numpy(resample(HIGH.numpy(), RATE, rate))], rate)
    made = converter.convert(hosts, rate)
    assert made.shape == hosts.shape
    assert torch.allclose(made.square().mean(1).sqrt(), hosts.square().mean(1).sqrt(), rtol=1e-3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.allclose(converter.convert(hosts[1:], rate), made[1:], atol=1e-5)
    assert not torch.allclose(knn.control().convert(hosts, rate), made, atol=1e-3)


def test_every_frame_comes_from_the_voice(knn: KnnBackend) -> None:
    converter = knn.fit([HIGH], RATE)
    assert converter.frames is not None
    assert converter.frames.shape == (50, 32)
    said = nearest_mean(knn._stack().encode(LOW[None]), converter.frames, 1)[0]
    assert ((said[:, None] - converter.frames).abs().amax(dim=2).amin(dim=1) < 1e-6).all()


def test_layer_six_is_matched_unnormalized(knn: KnnBackend) -> None:
    transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed")
    whole = transformers.WavLMModel.from_pretrained(knn.encoder).eval()
    padded = torch.nn.functional.pad(LOW[None], (0, 320))
    with torch.no_grad():
        expected = whole(padded, output_hidden_states=True).hidden_states[6]
    assert torch.allclose(knn._stack().encode(LOW[None]), expected, atol=1e-5)


def _as_published(folder: Path, path: Path, **changed: Any) -> dict[str, Any]:
    """A network of transformers in the layout of WavLM-Large.pt, by the names that its code gives its parts."""
    transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed")
    network = transformers.WavLMModel.from_pretrained(folder)
    config = network.config
    shapes = zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)
    cfg = {
        "extractor_mode": "layer_norm",
        "encoder_layers": config.num_hidden_layers,
        "encoder_embed_dim": config.hidden_size,
        "encoder_ffn_embed_dim": config.intermediate_size,
        "encoder_attention_heads": config.num_attention_heads,
        "activation_fn": "gelu",
        "layer_norm_first": True,
        "conv_feature_layers": " + ".join(f"[({a},{b},{c})]" for a, b, c in shapes),
        "conv_bias": False,
        "conv_pos": config.num_conv_pos_embeddings,
        "conv_pos_groups": config.num_conv_pos_embedding_groups,
        "relative_position_embedding": True,
        "gru_rel_pos": True,
        "num_buckets": 320,
        "max_distance": 800,
        "normalize": True,
        "dropout": 0.0,
    }
    names = {
        "masked_spec_embed": "mask_emb",
        "feature_projection.layer_norm": "layer_norm",
        "feature_projection.projection": "post_extract_proj",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0": "encoder.pos_conv.0.weight_g",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original1": "encoder.pos_conv.0.weight_v",
        "encoder.pos_conv_embed.conv": "encoder.pos_conv.0",
        "attention.gru_rel_pos_const": "self_attn.grep_a",
        "attention.gru_rel_pos_linear": "self_attn.grep_linear",
        "attention.rel_attn_embed": "self_attn.relative_attention_bias",
        ".attention.": ".self_attn.",
        "feed_forward.intermediate_dense": "fc1",
        "feed_forward.output_dense": "fc2",
    }
    for layer in range(len(config.conv_dim)):
        names[f"conv_layers.{layer}.conv"] = f"conv_layers.{layer}.0"
        names[f"conv_layers.{layer}.layer_norm"] = f"conv_layers.{layer}.2.1"
    for layer in range(config.num_hidden_layers):
        names[f"layers.{layer}.layer_norm"] = f"layers.{layer}.self_attn_layer_norm"
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = value
    held = {"cfg": {**cfg, **changed}, "model": state}
    torch.save(held, path)
    return held


def test_wavlm_as_it_was_published_gives_the_same_frames(tmp_path: Path, knn: KnnBackend) -> None:
    held = _as_published(knn.encoder, tmp_path / "WavLM-Large.pt")
    assert {"encoder.pos_conv.0.weight_g", "encoder.layers.0.self_attn.relative_attention_bias.weight"} < set(
        held["model"]
    )
    assert "feature_extractor.conv_layers.6.2.1.bias" in held["model"]
    published = KnnBackend(tmp_path / "WavLM-Large.pt", knn.generator)
    assert torch.allclose(published._stack().encode(LOW[None]), knn._stack().encode(LOW[None]), atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "error", "sentence"),
    [
        ({"encoder_layers": "many"}, InvalidInputError, "not WavLM as it was published"),
        ({"conv_feature_layers": "__import__('os')"}, InvalidInputError, "not WavLM as it was published"),
        ({"conv_feature_layers": "[(8,3,2)] * 1000000"}, InvalidInputError, "not WavLM as it was published"),
        ({"gru_rel_pos": False}, ModelMismatchError, "no gated relative positions"),
        ({"encoder_embed_dim": 64}, ModelMismatchError, "does not hold the weights of the network"),
        ({"encoder_layers": os.getpid}, UnsafeFileError, "could run code"),
    ],
)
def test_files_that_are_no_wavlm_are_refused(
    tmp_path: Path, knn: KnnBackend, changed: dict[str, Any], error: Any, sentence: str
) -> None:
    _as_published(knn.encoder, tmp_path / "bad.pt", **changed)
    with pytest.raises(error, match=sentence):
        KnnBackend(tmp_path / "bad.pt", knn.generator).control()


def test_networks_that_do_not_fit_are_refused(tmp_path: Path, knn: KnnBackend) -> None:
    with pytest.raises(ModelMismatchError, match="layer 6"):
        KnnBackend(tiny_encoder(tmp_path / "shallow", layers=6), knn.generator).control()
    with pytest.raises(ModelMismatchError, match="belongs together"):
        KnnBackend(tiny_encoder(tmp_path / "wide", hidden=48), knn.generator).control()
    with pytest.raises(InvalidInputError, match="holds no WavLM"):
        KnnBackend(tmp_path, knn.generator).control()
    with pytest.raises(InvalidInputError, match="add recordings"):
        knn.fit([HIGH[:700]], RATE)
