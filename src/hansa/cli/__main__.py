"""`python -m hansa.cli` is the `hansa` command, for where scripts are not on the path."""

from hansa.cli import main

main()
