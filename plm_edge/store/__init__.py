"""The store knows the models that a person has: which there are, which is meant."""
