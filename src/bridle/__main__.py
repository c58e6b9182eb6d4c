"""``python -m bridle``, the same as ``bridle``."""

import sys

from bridle.cli.main import main

sys.exit(main())
