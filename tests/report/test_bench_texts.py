"""A suite's report in Markdown, LaTeX and CSV, read back."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from bench_samples import ATTACKS, CLIPS, paper_average, results

from soundproof.report.suites import latex
from soundproof.report.suites._overview import overview_of
from soundproof.report.suites.markdown import suite_markdown
from soundproof.report.suites.spreadsheet import averages_csv, cells_csv, table_csv

GAPS = results(missing=["lstm/daba/gn_ft/2"], failed={"resnet/daba/gn_ft/1": 'out of memory, "all" of it'})

ODD = "α, Δ and x₂ of 語, é, e\u0301: ħ"


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_cells_as_csv_are_one_line_for_each_metric() -> None:
    lines = rows(cells_csv(overview_of(GAPS)))
    assert len(lines) == 52 * 4 + 2
    one = next(x for x in lines if x["cell"] == "resnet/badnets/gn_ft/1" and x["metric"] == "attack_success_rate")
    assert (one["model"], one["attack"], one["defense"], one["seed"], one["status"]) == (
        *("resnet", "badnets", "gn_ft", "1"),
        "done",
    )
    assert float(one["value"]) == 21 / CLIPS
    assert (float(one["numerator"]), float(one["denominator"])) == (21, CLIPS)
    missing = next(line for line in lines if line["cell"] == "lstm/daba/gn_ft/2")
    assert (missing["status"], missing["metric"], missing["value"], missing["failure"]) == ("missing", "", "", "")
    failed = next(line for line in lines if line["cell"] == "resnet/daba/gn_ft/1")
    assert (failed["status"], failed["failure"]) == ("failed", 'out of memory, "all" of it')
    assert len(failed["fingerprint"]) == 16


def test_the_table_as_csv_has_ours_the_papers_and_the_verdict() -> None:
    lines = rows(table_csv(overview_of(GAPS)))
    assert len(lines) == 18 * 4
    one = next(
        x for x in lines if (x["model"], x["attack"], x["defense"]) == ("resnet", "ultrasonic", "gn_ft")
        and x["metric"] == "attack_success_rate"
    )  # fmt: skip
    assert float(one["mean"]) == pytest.approx(11 / CLIPS)
    assert float(one["sd"]) == pytest.approx(1 / CLIPS)
    assert float(one["paper"]) == 0.0021
    assert float(one["paper_difference"]) == pytest.approx(11 / CLIPS - 0.0021)
    assert one["verdict"].startswith("not reached: ASR 1.99 points")
    assert (one["seeds"], one["missing_seeds"], one["failed_seeds"]) == ("0 1 2", "", "")
    gap = next(x for x in lines if (x["model"], x["attack"], x["defense"]) == ("lstm", "daba", "gn_ft"))
    assert (gap["seeds"], gap["missing_seeds"], gap["status"]) == ("0 1", "2", "partly done")


def test_the_averages_as_csv_are_of_all_that_is_finished_and_of_what_is_shared() -> None:
    lines = rows(averages_csv(overview_of(GAPS)))
    rates = [line for line in lines if line["metric"] == "attack_success_rate" and line["defense"] == "gn_ft"]
    assert [(line["over"], line["model"], line["places"]) for line in rates] == [
        ("finished", "resnet", "3"),
        ("finished", "lstm", "3"),
        ("shared", "resnet", "3"),
        ("shared", "lstm", "3"),
    ]
    shared = rates[2]
    assert float(shared["mean"]) == pytest.approx((21 + 11 + 41) / 3 / CLIPS)
    assert shared["names"] == "Audio BadNets, Ultrasonic <21 kHz>, DABA (seeds 0, 2)"
    assert float(shared["low"]) < float(shared["mean"]) < float(shared["high"])
    assert float(shared["paper"]) == pytest.approx(paper_average("attack_success_rate", "gn_ft"))
    assert float(shared["change"]) < -0.9
    ratings = [line for line in lines if line["metric"] == "defense_effectiveness_rating"]
    assert len(ratings) == 12


def test_markdown_tables_are_tables_and_name_what_is_not_there() -> None:
    text = suite_markdown(overview_of(GAPS))
    assert "52 of 54 records are there, 1 failed, 1 missing; seeds 0, 1, 2." in text
    assert "- LSTM & attention · DABA · GN-FT: seed 2 not run yet" in text
    assert '- ResNet · DABA · GN-FT: seed 1 failed: out of memory, "all" of it' in text
    assert "Ultrasonic &lt;21 kHz>" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    line = next(line for line in text.splitlines() if line.startswith("| ResNet | Ultrasonic") and "GN-FT" in line)
    assert "| 2.2 ± 0.2 [1.2–3.9] | 0.21 |" in line
    average = next(line for line in text.splitlines() if line.startswith("| ResNet | GN-FT | 3/3: Audio BadNets"))
    assert "| 90.3 ± 0.3 |" in average  # the rating
    assert "## Averages over the places that all defenses share" in text
    assert "DABA (seeds 0, 2)" in text
    pivot = next(line for line in text.splitlines() if line.startswith("| ResNet | Audio BadNets | 98.2 ± 0.2 (99.27)"))
    assert pivot.endswith("| 4.2 ± 0.2 (5.92) | 85.8 ± 0.2 (88.44) |")
    assert "| ResNet | Average |" in text
    assert "- ResNet · Ultrasonic &lt;21 kHz> · GN-FT: not reached: ASR 1.99 points above the paper's" in text


def test_latex_has_whole_tables_with_as_many_columns_as_announced() -> None:
    text = latex.suite_latex(overview_of(GAPS))
    tables = re.findall(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(tables) == 1 + 2 + 2  # as papers lay it out, averages of all and of what is shared, each model's numbers
    for columns, body in tables:
        assert body.index(r"\toprule") < body.index(r"\midrule") < body.index(r"\bottomrule")
        for line in re.findall(r"^(.*) \\\\$", body, re.MULTILINE):
            spans = [int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert len(re.split(r"(?<!\\)&", line)) + sum(spans) == len(columns), line
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == len(tables)
    assert r"A sample of 50 \% \& more" in text
    assert r"Ultrasonic \textless{}21 kHz\textgreater{}" in text
    assert r"$4.2" not in text
    assert r"4.2 $\pm$ 0.2 (5.92)" in text
    assert r"8.2 $\pm$ 0.3 [2/3] (9.43)" in text
    assert r"& {\tiny 2.8--6.3} &" in text
    assert "1.0 GiB" in text
    assert set("±−—→·–“”") & set(text) == set()
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(set(labels)) == len(labels)


def test_a_table_of_many_columns_becomes_several_that_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = latex.suite_latex(overview_of(GAPS))
    monkeypatch.setattr(latex, "_MOST_PAIRS", 2)
    parts = latex.suite_latex(overview_of(GAPS))
    assert parts.count(r"\begin{table}") == whole.count(r"\begin{table}") + 1
    assert r"A sample of 50 \% \& more (no defense to Fine-Tuning): attack" in parts
    assert r"A sample of 50 \% \& more (GN-FT to GN-FT): attack" not in parts
    assert r"A sample of 50 \% \& more (GN-FT): attack" in parts
    labels = re.findall(r"\\label\{(.*?)\}", parts)
    assert len(set(labels)) == len(labels)
    rows = [line for line in parts.splitlines() if line.startswith("ResNet & Audio BadNets & 98.2")]
    assert [line.count(" & ") for line in rows] == [5]
    assert any(
        line.startswith("ResNet & Audio BadNets & 4.2 ") and line.count(" & ") == 3 for line in parts.splitlines()
    )


def test_a_table_that_no_page_holds_becomes_several(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = latex.suite_latex(overview_of(results()))
    assert "Part 1 of" not in whole
    monkeypatch.setattr(latex, "_MOST_LINES", 8)
    text = latex.suite_latex(overview_of(results()))
    tables = re.findall(r"\\caption\{([^\n]*)\}\n(.*?)\\end\{table\}", text, re.DOTALL)
    averages = [(caption, body) for caption, body in tables if "averages over each attack" in caption]
    assert [caption.partition("Part ")[2] for caption, _ in averages] == ["1 of 2.", "2 of 2."]
    assert [("ResNet" in body, r"LSTM \& attention" in body) for _, body in averages] == [(True, False), (False, True)]
    for _, body in tables:
        assert body.index(r"\midrule") < body.index("3/3") if "3/3" in body else r"\toprule" in body

    def rows(made: str) -> list[str]:
        return sorted(line for line in made.splitlines() if "% Made" not in line and line.count("&") and "tiny" in line)

    assert rows(text) == rows(whole)
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(set(labels)) == len(labels)


def test_long_labels_are_broken_into_lines() -> None:
    text = latex.suite_latex(overview_of(GAPS))
    broken = re.findall(r"\\parbox\[t\]\{5cm\}\{\\raggedright\\strut (.*?)\\strut\}", text)
    assert broken
    assert all(one.startswith("Of ") and one.endswith(" alone") for one in broken)
    assert "Ultrasonic" in broken[0]


def test_latex_gets_only_letters_that_it_prints() -> None:
    text = latex.suite_latex(overview_of(results(title=ODD)))
    assert r"$\alpha$, $\Delta$ and x2 of U+8A9E, é, é: U+0127" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed; the tables are only parsed")
def test_latex_compiles(tmp_path: Path) -> None:
    (tmp_path / "tables.tex").write_text(latex.suite_latex(overview_of(results(title=ODD))))
    (tmp_path / "report.tex").write_text(latex.DOCUMENT)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "report.pdf").is_file()


def test_options_can_be_columns_and_what_is_left_over_makes_tables_of_its_own() -> None:
    turned = results(table_rows=("model",), table_columns=("attack",))
    text = suite_markdown(overview_of(turned))
    assert "## Fine-Tuning\n" in text
    assert "## GN-FT\n" in text
    assert "## no defense\n" not in text  # a victim has the same numbers in all of these
    heads = [line for line in text.splitlines() if line.startswith("| Model | Audio BadNets: ASR %")]
    assert len(heads) == 2
    assert heads[0].count(": CA %") == len(ATTACKS)
