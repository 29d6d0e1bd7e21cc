"""This room runs llama-server on this machine: found or built, started, watched and stopped."""
