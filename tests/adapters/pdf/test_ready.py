"""Where libraries are missing, the product says the one line to type instead of failing somewhere inside."""

import subprocess
import sys

import pytest

from adapters.pdf.ready import INSTALL, missing_libraries, require_libraries
from domain.kernel.errors import Unavailable


def test_a_missing_library_is_told_with_the_line_to_type() -> None:
    libraries = [("libc.so.6", "libSystem.dylib"), ("libnosuchthing.so.0", "libnosuchthing.dylib")]
    assert missing_libraries(libraries) == INSTALL
    assert missing_libraries(libraries[:1]) is None
    with pytest.raises(Unavailable, match="types: apt-get install -y") as refusal:
        require_libraries(libraries)
    assert refusal.value.code == "pdf_unavailable"


def test_the_set_up_can_ask_from_a_shell() -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "adapters.pdf.ready"], capture_output=True, text=True, check=False, timeout=60
    )
    line = missing_libraries()
    assert (asked.returncode, asked.stdout, asked.stderr) == ((0, "", "") if line is None else (1, f"{line}\n", ""))


def test_weasyprint_loads_exactly_when_we_say_so() -> None:
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", "import weasyprint"], capture_output=True, timeout=60)
    assert (loaded.returncode == 0) == (missing_libraries() is None), loaded.stderr
