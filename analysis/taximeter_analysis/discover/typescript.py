"""Reads TypeScript and JavaScript by tree-sitter, which passes over what it cannot parse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath

import tree_sitter_javascript
import tree_sitter_typescript
from tree_sitter import Language, Node, Parser

from taximeter_analysis.discover import waits
from taximeter_analysis.discover.model import Sighting
from taximeter_analysis.discover.rules import Call, classify, complains

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_HANDLERS = {"get", "post", "put", "patch", "delete", "head", "options", "all"}
_SERVERS = re.compile(r"(app|router|server|fastify|routes?|hono|api|instance)$")
_NEST = {"Get", "Post", "Put", "Patch", "Delete", "All"}
_TRPC = {"query", "mutation", "subscription"}
_APP_ROUTE = re.compile(r"(^|/)app/(?P<place>.*/)?route\.[cm]?[jt]sx?$")
_PAGES_ROUTE = re.compile(r"(^|/)pages/(?P<place>api/.*|api)\.[cm]?[jt]sx?$")
_EDGE = re.compile(r"(^|/)supabase/functions/(?P<place>[^/]+)/")
_FUNCTIONS = {"function_declaration", "function_expression", "arrow_function", "method_definition", "class"}
_NAMES = {
    *("identifier", "property_identifier", "shorthand_property_identifier", "private_property_identifier"),
    "shorthand_property_identifier_pattern",
}


@cache
def _parser(ending: str) -> Parser:
    if ending in (".js", ".jsx", ".mjs", ".cjs"):
        return Parser(Language(tree_sitter_javascript.language()))
    if ending == ".tsx":
        return Parser(Language(tree_sitter_typescript.language_tsx()))
    return Parser(Language(tree_sitter_typescript.language_typescript()))


def read(path: str, text: str) -> tuple[list[Sighting], bool]:
    """The sightings of one file, and whether the parser passed over parts of it."""
    root = _parser(PurePosixPath(path).suffix).parse(text.encode()).root_node
    return list(_of_tree(root, path)), root.has_error


def _of_tree(root: Node, path: str) -> Iterator[Sighting]:
    cached: dict[int, str] = {}
    app = _APP_ROUTE.search(path)
    pages = _PAGES_ROUTE.search(path)
    for node in _walk(root):
        kind = node.type
        line = node.start_point[0] + 1
        if kind == "comment":
            for number, each in enumerate(_text(node).splitlines()):
                if complains(each):
                    yield Sighting("todo", line + number, line + number, each.strip(" */#")[:200], None)
        elif kind in _NAMES and "cache" in (name := _text(node)).lower():
            cached.setdefault(line, name)
        elif kind == "string_fragment" and _text(node).lower() == "cache-control":
            cached.setdefault(line, _text(node))
        elif kind == "call_expression":
            yield from _called(node, path)
        elif kind in ("statement_block", "program"):
            yield from waits.rows([_step(each) for each in node.named_children if each.type != "comment"])
        elif kind == "for_in_statement" and _awaits_each_round(node):
            yield waits.loop(line, node.end_point[0] + 1, _text(node.child_by_field_name("left")))
        elif kind == "export_statement" and app:
            yield from _next_handlers(node, _next_path(app["place"] or ""))
        elif kind == "export_statement" and pages and any(each.type == "default" for each in node.children):
            place = _next_path(pages["place"].removesuffix("/index") + "/")
            yield Sighting("route", line, node.end_point[0] + 1, f"ANY {place}", place)
    for line, name in cached.items():
        yield Sighting("cache", line, line, name, None)


def _walk(root: Node) -> Iterator[Node]:
    """All nodes in the order of the text, without recursion: a stranger chooses the depth."""
    todo = [root]
    while todo:
        node = todo.pop()
        yield node
        todo.extend(reversed(node.children))


def _text(node: Node | None) -> str:
    return node.text.decode(errors="replace") if node is not None and node.text is not None else ""


def _names(node: Node | None) -> tuple[str, ...]:
    """``a.b(...)!.c`` as ("a", "b", "c"); what is no name counts as ``""``."""
    found: list[str] = []
    while node is not None:
        if node.type == "member_expression":
            found.append(_text(node.child_by_field_name("property")).lstrip("#"))
            node = node.child_by_field_name("object")
        elif node.type == "call_expression":
            node = node.child_by_field_name("function")
        elif node.type == "subscript_expression":
            node = node.child_by_field_name("object")
        elif node.type in (
            "parenthesized_expression",
            "await_expression",
            "non_null_expression",
            "as_expression",
        ):
            node = node.named_children[0] if node.named_children else None
        else:
            found.append(_text(node) if node.type in ("identifier", "this") else "")
            break
    return tuple(reversed(found)) or ("",)


def _call(node: Node) -> Call | None:
    function = node.child_by_field_name("function")
    given = node.child_by_field_name("arguments")
    names = _names(function)
    if function is None or given is None or not names[-1]:
        return None
    named = function.child_by_field_name("property") if function.type == "member_expression" else function
    line = (named or function).start_point[0] + 1
    last = node.end_point[0] + 1
    above = node.parent
    awaited = above is not None and above.type == "await_expression"
    then = None
    if above is not None and above.type == "member_expression":
        then = _text(above.child_by_field_name("property"))
    if given.type == "template_string":
        return Call(names, line, last, _literal(given), None, 1, then, awaited)
    arguments = [each for each in given.named_children if each.type != "comment"]
    first = arguments[0] if arguments else None
    argument = _text(first) if first is not None and first.type == "identifier" else None
    return Call(names, line, last, _literal(first), argument, len(arguments), then, awaited)


def _literal(node: Node | None) -> str | None:
    """A string's or a template's text, with ``{}`` for each hole."""
    while node is not None and node.type == "binary_expression":
        node = node.child_by_field_name("left")
    if node is None or node.type not in ("string", "template_string"):
        return None
    return "".join(
        "{}" if each.type == "template_substitution" else _text(each) for each in node.named_children
    )


def _called(node: Node, path: str) -> Iterator[Sighting]:
    call = _call(node)
    if call is None:
        return
    if route := _route(node, call, path):
        yield route
    elif call.names == ("sql",) and call.awaited and call.text is not None:
        yield Sighting("database", call.line, call.last_line, "sql", None)
    elif found := classify(call):
        what = ".".join(filter(None, call.names[-3:]))
        yield Sighting(found[0], call.line, call.last_line, what, found[1])


def _route(node: Node, call: Call, path: str) -> Sighting | None:
    method: str | None = None
    if call.name in _TRPC and any(each.lower().endswith("procedure") for each in call.names[:-1]):
        name = _key(node)
        return Sighting("route", call.line, call.last_line, f"tRPC {call.name} {name or ''}".strip(), name)
    if (edge := _EDGE.search(path)) and call.names in (("serve",), ("Deno", "serve")):
        place: str | None = f"/functions/v1/{edge['place']}"
    elif node.parent is not None and node.parent.type == "decorator" and call.name in _NEST:
        method, place = call.name.upper(), f"/{(call.text or '').lstrip('/')}"
    elif call.name in _HANDLERS and _SERVERS.search(call.on) and (call.text or "").startswith(("/", "*")):
        if call.arguments < 2:  # app.get("/") of a client, or Express's app.get("setting")
            return None
        method, place = call.name.upper(), re.sub(r":(\w+)", r"{\1}", call.text or "")
    else:
        return None
    method = None if method == "ALL" else method
    return Sighting("route", call.line, call.last_line, f"{method or 'ANY'} {place}", place, method)


def _key(node: Node) -> str | None:
    """The key of the object literal whose value this expression is: the name of a procedure."""
    above: Node | None = node
    while above is not None and above.type not in ("pair", *_FUNCTIONS):
        above = above.parent
    return _text(above.child_by_field_name("key")) if above is not None and above.type == "pair" else None


def _next_path(place: str) -> str:
    """A folder of Next.js as a path: ``(group)`` and ``@slot`` are no part of it, ``[id]`` is ``{id}``."""
    parts = [part for part in place.split("/") if part and not part.startswith(("(", "@"))]
    return "/" + "/".join(re.sub(r"\[+(?:\.{3})?([^\]]+)\]+", r"{\1}", part) for part in parts)


def _next_handlers(node: Node, place: str) -> Iterator[Sighting]:
    for each in _walk(node):
        name = None
        if each.type == "function_declaration" and each.parent == node:
            name = _text(each.child_by_field_name("name"))
        elif each.type == "variable_declarator" and each.parent is not None and each.parent.parent == node:
            target = each.child_by_field_name("name")
            name = _text(target)
            if (
                target is not None and target.type == "object_pattern"
            ):  # export const { GET, POST } = handlers
                for inner in target.named_children:
                    if _text(inner) in _METHODS:
                        yield _handler(inner, _text(inner), place)
        elif each.type == "export_specifier":
            name = _text(each.child_by_field_name("alias") or each.child_by_field_name("name"))
        if name in _METHODS:
            yield _handler(each, name, place)


def _handler(node: Node, method: str, place: str) -> Sighting:
    return Sighting(
        "route", node.start_point[0] + 1, node.end_point[0] + 1, f"{method} {place}", place, method
    )


def _step(node: Node) -> waits.Step:
    line, last = node.start_point[0] + 1, node.end_point[0] + 1
    declared = [each for each in node.named_children if each.type == "variable_declarator"]
    value = declared[0].child_by_field_name("value") if len(declared) == 1 else None
    if value is None or value.type != "await_expression" or not value.named_children:
        return waits.Step(line, last, awaits=False)
    asked = value.named_children[0]
    if asked.type != "call_expression":
        return waits.Step(line, last, awaits=False)
    target = declared[0].child_by_field_name("name")
    binds = frozenset(_text(each) for each in _walk(target) if each.type in _NAMES) if target else frozenset()
    uses = frozenset(
        _text(each) for each in _walk(asked) if each.type in ("identifier", "shorthand_property_identifier")
    )
    return waits.Step(line, last, awaits=True, binds=binds, uses=uses, what=_names(asked)[-1])


def _awaits_each_round(node: Node) -> bool:
    """Whether a ``for ... of`` awaits calls of its own, and goes through to the end."""
    if any(each.type == "await" for each in node.children):
        return False  # for await: a stream
    body = node.child_by_field_name("body")
    todo = [body] if body is not None else []
    found = False
    while todo:
        each = todo.pop()
        if each.type in ("break_statement", "return_statement"):
            return False
        if each.type in _FUNCTIONS:
            continue
        asked = each.named_children[0] if each.type == "await_expression" and each.named_children else None
        found = found or (asked is not None and asked.type == "call_expression")
        todo.extend(each.children)
    return found
