"""Which servers run a model, and whether a service starts one: what rm and uninstall ask."""

from __future__ import annotations

from pathlib import Path

from plm_edge.serve import running as known
from plm_edge.serve import service
from plm_edge.serve.running import RunningServer


def running() -> list[RunningServer]:
    """The servers that run."""
    return known.servers()


def of_model(path: str) -> list[RunningServer]:
    """The servers on this machine that run the model at `path`."""
    wanted = Path(path).resolve()
    return [one for one in running() if not one.device and Path(one.model).resolve() == wanted]


def service_file() -> Path | None:
    """The file of the service that starts a server with the machine; None without one."""
    path = service.unit(service.kind_here(), ()).path
    return path if path.exists() else None


def remove_service() -> None:
    """Switch that service off and remove its file, where there is one.

    Raises:
        PlmEdgeError: the file is not ours.
    """
    if service_file():
        service.remove(service.unit(service.kind_here(), ()))
