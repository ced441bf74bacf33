"""An endpoint's address is refused at the start where no call could use it."""

import pytest

from rlm_dist.errors import SettingsError
from rlm_dist.settings import load_settings


@pytest.mark.parametrize("url", ["localhost:8080", "http://me:sk-1@host/v1", "http://[bad/v1"])
def test_an_address_that_no_call_can_use_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="RLM_API_URL") as caught:
        load_settings(api_url=url)
    assert "sk-1" not in str(caught.value)
