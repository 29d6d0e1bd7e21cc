"""docs/cli.md says what the commands' help says."""

from __future__ import annotations

import subprocess
import sys

from testkit.checkout import ROOT


def test_the_page_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "docs/cli.py"), "--check"])
    assert done.returncode == 0, "run: python docs/cli.py"
