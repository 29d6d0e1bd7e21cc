"""A pattern of a JSON schema is rewritten for the text of a JSON string, where some characters are
escaped.

The converter takes a pattern for the text between the quotes as it is: a dot would let a quote in,
and end the string. It knows no classes such as \\d either.
"""

from __future__ import annotations

_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": " "}
_NOT_PLAIN = r"\"\\\x00-\x1F\x7F"  # what stands in no JSON string as it is
_ESCAPED = {"n": "n", "t": "t", "r": "r", "f": "f", '"': '"', "\\": "\\"}
_KEPT = "^$.[]()|{}*+?"


class UnsupportedPattern(ValueError):
    """A pattern that no grammar is made of."""


def rewrite(pattern: str) -> str:
    """Returns a pattern that admits some of what `pattern` does, anchored, as the converter reads
    it.

    Raises:
        UnsupportedPattern: it looks around, refers back, or is not regular otherwise.
    """
    starts, ends = pattern.startswith("^"), _ends(pattern)
    inner = pattern[1 if starts else 0 : len(pattern) - 1 if ends else len(pattern)]
    parts: list[str] = []
    at, depth, top_level = 0, 0, False
    while at < len(inner):
        part, at = _unit(inner, at)
        depth += {"(": 1, "(?:": 1, ")": -1}.get(part, 0)
        top_level = top_level or (part == "|" and depth == 0)
        parts.append(part)
    if top_level and (starts or ends):
        # "^a|b$" anchors each alternative at one side alone.
        raise UnsupportedPattern("alternatives with an anchor each")
    body = "".join(parts)
    plain = f"[^{_NOT_PLAIN}]*"
    return f"^{'' if starts else plain}({body}){'' if ends else plain}$"


def _ends(pattern: str) -> bool:
    """Says whether the last character is an anchor."""
    slashes = len(pattern) - 1 - len(pattern[:-1].rstrip("\\"))
    return pattern.endswith("$") and slashes % 2 == 0


def _unit(text: str, at: int) -> tuple[str, int]:
    """The next unit, rewritten, and where the one after it begins."""
    char = text[at]
    if char == "[":
        return _class(text, at)
    if char == ".":
        return f"[^{_NOT_PLAIN}]", at + 1
    if char == "\\":
        return _escape(text, at), at + 2
    if char == '"':
        return _json_escape('"'), at + 1
    if char in "^$":
        raise UnsupportedPattern("an anchor within")
    if text.startswith("(?", at):
        if not text.startswith("(?:", at):
            raise UnsupportedPattern("a group that begins with (?")
        return "(?:", at + 3
    if char in "*+?}" and text.startswith("?", at + 1):
        # Lazy or not, it admits the same.
        return char, at + 2
    if ord(char) < 0x20:
        raise UnsupportedPattern("a control character")
    return char, at + 1


def _escape(text: str, at: int) -> str:
    if at + 1 == len(text):
        raise UnsupportedPattern("a backslash at its end")
    char = text[at + 1]
    if char in _CLASSES:
        return f"[{_CLASSES[char]}]"
    if char in "DWS":
        return f"[^{_CLASSES[char.lower()]}{_NOT_PLAIN}]"
    if char in _ESCAPED:
        return _json_escape(char)
    if char in _KEPT:
        return f"\\{char}"
    if char.isalnum():
        raise UnsupportedPattern(f"\\{char}")
    return char


def _json_escape(char: str) -> str:
    """A backslash and a character, as JSON writes them in a string."""
    written = {"\\": r"\\", '"': '"'}.get(_ESCAPED[char], _ESCAPED[char])
    return rf"(\\{written})"


def _class(text: str, at: int) -> tuple[str, int]:
    """A class in brackets without what JSON escapes."""
    negated = text.startswith("^", at + 1)
    at += 2 if negated else 1
    items: list[str] = []
    while at < len(text) and text[at] != "]":
        if text[at] == "\\" and at + 1 < len(text):
            items.append(_in_class(text[at + 1]))
            at += 2
        else:
            items.append("" if text[at] == '"' and not negated else _literal(text[at]))
            at += 1
    if at >= len(text):
        raise UnsupportedPattern("a bracket that is not closed")
    if not negated and not any(items):
        raise UnsupportedPattern("a class of characters that JSON escapes")
    body = "".join(items)
    return (f"[^{body}{_NOT_PLAIN}]" if negated else f"[{body}]"), at + 1


def _literal(char: str) -> str:
    if ord(char) < 0x20:
        raise UnsupportedPattern("a control character")
    return {'"': r"\"", "[": r"\["}.get(char, char)


def _in_class(char: str) -> str:
    """What an escaped character stands for within brackets; what JSON escapes is left out."""
    if char in _CLASSES:
        return _CLASSES[char]
    if char in "DWS" or (char.isalnum() and char not in _ESCAPED):
        raise UnsupportedPattern(f"\\{char} within brackets")
    if char in _ESCAPED:
        return ""  # forbidden anyway where negated
    return f"\\{char}" if char in "-[]" else char
