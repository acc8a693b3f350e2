"""What the tests of several jobs stand on; a file that needs another app makes its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.settings import Settings
from adapters.wiring import App, build
from projections.runner import Runner
from tests.domain.payments.refund_scene import RefundingGateway
from tests.fakes import Letterbox, PlainSeals
from tests.given import given_org


@pytest.fixture
def box() -> Letterbox:
    return Letterbox()


@pytest.fixture
def gateway() -> RefundingGateway:
    return RefundingGateway()


@pytest.fixture
def app(database_url: str, gateway: RefundingGateway, tmp_path: Path) -> Iterator[App]:
    app = build(
        Settings(home=tmp_path),
        database_url=database_url,
        redis_url="",
        environment={},
        pepper=b"p",
        payments=gateway,
        vault=PlainSeals(),
    )
    Runner(database_url).prepare()
    given_org(app.store, inr=0, at=app.clock())
    yield app
    app.close()
