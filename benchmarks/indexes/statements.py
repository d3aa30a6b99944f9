"""Fifty statements as services send them; each with values drawn for one call."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Draw = Callable[[random.Random], tuple[Any, ...]]


def _one(most: int) -> Draw:
    return lambda rng: (rng.randint(1, most),)


def _day(rng: random.Random) -> str:
    return f"2026-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def _vector(rng: random.Random) -> str:
    return "[" + ",".join(f"{rng.random() - 0.5:.4f}" for _ in range(32)) + "]"


_hotel, _guest, _reservation, _conversation = _one(200), _one(250_000), _one(400_000), _one(80_000)

STATEMENTS: tuple[tuple[str, Draw], ...] = (
    # by primary key or a unique key: nothing to advise
    ("SELECT * FROM hotels WHERE slug = %s", lambda rng: (f"hotel-{rng.randint(1, 200)}",)),
    ("SELECT name, email FROM guests WHERE id = %s", _guest),
    ("SELECT * FROM reservations WHERE id = %s", _reservation),
    ("SELECT number, kind FROM rooms WHERE hotel_id = %s ORDER BY number", _hotel),
    ("UPDATE guests SET vip = %s WHERE id = %s", lambda rng: (True, rng.randint(1, 250_000))),
    # one column
    ("SELECT * FROM reservations WHERE code = %s", lambda rng: (f"R-{rng.randint(1, 400_000)}",)),
    ("SELECT id, status FROM reservations WHERE guest_id = %s", _guest),
    ("SELECT amount, method FROM payments WHERE reservation_id = %s ORDER BY id", _reservation),
    ("SELECT role, body FROM messages WHERE conversation_id = %s ORDER BY id", _conversation),
    ("SELECT id FROM conversations WHERE guest_id = %s", _guest),
    ("SELECT id FROM guests WHERE email = %s", lambda rng: (f"Guest{rng.randint(1, 250_000)}@Example.com",)),
    ("SELECT id FROM guests WHERE lower(email) = lower(%s)",
     lambda rng: (f"guest{rng.randint(1, 250_000)}@example.com",)),
    ("SELECT count(*) FROM payments WHERE reservation_id = %s", _reservation),
    ("SELECT sum(amount) FROM payments WHERE reservation_id = %s", _reservation),
    ("SELECT id, body FROM reviews WHERE guest_id = %s", _guest),
    ("DELETE FROM payments WHERE reservation_id = %s AND amount < 0", _reservation),
    ("UPDATE reservations SET total = total + 0 WHERE code = %s", lambda rng: (f"R-{rng.randint(1, 400_000)}",)),
    ("SELECT * FROM guests WHERE name = %s LIMIT 20", lambda rng: (f"Name {rng.randint(0, 49_999)}",)),
    # several columns
    ("SELECT * FROM reservations WHERE hotel_id = %s AND check_in = %s", lambda rng: (rng.randint(1, 200), _day(rng))),
    ("SELECT count(*) FROM reservations WHERE room_id = %s AND check_in < %s AND check_out > %s",
     lambda rng: (rng.randint(1, 20_000), *[_day(rng)] * 2)),
    ("SELECT id FROM reservations WHERE room_id = %s AND status = %s", lambda rng: (rng.randint(1, 20_000), "paid")),
    ("SELECT code, total FROM reservations WHERE hotel_id = %s AND status = %s AND check_in = %s",
     lambda rng: (rng.randint(1, 200), "paid", _day(rng))),
    ("SELECT id FROM events WHERE kind = %s AND hotel_id = %s AND at > %s",
     lambda rng: (f"kind-{rng.randint(1, 29)}", rng.randint(1, 200), _day(rng))),
    ("SELECT id FROM conversations WHERE hotel_id = %s AND guest_id = %s",
     lambda rng: (rng.randint(1, 200), rng.randint(1, 250_000))),
    ("SELECT id FROM rooms WHERE hotel_id = %s AND number = %s", lambda rng: (rng.randint(1, 200), str(rng.randint(1, 99)))),
    # the latest of something
    ("SELECT code, check_in FROM reservations WHERE hotel_id = %s ORDER BY check_in DESC, code LIMIT %s",
     lambda rng: (rng.randint(1, 200), 10)),
    ("SELECT * FROM reservations WHERE hotel_id = %s ORDER BY created_at DESC LIMIT %s",
     lambda rng: (rng.randint(1, 200), 20)),
    ("SELECT * FROM reservations ORDER BY created_at DESC LIMIT %s", lambda rng: (50,)),
    ("SELECT * FROM messages ORDER BY created_at DESC LIMIT 100", lambda rng: ()),
    ("SELECT body FROM messages WHERE conversation_id = %s AND role = %s ORDER BY created_at DESC LIMIT %s",
     lambda rng: (rng.randint(1, 80_000), "user", 5)),
    ("SELECT * FROM events WHERE kind = %s ORDER BY at DESC LIMIT %s", lambda rng: (f"kind-{rng.randint(1, 29)}", 25)),
    ("SELECT * FROM guests ORDER BY created_at DESC LIMIT %s OFFSET %s", lambda rng: (20, 20)),
    ("SELECT max(created_at) FROM reservations WHERE hotel_id = %s", _hotel),
    ("SELECT max(paid_at) FROM payments", lambda rng: ()),
    # ranges
    ("SELECT * FROM payments WHERE paid_at >= %s AND paid_at < %s", lambda rng: ("2026-05-04 10:00", "2026-05-04 16:00")),
    ("SELECT id FROM messages WHERE created_at > %s", lambda rng: ("2026-10-15 18:00",)),
    ("SELECT id, total FROM reservations WHERE created_at > %s", lambda rng: ("2026-10-05 06:00",)),
    ("SELECT id FROM events WHERE at BETWEEN %s AND %s", lambda rng: ("2026-03-01 08:00", "2026-03-01 09:00")),
    # literals that narrow
    ("SELECT id, code FROM reservations WHERE status = 'disputed' ORDER BY created_at", lambda rng: ()),
    ("SELECT id FROM conversations WHERE closed_at IS NULL AND hotel_id = %s", _hotel),
    # joins
    ("SELECT r.code, g.name, m.number FROM reservations r JOIN guests g ON g.id = r.guest_id "
     "JOIN rooms m ON m.id = r.room_id WHERE r.hotel_id = %s ORDER BY r.check_in DESC LIMIT %s",
     lambda rng: (rng.randint(1, 200), 10)),
    ("SELECT r.id, p.amount FROM reservations r JOIN payments p ON p.reservation_id = r.id WHERE r.guest_id = %s",
     _guest),
    ("SELECT c.id, m.body FROM conversations c JOIN messages m ON m.conversation_id = c.id WHERE c.guest_id = %s",
     _guest),
    ("SELECT g.name, count(*) FROM guests g JOIN reservations r ON r.guest_id = g.id WHERE g.email = %s GROUP BY g.name",
     lambda rng: (f"Guest{rng.randint(1, 250_000)}@Example.com",)),
    # containment
    ("SELECT id FROM events WHERE tags @> ARRAY[%s]::text[]", lambda rng: (f"t{rng.randint(20, 996)}",)),
    ("SELECT id FROM events WHERE data @> %s::jsonb", lambda rng: (f'{{"user": {rng.randint(1, 20_000)}}}',)),
    # vectors
    ("SELECT id, body FROM reviews ORDER BY embedding <=> %s::vector LIMIT %s", lambda rng: (_vector(rng), 5)),
    # whole tables: no index helps
    ("SELECT status, count(*) FROM reservations GROUP BY status", lambda rng: ()),
    ("SELECT method, sum(amount) FROM payments GROUP BY method", lambda rng: ()),
    ("SELECT count(*) FROM messages WHERE body LIKE %s", lambda rng: (f"%{rng.randint(1000, 9999)}%",)),
)  # fmt: skip
