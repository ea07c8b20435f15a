"""Repair and evaluation in one call: ``soundproof.repair(module, clips)``, ``soundproof.evaluate(model, clips)``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from soundproof.bench.checkup import examine_model
from soundproof.bench.record import Record
from soundproof.bench.spec import Attacker
from soundproof.bench.suspicion import Suspicion, read_trigger
from soundproof.core import registry
from soundproof.core.errors import BadDataError, InvalidInputError
from soundproof.core.modes import evaluating
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.defenses import DefenderView, Repair, Repairer
from soundproof.models import HuggingFace, Victim
from soundproof.models._adapted import check_logits, check_module, taken
from soundproof.training import ClipExamples, Examples, TensorExamples
from soundproof.triggers import Stamp, Trigger


@dataclass(frozen=True)
class RepairedModule:
    """A repaired module and what is known about the repair.

    Attributes:
        module: the repaired copy, in evaluation mode; the module that was given is as it was.
        accuracy_before: the given module's accuracy on the held-out clips.
        accuracy_after: the repaired module's accuracy on the same clips, which it was not trained on; that of the
            candidate before it, if it was trained anew on all clips (``repair.refitted``).
        settings: the candidate that was chosen.
        repair: everything else: all trials, rows, seconds, notes.
    """

    module: nn.Module
    accuracy_before: float
    accuracy_after: float
    settings: Mapping[str, Any]
    repair: Repair

    @property
    def report(self) -> dict[str, Any]:
        """The numbers as plain values."""
        return {
            "accuracy_before": self.accuracy_before,
            "accuracy_after": self.accuracy_after,
            "held_out": len(self.repair.held_out_rows),
            "change": asdict(self.repair.held_out_change),
            "settings": dict(self.settings),
            "stronger": self.repair.stronger.details if self.repair.stronger else None,
            "seconds": self.repair.seconds,
            "notes": list(self.repair.notes),
        }


def repair(
    module: nn.Module,
    clips: Clips | tuple[Tensor, Tensor],
    method: str = "clear_hearing",
    *,
    unlabelled: Clips | Tensor | None = None,
    synthetic: Clips | tuple[Tensor, Tensor] | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
    **settings: Any,
) -> RepairedModule:
    """Repair any module that maps waveforms or features to logits.

    Args:
        module: inputs [batch, ...] to logits [batch, classes]; a :class:`Victim` keeps its front end out of the repair.
        clips: clean labelled recordings; or a pair of inputs [n, ...] and class indices [n], just as the module takes
            them (no augmentation then). A model of Hugging Face hears the longest of them whole, up to 30 s.
        method: a repair's name; ``soundproof list defenses/repair`` shows them.
        unlabelled: other clean recordings, whatever is said in them, for a repair that hears them (``clear_hearing``,
            ``gn_sd``); clips longer than the module hears at once are cut.
        synthetic: clips of the same classes by synthetic voices, to tune on besides (``soundproof.spoken`` makes some),
            or a pair, as for ``clips``; they choose no strength.
        seed: of everything random about the repair.
        progress: draws bars.
        **settings: fields of the method, such as ``alpha=0.5``.

    Raises:
        UnknownNameError: for an unknown method.
        BadDataError: for clips that do not fit the module, or classes with a single clip.
        InvalidInputError: for what is no module, or none that can be tuned here (TorchScript, a program of
            ``torch.export``, half precision); for unlabelled recordings or synthetic clips that the method makes no
            use of.
    """
    repairer = cast("Repairer", registry.from_spec("defenses/repair", {"name": method, **settings}))
    check_module(module)
    _check_trainable(module)
    if not isinstance(clips, Clips):
        clips = _pair(clips)
    module = _with_room(module, clips)
    network, examples = _examples(module, clips)
    _check(network, examples)
    others = None if unlabelled is None else _unlabelled(module, unlabelled, repairer)
    made = None if synthetic is None else _synthetic(module, synthetic, repairer)
    view = DefenderView(network, examples, others, made)
    done = repairer.repair(view, Rng(seed).child("repair"), progress=progress)
    return RepairedModule(
        module.with_network(cast("Any", done.network)).eval() if isinstance(module, Victim) else done.network,
        done.reference_accuracy,
        done.held_out_accuracy,
        done.trials[done.chosen].settings,
        done,
    )


def evaluate(
    model: nn.Module,
    clips: Clips,
    *,
    trigger: Trigger | Mapping[str, Any] | str | Path | None = None,
    target: str | None = None,
    sounds: Path | str | None = None,
    voices: Path | str | None = None,
    seed: int = 0,
) -> Record:
    """Measure a model on clips, as ``soundproof evaluate`` does; its ``metrics`` are the answer.

    ``clean_accuracy``, and with a trigger ``attack_success_rate`` and ``robust_accuracy``, each with counts and its
    95 % interval: ``record.metrics["clean_accuracy"].value``.

    Args:
        model: a Soundproof model, one of Hugging Face (``soundproof.training.load_model`` reads both), or any module
            through :func:`soundproof.adapt`.
        clips: labelled recordings at the model's sample rate, with its classes.
        trigger: a known or suspected cue: a name (``soundproof list triggers``), a table with ``name`` and fields, a
            trigger, or the path of a TOML file.
        target: the label that the trigger brings about.
        sounds: a folder of sounds that the attacker may use, for triggers that take one.
        voices: a folder of voices that the attacker can imitate, for triggers that speak with one.
        seed: of what is random about the trigger.

    Raises:
        UnknownNameError: for an unknown trigger or target.
        BadDataError: for clips that do not fit the model.
        InvalidInputError: if the model is just a module, or the trigger does not fit the model or goes without target.
    """
    if not isinstance(model, Victim):
        raise InvalidInputError(
            f"evaluate takes a model that hears recordings, got a {type(model).__name__}: wrap a module with "
            "soundproof.adapt(module, classes=…, …)"
        )
    if (trigger is None) != (target is None):
        raise InvalidInputError("trigger and target go together: the cue, and the label that it brings about")
    if trigger is None and (sounds is not None or voices is not None):
        raise InvalidInputError("sounds and voices are what a trigger is made of: give the trigger, too")
    suspicion = None
    if trigger is not None and target is not None:
        attacker = Attacker().bringing(sounds, voices)
        if isinstance(trigger, Path):
            suspicion = read_trigger(trigger, target, attacker)
        else:
            cue = trigger if isinstance(trigger, Trigger) else registry.from_spec("triggers", trigger)
            suspicion = Suspicion(Stamp(cast("Trigger", cue)), target, attacker)
    _check_classes(model, clips)
    return examine_model(cast("Victim", _with_room(model, clips)), clips, seed=seed, suspicion=suspicion).records[0]


def _with_room(module: nn.Module, clips: Clips | tuple[Tensor, Tensor]) -> nn.Module:
    """A model of Hugging Face has no clip length of its own: one around the same network that hears the longest."""
    if not isinstance(module, HuggingFace):
        return module
    roomy = module.with_network(module.network)
    roomy.make_room(int(clips.lengths.max(initial=0)) if isinstance(clips, Clips) else clips[0].shape[-1])
    return roomy


def _pair(given: object) -> tuple[Tensor, Tensor]:
    """Inputs and labels as tensors, if they can be used.

    Raises:
        InvalidInputError: if it is no pair.
        BadDataError: if they are no numbers, or some inputs are not finite.
    """
    if not isinstance(given, (tuple, list)) or len(cast("list[object]", given)) != 2:
        raise InvalidInputError(
            "clips must be soundproof.Clips, or a pair of inputs [n, ...] and class indices [n], got "
            f"{type(given).__name__} {given!r:.40}: Clips.from_audio makes some of arrays"
        )
    inputs, labels = cast("list[object]", given)
    examples, classes = _tensor("inputs", inputs), _tensor("labels", labels)
    if classes.is_floating_point() or classes.is_complex():
        raise BadDataError(f"the labels must be class indices, whole numbers, got {classes.dtype}")
    flat = examples.flatten(1) if examples.ndim > 1 else examples[:, None]
    broken = int((~flat.isfinite().all(1)).sum())
    if broken:
        raise BadDataError(f"{broken} of {len(flat)} inputs hold NaN or infinite numbers; leave them out")
    return examples, classes


def _tensor(name: str, value: object) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise BadDataError(f"the {name} must be a tensor or an array of numbers, got {type(value).__name__}") from None


def _examples(module: nn.Module, clips: Clips | tuple[Tensor, Tensor]) -> tuple[nn.Module, Examples]:
    if isinstance(module, Victim):
        if not isinstance(clips, Clips):
            clips = Clips.from_audio(
                clips[0].cpu(), clips[1].cpu().numpy(), classes=module.classes, sample_rate_hz=module.sample_rate_hz
            )
        _check_classes(module, clips)
        return module.network, ClipExamples(module, clips)
    if isinstance(clips, Clips):
        audio, _ = clips.batch()
        clips = audio, torch.from_numpy(clips.labels)
    return module, TensorExamples(*clips)


def _check_classes(model: Victim, clips: Clips) -> None:
    if clips.classes != model.classes:
        raise BadDataError(f"the clips' classes {clips.classes} are not the model's {model.classes}, in this order")


def _unlabelled(module: nn.Module, recordings: Clips | Tensor, repairer: Repairer) -> Examples:
    repairer.check_takes("unlabelled")
    if isinstance(module, Victim) and isinstance(recordings, Clips):
        return ClipExamples(module, recordings.pieces(module.clip_samples))
    inputs = recordings.batch()[0] if isinstance(recordings, Clips) else recordings
    if isinstance(module, Victim):
        raise BadDataError("give unlabelled recordings for a Soundproof model as Clips, which know their sample rate")
    return TensorExamples(inputs, torch.zeros(len(inputs), dtype=torch.long))


def _synthetic(module: nn.Module, clips: Clips | tuple[Tensor, Tensor], repairer: Repairer) -> Examples:
    repairer.check_takes("synthetic")
    return _examples(module, clips if isinstance(clips, Clips) else _pair(clips))[1]


def _check_trainable(module: nn.Module) -> None:
    """Refuse what would break down at the first step."""
    if any(isinstance(layer, torch.jit.ScriptModule) for layer in module.modules()):
        raise InvalidInputError(
            "the module is TorchScript, which cannot be copied and tuned: build its network in Python, and load the "
            "script's state_dict() into that"
        )
    for name, parameter in module.named_parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            kind = str(parameter.dtype).removeprefix("torch.")
            raise InvalidInputError(f"'{name}' is in {kind}, too coarse for small steps: give module.float()")
    if not any(p.requires_grad for p in module.parameters()):
        raise InvalidInputError("the module has no trainable parameter, so there is nothing to repair")


def _check(network: nn.Module, examples: Examples) -> None:
    if not len(examples):
        raise BadDataError("there are no clean clips; a repair needs at least two of every class")
    with torch.no_grad(), evaluating(network):
        device = next(network.parameters()).device
        few = examples.inputs(np.arange(min(2, len(examples)))).to(device)
        logits = taken(lambda: network(few), f"the module cannot take inputs {tuple(few.shape)}", "their shape")
    check_logits(logits, len(few))
    if wrong := [label for label in examples.labels.tolist() if not 0 <= label < logits.shape[1]]:
        raise BadDataError(f"labels must lie in 0 … {logits.shape[1] - 1}, got {wrong[0]}")
