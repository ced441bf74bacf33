"""This checkout, and the environment in which its programs run as a user would run them."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def clean_environment() -> dict[str, str]:
    """Return the environment without settings of this project, and with this checkout first on the path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RLM_", "OPENAI_"))}
    return {**kept, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
