"""This room knows the machines that a model can run on, and how to reach them.

It knows no model. It offers `profiles` (devices/*.toml, and the devices that a person added),
`detect` (a profile from what a machine reports), and `connect`, which opens any device as a
`transport.Transport` with the same put, get, run, alive and facts.
"""
