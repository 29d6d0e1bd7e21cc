"""This room measures how close a model is to a better one."""
