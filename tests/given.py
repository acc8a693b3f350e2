"""What tests start from: an org with money and a key, made by the product's own commands."""

import asyncio
import os
from dataclasses import dataclass

from adapters.ledger import LedgerWriter
from adapters.vault import Vault
from domain.accounts.members import accept_invitation, invite_member
from domain.accounts.person import email_digest, mailbox_digest, subject_digest
from domain.accounts.service import create_org, create_workspace
from domain.accounts.sign_in import Proof, Seal, SignedIn, session_expiry, sign_in, start_session
from domain.accounts.teams import found_team
from domain.byo.own import EndpointTerms, add_endpoint, check_terms, save_key
from domain.kernel.clock import DAY
from domain.kernel.money import rupees
from domain.kernel.store import Store
from domain.keys.key import make_secret
from domain.keys.service import KeyTerms, mint_key
from domain.keys.trial import TrialTerms
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


def given_key(
    store: Store,
    org: str,
    *,
    key: str = "",
    terms: KeyTerms | None = None,
    trial: TrialTerms | None = None,
    at: int = NOON,
    by: str = "test",
) -> Minted:
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
        by=by,
        trial=trial,
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

    put_on_hold(url, request, hold)


def put_on_hold(url: str, request: str, hold: CreditHeld) -> None:
    async def record() -> None:
        writer = LedgerWriter(url, clock=lambda: hold.at)
        await writer.start()
        assert await writer.hold(request, hold) is None
        await writer.close()

    asyncio.run(record())


def seal_openly(subject: str, text: str) -> str:
    """A seal that anybody can read, for tests without a vault."""
    return f"sealed for {subject}: {text}"


def proof(name: str, *, provider: str = "github", email: str | None = None, verified: bool = True) -> Proof:
    """That somebody of this name has signed in, by default with a verified address of their own."""
    address = f"{name}@example.com" if email is None else email
    return Proof(
        provider=provider,
        subject_digest=subject_digest(PEPPER, provider=provider, subject=name),
        name=name.title(),
        login=name,
        email=address,
        email_digest=email_digest(PEPPER, address) if verified else None,
        mailbox_digest=mailbox_digest(PEPPER, address),
    )


def given_person(store: Store, name: str = "asha", *, seal: Seal = seal_openly, at: int = NOON) -> SignedIn:
    """Somebody who has signed in, by default for the first time: `usr_asha`, whose personal org is `org_home_asha`."""
    return sign_in(
        store,
        seal,
        proof(name),
        person=f"usr_{name}",
        org=f"org_home_{name}",
        workspace=f"ws_home_{name}",
        credit=rupees(100),
        at=at,
    )


def given_session(store: Store, person: str, *, active: str, session: str = "", at: int = NOON) -> str:
    session = session or f"ses_{os.urandom(4).hex()}"
    start_session(
        store,
        person=person,
        session=session,
        active=active,
        agent="",
        address="",
        expires=session_expiry(at),
        at=at,
    )
    return session


def given_team(store: Store, founder: str, org: str = "org_team", *, at: int = NOON) -> str:
    found_team(store, person=founder, org=org, workspace=f"ws_{org}", name=org.title(), teams_max=10, at=at)
    return org


def given_invitation(
    store: Store,
    org: str,
    email: str,
    *,
    role: str = "member",
    by: str,
    people_max: int = 50,
    seal: Seal = seal_openly,
    at: int = NOON,
    invitation: str = "",
) -> str:
    invitation = invitation or f"inv_{os.urandom(4).hex()}"
    invite_member(
        store,
        org=org,
        invitation=invitation,
        sealed_email=seal(org, email),
        email_digest=email_digest(PEPPER, email),
        role=role,
        people_max=people_max,
        at=at,
        by=by,
    )
    return invitation


def given_member(
    store: Store, org: str, name: str, *, role: str = "member", by: str, seal: Seal = seal_openly, at: int = NOON
) -> str:
    """Somebody who has signed in and accepted an invitation of `by`."""
    person = given_person(store, name, seal=seal, at=at).person
    email = f"{name}@example.com"
    invitation = given_invitation(store, org, email, role=role, by=by, seal=seal, at=at)
    digests = {email_digest(PEPPER, email)}
    accept_invitation(store, org=org, invitation=invitation, person=person, email_digests=digests, at=at)
    return person


def given_own_key(store: Store, vault: Vault, org: str, provider: str, *, host: str, at: int = NOON, by: str) -> None:
    """The org's key for a provider, saved without a try."""
    save_key(
        store,
        org=org,
        provider=provider,
        host=host,
        sealed=vault.seal(org, "sk-given", bound_to=host),
        mask="…",
        label="",
        always_use=False,
        verified=False,
        discovered=(),
        at=at,
        by=by,
    )


def given_endpoint(store: Store, org: str, endpoint: str, *, at: int = NOON, by: str) -> None:
    """An endpoint of the org without a key, saved without a test."""
    terms = EndpointTerms(
        name="Box", model="llama", base_url="https://llm.example.com/v1", upstream="llama", residency=None
    )
    add_endpoint(store, org=org, endpoint=endpoint, terms=check_terms(terms), sealed="", mask="", at=at, by=by)
