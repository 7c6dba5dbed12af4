"""Generated data of the shape of each task, with planted signal: nothing to download."""

from faithattn.paper.data.generated.kinds import KINDS, generate

__all__ = ["KINDS", "generate"]
