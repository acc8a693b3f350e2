"""Orgs that make, change, fork, delete and star collections at random, by the product's own commands in memory."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st

from domain.accounts.events import OrgDeleted, PersonErased
from domain.accounts.org import Org
from domain.collections.collection import Collection, collection_stream
from domain.collections.service import (
    Draft,
    Wishes,
    change_collection,
    create_collection,
    delete_collection,
    fork_collection,
    star_collection,
    unstar_collection,
)
from domain.kernel.clock import SECOND
from domain.kernel.errors import NotFound, Refusal
from domain.routing.needs import Step
from tests.domain.routing.test_plan import CATALOG
from tests.fakes import PlainSeals
from tests.given import NOON, given_org, given_person
from tests.memory_store import MemoryStore

ORGS = ("org_a", "org_b", "org_c")
PERSONS = ("usr_asha", "usr_ravi")
CHAINS = (
    (Step(model="m"),),
    (Step(model="m", provider="home"), Step(model="fallback")),
    (Step(model="m"), Step(model="closed"), Step(model="cheap/theirs")),
)

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["create"] * 2
            + ["change"] * 2
            + ["star"] * 2
            + ["publish", "fork", "unstar", "delete", "delete_org", "erase"]
        ),
        st.integers(0, 50),
        st.integers(0, 50),
    ),
    max_size=40,
)


class Played:
    """`snapshots` is what each fork was made of, until the org that has it changes it itself."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.seals = PlainSeals()
        self.at = NOON
        self.slugs: list[str] = []
        self.snapshots: dict[str, tuple[Any, ...]] = {}
        self.number = 0
        for org in ORGS:
            given_org(self.store, org, inr=0)
        for person in PERSONS:
            given_person(self.store, person.removeprefix("usr_"))

    def run(self, steps: Iterable[tuple[str, int, int]]) -> "Played":
        for kind, one, two in steps:
            self.at += SECOND
            with suppress(Refusal):
                getattr(self, kind)(one, two)
        return self

    # What happens

    def create(self, one: int, two: int) -> None:
        draft = Draft(name=f"Chain {one % 3}", model="m", steps=CHAINS[two % 3], readme="# Hi", public=bool(two % 2))
        self.slugs.append(create_collection(self.store, self.seals, draft=draft, **self.made_by(ORGS[one % 3])))

    def change(self, one: int, two: int) -> None:
        wishes = (
            Wishes(name=f"Renamed {two}"),
            Wishes(steps=CHAINS[two % 3], description=str(two)),
            Wishes(readme=f"# {two}"),
        )
        self.wish(one, wishes[two % 3])

    def publish(self, one: int, two: int) -> None:
        self.wish(one, Wishes(public=two % 4 > 0))

    def fork(self, one: int, two: int) -> None:
        source, org = self.slug(one), ORGS[two % 3]
        made = self.made_by(org) | {"source": source, "org_of": self.org_of, "reuse": two > 25}
        made.pop("catalog")
        slug = fork_collection(self.store, self.seals, **made)
        if slug not in self.slugs:
            self.slugs.append(slug)
            self.snapshots[slug] = content(self.seals, self.collection(source))

    def star(self, one: int, two: int) -> None:
        star_collection(self.store, **self.starring(one, two))

    def unstar(self, one: int, two: int) -> None:
        unstar_collection(self.store, **self.starring(one, two))

    def delete(self, one: int, two: int) -> None:
        if two % 3 == 0:
            slug = self.slug(one)
            delete_collection(self.store, org=self.collection(slug).owner, slug=slug, at=self.at, by="test")

    def delete_org(self, one: int, two: int) -> None:
        if one == two:
            org = ORGS[one % 3]
            self.store.facts.append((f"org:{org}", OrgDeleted(at=self.at, org=org)))

    def erase(self, one: int, two: int) -> None:
        if one == two:
            self.store.facts.append((f"user:{PERSONS[one % 2]}", PersonErased(at=self.at)))

    # What there is

    def collection(self, slug: str) -> Collection:
        return self.store.fold(collection_stream(slug), Collection())

    def slug(self, number: int) -> str:
        if not self.slugs:
            raise NotFound("not_found", "None yet.")
        return self.slugs[number % len(self.slugs)]

    def org_of(self, org: str) -> Org | None:
        return self.store.fold(f"org:{org}", Org())

    def made_by(self, org: str) -> dict[str, Any]:
        self.number += 1
        entropy = self.number.to_bytes(5, "big")
        who = {"org": org, "at": self.at, "by": "test"}
        return {**who, "entropy": entropy, "catalog": CATALOG, "collections_max": 8}

    def starring(self, one: int, two: int) -> dict[str, Any]:
        who = {"person": PERSONS[two % 2], "org": ORGS[one % 3], "slug": self.slug(one), "at": self.at}
        return who | {"org_of": self.org_of}

    def wish(self, number: int, wishes: Wishes) -> None:
        slug = self.slug(number)
        who = {"org": self.collection(slug).owner, "slug": slug, "at": self.at, "by": "test"}
        if change_collection(self.store, self.seals, wishes=wishes, catalog=CATALOG, **who) is not None:
            self.snapshots.pop(slug, None)


def content(seals: PlainSeals, collection: Collection) -> tuple[Any, ...]:
    """What a snapshot keeps."""
    readme = seals.open(collection.owner, collection.readme) if collection.readme else ""
    return collection.name, collection.model, collection.steps, collection.description, readme
