"""`plm-edge run` continues a prompt, here or on a device."""

from plm_edge.cli.run.command import run

__all__ = ["run"]
