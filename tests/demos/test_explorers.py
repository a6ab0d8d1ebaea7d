"""The explorers' demo: its checks pass, and fail when an error is planted."""

import pytest

from demos import explorers
from tests.demos.recorder import Recorder


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    stage = Recorder("explorers", tmp_path_factory.mktemp("pages"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explorers, "BATCH", 20)  # the whole batch is for the demo
        explorers.run(stage)
    return stage


def test_it_passes_and_writes_its_pages(stage):
    assert stage.failed == []
    assert len(stage.files) == 7
    assert all(path.exists() for path in stage.files)


def test_each_check_can_fail(stage):
    for method, arguments, options in stage.calls:
        planted = Recorder("explorers", stage.out, f"explorers:{arguments[0]}")
        method(planted, *arguments, **options)
        assert planted.failed == [arguments[0]]
