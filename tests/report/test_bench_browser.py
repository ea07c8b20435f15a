"""A suite's report in a real browser: no complaint, tables sort and filter, clips load, pages lead to each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from bench_samples import clips, results

from soundproof.report.suites import write_suite

Look = Callable[..., tuple[dict[str, Any], str]]

OVERVIEW = """
  const tools = document.querySelector(".tools"), table = document.querySelector("#places");
  const shown = () => [...table.tBodies[0].rows].filter(row => row.getClientRects().length);
  const column = place => shown().map(row => row.cells[place].firstChild?.textContent.trim() ?? "");
  const heads = [...table.tHead.rows[0].cells].map(cell => cell.textContent.trim());
  const asr = heads.findIndex(text => text.startsWith("ASR")), papers = asr + 1;
  const numbers = place => shown().map(row => row.cells[place].dataset.sort);
  const click = place => table.tHead.rows[0].cells[place].querySelector("button").click();
  const before = column(2);
  click(asr);
  const rising = numbers(asr), state = table.tHead.rows[0].cells[asr].getAttribute("aria-sort");
  click(asr);
  const falling = numbers(asr);
  click(papers);
  const published = numbers(papers);
  const type = (node, text) => { node.value = text; node.dispatchEvent(new Event("input", { bubbles: true })); };
  const search = tools.querySelector("[data-search]"), [model, , defense] = tools.querySelectorAll("[data-filter]");
  type(search, "ultrasonic gn-ft");
  const searched = column(1).map((text, place) => [text, column(2)[place]]);
  const count = tools.querySelector("[data-count]").textContent;
  type(search, "");
  type(model, "LSTM & attention");
  const filtered = [...new Set(column(0))], left = shown().length;
  type(defense, "GN-FT");
  const both = shown().length;
  tools.reset();
  await new Promise(done => setTimeout(done, 20));
  const after = column(2), links = [...document.querySelectorAll("a")].map(node => node.href);
  const visible = tools.getClientRects().length > 0;
  return { before, rising, state, falling, published, searched, count, filtered, left, both, after, links, visible };
"""

CELL = """
  const players = [...document.querySelectorAll("audio")];
  const seconds = players.map(node => node.duration), broken = players.filter(node => node.error).length;
  return { seconds, broken, links: [...document.querySelectorAll("a")].map(node => node.href) };
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gaps = results(seeds=[0, 1], missing=["lstm/daba/gn_ft/1"], failed={"resnet/daba/gn_ft/1": "out of memory"})
    return write_suite(gaps, tmp_path_factory.mktemp("suite"), clips=clips).page.parent


def there(link: str) -> bool:
    return Path(unquote(urlparse(link).path)).is_file()


def test_the_overview_sorts_and_filters(look: Look, folder: Path) -> None:
    found, log = look(folder / "index.html", OVERVIEW, 1280)
    assert found["complaints"] == []
    assert ":CONSOLE" not in log
    assert found["over"] <= 0
    assert found["wide"] == 0
    rising = [float(text) for text in found["rising"]]
    assert len(rising) == 18
    assert rising == sorted(rising)
    assert found["state"] == "ascending"
    assert [float(text) for text in found["falling"]] == sorted(rising, reverse=True)
    published = [text for text in found["published"] if text]
    assert published == sorted(published, key=float)
    assert found["published"] == published + [""] * (18 - len(published))  # rows without a number go last
    assert found["searched"] == [["Ultrasonic <21 kHz>", "GN-FT"]] * 2
    assert found["count"] == "2 of 18 rows"
    assert found["filtered"] == ["LSTM & attention"]
    assert (found["left"], found["both"]) == (9, 3)
    assert found["after"] == found["before"]
    assert found["visible"]
    assert len(found["links"]) >= 35
    assert [link for link in found["links"] if not there(link)] == []


def test_the_overview_fits_a_small_window(look: Look, folder: Path) -> None:
    found, _ = look(folder / "index.html", "return {};", 500)
    assert found["complaints"] == []
    assert found["over"] <= 0
    assert found["wide"] == 0


def test_clips_load_and_links_lead_back(look: Look, folder: Path) -> None:
    found, log = look(folder / "cells" / "resnet~ultrasonic~gn_ft~0.html", CELL, 1280)
    assert found["complaints"] == []
    assert ":CONSOLE" not in log
    assert found["seconds"] == pytest.approx([0.25, 0.25], abs=0.02)
    assert found["broken"] == 0
    assert found["over"] <= 0
    assert [link for link in found["links"] if not there(link)] == []
    assert str(folder / "index.html") in [unquote(urlparse(link).path) for link in found["links"]]
    assert len(found["links"]) == 4  # the overview, two other defenses, the other seed


def test_without_scripts_the_tables_are_whole(folder: Path) -> None:
    text = (folder / "index.html").read_text()
    assert '<form class="tools" hidden>' in text
    assert text.count('data-order="') == 18
