"""Prints what rounds cost on Ray: see `benchmarks.cluster.rounds`."""

import sys

from benchmarks.cluster.rounds import main

main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
