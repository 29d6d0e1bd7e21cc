"""The build backend: scikit-build-core, told the platform tag that the wheel's libraries need.

The libraries are linked against this machine's C library. The tag that names exactly that one
(manylinux_2_36_x86_64 on Debian 12) promises no more than they keep: pip refuses the wheel where
the C library is older. scikit-build-core alone writes linux_x86_64, which pip takes anywhere.
"""

from __future__ import annotations

from packaging.tags import platform_tags
from scikit_build_core import build as backend
from scikit_build_core.build import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Settings = dict[str, list[str] | str]


def build_wheel(
    wheel_directory: str,
    config_settings: Settings | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Builds the wheel; returns its file name."""
    return str(backend.build_wheel(wheel_directory, _tagged(config_settings), metadata_directory))


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: Settings | None = None
) -> str:
    """Writes the wheel's dist-info; returns the folder's name."""
    made = backend.prepare_metadata_for_build_wheel(metadata_directory, _tagged(config_settings))
    return str(made)


def _tagged(config_settings: Settings | None) -> Settings:
    """The settings with `wheel.tags`, unless they have it or this system is no Linux."""
    names = (tag for tag in platform_tags() if tag.startswith(("manylinux_", "musllinux_")))
    newest = next(names, None)  # they come in order of version; the first is this machine's own
    tags: Settings = {} if newest is None else {"wheel.tags": f"py3-none-{newest}"}
    return tags | (config_settings or {})
