"""``python -m examples.hotel_chat.migrations --dsn ADMIN_DSN [--revert]``: the indexes that weakness 2 lacks.

The service's role owns no table, so this is the administrator's to run, before or while the service runs;
then tell it by the flag ``fix.indexes``, so that what is measured carries the name of what was changed.
"""

from __future__ import annotations

import argparse
import sys

import psycopg

#: name -> what it is on; every one serves a statement of the service
INDEXES = {
    "reservations_room": "reservations (room_id, check_in)",
    "reservations_hotel": "reservations (hotel_id, check_in DESC, code)",
    "payments_reservation": "payments (reservation_id, id)",
    "messages_conversation": "messages (conversation_id, id)",
    "conversations_hotel": "conversations (hotel_id)",
    "faq_hotel": "faq (hotel_id)",
    "content_chunks_hotel": "content_chunks (hotel_id)",
}


def migrate(dsn: str, revert: bool = False) -> None:
    """Create the indexes, or drop them; neither blocks writers. Raises ``psycopg.Error``."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name, target in INDEXES.items():
            if revert:
                connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}".encode())
            else:
                connection.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {target}".encode())
        connection.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY occupancy")
        connection.execute("ANALYZE")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.hotel_chat.migrations", description=__doc__)
    parser.add_argument("--dsn", required=True, help="a connection as the owner of the tables")
    parser.add_argument("--revert", action="store_true", help="drop them again")
    options = parser.parse_args()
    try:
        migrate(options.dsn, options.revert)
    except psycopg.Error as error:
        print(f"cannot change the indexes at --dsn: {error}", file=sys.stderr)
        return 1
    print(f"{'dropped' if options.revert else 'created'}: {', '.join(INDEXES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
