"""The commands about the models that a person has: pull, add, list, show, rm, alias."""
