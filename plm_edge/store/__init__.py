"""The models that a person has on this machine: which there are, which is meant, what is in one."""
