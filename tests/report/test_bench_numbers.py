"""The arithmetic of a suite's report: over seeds, over attacks, and against published numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from bench_samples import ATTACKS, CLIPS, MODELS, PAPER, paper_average, results
from report_samples import measure

from soundproof.metrics._metric import Measure, proportion
from soundproof.report import _details
from soundproof.report.suites import Axis, Published
from soundproof.report.suites._cell_page import RETRAINED, render_cell
from soundproof.report.suites._claims import Effect, judge
from soundproof.report.suites._clips import Clipped
from soundproof.report.suites._findings import Remark
from soundproof.report.suites._groups import stat_of
from soundproof.report.suites._overview import Overview, Row, overview_of
from soundproof.report.suites._page import render_suite
from soundproof.report.suites._pivot import pivots_of
from soundproof.report.tables import ATTACK_SUCCESS, CLEAN_ACCURACY


def place(overview: Overview, model: str, attack: str, defense: str) -> Row:
    wanted = {"model": model, "attack": attack}
    return next(row for row in overview.rows if (row.group.options, row.group.defense) == (wanted, defense))


def test_several_seeds_have_a_mean_a_spread_and_two_intervals() -> None:
    row = place(overview_of(results()), "resnet", "badnets", "gn_ft")
    stat = row.group.stats[ATTACK_SUCCESS]
    assert stat.values == pytest.approx({0: 20 / CLIPS, 1: 21 / CLIPS, 2: 22 / CLIPS})
    assert stat.mean == pytest.approx(21 / CLIPS)
    assert stat.sd == pytest.approx(1 / CLIPS)  # of 20, 21, 22
    once = proportion(21, CLIPS)  # of the clips of one seed: the others are tested on the same
    assert (stat.low, stat.high) == pytest.approx((once.low, once.high))
    reach = 4.302653 / CLIPS / math.sqrt(3)  # Student's t, two degrees of freedom
    assert (stat.mean_low, stat.mean_high) == pytest.approx((21 / CLIPS - reach, 21 / CLIPS + reach))
    assert stat.text == "4.2 ± 0.2"


def test_seeds_that_agree_do_not_make_clips_more() -> None:
    one = proportion(21, CLIPS)
    stat = stat_of(dict.fromkeys(range(3), one.value), [one] * 3)
    assert stat is not None
    assert (stat.low, stat.high) == pytest.approx((one.low, one.high))


def test_seeds_that_differ_lie_within_their_interval() -> None:
    measures = [proportion(hits, CLIPS) for hits in (70, 150, 220)]
    stat = stat_of({seed: one.value for seed, one in enumerate(measures)}, measures)
    assert stat is not None
    assert stat.mean_low is not None
    assert stat.mean_low < 0.0 == stat.low  # Student's t, but no share is below zero
    assert stat.high == stat.mean_high
    assert stat.interval == "0.0–66.6"


def test_a_single_seed_has_the_interval_of_its_record_and_no_spread() -> None:
    row = place(overview_of(results(seeds=[0])), "resnet", "badnets", "gn_ft")
    stat, (record,) = row.group.stats[ATTACK_SUCCESS], row.group.records.values()
    assert (stat.sd, stat.mean_low, stat.mean_high) == (None, None, None)
    assert (stat.low, stat.high) == (record.metrics[ATTACK_SUCCESS].low, record.metrics[ATTACK_SUCCESS].high)
    assert stat.text == "4.0"


def test_a_rating_is_no_share_of_clips_so_it_has_no_interval_of_clips() -> None:
    whole = results()
    rating = Measure(value=0.5, numerator=1, denominator=2, low=0.5, high=0.5)  # a victim's: whole, but of no two clips
    for record in whole.records.values():
        record.metrics["defense_effectiveness_rating"] = rating
    stat = place(overview_of(whole), "resnet", "badnets", "none").group.stats["defense_effectiveness_rating"]
    assert (stat.low, stat.high) == (None, None)
    assert stat.mean_low is not None


def test_changes_are_against_the_victim_of_the_same_seed() -> None:
    gap = overview_of(results(missing=["resnet/badnets/none/0"]))
    group = place(gap, "resnet", "badnets", "gn_ft").group
    assert group.changes[CLEAN_ACCURACY].values == pytest.approx({1: -20 / CLIPS, 2: -20 / CLIPS})
    assert group.changes[CLEAN_ACCURACY].sd == pytest.approx(0.0, abs=1e-12)
    assert list(group.before[ATTACK_SUCCESS].values) == [1, 2]
    assert group.stats[ATTACK_SUCCESS].mean == pytest.approx(21 / CLIPS)  # all three


def test_missing_and_failed_cells_are_told_apart() -> None:
    gaps = results(missing=["lstm/daba/gn_ft/2"], failed={"resnet/daba/gn_ft/1": "out of memory"}, strays=2)
    overview = overview_of(gaps)
    missing, failed = place(overview, "lstm", "daba", "gn_ft"), place(overview, "resnet", "daba", "gn_ft")
    assert (missing.group.status, missing.group.missing, missing.trouble) == ("partly done", (2,), "seed 2 not run yet")
    assert (failed.group.status, failed.group.missing) == ("failed", ())
    assert failed.trouble == "seed 1 failed: out of memory"
    assert (overview.counts.done, overview.counts.failed, overview.counts.missing) == (52, 1, 1)
    empty = overview_of(replace(gaps, records={}, failures={}))
    assert {row.group.status for row in empty.rows} == {"missing"}
    assert empty.counts.missing == 54
    assert not empty.shortfalls


def test_a_cell_that_was_run_again_after_a_failure_is_finished() -> None:
    whole = results()
    overview = overview_of(replace(whole, failures={whole.slots[0].fingerprint: "an old failure"}))
    assert {row.group.status for row in overview.rows} == {"done"}


def test_a_record_that_two_cells_share_is_paid_for_once() -> None:
    whole = results(seeds=[0], models=["resnet"])
    twin = replace(whole.slots[0], name="resnet/other/none/0", options={"model": "resnet", "attack": "other"})
    overview = overview_of(replace(whole, slots=[*whole.slots, twin]))
    assert (overview.counts.done, overview.counts.planned) == (9, 9)  # as bench status counts
    assert overview.counts.seconds == pytest.approx(9 * 100.0)


def test_options_of_one_label_are_two_places() -> None:
    alike = results(axes=[Axis("model", dict.fromkeys(MODELS, "A model")), Axis("attack", ATTACKS)])
    overview = overview_of(alike)
    (pivot,) = pivots_of(overview)
    assert len(pivot.lines) == 8  # three attacks and their average, of two models
    shares = [entry.numbers[0].stat for line in pivot.lines if line.is_average for entry in line.entries if entry]
    assert len({stat.mean for stat in shares if stat}) == 6
    assert "averaged over the 6 places" in render_suite(overview)


def test_an_average_stands_once_below_its_places_whatever_the_order_of_axes() -> None:
    whole = results()
    axes = [Axis("attack", ATTACKS), Axis("model", MODELS)]
    slots = sorted(whole.slots, key=lambda slot: (slot.seed, list(ATTACKS).index(slot.options["attack"])))
    (turned,) = pivots_of(overview_of(replace(whole, axes=axes, slots=slots)))
    (straight,) = pivots_of(overview_of(whole))
    assert [line.labels for line in turned.lines] == [line.labels for line in straight.lines]
    assert [line.is_average for line in turned.lines] == [False, False, False, True] * 2


def test_averages_are_over_attacks_and_beside_the_papers_over_the_same() -> None:
    averages = {(row.labels, row.average.defense): row.average for row in overview_of(results()).averages}
    assert len(averages) == 6
    ours = averages[("ResNet",), "gn_ft"]
    assert ours.stats[ATTACK_SUCCESS].mean == pytest.approx((21 + 11 + 41) / 3 / CLIPS)
    assert ours.stats[ATTACK_SUCCESS].sd == pytest.approx(1 / CLIPS)  # every attack moves by one clip a seed
    assert ours.effect is not None
    assert ours.effect.before == pytest.approx((491 + 496 + 481) / 3 / CLIPS)
    assert ours.effect.change == pytest.approx(-(20 + 20 + 40) / 3 / CLIPS)
    assert ours.papers == pytest.approx({key: paper_average(key, "gn_ft") for key in (CLEAN_ACCURACY, ATTACK_SUCCESS)})
    assert ours.papers_effect is not None
    assert ours.papers_effect.before == pytest.approx(paper_average(ATTACK_SUCCESS, "none"))
    lstm = averages[("LSTM & attention",), "gn_ft"]
    assert (lstm.papers, lstm.verdict) == ({}, None)


def test_an_average_with_gaps_is_held_against_the_papers_same_places() -> None:
    gaps = [f"resnet/daba/gn_ft/{seed}" for seed in range(3)]
    average = next(row.average for row in overview_of(results(missing=gaps)).averages if row.defense == "GN-FT")
    assert (average.used, average.planned) == (2, 3)
    assert average.papers[ATTACK_SUCCESS] == pytest.approx((0.0592 + 0.0021) / 2)
    assert average.whole[ATTACK_SUCCESS] == pytest.approx(paper_average(ATTACK_SUCCESS, "gn_ft"))


def test_averages_of_other_places_come_again_over_the_shared_ones() -> None:
    gone = [*(f"resnet/daba/gn_ft/{seed}" for seed in range(3)), "resnet/badnets/gn_ft/0"]
    overview = overview_of(results(missing=gone))
    assert {row.labels for row in overview.common} == {("ResNet",)}  # all of the other model is shared
    shared = {row.average.defense: row for row in overview.common}
    assert {row.places for row in shared.values()} == {"Audio BadNets (seeds 1, 2), Ultrasonic <21 kHz>"}
    fine_tuned = shared["fine_tuning"].average
    assert fine_tuned.stats[ATTACK_SUCCESS].mean == pytest.approx((201.5 + 101) / 2 / CLIPS)
    assert shared["gn_ft"].average.stats[ATTACK_SUCCESS].mean == pytest.approx((21.5 + 11) / 2 / CLIPS)
    assert fine_tuned.effect is not None
    assert fine_tuned.effect.before == pytest.approx((491.5 + 496) / 2 / CLIPS)
    of_all = next(row.average for row in overview.averages if row.defense == "Fine-Tuning")
    assert of_all.stats[ATTACK_SUCCESS].mean == pytest.approx((201 + 101 + 301) / 3 / CLIPS)
    assert overview_of(results()).common == ()


def test_headline_numbers_are_over_the_shared_places_and_name_them() -> None:
    gone = [f"lstm/{attack}/gn_ft/{seed}" for attack in ATTACKS for seed in range(3)]
    text = " ".join(render_suite(overview_of(results(missing=gone))).split())
    assert "averaged over the 3 places" in text
    assert "finished: ResNet: Audio BadNets, Ultrasonic &lt;21 kHz&gt;, DABA." in text


def test_an_average_is_as_unsure_as_the_clips_of_its_places() -> None:
    averages = {(row.labels, row.average.defense): row.average for row in overview_of(results()).averages}
    stat = averages[("ResNet",), "gn_ft"].stats[ATTACK_SUCCESS]
    shares = [proportion(hits, CLIPS) for hits in (21, 11, 41)]
    assert stat.low == pytest.approx(sum(one.low for one in shares) / 3)
    assert stat.high == pytest.approx(sum(one.high for one in shares) / 3)


def test_an_average_over_different_seeds_is_as_unsure_as_each_places_seeds() -> None:
    found = results(missing=[f"resnet/daba/gn_ft/{seed}" for seed in (1, 2)])
    last = next(slot for slot in found.slots if slot.name == "resnet/badnets/gn_ft/2")
    record = found.records[last.fingerprint]
    metrics = {**record.metrics, ATTACK_SUCCESS: proportion(350, CLIPS)}
    scattered = {**found.records, last.fingerprint: record.model_copy(update={"metrics": metrics})}
    overview = overview_of(replace(found, records=scattered))
    row = next(row for row in overview.averages if row.defense == "GN-FT")
    stat = row.average.stats[ATTACK_SUCCESS]
    alone = place(overview, "resnet", "badnets", "gn_ft").group.stats[ATTACK_SUCCESS]
    other = place(overview, "resnet", "ultrasonic", "gn_ft").group.stats[ATTACK_SUCCESS]
    assert alone.mean_high is not None
    assert other.mean_high is not None
    reach = math.hypot(alone.mean_high - alone.mean, other.mean_high - other.mean) / 3  # DABA has one seed
    assert stat.high == pytest.approx(stat.mean + reach)
    assert stat.low == pytest.approx(max(0.0, stat.mean - reach))
    assert reach > 0.3
    text = " ".join(render_suite(overview).split())
    assert "DABA (seed 0)" in text  # all places have begun, and not all seeds are there
    assert "7/9" in text


def test_ours_is_held_against_another_defense_of_the_papers_and_says_so() -> None:
    overview = overview_of(results(against={"fine_tuning": "gn_ft"}))
    rival = place(overview, "resnet", "badnets", "fine_tuning")
    assert rival.verdict is not None
    assert rival.verdict.text == "not reached: ASR 34.28 points above the paper's GN-FT"
    assert rival.paper(ATTACK_SUCCESS) is None  # its number is not one of this defense
    assert len(overview.rivals) == 4
    assert overview.judged == 4  # and those are counted by themselves
    assert "GN-FT by the same rule: 0 of 4 averages and places reach it" in render_suite(overview)


def test_the_reason_of_a_place_stands_beside_its_verdict() -> None:
    remarks = [
        Remark({"model": "resnet"}, "gn_ft", "its clips are others"),
        Remark({"model": "resnet", "attack": "ultrasonic"}, "gn_ft", "the tone is out of reach"),
    ]
    overview = overview_of(results(remarks=remarks))
    ultrasonic, badnets = (place(overview, "resnet", one, "gn_ft").verdict for one in ("ultrasonic", "badnets"))
    assert ultrasonic is not None
    assert badnets is not None
    assert (ultrasonic.reason, badnets.reason) == ("the tone is out of reach", "")  # what is reached needs none
    page = render_suite(overview)
    assert 'points more than the paper&#39;s. <span class="quiet">the tone is out of reach.</span>' in page
    assert "its clips are others" not in page


def test_columns_come_in_the_order_of_the_suite() -> None:
    whole = results(table_rows=("model",), table_columns=("attack",))
    turned = [slot for attack in reversed(ATTACKS) for slot in whole.slots if slot.options["attack"] == attack]
    for pivot in pivots_of(overview_of(replace(whole, slots=turned))):
        assert pivot.column_labels == tuple(ATTACKS.values())


def test_a_victim_that_cells_share_has_one_row() -> None:
    whole = results(seeds=[0], models=["resnet"])
    axes = [*whole.axes, Axis("alpha", {"a": "0.3", "b": "0.7"})]
    slots = [replace(slot, options={**slot.options, "alpha": alpha}) for alpha in "ab" for slot in whole.slots]
    mine = [
        slot if slot.is_victim or slot.options["alpha"] == "a" else replace(slot, fingerprint=slot.fingerprint[::-1])
        for slot in slots
    ]
    overview = overview_of(replace(whole, axes=axes, slots=mine))
    averages = [row for row in overview.shown_averages if row.average.is_victim]
    assert [row.labels for row in averages] == [("",)]
    assert len(overview.shown_averages) == len(overview.averages) - 1  # those of repairs stay apart
    rows = overview.places
    victims = [row for row in rows if row.group.is_victim]
    assert [row.labels for row in victims] == [(label, "") for label in ATTACKS.values()]
    assert len(rows) == 3 + 2 * 6


def test_each_step_of_a_repair_has_its_own_choice() -> None:
    def trial(accuracy: float, accepted: bool, **settings: float) -> dict[str, Any]:
        return {"settings": settings, "held_out_accuracy": accuracy, "accepted": accepted, "seconds": 1.0}

    tried = [trial(0.7, False, share=0.003), trial(0.9, True, share=0.0), trial(0.88, True, share=0.001)]
    tried += [trial(0.5, False, strength=0.5), trial(0.6, False, strength=0.0)]
    tried += [trial(0.9, True, learning_rate=0.004), trial(0.2, False, learning_rate=0.01)]
    record = next(iter(results().records.values()))
    steps = _details.selections([record.model_copy(update={"details": {"selection": tried, "chosen": 5}})])
    assert [step.varied for step in steps] == [("share",), ("strength",), ("learning_rate",)]
    assert [[trial.chosen for trial in step.trials] for step in steps] == [
        [False, False, True],
        [False, True],
        [True, False],
    ]


def test_a_page_says_how_close_the_next_stronger_candidate_was() -> None:
    rates = ((0.004, 0.92, True), (0.01, 0.9, False))
    tried = [
        {"settings": {"learning_rate": rate}, "held_out_accuracy": share, "accepted": kept, "seconds": 1.0}
        for rate, share, kept in rates
    ]
    stronger = {"missing": 0.01, "change": {"value": -0.02, "low": -0.05, "high": 0.01}, "is_distinct": False}
    details = {"selection": tried, "chosen": 0, "clips": {"held_out": 200}}
    record = next(iter(results().records.values()))

    def doubt(**more: Any) -> str:
        (selection,) = _details.selections([record.model_copy(update={"details": {**details, **more}})])
        return selection.doubt

    assert doubt() == (
        "The next stronger candidate was refused at 90.0 % (95 % interval 85.1–93.4, 200 clips); the chosen one has "
        "92.0 %."
    )
    assert doubt(stronger=stronger).endswith(
        "−2.0 points apart (95 % interval −5.0 to +1.0), and 1.0 points were missing: these clips do not tell the two "
        "apart."
    )
    assert "these clips tell the two apart" in doubt(stronger={**stronger, "is_distinct": True})
    tried[1]["accepted"] = True
    assert doubt() == ""


def test_a_published_average_stands_in_place_of_a_computed_one() -> None:
    average = Published({"model": "resnet"}, "gn_ft", {CLEAN_ACCURACY: 0.9040, ATTACK_SUCCESS: 0.0973})
    overview = overview_of(results(published=[average, *PAPER]))
    ours = next(row.average for row in overview.averages if row.defense == "GN-FT")
    assert ours.papers == ours.whole == average.metrics  # all of its places are finished
    gaps = results(published=[average, *PAPER], missing=[f"resnet/daba/gn_ft/{seed}" for seed in range(3)])
    some = next(row.average for row in overview_of(gaps).averages if row.defense == "GN-FT")
    assert some.papers[ATTACK_SUCCESS] == pytest.approx((0.0592 + 0.0021) / 2)
    badnets = place(overview, "resnet", "badnets", "gn_ft")
    assert badnets.paper(ATTACK_SUCCESS) == 0.0592  # of the place, not the average


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        (Effect(0.99, 0.0973, -0.0414), "reached"),
        (Effect(0.99, 0.09734, -0.04144), "reached"),  # equal where papers print
        (Effect(0.99, 0.05, 0.01), "reached"),
        (Effect(0.99, 0.10, -0.04), "not reached: ASR 0.27 points above the paper's"),
        (Effect(0.99, 0.05, -0.05), "not reached: CA falls by 0.86 points more than the paper's"),
        (
            Effect(0.99, 0.20, -0.05),
            "not reached: ASR 10.27 points above the paper's, CA falls by 0.86 points more than the paper's",
        ),
    ],
)
def test_the_verdict_holds_ours_against_the_papers(ours: Effect, said: str) -> None:
    verdict = judge(ours, Effect(0.9172, 0.0973, -0.0414))
    assert verdict is not None
    assert verdict.text == said
    assert verdict.tone == ("good" if said == "reached" else "bad")


def test_the_sample_reaches_the_paper_where_it_should() -> None:
    overview = overview_of(results())
    verdicts = {row.title: row.verdict for row in overview.rows if row.verdict}
    assert [verdict.tone for verdict in verdicts.values()] == ["good", "bad", "good"]
    assert overview.judged == 4  # three places and their average
    assert [title for title, _ in overview.shortfalls] == ["ResNet · Ultrasonic <21 kHz> · GN-FT"]


def test_numbers_of_other_data_are_not_held_against_the_papers() -> None:
    overview = overview_of(results(note="synthetic speech in place of SC10"))
    assert overview.judged == 0
    assert overview.has_papers


def test_a_repair_is_counted_from_the_victim_that_it_repaired() -> None:
    whole = results(seeds=[0])
    slot = next(one for one in whole.slots if one.name == "resnet/badnets/gn_ft/0")
    repaired = whole.records[slot.fingerprint]
    own = {**repaired.metrics, CLEAN_ACCURACY: measure(460, CLIPS)}  # the victim in the table has 450
    again = repaired.model_copy(update={"before": own})
    overview = overview_of(replace(whole, records={**whole.records, slot.fingerprint: again}))
    there, other = (place(overview, "resnet", "badnets", name).group for name in ("gn_ft", "fine_tuning"))
    assert (there.retrained, other.retrained) == ((0,), ())
    assert there.before[CLEAN_ACCURACY].mean == pytest.approx(460 / CLIPS)
    assert there.changes[CLEAN_ACCURACY].mean == pytest.approx((430 - 460) / CLIPS)
    page = render_cell(overview, place(overview, "resnet", "badnets", "gn_ft"), slot, Clipped())
    assert RETRAINED in page
    assert "92.0" in page
    assert RETRAINED not in render_cell(
        overview_of(whole), place(overview_of(whole), "resnet", "badnets", "gn_ft"), slot, Clipped()
    )
