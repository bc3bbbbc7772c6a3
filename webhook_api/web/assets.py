"""The files of the pages that the service shows."""

from pathlib import Path

ASSETS = Path(__file__).with_name("static")
