"""Ten tables of a hotel group, about two million rows, with primary keys and hardly another index."""

from __future__ import annotations

TABLES = (
    "hotels", "rooms", "guests", "reservations", "payments", "conversations", "messages", "events", "chunks",
    "reviews",
)  # fmt: skip

#: rows come from arithmetic on their numbers, so they are the same in every run
SCHEMA = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
SELECT setseed(0.7);
CREATE FUNCTION pseudo(n bigint, salt int) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT ((hashint8(n * 31 + salt)::bigint + 2147483648) % 1000003) / 1000003.0 $$;
CREATE FUNCTION pseudo_vector(n bigint, dims int) RETURNS vector LANGUAGE sql IMMUTABLE AS
  $$ SELECT array_agg(pseudo(n % 60, 100 + i) - 0.5 + 0.35 * (pseudo(n, 500 + i) - 0.5) ORDER BY i)::vector
     FROM generate_series(1, dims) i $$;

CREATE TABLE hotels (id int PRIMARY KEY, slug text UNIQUE, name text, city text, stars int);
INSERT INTO hotels SELECT n, 'hotel-' || n, 'Hotel ' || n, 'city-' || n % 40, 1 + n % 5 FROM generate_series(1, 200) n;

CREATE TABLE rooms (id int PRIMARY KEY, hotel_id int REFERENCES hotels, number text, kind text, price int);
INSERT INTO rooms SELECT n, 1 + n % 200, (n / 200)::text, 'kind-' || n % 7, 50 + n % 300 FROM generate_series(1, 20000) n;

CREATE TABLE guests (id int PRIMARY KEY, name text, email text, country text, vip boolean, created_at timestamptz);
INSERT INTO guests SELECT n, 'Name ' || n % 50000, 'Guest' || n || '@Example.com', 'C' || (60 * pseudo(n, 1))::int,
  n % 50 = 0, '2026-01-01'::timestamptz + n * interval '100 seconds' FROM generate_series(1, 250000) n;

CREATE TABLE reservations (id int PRIMARY KEY, code text, hotel_id int, room_id int, guest_id int, check_in date,
  check_out date, status text, total int, created_at timestamptz, cancelled_at timestamptz);
INSERT INTO reservations SELECT n, 'R-' || n, 1 + (200 * pseudo(n, 2))::int % 200, 1 + (20000 * pseudo(n, 3))::int % 20000,
  1 + (250000 * pseudo(n, 4))::int % 250000, '2026-01-01'::date + (365 * pseudo(n, 5))::int,
  '2026-01-03'::date + (365 * pseudo(n, 5))::int,
  (ARRAY['paid','paid','paid','paid','booked','booked','cancelled','disputed'])[1 + (CASE WHEN n % 900 = 0 THEN 7
    ELSE (7 * pseudo(n, 6))::int % 7 END)], (1000 * pseudo(n, 7))::int,
  '2026-01-01'::timestamptz + n * interval '60 seconds', CASE WHEN n % 7 = 0 THEN now() END
  FROM generate_series(1, 400000) n;

CREATE TABLE payments (id int PRIMARY KEY, reservation_id int, amount int, method text, paid_at timestamptz);
INSERT INTO payments SELECT n, 1 + (400000 * pseudo(n, 8))::int % 400000, (900 * pseudo(n, 9))::int,
  (ARRAY['card','cash','wire'])[1 + n % 3], '2026-01-01'::timestamptz + n * interval '80 seconds'
  FROM generate_series(1, 300000) n;

CREATE TABLE conversations (id int PRIMARY KEY, hotel_id int, guest_id int, channel text, closed_at timestamptz);
INSERT INTO conversations SELECT n, 1 + n % 200, 1 + (250000 * pseudo(n, 10))::int % 250000,
  (ARRAY['web','web','mail','phone'])[1 + n % 4], CASE WHEN n % 100 <> 0 THEN now() END FROM generate_series(1, 80000) n;

CREATE TABLE messages (id int PRIMARY KEY, conversation_id int, role text, body text, created_at timestamptz);
INSERT INTO messages SELECT n, 1 + (80000 * pseudo(n, 11))::int % 80000, (ARRAY['user','assistant'])[1 + n % 2],
  'words ' || n, '2026-01-01'::timestamptz + n * interval '50 seconds' FROM generate_series(1, 500000) n;

CREATE TABLE events (id int PRIMARY KEY, kind text, hotel_id int, data jsonb, tags text[], at timestamptz);
INSERT INTO events SELECT n, 'kind-' || (30 * pseudo(n, 12))::int, 1 + n % 200,
  jsonb_build_object('user', (20000 * pseudo(n, 13))::int, 'kind', n % 5),
  ARRAY['t' || n % 997, 't' || n % 13], '2026-01-01'::timestamptz + n * interval '40 seconds'
  FROM generate_series(1, 300000) n;

CREATE TABLE chunks (id int PRIMARY KEY, hotel_id int, lang text, body text, embedding vector(32));
INSERT INTO chunks SELECT n, 1 + n % 200, CASE n % 3 WHEN 0 THEN 'en' WHEN 1 THEN 'de' ELSE 'fr' END, 'chunk ' || n,
  pseudo_vector(n, 32) FROM generate_series(1, 20000) n;

CREATE TABLE reviews (id int PRIMARY KEY, hotel_id int, guest_id int, stars int, body text, embedding vector(32),
  created_at timestamptz);
INSERT INTO reviews SELECT n, 1 + n % 200, 1 + (250000 * pseudo(n, 14))::int % 250000, 1 + n % 5, 'review ' || n,
  pseudo_vector(n, 32), '2026-01-01'::timestamptz + n * interval '900 seconds' FROM generate_series(1, 20000) n;

CREATE INDEX rooms_hotel ON rooms (hotel_id);
CREATE INDEX rooms_hotel_again ON rooms (hotel_id);
CREATE INDEX rooms_hotel_number ON rooms (hotel_id, number);
CREATE INDEX events_nobody ON events ((data ->> 'kind'));
VACUUM ANALYZE;
"""

IDLE = {"rooms_hotel": "duplicate", "rooms_hotel_again": "duplicate", "events_nobody": "unused"}
