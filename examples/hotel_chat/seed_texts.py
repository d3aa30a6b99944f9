"""What the seeded hotels are called and what they know: the texts behind FAQ and retrieval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SeedHotel:
    """A tenant. Reservation codes are ``<prefix>-<five digits>``."""

    slug: str
    prefix: str
    name: str
    city: str
    stars: int


HOTELS = (
    SeedHotel("casa-del-mar", "CDM", "Casa del Mar", "Cartagena", 4),
    SeedHotel("hotel-aurora", "HAU", "Hotel Aurora", "Oslo", 4),
    SeedHotel("old-harbour", "OLD", "The Old Harbour", "Bristol", 3),
    SeedHotel("pension-edelweiss", "PED", "Pension Edelweiss", "Innsbruck", 3),
    SeedHotel("riad-zitoun", "RIZ", "Riad Zitoun", "Marrakesh", 4),
    SeedHotel("lakeside-lodge", "LAK", "Lakeside Lodge", "Bled", 3),
    SeedHotel("grand-meridian", "GRM", "Grand Meridian", "Singapore", 5),
    SeedHotel("villa-cypress", "VIC", "Villa Cypress", "Siena", 4),
)

POLICIES = {
    "Cancellation": "Free until two days before arrival; later the first night is charged.",
    "Children": "Children under six stay free in their parents' room; cots are free under three.",
    "Pets": "Small pets are welcome on the ground floor for a fee of 15 USD per night.",
    "Smoking": "Smoking is allowed on balconies and in the garden only.",
    "Payment": "Cards, bank transfer and cash are accepted; the deposit is one night.",
    "Privacy": "Guest data is kept as long as the law demands and deleted afterwards.",
}

FAQ = {
    "What time is check-in?": "Rooms are ready from 15:00.",
    "What time is check-out?": "Please leave the room by 11:00.",
    "Can I check out late?": "A late check-out is possible when the room is not taken the same day.",
    "Is early check-in possible?": "We note the wish and offer it when the room is ready.",
    "Is there free WiFi in the rooms?": "Yes, wireless internet is free in every room and in the lobby.",
    "What is the WiFi password?": "It is on the sleeve of your key card.",
    "Is breakfast included in the price?": "It is included in most rates; the booking says so.",
    "When is breakfast served?": "From 7:00 until 10:30, on Sundays until 11:00.",
    "Do you have vegan or gluten free breakfast?": "Yes, please tell the kitchen the day before.",
    "Is there a swimming pool?": "Yes, it is heated and open from 8:00 until 21:00.",
    "Are there towels at the pool?": "Yes, at the pool's entrance, free of charge.",
    "Is there a gym?": "A small fitness room is open around the clock.",
    "Do you have a spa or sauna?": "The sauna is open from 16:00; massages are by appointment.",
    "Is there parking at the hotel?": "Yes, 12 USD per night; please tell us the number plate.",
    "Can I charge my electric car?": "Two charging points are in the garage.",
    "How do I get from the airport to the hotel?": "The shuttle leaves hourly and takes thirty minutes.",
    "How much does the airport shuttle cost?": "It costs 9 USD per person, children ride free.",
    "Are pets allowed?": "Small pets are welcome on the ground floor for a fee.",
    "Can I bring my dog to the restaurant?": "Not inside, but on the terrace.",
    "Do you have family rooms?": "Yes, for up to five guests; some have a second bedroom.",
    "Can I get a baby cot?": "Cots are free for children under three; please ask a day before.",
    "How can I cancel my reservation?": "By the link in the confirmation, free until two days before.",
    "Will I get a refund if I cancel?": "In full until two days before arrival.",
    "Can I change the dates of my booking?": "Yes, while the room is free on the new dates.",
    "Do I have to pay a deposit?": "One night, refunded when you cancel in time.",
    "Which payment cards do you accept?": "All common cards, and cash.",
    "Can I get an invoice for my company?": "Yes, the front desk writes one at departure.",
    "Is the hotel accessible with a wheelchair?": "Two rooms and all public areas are.",
    "Is smoking allowed?": "On balconies and in the garden only.",
    "Can I leave my luggage after check-out?": "Yes, free of charge, as long as you like.",
    "Is there a restaurant in the hotel?": "Yes, dinner is served from 18:30 until 22:00.",
    "Do I need to book a table for dinner?": "We recommend it at weekends.",
    "Is there room service at night?": "Drinks and cold dishes, around the clock.",
    "How far is the beach or the lake?": "A few minutes on foot; the front desk has a map.",
    "Can you book tours and excursions?": "The concierge does, until the evening before.",
    "Is there a quiet room?": "Rooms to the courtyard are the quietest; tell us and we look for one.",
    "Do you have air conditioning?": "All rooms have it.",
    "Is there a safe in the room?": "Yes, large enough for a laptop.",
    "Can I do laundry at the hotel?": "We wash within a day; a machine is in the basement.",
    "Do you have a conference room?": "Two, for up to forty people; the events team helps.",
    "Is the front desk open at night?": "Yes, around the clock; the night porter lets you in.",
}

#: (source, text with ``{name}`` and ``{city}``)
CONTENT = (
    ("house", "{name} was built as a merchant's home and became a hotel four generations ago."),
    ("house", "The library on the first floor of {name} has books in nine languages and a fireplace."),
    ("house", "{name} heats with geothermal energy and buys its linen from a cooperative in {city}."),
    ("rooms", "Superior rooms of {name} have a balcony, a desk, a kettle and a bath tub."),
    ("rooms", "Family rooms of {name} sleep five in two bedrooms that share a bathroom and a kitchenette."),
    ("rooms", "Suites have a separate living room, a coffee machine and a view over {city}."),
    ("rooms", "Single rooms face the courtyard and are the quietest of the house."),
    ("rooms", "Accessible rooms have a roll-in shower and a door of ninety centimetres."),
    ("restaurant", "The restaurant of {name} cooks with what the market of {city} offers in the morning."),
    ("restaurant", "The tasting menu has five courses, and a vegetarian one is always ready."),
    ("restaurant", "The bar opens at 17:00 and serves the house's own vermouth until midnight."),
    ("restaurant", "Breakfast is a buffet with warm dishes to order, fresh bread and local cheese."),
    ("spa", "The spa of {name} has a sauna, a steam bath and two rooms for massages."),
    ("spa", "The pool is twenty metres long, heated to twenty-eight degrees and open all year."),
    ("spa", "Yoga lessons are given on the roof at 8:00 on weekdays, mats included."),
    ("travel", "The airport of {city} is thirty minutes away; the shuttle of {name} leaves every hour."),
    ("travel", "Trains from the central station of {city} stop within a five minute walk."),
    ("travel", "Bicycles are free for two hours; electric ones cost 10 USD a day."),
    ("travel", "The garage has forty places and two charging points; its height is two metres."),
    ("surroundings", "The old town of {city} begins behind the house; the guided walk starts at 10:00."),
    ("surroundings", "The museum of fine arts in {city} is open late on Thursdays."),
    ("surroundings", "Boats leave for a tour of two hours at noon and before sunset."),
    ("surroundings", "The covered market of {city} is liveliest on Saturday mornings."),
    ("surroundings", "A marked path leads from {name} to the viewpoint in forty minutes."),
    ("surroundings", "Families like the park with its playground and the little railway."),
    ("events", "Weddings at {name} are held in the garden for up to eighty guests."),
    ("events", "The two conference rooms of {name} have daylight, screens and their own terrace."),
    ("events", "On Friday evenings there is live music in the courtyard of {name}."),
    ("notice", "The lift of {name} is being renewed; please tell us if you cannot climb stairs."),
    ("notice", "In the season the roof terrace closes at 23:00 out of regard for the neighbours."),
)

ROOM_KINDS = (
    ("single", 1, 80),
    ("double", 2, 120),
    ("superior", 2, 160),
    ("family", 5, 210),
    ("suite", 4, 320),
)
_GIVEN = "Ana Bjorn Carla Dmitri Elena Farid Grace Hiro Ines Jonas Karin Leo Mina Noor Olga Pablo"
_FAMILY = (
    "Abe Berg Costa Diaz Eriksen Fischer Garcia Haddad Ito Jensen Kovac Lopez Moreau Novak Okafor Peters"
)
GIVEN_NAMES = _GIVEN.split()
FAMILY_NAMES = _FAMILY.split()
