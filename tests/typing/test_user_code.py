from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

USER_CODE = Path(__file__).with_name("user_code.py")
EXPECTED = re.compile(r"  # type: ignore\[([a-z-]+)\]$")


def test_every_wrong_call_is_refused_and_every_right_one_accepted(tmp_path: Path) -> None:
    """With its ignores taken out, mypy finds in the user code exactly the mistakes that are marked in it."""
    lines = USER_CODE.read_text(encoding="utf-8").splitlines()
    expected = {
        (number, found[1]) for number, line in enumerate(lines, 1) if (found := EXPECTED.search(line))
    }
    assert len(expected) > 10
    bare = tmp_path / "bare_user_code.py"
    bare.write_text("\n".join(EXPECTED.sub("", line) for line in lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--no-pretty", "--hide-error-context", str(bare)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=USER_CODE.parents[2], timeout=110, check=False
    )
    reported = re.findall(r"bare_user_code\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    assert {(int(number), code) for number, code in reported} == expected, done.stdout
