"""The runtimes: where programs are executed."""
