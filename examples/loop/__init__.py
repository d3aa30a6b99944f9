"""The closed loop: advise, apply each fix by its flag, measure, and hold the predictions against it.

``distance`` puts a network's latency before Postgres, ``fixes`` says which flag answers which finding,
``measure`` runs one variant with its books balanced, ``judge`` compares, ``run`` does it all and prints.
"""
