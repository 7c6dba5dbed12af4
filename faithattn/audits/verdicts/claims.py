"""What each test asks, and what an answer to it says; no more than that."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """What a test is about.

    Attributes:
        test: The test in words.
        question: What it asks.
        yes: What follows where it supports attention.
        no: What follows where it contradicts it; empty where it cannot.
        untested: What remains open where nobody ran it.
    """

    test: str
    question: str
    yes: str
    no: str
    untested: str


CLAIMS = {
    "permutation_test": Claim(
        "shuffling",
        "does the output depend on which position has which weight?",
        "the output depends on which position has which weight",
        "the output is almost the same whichever position has which weight",
        "whether the output depends on which position has which weight (permutation_test)",
    ),
    "gradient_correlation": Claim(
        "gradients",
        "do positions with more weight have larger gradients?",
        "positions with more weight tend to be those that gradients rank higher",
        "attention ranks positions otherwise than gradients do",
        "whether attention ranks positions as gradients do (gradient_correlation)",
    ),
    "loo_correlation": Claim(
        "leave-one-out",
        "does leaving out a position with more weight change the output more?",
        "positions with more weight tend to be those that the output misses more",
        "attention ranks positions otherwise than leaving them out does",
        "whether attention ranks positions as leaving them out does (loo_correlation)",
    ),
    "adversarial_attention": Claim(
        "the adversary",
        "is quite different attention kept from giving almost the same output?",
        "attention that is as different as attention can be does not give the same output",
        "attention as different as attention can be gives almost the same output",
        "whether quite different attention would give the same output (adversarial_attention)",
    ),
    "single_weight_erasure": Claim(
        "erasing the top weight",
        "does the output need the top weight more than another?",
        "the output needs the top weight more than the others",
        "",
        "",
    ),
}
