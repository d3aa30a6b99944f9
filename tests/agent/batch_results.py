"""A job that reads answers of batches and tells Taximeter of each."""

from __future__ import annotations

import json
from pathlib import Path

import taximeter

FILES = Path(__file__).with_name("payloads")


def main() -> None:
    openai = json.loads((FILES / "openai.json").read_text())
    anthropic = json.loads((FILES / "anthropic.json").read_text())
    unknown = {"model": "gpt-99", "usage": {"prompt_tokens": 10, "completion_tokens": 1}}
    told = [
        taximeter.record_model_call(openai["chat, batch"]["response"], provider="openai"),
        taximeter.record_model_call(anthropic["message, batch"]["response"], provider="anthropic"),
        taximeter.record_model_call(unknown, provider="openai"),
        taximeter.record_model_call(None, provider="openai", model="gpt-4o-mini"),
    ]
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
