"""The converter makes a quantised GGUF of a PLM checkpoint or of another GGUF."""
