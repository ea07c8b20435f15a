"""The analyses of the GN-FT paper on SC10's victims: ``python -m benchmarks.analysis --help``.

Runs ``soundproof analyze all`` on ``analysis.toml`` with the options of the suite ``attacks`` (victims and repairs come
from the store and the work folder if they are there), and makes ``results/analysis/README.md`` from what that wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.cells import line
from soundproof.analysis.gradients import SIGNIFICANT, Comparison
from soundproof.bench.analyzing import CLEAN_TRAINED
from soundproof.bench.changes import leaves
from soundproof.bench.record import NO_DEFENSE
from soundproof.bench.suite import Suite, read_suite
from soundproof.bench.suite_parts import Option
from soundproof.cli import main as soundproof
from soundproof.core.files import write_text
from soundproof.report._text import ABSENT, display_name

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "analysis"
EXPERIMENT = HERE / "analysis.toml"
SUITES = (HERE / "suites" / "attacks.toml", HERE / "suites" / "gn_ft_table1.toml")
"""The second for the models that the first leaves out."""
CONTROLS = ("vsvc_control",)
"""Attacks that leave no backdoor, so there is nothing to look for."""
_FILES = ("neurons", "gradients", "embedding")
_CLAIMS = ("B > C", "H > C")

Found = Mapping[tuple[str, str], Mapping[str, Any]]
"""What the files of each model and attack say."""
Known = Mapping[str, tuple[Option, Option]]
"""Victims by model and attack as in the names of cells, with these two options of their suite."""


def victims(suites: Sequence[Suite]) -> Known:
    """Every victim of the suites; those of a model are taken from the first that has it."""
    found: dict[str, tuple[Option, Option]] = {}
    seen = set[str]()
    for suite in suites:
        models, attacks = suite.axes["model"], suite.axes["attack"]
        for options in suite.combinations():
            model, attack = options["model"], options["attack"]
            if model not in seen and attack not in CONTROLS:
                found[f"{model}/{attack}"] = models[model], attacks[attack]
        seen |= models.keys()
    return found


def known_victims() -> Known:
    """Those of the suites that are looked at."""
    return victims([read_suite(path) for path in SUITES])


def analyze(
    options: tuple[Option, Option], name: str, repair: str, work: Path, clips: int, *, reactivation: bool = False
) -> None:
    """One victim, and unless it is "none" one repair of it; or how fast its backdoor comes back after that repair."""
    values = [value for option in options for value in leaves(option.set)]
    values.append((("defenses",), "[]" if repair == NO_DEFENSE else f'[{{ name = "{repair}" }}]'))
    changes = [part for path, value in values for part in ("--set", f"{'.'.join(path)}={value}")]
    place = _place(name)
    run = work / (place if repair == NO_DEFENSE else f"{place}-{repair}")
    if reactivation:
        kind, out = ["reactivation"], _reactivation_folder(RESULTS, name) / repair
    else:
        kind, out = ["all", "--clips", str(clips)], RESULTS / place
    if code := soundproof(["analyze", *kind, str(EXPERIMENT), *changes, "--run", str(run), "--out", str(out)]):
        sys.exit(code)


def _place(name: str) -> str:
    """A victim's name as that of a folder."""
    return name.replace("/", "-")


def _reactivation_folder(results: Path, name: str) -> Path:
    """Where those of a victim are, in a folder for each repair."""
    return results / "reactivation" / _place(name)


def table(known: Known, results: Path) -> str:
    """Markdown of all numbers at hand."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, (model, attack) in known.items():
        folder = results / _place(name)
        if (folder / "neurons.json").is_file():
            titles = model.label, attack.label
            found[titles] = {part: json.loads((folder / f"{part}.json").read_text()) for part in _FILES}
    parts = (_claim(found), _neurons(found), _embedding(found), _reactivation(known, results), _speed(results))
    return "\n".join(row for part in parts for row in part) + "\n"


def _claim(found: Found) -> list[str]:
    before = [_comparisons(one["gradients"][NO_DEFENSE]) for one in found.values()]
    counts = {claim: sum(_holds(pairs, claim) for pairs in before) for claim in _CLAIMS}
    tested = {claim: sum(any(pair.name == claim for pair in pairs) for pairs in before) for claim in _CLAIMS}
    whole = sum(all(_holds(pairs, claim) for claim in _CLAIMS) for pairs in before)
    lines = [
        "## Does the central claim hold?",
        "",
        f"That on clean clips backdoored (B) and hybrid (H) neurons have larger gradients than clean ones (C) holds in "
        f"**{whole} of {len(before)} victims** as a whole; that backdoored ones have, in {counts['B > C']} of the "
        f"{tested['B > C']} that have any, and that hybrid ones have, in {counts['H > C']} of {tested['H > C']}. "
        f"It holds where both tests have p < {SIGNIFICANT} in all three norms of the gradient (as it is, by √weights, "
        "by the norm of the weights). A ratio is the median over clips of the mean gradient of the first class over "
        "that of the second, for each norm; clips and both are the norms in which it is larger over clips, and over "
        "clips and neurons. Effects and p-values are in each folder's gradients.json.",
        "",
        "| Model | Attack | State | B : C | Ratios | Clips | Both | H : C | Ratios | Clips | Both |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for titles, state, one in _states(found, "gradients"):
        cells = [
            cell for claim in _CLAIMS for cell in _told([pair for pair in _comparisons(one) if pair.name == claim])
        ]
        lines.append(line([*titles, state, *cells]))
    return lines


def _comparisons(one: Mapping[str, Any]) -> list[Comparison]:
    """As they were saved, without what follows from the rest of them."""
    return [Comparison(**{field.name: pair[field.name] for field in fields(Comparison)}) for pair in one["comparisons"]]


def _holds(pairs: Sequence[Comparison], claim: str) -> bool:
    chosen = [pair.holds for pair in pairs if pair.name == claim]
    return bool(chosen) and all(chosen)


def _told(pairs: Sequence[Comparison]) -> list[str]:
    if not pairs:
        return [ABSENT] * 4
    return [
        f"{pairs[0].neurons[0]} : {pairs[0].neurons[1]}",
        ", ".join(f"{pair.ratio:.2f}" for pair in pairs),
        str(sum(pair.holds_over_clips for pair in pairs)),
        str(sum(pair.holds for pair in pairs)),
    ]


def _neurons(found: Found) -> list[str]:
    lines = ["", "## Neurons", "", "| Model | Attack | State | Layers | C | B | H | R | by sign C, B, H, R |"]
    lines += ["|---|---|---|---|--:|--:|--:|--:|--:|"]
    for titles, state, one in _states(found, "neurons"):
        layers = ", ".join(name.removeprefix("backbone.") for name in one["layers"])
        signs = ", ".join(map(str, one["zones_by_sign"].values()))
        lines.append(line([*titles, state, layers, *map(str, one["zones"].values()), signs]))
    return lines


def _embedding(found: Found) -> list[str]:
    lines = [
        "",
        "## Embedding",
        "",
        "| Model | Attack | State | Silhouette | Purity | Chance | Nearest is the target |",
    ]
    lines += ["|---|---|---|--:|--:|--:|--:|"]
    for titles, state, one in _states(found, "embedding"):
        numbers = [f"{one[name]:.2f}" for name in ("silhouette", "purity", "chance", "nearest_clean")]
        lines.append(line([*titles, state, *numbers]))
    return lines


def _reactivation(known: Known, results: Path) -> list[str]:
    lines = _reactivated(known, results)
    intro = (
        "Percent of triggered clips that are called the target, before and after a model is trained on for five epochs "
        "with so many poisoned clips among the clean ones, and its clean accuracy after the most of them."
    )
    return ["", "## Reactivation", "", intro, "", *lines] if lines else []


class Reactivated:
    """The table of how backdoors come back, for the docs."""

    def render(self) -> str:
        """Markdown."""
        return "\n".join(_reactivated(known_victims(), RESULTS))


def _reactivated(known: Known, results: Path) -> list[str]:
    """A table of how backdoors come back, a row for each repaired model and for the clean-trained one beside it."""
    files = [
        (model.label, attack.label, path)
        for name, (model, attack) in known.items()
        for path in sorted(_reactivation_folder(results, name).glob("*/reactivation.json"))
    ]
    rows: dict[tuple[str, str, str], list[Any]] = {}
    for model, attack, path in files:
        for label, several in json.loads(path.read_text()).items():
            rows.setdefault((model, attack, label), several)  # the clean-trained model is the same for each repair
    if not rows:
        return []
    counts = [one["poisoned_clips"] for one in next(iter(rows.values()))]
    lines = [line(["Model", "Attack", "Trained on", "before", *(f"{count} poisoned" for count in counts), "CA"])]
    lines.append("|---|---|---|" + "--:|" * (len(counts) + 2))
    for (model, attack, label), several in rows.items():
        first, ends = several[0]["curve"][0], [one["curve"][-1] for one in several]
        said = label if label == CLEAN_TRAINED else f"after {display_name(label)}"
        shares = [first["attack_success_rate"], *(end["attack_success_rate"] for end in ends)]
        cells = [f"{100 * share:.1f}" for share in (*shares, ends[-1]["clean_accuracy"])]
        lines.append(line([model, attack, said, *cells]))
    return lines


def _states(found: Found, part: str) -> Iterator[tuple[tuple[str, str], str, Mapping[str, Any]]]:
    for titles, files in found.items():
        for label, one in files[part].items():
            yield titles, "victim" if label == NO_DEFENSE else f"after {label}", one


def _speed(results: Path) -> list[str]:
    speed = results / "speed.json"
    if not speed.is_file():
        return []
    lines = ["", "## Speed", "", "`python -m benchmarks.neurons`, processor seconds on one thread.", ""]
    lines += ["| Front end | Neurons | Clips | Naive s | Ours s | Times faster | Largest difference |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|"]
    for one in json.loads(speed.read_text()):
        difference = one["largest_difference_of_a_clip_loss"]
        numbers = [one[name] for name in ("naive_seconds", "ours_seconds", "times_faster")]
        told = [one["frontend"], one["neurons"], f"2 × {one['clips']}", *numbers, f"{difference:.1g}"]
        lines.append(line([str(cell) for cell in told]))
    return lines


def main() -> None:
    """The command line."""
    known = known_victims()
    names = list(known)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--victims", nargs="+", metavar="MODEL/ATTACK", choices=names, default=names)
    parser.add_argument("--repair", default="gn_ft", help="looked at beside the victim, or none; gn_ft by default")
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--work", type=Path, default=Path("runs/analysis"), help="where runs resume")
    parser.add_argument("--reactivation", action="store_true", help="how the backdoor comes back after the repair")
    parser.add_argument("--table", action="store_true", help="only make the README of the results at hand")
    options = parser.parse_args()
    for name in [] if options.table else options.victims:
        analyze(known[name], name, options.repair, options.work, options.clips, reactivation=options.reactivation)
    head = (
        "# Analyses of SC10's victims\n\nMade by `python -m benchmarks.analysis`: neurons, gradients and embeddings of "
        "one victim (seed 0) for each model and attack, some with a repair of it beside; see docs/analysis.md.\n\n"
    )
    write_text(RESULTS / "README.md", head + table(known, RESULTS))


if __name__ == "__main__":
    main()
