"""The one place where services are put together; tests and tools make theirs here too."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg_pool import ConnectionPool

from adapters.agent_tokens import AgentTokens
from adapters.catalog_files import PACKAGED, Problem, check, load, load_list_prices
from adapters.claims import claimed
from adapters.directory import DirectoryFeed
from adapters.documents import Documents
from adapters.egress import Egress
from adapters.email import make_mailer
from adapters.eventstore import EventStore
from adapters.guards import balance, calls_of, forget_allowances, spent_of, with_credit
from adapters.ledger import expire_due
from adapters.log import LogReader, load_all_facts
from adapters.own_checks import OwnChecks
from adapters.postgres import connect, make_pool
from adapters.razorpay import Razorpay
from adapters.sealing import Sealer
from adapters.settings import Settings, beside_product, key_pepper, supplier
from adapters.sign_in import identity_providers
from adapters.upstream import address_of
from adapters.vault import Vault, master_key
from adapters.webhooks import WebhookCaller as WebhookCaller
from adapters.witness import Witness as Witness
from domain.accounts.erasure import erase_person
from domain.accounts.person import Person, person_stream
from domain.accounts.ports import IdentityProvider
from domain.catalog.catalog import Catalog
from domain.catalog.doubts import ListPrice
from domain.catalog.price import Fx
from domain.kernel.clock import SECOND, ist_day
from domain.kernel.errors import Unavailable
from domain.kernel.ids import make_id
from domain.kernel.mail import Mailer
from domain.kernel.money import rupees
from domain.kernel.store import fold_recorded
from domain.keys.ephemeral import ALLOWANCE_KEPT, TTL_SECONDS_MAX, first_id
from domain.keys.trial import TrialTerms, needs_trial
from domain.ledger.account import Account
from domain.ledger.statement import Statement
from domain.monitoring.checks import Wanted
from domain.monitoring.events import Checked
from domain.payments.billing import BillingProfile, billing_stream
from domain.payments.chargebacks import ChargebackDesk
from domain.payments.events import DocumentIssued
from domain.payments.ports import PaymentGateway
from domain.payments.refunds import RefundDesk
from domain.payments.returns import ReturnDesk
from domain.payments.topup import Terms, Till
from domain.webhooks.endpoints import Endpoints, webhooks_stream
from projections.monitoring import worth_today
from projections.refunds import receipt_of

POOL_SIZE = 8


class NoDatabase(Exception):
    """Neither the environment nor a running product says where the database is."""


@dataclass(frozen=True)
class App:
    """The services that need no event loop. They connect when they are first used; `directory.start()` begins to
    follow the log, which only a process that answers callers needs.

    `clock` tells microseconds since 1970; `entropy` gives so many random bytes.
    """

    settings: Settings
    database_url: str
    redis_url: str
    environment: Mapping[str, str]
    clock: Callable[[], int]
    entropy: Callable[[int], bytes]
    pepper: bytes
    catalog: Catalog
    list_prices: Mapping[str, ListPrice]
    pool: ConnectionPool[psycopg.Connection[Any]]
    log: LogReader
    store: EventStore
    directory: DirectoryFeed
    vault: Vault
    sealer: Sealer
    documents: Documents
    mailer: Mailer | None
    payments: PaymentGateway | None
    identities: Mapping[str, IdentityProvider]
    agents: AgentTokens | None
    egress: Egress
    own_checks: OwnChecks

    @contextmanager
    def reading(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection of the pool for the queries of projections. Raises Unavailable while there is none, or while the
        read models have not been made."""
        try:
            self.pool.open()
            with self.pool.connection() as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise Unavailable(
                "ledger_unavailable", "The ledger cannot be read now; try again.", retry_after=1
            ) from error

    def claimed(self, what: str) -> AbstractContextManager[bool]:
        """Whether nobody else is at this work, in this process or another. Then nobody will be until the block ends:
        whoever asks meanwhile is told no, and does not wait. A process that dies lets go of it.

        A connection that is lost lets go of it too, and the block goes on. So a claim saves doing things twice; that
        they do no harm if they are is up to the log. Raises psycopg.OperationalError.
        """
        return claimed(self.pool, what)

    def configured_providers(self) -> AbstractSet[str]:
        """The ids of the providers that can be called."""
        return {
            provider.id
            for provider in self.catalog.providers.values()
            if address_of(provider, environment=self.environment, simulator_url=self.settings.simulator_url)
        }

    def valkey_is_up(self) -> bool:
        from redis import Redis, RedisError

        if not self.redis_url:
            return False
        try:
            with Redis.from_url(self.redis_url, socket_timeout=0.5, socket_connect_timeout=0.5) as valkey:
                return bool(valkey.ping())
        except RedisError:
            return False

    def expire_due(self, *, limit: int) -> int:
        """Ends up to `limit` holds whose deadline has passed; how many there were. Raises psycopg.Error."""
        return expire_due(self.database_url, now=self.clock(), limit=limit)

    def forget_ended_keys(self) -> int:
        """Clears away the allowances of ephemeral keys that have long ended; how many. Raises psycopg.Error."""
        below = first_id(minted=self.clock() - TTL_SECONDS_MAX * SECOND - ALLOWANCE_KEPT)
        with connect(self.database_url) as connection:
            return forget_allowances(connection, below=below)

    def available(self, org: str) -> int:
        """Nano-rupees that the org can spend, by the guard that decides. Raises Unavailable, NotFound."""
        with self.reading() as connection:
            return balance(connection, org).available

    def spent_of(self, allowance: str) -> int:
        """Nano-rupees that an ephemeral key with a budget has used or holds. Raises Unavailable."""
        with self.reading() as connection:
            return spent_of(connection, allowance)

    def calls_today(self, allowance: str) -> int:
        """The calls that count today, India time, against a key or against the trial of an org. Raises Unavailable."""
        with self.reading() as connection:
            return calls_of(connection, allowance, day=ist_day(self.clock()))

    def billing_profile(self, org: str) -> BillingProfile:
        """Where the org is billed, and when it is told that its credit runs low."""
        return fold_recorded(BillingProfile(), self.log.stream(billing_stream(org)))

    def webhooks_of(self, org: str) -> Endpoints:
        """Where the org is told what happens."""
        return fold_recorded(Endpoints(), self.log.stream(webhooks_stream(org)))

    def trial_for(self, org: str) -> TrialTerms | None:
        """The terms of a trial, if the org can have keys by one only. Raises Unavailable, NotFound."""
        with self.reading() as connection:
            there = balance(connection, org)
        account = fold_recorded(Account(), self.log.stream(f"account:{org}"))
        if not needs_trial(account, there):
            return None
        settings = self.settings
        return TrialTerms(
            models=frozenset(settings.trial_models), rpm_limit=settings.trial_rpm, daily_limit=settings.trial_daily
        )

    @property
    def payment_gateway(self) -> PaymentGateway:
        """Whoever collects payments for us. Raises Unavailable `provider_not_configured`."""
        if self.payments is None:
            raise Unavailable(
                "provider_not_configured", "Payments are not set up here; the operator sets BR_RAZORPAY_KEY_ID."
            )
        return self.payments

    @property
    def till(self) -> Till:
        """Where money comes in. Raises Unavailable `provider_not_configured`."""
        settings = self.settings
        terms = Terms(
            rupees_min=settings.topup_inr_min,
            rupees_max=settings.topup_inr_max,
            mode=settings.gst_mode,
            percent=settings.gst_percent,
            kind=settings.document_kind,
            sac=settings.sac,
            description=settings.document_description,
            supplier=supplier(settings),
        )
        return Till(store=self.store, gateway=self.payment_gateway, seals=self.vault, terms=terms)

    @property
    def refunds(self) -> RefundDesk:
        """Where payments are refunded."""
        return RefundDesk(store=self.store, gateway=self.payment_gateway, seals=self.vault, original=self._receipt_of)

    @property
    def chargebacks(self) -> ChargebackDesk:
        """Where disputes of payments are heard of."""
        return ChargebackDesk(
            store=self.store, gateway=self.payment_gateway, seals=self.vault, original=self._receipt_of
        )

    @property
    def returns(self) -> ReturnDesk:
        """Where money goes back that was set aside."""
        return ReturnDesk(store=self.store, gateway=self.payment_gateway)

    def _receipt_of(self, payment: str) -> DocumentIssued | None:
        with self.reading() as connection:
            return receipt_of(connection, payment)

    def statement_pdf(self, statement: Statement) -> bytes:
        """The statement as PDF, drawn in a process of its own. Raises Unavailable `pdf_unavailable`, `overloaded`."""
        from adapters.pdf.statement import statement_pdf

        return statement_pdf(statement, supplier(self.settings), at=self.clock())

    def run_checks(self, wanted: Sequence[Wanted]) -> list[Checked]:
        """Tries collections with calls of one token on a pool of their own; not on an event loop. Nothing is recorded.
        Those that would cost more than they may are left out."""
        from adapters.canaries import run_checks

        return run_checks(self, wanted)

    def checks_left(self, orgs: Collection[str]) -> dict[str, int]:
        """Nano-rupees that checks of each org may still cost the product today; nothing for an org without credit.
        Raises Unavailable."""
        with self.reading() as connection:
            worth = worth_today(connection, orgs, now=self.clock())
            credited = with_credit(connection, orgs)
        daily = rupees(self.settings.canary_inr)
        return {org: max(daily - worth.get(org, 0), 0) if org in credited else 0 for org in orgs}

    def webhook_caller(self) -> WebhookCaller:
        """What calls endpoints of users, for the event loop that runs now; whoever asks closes it."""
        return WebhookCaller(self.egress)

    def erase_person(self, person: str, *, by: str) -> None:
        """Ends a person for good; see `domain.accounts.erasure`. In force on every process within a second. Raises
        NotFound, Conflict `last_owner`, Unavailable."""
        self.directory.catch_up()
        state = fold_recorded(Person(), self.log.stream(person_stream(person)))
        orgs = state.joined.union(org.id for org in self.directory.directory.orgs_of(person))
        erase_person(
            self.store,
            self.vault.erase,
            person=person,
            home=state.home,
            teams=sorted(orgs - {state.home}),
            at=self.clock(),
            by=by,
        )
        self.directory.catch_up()

    def new_id(self, prefix: str) -> str:
        return make_id(prefix, at=self.clock(), entropy=self.entropy(8))

    def close(self) -> None:
        self.directory.close()
        if self.agents is not None:
            self.agents.close()
        self.egress.close()
        if self.payments is not None:
            self.payments.close()
        for provider in self.identities.values():
            provider.close()
        self.store.close()
        self.pool.close()


def build(settings: Settings, **overrides: Any) -> App:
    """The App of these settings; each field of App can be given instead of made.

    Without DATABASE_URL and REDIS_URL, those of the product that runs from the same home are taken. Raises NoDatabase
    if there is none either, and ValueError if the catalog's files are in conflict.
    """
    load_all_facts()
    settings = beside_product(settings)
    url = overrides.get("database_url") or settings.database_url
    if not url:
        raise NoDatabase("Start the product first (bharatrouter up), or set DATABASE_URL.")
    pepper = overrides.get("pepper") or key_pepper(settings)
    pool = overrides.get("pool") or make_pool(url, size=POOL_SIZE)
    log = overrides.get("log") or LogReader(pool)
    vault = overrides.get("vault") or make_vault(settings, pepper, pool)
    catalog = overrides.get("catalog") or load(catalog_directories(settings), fx=exchange(settings))[0]
    guard = overrides.get("egress") or egress(settings)
    environment = overrides.get("environment", os.environ)
    services: dict[str, Any] = {
        "settings": settings,
        "database_url": url,
        "redis_url": settings.redis_url or "",
        "environment": environment,
        "clock": now,
        "entropy": os.urandom,
        "pepper": pepper,
        "catalog": catalog,
        "list_prices": load_list_prices(catalog_directories(settings), fx=exchange(settings))[0],
        "pool": pool,
        "log": log,
        "store": overrides.get("store") or EventStore(url, log),
        "directory": overrides.get("directory") or DirectoryFeed(url),
        "sealer": Sealer(url, clock=now, age_seconds_max=settings.seal_seconds, events_max=settings.seal_events),
        "vault": vault,
        "documents": Documents(pool, vault, settings),
        "mailer": make_mailer(settings),
        "payments": payment_gateway(settings),
        "identities": identity_providers(settings),
        "agents": agent_tokens(settings, clock=overrides.get("clock") or now),
        "egress": guard,
        "own_checks": OwnChecks(
            catalog=catalog, resolve=guard.resolve, environment=environment, simulator_url=settings.simulator_url
        ),
    }
    return App(**services | overrides)


def make_vault(settings: Settings, pepper: bytes, pool: ConnectionPool[psycopg.Connection[Any]]) -> Vault:
    """The vault under the newest sealing key; without any, under one that is made of the pepper."""
    secrets = [key.get_secret_value().encode() for key in settings.sealing_keys]
    newest, *former = [master_key(secret) for secret in (*secrets, pepper)]
    return Vault(newest, pool, former=former)


def egress(settings: Settings) -> Egress:
    """The guard of addresses that users give."""
    own = urlsplit(settings.public_url).hostname
    return Egress(
        allowed=settings.egress_allowed, http=settings.egress_http, own_hosts=[own] if own is not None else []
    )


def agent_tokens(settings: Settings, *, clock: Callable[[], int]) -> AgentTokens | None:
    """Who checks the tokens of agents, if the operator has named their issuer."""
    if not settings.agent_issuer or not settings.agent_audience or not settings.agent_jwks_url:
        return None
    return AgentTokens(
        issuer=settings.agent_issuer,
        audience=settings.agent_audience,
        jwks_url=settings.agent_jwks_url,
        names=settings.agent_claims,
        clock=clock,
    )


def payment_gateway(settings: Settings) -> PaymentGateway | None:
    """Whoever collects payments, if the operator has set a key."""
    if settings.razorpay_key_id is None or settings.razorpay_key_secret is None:
        return None
    return Razorpay(
        url=settings.razorpay_url,
        key_id=settings.razorpay_key_id,
        key_secret=settings.razorpay_key_secret.get_secret_value(),
        webhook_secrets=[secret.get_secret_value() for secret in settings.razorpay_webhook_secrets],
    )


def now() -> int:
    return time.time_ns() // 1000


def catalog_directories(settings: Settings) -> list[Path]:
    """Where provider and model files are read from, ours first."""
    return [PACKAGED] if settings.catalog_dir is None else [PACKAGED, settings.catalog_dir]


def catalog_problems(settings: Settings) -> list[Problem]:
    """What is wrong in the files of providers and models."""
    return check(catalog_directories(settings), fx=exchange(settings))


def exchange(settings: Settings) -> Fx:
    return Fx(inr_per_usd=settings.fx_inr_per_usd, on=settings.fx_date, margin=settings.fx_margin)
