"""A hotel guest chat: the reference service that Taximeter is shown on.

FastAPI, psycopg 3 with a pool, pgvector behind ``match_*`` functions, the OpenAI and Anthropic
SDKs, and a slow third-party booking service. Every hotel is a tenant.

Its weaknesses are there on purpose, after the plan of a real service of this shape. Each has a flag that
removes it while the service runs (``fix.*`` in flags.py, switched at ``POST /admin/flags``):

1.  N+1: the reservations list asks for each reservation's guest and room, one by one
    (``fix.batch_reservations`` joins them).
2.  Missing indexes: ``reservations``, ``payments`` and ``messages`` are scanned whole, because
    their foreign keys have none; the occupancy report does so once per room and day (over 2 s;
    ``fix.indexes``, ``fix.occupancy_view``).
3.  ``match_faq`` and ``match_content`` order by a computed similarity, which no vector index can
    serve, and compare lower-cased slugs (``fix.match_functions``).
4.  Sequential awaits: availability, room details, hotel information and admin statistics ask one
    question after the other although none needs another's answer; so does chat before it prompts.
5.  The embedding cache holds 100 entries and is keyed by the raw text: "WiFi?" and " wifi?" are
    two questions to it, and it dies with the process (``fix.embedding_cache``, ``fix.fuzzy_questions``,
    ``fix.cache_warmup``, ``fix.shared_cache``).
6.  The FAQ's embeddings are in the database, yet a guest who asks a FAQ word by word is embedded
    (``fix.faq_vectors``).
7.  A system prompt of over 1,024 tokens goes with every message, with the hotel's name in its first
    line, so that hotels cannot share a cached prefix.
8.  One model, gpt-4o, for everything: a greeting costs as much per token as a complaint.
9.  The main chat route does not stream: the guest waits for the whole answer.
10. Static content (hotel, policies, FAQ) is read from the database on every request, and every
    request reads its hotel first.
11. The booking service is called while the guest waits, and nothing of it is cached.
12. The reservations list has no pagination beyond a limit, and a conversation is read whole
    (``fix.pagination``).
13. How many questions a conversation may ask is counted in the process, so that two instances
    allow twice as many (``fix.shared_limit``).
"""
