"""llvm-mca: cycles that a model of a core takes for instructions in the order of their execution.

Long recordings are simulated in pieces, evenly spread: the cycles an instruction of the pieces
stand for the whole. Debian's packages install programs named after their version; the newest is
taken, since newer ones have models of newer cores.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.cycles.cores import CORES, Core

Words = npt.NDArray[np.uint32]
OLDEST = 19
_NEWEST = 30  # there is none yet
PIECES, PIECE = 12, 3000  # so many, of so many instructions: four seconds of llvm-mca's time
_ALL = "--mattr=+all"
# A call is a jump here: what it calls is in the recording. llvm-mca would wait 100 cycles for it.
_AS_JUMPS = {"bl": "b", "blr": "br", "ret": "br"}
_RETURN = "br\tx30"
_LEFT_OUT = ("svc", "hint")  # they have no model, and no kernel is made of them


@dataclass(frozen=True)
class Llvm:
    """llvm-mca and llvm-mc of one version."""

    version: int
    mca: str
    mc: str


def find() -> Llvm:
    """The newest llvm-mca on the path, with its llvm-mc.

    Raises:
        PlmEdgeError: there is none, or only older ones than OLDEST.
    """
    newest = 0
    for suffix in (*(f"-{version}" for version in range(_NEWEST, OLDEST - 1, -1)), ""):
        mca, mc = shutil.which(f"llvm-mca{suffix}"), shutil.which(f"llvm-mc{suffix}")
        if mca and mc:
            told = subprocess.run([mca, "--version"], capture_output=True, text=True).stdout
            found = re.search(r"version (\d+)", told)
            version = int(found.group(1)) if found else 0
            if version >= OLDEST:
                return Llvm(version, mca, mc)
            newest = max(newest, version)
    raise PlmEdgeError(
        "cycles cannot be estimated here",
        f"the newest llvm-mca is {newest}, and models of these cores came later"
        if newest
        else "llvm-mca is not installed",
        f"install LLVM {OLDEST} or newer (Debian: apt install llvm-22)",
        ExitCode.ENVIRONMENT,
    )


def core(name: str, llvm: Llvm) -> Core:
    """The model of a core.

    Raises:
        PlmEdgeError: there is none, or this LLVM has none.
    """
    if name not in CORES:
        raise PlmEdgeError(
            f"there is no model of {name}",
            f"models are known of {', '.join(CORES)}",
            "choose one of these, or add it to plm_edge/bench/cycles/cores.py",
            ExitCode.USAGE,
        )
    found = CORES[name]
    if llvm.version < found.since:
        raise PlmEdgeError(
            f"there is no model of {name} here",
            f"LLVM has it from version {found.since} on, and this is {llvm.version}",
            f"install it (Debian: apt install llvm-{found.since})",
            ExitCode.ENVIRONMENT,
        )
    return found


def cycles(words: Words, on: Core, llvm: Llvm) -> float:
    """Cycles an instruction, of what was executed.

    Args:
        words: instructions in the order of their execution, uint32 [n].

    Raises:
        PlmEdgeError: llvm-mca does not know an instruction among them.
    """
    regions = []
    for number, piece in enumerate(pieces(words)):
        lines = [line for line in assembly(piece, llvm) if line]
        regions += [f"# LLVM-MCA-BEGIN {number}", *lines, f"# LLVM-MCA-END {number}"]
    command = [llvm.mca, "--mtriple=aarch64", _ALL, f"--mcpu={on.cpu}", f"--dispatch={on.width}"]
    command += ["--iterations=1", "--json", "--instruction-info=0", "--resource-pressure=0"]
    command += ["--skip-unsupported-instructions=lack-sched"]  # atomic ones, where threads meet
    told = json.loads(_run(command, "\n".join(regions) + "\n"))
    views = [region["SummaryView"] for region in told["CodeRegions"]]
    return float(
        sum(view["TotalCycles"] for view in views) / sum(view["Instructions"] for view in views)
    )


def pieces(words: Words) -> list[Words]:
    """What of a recording is simulated: all of it, or PIECES of it."""
    if len(words) <= PIECES * PIECE:
        return [words]
    starts = np.linspace(0, len(words) - PIECE, PIECES).astype(int)
    return [words[start : start + PIECE] for start in starts]


def assembly(words: Words, llvm: Llvm) -> list[str]:
    """Each instruction as llvm-mca reads it; empty for those that are left out.

    Raises:
        PlmEdgeError: one that LLVM does not know.
    """
    different, which = np.unique(words, return_inverse=True)
    known = [_readable(line) for line in _disassembled(different, llvm)]
    return [known[index] for index in which]


def _disassembled(words: Sequence[int] | Words, llvm: Llvm) -> list[str]:
    octets = [
        " ".join(f"0x{octet:02x}" for octet in int(word).to_bytes(4, "little")) for word in words
    ]
    told = _run([llvm.mc, "--triple=aarch64", _ALL, "--disassemble"], "\n".join(octets) + "\n")
    lines = [line.strip() for line in told.splitlines() if line.strip() and line.strip()[0] != "."]
    if len(lines) != len(words):
        raise PlmEdgeError(
            "what the device executes cannot be read",
            f"LLVM {llvm.version} knows {len(lines)} of {len(words)} instructions",
            "install a newer one (Debian: apt install llvm-22)",
            ExitCode.ENVIRONMENT,
        )
    return lines


def _readable(line: str) -> str:
    name, _, rest = line.partition("\t")
    if name in _LEFT_OUT:
        return ""
    if name == "ret" and not rest:
        return _RETURN
    return f"{_AS_JUMPS.get(name, name)}\t{rest}"


def _run(command: list[str], text: str) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise PlmEdgeError(
            f"{Path(command[0]).name} failed",
            (done.stderr.strip().splitlines() or ["it says nothing"])[0],
            "report it, with the versions that `plm-edge doctor` shows",
            ExitCode.ENVIRONMENT,
        )
    return done.stdout
