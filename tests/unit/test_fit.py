"""The training loop's options: averages, early stopping, accumulation, and going on after a kill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.recipe import Augmentation, Recipe
from soundproof.core.seeds import Rng
from soundproof.models import Victim
from soundproof.models.small_cnn import SmallCnn
from soundproof.testing import tiny_clips
from soundproof.training import (
    Checkpoint,
    ClipExamples,
    FitLog,
    GradientNormStep,
    PlainStep,
    StepRule,
    TensorExamples,
    accuracy,
    fit,
    fit_victim,
)
from soundproof.training._optimizing import autocast_dtype
from soundproof.training._weights import Best
from soundproof.training.steps import Batch, Loss

BASE = Recipe(learning_rate=0.05, epochs=6, batch_size=10, precision="float32")


def examples(seed: int = 0, count: int = 60) -> TensorExamples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return TensorExamples(torch.randn(count, 6, generator=generator) + 2 * nn.functional.one_hot(labels, 6), labels)


def network(drop: float = 0.0, *, norm: bool = True) -> nn.Module:
    with Rng(0).scope():
        middle = nn.BatchNorm1d(16) if norm else nn.Identity()
        return nn.Sequential(nn.Linear(6, 16), middle, nn.ReLU(), nn.Dropout(drop), nn.Linear(16, 3))


def weights(of: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in of.state_dict().items()}


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


class KilledError(Exception):
    pass


class Recorder:
    """Keeps the weights of every step, and dies at one."""

    def __init__(self, dies_at: int = 0) -> None:
        self.seconds = 0.0
        self.seen: list[dict[str, Tensor]] = []
        self._dies_at = dies_at

    def start(self, settings: Mapping[str, Any], steps: int) -> None:
        del settings, steps

    def step(self, step: int, network: nn.Module) -> None:
        if step == self._dies_at:
            raise KilledError
        self.seen.append(weights(network))


def test_the_moving_average_is_the_result() -> None:
    recipe, watcher, result = BASE.override({"ema_decay": 0.9, "epochs": 3}), Recorder(), network()
    fit(result, examples(), recipe, Rng(0), watcher=watcher)
    plain = network()
    fit(plain, examples(), BASE.override({"epochs": 3}), Rng(0))
    assert all(torch.equal(watcher.seen[-1][name], tensor) for name, tensor in weights(plain).items())
    expected = watcher.seen[0]["0.weight"]
    for count, seen in enumerate(watcher.seen[1:], 2):
        expected = expected + max(0.1, 9 / (10 + count)) * (seen["0.weight"] - expected)
    assert torch.allclose(result.state_dict()["0.weight"], expected, atol=1e-6)
    assert not torch.allclose(result.state_dict()["0.weight"], watcher.seen[-1]["0.weight"], atol=1e-4)


def test_validation_hears_the_moving_average_and_leaves_the_weights_alone() -> None:
    recipe = BASE.override({"ema_decay": 0.99, "epochs": 10})
    heard, unheard = network(), network()
    log = fit(heard, examples(), recipe, Rng(0), validation=examples(1))
    fit(unheard, examples(), recipe, Rng(0))
    assert same(heard, unheard)
    assert log.epochs[-1]["validation_accuracy"] == accuracy(heard, examples(1))


def test_early_stopping_keeps_the_best_on_validation_clips() -> None:
    recipe = BASE.override({"patience": 3, "epochs": 40, "schedule": "constant"})
    validation = TensorExamples(torch.randn(30, 6, generator=torch.Generator().manual_seed(5)), torch.arange(30) % 3)
    result = network()
    log = fit(result, examples(), recipe, Rng(0), validation=validation)
    scores = [epoch["validation_accuracy"] for epoch in log.epochs]
    assert len(scores) < 40
    assert log.best_epoch == int(np.argmax(scores)) + 1 == len(scores) - 3
    assert accuracy(result, validation) == max(scores) > scores[-1]
    assert not result.training


def test_patience_counts_epochs_without_a_better_one() -> None:
    best = Best(network(), 2)
    assert [best.offer(epoch, score) for epoch, score in enumerate((0.5, 0.5, 0.6, 0.1, 0.6), 1)] == [
        *[False] * 4,
        True,
    ]
    assert (best.epoch, best.score) == (3, 0.6)


@pytest.mark.parametrize("step", [PlainStep(), GradientNormStep(0.7, 0.05)])
def test_accumulated_batches_are_one_large_batch(step: StepRule) -> None:
    large, parts = network(norm=False), network(norm=False)
    recipe = BASE.override({"epochs": 2, "optimizer": "sgd", "clip_norm": 1.0})
    one = fit(large, examples(count=60), recipe.override({"batch_size": 60}), Rng(0), step=step)
    other = fit(parts, examples(count=60), recipe.override({"batch_size": 16, "accumulate": 4}), Rng(0), step=step)
    assert one.steps == other.steps == 2
    assert other.epochs[1]["loss"] == pytest.approx(one.epochs[1]["loss"], rel=1e-5)
    assert other.epochs[1]["accuracy"] == one.epochs[1]["accuracy"]
    for name, tensor in weights(large).items():
        assert torch.allclose(weights(parts)[name], tensor, atol=1e-6), name
    assert not same(parts, network(norm=False))


def test_a_step_may_add_a_term_to_the_loss_of_each_batch() -> None:
    seen: list[int] = []

    def one(batch: Batch, logits: Tensor) -> Tensor:
        assert logits.shape == (len(batch.inputs), 3)
        assert torch.equal(batch.targets, batch.labels)
        seen.append(len(batch.inputs))
        return torch.ones(())

    class Adding:
        def __call__(
            self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, clip_norm: float = 0.0
        ) -> Tensor:
            return PlainStep()(network, optimizer, lambda: loss(one), clip_norm)

    recipe = BASE.override({"epochs": 1, "batch_size": 16, "accumulate": 4})
    plain = fit(network(), examples(), recipe, Rng(0))
    added = fit(network(), examples(), recipe, Rng(0), step=Adding())
    assert seen == [15] * 4
    assert added.epochs[0]["loss"] == pytest.approx(plain.epochs[0]["loss"] + 1.0)


def test_a_last_group_of_batches_may_be_smaller() -> None:
    log = fit(network(), examples(count=60), BASE.override({"accumulate": 4}), Rng(0))
    assert log.steps == 6 * 2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd", "accumulate": 2},
        {"average_share": 0.6},
        {"ema_decay": 0.9},
        {"patience": 2, "schedule": "constant"},
        {"augmentation": {"mixup_alpha": 0.4}},
    ],
)
def test_a_killed_training_goes_on_and_ends_bit_equal(changes: dict[str, Any], tmp_path: Path) -> None:
    recipe = BASE.override(changes)
    steps = 3 if recipe.accumulate == 2 else 6
    place = Checkpoint(tmp_path / "run", every_seconds=0.0)

    def train(checkpoint: Checkpoint | None, dies_at: int = 0) -> tuple[nn.Module, FitLog]:
        fresh = network(drop=0.3)
        watcher = Recorder(dies_at)
        log = fit(fresh, examples(), recipe, Rng(3), validation=examples(1), watcher=watcher, checkpoint=checkpoint)
        return fresh, log

    whole, expected = train(None)
    for dies_at in (1, 2 * steps + 1, 2 * steps + 2, 4 * steps):
        with pytest.raises(KilledError):
            train(place, dies_at)
    assert len(list(place.folder.iterdir())) == 1
    resumed, log = train(place)
    assert same(resumed, whole)
    assert (log.epochs, log.steps, log.best_epoch) == (expected.epochs, expected.steps, expected.best_epoch)
    place.clear()
    assert not place.folder.exists()


def test_resuming_repeats_no_finished_epoch(tmp_path: Path) -> None:
    place = Checkpoint(tmp_path / "run", every_seconds=0.0)
    with pytest.raises(KilledError):
        fit(network(), examples(), BASE, Rng(0), watcher=Recorder(20), checkpoint=place)
    watcher = Recorder()
    fit(network(), examples(), BASE, Rng(0), watcher=watcher, checkpoint=place)
    assert len(watcher.seen) == 36 - 18


def test_a_checkpoint_of_another_run_or_a_torn_one_is_ignored(tmp_path: Path) -> None:
    place = Checkpoint(tmp_path / "run", every_seconds=0.0)
    with pytest.raises(KilledError):
        fit(network(), examples(), BASE, Rng(0), watcher=Recorder(20), checkpoint=place)
    for rng, torn in ((Rng(1), False), (Rng(0), True)):
        file = next(place.folder.iterdir())
        if torn:
            file.write_bytes(file.read_bytes()[:-100])
        expected, result = network(), network()
        fit(expected, examples(), BASE, rng)
        fit(result, examples(), BASE, rng, checkpoint=Checkpoint(place.folder))
        assert same(result, expected)


def test_state_is_written_only_now_and_then(tmp_path: Path) -> None:
    fit(network(), examples(), BASE, Rng(0), checkpoint=Checkpoint(tmp_path / "run", every_seconds=3600.0))
    assert not (tmp_path / "run").exists()


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(InvalidInputError, match="stopping early needs validation clips"):
        fit(network(), examples(), BASE.override({"patience": 2}), Rng(0))
    with pytest.raises(InvalidInputError, match="set it to 0 to use ema_decay or patience"):
        BASE.override({"average_share": 0.5, "patience": 2})


def test_a_recipe_can_take_gradient_norm_steps() -> None:
    """An attacker trains with the objective of the repair: the same as handing the step in."""
    own, given, plain = network(), network(), network()
    fit(own, examples(), BASE.override({"gradient_norm_alpha": 0.7, "gradient_norm_radius": 0.2}), Rng(0))
    fit(given, examples(), BASE, Rng(0), step=GradientNormStep(0.7, 0.2))
    fit(plain, examples(), BASE, Rng(0))
    assert same(own, given)
    assert not same(own, plain)


def test_kernels_of_any_number_of_dimensions_are_trained() -> None:
    with Rng(0).scope():
        result = nn.Sequential(
            nn.Unflatten(1, (1, 1, 1, 6)), nn.Conv3d(1, 4, (1, 1, 3)), nn.Flatten(2), nn.Unflatten(2, (1, 4)),
            nn.Conv2d(4, 16, (1, 2)), nn.Flatten(), nn.Linear(48, 3),
        )  # fmt: skip
    fit(result, examples(), BASE.override({"epochs": 1}), Rng(0))
    assert result.state_dict()["4.weight"].is_contiguous(memory_format=torch.channels_last)


def test_a_network_with_few_channels_keeps_its_layout() -> None:
    with Rng(0).scope():
        result = nn.Sequential(
            nn.Unflatten(1, (1, 1, 6)),
            nn.Conv2d(1, 16, (1, 3)),
            nn.Conv2d(16, 4, (1, 3)),
            nn.Flatten(),
            nn.Linear(8, 3),
        )
    fit(result, examples(), BASE.override({"epochs": 1}), Rng(0))
    assert all(parameter.is_contiguous() for parameter in result.parameters())


def test_features_are_computed_once_and_a_look_at_a_few_costs_a_few() -> None:
    clips = tiny_clips(20, seconds=0.3)
    victim = Victim.create(SmallCnn(), clips.classes, Rng(0), clip_seconds=0.3)
    heard: list[int] = []
    victim.frontend.register_forward_pre_hook(lambda _, given: heard.append(len(given[0])))
    looked = ClipExamples(victim, clips)
    for rows in (1, 4):
        looked.inputs(np.arange(rows))
    assert heard == [1, 4]
    whole = looked.inputs(np.arange(60))
    once = sum(heard)
    assert once <= 5 + 60 + 1
    rows = np.arange(3, 60, 7)
    for again in (looked.select(rows), looked.augmented(Augmentation(time_masks=1)).select(rows)):
        assert torch.equal(again.inputs(np.arange(len(rows))), whole[torch.from_numpy(rows)])
    assert sum(heard) == once
    one_by_one = ClipExamples(victim, clips)
    for row in range(60):
        one_by_one.inputs(np.array([row]))
    assert sum(heard) <= once + 10 + 60


def test_a_network_that_gives_no_numbers_names_nothing() -> None:
    broken = nn.Linear(6, 3)
    with torch.no_grad():
        broken.bias.fill_(float("nan"))
    assert accuracy(broken, examples()) == 0.0


@pytest.mark.parametrize("has", [(), ("_is_amx_tile_supported",), ("_is_avx512_bf16_supported",)])
def test_precision_goes_by_what_the_processor_multiplies(has: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda found=name in has: found)
    processor = torch.device("cpu")
    assert autocast_dtype("auto", processor) == (torch.bfloat16 if has else None)
    assert autocast_dtype("bfloat16", processor) == torch.bfloat16
    assert autocast_dtype("float32", processor) is None


def test_a_model_without_a_logit_for_each_class_is_refused_before_it_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clips = tiny_clips(4, seconds=0.4)
    victim = Victim.create(SmallCnn(), clips.classes, Rng(0), clip_seconds=0.4)
    forward = type(victim.network).forward

    def wide(self: Any, features: torch.Tensor) -> torch.Tensor:
        return torch.cat([forward(self, features)] * 2, dim=1)

    monkeypatch.setattr(type(victim.network), "forward", wide)
    before = [parameter.clone() for parameter in victim.network.parameters()]
    with pytest.raises(BadDataError, match=r"logits \[batch, 3\] for these classes, it gave \(2, 6\)"):
        fit_victim(victim, clips, Recipe(epochs=1), Rng(0))
    assert all(torch.equal(one, other) for one, other in zip(before, victim.network.parameters(), strict=True))
