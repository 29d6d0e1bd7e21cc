"""Which servers run, asked where that is known; without the room of servers there are none."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any


def running() -> list[Any]:
    """The servers that run, as serve.running.RunningServer."""
    module = _room("running")
    found: list[Any] = module.servers() if module else []
    return found


def of_model(path: str) -> list[Any]:
    """The servers on this machine that run the model at `path`."""
    wanted = Path(path).resolve()
    return [one for one in running() if not one.device and Path(one.model).resolve() == wanted]


def service_file() -> Path | None:
    """The file of the service that starts a server with the machine; None without one."""
    service = _room("service")
    unit = service.unit(service.kind_here(), ()) if service else None
    return Path(unit.path) if unit and unit.path.exists() else None


def remove_service() -> None:
    """Switch that service off and remove its file, where there is one."""
    service = _room("service")
    if service and service_file():
        service.remove(service.unit(service.kind_here(), ()))


def _room(name: str) -> Any:
    try:
        return importlib.import_module(f"plm_edge.serve.{name}")
    except ModuleNotFoundError:
        return None
