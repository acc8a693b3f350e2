"""What the tests of several jobs do."""

import psycopg

from adapters.wiring import App
from projections.runner import Runner
from tests.domain.payments.till import FakeGateway, given_order, make_till


def project(app: App) -> None:
    """Brings the read models up to the log."""
    with psycopg.connect(app.database_url, autocommit=True) as connection:
        Runner(app.database_url).step(connection)


def paid(app: App, gateway: FakeGateway) -> str:
    """A payment that has become ₹100 of credit; its id."""
    till = make_till(app.store, gateway)
    payment = gateway.pays(given_order(till, at=app.clock()).order).id
    till.look(payment, learned="webhook", at=app.clock(), by="test")
    project(app)
    return payment
