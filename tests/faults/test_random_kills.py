"""kill -9 of daemon, agents and clients at random moments while people work: nothing lost, nothing twice, nothing left."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter

from tests.doubles.checker import heard_by
from tests.faults.conftest import Place
from tests.faults.workers import Worker

SEED = 20


def test_daemon(place: Place, rounds: int) -> None:
    workers = [Worker(place, seed) for seed in range(3)]
    chance = random.Random(SEED)
    for number in range(40 * rounds):
        time.sleep(chance.uniform(0, 0.35))  # the random moment
        place.kill_daemon()
        place.back()
        if number % rounds == 0:  # a check reads everything: a long run must not take ever longer
            place.checker.check()
    for worker in workers:
        worker.finish()
    assert sum(len(worker.ended) for worker in workers) >= 40


def test_agents(place: Place, rounds: int) -> None:
    """Five starts in ten minutes are a crash loop: then a person restarts, as the hint says."""
    workers = [Worker(place, seed, forgiving=True) for seed in range(8)]
    chance, killed = random.Random(SEED), 0
    for number in range(20 * rounds):
        time.sleep(chance.uniform(0, 0.4))
        killed += place.kill_agents(chance.choice([worker.conversation for worker in workers]))
        if chance.random() < 0.3:
            killed += place.kill_agents()
        if number % rounds == 0:  # a check reads everything: a long run must not take ever longer
            place.checker.check()
    for worker in workers:
        worker.finish()
    states = [turn["state"] for worker in workers for turn in worker.ended]
    assert killed > 10 and states.count("interrupted") > 0 and states.count("done") > 20, (killed, Counter(states))


def test_clients(place: Place, rounds: int) -> None:
    """A client that is killed changes nothing: what it sent runs once or was never taken."""
    place.create("oracle", title="first")
    chance = random.Random(SEED)
    for number in range(12 * rounds):
        pair = [place.began("open", str(place.directory), "-m", f"/slow 3 0.02\nclient {number} {n}") for n in range(2)]
        time.sleep(chance.uniform(0, 0.5))
        for process in pair:
            process.kill()
            process.wait()
        if number % rounds == 0:  # a check reads everything: a long run must not take ever longer
            place.checker.check()
    place.settle()
    heard = heard_by(place.directory)
    assert len(heard) == len(set(heard))
    assert place.command("open", str(place.directory), "-m", "still there").returncode == 0


def test_everything(place: Place, rounds: int) -> None:
    workers = [Worker(place, seed, forgiving=True) for seed in range(3)]
    chance = random.Random(SEED)
    for number in range(15 * rounds):
        client = place.began("open", str(place.directory), "-m", f"everything {number}")
        time.sleep(chance.uniform(0, 0.5))
        for _ in range(chance.randrange(1, 3)):
            victim = chance.choice(["daemon", "agents", "term"])
            if victim == "agents":
                place.kill_agents()
            else:
                place.kill_daemon(signal.SIGKILL if victim == "daemon" else signal.SIGTERM)
        client.kill()
        client.wait()
        place.back()
        if number % rounds == 0:  # a check reads everything: a long run must not take ever longer
            place.checker.check()
    for worker in workers:
        worker.finish()
