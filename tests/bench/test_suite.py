"""Suites: which cells they have, what they share, what they say about mistakes; and running them, also when killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bench_toys import Inline
from suite_samples import planned, suite_text, write_tones

from soundproof.bench import store, trainer, work, workbench
from soundproof.bench.plan import graph_of, plan_suite
from soundproof.bench.record import Record
from soundproof.bench.results import Damaged, Results
from soundproof.bench.spec import experiment_of
from soundproof.bench.suite import read_suite, select, suite_files
from soundproof.bench.suite_run import Pace, Summary, run_suite
from soundproof.core.component import fields_of
from soundproof.core.errors import BadDataError, InvalidInputError, StorageError
from soundproof.report.suites import gather_findings
from soundproof.report.suites._claims import published_effect
from soundproof.report.suites._groups import groups_of

ROOT = Path(__file__).parents[2]
PAPER = {"gn_ft_table1": 66, "gn_ft_table2": 30, "gn_ft_table3": 9, "gn_ft_table4": 18}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="module")
def toy(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("suite") / "toy.toml"
    file.write_text(suite_text(corpus))
    return file


def run(file: Path, base: Path) -> Summary:
    """Run the toy suite in this process, into ``base``."""
    plan, results = planned(file, base / "results")
    return run_suite(plan, results, str(base / "work"), Inline)


def essence(folder: Path) -> dict[str, Any]:
    """All records without what differs from run to run: times, memory, checksum."""
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*.json")):
        record = json.loads(file.read_text())
        for name in ("seconds", "peak_memory_bytes"):
            record.pop(name)
        record["details"].pop("file")
        for trial in record["details"].get("selection", ()):
            trial.pop("seconds")
        found[file.name] = record
    return found


@pytest.fixture(scope="module")
def whole(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption."""
    base = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    summary = run(toy, base)
    assert (summary.made, summary.trained, summary.failures) == (10, 2, {})
    (base / "seconds").write_text(str(time.monotonic() - began))
    return base


def test_cells_are_all_combinations_with_readable_names(toy: Path) -> None:
    cells = read_suite(toy).cells()
    assert [cell.name for cell in cells[:4]] == [
        "badnets/few/none/0",
        "badnets/few/fine_tuning/0",
        "badnets/few/gn_ft/0",
        "badnets/more/none/0",
    ]
    assert len({cell.name for cell in cells}) == len(cells) == 12
    assert cells[-1].options == {"attack": "ramp", "clean": "more"}
    attack = cells[-1].experiment.attack
    assert attack is not None
    assert attack.to_spec()["trigger"]["value"] == 5.0
    assert [cell.name for cell in select(cells, ["ramp/*/gn_ft/*"])] == ["ramp/few/gn_ft/0", "ramp/more/gn_ft/0"]


def test_cells_that_share_a_victim_or_a_record_have_its_address(toy: Path) -> None:
    cells = {cell.name: cell for cell in read_suite(toy).cells()}
    assert len({cell.victim_address for cell in cells.values()}) == 2
    assert cells["badnets/few/none/0"].fingerprint == cells["badnets/more/none/0"].fingerprint
    assert cells["badnets/few/gn_ft/0"].fingerprint != cells["badnets/more/gn_ft/0"].fingerprint
    assert cells["badnets/few/none/0"].fingerprint != cells["badnets/few/none/0"].victim_address


def test_changes_come_last_and_seeds_multiply(toy: Path) -> None:
    suite = read_suite(toy, ["clip_seconds=0.25", "training.epochs=1"])
    assert {cell.experiment.clip_seconds for cell in suite.cells()} == {0.25}
    assert {cell.experiment.recipe.epochs for cell in suite.cells()} == {1}
    more = suite.with_seeds([4, 5]).cells()
    assert {(cell.seed, cell.experiment.seed, cell.name[-1]) for cell in more} == {(4, 4, "4"), (5, 5, "5")}


def test_only_and_skip_drop_combinations(corpus: Path, tmp_path: Path) -> None:
    file = tmp_path / "toy.toml"
    extra = (
        'only = [{ attack = ["badnets"] }, { clean = ["few"] }]\nskip = [{ attack = ["badnets"], clean = ["more"] }]'
    )
    file.write_text(suite_text(corpus, extra))
    assert ["/".join(one.values()) for one in read_suite(file).combinations()] == ["badnets/few", "ramp/few"]


def test_only_and_skip_drop_single_defenses_and_keep_the_victim(corpus: Path, tmp_path: Path) -> None:
    file = tmp_path / "toy.toml"

    def names(extra: str) -> list[str]:
        file.write_text(suite_text(corpus, extra))
        return [cell.name for cell in read_suite(file).cells() if cell.options["clean"] == "few"]

    rest = ["ramp/few/none/0", "ramp/few/fine_tuning/0", "ramp/few/gn_ft/0"]
    assert names('skip = [{ attack = ["badnets"], defense = ["gn_ft"] }]') == [
        "badnets/few/none/0",
        "badnets/few/fine_tuning/0",
        *rest,
    ]
    assert names('only = [{ attack = ["badnets"], defense = ["gn_ft"] }, { attack = ["ramp"] }]') == [
        "badnets/few/none/0",
        "badnets/few/gn_ft/0",
        *rest,
    ]


def test_table_one_plans_no_repair_that_is_not_defined_for_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDPROOF_DATA", "/nowhere")
    planned_for: dict[str, set[str]] = {}
    for cell in read_suite("gn_ft_table1").cells():
        planned_for.setdefault(cell.options["model"], set()).add(cell.defense_label)
    heard = {"hearing_limits", "even_hearing", "even_hearing+gn_color"}
    assert planned_for["kwt"] - planned_for["eat"] == heard
    assert {"none", "fine_tuning", "fine_pruning", "gn_ft", "clear_hearing"} == planned_for["eat"]


def test_an_experiment_survives_the_way_to_a_worker(toy: Path) -> None:
    for cell in read_suite(toy).cells():
        table = json.loads(json.dumps(fields_of(cell.experiment)))
        assert experiment_of(table).cell_spec(cell.defense) == cell.experiment.cell_spec(cell.defense)


@pytest.mark.parametrize("name", sorted(suite_files()))
def test_suites_that_come_along_have_cells_and_published_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDPROOF_DATA", "/nowhere")
    suite = read_suite(name)
    cells = suite.cells()
    assert suite.name == name
    assert len(suite.paper) == PAPER.get(name, 0)
    for row in suite.paper:
        matches = [cell for cell in cells if row.options.items() <= cell.options.items()]
        assert any(cell.defense_label == row.defense for cell in matches)
    for cell in cells:
        assert json.loads(json.dumps(fields_of(cell.experiment)))


def test_the_clean_suite_trains_five_models_on_two_corpora_without_an_attack() -> None:
    cells = read_suite("clean").cells()
    assert len(cells) == 5 * 2 * 3
    assert all(cell.experiment.attack is None and cell.defense is None for cell in cells)
    made_of = {
        (cell.experiment.model.short_name(), cell.experiment.data.short_name(), cell.experiment.seed) for cell in cells
    }
    assert len(made_of) == len(cells)
    assert {one[0] for one in made_of} == {"resnet", "attention_lstm", "small_cnn", "kwt", "eat"}
    assert {one[1] for one in made_of} == {"speech_commands", "synthetic"}


def test_the_paper_rows_have_the_papers_averages() -> None:
    rows = read_suite("gn_ft_table1").paper
    averages = {
        "resnet": (91.72, 94.54, 9.73, 90.40),
        "lstm": (94.85, 94.78, 10.85, 87.11),
        "small_cnn": (99.62, 90.58, 32.17, 80.55),
        "kwt": (96.02, 91.32, 16.60, 84.26),
        "eat": (99.54, 95.48, 2.86, 95.14),
    }
    for model, expected in averages.items():
        for place, (defense, metric) in enumerate(
            (defense, metric) for defense in ("none", "gn_ft") for metric in ("attack_success_rate", "clean_accuracy")
        ):
            alike = [row for row in rows if row.options["model"] == model and row.defense == defense]
            (printed,) = (row.metrics[metric] for row in alike if "attack" not in row.options)
            found = [row.metrics[metric] for row in alike if "attack" in row.options]
            assert printed == expected[place]
            assert sum(found) / len(found) == pytest.approx(expected[place], abs=0.0101)


@pytest.mark.parametrize("name", sorted(PAPER))
def test_every_published_repair_has_its_victim_so_that_it_can_be_judged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUNDPROOF_DATA", "/nowhere")
    groups = groups_of(gather_findings(read_suite(name), Results(tmp_path)))
    victims = {tuple(group.options.items()): group for group in groups if group.is_victim}
    published = [group for group in groups if group.published and not group.is_victim]
    assert published
    for group in published:
        victim = victims[tuple(group.options.items())]
        assert published_effect(victim.published, group.published) is not None, group.options


def test_table_two_says_so_when_its_corpus_is_synthetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDPROOF_DATA", str(tmp_path))
    synthetic = read_suite("gn_ft_table2")
    assert "synthetic" in synthetic.title
    assert "synthetic" in synthetic.note
    assert len(synthetic.cells()[0].experiment.data.to_spec()["words"]) == 30
    (tmp_path / "speech_commands_v0.01").mkdir()
    real = read_suite("gn_ft_table2")
    assert (real.title, real.note) == ("GN-FT Table II: SCD-30", "")
    assert (
        read_suite("gn_ft_table2", ["data.root=/elsewhere"]).cells()[0].experiment.data.short_name()
        == "speech_commands"
    )


def test_the_suite_of_the_documentation_is_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    file = tmp_path / "mine.toml"
    file.write_text(page.split("```toml\n")[1].split("```")[0])
    assert len(read_suite(file).cells()) == 3 * (2 * 3 + 2)
    assert tomllib.loads(file.read_text())["name"] == "mine"


@pytest.mark.parametrize(
    ("before", "after", "pattern"),
    [
        ('model = "small_cnn"', 'model = "smal_cnn"', r"suite toy/badnets/few: there is no .smal_cnn. in models: did"),
        ("seeds = [0]", "seeds = [1, 1]", "seed 1 is there twice, so two cells would have the same name"),
        ("[axes.attack.ramp]", "[axes.attack.badnets]", "is not valid TOML"),
        ("seeds = [0]", "seds = [0]", "has no field 'seds': did you mean 'seeds'"),
        (
            "seeds = [0]",
            'seeds = [0]\nskip = [{ atack = ["ramp"] }]',
            r"\[\[skip\]\] names no axis 'atack': did you mean",
        ),
        ("seeds = [0]", 'seeds = [0]\nonly = [{ attack = ["rmp"] }]', r"\[\[only\]\] names no option 'rmp'"),
        ("seeds = [0]", 'seeds = [0]\nskip = [{ attack = ["ramp", "badnets"] }]', "leave out every combination"),
        ("seeds = [0]", 'seeds = [0]\nskip = [{ defense = ["gnft"] }]', r"\[\[skip\]\] names no defense 'gnft': did"),
        ("seeds = [0]", 'seeds = [0]\nonly = [{ defense = ["none"] }]', "a victim is kept as long as any of its"),
        (
            "seeds = [0]",
            'seeds = [0]\npaper = [{ attack = "ramp", defense = "gnft", clean_accuracy = 90 }]',
            r"\[\[paper\]\] names no defense 'gnft': did you mean 'gn_ft'",
        ),
        ("seeds = [0]", 'seeds = [0]\npaper = [{ attack = "ramp", accuracy = 90 }]', "no 'accuracy' in metrics"),
        (
            "seeds = [0]",
            'seeds = [0]\nremark = [{ attack = "rmp", defense = "gn_ft", reason = "so" }]',
            r"\[\[remark\]\] names no option 'rmp'",
        ),
        ("seeds = [0]", 'seeds = [0]\nagainst = { gn_ft = "ft" }', "against names no defense 'ft'"),
        ("seeds = [0]", 'seeds = [0]\ntable = { rows = ["modell"] }', r"\[table\] names no axis 'modell'"),
        ("clip_seconds = 0.5", "clip_seconds = 0.5\nseed = 3", "takes no seed"),
        (
            "seeds = [0]",
            'seeds = [0]\nchanges = ["attack.trigger=ultrasonic"]',
            "attack.trigger is what the axis 'attack' sets for 'badnets', so it cannot be changed for all cells",
        ),
        ("[axes.attack.ramp]", '[axes.attack.ramp]\nlabel = "Audio BadNets"', "two options of the axis 'attack' are"),
        (
            "seeds = [0]",
            'seeds = [0]\npaper = [{ attack = "ramp", defense = "gn_ft", clean_accuracy = 90 }, '
            '{ attack = "ramp", defense = "gn_ft", clean_accuracy = 80 }]',
            r"two \[\[paper\]\] rows are about ramp/gn_ft",
        ),
        ("defender.clean_clips = 18", "defenses.7.alpha = 1", "'7' is no place in a list of 2"),
    ],
)
def test_a_mistake_is_one_sentence(before: str, after: str, pattern: str, toy: Path, tmp_path: Path) -> None:
    file = tmp_path / "toy.toml"
    text = toy.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))
    with pytest.raises(InvalidInputError, match=pattern):
        read_suite(file).cells()


def test_a_suite_runs_what_is_missing_and_nothing_else(
    whole: Path, toy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    records = essence(whole / "results" / "toy")
    assert len(records) == 10  # the two victims' own records stand for four cells
    for record in records.values():
        assert record["details"]["cell"]["suite"] == "toy"
        assert set(record["details"]["cell"]["options"]) == {"attack", "clean"}
        assert Record.model_validate({**record, "seconds": 0, "peak_memory_bytes": 0})
    monkeypatch.setattr(trainer, "fit_victim", None)  # nothing may be trained any more
    plan, results = planned(toy, whole / "results")
    assert plan.missing == ()
    one = next(cell for cell in plan.cells if cell.name == "ramp/few/gn_ft/0")
    kept = results.path(one.fingerprint).read_text()
    results.path(one.fingerprint).unlink()
    assert run(toy, whole).made == 1
    assert essence(whole / "results" / "toy") == records
    assert kept


def test_killed_twenty_times_it_ends_with_the_same_records(
    whole: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHECKPOINT_SECONDS", 0.0)
    seconds = float((whole / "seconds").read_text())
    moments = random.Random(0)
    for _ in range(20):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that this process has threads
            child = os.fork()
        if not child:
            code = 1
            try:
                run(toy, tmp_path)
                code = 0
            finally:
                os._exit(code)
        time.sleep(moments.uniform(0.0, seconds / 6))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    run(toy, tmp_path)
    assert essence(tmp_path / "results" / "toy") == essence(whole / "results" / "toy")
    assert not list((tmp_path / "work" / "victims").glob("*.training"))


def test_damage_is_seen_reported_and_made_good(whole: Path, toy: Path) -> None:
    records = essence(whole / "results" / "toy")
    plan, results = planned(toy, whole / "results")
    torn, changed, strange = (results.path(cell.fingerprint) for cell in plan.cells[1:4])
    torn.write_text(torn.read_text()[:200])
    changed.write_text(changed.read_text().replace('"seed": 0', '"seed": 1', 1))
    strange.write_text(results.path(plan.cells[0].fingerprint).read_text())
    weights = whole / "work" / "victims" / plan.cells[1].victim_address / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    summary = run(toy, whole)
    assert summary.made == 3
    notes = "\n".join(summary.notes)
    for file in (torn, changed, strange):
        assert f"{file} is damaged and is made again" in notes
    assert "checksum" in notes
    assert f"the victim in {weights.parent} is damaged" in notes
    assert essence(whole / "results" / "toy") == records


def test_a_failure_is_kept_and_tried_again(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, results = planned(toy, tmp_path / "results")

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no more memory")

    with monkeypatch.context() as patch:
        patch.setattr(workbench, "repair_victim", broken)
        summary = run_suite(plan, results, str(tmp_path / "work"), Inline)
    assert (summary.made, len(summary.failures)) == (2, 8)
    again, _ = planned(toy, tmp_path / "results")
    assert set(again.failures) == set(summary.failures)
    assert all(reason == "RuntimeError: no more memory" for reason in again.failures.values())
    kept = json.loads(next(results.root.glob("*.failed.json")).read_text())
    assert kept["cell"]["suite"] == "toy"
    assert "in broken" in kept["traceback"]
    assert run(toy, tmp_path).made == 8
    assert not list(results.root.glob("*.failed.json"))


def test_a_record_of_another_schema_is_taken_over_or_refused(whole: Path, toy: Path, tmp_path: Path) -> None:
    plan, results = planned(toy, whole / "results")
    place = plan.cells[0].fingerprint
    table: dict[str, Any] = json.loads(results.path(place).read_text())
    old, new = Results(tmp_path / "old"), Results(tmp_path / "new")
    for folder, stamp in ((old, None), (new, {"schema": 99, "sha256": ""})):
        folder.root.mkdir()
        details: Mapping[str, Any] = {name: value for name, value in table["details"].items() if name != "file"}
        text = {**table, "details": details if stamp is None else {**details, "file": stamp}}
        folder.path(place).write_text(json.dumps(text))
    assert isinstance(old.look(place), Record)
    with pytest.raises(BadDataError, match=r"newer Soundproof .record schema 99.*update Soundproof, or move the file"):
        new.look(place)
    old.path(place).write_text("[]")
    assert isinstance(old.look(place), Damaged)


def test_what_another_suite_has_recorded_is_not_run_again(whole: Path, toy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    plan, _ = planned(toy, whole / "results")
    shutil.copytree(whole / "results", folder)
    (folder / plan.suite.name).rename(folder / "elder")
    results = Results.of_suite(folder, plan.suite.name)
    first, second, third = (cell.fingerprint for cell in plan.cells[:3])
    (folder / "elder" / f"{first}.json").unlink()
    (folder / "elder" / f"{second}.json").write_text("[]")
    table = json.loads((folder / "elder" / f"{third}.json").read_text())
    table["details"]["file"]["schema"] = 99
    (folder / "elder" / f"{third}.json").write_text(json.dumps(table))
    again = plan_suite(plan.suite, plan.cells, results)
    assert [cell.fingerprint for cell in again.missing] == [first, second, third]
    assert not again.damaged
    before = {file: file.read_bytes() for file in (folder / "elder").iterdir()}
    assert run_suite(again, results, str(tmp_path / "work"), Inline).made == 3
    assert {file: file.read_bytes() for file in (folder / "elder").iterdir()} == before
    assert {file.stem for file in results.root.glob("*.json")} == {first, second, third}
    assert not plan_suite(plan.suite, plan.cells, results).missing
    findings = gather_findings(plan.suite, results)
    assert len(findings.records) == len(plan.cells)
    assert findings.strays == 0


def test_results_that_cannot_be_written_stop_it_before_any_work(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    plan, _ = planned(toy, tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"cannot write results to .*choose another folder with --results"):
        run_suite(plan, Results(tmp_path / "file" / "toy"), str(tmp_path / "work"), Inline)
    with pytest.raises(StorageError, match=r"cannot write .*file/work: .*file is a file; choose another place"):
        run_suite(plan, Results(tmp_path / "toy"), str(tmp_path / "file" / "work"), Inline)
    assert not list((tmp_path / "toy").glob("*.json"))


def test_a_worker_that_has_nothing_to_begin_is_said_to_wait(toy: Path, tmp_path: Path) -> None:
    plan, results = planned(toy, tmp_path / "results", ["defenses=[]"])
    summary = run_suite(plan, results, str(tmp_path / "work"), Inline, workers=2)  # of which the second never begins
    assert summary.waiting_seconds >= summary.task_seconds > 0
    busy, waiting = summary.shares(2)
    assert busy <= waiting <= 1 - busy
    alone = run(toy, tmp_path)
    assert alone.made > 0
    assert alone.waiting_seconds == 0


@pytest.mark.parametrize("other", ["work", "elsewhere"])
def test_two_runs_do_not_share_results(other: str, toy: Path, tmp_path: Path) -> None:
    plan, results = planned(toy, tmp_path / "results")

    def nested() -> Inline:
        run_suite(plan, results, str(tmp_path / other), Inline)
        return Inline()

    with pytest.raises(InvalidInputError, match="another run is at work on"):
        run_suite(plan, results, str(tmp_path / "work"), nested)


def test_victims_travel_through_a_url(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = (tmp_path / "shared").as_uri()
    plan, results = planned(toy, tmp_path / "results", ["defenses=[]"])
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path / "one"))
    assert run_suite(plan, results, work, Inline).made == 2
    monkeypatch.setenv("SOUNDPROOF_CACHE", str(tmp_path / "two"))
    monkeypatch.setattr(trainer, "fit_victim", None)  # the other machine trains nothing
    other = Results(tmp_path / "other")
    assert run_suite(plan, other, work, Inline).made == 2
    assert essence(other.root) == essence(results.root)


def test_the_graph_trains_each_victim_once_and_before_its_cells(toy: Path, tmp_path: Path) -> None:
    plan, _ = planned(toy, tmp_path, ["clean_reference=true"])
    tasks = {task.id: task for task in graph_of(plan.missing, str(tmp_path), lambda place: False)}
    trained = [task for task in tasks.values() if task.function.__name__ == "train_victim"]
    assert len(trained) == 3  # two victims and the one model of clean clips
    for cell in plan.missing:
        assert cell.victim_address in tasks[cell.fingerprint].needs
    kept = graph_of(plan.missing, str(tmp_path), lambda place: True)
    assert {task.function.__name__ for task in kept} == {"make_corpus", "make_record"}


def test_one_worker_measures_each_cell_on_the_clips_that_it_asks_for(
    whole: Path, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_held", {})
    measured: list[float] = []
    for clips in ("test", "validation"):
        experiment = read_suite(toy, [f"measure_on={clips}"]).cells()[0].experiment
        asked = {"experiment": fields_of(experiment), "work": str(whole / "work"), "defense": None, "label": "none"}
        record = Record.model_validate(work.make_record(asked, lambda text: None)["record"])
        measured.append(record.metrics["clean_accuracy"].denominator)
    assert measured == [24, 6]


def test_time_left_follows_what_tasks_of_a_kind_took() -> None:
    pace = Pace({"a": "victim", "b": "victim", "c": "repair", "d": "repair"})
    assert pace.left(1) == ""
    pace.end("a", 100.0)
    pace.end("c", 20.0)
    assert pace.left(1) == ", about 2 min left"
    assert pace.left(2) == ", about 60 s left"
    pace.end("b", None)
    pace.end("d", 20.0)
    assert pace.left(1) == ""
