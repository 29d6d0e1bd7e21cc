"""What a person does to the patches: prove them, and fold an edited tree back into one."""

from __future__ import annotations

import re
from pathlib import Path

from plm_edge.base.errors import PlmEdgeError
from plm_edge.upstream import sdist, tree
from plm_edge.upstream.patches import HEADERS, Patch, export, overlay, series
from plm_edge.upstream.pin import Pin


def check(folder: Path, pin: Pin) -> str:
    """Proves that patches and tree are as recorded.

    The patches apply in order, export back byte for byte and carry their headers, and the tree on
    disk has the hash of PIN.toml.

    Returns:
        One line that says so.

    Raises:
        PlmEdgeError: the first thing that is not as recorded.
    """
    file = sdist.fetch(pin)
    patches, ours = series(folder), overlay(folder)
    listed = {patch.name for patch in patches}
    found = {path.name for path in (folder / "patches").iterdir()}
    if listed != found:
        raise PlmEdgeError(
            "series and patches/ differ", f"{sorted(listed ^ found)}", "list each patch once"
        )
    names = {name for patch in patches for name in patch.files} | set(ours)
    texts = sdist.pristine(file, pin.subtree, names) | ours
    for patch in patches:
        _check_patch(folder, patch, texts, ours)
    tree.sync(folder, pin)
    if (result := tree.tree_hash(tree.place(folder))) != pin.tree:
        raise PlmEdgeError(
            "the tree on disk was edited",
            f"its hash is {result}",
            "refresh a patch, or remove .tree",
        )
    return (
        f"{len(patches)} patches, {len(ours)} overlay files, tree {pin.tree[:12]}: all as recorded"
    )


def _check_patch(folder: Path, patch: Patch, texts: dict[str, str], ours: dict[str, str]) -> None:
    """Applies one patch to `texts` in place, and checks its header and its text."""
    for key in HEADERS:
        if not re.search(rf"^{key}: \S", patch.header, re.MULTILINE):
            raise PlmEdgeError(
                f"{patch.name} has no {key}", "each patch says why it is there", f"add {key}:"
            )
    if both := sorted(set(patch.files) & set(ours)):
        raise PlmEdgeError(
            f"{patch.name} patches a file of ours", both[0], "edit the overlay instead"
        )
    before = {name: texts[name] for name in patch.files if name in texts}
    patch.apply(texts)
    again = export(patch.header, before, {name: texts[name] for name in patch.files})
    if again != (folder / "patches" / patch.name).read_text(encoding="utf-8"):
        raise PlmEdgeError(
            f"{patch.name} does not export back byte for byte",
            "its text is not what the export writes for the same change",
            f"run `sync.py refresh {patch.name}`",
        )


def refresh(folder: Path, pin: Pin, name: str) -> str:
    """Folds the difference between .tree and the series' result into the patch `name`.

    A patch that is not there is made anew, at the end of the series.

    Returns:
        One line that says how many files the patch touches.

    Raises:
        PlmEdgeError: the edit cannot be this patch's.
    """
    file = sdist.fetch(pin)
    if tree.read_stamp(folder).get("sdist") != pin.sha256:
        raise PlmEdgeError(
            ".tree is not of the pinned version", "nothing to compare", "run `sync.py` first"
        )
    root = tree.place(folder)
    patches, ours = series(folder), overlay(folder)
    upstream = {n: d for n, d, _ in sdist.members(file, pin.subtree)}
    edited = {path.relative_to(root).as_posix(): path.read_bytes() for path in tree.files(root)}
    target = next((p for p in patches if p.name == name), None)
    texts = {n: d.decode() for n, d in upstream.items() if any(n in p.files for p in patches)}
    result, later = dict(texts), set[str]()
    base = dict(texts)
    for patch in patches:
        if patch.name == name:
            base = dict(result)
        elif target is not None and patches.index(patch) > patches.index(target):
            later |= set(patch.files)
        patch.apply(result)
    if target is None:
        base = dict(result)
    keep = set(target.files) if target else set()
    for path, data in edited.items():
        if path in ours:
            continue
        if path not in upstream:
            raise PlmEdgeError(
                f"{path} is not upstream's", "a new file is no patch", "put it into overlay/"
            )
        if data.decode(errors="surrogateescape") != result.get(
            path, upstream[path].decode(errors="surrogateescape")
        ):
            if path in later:
                raise PlmEdgeError(
                    f"{path} is touched by a later patch", "ambiguous", "refresh that one instead"
                )
            keep.add(path)
    before = {p: base.get(p, upstream[p].decode()) for p in keep}
    header = target.header if target else "".join(f"{key}: ?\n" for key in HEADERS) + "\n"
    text = export(header, before, {p: edited[p].decode() for p in keep})
    tree.write_text(folder / "patches" / name, text)
    if target is None:
        listed = (folder / "series").read_text(encoding="utf-8")
        tree.write_text(folder / "series", listed + name + "\n")
    return f"{name}: {len(keep)} files"


def record(folder: Path, pin: Pin) -> str:
    """Makes the tree, and writes its hash to PIN.toml.

    Returns:
        The hash.
    """
    result = tree.sync(folder, pin, record=True)
    path = folder / "PIN.toml"
    text = re.sub(r'(?m)^tree = ".*"$', f'tree = "{result}"', path.read_text(encoding="utf-8"))
    tree.write_text(path, text)
    return result
