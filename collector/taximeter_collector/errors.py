"""What the collector says when it cannot go on: one class per kind of trouble, one clear line each.

A message names what was wrong, with the value, where, and what to do about it. The exit codes
belong to the class, so that the command line need not guess.
"""

from __future__ import annotations

from dataclasses import dataclass


class CollectorError(Exception):
    """Trouble that ends the process; ``exit_code`` says how."""

    exit_code = 1


class ConfigError(CollectorError):
    """The configuration (or the installation) must change before a start can succeed."""

    exit_code = 2


class StartError(CollectorError):
    """The configuration is right, but the machine refuses: a port or a directory in use."""


@dataclass
class Refusal(Exception):
    """A request that is not accepted.

    ``retryable`` tells the sender to keep its data and come again after ``retry_after_s``;
    otherwise the request itself is wrong and sending it again cannot help.
    """

    reason: str  # short, for the metric's label: malformed, too_large, log_full, memory, log_failed
    message: str
    retryable: bool
    retry_after_s: float = 1.0

    def __str__(self) -> str:
        return self.message
