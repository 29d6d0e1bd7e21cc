"""From a PLM checkpoint (or GGUF) to a quantised GGUF."""
