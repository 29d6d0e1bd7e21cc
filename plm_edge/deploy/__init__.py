"""This room puts engine and model on a device, proves them, runs them, and removes them."""
