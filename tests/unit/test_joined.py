"""Labelled and unlabelled examples in one set."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from soundproof.core.errors import BadDataError
from soundproof.core.recipe import Augmentation, Recipe
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.testing import tiny_clips
from soundproof.training import SYNTHETIC_SHARE, Teacher, TensorExamples, fit, half_unlabelled, partly_synthetic
from soundproof.training._joined import UNLABELLED


def _two() -> tuple[TensorExamples, TensorExamples]:
    known = TensorExamples(torch.arange(3.0)[:, None], torch.tensor([2, 1, 0]))
    return known, TensorExamples(torch.arange(10.0, 20.0)[:, None], torch.zeros(10, dtype=torch.long))


def test_half_of_the_examples_have_labels() -> None:
    joined = half_unlabelled(*_two())
    assert len(joined) == 12 + 10
    assert (joined.labels >= 0).sum() == 12
    rows = np.array([21, 0, 12, 4, 2])
    assert joined.inputs(rows).flatten().tolist() == [19.0, 0.0, 10.0, 1.0, 2.0]
    assert joined.labels[rows].tolist() == [-100, 2, -100, 1, 0]
    part = joined.select(rows)
    assert part.inputs(np.array([1, 0])).flatten().tolist() == [0.0, 19.0]
    assert part.augmented(Augmentation()).labels.tolist() == [-100, 2, -100, 1, 0]


@pytest.mark.parametrize(("clean", "synthetic"), [(3, 10), (40, 10), (1, 100)])
def test_a_share_of_the_examples_is_synthetic_and_all_have_their_labels(clean: int, synthetic: int) -> None:
    known = TensorExamples(torch.arange(float(clean))[:, None], torch.arange(clean) % 3)
    made = TensorExamples(torch.arange(100.0, 100.0 + synthetic)[:, None], torch.arange(synthetic) % 2)
    joined = partly_synthetic(known, made)
    rows = np.arange(len(joined))
    heard = joined.inputs(rows).flatten()
    assert set(heard[heard < 100].tolist()) == set(range(clean)), "all clean ones are there"
    assert float((heard >= 100).float().mean()) == pytest.approx(SYNTHETIC_SHARE, abs=0.05)
    right = torch.where(heard < 100, heard % 3, (heard - 100) % 2).long()
    assert torch.equal(joined.labels, right)
    part = joined.select(rows[::-1].copy())
    assert torch.equal(part.labels, right.flip(0))
    assert torch.equal(half_unlabelled(joined, made).labels[: len(joined)], right)


def test_unlabelled_examples_teach_what_the_teacher_says_of_them() -> None:
    """The labelled examples lie in one corner; what is right elsewhere only the teacher knows."""
    inputs = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    with Rng(0).scope():
        teacher = nn.Linear(2, 2)
        students = [nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2)) for _ in range(2)]
    with torch.no_grad():
        teacher.weight.copy_(torch.tensor([[3.0, 0.0], [-3.0, 0.0]]))
        teacher.bias.zero_()
    labelled = TensorExamples(inputs[:20] * 0.1 + torch.tensor([2.0, 2.0]), torch.zeros(20, dtype=torch.long))
    joined = half_unlabelled(labelled, TensorExamples(inputs, torch.ones(200, dtype=torch.long)))
    recipe = Recipe(optimizer="sgd", learning_rate=0.05, epochs=10, batch_size=40, precision="float32")
    fit(students[0], labelled, recipe, Rng(0))
    alone = float((students[0](inputs).argmax(1) == teacher(inputs).argmax(1)).float().mean())
    log = fit(students[1], joined, recipe, Rng(0), teacher=Teacher(teacher, 1.0, 1.0))
    taught = float((students[1](inputs).argmax(1) == teacher(inputs).argmax(1)).float().mean())
    assert alone < 0.7
    assert taught > 0.9
    assert log.epochs[-1]["accuracy"] > 0.9


def test_recordings_are_cut_into_pieces() -> None:
    clips = tiny_clips(2, seconds=2.5)
    pieces = clips.pieces(16_000)
    assert len(pieces) == 2 * len(clips)
    audio, lengths = clips.batch()
    cut, _ = pieces.batch(np.array([0, 1]))
    assert torch.equal(torch.cat([cut[0], cut[1]]), audio[0, :32_000])
    assert (pieces.lengths == 16_000).all()
    assert int(lengths[0]) == 40_000
    assert len(set(pieces.ids.tolist())) == len(pieces)


def test_short_recordings_stay_and_shorter_ones_go() -> None:
    audio = np.ones((2, 12_000), np.float32) * 0.1
    clips = Clips.from_audio(audio, [0, 1], classes=("a", "b"), sample_rate_hz=16_000, lengths=[12_000, 7_000])
    assert clips.pieces(16_000).ids.tolist() == ["clip000000#0"]
    with pytest.raises(BadDataError, match="give longer ones"):
        clips.select([1]).pieces(16_000)


def test_the_fewer_are_repeated_whichever_they_are() -> None:
    known, others = _two()
    joined = half_unlabelled(others, known)
    assert len(joined) == 10 + 12
    assert (joined.labels == UNLABELLED).sum() == 12


def test_what_a_teacher_said_before_goes_with_the_examples_without_a_label() -> None:
    said = torch.linspace(-3, 0, 30).reshape(10, 3).log_softmax(1)
    known, others = _two()
    joined = half_unlabelled(known, others, said)
    rows = np.array([21, 0, 12, 4])
    answers = joined.answers(rows)
    assert answers is not None
    assert torch.equal(answers[[0, 2]], said[[9, 0]])
    again = joined.select(rows).augmented(Augmentation()).answers(np.array([2, 0]))
    assert again is not None
    assert torch.equal(again, said[[0, 9]])
    assert half_unlabelled(known, others).answers(rows) is None


class _Varied(TensorExamples):
    """Points of which only the first coordinate says what they are; the second is another each time."""

    def inputs(self, rows: np.ndarray[Any, np.dtype[np.int64]], generator: torch.Generator | None = None) -> Tensor:
        plain = super().inputs(rows)
        if generator is None:
            return plain
        return plain + 4.0 * torch.randn(len(rows), 1, generator=generator) * torch.tensor([0.0, 1.0])

    def augmented(self, augmentation: Augmentation) -> _Varied:
        return self


class _Deaf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("it was asked before, and is not asked again")


def test_who_is_taught_by_what_was_said_before_learns_not_to_mind_what_varies() -> None:
    """The teacher minds it: it answers by the sum of both coordinates, which as recorded say the same."""
    source = Rng(0).torch()
    first = torch.randn(300, 1, generator=source)
    inputs = torch.cat([first, first + 0.3 * torch.randn(300, 1, generator=source)], 1)
    labels = (first[:, 0] < 0).long()
    with Rng(0).scope():
        network, teacher = nn.Linear(2, 2), nn.Linear(2, 2)
    with torch.no_grad():
        teacher.weight.copy_(torch.tensor([[3.0, 3.0], [-3.0, -3.0]]))
        teacher.bias.zero_()
    before = Teacher(teacher, 1.0, 2.0, hears="recorded")
    unlabelled = _Varied(inputs, torch.zeros(300, dtype=torch.long))
    joined = half_unlabelled(_Varied(inputs[:4], labels[:4]), unlabelled, before.answers_to(unlabelled))
    recipe = Recipe(learning_rate=0.02, epochs=20, batch_size=40, precision="float32")
    fit(network, joined, recipe, Rng(0), teacher=Teacher(_Deaf(), 1.0, 2.0, hears="recorded"))
    moved = inputs + torch.tensor([0.0, 1.0]) * 4.0 * torch.randn(300, 1, generator=source)
    right = [float((one(moved).argmax(1) == labels).float().mean()) for one in (teacher, network)]
    assert right[0] < 0.75
    assert right[1] > 0.9


@pytest.mark.parametrize("hears", ["varied", "recorded"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_batch_without_a_label_is_no_breakdown(batch_size: int, hears: Literal["varied", "recorded"]) -> None:
    inputs = torch.randn(40, 2, generator=Rng(0).torch())
    examples = TensorExamples(inputs, (inputs[:, 0] > 0).long())
    with Rng(0).scope():
        network, teacher = nn.Linear(2, 2), nn.Linear(2, 2)
    recipe = Recipe(optimizer="sgd", learning_rate=0.05, epochs=3, batch_size=batch_size, precision="float32")
    asked = Teacher(teacher, 1.0, 1.0, hears=hears)
    said = asked.answers_to(examples) if hears == "recorded" else None
    log = fit(network, half_unlabelled(examples, examples, said), recipe, Rng(0), teacher=asked)
    assert not log.diverged
    assert all(bool(weight.isfinite().all()) for weight in network.parameters())
