"""What the service reads from its environment, and what it says when something is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .flags import SHARED

_REQUIRED = {
    "DATABASE_URL": "the service's Postgres, e.g. postgresql://hotel_app@127.0.0.1:5432/postgres "
    "(fill it with: python -m examples.hotel_chat.seed --dsn ADMIN_DSN)",
    "OPENAI_BASE_URL": "e.g. http://127.0.0.1:8090/v1 for: python -m examples.provider --port 8090 ...",
    "OPENAI_API_KEY": "any text for the local provider",
    "ANTHROPIC_BASE_URL": "e.g. http://127.0.0.1:8090 for the local provider",
    "ANTHROPIC_API_KEY": "any text for the local provider",
    "MOTOPRESS_URL": "e.g. http://127.0.0.1:8090/motopress for the local provider",
}


class SettingsError(Exception):
    """The environment is incomplete; the message names every missing variable and its remedy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The base URLs are explicit although the SDKs would read them: the example must never reach,
    and pay, a real provider because a variable was forgotten."""

    database_url: str
    openai_base_url: str
    openai_api_key: str
    anthropic_base_url: str
    anthropic_api_key: str
    motopress_url: str
    flags: tuple[str, ...] = field(
        default=(), kw_only=True
    )  # on from the start: HOTEL_FLAGS, separated by commas
    redis_url: str = field(default="", kw_only=True)  # HOTEL_REDIS_URL; "": every instance for itself


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Raises ``SettingsError`` when a variable is unset or empty."""
    missing = [name for name in _REQUIRED if not environment.get(name)]
    if missing:
        lines = [f"  {name} is not set: {_REQUIRED[name]}" for name in missing]
        raise SettingsError("the hotel chat cannot start:\n" + "\n".join(lines))
    flags = tuple(name.strip() for name in environment.get("HOTEL_FLAGS", "").split(",") if name.strip())
    redis_url = environment.get("HOTEL_REDIS_URL", "")
    if not redis_url and (shared := sorted(SHARED & set(flags))):
        raise SettingsError(f"the hotel chat cannot start: {no_redis(shared)}")
    return Settings(
        **{name.lower(): environment[name] for name in _REQUIRED}, flags=flags, redis_url=redis_url
    )


def no_redis(flags: Iterable[str]) -> str:
    """What is missing for flags that share something, and where to say it."""
    return f"{', '.join(flags)} needs HOTEL_REDIS_URL, e.g. redis://127.0.0.1:6379/0"
