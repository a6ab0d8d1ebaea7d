"""The README: its commands are the ones promised, its examples run, and what it names exists."""

import doctest
import re
from pathlib import Path

import pytest

import demos.stage
from autodiff import TABLE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "command",
    [
        'python3 -m venv .venv && .venv/bin/pip install -e ".[demo]" && .venv/bin/python -m demos',
        'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/python -m pytest',
    ],
)
def test_each_command_stands_on_one_line(command):
    assert README.splitlines().count(command) == 1


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example saves a picture
    try:
        outcome = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    finally:
        TABLE.pop("swish", None)  # an example adds a row
    assert outcome.attempted > 45
    assert outcome.failed == 0
    for name in ("scalars.svg", "layers.svg"):
        assert (tmp_path / name).read_text(encoding="utf-8").startswith("<svg")


def test_every_demo_is_listed():
    listed = re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE)
    assert tuple(listed) == demos.stage.DEMOS
    for name in listed:
        assert (ROOT / "demos" / f"{name}.py").exists()


def test_every_file_it_names_exists():
    names = set(re.findall(r"`((?:autodiff|nn)/[\w/.]+)`", README))
    assert len(names) >= 3
    assert all((ROOT / name).exists() for name in names)
