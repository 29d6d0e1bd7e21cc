"""This transport emulates a device: its programs run under qemu's user-mode emulation.

It tells whether a program is right for that CPU and answers as it should, never how fast.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from plm_edge.base import folders
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.devices.facts import Facts, Group
from plm_edge.devices.profiles.profile import Profile
from plm_edge.devices.transports.local import LocalTransport

_LIBRARIES = {"qemu-aarch64": Path("/usr/aarch64-linux-gnu")}  # for programs that are not static


class QemuTransport(LocalTransport):
    """A device whose programs are emulated here, and whose files go to a folder here.

    Args:
        profile: the device's.
        home: the folder here that stands for the device's login folder.

    Raises:
        PlmEdgeError: no emulator knows its CPU, or the emulator is not installed.
    """

    def __init__(self, profile: Profile, home: Path) -> None:
        super().__init__(home, f"{profile.name} (emulated)")
        if profile.emulator is None:
            raise PlmEdgeError(
                f"{profile.name} cannot be emulated",
                "its profile names no CPU model of qemu's",
                "choose another device, or add [emulator] to a profile of your own",
            )
        self.profile = profile
        name, self.cpu = profile.emulator
        found = shutil.which(name) or shutil.which(f"{name}-static")
        if found is None:
            raise PlmEdgeError(
                f"{profile.name} cannot be emulated here",
                f"{name} is not installed",
                "install it (Debian: apt install qemu-user)",
                ExitCode.ENVIRONMENT,
            )
        self.emulator = found
        self._libraries = _LIBRARIES.get(name)
        folders.ensure(home)

    def program(self, command: Sequence[str]) -> list[str]:
        prefix = [self.emulator, "-cpu", self.cpu]
        if self._libraries and self._libraries.is_dir() and "QEMU_LD_PREFIX" not in os.environ:
            prefix += ["-L", str(self._libraries)]
        return [*prefix, *command]

    def facts(self) -> Facts:
        """The facts of this machine, but with the emulated CPU."""
        return replace(
            super().facts(),
            machine=self.profile.arch,
            cpu=f"{self.cpu} (emulated by {Path(self.emulator).name})",
            features=self.profile.features,
            groups=tuple(
                Group(cluster.core, cluster.count, cluster.clock.value if cluster.clock else None)
                for cluster in self.profile.clusters
            ),
            gpus=(),
        )
