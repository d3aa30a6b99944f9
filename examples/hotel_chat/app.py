"""The application: its routes and the life of its services."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from . import admin, booking, chat, faq, hotels, recommendations, reservations, rooms
from .services import open_services
from .settings import Settings, read_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; settings come from the environment unless given (``SettingsError``)."""
    chosen = settings or read_settings(os.environ)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(chosen) as services:
            app.state.services = services
            yield

    app = FastAPI(title="Hotel chat", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    for part in (hotels, faq, rooms, reservations, chat, recommendations, booking, admin):
        app.include_router(part.router)
    return app
