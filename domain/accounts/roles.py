"""What the roles of an org are, and which one it takes: an owner may all, an admin all but owners and money, a member
reads and uses keys."""

from domain.accounts.events import Role
from domain.kernel.errors import Forbidden

ROLES: tuple[Role, ...] = ("member", "admin", "owner")
"""Each may what those before it may."""


def reaches(role: Role | None, needed: Role) -> bool:
    """Whether the role, None being none at all, is enough where `needed` is demanded."""
    return role is not None and ROLES.index(role) >= ROLES.index(needed)


def lower(one: Role | None, other: Role | None) -> Role | None:
    """The one that may less."""
    return None if one is None or other is None else min(one, other, key=ROLES.index)


def require_role(role: Role | None, needed: Role) -> Role:
    """The role, if it reaches what is needed. Raises Forbidden `forbidden_role` otherwise."""
    if role is None:
        raise Forbidden("forbidden_role", "You are no member of this org (any more); see GET /me/orgs.")
    if not reaches(role, needed):
        raise Forbidden("forbidden_role", f"This takes the role of {needed}; yours is {role}. Ask an owner of the org.")
    return role
