"""The sizes of a run, and how its minutes are shared among the stages."""

from __future__ import annotations

from dataclasses import dataclass

from pretraining.loop import Plan

COMPILE_ALLOWANCE = 25.0
"""Seconds kept for compiling the ControlNet's step."""


@dataclass(frozen=True)
class Settings:
    """What one run draws and how long it trains; the UNet gets the time that the others leave."""

    minutes: float = 18.0
    people: int = 14_000
    per_person: int = 6
    held_out_people: int = 256
    held_out_per_person: int = 4
    seed: int = 0
    smoke: bool = False

    @property
    def seconds(self) -> float:
        """The whole run, over all calls."""
        return 60 * self.minutes

    @property
    def finishing(self) -> float:
        """Seconds kept for export and evaluation."""
        return 0.04 * self.seconds

    def vae(self) -> Plan:
        """Autoencoder."""
        return self._plan("vae", 0.2, 1.5e-3, 64, warmup_steps=200, decay_from=0.3)

    def clip(self) -> Plan:
        """Text and picture encoders."""
        return self._plan("clip", 0.05, 1e-3, 1024, weight_decay=0.05, warmup_steps=200, compile=False)

    def identity(self) -> Plan:
        """Who is in a picture."""
        return self._plan("identity", 0.05, 2e-3, 256, weight_decay=0.02, warmup_steps=200, compile=False)

    def unet(self) -> Plan:
        """Denoiser, until the ControlNet's time comes."""
        until = self.seconds - self.finishing - self.controlnet_seconds - COMPILE_ALLOWANCE
        return self._plan("unet", 0.5, 1e-3, 512, warmup_steps=300, decay_from=0.3, ema=True, until=until)

    def controlnet(self) -> Plan:
        """Canny ControlNet, until the finish."""
        until = self.seconds - self.finishing
        return self._plan("controlnet", 0.09, 1e-3, 256, decay_from=0.3, ema=True, until=until)

    @property
    def controlnet_seconds(self) -> float:
        """Seconds kept for training the ControlNet."""
        return 0.09 * self.seconds

    def _plan(self, name: str, share: float, rate: float, batch_size: int, **options: object) -> Plan:
        plan = {
            "name": name,
            "seconds": share * self.seconds,
            "learning_rate": rate,
            "batch_size": batch_size,
        } | options
        if self.smoke:
            plan |= {"batch_size": 8, "max_steps": 3, "compile": False, "log_every": 1, "until": None, "seconds": 600.0}
        return Plan(**plan)  # type: ignore[arg-type]


SMOKE = Settings(minutes=1, people=6, per_person=4, held_out_people=4, held_out_per_person=4, smoke=True)
