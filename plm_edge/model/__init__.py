"""What a model file says of itself: its header, types, shape, and what running it needs."""
