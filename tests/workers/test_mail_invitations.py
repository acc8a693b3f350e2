"""Every invitation that is still open is mailed, once; what is waiting is known, however the log is read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.settings import Settings
from adapters.wiring import App
from domain.accounts.events import (
    InvitationAccepted,
    InvitationDeclined,
    InvitationMailed,
    InvitationWithdrawn,
    MemberInvited,
    OrgDeleted,
)
from domain.accounts.members import withdraw_invitation
from domain.accounts.org import Org
from domain.accounts.service import create_org
from domain.kernel.clock import DAY
from domain.kernel.events import Event
from domain.kernel.mail import MailDelayed, MailRefused, MailUnreachable
from domain.kernel.store import fold_recorded
from projections import invitations
from tests.fakes import FakeClock, Letterbox
from tests.given import given_invitation, given_person, given_team
from tests.projections.copies import filled, history_in, sums_of
from tests.projections.history import START, Line
from tests.workers.scene import project
from workers.letters import owner_address
from workers.mail_invitations import run

OWNER = "user:usr_asha"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def app(make_app: Callable[..., App], tmp_path: Path) -> App:
    """Asha owns a team called Org_Team."""
    app = make_app(Settings(home=tmp_path, redis_url="", public_url="https://br.example"))
    given_person(app.store, "asha", seal=app.vault.seal)
    given_team(app.store, "usr_asha")
    return app


def invited(app: App, email: str, *, by: str = OWNER) -> str:
    return given_invitation(app.store, "org_team", email, by=by, seal=app.vault.seal)


def send(app: App) -> int:
    project(app)
    return run(app)


def state(app: App) -> Org:
    return fold_recorded(Org(), app.log.org("org_team"))


def test_an_invitation_is_mailed_once_and_says_who_invites_to_what(app: App, box: Letterbox) -> None:
    invitation = invited(app, "ravi@example.com")
    assert send(app) == 1
    assert send(app) == run(app) == 0
    (mail,) = box.mails
    assert (mail.to, mail.subject) == ("ravi@example.com", "Asha invites you to Org_Team")
    for part in (mail.text, mail.html):
        assert "a member" in part
        assert "Org_Team" in part
        assert "https://br.example/sign-in" in part
        assert "ravi@example.com" in part
    assert state(app).invitations[invitation].mailed == app.clock()


def test_what_has_ended_or_run_out_is_not_mailed(app: App, box: Letterbox, clock: FakeClock) -> None:
    withdrawn = invited(app, "one@example.com")
    withdraw_invitation(app.store, org="org_team", invitation=withdrawn, at=app.clock(), by=OWNER)
    replaced, _ = invited(app, "two@example.com"), invited(app, "two@example.com")
    assert send(app) == 1
    assert replaced.replace("_", "-") not in box.mails[0].id
    invited(app, "three@example.com")
    clock.forward(seconds=14 * DAY // 1_000_000)
    assert send(app) == 0


def test_a_server_that_is_away_is_asked_again_and_one_that_refuses_is_not(app: App, box: Letterbox) -> None:
    invitation = invited(app, "ravi@example.com", by="operator")
    for fault in (MailUnreachable("away"), MailDelayed("later")):
        box.fault = fault
        assert send(app) == 0
    box.fault = MailRefused("no such mailbox")
    assert send(app) == 0
    assert state(app).invitations[invitation].mail_problem == "no such mailbox"
    box.fault = None
    assert send(app) == 0
    invited(app, "ravi@example.com", by="operator")
    assert send(app) == 1
    assert box.mails[0].subject == "BharatRouter invites you to Org_Team"


def test_a_fault_in_one_mail_is_no_fault_of_the_job(app: App, box: Letterbox) -> None:
    invitation = invited(app, "ravi@example.com", by="operator")
    box.fault = AttributeError("a fault of ours")
    assert send(app) == 0
    assert state(app).invitations[invitation].mailed is None


def test_an_org_is_written_to_where_it_says_else_at_its_owners(app: App) -> None:
    assert owner_address(app, "org_team") == "asha@example.com"
    assert owner_address(app, "org_none") == ""
    sealed = app.vault.seal("org_op", "dev@acme.example")
    create_org(app.store, org="org_op", workspace="ws_op", name="Op", sealed_email=sealed, at=1, by="operator")
    assert owner_address(app, "org_op") == "dev@acme.example"


# The read model

STEPS = st.lists(st.tuples(st.sampled_from(["invite"] * 3 + ["mailed", "ended", "deleted"]), st.integers(0, 99)))
ENDINGS = (InvitationDeclined, InvitationAccepted, InvitationWithdrawn)


def play(steps: list[tuple[str, int]]) -> tuple[list[Line], set[str]]:
    """The facts, and the invitations that wait in the end."""
    lines: list[Line] = []
    waiting: dict[tuple[str, str], str] = {}
    for number, (kind, pick) in enumerate(steps):
        org, digest = f"org{pick % 2}", f"{pick % 5:02x}"
        event: Event | None = None
        if kind == "invite":
            waiting[org, digest] = f"inv_{number}"
            event = MemberInvited(
                org=org,
                invitation=f"inv_{number}",
                email="",
                email_digest=digest,
                role="member",
                at=START,
                expires=START + 1,
            )
        elif kind == "deleted":
            event = OrgDeleted(org=org)
            waiting = {at: each for at, each in waiting.items() if at[0] != org}
        elif (org, digest) in waiting:
            invitation = waiting.pop((org, digest))
            if kind == "mailed":
                event = InvitationMailed(org=org, invitation=invitation)
            elif pick % 3 == 2:
                event = InvitationWithdrawn(org=org, invitation=invitation)
            else:
                event = ENDINGS[pick % 3](org=org, invitation=invitation, person="p")
        if event is not None:
            lines.append((f"org:{org}", event))
    return lines, {*waiting.values()}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, end=st.integers(0, 60))
def test_what_waits_does_not_depend_on_where_batches_end(
    database_url: str, steps: list[tuple[str, int]], end: int
) -> None:
    lines, waiting = play(steps)
    with history_in(database_url, lines) as (cursor, before, head):
        live = filled(cursor, [invitations.PROJECTION], "__live", stops=[before, min(before + end, head), head])
        again = filled(cursor, [invitations.PROJECTION], "__again", stops=[before, head], indexes=False)
        assert sums_of(cursor, live) == sums_of(cursor, again)
        rows = cursor.execute("select invitation from view_invitations__again.invitations").fetchall()
        assert {invitation for (invitation,) in rows} == waiting
