"""What the small model on this machine is asked with."""

from rlm_dist.cli.small_model import for_small_model
from rlm_dist.local.model import DEFAULT, SLOT_TOKENS, SLOTS
from rlm_dist.settings import Settings


def test_what_a_small_model_reads_and_writes_fits_its_window() -> None:
    settings = for_small_model(Settings())
    assert settings.prompt_family == "small"
    assert settings.windows == {DEFAULT.name: SLOT_TOKENS}
    assert settings.max_in_flight == SLOTS
    assert settings.max_output_tokens is not None
    assert settings.max_output_tokens + settings.max_output_chars // 2 < SLOT_TOKENS
    assert settings.sub_max_output_tokens == settings.max_output_tokens


def test_what_is_set_holds() -> None:
    given = Settings(
        max_output_chars=300,
        max_output_tokens=50,
        sub_max_output_tokens=20,
        max_in_flight=1,
        model_windows=("m=9000",),
    )
    settings = for_small_model(given, "m2")
    assert (settings.max_output_chars, settings.max_output_tokens) == (300, 50)
    assert (settings.sub_max_output_tokens, settings.max_in_flight) == (20, 1)
    assert settings.windows == {"m": 9000, "m2": SLOT_TOKENS}
