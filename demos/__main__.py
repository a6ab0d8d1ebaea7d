"""`python -m demos`: every demo, every check, one verdict."""

from demos.stage import main

if __name__ == "__main__":
    raise SystemExit(main())
