"""`python -m latentwrap.cli`."""

from latentwrap.cli.main import main

main()
