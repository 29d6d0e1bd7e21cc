"""A running llama-server generates, here or on a device: its HTTP API is behind one protocol."""
