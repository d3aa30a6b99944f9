"""The table of every component and key, written from the definitions that are checked at the start.

``python -m taximeter_collector.config.reference > docs/collector-reference.md``; a test fails on drift.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from taximeter_collector.config.components import ALIASES, KINDS, REQUIRED
from taximeter_collector.config.fields import Key, Section, boolean, duration, endpoint, names, text, text_map
from taximeter_collector.config.official import OFFICIAL

_HEAD = """# The collector's configuration, key by key

Written by `python -m taximeter_collector.config.reference`; do not edit. Names, keys, defaults and meanings
are the official OpenTelemetry Collector's (0.155) where the last column says *same*. *Differs* says how and
why, *no effect* that the key is taken and why nothing depends on it, *Taximeter's own* that the official
collector has it not. Keys that the official collector has and Taximeter refuses stand below each table; any
other key is refused as unknown. What the components do is told in [collector.md](collector.md).
"""


def reference() -> str:
    """The whole page."""
    lines = [_HEAD]
    for kind, components in KINDS.items():
        lines.append(f"## {kind.capitalize()}\n")
        for name, section in sorted(components.items()):
            lines += _component(kind, name, section)
        others = sorted(OFFICIAL.get(kind, frozenset()) - components.keys() - ALIASES.get(kind, {}).keys())
        lines.append(
            f"{len(others)} other names of official {kind} (core and contrib) are known and refused.\n"
        )
    return "\n".join(lines)


def _component(kind: str, name: str, section: Section) -> Iterator[str]:
    aliases = [alias for alias, of in ALIASES.get(kind, {}).items() if of == name]
    also = f" (alias {', '.join(f'`{alias}`' for alias in aliases)})" if aliases else ""
    own = name not in OFFICIAL[kind]
    ours = ": Taximeter's own" if own else ""
    yield f"### `{name}`{also}{ours}\n"
    yield "| key | default | |"
    yield "| --- | --- | --- |"
    required = REQUIRED.get(name, ())
    refused: list[str] = []
    for path, key in _keys(section, "", refused):
        default = "required" if path in required else _shown(key)
        yield f"| `{path}` | {default} | {_status(key, own)} |"
    yield ""
    if refused:
        yield f"Refused: {', '.join(f'`{path}`' for path in sorted(refused))}.\n"


def _keys(section: Section, prefix: str, refused: list[str]) -> Iterator[tuple[str, Key]]:
    refused += [f"{prefix}{key}" for key in section.official]
    for name, spec in section.keys.items():
        if isinstance(spec, Section):
            yield from _keys(spec, f"{prefix}{name}.", refused)
        else:
            yield f"{prefix}{name}", spec


def _status(key: Key, own: bool) -> str:
    if own:
        return ""
    if key.own:
        return "Taximeter's own"
    if key.differs:
        return f"differs: {key.differs}"
    return f"no effect: {key.no_effect}" if key.no_effect else "same"


def _shown(key: Key) -> str:
    value = key.default
    if value is None or value in ("", [], {}):
        kinds: dict[Any, str] = {
            text: "text", names: "list of texts", text_map: "mapping of texts", endpoint: "`host:port`",
            boolean: "true or false",
        }  # fmt: skip
        return kinds.get(key.read, "")
    if key.read is duration:
        return f"`{_go(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _go(seconds: float) -> str:
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    return f"{seconds:g}s"


if __name__ == "__main__":
    sys.stdout.write(reference())
