"""What an experiment is: a TOML file, checked as a whole before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import Field, ValidationError, field_validator, model_validator

from soundproof.attacks import Attack
from soundproof.audio.features import preset
from soundproof.bench.changes import read_toml as read_toml
from soundproof.bench.changes import with_changes as with_changes
from soundproof.core.component import LATER, fields_of, fingerprint
from soundproof.core.errors import InvalidInputError, sentence
from soundproof.core.recipe import Augmentation, Recipe
from soundproof.core.settings import Settings
from soundproof.data import Dataset
from soundproof.defenses import Repairer
from soundproof.models import Model

S = TypeVar("S", bound=Settings)

SCHEMA = 2
"""Part of every fingerprint. Raise it when a change of the code changes results, so that old ones are not reused."""


class Defender(Settings):
    """What the defender holds: clean clips, drawn from the training clips as they were before the attack."""

    clean_clips: Annotated[int, Field(ge=2)] | None = None
    """Number of clean clips; give this or ``clean_fraction``."""
    clean_fraction: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Clean clips as a share of the training clips; 0.05 if neither is given."""
    data: Annotated[Dataset | None, LATER] = None
    """A corpus of the defender's own, with the same labels, whose training clips take the place of the victim's: other
    speakers, or synthetic speech."""
    part: Annotated[Literal["training", "validation"], LATER] = "training"
    """Which clips of the corpus: those that the victim was trained on, or those of the validation set, whose speakers
    (where sets are speaker-disjoint) it never heard."""
    recorded: Annotated[Augmentation, LATER] = Augmentation()
    """What lies between the clean clips and the defender's microphone, once and for all: rooms, noise, level."""
    unlabelled: Annotated[str | None, LATER] = None
    """A folder of other clean speech, whatever is said in it, for repairs that hear it. ``$NAME`` stands for an
    environment variable."""
    synthetic_clips: Annotated[int, Field(ge=0), LATER] = 0
    """How many clips of the same words by synthetic voices there are besides, for repairs that tune on them."""

    @model_validator(mode="before")
    @classmethod
    def _default(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and not {"clean_clips", "clean_fraction"} & set(cast("Mapping[str, Any]", value)):
            return {**cast("Mapping[str, Any]", value), "clean_fraction": 0.05}
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.clean_clips is None) == (self.clean_fraction is None):
            raise InvalidInputError("[defender] takes exactly one of clean_clips and clean_fraction")
        return self

    def count(self, training_clips: int) -> int:
        """How many clean clips that is, out of so many training clips.

        Raises:
            InvalidInputError: if there are not so many.
        """
        if self.clean_clips is not None:
            if self.clean_clips > training_clips:
                raise InvalidInputError(
                    f"the defender wants {self.clean_clips} clean clips, but there are only {training_clips} "
                    f"{self.part} clips; lower defender.clean_clips"
                )
            return self.clean_clips
        return max(1, round((self.clean_fraction or 0.0) * training_clips))


class Attacker(Settings):
    """What the attacker brings along, for triggers that are chosen or optimized with it."""

    surrogate: Model | None = None
    """The architecture of the attacker's own model; the victim's if none is given. It is trained on the clean
    training clips when a trigger asks for it."""
    surrogate_training: dict[str, Any] = Field(default_factory=dict)
    """Changes to that model's training recipe, such as ``epochs = 10``."""
    sounds: str | None = None
    """A folder of sounds to choose a trigger from. ``$NAME`` stands for an environment variable."""
    voices: str | None = None
    """A folder of recordings whose voices can be imitated, ``<speaker>/<file>`` or each file a voice of its own."""

    def bringing(self, sounds: Path | str | None, voices: Path | str | None) -> Self:
        """The same attacker with these folders, where they are given."""
        given = {"sounds": sounds, "voices": voices}
        return self.override({name: str(folder) for name, folder in given.items() if folder is not None})


class Experiment(Settings):
    """One experiment: a corpus, an attack, a model trained on the poisoned clips, and the defenses to compare."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "experiment"
    """Names the default output folder."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The one number that all randomness of the run is derived from, by name."""
    data: Dataset
    """The corpus."""
    attack: Attack | None
    """How the training clips are poisoned, and with which trigger; ``"none"`` for a victim trained on clean clips."""
    model: Model
    """The architecture."""
    attacker: Attacker = Attacker()
    """What the attacker brings along."""
    clip_seconds: Annotated[float, Field(gt=0.0, le=60.0)] = 1.0
    """Clips are padded or cut to so many seconds for the model."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Changes to the model's own training recipe, such as ``epochs = 10``."""
    defender: Defender = Defender(clean_fraction=0.05)
    """What the defender holds."""
    defenses: tuple[Repairer, ...] = ()
    """The repairs to run, each on the same victim and the same clean clips."""
    clean_reference: bool = False
    """Also train the model on the clean clips, to know its clean accuracy and how often the trigger fools it."""
    curve_points: Annotated[int, Field(ge=0, le=1000)] = 8
    """How often a repair is measured while it runs, for the curve in the report; costs time, changes no result."""
    examples: Annotated[int, Field(ge=0, le=100)] = 4
    """How many test clips the report lets you see and hear."""
    measure_on: Literal["test", "validation"] = "test"
    """The clips that metrics are measured on. Choose settings on the validation clips, so that nobody tunes on the test
    clips."""

    @field_validator("attack", mode="before")
    @classmethod
    def _no_attack(cls, value: Any) -> Any:
        return None if value in ("none", {"name": "none"}) else value

    @model_validator(mode="after")
    def _checked(self) -> Self:
        _ = self.recipe
        _ = self.surrogate_recipe
        _ = self.sample_rate_hz
        if self.attacker.surrogate and preset(self.attacker.surrogate.frontend).sample_rate_hz != self.sample_rate_hz:
            raise InvalidInputError(
                "the surrogate's front end must have the sample rate of the victim's, "
                f"{self.sample_rate_hz} Hz: change attacker.surrogate.frontend"
            )
        return self

    @property
    def recipe(self) -> Recipe:
        """The model's recipe with the experiment's changes."""
        return type(self.model).recipe.override(self.training, "training")

    @property
    def surrogate(self) -> Model:
        """The architecture of the attacker's own model."""
        return self.attacker.surrogate or self.model

    @property
    def surrogate_recipe(self) -> Recipe:
        """The recipe of the attacker's own model with the experiment's changes."""
        return type(self.surrogate).recipe.override(self.attacker.surrogate_training, "attacker.surrogate_training")

    @property
    def sample_rate_hz(self) -> int:
        """The sample rate of the model's front end."""
        return preset(self.model.frontend).sample_rate_hz

    def surrogate_spec(self) -> dict[str, Any]:
        """All that determines the attacker's own model, as plain JSON."""
        return {
            "data": self.data.to_spec(),
            "surrogate": self.surrogate.to_spec(),
            "clip_seconds": self.clip_seconds,
            "training": fields_of(self.surrogate_recipe),
            "seed": self.seed,
        }

    def victim_spec(self, *, poisoned: bool = True) -> dict[str, Any]:
        """All that determines the victim (or, not poisoned, the clean reference model), as plain JSON."""
        attack = self.attack if poisoned else None
        brought = {} if self.attacker == Attacker() or attack is None else {"attacker": fields_of(self.attacker)}
        return {
            "data": self.data.to_spec(),
            "attack": None if attack is None else attack.to_spec(),
            **brought,
            "model": self.model.to_spec(),
            "clip_seconds": self.clip_seconds,
            "training": fields_of(self.recipe),
            "seed": self.seed,
        }

    def cell_spec(self, defense: Repairer | None) -> dict[str, Any]:
        """All that determines one record, as plain JSON."""
        spec = self.victim_spec()
        if self.measure_on != "test":
            spec["measure_on"] = self.measure_on
        if defense is None:
            return {**spec, "clean_reference": self.clean_reference}
        return {
            **spec,
            "defender": fields_of(self.defender),
            "defense": defense.to_spec(),
            "curve_points": 0,  # how often it was looked at changes no result: records of any number have one address
        }

    def defense_labels(self) -> tuple[str, ...]:
        """One name for each defense: its own, with a number from its second appearance on (``gn_ft-2``)."""
        seen: dict[str, int] = {}
        labels: list[str] = []
        for defense in self.defenses:
            name = defense.label
            seen[name] = seen.get(name, 0) + 1
            labels.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
        return tuple(labels)


def address(spec: Mapping[str, Any], content_key: str) -> str:
    """The content address of a result: its spec, the recordings on disk, and the code's schema version."""
    return fingerprint({"schema": SCHEMA, "content": content_key, "spec": dict(spec)})


def read_experiment(path: Path, changes: Sequence[str] = ()) -> Experiment:
    """The experiment of a TOML file, with changes such as ``attack.rate=0.05`` on top.

    Raises:
        BadDataError: if the file cannot be read or is not TOML (with line and column).
        InvalidInputError: for an unknown component or field, or a value that is not allowed.
    """
    return experiment_of(with_changes(read_toml(path), changes))


def experiment_of(table: Mapping[str, Any]) -> Experiment:
    """The experiment that a table stands for.

    Raises:
        InvalidInputError: for an unknown component or field, or a value that is not allowed.
    """
    fields = dict(table)
    if "defender" in fields:
        fields["defender"] = _parsed(Defender, fields["defender"], "[defender]")
    if "attacker" in fields:
        fields["attacker"] = attacker_of(fields["attacker"])
    return _parsed(Experiment, fields, "the experiment")


def attacker_of(table: Any) -> Attacker:
    """The attacker that a table ``[attacker]`` stands for.

    Raises:
        InvalidInputError: for an unknown component or field, or a value that is not allowed.
    """
    return _parsed(Attacker, table, "[attacker]")


def _parsed(kind: type[S], value: Any, owner: str) -> S:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise InvalidInputError(sentence(error, kind.model_fields, owner)) from None
