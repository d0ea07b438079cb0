"""One way to place a denoiser: argv[1] is a `Trial` as JSON. What goes wrong is an answer as well."""

from __future__ import annotations

import json
import sys
import traceback

from tests.benchmarks.placed import Trial, tried
from tests.benchmarks.probes.told import answer

if __name__ == "__main__":
    try:
        found = tried(Trial(**json.loads(sys.argv[1])))
    except Exception as error:
        traceback.print_exc()
        answer(error=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    else:
        answer(**found)
