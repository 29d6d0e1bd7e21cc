"""A conversation with a model: its turns, its file, and what of it fits the context."""
