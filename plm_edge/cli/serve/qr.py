"""A QR code in the terminal carries an address to a phone."""

from __future__ import annotations

import io
import sys


def show(text: str) -> None:
    """Draw a QR code of `text` on stderr, two modules a character, dark on light."""
    import segno

    drawn = io.StringIO()
    segno.make(text, error="m", micro=False).terminal(out=drawn, compact=True, border=2)
    sys.stderr.write(drawn.getvalue())
    sys.stderr.flush()
