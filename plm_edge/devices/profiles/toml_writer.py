"""A device profile becomes TOML, laid out as the built-in ones are."""

from __future__ import annotations

from typing import Any

_WIDTH = 100


def dumps(data: dict[str, Any]) -> str:
    """The TOML text of a profile.

    A measure, and a table below the second level, is written in one line, as
    `clock = { value = 2.4, … }`; a list that is longer than a line takes several.
    """
    import tomlkit

    document = tomlkit.document()
    _fill(document, data, depth=0)
    return tomlkit.dumps(document).strip() + "\n"


def _fill(place: Any, data: dict[str, Any], depth: int) -> None:
    """Put the values of `data` into a table of tomlkit's, plain ones before tables."""
    below = {key: value for key, value in data.items() if _has_heading(value, depth)}
    for key, value in data.items():
        if key not in below:
            place.add(key, _item(key, value))
    for key, value in below.items():
        place.add(key, _tables(value) if isinstance(value, list) else _table(value, depth + 1))


def _has_heading(value: Any, depth: int) -> bool:
    """Whether `value` is a table, or a list of tables, under a heading of its own."""
    if isinstance(value, dict):
        return "value" not in value and depth < 2
    return isinstance(value, list) and bool(value) and all(isinstance(x, dict) for x in value)


def _table(data: dict[str, Any], depth: int) -> Any:
    import tomlkit

    plain = any(not _has_heading(value, depth) for value in data.values())
    made = tomlkit.table(is_super_table=bool(data) and not plain)
    _fill(made, data, depth)
    return made


def _tables(items: list[dict[str, Any]]) -> Any:
    import tomlkit

    made = tomlkit.aot()
    for item in items:
        table = tomlkit.table()
        for key, value in item.items():
            table.add(key, _item(key, value))
        made.append(table)
    return made


def _item(key: str, value: Any) -> Any:
    import tomlkit

    if isinstance(value, dict):
        table = tomlkit.inline_table()
        for name, part in value.items():
            table.add(name, _item(name, part))
        return table
    if isinstance(value, list):
        array = tomlkit.array()
        array.extend(_item(key, part) for part in value)
        return array.multiline(len(f"{key} = {array.as_string()}") > _WIDTH)
    return value
