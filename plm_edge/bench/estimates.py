"""Estimates of devices by their profiles, with a short run here for zeros and the check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from plm_edge.bench import kernels, session
from plm_edge.bench.analyse import cost, estimate, machines
from plm_edge.bench.analyse.estimate import DeviceEstimate
from plm_edge.bench.worker.client import Setting
from plm_edge.bench.workload import find
from plm_edge.devices import connect
from plm_edge.machine import cpu
from plm_edge.machine.threads import default_threads
from plm_edge.model import gguf_file
from plm_edge.model.description import describe

DEPTHS = (0, 512, 2048, 4096)


def of(names: Sequence[str], setting: Setting, display: session.Display) -> list[DeviceEstimate]:
    """Estimates for profiles; the model runs here for its zeros and for the check.

    Args:
        names: NAME or NAME@HOST, of which the address is not used.

    Returns:
        One for each profile, in their order.

    Raises:
        PlmEdgeError: a profile is not known or names no bandwidth, or the model cannot be run.
    """
    profiles = [connect.describe(name.partition("@")[0])[0] for name in names]
    run_here = replace(find("quick"), prefill=(512,), depths=(0, 512), loads=False)
    header = gguf_file.read(setting.model)
    said = describe(header)
    price = cost.of(header, setting.kv, sparse=said.layout == "edge")
    threads = setting.threads or default_threads()

    def kernels_here() -> kernels.Rates:
        return kernels.measure(price.types, said.n_embd or 2048, threads, price.attention)

    # before the run and after it: other machines may take from the memory that this one shares
    measured = [kernels_here()]
    result = session.run(replace(setting, threads=threads), run_here, display)
    measured.append(kernels_here())
    features = connect.describe(machines.HERE)[0].features
    here = machines.of_here(measured, features, cpu.clock_ghz())
    return [estimate.of_device(one, price, result, here, DEPTHS) for one in profiles]
