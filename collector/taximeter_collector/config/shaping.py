"""The keys of ``filter``, ``probabilistic_sampler``, ``redaction`` and the ``file`` exporter."""

from __future__ import annotations

import re
from typing import Any

from taximeter_collector.config.fields import (
    Key,
    Section,
    boolean,
    duration,
    names,
    number,
    one_of,
    text,
    whole,
)
from taximeter_collector.errors import ConfigError

_CONDITIONS = Key(names, [])
_LEGACY = ("include", "exclude")

FILTER = Section(
    {
        "error_mode": Key(one_of("ignore"), "ignore"),
        "traces": Section({"resource": _CONDITIONS, "span": _CONDITIONS, "spanevent": _CONDITIONS}),
        "metrics": Section(
            {"resource": _CONDITIONS, "metric": _CONDITIONS, "datapoint": _CONDITIONS},
            official=(*_LEGACY, "regexp"),
        ),
        "logs": Section({"resource": _CONDITIONS, "log_record": _CONDITIONS}, official=_LEGACY),
    },
    official=(
        "spans", "profiles", "trace_conditions", "metric_conditions", "log_conditions", "profile_conditions",
    ),
)  # fmt: skip
PROBABILISTIC_SAMPLER = Section(
    {
        "mode": Key(one_of("proportional", "equalizing", "hash_seed", ""), ""),
        "sampling_percentage": Key(number),
        "hash_seed": Key(whole, 0),
        "fail_closed": Key(boolean, True),
        "sampling_precision": Key(whole, 4),
    },
    official=("attribute_source", "from_attribute", "sampling_priority"),
)
REDACTION = Section(
    {
        "allow_all_keys": Key(boolean, False),
        "allowed_keys": Key(names, []),
        "ignored_keys": Key(names, []),
        "ignored_key_patterns": Key(names, []),
        "blocked_key_patterns": Key(names, []),
        "blocked_values": Key(names, []),
        "allowed_values": Key(names, []),
        "redact_all_types": Key(boolean, False),
        "hash_function": Key(one_of("", "md5", "sha1", "sha3", "hmac-sha256", "hmac-sha512"), ""),
        "hmac_key": Key(text, ""),
        "summary": Key(one_of("", "silent", "info", "debug"), ""),
    },
    official=("url_sanitizer", "db_sanitizer"),
)
FILE = Section(
    {
        "path": Key(text),
        "append": Key(
            boolean, True, differs="officially false: but what a cursor has passed is not written again"
        ),
        "rotation": Section(
            {
                "max_megabytes": Key(whole, 100),
                "max_days": Key(whole, 0),
                "max_backups": Key(whole, 100),
                "localtime": Key(boolean, False),
            },
            optional=True,
        ),
        "format": Key(one_of("json"), "json"),
        "flush_interval": Key(duration, 1.0, "every batch is synced before its cursor moves"),
        "create_directory": Key(boolean, False),
    },
    official=("encoding", "compression", "compression_params", "group_by", "directory_permissions"),
)


def check(type_: str, values: dict[str, Any], path: str) -> None:
    """What needs more than one key to be seen."""
    if type_ == "probabilistic_sampler":
        if values["sampling_percentage"] is None:
            raise ConfigError(f"{path}.sampling_percentage: is required")
        if not 1 <= values["sampling_precision"] <= 14:
            raise ConfigError(f"{path}.sampling_precision: is not one of 1 to 14 hex digits")
        if values["hash_seed"] >= 1 << 32:
            raise ConfigError(f"{path}.hash_seed: {values['hash_seed']} has more than 32 bits")
    elif type_ == "redaction":
        for key in ("ignored_key_patterns", "blocked_key_patterns", "blocked_values", "allowed_values"):
            for at, pattern in enumerate(values[key]):
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ConfigError(
                        f"{path}.{key}[{at}]: {pattern!r} is no regular expression ({error})"
                    ) from error
        if values["hash_function"].startswith("hmac") and not values["hmac_key"]:
            raise ConfigError(f"{path}.hmac_key: is required for {values['hash_function']}")
    elif type_ == "filter":
        from taximeter_collector.process.filter import Filter  # noqa: PLC0415  (it reads the conditions)

        Filter(path.partition(".")[2], values)
