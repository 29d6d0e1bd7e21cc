"""Engine and model on a device: put there, proven, run from here, and taken away again."""
