"""Globs over paths, matched segment by segment. Pure.

`*`, `?` and `[ab]`, `[a-z]`, `[!ab]` stay within a segment; `**` alone in a segment is any number of folders. A segment
of the path that starts with `_` or `.` is matched only where the pattern spells that character out, so what tools leave
beside the data (`_SUCCESS`, `.part.crc`, `_delta_log/`) isn't taken for it.
"""

import re

_WILDCARD = re.compile(r"[*?[]")
_VISIBLE = r"(?![._])"


def has_wildcards(pattern: str) -> bool:
    """Whether the pattern can mean anything but itself."""
    return _WILDCARD.search(pattern) is not None


def split_root(pattern: str) -> tuple[str, str]:
    """The folder before the first segment with a wildcard, without a slash at its end, and the rest."""
    found = _WILDCARD.search(pattern)
    if found is None:
        return pattern.rstrip("/"), ""
    cut = pattern.rfind("/", 0, found.start()) + 1
    return pattern[:cut].rstrip("/"), pattern[cut:]


def fixed_start(rest: str) -> str:
    """What every match of `rest` starts with: lets a store list less."""
    found = _WILDCARD.search(rest)
    return rest if found is None else rest[: found.start()]


def compile_glob(rest: str) -> re.Pattern[str]:
    """The expression that matches paths below the root; `**` means every visible file below it."""
    segments = [part for part in rest.split("/") if part]
    if segments and segments[-1] == "**":
        segments.append("*")
    parts = []
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment == "**":
            parts.append(f"(?:{_VISIBLE}[^/]+/)*")
        else:
            parts.append(_translate_segment(segment) + ("" if last else "/"))
    return re.compile("".join(parts), re.DOTALL)


def _translate_segment(segment: str) -> str:
    expression = _VISIBLE if _WILDCARD.match(segment) else ""
    place = 0
    while place < len(segment):
        char = segment[place]
        place += 1
        if char == "*":
            expression += "[^/]*"
        elif char == "?":
            expression += "[^/]"
        elif char == "[" and (end := segment.find("]", place + (segment[place : place + 1] == "!") + 1)) > 0:
            expression += _translate_set(segment[place:end])
            place = end + 1
        else:
            expression += re.escape(char)
    return expression


def _translate_set(inside: str) -> str:
    """`[ab]`: everything in it is literal but a leading `!` and a `-` between two characters."""
    negated = inside.startswith("!")
    chars = inside.removeprefix("!")
    members = []
    place = 0
    while place < len(chars):
        first, last = chars[place], chars[place]
        if chars[place + 1 : place + 2] == "-" and place + 2 < len(chars):
            last = chars[place + 2]
            place += 2
        place += 1
        if first <= last:
            members.append(re.escape(first) if first == last else f"{re.escape(first)}-{re.escape(last)}")
    if negated:
        return f"[^/{''.join(members)}]"
    return f"(?!/)[{''.join(members)}]" if members else r"(?!)"
