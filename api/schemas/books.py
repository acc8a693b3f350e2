"""The double-entry books as a table for spreadsheets and people, and as JSON for programs."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from api.schemas.money import show
from domain.kernel.money import show_inr
from domain.ledger.chart import CHART
from projections.books import Balance, Origin

COLUMNS = ("account", "kind", "opening_inr", "debit_inr", "credit_inr", "closing_inr", "what")


def books_json(balances: Sequence[Balance], origins: Mapping[str, Origin]) -> dict[str, Any]:
    """Closing balances are debits less credits: assets and expenses are positive, liabilities and income negative."""
    return {
        "balanced": is_balanced(balances),
        "accounts": [dict(zip(COLUMNS, _row(balance), strict=True)) for balance in balances],
        "credit_by_origin": {
            name: {
                "came_inr": show(origin.came),
                "used_inr": show(origin.used),
                "gone_inr": show(origin.gone),
                "withheld_inr": show(origin.withheld),
                "left_inr": show(origin.left),
            }
            for name, origin in origins.items()
        },
    }


def books_csv(balances: Sequence[Balance]) -> str:
    """Comma-separated rows (RFC 4180), an account each. Amounts are exact."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(_row(balance) for balance in balances)
    return text.getvalue()


def books_table(balances: Sequence[Balance], origins: Mapping[str, Origin]) -> str:
    """For a terminal: the accounts that were ever used, to the paisa, and whose credit is left."""
    rows: list[tuple[str, ...]] = [("account", "opening", "debit", "credit", "closing")]
    rows += [
        (balance.account, _side(balance.opening), show_inr(balance.debit), show_inr(balance.credit), closing)
        for balance in balances
        if (closing := _side(balance.closing)) or balance.debit or balance.credit
    ]
    total = (show_inr(sum(getattr(balance, side) for balance in balances)) for side in ("debit", "credit"))
    rows.append(("all", _side(sum(each.opening for each in balances)), *total, _side(_closing(balances))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    lines += [
        f"{name} credit: {show_inr(origin.came)} came in, {show_inr(origin.used)} was used, {show_inr(origin.gone)} is"
        f" gone, {show_inr(origin.withheld)} is withheld, {show_inr(origin.left)} is left"
        for name, origin in origins.items()
    ]
    lines.append("The books balance." if is_balanced(balances) else "The books do NOT balance.")
    return "\n".join(line.rstrip() for line in lines)


def is_balanced(balances: Sequence[Balance]) -> bool:
    """Whether debits make credits, and everything that came in was divided."""
    return (
        _closing(balances) == 0
        and sum(balance.opening for balance in balances) == 0
        and not any(balance.closing for balance in balances if CHART[balance.account].kind == "control")
    )


def _row(balance: Balance) -> tuple[str, ...]:
    account = CHART[balance.account]
    amounts = (balance.opening, balance.debit, balance.credit, balance.closing)
    return (balance.account, account.kind, *map(show, amounts), account.what)


def _closing(balances: Sequence[Balance]) -> int:
    return sum(balance.closing for balance in balances)


def _side(amount: int) -> str:
    """As accountants write it: without a sign, and Dr or Cr behind."""
    return f"{show_inr(abs(amount))} {'Dr' if amount > 0 else 'Cr'}" if amount else ""
