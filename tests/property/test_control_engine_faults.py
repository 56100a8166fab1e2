"""Everything at once on an engine: slow, late to show what was done, and one time in ten it says "try again"."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule
from test_control_faults import Faults, run_sequences

from simulated import EngineSimulation, Simulation

FEW, MANY = 40, 3_000


class EngineFaults(Faults):
    """The same on an engine somewhere else, which no reboot of this machine concerns."""

    def made_world(self) -> Simulation | EngineSimulation:
        return EngineSimulation(effects=self.effects)

    @rule(verb=st.sampled_from(["expose", "route", "withdraw", "create", "destroy", "observe"]))
    def the_router_refuses(self, verb: str) -> None:
        super().the_router_refuses(verb)

    @rule(which=st.integers(0, 5), weight=st.sampled_from([1, 7, 100]))
    def a_weight_is_changed_by_hand(self, which: int, weight: int) -> None:
        super().a_weight_is_changed_by_hand(which, weight)

    def the_router_dies(self) -> None:
        """There is none on this machine."""

    def the_machine_reboots(self) -> None:
        """It does not run here."""


def test_a_few_sequences_of_verbs_and_faults_on_an_engine() -> None:
    run_sequences(EngineFaults, FEW)


@pytest.mark.long
def test_thousands_of_sequences_of_verbs_and_faults_on_an_engine() -> None:
    run_sequences(EngineFaults, MANY)
