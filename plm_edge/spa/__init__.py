"""SPA: a frozen base on a server, and on the device what is personal: a side plugin and a memory.

The base's states and likeliest tokens go to the device, one frame a token; there the plugin changes
what comes next. docs/spa.md says what the server sees, and what it does not. The idea is that of
arXiv 2403.07088; what differs, and why, is in docs/spa.md too.
"""
