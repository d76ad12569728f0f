"""Phrases that a reader from outside had to read twice, and what says the same at once."""

from typing import NamedTuple


class Phrase(NamedTuple):
    """A phrase that no text of the project uses any more.

    Attributes:
        pattern: Regular expression for it, within a line.
        example: Old text with it.
        instead: What is written in its place.
    """

    pattern: str
    example: str
    instead: str


THROWN_OUT = tuple(
    Phrase(*row)
    for row in (
        (r"^\s+\w+: (Of|Whose|That|Where) ", "    number: Of the round.", "Round number."),
        (r'(help=\(?f?"|""")Of ', 'help="Of the sweep."', "Name of the sweep."),
        (
            r"^\s+\w+: (When|How many|At which|In which) ",
            "  max_s: When time is up.",
            "Time budget.",
        ),
        (r": (There|Likewise|All|As given)\.$", "    loss: There.", "Loss at that fraction."),
        (r"\bgone on (with|from)\b", "an existing one is gone on from", "is resumed"),
        (r"\b[Gg]o(es)? on (with|from) ", "Go on with NAME", "Resume NAME"),
        (r"\b[Gg]oes on\b", "the same command goes on", "the same command resumes it"),
        (r"\bsettings count\b", "Go on with NAME; its own settings count.", "Resume with its own"),
        (r"\bbegun again\b", "t0003 is begun again", "is restarted"),
        (r"\b([Ii]s|[Aa]re) told (of|if|how)\b", "say: Is told of each iteration", "Receives"),
        (r"\bIs told\b", "progress: Is told what happens.", "Receives progress events."),
        (
            r"\b[Ww]hat (became|becomes|has become|came|comes) of\b",
            "what became of a kill",
            "outcome",
        ),
        (r"\bwithout a word\b", "torch may give wrong numbers without a word", "silently"),
        (r"\b[Ww]hom\b", "whom Ray's memory monitor ended", "the trials that it killed"),
        (r"\b[Ww]ho (else )?(is told|looks on|is meant)\b", "watch: Who looks on", "Callback"),
        (r"\b[Gg]ives? back (actors|memory)\b", "Give back actors and memory.", "Release"),
        (r"\bpaid anew\b", "replayed transitions are paid anew", "rewards are relabelled"),
        (r"\b[Oo]ne's own\b", "an algorithm of one's own", "your own algorithm"),
        (r"\bchose (nothing|neither)\b", "with seeds that chose nothing", "with fresh seeds"),
        (r"\bfor want of\b", "killed a process for want of memory", "because memory ran out"),
        (r"\bdoes the sum\b", "the message does the sum", "the message shows the sum"),
        (r"\bSee that (the|this|what|a|each|no)\b", "See that the trials fit.", "Check that"),
        (r"\bSeconds that only grow\b", "clock: Seconds that only grow [s].", "Monotonic clock"),
        (r"\ba way of resuming\b", "for a way of resuming that is not used here", "own resume"),
        (r"\bke(ep|pt|eps) free\b", "what Ray keeps free for it", "what Ray reserves for it"),
        (r"\bcannot be played\b", "the winner cannot be played any more", "cannot be evaluated"),
        (
            r"\b[Hh]av(e|ing) (something|it|them) played\b",
            "Have something played",
            "Collect rollouts",
        ),
        (r"\bin one move\b", "Write the file in one move", "Write the file atomically"),
        (r"\b[Bb]ecome what was saved\b", "Become what was saved.", "Load saved weights."),
        (r"\blearnt from again\b", "what is kept to be learnt from again", "the replay buffer"),
        (
            r"\bat work on a configuration\b",
            "An algorithm at work on a configuration",
            "trains one",
        ),
        (r"\bheld against\b", "the target it is held against", "the target it is compared with"),
        (r"\bso many (seeds|times|trials)\b", "so many seeds find it", "N seeds"),
        (r"\bsomebody\b", "if somebody asked to stop before", "if a stop was requested"),
        (r"\bflattering\b", "so the floor is never flattering", "is never too high"),
        (r"\bis nothing to it\b", "what others do is nothing to it", "does not depend on it"),
        (r"\baffair\b", "another's affair", "the task of another module"),
        (r"\b[Bb]rings? up to date\b", "Bring up to date what is derived", "Recompute"),
        (r"\b(is|are) heard\b", "since its modes are heard", "since all its modes are excited"),
        (r"\bAll that is wrong\b", "All that is wrong with a file.", "All faults of a file."),
        (r"\b[Ww]hat (a|the) command line ask", "What a command line asks for.", "Options"),
        (r"\bmust not stand in\b", "a token must not stand in the file", "must not be in"),
        (r"\bRefuses? what\b", "Refuse what is no tensor.", "Check that it is a tensor."),
        (r"\bagain and again\b", "parts were lost again and again", "too many times"),
        (r"\bspeaks? against\b", "what speaks against a corner", "the evidence against it"),
        (r"\btried to the end\b", "configurations tried to the end", "completed configurations"),
        (r"\bhangs? on (values|the)\b", "must hang on values", "must depend on values"),
        (r"\bWho (is asked|answers for)\b", "Who answers for the agents.", "The brain"),
        (r"\bforetold\b", "more than foretold", "more than the estimate"),
        (
            r"\bwent wrong by a list\b|\bgo wrong by a list\b",
            "which go wrong by a list",
            "injected",
        ),
    )
)
