"""`verify` names whoever gave themself more access, or a larger budget, in the database itself."""

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from adapters.eventstore import EventStore
from adapters.log import LogReader
from adapters.postgres import make_pool
from adapters.sealing import Sealer
from domain.accounts.members import change_role
from domain.accounts.service import update_workspace
from domain.kernel.money import rupees
from domain.keys.ephemeral import EphemeralTerms, mint_ephemeral_key
from domain.keys.service import KeyTerms, revoke_key
from projections.runner import Runner
from projections.verify import verify
from tests.given import NOON, PEPPER, given_hold, given_key, given_member, given_person, given_team


@pytest.fixture
def books(database_url: str) -> Iterator[psycopg.Connection]:
    """A team with an owner and a member, a key with a budget, one that is revoked and an ephemeral one; all sealed but
    the last step, in which the member becomes an admin."""
    pool = make_pool(database_url, size=2)
    store = EventStore(database_url, LogReader(pool))
    given_person(store, "asha")
    given_team(store, "usr_asha")
    given_member(store, "org_team", "ravi", by="user:usr_asha")
    home = "org_home_asha"
    terms = KeyTerms(name="k", scope="inference", monthly_budget=rupees(50), daily_limit=100)
    key = given_key(store, home, key="key_1", terms=terms, by="user:usr_asha")
    given_key(store, home, key="key_2", by="user:usr_asha")
    revoke_key(store, org=home, key="key_2", reason="test", at=NOON, by="user:usr_asha")
    limit = {"monthly_budget": rupees(70), "at": NOON, "by": "user:usr_asha"}
    update_workspace(store, org=home, workspace="ws_home_asha", **limit)
    mint_ephemeral_key(
        store,
        key="eph_1",
        secret="br-eph-x",
        pepper=PEPPER,
        parent="key_1",
        parent_models=None,
        parent_expires=None,
        terms=EphemeralTerms(budget=rupees(5)),
        at=NOON,
    )
    key = replace(key, workspace="ws_home_asha")
    given_hold(database_url, "req_1", key, amount=rupees(1), at=NOON, expires=NOON + 1)
    Sealer(database_url, clock=lambda: NOON).seal(all_of_it=True)
    change_role(store, org="org_team", person="usr_ravi", role="admin", at=NOON, by="user:usr_asha")
    store.close()
    pool.close()
    with psycopg.connect(database_url, autocommit=True) as connection:
        runner = Runner(database_url)
        runner.prepare()
        runner.step(connection)
        yield connection


def test_what_the_product_left_is_clean(database_url: str, books: psycopg.Connection) -> None:
    assert verify(database_url).findings == []


def edit(name: str, before: str, after: str) -> str:
    """Rewrites every fact of that name."""
    return (
        f"update events set state = replace(convert_from(state, 'utf8'), '{before}', '{after}')::bytea"
        f" where topic = '{name}'"
    )


def forge(stream: str, name: str, state: str) -> str:
    """Puts a fact at the end of the log, where no seal is yet."""
    return (
        "insert into events (originator_id, originator_version, topic, state)"
        f" select '{stream}', 1 + count(*), '{name}', '{state}'::bytea from events where originator_id = '{stream}'"
    )


@pytest.mark.parametrize(
    ("tampering", "checks", "named"),
    [
        # what decides
        ("update allowance set budget = budget + 1 where scope = 'key_1'", {"guard"}, "key_1"),
        ("update allowance set budget = null where scope = 'ws_home_asha'", {"guard"}, "ws_home_asha"),
        ("update allowance set daily = 101 where scope = 'key_1'", {"guard"}, "key_1"),
        ("update allowance set calls = 0 where scope = 'key_1'", {"guard"}, "key_1"),
        ("update allowance set held = 0 where scope = 'key_1'", {"guard"}, "key_1"),
        ("update allowance set budget = budget * 2 where scope = 'eph_1'", {"guard"}, "eph_1"),
        ("insert into allowance (scope) values ('key_of_mine')", {"guard"}, "key_of_mine"),
        ("update hold set key = 'key_2'", {"guard"}, "req_1"),
        # what is shown
        ("update view_keys.keys set monthly_budget = null where key = 'key_1'", {"projection"}, "key_1"),
        ("update view_keys.keys set revoked_at = null where key = 'key_2'", {"projection"}, "key_2"),
        ("delete from view_keys.keys where key = 'key_2'", {"projection"}, "key_2"),
        ("update view_orgs.workspaces set monthly_budget = 1", {"projection"}, "workspaces"),
        ("update view_budgets.budgets set held = 0", {"projection"}, "budgets"),
        ("delete from view_audit.audit where action = 'role_changed'", {"projection"}, "audit"),
        ("update view_audit.audit set actor = 'operator' where action = 'key_revoked'", {"projection"}, "audit"),
        # the log, where it is sealed
        (edit("accounts.member_added.v1", '"role":"member"', '"role":"owner"'), {"seal", "projection"}, "org_team"),
        (edit("keys.key_minted.v1", '"scope":"inference"', '"scope":"full"'), {"seal", "projection"}, "key_1"),
        (edit("keys.key_minted.v1", '"digest":"', '"digest":"00'), {"seal"}, "key_1"),
        (edit("keys.ephemeral_key_minted.v1", '"parent":"key_1"', '"parent":"key_2"'), {"seal"}, "eph_1"),
        (edit("accounts.claimed.v1", '"person":"usr_ravi"', '"person":"usr_asha"'), {"seal"}, "claim:"),
        ("delete from events where topic = 'keys.key_revoked.v1'", {"seal", "projection"}, "key_2"),
        # and where it is not sealed yet
        (edit("accounts.role_changed.v1", '"role":"admin"', '"role":"owner"'), {"projection"}, "audit"),
        (
            forge("org:org_team", "accounts.role_changed.v1", '{"org":"org_team","person":"usr_asha","role":"member"}'),
            {"access"},
            "no owner",
        ),
        (
            forge("org:org_home_asha", "accounts.member_added.v1", '{"org":"o","person":"usr_x","role":"owner"}'),
            {"access"},
            "more than one person",
        ),
        (
            forge("key:key_1", "keys.key_limits_changed.v1", '{"org":"org_home_asha","monthly_budget":null}'),
            {"guard"},
            "key_1",
        ),
        (forge("user:usr_ravi", "accounts.person_erased.v1", "{}"), {"access"}, "still a member"),
    ],
)
def test_what_somebody_changed_is_named(
    database_url: str, books: psycopg.Connection, tampering: str, checks: set[str], named: str
) -> None:
    with books.transaction():
        books.execute("alter table events disable trigger user")
        assert books.execute(tampering.encode()).rowcount > 0
        books.execute("alter table events enable trigger user")
    findings = verify(database_url).findings
    assert checks <= {finding.check for finding in findings}, findings
    assert any(named in f"{finding.stream} {finding.message}" for finding in findings), findings
