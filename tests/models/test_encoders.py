"""Scorers are asked in the way they were trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from portrayal.models import encoders
from portrayal.pocket import WEIGHTS


def test_the_identity_encoder_sees_pictures_of_its_own_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At half its size it takes two photos of one person for different people."""
    shutil.copytree(WEIGHTS / "identity", tmp_path / "identity")
    file = tmp_path / "identity" / "preprocessor_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["crop_size"] = {"height": 96, "width": 96}
    file.write_text(json.dumps(settings), encoding="utf-8")
    monkeypatch.setattr(encoders, "WEIGHTS", tmp_path)
    noise = torch.randint(0, 256, (96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    picture = Image.fromarray(noise)
    own = encoders.pocket_identity(torch.device("cpu")).images([picture])
    settings["crop_size"] = {"height": 64, "width": 64}
    file.write_text(json.dumps(settings), encoding="utf-8")
    smaller = encoders.pocket_identity(torch.device("cpu")).images([picture])
    shrunk = picture.resize((64, 64), Image.Resampling.BICUBIC)
    assert abs(own - smaller).max() > 1e-3
    assert smaller == pytest.approx(encoders.pocket_identity(torch.device("cpu")).images([shrunk]), abs=1e-5)
