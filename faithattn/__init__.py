"""Attention-faithfulness metrics for any PyTorch model.

Names are imported when they are first used: ``import faithattn`` alone does
not load PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from faithattn._version import __version__

if TYPE_CHECKING:
    from faithattn._memory import memory_budget
    from faithattn.adapters.contract.check import check_adapter
    from faithattn.adapters.protocol import (
        AttentionModel,
        Run,
        SupportsRemoval,
        SupportsReplay,
        SupportsSelection,
    )
    from faithattn.adapters.torch_module.adapt import adapt
    from faithattn.adapters.torch_module.tokens import token_logits
    from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
    from faithattn.adapters.view import AttentionView
    from faithattn.errors import AdapterError
    from faithattn.importance.attribution.scores import captum_importance
    from faithattn.importance.gradient import gradient_importance
    from faithattn.importance.leave_one_out import leave_one_out_importance
    from faithattn.interventions.patches import mask_patch
    from faithattn.interventions.tokens import mask_token
    from faithattn.measures.adversary.exact import exact_adversary
    from faithattn.measures.adversary.plausible import Plausible
    from faithattn.measures.agreement import (
        spearman_correlation,
        top_k_overlap,
        weighted_kendall_tau,
    )
    from faithattn.measures.divergence import (
        jensen_shannon_divergence,
        kl_divergence,
        total_variation_distance,
    )
    from faithattn.measures.draws import permute_attention
    from faithattn.measures.groups import aggregate_scores, patch_groups, word_groups
    from faithattn.measures.rank import (
        RankCorrelation,
        kendall_tau,
        rank_correlation,
        top_k_kendall,
    )
    from faithattn.measures.retrieval import average_precision, ndcg
    from faithattn.metrics.adversarial.attention import adversarial_attention
    from faithattn.metrics.adversarial.frontier import adversarial_frontier
    from faithattn.metrics.attribution.attribution import captum_attribution
    from faithattn.metrics.attribution.infidelity import infidelity
    from faithattn.metrics.attribution.sensitivity import max_sensitivity
    from faithattn.metrics.correlation import gradient_correlation, loo_correlation
    from faithattn.metrics.permutation import permutation_test
    from faithattn.results.adversarial import AdversarialFrontier, AdversarialResult
    from faithattn.results.attribution import Attribution, Infidelity, Sensitivity
    from faithattn.results.correlation import Correlation
    from faithattn.results.permutation import PermutationResult
    from faithattn.statistics import Statistics, Summary

__all__ = [
    "AdapterError",
    "AdversarialFrontier",
    "AdversarialResult",
    "AttentionModel",
    "AttentionView",
    "Attribution",
    "Correlation",
    "Infidelity",
    "PermutationResult",
    "Plausible",
    "RankCorrelation",
    "Run",
    "Sensitivity",
    "Statistics",
    "Summary",
    "SupportsRemoval",
    "SupportsReplay",
    "SupportsSelection",
    "TorchAdapter",
    "__version__",
    "adapt",
    "adversarial_attention",
    "adversarial_frontier",
    "aggregate_scores",
    "average_precision",
    "captum_attribution",
    "captum_importance",
    "check_adapter",
    "exact_adversary",
    "gradient_correlation",
    "gradient_importance",
    "infidelity",
    "jensen_shannon_divergence",
    "kendall_tau",
    "kl_divergence",
    "leave_one_out_importance",
    "loo_correlation",
    "mask_patch",
    "mask_token",
    "max_sensitivity",
    "memory_budget",
    "ndcg",
    "patch_groups",
    "permutation_test",
    "permute_attention",
    "rank_correlation",
    "spearman_correlation",
    "token_logits",
    "top_k_kendall",
    "top_k_overlap",
    "total_variation_distance",
    "weighted_kendall_tau",
    "word_groups",
]

_HOMES = {
    "_memory": ["memory_budget"],
    "adapters.contract.check": ["check_adapter"],
    "adapters.protocol": [
        "AttentionModel",
        "Run",
        "SupportsRemoval",
        "SupportsReplay",
        "SupportsSelection",
    ],
    "adapters.torch_module.adapt": ["adapt"],
    "adapters.torch_module.tokens": ["token_logits"],
    "adapters.torch_module.torch_adapter": ["TorchAdapter"],
    "adapters.view": ["AttentionView"],
    "errors": ["AdapterError"],
    "importance.attribution.scores": ["captum_importance"],
    "importance.gradient": ["gradient_importance"],
    "importance.leave_one_out": ["leave_one_out_importance"],
    "interventions.patches": ["mask_patch"],
    "interventions.tokens": ["mask_token"],
    "measures.agreement": ["spearman_correlation", "top_k_overlap", "weighted_kendall_tau"],
    "measures.divergence": [
        "jensen_shannon_divergence",
        "kl_divergence",
        "total_variation_distance",
    ],
    "measures.draws": ["permute_attention"],
    "measures.adversary.exact": ["exact_adversary"],
    "measures.adversary.plausible": ["Plausible"],
    "measures.groups": ["aggregate_scores", "patch_groups", "word_groups"],
    "measures.rank": ["RankCorrelation", "kendall_tau", "rank_correlation", "top_k_kendall"],
    "metrics.adversarial.attention": ["adversarial_attention"],
    "metrics.adversarial.frontier": ["adversarial_frontier"],
    "measures.retrieval": ["average_precision", "ndcg"],
    "metrics.attribution.attribution": ["captum_attribution"],
    "metrics.attribution.infidelity": ["infidelity"],
    "metrics.attribution.sensitivity": ["max_sensitivity"],
    "metrics.correlation": ["gradient_correlation", "loo_correlation"],
    "metrics.permutation": ["permutation_test"],
    "results.adversarial": ["AdversarialFrontier", "AdversarialResult"],
    "results.attribution": ["Attribution", "Infidelity", "Sensitivity"],
    "results.correlation": ["Correlation"],
    "results.permutation": ["PermutationResult"],
    "statistics": ["Statistics", "Summary"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"faithattn.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
