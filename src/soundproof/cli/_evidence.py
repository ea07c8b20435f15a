"""What a report shows of a run: a few clips with and without the trigger, and how it was measured, in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from soundproof.attacks import Backdoor
from soundproof.audio.features import FeatureSpec, FrontEnd
from soundproof.bench.record import NO_DEFENSE
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.models import Applied, Victim
from soundproof.report import Evidence, Example
from soundproof.report._evidence import pick_rows

if TYPE_CHECKING:
    from soundproof.bench.checkup import Checkup
    from soundproof.bench.runner import Finished

CHECKUP_EXAMPLES = 4


def experiment_evidence(finished: Finished) -> Evidence:
    """The evidence of a finished run."""
    experiment, corpus, poisoned = finished.experiment, finished.corpus, finished.poisoned
    clips = finished.records[0].details["clips"]
    part = experiment.measure_on
    measured = corpus.test if part == "test" else corpus.validation
    models = {NO_DEFENSE: finished.victim, **finished.repaired}
    heard = poisoned.backdoors or (None,)
    each = math.ceil(experiment.examples / len(heard))
    shown = (gather_examples(measured, models, one, each, pick=finished.rng) for one in heard)
    backdoors = " and ".join(
        f"{one.stamp.trigger.full_name()} towards '{corpus.test.classes[one.target]}'" for one in poisoned.backdoors
    )
    summary = {
        "Corpus": f"{experiment.data.full_name()}: {clips['train']} training and {len(measured)} {part} clips, "
        f"{len(corpus.test.classes)} classes at {corpus.test.sample_rate_hz} Hz",
        "Attack": "none"
        if experiment.attack is None
        else f"{experiment.attack.full_name()} with {backdoors}: "
        f"{clips['poisoned']} of {clips['train']} training clips carry a trigger",
        "Victim": f"{experiment.model.full_name()}, {experiment.recipe.epochs} epochs on the training clips",
        "Defender": f"{finished.defender_clips} clean clips; "
        "every setting is chosen on a part of them that is held out",
        "Measured on": f"all {part} clips without a trigger (clean accuracy), and with it all that are attacked and "
        "not of the target's class (attack success, robust accuracy); intervals are Wilson's at 95 %",
        "Seconds": "training for the victim; for a repair all its trials, without the time of measuring it",
        "Seed": str(experiment.seed),
    }
    if skipped := finished.records[0].details["skipped"]:
        summary["Left out"] = f"{len(skipped)} recordings that could not be read: {'; '.join(skipped[:5])}"
    return Evidence(
        f"Experiment: {experiment.name}", "experiment", finished.records, list(itertools.chain(*shown)), summary
    )


def checkup_evidence(checkup: Checkup) -> Evidence:
    """The evidence of a repair of somebody's model."""
    suspicion = checkup.suspicion
    models = {NO_DEFENSE: checkup.victim, **checkup.repaired}
    examples = gather_examples(checkup.clips, models, checkup.backdoor, CHECKUP_EXAMPLES, pick=checkup.rng)
    after = checkup.records[-1]
    used = after.details["clips"]
    chosen = f"{used['held_out']} more, held out, chose its settings"
    if after.details.get("refitted"):
        chosen += ", and then it was tuned anew on all of them"
    summary = {
        "Model": f"{checkup.victim.title}, {len(checkup.victim.classes)} classes, {checkup.victim.sample_rate_hz} Hz",
        "Repair": f"{after.defense} on {used['fit']} clips; {chosen}",
        "Measured on": f"{len(checkup.clips)} clips that the repair did not see; intervals are Wilson's at 95 %",
        "Trigger": "none was given: only the clean accuracy is known"
        if suspicion is None
        else f"{suspicion.stamp.trigger.full_name()}, target '{suspicion.target}'; the repair was not told",
        "Seconds": "the repair with all its trials, without the time of measuring it",
        "Seed": str(checkup.rng.seed),
    }
    if checkup.notes:
        summary["Notes"] = "; ".join(checkup.notes)
    return Evidence(f"Repair with {after.defense}", "repair", checkup.records, examples, summary)


def gather_examples(
    clips: Clips,
    victims: Mapping[str, Victim],
    backdoor: Backdoor | None,
    count: int,
    *,
    pick: Rng,
) -> list[Example]:
    """A few clips, of different classes where there are enough and none of the target's, and what each model says.

    Args:
        clips: to choose from.
        victims: the models by the name of their defense, "none" first.
        backdoor: the trigger and its target, where they are known.
        count: how many.
        pick: decides which.
    """
    attacked = np.ones(len(clips), bool) if backdoor is None else backdoor.attacked(clips.labels)
    rows = pick_rows(clips, np.flatnonzero(attacked), pick, count)
    if not len(rows):
        return []
    victim = victims[NO_DEFENSE]
    rate = victim.sample_rate_hz
    device = next(victim.parameters()).device
    audio, lengths = clips.batch(rows, samples=victim.clip_samples)
    audio = audio.to(device)
    with torch.inference_mode():
        features = victim.features(audio, lengths=lengths)
        marked_audio, marked = None, None
        if backdoor is not None:
            applied = Applied(backdoor.stamp, backdoor.rng.draws(clips.keys[rows]))
            marked_audio = backdoor.stamp.on_audio(audio, rate, applied.draws)
            marked = victim.features(audio, [applied], lengths)
        said = {name: _said(model, features, marked) for name, model in victims.items()}
    clean_view, marked_view = _view(features, audio, rate), None
    if marked is not None and marked_audio is not None:
        marked_view = _view(marked, marked_audio, rate)
    return [
        Example(
            clip_id=str(clips.ids[row]),
            label=clips.classes[clips.labels[row]],
            sample_rate_hz=rate,
            clean=audio[place].cpu().numpy(),
            triggered=None if marked_audio is None else marked_audio[place].cpu().numpy(),
            clean_features=clean_view[place].cpu().numpy(),
            triggered_features=None if marked_view is None else marked_view[place].cpu().numpy(),
            predictions={name: (clean[place], triggered[place]) for name, (clean, triggered) in said.items()},
        )
        for place, row in enumerate(rows.tolist())
    ]


def _view(features: torch.Tensor, audio: torch.Tensor, sample_rate_hz: int) -> torch.Tensor:
    """Features to look at [batch, frames, coefficients]: a log-mel spectrogram where the model hears waveforms."""
    if features.ndim == 3:
        return features
    window = max(16, sample_rate_hz // 40)
    spec = FeatureSpec(sample_rate_hz=sample_rate_hz, n_fft=window, hop=max(1, window * 2 // 5), n_mels=40)
    return FrontEnd(spec).to(audio.device)(audio)


def _said(
    victim: Victim, features: torch.Tensor, marked: torch.Tensor | None
) -> tuple[list[str], list[str] | list[None]]:
    network = victim.network.eval()
    clean = [victim.classes[index] for index in network(features).argmax(-1).tolist()]
    if marked is None:
        return clean, [None] * len(clean)
    return clean, [victim.classes[index] for index in network(marked).argmax(-1).tolist()]
