"""The experiment file: what it accepts, and what it says about what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from soundproof.bench.spec import Defender, address, experiment_of, read_experiment, read_toml, with_changes
from soundproof.core.errors import BadDataError, InvalidInputError


def table(**changes: Any) -> dict[str, Any]:
    return {
        "data": {"name": "speech_commands", "root": "nowhere"},
        "attack": {"name": "dirty_label", "target": "up", "rate": 0.1, "trigger": "audio_badnets"},
        "model": "small_cnn",
        "defenses": ["fine_tuning", {"name": "gn_ft"}],
        **changes,
    }


def test_components_come_from_names_and_tables() -> None:
    experiment = experiment_of(table())
    assert experiment.model.short_name() == "small_cnn"
    assert [defense.short_name() for defense in experiment.defenses] == ["fine_tuning", "gn_ft"]
    assert experiment.defender == Defender(clean_fraction=0.05)


def test_training_changes_the_models_recipe_and_nothing_else() -> None:
    plain, changed = (
        experiment_of(table()),
        experiment_of(table(training={"epochs": 2, "augmentation": {"gain_db": 1}})),
    )
    assert changed.recipe.epochs == 2
    assert changed.recipe.augmentation.gain_db == 1.0
    assert changed.recipe.batch_size == plain.recipe.batch_size


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"atack": 1}, r"the experiment has no field 'atack': did you mean 'attack'"),
        ({"model": "smal_cnn"}, r"no 'smal_cnn' in models: did you mean 'small_cnn'"),
        (
            {"model": {"name": "small_cnn", "fronted": "x"}},
            r"models/small_cnn has no field 'fronted': did you mean 'frontend'",
        ),
        ({"training": {"epoch": 3}}, r"training has no field 'epoch': did you mean 'epochs'"),
        ({"training": {"epochs": 0}}, r"training: epochs: .*greater than or equal to 1"),
        ({"defender": {"clean_clip": 3}}, r"\[defender\] has no field 'clean_clip': did you mean 'clean_clips'"),
        ({"defender": {"clean_clips": 9, "clean_fraction": 0.1}}, r"exactly one of clean_clips and clean_fraction"),
        ({"defender": {"clean_fraction": 1.5}}, r"\[defender\]: clean_fraction: .*less than or equal to 1"),
        ({"name": "../up"}, r"the experiment: name"),
        ({"seed": -1}, r"the experiment: seed"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(changes: dict[str, Any], pattern: str) -> None:
    with pytest.raises(InvalidInputError, match=pattern) as caught:
        experiment_of(table(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", [0, 1.5, "ten"])
def test_an_impossible_rate_is_refused(rate: object) -> None:
    attack = {"name": "dirty_label", "target": "up", "rate": rate, "trigger": "audio_badnets"}
    with pytest.raises(InvalidInputError, match="rate"):
        experiment_of(table(attack=attack))


def test_changes_reach_into_tables_lists_and_names() -> None:
    changed = with_changes(
        {"model": "small_cnn", "defenses": [{"name": "gn_ft"}, "fine_tuning"]},
        ["seed=3", "defenses.0.alpha=0.5", "defenses.1.epochs=4", "model.frontend=logmel", "data={name='folder'}"],
    )
    assert changed == {
        "seed": 3,
        "defenses": [{"name": "gn_ft", "alpha": 0.5}, {"name": "fine_tuning", "epochs": 4}],
        "model": {"name": "small_cnn", "frontend": "logmel"},
        "data": {"name": "folder"},
    }


def test_changes_leave_the_table_alone() -> None:
    before = {"attack": {"rate": 0.1}, "list": [1, 2]}
    with_changes(before, ["attack.rate=0.2", "list.0=9"])
    assert before == {"attack": {"rate": 0.1}, "list": [1, 2]}


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ("rate", "write it as path=value"),
        (".rate=1", "write it as path=value"),
        ("defenses.5.alpha=1", r"'5' is no place in a list of 1"),
        ("seed.deep=1", "nothing below the value 3"),
    ],
)
def test_a_change_that_leads_nowhere_is_refused(change: str, pattern: str) -> None:
    with pytest.raises(InvalidInputError, match=pattern):
        with_changes({"seed": 3, "defenses": ["gn_ft"]}, [change])


def test_a_typing_error_is_placed_by_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text('name = "a"\nseed = = 3\n')
    with pytest.raises(BadDataError, match=r"broken\.toml is not valid TOML: .*line 2, column 8"):
        read_toml(file)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match=r"cannot read .*none\.toml: no such file"):
        read_experiment(tmp_path / "none.toml")
    (tmp_path / "noise.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadDataError, match=r"noise\.toml is not a UTF-8 text file"):
        read_toml(tmp_path / "noise.toml")


def test_the_address_follows_all_that_matters_and_nothing_else() -> None:
    base = experiment_of(table())
    renamed = experiment_of(table(name="other", examples=1))
    seeded = experiment_of(table(seed=1))
    slower = experiment_of(table(training={"epochs": 7}))
    assert address(base.victim_spec(), "k") == address(renamed.victim_spec(), "k")
    addresses = {address(e.victim_spec(), "k") for e in (base, seeded, slower)}
    assert len(addresses) == 3
    assert address(base.victim_spec(), "k") != address(base.victim_spec(), "other recordings")
    assert address(base.victim_spec(), "k") != address(base.victim_spec(poisoned=False), "k")
    more = experiment_of(table(defender={"clean_clips": 9}))
    assert base.victim_spec() == more.victim_spec()
    assert base.cell_spec(base.defenses[0]) != more.cell_spec(more.defenses[0])
    watched = experiment_of(table(curve_points=5))
    assert base.cell_spec(base.defenses[0]) == watched.cell_spec(watched.defenses[0])


def test_the_clean_reference_does_not_depend_on_the_attack() -> None:
    other = {"name": "dirty_label", "target": "up", "rate": 0.3, "trigger": "audio_badnets"}
    assert experiment_of(table()).victim_spec(poisoned=False) == experiment_of(table(attack=other)).victim_spec(
        poisoned=False
    )


def test_defenses_of_the_same_name_get_labels_of_their_own() -> None:
    assert experiment_of(table(defenses=["gn_ft", "fine_tuning", "gn_ft"])).defense_labels() == (
        "gn_ft",
        "fine_tuning",
        "gn_ft-2",
    )


def test_the_defender_cannot_hold_more_clips_than_there_are() -> None:
    assert Defender(clean_fraction=0.05).count(2948) == 147
    assert Defender(clean_clips=900).count(2948) == 900
    with pytest.raises(InvalidInputError, match=r"900 clean clips, but there are only 100"):
        Defender(clean_clips=900).count(100)
