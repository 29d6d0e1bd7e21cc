"""Generating is the same from outside wherever it happens: here, on a device, or split."""
