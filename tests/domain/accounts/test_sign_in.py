"""Signing in: the same person each time, whichever way they come, and credit once."""

import dataclasses

import pytest

from domain.accounts.events import OrgCreated, PersonErased, PersonSignedUp, SessionStarted
from domain.accounts.org import Org
from domain.accounts.person import Person, email_digest, mailbox_digest, person_stream, subject_digest
from domain.accounts.sign_in import (
    Proof,
    SignedIn,
    end_all_sessions,
    end_session,
    session_expiry,
    sign_in,
    switch_org,
)
from domain.kernel.clock import DAY
from domain.kernel.errors import NotFound, Unauthenticated
from domain.kernel.money import rupees
from domain.kernel.store import Decision, Store, fold
from domain.keys.events import TrialBegan
from domain.keys.trial import trial_stream
from domain.ledger.account import Account
from domain.ledger.events import CreditGranted
from tests.given import NOON, PEPPER, given_person, given_session, given_team, proof, seal_openly
from tests.memory_store import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def come(store: Store, shown: Proof, *, fresh: str = "x", credit: int = 100) -> SignedIn:
    """Signs in; whoever is new gets ids that end in `fresh`."""
    return sign_in(
        store,
        seal_openly,
        shown,
        person=f"usr_{fresh}",
        org=f"org_{fresh}",
        workspace=f"ws_{fresh}",
        credit=rupees(credit),
        at=NOON,
    )


def erase(store: MemoryStore, person: str) -> None:
    def decide(_: Person) -> Decision:
        return [(person_stream(person), PersonErased())]

    store.facts += [(stream, event) for stream, event in decide(Person())]


def credit_of(store: MemoryStore) -> list[str]:
    return [event.org for _, event in store.facts if isinstance(event, CreditGranted)]


def person(store: MemoryStore, id: str) -> Person:
    return store.fold(person_stream(id), Person())


def test_the_first_sign_in_makes_a_person_with_an_org_of_their_own_and_credit_in_one_append(
    store: MemoryStore,
) -> None:
    assert given_person(store) == SignedIn("usr_asha", "org_home_asha", new=True)
    assert store.names() == [
        "PersonSignedUp",
        "IdentityLinked",
        "Claimed",
        "Claimed",
        "Claimed",
        "OrgCreated",
        "WorkspaceCreated",
        "MemberAdded",
        "CreditGranted",
    ]
    assert {event.by for _, event in store.facts} == {"user:usr_asha"}
    org = store.fold("org:org_home_asha", Org())
    assert (org.kind, org.founder, org.role_of("user:usr_asha")) == ("personal", "usr_asha", "owner")
    lots = store.fold("account:org_home_asha", Account()).lots
    assert [(lot.id, lot.amount, lot.paid, lot.expires) for lot in lots.values()] == [
        ("signup", rupees(100), False, None)
    ]
    assert given_person(store) == SignedIn("usr_asha", "org_home_asha", new=False)
    assert len(store.facts) == 9


def test_nothing_personal_is_in_the_log_but_sealed_for_the_person(store: MemoryStore) -> None:
    given_person(store)
    signed_up = next(event for _, event in store.facts if isinstance(event, PersonSignedUp))
    assert signed_up.name == "sealed for user:usr_asha: Asha"
    for _, event in store.facts:
        open_text = (
            str(event).replace("sealed for user:usr_asha: Asha", "").replace("sealed for user:usr_asha: asha", "")
        )
        assert "asha" not in open_text.lower().replace("usr_asha", "").replace("home_asha", "")
    created = next(event for _, event in store.facts if isinstance(event, OrgCreated))
    assert (created.name, created.email) == ("Personal", "")


def test_two_identities_with_one_verified_address_are_one_person(store: MemoryStore) -> None:
    given_person(store)
    linked = come(store, proof("asha.g", provider="google", email="ASHA@example.com"))
    assert linked == SignedIn("usr_asha", "org_home_asha", new=False)
    assert store.names(9) == ["IdentityLinked", "Claimed"]
    known = person(store, "usr_asha")
    assert {each.provider for each in known.identities.values()} == {"github", "google"}
    assert known.email_digests == {email_digest(PEPPER, "asha@example.com")}
    assert come(store, proof("asha.g", provider="google", email="ASHA@example.com")) == linked
    assert len(store.facts) == 11
    assert credit_of(store) == ["org_home_asha"]


@pytest.mark.parametrize("verified_first", [True, False])
def test_an_address_that_one_side_has_not_verified_links_nothing(store: MemoryStore, verified_first: bool) -> None:
    first = come(store, proof("asha", verified=verified_first), fresh="a")
    other = proof("asha.g", provider="google", email="asha@example.com", verified=not verified_first)
    second = come(store, other, fresh="b")
    assert (first.person, second.person) == ("usr_a", "usr_b")
    assert credit_of(store) == (["org_a"] if verified_first else ["org_b"])


def test_credit_comes_once_the_address_is_verified(store: MemoryStore) -> None:
    come(store, proof("asha", verified=False), fresh="a")
    assert credit_of(store) == []
    assert come(store, proof("asha")).person == "usr_a"
    assert credit_of(store) == ["org_a"]
    assert come(store, proof("asha", email="asha@new.example")).person == "usr_a"
    assert credit_of(store) == ["org_a"], "a second address brings no second credit"


@pytest.mark.parametrize("other", ["as.ha+2@googlemail.com", "ASHA+again@gmail.com"])
def test_one_mailbox_is_many_people_for_all_we_know_but_brings_credit_once(store: MemoryStore, other: str) -> None:
    first = come(store, proof("asha", email="asha@gmail.com"), fresh="a")
    second = come(store, proof("asha2", email=other), fresh="b")
    assert (first.person, second.person) == ("usr_a", "usr_b")
    come(store, proof("asha3", verified=False), fresh="c")
    come(store, proof("asha3", email=other.replace("2", "3").replace("again", "more")), fresh="x")
    assert credit_of(store) == ["org_a"]


@pytest.mark.parametrize("credit", [0, 100])
def test_credit_that_comes_with_a_verified_address_ends_the_trial(store: MemoryStore, credit: int) -> None:
    come(store, proof("asha", verified=False), fresh="a")
    store.facts.append((trial_stream("org_a"), TrialBegan(org="org_a", rpm_limit=1, daily_limit=1)))
    before = len(store.facts)
    come(store, proof("asha"), credit=credit)
    assert ("TrialEnded" in store.names(before)) is (credit > 0)


def test_an_address_that_is_no_longer_theirs_links_nobody_to_them(store: MemoryStore) -> None:
    """Addresses change hands; who has it now must not get into the account of who had it."""
    given_person(store)
    come(store, proof("asha", email="asha@new.example"))
    heir = come(store, proof("heir", provider="google", email="asha@example.com"), fresh="heir")
    assert heir.person == "usr_heir"
    assert credit_of(store) == ["org_home_asha"], "the address has brought its credit"


@pytest.mark.parametrize(
    "again",
    [
        proof("asha", email="asha@new.example"),
        proof("asha.g", provider="google", email="asha@example.com"),
        proof("asha"),
    ],
)
def test_who_was_erased_can_come_back_as_somebody_new_without_credit(store: MemoryStore, again: Proof) -> None:
    given_person(store)
    erase(store, "usr_asha")
    back = come(store, again, fresh="back")
    assert back == SignedIn("usr_back", "org_back", new=True)
    assert come(store, again) == SignedIn("usr_back", "org_back", new=False)
    come(store, dataclasses.replace(again, email="c@example.com", email_digest=email_digest(PEPPER, "c@example.com")))
    assert credit_of(store) == ["org_home_asha"]
    assert not person(store, "usr_asha").exists


def test_an_address_of_somebody_else_is_not_taken_over_by_a_known_identity(store: MemoryStore) -> None:
    given_person(store, "asha")
    given_person(store, "ravi")
    assert come(store, proof("ravi", email="asha@example.com")).person == "usr_ravi"
    assert come(store, proof("new", provider="google", email="asha@example.com")).person == "usr_asha"


def test_of_two_first_sign_ins_at_once_only_one_signs_up(store: MemoryStore) -> None:
    """The other has sealed for a person that is not to be, finds the first, and does it again."""
    raced = False

    def seal(subject: str, text: str) -> str:
        nonlocal raced
        if not raced:
            raced = True
            come(store, proof("asha.g", provider="google", email="asha@example.com"), fresh="quick")
        return seal_openly(subject, text)

    slow = sign_in(
        store, seal, proof("asha"), person="usr_slow", org="org_slow", workspace="ws_slow", credit=rupees(100), at=NOON
    )
    assert slow == SignedIn("usr_quick", "org_quick", new=False)
    assert person(store, "usr_quick").name == "sealed for user:usr_quick: Asha.G"
    assert not person(store, "usr_slow").id
    assert credit_of(store) == ["org_quick"]


def test_no_credit_is_recorded_where_the_setting_is_none(store: MemoryStore) -> None:
    come(store, proof("asha"), credit=0)
    assert credit_of(store) == []


def test_sessions_begin_switch_and_end(store: MemoryStore) -> None:
    given_person(store)
    team = given_team(store, "usr_asha")
    one = given_session(store, "usr_asha", active="org_home_asha", session="ses_1")
    given_session(store, "usr_asha", active="org_home_asha", session="ses_2")
    before = len(store.facts)
    given_session(store, "usr_asha", active="org_home_asha", session="ses_1")
    assert store.names(before) == []
    assert set(person(store, "usr_asha").sessions) == {"ses_1", "ses_2"}
    switch_org(store, person="usr_asha", session=one, org=team, at=NOON)
    end_session(store, person="usr_asha", session=one, at=NOON)
    end_session(store, person="usr_asha", session=one, at=NOON)
    with pytest.raises(Unauthenticated):
        switch_org(store, person="usr_asha", session=one, org=team, at=NOON)
    end_all_sessions(store, person="usr_asha", at=NOON)
    end_all_sessions(store, person="usr_asha", at=NOON)
    assert store.names(before) == ["SessionOrgSwitched", "SessionEnded", "AllSessionsEnded"]
    assert not person(store, "usr_asha").sessions


def test_nobody_looks_at_an_org_that_is_not_theirs(store: MemoryStore) -> None:
    given_person(store, "asha")
    given_person(store, "ravi")
    session = given_session(store, "usr_ravi", active="org_home_ravi")
    for org in ("org_home_asha", "org_none"):
        with pytest.raises(NotFound):
            switch_org(store, person="usr_ravi", session=session, org=org, at=NOON)


def test_a_person_who_is_gone_gets_no_session(store: MemoryStore) -> None:
    for gone in ("usr_asha", "usr_none"):
        if gone == "usr_asha":
            given_person(store)
            erase(store, gone)
        with pytest.raises(Unauthenticated):
            given_session(store, gone, active="org_home_asha")


def test_sessions_that_have_run_out_make_room(store: MemoryStore) -> None:
    given_person(store)
    given_session(store, "usr_asha", active="o", session="ses_old")
    given_session(store, "usr_asha", active="o", session="ses_new", at=NOON + 30 * DAY)
    assert set(person(store, "usr_asha").sessions) == {"ses_new"}
    started = next(event for _, event in store.facts if isinstance(event, SessionStarted))
    assert started.expires == session_expiry(NOON) == NOON + 30 * DAY


def test_digests_know_no_case_and_keep_providers_apart() -> None:
    assert email_digest(PEPPER, " Asha@Example.com ") == email_digest(PEPPER, "asha@example.com")
    assert subject_digest(PEPPER, provider="github", subject="1") != subject_digest(
        PEPPER, provider="google", subject="1"
    )
    assert email_digest(PEPPER, "a@b.c") != email_digest(b"other", "a@b.c")


@pytest.mark.parametrize("look_alike", ["\u212aumar@example.com", "kumar@example.\uff43om", "k\u200bumar@example.com"])
def test_an_address_that_looks_like_anothers_is_another(look_alike: str) -> None:
    """U+212A is the sign of kelvin, whose lower case is the letter k."""
    assert email_digest(PEPPER, look_alike) != email_digest(PEPPER, "kumar@example.com")


def test_a_mailbox_has_many_addresses() -> None:
    same = {mailbox_digest(PEPPER, email) for email in ("a.b@gmail.com", "AB+x@googlemail.com", "ab@gmail.com")}
    assert len(same) == 1
    assert mailbox_digest(PEPPER, "a.b@example.com") != mailbox_digest(PEPPER, "ab@example.com")
    assert mailbox_digest(PEPPER, "a+1@example.com") == mailbox_digest(PEPPER, "a+2@example.com")


def test_facts_of_persons_are_no_part_of_what_an_org_has_configured(store: MemoryStore) -> None:
    given_person(store)
    given_session(store, "usr_asha", active="org_home_asha")
    assert {stream.partition(":")[0] for stream, _ in store._history("org:org_home_asha")} == {"org", "workspace"}
    assert fold(Org(), store._history("org:org_home_asha")) == store.fold("org:org_home_asha", Org())
