"""This module says how many cores there are, of what kind each is, and which are big.

One rule says what a big core is, for this machine and for devices: see `big`.
Numbers of ARM's cores are from Arm's technical reference manuals (MIDR_EL1), as util-linux's
lscpu-arm.c lists them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from plm_edge.machine.cpu import Processor

PARTS = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57",
    0xD08: "Cortex-A72", 0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77", 0xD40: "Neoverse-V1", 0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710",
    0xD48: "Cortex-X2", 0xD49: "Neoverse-N2", 0xD4B: "Cortex-A78C", 0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3", 0xD4F: "Neoverse-V2", 0xD80: "Cortex-A520", 0xD81: "Cortex-A720",
    0xD82: "Cortex-X4", 0xD85: "Cortex-X925", 0xD87: "Cortex-A725",
}  # fmt: skip
ARM_LTD = 0x41

# Cores that execute in order, and Apple's "efficiency core": much slower than their clock says.
LITTLE = ("Cortex-A35", "Cortex-A53", "Cortex-A55", "Cortex-A510", "Cortex-A520", "efficiency core")
# With as many little cores as big ones, and the work in equal parts, a core of half the capacity
# makes a step neither faster nor slower.
LEAST_CAPACITY = 0.5
# A clock tells less, for a little core does less in a cycle too: a Pixel 8's little cores have 58 %
# of the best one's clock, and its middle ones, which help, 81 %.
LEAST_CLOCK = 0.6


class Core(NamedTuple):
    """What is known of a core; None where nobody tells.

    Attributes:
        kind: Cortex-A76, or an x86's model name.
        clock: the highest one, in any unit that is the same for all cores.
        capacity: the kernel's figure, 1024 for a machine's best core.
    """

    kind: str
    clock: float | None = None
    capacity: int | None = None


def big(cores: Sequence[Core]) -> list[bool]:
    """Says which cores to compute with: decode waits for its slowest thread, so no little one.

    A core is big when it is of no little kind and has at least LEAST_CAPACITY of the best core's
    capacity; where capacities tell nothing (missing, or all equal), LEAST_CLOCK of its clock. A
    machine that has nothing but little cores computes with them.

    Returns:
        True for each core that is big, in their order.
    """
    able = [not core.kind.endswith(LITTLE) for core in cores]
    if not any(able):
        able = [True] * len(cores)
    capacities = [core.capacity for core in cores if core.capacity is not None]
    if len(capacities) == len(cores) and len(set(capacities)) > 1:
        least = LEAST_CAPACITY * max(capacities)
        fast = [(core.capacity or 0) >= least for core in cores]
    else:
        least = LEAST_CLOCK * max((core.clock or 0 for core in cores), default=0)
        fast = [core.clock is None or core.clock >= least for core in cores]
    return [a and b for a, b in zip(able, fast, strict=True)]


def kind(processor: Processor) -> str:
    """Returns the kind of a processor of /proc/cpuinfo: Cortex-A76, or an x86's model name."""
    if "CPU part" in processor:
        implementer = int(processor.get("CPU implementer", "0"), 16)
        return arm_kind(implementer, int(processor["CPU part"], 16))
    return processor.get("model name", "unknown core")


def arm_kind(implementer: int, part: int) -> str:
    """Names a core: Cortex-A76 for 0x41, 0xd0b, the numbers themselves for one that is not
    listed."""
    known = PARTS.get(part) if implementer == ARM_LTD else None
    return known or f"implementer 0x{implementer:02x}, part 0x{part:03x}"


def allowed() -> set[int]:
    """Returns the CPUs that this process may run on (taskset, container CPU sets)."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(logical()))


def logical() -> int:
    """Returns how many CPUs this machine has, a hyper-thread counted as one; at least 1."""
    return os.cpu_count() or 1


def physical() -> int | None:
    """Returns how many physical cores there are; None where the system does not tell."""
    import psutil

    return psutil.cpu_count(logical=False)
