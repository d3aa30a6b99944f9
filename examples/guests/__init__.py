"""The guests: a load generator that keeps its own books.

Simulated guests of several hotels use the chat service over HTTP from a process of their own and
log every request as its sender saw it. Taximeter's figures are held against that log, so nothing
here may import Taximeter or OpenTelemetry, nor the service: what guests know of it (hotels, room
numbers, how reservation codes look) is typed by hand in ``catalogue.py``.
"""
