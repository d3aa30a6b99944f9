"""The prefix of a prompt as a chain of hashes, so that the first block that differs can be found.

Providers cache prompts by prefix: two calls share the cache up to the first token in which
they differ. A prompt is its parts in the order that the provider reads them (tools, system,
messages), each cut into blocks, and every block's hash covers all blocks before it. Two
prompts agree up to the last block whose hashes are equal.

Form, one item a block, separated by spaces: ``<role><tokens>[*]:<hash>``, e.g.
``s128:0f1e2d3c4b5a6978 s40*:...``. ``role`` is ``t`` (tools), ``s`` (system), ``u`` (user),
``a`` (assistant), ``o`` (a tool's result) or ``x``; ``tokens`` is an estimate, UTF-8 bytes by
four; ``*`` marks the end of a part that the caller has marked for caching.

A block is 512 characters (about the 128 tokens by which OpenAI's cache grows), later ones are
longer, a part starts a new one; a prompt of any length gives at most ``MAX_BLOCKS``. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from taximeter.hashing import Hasher

MAX_BLOCKS: Final = 96
#: (blocks, characters of each): 8 K characters finely, then coarsely, up to 200 K.
_SCHEDULE: Final = (*(512,) * 32, *(2048,) * 32, *(4096,) * 32)
_ROLES: Final = {
    "system": "s",
    "developer": "s",
    "user": "u",
    "assistant": "a",
    "tool": "o",
    "function": "o",
}

_LONG, _DEEP, _MANY = 4096, 12, 500  # characters of a text, levels, items

Part = tuple[str, str, bool]  # role letter, text, marked for caching


def chain(hasher: Hasher, parts: Iterator[Part], limit: int = MAX_BLOCKS) -> str:
    """The chain of hashes of a prompt, at most ``limit`` blocks."""
    found: list[str] = []
    link = b""
    for role, text, marked in parts:
        start = 0
        while start < len(text) or start == 0:
            if len(found) >= limit:
                return " ".join(found)
            end = start + _SCHEDULE[len(found)]
            block = text[start:end].encode("utf-8", "replace")
            link = hasher.chain(link, role.encode() + block)
            star = "*" if marked and end >= len(text) else ""
            found.append(f"{role}{(len(block) + 3) // 4}{star}:{link.hex()}")
            start = end
    return " ".join(found)


def openai(arguments: Mapping[str, Any]) -> Iterator[Part]:
    """Parts of a chat completion or of a response, from the arguments of the call."""
    if "tools" in arguments:
        yield from _tools(arguments)
    if isinstance(instructions := arguments.get("instructions"), str):
        yield "s", instructions, False
    messages = arguments.get("messages") or arguments.get("input")
    if type(messages) is not list:
        yield from _messages(messages)
        return
    for message in messages:  # most are dictionaries with a text: no further generator for these
        if type(message) is dict and type(content := message.get("content")) is str:
            role = _ROLES.get(str(message.get("role")), "x")
            yield role, content, False
            if calls := message.get("tool_calls"):
                yield role, _plain(calls), False
        else:
            yield from _messages((message,))


def anthropic(arguments: Mapping[str, Any]) -> Iterator[Part]:
    """Parts of a message, from the arguments of the call."""
    yield from _tools(arguments)
    yield from _content("s", arguments.get("system"))
    yield from _messages(arguments.get("messages"))


def _tools(arguments: Mapping[str, Any]) -> Iterator[Part]:
    tools = arguments.get("tools")
    if isinstance(tools, list):
        for tool in tools:
            yield "t", _plain(tool), _marked(tool)


def _messages(messages: Any) -> Iterator[Part]:
    if isinstance(messages, str):
        yield "u", messages, False
    elif isinstance(messages, list | tuple):
        for message in messages:
            role = _ROLES.get(str(_field(message, "role")), "x")
            content = _field(message, "content")
            if content is None:
                yield role, _plain(message), False
            else:
                yield from _content(role, content)
                if calls := _field(message, "tool_calls"):
                    yield role, _plain(calls), False


def _content(role: str, content: Any) -> Iterator[Part]:
    if isinstance(content, str):
        yield role, content, False
    elif isinstance(content, list | tuple):
        for item in content:
            text = _field(item, "text")
            yield role, text if isinstance(text, str) else _plain(item), _marked(item)


def _field(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)


def _marked(item: Any) -> bool:
    return isinstance(_field(item, "cache_control"), Mapping)


def _plain(item: Any) -> str:
    """Anything else (a tool, an image) as one text, always the same, without the mark for caching."""
    if hasattr(item, "model_dump"):
        item = item.model_dump(exclude_none=True)
    if isinstance(item, Mapping):
        item = {name: value for name, value in item.items() if name != "cache_control"}
    return json.dumps(_short(item, 0), sort_keys=True, ensure_ascii=False)


def _short(item: Any, depth: int) -> Any:
    """The same with long texts cut: an image of megabytes must not be encoded on the event loop."""
    if isinstance(item, str):
        return item if len(item) <= _LONG else f"{item[:_LONG]} {len(item)}"
    if item is None or isinstance(item, bool | int | float):
        return item
    if depth < _DEEP and isinstance(item, Mapping):
        return {str(name): _short(value, depth + 1) for name, value in list(item.items())[:_MANY]}
    if depth < _DEEP and isinstance(item, list | tuple):
        return [_short(value, depth + 1) for value in item[:_MANY]]
    return type(item).__name__
