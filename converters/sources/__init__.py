"""Where tensors, metadata and vocabulary come from: a checkpoint, the Hugging Face hub, a GGUF."""
