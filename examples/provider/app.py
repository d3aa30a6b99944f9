"""The provider's HTTP application: which path serves what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import motopress
from .anthropic_messages import Messages
from .attempts import Endpoint, Provider, serve
from .openai_chat import Chat
from .openai_embeddings import Embeddings
from .openai_responses import Responses


def _attempts(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        return await serve(endpoint, request.app.state.provider, request)

    return handle


async def _ledger(request: Request) -> Response:
    return JSONResponse(request.app.state.provider.ledger.totals())


async def _reset(request: Request) -> Response:
    request.app.state.provider.ledger.reset()
    return JSONResponse(request.app.state.provider.ledger.totals())


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def create_app(provider: Provider) -> Starlette:
    """The application; closes the ledger when it shuts down."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        provider.ledger.close()

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", _attempts(Chat()), methods=["POST"]),
            Route("/v1/responses", _attempts(Responses()), methods=["POST"]),
            Route("/v1/embeddings", _attempts(Embeddings()), methods=["POST"]),
            Route("/v1/messages", _attempts(Messages()), methods=["POST"]),
            Route("/ledger", _ledger),
            Route("/ledger/reset", _reset, methods=["POST"]),
            Route("/health", _health),
            *motopress.ROUTES,
        ],
        lifespan=lifespan,
    )
    app.state.provider = provider
    return app
