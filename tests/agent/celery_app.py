"""A Celery worker's tasks: each asks a model, for a tenant. Messages go through a folder, results nowhere."""

from __future__ import annotations

import os
from typing import Any

import celery
import openai

import taximeter

FOLDER = os.environ["CELERY_FOLDER"]
HELLO: Any = [{"role": "user", "content": "hello"}]
app = celery.Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = dict.fromkeys(
    ("data_folder_in", "data_folder_out", "control_folder"), FOLDER
)
app.conf.worker_prefetch_multiplier = 1


@app.task(name="summarise")  # type: ignore[untyped-decorator]
def summarise(hotel: str) -> None:
    taximeter.attribute("tenant", hotel)
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=HELLO)
