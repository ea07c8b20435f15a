"""The pages of a suite's report: what is on them, and that each leads where it says."""

from __future__ import annotations

import html
import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_samples import clips, results, slot

from soundproof.core.errors import StorageError
from soundproof.report.figures import SERIES_STYLES
from soundproof.report.page import TEMPLATES
from soundproof.report.suites import Written, write_suite
from soundproof.report.suites._clips import Clipped
from soundproof.report.suites._overview import page_of

GAPS = results(
    seeds=[0, 1],
    models=["resnet"],
    missing=["resnet/daba/gn_ft/1"],
    failed={"resnet/badnets/gn_ft/1": "it needs <a GPU> & more"},
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_suite(GAPS, tmp_path_factory.mktemp("suite"), clips=clips)


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", page.read_text(), flags=re.S)))


def test_every_finished_or_failed_cell_has_a_page(written: Written) -> None:
    folder = written.page.parent
    assert written.cells == 17  # of 18, one was not run
    assert len(list((folder / "cells").iterdir())) == 17
    assert not (folder / "cells" / "resnet~daba~gn_ft~1.html").exists()
    names = {file.name for file in folder.iterdir()}
    assert names == {
        "index.html",
        "cells",
        "report.md",
        "tables.tex",
        "report.tex",
        "table.csv",
        "averages.csv",
        "cells.csv",
    }


def test_no_two_cells_share_a_page() -> None:
    assert page_of(slot("resnet", "big-x", "none", 0)) != page_of(slot("resnet-big", "x", "none", 0))


@pytest.mark.parametrize("part", ["test", "validation"])
def test_every_page_says_which_clips_were_measured_on(part: str, tmp_path: Path) -> None:
    whole = results(seeds=[0], models=["resnet"])
    on: dict[str, Any] = {} if part == "test" else {"measure_on": part}
    slots = [replace(one, spec={**one.spec, **on}) for one in whole.slots]
    records = {key: one.model_copy(update={"spec": {**one.spec, **on}}) for key, one in whole.records.items()}
    overview = write_suite(replace(whole, slots=slots, records=records), tmp_path).page
    other = {"test": "validation", "validation": "test"}[part]
    for page in (overview, *overview.parent.glob("cells/*.html")):
        text = text_of(page).lower()
        assert f"{part} clips" in text
        assert f"{other} clip" not in text


def test_all_links_resolve(written: Written) -> None:
    pages = [written.page, *(written.page.parent / "cells").iterdir()]
    links = [(page, link) for page in pages for link in re.findall(r'href="([^"#:]+)"', page.read_text())]
    assert len(links) > 17
    assert [(page, link) for page, link in links if not (page.parent / link).is_file()] == []
    assert {link for page, link in links if page == written.page} >= {
        f"cells/{page.name}" for page in pages if page != written.page
    }


def test_pages_load_nothing_and_run_only_what_the_policy_names(written: Written) -> None:
    for page in [written.page, *(written.page.parent / "cells").iterdir()]:
        text = page.read_text()
        assert "default-src 'none'" in text
        assert re.findall(r'(?:src|href)="(?:https?:)?//', text) == []
        assert text.count("<script") == (page == written.page)


def test_the_overview_says_what_is_missing_failed_and_not_reached(written: Written) -> None:
    text = " ".join(text_of(written.page).split())
    assert "16/18" in text
    assert "1 failed, 1 missing" in text
    assert "Audio BadNets · GN-FT: seed 1 failed: it needs <a GPU> & more" in text
    assert "DABA · GN-FT: seed 1 not run yet" in text
    assert "Ultrasonic <21 kHz> · GN-FT: ASR 1.89 points above the paper's" in text
    assert "Model ResNet, in all cells" in text


def test_a_repair_has_its_numbers_curve_candidates_clips_and_spec(written: Written) -> None:
    page = written.page.parent / "cells" / "resnet~ultrasonic~gn_ft~0.html"
    text = " ".join(text_of(page).split())
    assert "435/500" in text
    assert "455/500" in text  # the victim beside it
    assert "The paper: CA 90.50 %; ASR 0.21 %" in text.replace("\xa0", " ")
    assert "training step of the repair" in text
    assert "★ chosen" in text
    assert '"name": "gn_ft"' in text
    assert page.read_text().count("<audio") == 2
    assert "triggers/ultrasonic" in text


def test_a_victim_has_its_training_log(written: Written) -> None:
    page = written.page.parent / "cells" / "resnet~ultrasonic~none~0.html"
    assert "Accuracy over epoch" in page.read_text()
    assert "Training log" in text_of(page)


def test_a_failed_cell_has_the_sentence_and_its_spec(written: Written) -> None:
    text = text_of(written.page.parent / "cells" / "resnet~badnets~gn_ft~1.html")
    assert "it needs <a GPU> & more" in text
    assert '"seed": 1' in text


def test_a_page_without_clips_says_why(written: Written) -> None:
    page = written.page.parent / "cells" / "resnet~daba~none~0.html"
    assert "No clips here: the corpus is not at hand" in text_of(page)
    assert "<audio" not in page.read_text()


def test_the_same_results_give_the_same_bytes(written: Written, tmp_path: Path) -> None:
    write_suite(GAPS, tmp_path, clips=clips)
    for file in written.page.parent.rglob("*.*"):
        assert (tmp_path / file.relative_to(written.page.parent)).read_bytes() == file.read_bytes(), file


def test_a_suite_that_nobody_ran_has_a_report_too(tmp_path: Path) -> None:
    nothing = results(seeds=[0], models=["resnet"], missing=[one.name for one in results().slots])
    written = write_suite(nothing, tmp_path)
    assert written.cells == 0
    assert "0/9" in text_of(written.page)
    assert "9 missing" in text_of(written.page)


def test_nothing_half_written_is_left_where_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    small = results(seeds=[0], models=["resnet"])
    with pytest.raises(StorageError, match="the disk is full"):
        write_suite(small, tmp_path / "out", clips=lambda slot: Clipped())
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_ten_styles_can_be_told_apart_also_by_those_who_see_fewer_colors() -> None:
    sheet = (TEMPLATES / "report.css").read_text()
    palettes = [re.findall(r"--s\d+: (#\w+);", line)[1:] for line in sheet.splitlines() if "--s1:" in line]
    assert len(palettes) == 3  # light, dark and print
    for palette in palettes:
        assert len(palette) == SERIES_STYLES == 10
        for half in (palette[:5], palette[5:]):  # the second is hatched as well
            for sight in SIGHTS:
                seen = [_lab(_linear(color) @ sight.T) for color in half]
                apart = [float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)]
                assert min(apart) > 15.0, (half, apart)  # a difference of 2 is just seen
    for style in range(1, SERIES_STYLES + 1):
        assert f".s{style} {{ --own: var(--s{style}); }}" in sheet


SIGHTS = [  # full sight, and Machado, Oliveira and Fernandes 2009 at full severity: protan, deutan, tritan
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
]


def _linear(color: str) -> Any:
    share = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _lab(rgb: Any) -> Any:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
