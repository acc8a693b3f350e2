"""Invitations that wait to be mailed."""

from typing import Any, LiteralString

from domain.accounts.events import (
    InvitationAccepted,
    InvitationDeclined,
    InvitationMailed,
    InvitationWithdrawn,
    MemberInvited,
    OrgDeleted,
)
from projections.base import Connection, Cursor, Fold, Projection, execute_all, on

TABLES = """
create table invitations (
    invitation text collate "C" primary key,
    org text collate "C" not null,
    email_digest text collate "C" not null,
    expires bigint not null,
    position bigint not null
);
create index invitations_by_org on invitations (org, email_digest);
"""


class Invitations(Fold):
    def __init__(self) -> None:
        self._changes: list[tuple[LiteralString, list[Any]]] = []

    @on(MemberInvited, "org", "invitation", "email_digest", "expires")
    def invited(self, event: MemberInvited, stream: str, position: int) -> None:
        earlier: LiteralString = "delete from invitations where org = %s and email_digest = %s"
        self._changes.append((earlier, [event.org, event.email_digest]))
        row = [event.invitation, event.org, event.email_digest, event.expires, position]
        self._changes.append(("insert into invitations values (%s, %s, %s, %s, %s)", row))

    @on(InvitationMailed, "invitation")
    @on(InvitationAccepted, "invitation")
    @on(InvitationDeclined, "invitation")
    @on(InvitationWithdrawn, "invitation")
    def done(
        self,
        event: InvitationMailed | InvitationAccepted | InvitationDeclined | InvitationWithdrawn,
        stream: str,
        position: int,
    ) -> None:
        self._changes.append(("delete from invitations where invitation = %s", [event.invitation]))

    @on(OrgDeleted, "org")
    def deleted(self, event: OrgDeleted, stream: str, position: int) -> None:
        self._changes.append(("delete from invitations where org = %s", [event.org]))

    def flush(self, cursor: Cursor) -> None:
        execute_all(cursor, self._changes)


PROJECTION = Projection("invitations", 1, TABLES, Invitations)


def to_mail(connection: Connection, *, now: int, limit: int) -> list[tuple[str, str]]:
    """Org and id of the invitations that nobody has been told of, and that have not run out, oldest first."""
    return connection.execute(
        "select org, invitation from view_invitations.invitations where expires > %s order by position limit %s",
        [now, limit],
    ).fetchall()
