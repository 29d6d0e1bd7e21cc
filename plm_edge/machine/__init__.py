"""What this machine is and has: its processor, cores and memory, each asked in one place."""
