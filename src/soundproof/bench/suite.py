"""A suite: one experiment with axes, and every combination of their options with every seed and defense as a cell."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, cast

from pydantic import Field, ValidationError, model_validator

from soundproof.bench.cell import Cell as Cell
from soundproof.bench.cell import select as select
from soundproof.bench.changes import leaves, read_toml, with_changes, with_values
from soundproof.bench.contents import Contents
from soundproof.bench.record import NO_DEFENSE
from soundproof.bench.spec import Experiment, experiment_of
from soundproof.bench.suite_parts import DEFENSE, Fallback, Option, PaperRow, Remark, TableShape
from soundproof.core import registry
from soundproof.core.errors import InvalidInputError, UnknownNameError, did_you_mean, sentence
from soundproof.core.files import expanded
from soundproof.core.settings import Settings

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
Choices = dict[str, tuple[str, ...]]


class Suite(Settings):
    """A benchmark, as its file says."""

    name: Name
    """Names the folder of its results."""
    title: str
    """What it measures."""
    note: str = ""
    """Said in each record, where the numbers are not what the title promises."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    """Every combination runs with each."""
    experiment: dict[str, Any]
    """What all cells share: an experiment's table, without name and seed."""
    axes: dict[Name, Annotated[dict[Name, Option], Field(min_length=1)]] = Field(default_factory=dict)
    """What is varied, in the order in which names are made."""
    only: tuple[Choices, ...] = ()
    """If there are any, a cell must match one of these: an option of each axis that it names, and one of the defenses
    if it names any. The victim of a defense that is kept is kept as well."""
    skip: tuple[Choices, ...] = ()
    """Cells that match one of these are left out: whole combinations, or with ``defense`` those of these defenses."""
    paper: tuple[PaperRow, ...] = ()
    """Published numbers to stand beside the measured ones."""
    remark: tuple[Remark, ...] = ()
    """Why measured numbers are not the published ones."""
    against: dict[str, str] = Field(default_factory=dict)
    """Defenses that are not the paper's, and which of the paper's each is held against, such as
    ``{ clear_hearing = "gn_ft" }``."""
    table: TableShape = TableShape()
    """How the results are laid out."""
    fallback: Fallback | None = None
    """What takes the place of a corpus that is not there."""
    changes: tuple[str, ...] = ()
    """Changes to the experiment of every cell, made last, such as ``data.root=/corpora/speech_commands``."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if twice := [str(seed) for seed in self.seeds if self.seeds.count(seed) > 1]:
            raise InvalidInputError(
                f"suite {self.name}: seed {twice[0]} is there twice, so two cells would have the same name"
            )
        owned = [name for name in ("name", "seed") if name in with_changes(self.experiment, self.changes)]
        if owned:
            raise InvalidInputError(
                f"suite {self.name}: its experiment takes no {owned[0]}: cells are named after the options, and "
                "run with all of its seeds (--seeds)"
            )
        if reserved := {DEFENSE, "seed"} & set(self.axes):
            raise InvalidInputError(f"suite {self.name}: an axis cannot be called '{reserved.pop()}'")
        named = [("only", choices) for choices in self.only] + [("skip", choices) for choices in self.skip]
        named += [("paper", self._choices(row)) for row in self.paper]
        named += [("remark", self._choices(row)) for row in self.remark]
        for place, choices in named:
            for axis, options in choices.items():
                self._check_options(f"suite {self.name}: [[{place}]]", axis, options)
        for axis in (*self.table.rows, *self.table.columns):
            self._check_options(f"suite {self.name}: [table]", axis, ())
        self._check_changes()
        for axis, options in self.axes.items():
            labels = [option.label for option in options.values() if option.label]
            if twice := [label for label in labels if labels.count(label) > 1]:
                raise InvalidInputError(f"suite {self.name}: two options of the axis '{axis}' are called '{twice[0]}'")
        rows = [(row.options, row.defense) for row in self.paper]
        if twice := [row for row in rows if rows.count(row) > 1]:
            where = "/".join((*twice[0][0].values(), twice[0][1]))
            raise InvalidInputError(f"suite {self.name}: two [[paper]] rows are about {where}")
        for metric in {metric for row in self.paper for metric in row.metrics}:
            registry.get("metrics", metric)
        return self

    def _check_changes(self) -> None:
        """Refuse changes that would undo what an axis says: its labels would be of other cells then."""
        changed = [tuple(change.partition("=")[0].strip().split(".")) for change in self.changes]
        for axis, options in self.axes.items():
            for option, one in options.items():
                for path, _ in leaves(one.set):
                    if undone := [way for way in changed if path[: len(way)] == way]:
                        raise InvalidInputError(
                            f"suite {self.name}: {'.'.join(undone[0])} is what the axis '{axis}' sets for '{option}', "
                            "so it cannot be changed for all cells: choose cells (--only), or write a suite of your own"
                        )

    @staticmethod
    def _choices(row: PaperRow | Remark) -> Choices:
        return {axis: (option,) for axis, option in row.options.items()}

    def _check_options(self, where: str, axis: str, options: Sequence[str]) -> None:
        if axis == DEFENSE:
            if NO_DEFENSE in options:
                raise InvalidInputError(
                    f"{where} names the defense '{NO_DEFENSE}', but a victim is kept as long as any of its defenses "
                    "is: leave the defense out to name whole combinations"
                )
            return  # which defenses there are is known once the experiments are made
        if axis not in self.axes:
            raise UnknownNameError(f"{where} names no axis '{axis}': {did_you_mean(axis, self.axes)}")
        for option in options:
            if option not in self.axes[axis]:
                known = did_you_mean(option, self.axes[axis])
                raise UnknownNameError(f"{where} names no option '{option}' of the axis '{axis}': {known}")

    def with_seeds(self, seeds: Sequence[int]) -> Suite:
        """The same suite with other seeds.

        Raises:
            InvalidInputError: if there are none, or one is there twice.
        """
        try:
            return Suite.model_validate({**dict(self), "seeds": tuple(seeds)})
        except ValidationError as error:
            raise InvalidInputError(sentence(error, Suite.model_fields, f"suite {self.name}")) from None

    def combinations(self) -> Iterator[dict[str, str]]:
        """An option of each axis, for all combinations that run."""
        for chosen in itertools.product(*self.axes.values()):
            options = dict(zip(self.axes, chosen, strict=True))
            wanted = not self.only or any(_matches(options, choices) for choices in self.only)
            if wanted and not any(_matches(options, choices) for choices in self.skip if DEFENSE not in choices):
                yield options

    def _runs(self, options: Mapping[str, str], defense: str) -> bool:
        """Whether a defense is run on a combination that is not left out."""

        def named(choices: Choices) -> bool:
            return _matches(options, choices) and defense in choices.get(DEFENSE, (defense,))

        return (not self.only or any(map(named, self.only))) and not any(map(named, self.skip))

    def cells(self, contents: Contents | None = None) -> tuple[Cell, ...]:
        """All cells: seed by seed, combination by combination, the victim's record before its defenses'.

        No recording is read for that: a cell reads what its address needs when it is asked for it.

        Args:
            contents: looks the corpora up, if it is to be shared with others.

        Raises:
            InvalidInputError: for an unknown component or field, a value that is not allowed, or if no cell is left.
        """
        shared = contents or Contents()
        experiments = [(options, self._experiment(options)) for options in self.combinations()]
        if not experiments:
            raise InvalidInputError(f"suite {self.name} has no cells: its only and skip leave out every combination")
        labels = {label for _, experiment in experiments for label in experiment.defense_labels()}
        self._check_defenses({NO_DEFENSE, *labels})
        return tuple(
            Cell("/".join((*options.values(), label, str(seed))), options, seed, label, seeded, shared)
            for seed in self.seeds
            for options, experiment in experiments
            for seeded in (experiment.model_copy(update={"seed": seed}),)
            for label in (NO_DEFENSE, *experiment.defense_labels())
            if label == NO_DEFENSE or self._runs(options, label)
        )

    def _check_defenses(self, known: Collection[str]) -> None:
        named = [("[[paper]]", row.defense) for row in self.paper]
        named += [("[[remark]]", row.defense) for row in self.remark]
        named += [("against", label) for pair in self.against.items() for label in pair]
        for place, entries in (("[[only]]", self.only), ("[[skip]]", self.skip)):
            named += [(place, label) for choices in entries for label in choices.get(DEFENSE, ())]
        for place, label in named:
            if label not in known:
                raise UnknownNameError(
                    f"suite {self.name}: {place} names no defense '{label}': {did_you_mean(label, known)}"
                )

    def _experiment(self, options: Mapping[str, str]) -> Experiment:
        table = dict(self.experiment)
        try:
            for axis, option in options.items():
                table = with_values(table, self.axes[axis][option].set)
            return experiment_of({**with_changes(table, self.changes), "name": self.name})
        except InvalidInputError as error:
            where = "/".join((self.name, *options.values()))
            raise type(error)(f"suite {where}: {error}") from None


def _matches(options: Mapping[str, str], choices: Choices) -> bool:
    return all(options[axis] in wanted for axis, wanted in choices.items() if axis != DEFENSE)


def read_suite(suite: Path | str, changes: Sequence[str] = ()) -> Suite:
    """The suite of a TOML file, or of the name of one that comes with the package.

    Args:
        suite: a path, or a name such as ``smoke``.
        changes: ``path=value`` changes to the experiment of every cell, over the suite's own.

    Raises:
        BadDataError: if the file cannot be read or is not TOML.
        InvalidInputError: for an unknown name or field, or a value that is not allowed.
    """
    path = find_suite(suite)
    try:
        found = Suite.model_validate(read_toml(path))
        experiment = found.experiment
        fallback: dict[str, Any] = {}
        if found.fallback and _missing(experiment) and not any(c.strip().startswith("data.root") for c in changes):
            title, note = found.fallback.title, found.fallback.note
            fallback = {"experiment": {**experiment, "data": found.fallback.data}, "title": title, "note": note}
        return Suite.model_validate({**dict(found), **fallback, "changes": (*found.changes, *changes)})
    except ValidationError as error:
        raise InvalidInputError(sentence(error, Suite.model_fields, str(path))) from None


def _missing(experiment: Mapping[str, Any]) -> bool:
    data = experiment.get("data")
    root = cast("Mapping[str, Any]", data).get("root") if isinstance(data, Mapping) else None
    return isinstance(root, str) and not expanded(Path(root)).is_dir()


def suite_files() -> dict[str, Path]:
    """The suites that come with the package (in a checkout those of ``benchmarks/suites``), by name."""
    packed, checkout = Path(__file__).parent / "suites", Path(__file__).parents[3] / "benchmarks" / "suites"
    files = sorted((packed if packed.is_dir() else checkout).glob("*.toml"))
    return {file.stem: file for file in files if "experiment" in read_toml(file)}


def find_suite(suite: Path | str) -> Path:
    """The file of a suite.

    Raises:
        UnknownNameError: if it is neither a file nor the name of a suite that comes with the package.
    """
    path = Path(suite)
    if path.suffix == ".toml" or path.is_file():
        return path
    known = suite_files()
    if str(suite) not in known:
        raise UnknownNameError(f"there is no suite '{suite}': {did_you_mean(str(suite), known)}, or give a TOML file")
    return known[str(suite)]
