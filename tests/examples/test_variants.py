"""The draw of ``make prove-variants``: the same for a seed, of flags that exist; nothing asks for the key."""

from __future__ import annotations

from examples.guests.plan import make_plan
from examples.hotel_chat.flags import FLAGS
from examples.loop.variants import draw
from examples.loop.weaknesses import APPLIED, WEAKNESSES, absent


def test_a_seed_gives_the_same_variant_and_another_seed_another() -> None:
    assert draw(1, 3, 30.0) == draw(1, 3, 30.0) != draw(2, 3, 30.0)


def test_the_clean_variant_has_every_fix_and_no_fault() -> None:
    clean = draw(1, None, 30.0)
    fixes = {flag for each in WEAKNESSES.values() if not each.fault for flag in each.flags}
    assert not clean.planted
    assert set(clean.flags()) == fixes | APPLIED
    assert set(clean.flags()) <= set(FLAGS)


def test_a_planted_weakness_is_a_fault_switched_on_or_a_fix_left_off() -> None:
    for number in range(20):
        variant = draw(1, number, 30.0)
        on = set(variant.flags())
        for name, each in WEAKNESSES.items():
            assert (
                set(each.flags) <= on if each.fault == (name in variant.planted) else not on & set(each.flags)
            )
            if name in variant.planted and each.flags:
                assert (each.flags[0] in variant.flags(frozenset({name}))) is not each.fault


def test_what_was_planted_in_vain_has_a_reason() -> None:
    plan = make_plan(seed=1, guests=200, rate=1.0, duration_s=30.0)
    everything = frozenset(WEAKNESSES)
    assert set(dict(absent(everything, plan, cached=0.0))) == {"answers forgotten", "calls in turn"}
    assert {"long rules", "name before the rules"} <= set(dict(absent(everything, plan, cached=0.9)))
    assert "name before the rules" in dict(absent(everything - {"long rules"}, plan, cached=0.0))
