"""Builds of the engine, for this machine and for others: checked, and kept by what made them."""
