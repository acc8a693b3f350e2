"""What most tests of routes stand on. A file that needs other settings, services or credit makes its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.settings import Settings
from adapters.wiring import App
from domain.keys.service import KeyTerms
from tests.api.client import Client, minted, started
from tests.given import Minted, given_org


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def services(settings: Settings, database_url: str) -> Iterator[App]:
    with started(settings, database_url) as services:
        yield services


@pytest.fixture
def client(services: App) -> Client:
    return Client(services)


@pytest.fixture
def key(client: Client) -> Minted:
    """The first key of an org with ₹100."""
    given_org(client.services.store, "org_a", at=client.services.clock())
    return minted(client, "org_a", KeyTerms(name="first"))
