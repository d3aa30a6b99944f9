"""``taximeter advise db``: which indexes would pay, which are for nothing, and why vector search scans.

`workload` gathers the statements that cost most, `plan` reads EXPLAIN, `candidates` makes indexes from a
plan's conditions, a planner (`hypothetical` on the server itself, `shadow` on an empty one with its
statistics) says what each would do, and `search` chooses. `catalogue` finds what is unused or double,
`functions` judges vector search in functions. Nothing but catalogue queries and EXPLAIN without ANALYZE
reaches the server (`session`).
"""
