"""The service whose requests are recorded: ``/run/{driver}/{scenario}?n=8&hotel=3``, and lazy loading by an
ORM.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import fastapi
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from benchmarks.nplusone.drivers import OPEN, Driver
from benchmarks.nplusone.scenarios import SCENARIOS, Place

DSN = os.environ["DATABASE_URL"]
drivers: dict[str, Driver] = {}
engine = create_engine(DSN.replace("postgresql://", "postgresql+psycopg://"), pool_pre_ping=True)


class Base(DeclarativeBase):
    pass


class Guest(Base):
    __tablename__ = "guests"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Stay(Base):
    __tablename__ = "stays"
    id: Mapped[int] = mapped_column(primary_key=True)
    hotel_id: Mapped[int]
    guest_id: Mapped[int] = mapped_column(ForeignKey("guests.id"))
    guest: Mapped[Guest] = relationship()


@asynccontextmanager
async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
    for name, opened in OPEN.items():
        drivers[name] = await opened(DSN)
    yield
    for driver in drivers.values():
        await driver.close()


app = fastapi.FastAPI(lifespan=lifespan)


@app.get("/run/{driver}/{name}")
async def run(driver: str, name: str, n: int, hotel: int, request: fastapi.Request) -> str:
    _, function = SCENARIOS[name]
    await function(Place(drivers[driver], n, hotel, str(request.base_url).rstrip("/"), {}))
    return "done"


@app.get("/lazy")
def lazy(n: int, hotel: int) -> list[str]:
    with Session(engine) as session:
        return [
            stay.guest.name for stay in session.scalars(select(Stay).where(Stay.hotel_id == hotel).limit(n))
        ]


@app.get("/eager")
def eager(n: int, hotel: int) -> list[str]:
    with Session(engine) as session:
        wanted = select(Stay).where(Stay.hotel_id == hotel).limit(n).options(selectinload(Stay.guest))
        return [stay.guest.name for stay in session.scalars(wanted)]


@app.get("/next/{number}")
async def following(number: int) -> int:
    return number * 17
