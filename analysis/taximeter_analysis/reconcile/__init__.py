"""``taximeter reconcile``: Taximeter's tokens and money against what the providers say that they billed."""
