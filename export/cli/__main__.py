"""`python -m fastsam_deploy.export.cli` is the command `fastsam-export`."""

from .main import main

main()
