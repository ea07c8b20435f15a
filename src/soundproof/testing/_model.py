"""The rules of models: every parameter learns, nothing is NaN, clips do not see each other, files keep all."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from soundproof.core.component import Component
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.models import Model, Victim
from soundproof.testing._check import ensure, unchanged_random_state
from soundproof.testing._samples import samples
from soundproof.testing._toys import TOY_CLASSES, tiny_clips
from soundproof.training import ClipExamples, GradientNormStep, accuracy, fit_victim
from soundproof.training.checkpoint import load_victim, save_victim


def _models(component: type[Component]) -> list[Model]:
    return [cast("Model", one) for one in samples(component)]


def _victim(model: Model, seed: int = 0) -> Victim:
    return Victim.create(model, TOY_CLASSES, Rng(seed).child("model"))


def _audio(victim: Victim) -> tuple[Tensor, Tensor]:
    """A batch that fits the victim, and its labels."""
    clips = tiny_clips(2, sample_rate_hz=victim.sample_rate_hz)
    audio, _ = clips.batch(samples=victim.clip_samples)
    return audio, torch.from_numpy(clips.labels)


def every_parameter_learns(component: type[Component]) -> None:
    """One backward pass reaches every parameter, with finite values that are not all zero."""
    for model in _models(component):
        victim = _victim(model).train()
        audio, labels = _audio(victim)
        logits = cast("Tensor", victim(audio))
        ensure(logits.shape == (len(audio), len(TOY_CLASSES)), f"{model!r} gives logits {tuple(logits.shape)}")
        with Rng(0).scope():
            torch.autograd.backward(nn.functional.cross_entropy(victim(audio), labels))
        for name, parameter in victim.named_parameters():
            gradient = parameter.grad
            ensure(gradient is not None, f"{model!r}: {name} gets no gradient")
            if gradient is not None:
                ensure(bool(torch.isfinite(gradient).all()), f"{model!r}: the gradient of {name} is not finite")
                ensure(bool((gradient != 0).any()), f"{model!r}: the gradient of {name} is zero everywhere")


def gives_numbers_for_silence(component: type[Component]) -> None:
    """Silence and full-scale noise give finite logits."""
    for model in _models(component):
        victim = _victim(model).eval()
        noise = torch.rand(1, victim.clip_samples, generator=Rng(0).torch()) * 2.0 - 1.0
        with torch.no_grad():
            logits = victim(torch.cat([torch.zeros_like(noise), noise]))
        ensure(bool(torch.isfinite(logits).all()), f"{model!r} gives NaN or infinite logits for silence or noise")


def clips_do_not_see_each_other(component: type[Component]) -> None:
    """In evaluation mode a clip's logits do not depend on the batch, nor on its place in it."""
    for model in _models(component):
        victim = _victim(model).eval()
        audio, _ = _audio(victim)
        with torch.no_grad():
            whole = victim(audio)
            backwards = victim(audio.flip(0)).flip(0)
            alone = torch.cat([victim(clip[None]) for clip in audio])
        for other, how in ((backwards, "in reverse order"), (alone, "one by one")):
            near = torch.allclose(whole, other, rtol=1e-3, atol=1e-4)
            ensure(near, f"{model!r} gives other logits {how}: off by {float((whole - other).abs().max()):.2g}")


def hears_clips_of_any_length(component: type[Component]) -> None:
    """A shorter clip is heard in a padded batch as it is alone; of a longer one the beginning is heard."""
    for model in _models(component):
        victim = _victim(model).eval()
        audio, _ = _audio(victim)
        whole = victim.clip_samples
        lengths = torch.linspace(0.5 * whole, whole, len(audio)).long()
        mixed = audio.masked_fill(torch.arange(whole) >= lengths[:, None], 0.0)
        with torch.no_grad():
            alone = torch.cat([victim(clip[None, :length]) for clip, length in zip(audio, lengths, strict=True)])
            together = victim.network(victim.features(mixed, lengths=lengths))
            near = torch.allclose(together, alone, rtol=1e-3, atol=1e-4)
            off = float((together - alone).abs().max())
            ensure(near, f"{model!r} hears shorter clips otherwise in a padded batch: off by {off:.2g}")
            longer = victim(torch.cat([audio, audio.flip(1)], dim=1))
            ensure(torch.equal(longer, victim(audio)), f"{model!r} does not hear the beginning of a longer clip")


def embeds_clips(component: type[Component]) -> None:
    """``embed`` gives one finite vector a clip."""
    for model in _models(component):
        victim = _victim(model).eval()
        audio, _ = _audio(victim)
        with torch.no_grad():
            vectors = victim.embed(audio)
        ensure(vectors.ndim == 2 and len(vectors) == len(audio), f"{model!r} embeds as {tuple(vectors.shape)}")
        ensure(bool(torch.isfinite(vectors).all()), f"{model!r} embeds as NaN or infinite values")


def is_made_from_its_seed(component: type[Component]) -> None:
    """The same seed gives the same weights, another seed others, and no global random state moves."""
    for model in _models(component):
        with unchanged_random_state(f"making {model!r}"):
            first = _victim(model).state_dict()
        again, other = _victim(model).state_dict(), _victim(model, seed=1).state_dict()
        ensure(all(torch.equal(first[name], again[name]) for name in first), f"{model!r}: one seed, two models")
        ensure(any(not torch.equal(first[name], other[name]) for name in first), f"{model!r} ignores its seed")


def survives_half_precision(component: type[Component]) -> None:
    """Under bfloat16 autocast a training pass gives finite logits and gradients."""
    for model in _models(component):
        victim = _victim(model).train()
        audio, labels = _audio(victim)
        features = victim.features(audio)
        with Rng(0).scope(), torch.autocast("cpu", torch.bfloat16):
            logits = victim.network(features)
        ensure(bool(torch.isfinite(logits).all()), f"{model!r} gives NaN or infinite logits in bfloat16")
        torch.autograd.backward(nn.functional.cross_entropy(logits.float(), labels))
        for name, parameter in victim.named_parameters():
            gradient = parameter.grad
            finite = gradient is not None and bool(torch.isfinite(gradient).all())
            ensure(finite, f"{model!r}: the gradient of {name} is not finite in bfloat16")


def comes_back_from_files(component: type[Component]) -> None:
    """A saved victim is bit-equal when it is read again."""
    for model in _models(component):
        victim = _victim(model).eval()
        audio, _ = _audio(victim)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            save_victim(victim, Path(folder) / "victim")
            again = load_victim(Path(folder) / "victim")
            ensure(again.to_spec() == victim.to_spec(), f"{model!r} comes back as {again.model!r}")
            ensure(torch.equal(again(audio), victim(audio)), f"{model!r} gives other logits after it was saved")


def is_put_back_by_the_gradient_norm_step(component: type[Component]) -> None:
    """The perturbation of a gradient-norm step leaves no trace: without a learning rate, no bit of a weight changes."""
    for model in _models(component):
        victim = _victim(model).train()
        audio, labels = _audio(victim)
        network, features = victim.network, victim.features(audio)
        before = [parameter.detach().clone() for parameter in network.parameters()]

        def loss(network: nn.Module = network, features: Tensor = features, labels: Tensor = labels) -> Tensor:
            return nn.functional.cross_entropy(network(features), labels)

        with Rng(0).scope():
            GradientNormStep(0.7, 0.05)(network, torch.optim.SGD(network.parameters(), 0.0), loss)
        same = all(torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))
        ensure(same, f"{model!r} is not the same after a gradient-norm step without a learning rate")


def learns_a_few_clips_by_heart(component: type[Component]) -> None:
    """The default network names all of 32 clips after at most 128 steps on them."""
    model = _models(component)[0]
    victim = Victim.create(model, TOY_CLASSES, Rng(0).child("model"), clip_seconds=0.5)
    clips = tiny_clips(11, sample_rate_hz=victim.sample_rate_hz, seconds=0.5).select(range(32))
    rate = min(model.recipe.learning_rate, 1e-3)  # with Adam, whatever the recipe's optimizer
    recipe = Recipe(learning_rate=rate, epochs=2, batch_size=8, schedule="constant", clip_norm=1.0)
    right = 0.0
    for turn in range(16):
        fit_victim(victim, clips, recipe, Rng(0).child("fit", turn))
        right = accuracy(victim.network, ClipExamples(victim, clips))
        if right == 1.0:
            return
    raise AssertionError(f"{model!r} names {right:.0%} of 32 clips that it was trained on")
