"""A catalogue of things: each function draws one and returns its parts from back to front.

A `Part` says which look it wears and whether a person would outline it alone; `scene_arrangements.put` turns, scales,
paints and labels them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .shapes import Part, Rng, blob, box, circle_angles, ellipse, limb, outline, polar, polygon


def plain(rng: Rng) -> list[Part]:
    """One shape, one look."""
    family = str(rng.choice(["paint", "any", "stone", "green", "earth"]))
    return [Part(outline(rng), family=family)]


def compound(rng: Rng) -> list[Part]:
    """A shape carrying smaller shapes, each a part of the whole."""
    parts = [Part(outline(rng), "body", "body", str(rng.choice(["paint", "any", "fur", "stone"])))]
    for index in range(int(rng.integers(1, 4))):
        size, place = rng.uniform(0.25, 0.7, 2), rng.uniform(-0.6, 0.6, 2)
        parts.append(Part(outline(rng) * size + place, f"patch{index}", f"patch{index}"))
    return parts


def stack(rng: Rng) -> list[Part]:
    """Shapes piled along a line, as in furniture, pots, machines, snowmen."""
    count, parts, y = int(rng.integers(2, 5)), [], -1.0
    for index in range(count):
        high, wide = rng.uniform(0.3, 1) * 2 / count, rng.uniform(0.25, 0.8)
        shape = outline(rng) * [wide, high * 0.75] + [rng.normal() * 0.08, y + high / 2]
        parts.append(Part(shape, f"look{rng.integers(0, count)}", f"piece{index}"))
        y += high
    return parts


def _torso(rng: Rng, lean: float) -> list[Part]:
    """Legs and trunk of a standing or sitting person."""
    top, low = "top", "trousers" if rng.random() < 0.75 else "top"
    parts = []
    for side in (-1, 1):
        knee = (side * rng.uniform(0.06, 0.25), 0.5)
        foot = (side * rng.uniform(0.05, 0.35), 1.0)
        parts += [Part(limb((side * 0.1, 0.1), knee, 0.13, 0.1), low, low, "any")]
        parts += [Part(limb(knee, foot, 0.1, 0.07), low, low, "any")]
        parts += [Part(limb(foot, (foot[0] + 0.1, 1.0), 0.06, 0.05), "shoes", "", "dark")]
    shoulders = rng.uniform(0.2, 0.3)
    trunk = np.array([[-shoulders + lean, -0.5], [shoulders + lean, -0.5], [0.2, 0.2], [-0.2, 0.2]])
    return [*parts, Part(trunk, top, top, "any")]


def person(rng: Rng) -> list[Part]:
    """A person in clothes: the whole, skin, hair, top and trousers are labelled."""
    lean = rng.normal() * 0.08
    parts = _torso(rng, lean)
    sleeve = "top" if rng.random() < 0.6 else "skin"
    for side in (-1, 1):
        shoulder = (side * 0.24 + lean, -0.44)
        elbow = (shoulder[0] + side * rng.uniform(-0.05, 0.3), -0.44 + rng.uniform(0.1, 0.35))
        hand = (elbow[0] + rng.uniform(-0.3, 0.3), elbow[1] + rng.uniform(-0.2, 0.35))
        parts.append(Part(limb(shoulder, elbow, 0.09, 0.07), "top", "top", "any"))
        parts.append(Part(limb(elbow, hand, 0.07, 0.05), sleeve, "top" if sleeve == "top" else "arm", "skin"))
        parts.append(Part(ellipse(*hand, 0.06, 0.06), "skin", "", "skin"))
    x = lean * 1.3
    if rng.random() < 0.4:  # long hair falls behind the face
        parts.append(Part(ellipse(x, -0.66, 0.18, 0.26), "hair", "hair", "fur"))
    parts.append(Part(limb((x, -0.5), (x, -0.6), 0.07, 0.07), "skin", "head", "skin"))
    parts.append(Part(ellipse(x, -0.74, 0.13, 0.17), "skin", "head", "skin"))
    crown = polar(np.full(14, 1.0), np.linspace(np.pi, 2 * np.pi, 14)) * [0.15, 0.19] + [x, -0.76]
    return [*parts, Part(crown, "hair", "hair", "fur")]


def bust(rng: Rng) -> list[Part]:
    """Head and shoulders from near: face, hair, clothes; eyes and mouth are not labelled."""
    wide = rng.uniform(0.3, 0.42)
    parts = [Part(ellipse(0, -0.35, wide * 1.35, 0.62), "hair", "hair", "fur")]
    shoulders = np.array([[-1, 1], [-0.85, 0.45], [-0.25, 0.2], [0.25, 0.2], [0.85, 0.45], [1, 1]])
    parts += [Part(shoulders, "top", "top", "any"), Part(limb((0, 0.05), (0, 0.25), 0.2, 0.22), "skin", "face", "skin")]
    parts.append(Part(ellipse(0, -0.3, wide, 0.48), "skin", "face", "skin"))
    for side in (-1, 1):
        parts.append(Part(ellipse(side * wide * 0.42, -0.38, 0.06, 0.03), "eye", "", "dark"))
    parts.append(Part(ellipse(0, -0.05, 0.12, 0.03), "lip", "", "dusk"))
    fringe = polar(np.full(14, 1.0), np.linspace(np.pi, 2 * np.pi, 14)) * [wide * 1.15, 0.4] + [0, -0.5]
    parts.append(Part(fringe, "hair" if rng.random() < 0.7 else "hat", "hair", "fur"))
    return parts


def animal(rng: Rng) -> list[Part]:
    """A four-legged animal in one coat, labelled as a whole; markings, eye and horn carry no label."""
    high, neck = rng.uniform(0.22, 0.38), rng.uniform(0.15, 0.6)
    legs, thick = rng.uniform(0.4, 0.75), rng.uniform(0.05, 0.1)
    head = (0.62 + neck * 0.5, -neck - 0.05)
    label = "head" if rng.random() < 0.3 else ""
    parts = []
    for x in (-0.5, -0.38, 0.42, 0.55):
        knee = (x + rng.normal() * 0.06, legs * 0.55)
        parts.append(Part(limb((x, 0.1), knee, thick * 1.7, thick), family="fur"))
        parts.append(Part(limb(knee, (x + rng.normal() * 0.1, legs + 0.1), thick, thick * 0.7), family="fur"))
    tail = (-0.85 - rng.uniform(0, 0.2), rng.uniform(-0.4, 0.4))
    parts.append(Part(limb((-0.62, -0.08), tail, 0.06, 0.03), family="fur"))
    body = blob(rng, 0.15) * [0.72, high]
    parts += [Part(body, family="fur"), Part(limb((0.5, -0.05), head, high * 0.75, 0.13), family="fur")]
    parts.append(Part(limb(head, (head[0] + rng.uniform(0.1, 0.3), head[1] + 0.12), 0.15, 0.08), "body", label, "fur"))
    for shift in (-0.07, 0.03):
        tip = (head[0] + shift - 0.05, head[1] - rng.uniform(0.15, 0.4))
        parts.append(Part(limb((head[0] + shift, head[1] - 0.1), tip, 0.05, 0.02), family="fur"))
    for _ in range(int(rng.integers(0, 7))):
        patch = blob(rng, 0.5) * rng.uniform(0.05, 0.22) + [rng.uniform(-0.55, 0.5), rng.uniform(-0.7, 0.7) * high]
        parts.append(Part(patch, "marking", "", "fur"))
    return [*parts, Part(ellipse(head[0] + 0.05, head[1] - 0.03, 0.025, 0.025), "eye", "", "dark")]


def bird(rng: Rng) -> list[Part]:
    """A bird: the whole is labelled, sometimes its wing."""
    tilt, wing = rng.uniform(-0.5, 0.5), "wing" if rng.random() < 0.4 else ""
    parts = [Part(limb((-0.1 + 0.15 * k, 0.2), (0.15 * k, 0.75), 0.03, 0.02), "leg", "", "dark") for k in range(2)]
    parts.append(Part(limb((-0.3, 0.05), (-0.95, 0.25 + tilt * 0.5), 0.16, 0.06), "body", "", "fur"))
    parts.append(Part(ellipse(0, 0, 0.5, 0.3, tilt), "body", "", "any"))
    head = (0.42, -0.3 + tilt * 0.4)
    parts.append(Part(limb((0.25, -0.05), head, 0.2, 0.15), "body", "", "any"))
    parts.append(Part(np.array([head, [head[0] + 0.4, head[1] + 0.05], [head[0], head[1] + 0.1]]), "beak", "", "dusk"))
    span = np.array([[0.2, -0.1], [-0.2, 0.15], [-0.6, rng.uniform(-0.9, 0.3)], [-0.1, -0.25]])
    parts.append(Part(span, "wing", wing, "any"))
    return [*parts, Part(ellipse(head[0] + 0.04, head[1] - 0.03, 0.03, 0.03), "eye", "", "dark")]


def tree(rng: Rng) -> list[Part]:
    """Trunk, branches and a crown of fractal blobs; crown and trunk are labelled beside the whole."""
    bare = rng.random() < 0.25
    trunk = limb((rng.normal() * 0.06, 1), (0, -0.2), rng.uniform(0.06, 0.14), 0.05)
    parts = [Part(trunk, "bark", "" if bare else "trunk", "earth")]
    for _ in range(int(rng.integers(3, 9)) if bare else 2):
        start, end = (0, rng.uniform(-0.2, 0.4)), (rng.uniform(-0.8, 0.8), rng.uniform(-0.95, -0.2))
        parts.append(Part(limb(start, end, 0.04, 0.012), "bark", "" if bare else "trunk", "earth"))
    if bare:
        return parts
    wide, family = rng.uniform(0.3, 0.7), "dusk" if rng.random() < 0.15 else "green"
    for _ in range(int(rng.integers(2, 8))):
        place = [rng.normal() * 0.35 * wide, -0.45 + rng.normal() * 0.2]
        parts.append(Part(blob(rng, 0.95) * [wide * rng.uniform(0.5, 1), rng.uniform(0.25, 0.55)] + place,
                          "crown", "crown", family))  # fmt: skip
    return parts


def _windows(rng: Rng, x0: float, x1: float, y0: float, y1: float) -> list[Part]:
    """Rows of panes on a wall; large panes are labelled one by one (small ones fall to the area limit)."""
    rows, columns = int(rng.integers(1, 6)), int(rng.integers(1, 6))
    wide, high = (x1 - x0) / columns, (y1 - y0) / rows
    fill_x, fill_y = rng.uniform(0.3, 0.75, 2)
    parts = []
    for row in range(rows):
        for column in range(columns):
            cx, cy = x0 + wide * (column + 0.5), y0 + high * (row + 0.5)
            pane = box(cx - wide * fill_x / 2, cy - high * fill_y / 2, cx + wide * fill_x / 2, cy + high * fill_y / 2)
            parts.append(Part(pane, "glass", f"pane{row}-{column}", "dark"))
    return parts


def building(rng: Rng) -> list[Part]:
    """Front, sometimes a side wall and a roof, with windows; walls and roof are labelled beside the whole."""
    x1, y0 = rng.uniform(0.2, 1), rng.uniform(-0.9, 0)
    parts = [Part(box(-1, y0, x1, 1), "wall", "front", "stone" if rng.random() < 0.5 else "earth")]
    slant = rng.uniform(-0.15, 0.25)
    if x1 < 0.8:
        side = np.array([[x1, y0], [1, y0 + slant], [1, 1 - slant * 0.5], [x1, 1]])
        parts.append(Part(side, "side", "side", "stone"))
    if rng.random() < 0.6:
        peak = y0 - rng.uniform(0.1, 0.6)
        roof = [[-1.08, y0], [-1 + rng.uniform(0, 0.9), peak], [x1 - rng.uniform(0, 0.5), peak], [x1 + 0.08, y0]]
        parts.append(Part(np.array(roof), "roof", "roof", "earth"))
    parts += _windows(rng, -0.95, x1 - 0.05, y0 + 0.06, 0.75)
    if rng.random() < 0.6:
        x = rng.uniform(-0.8, x1 - 0.3)
        parts.append(Part(box(x, 0.45, x + rng.uniform(0.15, 0.3), 1), "door", "door", "earth"))
    return parts


def vehicle(rng: Rng) -> list[Part]:
    """Car, van or boat-like body with glass and wheels."""
    roof, start, end = rng.uniform(-0.6, -0.3), rng.uniform(-0.8, -0.3), rng.uniform(0.2, 0.8)
    cabin = np.array([[start - 0.15, -0.02], [start + 0.1, roof], [end - 0.1, roof], [end + 0.2, -0.02]])
    glass = (cabin - cabin.mean(0)) * 0.8 + cabin.mean(0)
    body = limb((-0.8, 0.15), (0.8, 0.15), 0.2, rng.uniform(0.15, 0.22))
    parts = [Part(cabin, "body", "body", "paint"), Part(body, "body", "body", "paint")]
    parts.append(Part(glass, "glass", "glass", "dark"))
    radius = rng.uniform(0.13, 0.2)
    for x in (-0.55, 0.5):
        parts.append(Part(ellipse(x, 0.35, radius, radius), "tyre", "" if rng.random() < 0.5 else f"tyre{x}", "dark"))
        parts.append(Part(ellipse(x, 0.35, radius * 0.5, radius * 0.5), "hub", "", "stone"))
    return parts


def boat(rng: Rng) -> list[Part]:
    """Hull, mast and sails."""
    hull = np.array([[-0.9, 0.55], [0.95, 0.5], [0.65, 0.85], [-0.7, 0.85]])
    parts = [Part(limb((0, 0.6), (0, -1), 0.025, 0.015), "mast", "", "dark"), Part(hull, "hull", "hull", "paint")]
    for side in (-1, 1):
        sail = np.array([[side * 0.04, -0.9], [side * rng.uniform(0.4, 0.8), 0.4], [side * 0.04, 0.4]])
        parts.append(Part(sail, f"sail{rng.integers(0, 2)}", f"sail{side}", "cloud"))
    return parts


def crate(rng: Rng) -> list[Part]:
    """A box in perspective: three faces, each a part."""
    dx, dy = rng.uniform(0.15, 0.6) * rng.choice([-1, 1]), -rng.uniform(0.15, 0.5)
    front = box(-0.7, -0.5, 0.7, 0.9)
    top = np.array([front[0], front[1], front[1] + [dx, dy], front[0] + [dx, dy]])
    edge = (front[1], front[2]) if dx > 0 else (front[0], front[3])
    side = np.array([edge[0], edge[1], edge[1] + [dx, dy], edge[0] + [dx, dy]])
    family = str(rng.choice(["paint", "earth", "stone"]))
    return [Part(shape, name, name, family) for shape, name in ((top, "top"), (side, "side"), (front, "front"))]


def flower(rng: Rng) -> list[Part]:
    """Stem, leaves, petals in one look and a centre."""
    count, wide = int(rng.integers(4, 14)), rng.uniform(0.12, 0.3)
    parts = [Part(limb((0, 0), (rng.normal() * 0.2, 1), 0.03, 0.03), "stem", "", "green")]
    for turn in circle_angles(count):
        c, s = np.cos(turn), np.sin(turn)
        parts.append(Part(ellipse(0.32 * c, 0.32 * s - 0.3, 0.35, wide, turn), "petal", "bloom", "paint"))
    return [*parts, Part(ellipse(0, -0.3, 0.18, 0.18), "centre", "centre", "straw")]


def vase(rng: Rng) -> list[Part]:
    """A turned body (mirror-symmetric) with unlabelled bands: bottle, lamp, vase, column."""
    y = np.linspace(-1, 1, 40)
    waves = [rng.normal() * 0.18 / k * np.cos(k * np.pi * (y + 1) / 2 + rng.uniform(0, 6)) for k in (1, 2, 3)]
    profile = np.clip(0.4 + sum(waves), 0.08, 0.9)
    body = np.concatenate([np.stack([profile, y], 1), np.stack([-profile, y], 1)[::-1]])
    parts = [Part(body, "body", "", str(rng.choice(["paint", "stone", "earth"])))]
    for _ in range(int(rng.integers(0, 3))):
        first = int(rng.integers(0, 34))
        rows = slice(first, first + int(rng.integers(3, 12)))
        right = np.stack([profile[rows], y[rows]], 1)
        parts.append(Part(np.concatenate([right, (right * [-1, 1])[::-1]]), "band", "", "any"))
    return parts


def creature(rng: Rng) -> list[Part]:
    """Limbs and blobs joined at random in one look: resting animals, roots, coral, folded cloth, machines."""
    joints, parts = [np.zeros(2)], [Part(blob(rng, 0.4) * rng.uniform(0.3, 0.6, 2), family="fur")]
    for _ in range(int(rng.integers(3, 12))):
        start = joints[int(rng.integers(len(joints)))]
        end = np.clip(start + rng.normal(size=2) * 0.4, -1, 1)
        joints.append(end)
        r0, r1 = rng.uniform(0.05, 0.25, 2)
        parts.append(Part(limb(tuple(start), tuple(end), r0, r1), family="fur"))
        if rng.random() < 0.4:
            parts.append(Part(blob(rng) * rng.uniform(0.1, 0.35, 2) + end, family="fur"))
    for _ in range(int(rng.integers(0, 5))):
        parts.append(Part(blob(rng, 0.5) * rng.uniform(0.05, 0.3) + rng.normal(size=2) * 0.4, "marking", "", "fur"))
    return parts


def rock(rng: Rng) -> list[Part]:
    """Heap of angular blobs in one look; lighter facets carry no label."""
    parts = [Part(blob(rng, 0.7) * rng.uniform(0.5, 1) + rng.normal(size=2) * 0.3, "rock", "", "stone")
             for _ in range(int(rng.integers(1, 4)))]  # fmt: skip
    return parts + [Part(polygon(rng) * 0.3 + rng.normal(size=2) * 0.3, "facet", "", "stone") for _ in range(2)]


OBJECTS: dict[str, tuple[Callable[[Rng], list[Part]], float]] = {
    "plain": (plain, 2.2),
    "compound": (compound, 1.6),
    "stack": (stack, 0.8),
    "person": (person, 1.6),
    "bust": (bust, 0.8),
    "animal": (animal, 1.8),
    "bird": (bird, 0.8),
    "tree": (tree, 1.2),
    "building": (building, 1.2),
    "vehicle": (vehicle, 0.7),
    "boat": (boat, 0.5),
    "crate": (crate, 0.7),
    "flower": (flower, 0.6),
    "vase": (vase, 0.6),
    "rock": (rock, 0.8),
    "creature": (creature, 1.8),
}
