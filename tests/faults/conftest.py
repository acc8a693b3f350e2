"""One running product for all faults that it recovers from by itself."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.books import HOLD_SECONDS, forget_calls, new_key
from tests.faults.models import MODELS
from tests.folders import folder_for_servers
from tests.product import BHARATROUTER, Product

SETTINGS = {
    "BR_HOLD_SECONDS": str(HOLD_SECONDS),
    "BR_FIRST_BYTE_SECONDS": "2",
    "BR_IDLE_SECONDS": "2",
    "BR_CONNECT_SECONDS": "1",
    "BR_DISCONNECT_GRACE_SECONDS": "1",
    "BR_STOP_SECONDS": "5",
    "BR_SEAL_SECONDS": "5",
}


@pytest.fixture(scope="package")
def new_product() -> Iterator[Callable[[], Product]]:
    """Makes products in homes of their own; all are stopped at last."""
    made = ExitStack()

    def make() -> Product:
        root = made.enter_context(folder_for_servers())
        # What it says goes to a file: nobody reads along, and a pipe that is full would hold it up.
        command: list[str | Path] = ["/bin/sh", "-c", 'exec "$0" up > "$1" 2>&1', BHARATROUTER, root / "output"]
        product = Product(root / "home", models=MODELS, settings=SETTINGS, command=command)
        made.callback(product.stop)
        return product

    with made:
        yield make


@pytest.fixture(scope="package")
def shared_product(new_product: Callable[[], Product]) -> Product:
    return new_product().start()


@pytest.fixture
def product(shared_product: Product) -> Product:
    forget_calls(shared_product)
    return shared_product


@pytest.fixture(scope="package")
def key(shared_product: Product) -> str:
    return new_key(shared_product)
