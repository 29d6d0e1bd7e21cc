"""A place is our folder on a device: the names of our files, their list, their removal.

FOLDER/manifest.json     is written last; what it does not name is not used
FOLDER/engine/KEY/…      one build of the engine
FOLDER/models/HASH/…     one model each
FOLDER/incoming/…        files that are still arriving, or not proven yet
FOLDER/placed.txt        every path that we ever began to write, so that `clean` removes just these
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from plm_edge.devices.transports import files
from plm_edge.devices.transports.failures import DeviceError
from plm_edge.devices.transports.transport import Transport
from plm_edge.devices.transports.words import quote

MANIFEST, PLACED, SERVING = "manifest.json", "placed.txt", "serving.json"
INCOMING = "incoming"
_NOTE = "folder "  # marks a line of PLACED: a folder above ours that we made


class Place:
    """Our folder on a device.

    Args:
        transport: the way to the device, connected or not.
        folder: absolute, or relative to the folder where a login starts.
    """

    def __init__(self, transport: Transport, folder: str) -> None:
        self.transport = transport
        self.folder = folder

    def path(self, *parts: str) -> str:
        """A path below the folder; not yet quoted for the shell."""
        return str(PurePosixPath(self.folder, *parts))

    def read(self, name: str) -> str | None:
        """The text of a small file in the folder; None if it is missing."""
        path = quote(self.path(name))
        done = self.transport.shell(f"[ ! -f {path} ] || {{ echo found; cat {path}; }}", check=True)
        found, _, text = done.text.partition("\n")
        return text if found == "found" else None

    def write(self, name: str, text: str) -> None:
        """Write a small text file in the folder, beside its target first, then renamed.

        Folders on the way to it are made.
        """
        above = quote(str(PurePosixPath(self.path(name)).parent))
        path, part = quote(self.path(name)), quote(self.path(f"{name}.part"))
        self.transport.shell(
            f"mkdir -p {above} && cat > {part} && mv -f {part} {path}",
            stdin=text.encode(),
            check=True,
        )

    def announce(self, paths: Iterable[str]) -> None:
        """Make the folder, and add paths to `placed.txt` before anything is written to them.

        Args:
            paths: relative to the folder.
        """
        above = [str(path) for path in PurePosixPath(self.folder).parents if path.name]
        placed = quote(self.path(PLACED))
        missing = "\n".join(
            f"[ -d {quote(path)} ] || echo {quote(_NOTE + path)}" for path in reversed(above)
        )
        script = f"""new=$({missing or ":"}
)
mkdir -p {quote(self.folder)} && chmod 700 {quote(self.folder)} || exit 1
[ -z "$new" ] || echo "$new" >> {placed}
cat >> {placed}"""
        self.transport.shell(
            script, stdin="".join(f"{path}\n" for path in paths).encode(), check=True
        )

    def hashes(self, paths: Iterable[str]) -> dict[str, str | None]:
        """The SHA-256 of files, by path relative to the folder; None for one that is missing."""
        wanted = {self.path(path): path for path in paths}
        return {
            wanted[path]: found for path, found in files.hashes(self.transport, [*wanted]).items()
        }

    def free(self) -> int | None:
        """Free bytes on the disk of the folder, which may not exist yet; None if unknown."""
        script = f"""place={quote(self.folder)}
while [ ! -d "$place" ] && [ "$place" != "${{place%/*}}" ]; do place=${{place%/*}}; done
[ -d "$place" ] || place=.
df -Pk "$place" | tail -n 1"""
        words = self.transport.shell(script, check=True).text.split()
        return int(words[3]) * 1024 if len(words) > 3 and words[3].isdigit() else None

    def move(self, old: str, new: str) -> None:
        """Rename a folder; whatever is at `new` is removed first."""
        source, target = quote(self.path(old)), quote(self.path(new))
        parent = quote(str(PurePosixPath(self.path(new)).parent))
        script = f"mkdir -p {parent} && rm -rf {target} && mv -f {source} {target}"
        self.transport.shell(script, check=True)

    def drop(self, name: str) -> None:
        """Remove a file, or a folder with all that it holds."""
        self.transport.shell(f"rm -rf {quote(self.path(name))}", check=True)

    def clean(self) -> list[str]:
        """Remove every file that we put there, and the folders that are empty afterwards.

        Returns:
            Paths that were removed; and, with "kept " before them, files of others because of which
            our folder stays.

        Raises:
            DeviceError: the device cannot be reached, or a file cannot be removed.
        """
        text = self.read(PLACED)
        if text is None:
            return []
        lines = list(dict.fromkeys(filter(None, text.splitlines())))
        ours = [line for line in lines if not line.startswith(_NOTE) and _below(line)]
        made = [line.removeprefix(_NOTE) for line in lines if line.startswith(_NOTE)]
        own = [*ours, SERVING, MANIFEST]
        removals = "\n".join(_removal(quote(self.path(path))) for path in own)
        folders = sorted({str(up) for path in ours for up in PurePosixPath(path).parents}, key=len)
        empty = "\n".join(
            f"[ ! -d {quote(self.path(path))} ] || rmdir {quote(self.path(path))} 2>/dev/null"
            for path in reversed(folders)
            if path != "."
        )
        above = "\n".join(
            f"rmdir {quote(path)} 2>/dev/null" for path in sorted(made, key=len)[::-1]
        )
        folder = quote(self.folder)
        script = f"""{removals}
{empty}
rm -f {quote(self.path(PLACED))}
rmdir {folder} 2>/dev/null || find {folder} -type f | sed 's/^/kept /'
{above}
exit 0"""
        done = self.transport.shell(script)
        if done.stderr.strip():
            raise DeviceError(
                f"not all could be removed from {self.transport.name}",
                done.complaint,
                f"remove {self.folder} there by hand",
            )
        return [line for line in done.text.splitlines() if line]


def _removal(path: str) -> str:
    """Shell code that removes a file and its unfinished parts, and prints which it removed."""
    gone = '[ ! -f "$one" ] || { rm -f "$one" && echo "$one"; }'
    return f"for one in {path} {path}.*part; do {gone}; done"


def _below(path: str) -> bool:
    """Whether a line of PLACED stays below our folder: others can write that file too."""
    found = PurePosixPath(path)
    return not found.is_absolute() and ".." not in found.parts
