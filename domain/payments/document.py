"""A legal document as facts: all that is printed on it, and how each is put into words. Its looks are not decided here.

The facts are frozen when it is issued: a supplier who moves or a buyer who renames himself changes nothing that was
handed out.
"""

import msgspec

from domain.kernel.clock import IST, parse_moment, to_datetime, to_iso
from domain.kernel.money import NANOS_PER_PAISA, show_inr
from domain.payments.events import Tax
from domain.payments.gstin import pan_of
from domain.payments.numbering import KINDS, DocumentKind, Kind
from domain.payments.states import STATES, show_state
from domain.payments.tax import HEADS
from domain.payments.words import amount_in_words

FORMAT = "bharatrouter.document.v1"
"""Names the JSON of the facts for those who read it by machine; a change that breaks readers takes a new one."""


class Supplier(msgspec.Struct, frozen=True, kw_only=True):
    """Who issues the document. `address` in lines as printed; PAN and State are within the GSTIN."""

    name: str
    address: tuple[str, ...]
    gstin: str
    email: str
    website: str
    cin: str = ""

    @property
    def pan(self) -> str:
        return pan_of(self.gstin)

    @property
    def state(self) -> str:
        return self.gstin[:2]


class Buyer(msgspec.Struct, frozen=True, kw_only=True):
    """Whom it is made out to. `state` is the code of the State of the address, "" outside India; `gstin` is None for
    whoever is not registered; `special_zone` is one whose registration is for a special economic zone."""

    name: str
    address: tuple[str, ...] = ()
    city: str = ""
    pin: str = ""
    state: str = ""
    country: str = "India"
    gstin: str | None = None
    email: str = ""
    special_zone: bool = False


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """The document that a refund voucher or credit note refers to."""

    number: str
    issued_at: int


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One document. Moments in microseconds UTC; `tax` in paise; `credit` in nano-rupees, what the balance gained or
    gave back; `reference` what the payer's bank calls the payment; `irn` where e-invoicing applies, else ""."""

    kind: DocumentKind
    number: str
    issued_at: int
    supplier: Supplier
    buyer: Buyer
    place_of_supply: str
    sac: str
    description: str
    tax: Tax
    credit: int
    payment_id: str
    order_id: str
    paid_at: int
    method: str = ""
    reference: str = ""
    refund_id: str = ""
    refers_to: Original | None = None
    reverse_charge: bool = False
    irn: str = ""
    cancelled: bool = False
    currency: str = "INR"


# For machines


def facts_json(document: Document) -> bytes:
    """All facts as JSON in one certain order of bytes: moments as ISO 8601, every tax head, and the total."""
    facts = msgspec.to_builtins(document)
    heads = {head: getattr(document.tax, head) for head in HEADS}
    tax = {"unit": "paise", "percent": document.tax.percent, "taxable": document.tax.taxable, **heads}
    facts |= {
        "format": FORMAT,
        "title": title(document),
        "issued_at": to_iso(document.issued_at),
        "paid_at": to_iso(document.paid_at),
        "tax": {**tax, "total": document.tax.total},
    }
    if document.refers_to is not None:
        facts["refers_to"] |= {"issued_at": to_iso(document.refers_to.issued_at)}
    return msgspec.json.encode(facts, order="sorted")


def read_facts(data: bytes) -> Document:
    """The document that `facts_json` wrote. Raises msgspec.ValidationError for anything else."""
    facts = msgspec.json.decode(data)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise msgspec.ValidationError(f"not a {FORMAT}")
    for holder, moment in ((facts, "issued_at"), (facts, "paid_at"), (facts.get("refers_to"), "issued_at")):
        if holder is not None:
            holder[moment] = parse_moment(holder[moment])
    return msgspec.convert(facts, Document)


# For people


def kind_of(document: Document) -> Kind:
    return KINDS[document.kind]


def title(document: Document) -> str:
    return kind_of(document).title


def tax_heads(document: Document) -> list[tuple[str, str, int]]:
    """Each head that the tax falls under with its rate and its paise, also where a small share rounds to nothing."""
    tax = document.tax
    if document.place_of_supply != document.supplier.state or tax.igst or document.buyer.special_zone:
        return [("IGST", f"{tax.percent}%", tax.igst)]
    half = f"{tax.percent // 2}{'.5' if tax.percent % 2 else ''}%"
    if STATES[document.place_of_supply].union_territory:
        return [("CGST", half, tax.cgst), ("UTGST", half, tax.utgst)]
    return [("CGST", half, tax.cgst), ("SGST", half, tax.sgst)]


def endorsement(document: Document) -> str:
    """What a supply to a special economic zone has to say of itself: CGST Rules, rule 46, third proviso. "" for others.

    Without a rate it is one under a letter of undertaking."""
    if not document.buyer.special_zone:
        return ""
    how = "on payment" if document.tax.percent else "under bond or letter of undertaking without payment"
    return (
        f"Supply meant for export/supply to SEZ unit or SEZ developer for authorised operations {how} of integrated tax"
    )


def buyer_lines(buyer: Buyer) -> list[str]:
    """The address block below the name, without empty lines."""
    town = " ".join(filter(None, [buyer.city, buyer.pin]))
    state = show_state(buyer.state) if buyer.state else ""
    country = "" if buyer.country == "India" and state else buyer.country
    return [line for line in (*buyer.address, town, state, country) if line]


def settlement(document: Document) -> list[tuple[str, str]]:
    """How the money moved, as labels and values."""
    back = kind_of(document).refers_to is not None
    rows = [
        ("Refunded on" if back else "Paid on", show_moment(document.paid_at)),
        ("Refunded to" if back else "Paid by", show_method(document.method)),
        ("Chargeback" if document.refund_id.startswith("disp_") else "Refund ID", document.refund_id),
        ("Payment ID", document.payment_id),
        ("Order ID", document.order_id),
        ("Bank reference", document.reference),
    ]
    return [(label, value) for label, value in rows if value]


def credit_line(document: Document) -> str:
    """What the document means for the prepaid balance."""
    moved = "taken back from" if kind_of(document).refers_to is not None else "added to"
    return f"{show_inr(document.credit)} of credit {moved} the prepaid balance"


def words(document: Document) -> str:
    return amount_in_words(document.tax.total)


def show_paise(paise: int) -> str:
    return show_inr(paise * NANOS_PER_PAISA)


def show_day(at: int) -> str:
    """A document's date, India's calendar: `1 April 2026`."""
    when = to_datetime(at).astimezone(IST)
    return f"{when.day} {_MONTHS[when.month - 1]} {when.year}"


def show_moment(at: int) -> str:
    """To the second, India time: `1 Apr 2026, 00:00:01 IST`."""
    when = to_datetime(at).astimezone(IST)
    return f"{when.day} {_MONTHS[when.month - 1][:3]} {when.year}, {when:%H:%M:%S} IST"


def show_method(method: str) -> str:
    """The payment gateway's word for a way to pay, as people call it."""
    return _METHODS.get(method, method.replace("_", " ").capitalize())


_MONTHS = [
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
]  # fmt: skip
_METHODS = {"upi": "UPI", "emi": "EMI", "netbanking": "Net banking", "paylater": "Pay later"}
