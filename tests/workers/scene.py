"""What the tests of several jobs do."""

import psycopg

from adapters.wiring import App
from projections.runner import Runner


def project(app: App) -> None:
    """Brings the read models up to the log."""
    with psycopg.connect(app.database_url, autocommit=True) as connection:
        Runner(app.database_url).step(connection)
