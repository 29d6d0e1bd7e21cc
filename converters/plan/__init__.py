"""A plan says what a conversion makes: each tensor's layout and type, and the metadata."""
