"""Run the command line with ``python -m perilune``."""

from perilune.cli import main

main()
