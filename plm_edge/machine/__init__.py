"""What this machine is and has: its CPU, its cores, its memory; each is asked in one place.

Devices answer the same questions through a script (`plm_edge.devices.facts`), and share the
parsing and the rules of this room.
"""
