"""Compose the README's picture from a run: photos above, the five scenes by the base and by two of its models below.

python -m scripts.demo_picture RUN docs/images/demo.webp
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE, GAP, LABEL = 160, 6, 92


def main() -> None:
    """Paste and save."""
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    manifest = json.loads((run / "dataset" / "manifest.json").read_text(encoding="utf-8"))
    scenes = sorted(path.name for path in (run / "images" / "base").iterdir())
    photos = [run / "dataset" / "images" / f"{photo['id']}.png" for photo in manifest["photos"][:: 18 // len(scenes)]]
    rows = {"photos": photos[: len(scenes)]}
    for name in ("base", "unet", scores["verdict"]["best_lora"]):
        rows[name] = [run / "images" / name / scene / "0.png" for scene in scenes]
    sheet = Image.new("RGB", (LABEL + len(scenes) * (SIDE + GAP), len(rows) * (SIDE + GAP) - GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for line, (name, paths) in enumerate(rows.items()):
        draw.text((0, line * (SIDE + GAP) + SIDE // 2 - 9), name, fill="#555555", font=font)
        for place, path in enumerate(paths):
            with Image.open(path) as image:
                large = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(large, (LABEL + place * (SIDE + GAP), line * (SIDE + GAP)))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, quality=90)


if __name__ == "__main__":
    main()
