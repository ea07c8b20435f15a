"""The training loop with everything in it against forward, backward and update alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from benchmarks.speed._measure import Row, Size, interleaved, ratio, scaled
from benchmarks.speed._things import BATCH, loss_of, models, noise_clips, victim
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.training import ClipExamples, PlainStep, fit
from soundproof.training.fit import make_optimizer


def rows(size: Size) -> Iterator[Row]:
    """Each network with its own recipe, augmentation included."""
    steps = size.of(8, 2)
    for name, model in models().items():
        recipe = model.recipe.override({"epochs": 1, "batch_size": BATCH})
        whole = victim(model, size.device)
        clips = noise_clips(steps * BATCH, whole.sample_rate_hz)
        examples = ClipExamples(whole, clips, recipe.augmentation)
        audio, _ = clips.batch(np.arange(BATCH), samples=whole.clip_samples)
        audio = audio.to(size.device)
        features = whole.features(audio)
        labels = examples.labels[:BATCH].to(size.device)

        def loop() -> None:
            fit(whole.network, examples, recipe, Rng(0))  # noqa: B023 - called at once

        def limit(network: nn.Module, inputs: torch.Tensor) -> None:
            whole.train()  # noqa: B023
            _alone(network, inputs, labels, recipe, steps)  # noqa: B023

        ours, waves, cells = interleaved(
            size.of(7, 1),
            loop,
            lambda: limit(whole, audio),  # noqa: B023
            lambda: limit(whole.network, features),  # noqa: B023
        )
        per_step = 1e3 / steps
        varied = ", ".join(k for k, v in recipe.augmentation.model_dump(exclude_defaults=True).items() if v)
        yield Row(
            "training",
            f"training loop, {name}",
            scaled(ours, per_step),
            "ms/step",
            ratio(waves, ours),
            peer="the same batch of waveforms in memory",
            peers=scaled(waves, per_step),
            target=0.90,
            note=f"share of the limit's speed; the limit is front end, forward, backward, update; varied: {varied}",
        )
        yield Row(
            "training",
            f"stricter, for reference: training loop, {name}",
            scaled(ours, per_step),
            "ms/step",
            ratio(cells, ours),
            peer="the same batch of features in memory",
            peers=scaled(cells, per_step),
            note="the limit has no front end either",
        )


def _alone(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, recipe: Recipe, steps: int) -> None:
    optimizer = make_optimizer(network, recipe)
    loss = loss_of(network, inputs, labels, recipe.label_smoothing)
    step = PlainStep()
    for _ in range(steps):
        step(network, optimizer, loss, recipe.clip_norm)
