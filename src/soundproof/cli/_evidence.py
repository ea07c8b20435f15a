"""What a report shows of a run: a few clips with and without the trigger, and how it was measured, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from soundproof.bench.record import NO_DEFENSE
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.models import Victim
from soundproof.report import Evidence, Example
from soundproof.report._evidence import pick_rows
from soundproof.triggers import Stamp

if TYPE_CHECKING:
    from soundproof.bench.checkup import Checkup
    from soundproof.bench.runner import Finished

CHECKUP_EXAMPLES = 4


def experiment_evidence(finished: Finished) -> Evidence:
    """The evidence of a finished run."""
    experiment, corpus, poisoned = finished.experiment, finished.corpus, finished.poisoned
    target = corpus.test.classes[poisoned.target]
    clips = finished.records[0].details["clips"]
    examples = gather_examples(
        corpus.test,
        {NO_DEFENSE: finished.victim, **finished.repaired},
        poisoned.stamp,
        poisoned.target,
        experiment.examples,
        pick=finished.rng,
        cue=poisoned.rng,
    )
    summary = {
        "Corpus": f"{experiment.data.full_name()}: {clips['train']} clips to train on, {clips['test']} to test on, "
        f"{len(corpus.test.classes)} classes at {corpus.test.sample_rate_hz} Hz",
        "Attack": f"{experiment.attack.full_name()} with {poisoned.stamp.trigger.full_name()}, target '{target}': "
        f"{clips['poisoned']} of {clips['train']} training clips carry the trigger",
        "Victim": f"{experiment.model.full_name()}, {experiment.recipe.epochs} epochs on the poisoned clips",
        "Defender": f"{clips['defender']} clean clips; every setting is chosen on a part of them that is held out",
        "Measured on": f"all test clips without the trigger (clean accuracy), and all that are not '{target}' with it "
        "(attack success, robust accuracy); intervals are Wilson's at 95 %",
        "Seconds": "training for the victim; for a repair all its trials, without the time of measuring it",
        "Seed": str(experiment.seed),
    }
    if skipped := finished.records[0].details["skipped"]:
        summary["Left out"] = f"{len(skipped)} recordings that could not be read: {'; '.join(skipped[:5])}"
    return Evidence(f"Experiment: {experiment.name}", "experiment", finished.records, examples, summary)


def checkup_evidence(checkup: Checkup) -> Evidence:
    """The evidence of a repair of somebody's model."""
    suspicion = checkup.suspicion
    stamp = None if suspicion is None else suspicion.stamp
    target = None if suspicion is None else checkup.clips.label_of(suspicion.target)
    models = {NO_DEFENSE: checkup.victim, **checkup.repaired}
    rng = checkup.rng
    examples = gather_examples(
        checkup.clips, models, stamp, target, CHECKUP_EXAMPLES, pick=rng, cue=rng.child("trigger")
    )
    after = checkup.records[-1]
    used = after.details["clips"]
    summary = {
        "Model": f"{checkup.victim.model.full_name()}, {len(checkup.victim.classes)} classes, "
        f"{checkup.victim.sample_rate_hz} Hz",
        "Repair": f"{after.defense} on {used['fit']} clips; {used['held_out']} more, held out, chose its settings",
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
    stamp: Stamp | None,
    target: int | None,
    count: int,
    *,
    pick: Rng,
    cue: Rng,
) -> list[Example]:
    """A few clips, of different classes where there are enough and none of the target's, and what each model says.

    Args:
        clips: to choose from.
        victims: the models by the name of their defense, "none" first.
        stamp: the trigger, where one is known.
        target: the class that the trigger brings about.
        count: how many.
        pick: decides which.
        cue: what the trigger's per-clip draws come from, as when it was measured.
    """
    rows = pick_rows(clips, target, pick, count)
    if not len(rows):
        return []
    victim = victims[NO_DEFENSE]
    rate = victim.sample_rate_hz
    device = next(victim.parameters()).device
    audio = clips.batch(rows, samples=victim.clip_samples)[0].to(device)
    draws = cue.draws(clips.keys[rows])
    with torch.inference_mode():
        features = victim.features(audio)
        marked_audio = None if stamp is None else stamp.on_audio(audio, rate, draws)
        marked = None if stamp is None else victim.features(audio, stamp, draws)
        said = {name: _said(model, features, marked) for name, model in victims.items()}
    return [
        Example(
            clip_id=str(clips.ids[row]),
            label=clips.classes[clips.labels[row]],
            sample_rate_hz=rate,
            clean=audio[place].cpu().numpy(),
            triggered=None if marked_audio is None else marked_audio[place].cpu().numpy(),
            clean_features=features[place].cpu().numpy(),
            triggered_features=None if marked is None else marked[place].cpu().numpy(),
            predictions={name: (clean[place], triggered[place]) for name, (clean, triggered) in said.items()},
        )
        for place, row in enumerate(rows.tolist())
    ]


def _said(
    victim: Victim, features: torch.Tensor, marked: torch.Tensor | None
) -> tuple[list[str], list[str] | list[None]]:
    network = victim.network.eval()
    clean = [victim.classes[index] for index in network(features).argmax(-1).tolist()]
    if marked is None:
        return clean, [None] * len(clean)
    return clean, [victim.classes[index] for index in network(marked).argmax(-1).tolist()]
