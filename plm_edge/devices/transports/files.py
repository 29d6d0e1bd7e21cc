"""Files go to a device and back: resumed, checked by SHA-256, in place only when whole.

A file on its way is called after the hash of what it will be, so that another version never
continues it; whatever arrived of an older version is removed.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from plm_edge.base.errors import PlmEdgeError
from plm_edge.base.files import sha256
from plm_edge.devices.transports import failures
from plm_edge.devices.transports.failures import ConnectionLost
from plm_edge.devices.transports.words import quote

if TYPE_CHECKING:
    from plm_edge.devices.transports.transport import Progress, Transport

CHUNK = 256 * 1024  # bytes sent at once
HASH_TIME = 600.0  # seconds for a device to hash a file
_SHOWN = 16  # digits of the hash in the name of a file that is arriving
_ANY_HASH = "?" * _SHOWN
_PAUSE = 0.5  # seconds before a broken connection is tried again
_HASH = "{ sha256sum || shasum -a 256 || openssl dgst -sha256 -r; } 2>/dev/null"


def push(
    device: Transport,
    source: Path,
    target: str,
    mode: int | None,
    progress: Progress | None,
    attempts: int,
) -> bool:
    """Copy a file to a device: the work of `Transport.put`."""
    try:
        total, digest = source.stat().st_size, sha256(source)
    except OSError as error:
        raise PlmEdgeError(
            f"{source} cannot be sent to {device.name}", str(error.strerror), "check the path"
        ) from error
    part = f"{target}.{digest[:_SHOWN]}.part"
    report = progress or _silent
    sent = _retried(device, attempts, lambda: _push(device, source, target, part, total, report))
    if sent and _hash_there(device, part) != digest:
        device.shell(f"rm -f {quote(part)}")
        raise failures.Damaged(
            f"{target} on {device.name} is not what was sent",
            "its SHA-256 is another one: bad storage, or the file changed meanwhile",
            "run the same command again",
        )
    if not sent and _hash_there(device, target) != digest:
        device.shell(f"rm -f {quote(target)}", check=True)
        return push(device, source, target, mode, progress, attempts)
    finish = [f"chmod {mode:o} {quote(part if sent else target)}"] if mode is not None else []
    if sent:
        finish.append(f"mv -f {quote(part)} {quote(target)}")
    if finish:
        device.shell(" && ".join(finish), check=True)
    report(total, total)
    return sent


def _push(
    device: Transport, source: Path, target: str, part: str, total: int, report: Progress
) -> bool:
    """Send what `part` lacks. Return False, and send nothing, if `target` has the right size."""
    folder = str(PurePosixPath(target).parent)
    there, have, free = _look(device, folder, target, part)
    if there == total and not have:
        return False
    if have > total:
        device.shell(f"rm -f {quote(part)}", check=True)
        have = 0
    if free is not None and total - have > free:
        raise failures.disk_full(device.name, folder, total - have, free)
    done = device.shell(f"cat >> {quote(part)}", stdin=_chunks(source, have, total, report))
    error = device.failure(done)
    if isinstance(error, failures.DiskFull):
        raise failures.disk_full(device.name, folder, total - have, None)
    if error:
        raise error
    return True


def _look(
    device: Transport, folder: str, target: str, part: str
) -> tuple[int | None, int, int | None]:
    """Make the folder; return the size of `target` (or None), that of `part`, and free bytes."""
    script = f"""
mkdir -p {quote(folder)} || exit 1
for old in {quote(target)}.{_ANY_HASH}.part; do [ "$old" = {quote(part)} ] || rm -f "$old"; done
[ ! -f {quote(target)} ] || echo "target $(wc -c < {quote(target)})"
[ ! -f {quote(part)} ] || echo "part $(wc -c < {quote(part)})"
echo "df $(df -Pk {quote(folder)} | tail -n 1)"
"""
    done = device.shell(script, check=True)
    there, have, free = None, 0, None
    for name, *words in map(str.split, filter(str.strip, done.text.splitlines())):
        if name == "target":
            there = int(words[0])
        elif name == "part":
            have = int(words[0])
        elif name == "df" and len(words) >= 4 and words[3].isdigit():
            free = int(words[3]) * 1024
    return there, have, free


def _chunks(source: Path, start: int, total: int, report: Progress) -> Iterator[bytes]:
    with source.open("rb") as file:
        file.seek(start)
        report(start, total)
        while chunk := file.read(CHUNK):
            yield chunk
            start += len(chunk)
            report(start, total)


def pull(
    device: Transport, source: str, target: Path, progress: Progress | None, attempts: int
) -> bool:
    """Copy a file from a device: the work of `Transport.get`."""
    report = progress or _silent
    found = device.shell(f"[ -f {quote(source)} ] && wc -c < {quote(source)}")
    if found.exit_code != 0:
        raise PlmEdgeError(
            f"there is no file {source} on {device.name}",
            found.complaint or "nothing of that name is there",
            "check the path",
        )
    total, digest = int(found.text), _hash_there(device, source)
    if target.is_file() and target.stat().st_size == total and sha256(target) == digest:
        report(total, total)
        return False
    part = target.with_name(f"{target.name}.{digest[:_SHOWN]}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _retried(device, attempts, lambda: _pull(device, source, part, total, report))
        if sha256(part) != digest:
            part.unlink()
            raise failures.Damaged(
                f"{target} is not what {device.name} has",
                "the SHA-256 of what arrived is another one, or the file changed meanwhile",
                "run the same command again",
            )
        part.replace(target)
    except OSError as error:
        raise PlmEdgeError(
            f"{target} cannot be written", str(error.strerror or error), "check folder and space"
        ) from error
    report(total, total)
    return True


def _pull(device: Transport, source: str, part: Path, total: int, report: Progress) -> bool:
    have = part.stat().st_size if part.is_file() else 0
    if have > total:
        part.unlink()
        have = 0
    free = shutil.disk_usage(part.parent).free
    if total - have > free:
        raise failures.disk_full("this machine", str(part.parent), total - have, free)
    with part.open("ab") as file:

        def take(data: bytes) -> None:
            file.write(data)
            report(file.tell(), total)

        report(have, total)
        device.shell(f"tail -c +{have + 1} < {quote(source)}", on_stdout=take, check=True)
    return True


def _hash_there(device: Transport, path: str) -> str:
    done = device.shell(f"{_HASH} < {quote(path)}", timeout=HASH_TIME)
    found = re.search(r"\b[0-9a-f]{64}\b", done.text)
    if not found:
        raise _no_hash(device, path)
    return found[0]


def hashes(device: Transport, paths: Sequence[str]) -> dict[str, str | None]:
    """The SHA-256 of files on a device, by path; None for one that is missing.

    Raises:
        CommandFailed: no program there can compute it.
    """
    if not paths:
        return {}
    words = " ".join(map(quote, paths))
    script = f"""for file in {words}; do
    if [ -f "$file" ]; then {_HASH} < "$file" || echo unknown; else echo none; fi
done"""
    done = device.shell(script, timeout=HASH_TIME * len(paths), check=True)
    found = [re.search(r"\b(none|[0-9a-f]{64})\b", line) for line in done.text.splitlines()]
    answers = [match[1] for match in found if match]
    if len(answers) != len(paths):
        raise _no_hash(device, "its files")
    return {
        path: None if answer == "none" else answer
        for path, answer in zip(paths, answers, strict=True)
    }


def _no_hash(device: Transport, what: str) -> failures.CommandFailed:
    return failures.CommandFailed(
        f"{device.name} cannot check {what}",
        "sha256sum, shasum and openssl all failed there",
        "install coreutils there",
    )


def _retried(device: Transport, attempts: int, step: Callable[[], bool]) -> bool:
    """Call `step`, again after each loss of the connection, at most `attempts` times in all."""
    for left in reversed(range(max(1, attempts))):
        try:
            return step()
        except ConnectionLost:
            device.close()
            if not left:
                raise
            time.sleep(_PAUSE)
    raise AssertionError("unreachable")


def _silent(done: int, total: int) -> None:
    del done, total
