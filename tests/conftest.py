"""What holds for all tests.

The packages are imported before doctests are collected: pytest would import a second copy, whose classes are others.
Hypothesis draws the same examples for everybody, so that a red run is red elsewhere too.
"""

import gc

import pytest
from hypothesis import settings

import autodiff  # noqa: F401
import nn  # noqa: F401

settings.register_profile("same for all", derandomize=True, deadline=None, database=None)
settings.load_profile("same for all")


@pytest.fixture(autouse=True, scope="module")
def _garbage_is_sought_in_what_the_module_made():
    """A test that collects would search all modules and their thousands of tests, a fifth of a second each time."""
    gc.collect()
    gc.freeze()
