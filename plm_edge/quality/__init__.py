"""How close a model is to a better one."""
