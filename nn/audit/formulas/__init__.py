"""Formulas of the backward pass as text: read, tried on networks, judged, and mended in the notation they came in."""
