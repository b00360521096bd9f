"""The sizes of a run, and how its minutes are shared among the stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pretraining.loop import Plan

STAGES = ("vae", "clip", "identity", "judge", "pose", "unet", "controlnet_canny", "controlnet_openpose")
"""In order of need."""

COMPILE_ALLOWANCE = 20.0
"""Seconds kept for compiling a ControlNet's step."""

CONTROLNET_SHARE = 0.045
FINISHING_SHARE = 0.04
"""Of the run's time: each ControlNet's training; export and evaluation."""


@dataclass(frozen=True)
class Settings:
    """What one run draws and how long it trains; the UNet gets the time that the others leave."""

    state: Path = Path("state")
    """Where unfinished stages are kept."""
    minutes: float = 28.0
    people: int = 18_000
    per_person: int = 6
    held_out_people: int = 512
    held_out_per_person: int = 4
    seed: int = 0
    smoke: bool = False

    @property
    def seconds(self) -> float:
        """The whole run, over all calls."""
        return 60 * self.minutes

    def vae(self) -> Plan:
        """Autoencoder."""
        return self._plan("vae", 0.24, 1.2e-3, 64, warmup_steps=200, decay_from=0.3, graph=True)

    def clip(self) -> Plan:
        """Text and picture encoders."""
        return self._plan("clip", 0.04, 1e-3, 1024, weight_decay=0.05, warmup_steps=200, compile=False)

    def identity(self) -> Plan:
        """Who is in a picture."""
        return self._plan("identity", 0.045, 2e-3, 256, weight_decay=0.02, warmup_steps=200, compile=False)

    def judge(self) -> Plan:
        """What is in a picture: not a part of the base, but what measures it."""
        return self._plan("judge", 0.045, 2e-3, 256, weight_decay=0.02, warmup_steps=200, compile=False)

    def pose(self) -> Plan:
        """Where the joints are."""
        return self._plan("pose", 0.045, 1e-3, 256, weight_decay=0.02, warmup_steps=200, compile=False)

    def unet(self) -> Plan:
        """Denoiser and its text encoder, until the ControlNets' time comes."""
        until = self._before_finishing - 2 * (CONTROLNET_SHARE * self.seconds + COMPILE_ALLOWANCE)
        return self._plan("unet", 0.4, 1e-3, 512, warmup_steps=500, decay_from=0.3, ema=True, graph=True, until=until)

    def controlnet_canny(self) -> Plan:
        """ControlNet for edges."""
        until = self._before_finishing - CONTROLNET_SHARE * self.seconds - COMPILE_ALLOWANCE
        return self._controlnet("controlnet_canny", until)

    def controlnet_openpose(self) -> Plan:
        """ControlNet for skeletons, until the finish."""
        return self._controlnet("controlnet_openpose", self._before_finishing)

    @property
    def _before_finishing(self) -> float:
        return (1 - FINISHING_SHARE) * self.seconds

    def _controlnet(self, name: str, until: float) -> Plan:
        return self._plan(name, CONTROLNET_SHARE, 1e-3, 256, decay_from=0.3, ema=True, graph=True, until=until)

    def _plan(self, name: str, share: float, rate: float, batch_size: int, **options: object) -> Plan:
        plan = {
            "name": name,
            "seconds": share * self.seconds,
            "learning_rate": rate,
            "batch_size": batch_size,
            "state_file": self.state / f"{name}_training.safetensors",
        } | options
        if self.smoke:
            plan |= {"batch_size": 8, "max_steps": 3, "compile": False, "log_every": 1, "until": None, "seconds": 600.0}
        return Plan(**plan)  # type: ignore[arg-type]


SMOKE = Settings(minutes=1, people=6, per_person=4, held_out_people=4, held_out_per_person=4, smoke=True)
