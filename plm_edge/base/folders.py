"""plm-edge keeps its files in the user's folders, or where a variable says."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from plm_edge.base.errors import ExitCode, PlmEdgeError


def cache() -> Path:
    """Returns the folder of what can be made again: converted files, engines, emulated devices.

    PLM_EDGE_CACHE_DIR names another.
    """
    return Path(os.environ.get("PLM_EDGE_CACHE_DIR") or platformdirs.user_cache_dir("plm-edge"))


def data() -> Path:
    """Returns the folder of what is remembered: which models were made, what was measured.

    PLM_EDGE_DATA_DIR names another.
    """
    return Path(os.environ.get("PLM_EDGE_DATA_DIR") or platformdirs.user_data_dir("plm-edge"))


def config() -> Path:
    """Returns the folder of a person's own profiles and devices.

    PLM_EDGE_CONFIG_DIR names another.
    """
    return Path(os.environ.get("PLM_EDGE_CONFIG_DIR") or platformdirs.user_config_dir("plm-edge"))


def ensure(place: Path, variable: str = "PLM_EDGE_CACHE_DIR") -> Path:
    """Make one of our folders if it is not there, and return it.

    Args:
        variable: the environment variable that puts it elsewhere, for the error.

    Raises:
        PlmEdgeError: it cannot be made, or not be written (code ENVIRONMENT).
    """
    why = "it may only be read"
    try:
        place.mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK):
            return place
    except OSError as error:
        why = str(error.strerror)
    raise PlmEdgeError(
        f"the folder {place} cannot be used",
        why,
        f"set {variable} to a folder that you can write",
        ExitCode.ENVIRONMENT,
    )
