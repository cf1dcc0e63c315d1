"""`python -m fastsam_deploy.export.cli` is the command `fastsam-export`."""

import sys

from .main import main

sys.exit(main())
