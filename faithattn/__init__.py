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
    from faithattn.adapters.heads import head_views
    from faithattn.adapters.protocol import (
        AttentionModel,
        Run,
        SupportsRemoval,
        SupportsReplay,
        SupportsSelection,
        SupportsSetRemoval,
    )
    from faithattn.adapters.torch_module.adapt import adapt
    from faithattn.adapters.torch_module.tokens import token_logits
    from faithattn.adapters.torch_module.torch_adapter import TorchAdapter
    from faithattn.adapters.view import AttentionView
    from faithattn.audits.audit import audit, merge
    from faithattn.audits.batch import Batch
    from faithattn.audits.comparing import Change, Changes
    from faithattn.audits.evidence import Evidence, Failure, Instance, Verdict
    from faithattn.audits.report import Report
    from faithattn.audits.verdicts.thresholds import Thresholds
    from faithattn.errors import AdapterError, AuditError
    from faithattn.explanations.explain import explain
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
    from faithattn.measures.attention.effective import (
        EffectiveAttention,
        effective_attention,
    )
    from faithattn.measures.attention.flow import attention_flow
    from faithattn.measures.attention.relevance import attention_relevance
    from faithattn.measures.attention.rollout import attention_rollout
    from faithattn.measures.attention.value_norms import value_norms
    from faithattn.measures.divergence import (
        jensen_shannon_divergence,
        kl_divergence,
        total_variation_distance,
    )
    from faithattn.measures.draws import permute_attention
    from faithattn.measures.groups import (
        aggregate_scores,
        patch_groups,
        word_groups,
    )
    from faithattn.measures.rank import (
        RankCorrelation,
        kendall_tau,
        rank_correlation,
        top_k_kendall,
    )
    from faithattn.measures.rationale import rationale_mask
    from faithattn.measures.retrieval import (
        average_precision,
        ndcg,
    )
    from faithattn.metrics.adversarial.attention import adversarial_attention
    from faithattn.metrics.adversarial.frontier import adversarial_frontier
    from faithattn.metrics.attribution.attribution import captum_attribution
    from faithattn.metrics.attribution.infidelity import infidelity
    from faithattn.metrics.attribution.sensitivity import max_sensitivity
    from faithattn.metrics.comparison import compare_explanations
    from faithattn.metrics.correlation import (
        gradient_correlation,
        loo_correlation,
    )
    from faithattn.metrics.deception import deception_screen
    from faithattn.metrics.erasure.flip import erasure_to_flip
    from faithattn.metrics.erasure.single import single_weight_erasure
    from faithattn.metrics.permutation import permutation_test
    from faithattn.metrics.plausibility import (
        plausibility,
        rationale_agreement,
    )
    from faithattn.metrics.removal.agreement import removal_agreement
    from faithattn.metrics.removal.bounds import normalized_aopc
    from faithattn.metrics.removal.curves import removal_curves
    from faithattn.metrics.removal.soft import soft_removal
    from faithattn.metrics.scores.question import (
        Question,
        Score,
    )
    from faithattn.metrics.substitution import attention_substitution
    from faithattn.metrics.violation import (
        faithfulness_violation,
        polarity_agreement,
    )
    from faithattn.planted.calibration.measuring import calibrate
    from faithattn.planted.calibration.outcome import Calibration
    from faithattn.planted.case import Planted
    from faithattn.results.adversarial import (
        AdversarialFrontier,
        AdversarialResult,
    )
    from faithattn.results.attribution import (
        Attribution,
        Infidelity,
        Sensitivity,
    )
    from faithattn.results.comparison.comparison import (
        Column,
        Comparison,
    )
    from faithattn.results.correlation import Correlation
    from faithattn.results.deception import DeceptionResult
    from faithattn.results.erasure import (
        FlipResult,
        SingleErasure,
    )
    from faithattn.results.permutation import PermutationResult
    from faithattn.results.plausibility import Plausibility
    from faithattn.results.removal import (
        NormalizedAOPC,
        RemovalAgreement,
        RemovalCurves,
        SoftRemoval,
    )
    from faithattn.results.substitution import SubstitutionResult
    from faithattn.results.violation import (
        PolarityResult,
        ViolationResult,
    )
    from faithattn.statistics.differences import (
        Difference,
        compare_means,
    )
    from faithattn.statistics.intervals import mean_interval
    from faithattn.statistics.nulls import null_band
    from faithattn.statistics.power import minimum_detectable_effect
    from faithattn.statistics.pvalues import benjamini_hochberg
    from faithattn.statistics.summary import (
        Statistics,
        Summary,
    )

__all__ = [
    "AdapterError",
    "AdversarialFrontier",
    "AdversarialResult",
    "AttentionModel",
    "AttentionView",
    "Attribution",
    "AuditError",
    "Batch",
    "Calibration",
    "Change",
    "Changes",
    "Column",
    "Comparison",
    "Correlation",
    "DeceptionResult",
    "Difference",
    "EffectiveAttention",
    "Evidence",
    "Failure",
    "FlipResult",
    "Infidelity",
    "Instance",
    "NormalizedAOPC",
    "PermutationResult",
    "Planted",
    "Plausibility",
    "Plausible",
    "PolarityResult",
    "Question",
    "RankCorrelation",
    "RemovalAgreement",
    "RemovalCurves",
    "Report",
    "Run",
    "Score",
    "Sensitivity",
    "SingleErasure",
    "SoftRemoval",
    "Statistics",
    "SubstitutionResult",
    "Summary",
    "SupportsRemoval",
    "SupportsReplay",
    "SupportsSelection",
    "SupportsSetRemoval",
    "Thresholds",
    "TorchAdapter",
    "Verdict",
    "ViolationResult",
    "__version__",
    "adapt",
    "adversarial_attention",
    "adversarial_frontier",
    "aggregate_scores",
    "attention_flow",
    "attention_relevance",
    "attention_rollout",
    "attention_substitution",
    "audit",
    "average_precision",
    "benjamini_hochberg",
    "calibrate",
    "captum_attribution",
    "captum_importance",
    "check_adapter",
    "compare_explanations",
    "compare_means",
    "deception_screen",
    "effective_attention",
    "erasure_to_flip",
    "exact_adversary",
    "explain",
    "faithfulness_violation",
    "gradient_correlation",
    "gradient_importance",
    "head_views",
    "infidelity",
    "jensen_shannon_divergence",
    "kendall_tau",
    "kl_divergence",
    "leave_one_out_importance",
    "loo_correlation",
    "mask_patch",
    "mask_token",
    "max_sensitivity",
    "mean_interval",
    "memory_budget",
    "merge",
    "minimum_detectable_effect",
    "ndcg",
    "normalized_aopc",
    "null_band",
    "patch_groups",
    "permutation_test",
    "permute_attention",
    "plausibility",
    "polarity_agreement",
    "rank_correlation",
    "rationale_agreement",
    "rationale_mask",
    "removal_agreement",
    "removal_curves",
    "single_weight_erasure",
    "soft_removal",
    "spearman_correlation",
    "token_logits",
    "top_k_kendall",
    "top_k_overlap",
    "total_variation_distance",
    "value_norms",
    "weighted_kendall_tau",
    "word_groups",
]

_HOMES = {
    "_memory": ["memory_budget"],
    "adapters.contract.check": ["check_adapter"],
    "adapters.heads": ["head_views"],
    "adapters.protocol": [
        "AttentionModel",
        "Run",
        "SupportsRemoval",
        "SupportsReplay",
        "SupportsSelection",
        "SupportsSetRemoval",
    ],
    "adapters.torch_module.adapt": ["adapt"],
    "adapters.torch_module.tokens": ["token_logits"],
    "adapters.torch_module.torch_adapter": ["TorchAdapter"],
    "adapters.view": ["AttentionView"],
    "audits.audit": ["audit", "merge"],
    "audits.batch": ["Batch"],
    "audits.comparing": ["Change", "Changes"],
    "audits.evidence": ["Evidence", "Failure", "Instance", "Verdict"],
    "audits.report": ["Report"],
    "audits.verdicts.thresholds": ["Thresholds"],
    "errors": ["AdapterError", "AuditError"],
    "explanations.explain": ["explain"],
    "importance.attribution.scores": ["captum_importance"],
    "importance.gradient": ["gradient_importance"],
    "importance.leave_one_out": ["leave_one_out_importance"],
    "interventions.patches": ["mask_patch"],
    "interventions.tokens": ["mask_token"],
    "measures.adversary.exact": ["exact_adversary"],
    "measures.adversary.plausible": ["Plausible"],
    "measures.agreement": ["spearman_correlation", "top_k_overlap", "weighted_kendall_tau"],
    "measures.attention.effective": ["EffectiveAttention", "effective_attention"],
    "measures.attention.flow": ["attention_flow"],
    "measures.attention.relevance": ["attention_relevance"],
    "measures.attention.rollout": ["attention_rollout"],
    "measures.attention.value_norms": ["value_norms"],
    "measures.divergence": [
        "jensen_shannon_divergence",
        "kl_divergence",
        "total_variation_distance",
    ],
    "measures.draws": ["permute_attention"],
    "measures.groups": ["aggregate_scores", "patch_groups", "word_groups"],
    "measures.rank": ["RankCorrelation", "kendall_tau", "rank_correlation", "top_k_kendall"],
    "measures.rationale": ["rationale_mask"],
    "measures.retrieval": ["average_precision", "ndcg"],
    "metrics.adversarial.attention": ["adversarial_attention"],
    "metrics.adversarial.frontier": ["adversarial_frontier"],
    "metrics.attribution.attribution": ["captum_attribution"],
    "metrics.attribution.infidelity": ["infidelity"],
    "metrics.attribution.sensitivity": ["max_sensitivity"],
    "metrics.comparison": ["compare_explanations"],
    "metrics.correlation": ["gradient_correlation", "loo_correlation"],
    "metrics.deception": ["deception_screen"],
    "metrics.erasure.flip": ["erasure_to_flip"],
    "metrics.erasure.single": ["single_weight_erasure"],
    "metrics.permutation": ["permutation_test"],
    "metrics.plausibility": ["plausibility", "rationale_agreement"],
    "metrics.removal.agreement": ["removal_agreement"],
    "metrics.removal.bounds": ["normalized_aopc"],
    "metrics.removal.curves": ["removal_curves"],
    "metrics.removal.soft": ["soft_removal"],
    "metrics.scores.question": ["Question", "Score"],
    "metrics.substitution": ["attention_substitution"],
    "metrics.violation": ["faithfulness_violation", "polarity_agreement"],
    "planted.calibration.measuring": ["calibrate"],
    "planted.calibration.outcome": ["Calibration"],
    "planted.case": ["Planted"],
    "results.adversarial": ["AdversarialFrontier", "AdversarialResult"],
    "results.attribution": ["Attribution", "Infidelity", "Sensitivity"],
    "results.comparison.comparison": ["Column", "Comparison"],
    "results.correlation": ["Correlation"],
    "results.deception": ["DeceptionResult"],
    "results.erasure": ["FlipResult", "SingleErasure"],
    "results.permutation": ["PermutationResult"],
    "results.plausibility": ["Plausibility"],
    "results.removal": ["NormalizedAOPC", "RemovalAgreement", "RemovalCurves", "SoftRemoval"],
    "results.substitution": ["SubstitutionResult"],
    "results.violation": ["PolarityResult", "ViolationResult"],
    "statistics.differences": ["Difference", "compare_means"],
    "statistics.intervals": ["mean_interval"],
    "statistics.nulls": ["null_band"],
    "statistics.power": ["minimum_detectable_effect"],
    "statistics.pvalues": ["benjamini_hochberg"],
    "statistics.summary": ["Statistics", "Summary"],
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
