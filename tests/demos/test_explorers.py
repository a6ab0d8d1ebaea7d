"""The explorers' demo: its checks pass, and fail when an error is planted; its pages are small enough to send."""

import pytest

from demos import explorers
from tests.demos.recorder import Recorder


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    stage = Recorder("explorers", tmp_path_factory.mktemp("pages"))
    explorers.run(stage)
    return stage


def test_it_passes_and_writes_its_pages(stage):
    assert stage.failed == []
    sizes = {path.stem: path.stat().st_size / 1024 for path in stage.files}
    assert len(sizes) == 7
    assert sizes.pop("explore_circles_90") < 4 * 1024
    assert max(sizes.values()) < 150


def test_each_check_can_fail(stage):
    for method, arguments, options in stage.calls:
        planted = Recorder("explorers", stage.out, f"explorers:{arguments[0]}")
        method(planted, *arguments, **options)
        assert planted.failed == [arguments[0]]
