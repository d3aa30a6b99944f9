"""Two costs of the genai instrumentors that say nothing of a call, taken out.

* An invocation asks what an inner one has left for it, field by field over some fifty of them:
  nothing, unless frameworks are nested, and then the official way is taken.
* Whether an answer is a raw one is asked of a protocol, which takes longer than the span does
  (Python before 3.12 inspects the object's every attribute): here its class is asked.

Left out, with one message, on a version where these are not what they were.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from taximeter import guard

_OPENAI: Final = "opentelemetry.instrumentation.genai.openai.patch"


def install(library: str) -> None:
    """Make the invocations of util-genai, and the reading of ``library``'s answers, cheaper."""
    try:
        _enriching()
        if library == "openai":
            module = import_module(_OPENAI)
            if isinstance(module.ParsableResponse, type) and hasattr(module.ParsableResponse, "parse"):
                setattr(module, "ParsableResponse", _Parsable)  # noqa: B010  (its type is another)
    except (ImportError, AttributeError, TypeError) as error:
        guard.note("modellight", f"The genai instrumentors are not as known ({error}): they cost more.")


class _ByClass(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        try:
            return hasattr(type(instance), "parse") or "parse" in getattr(instance, "__dict__", ())
        except Exception as error:
            guard.caught("modellight.raw", error)
            return False


class _Parsable(metaclass=_ByClass):
    """Stands for the protocol of answers whose payload is behind ``parse()``."""

    def parse(self) -> None:
        """Named so that this is recognised as what it stands for."""


def _enriching() -> None:
    from opentelemetry.util.genai import _embedding_invocation as embedding  # noqa: PLC0415
    from opentelemetry.util.genai import _inference_invocation as inference  # noqa: PLC0415

    for cls, data in (
        (inference.InferenceInvocation, inference.InferenceData),
        (embedding.EmbeddingInvocation, embedding.EmbeddingData),
    ):
        _shortcut(cls, vars(data()))


def _shortcut(cls: Any, nothing: dict[str, Any]) -> None:
    enrich = cls.enrich_from_context
    if getattr(enrich, "_taximeter", False):
        return

    def enriched(self: Any, data: Any) -> None:
        try:
            if vars(data) == nothing:
                return
        except Exception as error:
            guard.caught("modellight.enrich", error)
        enrich(self, data)

    enriched._taximeter = True  # type: ignore[attr-defined]
    cls.enrich_from_context = enriched
