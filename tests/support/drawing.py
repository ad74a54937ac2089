"""A drawn face, for what looks for drawn faces: geometry only, so it is nobody's."""

from typing import NamedTuple

from PIL import Image, ImageDraw

_HAIR, _SKIN, _LINE, _NECK = (120, 80, 50), (253, 226, 208), (70, 40, 40), (240, 205, 185)
_DARK, _IRIS, _WHITE = (30, 20, 30), (60, 90, 170), (255, 255, 255)
_FRINGE = (
    (0.2, 0.45), (0.24, 0.2), (0.5, 0.12), (0.76, 0.2), (0.8, 0.45), (0.74, 0.38), (0.7, 0.46),
    (0.62, 0.3), (0.55, 0.44), (0.47, 0.29), (0.4, 0.45), (0.33, 0.31), (0.28, 0.46),
)  # fmt: skip


class _Renderer(NamedTuple):
    """Draws in units of the picture's side."""

    draw: ImageDraw.ImageDraw
    side_px: int

    def ellipse(self, center, radii, color):
        (x, y), (width, height), side = center, radii, self.side_px
        box = ((x - width) * side, (y - height) * side, (x + width) * side, (y + height) * side)
        self.draw.ellipse(box, fill=color)

    def polygon(self, points, color):
        self.draw.polygon([(x * self.side_px, y * self.side_px) for x, y in points], fill=color)

    def arc(self, box, angles, color, width):
        self.draw.arc([each * self.side_px for each in box], *angles, fill=color, width=round(width * self.side_px))


def drawn_face(side_px: int = 256) -> Image.Image:
    """Draw an upright face whose eyes are at (0.38, 0.55) and (0.62, 0.55) of the side, the mouth at (0.5, 0.69)."""
    image = Image.new("RGB", (side_px * 2, side_px * 2), (235, 240, 250))
    renderer = _Renderer(ImageDraw.Draw(image), side_px * 2)
    renderer.ellipse((0.5, 0.45), (0.33, 0.36), _HAIR)
    renderer.polygon([(0.17, 0.45), (0.83, 0.45), (0.86, 0.85), (0.14, 0.85)], _HAIR)
    renderer.polygon([(0.43, 0.7), (0.57, 0.7), (0.58, 0.95), (0.42, 0.95)], _NECK)
    for edge, color in ((0.008, _LINE), (0.0, _SKIN)):
        renderer.ellipse((0.5, 0.5), (0.245 + edge, 0.24 + edge), color)
        sides = [(0.255 - edge, 0.5), (0.745 + edge, 0.5), (0.66 + edge, 0.7)]
        renderer.polygon([*sides, (0.5, 0.8 + edge), (0.34 - edge, 0.7)], color)
    renderer.polygon(_FRINGE, _HAIR)
    for x in (0.38, 0.62):
        _draw_eye(renderer, x)
    renderer.polygon([(0.497, 0.63), (0.507, 0.63), (0.503, 0.642)], (200, 140, 130))
    renderer.arc((0.455, 0.66, 0.545, 0.71), (20, 160), (190, 80, 80), 0.008)
    return image.resize((side_px, side_px), Image.Resampling.LANCZOS)


def _draw_eye(renderer: _Renderer, x: float) -> None:
    renderer.ellipse((x, 0.545), (0.065, 0.075), _DARK)
    renderer.ellipse((x, 0.555), (0.058, 0.062), _WHITE)
    renderer.ellipse((x, 0.555), (0.043, 0.062), _IRIS)
    renderer.ellipse((x, 0.56), (0.022, 0.035), (15, 15, 40))
    renderer.ellipse((x - 0.015, 0.53), (0.014, 0.018), _WHITE)
    renderer.arc((x - 0.075, 0.47, x + 0.075, 0.62), (200, 340), _DARK, 0.012)
    renderer.arc((x - 0.07, 0.42, x + 0.07, 0.52), (210, 330), _LINE, 0.006)
