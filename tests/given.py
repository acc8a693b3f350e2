"""What tests start from: an org with money and a key, made by the product's own commands."""

import asyncio
import os
from dataclasses import dataclass

from adapters.ledger import LedgerWriter
from domain.accounts.service import create_org, create_workspace
from domain.kernel.clock import DAY
from domain.kernel.money import rupees
from domain.kernel.store import Store
from domain.keys.key import make_secret
from domain.keys.service import KeyTerms, mint_key
from domain.ledger.credit import grant_credit
from domain.ledger.events import CreditHeld

NOON = 20_000 * DAY + DAY // 4
"""A noon in India (6:00 UTC and 30 minutes short of it), in 2024."""
PEPPER = b"pepper of the tests"


@dataclass(frozen=True)
class Minted:
    org: str
    workspace: str
    key: str
    secret: str


def given_org(store: Store, org: str = "org_a", *, inr: int = 100, at: int = NOON) -> str:
    """An org with a default workspace called `ws_<org>` and credit."""
    create_org(store, org=org, workspace=f"ws_{org}", name=org.title(), sealed_email="", at=at, by="test")
    if inr:
        grant_credit(store, org=org, grant=f"grant_{org}", amount=rupees(inr), reason="test", at=at, by="test")
    return org


def given_key(store: Store, org: str, *, key: str = "", terms: KeyTerms | None = None, at: int = NOON) -> Minted:
    """A key of the org, by default of full scope without limits."""
    secret = make_secret(os.urandom(24))
    key = key or f"key_{secret[3:11]}"
    mint_key(
        store,
        org=org,
        key=key,
        secret=secret,
        pepper=PEPPER,
        terms=terms or KeyTerms(name=key),
        active_max=5,
        at=at,
        by="test",
    )
    return Minted(org, (terms and terms.workspace) or f"ws_{org}", key, secret)


def given_workspace(store: Store, org: str, workspace: str, *, name: str = "", at: int = NOON) -> str:
    create_workspace(
        store,
        org=org,
        workspace=workspace,
        name=name or workspace,
        monthly_budget=None,
        workspaces_max=20,
        at=at,
        by="test",
    )
    return workspace


def given_hold(url: str, request: str, key: Minted, *, amount: int, at: int, expires: int) -> None:
    """A hold that nobody has ended, put on record through the ledger."""
    hold = CreditHeld(
        at=at,
        by=f"key:{key.key}",
        org=key.org,
        key=key.key,
        workspace=key.workspace,
        amount=amount,
        expires=expires,
        endpoint="chat",
        model="m",
        candidates=("p/m",),
    )

    async def record() -> None:
        writer = LedgerWriter(url, clock=lambda: at)
        await writer.start()
        assert await writer.hold(request, hold) is None
        await writer.close()

    asyncio.run(record())
