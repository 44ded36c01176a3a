"""The runtime in this process: a call is one XLA program, or, where it must be, its stages one after another."""
