"""One plain call: begun, under way, and told of.

It is a span, three measurements, a price, evidence, and an entry in the account of its request; see
:mod:`taximeter.openaicalls` for which calls are plain.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation import _SPAN_KEY

from taximeter import account as accounts
from taximeter import (
    current,
    evidence,
    guard,
    meters,
    modelcalls,
    openaisaid,
    plainusage,
    prompt,
    semconv,
    tries,
)
from taximeter import usage as usages
from taximeter.openaiplaces import MAX_KEPT, Answer, Attributes, Place
from taximeter.spans import Span

_RAW: Final = "X-Stainless-Raw-Response"
_NOTHING: Final = usages.Reading(None)
_now = time.perf_counter
_enter: Final[Callable[[Context], Any]] = attach if current._variable is None else current._variable.set
_leave: Final[Callable[[Any], None]] = detach if current._variable is None else current._variable.reset


class Call(modelcalls.ModelCall):
    """One plain call that is on its way."""

    __slots__ = ("attributes", "calls", "context", "place", "span", "started", "token")
    context: Context
    span: trace.Span
    started: float
    token: Any

    def __init__(self, calls: Calls, place: Place, account: accounts.Account, attributes: Attributes) -> None:
        self.account, self.host = account, place.host  # as Tried and ModelCall do
        self.attempts = self.unconnected = 0
        self.reading = None
        self.inputs = []
        self.evidence = {}
        self.calls, self.place, self.attributes = calls, place, attributes

    def end(self, result: Any, error: BaseException | None = None) -> None:
        """It was answered, or failed."""
        try:
            try:
                self.calls.tell(self, result, error)
            finally:
                try:
                    _leave(self.token)
                except ValueError:  # ended by somebody else, in whose context it never was
                    guard.count("openaicalls.leave")
                self.span.end()
        except Exception as failure:
            guard.caught("openaicalls.end", failure)


class Calls:
    """Begins and ends the plain calls of one kind."""

    operation: str
    nested: str  # the context's key under which the official instrumentors see that they are inside a call
    data: type[Any]
    asked: Callable[[Attributes], Attributes | None]  # what the span says of the arguments

    def __init__(self, handler: Any, pricer: modelcalls.Pricer) -> None:
        from opentelemetry.util.genai import _conversation_context as conversation  # noqa: PLC0415

        self._tracer: trace.Tracer = handler._tracer
        self._duration = handler._instruments.operation_duration
        self._tokens = handler._instruments.token_usage
        self._conversation = conversation.CONVERSATION_ID_KEY
        self._pricer = pricer
        self._places: dict[tuple[int, str], Place] = {}  # by the identity of a client's address
        self._addresses: dict[int, Any] = {}
        self._servers: dict[tuple[str, str], Place] = {}
        self._direct: set[type[Any]] = set()  # clients whose property is the field
        self._inside = _deaf(self.data)

    def begin(self, instance: Any, args: Any, kwargs: Attributes) -> Call | None:
        """A call is about to be made; ``None`` where the official instrumentor is to see to it."""
        try:
            running, model = current.context(), kwargs.get("model")
            headers = kwargs.get("extra_headers")
            if (
                args
                or type(model) is not str
                or not model
                or kwargs.get("stream")
                or (headers and _RAW in headers)
                or self.nested in running
                or self._conversation in running
                or (attributes := self.asked(kwargs)) is None
            ):
                return None
            client = instance._client
            address = client._base_url if type(client) in self._direct else client.base_url
            place = self._places.get((id(address), model))
            if place is None:
                place = self._know(client, address, model)
            call = Call(self, place, accounts.current.get() or accounts.OUTSIDE, attributes)
            if getattr(getattr(running.get(_SPAN_KEY), "_tracer", None), "foreign", True):
                modelcalls.around(running)  # a span of a tracer that may tell of this call, too
            call.span = span = self._tracer.start_span(place.name, running, SpanKind.CLIENT, place.attributes)
            self.take(call, kwargs, span.is_recording())
            call.context = context = Context(
                {**running, tries.CALL: call, _SPAN_KEY: span, self.nested: self._inside}
            )
            call.token = _enter(context)
            call.started = _now()
            return call
        except Exception as error:
            guard.caught("openaicalls.begin", error)
            return None

    def _know(self, client: Any, address: Any, model: str) -> Place:
        if not getattr(address, "host", None):
            raise LookupError("a client without a server")
        if getattr(client, "_base_url", None) is address:
            self._direct.add(type(client))
        if len(self._places) >= MAX_KEPT:
            self._places.clear()
            self._addresses.clear()
        if len(self._servers) >= MAX_KEPT:
            self._servers.clear()
        # A client may live no longer than a request: the next one's address is another object.
        key = str(address), model
        place = self._servers.get(key)
        if place is None:
            place = self._servers[key] = Place(address, self.operation, model, self._pricer)
        self._addresses[id(address)] = address  # held, so that its id is nobody else's
        self._places[id(address), model] = place
        return place

    def tell(self, call: Call, result: Any, error: BaseException | None) -> None:
        """Say how it went: on the span, in the measurements and on the account."""
        try:
            self._measure(call, result, error, _now() - call.started)
        finally:
            _say(call.span, call.attributes)

    def _measure(self, call: Call, result: Any, error: BaseException | None, seconds: float) -> None:
        place, attributes, context = call.place, call.attributes, call.context
        if error is None:
            try:
                answer, reading = self.answered(call, result)
            except Exception as wrong:  # an answer of no known shape: a call all the same
                guard.caught("openaicalls.answered", wrong)
                answer, reading = place.answer(None), _NOTHING
            try:
                self.detail(call, result)
            except Exception as wrong:
                guard.caught("openaicalls.detail", wrong)
            labels: Attributes = answer.labels
            tariff = answer.tariff
            if (count := attributes.get(semconv.GEN_AI_USAGE_INPUT_TOKENS)) is not None:
                self._tokens.record(count, answer.of_input, context)
            if (count := attributes.get(semconv.GEN_AI_USAGE_OUTPUT_TOKENS)) is not None:
                self._tokens.record(count, answer.of_output, context)
        else:
            reading, labels = _NOTHING, self._failed(call, error)
            tariff = place.tariff
        self._duration.record(seconds, labels, context)
        if (instruments := meters.get()) is not None:
            self._pricer.settle(
                call,
                attributes,
                instruments,
                place.paying(instruments),
                place.provider,
                tariff,
                reading,
                reading.usage or usages.NONE,
                failed=error is not None,
                # Cancelled while it was on its way: the provider may charge for it.
                aborted=error is not None and not isinstance(error, Exception),
            )
            if (cost := attributes.get(semconv.GEN_AI_USAGE_COST_AMOUNT)) is not None:
                instruments.operation_cost.record(cost, labels, context)

    @staticmethod
    def _failed(call: Call, error: BaseException) -> Attributes:
        from opentelemetry.util.genai.types import Error  # noqa: PLC0415  (few calls fail)

        wrong = Error.from_exception(error)
        call.span.set_status(Status(StatusCode.ERROR, wrong.message))
        call.attributes[semconv.ERROR_TYPE] = wrong.type
        return {**call.place.labels, semconv.ERROR_TYPE: wrong.type}

    def take(self, call: Call, kwargs: Attributes, recorded: bool) -> None:
        """Take evidence of what is asked, if the span is recorded."""
        raise NotImplementedError

    def answered(self, call: Call, result: Any) -> tuple[Answer, usages.Reading]:
        """Put what the answer says of its model and its usage into the call's attributes."""
        raise NotImplementedError

    def detail(self, call: Call, result: Any) -> None:
        """Likewise what else it says: whatever is odd there costs no money."""
        raise NotImplementedError


class Chats(Calls):
    """Chat completions."""

    operation = "chat"

    def __init__(self, handler: Any, pricer: modelcalls.Pricer) -> None:
        from opentelemetry.util.genai import _inference_invocation as inference  # noqa: PLC0415

        self.nested, self.data = inference.CLIENT_INFERENCE_CONTEXT_KEY, inference.InferenceData
        super().__init__(handler, pricer)

    asked = staticmethod(openaisaid.of_chat)

    def take(self, call: Call, kwargs: Attributes, recorded: bool) -> None:
        if recorded:
            call.evidence = {**evidence.of_prompt(prompt.openai(kwargs)), **evidence.of_code()}

    def answered(self, call: Call, result: Any) -> tuple[Answer, usages.Reading]:
        names = getattr(result, "service_tier", None), getattr(result, "system_fingerprint", None)
        answer = call.place.answer(result.model, *names)
        attributes = call.attributes
        attributes |= answer.attributes
        if not (usage := result.usage):
            return answer, _NOTHING
        return answer, openaisaid.of_usage(usage, attributes)

    def detail(self, call: Call, result: Any) -> None:
        if choices := result.choices:
            call.attributes[openaisaid.REASONS] = openaisaid.reasons(choices)
        if result.id:
            call.attributes["gen_ai.response.id"] = result.id


class Embeddings(Calls):
    """Embeddings."""

    operation = semconv.EMBEDDINGS

    def __init__(self, handler: Any, pricer: modelcalls.Pricer) -> None:
        from opentelemetry.util.genai import _embedding_invocation as embedding  # noqa: PLC0415

        self.nested, self.data = embedding.CLIENT_EMBEDDING_CONTEXT_KEY, embedding.EmbeddingData
        super().__init__(handler, pricer)

    asked = staticmethod(openaisaid.of_embeddings)

    def take(self, call: Call, kwargs: Attributes, recorded: bool) -> None:
        call.inputs = evidence.inputs(kwargs.get("input"))
        if recorded:
            call.evidence = {**evidence.of_inputs(call.inputs), **evidence.of_code()}

    def answered(self, call: Call, result: Any) -> tuple[Answer, usages.Reading]:
        answer = call.place.answer(result.model)
        attributes = call.attributes
        attributes |= answer.attributes
        if (usage := result.usage) and (count := usage.prompt_tokens) is not None:
            attributes[semconv.GEN_AI_USAGE_INPUT_TOKENS] = count
        plain = plainusage.of_embeddings(result)
        return answer, usages.read(result) if plain is None else usages.Reading(plain)

    def detail(self, call: Call, result: Any) -> None:
        if data := result.data:
            if vector := data[0].embedding:
                call.attributes[openaisaid.DIMENSIONS] = len(vector)
            if call.span.is_recording():
                call.evidence |= evidence.of_vectors([each.embedding for each in data])


def _deaf(data: type[Any]) -> Any:
    """What inner invocations find: that they are inner ones. What they tell is in our answer."""

    class Deaf(data):  # type: ignore[misc]
        def merge(self, other: Any, *, overwrite: bool = True) -> None:
            """Nothing is kept."""

    return Deaf()


def _say(span: trace.Span, attributes: Attributes) -> None:
    reasons = attributes.get(openaisaid.REASONS)
    if type(reasons) is tuple and type(span) is Span and "_attributes" not in span.__dict__:
        # As a span keeps it; among the others it would have each of them looked at.
        span._more[openaisaid.REASONS] = attributes.pop(openaisaid.REASONS)
    span.set_attributes(attributes)
