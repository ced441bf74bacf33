"""A regular expression that does not end."""

import re

re.match("(a+)+$", "a" * 60 + "b")
