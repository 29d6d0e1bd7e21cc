"""An API key is a secret that requests must send; it lies in files that only their owner reads."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from plm_edge.base import files, folders
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.serve import running

VARIABLE = "PLM_EDGE_API_KEY"
_NEW = "new-"


def given(file: Path | None) -> Path | None:
    """The file with the keys that a person gave: by --api-key-file, else by PLM_EDGE_API_KEY.

    A key of the variable is written to a new file, for the server reads it there.

    Raises:
        PlmEdgeError: there is no key in the file, or it cannot be read, or others may read it.
    """
    if file is not None:
        return _checked(file)
    key = os.environ.get(VARIABLE, "").strip()
    if not key:
        return None
    if not key.isprintable() or key.startswith("#"):
        raise PlmEdgeError(
            f"the key in {VARIABLE} cannot be used",
            "it holds a control character, or begins with #",
            "take letters and digits, such as those of: openssl rand -hex 16",
            ExitCode.USAGE,
        )
    return _write(running.folder() / f"{_NEW}{secrets.token_hex(4)}.key", key)


def read(file: Path) -> str:
    """Returns the first key in a file.

    Raises:
        PlmEdgeError: there is none in it, or it cannot be read, or others may read it.
    """
    lines = _checked(file).read_text(encoding="utf-8").splitlines()
    return next(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def name_after(file: Path, port: int) -> Path:
    """Give a file that `given` made the name that its server's port asks for; leave others."""
    return file.replace(running.key_file(port)) if file.name.startswith(_NEW) else file


def drop(file: Path | None) -> None:
    """Remove a file that `given` made, for a server that never came; leave others."""
    if file is not None and file.name.startswith(_NEW):
        file.unlink(missing_ok=True)


def kept() -> Path:
    """The file with the key for other machines: made once, and used again each time.

    Raises:
        PlmEdgeError: our data folder cannot be written.
    """
    path = running.folder() / "lan.key"
    if path.is_file() and path.read_text(encoding="utf-8").strip():
        path.chmod(files.PRIVATE)
        return path
    return _write(path, secrets.token_urlsafe(24))


def _write(path: Path, key: str) -> Path:
    folders.ensure(path.parent, "PLM_EDGE_DATA_DIR")
    files.write_text(path, key + "\n", files.PRIVATE)
    return path


def _checked(file: Path) -> Path:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        mode = file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        why = str(error.strerror) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PlmEdgeError(f"the key file {file} cannot be read", why, "check the path") from error
    if not any(line.strip() and not line.startswith("#") for line in lines):
        raise PlmEdgeError(
            f"there is no key in {file}",
            "a key is a line that does not begin with #",
            f"write one: openssl rand -hex 16 > {file}",
        )
    if os.name == "posix" and mode & 0o077:
        raise PlmEdgeError(
            f"others on this machine may read the keys in {file}",
            f"its mode is {mode & 0o777:o}",
            f"close it: chmod 600 {file}",
        )
    return file.resolve()
