"""The whole stack beside a service: its configuration files, ``taximeter up`` and ``taximeter verify``.

The files in ``deploy/`` and those that ``up`` starts local binaries with are rendered by the same
functions (:mod:`taximeter_cli.stack.files`), with other addresses: what runs on a laptop is what is
deployed.
"""
