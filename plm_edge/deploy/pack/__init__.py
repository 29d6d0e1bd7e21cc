"""A packed folder runs a model on a device that has no Python: server, model, page, script."""
