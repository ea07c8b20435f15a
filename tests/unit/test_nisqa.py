"""NISQA: torchmetrics' own function is the reference, with a network of random weights that the test makes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from soundproof.analysis import Nisqa, compare
from soundproof.core.errors import InvalidInputError

pytest.importorskip("librosa")
published: Any = pytest.importorskip("torchmetrics.functional.audio.nisqa")

ARGS: dict[str, Any] = {
    "ms_n_mels": 48, "ms_n_fft": 4096, "ms_hop_length": 0.01, "ms_win_length": 0.02, "ms_fmax": 20_000,
    "ms_seg_length": 15, "ms_seg_hop_length": 4, "ms_max_segments": 1300,
    "cnn_c_out_1": 16, "cnn_c_out_2": 32, "cnn_c_out_3": 64, "cnn_kernel_size": (3, 3), "cnn_dropout": 0.2,
    "cnn_pool_1": [24, 7], "cnn_pool_2": [12, 5], "cnn_pool_3": [6, 3],
    "td_sa_d_model": 64, "td_sa_nhead": 1, "td_sa_num_layers": 2, "td_sa_h": 64, "td_sa_dropout": 0.1,
    "pool_att_h": 128, "pool_att_dropout": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``nisqa.tar`` as it is published, with weights of chance."""
    path = tmp_path_factory.mktemp("nisqa") / "nisqa.tar"
    torch.manual_seed(0)
    torch.save({"args": ARGS, "model_state_dict": published._NISQADIM(ARGS).state_dict()}, path)
    return path


@pytest.mark.filterwarnings("ignore:n_fft=")
@pytest.mark.parametrize(("samples", "rate"), [(16_000, 16_000), (4_000, 16_000), (52_920, 44_100)])
def test_ratings_are_those_of_the_published_function(
    weights: Path, samples: int, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "NISQA_DIR", str(weights.parent))
    published._load_nisqa_model.cache_clear()
    clips = 0.1 * torch.randn(3, samples, generator=torch.Generator().manual_seed(1))
    clips[1, samples // 2 :] = 0.0
    expected = published.non_intrusive_speech_quality_assessment(clips, rate)
    published._load_nisqa_model.cache_clear()
    assert expected.std(0).min() > 0
    assert torch.allclose(Nisqa(weights)(clips, rate), expected, atol=1e-5)


def test_stealth_tells_the_change_of_the_overall_rating(weights: Path) -> None:
    rate = Nisqa(weights)
    clean = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0))
    triggered = clean + 0.1 * torch.sin(2 * torch.pi * 440 * torch.arange(16_000) / 16_000)
    readings = compare(clean, triggered, 16_000, raters=[rate]).readings
    change = float((rate(triggered, 16_000) - rate(clean, 16_000))[:, 0].mean())
    assert abs(change) > 1e-4
    assert readings["nisqa_change"].mean == pytest.approx(change)
    assert "no DNSMOS model" in readings["dnsmos_change"].reason
    assert "no NISQA model" in compare(clean, triggered, 16_000).readings["nisqa_change"].reason


def test_clips_that_are_too_short_have_no_rating(weights: Path) -> None:
    assert Nisqa(weights)(torch.ones(2, 2_000), 16_000).isnan().all()
    reading = compare(torch.ones(2, 2_000), torch.ones(2, 2_000), 16_000, raters=[Nisqa(weights)])
    assert reading.readings["nisqa_change"].mean is None


def test_a_file_that_is_no_such_network_is_refused_in_a_sentence(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(InvalidInputError, match="there is no NISQA model at"):
        Nisqa(tmp_path / "none.tar")
    held = torch.load(weights, weights_only=True)
    torch.save({"args": ARGS}, tmp_path / "empty.tar")
    torch.save(held | {"args": ARGS | {"td_sa_h": 32}}, tmp_path / "other.tar")
    (tmp_path / "text.tar").write_text("no network")
    for name in ("empty", "other", "text"):
        with pytest.raises(InvalidInputError, match=r"is no NISQA 2\.0 model that can be read"):
            Nisqa(tmp_path / f"{name}.tar")
    with pytest.raises(InvalidInputError, match="these are empty"):
        Nisqa(weights)(torch.zeros(0, 16_000), 16_000)


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_a_pickle_in_the_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "bomb.tar").open("wb") as file:
        pickle.dump({"args": _Bomb()}, file)
    torch.save({"args": _Bomb()}, tmp_path / "saved.tar")
    for name in ("bomb", "saved"):
        with pytest.raises(InvalidInputError, match="is no NISQA"):
            Nisqa(tmp_path / f"{name}.tar")
    assert not (tmp_path / "ran").exists()
