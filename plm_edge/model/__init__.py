"""This room reads what a model file says of itself: header, types, shape, and what it needs."""
