"""A provider in memory with faults on demand, held to the same contract as the real one (tests/contract)."""

from simulated.behaviour import Behaviour
from simulated.clock import VirtualClock
from simulated.effects import Crash, CrashableLedger, CrashableSession, Effects, FaultyLedger
from simulated.guard import guarded
from simulated.router import SimulatedRouter
from simulated.runtime import SimulatedRuntime
from simulated.values import EngineSimulation, Simulation

__all__ = [
    "Behaviour",
    "Crash",
    "CrashableLedger",
    "CrashableSession",
    "Effects",
    "EngineSimulation",
    "FaultyLedger",
    "SimulatedRouter",
    "SimulatedRuntime",
    "Simulation",
    "VirtualClock",
    "guarded",
]
