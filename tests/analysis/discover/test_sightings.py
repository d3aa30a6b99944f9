"""What counts as a sighting, in both languages: one line of code each, beside lines that must not count."""

from __future__ import annotations

from pathlib import Path

import pytest

from taximeter_analysis.discover.discover import discover, read_file
from taximeter_analysis.discover.model import SourceFile, Unread


def sightings(path: Path, name: str, text: str) -> list[tuple[str, str, str | None]]:
    file = path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    found = read_file(path, name)
    assert isinstance(found, SourceFile)
    return [(each.kind, each.what, each.name) for each in found.sightings]


def kinds(path: Path, name: str, text: str) -> list[str]:
    return [kind for kind, _, _ in sightings(path, name, text)]


PYTHON = [
    ('@app.get("/rooms/{id}")\nasync def room(id: int): ...', ["route"]),
    ('@router.post("/", status_code=201)\ndef book(): ...', ["route"]),
    ("@functools.wraps(f)\ndef g(): ...", []),
    ('response = client.get("/rooms")', []),
    ('app.add_api_route("/health", health)', ["route"]),
    ('cur.execute("SELECT id FROM rooms")', ["database"]),
    ('await conn.fetchval(f"SELECT {x} FROM rooms")', ["database"]),
    ("rows = session.execute(select(Room)).all()", ["database"]),
    ("session.add(room)", ["database"]),
    ("room = session.get(Room, 7)", ["database"]),
    ('page = session.get("https://example.org")', []),
    ("seen.add(room)", []),
    ("Room.objects.filter(id=7).first()", ["database"]),
    ('supabase.table("rooms").select("*").execute()', ["database"]),
    ('op.execute("DROP TABLE rooms")', []),
    ("executor.execute(plan)", []),
    ('client.embeddings.create(model="m", input=texts)', ["embedding"]),
    ("vector = await get_text_embedding(text)", ["embedding"]),
    ('"text".encode("utf-8")', []),
    ("client.chat.completions.create(messages=m)", ["model"]),
    ("client.messages.create(messages=m)", ["model"]),
    ("client.beta.threads.messages.create(thread_id=t)", []),
    ("mailer.messages.send(m)", []),
    ("httpx.post('https://api.example.org/v1/embeddings', json=j)", ["embedding"]),
    ("a, b = await asyncio.gather(f(), g())", ["parallel"]),
    ("@lru_cache(maxsize=100)\ndef f(): ...", ["cache"]),
    ("# the cache is elsewhere", []),
    ("# TODO: rename this", []),
    ("# TODO: batch these queries", ["todo"]),
    ("# the partner's API is MUCH SLOWER than ours", ["todo"]),
]


@pytest.mark.parametrize(("text", "expected"), PYTHON)
def test_python(text: str, expected: list[str], tmp_path: Path) -> None:
    assert kinds(tmp_path, "code.py", text) == expected


SCRIPT = [
    ('app.get("/rooms/:id", async (req, res) => {})', ["route"]),
    ('app.get("view engine")', []),
    ('await api.get("/rooms")', []),
    ("const r = router({ get: roomsProcedure.input(z).query(({ ctx }) => ctx) })", ["route"]),
    ("const rooms = await api.rooms.list.query()", []),
    ('const { data } = await supabase.from("rooms").select("*")', ["database"]),
    ('const { data } = await supabase.rpc("match_rooms", { k: 3 })', ["database"]),
    ('await supabase.storage.from("images").upload(path, file)', []),
    ("const a = Array.from(set)", []),
    ("const rows = await db.select().from(rooms).where(eq(rooms.id, 7))", ["database"]),
    ("const row = await this.db.query.rooms.findFirst({})", ["database"]),
    ("await prisma.room.create({ data })", ["database"]),
    ("await pool.query(`select id from rooms where id = ${id}`)", ["database"]),
    ("const rows = await sql`select id from rooms`", ["database"]),
    ("const e = await openai.embeddings.create({ input })", ["embedding"]),
    ("const e = await generateLocalEmbedding(text)", ["embedding"]),
    ("const s = streamText({ model, messages })", ["model"]),
    ("await openai.chat.completions.create({ messages })", ["model"]),
    ("await Promise.all([a(), b()])", ["parallel"]),
    ("return Promise.resolve()", []),
    ("export const getRooms = unstable_cache(load)", ["cache"]),
    ('const where = "cache"', []),
    ("/* FIXME: slow,\n * and TODO: paginate */", ["todo", "todo"]),
]


@pytest.mark.parametrize(("text", "expected"), SCRIPT)
@pytest.mark.parametrize("ending", ["ts", "tsx", "js"])
def test_script(text: str, expected: list[str], ending: str, tmp_path: Path) -> None:
    assert kinds(tmp_path, f"code.{ending}", text) == expected


def test_names_of_tables_and_paths_of_routes(tmp_path: Path) -> None:
    python = 'rooms = APIRouter(prefix="/rooms")\n@rooms.get("/{id}")\n'
    python += 'def f():\n cur.execute("select 1 from beds")'
    assert sightings(tmp_path, "a.py", python) == [
        ("route", "GET /rooms/{id}", "/rooms/{id}"),
        ("database", "cur.execute", "beds"),
    ]
    route = "export async function GET() {}\nexport const POST = async () => {}\nconst helper = 1"
    where = "src/app/(chat)/api/hotels/[hotel]/route.ts"
    assert sightings(tmp_path, where, route) == [
        ("route", "GET /api/hotels/{hotel}", "/api/hotels/{hotel}"),
        ("route", "POST /api/hotels/{hotel}", "/api/hotels/{hotel}"),
    ]
    pages = "export default async function handler() {}"
    assert sightings(tmp_path, "pages/api/rooms.ts", pages) == [("route", "ANY /api/rooms", "/api/rooms")]
    edge = "Deno.serve(async () => {})"
    found = sightings(tmp_path, "supabase/functions/embed/index.ts", edge)
    assert found == [("route", "ANY /functions/v1/embed", "/functions/v1/embed")]


WAITS = [
    ("a = await f()\nb = await g()", "const a = await f()\nconst b = await g()", 1),
    ("a = await f()\nb = await g(a)", "const a = await f()\nconst b = await g(a)", 0),
    ("a = await f()\nprint(a)\nb = await g()", "const a = await f()\nlog(a)\nconst b = await g()", 0),
    ("await f()\nawait g()", "await f()\nawait g()", 0),
    ("for x in y:\n    await f(x)", "for (const x of y) { await f(x) }", 1),
    ("for x in y:\n    await f(x)\n    break", "for (const x of y) { await f(x); break }", 0),
    ("async for x in y:\n    await f(x)", "for await (const x of y) { await f(x) }", 0),
]


@pytest.mark.parametrize(("python", "script", "number"), WAITS)
def test_awaits_in_turn(python: str, script: str, number: int, tmp_path: Path) -> None:
    indented = "async def h():\n" + "\n".join(f"    {line}" for line in python.splitlines())
    assert kinds(tmp_path, "a.py", indented).count("sequential") == number
    assert kinds(tmp_path, "a.ts", f"async function h() {{\n{script}\n}}").count("sequential") == number


def test_what_cannot_be_read_is_reported_and_the_rest_read(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text('@app.get("/a")\ndef a(): ...')
    (tmp_path / "broken.py").write_text("def (:")
    (tmp_path / "deep.py").write_text("(" * 5000 + ")" * 5000)
    (tmp_path / "null.py").write_bytes(b"a = 1\0")
    (tmp_path / "latin.py").write_bytes(b"a = '\xe9'")
    (tmp_path / "huge.ts").write_text("// " + "x" * 2000)
    (tmp_path / "odd.ts").write_text("const = ;\nawait Promise.all([])\n" + "{" * 3000)
    found = discover(tmp_path, max_bytes=20_000)
    assert {each.path: each.reason for each in found.unread} == {
        "broken.py": "cannot be parsed",
        "deep.py": "cannot be parsed",
        "latin.py": "not UTF-8",
        "null.py": "cannot be parsed",
    }
    assert found.read == 3
    assert (found.counts.route, found.counts.parallel) == (1, 1)
    assert "odd.ts" in found.notes[0]
    small = read_file(tmp_path, "huge.ts", max_bytes=1000)
    assert isinstance(small, Unread)
    assert small.reason == "larger than the limit"
