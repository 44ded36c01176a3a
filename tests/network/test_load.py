"""Many simulated devices, some of them bad: each outcome is what its device has done."""

from __future__ import annotations

import pytest
from benchmarks.network import load


@pytest.mark.slow
def test_fifty_devices_with_faults_are_accounted_for_and_memory_is_flat(capsys):
    found = load.main(["--devices", "50", "--rounds", "3", "--lease", "4", "--enrolled", "2000"])
    assert found["asked"] == sum(found["outcomes"].values()) == 150
    assert found["unaccounted"] == 0, found["examples"]
    assert min(found["outcomes"][name] for name in ("counted", "crashed", "offline")) > 0
    memory = found["resident_mib"]
    assert max(memory) - memory[0] < 24, memory


def test_an_outcome_that_is_not_what_its_device_has_done_is_found():
    names = {f"1 {device}": device for device in "abcde"}
    done = {"a": "good", "b": "crashed", "c": "invalid", "d": "slow"}
    told = {"a": "counted", "b": "crashed", "c": "invalid", "d": "late", "e": "offline"}

    def of(outcomes):
        return load.unaccounted(
            [{"round": 1, "device": name, "client_id": name, "outcome": each} for name, each in outcomes.items()],
            done,
            names,
        )

    assert of(told) == []
    assert of({**told, "a": "late", "e": "counted"}) == ["round 1, a: good, and late", "round 1, e: away, and counted"]
    assert len(of({**told, "b": "counted", "c": "counted"})) == 2
