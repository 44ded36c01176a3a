"""The state machine of rounds: how tasks end, when a phase is cut, and that no death changes what was told."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hansa.network import rounds
from hansa.network.rounds import Answer, Asked, Cut, Ended, Fold, Give, Passed, Progressed, SaveCut, SaveTask, Stored
from hansa.network.tasks import Outcome, PhaseKey, RoundTerms, Selected, Status
from tests.network.histories import World

COHORT = [Selected(f"d{i}", i, f"client {i}", i) for i in range(3)]


def phase_of(**terms):
    return rounds.begun(RoundTerms(**{"target": 3, "deadline": 100.0, "lease": 10.0, **terms}), COHORT)


def after(phase, *events):
    for event in events:
        phase, actions = rounds.step(phase, event)
    return phase, actions


def outcomes(phase):
    return [phase.tasks[f"d{i}"].outcome for i in range(3)]


def test_a_contribution_is_saved_before_it_is_folded_and_answered():
    phase, actions = after(phase_of(), Asked("d0"), Stored("d0", "abc", 10))
    assert [type(action) for action in actions] == [SaveTask, Fold, Answer]
    assert actions[-1] == Answer(Outcome.COUNTED)
    assert phase.tasks["d0"].digest == "abc"


def test_the_same_contribution_twice_counts_once_and_has_the_same_answer():
    _, actions = after(phase_of(), Stored("d0", "abc", 10), Stored("d0", "abc", 10))
    assert actions == [Answer(Outcome.COUNTED)]


def test_other_bytes_after_a_counted_contribution_are_refused_and_nothing_else_happens():
    phase, actions = after(phase_of(), Stored("d0", "abc", 10), Stored("d0", "xyz", 10))
    assert actions == [Answer(Outcome.REFUSED, "another contribution was counted")]
    assert phase.tasks["d0"].digest == "abc"


def test_the_target_cuts_it_and_the_rest_is_late_or_offline():
    phase, actions = after(phase_of(target=1), Asked("d1"), Stored("d0", "abc", 10))
    assert [type(action) for action in actions] == [SaveTask, Fold, Answer, SaveCut, Cut]
    assert phase.status is Status.CLOSING
    assert outcomes(phase) == [Outcome.COUNTED, Outcome.LATE, Outcome.OFFLINE]


def test_the_deadline_cuts_it_and_fewer_than_least_abandon_it():
    phase, actions = after(phase_of(least=2), Asked("d1"), Progressed("d1", 1.0), Stored("d0", "a", 1), Passed(100))
    assert phase.status is Status.ABANDONED
    assert actions[-1] == Cut(Status.ABANDONED)
    assert outcomes(phase)[0] is Outcome.COUNTED  # its contribution was there, though there is no result


def test_all_outcomes_cut_it_before_the_deadline():
    phase, _ = after(
        phase_of(),
        Stored("d0", "a", 1),
        Ended("d1", Outcome.CRASHED, "Traceback"),
        Ended("d2", Outcome.INVALID, "w is not all finite", "b"),
    )
    assert phase.status is Status.CLOSING
    assert outcomes(phase) == [Outcome.COUNTED, Outcome.CRASHED, Outcome.INVALID]


def test_who_shows_no_progress_is_not_waited_for_but_counts_if_it_comes_before_the_cut():
    phase, _ = after(phase_of(), Asked("d0"), Asked("d1"), Asked("d2"), Passed(9), Progressed("d1", 5.0), Passed(2))
    assert phase.status is Status.OPEN and not phase.tasks["d0"].outcome
    phase, actions = after(phase, Stored("d0", "a", 1))
    assert actions[-1] == Answer(Outcome.COUNTED)
    phase, _ = after(phase, Passed(20))
    assert phase.status is Status.CLOSING
    assert outcomes(phase) == [Outcome.COUNTED, Outcome.OFFLINE, Outcome.OFFLINE]


def test_progress_that_does_not_grow_extends_nothing():
    phase, _ = after(phase_of(), Asked("d0"), Progressed("d0", 5.0))
    until = phase.tasks["d0"].waited_until
    phase, _ = after(phase, Passed(5), Progressed("d0", 5.0))
    assert phase.tasks["d0"].waited_until == until


def test_a_task_that_was_taken_is_given_again_with_the_time_that_is_left():
    phase, (save, give) = after(phase_of(), Passed(30), Asked("d0"))
    assert isinstance(save, SaveTask)
    assert isinstance(give, Give) and give.seconds_left == 70.0
    _, actions = after(phase, Asked("d0"))
    assert [type(action) for action in actions] == [Give]


@pytest.mark.parametrize("device", ["d0", "somebody"])
def test_who_has_no_open_task_is_given_none(device):
    phase, _ = after(phase_of(), Ended("d0", Outcome.REFUSED, "not at night"))
    assert after(phase, Asked(device))[1] == [Give(None)]


def test_what_comes_after_the_cut_is_told_how_the_task_ended():
    phase, actions = after(phase_of(target=1), Asked("d1"), Stored("d0", "a", 1), Stored("d1", "b", 1))
    assert actions == [Answer(Outcome.LATE)]
    assert [each.device for each in phase.counted] == ["d0"]


def test_the_time_of_a_phase_stands_still_while_the_coordinator_is_down():
    phase, _ = after(phase_of(), Asked("d0"), Passed(60))
    back = rounds.restored(phase.terms, phase.tasks.values(), phase.status, phase.saved)
    assert back.elapsed == 60.0
    assert back.tasks["d0"].waited_until == 70.0  # it could not be heard meanwhile
    assert after(back, Passed(39))[0].status is Status.OPEN
    assert after(back, Passed(40))[0].status is Status.ABANDONED


def test_a_device_does_not_say_itself_that_it_was_counted_or_late():
    with pytest.raises(ValueError, match="late by itself"):
        rounds.step(phase_of(), Ended("d0", Outcome.LATE, ""))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"target": 0}, "target must be a number of clients"),
        ({"least": 4}, "least is 4, more than target, 3"),
        ({"deadline": float("inf")}, "deadline must be a positive number of seconds"),
        ({"lease": True}, "lease must be a positive number of seconds"),
    ],
)
def test_terms_that_do_not_go_together_are_refused(terms, message):
    with pytest.raises(ValueError, match=message):
        phase_of(**terms)


def test_a_phase_and_its_tasks_have_names_of_their_own():
    key = PhaseKey("r", 3, 1, "round", 0, 0)
    others = [PhaseKey("r", 3, 2, "round", 0, 0), PhaseKey("r", 3, 1, "round", 0, 1), PhaseKey("r", 3, 1, "call", 0, 0)]
    assert len({each.task_id("d") for each in [key, *others]} | {key.task_id("e")}) == 5
    assert key.task_id("d") == PhaseKey("r", 3, 1, "round", 0, 0).task_id("d")


DEVICES = 4
PLAYS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, DEVICES - 1)),
        st.tuples(st.just("progress"), st.integers(0, DEVICES - 1), st.floats(0, 50)),
        st.tuples(st.just("store"), st.integers(0, DEVICES - 1), st.sampled_from("ab")),
        st.tuples(
            st.just("end"),
            st.integers(0, DEVICES - 1),
            st.sampled_from([Outcome.CRASHED, Outcome.REFUSED, Outcome.INVALID]),
        ),
        st.tuples(st.just("pass"), st.floats(0, 40)),
        st.tuples(st.just("give up")),
    ),
    max_size=25,
)


@st.composite
def histories(draw):
    target = draw(st.integers(1, DEVICES))
    terms = RoundTerms(target, draw(st.integers(1, target)), deadline=100.0, lease=draw(st.sampled_from([5.0, 60.0])))
    return terms, draw(PLAYS), draw(st.lists(st.integers(0, 12), max_size=6))


def played(terms, plays, deaths):
    world = World(terms, DEVICES, deaths)
    for kind, *rest in plays:
        match kind:
            case "ask":
                world.send(Asked(f"d{rest[0]}"))
            case "progress":
                world.send(Progressed(f"d{rest[0]}", rest[1]))
            case "store":
                world.store(f"d{rest[0]}", rest[1])
            case "end":
                world.send(Ended(f"d{rest[0]}", rest[1], "because", "bad" if rest[1] is Outcome.INVALID else None))
            case "pass":
                world.send(Passed(rest[0]))
            case "give up":
                world.send(rounds.GivenUp("stopped"))
    world.finish()
    return world


def check(history):
    terms, plays, deaths = history
    disturbed, calm = played(terms, plays, list(deaths)), played(terms, plays, [])
    counted = [task.outcome is Outcome.COUNTED for task in disturbed.disk.tasks.values()]
    if not any(play[0] in ("pass", "give up") for play in plays):  # which a death makes shorter, or forgets
        assert counted == [task.outcome is Outcome.COUNTED for task in calm.disk.tasks.values()]
        assert {d: t.digest for d, t in disturbed.disk.tasks.items()} == {
            d: t.digest for d, t in calm.disk.tasks.items()
        }


EVENTS = [
    Asked("d0"),
    Asked("d1"),
    ("d0", "abc"),
    Progressed("d1", 1.0),
    Ended("d1", Outcome.CRASHED, "why"),
    ("d0", "abc"),
    ("d0", "other bytes"),
    Passed(6.0),
    ("d2", "xyz"),
]


def history(deaths):
    """How tasks and the phase end, of devices that repeat what had no answer, and what was folded."""
    world = World(RoundTerms(3, least=2, deadline=100.0, lease=10.0), 3, deaths)
    for event in EVENTS:
        world.store(*event) if isinstance(event, tuple) else world.send(event)
    world.finish()
    ends = {name: (task.outcome, task.reason, task.digest) for name, task in world.disk.tasks.items()}
    return ends, world.disk.status, sorted(world.folded), len(world.deaths)


def test_a_death_at_every_step_and_another_soon_after_change_nothing():
    *undisturbed, left = history([])
    assert [outcome for outcome, *_ in undisturbed[0].values()] == ["counted", "crashed", "counted"]
    died = 0
    for first in range(60):
        for second in (None, 0, 1, 2, 3):
            *found, left = history([first] if second is None else [first, second])
            assert found == undisturbed, (first, second)
            died += not left
    assert died > 100  # most of these deaths were met with


@settings(max_examples=200)
@given(histories())
def test_no_death_between_any_two_actions_loses_or_repeats_anything(history):
    check(history)


@pytest.mark.slow
@settings(max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(histories())
def test_ten_thousand_histories(history):
    check(history)
