"""The patched tree on disk: upstream's files with overlay and patches, and the tree's hash."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.files import sha256
from plm_edge.upstream import patches, sdist
from plm_edge.upstream.pin import Pin

STAMP = ".plm-edge-sync.json"


def place(folder: Path) -> Path:
    """Where the patched tree of a vendor folder lies."""
    return folder / ".tree"


def files(tree: Path) -> list[Path]:
    """The tree's files in order of path, without our stamp and what running Python leaves."""
    found = (p for p in tree.rglob("*") if p.is_file() and p.name != STAMP)
    return sorted(path for path in found if "__pycache__" not in path.parts)


def tree_hash(tree: Path) -> str:
    """sha256 over "path NUL sha256(content) LF" of each file, in order of path."""
    digest = hashlib.sha256()
    for path in files(tree):
        name = path.relative_to(tree).as_posix()
        digest.update(f"{name}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


def read_stamp(folder: Path) -> dict[str, object]:
    """What the last `sync` recorded of the tree; empty when there is none."""
    try:
        text = (place(folder) / STAMP).read_text(encoding="utf-8")
        stamp: dict[str, object] = json.loads(text)
    except (OSError, ValueError):
        return {}
    return stamp


def write_text(path: Path, text: str) -> None:
    """Writes only what differs: an untouched file keeps its time, and is not compiled again."""
    data = text.encode()
    if not path.is_file() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".plm-edge-tmp")
        beside.write_bytes(data)
        if path.is_file():
            shutil.copymode(path, beside)
        beside.replace(path)


def sync(folder: Path, pin: Pin, *, record: bool = False) -> str:
    """Makes .tree what PIN.toml, overlay and patches say.

    Args:
        record: accept a tree that is not the recorded one; the caller writes its hash to PIN.toml.

    Returns:
        The tree's hash.

    Raises:
        PlmEdgeError: upstream cannot be fetched, a patch does not apply, or the hash is another.
    """
    inputs, stamp, tree = patches.inputs_hash(folder, pin), read_stamp(folder), place(folder)
    if stamp.get("inputs") == inputs and (record or stamp.get("tree") == pin.tree):
        return str(stamp["tree"])
    file = sdist.fetch(pin)
    if stamp.get("sdist") != pin.sha256:
        sdist.unpack(file, pin.subtree, tree)
        stamp = {}
    touched = {str(name) for name in stamp.get("touched", [])}  # type: ignore[attr-defined]
    before, after = patches.changed_files(folder, pin, file, touched)
    (tree / STAMP).unlink(missing_ok=True)  # a broken run leaves no stamp: the next starts over
    for name, text in after.items():
        write_text(tree / name, text)
    for name in touched - after.keys():
        (tree / name).unlink(missing_ok=True)
    result = tree_hash(tree)
    if result != pin.tree and not record:
        raise PlmEdgeError(
            "the patched tree is not the recorded one",
            f"its hash is {result}, PIN.toml says {pin.tree or 'nothing'}",
            "after a change of overlay or patches run `sync.py pin`, else check out PIN.toml again",
        )
    names = sorted(name for name in after if before.get(name) != after[name])
    stamp = {"inputs": inputs, "sdist": pin.sha256, "tree": result, "touched": names}
    write_text(tree / STAMP, json.dumps(stamp, indent=1) + "\n")
    return result
