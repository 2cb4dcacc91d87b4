"""`client.py CASE` runs one case; an assertion that fails ends it with its traceback."""

import sys

import access
import large
import lasting
import many
import single

name = f"case_{sys.argv[1]}"
next(getattr(cases, name) for cases in (single, many, access, lasting, large) if hasattr(cases, name))()
