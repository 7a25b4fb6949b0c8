"""Dashboards that Grafana imports as they are, and whose every expression Prometheus understands."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .observing import BOARDS, dashboard, panels, promtool, shown
from .rendering import Require

UNITS = {"bytes", "none", "percentunit", "reqps", "s", "short"}
"""Of Grafana's list; a unit of ours is a suffix."""
CURRENT_SCHEMA = 41
"""Of Grafana 12; later versions migrate it when they read it."""

each_board = pytest.mark.parametrize("board", BOARDS)


@each_board
def test_a_dashboard_is_known_by_its_name_and_finds_its_data_source_and_release(board: str) -> None:
    found = dashboard(board)
    assert found["uid"] == f"pilothouse-{board}"
    assert len(found["uid"]) <= 40
    assert found["title"] == f"Pilothouse / {board.capitalize()}"
    assert found["schemaVersion"] == CURRENT_SCHEMA
    assert found.get("id") is None  # Grafana gives it
    assert found["description"]
    variables = {variable["name"]: variable for variable in found["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "release"]
    assert variables["datasource"]["type"] == "datasource"
    for name in ("namespace", "release"):
        assert re.fullmatch(rf"label_values\(pilothouse_\w+.*, {name}\)", variables[name]["query"]["query"])
        assert variables[name]["allValue"] == ".*"  # also where there is no such label, as on a laptop


@each_board
def test_a_panel_says_what_it_shows_and_in_which_unit(board: str) -> None:
    titles = []
    for panel in panels(board):
        unit = panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"].endswith("."), panel["title"]
        assert unit in UNITS or unit.startswith("suffix: "), panel["title"]
        assert panel["targets"], panel["title"]
        titles.append((panel["type"], panel["title"]))
    assert len(set(titles)) == len(titles)
    assert 8 <= len(titles) <= 20  # what one looks at, not all there is


@each_board
def test_everything_asks_the_data_source_that_was_chosen_for_the_release_that_was_chosen(board: str) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels(board):
        assert panel["datasource"] == chosen
        for target in panel["targets"]:
            assert target["datasource"] == chosen
            selectors = re.findall(r"[\w:]+\{([^}]*)\}", target["expr"])
            assert selectors, panel["title"]
            assert all('namespace=~"$namespace",release=~"$release"' in labels for labels in selectors)
            assert "[" not in target["expr"].replace("[$__rate_interval]", "").replace("[24h]", "")


@each_board
def test_panels_neither_overlap_nor_leave_the_grid_and_have_ids_of_their_own(board: str) -> None:
    taken: set[tuple[int, int]] = set()
    found = dashboard(board)["panels"]
    for panel in found:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in found}) == len(found)


def test_the_dashboards_lead_to_each_other() -> None:
    for board in BOARDS:
        found = dashboard(board)
        [link] = found["links"]
        assert link["tags"] == found["tags"] == ["pilothouse"]
        assert link["includeVars"]


def test_promtool_accepts_every_expression(tmp_path: Path, require: Require) -> None:
    run: Callable[..., str] = promtool(require)
    rules = [{"record": f"panel:{n}", "expr": one.text} for n, one in enumerate(shown())]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run("check", "rules", file)
