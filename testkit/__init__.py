"""What tests and benchmarks share: checkpoints, PLM in torch, models and engines, fake devices.

It imports plm_edge; tests/ and benchmarks/ import it, and plm_edge never does.
"""
