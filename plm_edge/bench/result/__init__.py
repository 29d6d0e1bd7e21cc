"""A result of bench: its shape, how it is gathered from samples, and the schema made from it."""
