"""Cycles of kernels on ARM cores that are not here, by LLVM's models of these cores: estimates.

A program for the device runs under qemu here, which records every instruction that an operation
executes (`recording.py`). llvm-mca lets a model of the core execute them (`simulator.py`, with the
models of `cores.py`): its ports and latencies, with caches that always hit and branches that are
always foreseen.
"""
