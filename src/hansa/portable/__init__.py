"""What StableHLO a file may hold: a list of operations, and rules for the calls of libraries' code among them.

MLIR's reader of bytecode and XLA's compiler trust what they are given. So the functions of a file are looked at before
they are used: `process` does it in a process of its own, in which a crash harms nobody and time and memory are limited.
The modules here but `process` import nothing of JAX beside `jaxlib.mlir`, so that this process starts fast.
"""
