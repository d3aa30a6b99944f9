"""What is the same for every plain call of one model at one server, and for every answer of one kind.

A call's name, labels, payer and price come of who is asked and of who says it answered; there are few of
either, so they are worked out once.
"""

from __future__ import annotations

from typing import Any, Final

from taximeter import account as accounts
from taximeter import genai, meters, modelcalls, semconv
from taximeter import usage as usages
from taximeter.noted import Labels
from taximeter.spanattributes import Fixed
from taximeter.tariff import Tariff

MAX_KEPT: Final = 1024
_SYSTEM: Final = "openai.response.system_fingerprint"

Attributes = dict[str, Any]


class Place:
    """One model at one server: what is the same for each of its calls."""

    def __init__(self, address: Any, operation: str, model: str, pricer: modelcalls.Pricer) -> None:
        self.host: str = address.host
        self.provider = genai.provider("openai", self.host, pricer.hosts)
        self.name = f"{operation} {model}"
        self.labels: Attributes = {
            semconv.GEN_AI_OPERATION_NAME: operation,
            semconv.GEN_AI_PROVIDER_NAME: self.provider,
            semconv.GEN_AI_REQUEST_MODEL: model,
            "server.address": self.host,
        }
        if (port := address.port) and port != 443:
            self.labels["server.port"] = port
        self.attributes = Fixed(self.labels)
        self.tariff = Tariff(pricer.book, self.provider, (model,), "")
        self._book, self._model, self._operation = pricer.book, model, operation
        self._payer: tuple[meters.Meters, accounts.Payer] | None = None
        self._answers: dict[Any, Answer] = {}

    def paying(self, instruments: meters.Meters) -> accounts.Payer:
        """Who is paid for what, as labels."""
        if self._payer is None or self._payer[0] is not instruments:
            names = instruments.model(self.provider), instruments.model(self._model)
            self._payer = instruments, accounts.Payer(*names, self._operation)
        return self._payer[1]

    def answer(self, model: Any, tier: Any = None, system: Any = None) -> Answer:
        """What an answer says that names these."""
        # Anybody may answer: what is no text is not said.
        model, tier, system = key = tuple(
            each if type(each) is str else None for each in (model, tier, system)
        )
        found = self._answers.get(key)
        if found is None:
            if len(self._answers) >= MAX_KEPT:
                self._answers.clear()
            tariff = Tariff(self._book, self.provider, (model or None, self._model), usages.tier_of(tier))
            found = self._answers[key] = Answer(self.labels, tariff, model, tier, system)
        return found


class Answer:
    """What is the same for each answer that names one model, tier and system."""

    def __init__(self, labels: Attributes, tariff: Tariff, *said: Any) -> None:
        names = (semconv.GEN_AI_RESPONSE_MODEL, semconv.OPENAI_RESPONSE_SERVICE_TIER, _SYSTEM)
        self.attributes = {name: value for name, value in zip(names, said, strict=True) if value}
        self.labels = Labels({**labels, **self.attributes})
        self.of_input = Labels({**self.labels, semconv.GEN_AI_TOKEN_TYPE: "input"})
        self.of_output = Labels({**self.labels, semconv.GEN_AI_TOKEN_TYPE: "output"})
        self.tariff = tariff
