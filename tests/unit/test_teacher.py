"""A teacher in the training loop: what it adds to the loss, what it hears, and that it is left alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from soundproof.core.errors import InvalidInputError
from soundproof.core.recipe import Augmentation, Recipe
from soundproof.core.registry import from_spec
from soundproof.core.seeds import Rng
from soundproof.models import Victim
from soundproof.testing import tiny_clips
from soundproof.training import ClipExamples, Teacher, TensorExamples, fit

RECIPE = Recipe(optimizer="sgd", learning_rate=0.05, epochs=60, batch_size=20, precision="float32")


def _network(seed: int = 0) -> nn.Module:
    with Rng(seed).scope():
        return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))


def _examples() -> TensorExamples:
    labels = torch.arange(60) % 3
    inputs = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) + 2 * nn.functional.one_hot(labels, 4)
    return TensorExamples(inputs, labels)


def test_the_loss_is_the_divergence() -> None:
    teacher = Teacher(_network(), 0.5, 2.0)
    inputs = _examples().inputs(np.arange(10))
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))
    said = (teacher.network.eval()(inputs) / 2).softmax(1)
    expected = (said * (said.log() - (logits / 2).log_softmax(1))).sum(1).mean() * 4 * 0.5
    assert teacher.loss(logits, teacher.answers(inputs)).item() == pytest.approx(expected.item(), rel=1e-5)
    own = teacher.network.eval()(inputs)
    assert teacher.loss(own, teacher.answers(inputs)).item() == pytest.approx(0.0, abs=1e-6)


def test_a_student_learns_what_no_label_says() -> None:
    """All labels are 0; only the teacher knows of the other classes."""
    examples = _examples()
    taught = TensorExamples(examples.inputs(np.arange(60)), torch.zeros(60, dtype=torch.long))
    teacher = _network(1)
    fit(teacher, examples, RECIPE, Rng(0))
    before = copy.deepcopy(teacher.state_dict())
    agreement: list[float] = []
    for weight in (0.0, 10.0):
        student = _network(2)
        fit(student, taught, RECIPE, Rng(0), teacher=Teacher(teacher, weight, 2.0))
        inputs = examples.inputs(np.arange(60))
        agreement.append(float((student(inputs).argmax(1) == teacher.eval()(inputs).argmax(1)).float().mean()))
    assert agreement[0] < 0.5 < 0.9 < agreement[1]
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_no_weight_is_no_teacher() -> None:
    alone, taught = _network(), _network()
    fit(alone, _examples(), RECIPE, Rng(0))
    fit(taught, _examples(), RECIPE, Rng(0), teacher=Teacher(_network(1), 0.0, 2.0))
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), taught.parameters(), strict=True))


def test_the_teacher_hears_the_same_clip_without_the_masks() -> None:
    model = from_spec("models", {"name": "small_cnn", "frontend": "mfcc40_16k"})
    victim = Victim.create(model, ("down", "go", "up"), Rng(0))  # type: ignore[arg-type]
    augmentation = Augmentation(shift_seconds=0.1, time_masks=1, time_mask_frames=40)
    examples = ClipExamples(victim, tiny_clips(2), augmentation)
    rows = np.arange(4)
    masked, whole = examples.views(rows, torch.Generator().manual_seed(0))
    assert torch.equal(masked, examples.inputs(rows, torch.Generator().manual_seed(0)))
    hidden = (masked != whole).any(2)
    assert hidden.any()
    assert not hidden.all()
    plain = ClipExamples(victim, tiny_clips(2), augmentation.override({"time_masks": 0}))
    shifted: Tensor = plain.inputs(rows, torch.Generator().manual_seed(0))
    assert torch.equal(whole, shifted)


def test_a_teacher_and_mixup_are_refused() -> None:
    mixed = RECIPE.override({"augmentation": {"mixup_alpha": 0.2}})
    with pytest.raises(InvalidInputError, match="mixup_alpha = 0"):
        fit(_network(), _examples(), mixed, Rng(0), teacher=Teacher(_network(1), 1.0, 2.0))
