"""This room builds the engine for this machine and for others, and checks each build."""
