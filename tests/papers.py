"""Documents as tests need them: one of each kind, in the ways that are hard to draw."""

from msgspec.structs import replace

from domain.kernel.clock import DAY, SECOND, parse_moment
from domain.kernel.money import rupees
from domain.payments.document import Buyer, Document, Original, Supplier
from domain.payments.tax import credit_nanos, split

ISSUED = parse_moment("2026-11-23T15:36:12+05:30")
VERIFY = "https://bharatrouter.example/verify/RV/26-27/000001"

SUPPLIER = Supplier(
    name="BharatRouter Technologies Private Limited",
    address=("4th Floor, Prestige Atlanta", "80 Feet Road, Koramangala", "Bengaluru 560034, Karnataka"),
    gstin="29AAGCB7383J1Z4",
    cin="U72900KA2026PTC123456",
    email="billing@bharatrouter.example",
    website="bharatrouter.example",
)
ASHA = Buyer(
    name="Asha Nair",
    address=("14 Residency Road", "Shanthala Nagar"),
    city="Bengaluru",
    pin="560025",
    state="29",
    email="asha@example.in",
)
ANITA = Buyer(
    name="अनिता त्रिपाठी, क्षमा ज्ञानोदय शिक्षा समिति",
    address=("१२ महात्मा गांधी मार्ग", "आपूर्तिकर्ता भवन"),
    city="लखनऊ",
    pin="226001",
    state="09",
    gstin="09AAACH7409R1ZZ",
)
SCRIPTS = (
    "தமிழ் செல்வி", "বাংলা নাম", "తెలుగు పేరు", "ಕನ್ನಡ ಹೆಸರು", "മലയാളം പേര്", "ગુજરાતી નામ", "ਪੰਜਾਬੀ ਨਾਂ", "ଓଡ଼ିଆ ନାମ",
)  # fmt: skip

_THOUSAND = split(100_000, mode="on_top", percent=18, supplier_state="29", place="29")

RECEIPT = Document(
    kind="receipt_voucher",
    number="RV/26-27/000001",
    issued_at=ISSUED,
    supplier=SUPPLIER,
    buyer=ASHA,
    place_of_supply="29",
    sac="998315",
    description="Prepaid credit for AI model inference over API",
    tax=_THOUSAND,
    credit=rupees(1_000),
    payment_id="pay_Q1w2E3r4T5y6U7",
    order_id="order_A1b2C3d4E5f6G7",
    paid_at=ISSUED - 12 * SECOND,
    method="upi",
    reference="632745918273",
)
_INCLUDED = split(100_050, mode="included", percent=18, supplier_state="29", place="09")
HINDI = replace(
    RECEIPT, buyer=ANITA, place_of_supply="09", tax=_INCLUDED, credit=credit_nanos(_INCLUDED), method="netbanking"
)
INVOICE = replace(RECEIPT, kind="tax_invoice", number="TI/26-27/000001", irn="0123456789abcdef" * 4)
CANCELLED = replace(INVOICE, cancelled=True)
_SHARE = split(40_000, mode="on_top", percent=18, supplier_state="29", place="29")
REFUND = replace(
    RECEIPT,
    kind="refund_voucher",
    number="RF/26-27/000001",
    description="Refund of unspent prepaid credit",
    tax=_SHARE,
    credit=credit_nanos(_SHARE),
    refund_id="rfnd_Z9y8X7w6V5u4T3",
    refers_to=Original(number=RECEIPT.number, issued_at=ISSUED - 9 * DAY),
)
CREDIT_NOTE = replace(
    REFUND, kind="credit_note", number="CN/26-27/000001", refers_to=Original(number=INVOICE.number, issued_at=ISSUED)
)
LONG = replace(
    HINDI,
    buyer=Buyer(
        name="The Association for the Advancement of Computational Linguistics in all Languages of India " * 3,
        address=("Plot 1234/5678, Survey Number 90, opposite the Old District Collectorate and Garden " * 2,) * 6,
        city="Thiruvananthapuram",
        pin="695001",
        state="32",
        email=f"{'accounts-payable-' * 6}@{'department-' * 6}.example.in",
    ),
)
TERRITORY = replace(
    RECEIPT,
    supplier=replace(SUPPLIER, gstin="04AAGCB7383J1ZG"),
    place_of_supply="04",
    tax=split(100_000, mode="on_top", percent=18, supplier_state="04", place="04"),
)
ZONE = replace(
    RECEIPT,
    buyer=replace(ASHA, name="Asha Exports LLP", gstin="29AAGCB7383J1Z4", special_zone=True),
    tax=split(100_000, mode="on_top", percent=18, supplier_state="29", place="29", special_zone=True),
)
ZONE_UNTAXED = replace(
    ZONE, tax=split(100_000, mode="on_top", percent=0, supplier_state="29", place="29", special_zone=True)
)
ALL = {
    "receipt": RECEIPT,
    "hindi": HINDI,
    "invoice": INVOICE,
    "cancelled": CANCELLED,
    "refund": REFUND,
    "credit note": CREDIT_NOTE,
    "long": LONG,
    "territory": TERRITORY,
    "zone": ZONE,
    "zone, untaxed": ZONE_UNTAXED,
}
