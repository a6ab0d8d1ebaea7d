"""`python -m nn`: the command `chainrule`."""

from nn.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
