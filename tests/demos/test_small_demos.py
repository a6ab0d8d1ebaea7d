"""The demos that run in a blink: they pass, draw what they promise, and every check of theirs fails when planted."""

import importlib
import io
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest
from rich.console import Console

from demos import crosscheck
from demos.stage import Stage

ROOT = Path(__file__).parents[2]
NAMES = ("total_derivative", "network", "crosscheck")
ORIGINAL = crosscheck.by_differences
BY_GRAPH = crosscheck.by_graph
MEASURED = {}


def measured_once(*network):
    """by_differences, measured again only for another claim: an error planted elsewhere leaves it as it is."""
    key = b"".join(claim.tobytes() for claim in network[-1].values())
    if key not in MEASURED:
        MEASURED[key] = ORIGINAL(*network)
    return MEASURED[key]


def graphed_once(*network):
    """by_graph, once for each network: an error is planted in a check or in a claim, never in the graph."""
    key = repr(network[:3])
    if key not in MEASURED:
        MEASURED[key] = BY_GRAPH(*network)
    return dict(MEASURED[key])


def play(name, out, plant=None):
    console = Console(file=io.StringIO(), width=200)
    stage = Stage(out, plant, console)
    stage.demo = name
    importlib.import_module(f"demos.{name}").run(stage)
    return stage, stage.finish(), console.file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_it_passes_and_writes_its_pictures(name, tmp_path):
    stage, code, text = play(name, tmp_path)
    assert code == 0, text
    assert len(stage.checks) >= 6
    for path in stage.files:
        xml.etree.ElementTree.parse(path)
        assert path.name in text


@pytest.mark.parametrize("name", NAMES)
def test_an_error_planted_in_any_check_is_found_and_named(name, tmp_path, monkeypatch):
    monkeypatch.setattr(crosscheck, "by_differences", measured_once)
    monkeypatch.setattr(crosscheck, "by_graph", graphed_once)
    monkeypatch.setattr(Stage, "table", lambda *_, **__: None)  # dear, and printed in the test above
    names = [check for check, _ in play(name, tmp_path)[0].checks]
    assert len(names) == len(set(names))
    for check in names:
        stage, code, text = play(name, tmp_path, plant=check)
        assert code == 1
        assert [failed for failed, ok in stage.checks if not ok] == [check]
        assert f"FAIL {check}" in text


def test_the_command_line_plants_and_exits(tmp_path):
    command = [sys.executable, "-m", "demos.total_derivative", "--out", str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).returncode == 0
    done = subprocess.run([*command, "--plant", "paths"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "FAIL total_derivative:paths" in done.stdout
    done = subprocess.run([*command, "--plant", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
