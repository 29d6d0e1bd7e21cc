"""This room knows the machines that a model can run on, and how to reach them.

This room knows no model. What it offers above it: `profiles` (devices/*.toml), `detect` (a profile
from what a machine reports), `known` (devices that a person added), and `connect`, which opens any
of them as a `transport.Transport`: the same put, get, run, alive and facts for each.
"""
