"""Functions as the catalogue has them, and the query inside of one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from taximeter_analysis.advise.database.plan import outside_quotes

LIMIT = re.compile(
    r"\blimit\s+(?:(?:least|greatest|coalesce)\s*\([^()]*\)|\$?[\w.]+(?:::\w+)?)", re.IGNORECASE
)
_DEFAULT_LIMIT = 10

FUNCTIONS = r"""
SELECT n.nspname, p.proname, l.lanname,
    CASE WHEN p.prosrc = '' THEN pg_get_function_sqlbody(p.oid) ELSE p.prosrc END,
    pg_get_functiondef(p.oid), coalesce(p.proargnames[1:p.pronargs], '{}'),
    ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY u(t, place)
        ORDER BY place),
    coalesce(p.proconfig, '{}'), p.oid::regprocedure::text
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname IN ('sql', 'plpgsql') AND p.prokind = 'f'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND coalesce(nullif(p.prosrc, ''), pg_get_function_sqlbody(p.oid)) ~ '<=>|<->|<#>|<\+>'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1, 2, 9
"""


@dataclass(frozen=True)
class Function:
    schema: str
    name: str
    language: str
    source: str
    definition: str
    arguments: Sequence[str]  # names of its inputs
    types: Sequence[str]
    settings: Sequence[str]
    signature: str

    def setting(self, name: str) -> str | None:
        found = [each.partition("=")[2] for each in self.settings if each.startswith(f"{name}=")]
        return found[0] if found else None


def query_of(function: Function) -> str | None:
    """The function's query, its arguments as ``$1``, ``$2``."""
    text = re.sub(r"--[^\n]*|/\*.*?\*/", " ", function.source, flags=re.DOTALL)
    if function.language == "plpgsql":
        found = re.search(r"\breturn\s+query\s+(?!execute\b)(.+?);", text, re.IGNORECASE | re.DOTALL)
        if found is None:
            return None
        text = found[1]
    else:
        text = re.sub(r"^\s*begin\s+atomic\b|\bend\s*;?\s*$", "", text, flags=re.IGNORECASE)
        parts = [part for part in text.split(";") if part.strip()]
        if not parts:
            return None
        text = parts[-1].strip()
        text = text.removeprefix("RETURN ").strip()
    for number, name in enumerate(function.arguments, 1):
        if name:
            text = _replaced(text, function.name, name, f"${number}")
    return text.strip()


def _replaced(text: str, owner: str, name: str, by: str) -> str:
    """The text with an argument replaced, outside of literals, and where it is no table's column."""
    free = {at for at, _ in outside_quotes(text)}
    pattern = rf"(?<![\w.$])(?:{re.escape(owner)}\.)?{re.escape(name)}\b(?!\s*\.)"
    return re.sub(pattern, lambda hit: by if hit.start() in free else hit[0], text, flags=re.IGNORECASE)


def has_limit(query: str) -> bool:
    return LIMIT.search(query) is not None


def limit_of(function: Function) -> int:
    found = re.search(
        r"(?:count|limit|top_k|\bk)\w*\s+integer\s+DEFAULT\s+(\d+)", function.definition, re.IGNORECASE
    )
    return int(found[1]) if found else _DEFAULT_LIMIT
