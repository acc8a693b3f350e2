"""Receipts are mailed at least once and, unless something dies between mail and record, exactly once."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from adapters.email import Smtp, SmtpMailer
from adapters.wiring import App
from domain.accounts.service import create_org
from domain.kernel.clock import DAY
from domain.kernel.mail import Mail, MailDelayed
from domain.payments.document import Buyer
from domain.payments.events import DocumentMailed, DocumentMailRefused
from tests.documents import BUYER, given_document
from tests.mailbox import Mailbox, mailbox
from tests.workers.scene import project
from workers.mail_documents import WINDOW, run
from workers.render_documents import run as render


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as running:
        yield running


@pytest.fixture
def make_app(make_app: Callable[..., App], box: Mailbox) -> Callable[..., App]:
    """Makes the App of one more process; its PDFs are drawn at once, its mails go to `box`."""

    def make(**given: Any) -> App:
        smtp = SmtpMailer(Smtp(host="127.0.0.1", port=box.port, tls="none"), sender="a@b.example", seconds_max=2)
        app = make_app(**{"mailer": smtp} | given)
        app.documents.draw = lambda document: b"%PDF of " + document.number.encode()
        app.documents.missing = lambda: None
        return app

    return make


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    return make_app()


def given_pdf(app: App, **changes: Any) -> str:
    number = given_document(app, **changes)
    project(app)
    assert render(app) == 1
    project(app)
    return number


def named(name: str, **changes: str) -> Buyer:
    return msgspec.structs.replace(BUYER, name=name, **changes)


def endings(app: App, order: str = "order_A") -> list[str]:
    facts = (fact.event for fact in app.log.stream(f"payment:{order}"))
    return [type(fact).__name__ for fact in facts if isinstance(fact, DocumentMailed | DocumentMailRefused)]


def test_a_document_is_mailed_once_with_its_pdf(app: App, box: Mailbox) -> None:
    number = given_pdf(app)
    assert run(app) == 1
    assert run(app) == 0
    project(app)
    assert run(app) == 0
    assert box.recipients == [BUYER.email]
    assert box.subjects == [f"Receipt Voucher {number} for ₹590.00"]
    kept = app.documents.kept(number)
    assert kept is not None
    assert [part.get_content() for part in box.mails[0].iter_attachments()] == [kept.pdf]
    for kind in ("plain", "html"):
        body = box.mails[0].get_body([kind])
        assert body is not None
        text = body.get_content()
        for shown in (number, "₹590.00", BUYER.name, "pay_A", f"/verify/{number}"):
            assert shown in text
    assert endings(app) == ["DocumentMailed"]


def test_what_a_buyer_calls_himself_is_no_markup(app: App, box: Mailbox) -> None:
    given_pdf(app, buyer=named("<b>A & B</b>"))
    run(app)
    html = box.mails[0].get_body(["html"])
    text = box.mails[0].get_body(["plain"])
    assert html is not None
    assert text is not None
    assert "&lt;b&gt;A &amp; B&lt;/b&gt;" in html.get_content()
    assert "<b>A & B</b>" in text.get_content()


def test_a_document_without_a_pdf_waits(app: App, box: Mailbox) -> None:
    given_document(app)
    project(app)
    assert run(app) == 0
    assert not box.mails


def test_the_owner_gets_it_where_the_buyer_gave_no_address(app: App, box: Mailbox) -> None:
    sealed = app.vault.seal("org_o", "owner@example.org")
    create_org(app.store, org="org_o", workspace="ws_o", name="O", sealed_email=sealed, at=app.clock(), by="test")
    given_pdf(app, org="org_o", buyer=named("Owner", email=""))
    assert run(app) == 1
    assert box.recipients == ["owner@example.org"]


def test_a_document_that_nobody_can_get_is_not_tried_for_ever(app: App, box: Mailbox) -> None:
    given_pdf(app, buyer=named("Nobody", email=""))
    assert run(app) == 0
    assert endings(app) == ["DocumentMailRefused"]
    project(app)
    assert run(app) == 0
    assert len(endings(app)) == 1


def test_a_refused_address_ends_it(app: App, box: Mailbox) -> None:
    given_pdf(app)
    box.refuse["RCPT"] = "550 No such user"
    assert run(app) == 0
    box.refuse.clear()
    assert run(app) == 0
    assert endings(app) == ["DocumentMailRefused"]
    assert not box.mails


def test_a_mail_that_is_delayed_goes_out_later_and_holds_up_no_other(
    make_app: Callable[..., App], box: Mailbox
) -> None:
    app = make_app()
    given_pdf(app)
    given_pdf(app, payment_id="pay_B", order_id="order_B", buyer=named("B", email="b@example.org"))

    class FirstIsDelayed:
        def __init__(self) -> None:
            self.first = True

        def send(self, mail: Mail) -> None:
            if self.first:
                self.first = False
                raise MailDelayed("451 greylisted")
            assert app.mailer is not None
            app.mailer.send(mail)

    assert run(make_app(mailer=FirstIsDelayed())) == 1
    assert box.recipients == ["b@example.org"]
    assert run(app) == 1
    assert box.recipients == ["b@example.org", BUYER.email]


def test_a_fault_in_one_mail_holds_up_no_other(make_app: Callable[..., App], box: Mailbox) -> None:
    app = make_app()
    given_pdf(app, buyer=named("A", email="a@[1.2"))
    given_pdf(app, payment_id="pay_B", order_id="order_B", buyer=named("B", email="b@example.org"))

    class Stumbles:
        def send(self, mail: Mail) -> None:
            if mail.to == "a@[1.2":
                raise AttributeError("a fault of ours")
            assert app.mailer is not None
            app.mailer.send(mail)

    assert run(make_app(mailer=Stumbles())) == 1
    assert box.recipients == ["b@example.org"]
    assert run(app) == 0
    assert endings(app) == ["DocumentMailRefused"]


def test_a_server_that_hangs_up_is_asked_once_a_run_and_gets_all_of_it_later(app: App, box: Mailbox) -> None:
    given_pdf(app)
    given_pdf(app, payment_id="pay_B", order_id="order_B")
    box.drops_after_data = True
    assert run(app) == 0
    assert not box.mails
    assert not endings(app)
    box.drops_after_data = False
    assert run(app) == 2
    assert len(box.mails) == 2


def test_a_mail_that_may_have_been_taken_is_sent_again_under_its_name(app: App, box: Mailbox) -> None:
    given_pdf(app)
    box.drops_after_data = box.takes_what_it_drops = True
    assert run(app) == 0
    box.drops_after_data = False
    assert run(app) == 1
    assert len(box.mails) == 2
    assert len({mail["message-id"] for mail in box.mails}) == 1
    assert endings(app) == ["DocumentMailed"]


def test_a_worker_that_dies_between_mail_and_record_costs_a_second_mail_and_never_one(
    make_app: Callable[..., App], box: Mailbox
) -> None:
    app = make_app()
    given_pdf(app)

    class Dies(BaseException):
        pass

    class DyingStore:
        def change(self, *_: Any, **__: Any) -> None:
            raise Dies

        def close(self) -> None:
            pass

    with pytest.raises(Dies):
        run(make_app(store=DyingStore()))
    assert len(box.mails) == 1
    assert not endings(app)
    assert run(app) == 1
    assert len(box.mails) == 2
    assert len({mail["message-id"] for mail in box.mails}) == 1


def test_while_one_worker_mails_another_leaves_it_alone(make_app: Callable[..., App], box: Mailbox) -> None:
    app, other = make_app(), make_app()
    given_pdf(app)
    others: list[int] = []

    class Slow:
        def send(self, mail: Mail) -> None:
            others.append(run(other))
            assert app.mailer is not None
            app.mailer.send(mail)

    assert run(make_app(mailer=Slow())) == 1
    assert others == [0]
    assert run(other) == 0  # its read model is late; the log is not
    assert len(box.mails) == 1


def test_without_a_mail_server_nothing_is_sent_and_the_log_says_so_once(
    make_app: Callable[..., App], box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(mailer=None)
    number = given_pdf(app, kind="tax_invoice")
    assert [run(app), run(app)] == [0, 0]
    said = [record.getMessage() for record in caplog.records if "not sent" in record.getMessage()]
    assert said == [f"not sent, since no mail server is configured: document {number}"]
    assert not endings(app)


def test_old_documents_are_not_mailed_when_a_mail_server_appears(make_app: Callable[..., App], box: Mailbox) -> None:
    app = make_app()
    given_pdf(app)
    later = app.clock() + WINDOW + DAY
    assert run(make_app(clock=lambda: later)) == 0
    assert not box.mails
