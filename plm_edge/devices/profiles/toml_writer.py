"""Writes a device profile as TOML, laid out as the built-in ones are."""

from __future__ import annotations

import json
from typing import Any

_WIDTH = 100


def dumps(data: dict[str, Any]) -> str:
    """TOML of a profile: tables of tables, lists, texts, numbers.

    A table without tables that is not at the first or second level is written in one line, as
    `clock = { value = 2.4, … }`.
    """
    lines: list[str] = []
    _table(data, (), lines)
    return "\n".join(lines).strip() + "\n"


def _table(data: dict[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    below = {key: value for key, value in data.items() if _own_table(value, path)}
    plain = {key: value for key, value in data.items() if key not in below}
    if path and (plain or not below):
        lines += ["", f"[{'.'.join(path)}]"]
    for key, value in plain.items():
        lines.append(_line(key, value))
    for key, value in below.items():
        if isinstance(value, dict):
            _table(value, (*path, key), lines)
            continue
        for item in value:
            lines += ["", f"[[{'.'.join((*path, key))}]]"]
            lines += [_line(name, part) for name, part in item.items()]


def _own_table(value: Any, path: tuple[str, ...]) -> bool:
    """Whether `value` gets a heading of its own."""
    if isinstance(value, dict):
        return "value" not in value and len(path) < 2
    return isinstance(value, list) and bool(value) and all(isinstance(x, dict) for x in value)


def _line(key: str, value: Any) -> str:
    line = f"{key} = {_value(value)}"
    if len(line) <= _WIDTH or not isinstance(value, list):
        return line
    rows: list[str] = []
    row = "   "
    for item in map(_value, value):
        if len(row) + len(item) + 2 > _WIDTH:
            rows, row = [*rows, row], "   "
        row += f" {item},"
    return "\n".join([f"{key} = [", *rows, row, "]"])


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        # JSON's escapes are TOML's; TOML forbids a raw DEL, which JSON leaves alone
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
