"""Reads Python by ``ast``; comments and the names of caches by ``tokenize``. Nothing is imported or run."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator

from taximeter_analysis.discover import waits
from taximeter_analysis.discover.model import Sighting
from taximeter_analysis.discover.rules import Call, classify, complains

_METHODS = {"get", "post", "put", "patch", "delete", "head", "options"}
_ANY = {"api_route", "route", "websocket", "websocket_route"}
_ADDED = {"add_api_route", "add_url_rule", "add_route", "add_websocket_route", "add_api_websocket_route"}
_AIOHTTP = {f"add_{method}" for method in _METHODS}
_DJANGO = {"path", "re_path"}
_LEAVES = (ast.Break, ast.Return)


class Unparsable(Exception):
    """Not Python, or too deeply nested for a parser."""


def read(path: str, text: str) -> tuple[list[Sighting], bool]:
    """The sightings of one file, and whether parts of it were passed over (never, in Python).

    Raises:
        Unparsable: with the reason and the line.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of the code that is read, no business of ours
            tree = ast.parse(text, filename=path)
        return [*_of_tree(tree, path), *_of_tokens(text)], False
    except SyntaxError as error:
        raise Unparsable(f"{error.msg}, line {error.lineno}") from error
    except (RecursionError, MemoryError) as error:
        raise Unparsable("nested too deeply") from error
    except ValueError as error:  # a null byte
        raise Unparsable(str(error)) from error


def _of_tree(tree: ast.Module, path: str) -> Iterator[Sighting]:
    prefixes = _prefixes(tree)
    then: dict[int, str] = {}  # id of a call -> the method called on its result
    awaited: set[int] = set()
    decorators: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call):
            then[id(node.value)] = node.attr
        elif isinstance(node, ast.Await):
            awaited.add(id(node.value))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            decorators.update(id(each) for each in node.decorator_list)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            call = _call(node, then.get(id(node)), id(node) in awaited)
            if call is None:
                continue
            if id(node) in decorators or call.name in _ADDED | _AIOHTTP | _DJANGO | {"Route"}:
                if route := _route(node, call, prefixes, path, decorator=id(node) in decorators):
                    yield route
                continue
            if found := classify(call):
                yield Sighting(found[0], call.line, call.last_line, ".".join(call.names[-3:]), found[1])
        if isinstance(node, ast.For) and _awaits_each_round(node):
            yield waits.loop(node.lineno, node.end_lineno or node.lineno, ast.unparse(node.target))
        for block in _blocks(node):
            yield from waits.rows([_step(each) for each in block])


def _names(node: ast.expr) -> tuple[str, ...]:
    """``a.b(...)[0].c`` as ("a", "b", "c"); what is no name counts as ``""``."""
    found: list[str] = []
    while True:
        if isinstance(node, ast.Attribute):
            found.append(node.attr)
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        elif isinstance(node, ast.Subscript | ast.Await):
            node = node.value
        else:
            found.append(node.id if isinstance(node, ast.Name) else "")
            return tuple(reversed(found))


def _call(node: ast.Call, then: str | None, awaited: bool) -> Call | None:
    names = _names(node.func)
    if not names[-1]:
        return None
    first = node.args[0] if node.args else None
    line = node.func.end_lineno or node.lineno
    text, argument = _literal(first), None
    if isinstance(first, ast.Name):
        argument = first.id
    elif isinstance(first, ast.Call):
        inner = _names(first.func)[-1]
        if inner in ("text", "SQL") and first.args:
            text = _literal(first.args[0])
        elif inner in ("select", "delete", "insert", "update") and first.args:
            argument = first.args[0].id if isinstance(first.args[0], ast.Name) else None
        else:
            argument = inner
    count = len(node.args) + len(node.keywords)
    return Call(names, line, node.end_lineno or line, text, argument, count, then, awaited)


def _literal(node: ast.expr | None) -> str | None:
    """A string's text; of an f-string or a sum, that before the first hole."""
    while isinstance(node, ast.BinOp):
        node = node.left
    if isinstance(node, ast.JoinedStr):
        return "".join(str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _prefixes(tree: ast.Module) -> dict[str, str]:
    """The routers of a file -> their prefix."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            given = next(
                (
                    _literal(each.value)
                    for each in node.value.keywords
                    if each.arg in ("prefix", "url_prefix")
                ),
                None,
            )
            for target in node.targets:
                if isinstance(target, ast.Name) and given:
                    found[target.id] = given.rstrip("/")
    return found


def _route(
    node: ast.Call, call: Call, prefixes: dict[str, str], path: str, *, decorator: bool
) -> Sighting | None:
    given = {each.arg: each.value for each in node.keywords}
    first = call.text if call.text is not None else _literal(given.get("path"))
    method: str | None = None
    if decorator:
        if call.name not in _METHODS | _ANY or len(call.names) < 2 or (node.args and first is None):
            return None
        if first is None and not given and call.name not in _METHODS:
            return None
        method = call.name.upper() if call.name in _METHODS else _methods(given.get("methods"))
        if call.name.startswith("websocket"):
            method = "WEBSOCKET"
    elif call.name in _AIOHTTP:
        method = call.name.removeprefix("add_").upper()
    elif call.name in _DJANGO:
        if not path.endswith("urls.py") or len(node.args) < 2 or _is_include(node.args[1]):
            return None
    elif call.name == "Route" and len(node.args) < 2 and "endpoint" not in given:
        return None
    if first is None and not decorator:
        return None
    whole = prefixes.get(call.names[0], "") + (first or "")
    if not whole.startswith("/"):
        whole = f"/{whole}"
    return Sighting(
        "route", node.lineno, node.end_lineno or node.lineno, f"{method or 'ANY'} {whole}", whole, method
    )


def _methods(node: ast.expr | None) -> str | None:
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return ",".join(filter(None, (_literal(each) for each in node.elts))) or None
    return None


def _is_include(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _names(node.func)[-1] == "include"


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list) and len(block) > 1 and isinstance(block[0], ast.stmt):
            yield block


def _step(node: ast.stmt) -> waits.Step:
    last = node.end_lineno or node.lineno
    if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Await):
        return waits.Step(node.lineno, last, awaits=False)
    asked = node.value.value
    if not isinstance(asked, ast.Call):
        return waits.Step(node.lineno, last, awaits=False)
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    binds = frozenset(
        each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)
    )
    uses = frozenset(each.id for each in ast.walk(asked) if isinstance(each, ast.Name))
    return waits.Step(node.lineno, last, awaits=True, binds=binds, uses=uses, what=_names(asked.func)[-1])


def _awaits_each_round(node: ast.For) -> bool:
    """Whether a loop awaits calls of its own, and goes through to the end."""
    found = False
    todo: list[ast.AST] = list(node.body)
    while todo:
        each = todo.pop()
        if isinstance(each, _LEAVES):
            return False
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        found = found or (isinstance(each, ast.Await) and isinstance(each.value, ast.Call))
        todo.extend(ast.iter_child_nodes(each))
    return found


def _of_tokens(text: str) -> Iterator[Sighting]:
    """Cache lines and comments. A file that ``ast`` has parsed has tokens, but for odd ends."""
    cached: dict[int, str] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            line = token.start[0]
            if token.type == tokenize.COMMENT and complains(token.string):
                yield Sighting("todo", line, line, token.string.lstrip("# ")[:200], None)
            elif (token.type == tokenize.NAME and "cache" in token.string.lower()) or (
                token.type == tokenize.STRING and token.string.strip("\"'").lower() == "cache-control"
            ):
                cached.setdefault(line, token.string.strip("\"'"))
    except (tokenize.TokenError, IndentationError):
        pass
    for line, name in cached.items():
        yield Sighting("cache", line, line, name, None)
