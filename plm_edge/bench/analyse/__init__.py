"""What measurements mean: cost of a token, what bounds it, energy, comparison, estimate."""
