"""`python -m fastsam_deploy.runtime.cli` is the command `fastsam`."""

import sys

from .main import main

sys.exit(main())
