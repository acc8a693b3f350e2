"""`bharatrouter`: every way to start, look after and look into the product from a terminal.

Heavy imports wait until a command needs them, so that `--help` answers at once. Commands work beside a running product:
they find its database by DATABASE_URL, else by what it left in BHARATROUTER_HOME.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.settings import Settings
    from adapters.wiring import App

DONE, FAILED, USAGE = 0, 1, 2
DEMO_ORG, DEMO_WORKSPACE, DEMO_KEY_NAME = "org_demo", "ws_demo", "development"
DEMO_INR = 100
EXPORT_BATCH = 5_000
DOCUMENTS_MAX = 10_000
ROWS_MAX = 1_000
TAIL_SECONDS = 0.2
_CHATTY_LIBRARIES = ("httpx", "weasyprint.progress", "fontTools")
"""They log every request and every step of a PDF at INFO."""


class Failure(Exception):
    """What a command says before it exits with 1."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 when done, 1 when it failed and said why, 2 for bad usage."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given) or DONE)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        print(f"bharatrouter: {reason}", file=sys.stderr)
        return FAILED


def _reason(error: Exception) -> str | None:
    """One line for what can go wrong outside of us; None for a fault of ours, which deserves its trace."""
    import psycopg
    from pydantic import ValidationError

    from adapters.wiring import NoDatabase
    from domain.kernel.errors import Refusal

    if isinstance(error, ValidationError):
        found = error.errors()[0]
        return f"setting {'.'.join(map(str, found['loc']))}: {found['msg']}"
    if isinstance(error, psycopg.OperationalError):
        return f"the database cannot be reached: {str(error).splitlines()[0]}"
    if isinstance(error, psycopg.errors.UndefinedTable):
        return "the database is not laid out yet: run `bharatrouter migrate`"
    if isinstance(error, Failure | Refusal | NoDatabase | OSError):
        return str(error)
    return None


# The commands


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bharatrouter", description="BharatRouter, an AI gateway prepaid in rupees.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int | None], help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help)
        made.set_defaults(run=run)
        return made

    command("up", _up, "start everything and keep it running")
    serve = command("serve", _serve, "one gateway process")
    serve.add_argument("--fd", type=int, help="a listening socket that was inherited")
    serve.add_argument("--check", action="store_true", help="check settings, catalog and routes, and exit")
    command("work", _work, "run background jobs")
    command("project", _project, "keep the read models in step with the log")
    command("schedule", _schedule, "ask for background jobs when they are due (one process)")
    migrate = command("migrate", _migrate, "bring the database to the newest layout, and record the catalog")
    migrate.add_argument("--accept-prices", action="store_true", help="also prices that moved tenfold or more")
    simulate = command("simulate", _simulate, "a provider that costs nothing and can be told to misbehave")
    simulate.add_argument("what", nargs="?", choices=("providers", "payments", "identity"), default="providers")
    simulate.add_argument("--host", default="127.0.0.1")
    simulate.add_argument("--port", type=int, default=0, help="any free one unless given")
    simulate.add_argument("--announce", metavar="FILE", help="write the address there once it listens")
    simulate.add_argument("--webhook", default="", metavar="URL", help="payments: where webhooks go")
    simulate.add_argument("--state", metavar="FILE", help="payments: kept over a restart")
    _add_accounts(commands)
    _add_papers(commands)
    catalog = _group(commands, "catalog", "the files of providers and models")
    _leaf(catalog, "check", _catalog_check, "find mistakes in the files; exits with 1 if there are any")
    replay = command("replay", _replay, "build a read model anew from the log, or show it as of a moment")
    replay.add_argument("name", metavar="NAME|all")
    replay.add_argument("--as-of", type=_moment, metavar="TIME", help="2026-11-23, or 2026-11-23T10:00:00Z")
    _json(replay)
    _json(command("verify", _verify, "recompute everything from the log; exits with 1 on any difference"))
    books = command("books", _books, "the double-entry books: every account, and whether they balance")
    when = books.add_mutually_exclusive_group()
    when.add_argument("--as-of", type=_moment, metavar="TIME", help="a day's end, or a moment; now unless given")
    when.add_argument("--month", metavar="YYYY-MM", help="from its opening to its closing balances")
    shape = books.add_mutually_exclusive_group()
    shape.add_argument("--csv", action="store_true", help="for spreadsheets")
    shape.add_argument("--json", action="store_true", help="for programs")
    vault = _group(commands, "vault", "what is kept sealed")
    _json(_leaf(vault, "reseal", _vault_reseal, "seal everything by the first of BR_SEALING_KEYS"))
    _json(command("seal", _seal, "close what the log has into a block of the hash chain"))
    events = _group(commands, "events", "the log itself")
    export = _leaf(events, "export", _events_export, "the whole log as JSON lines, with the seals")
    export.add_argument("file", nargs="?", default="-", help="standard output unless given")
    tail = _leaf(events, "tail", _events_tail, "the newest events as JSON lines")
    tail.add_argument("--follow", action="store_true", help="go on as events come")
    tail.add_argument("--lines", type=int, default=10)
    dev_key = command("dev-key", _dev_key, "a fresh development key of the demo org; the one before it is revoked")
    _json(dev_key)
    return parser


def _add_accounts(commands: Any) -> None:
    org = _leaf(_group(commands, "org", "organisations"), "create", _org_create, "make an org")
    org.add_argument("--name", required=True)
    org.add_argument("--email", required=True)
    org.add_argument("--credit-inr", type=_inr, default=0, metavar="N", help="credit to begin with")
    _json(org)
    key = _leaf(_group(commands, "key", "API keys"), "create", _key_create, "mint a key; it is printed this once")
    key.add_argument("--org", required=True)
    key.add_argument("--name", required=True)
    key.add_argument("--scope", choices=["full", "inference"], default="full")
    key.add_argument("--budget-inr", type=_inr, metavar="N", help="rupees a month, India time")
    key.add_argument("--rpm", type=int, metavar="N", help="requests a minute")
    key.add_argument("--daily", type=int, metavar="N", help="requests a day, India time")
    _json(key)
    erase = _leaf(_group(commands, "person", "persons"), "erase", _person_erase, "end a person for good; books stay")
    erase.add_argument("id", metavar="ID")
    _json(erase)
    credit = _leaf(_group(commands, "credit", "prepaid credit"), "grant", _credit_grant, "give an org credit")
    credit.add_argument("--org", required=True)
    credit.add_argument("--inr", type=_inr, required=True, metavar="N")
    credit.add_argument("--reason", required=True)
    credit.add_argument("--id", help="a repeat with the same id gives nothing more")
    _json(credit)
    _add_payments(commands)
    refund = _leaf(commands, "refund", _refund, "send unspent credit back to where it was paid from")
    refund.add_argument("--payment", required=True, metavar="ID")
    refund.add_argument("--inr", type=_inr, metavar="N", help="of credit; all that is unspent unless given")
    refund.add_argument("--reason", default="")
    _json(refund)
    statement = _leaf(commands, "statement", _statement, "an org's month, from its opening to its closing balance")
    statement.add_argument("--org", required=True)
    statement.add_argument("--month", metavar="YYYY-MM", help="of India's calendar; this month unless given")
    form = statement.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="a table, which is also what comes unless asked otherwise")
    form.add_argument("--pdf", metavar="FILE", help="a PDF, written there")
    form.add_argument("--json", action="store_true", help="for programs")


def _add_payments(commands: Any) -> None:
    payment = _group(commands, "payment", "payments for top-ups")
    reconcile = _leaf(payment, "reconcile", _payment_reconcile, "ask Razorpay about open orders, and credit what came")
    reconcile.add_argument("--order", metavar="ID", help="only this one, however old it is")
    _json(reconcile)
    back = _leaf(payment, "return", _payment_return, "send money back that was set aside")
    back.add_argument("payment", metavar="ID", help="as `payment reconcile` lists it")
    _json(back)
    promo = _group(commands, "promo", "promo codes")
    create = _leaf(promo, "create", _promo_create, "offer a code; its terms never change")
    create.add_argument("code", type=str.upper, help="3 to 20 letters and digits")
    gives = create.add_mutually_exclusive_group(required=True)
    gives.add_argument("--fixed-inr", type=_inr, metavar="N", help="so many rupees of credit")
    gives.add_argument("--percent", type=int, metavar="N", help="so much of what is topped up; needs --cap-inr")
    create.add_argument("--cap-inr", type=_inr, metavar="N", help="at most so many rupees")
    create.add_argument("--min-inr", type=_inr, metavar="N", help="only with at least so many rupees of bought credit")
    create.add_argument("--starts", type=_moment, metavar="TIME", help="a moment, such as 2026-11-23T10:00:00Z")
    create.add_argument("--ends", type=_moment, metavar="TIME", help="a moment, or the end of a day, India time")
    create.add_argument("--uses", type=int, metavar="N", help="how often it can be used in all; once by each org")
    create.add_argument("--credit-days", type=int, metavar="N", help="how long its credit lives")
    _json(create)
    _json(_leaf(promo, "list", _promo_list, "all codes and how often each was used"))
    disable = _leaf(promo, "disable", _promo_disable, "end a code for good")
    disable.add_argument("code", type=str.upper)
    _json(disable)


def _add_papers(commands: Any) -> None:
    document = _group(commands, "document", "receipts, invoices and their like")
    render = _leaf(document, "render", _document_render, "make the PDFs that are still to be made, here and now")
    which = render.add_mutually_exclusive_group()
    which.add_argument("--number", help="only this one")
    which.add_argument("--all", action="store_true", help="every one that lacks its PDF, which is the default")
    _json(render)
    cancel = _leaf(document, "cancel", _document_cancel, "cancel one that was issued by mistake; its number stays used")
    cancel.add_argument("number")
    cancel.add_argument("--reason", required=True)
    _json(cancel)
    dispute = _group(commands, "dispute", "requests whose cost an org disputes")
    listed = _leaf(dispute, "list", _dispute_list, "those that wait for a decision, oldest first")
    listed.add_argument("--all", action="store_true", help="decided ones too")
    _json(listed)
    decide = _leaf(dispute, "decide", _dispute_decide, "decide one; a decision is for good")
    decide.add_argument("request")
    decide.add_argument("outcome", choices=["give-back", "stands"])
    decide.add_argument("--why", required=True, help="a sentence for the org")
    _json(decide)


def _group(commands: Any, name: str, help: str) -> Any:
    return commands.add_parser(name, help=help, description=help).add_subparsers(required=True, metavar="COMMAND")


def _leaf(group: Any, name: str, run: Callable[[argparse.Namespace], int | None], help: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = group.add_parser(name, help=help, description=help)
    made.set_defaults(run=run)
    return made


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def _inr(text: str) -> int:
    from domain.kernel.money import parse_inr

    try:
        return parse_inr(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _moment(text: str) -> int:
    from domain.kernel.clock import parse_moment

    try:
        return parse_moment(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"neither a day nor a moment: {text}") from None


# Processes


def _settings() -> "Settings":
    from adapters.settings import Settings

    return Settings()


@contextlib.contextmanager
def _app() -> "Iterator[App]":
    from adapters.wiring import build

    app = build(_settings())
    try:
        yield app
    finally:
        app.close()


def _up(_: argparse.Namespace) -> int:
    from adapters.supervisor import up

    return up(_settings())


def _serve(given: argparse.Namespace) -> int | None:
    _log_to_stderr()
    if given.check:
        return _check()
    from api.server import serve

    serve(_settings(), fd=given.fd)
    return DONE


def _check() -> int:
    from api.app import build

    with _app() as app:
        build(app)
        problems = _catalog_problems(app.settings)
    for problem in problems:
        print(problem["line"], file=sys.stderr)
    print("Settings and routes are in order." if not problems else f"{len(problems)} problems in the catalog.")
    return FAILED if problems else DONE


def _work(_: argparse.Namespace) -> None:
    from adapters.child import told_to_stop
    from workers.main import main as work

    _log_to_stderr()
    work(_settings(), told_to_stop())


def _schedule(_: argparse.Namespace) -> None:
    from adapters.child import told_to_stop
    from workers.schedule import main as schedule

    _log_to_stderr()
    schedule(_settings(), told_to_stop())


def _project(_: argparse.Namespace) -> None:
    from adapters.child import told_to_stop
    from projections.runner import Runner

    _log_to_stderr()
    stop = told_to_stop()
    with _app() as app:
        Runner(app.database_url).run(stop)


def _migrate(given: argparse.Namespace) -> None:
    from adapters.postgres import migrate
    from domain.catalog.service import record_catalog
    from projections.runner import Runner

    with _app() as app:
        try:
            done = migrate(app.database_url)
        except RuntimeError as error:
            raise Failure(str(error)) from error
        Runner(app.database_url).prepare()
        record_catalog(app.store, app.catalog, leaps_accepted=given.accept_prices, at=app.clock(), by="operator")
    print("\n".join(done) if done else "The database has the newest layout already.")


def _simulate(given: argparse.Namespace) -> None:
    if given.what == "payments":
        from adapters.simulators.razorpay.server import main as simulate_payments
        from adapters.simulators.razorpay.server import options

        simulate_payments(
            options(_settings(), webhook_url=given.webhook, state=given.state),
            host=given.host,
            port=given.port,
            announce=given.announce,
        )
    elif given.what == "identity":
        from adapters.simulators.identity.server import main as simulate_identity
        from adapters.simulators.identity.server import options as clients

        simulate_identity(clients(_settings()), host=given.host, port=given.port, announce=given.announce)
    else:
        from adapters.simulators.provider import main as simulate

        simulate(host=given.host, port=given.port, announce=given.announce)


def _log_to_stderr() -> None:
    import logging

    level = _settings().log_level.upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for library in _CHATTY_LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)


# Accounts


def _org_create(given: argparse.Namespace) -> None:
    from domain.accounts.service import create_org
    from domain.kernel.money import format_inr, show_inr
    from domain.ledger.credit import grant_credit

    with _app() as app:
        org, workspace = app.new_id("org"), app.new_id("ws")
        create_org(
            app.store,
            org=org,
            workspace=workspace,
            name=given.name,
            sealed_email=app.vault.seal(org, given.email),
            at=app.clock(),
            by="operator",
        )
        if given.credit_inr:
            grant_credit(
                app.store,
                org=org,
                grant=app.new_id("grant"),
                amount=given.credit_inr,
                reason="opening credit",
                at=app.clock(),
                by="operator",
            )
        made = {
            "org": org,
            "id": org,
            "name": given.name,
            "workspace_id": workspace,
            "balance_inr": format_inr(given.credit_inr),
        }
    _tell(given, made, f"{org}  {given.name}  {show_inr(given.credit_inr)}")


def _key_create(given: argparse.Namespace) -> None:
    from domain.keys.key import PREFIX_LENGTH, SECRET_BYTES, make_secret
    from domain.keys.service import KeyTerms, mint_key

    with _app() as app:
        key, secret = app.new_id("key"), make_secret(app.entropy(SECRET_BYTES))
        mint_key(
            app.store,
            org=given.org,
            key=key,
            secret=secret,
            pepper=app.pepper,
            terms=KeyTerms(
                name=given.name,
                scope=given.scope,
                monthly_budget=given.budget_inr,
                rpm_limit=given.rpm,
                daily_limit=given.daily,
            ),
            active_max=app.settings.keys_max,
            at=app.clock(),
            by="operator",
        )
    made = {
        "id": key,
        "key": secret,
        "prefix": secret[:PREFIX_LENGTH],
        "org": given.org,
        "name": given.name,
        "scope": given.scope,
        "tier": "standard",
    }
    _tell(given, made, f"{secret}\n\nThis is {key}, shown this once; only a hash of it is kept.")


def _person_erase(given: argparse.Namespace) -> None:
    with _app() as app:
        app.erase_person(given.id, by="operator")
    _tell(given, {"id": given.id, "erased": True}, f"{given.id} is erased")


def _credit_grant(given: argparse.Namespace) -> None:
    from domain.kernel.money import format_inr, show_inr
    from domain.ledger.credit import grant_credit

    with _app() as app:
        grant = given.id or app.new_id("grant")
        position = grant_credit(
            app.store,
            org=given.org,
            grant=grant,
            amount=given.inr,
            reason=given.reason,
            at=app.clock(),
            by="operator",
        )
        available = app.available(given.org)
    made = {
        "org": given.org,
        "grant": grant,
        "granted": position is not None,
        "amount_inr": format_inr(given.inr),
        "available_inr": format_inr(available),
    }
    what = f"{show_inr(given.inr)} granted" if position is not None else f"{grant} was granted before"
    _tell(given, made, f"{what}; {show_inr(available)} available")


def _statement(given: argparse.Namespace) -> None:
    from pathlib import Path

    from api.schemas.statement import statement_csv, statement_json
    from domain.kernel.clock import ist_month
    from domain.ledger.statement import read_month
    from projections.balances import statement_of

    with _app() as app:
        now = app.clock()
        month = ist_month(now) if given.month is None else read_month(given.month)
        with app.reading() as connection:
            statement = statement_of(connection, given.org, month=month, now=now)
        if given.pdf:
            Path(given.pdf).write_bytes(app.statement_pdf(statement))
            print(given.pdf)
        elif given.json:
            print(_line(statement_json(statement)))
        else:
            sys.stdout.write(statement_csv(statement))


def _refund(given: argparse.Namespace) -> None:
    from api.schemas.refunds import refund_row
    from domain.kernel.errors import Unavailable
    from domain.kernel.money import NANOS_PER_PAISA, show_inr

    with _app() as app:
        desk = app.refunds
        ordered = desk.find(app.payment_gateway.payment(given.payment).order).ordered
        if ordered is None:
            raise Failure(f"{given.payment} is no payment for an order of ours")
        refund = desk.request(
            org=ordered.org,
            refund=app.new_id("refund"),
            payment=given.payment,
            credit=given.inr,
            reason=given.reason,
            at=app.clock(),
            by="operator",
        )
        with contextlib.suppress(Unavailable):  # it is on record, and a job goes on with it
            desk.pursue(refund.order, at=app.clock(), by="operator")
            refund = desk.find(refund.order).refunds[refund.id]
        made = refund_row(refund, app.vault)
    money = show_inr(refund.tax.total * NANOS_PER_PAISA)
    _tell(given, made, f"{refund.id}  {money} for {show_inr(refund.credit)} of credit, {made['status']}")


def _dev_key(given: argparse.Namespace) -> None:
    from domain.accounts.service import create_org
    from domain.kernel.money import format_inr, rupees, show_inr
    from domain.keys.key import SECRET_BYTES, make_secret
    from domain.keys.service import KeyTerms, mint_key
    from domain.ledger.credit import SIGN_UP_GRANT, grant_credit

    with _app() as app:
        at, key, secret = app.clock(), app.new_id("key"), make_secret(app.entropy(SECRET_BYTES))
        who: dict[str, Any] = {"org": DEMO_ORG, "at": at, "by": "operator"}
        create_org(app.store, workspace=DEMO_WORKSPACE, name="Demo", sealed_email="", **who)
        grant_credit(app.store, grant=SIGN_UP_GRANT, amount=rupees(DEMO_INR), reason="Sign-up credit", **who)
        mint_key(
            app.store,
            key=key,
            secret=secret,
            pepper=app.pepper,
            terms=KeyTerms(name=DEMO_KEY_NAME),
            active_max=app.settings.keys_max,
            replacing=DEMO_KEY_NAME,
            **who,
        )
        available = app.available(DEMO_ORG)
    made = {"org": DEMO_ORG, "id": key, "key": secret, "balance_inr": format_inr(available)}
    _tell(given, made, f"{secret}\n\n{show_inr(available)} to spend; the development key before it is revoked.")


# Payments and promo codes


def _payment_reconcile(given: argparse.Namespace) -> None:
    from api.schemas.payments import set_aside_row
    from projections.payments import open_orders, payments_set_aside
    from workers.reconcile_payments import LAST_ASKED, ask

    with _app() as app:
        now = app.clock()
        with app.reading() as connection:
            found = open_orders(connection, created_after=now - LAST_ASKED, created_before=now)
        orders = [order for order, _ in found] if given.order is None else [given.order]
        asked = []
        for order in orders:
            known = ask(app, order, learned="operator", by="operator").order
            asked.append({"order_id": order, "status": known.status, "payment_id": known.captured or None})
        with app.reading() as connection:
            aside = [set_aside_row(row) for row in payments_set_aside(connection, limit=ROWS_MAX)]
    lines = [f"{each['order_id']}  {each['status']}  {each['payment_id'] or ''}".rstrip() for each in asked]
    lines += [
        f"{row['payment_id']}  set aside: {row['reason']}, {row['amount_inr']} {row['currency']}, "
        + ("on its way back" if row["gateway_refund_id"] else f"to be sent back by: payment return {row['payment_id']}")
        for row in aside
    ]
    _tell(given, {"orders": asked, "set_aside": aside}, "\n".join(lines) if lines else "No order is open.")


def _payment_return(given: argparse.Namespace) -> None:
    from api.schemas.payments import returned_row

    with _app() as app:
        made = returned_row(app.returns.send(given.payment, at=app.clock(), by="operator"))
    words = {"returned": "has gone back", "pending": "is on its way back", "set_aside": "did not go back: try again"}
    _tell(given, made, f"{made['payment_id']}  {words[made['status']]}")


def _promo_create(given: argparse.Namespace) -> None:
    from domain.payments.events import PromoCreated
    from domain.payments.promo import create_promo

    promo = PromoCreated(
        code=given.code,
        fixed=given.fixed_inr,
        percent=given.percent,
        cap=given.cap_inr,
        starts=given.starts,
        ends=given.ends,
        uses_max=given.uses,
        credit_days=given.credit_days,
        bought_min=given.min_inr,
    )
    with _app() as app:
        position = create_promo(app.store, promo, at=app.clock(), by="operator")
    created = position is not None
    words = f"{given.code} can be used." if created else f"{given.code} was created before, with these terms."
    _tell(given, {"code": given.code, "created": created}, words)


def _promo_list(given: argparse.Namespace) -> None:
    from api.schemas.payments import promo_row
    from projections.payments import promos

    with _app() as app, app.reading() as connection:
        rows = [promo_row(row) for row in promos(connection)]
    lines = [
        f"{row['code']}  {'disabled' if row['disabled_at'] else 'open'}  used {row['uses']} times"
        f"{'' if row['uses_max'] is None else ' of ' + str(row['uses_max'])}, ₹{row['credit_inr']} given"
        for row in rows
    ]
    _tell(given, {"promos": rows}, "\n".join(lines) if lines else "There is no promo code.")


def _promo_disable(given: argparse.Namespace) -> None:
    from domain.payments.promo import disable_promo

    with _app() as app:
        position = disable_promo(app.store, code=given.code, at=app.clock(), by="operator")
    made = {"code": given.code, "disabled": True}
    _tell(given, made, f"{given.code} {'was disabled before' if position is None else 'is disabled'}.")


# Documents and disputes


def _document_render(given: argparse.Namespace) -> int:
    from projections.documents import document, without_pdf
    from workers.render_documents import render

    with _app() as app:
        with app.reading() as connection:
            if given.number is None:
                rows = without_pdf(connection, limit=DOCUMENTS_MAX)
            elif (one := document(connection, given.number)) is None:
                raise Failure(f"no document has the number {given.number}")
            else:
                rows = [one]
        made = []
        for row in rows:
            new = row["sha256"] is None and render(app, row)
            kept = app.documents.kept(row["number"])
            found = {"sha256": kept.sha256, "size": len(kept.pdf)} if kept else {"sha256": None, "size": None}
            made.append({"number": row["number"], "made": new, **found})
    lines = [f"{each['number']}  {each['sha256'] or 'not made: another worker is at it'}" for each in made]
    _tell(given, {"documents": made}, "\n".join(lines) if lines else "Every document has its PDF.")
    return DONE if all(each["sha256"] for each in made) else FAILED


def _document_cancel(given: argparse.Namespace) -> None:
    from domain.payments.papers import cancel_document
    from projections.documents import document, issued

    with _app() as app:
        with app.reading() as connection:
            row = document(connection, given.number)
            facts = None if row is None else app.documents.open(issued(connection, row["position"]))
        if row is None or facts is None:
            raise Failure(f"no document has the number {given.number}")
        position = cancel_document(
            app.store,
            org=row["org"],
            order=facts.order_id,
            number=given.number,
            reason=given.reason,
            at=app.clock(),
            by="operator",
        )
    made = {"number": given.number, "cancelled": True, "before": position is None}
    _tell(given, made, f"{given.number} {'was cancelled before' if position is None else 'is cancelled'}.")


def _dispute_list(given: argparse.Namespace) -> None:
    from domain.kernel.clock import to_iso
    from domain.kernel.money import format_inr, show_inr
    from projections.disputes import disputes

    with _app() as app:
        with app.reading() as connection:
            rows = disputes(connection, decided_too=given.all)
        listed = [
            {
                "request": row["request"],
                "org": row["org"],
                "cost_inr": format_inr(row["cost"]),
                "disputed_at": to_iso(row["disputed_at"]),
                "reason": app.vault.open(row["org"], row["reason"]) or "",
                "outcome": row["outcome"],
                "why": row["why"],
            }
            for row in rows
        ]
        lines = [
            f"{row['request']}  {row['org']}  {show_inr(row['cost'])}  {row['outcome'] or 'waits'}\n    {one['reason']}"
            for row, one in zip(rows, listed, strict=True)
        ]
    _tell(given, {"disputes": listed}, "\n".join(lines) if lines else "No dispute waits for a decision.")


def _dispute_decide(given: argparse.Namespace) -> None:
    from domain.kernel.money import format_inr, show_inr
    from domain.ledger.dispute import decide_dispute

    with _app() as app:
        dispute = decide_dispute(
            app.store,
            request=given.request,
            give_back=given.outcome == "give-back",
            why=given.why,
            at=app.clock(),
            by="operator",
        )
    decided = dispute.decided
    assert decided is not None, "it was decided just now, or before"
    made = {
        "request": given.request,
        "org": decided.org,
        "outcome": decided.outcome,
        "amount_inr": format_inr(decided.amount),
        "why": decided.why,
    }
    _tell(given, made, f"{given.request}: {decided.outcome.replace('_', ' ')}, {show_inr(decided.amount)} given back")


# Catalog, read models, log


def _catalog_check(_: argparse.Namespace) -> int:
    problems = _catalog_problems(_settings())
    for problem in problems:
        print(problem["line"])
    if not problems:
        print("The catalog is in order.")
    return FAILED if problems else DONE


def _catalog_problems(settings: "Settings") -> list[dict[str, str]]:
    from adapters.wiring import catalog_problems

    return [
        {"line": ": ".join(filter(None, [problem.file, problem.field, problem.message]))}
        for problem in catalog_problems(settings)
    ]


def _replay(given: argparse.Namespace) -> None:
    from projections.runner import Runner

    with _app() as app:
        runner = Runner(app.database_url)
        names = [*runner.projections] if given.name == "all" else [given.name]
        if unknown := set(names) - set(runner.projections):
            raise Failure(f"there is no read model {unknown.pop()}; there are {', '.join(runner.projections)}")
        started = time.monotonic()
        if given.as_of is None:
            with _progress("replay") as progress:
                runner.rebuild(names, progress=progress)
            seconds = round(time.monotonic() - started, 1)
            made = {"rebuilt": names, "seconds": seconds}
            _tell(given, made, f"{', '.join(names)} rebuilt from the log in {seconds} s")
            return
        for name in names:
            with _progress(f"replay {name}") as progress:
                tables = runner.replay(name, as_of=given.as_of, progress=progress)
            for table, rows in tables.items():
                for row in rows:
                    print(_line({"table": table, **row}))


def _verify(given: argparse.Namespace) -> int:
    from msgspec import to_builtins

    from projections.verify import verify

    with _app() as app, _progress("verify") as progress:
        report = verify(app.database_url, progress=progress)
    if given.json:
        print(_line({"ok": report.ok, **to_builtins(report)}))
        return DONE if report.ok else FAILED
    for finding in report.findings:
        place = f" (position {finding.position}, {finding.stream})" if finding.position else ""
        print(f"{finding.check}: {finding.message}{place}")
    if report.more:
        print(f"… and {report.more} more")
    print(
        f"{report.events} events, {report.blocks} sealed blocks, {report.unsealed} events not yet sealed,"
        f" {report.guard_rows} guard rows, {len(report.projections)} read models: "
        + ("all as the log says." if report.ok else "NOT as the log says.")
    )
    return DONE if report.ok else FAILED


def _books(given: argparse.Namespace) -> int:
    from api.schemas.books import books_csv, books_json, books_table, is_balanced
    from domain.ledger.statement import read_month
    from projections.books import credit_by_origin, end_of_month, month_of_books, trial_balance

    with _app() as app, app.reading() as connection:
        if given.month is None:
            at = given.as_of
            balances = trial_balance(connection, at=at)
        else:
            month = read_month(given.month)
            at = end_of_month(month)
            balances = month_of_books(connection, month)
        origins = credit_by_origin(connection, at=at)
    if given.json:
        print(_line(books_json(balances, origins)))
    else:
        print(books_csv(balances) if given.csv else books_table(balances, origins), end="" if given.csv else "\n")
    return DONE if is_balanced(balances) else FAILED


def _seal(given: argparse.Namespace) -> None:
    from msgspec import to_builtins

    with _app() as app, _progress("seal") as progress:
        sealed = app.sealer.seal(all_of_it=True, progress=progress)
    newest = sealed[-1].header if sealed else None
    made = {"blocks": [to_builtins(seal) for seal in sealed], "header": newest}
    _tell(given, made, f"{len(sealed)} blocks sealed; the newest header is {newest}" if sealed else "Nothing to seal.")


def _vault_reseal(given: argparse.Namespace) -> None:
    with _app() as app:
        try:
            resealed, of = app.vault.reseal()
        except ValueError as error:
            raise Failure(f"{error}; name the sealing keys before it in BR_SEALING_KEYS too") from None
    words = f"{resealed} of {of} sealed anew; all now open by the first sealing key alone."
    _tell(given, {"resealed": resealed, "keys": of}, words)


def _events_export(given: argparse.Namespace) -> None:
    with _app() as app, contextlib.ExitStack() as files:
        target = sys.stdout if given.file == "-" else files.enter_context(open(given.file, "w", encoding="utf-8"))
        head = app.log.head()
        with _progress("export") as progress:
            position = 0
            while position < head:
                position = _write_events(app, target, after=position, limit=EXPORT_BATCH, until=head)
                progress(position, head)


def _events_tail(given: argparse.Namespace) -> None:
    with _app() as app:
        position = app.log.before_last(given.lines)
        while True:
            position = _write_events(app, sys.stdout, after=position, limit=EXPORT_BATCH)
            sys.stdout.flush()
            if not given.follow:
                return
            time.sleep(TAIL_SECONDS)


def _write_events(app: "App", target: IO[str], *, after: int, limit: int, until: int | None = None) -> int:
    """The position reached: that of the last event written, or `until` when there is nothing more before it."""
    from domain.kernel.clock import to_iso
    from domain.sealing.block import canonical, leaf_of

    rows = app.log.after(after, limit=limit)
    for position, stream, version, name, state in rows:
        if until is not None and position > until:
            return until
        data = json.loads(state)
        leaf = leaf_of(canonical(position=position, stream=stream, version=version, name=name, state=bytes(state)))
        envelope = {
            "position": position,
            "stream": stream,
            "version": version,
            "name": name,
            "at": to_iso(data.pop("at", 0)),
            "by": data.pop("by", ""),
            "cause": data.pop("cause", ""),
            "data": data,
            "leaf": leaf.hex(),
        }
        target.write(_line(envelope) + "\n")
    if until is not None and len(rows) < limit:
        return until
    return int(rows[-1][0]) if rows else after


# Speaking to people and programs


def _tell(given: argparse.Namespace, made: dict[str, Any], words: str) -> None:
    print(_line(made) if given.json else words)


def _line(made: Any) -> str:
    return json.dumps(made, ensure_ascii=False, default=str)


@contextlib.contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Told what is done and how much there is, it shows a bar on a terminal and nothing elsewhere."""
    from tqdm import tqdm

    with tqdm(desc=label, total=0, unit=" events", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


if __name__ == "__main__":
    sys.exit(main())
