"""``python -m examples.draw_poses [--out DIR]``: draw ready-made skeletons of whole figures, to give to ControlNets.

portrayal generate RUN --prompt "…" --control waving.png --control-kind openpose --set control.ready_made=true
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from portrayal.generation.skeleton import draw_skeleton
from pretraining.world import POSES, keypoints, sample_person, sample_shot

FOLDER = Path(__file__).parent / "poses"
SIDE = 512


def main() -> None:
    """Draw one skeleton for each pose of the drawn world."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for number, pose in enumerate(POSES):
        rng = np.random.default_rng(number)
        person = sample_person(rng)
        shot = replace(sample_shot(rng, framing="whole", pose=pose), x=0.5, tilt=0.0, turn=0.0)
        skeleton = draw_skeleton(keypoints(person, shot), SIDE)
        Image.fromarray(skeleton).save(folder / f"{pose.replace(' ', '_')}.png", optimize=True)


if __name__ == "__main__":
    main()
