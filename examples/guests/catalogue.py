"""What guests know: hotels, rooms, reservation codes, and what people ask hotels."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hotel:
    slug: str
    code_prefix: str
    weight: float  # share of the guests: a few hotels have most of them


HOTELS = (
    Hotel("grand-meridian", "GRM", 30),
    Hotel("casa-del-mar", "CDM", 20),
    Hotel("riad-zitoun", "RIZ", 14),
    Hotel("hotel-aurora", "HAU", 11),
    Hotel("villa-cypress", "VIC", 9),
    Hotel("old-harbour", "OLD", 7),
    Hotel("lakeside-lodge", "LAK", 5),
    Hotel("pension-edelweiss", "PED", 4),
)

ROOMS = ("101", "102", "103", "104", "105", "106")  # every hotel has at least these
KNOWN_RESERVATIONS = 40  # codes PREFIX-00001 to PREFIX-00040 exist in every hotel
PAST_CONVERSATIONS = 5  # past-PREFIX-000 to past-PREFIX-004 exist in every hotel

INTERESTS = ("art", "food", "hiking", "music", "history", "beaches", "markets", "wine", "boats", "museums")

_COMMON = (
    "What time is check-in?",
    "Is breakfast included?",
    "What is the WiFi password?",
    "Is there a swimming pool?",
    "Can I check out late?",
    "Do you have parking?",
    "How do I get from the airport to the hotel?",
    "Are pets allowed?",
    "When is breakfast served?",
    "Can I cancel my reservation?",
    "What time is check-out?",
    "Is there a gym?",
    "Can I leave my luggage after check-out?",
    "Do you have a spa or sauna?",
    "How much is the airport shuttle?",
    "Can I get a baby cot?",
    "Is there a restaurant in the hotel?",
    "Do you have air conditioning?",
    "Is early check-in possible?",
    "Can I change the dates of my booking?",
    "Which cards do you accept?",
    "Is there a quiet room?",
    "How far is the beach?",
    "Can you book a tour for us?",
    "Do you have vegan breakfast?",
    "Is the front desk open at night?",
    "Can I charge my electric car?",
    "Do you have family rooms?",
    "Is smoking allowed on the balcony?",
    "Can I do laundry at the hotel?",
)
#: The long tail: one question per pair of words, each asked rarely.
_TAIL_FORMS = (
    "Where can I {verb} near the hotel?",
    "Do I need a reservation to {verb} on {day}?",
    "Which time is best to {verb} on {day}?",
)
_VERBS = (
    *("rent a bicycle", "buy a charger", "watch the sunset", "eat fish", "hear live music", "go running"),
    *("find a pharmacy", "exchange money", "taste wine", "take a boat", "see the cathedral", "learn to cook"),
)
_DAYS = ("Monday", "Thursday", "Saturday", "Sunday")

QUESTIONS: tuple[str, ...] = _COMMON + tuple(
    dict.fromkeys(form.format(verb=verb, day=day) for form in _TAIL_FORMS for verb in _VERBS for day in _DAYS)
)
_ZIPF = [1 / rank for rank in range(1, len(QUESTIONS) + 1)]

_PARAPHRASES = (
    "Hello, {}",
    "Hi! Could you tell me: {}",
    "{} Thank you!",
    "Quick question, {}",
    "We would like to know, {}",
)


def ask(rng: random.Random) -> str:
    """A question as somebody types it: popular ones often, in many spellings."""
    question = rng.choices(QUESTIONS, _ZIPF)[0]
    dice = rng.random()
    if dice < 0.60:
        return question
    if dice < 0.70:
        return question.lower()
    if dice < 0.74:
        return question.upper()
    if dice < 0.80:
        return question.rstrip("?") + rng.choice((" ?", "??", ""))
    if dice < 0.88:
        return rng.choice((f"  {question}", f"{question} ", question.replace(" ", "  ", 1)))
    return rng.choice(_PARAPHRASES).format(question[0].lower() + question[1:])
