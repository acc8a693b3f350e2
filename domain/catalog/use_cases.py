"""What people come for, and which models we would try for it: opinions, kept as data and in one place."""

from collections.abc import Mapping

import msgspec

from domain.catalog.catalog import Catalog
from domain.catalog.model import Modality


class UseCase(msgspec.Struct, frozen=True, kw_only=True):
    """`models` are ids, the first to be tried first. Each is of one of the `modalities` and has the `capabilities`."""

    name: str
    models: tuple[str, ...]
    modalities: tuple[Modality, ...] = ("chat",)
    capabilities: tuple[str, ...] = ()


USE_CASES: Mapping[str, UseCase] = {
    "coding_agent": UseCase(
        name="Coding agent",
        capabilities=("tools",),
        models=(
            "claude-opus-5.5",
            "gpt-6.1-sol",
            "claude-sonnet-5.5",
            "kimi-k3",
            "glm-5.3",
            "deepseek-v4-pro",
            "grok-4.7",
            "minimax-m3",
        ),
    ),
    "chat": UseCase(
        name="Chat",
        models=(
            "gemini-3.8-flash",
            "claude-haiku-5.5",
            "gpt-oss-120b",
            "sarvam-105b",
            "gpt-6-luna",
            "llama-3.3-70b",
            "gemma-4-31b-it",
        ),
    ),
    "bulk_extraction": UseCase(
        name="Bulk extraction",
        models=(
            "gpt-oss-20b",
            "gpt-6-luna",
            "deepseek-flash",
            "qwen3.8-flash",
            "glm-4.7-flash",
            "mistral-small",
            "llama-3.1-8b-instruct",
        ),
    ),
    "rag": UseCase(
        name="Answers from documents",
        modalities=("chat", "embedding"),
        models=(
            "gemini-3.8-flash",
            "command-a",
            "deepseek-v4-pro",
            "qwen3-next-80b-a3b",
            "gpt-oss-120b",
            "bge-m3",
            "text-embedding-3-large",
        ),
    ),
    "indic": UseCase(
        name="Indian languages",
        models=("sarvam-105b", "sarvam-30b", "gemini-3.8-flash", "krutrim-2", "gemma-4-31b-it", "claude-sonnet-5.5"),
    ),
    "vision": UseCase(
        name="Pictures and pages",
        capabilities=("vision",),
        models=(
            "gemini-3.8-flash",
            "claude-sonnet-5.5",
            "gpt-6.1-sol",
            "kimi-k2.5",
            "gemma-4-31b-it",
            "nova-lite",
        ),
    ),
    "voice": UseCase(
        name="Speech, heard and spoken",
        modalities=("transcription", "speech"),
        models=("whisper-large-v3", "kokoro-82m"),
    ),
}


def ranked(use_case: UseCase, catalog: Catalog) -> list[str]:
    """The ids of those of its models that this catalog has a route for, the first to be tried first."""
    return [model for model in use_case.models if catalog.routes_of(model)]
