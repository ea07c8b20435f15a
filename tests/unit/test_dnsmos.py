"""DNSMOS: the published scoring around a network that the test makes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from soundproof.analysis import Dnsmos, compare
from soundproof.analysis.dnsmos import WINDOW
from soundproof.core.errors import InvalidInputError

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def network(path: Path, batch: int | str = "clips", samples: int = WINDOW) -> Path:
    """Rates a window by its mean square: 1 plus once, twice and three times that."""
    make: Any = onnx.helper
    kind = onnx.TensorProto.FLOAT
    nodes = [
        make.make_node("Mul", ["input_1", "input_1"], ["square"]),
        make.make_node("ReduceMean", ["square", "axes"], ["mean"], keepdims=1),
        make.make_node("Mul", ["mean", "factors"], ["scaled"]),
        make.make_node("Add", ["scaled", "one"], ["ratings"]),
    ]
    constants = [
        make.make_tensor("axes", onnx.TensorProto.INT64, [1], [1]),
        make.make_tensor("factors", kind, [1, 3], [1.0, 2.0, 3.0]),
        make.make_tensor("one", kind, [1], [1.0]),
    ]
    takes = [make.make_tensor_value_info("input_1", kind, [batch, samples])]
    gives = [make.make_tensor_value_info("ratings", kind, [batch, 3])]
    graph = make.make_graph(nodes, "dnsmos", takes, gives, constants)
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9), str(path))
    return path


def published(wave: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The script beside the weights, window by window: double, step by a second, calibrate, average."""
    while len(wave) < WINDOW:
        wave = np.append(wave, wave)
    scores: list[np.ndarray[Any, Any]] = []
    for step in range(int(np.floor(len(wave) / 16_000) - 9.01) + 1):
        part = wave[step * 16_000 : step * 16_000 + WINDOW]
        if len(part) == WINDOW:
            raw = 1.0 + np.mean(part**2) * np.array([1.0, 2.0, 3.0])
            polynomials = ([-0.08397, 1.22083, 0.00524], [-0.13167, 1.60915, -0.39605], [-0.06766, 1.11546, 0.04603])
            scores.append(np.array([np.polyval(one, x) for one, x in zip(polynomials, raw, strict=True)]))
    return np.mean(scores, axis=0)


@pytest.mark.parametrize("batch", ["clips", 1])
@pytest.mark.parametrize("samples", [16_000, 24_000, 40_001, 200_000])
def test_scores_are_those_of_the_published_script(tmp_path: Path, samples: int, batch: int | str) -> None:
    waves = np.random.default_rng(0).standard_normal((2, samples)).astype(np.float32)
    waves[:, : samples // 3] *= 2.0  # windows differ
    rated = Dnsmos(network(tmp_path / "net.onnx", batch))(torch.from_numpy(waves), 16_000)
    expected = np.stack([published(wave.astype(np.float64)) for wave in waves])
    assert np.abs(rated.numpy() - expected).max() < 1e-4


def test_another_sample_rate_is_brought_to_16_khz(tmp_path: Path) -> None:
    rate = Dnsmos(network(tmp_path / "net.onnx"))
    time = torch.arange(44_100) / 44_100
    slow = torch.sin(2 * torch.pi * 440 * torch.arange(16_000) / 16_000)
    assert torch.allclose(rate(torch.sin(2 * torch.pi * 440 * time)[None], 44_100), rate(slow[None], 16_000), atol=1e-3)


def test_stealth_tells_the_change_of_the_overall_rating(tmp_path: Path) -> None:
    quiet = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0))
    rate = Dnsmos(network(tmp_path / "net.onnx"))
    reading = compare(quiet, 5.0 * quiet, 16_000, raters=[rate]).readings["dnsmos_change"]
    assert reading.mean == pytest.approx(float((rate(5.0 * quiet, 16_000) - rate(quiet, 16_000))[:, 2].mean()))
    assert (reading.mean or 0.0) > 0.01
    assert "no DNSMOS model" in compare(quiet, 5.0 * quiet, 16_000).readings["dnsmos_change"].reason


def test_a_file_that_is_no_such_network_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="there is no DNSMOS model at"):
        Dnsmos(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(InvalidInputError, match="no ONNX model that can be read"):
        Dnsmos(tmp_path / "text.onnx")
    with pytest.raises(InvalidInputError, match="is no DNSMOS"):
        Dnsmos(network(tmp_path / "short.onnx", samples=100))
    with pytest.raises(InvalidInputError, match="these are empty"):
        Dnsmos(network(tmp_path / "net.onnx"))(torch.zeros(0, 16_000), 16_000)
