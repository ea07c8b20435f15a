"""Models that a run needs: from the store, or trained now and kept there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from soundproof.bench.provenance import PeakMemory, device_name, versions
from soundproof.bench.store import Trained, VictimStore
from soundproof.core.errors import InvalidInputError
from soundproof.core.progress import SILENT, Progress
from soundproof.core.recipe import Recipe
from soundproof.core.seeds import Rng
from soundproof.data import Clips
from soundproof.models import Model, Victim
from soundproof.training import Cue, fit_victim
from soundproof.triggers import Surrogate


@dataclass(frozen=True)
class Trainer:
    """Trains each model once.

    Attributes:
        store: where models are kept.
        progress: told how far the work is.
        fresh: train anew what lies in the store.
        may_train: train what does not lie there; what needs it is refused otherwise.
        trained_here: addresses that are not trained anew again.
    """

    store: VictimStore
    progress: Progress = SILENT
    fresh: bool = False
    may_train: bool = True
    trained_here: set[str] = field(default_factory=set[str])

    def model(
        self,
        place: str,
        model: Model,
        recipe: Recipe,
        clips: Clips,
        rng: Rng,
        *,
        clip_seconds: float,
        validation: Clips | None = None,
        cues: Sequence[Cue] = (),
    ) -> Trained:
        """The model of an address, trained on some clips.

        Raises:
            InvalidInputError: if it would have to be trained and must not be, or its training broke down.
        """
        anew = self.fresh and place not in self.trained_here
        if not anew and (found := self.store.load(place)):
            return found
        if not self.may_train:
            raise InvalidInputError("it needs a model that is not kept on this machine: run the cell here first")
        with self.store.lock(place, self.progress):
            if not anew and (found := self.store.load(place)):  # another process may have trained it meanwhile
                return found
            self.trained_here.add(place)
            if anew:
                self.store.checkpoint(place).clear()
            victim = Victim.create(model, clips.classes, rng.child("weights"), clip_seconds=clip_seconds)
            return self._train(place, victim, recipe, clips, rng, validation, cues)

    def surrogate(
        self, place: str, model: Model, recipe: Recipe, clips: Clips, rng: Rng, *, clip_seconds: float
    ) -> Surrogate:
        """An attacker's own model, trained on the clean training clips.

        Raises:
            InvalidInputError: as above.
        """
        recipe = recipe.override({"patience": 0})  # the attacker has no validation clips
        trained = self.model(place, model, recipe, clips, rng, clip_seconds=clip_seconds)
        # triggers are optimized where the recordings lie
        return trained.victim.cpu().eval().requires_grad_(False)

    def _train(
        self,
        place: str,
        victim: Victim,
        recipe: Recipe,
        clips: Clips,
        rng: Rng,
        validation: Clips | None,
        cues: Sequence[Cue],
    ) -> Trained:
        device = self.store.device
        victim.to(device)
        with PeakMemory(device) as memory:
            log = fit_victim(
                victim,
                clips,
                recipe,
                rng.child("training"),
                validation=validation,
                cues=cues,
                checkpoint=self.store.checkpoint(place),
                progress=self.progress,
            )
        if not all(bool(weight.isfinite().all()) for weight in victim.network.state_dict().values()):
            self.store.checkpoint(place).clear()
            raise InvalidInputError(
                "the training broke down, its weights are no finite numbers: lower training.learning_rate"
            )
        training = {
            "seconds": log.seconds,
            "peak_memory_bytes": memory.bytes,
            "device": device_name(device),
            "versions": versions(),
            "epochs": log.epochs,
        }
        return self.store.save(place, victim, training)
