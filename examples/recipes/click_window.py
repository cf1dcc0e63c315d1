"""A window: click on an object to see its segment, right-click for background, Z to undo, S to save, Escape to end.

    python examples/recipes/click_window.py photo.jpg

It is drawn with tkinter, which comes with Python (Debian: apt install python3-tk), and not with `cv2.imshow`: the
OpenCV of this project is the headless build, and a second one beside it breaks both. The network runs once; a click
only selects.
"""

from __future__ import annotations

import argparse
import tkinter
from pathlib import Path

from PIL import Image, ImageDraw, ImageTk

from fastsam_deploy import FastSAM, Points, Segments


class ClickWindow:
    """The window. `run` returns when it is closed.

    Attributes:
        points: x, y in pixels of the image, and 1 for foreground or 0 for background, in the order of the clicks.
        selected: the answer to them; all segments before the first click.
    """

    def __init__(self, everything: Segments, output: Path) -> None:
        """
        Args:
            everything: with their image.
            output: PNG file that S writes.
        """
        self.points: list[tuple[float, float, int]] = []
        self.selected, self._everything, self._output = everything, everything, output
        self.root = tkinter.Tk()
        self.root.title("click: object, right-click: background, Z: undo, S: save, Escape: end")
        height, width = everything.image_hw
        self._scale = min(
            1.0, 0.9 * self.root.winfo_screenwidth() / width, 0.8 * self.root.winfo_screenheight() / height
        )
        self.canvas = tkinter.Label(self.root)
        self.canvas.pack()
        self.canvas.bind("<Button-1>", lambda event: self.click(event.x, event.y, 1))
        for button in ("<Button-2>", "<Button-3>"):
            self.canvas.bind(button, lambda event: self.click(event.x, event.y, 0))
        self.root.bind("z", lambda _: self.undo())
        self.root.bind("s", lambda _: self.save())
        self.root.bind("<Escape>", lambda _: self.root.destroy())
        self.show()

    def click(self, x: int, y: int, label: int) -> None:
        """Add a point, in pixels of the window."""
        self.points.append((x / self._scale, y / self._scale, label))
        self.select()

    def undo(self) -> None:
        """Take the last point back."""
        self.points = self.points[:-1]
        self.select()

    def select(self) -> None:
        """Answer the points."""
        prompt = self.prompt()
        self.selected = self._everything if prompt is None else self._everything.select(prompt)
        self.show()

    def prompt(self) -> Points | None:
        """The points; None for no point."""
        if not self.points:
            return None
        return Points([(x, y) for x, y, _ in self.points], [label for *_, label in self.points])

    def show(self) -> None:
        """Draw the window."""
        picture = Image.fromarray(self.selected.plot())
        for x, y, label in self.points:
            dot = (x - 5, y - 5, x + 5, y + 5)
            ImageDraw.Draw(picture).ellipse(dot, fill=(40, 200, 60) if label else (230, 50, 40), outline="black")
        size = round(picture.width * self._scale), round(picture.height * self._scale)
        self._photo = ImageTk.PhotoImage(picture.resize(size), master=self.root)
        self.canvas.configure(image=self._photo)

    def save(self) -> None:
        """Write what is shown."""
        Image.fromarray(self.selected.plot()).save(self._output)
        print(f"{len(self.selected)} segments → {self._output}")

    def run(self) -> None:
        """Wait until the window is closed."""
        self.root.mainloop()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Click on objects.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", help="default: the demo model")
    parser.add_argument("--output", type=Path, default=Path("clicked.png"))
    given = parser.parse_args()
    with FastSAM(given.model) as model:
        everything = model.segment(given.image, keep_image=True)
    ClickWindow(everything, given.output).run()


if __name__ == "__main__":
    main()
