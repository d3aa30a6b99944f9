"""The ``redaction`` processor: attributes that are not allowed go, values that are blocked are masked.

It fails closed: an empty list of allowed keys allows none, and a request on which it breaks is withheld.
Attributes of resources, scopes, spans, their events and links, data points and log records are looked at,
and the bodies of log records, all the way down.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from typing import Any

from taximeter_collector.process.chain import Processor, holders, resources
from taximeter_collector.values import as_text, plain

_MASK = "****"


class Redaction(Processor):
    """One configured processor."""

    fails_closed = True

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._all_keys: bool = values["allow_all_keys"]
        self._allowed, self._ignored = set(values["allowed_keys"]), set(values["ignored_keys"])
        self._ignored_patterns, self._blocked_keys, self._blocked, self._allowed_values = (
            [re.compile(pattern) for pattern in values[key]]
            for key in ("ignored_key_patterns", "blocked_key_patterns", "blocked_values", "allowed_values")
        )
        self._all_types: bool = values["redact_all_types"]
        self._hash, self._key, self._summary = values["hash_function"], values["hmac_key"], values["summary"]

    def change(self, request: Any) -> None:
        for group in resources(request):
            self._attributes(group.resource.attributes)
            for scopes in ("scope_spans", "scope_metrics", "scope_logs"):
                for scope in getattr(group, scopes, ()):
                    self._attributes(scope.scope.attributes)
        for holder in holders(request):
            self._attributes(holder.attributes)
            for inner in (*getattr(holder, "events", ()), *getattr(holder, "links", ())):
                self._attributes(inner.attributes)
            if hasattr(holder, "severity_number"):
                found = _Found()
                self._body("body", holder.body, found)
                self._tell(found, holder.attributes, "redaction.body")

    def _attributes(self, attributes: Any) -> None:
        found = _Found()
        for at in range(len(attributes) - 1, -1, -1):
            key, value = attributes[at].key, attributes[at].value
            if self._passes(key):
                found.ignored.append(key)
            elif not (self._all_keys or key in self._allowed):
                found.redacted.append(key)
                del attributes[at]
            else:
                self._value(key, value, found, masked=self._blocks(key))
        self._tell(found, attributes, "redaction")

    def _value(self, name: str, value: Any, found: _Found, *, masked: bool) -> None:
        is_text = value.WhichOneof("value") == "string_value"
        if not is_text and not self._all_types and not masked and not _compound(value):
            return
        text = as_text(plain(value))
        if any(pattern.search(text) for pattern in self._allowed_values):
            found.allowed.append(name)
            return
        after = self._masked(text) if masked else text
        for pattern in self._blocked if not masked else ():
            after = pattern.sub(lambda match: self._masked(match[0]) if match[0] else "", after)
        if after != text:
            found.masked.append(name)
            value.string_value = after

    def _body(self, name: str, value: Any, found: _Found) -> None:
        if value.WhichOneof("value") == "kvlist_value":
            pairs = value.kvlist_value.values
            for at in range(len(pairs) - 1, -1, -1):
                key = pairs[at].key
                where = key if name == "body" else f"{name}.{key}"
                if self._passes(key):
                    found.ignored.append(where)
                elif not (self._all_keys or key in self._allowed):
                    found.redacted.append(where)
                    del pairs[at]
                elif self._blocks(key):
                    found.masked.append(where)
                    pairs[at].value.string_value = self._masked(as_text(plain(pairs[at].value)))
                else:
                    self._body(where, pairs[at].value, found)
        elif value.WhichOneof("value") == "array_value":
            for at, inner in enumerate(value.array_value.values):
                self._body(f"[{at}]" if name == "body" else f"{name}.[{at}]", inner, found)
        elif value.WhichOneof("value"):
            text = as_text(plain(value))
            if any(pattern.search(text) for pattern in self._allowed_values):
                found.allowed.append(name)
                return
            after = text
            for pattern in self._blocked:
                after = pattern.sub(lambda match: self._masked(match[0]) if match[0] else "", after)
            if after != text:
                found.masked.append(name)
                value.string_value = after

    def _passes(self, key: str) -> bool:
        return key in self._ignored or any(pattern.search(key) for pattern in self._ignored_patterns)

    def _blocks(self, key: str) -> bool:
        return any(pattern.search(key) for pattern in self._blocked_keys)

    def _masked(self, text: str) -> str:
        data = text.encode()
        match self._hash:
            case "md5":
                return hashlib.md5(data, usedforsecurity=False).hexdigest()
            case "sha1":
                return hashlib.sha1(data, usedforsecurity=False).hexdigest()
            case "sha3":
                return hashlib.sha3_256(data).hexdigest()
            case "hmac-sha256" | "hmac-sha512":
                return hmac.new(self._key.encode(), data, self._hash[5:]).hexdigest()
        return _MASK

    def _tell(self, found: _Found, attributes: Any, prefix: str) -> None:
        if self._summary not in ("info", "debug"):
            return
        for name, keys in found:
            if keys:
                if self._summary == "debug" and name != "ignored":
                    attributes.add(key=f"{prefix}.{name}.keys").value.string_value = ",".join(sorted(keys))
                attributes.add(key=f"{prefix}.{name}.count").value.int_value = len(keys)


class _Found:
    """The keys of one set of attributes, by what became of them."""

    def __init__(self) -> None:
        self.redacted: list[str] = []
        self.masked: list[str] = []
        self.allowed: list[str] = []
        self.ignored: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, list[str]]]:
        yield from vars(self).items()


def _compound(value: Any) -> bool:
    """A list, mapping or bytes: officially its texts slip through unless redact_all_types is set."""
    return value.WhichOneof("value") in ("array_value", "kvlist_value", "bytes_value")
