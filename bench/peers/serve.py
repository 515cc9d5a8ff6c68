"""``python -m bench.peers.serve APP PLACES``: an app on a free port, whose address it prints.

It ends when its standard input does.
"""

from __future__ import annotations

import json
import sys

from bench import serving
from bench.peers.apps import APPS, Places

if __name__ == "__main__":
    serving.run(APPS[sys.argv[1]](Places(**json.loads(sys.argv[2]))))
