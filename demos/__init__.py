"""One idea per file; `python -m demos` runs them all, `python -m demos.NAME` one."""
