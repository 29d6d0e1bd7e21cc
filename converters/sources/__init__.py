"""A source gives tensors, metadata and vocabulary: a checkpoint, the hub, or a GGUF."""
