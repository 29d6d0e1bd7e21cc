"""Cycles of the hot loops on ARM cores that are not here, by LLVM's models of them: an estimate.

    python -m benchmarks.arm_cycles [--device rpi5] [--kernel q4_K] [--write]

For each device that has a core with a model: bench-plm-cycles is compiled as its engine is, run
under qemu, and what it executed is given to llvm-mca (plm_edge/bench/cycles/). Prints cycles a byte
of weights or of cache, ours beside upstream's, against the budget of the device's profile.

--write keeps all of it in benchmarks/results/arm.json, writes BENCHMARKS.md anew, and
plm_edge/bench/cycles/cycles.json, from which `bench --estimate` takes its K. --changed simulates
only what executes another number of instructions than in that file, in a third of the time.

Needs zig, cmake and ninja (make devices), qemu-user, a C compiler, and LLVM 22 (Debian: llvm-22).
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks import arm_report, origin, report
from benchmarks.refusal import three_lines
from plm_edge.base import files
from plm_edge.bench.cycles import budget, kernels, recording, simulator, sources, table
from plm_edge.bench.cycles.cores import Core
from plm_edge.bench.cycles.kernels import Executed, Kernel
from plm_edge.building import tools
from plm_edge.building.target import target_of
from plm_edge.devices.profiles.profile import Profile, find
from plm_edge.engine import library

SCHEMA = "plm-edge/benchmark-arm/2"
RESULT = report.RESULTS / "arm.json"
Known = dict[tuple[str, str, int, int], dict[str, Any]]
"""Figures by core, kernel, instructions and bytes."""
DEVICES = {
    "rpi5": ("Cortex-A76",),
    "rpi4": ("Cortex-A72",),
    "oneplus12": ("Cortex-X4", "Cortex-A720"),
}


def _show(done: int, steps: int, what: str) -> None:
    print(f"compiled {done} of {steps}: {what}", file=sys.stderr)


def measure(
    profile: Profile, cores: tuple[str, ...], wanted: list[Kernel], known: Known
) -> list[dict[str, Any]]:
    """The kernels on each core of a device, printed as they come; `known` ones unsimulated."""
    llvm = simulator.find()
    models = {name: simulator.core(name, llvm) for name in cores}
    kernels_hash = sources.hash_of(profile)
    program = recording.compile_for(profile, _show)
    limit = budget.of(profile)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in cores}
    seen: dict[Kernel, Executed] = {}
    with recording.Recorder(profile, program) as recorder:
        for kernel in wanted:
            sides = {"ours": kernel, "upstream": kernels.upstream_of(kernel)}
            found: dict[str, dict[str, Any]] = {name: {} for name in cores}
            for side, one in sides.items():
                if one is None:
                    continue
                if one not in seen:
                    seen[one] = kernels.execute(recorder, one)
                for name, model in models.items():
                    found[name][side] = known.get(
                        (name, one.name, seen[one].instructions, seen[one].n_bytes)
                    ) or _figures(one, seen[one], model, llvm)
            for name in cores:
                row = {
                    "kernel": kernel.name,
                    "kind": kernel.kind,
                    "type": kernel.type,
                    **found[name],
                }
                rows[name].append(row)
                print(arm_report.line(name, row, limit.cycles if limit else None), flush=True)
            if not any(one.upstream == kernel.name for one in wanted):
                seen.pop(kernel, None)
    target = target_of(profile, gpu=False)
    return [
        {
            "device": profile.name, "title": profile.title, "core": name,
            "model": {"cpu": models[name].cpu, "of": models[name].of, "width": models[name].width},
            "compiler": tools.compiler_version(target), "target": [target.triple, target.cpu],
            "sources": kernels_hash, "budget": vars(limit) if limit else None,
            "kernels": rows[name],
        }
        for name in cores
    ]  # fmt: skip


def recorded(data: dict[str, Any]) -> Known:
    """The figures of a result, ours and upstream's."""
    found: Known = {}
    for one in data["cores"]:
        for row in one["kernels"]:
            kernel = next((each for each in kernels.KERNELS if each.name == row["kernel"]), None)
            if kernel is None:  # it is no more
                continue
            for name, side in ((kernel.name, "ours"), (kernel.upstream, "upstream")):
                if side in row:
                    key = (one["core"], name, row[side]["instructions"], row[side]["bytes"])
                    found[key] = row[side]
    return found


def _figures(kernel: Kernel, run: Executed, model: Core, llvm: simulator.Llvm) -> dict[str, Any]:
    cycles = kernels.cycles(run, model, llvm)
    return {
        "instructions": run.instructions,
        "bytes": run.n_bytes,
        "products": kernel.n_products,
        "cycles_an_instruction": round(cycles / run.instructions, 4),
        "cycles_a_byte": round(cycles / run.n_bytes, 4),
    }


def cycles_of(data: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Cycles a multiplication of ours, by core and kernel: what the estimate takes."""
    return {
        one["core"]: {
            row["kernel"]: round(
                row["ours"]["cycles_a_byte"] * row["ours"]["bytes"] / row["ours"]["products"], 4
            )
            for row in one["kernels"]
        }
        for one in data["cores"]
    }


def keep(cores: list[dict[str, Any]]) -> None:
    """Write the result, what the estimate takes of it, and BENCHMARKS.md. Cores that were not
    measured now keep their last figures."""
    old = report.read(RESULT)["cores"] if RESULT.is_file() else []
    now = {"source": origin.revision(), "tree": library.read_pin().tree}
    new = {one["core"]: one for one in (*old, *(one | now for one in cores))}
    order = [core for of_device in DEVICES.values() for core in of_device]
    data = {
        "schema": SCHEMA, "estimate": True, "llvm": simulator.find().version,
        "cores": [new[core] for core in order if core in new],
    }  # fmt: skip
    files.write_text(RESULT, json.dumps(data, indent=1) + "\n")
    files.write_text(
        table.FILE, json.dumps({"estimate": True, "cores": cycles_of(data)}, indent=1) + "\n"
    )
    report.write()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", action="append", choices=list(DEVICES), help="default: all")
    parser.add_argument("--kernel", action="append", choices=[one.name for one in kernels.KERNELS])
    parser.add_argument("--write", action="store_true", help="keep the result")
    parser.add_argument(
        "--changed",
        action="store_true",
        help="quick: simulate only kernels that execute another number of instructions than "
        "recorded; what else changed in one is not seen",
    )
    said = parser.parse_args()
    if said.write and said.kernel:
        parser.error("--write keeps all kernels of a device: leave --kernel out")
    wanted = [one for one in kernels.KERNELS if not said.kernel or one.name in said.kernel]
    known = recorded(report.read(RESULT)) if said.changed else {}
    found = [
        core
        for device in said.device or DEVICES
        for core in measure(find(device), DEVICES[device], wanted, known)
    ]
    if said.write:
        keep(found)


if __name__ == "__main__":
    with three_lines():
        main()
