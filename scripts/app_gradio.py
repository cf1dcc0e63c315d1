"""The web page, as `app_gradio.py` of the original FastSAM: open an image, then click on objects.

    python scripts/app_gradio.py
    python scripts/app_gradio.py --model FastSAM-s --open

It is the command `fastsam app` and has its options: `python scripts/app_gradio.py --help`.
"""

from __future__ import annotations

import sys

try:
    from fastsam_deploy.runtime.cli.main import main
except ModuleNotFoundError as missing:
    sys.exit(f"fastsam: {missing}; run this first, in the folder of the repository: pip install '.[cpu,app]'")

if __name__ == "__main__":
    sys.argv[1:1] = ["app"]
    sys.exit(main())
