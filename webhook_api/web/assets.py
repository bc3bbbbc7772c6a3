"""The folder of the pages' style sheets, scripts and images."""

from pathlib import Path

ASSETS = Path(__file__).with_name("static")
