"""Every wire by the name that provider files call it."""

from collections.abc import Mapping

from domain.catalog.model import WireName
from domain.inference.wires.anthropic import ANTHROPIC
from domain.inference.wires.bedrock import BEDROCK
from domain.inference.wires.cohere import COHERE
from domain.inference.wires.gemini import GEMINI
from domain.inference.wires.openai import OPENAI
from domain.inference.wires.wire import Wire

WIRES: Mapping[WireName, Wire] = {
    "openai": OPENAI,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
    "cohere": COHERE,
    "bedrock": BEDROCK,
}
