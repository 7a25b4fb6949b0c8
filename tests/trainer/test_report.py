import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from pilothouse.trainer.charts import Chart, Curve
from pilothouse.trainer.rankings import pair_accuracy
from pilothouse.trainer.report import SamplePair, render, write_report
from pilothouse.trainer.statistics import Interval
from pilothouse.trainer.summary import Comparison, Limits, Summary, library_versions, write_summary


def _comparison(name: str, mean: float, low: float, high: float) -> Comparison:
    flat = Interval(0.0, -0.1, 0.1, 64)
    return Comparison(name, flat, flat, Interval(mean, low, high, 64))


def _summary() -> Summary:
    accuracy = pair_accuracy([np.array([2.0, 0.0, -1.0, -2.0], np.float32)] * 8, [(1, 1, 2, 2)] * 8)
    return Summary(
        run="demo",
        seed=7,
        model="tiny",
        reward_model=accuracy,
        reward=_comparison("Held-out reward", 0.5, 0.3, 0.7),
        independent=_comparison("VADER compound", 0.1, -0.05, 0.25),
        kl_per_sequence=Interval(3.0, 2.5, 3.5, 64),
        response_tokens=_comparison("Response tokens", 1, 0, 2),
        eos_share=_comparison("EOS", 0, 0, 0),
        seconds={"sft": 60.0, "reward model": 30.0},
        limits=Limits(),
        versions=library_versions(),
        settings={"trainable layers": "10 of 30"},
        notes=("Rankings were made from labels.",),
    )


def test_a_summary_passes_when_every_condition_holds() -> None:
    assert _summary().passed


@pytest.mark.parametrize(
    ("field", "value", "failed"),
    [
        ("reward", _comparison("Held-out reward", 0.5, -0.01, 0.9), "held-out reward rises"),
        ("independent", _comparison("VADER", -0.2, -0.3, -0.1), "independent measure"),
        ("independent", _comparison("VADER", -0.001, -0.1, 0.1), "independent measure"),
        ("kl_per_sequence", Interval(20.5, 19, 22, 64), "KL"),
        ("limits", Limits(reward_model_accuracy=1.01), "reward model ranks"),
    ],
)
def test_each_condition_alone_fails_the_run(field: str, value: object, failed: str) -> None:
    summary = replace(_summary(), **{field: value})
    assert not summary.passed
    assert [failed in item.name for item in summary.conditions if not item.passed] == [True]


def test_the_summary_file_names_what_scripts_need(tmp_path: Path) -> None:
    body = json.loads(write_summary(_summary(), tmp_path).read_text())
    assert body["seed"] == 7
    assert body["reward_model"]["accuracy"]["mean"] == 1.0
    assert body["reward"]["difference"] == {"mean": 0.5, "low": 0.3, "high": 0.7, "count": 64}
    assert set(body["independent"]) == {"measure", "before", "after", "difference"}
    assert body["kl_per_sequence"]["mean"] == 3.0
    assert body["response_tokens"]["before"]["mean"] == 0.0
    assert body["seconds"] == {"sft": 60.0, "reward model": 30.0}
    assert body["total_seconds"] == 90.0
    assert body["versions"]["python"]
    assert body["passed"] is True
    assert [item["passed"] for item in body["conditions"]] == [True] * 4
    assert "needed a mean difference of at least 0" in body["conditions"][2]["detail"]


class _Outside(HTMLParser):
    """Collects whatever would make a browser run or fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "img", "iframe"} or any(name in {"src", "href"} for name, _ in attrs):
            self.found.append(tag)


def test_the_report_is_one_page_that_loads_nothing_and_escapes_texts(tmp_path: Path) -> None:
    chart = Chart("Loss", "step", (Curve("sft", range(30), np.linspace(3, 1, 30).tolist()),), level=2.0)
    sample = SamplePair("the <b>film", " & bad", -1.0, " is <script>alert(1)</script>", 1.0)
    page = write_report(_summary(), [chart], [sample], tmp_path).read_text()
    outside = _Outside()
    outside.feed(page)
    assert outside.found == []
    assert "url(" not in page
    assert "&lt;script&gt;" in page
    assert "prefers-color-scheme: dark" in page
    for text in ("every condition held", "Rankings were made from labels.", "10 of 30", "<svg"):
        assert text in page


def test_a_failed_condition_is_told_at_the_top() -> None:
    page = render(replace(_summary(), kl_per_sequence=Interval(99, 98, 100, 64)), [], [])
    assert "a condition did not hold" in page


@pytest.mark.parametrize("ys", [[1.0], [2.0, 2.0], [float("nan"), 1.0, 3.0], list(range(40)), [1e-9, 2e-9]])
@pytest.mark.parametrize("points", [False, True])
def test_charts_are_well_formed_for_any_curve(ys: list[float], points: bool) -> None:
    svg = Chart("A & B", "step", (Curve("x < y", range(len(ys)), ys),), points=points).svg()
    root = ElementTree.fromstring(svg)
    numbers = [
        float(value) for node in root.iter() for key, value in node.items() if key in {"cx", "cy", "y1"}
    ]
    assert all(-1 <= number <= 521 for number in numbers)


def test_a_chart_without_a_finite_point_is_left_out() -> None:
    assert Chart("A", "step", (Curve("x", [0.0], [float("nan")]),)).svg() == ""
