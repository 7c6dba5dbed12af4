"""What the statistics of a report mean, in one sentence each."""

from __future__ import annotations

STATISTICS = {
    "instances": "how many were tested.",
    "undefined": "instances without a number (one word, all scores equal, or failed), counted and "
    "left out of the rest.",
    "failed": "instances of batches on which the metric failed.",
    "95 % interval": "bootstrap interval of the mean over instances, or over their clusters: where "
    "the mean of many more such instances would lie.",
    "unrelated (95 %)": "where the mean would lie if attention had nothing to do with importance.",
    "noise ceiling": "agreement of the two importance scores with each other: more than that "
    "cannot be asked of attention.",
    "random explanation": "the same number for random weights in place of attention.",
    "uniform attention": "the same number for equal weights in place of attention.",
    "significant": "instances whose p-value stays below 5 % after Benjamini and Hochberg's "
    "correction for their number.",
    "p, corrected": "that of the mean against 0, after Benjamini and Hochberg's correction for the "
    "number of attentions.",
    "detectable": "the smallest difference of the mean from a fixed value that a sample of this "
    "size would show four times out of five, at the 5 % level.",
}
