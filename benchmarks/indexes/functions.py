"""Twenty search functions, ten of them broken: (name, verdict that is right, SQL that makes it)."""

from __future__ import annotations

SETUP = """
CREATE TABLE f_ok (id int PRIMARY KEY, tenant int, lang text, body text, embedding vector(32));
INSERT INTO f_ok SELECT n, 1 + (n / 2) % 20, CASE WHEN n % 2 = 0 THEN 'en' ELSE 'de' END, 'b' || n, pseudo_vector(n, 32)
  FROM generate_series(1, 20000) n;
CREATE INDEX f_ok_hnsw ON f_ok USING hnsw (embedding vector_cosine_ops);
CREATE TABLE f_none (LIKE f_ok INCLUDING ALL EXCLUDING INDEXES);
INSERT INTO f_none SELECT * FROM f_ok;
CREATE TABLE f_l2 (LIKE f_ok INCLUDING ALL EXCLUDING INDEXES);
INSERT INTO f_l2 SELECT * FROM f_ok;
CREATE INDEX f_l2_hnsw ON f_l2 USING hnsw (embedding vector_l2_ops);
CREATE TABLE f_half (LIKE f_ok INCLUDING ALL EXCLUDING INDEXES);
INSERT INTO f_half SELECT * FROM f_ok;
CREATE INDEX f_half_hnsw ON f_half USING hnsw ((embedding::halfvec(32)) halfvec_cosine_ops);
CREATE TABLE f_ip (LIKE f_ok INCLUDING ALL EXCLUDING INDEXES);
INSERT INTO f_ip SELECT * FROM f_ok;
CREATE INDEX f_ip_ivf ON f_ip USING ivfflat (embedding vector_ip_ops) WITH (lists = 50);
CREATE TABLE f_tenant (LIKE f_ok INCLUDING ALL EXCLUDING INDEXES);
INSERT INTO f_tenant SELECT id, 1 + id % 400, lang, body, embedding FROM f_ok;
CREATE INDEX f_tenant_hnsw ON f_tenant USING hnsw (embedding vector_cosine_ops);
CREATE INDEX f_tenant_btree ON f_tenant (tenant);
CREATE TABLE f_part (LIKE f_ok INCLUDING ALL EXCLUDING INDEXES);
INSERT INTO f_part SELECT id, 1 + id % 4, lang, body, embedding FROM f_ok;
CREATE INDEX f_part_3 ON f_part USING hnsw (embedding vector_cosine_ops) WHERE tenant = 3;
CREATE TABLE f_bare (LIKE f_ok INCLUDING ALL EXCLUDING INDEXES);
INSERT INTO f_bare SELECT * FROM f_tenant;
CREATE INDEX f_bare_hnsw ON f_bare USING hnsw (embedding vector_cosine_ops);
CREATE TABLE f_docs (id int PRIMARY KEY, owner int);
INSERT INTO f_docs SELECT n, 1 + n % 20 FROM generate_series(1, 20000) n;
VACUUM ANALYZE;
"""


def _sql(name: str, body: str, more: str = "", arguments: str = "") -> str:
    return (
        f"CREATE FUNCTION {name}(query_embedding vector(32){arguments}, match_count int DEFAULT 10) "
        f"RETURNS TABLE (id int, body text, similarity double precision) LANGUAGE sql STABLE {more} AS $$\n{body}\n$$"
    )


def _plpgsql(name: str, body: str, more: str = "", arguments: str = "") -> str:
    return (
        f"CREATE FUNCTION {name}(query_embedding vector(32){arguments}, match_count int DEFAULT 10) "
        f"RETURNS TABLE (id int, body text, similarity double precision) LANGUAGE plpgsql STABLE {more} AS $$\n"
        f"BEGIN\n  RETURN QUERY\n  {body};\nEND\n$$"
    )


_SIMILAR = "SELECT d.id, d.body, 1 - (d.embedding <=> query_embedding) AS similarity FROM"
_TENANT = ", wanted int DEFAULT 7"
_BY = "ORDER BY d.embedding <=> query_embedding LIMIT match_count"

FUNCTIONS: tuple[tuple[str, str, str], ...] = (
    # ten that are in order
    ("match_good", "index", _sql("match_good", f"{_SIMILAR} f_ok d {_BY};")),
    ("match_good_pl", "index", _plpgsql("match_good_pl", f"{_SIMILAR} f_ok d {_BY}")),
    ("match_threshold", "index", _sql(
        "match_threshold", f"{_SIMILAR} f_ok d WHERE 1 - (d.embedding <=> query_embedding) > threshold {_BY}",
        arguments=", threshold float DEFAULT 0.1")),
    ("match_half_filter", "index", _sql(
        "match_half_filter", f"{_SIMILAR} f_ok d WHERE d.lang = wanted_lang {_BY}",
        arguments=", wanted_lang text DEFAULT 'en'")),
    ("match_iterative", "index", _sql(
        "match_iterative", f"{_SIMILAR} f_ok d WHERE d.tenant = wanted {_BY}",
        "SET hnsw.iterative_scan = strict_order", _TENANT)),
    ("match_exact", "exact", _sql("match_exact", f"{_SIMILAR} f_tenant d WHERE d.tenant = wanted {_BY}", "", _TENANT)),
    ("match_halfvec", "index", _sql(
        "match_halfvec",
        "SELECT d.id, d.body, 1 - (d.embedding::halfvec(32) <=> query_embedding::halfvec(32)) AS similarity FROM f_half d "
        "ORDER BY d.embedding::halfvec(32) <=> query_embedding::halfvec(32) LIMIT match_count")),
    ("match_inner", "index", _sql(
        "match_inner", "SELECT d.id, d.body, -(d.embedding <#> query_embedding) FROM f_ip d "
        "ORDER BY d.embedding <#> query_embedding LIMIT match_count", "SET ivfflat.probes = 10")),
    ("match_outer_sort", "index", _sql(
        "match_outer_sort", f"SELECT * FROM ({_SIMILAR} f_ok d {_BY}) s ORDER BY similarity DESC, body")),
    ("match_partial", "index", _plpgsql("match_partial", f"{_SIMILAR} f_part d WHERE d.tenant = 3 {_BY}")),
    # ten that are not
    ("match_by_similarity", "order_by_similarity", _sql(
        "match_by_similarity",
        f"{_SIMILAR} f_ok d\n  WHERE 1 - (d.embedding <=> query_embedding) > 0.0\n  ORDER BY similarity DESC\n  LIMIT match_count;")),
    ("match_by_expression", "order_by_similarity", _plpgsql(
        "match_by_expression",
        f"{_SIMILAR} f_ok d ORDER BY 1 - (d.embedding <=> query_embedding) DESC LIMIT match_count")),
    ("match_no_index", "missing_index", _sql("match_no_index", f"{_SIMILAR} f_none d {_BY}")),
    ("match_few", "no_filter_index", _plpgsql(
        "match_few", f"{_SIMILAR} f_bare d WHERE d.tenant = wanted {_BY}", "", _TENANT)),
    ("match_wrong_operator", "wrong_operator", _sql("match_wrong_operator", f"{_SIMILAR} f_l2 d {_BY}")),
    ("match_wrong_cast", "cast", _sql("match_wrong_cast", f"{_SIMILAR} f_half d {_BY}")),
    ("match_all", "no_limit", _sql(
        "match_all", f"{_SIMILAR} f_ok d WHERE 1 - (d.embedding <=> query_embedding) > 0.8 "
        "ORDER BY d.embedding <=> query_embedding")),
    ("match_starved", "starves", _sql("match_starved", f"{_SIMILAR} f_ok d WHERE d.tenant = wanted {_BY}", "", _TENANT)),
    ("match_starved_join", "starves", _plpgsql(
        "match_starved_join", f"{_SIMILAR} f_ok d JOIN f_docs o ON o.id = d.id WHERE o.owner = wanted {_BY}", "", _TENANT)),
    ("match_boosted", "other_order", _sql(
        "match_boosted", "SELECT d.id, d.body, (1 - (d.embedding <=> query_embedding)) * length(d.body) AS score FROM f_ok d "
        "ORDER BY score DESC LIMIT match_count")),
)  # fmt: skip
