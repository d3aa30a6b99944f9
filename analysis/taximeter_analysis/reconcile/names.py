"""One model under several names: an alias and its dated snapshot, or the display name of an invoice."""

from __future__ import annotations

import re

_DATE = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|latest)$")


def base(name: str) -> str:
    """``gpt-4o-2024-08-06``, ``GPT-4o`` and ``gpt-4o`` are one; so are ``Claude Haiku 4.5`` and its snapshot.

    >>> base("gpt-4o-mini-2024-07-18"), base("Claude Haiku 4.5"), base("claude-haiku-4-5-20251001")
    ('gpt-4o-mini', 'claude-haiku-4-5', 'claude-haiku-4-5')
    """
    plain = re.sub(r"[ .]+", "-", name.strip().lower())
    return _DATE.sub("", plain.rsplit("/", 1)[-1])
