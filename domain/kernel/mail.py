"""The port through which the product writes to people, and what a mail is."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """`id` is the mail's name for life, of A-Z a-z 0-9 `.` and `-`: one that has to be sent again bears it again, so
    that whoever gets both can tell."""

    id: str
    to: str
    subject: str
    text: str
    html: str
    attachments: tuple[Attachment, ...] = ()


class MailRefused(Exception):
    """This mail is not taken, and never will be; the reason is the message."""


class MailDelayed(Exception):
    """Whether the mail was taken is not known, or it was not taken this time: send it again later."""


class MailUnreachable(MailDelayed):
    """The same, for a reason that has nothing to do with this mail: no other one would get through now."""


class Mailer(Protocol):
    def send(self, mail: Mail) -> None:
        """Returns once somebody else has taken the mail in charge. Raises MailRefused, MailDelayed, MailUnreachable."""
        ...
