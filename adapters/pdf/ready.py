"""Whether PDFs can be made here: WeasyPrint draws with system libraries that no Python package brings along.

Where they are missing, `python -m adapters.pdf.ready` prints the one line to type, and ends with status 1.
"""

import ctypes
import sys
from collections.abc import Sequence

from domain.kernel.errors import Unavailable

INSTALL = "apt-get install -y --no-install-recommends libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
"""What brings all of `_LIBRARIES` on Debian and Ubuntu."""

Libraries = Sequence[Sequence[str]]

_LIBRARIES: Libraries = (  # as Linux and macOS name each
    ("libgobject-2.0.so.0", "libgobject-2.0.dylib"),
    ("libpango-1.0.so.0", "libpango-1.0.dylib"),
    ("libpangoft2-1.0.so.0", "libpangoft2-1.0.dylib"),
    ("libharfbuzz.so.0", "libharfbuzz.dylib"),
    ("libharfbuzz-subset.so.0", "libharfbuzz-subset.dylib"),
    ("libfontconfig.so.1", "libfontconfig.dylib"),
)


def missing_libraries(libraries: Libraries = _LIBRARIES) -> str | None:
    """None where PDFs can be made, else the one line to type. Asked again each time: someone may just have typed it."""
    return None if all(map(_loads, libraries)) else INSTALL


def require_libraries(libraries: Libraries = _LIBRARIES) -> None:
    """Raises Unavailable `pdf_unavailable`, with the line to type, where PDFs cannot be made."""
    line = missing_libraries(libraries)
    if line is not None:
        raise Unavailable("pdf_unavailable", f"PDFs cannot be made on this server yet. Its operator types: {line}")


def _loads(names: Sequence[str]) -> bool:
    return any(_load(name) for name in names)


def _load(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    line = missing_libraries()
    if line is not None:
        sys.stdout.write(f"{line}\n")
        sys.exit(1)
