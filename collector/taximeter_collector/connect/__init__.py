"""Connectors: the end of one pipeline and the start of another, from one signal's log to another's."""
