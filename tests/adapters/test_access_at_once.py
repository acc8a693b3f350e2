"""People who act at the same moment, on a real PostgreSQL: the rules of an org and of sign-up hold all the same."""

from adapters.eventstore import EventStore
from adapters.log import LogReader, decode
from adapters.postgres import connect
from domain.accounts.erasure import erase_person
from domain.accounts.members import accept_invitation, remove_member
from domain.accounts.org import Org
from domain.accounts.person import email_digest
from domain.accounts.sign_in import sign_in
from domain.accounts.teams import found_team
from domain.kernel.money import rupees
from domain.kernel.store import fold_recorded
from projections.verify_memberships import Memberships
from tests.at_once import answered_at_once
from tests.given import NOON, PEPPER, given_invitation, given_member, given_person, given_team, proof, seal_openly


def org(log: LogReader, id: str) -> Org:
    return fold_recorded(Org(), log.org(id))


def test_of_two_owners_who_leave_at_once_one_stays(stores: list[EventStore], log: LogReader) -> None:
    given_person(stores[0], "asha")
    for number in range(5):
        team = given_team(stores[0], "usr_asha", f"org_{number}")
        ravi = given_member(stores[0], team, f"ravi{number}", role="owner", by="user:usr_asha")
        answers = answered_at_once(
            *[
                lambda store=store, person=person, team=team: remove_member(
                    store, org=team, person=person, at=NOON, by=f"user:{person}"
                )
                for store, person in zip(stores, ("usr_asha", ravi), strict=False)
            ]
        )
        assert answers.count("last_owner") == 1
        assert len(org(log, team).owners()) == len(org(log, team).members) == 1


def test_no_more_teams_or_people_than_the_limits_come_in_at_once(stores: list[EventStore], log: LogReader) -> None:
    given_person(stores[0], "asha")
    founded = answered_at_once(
        *[
            lambda store=store, id=f"org_{number}": found_team(
                store, person="usr_asha", org=id, workspace=f"ws_{id}", name="T", teams_max=3, at=NOON
            )
            for number, store in enumerate(stores)
        ]
    )
    assert founded.count("org_limit") == 3
    team = given_team(stores[0], "usr_asha")
    invited = answered_at_once(
        *[
            lambda store=store, number=number: given_invitation(
                store, team, f"p{number}@example.com", by="user:usr_asha", people_max=4
            )
            for number, store in enumerate(stores)
        ]
    )
    assert invited.count("member_limit") == 3
    assert len(org(log, team).invitations) == 3


def test_an_invitation_is_accepted_once_however_often_it_is_clicked(stores: list[EventStore], log: LogReader) -> None:
    given_person(stores[0], "asha")
    given_person(stores[0], "ravi")
    team = given_team(stores[0], "usr_asha")
    invitation = given_invitation(stores[0], team, "ravi@example.com", by="user:usr_asha")
    digests = {email_digest(PEPPER, "ravi@example.com")}
    answers = answered_at_once(
        *[
            lambda store=store: accept_invitation(
                store, org=team, invitation=invitation, person="usr_ravi", email_digests=digests, at=NOON
            )
            for store in stores
        ]
    )
    assert answers.count("not_found") == len(stores) - 1
    assert set(org(log, team).members) == {"usr_asha", "usr_ravi"}


def test_who_signs_in_for_the_first_time_in_many_windows_is_one_person_with_one_credit(
    stores: list[EventStore], database_url: str
) -> None:
    """Half of them by one provider, half by another, with the same verified address."""
    shown = [proof("asha"), proof("asha.g", provider="google", email="asha@example.com")]
    answers = answered_at_once(
        *[
            lambda store=store, number=number: (
                sign_in(
                    store,
                    seal_openly,
                    shown[number % 2],
                    person=f"usr_{number}",
                    org=f"org_{number}",
                    workspace=f"ws_{number}",
                    credit=rupees(100),
                    at=NOON,
                ).person
            )
            for number, store in enumerate(stores)
        ]
    )
    assert len(set(answers)) == 1
    with connect(database_url) as connection:
        rows = connection.execute("select org, available from balance").fetchall()
    assert rows == [(str(answers[0]).replace("usr", "org"), rupees(100))]


def test_who_is_erased_while_they_accept_an_invitation_is_no_member(stores: list[EventStore], log: LogReader) -> None:
    given_person(stores[0], "asha")
    team = given_team(stores[0], "usr_asha")
    for number in range(12):
        name = f"ravi{number}"
        person = given_person(stores[0], name)
        invitation = given_invitation(stores[0], team, f"{name}@example.com", by="user:usr_asha")
        digests = {email_digest(PEPPER, f"{name}@example.com")}
        gone = {"person": person.person, "home": person.home, "teams": [], "at": NOON, "by": f"user:{person.person}"}
        accepted, erased = answered_at_once(
            lambda invitation=invitation, digests=digests, gone=gone: accept_invitation(
                stores[1], org=team, invitation=invitation, person=gone["person"], email_digests=digests, at=NOON
            ),
            lambda gone=gone: erase_person(stores[2], lambda _: None, **gone),
        )
        assert (accepted == "not_found") != (erased == "ledger_unavailable")
    checks = Memberships()
    assert [
        problem for row in log.after(0, limit=10_000) for problem in checks.enter(row[1], decode(row[3], row[4]))
    ] == []
