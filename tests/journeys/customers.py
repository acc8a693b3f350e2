"""Customers of the running product: an org with money and a key, and what journeys ask about it.

They are made in this process by the product's own services, which takes milliseconds where the command takes a second.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai

from adapters.settings import Settings
from adapters.wiring import App, build
from domain.accounts.service import create_org
from domain.kernel.money import parse_inr
from domain.keys.key import SECRET_BYTES, make_secret
from domain.keys.service import KeyTerms, mint_key
from domain.ledger.credit import grant_credit
from tests.product import Product

CONNECTIONS_MAX = 400


@dataclass(frozen=True)
class Customer:
    """An org with a key of full scope unless it was made otherwise."""

    product: Product
    org: str
    workspace: str
    key_id: str
    key: str

    def http(self, **options: Any) -> httpx.Client:
        return self.product.client(self.key, verify=False, **options)

    def sdk(self, **options: Any) -> openai.OpenAI:
        """The official client; the caller closes it, or uses it in a `with`."""
        http = openai.DefaultHttpxClient(trust_env=False, verify=False)
        given = {"base_url": f"{self.product.url}/v1", "api_key": self.key, "max_retries": 0, "http_client": http}
        return openai.OpenAI(**given | options)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a page that must be there."""
        with self.http() as client:
            reply = client.get(path, params=query)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def record(self, request: str) -> Any:
        """What `/v1/requests/{id}` tells, once the read model has it."""
        with self.http() as client:
            return until(lambda: (r := client.get(f"/v1/requests/{request}")).status_code == 200 and r.json())

    def spent_nanos(self) -> int:
        """Nano-rupees that are gone from the balance, by the billing page; of ₹100 unless granted otherwise."""
        billing = self.get("/me/billing")
        return sum(nanos(event["amount_inr"]) for event in billing["events"]) - nanos(billing["balance_inr"])


class Operator:
    """Makes customers in a running product."""

    def __init__(self, product: Product) -> None:
        self.product = product
        running = product.running
        settings = Settings(
            home=Path(product.home), database_url=running["database_url"], redis_url=running["redis_url"]
        )
        self.app: App = build(settings)

    def close(self) -> None:
        self.app.close()

    def customer(self, *, inr: str = "100", **terms: Any) -> Customer:
        """A new org with this credit and a key with these `KeyTerms`, known on every gateway."""
        app = self.app
        org, workspace = app.new_id("org"), app.new_id("ws")
        who: dict[str, Any] = {"org": org, "at": app.clock(), "by": "operator"}
        create_org(app.store, workspace=workspace, name="Customer", sealed_email="", **who)
        if parse_inr(inr):
            grant_credit(app.store, grant=app.new_id("grant"), amount=parse_inr(inr), reason="journey", **who)
        key, secret = app.new_id("key"), make_secret(app.entropy(SECRET_BYTES))
        given = {"name": "first"} | terms
        mint_key(
            app.store,
            key=key,
            secret=secret,
            pepper=app.pepper,
            terms=KeyTerms(**given),
            active_max=5,
            **who,
        )
        made = Customer(self.product, org, workspace, key, secret)
        wait_until_known(made)
        return made


def wait_until_known(customer: Customer) -> None:
    """Returns when every gateway lets the customer's key in, and its org is in the read models."""
    with gateways(customer.product, customer.key) as clients:
        for client in clients.values():
            until(lambda client=client: client.get("/v1/key").status_code == 200)


@contextmanager
def gateways(product: Product, key: str) -> Iterator[dict[int, httpx.Client]]:
    """A client for each gateway process, by its process id: each has one connection, which stays with that process."""
    wanted = {pid for name, pid in product.running["pids"].items() if name.startswith("gateway-")}
    with ExitStack() as opened:
        found: dict[int, httpx.Client] = {}
        for _ in range(CONNECTIONS_MAX):
            limits = httpx.Limits(max_connections=1)
            client = opened.enter_context(product.client(key, verify=False, limits=limits))
            reply = client.get("/livez")
            port = reply.extensions["network_stream"].get_extra_info("client_addr")[1]
            found.setdefault(_process_behind(product, port, wanted), client)
            if set(found) == wanted:
                break
        assert set(found) == wanted, "some gateway accepts no connections"
        yield found


def _process_behind(product: Product, client_port: int, processes: set[int]) -> int:
    """The process that holds the other end of a local connection, as the kernel tells."""
    ends = (f"0100007F:{product.port:04X}", f"0100007F:{client_port:04X}")
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(line[9] for line in lines if (line[1], line[2]) == ends)
    for process in processes:
        for file in Path(f"/proc/{process}/fd").iterdir():
            try:
                if str(file.readlink()) == f"socket:[{inode}]":
                    return process
            except FileNotFoundError:
                continue
    raise AssertionError("no gateway has this connection")


def until(true: Callable[[], Any], *, within: float = 15) -> Any:
    """What `true` answers, as soon as that is something; fails after so many seconds."""
    deadline = time.monotonic() + within
    while not (answer := true()):
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.02)
    return answer


def nanos(inr: str) -> int:
    """Nano-rupees of a decimal string, exactly."""
    amount = Decimal(inr).scaleb(9)
    assert amount == int(amount), inr
    return int(amount)
