"""What the plugin declares."""

from __future__ import annotations
