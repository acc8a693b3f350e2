"""Each document gets one PDF, whoever makes it and whatever dies meanwhile; an altered one is seen."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import pytest

from adapters.documents import Documents, Kept
from adapters.wiring import App
from domain.payments.document import Document
from domain.payments.events import DocumentRendered
from projections import documents
from projections.verify import verify
from tests.at_once import at_once
from tests.documents import given_document, given_refund_voucher
from tests.workers.scene import project
from workers.render_documents import run


class Drawn(Documents):
    """Draws other bytes each time, at once, and counts; `line` is what it says is missing."""

    line: str | None = None
    drawn = 0
    before_drawing: Callable[[], None] = staticmethod(lambda: None)

    def missing(self) -> str | None:
        return self.line

    def draw(self, document: Document) -> bytes:
        self.before_drawing()
        self.drawn += 1
        return f"%PDF {document.number} {id(self)} {self.drawn}".encode()


@pytest.fixture
def make_app(make_app: Callable[[], App]) -> Callable[[], App]:
    def make() -> App:
        app = make_app()
        return replace(app, documents=Drawn(app.pool, app.vault, app.settings))

    return make


@pytest.fixture
def app(make_app: Callable[[], App]) -> App:
    return make_app()


def drawing(app: App) -> Drawn:
    assert isinstance(app.documents, Drawn)
    return app.documents


def row_of(app: App, number: str) -> dict[str, Any]:
    with app.reading() as connection:
        row = documents.document(connection, number)
    assert row is not None
    return row


def rendered(app: App, order: str = "order_A") -> list[DocumentRendered]:
    return [fact.event for fact in app.log.stream(f"payment:{order}") if isinstance(fact.event, DocumentRendered)]


def problems(app: App) -> list[str]:
    """What `verify` finds of the PDFs; these documents have no payment behind them, which it finds too."""
    report = verify(app.database_url)
    assert report.documents == 1
    return [finding.message for finding in report.findings if finding.message.startswith("the PDF of")]


def test_every_issued_document_gets_its_pdf_once(app: App) -> None:
    first = given_document(app)
    second = given_refund_voucher(app, first)
    project(app)
    assert run(app) == 2
    project(app)
    assert run(app) == 0
    for number, fact in zip((first, second), rendered(app), strict=True):
        kept = app.documents.kept(number)
        assert kept is not None
        assert (fact.number, fact.sha256, fact.size) == (number, kept.sha256, len(kept.pdf))
        assert row_of(app, number)["sha256"] == kept.sha256


def test_a_read_model_that_is_late_costs_nothing(app: App) -> None:
    given_document(app)
    project(app)
    assert run(app) == 1
    assert run(app) == 0
    assert drawing(app).drawn == 1
    assert len(rendered(app)) == 1


def test_several_workers_at_once_make_one_pdf(make_app: Callable[[], App]) -> None:
    apps = [make_app() for _ in range(3)]
    given_document(apps[0])
    project(apps[0])
    at_once(*[partial(run, app) for app in apps])
    assert sum(drawing(app).drawn for app in apps) == 1
    assert len(rendered(apps[0])) == 1


def test_while_one_worker_draws_another_leaves_the_document_alone(make_app: Callable[[], App]) -> None:
    one, other = make_app(), make_app()
    given_document(one)
    project(one)
    others: list[int] = []
    drawing(one).before_drawing = lambda: others.append(run(other))
    assert run(one) == 1
    assert others == [0]
    assert drawing(other).drawn == 0


def test_a_worker_that_died_between_keeping_and_recording_leaves_its_pdf_to_the_next(
    make_app: Callable[[], App],
) -> None:
    dead, next_one = make_app(), make_app()
    number = given_document(dead)
    project(dead)
    kept = dead.documents.keep(number, b"%PDF of the dead")
    assert run(next_one) == 1
    assert drawing(next_one).drawn == 0
    assert [fact.sha256 for fact in rendered(next_one)] == [kept.sha256]


def test_the_first_pdf_is_the_document(app: App) -> None:
    number = given_document(app)
    first = app.documents.keep(number, b"%PDF first")
    assert app.documents.keep(number, b"%PDF second") == first == Kept(first.sha256, b"%PDF first")


def test_a_kept_pdf_can_neither_be_changed_nor_removed(app: App) -> None:
    number = given_document(app)
    app.documents.keep(number, b"%PDF")
    with psycopg.connect(app.database_url, autocommit=True) as connection:
        for statement in ("update document_pdf set pdf = 'x'", "delete from document_pdf", "truncate document_pdf"):
            with pytest.raises(psycopg.errors.RestrictViolation, match="kept as they were issued"):
                connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("update document_pdf set pdf = '%PDF other', sha256 = encode(sha256('%PDF other'), 'hex')", "was altered"),
        ("delete from document_pdf", "is missing"),
    ],
)
def test_a_pdf_that_was_altered_all_the_same_is_found(app: App, statement: str, text: str) -> None:
    number = given_document(app)
    project(app)
    run(app)
    project(app)
    assert problems(app) == []
    with psycopg.connect(app.database_url, autocommit=True) as connection:
        connection.execute("alter table document_pdf disable trigger documents_are_immutable")
        connection.execute(statement.encode())
    [found] = problems(app)
    assert number in found
    assert text in found


def test_while_libraries_are_missing_documents_wait_and_the_line_is_said_once(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    given_document(app)
    project(app)
    drawing(app).line = f"apt-get install {id(app)}"
    assert [run(app), run(app)] == [0, 0]
    assert [record.getMessage() for record in caplog.records] == [
        f"documents wait for their PDFs until somebody types: {drawing(app).line}"
    ]
    drawing(app).line = None
    assert run(app) == 1


def test_one_document_that_cannot_be_drawn_does_not_keep_the_others_waiting(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    bad = given_document(app)
    good = given_document(app, payment_id="pay_B", order_id="order_B")
    project(app)
    failing = [RuntimeError("a font is broken")]

    def fail_once() -> None:
        if failing:
            raise failing.pop()

    drawing(app).before_drawing = fail_once
    assert run(app) == 1
    assert bad in caplog.text
    assert app.documents.kept(bad) is None
    assert app.documents.kept(good) is not None
    project(app)
    assert run(app) == 1


def test_the_books_of_an_erased_org_have_nothing_to_draw(app: App) -> None:
    number = given_document(app)
    project(app)
    app.vault.erase("books:org_a")
    assert run(app) == 0
    assert app.documents.kept(number) is None


def test_a_real_pdf_is_drawn_and_signed(app: App) -> None:
    app = replace(app, documents=Documents(app.pool, app.vault, app.settings))
    if app.documents.missing():
        pytest.skip(f"WeasyPrint's libraries are missing: {app.documents.missing()}")
    number = given_document(app)
    project(app)
    assert run(app) == 1
    kept = app.documents.kept(number)
    assert kept is not None
    assert kept.pdf.startswith(b"%PDF-")
    assert b"/ByteRange" in kept.pdf
