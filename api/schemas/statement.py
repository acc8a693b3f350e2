"""A month's statement as a table for spreadsheets, and as JSON for programs."""

import csv
import io
from typing import Any

from api.schemas.money import show
from api.schemas.times import moment_optional, show_day
from domain.kernel.clock import IST, to_datetime
from domain.ledger.statement import Entry, Statement, show_month

COLUMNS = ("day", "time", "type", "note", "payment_id", "calls", "amount_inr", "balance_inr")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def statement_csv(statement: Statement) -> str:
    """Comma-separated rows (RFC 4180) from the opening to the closing balance, times in India. Amounts are exact."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerow([show_day(statement.first_day), "", "opening", "", "", "", "", show(statement.opening)])
    writer.writerows(_row(entry) for entry in statement.entries)
    writer.writerow([show_day(statement.last_day), "", "closing", "", "", "", "", show(statement.closing)])
    return text.getvalue()


def statement_json(statement: Statement) -> dict[str, Any]:
    return {
        "org": statement.org,
        "name": statement.name,
        "month": show_month(statement.month),
        "from": show_day(statement.first_day),
        "to": show_day(statement.last_day),
        "opening_inr": show(statement.opening),
        "credited_inr": show(statement.credited),
        "debited_inr": show(statement.debited),
        "used_inr": show(statement.used),
        "closing_inr": show(statement.closing),
        "calls": statement.calls,
        "entries": [
            {
                "day": show_day(entry.day),
                "at": moment_optional(entry.at),
                "type": entry.type,
                "note": entry.note,
                "payment_id": entry.payment or None,
                "calls": entry.calls,
                "amount_inr": show(entry.amount),
                "balance_inr": show(entry.balance),
            }
            for entry in statement.entries
        ],
    }


def _row(entry: Entry) -> list[str]:
    return [
        show_day(entry.day),
        "" if entry.at is None else to_datetime(entry.at).astimezone(IST).strftime("%H:%M:%S"),
        entry.type,
        _cell(entry.note),
        _cell(entry.payment),
        str(entry.calls) if entry.at is None else "",
        show(entry.amount),
        show(entry.balance),
    ]


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula (OWASP, "CSV Injection")."""
    return f"'{text}" if text.startswith(_FORMULA) else text
