"""Which calls are database, embedding, model or parallel calls: one table of names for all languages.

A parser reduces a call to its names (``supabase.from("rooms").select("*")`` is two calls, ``supabase.from``
and ``supabase.from.select``) and its first argument. Text alone decides, no types; where a name means several
things (``get``, ``delete``, ``from``), more of the call must fit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from taximeter_analysis.discover.model import Kind


@dataclass(frozen=True)
class Call:
    """A call as written. ``names``: from the left, the called one last."""

    names: tuple[str, ...]
    line: int
    last_line: int
    text: str | None = None  # the first argument's literal text, as far as it is one
    argument: str | None = None  # the first argument's name, where it is a name
    arguments: int = 0
    then: str | None = None  # the method called on the result
    awaited: bool = False

    @property
    def name(self) -> str:
        """What is called."""
        return self.names[-1]

    @property
    def on(self) -> str:
        """What it is called on: the last name before, lower case, or ``""``."""
        return self.names[-2].strip("_").lower() if len(self.names) > 1 else ""


_SQL = re.compile(
    r"\s*(select|insert|update|delete|with|merge|call|copy|truncate|set|explain|create|alter|drop|do)\b", re.I
)
_TABLE = re.compile(r"\b(?:from|into|update|join|call)\s+[\"`]?([a-z_][\w.]*)", re.I)
_SESSION = re.compile(r"(^|_)(db|tx|trx)$|(session|transaction)$")
_DATABASE = re.compile(
    r"(^|_)(db|tx|trx|sql|cur|pg|knex|prisma|drizzle)$|(database|cursor|conn|connection|pool|engine|session|"
    r"transaction|supabase|postgres|pgclient|dbclient)$"
)
_BUILT_ON = re.compile(r"(^|_)(db|tx|trx|database|drizzle|knex)$")
_ROWS = {"select", "insert", "update", "upsert", "delete"}
_SEND = {"query", "execute", "executemany", "raw"}
_FETCH = {"fetch", "fetchrow", "fetchval", "fetch_all", "fetch_one", "fetch_val"}
_RAW = {"$queryRaw", "$executeRaw", "$queryRawUnsafe", "$executeRawUnsafe"}
_SESSION_CALLS = {
    *("exec", "scalar", "scalars", "stream_scalars", "add", "add_all", "merge", "refresh", "delete"),
    *("bulk_save_objects", "bulk_insert_mappings", "bulk_update_mappings"),
}
_BUILDERS = {"select", "selectDistinct", "insert", "update", "delete"}
_MAPPED = {
    *(
        "findMany",
        "findFirst",
        "findUnique",
        "findUniqueOrThrow",
        "findFirstOrThrow",
        "createMany",
        "updateMany",
    ),
    *("deleteMany", "groupBy", "aggregate"),
}
_MAPPED_IF_PRISMA = {"create", "update", "upsert", "delete", "count"}
_DOCUMENTS = {
    *("find_one", "insert_one", "insert_many", "update_one", "update_many", "delete_one", "delete_many"),
    *("count_documents", "replace_one", "find_one_and_update", "find_one_and_delete", "bulk_write"),
    *("findOne", "insertOne", "insertMany", "updateOne", "deleteOne", "countDocuments", "replaceOne"),
    *("findById", "findByIdAndUpdate", "findOneAndUpdate", "findOneAndDelete", "bulkWrite"),
}
_OF_COLLECTION = {"find", "distinct", "aggregate", "count", "insert", "remove"}
_VECTORS = re.compile(
    r"^_?a?(similarity_search|max_marginal_relevance_search|add_documents)\w*$|^(similaritySearch|addDocuments)"
)
_EMBED = re.compile(r"^(a?embed(ding|dings)?|embedMany|a?embed_\w+|embed[A-Z]\w*)$")
_MAKES_EMBEDDING = re.compile(
    r"^(a?get|a?create|a?generate|compute|calculate|fetch|make)_?\w*embed(ding|dings)?(_?(for|from|of)\w*)?$",
    re.I,
)
_MODEL_ENDS = {
    ("completions", "create"), ("completions", "parse"), ("completions", "stream"), ("responses", "create"),
    ("responses", "parse"), ("responses", "stream"), ("messages", "create"), ("messages", "stream"),
    ("messages", "parse"), ("Runner", "run"), ("Runner", "run_streamed"), ("Runner", "run_sync"),
    ("litellm", "completion"), ("litellm", "acompletion"),
}  # fmt: skip
_MODEL_NAMES = {
    *(
        "generateText",
        "streamText",
        "generateObject",
        "streamObject",
        "generateContent",
        "generateContentStream",
    ),
    *("generate_content", "generate_content_async", "generate_content_stream", "acompletion", "invoke_model"),
    *("invoke_model_with_response_stream", "converse", "converse_stream"),
}
_CHAIN = {"invoke", "ainvoke", "astream", "stream", "predict", "apredict", "acomplete", "achat"}
_LLM = re.compile(r"(^|_)(llm|chain|chat_model|model)$|llm$")
_THREADS = {"messages": {"threads"}}  # OpenAI's threads.messages.create stores a message and asks no model
_PARALLEL = {
    ("Promise", "all"), ("Promise", "allSettled"), ("Promise", "race"), ("Promise", "any"),
    ("asyncio", "gather"), ("asyncio", "wait"), ("asyncio", "as_completed"), ("asyncio", "TaskGroup"),
    ("anyio", "create_task_group"), ("trio", "open_nursery"),
}  # fmt: skip
_URLS = {
    "/embeddings": "embedding",
    "/chat/completions": "model",
    "/v1/messages": "model",
    "/v1/responses": "model",
}
_HTTP = {"fetch", "post", "request", "stream"}


def classify(call: Call) -> tuple[Kind, str | None] | None:
    """The kind of a call and the table, function or model it names; None: none of them."""
    if call.names[-2:] in _PARALLEL or call.names in (("gather",), ("TaskGroup",), ("as_completed",)):
        return "parallel", None
    if _embeds(call):
        return "embedding", None
    if _asks_model(call):
        return "model", None
    if call.name in _HTTP and call.text and call.text.startswith("http"):
        for end, kind in _URLS.items():
            if call.text.split("?")[0].endswith(end):
                return ("embedding", None) if kind == "embedding" else ("model", None)
    return _database(call)


def _embeds(call: Call) -> bool:
    if call.names[-2:] == ("embeddings", "create"):
        return True
    if call.name == "encode":
        return "embed" in call.on or call.on.endswith("encoder")
    if call.name in ("embed", "embed_content", "embedContent"):
        return True
    return bool(_EMBED.match(call.name) or _MAKES_EMBEDDING.match(call.name))


def _asks_model(call: Call) -> bool:
    if call.names[-2:] in _MODEL_ENDS:
        return not (len(call.names) > 2 and call.names[-3] in _THREADS.get(call.names[-2], ()))
    if call.name in _MODEL_NAMES:
        return True
    return call.name in _CHAIN and bool(_LLM.search(call.on))


def _database(call: Call) -> tuple[Kind, str | None] | None:
    """A call that sends a statement, or hands a row to a session that will."""
    if call.on == "op":
        return None  # alembic: a migration is no call of the service
    for rule in (_supabase, _statement, _of_session, _built, _mapped, _documents):
        if (named := rule(call)) is not None:
            return "database", named or None
    return None


# Each rule: the table or function that is asked, "" where the call names none, None for no such call.


def _supabase(call: Call) -> str | None:
    if call.name == "rpc":
        return call.text
    if call.name not in ("from", "from_", "table") or call.on == "storage":
        return None
    if any(each in _BUILDERS for each in call.names[:-1]):
        return None  # db.select().from(rooms) is counted at its select
    return (call.text or "") if call.then in _ROWS or call.on.endswith("supabase") else None


def _statement(call: Call) -> str | None:
    """A statement's text given to a driver: by the text where it is there, else by what the call is on."""
    if call.name in _RAW:
        return table_of(call.text)
    if call.name not in _SEND | _FETCH or len(call.names) < 2:
        return None
    sent = bool(_DATABASE.search(call.on))
    if call.text is not None:
        sent = bool(_SQL.match(call.text)) or (sent and " " in call.text.strip())
    return (table_of(call.text) or _class(call)) if sent else None


def _of_session(call: Call) -> str | None:
    if not _SESSION.search(call.on) or call.text is not None:
        return None
    if call.name == "get":  # session.get(Room, 7), not a GET
        return _class(call) or None if call.arguments > 1 else None
    return _class(call) if call.name in _SESSION_CALLS and call.arguments else None


def _built(call: Call) -> str | None:
    found = call.name in _BUILDERS and _BUILT_ON.search(call.on)
    return (call.argument or "") if found else None


def _mapped(call: Call) -> str | None:
    if len(call.names) < 3:
        return None
    root = call.names[-3].strip("_").lower()
    if call.name in _MAPPED | _MAPPED_IF_PRISMA and (
        root in ("query", "tx", "db") or root.endswith("prisma")
    ):
        return call.names[-2]
    return call.names[-3] if call.names[-2] == "objects" else None


def _documents(call: Call) -> str | None:
    of_collection = call.name in _OF_COLLECTION and call.on.endswith("collection")
    return "" if of_collection or call.name in _DOCUMENTS or _VECTORS.match(call.name) else None


def _class(call: Call) -> str:
    """A mapped class given as the first argument."""
    return call.argument if call.argument and call.argument[0].isupper() else ""


def table_of(sql: str | None) -> str:
    """The first table that a statement names, or ``""``."""
    found = _TABLE.search(sql or "")
    return found[1] if found else ""


_MARK = re.compile(r"\b(TODO|FIXME|XXX|HACK|OPTIMI[SZ]E|PERF)\b")
_ABOUT_SPEED = re.compile(
    r"\b(slow\w*|fast(er)?|speed|perf(ormance)?|optimi[sz]\w*|cach(e|ed|ing)|batch\w*|n\+1|paralleli?\w*|"
    r"latency|expensive|inefficien\w*|quer(y|ies)|index(es)?|memory|bottleneck|prefetch|lazy|lazily|paginat\w*|"
    r"concurren\w*|throughput|round.?trips?)\b",
    re.I,
)
_COMPLAINT = re.compile(
    r"\b(much|very|too|really|so|quite|is|are) slow(er)?\b|\bbottleneck\b|\binefficient(ly)?\b|\bN\+1\b", re.I
)


def complains(comment: str) -> bool:
    """Whether a comment wants something faster: a mark and a word about speed, or a complaint."""
    marked = _MARK.search(comment)
    if marked and (marked[1].startswith(("OPTIM", "PERF")) or _ABOUT_SPEED.search(comment)):
        return True
    return bool(_COMPLAINT.search(comment))
