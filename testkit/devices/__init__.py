"""Devices on this machine: an ssh server that behaves as a Pi, an adb daemon as a phone."""
