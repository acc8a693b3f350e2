"""What the control path does to the guard tables is what the pure model says, whatever happens in which order."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.eventstore import EventStore
from adapters.guards import EFFECTS
from adapters.log import LogReader, recorded
from adapters.postgres import connect, make_pool
from domain.accounts.service import delete_workspace, update_workspace
from domain.kernel.errors import Refusal
from domain.keys.service import KeyTerms, KeyWishes, revoke_key, update_key
from domain.ledger.credit import grant_credit
from domain.ledger.guards import Guards, evolve
from tests.given import NOON, given_key, given_org, given_workspace

LIMIT = st.none() | st.integers(0, 10**12)
STEP = st.one_of(
    st.tuples(st.just("grant"), st.integers(1, 10**12)),
    st.tuples(st.just("workspace budget"), LIMIT),
    st.tuples(st.just("mint"), LIMIT),
    st.tuples(st.just("key limits"), LIMIT),
    st.tuples(st.just("workspace"), st.none()),
    st.tuples(st.just("delete"), st.none()),
    st.tuples(st.just("revoke"), st.none()),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=12))
def test_the_guards_are_the_fold_of_the_log(
    new_database: Callable[..., str], migrated_template: str, steps: list[tuple[str, int | None]]
) -> None:
    url = new_database(template=migrated_template)
    pool = make_pool(url, size=2)
    log = LogReader(pool)
    store = EventStore(url, log)
    given_org(store)
    given_key(store, "org_a", key="key_0", terms=KeyTerms(name="first"))
    for number, (what, amount) in enumerate(steps):
        with suppress(Refusal):
            _take(store, what, amount, number)
    model = Guards()
    for fact in recorded(log.after(0, limit=1_000)):
        evolve(model, fact.stream, fact.event)
    with connect(url) as connection:
        balances = connection.execute("select org, available, held, spent from balance").fetchall()
        allowances = connection.execute(
            "select scope, budget, daily, month, used, held, day, calls from allowance"
        ).fetchall()
    store.close()
    pool.close()
    assert {org: tuple(rest) for org, *rest in balances} == {
        org: tuple(asdict(balance).values()) for org, balance in model.balances.items()
    }
    assert {scope: tuple(rest) for scope, *rest in allowances} == {
        scope: tuple(asdict(allowance).values()) for scope, allowance in model.allowances.items()
    }


def _take(store: EventStore, what: str, amount: int | None, number: int) -> None:
    match what:
        case "grant":
            grant_credit(store, org="org_a", grant=f"g{number}", amount=amount or 0, reason="r", at=NOON, by="t")
        case "workspace budget":
            update_workspace(store, org="org_a", workspace="ws_org_a", monthly_budget=amount, at=NOON, by="t")
        case "mint":
            terms = KeyTerms(name=f"k{number}", monthly_budget=amount, daily_limit=amount)
            given_key(store, "org_a", key=f"key_{number + 1}", terms=terms)
        case "key limits":
            wishes = KeyWishes(monthly_budget=amount, daily_limit=number)
            update_key(store, org="org_a", key="key_0", wishes=wishes, at=NOON, by="t")
        case "workspace":
            given_workspace(store, "org_a", f"ws_{number}")
        case "delete":
            delete_workspace(store, org="org_a", workspace=f"ws_{number - 1}", at=NOON, by="t")
        case "revoke":
            revoke_key(store, org="org_a", key=f"key_{number}", reason="", at=NOON, by="t")


def test_every_fact_that_touches_a_guard_is_of_the_control_path() -> None:
    assert {fact.NAME.split(".")[1] for fact in EFFECTS} == {
        "org_created",
        "credit_granted",
        "credit_added",
        "credit_expired",
        "credit_withheld",
        "credit_returned",
        "workspace_created",
        "workspace_budget_changed",
        "key_minted",
        "key_limits_changed",
        "ephemeral_key_minted",
        "trial_began",
    }
