"""One folder from several: shards of an audit that were run apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from faithattn.audits.store.encoding import About, encode
from faithattn.audits.store.end import End, described, listed
from faithattn.audits.store.folder import Store
from faithattn.audits.store.manifest import Manifest
from faithattn.errors import AuditError


def merge(folders: Sequence[str | Path], out: str | Path) -> Store:
    """Puts the batches of several folders into one, and finishes it.

    Args:
        folders: Folders of one audit, each with some of its batches. A batch
            that several have must be the same in all, to the bit.
        out: A new folder, or one that a merge of the same audit was writing.

    Returns:
        The finished audit, open to be read.

    Raises:
        ValueError: If no folder is given.
        AuditError: If the folders are of different audits or data, a batch is
            missing in all of them, or differs between them.
    """
    if not folders:
        raise ValueError("folders must be at least one; got none. Name the shards of an audit.")
    sources = [Store.open(folder) for folder in folders]
    manifest, end = _common_manifest(sources), _common_end(sources)
    # A damaged file counts as missing: another folder may have it whole.
    missing = [
        index
        for index in range(end.batches)
        if not any(source.about(index) or source.failure(index) for source in sources)
    ]
    if missing:
        raise AuditError(
            f"folders must have every batch together; got none for {listed(missing)}. "
            "Run the shards that lack them again."
        )
    with Store.begin(out, manifest, worker="merge") as store:
        for index in range(end.batches):
            _copy(index, sources, store)
        store.end(*end)
        store.finish()
    return Store.open(out)


def _common_manifest(sources: Sequence[Store]) -> Manifest:
    first = sources[0]
    for other in sources[1:]:
        changes = first.manifest.difference(other.manifest)
        if changes:
            raise AuditError(
                f"folders must be of one audit; got {other.folder}, where other than in "
                f"{first.folder} {'; '.join(changes)}. Merge shards of the same command."
            )
    return first.manifest


def _common_end(sources: Sequence[Store]) -> End:
    ends = [(source, end) for source in sources if (end := source.known_end()) is not None]
    if not ends:
        raise AuditError(
            "folders must be of an audit that saw all its batches; got none that did. "
            "Run one of the shards to its end."
        )
    first, end = ends[0]
    for source, other in ends[1:]:
        if other != end:
            raise AuditError(
                f"folders must be of the same data; got {described(other)} in {source.folder} "
                f"and {described(end)} in {first.folder}. Run the shards on the same data."
            )
    return end


def _copy(index: int, sources: Sequence[Store], store: Store) -> None:
    """Copies one batch; a failure only if no folder has it finished."""
    there = [(source, about) for source in sources if (about := source.about(index)) is not None]
    for source, about in there[1:]:
        if _comparable(source, about) != _comparable(*there[0]):
            raise AuditError(
                f"batches must be the same in all folders that have them; got another batch "
                f"{index} in {source.folder} than in {there[0][0].folder}. Leave one of them out."
            )
    if not there:
        store.copy(index, next(source for source in sources if source.failure(index)))
    elif not store.holds(index, there[0][1].digest):
        store.copy(index, there[0][0])


def _comparable(source: Store, about: About) -> bytes:
    """All that a batch left except for the time it took, and what it noted of the machine."""
    part = replace(source.part(about.batch), seconds={}, notes={})
    return encode(
        part, source.manifest.columns, batch=about.batch, first=about.first, digest=about.digest
    )
