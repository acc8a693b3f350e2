"""One running product for all journeys that need no settings of their own: two gateways, and the simulator behind."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.folders import folder_for_servers
from tests.issuer import AUDIENCE, ISSUER, Issuer
from tests.journeys.customers import Customer, Operator
from tests.journeys.models import MODELS
from tests.product import Product

NewCustomer = Callable[..., Customer]


@pytest.fixture(scope="package")
def new_home() -> Iterator[Callable[[], Path]]:
    """Makes homes that root's servers, which run as another user, can reach."""
    with ExitStack() as made:
        yield lambda: made.enter_context(folder_for_servers()) / "home"


@pytest.fixture(scope="package")
def issuer() -> Iterator[Issuer]:
    """Who vouches for agents."""
    with Issuer() as issuer:
        yield issuer


@pytest.fixture(scope="package")
def product(new_home: Callable[[], Path], issuer: Issuer) -> Iterator[Product]:
    agents = {"BR_AGENT_ISSUER": ISSUER, "BR_AGENT_AUDIENCE": AUDIENCE, "BR_AGENT_JWKS_URL": issuer.url}
    guard = {"BR_EGRESS_ALLOWED": "127.0.0.1", "BR_EGRESS_HTTP": "true"}  # webhooks of tests are on this machine
    with Product(new_home(), models=MODELS, settings=agents | guard) as running:
        yield running


@pytest.fixture(scope="package")
def operator(product: Product) -> Iterator[Operator]:
    made = Operator(product)
    yield made
    made.close()


@pytest.fixture(scope="package")
def new_customer(operator: Operator) -> NewCustomer:
    """Makes a customer with ₹100 and a full-scope key; `inr=` and the fields of `KeyTerms` change that."""
    return operator.customer


@pytest.fixture
def customer(new_customer: NewCustomer) -> Customer:
    return new_customer()
