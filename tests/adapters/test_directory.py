"""The directory: what a process knows of keys follows the log, at once in itself and within a second elsewhere."""

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from adapters.directory import CONFIGURATION_ONLY, STANDING_ONLY, DirectoryFeed
from adapters.eventstore import EventStore
from adapters.postgres import connect
from domain.accounts.members import change_role, remove_member
from domain.accounts.service import delete_workspace
from domain.accounts.sign_in import end_all_sessions, end_session
from domain.kernel.clock import DAY, SECOND
from domain.kernel.ids import make_id
from domain.keys.directory import Caller
from domain.keys.ephemeral import EphemeralTerms, mint_ephemeral_key
from domain.keys.key import key_digest
from domain.keys.service import KeyTerms, KeyWishes, revoke_key, update_key
from tests.given import (
    NOON,
    PEPPER,
    Minted,
    given_invitation,
    given_key,
    given_member,
    given_org,
    given_person,
    given_session,
    given_team,
    given_workspace,
)


@pytest.fixture
def feed(database_url: str) -> Iterator[DirectoryFeed]:
    feed = DirectoryFeed(database_url)
    yield feed
    feed.close()


def find(feed: DirectoryFeed, key: Minted) -> Caller | None:
    return feed.find(key_digest(PEPPER, key.secret.encode()))


def seconds_until(arrived: Callable[[], bool]) -> float:
    started = time.monotonic()
    while not arrived():
        assert time.monotonic() - started < 5, "the change never arrived"
        time.sleep(0.005)
    return time.monotonic() - started


def test_a_key_that_was_there_before_is_found_with_its_limits(store: EventStore, feed: DirectoryFeed) -> None:
    given_org(store)
    terms = KeyTerms(name="k", scope="inference", rpm_limit=3, daily_limit=4, expires_days=1, models=("a", "b"))
    key = given_key(store, "org_a", terms=terms)
    feed.start()
    caller = find(feed, key)
    assert caller is not None
    assert (caller.org, caller.key_id, caller.workspace, caller.scope) == ("org_a", key.key, "ws_org_a", "inference")
    assert (caller.rpm_limit, caller.daily_limit, caller.models) == (3, 4, frozenset({"a", "b"}))
    assert caller.expires == NOON + 86_400_000_000
    assert find(feed, Minted("", "", "", "br-no-such-key")) is None


def test_minting_and_revoking_are_in_force_within_a_second_elsewhere(store: EventStore, feed: DirectoryFeed) -> None:
    given_org(store)
    feed.start()
    key = given_key(store, "org_a")
    assert seconds_until(lambda: find(feed, key) is not None) < 1
    revoke_key(store, org="org_a", key=key.key, reason="", at=NOON, by="t")
    assert seconds_until(lambda: find(feed, key) is None) < 1


def test_sessions_roles_and_members_are_in_force_within_a_second_elsewhere(
    store: EventStore, feed: DirectoryFeed
) -> None:
    given_person(store, "asha")
    given_team(store, "usr_asha")
    ravi = given_member(store, "org_team", "ravi", role="admin", by="user:usr_asha")
    feed.start()
    known = feed.directory
    one, two = (given_session(store, ravi, active="org_team") for _ in range(2))
    assert seconds_until(lambda: known.session(ravi, one) is not None and known.session(ravi, two) is not None) < 1
    end_session(store, person=ravi, session=one, at=NOON)
    assert seconds_until(lambda: known.session(ravi, one) is None) < 1
    assert known.session(ravi, two) is not None
    end_all_sessions(store, person=ravi, at=NOON)
    assert seconds_until(lambda: known.session(ravi, two) is None) < 1

    key = given_key(store, "org_team", by=f"user:{ravi}").key
    assert seconds_until(lambda: known.role_of(f"key:{key}", "org_team") == "admin") < 1
    change_role(store, org="org_team", person=ravi, role="member", at=NOON, by="user:usr_asha")
    assert seconds_until(lambda: known.role_of(f"user:{ravi}", "org_team") == "member") < 1
    assert known.role_of(f"key:{key}", "org_team") == "member"
    remove_member(store, org="org_team", person=ravi, at=NOON, by="user:usr_asha")
    assert seconds_until(lambda: known.role_of(f"user:{ravi}", "org_team") is None) < 1
    assert known.role_of(f"key:{key}", "org_team") is None
    assert [org.id for org in known.orgs_of(ravi)] == ["org_home_ravi"]


def test_a_person_finds_their_orgs_and_invitations(store: EventStore, feed: DirectoryFeed) -> None:
    given_person(store, "asha")
    given_person(store, "ravi")
    given_team(store, "usr_asha")
    invitation = given_invitation(store, "org_team", "ravi@example.com", by="user:usr_asha")
    feed.catch_up()
    known = feed.directory
    ravi = known.person("usr_ravi")
    assert ravi is not None
    assert [org.id for org in known.orgs_of("usr_asha")] == ["org_home_asha", "org_team"]
    assert [(org.id, each.id) for org, each in known.invitations_to(ravi.email_digests, at=NOON)] == [
        ("org_team", invitation)
    ]
    assert known.invitations_to(ravi.email_digests, at=NOON + 14 * DAY) == []
    assert (known.person("usr_none"), known.session("usr_none", "ses"), known.orgs_of("usr_none")) == (None, None, [])


def test_disabling_enabling_and_moving_are_followed(store: EventStore, feed: DirectoryFeed) -> None:
    given_org(store)
    given_workspace(store, "org_a", "ws_x")
    key = given_key(store, "org_a", terms=KeyTerms(name="k", workspace="ws_x"))
    for disabled in (True, False):
        update_key(store, org="org_a", key=key.key, wishes=KeyWishes(disabled=disabled), at=NOON, by="t")
        feed.catch_up()
        assert (find(feed, key) is None) is disabled
    delete_workspace(store, org="org_a", workspace="ws_x", at=NOON, by="t")
    feed.catch_up()
    caller = find(feed, key)
    assert caller is not None
    assert caller.workspace == "ws_org_a"


def test_a_process_that_lost_the_log_says_so_and_recovers(
    store: EventStore, feed: DirectoryFeed, database_url: str
) -> None:
    given_org(store)
    feed.start()
    assert feed.fresh()
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    with connect(database_url.replace(f"/{name}", "/postgres")) as admin:
        admin.execute(f'alter database "{name}" allow_connections false'.encode())
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        deadline = time.monotonic() + 3
        while feed.fresh():
            assert time.monotonic() < deadline, "what is stale was called fresh"
            time.sleep(0.02)
        admin.execute(f'alter database "{name}" allow_connections true'.encode())
    deadline = time.monotonic() + 3
    while not feed.fresh():
        assert time.monotonic() < deadline, "it never recovered"
        time.sleep(0.02)


def test_following_an_idle_log_costs_next_to_nothing(store: EventStore, feed: DirectoryFeed) -> None:
    given_org(store)
    feed.start()
    time.sleep(0.3)
    began = time.process_time()
    time.sleep(1)
    assert time.process_time() - began < 0.02
    assert feed.fresh()


def test_the_index_of_the_configuration_serves_the_poll(store: EventStore, database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("insert into events select 'request:' || n, 1, 'x', '{}' from generate_series(1, 20000) n")
        connection.execute("analyze events")
        plan = connection.execute(
            f"explain select 1 from events where notification_id > %s and {CONFIGURATION_ONLY}"
            " order by notification_id limit 10".encode(),
            [0],
        ).fetchall()
    assert "events_configuration_idx" in str(plan)


def test_a_start_reads_of_ephemeral_keys_those_alone_that_may_live(store: EventStore, database_url: str) -> None:
    """Their mints of all time can be millions."""
    given_org(store)
    parent, now = given_key(store, "org_a", key="key_parent"), time.time_ns() // 1_000
    minted = {"over": now - DAY, "living": now - SECOND}
    for kind, at in minted.items():
        mint_ephemeral_key(
            store,
            key=make_id("eph", at=at, entropy=bytes(8)),
            secret=f"br-eph-{kind}",
            pepper=PEPPER,
            parent=parent.key,
            parent_models=None,
            parent_expires=None,
            terms=EphemeralTerms(),
            at=at,
        )
    feed = DirectoryFeed(database_url)
    try:
        for _ in range(2):
            feed.catch_up()
            found = {kind: feed.find(key_digest(PEPPER, f"br-eph-{kind}".encode())) for kind in minted}
            assert (found["over"], found["living"] is None, feed.directory.children(parent.key)) == (None, False, 1)
    finally:
        feed.close()


def test_the_index_of_what_stands_serves_the_start(store: EventStore, database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("insert into events select 'ephemeral:' || n, 1, 'x', '{}' from generate_series(1, 20000) n")
        connection.execute("analyze events")
        plan = connection.execute(
            f"explain select 1 from events where notification_id > %s and notification_id <= %s and {STANDING_ONLY}"
            " order by notification_id limit 10".encode(),
            [0, 20_000],
        ).fetchall()
    assert "events_standing_idx" in str(plan)
