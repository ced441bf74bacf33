"""Reads the prompt family that ``RLM_PROMPTS`` names by a path."""

import json
import tomllib
from pathlib import Path

from rlm_dist.engine.prompts.families import MAX_FILE_BYTES, PromptTexts, check_family
from rlm_dist.errors import SettingsError
from rlm_dist.schema import PromptFamily


def read_prompts(setting: PromptFamily | Path) -> PromptTexts | None:
    """The family of the file; None if the setting names none.

    Raises:
        SettingsError: if it cannot be read or used, naming each problem.
    """
    if not isinstance(setting, Path):
        return None
    source = f"RLM_PROMPTS: {setting}"
    try:
        with setting.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise SettingsError((f"{source}: is larger than {MAX_FILE_BYTES:,} bytes",))
        text = data.decode("utf-8")
        table = tomllib.loads(text) if setting.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise SettingsError((f"{source}: {error.strerror}",)) from None
    except (ValueError, RecursionError) as error:  # bad UTF-8, JSON or TOML; its words name the place alone
        raise SettingsError((f"{source}: {type(error).__name__}: {error}",)) from None
    return check_family(table, source)
