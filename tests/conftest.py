"""The servers that tests run against: one real PostgreSQL and one real Valkey for the whole run, fresh for
each test.

TEST_DATABASE_URL and TEST_REDIS_URL name others to use instead. Their contents are lost: databases whose
names begin with `test_` are made and dropped there, and database 0 of the Redis is emptied.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psycopg
import pytest
import redis
from psycopg import conninfo, sql

from adapters.embedded import Postgres, Valkey, running
from tests.folders import folder_for_servers
from tests.issuer import Issuer

if TYPE_CHECKING:
    from tests.simulated_providers import Simulated

# On a machine that others use too, the clock says little about one example.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def servers_home() -> Iterator[Path]:
    with folder_for_servers() as root:
        yield root / "home"


@pytest.fixture(scope="session")
def postgres(servers_home: Path) -> Iterator[str]:
    """The URL of a PostgreSQL that is quick rather than durable, with a role that may make databases."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
    else:
        with running(Postgres(servers_home, durable=False)) as url:
            yield url


@pytest.fixture(scope="session")
def valkey(servers_home: Path) -> Iterator[str]:
    """The URL of a Valkey that keeps nothing."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
    else:
        with running(Valkey(servers_home, durable=False)) as url:
            yield url


@pytest.fixture(scope="session")
def new_database(postgres: str) -> Iterator[Callable[..., str]]:
    """Makes a database, from a template where one is named by its URL, and answers its URL. All are dropped
    at last.
    """
    numbers = itertools.count(1)
    made: list[sql.Identifier] = []
    with psycopg.connect(postgres, autocommit=True) as connection:

        def make(template: str = "") -> str:
            name = f"test_{os.getpid()}_{next(numbers)}"
            source = conninfo.conninfo_to_dict(template)["dbname"] if template else "template0"
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(str(source))
                )
            )
            made.append(sql.Identifier(name))
            return in_database(postgres, name)

        yield make
        for name in made:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@pytest.fixture(scope="session")
def migrated_template(new_database: Callable[..., str]) -> str:
    """A database with every migration applied and every read model empty, to be cloned and never to be connected to."""
    from adapters.postgres import migrate
    from projections.runner import Runner

    url = new_database()
    migrate(url)
    Runner(url).prepare()
    return url


@pytest.fixture
def database_url(postgres: str, new_database: Callable[..., str], migrated_template: str) -> Iterator[str]:
    """A migrated database of the test's own, which is gone after it."""
    url = new_database(template=migrated_template)
    yield url
    name = sql.Identifier(str(conninfo.conninfo_to_dict(url)["dbname"]))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def redis_url(valkey: str) -> str:
    """An empty Valkey."""
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
    return valkey


def in_database(url: str, name: str) -> str:
    """The same server's URL with another database."""
    head, question, query = url.partition("?")
    return f"{head[: head.rindex('/')]}/{name}{question}{query}"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """Who vouches for agents."""
    with Issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def _simulated_providers() -> Iterator["Simulated"]:
    from tests.simulated_providers import simulated_providers

    with simulated_providers() as simulated:
        yield simulated


@pytest.fixture
def providers(_simulated_providers: "Simulated") -> "Simulated":
    """Simulated providers that nobody has called yet, and that serve every call until they are told otherwise."""
    _simulated_providers.reset()
    return _simulated_providers
