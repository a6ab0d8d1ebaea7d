"""Imports the packages before doctests are collected: pytest would import a second copy, whose classes are others."""

import autodiff  # noqa: F401
import nn  # noqa: F401
