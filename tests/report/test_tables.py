from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from report_samples import measure, record, records
from rich.console import Console
from rich.table import Table

from soundproof.bench.record import Measure, Record, chance_of
from soundproof.report import _text, console_table, records_csv, summary_markdown
from soundproof.report._verdict import verdict_on
from soundproof.report.tables import names_of, rows_of


def shown(table: Table, width: int = 140) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_the_console_table_shows_every_model_and_its_numbers() -> None:
    lines = shown(console_table(records())).splitlines()
    victim = next(line for line in lines if "no defense" in line)
    repaired = next(line for line in lines if "GN-FT" in line)
    assert "91.0 %" in victim
    assert "99.4 %" in victim
    assert "312" in victim
    assert "89.9 %" in repaired
    assert "3.2 %" in repaired
    assert "2.0–5.1" in repaired
    assert "41.7" in repaired


def test_the_console_table_fits_a_terminal() -> None:
    assert max(len(line.rstrip()) for line in shown(console_table(records()), width=100).splitlines()) <= 100
    assert "3.2 %" in shown(console_table(records()), width=100)


def test_a_narrow_terminal_shows_whole_numbers_without_intervals() -> None:
    text = shown(console_table(records(), width=80), width=80)
    assert "…" not in text
    assert all(part in text for part in ("89.9 %", "3.2 %", "97.5 %", "41.7"))
    assert "2.0–5.1" not in text


def test_names_are_text_and_not_markup() -> None:
    odd = record("[red]x[/red]", 500, 20)
    assert "[red]x[/red]" in shown(console_table([odd]))


def test_without_a_trigger_there_is_no_column_about_attacks() -> None:
    plain = [record("none", 539, None), record("gn_ft", 532, None)]
    for text in (shown(console_table(plain)), summary_markdown(plain), records_csv(plain)):
        assert "ASR" not in text
        assert "attack_success" not in text
        assert "RA " not in text


def test_the_markdown_table_is_a_table() -> None:
    lines = summary_markdown(records()).splitlines()
    assert lines[0] == "| Defense | CA | ASR | RA | DER | Seconds |"
    assert lines[-1].startswith("| GN-FT | 89.9 % | 3.2 % | 88.0 % | 97.5 % |")
    assert {line.count("|") for line in lines} == {7}
    assert "a\\|b" in summary_markdown([record("a|b", 1, 1)])


def test_the_csv_holds_exact_values() -> None:
    rows = list(csv.DictReader(io.StringIO(records_csv(records()))))
    assert [row["defense"] for row in rows] == ["none", "fine_tuning", "fine_pruning", "gn_ft"]
    assert float(rows[-1]["attack_success_rate_value"]) == 17 / 532
    assert float(rows[-1]["attack_success_rate_numerator"]) == 17
    assert int(rows[-1]["peak_memory_bytes"]) == 812 * 2**20


def test_changes_compare_with_the_victim_of_the_same_seed() -> None:
    second = [
        other.model_copy(update={"seed": 2, "metrics": {"clean_accuracy": measure(clean, 592)}})
        for other, clean in ((record("gn_ft", 1, None), 500), (record("none", 1, None), 592))
    ]
    rows = rows_of([*records(), *second])
    assert [(row.name, row.record.seed) for row in rows[-2:]] == [("no defense", 2), ("GN-FT", 2)]
    assert rows[-1].cells[0].change == pytest.approx((500 - 592) / 592)
    assert rows[-1].cells[0].tone == "bad"
    assert "Seed" in shown(console_table([*records(), *second]))


def test_a_fall_of_attack_success_is_good_and_a_rating_has_no_change() -> None:
    cells = {cell.column.short: cell for cell in rows_of(records())[-1].cells}
    assert (cells["ASR"].tone, cells["RA"].tone, cells["CA"].tone) == ("good", "good", "bad")
    assert cells["DER"].change is None


def test_the_same_defense_twice_is_told_apart_by_its_settings() -> None:
    twins = [
        record("gn_ft", 530, 20).model_copy(
            update={"spec": {"defense": {"name": "gn_ft", "alpha": alpha, "radius": 0.05}}}
        )
        for alpha in (0.7, 1.0)
    ]
    assert names_of(twins) == ["GN-FT (alpha 0.7)", "GN-FT (alpha 1)"]


def test_a_metric_that_nobody_here_knows_gets_its_column() -> None:
    odd = record("none", 539, 529)
    odd = odd.model_copy(update={"metrics": {**odd.metrics, "false_trigger_rate": measure(7, 532)}})
    assert "False trigger rate" in summary_markdown([odd])
    assert "1.3 %" in summary_markdown([odd])


@pytest.mark.parametrize(
    ("victim", "repaired", "badge", "tone"),
    [
        ((539, 529), (532, 17), "Repaired", "good"),
        ((539, 529), (480, 17), "Repaired at a price", "bad"),
        ((539, 529), (532, 200), "Weakened", "bad"),
        ((539, 529), (532, 500), "Not repaired", "bad"),
        ((539, 20), (532, 17), "No backdoor to remove", "flat"),
    ],
)
def test_the_verdict_follows_its_rule(
    victim: tuple[int, int], repaired: tuple[int, int], badge: str, tone: str
) -> None:
    verdict = verdict_on([record("none", *victim), record("gn_ft", *repaired)])
    assert (verdict.badge, verdict.tone) == (badge, tone)


def test_few_clips_are_not_proof_of_a_repair() -> None:
    victim = record("none", 539, 529)
    few = record("gn_ft", 532, 17)
    for hits, total, badge in (
        (0, 20, "Too few clips to tell"),
        (0, 40, "Repaired"),
        (45, 532, "Too few clips to tell"),
    ):
        after = few.model_copy(update={"metrics": {**few.metrics, "attack_success_rate": measure(hits, total)}})
        verdict = verdict_on([victim, after])
        assert verdict.badge == badge, (hits, total)
        assert f"({hits} of {total})" in verdict.headline


def test_a_model_that_says_the_same_to_everything_is_not_repaired() -> None:
    def badge(chance: float) -> str:
        victim = record("none", 65, 529, chance=chance)
        return verdict_on([victim, record("gn_ft", 60, 0)]).badge

    assert badge(60 / 592) == "No better than chance"
    assert badge(59 / 592) == "Repaired"
    assert chance_of(np.array([0, 2, 2, 2])) == 0.75


def test_the_headline_is_one_sentence_about_the_best_defense() -> None:
    expected = "GN-FT: attack success 99.4 % → 3.2 % (17 of 532), clean accuracy 91.0 % → 89.9 % (532 of 592)"
    assert verdict_on(records()).headline == expected
    assert "nothing was measured" not in verdict_on(records()[:1]).headline


def test_no_records_are_no_reason_to_fail() -> None:
    nothing: list[Record] = []
    assert summary_markdown(nothing).startswith("| Defense |")
    assert verdict_on(nothing).badge == "No defense yet"


def test_counts_are_shown_only_for_counts() -> None:
    victim = {cell.column.short: cell for cell in rows_of(records())[0].cells}
    assert victim["ASR"].counts == "529/532"
    assert victim["DER"].counts == ""  # its bracket of 1 over 2 is no clip of two


def test_a_metric_with_odd_counts_shows_none() -> None:
    assert _text.counts(Measure(value=0.5, numerator=0.25, denominator=0.5, low=0, high=1)) == ""
