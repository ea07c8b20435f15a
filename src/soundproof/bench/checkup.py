"""A model that somebody else trained: repair it on clean clips, and measure it before and after on others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from soundproof.attacks import Backdoor
from soundproof.bench.brought import Brought, file_digests
from soundproof.bench.holding import Held
from soundproof.bench.provenance import PeakMemory, device_name, versions
from soundproof.bench.record import CHANCE, NO_DEFENSE, Record, chance_of
from soundproof.bench.repairing import repair_victim
from soundproof.bench.spec import address, with_changes
from soundproof.bench.suspicion import Suspicion, check_suspicion, made_ready
from soundproof.bench.unseen import check_unseen, oddities, without
from soundproof.core import registry
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.data.folder import read_folder
from soundproof.defenses import Repairer
from soundproof.evaluation import Examiner
from soundproof.metrics import measure_all
from soundproof.models import HuggingFace, Victim

CURVE_POINTS = 8


@dataclass(frozen=True)
class Checkup:
    """What a model does on clips that no repair saw, before and, if it was repaired, after."""

    records: tuple[Record, ...]
    victim: Victim
    repaired: dict[str, Victim]
    clips: Clips
    """The clips that were measured on."""
    suspicion: Suspicion | None
    backdoor: Backdoor | None
    """The suspicion as it was measured."""
    rng: Rng
    notes: tuple[str, ...] = ()


def build_repair(method: str, changes: Sequence[str]) -> Repairer:
    """The repair of that name with ``field=value`` changes.

    Raises:
        InvalidInputError: for an unknown name or field, or a value that is not allowed.
    """
    return cast("Repairer", registry.from_spec("defenses/repair", with_changes({"name": method}, changes)))


def read_clips(
    folder: Path, victim: Victim, *, least: int = 1, skip_broken: bool = False, progress: Progress = SILENT
) -> tuple[Clips, tuple[str, ...]]:
    """The clips of a folder as the model takes them, and what is wrong with those that were left out.

    A label needs ``least`` clips, two where a repair is to choose its settings on some of them.

    Raises:
        BadDataError: if the folder is missing or empty, a label has too few clips, or the model does not know one.
        BadAudioError: if a recording is broken and ``skip_broken`` is not set.
    """
    rate, classes = victim.sample_rate_hz, victim.classes
    clips, broken = read_folder(folder, rate, classes=classes, least=least, skip_broken=skip_broken, progress=progress)
    if isinstance(victim, HuggingFace):  # it has no clip length of its own
        victim.make_room(int(clips.lengths.max()))
    return clips, broken


def examine_model(
    victim: Victim,
    clips: Clips,
    *,
    seed: int = 0,
    suspicion: Suspicion | None = None,
    skipped: tuple[str, ...] = (),
) -> Checkup:
    """What a model does on clips: clean accuracy and, with a suspicion, attack success and robust accuracy.

    Raises:
        InvalidInputError: if the trigger or the target does not fit the model, or all clips are of the target label.
    """
    return _Exam(victim, clips, Rng(seed), suspicion, skipped).checkup(())


def repair_model(
    victim: Victim,
    repairing: Clips,
    reporting: Clips,
    defense: Repairer,
    *,
    unlabelled: Clips | None = None,
    synthetic: Clips | None = None,
    seed: int = 0,
    suspicion: Suspicion | None = None,
    skipped: tuple[str, ...] = (),
    progress: Progress = SILENT,
) -> Checkup:
    """Repair a model on some clips, and measure it before and after on others.

    Args:
        victim: the model as received; it is not changed.
        repairing: all the clips that the repair may see.
        reporting: the clips to measure on; none of them may be among those of the repair.
        defense: the repair.
        unlabelled: recordings without labels, for a repair that hears them; those to measure on are left out.
        synthetic: clips of the same classes by synthetic voices, for a repair that tunes on them.
        seed: of the repair's randomness.
        suspicion: the trigger and its target, where known; the repair is not told.
        skipped: recordings that were left out, for the record.
        progress: told how far the work is.

    Raises:
        BadDataError: if the repair would see what is measured on.
        InvalidInputError: if the trigger or the target does not fit the model, the clips do not suffice, or the repair
            makes no use of recordings without labels or of synthetic clips.
    """
    check_unseen(repairing, reporting)
    if unlabelled is not None:
        defense.check_takes("unlabelled")
        unlabelled = without(unlabelled, reporting)
    if synthetic is not None:
        defense.check_takes("synthetic")
    exam = _Exam(victim, reporting, Rng(seed), suspicion, skipped)
    done = repair_victim(
        victim,
        Held(repairing, unlabelled, synthetic),
        defense,
        exam.rng.child("repair"),
        examiner=exam.examiner,
        curve_points=CURVE_POINTS if suspicion else 0,
        progress=progress,
    )
    spec = {**exam.spec, "defense": defense.to_spec(), "clips": repairing.digest()}
    for name, others in (("unlabelled", unlabelled), ("synthetic", synthetic)):
        if others is not None:
            spec[name] = others.digest()
    record = Record(
        spec=spec,
        fingerprint=address(spec, exam.weights),
        defense=defense.label,
        seed=seed,
        metrics=measure_all(exam.examiner.examine(done.victim.network), before=exam.before),
        before=exam.measured,
        seconds=done.seconds,
        peak_memory_bytes=done.peak_memory_bytes,
        versions=versions(),
        device=device_name(victim.device),
        details=done.details,
    )
    notes = (*done.details["notes"], *oddities(repairing, "to repair with"))
    return exam.checkup((record,), {defense.label: done.victim}, notes)


class _Exam:
    """A model measured on clips: what before and after have in common."""

    def __init__(
        self, victim: Victim, clips: Clips, rng: Rng, suspicion: Suspicion | None, skipped: tuple[str, ...]
    ) -> None:
        check_suspicion(victim, suspicion)
        target = None if suspicion is None else clips.label_of(suspicion.target)
        if suspicion is not None and (clips.labels == target).all():
            raise InvalidInputError(
                f"all clips to measure on are of the target label '{suspicion.target}': attack success needs others"
            )
        made_of = Brought()
        if suspicion is not None and target is not None:
            suspicion, made_of = made_ready(suspicion, clips, victim, target, rng.child("cue"))
        self.victim, self.clips, self.rng, self.suspicion = victim, clips, rng, suspicion
        self.skipped = (*skipped, *made_of.skipped)
        self.weights = weights_digest(victim)
        stamp = None if suspicion is None else suspicion.stamp
        self.spec = {
            "model": victim.to_spec(),
            "weights": self.weights,
            "measured_on": clips.digest(),
            "trigger": None if stamp is None else stamp.trigger.to_spec(),
            "clipping": None if stamp is None else stamp.clipping,
            "files": [*file_digests(None if stamp is None else stamp.trigger), *made_of.digests],
            "target": None if suspicion is None else suspicion.target,
            "seed": rng.seed,
        }
        with PeakMemory(victim.device) as self.memory:
            self.backdoor = None
            if suspicion is not None and target is not None:
                self.backdoor = Backdoor(suspicion.stamp, target, rng.child("trigger"))
            self.examiner = Examiner(victim, clips, [] if self.backdoor is None else [self.backdoor])
            self.before = self.examiner.examine(None)
        self.measured = measure_all(self.before, before=self.before)

    def checkup(
        self, after: tuple[Record, ...], repaired: dict[str, Victim] | None = None, notes: tuple[str, ...] = ()
    ) -> Checkup:
        """The record of the model as received, then those given."""
        record = Record(
            spec=self.spec,
            fingerprint=address(self.spec, self.weights),
            defense=NO_DEFENSE,
            seed=self.rng.seed,
            metrics=self.measured,
            seconds=0.0,
            peak_memory_bytes=self.memory.bytes,
            versions=versions(),
            device=device_name(self.victim.device),
            details={
                "clips": {"measured": len(self.clips)},
                CHANCE: chance_of(self.clips.labels),
                "skipped": list(self.skipped),
            },
        )
        cue = {} if self.suspicion is None else self.suspicion.stamp.describe()
        if cue:
            notes = (*notes, "the trigger as it was played: " + ", ".join(f"{key} {cue[key]}" for key in cue))
        if self.skipped:
            one = len(self.skipped) == 1
            said = "one recording was" if one else f"{len(self.skipped)} recordings were"
            notes = (*notes, f"{said} left out: {'; '.join(self.skipped[:5])}")
        notes = (*notes, *oddities(self.clips, "to measure on"))
        if absent := [name for name, count in self.clips.counts().items() if not count]:
            notes = (*notes, f"no clips to measure on are of {', '.join(absent)}")
        records = (record, *after)
        return Checkup(records, self.victim, repaired or {}, self.clips, self.suspicion, self.backdoor, self.rng, notes)


def weights_digest(victim: Victim) -> str:
    """A hash of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(victim.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
