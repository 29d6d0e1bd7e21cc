"""A follower reads what a server adds to its log, and words the lines that matter for a person."""

from __future__ import annotations

import re
from pathlib import Path

_LEVEL = re.compile(r"^[\d.]+ (?P<level>[IWED]) (?P<text>.*)$")
_TIMING = re.compile(
    r"id +(?P<slot>\d+) .*\| +(?P<what>prompt eval|eval) time = +(?P<ms>[\d.]+) ms"
    r" / +(?P<n>\d+) tokens"
)
_SOURCE = re.compile(r"^\w+ +\w+: ")  # such as "srv  llama_server: "


class Follower:
    """Reads a log from where it stands now.

    Args:
        log: may be missing for a while, and may be replaced.
        whole: return all lines as they are.
    """

    def __init__(self, log: Path, *, whole: bool = False, from_start: bool = False) -> None:
        self._log, self._whole = log, whole
        self._at = 0 if from_start or not log.exists() else log.stat().st_size
        self._partial = ""
        self._words = Words()

    def read(self) -> list[str]:
        """The lines that came since the last call."""
        try:
            size = self._log.stat().st_size
            if size < self._at:  # a new one
                self._at, self._partial = 0, ""
            if size == self._at:
                return []
            with self._log.open("rb") as file:
                file.seek(self._at)
                data = file.read(size - self._at)
        except OSError:
            return []
        self._at += len(data)
        *lines, self._partial = (self._partial + data.decode("utf-8", "replace")).split("\n")
        return [said for line in lines if (said := line if self._whole else self._words.of(line))]


class Words:
    """Turns lines of llama-server's log into a person's words."""

    def __init__(self) -> None:
        self._read: dict[str, str] = {}  # what a slot's prompt took, until its answer is complete
        self._last = ""  # sleeping is said by two of its parts

    def of(self, line: str) -> str:
        """What a line says; empty for one that does not matter."""
        found = _LEVEL.match(line)
        if found is None:
            return ""
        text = found["text"]
        if timing := _TIMING.search(text):
            return self._timing(timing)
        if "entering sleeping state" in text:
            return self._once("asleep: the model has left the memory until the next request")
        if "exiting sleeping state" in text:
            return self._once("awake: the model is loaded again")
        return _SOURCE.sub("", text).strip() if found["level"] in "WE" else ""

    def _once(self, said: str) -> str:
        fresh, self._last = said != self._last, said
        return said if fresh else ""

    def _timing(self, found: re.Match[str]) -> str:
        seconds, count = float(found["ms"]) / 1000, int(found["n"])
        took = f"{count:,} tokens {{}} in {seconds:.1f} s"
        if found["what"] == "prompt eval":
            self._read[found["slot"]] = took.format("read")
            return ""
        rate = f" ({count / seconds:.1f} t/s)" if seconds > 0 else ""
        read = self._read.pop(found["slot"], "")
        return ", ".join(filter(None, (read, took.format("written") + rate)))
