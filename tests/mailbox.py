"""A mail server for tests: real SMTP on a port of its own, which keeps what it gets and misbehaves when told to."""

import asyncio
import email
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.beside import beside


class Mailbox:
    """`mails` are those that were taken in charge. `refuse` maps a command (`RCPT`, `DATA`) to the reply it gets."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.users: list[str] = []
        self.refuse: dict[str, str] = {}
        self.drops_after_data = False
        self.takes_what_it_drops = False
        self.port = 0

    @property
    def subjects(self) -> list[str]:
        return [str(mail["subject"]) for mail in self.mails]

    # What aiosmtpd asks

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if "RCPT" not in self.refuse:
            envelope.rcpt_tos.append(address)
        return self.refuse.get("RCPT", "250 OK")

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if "DATA" in self.refuse:
            return self.refuse["DATA"]
        if not self.drops_after_data or self.takes_what_it_drops:
            assert isinstance(envelope.content, bytes)
            self.recipients += envelope.rcpt_tos
            content = envelope.content.replace(b"\r\n", b"\n")
            self.mails.append(email.message_from_bytes(content, policy=default))
        if self.drops_after_data:
            assert server.transport is not None
            server.transport.abort()
        return "250 OK"

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        self.users.append(data.login.decode())
        return AuthResult(success=data.password == b"p@ss/word")


@contextmanager
def mailbox(
    *, tls: ssl.SSLContext | None = None, from_the_start: bool = False, login: bool = False
) -> Iterator[Mailbox]:
    """A mail server on the loopback until the block ends; with `tls` it offers STARTTLS, or speaks TLS at once. A
    `login` takes STARTTLS."""
    with beside(_running(tls=tls, from_the_start=from_the_start, login=login)) as box:
        yield box


@asynccontextmanager
async def _running(*, tls: ssl.SSLContext | None, from_the_start: bool, login: bool) -> AsyncIterator[Mailbox]:
    box, conversations = Mailbox(), list[SMTP]()
    loop = asyncio.get_running_loop()

    def protocol() -> SMTP:
        conversation = SMTP(
            box,
            hostname="mail.test",
            loop=loop,
            tls_context=None if from_the_start else tls,
            auth_required=login,
            authenticator=box.authenticate,
        )
        conversations.append(conversation)
        return conversation

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls if from_the_start else None)
    box.port = server.sockets[0].getsockname()[1]
    async with server:
        yield box
    for conversation in conversations:
        if conversation.transport is not None:
            conversation.transport.abort()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0.05)  # transports close in callbacks of their own


@contextmanager
def hanging() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
