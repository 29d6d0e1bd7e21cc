"""LLVM's models of ARM's cores, and how many operations each takes a cycle.

LLVM names more cores than it has models of: for cortex-a76 it takes Cortex-A57's, of 2012, and for
cortex-x4 it took Cortex-A710's up to version 19. Neoverse N1 is the Cortex-A76 for servers, and has
a model of its own. Each figure therefore says whose model it is from.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Core:
    """How to simulate a core.

    Attributes:
        cpu: llvm-mca's -mcpu.
        of: the core that the model was made for.
        width: operations a cycle that it decodes, by ARM's optimisation guide of the core. LLVM's
            own number is another from version to version, chosen so that its compilers do well.
        since: the LLVM from which on `cpu` means this model.
    """

    cpu: str
    of: str
    width: int
    since: int


CORES = {
    "Cortex-A72": Core("cortex-a72", "Cortex-A57", 3, 19),
    "Cortex-A76": Core("neoverse-n1", "Neoverse N1, the Cortex-A76 for servers", 4, 19),
    "Cortex-A720": Core("cortex-a720", "Neoverse N2, the Cortex-A710 for servers", 5, 19),
    "Cortex-X4": Core("cortex-x4", "Neoverse V3, the Cortex-X4 for servers", 10, 22),
}
