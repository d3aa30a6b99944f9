"""Starting and ending the hotel chat, and seeding: what is said when something is missing."""

from __future__ import annotations

import signal
import threading

import httpx
import psycopg
import pytest

from examples.guests import catalogue
from examples.hotel_chat import seed_texts
from examples.hotel_chat.flags import FLAGS, Flags, UnknownFlag
from examples.hotel_chat.settings import SettingsError, read_settings

from .conftest import Backend
from .processes import free_port, run_module, running

NAMES = [
    *("DATABASE_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
    *("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "MOTOPRESS_URL"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_variable_is_named_with_its_remedy(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(dict.fromkeys(NAMES, "set") | {name: ""})
    assert f"{name} is not set: " in str(caught.value)
    assert str(caught.value).count("is not set") == 1
    assert read_settings(dict.fromkeys(NAMES, "set")).database_url == "set"


def test_a_start_without_settings_names_them_all_and_nothing_else() -> None:
    ended = run_module("examples.hotel_chat", "--port", "1", env=dict.fromkeys(NAMES, ""))
    assert ended.returncode == 1
    assert all(f"{name} is not set" in ended.stderr for name in NAMES)
    assert "Traceback" not in ended.stderr


def test_an_unreachable_database_is_said_in_one_message(backend: Backend) -> None:
    env = backend.env | {"DATABASE_URL": f"postgresql://hotel_app@127.0.0.1:{free_port()}/postgres"}
    ended = run_module("examples.hotel_chat", "--port", str(free_port()), env=env)
    assert ended.returncode == 1
    assert "DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_seed_says_what_it_misses(backend: Backend) -> None:
    dsn = backend.postgres.dsn()
    unset = run_module("examples.hotel_chat.seed", "--dsn", dsn, env={"OPENAI_BASE_URL": ""})
    assert (unset.returncode, "OPENAI_BASE_URL is not set" in unset.stderr) == (1, True)
    nowhere = f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
    lost = run_module("examples.hotel_chat.seed", "--dsn", nowhere, env=backend.env)
    assert (lost.returncode, "--dsn" in lost.stderr) == (1, True)
    assert "Traceback" not in unset.stderr + lost.stderr


def statements(backend: Backend) -> list[str]:
    with psycopg.connect(backend.postgres.dsn(), autocommit=True) as connection:
        rows = connection.execute(
            "SELECT query FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid "
            "WHERE r.rolname = 'hotel_app'"
        ).fetchall()
    return [row[0] for row in rows]


def test_an_idle_service_sends_no_statement_and_sigterm_lets_a_stream_finish(backend: Backend) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/hotels/casa-del-mar/chat/stream"
    body = {"conversation": "sigterm", "message": "Tell me a long story", "tier": "vip"}
    texts: list[str] = []
    started = threading.Event()

    def listen() -> None:
        with httpx.stream("POST", url, json=body, timeout=30) as answer:
            for text in answer.iter_text():
                texts.append(text)
                started.set()

    backend.reset()
    env = backend.env | {"MOTOPRESS_URL": f"http://127.0.0.1:{free_port()}"}
    with running("examples.hotel_chat", port, env=env) as process:
        assert statements(backend) == []  # the pool is filled and has asked nothing
        quote = httpx.get(f"http://127.0.0.1:{port}/hotels/casa-del-mar/motopress/quote?room=101")
        assert quote.status_code == 502  # nobody listens there
        listener = threading.Thread(target=listen)
        listener.start()
        assert started.wait(30)
        process.terminate()
        listener.join(30)
        assert process.wait(30) in {0, -signal.SIGTERM}
    assert "".join(texts).endswith('data: {"done": true}\n\n')


def test_guests_know_the_hotels_as_they_are_seeded() -> None:
    known = {(hotel.slug, hotel.code_prefix) for hotel in catalogue.HOTELS}
    assert known == {(hotel.slug, hotel.prefix) for hotel in seed_texts.HOTELS}
    assert len(known) >= 6


def test_flags_are_off_at_first_and_switch_all_or_none() -> None:
    flags = Flags()
    assert flags.active == []
    assert not any(flags[name] for name in FLAGS)
    with pytest.raises(UnknownFlag, match=r"fix\.nothing.*fix\.batch_reservations"):
        flags.switch({"fault.n_plus_one_rooms": True, "fix.nothing": True})
    assert flags.active == []
    flags.switch({"fault.n_plus_one_rooms": True, "fix.batch_reservations": True})
    assert flags.active == ["fault.n_plus_one_rooms", "fix.batch_reservations"]
    with pytest.raises(UnknownFlag):
        flags["fix.nothing"]
