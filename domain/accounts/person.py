"""A person as their facts make them, and the keyed hashes by which identities and addresses are recognised."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from domain.accounts.events import (
    AllSessionsEnded,
    Claimed,
    IdentityLinked,
    PersonErased,
    PersonSignedUp,
    SessionEnded,
    SessionStarted,
    TeamClosed,
    TeamFounded,
    TeamJoined,
)
from domain.kernel.errors import Invalid
from domain.kernel.events import Event

EMAIL_LENGTH_MAX = 254


@dataclass(frozen=True, slots=True)
class Identity:
    """`email_digest` is empty unless the provider says that the address is verified."""

    provider: str
    email_digest: str


@dataclass(frozen=True, slots=True)
class Session:
    """`expires` in microseconds since 1970. What the browser said of itself stays in the log."""

    id: str
    expires: int


@dataclass(frozen=True, slots=True)
class Person:
    """`id` is empty until the person has signed up. `name` and `email` are sealed under `person_stream(id)`. Identities
    are by their claim; sessions that have expired make room when another one starts. `teams` are those that they
    founded and that still are; `joined` is every org but their own that they ever became a member of."""

    id: str = ""
    name: str = ""
    email: str = ""
    home: str = ""
    returning: bool = False
    signed_up: int = 0
    erased: int | None = None
    identities: Mapping[str, Identity] = field(default_factory=dict)
    sessions: Mapping[str, Session] = field(default_factory=dict)
    teams: tuple[str, ...] = ()
    joined: frozenset[str] = frozenset()

    @property
    def exists(self) -> bool:
        return bool(self.id) and self.erased is None

    @property
    def email_digests(self) -> frozenset[str]:
        """The digests of all addresses that are verified as theirs."""
        return frozenset(identity.email_digest for identity in self.identities.values()) - {""}

    def evolve(self, stream: str, event: Event) -> "Person":
        match event:
            case PersonSignedUp():
                return replace(
                    self,
                    id=stream.partition(":")[2],
                    name=event.name,
                    home=event.home,
                    returning=event.returning,
                    signed_up=event.at,
                )
            case IdentityLinked():
                claim = identity_claim(event.provider, event.subject_digest)
                identity = Identity(event.provider, event.email_digest)
                return replace(self, email=event.email, identities={**self.identities, claim: identity})
            case SessionStarted():
                live = {id: session for id, session in self.sessions.items() if session.expires > event.at}
                return replace(self, sessions={**live, event.session: Session(event.session, event.expires)})
            case SessionEnded():
                rest = {id: session for id, session in self.sessions.items() if id != event.session}
                return replace(self, sessions=rest)
            case AllSessionsEnded():
                return replace(self, sessions={})
            case TeamFounded():
                return replace(self, teams=(*self.teams, event.team), joined=self.joined | {event.team})
            case TeamJoined():
                return replace(self, joined=self.joined | {event.team})
            case TeamClosed():
                return replace(self, teams=tuple(team for team in self.teams if team != event.team))
            case PersonErased():
                return Person(id=self.id, home=self.home, signed_up=self.signed_up, erased=event.at)
            case _:
                return self


@dataclass(frozen=True, slots=True)
class Claim:
    """Who has shown that an identity or address is theirs: the last who did, or nobody yet."""

    person: str = ""

    def evolve(self, _: str, event: Event) -> "Claim":
        return Claim(event.person) if isinstance(event, Claimed) else self


def person_stream(person: str) -> str:
    """The stream of a person's facts, and the subject under which what is personal in them is sealed."""
    return f"user:{person}"


def identity_claim(provider: str, subject_digest: str) -> str:
    return f"claim:{provider}/{subject_digest}"


def email_claim(email_digest: str) -> str:
    return f"claim:email/{email_digest}"


def mailbox_claim(mailbox_digest: str) -> str:
    return f"claim:mailbox/{mailbox_digest}"


def subject_digest(pepper: bytes, *, provider: str, subject: str) -> str:
    """The keyed hash in hex of the id by which a provider knows somebody; the id itself is kept nowhere."""
    return hmac.digest(pepper, f"identity:{provider}:{subject}".encode(), "sha256").hex()


def email_digest(pepper: bytes, email: str) -> str:
    """The keyed hash in hex of an e-mail address, upper and lower case being the same for ASCII letters alone: other
    alphabets have letters whose lower case is an ASCII one (U+212A is `k`), and another mailbox."""
    return hmac.digest(pepper, b"email:" + email.strip().encode().lower(), "sha256").hex()


def mailbox_digest(pepper: bytes, email: str) -> str:
    """The keyed hash in hex of the mailbox that an address most likely leads to: without what follows a `+`, and for
    Google's without dots (support.google.com/mail/answer/7436150). A guess, good enough to give credit by only once,
    and for nothing else."""
    name, _, host = email.strip().lower().rpartition("@")
    name = name.partition("+")[0]
    if host in ("gmail.com", "googlemail.com"):
        name, host = name.replace(".", ""), "gmail.com"
    return hmac.digest(pepper, f"mailbox:{name}@{host}".encode(), "sha256").hex()


def clean_email(email: str) -> str:
    """The address without outer blanks. Raises Invalid for what cannot be one; whether it is, only a mail tells."""
    email = email.strip()
    name, at, host = email.rpartition("@")
    printable = email.isprintable() and not any(letter in email for letter in ' ,;<>()[]"\\')
    if len(email) > EMAIL_LENGTH_MAX or not (name and at and host) or "@" in name or not printable:
        raise Invalid("invalid_request", "Give one e-mail address, like asha@example.com.", param="email")
    return email
