"""How often the doctor names a known mistake: `python -m tests.nn.audit.confusion --split dev --seeds 40`.

Counts per kind: right, wrong kind, wrong factor, wrong place, several causes, missed, undecidable, raised; and false
causes on correct submissions. --list prints the instances behind the counts, the most frequent confusion first.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nn.audit.diagnosis import audit_claims
from tests.nn.audit.mistakes import (
    MODES,
    Answer,
    Bench,
    Instance,
    correct_submission,
    factor_value,
    random_problem,
    split,
)

OUTCOMES = ("right", "wrong kind", "wrong factor", "wrong place", "several", "missed", "undecidable", "raised")
Audit = Callable[..., Any]


def named_by(cause: Any, answers: Sequence[Answer], n: int, m: int) -> str:
    """right, wrong factor, wrong kind or wrong place: how near the cause comes to an answer."""
    family = "da" if cause.quantity == "dyhat" else cause.quantity.rstrip("0123456789")
    layers = tuple(sorted(cause.layers)) or ((cause.layer,) if cause.layer is not None else ())
    here = [answer for answer in answers if answer.family == family and tuple(sorted(answer.layers)) == layers]
    if not here:
        return "wrong place"
    alike = [answer for answer in here if answer.kind == cause.kind]
    if not alike:
        return "wrong kind"
    value = factor_value(cause.factor, n, m)
    # a factor read off the numbers is printed with a few digits
    if any(a.factor is None or (value is not None and np.isclose(value, a.factor, rtol=1e-2)) for a in alike):
        return "right"
    return "wrong factor"


def outcome_of(instance: Instance, audit: Audit = audit_claims) -> tuple[str, str]:
    """(one of OUTCOMES, what was answered); of a pair "right" means that both are named."""
    p = instance.problem
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            report = audit(**p.arguments(), claims=instance.claims)
    except Exception as error:
        return "raised", f"{type(error).__name__}: {str(error)[:100]}"
    causes = report.causes
    said = ", ".join(
        f"{c.quantity}{list(c.layers) if c.layer is None else ''} {c.kind}{' ' + c.factor if c.factor else ''}"
        for c in causes
    )
    if not instance.mistakes:
        return ("right" if report.ok is True and not causes else "undecidable" if report.ok is None else "false"), said
    if report.ok is None:
        return "undecidable", f"{said or 'no causes'}; {'; '.join(report.notes)[:200]}"
    if report.ok or not causes:
        return "missed", f"{report.verdict}: {said or 'no causes'}"
    if len(instance.mistakes) > 1:
        both = all(
            any(named_by(cause, answers, p.n, p.m) == "right" for cause in causes) for answers in instance.answers
        )
        return ("right" if both else "several" if len(causes) > 1 else "wrong place"), said
    if len(causes) > 1:
        return "several", said
    return named_by(causes[0], instance.answers[0], p.n, p.m), said


def singles(which: str, seeds: Sequence[int], mode: str, per_seed: int) -> list[Instance]:
    """Single mistakes of a split on random problems."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([22, seed])
        bench = Bench(random_problem(seed, "tiny" if seed % 10 == 9 else "plain"), split(which))
        found += bench.instances(rng, per_seed, mode)
    return found


def pairs(which: str, seeds: Sequence[int], mode: str) -> list[Instance]:
    """Pairs of mistakes of a split."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([23, seed])
        bench = Bench(random_problem(seed), split(which))
        found += [pair for _ in range(40) if (pair := bench.pair(rng, mode)) is not None][:4]
    return found


def matrix(
    title: str,
    instances: Sequence[Instance],
    listed: int,
    judge: Callable[[Instance], tuple[str, str]] = outcome_of,
) -> str:
    """The counts as text, and the first `listed` groups of confusions with instances."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    started = time.perf_counter()
    for instance in instances:
        kind = instance.mistakes[0].kind if len(instance.mistakes) == 1 else "pair"
        outcome, said = judge(instance)
        counts[kind][outcome] += 1
        if outcome != "right":
            what = " + ".join(mistake.name for mistake in instance.mistakes)
            groups[outcome, kind, what].append(f"{instance} -> {said}")
    spent = (time.perf_counter() - started) / max(1, len(instances))
    total: Counter[str] = sum(counts.values(), Counter())
    lines = [
        f"{title}: {total['right']} of {len(instances)} right ({100 * total['right'] / max(1, len(instances)):.1f}%), "
        f"{1000 * spent:.0f} ms each",
        f"{'kind':24s}" + "".join(f"{name:>13s}" for name in OUTCOMES),
    ]
    for kind, row in [*sorted(counts.items()), ("total", total)]:
        lines.append(f"{kind:24s}" + "".join(f"{row[name] or '.':>13}" for name in OUTCOMES))
    for (outcome, _, what), members in sorted(groups.items(), key=lambda item: -len(item[1]))[:listed]:
        lines.append(f"{len(members)} x {outcome}: {what}")
        lines += [f"    {member}" for member in members[:3]]
    return "\n".join(lines)


def false_causes(seeds: Sequence[int], listed: int) -> str:
    """The counts of false causes on correct submissions."""
    counts: Counter[str] = Counter()
    lines = []
    for seed in seeds:
        instance = correct_submission(seed)
        if instance is None:
            counts["skipped"] += 1
            continue
        outcome, said = outcome_of(instance)
        counts[outcome] += 1
        if outcome != "right":
            lines.append(f"    {outcome}: {instance} -> {said}")
    return "\n".join([f"correct submissions: {dict(counts)}", *lines[:listed]])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=["dev", "held-out", "all"], default="dev")
    parser.add_argument("--seeds", type=int, default=20, help="problems per mode")
    parser.add_argument("--first", type=int, default=None, help="first seed; 0 for dev, 1000000 for held-out")
    parser.add_argument("--per-seed", type=int, default=10, help="mistakes per problem")
    parser.add_argument("--modes", nargs="*", choices=MODES, default=MODES)
    parser.add_argument("--correct", type=int, default=200, help="correct submissions")
    parser.add_argument("--pairs", type=int, default=0, help="problems per mode for pairs")
    parser.add_argument("--list", type=int, default=0, help="groups of confusions to print")
    options = parser.parse_args(arguments)
    first = options.first if options.first is not None else 1_000_000 if options.split == "held-out" else 0
    for mode in options.modes:
        seeds = range(first, first + options.seeds)
        instances = singles(options.split, seeds, mode, options.per_seed)
        print(matrix(f"{options.split}, {mode}", instances, options.list), flush=True)
        if options.pairs:
            found = pairs(options.split, range(first, first + options.pairs), mode)
            print(matrix(f"{options.split}, {mode}, pairs", found, options.list), flush=True)
    print(false_causes(range(first, first + options.correct), options.list), flush=True)


if __name__ == "__main__":
    main()
