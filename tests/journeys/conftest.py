"""One running product for all journeys that need no settings of their own: two gateways, and the simulator behind."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journeys.customers import Customer, Operator
from tests.journeys.models import MODELS
from tests.product import Product

NewCustomer = Callable[..., Customer]


@pytest.fixture(scope="session")
def new_home() -> Iterator[Callable[[], Path]]:
    """Makes homes that root's servers, which run as another user, can reach."""
    made: list[Path] = []

    def make() -> Path:
        root = Path(tempfile.mkdtemp(prefix="bharatrouter-journey-"))
        root.chmod(0o711)
        made.append(root)
        return root / "home"

    yield make
    for root in made:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def product(new_home: Callable[[], Path]) -> Iterator[Product]:
    with Product(new_home(), models=MODELS) as running:
        yield running


@pytest.fixture(scope="session")
def operator(product: Product) -> Iterator[Operator]:
    made = Operator(product)
    yield made
    made.close()


@pytest.fixture(scope="session")
def new_customer(operator: Operator) -> NewCustomer:
    """Makes a customer with ₹100 and a full-scope key; `inr=` and the fields of `KeyTerms` change that."""
    return operator.customer


@pytest.fixture
def customer(new_customer: NewCustomer) -> Customer:
    return new_customer()
