"""Statistics of the gate and of comparisons: exact or closed-form, without randomness.

The same data give the same verdict on every machine; nothing is drawn, so nothing needs a seed.
"""
