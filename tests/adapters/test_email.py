"""Mails over real SMTP: what arrives, and what each way of failing means for whoever sends."""

import email
import ssl
import time
from collections.abc import Mapping
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.email import MailFolder, Smtp, SmtpMailer, make_mailer, message_of, smtp_of
from adapters.settings import Settings
from domain.kernel.mail import Attachment, Mail, MailDelayed, MailRefused, MailUnreachable
from tests.mailbox import hanging, mailbox

TLS = Path(__file__).parent / "tls"
SENDER = "BharatRouter <billing@bharatrouter.example>"


def letter(**changes: Any) -> Mail:
    fields: dict[str, Any] = {
        "id": "document.RV-26-27-000001",
        "to": "asha@example.org",
        "subject": "Receipt for ₹590.00",
        "text": "नमस्ते\nText.\n",
        "html": "<p>नमस्ते</p>",
        "attachments": (Attachment(name="r.pdf", media_type="application/pdf", content=b"%PDF \x00\xff"),),
    }
    return Mail(**fields | changes)


def mailer(port: int, **changes: Any) -> SmtpMailer:
    options: dict[str, Any] = {"host": "127.0.0.1", "port": port, "tls": "none", **changes}
    return SmtpMailer(Smtp(**options), sender=SENDER, seconds_max=2)


def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    return context


def test_a_mail_arrives_whole() -> None:
    with mailbox() as box:
        mailer(box.port).send(letter())
    assert box.recipients == ["asha@example.org"]
    mail = box.mails[0]
    assert mail["subject"] == "Receipt for ₹590.00"
    assert mail["from"] == SENDER
    assert mail["message-id"] == "<document.RV-26-27-000001@bharatrouter.example>"
    assert mail["auto-submitted"] == "auto-generated"
    text, html = mail.get_body(["plain"]), mail.get_body(["html"])
    assert text is not None
    assert html is not None
    assert text.get_content() == "नमस्ते\nText.\n"
    assert html.get_content() == "<p>नमस्ते</p>\n"
    attached = [(part.get_filename(), part.get_content_type(), part.get_content()) for part in mail.iter_attachments()]
    assert attached == [("r.pdf", "application/pdf", b"%PDF \x00\xff")]


def test_it_goes_after_starttls_with_a_login() -> None:
    with mailbox(tls=server_tls(), login=True) as box:
        mailer(box.port, tls="starttls", validate=False, user="u", password="p@ss/word").send(letter())
    assert box.users == ["u"]
    assert len(box.mails) == 1


def test_it_goes_under_tls_from_the_first_byte_on() -> None:
    with mailbox(tls=server_tls(), from_the_start=True) as box:
        mailer(box.port, tls="tls", validate=False).send(letter())
    assert len(box.mails) == 1


def test_a_certificate_that_nobody_vouches_for_is_not_trusted() -> None:
    with mailbox(tls=server_tls(), from_the_start=True) as box, pytest.raises(MailUnreachable):
        mailer(box.port, tls="tls").send(letter())
    assert not box.mails


def test_nothing_is_sent_in_clear_where_starttls_was_asked_for() -> None:
    with mailbox() as box, pytest.raises(MailUnreachable):
        mailer(box.port, tls="starttls").send(letter())
    assert not box.mails


def test_a_wrong_password_is_our_trouble_and_not_the_mail_s() -> None:
    with mailbox(tls=server_tls(), login=True) as box, pytest.raises(MailUnreachable):
        mailer(box.port, tls="starttls", validate=False, user="u", password="wrong").send(letter())
    assert box.users == ["u"]
    assert not box.mails


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
def test_a_mail_that_the_server_refuses_is_refused_for_good(command: str) -> None:
    with mailbox() as box:
        box.refuse[command] = "550 No such user: <asha@example.org>"
        with pytest.raises(MailRefused, match=r"^refused with 550$"):
            mailer(box.port).send(letter())


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
def test_a_mail_that_the_server_does_not_take_now_is_delayed_alone(command: str) -> None:
    with mailbox() as box:
        box.refuse[command] = "451 Come back later"
        with pytest.raises(MailDelayed) as delayed:
            mailer(box.port).send(letter())
    assert not isinstance(delayed.value, MailUnreachable)


def test_an_address_that_the_server_cannot_spell_is_refused_alone() -> None:
    with mailbox() as box, pytest.raises(MailRefused):
        mailer(box.port).send(letter(to="a@भारत.com"))


def test_a_server_that_hangs_is_given_up() -> None:
    started = time.monotonic()
    with hanging() as port, pytest.raises(MailUnreachable):
        mailer(port).send(letter())
    assert 1.5 < time.monotonic() - started < 10


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with hanging() as port:
        pass
    with pytest.raises(MailUnreachable):
        mailer(port).send(letter())


@pytest.mark.parametrize("taken", [True, False])
def test_a_server_that_breaks_off_after_the_last_byte_may_or_may_not_have_the_mail(taken: bool) -> None:
    with mailbox() as box:
        box.drops_after_data, box.takes_what_it_drops = True, taken
        with pytest.raises(MailUnreachable):
            mailer(box.port).send(letter())
    assert len(box.mails) == taken


@pytest.mark.parametrize("address", ["", "nobody", "a@b\r\nBcc: c@d", "a b@c.example", "@", "a@", "a@[1.2"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(MailRefused):
        message_of(letter(to=address), sender=SENDER)


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_an_address_or_a_subject_is_no_line_of_the_mail_s_head_is_forged(address: str, subject: str) -> None:
    try:
        raw = message_of(letter(to=address, subject=subject), sender=SENDER).as_bytes()
    except MailRefused:
        return
    head = email.message_from_bytes(raw, policy=default)
    assert sorted(name.lower() for name in head) == [
        "auto-submitted", "content-type", "date", "from", "message-id", "mime-version", "subject", "to",
    ]  # fmt: skip


def test_a_mail_becomes_a_file_where_there_is_no_server(tmp_path: Path) -> None:
    folder = MailFolder(tmp_path / "mail", sender=SENDER)
    folder.send(letter())
    folder.send(letter())
    files = [*(tmp_path / "mail").iterdir()]
    assert [file.name for file in files] == ["document.RV-26-27-000001.eml"]
    mail = email.message_from_bytes(files[0].read_bytes(), policy=default)
    assert mail["subject"] == "Receipt for ₹590.00"


@pytest.mark.parametrize(
    ("given", "server"),
    [
        ({}, None),
        ({"smtp_host": "h"}, Smtp(host="h", port=587, tls="starttls")),
        ({"smtp_host": "h", "smtp_tls": "tls"}, Smtp(host="h", port=465, tls="tls")),
        ({"smtp_host": "h", "smtp_tls": "none"}, Smtp(host="h", port=25, tls="none")),
        (
            {"smtp_host": "h", "smtp_port": 2525, "smtp_user": "u", "smtp_password": "p"},
            Smtp(host="h", port=2525, tls="starttls", user="u", password="p"),
        ),
        ({"smtp_url": "smtps://h"}, Smtp(host="h", port=465, tls="tls")),
        (
            {"smtp_url": "smtp://u%40x:p%2Fq@h:26", "smtp_host": "other"},
            Smtp(host="h", port=26, tls="starttls", user="u@x", password="p/q"),
        ),
        ({"smtp_url": "smtp://h", "smtp_tls": "none"}, Smtp(host="h", port=25, tls="none")),
    ],
)
def test_settings_name_the_server(given: Mapping[str, Any], server: Smtp | None, tmp_path: Path) -> None:
    assert smtp_of(Settings(home=tmp_path, **given)) == server


def test_settings_choose_how_mail_goes(tmp_path: Path) -> None:
    assert make_mailer(Settings(home=tmp_path)) is None
    assert isinstance(make_mailer(Settings(home=tmp_path, mail_folder=tmp_path)), MailFolder)
    assert isinstance(make_mailer(Settings(home=tmp_path, mail_folder=tmp_path, smtp_host="h")), SmtpMailer)


@pytest.mark.parametrize("url", ["http://h", "smtp://", "h:25"])
def test_an_address_of_a_server_that_is_none_is_told_at_the_start(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="smtps://user:password"):
        Settings(home=tmp_path, smtp_url=url)
