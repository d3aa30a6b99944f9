"""A loaded database for ``make prove-indexes``: ten tables, fifty statements, twenty search functions."""
