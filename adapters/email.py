"""Mail on its way: over SMTP, or into a folder where a developer looks at it."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from adapters.settings import Settings
from domain.kernel.mail import Mail, MailDelayed, Mailer, MailRefused, MailUnreachable

if TYPE_CHECKING:
    from email.message import EmailMessage

Tls = Literal["starttls", "tls", "none"]
PORTS: dict[Tls, int] = {"starttls": 587, "tls": 465, "none": 25}


@dataclass(frozen=True, slots=True, kw_only=True)
class Smtp:
    """A mail server. `tls`: from the first byte on, after STARTTLS (without which nothing is sent), or none at all."""

    host: str
    port: int
    tls: Tls = "starttls"
    user: str | None = None
    password: str | None = None
    validate: bool = True


def make_mailer(settings: Settings) -> Mailer | None:
    """What these settings send mail with; None where nothing is configured."""
    server = smtp_of(settings)
    if server is not None:
        return SmtpMailer(server, sender=settings.mail_from, seconds_max=settings.mail_seconds)
    return None if settings.mail_folder is None else MailFolder(settings.mail_folder, sender=settings.mail_from)


def smtp_of(settings: Settings) -> Smtp | None:
    """The mail server of BR_SMTP_URL (`smtps://user:password@host:465`, or `smtp://…` for STARTTLS), else of
    BR_SMTP_HOST and its like. BR_SMTP_TLS overrides what the URL implies."""
    password = None if settings.smtp_password is None else settings.smtp_password.get_secret_value()
    if settings.smtp_url is None:
        if settings.smtp_host is None:
            return None
        tls: Tls = settings.smtp_tls or "starttls"
        port = settings.smtp_port or PORTS[tls]
        return Smtp(host=settings.smtp_host, port=port, tls=tls, user=settings.smtp_user, password=password)
    url = urlsplit(settings.smtp_url.get_secret_value())
    assert url.hostname, "the settings have checked it"
    tls = settings.smtp_tls or ("tls" if url.scheme == "smtps" else "starttls")
    return Smtp(
        host=url.hostname,
        port=url.port or settings.smtp_port or PORTS[tls],
        tls=tls,
        user=unquote(url.username) if url.username else settings.smtp_user,
        password=unquote(url.password) if url.password else password,
    )


class SmtpMailer:
    """The Mailer port over SMTP: one connection a mail. A conversation that takes longer than `seconds_max` is given
    up."""

    def __init__(self, server: Smtp, *, sender: str, seconds_max: float) -> None:
        self._server = server
        self._sender = sender
        self._seconds_max = seconds_max

    def send(self, mail: Mail) -> None:
        """See `domain.kernel.mail.Mailer`. A server that breaks off after the last byte may have taken the mail, or
        not: that is MailUnreachable too, and sent again."""
        import aiosmtplib

        message = message_of(mail, sender=self._sender)
        try:
            asyncio.run(self._converse(message))
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _by_code(error.recipients[0].code) from error
        except aiosmtplib.SMTPDataError as error:
            raise _by_code(error.code) from error
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise MailUnreachable(f"{self._server.host}: {type(error).__name__} {error}") from error

    async def _converse(self, message: "EmailMessage") -> None:
        import aiosmtplib

        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user,
            password=server.password,
            use_tls=server.tls == "tls",
            start_tls=server.tls == "starttls",
            validate_certs=server.validate,
            timeout=self._seconds_max,
        )
        transport: asyncio.BaseTransport | None = None
        try:
            async with asyncio.timeout(self._seconds_max):
                await client.connect()
                transport = client.transport
                try:
                    await client.send_message(message)
                except aiosmtplib.SMTPNotSupported as error:
                    raise MailRefused("the mail server takes no letters outside ASCII in an address") from error
            with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):  # it has the mail; how we part is no matter
                async with asyncio.timeout(1):
                    await client.quit()
        finally:
            client.close()
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()  # `close` waits for the server's part of TLS, longer than our loop lives


class MailFolder:
    """The Mailer port for those who have no mail server: each mail becomes a file that mail programs open. A repeat
    replaces it."""

    def __init__(self, folder: Path, *, sender: str) -> None:
        self._folder = folder
        self._sender = sender

    def send(self, mail: Mail) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{mail.id}.draft"
        draft.write_bytes(message_of(mail, sender=self._sender).as_bytes())
        draft.rename(self._folder / f"{mail.id}.eml")


def message_of(mail: Mail, *, sender: str) -> "EmailMessage":
    """The mail as it goes over the wire. Raises MailRefused if its address is none."""
    from email.headerregistry import Address
    from email.message import EmailMessage
    from email.utils import format_datetime, parseaddr

    message = EmailMessage()
    try:
        message["To"] = Address(addr_spec=mail.to)
    except Exception as error:  # the parser stumbles in many ways over what is none
        raise MailRefused("not an address that can be mailed to") from error
    message["From"] = sender
    message["Subject"] = " ".join(mail.subject.split())
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{mail.id}@{parseaddr(sender)[1].rpartition('@')[2] or 'localhost'}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    for attachment in mail.attachments:
        kind, _, subkind = attachment.media_type.partition("/")
        message.add_attachment(attachment.content, maintype=kind, subtype=subkind, filename=attachment.name)
    return message


def _by_code(code: int) -> Exception:
    """RFC 5321, section 4.2.1: 5 is for good, 4 for now. Servers like to repeat the address in their words, and reasons
    are kept: so the code has to do."""
    return MailRefused(f"refused with {code}") if code >= 500 else MailDelayed(f"put off with {code}")
