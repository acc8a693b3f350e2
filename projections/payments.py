"""Orders to top up, the attempts at paying each, money that was set aside, and promo codes with their uses."""

from typing import Any

from psycopg.rows import dict_row

from domain.payments.events import (
    PaymentAuthorized,
    PaymentCaptured,
    PaymentFailed,
    PaymentReturned,
    PaymentSetAside,
    PromoCreated,
    PromoDisabled,
    PromoMissed,
    PromoRedeemed,
    ReturnAccepted,
    ReturnFailed,
    TopUpOrdered,
)
from projections.base import Connection, Cursor, Fold, Projection, clean, execute_all, on

TABLES = """
create table orders (
    id text collate "C" primary key,
    org text collate "C" not null,
    created_at bigint not null,
    credit bigint not null,
    total_paise bigint not null,
    progress smallint not null default 0,
    payment text collate "C",
    promo text collate "C" not null,
    promo_credit bigint not null default 0,
    promo_missed text not null default ''
) with (fillfactor = 50);
create index orders_by_org on orders (org, created_at, id);
create index orders_open on orders (created_at) where progress < 3;
create index orders_by_payment on orders (payment) where payment is not null;
create table payments (
    id text collate "C" primary key,
    order_id text collate "C" not null,
    org text collate "C" not null,
    status text collate "C" not null,
    amount_paise bigint,
    currency text not null default 'INR',
    method text not null default '',
    learned text not null default '',
    reason text not null default '',
    paid_at bigint,
    returned_paise bigint not null default 0,
    under_way text not null default '',
    changed_at bigint not null
) with (fillfactor = 50);
create index payments_by_order on payments (order_id);
create index payments_set_aside on payments (changed_at) where status = 'set_aside';
create table promos (
    code text collate "C" primary key,
    fixed bigint,
    percent bigint,
    cap bigint,
    starts_at bigint,
    ends_at bigint,
    uses_max bigint,
    credit_days bigint,
    bought_min bigint,
    created_at bigint not null,
    disabled_at bigint,
    uses bigint not null default 0,
    credit bigint not null default 0
) with (fillfactor = 50);
"""

PROGRESS = ("created", "failed", "authorized", "captured")
"""How far an order has come by any of its attempts; the place here is `orders.progress`."""


class Payments(Fold):
    def __init__(self) -> None:
        self._changes: list[tuple[str, list[Any]]] = []

    @on(TopUpOrdered, "org", "order", "credit", "tax", "promo")
    def ordered(self, event: TopUpOrdered, stream: str, position: int) -> None:
        self._do(
            "insert into orders (id, org, created_at, credit, total_paise, promo) values (%s, %s, %s, %s, %s, %s)",
            *(event.order, event.org, event.at, event.credit, event.tax.total, event.promo),
        )

    @on(PaymentFailed, "org", "payment", "method", "reason")
    def failed(self, event: PaymentFailed, stream: str, position: int) -> None:
        self._attempt(stream, event, "failed", reason=clean(event.reason))

    @on(PaymentAuthorized, "org", "payment", "method")
    def authorized(self, event: PaymentAuthorized, stream: str, position: int) -> None:
        self._attempt(stream, event, "authorized", reason="")

    @on(PaymentCaptured, "org", "payment", "method", "amount_paise", "learned", "paid")
    def captured(self, event: PaymentCaptured, stream: str, position: int) -> None:
        self._attempt(
            stream,
            event,
            "captured",
            amount_paise=event.amount_paise,
            learned=event.learned,
            paid_at=event.paid,
            reason="",
        )
        self._do("update orders set payment = %s where id = %s", event.payment, _order(stream))

    @on(PaymentSetAside, "org", "payment", "amount_paise", "currency", "reason")
    def set_aside(self, event: PaymentSetAside, stream: str, position: int) -> None:
        self._put(
            id=event.payment,
            order_id=_order(stream),
            org=event.org,
            status="set_aside",
            changed_at=event.at,
            amount_paise=event.amount_paise,
            currency=clean(event.currency),
            reason=event.reason,
        )

    @on(ReturnAccepted, "payment", "gateway_refund")
    def return_accepted(self, event: ReturnAccepted, stream: str, position: int) -> None:
        self._do(
            "update payments set under_way = %s, changed_at = %s where id = %s",
            *(event.gateway_refund, event.at, event.payment),
        )

    @on(PaymentReturned, "payment", "gateway_refund", "amount_paise")
    def returned(self, event: PaymentReturned, stream: str, position: int) -> None:
        self._do(
            "update payments set returned_paise = returned_paise + %s, under_way = replace(under_way, %s, ''),"
            " status = case when returned_paise + %s < amount_paise then status else 'returned' end, changed_at = %s"
            " where id = %s",
            *(event.amount_paise, event.gateway_refund, event.amount_paise, event.at, event.payment),
        )

    @on(ReturnFailed, "payment", "gateway_refund")
    def return_failed(self, event: ReturnFailed, stream: str, position: int) -> None:
        self._do(
            "update payments set under_way = replace(under_way, %s, ''), changed_at = %s where id = %s",
            *(event.gateway_refund, event.at, event.payment),
        )

    @on(PromoMissed, "reason")
    def promo_missed(self, event: PromoMissed, stream: str, position: int) -> None:
        self._do("update orders set promo_missed = %s where id = %s", event.reason, _order(stream))

    @on(PromoRedeemed, "code", "payment", "amount")
    def promo_redeemed(self, event: PromoRedeemed, stream: str, position: int) -> None:
        self._do("update orders set promo_credit = %s where payment = %s", event.amount, event.payment)
        self._do("update promos set uses = uses + 1, credit = credit + %s where code = %s", event.amount, event.code)

    @on(PromoCreated)
    def promo_created(self, event: PromoCreated, stream: str, position: int) -> None:
        self._do(
            "insert into promos values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            *(event.code, event.fixed, event.percent, event.cap, event.starts, event.ends, event.uses_max),
            *(event.credit_days, event.bought_min, event.at),
        )

    @on(PromoDisabled, "code")
    def promo_disabled(self, event: PromoDisabled, stream: str, position: int) -> None:
        self._do("update promos set disabled_at = %s where code = %s", event.at, event.code)

    def _attempt(
        self, stream: str, event: PaymentFailed | PaymentAuthorized | PaymentCaptured, status: str, **values: Any
    ) -> None:
        order = _order(stream)
        self._put(
            id=event.payment,
            order_id=order,
            org=event.org,
            status=status,
            changed_at=event.at,
            method=clean(event.method),
            **values,
        )
        progress = PROGRESS.index(status)
        self._do("update orders set progress = greatest(progress, %s) where id = %s", progress, order)

    def _put(self, **values: Any) -> None:
        """The row of a payment, made or brought up to date."""
        names = ", ".join(values)
        changed = ", ".join(f"{name} = excluded.{name}" for name in values)
        marks = ", ".join(["%s"] * len(values))
        self._do(
            f"insert into payments ({names}) values ({marks}) on conflict (id) do update set {changed}",
            *values.values(),
        )

    def _do(self, statement: str, *values: Any) -> None:
        self._changes.append((statement, [*values]))

    def flush(self, cursor: Cursor) -> None:
        execute_all(cursor, [(statement.encode(), values) for statement, values in self._changes])


def _order(stream: str) -> str:
    return stream.removeprefix("payment:")


PROJECTION = Projection("payments", 3, TABLES, Payments)

_PAYMENT = (
    "id, order_id, org, status, amount_paise, currency, method, learned, reason, paid_at, returned_paise, under_way,"
    " changed_at"
)


def orders_of(
    connection: Connection, org: str, *, limit: int, before: tuple[int, str] | None = None
) -> list[dict[str, Any]]:
    """The org's orders, newest first, of those that stand before the moment and id `before`.

    `id`, `created_at`, `credit` and `promo_credit` (nano-rupees), `total_paise`, `status` (one of PROGRESS), `payment`
    (that was credited, or None), `promo`, `promo_missed`, and `payments`: every attempt, oldest first.
    """
    at, id = before or (2**62, "")
    rows = _rows(
        connection,
        f"""
        select o.id, o.created_at, o.credit, o.total_paise, o.progress, o.payment, o.promo, o.promo_credit,
            o.promo_missed, coalesce(p.payments, '[]') as payments
        from view_payments.orders o left join lateral (
            select json_agg(p order by p.changed_at, p.id) as payments
            from (select {_PAYMENT} from view_payments.payments where order_id = o.id) p
        ) p on true
        where o.org = %s and (o.created_at, o.id) < (%s, %s)
        order by o.created_at desc, o.id desc limit %s
        """,
        [org, at, id, limit],
    )
    return [row | {"status": PROGRESS[row.pop("progress")]} for row in rows]


def open_orders_of(connection: Connection, org: str, *, created_after: int) -> int:
    """How many orders the org has made since that moment that no payment was credited to."""
    statement = "select count(*) from view_payments.orders where org = %s and progress < 3 and created_at > %s"
    row = connection.execute(statement, [org, created_after]).fetchone()
    assert row is not None
    return int(row[0])


def open_orders(connection: Connection, *, created_after: int, created_before: int) -> list[tuple[str, int]]:
    """Orders made between the two moments that no payment was credited to, each with its moment: the newest of each
    org, then the second of each, and so on, so that no org keeps the others waiting."""
    return connection.execute(
        "select id, created_at from view_payments.orders where progress < 3 and created_at > %s and created_at <= %s"
        " order by row_number() over (partition by org order by created_at desc), created_at desc",
        [created_after, created_before],
    ).fetchall()


def payment(connection: Connection, id: str) -> dict[str, Any] | None:
    """What is known of a payment, with its `order_id` and `org`; None for one that nothing was recorded of (yet)."""
    return next(iter(_rows(connection, f"select {_PAYMENT} from view_payments.payments where id = %s", [id])), None)


def payments_set_aside(connection: Connection, *, limit: int) -> list[dict[str, Any]]:
    """Money that an operator has to send back, newest first; `under_way` is the refund that is on its way, or ""."""
    return _rows(
        connection,
        f"select {_PAYMENT} from view_payments.payments where status = 'set_aside' and amount_paise > returned_paise"
        " order by changed_at desc limit %s",
        [limit],
    )


def returns_under_way(connection: Connection, *, limit: int) -> list[str]:
    """Orders (or payments without one) of which money is on its way back that was set aside."""
    rows = connection.execute(
        "select distinct order_id from view_payments.payments where status = 'set_aside' and under_way <> '' limit %s",
        [limit],
    )
    return [order for (order,) in rows]


def promos(connection: Connection) -> list[dict[str, Any]]:
    """All promo codes, newest first: their terms as in `PromoCreated`, `uses`, and the `credit` that they gave."""
    return _rows(
        connection,
        "select code, fixed, percent, cap, starts_at, ends_at, uses_max, credit_days, bought_min, created_at,"
        " disabled_at, uses, credit from view_payments.promos order by created_at desc, code",
        [],
    )


def _rows(connection: Connection, statement: str, values: list[Any]) -> list[dict[str, Any]]:
    return connection.cursor(row_factory=dict_row).execute(statement.encode(), values).fetchall()
