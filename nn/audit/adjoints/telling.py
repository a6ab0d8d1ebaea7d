"""A mistake in words: the Cause that is told of it, at the first claim that shows it."""

from __future__ import annotations

from nn.audit.adjoints.mistake import Mistake
from nn.audit.adjoints.readings import Told
from nn.audit.adjoints.sweep import Sweep
from nn.audit.adjoints.targets import Target
from nn.audit.report import Cause


def cause_of(told: Told, sweep: Sweep) -> Cause:
    """The Cause; of several mistakes that yield the same numbers the second is mentioned."""
    mistake, first = told.mistake, told.steps[0]
    target, claim, right = first.target, first.target.claim, first.right
    here, *others = told.places
    words = told.places[here]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        words += f"; the same at {', '.join(map(repr, others[:3]))}{more}"
    worst = right.worst(claim, sweep.recorded.tiny)
    return Cause(
        target.name, None, (), mistake.kind, words, mistake.factor, _bare(mistake.found),
        _bare(mistake.belongs) or _formula(sweep, target), None, worst,
        float(claim[worst]), float(right.value[worst]), f"{target.name}: {mistake.rule or mistake.words}",
        "" if _is_own(mistake, target) else "above",
    )  # fmt: skip


def _bare(called: str | None) -> str | None:
    """What is called by a name alone, without the quotes."""
    is_name = called is not None and called.startswith("'") and called.find("'", 1) == len(called) - 1
    return called[1:-1] if called is not None and is_name else called


def _is_own(mistake: Mistake, target: Target) -> bool:
    """Whether a mistake is made in the claim itself, and no other can see it."""
    return mistake.changed <= set(target.nodes)


def _formula(sweep: Sweep, target: Target) -> str:
    """The sum over the children that the right value is."""
    name = target.name
    if not target.whole:
        return f"d{name}[...] = the sum over the children of each element"
    children = list(dict.fromkeys(child for child, _ in sweep.children[target.nodes[0]]))
    parts = [f"what comes through {sweep.called(child)}" for child in children[:4]]
    more = ["..."] if len(children) > 4 else []
    return f"d{name} = " + (" + ".join([*parts, *more]) or "1")
