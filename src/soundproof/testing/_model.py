"""The rules of models: every parameter learns, nothing is NaN, and clips of a batch do not see each other."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from soundproof.core.component import Component
from soundproof.core.seeds import Rng
from soundproof.models import Model, Victim
from soundproof.testing._check import ensure, unchanged_random_state
from soundproof.testing._samples import samples
from soundproof.testing._toys import TOY_CLASSES, tiny_clips


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
