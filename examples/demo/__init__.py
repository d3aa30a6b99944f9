"""The demo: the whole of Taximeter on embedded parts, held against independent ledgers.

``stack`` starts everything, ``ledgers`` reads what the outside world counted, ``figures`` what
Taximeter says, ``books`` compares the two, ``run`` does it once and prints.
"""
