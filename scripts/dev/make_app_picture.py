"""Takes the screenshot of docs/app.md: python -m scripts.dev.make_app_picture

Needs the extras [app,cpu], playwright and Chromium, as the tests of the page do.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

from fastsam_deploy.runtime.app.models import SizedModel
from fastsam_deploy.runtime.app.serve import ServerSettings, served
from fastsam_deploy.runtime.opening import ModelSettings

ROOT = Path(__file__).resolve().parents[2]
SIZE = {"width": 1180, "height": 740}
sys.path.insert(0, str(ROOT))


def main() -> None:
    """Write docs/images/app.jpg."""
    from playwright.sync_api import sync_playwright

    from scripts.demo import PROMPTS
    from tests.runtime.app.test_page import ARGUMENTS, CHROMIUM, User

    with (
        SizedModel(None, ModelSettings.from_keywords()) as model,
        served(model, ServerSettings()) as url,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        user = User(browser, url, viewport=SIZE)
        user.open(ROOT / "examples/images/coffee.jpg").mode("Boxes")
        for x0, y0, x1, y1 in PROMPTS["coffee.jpg"]["boxes"].xyxy.tolist():
            user.drag((x0, y0), (x1, y1))
        user.page.mouse.move(5, 5)
        picture = Image.open(BytesIO(user.page.screenshot())).convert("RGB")
        browser.close()
    picture.save(ROOT / "docs/images/app.jpg", quality=88)


if __name__ == "__main__":
    main()
