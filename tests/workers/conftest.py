"""What the tests of several jobs stand on; a file that needs other settings or another app makes its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from adapters.settings import Settings
from adapters.wiring import App, build, now
from projections.runner import Runner
from tests.domain.payments.refund_scene import RefundingGateway
from tests.fakes import Letterbox, PlainSeals
from tests.given import PEPPER, given_org


@pytest.fixture
def box() -> Letterbox:
    return Letterbox()


@pytest.fixture
def gateway() -> RefundingGateway:
    return RefundingGateway()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, redis_url="")


@pytest.fixture
def clock() -> Callable[[], int]:
    """The time of day."""
    return now


@pytest.fixture
def make_app(
    database_url: str, settings: Settings, clock: Callable[[], int], box: Letterbox
) -> Iterator[Callable[..., App]]:
    """Makes the App of one more process on the same database. Its mails go to `box`."""
    Runner(database_url).prepare()
    usual = {"database_url": database_url, "environment": {}, "pepper": PEPPER, "clock": clock, "mailer": box}
    with ExitStack() as made:

        def make(settings: Settings = settings, **given: Any) -> App:
            return made.enter_context(closing(build(settings, **usual | given)))

        yield make


@pytest.fixture
def app(make_app: Callable[..., App], gateway: RefundingGateway) -> App:
    app = make_app(payments=gateway, vault=PlainSeals())
    given_org(app.store, inr=0, at=app.clock())
    return app
