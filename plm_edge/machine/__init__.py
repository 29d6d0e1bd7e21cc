"""This room asks what the machine is and has: its CPU, its cores, its memory, each in one place.

Devices answer the same questions through a script (`plm_edge.devices.facts`), and share the
parsing and the rules of this room.
"""
