"""Who belongs to an org, and who is invited to: parts of the state of an org."""

from dataclasses import dataclass

from domain.accounts.events import Role


@dataclass(frozen=True, slots=True)
class Member:
    """`since` in microseconds since 1970."""

    person: str
    role: Role
    since: int


@dataclass(frozen=True, slots=True)
class Invitation:
    """`email` is sealed under the org; moments in microseconds since 1970; `by` is who invited. `mailed` is None until
    the letter is sent, or `mail_problem` says why it never will be."""

    id: str
    email: str
    email_digest: str
    role: Role
    invited: int
    expires: int
    by: str
    mailed: int | None = None
    mail_problem: str = ""
