"""A page at night, rehearsed: faults are switched on in the running example until the page arrives.

``make page`` starts the stack with a real Prometheus, a real Alertmanager and a webhook, and prints
the seconds from fault to page and to resolve.
"""
