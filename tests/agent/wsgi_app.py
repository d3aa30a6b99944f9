"""The same routes in Flask and in Django: ``-m ... flask|django``, served by the standard library, and
``django-asgi`` and ``starlette`` (without FastAPI), by uvicorn."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import openai
import psycopg2
import sqlalchemy
from asgiref.sync import sync_to_async

import taximeter

client = openai.OpenAI()
HELLO: Any = [{"role": "user", "content": "hello"}]
engine = sqlalchemy.create_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg2:"))


def chat() -> None:
    client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)


def work(hotel: str) -> str:
    """Two statements by the driver, two by SQLAlchemy, one model call."""
    taximeter.attribute("tenant", hotel)
    with psycopg2.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT name FROM guests WHERE id = %s", (1,))
        cursor.execute("SELECT name FROM guests WHERE id = %s", (2,))
    with engine.connect() as connected:
        connected.execute(sqlalchemy.text("SELECT count(*) FROM visits"))
        connected.execute(sqlalchemy.text("SELECT name FROM guests WHERE id = :id"), {"id": 3})
    chat()
    return hotel


def words() -> Iterator[str]:
    yield "one "
    chat()
    yield "two"


def boom() -> str:
    chat()
    raise RuntimeError("boom")


def flask_application() -> Any:
    import flask

    app = flask.Flask(__name__)
    app.add_url_rule("/task/<hotel>", view_func=work)
    app.add_url_rule("/stream", view_func=lambda: flask.Response(words()), endpoint="stream")
    app.add_url_rule("/boom", view_func=boom)
    return app


async def slow_words() -> AsyncIterator[str]:
    yield "one "
    await sync_to_async(chat)()
    yield "two"


def django_application(*, asgi: bool = False) -> Any:
    import django
    from django.conf import settings

    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", MIDDLEWARE=[])
    django.setup()
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    def view(answer: Callable[..., str]) -> Callable[..., HttpResponse]:
        return lambda _, **values: HttpResponse(answer(**values))

    global urlpatterns  # noqa: PLW0603
    urlpatterns = [
        path("task/<str:hotel>", view(work)),
        path("stream", lambda _: StreamingHttpResponse(slow_words() if asgi else words())),
        path("boom", view(boom)),
    ]
    return get_asgi_application() if asgi else get_wsgi_application()


def starlette_application() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route

    def view(answer: Callable[..., str]) -> Callable[[Request], PlainTextResponse]:
        return lambda request: PlainTextResponse(answer(**request.path_params))

    return Starlette(
        routes=[
            Route("/task/{hotel}", view(work)),
            Route("/stream", lambda _: StreamingResponse(words())),
            Route("/boom", view(boom)),
        ]
    )


urlpatterns: list[Any] = []


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    # Django looks the routes up by module name.
    sys.modules["tests.agent.wsgi_app"] = sys.modules[__name__]
    if sys.argv[1] == "django-asgi":
        import uvicorn

        application = django_application(asgi=True)
        uvicorn.run(application, port=int(os.environ["PORT"]), log_level="warning", lifespan="off")
        sys.exit()
    if sys.argv[1] == "starlette":
        import uvicorn

        uvicorn.run(starlette_application(), port=int(os.environ["PORT"]), log_level="warning")
        sys.exit()
    application = flask_application() if sys.argv[1] == "flask" else django_application()
    with make_server("127.0.0.1", int(os.environ["PORT"]), application, Server, Quiet) as server:
        server.serve_forever()
